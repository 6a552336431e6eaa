"""`rasa list | show`: the named specs and what they resolve to.

Only click and the standard library up here; everything heavy is imported by the command that needs it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.completers import targets
from experiments.options import json_option, override_option, profile_option, workspace_option
from experiments.printing import print_json

if TYPE_CHECKING:
    from experiments.suite import Suite


@click.command("list", short_help="Every named suite, row and profile.")
@json_option
def list_(as_json: bool) -> None:
    """Every named suite, row and profile, with one line each."""
    from experiments.spec import load_profile, load_suite, profile_names, suite_names

    suites, profiles = [load_suite(name) for name in suite_names()], [load_profile(name) for name in profile_names()]
    if as_json:
        print_json(
            {
                "suites": [{"name": s.suite, "title": s.title, "rows": [r.name for r in s.rows]} for s in suites],
                "profiles": [{"name": p.profile, "title": p.title} for p in profiles],
            }
        )
        return
    for suite in suites:
        click.echo(f"{suite.suite:24} {suite.title}")
        for row in suite.rows:
            said = f" ({row.description})" if row.description else ""
            click.echo(f"  {suite.suite + '/' + row.name:22} {' '.join(suite.labels_of(row).values())}{said}")
    for profile in profiles:
        click.echo(f"--profile {profile.profile:14} {profile.title}")


@click.command(short_help="A row's resolved config as YAML.")
@click.argument("target", required=False, shell_complete=targets)
@click.option("--diff", nargs=2, metavar="A B", shell_complete=targets, help="Only what differs between two rows.")
@profile_option
@override_option
@workspace_option
def show(
    target: str | None,
    diff: tuple[str, str] | None,
    profile: str | None,
    overrides: tuple[str, ...],
    workspace: Path,
) -> None:
    """The resolved config of TARGET (e.g. table4/m-rtd) as YAML, or that of a run, by its directory, id or name."""
    from experiments.finding import run_named
    from experiments.layers import differences
    from experiments.rundir import read_config
    from experiments.yaml_io import dump

    if diff and target:
        raise click.UsageError(f"{target}: name one row, or two with --diff, not both")
    if diff:
        first, second = (_one_config(name, profile, overrides) for name in diff)
        for key, (before, after) in differences(first, second).items():
            click.echo(f"{key}: {_plain(before)} -> {_plain(after)}")
    elif target and (directory := run_named(target, workspace)) is not None:
        if profile or overrides:
            raise click.UsageError(f"{target} is a run, whose config is settled; leave --profile and -o out")
        click.echo(dump(read_config(directory).model_dump(mode="json")), nl=False)
    elif target:
        click.echo(dump(_one_config(target, profile, overrides)), nl=False)
    else:
        raise click.UsageError("name a row, e.g. `rasa show table4/m-rtd`, or two with --diff")


def _one_config(target: str, profile: str | None, overrides: Sequence[str]) -> dict[str, Any]:
    from experiments.spec import resolve
    from experiments.targets import parse_target

    suite, rows = parse_target(target)
    if len(rows) != 1:
        raise click.UsageError(f"{target} has {len(rows)} rows; name one: {_names(suite, target)}")
    config = resolve(suite, rows[0], profile or suite.profile, overrides, 0)
    return config.model_dump(mode="json", exclude={"seed"})


def _names(suite: "Suite", target: str) -> str:
    return ", ".join(f"{target}/{row.name}" for row in suite.rows)


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
