"""`rasa list | show | explain`: the named specs and what they resolve to.

Only click and the standard library up here; everything heavy is imported by the command that needs it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.completers import fields, targets
from experiments.options import json_option, override_option, profile_option, workspace_option
from experiments.printing import print_json

if TYPE_CHECKING:
    from experiments.fields import Field
    from experiments.suite import Row, Suite


@click.command("list", short_help="Every named suite, row and profile.")
@click.argument("names", metavar="[TARGET]...", nargs=-1, shell_complete=targets)
@json_option
def list_(names: tuple[str, ...], as_json: bool) -> None:
    """Every named suite, row and profile, with one line each; or the rows of TARGETs ('table4/*rtd', mine.yaml)."""
    from experiments.spec import load_profile, profile_names, suite_names
    from experiments.targets import parse_targets

    chosen = parse_targets(names or suite_names())
    profiles = [] if names else [load_profile(name) for name in profile_names()]
    if as_json:
        suites = [
            {"name": suite.suite, "title": suite.title, "rows": [row.name for row in rows]} for suite, rows, _ in chosen
        ]
        print_json({"suites": suites, "profiles": [{"name": p.profile, "title": p.title} for p in profiles]})
        return
    for suite, rows, _ in chosen:
        click.echo(f"{suite.suite:24} {suite.title}".rstrip())
        for row in rows:
            said = f" ({row.description})" if row.description else ""
            click.echo(f"  {suite.suite + '/' + row.name:22} {' '.join(suite.labels_of(row).values())}{said}")
    for profile in profiles:
        click.echo(f"--profile {profile.profile:14} {profile.title}")


@click.command(short_help="A row's resolved config as YAML.")
@click.argument("target", required=False, shell_complete=targets)
@click.option("--diff", nargs=2, metavar="A B", shell_complete=targets, help="Only what differs between two rows.")
@profile_option
@override_option
@click.option("--all", "every", is_flag=True, help="Every field, with what it is; without TARGET the defaults.")
@workspace_option
def show(
    target: str | None,
    diff: tuple[str, str] | None,
    profile: str | None,
    overrides: tuple[str, ...],
    every: bool,
    workspace: Path,
) -> None:
    """The resolved config of TARGET (e.g. table4/m-rtd) as YAML, or that of a run, by its directory, id or name.

    No data or weights need be there.
    """
    from experiments.commented import commented
    from experiments.finding import run_named
    from experiments.layers import differences
    from experiments.rundir import read_config
    from experiments.yaml_io import dump

    if diff and (target or every):
        what = f"{target}: name one row, or two with --diff, not both" if target else "--diff shows no --all"
        raise click.UsageError(what)
    if every and not target and (profile or overrides):
        raise click.UsageError("--all without a TARGET shows the defaults; name a row for --profile and -o")
    if diff:
        first, second = (_one_config(name, profile, overrides)[0] for name in diff)
        for key, (before, after) in differences(first, second).items():
            click.echo(f"{key}: {_plain(before)} -> {_plain(after)}")
    elif target and (directory := run_named(target, workspace)) is not None:
        if profile or overrides:
            raise click.UsageError(f"{target} is a run, whose config is settled; leave --profile and -o out")
        values = read_config(directory).model_dump(mode="json")
        click.echo(commented(values) if every else dump(values), nl=False)
    elif target:
        values, missing = _one_config(target, profile, overrides)
        for field in missing:
            click.echo(f"# {field} is not set: yours to give, e.g. -o {field}=DIR")
        click.echo(commented(values) if every else dump(values), nl=False)
    elif every:
        click.echo(commented({}), nl=False)
    else:
        raise click.UsageError("name a row, e.g. `rasa show table4/m-rtd`, or two with --diff")


@click.command(short_help="What a config field is, and who sets it.")
@click.argument("field", required=False, shell_complete=fields)
@json_option
def explain(field: str | None, as_json: bool) -> None:
    """What FIELD (e.g. objectives.p_weak) is: type, default, the paper's value, and the named specs that set it.

    Of a section (objectives) its fields, without FIELD the sections.
    """
    from experiments import explain as explaining
    from experiments.fields import fields as all_fields

    if field is None:
        top = [each for each in all_fields() if "." not in each.name]
        _print_fields(top, as_json)
        return
    if (own := explaining.of_file(field)) is not None and "." not in field and field != "seed":
        _print_own(*own, as_json)
        return
    found = explaining.explain(field)
    if found.field.model is not None and not as_json:
        click.echo(f"{found.field.name}: {found.field.sentence}\n")
        _print_fields(explaining.below(found.field), as_json)
    elif as_json:
        print_json(explaining.document(found))
    else:
        click.echo("\n".join(explaining.lines(found)))


def _print_fields(found: "Sequence[Field]", as_json: bool) -> None:
    if as_json:
        print_json([{"field": each.name, "sentence": each.sentence, "type": each.kind} for each in found])
        return
    width = max(len(each.name) for each in found)
    for each in found:
        click.echo(f"{each.name:{width}}  {each.sentence}")


def _print_own(name: str, sentence: str, as_json: bool) -> None:
    if as_json:
        print_json({"field": name, "sentence": sentence, "of": "a suite's file"})
    else:
        click.echo(f"{name} (of a suite's file): {sentence}")


def _one_config(target: str, profile: str | None, overrides: Sequence[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A row's config, and the fields that are the user's to give."""
    from experiments.spec import resolve_without_data
    from experiments.targets import parse_target

    suite, rows = parse_target(target)
    if len(rows) != 1:
        raise click.UsageError(f"{target} has {len(rows)} rows; name one: {_names(suite, rows)}")
    config, missing = resolve_without_data(suite, rows[0], profile or suite.profile, overrides)
    return config.model_dump(mode="json", exclude={"seed"}), missing


def _names(suite: "Suite", rows: "Sequence[Row]") -> str:
    name = suite.file if suite.file != f"{suite.suite}.yaml" else suite.suite
    return ", ".join(f"{name}/{row.name}" for row in rows)


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
