"""`rasa schema`: for editors. Only click and the standard library up here."""

from typing import Any

import click


@click.command(short_help="JSON Schema of specs, spaces, profiles.")
@click.argument("kind", type=click.Choice(("spec", "space", "profile")), default="spec")
def schema(kind: str) -> None:
    """Print the JSON Schema of a file that one writes: a suite (spec), a study's space, or a profile.

    With `# yaml-language-server: $schema=spec.json` as a file's first line most editors complete and check it.
    """
    import json

    from experiments.schema import profile_schema, suite_schema

    made = {"spec": suite_schema, "space": space_schema, "profile": profile_schema}[kind]()
    click.echo(json.dumps(made, indent=1, ensure_ascii=False))


def space_schema() -> dict[str, Any]:
    """Of a study's space."""
    from experiments.schema import with_config
    from studies.space import Space

    made = Space.model_json_schema()
    # A list is short for a categorical parameter.
    made["$defs"]["Parameter"] = {"anyOf": [{"type": "array", "minItems": 2}, made["$defs"]["Parameter"]]}
    return with_config(made, "A study's space", "base", "parameters")
