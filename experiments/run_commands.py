"""`rasa run | retry | resume`. stdout is data, stderr is progress.

Only click and the standard library up here; everything heavy is imported by the command that needs it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.completers import runs
from experiments.options import (
    Where,
    duration_given,
    json_option,
    keep_option,
    margin_option,
    most_option,
    multirun_option,
    on_fault_option,
    override_option,
    plain_option,
    profile_option,
    seeds_option,
    targets_argument,
    tracking_option,
    until_option,
    where_option,
    workspace_option,
)
from experiments.running import check_until, execute_and_print, one_suite, planned_with_starts, run_until, say_notes

if TYPE_CHECKING:
    from experiments.outcome import OnFault
    from experiments.plan import PlannedRun


@click.command(short_help="Run a row, a suite or your own file.")
@targets_argument
@profile_option
@override_option
@multirun_option
@seeds_option
@where_option
@on_fault_option
@plain_option
@until_option
@margin_option
@most_option
@click.option("--budget", callback=duration_given, help="Of --until decided: begin nothing that ends later, e.g. 8h.")
@click.option("--rerun-stale", is_flag=True, help="Run again what finished before the code changed.")
@keep_option
@tracking_option
@workspace_option
@json_option
@click.pass_context
def run(
    context: click.Context,
    names: tuple[str, ...],
    profile: str | None,
    overrides: tuple[str, ...],
    several: tuple[str, ...],
    seeds: list[int],
    where: Where,
    on_fault: "OnFault",
    until: str | None,
    margin: float | None,
    most: int | None,
    budget: float | None,
    rerun_stale: bool,
    keep_checkpoints: bool,
    tracking_uri: str | None,
    workspace: Path,
    as_json: bool,
) -> int:
    """Run each TARGET: a row (table4/m-rtd), a suite (table4), a pattern ('table4/*rtd') or your own file.

    Finished runs are skipped. With -m each row is run at every value, as a row of its own.
    With --until decided: look after 3, 5, 8 and 12 seeds, and go on with the rows of undecided steps alone.
    """
    check_until(context, until)
    from experiments import torchrun
    from experiments.resources import ensure_data, writable
    from experiments.spec import resolve
    from experiments.store import tracking_uri as chosen_uri
    from experiments.targets import parse_targets

    if torchrun.follows():
        return torchrun.follow()
    train = context.with_resource(torchrun.trainer(where, on_fault.retries))
    tracking_uri = chosen_uri(workspace, tracking_uri)
    targets = parse_targets(names, several, overrides)
    if until:
        one_suite(targets)
    say_notes(targets)
    configs = [
        resolve(suite, row, profile or suite.profile, overrides, 0) for suite, rows, _ in targets for row in rows
    ]
    writable(workspace)
    ensure_data(configs, workspace, lambda line: click.echo(line, err=True))
    if until:
        settings = (margin, most, where, on_fault, budget, keep_checkpoints)
        run_until(targets[0], profile, overrides, workspace, *settings, tracking_uri, as_json, train)
        return 0
    starts, runs = planned_with_starts(targets, profile, overrides, seeds, workspace)
    runs = [each._replace(keep_checkpoints=keep_checkpoints) for each in runs]
    execute_and_print([*starts, *runs], workspace, where, on_fault, rerun_stale, tracking_uri, as_json, train)
    return 0


@click.command(short_help="Run failed runs again.")
@click.argument("names", metavar="SUITE|ROW|RUN...", nargs=-1, required=True, shell_complete=runs)
@where_option
@on_fault_option
@plain_option
@keep_option
@tracking_option
@workspace_option
@json_option
@click.pass_context
def retry(
    context: click.Context,
    names: tuple[str, ...],
    where: Where,
    on_fault: "OnFault",
    keep_checkpoints: bool,
    tracking_uri: str | None,
    workspace: Path,
    as_json: bool,
) -> int:
    """Run the failed runs of a SUITE, a ROW or by themselves again, each from its own recorded spec."""
    from experiments import torchrun
    from experiments.finding import runs_named
    from experiments.plan import planned_again, recorded

    if torchrun.follows():
        return torchrun.follow()
    train = context.with_resource(torchrun.trainer(where, on_fault.retries))
    directories = {directory: None for name in names for directory in runs_named(name, workspace)}
    found = [run for run in recorded(directories) if run.state == "failed"]
    for run in found:
        _refuse_elsewhere(run.directory, workspace)
    if not found:
        click.echo(f"no failed runs of {', '.join(names)} in {workspace.absolute() / 'runs'}", err=True)
    else:
        again = [planned_again(run, workspace)._replace(keep_checkpoints=keep_checkpoints) for run in found]
        execute_and_print(again, workspace, where, on_fault, False, tracking_uri, as_json, train)
    return 0


@click.command(short_help="Bring interrupted runs to their end.")
@click.argument("names", metavar="RUN...", nargs=-1, required=True, shell_complete=runs)
@where_option
@on_fault_option
@plain_option
@keep_option
@workspace_option
@tracking_option
@json_option
@click.pass_context
def resume(
    context: click.Context,
    names: tuple[str, ...],
    where: Where,
    on_fault: "OnFault",
    keep_checkpoints: bool,
    workspace: Path,
    tracking_uri: str | None,
    as_json: bool,
) -> int:
    """Go on with each RUN from its last checkpoint, as it was configured when it began.

    RUN is a directory, an id or its beginning, a run's name, or a row or suite, of which all runs are meant. No profile
    or -o need be given again. A failed run is tried again, a finished one is left alone.
    """
    from experiments import torchrun
    from experiments.finding import runs_named, unknown
    from experiments.plan import located, placed
    from experiments.rundir import read_about, read_config

    if torchrun.follows():
        return torchrun.follow()
    train = context.with_resource(torchrun.trainer(where, on_fault.retries))
    planned: dict[Path, PlannedRun] = {}  # each once, in however many ways it was named
    for name in names:
        directories = runs_named(name, workspace)
        if not directories:
            raise unknown(name, workspace)
        for directory in directories:
            _refuse_elsewhere(directory, workspace)
            run = placed(read_about(directory), located(read_config(directory), workspace), workspace, None)
            planned[directory] = run._replace(keep_checkpoints=keep_checkpoints)
    execute_and_print([*planned.values()], workspace, where, on_fault, False, tracking_uri, as_json, train)
    return 0


def _refuse_elsewhere(directory: Path, workspace: Path) -> None:
    from experiments.rundir import workspace_of
    from rasa.errors import ResourceError

    own = workspace_of(directory.absolute())
    if own.resolve() != workspace.resolve():
        raise ResourceError(f"{directory}: lies in the workspace {own}; give --workspace {own}")
