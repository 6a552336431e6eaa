"""`rasa clean`."""

import re
from pathlib import Path

import click

from experiments.completers import runs
from experiments.options import json_option, workspace_option

UNITS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def _age(context: click.Context, parameter: click.Parameter, value: str | None) -> float:
    """Seconds of `12h`, `30d` or `2w`."""
    if value is None:
        return 0.0
    matched = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", value.strip())
    if matched is None:
        raise click.BadParameter(f"{value!r}: give hours, days or weeks, e.g. 12h, 30d, 2w")
    return float(matched[1]) * UNITS[matched[2]]


def _mib(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"


@click.command(short_help="Remove what no report, study or resume needs.")
@click.argument("names", metavar="[SUITE|ROW|RUN]...", nargs=-1, shell_complete=runs)
@click.option("--older", callback=_age, metavar="AGE", help="Only what has not been used for so long, e.g. 30d.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@workspace_option
@json_option
def clean(names: tuple[str, ...], older: float, dry_run: bool, workspace: Path, as_json: bool) -> None:
    """Remove checkpoints of runs that are over, and caches of decoded images that no run is using.

    With names (of suites, rows or runs, or runs' ids or directories): the checkpoints of these runs alone. Records,
    predictions and selected weights stay, and so do the checkpoints of runs that can go on.
    """
    from experiments.clean import remove, unneeded
    from experiments.finding import runs_named
    from rasa.errors import ResourceError

    directories = [directory for name in names for directory in runs_named(name, workspace)] if names else None
    found = []
    for each in unneeded(workspace, older, directories):
        try:
            if dry_run or remove(each):
                found.append(each)
        except OSError as error:
            raise ResourceError(f"{each.path}: {error.strerror}; see to it, then the same command goes on") from error
    if as_json:
        import json

        click.echo(json.dumps([{"path": str(e.path), "why": e.why, "bytes": e.bytes} for e in found], indent=1))
        return
    for each in found:
        shown = each.path.relative_to(workspace) if each.path.is_relative_to(workspace) else each.path
        click.echo(f"{shown}: {each.why}, {_mib(each.bytes)}")
    click.echo(f"{'would free' if dry_run else 'freed'} {_mib(sum(each.bytes for each in found))}")
