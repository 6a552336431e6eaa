"""From what a command is given to runs that are planned, executed and told of.

Everything heavy is imported by the function that needs it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.options import Where, plain_asked
from experiments.printing import print_json, print_outcomes, print_steps, row_of, settled, step_row

if TYPE_CHECKING:
    from experiments.outcome import OnFault, Outcome, Train
    from experiments.plan import PlannedRun
    from experiments.targets import Target
    from experiments.until import Look


def planned_with_starts(
    targets: "Sequence[Target]",
    profile: str | None,
    overrides: Sequence[str],
    seeds: Sequence[int],
    workspace: Path,
) -> "tuple[list[PlannedRun], list[PlannedRun]]":
    """The evaluations of the weights that the rows start from, and the runs, seed by seed over all suites."""
    from experiments.plan import data_reader, once
    from experiments.plan import plan as plan_runs
    from experiments.start import plan_starts

    read = data_reader()
    starts: list[PlannedRun] = []
    runs: list[PlannedRun] = []
    for suite, rows, _ in targets:
        at = profile or suite.profile
        runs += plan_runs(suite, rows, at, overrides, seeds, workspace, read)
        starts += plan_starts(suite, rows, at, overrides, workspace, read)
    order = {seed: number for number, seed in enumerate(seeds)}
    return list(once(starts)), list(once(sorted(runs, key=lambda run: order[run.about.seed])))


def say_notes(targets: "Sequence[Target]") -> None:
    """Tell on stderr what a person should know of these rows before they are run."""
    from experiments.targets import notes

    for target in targets:
        for sentence in notes(target):
            click.echo(f"note: {sentence}", err=True)


def one_suite(targets: "Sequence[Target]") -> "Target":
    """The only target, of which steps can be decided. Raises UsageError if there are several."""
    if len(targets) > 1:
        names = ", ".join(target.suite.suite for target in targets)
        raise click.UsageError(f"--until decided judges the steps of one suite at a time; these are of {names}")
    return targets[0]


def execute_and_print(
    planned: "Sequence[PlannedRun]",
    workspace: Path,
    where: Where,
    on_fault: "OnFault",
    rerun_stale: bool,
    tracking_uri: str | None,
    as_json: bool,
    train: "Train | None",
) -> None:
    from experiments.outcome import raise_for

    outcomes = outcomes_of(planned, workspace, where, on_fault, rerun_stale, tracking_uri, train)
    print_outcomes(outcomes, as_json)
    raise_for(outcomes, on_fault.fail_fast)


def outcomes_of(
    planned: "Sequence[PlannedRun]",
    workspace: Path,
    where: Where,
    on_fault: "OnFault",
    rerun_stale: bool,
    tracking_uri: str | None,
    train: "Train | None",
    seconds: float | None = None,
) -> "list[Outcome]":
    """Execute, with a display and a courier to the tracker, for at most so many seconds."""
    from experiments import store
    from experiments.devices import check_devices, processes_of
    from experiments.executors.choice import starter
    from experiments.live import display_of
    from experiments.outcome import Callbacks
    from experiments.resources import check_resources
    from experiments.runner import execute
    from experiments.uploader import Tracker, Uploader

    uri = store.tracking_uri(workspace, tracking_uri)
    todo = [run for run in planned if not settled(run) or (rerun_stale and run.state == "stale")]
    check_devices(todo, processes_of(train))
    start = starter(where, todo, workspace, apart=on_fault.retries > 0)
    check_resources([run.config for run in todo])
    with display_of(planned, plain_asked()) as display:
        tracker = Tracker(uri, workspace, display.notify)
        if not all(settled(run) for run in planned) or rerun_stale:
            tracker.open()  # here and now: a fresh store is made by one process, before there are several
        with Uploader(tracker.deliver) as uploader:
            callbacks = Callbacks(display.on_start, display.on_metrics, display.on_end, display.notify, uploader.ask)
            return execute(planned, workspace, 1, rerun_stale, callbacks, train, seconds, start, on_fault)


def run_until(
    target: "Target",
    profile: str | None,
    overrides: Sequence[str],
    workspace: Path,
    margin: float | None,
    most: int | None,
    where: Where,
    on_fault: "OnFault",
    budget: float | None,
    keep_checkpoints: bool,
    tracking_uri: str | None,
    as_json: bool,
    train: "Train | None",
) -> None:
    """Run until decided, and print the runs, how each step stands, and why it ended."""
    from experiments.executors.choice import at_a_time
    from experiments.outcome import raise_for
    from experiments.until import until_decided

    look = looks(target, profile, overrides, workspace, margin, most)

    def execute(runs: "list[PlannedRun]", seconds: float | None) -> "list[Outcome]":
        starts = [
            start for start in planned_with_starts([target], profile, overrides, [], workspace)[0] if not settled(start)
        ]
        runs = [run._replace(keep_checkpoints=keep_checkpoints) for run in runs]
        return outcomes_of([*starts, *runs], workspace, where, on_fault, False, tracking_uri, train, seconds)

    ended = until_decided(look, execute, lambda line: click.echo(line, err=True), at_a_time(where), budget)
    if as_json:
        print_json(
            {
                "runs": [row_of(each.about, each.state, each.message, each.directory) for each in ended.outcomes],
                "steps": [step_row(each) for each in ended.look.decisions.values()],
                "ended": ended.reason,
            }
        )
    else:
        print_outcomes(ended.outcomes, as_json)
        print_steps(ended.look)
        click.echo(f"ended: {ended.reason}")
    # What the budget has stopped is no fault; what a person has stopped, or what failed, is said by the exit code.
    told = [each for each in ended.outcomes if ended.stopped or (each.state != "interrupted" and each.reached)]
    raise_for(told, on_fault.fail_fast)


def looks(
    target: "Target",
    profile: str | None,
    overrides: Sequence[str],
    workspace: Path,
    margin: float | None,
    most: int | None,
) -> "Callable[[set[tuple[str, int]]], Look]":
    """How the steps of the target stand, read anew at each call, which is given the runs that were tried in vain."""
    from experiments.boundaries import MOST
    from experiments.plan import data_reader
    from experiments.plan import plan as plan_runs
    from experiments.steps import MARGIN
    from experiments.until import Look, look, rows_of_steps

    suite, rows, _ = target
    read = data_reader()

    def now(tried: set[tuple[str, int]]) -> Look:
        needed = rows_of_steps(suite, rows)
        planned = plan_runs(suite, needed, profile or suite.profile, overrides, range(most or MOST), workspace, read)
        return look(suite, planned, most or MOST, margin or MARGIN, tried)

    return now


def check_until(context: click.Context, until: str | None) -> None:
    """Refuse options that do not go together."""
    given = [
        name
        for name in ("seeds", "rerun_stale", "margin", "most", "budget")
        if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
    ]
    if until and (wrong := {*given} & {"seeds", "rerun_stale"}):
        name = wrong.pop().replace("_", "-")
        raise click.UsageError(f"--{name} and --until decided do not go together: the looks say which runs are needed")
    if not until and (wrong := {*given} & {"margin", "most", "budget"}):
        name = wrong.pop().replace("most", "max-seeds")
        raise click.UsageError(f"--{name} needs --until decided")
