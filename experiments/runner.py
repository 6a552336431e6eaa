"""Executes planned runs, in this process or in several. A failed run stops no other."""

from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.dispatch import run_all
from experiments.execution import begin, run_one
from experiments.executors.interface import Executor
from experiments.executors.local import Local
from experiments.outcome import NO_CALLBACKS, STAY, Callbacks, OnFault, Outcome, Train, finished, not_reached
from experiments.places import CPU, Places
from experiments.plan import PlannedRun
from experiments.resources import writable
from experiments.rundir import RESULT, read_result
from experiments.shared_disk import note_of
from experiments.stop import Stop
from rasa.callbacks import Notify
from rasa.errors import ResourceError


def execute(
    planned: Sequence[PlannedRun],
    workspace: Path,
    jobs: int = 1,
    rerun_stale: bool = False,
    callbacks: Callbacks = NO_CALLBACKS,
    train: Train | None = None,
    seconds: float | None = None,
    start: Callable[[Sequence[PlannedRun]], Executor] | None = None,
    on_fault: OnFault = STAY,
) -> list[Outcome]:
    """Bring every planned run to its end, in order, and say how each stands. `train` defaults to the real trainer.

    `start` makes an executor for the runs that are left to do; without one they go on here, `jobs` at a time.
    Runs that died are tried again as `on_fault` says; for that each has a process of its own, also one at a time.
    After the first SIGINT or SIGTERM, or after so many seconds, the running ones checkpoint and stop, and the rest are
    not started; the second signal ends the process. Raises ResourceError if nothing can be written in `workspace`.
    """
    writable(workspace)
    if note := note_of(workspace):
        callbacks.notify(note)
    outcomes: dict[int, Outcome] = {}
    todo: list[tuple[int, PlannedRun]] = []
    for number, run in enumerate(planned):
        if run.directory is None:
            raise ResourceError(f"{run.about.name}: {run.reason}")
        if settled := _settled(run, rerun_stale):
            outcomes[number] = settled
            callbacks.on_end(settled)
            # At once if all is delivered; else what a tracker that was away missed.
            callbacks.deliver(settled.directory)
        else:
            todo.append((number, run))
    with Stop(lambda: callbacks.notify("stopping after a checkpoint; interrupt again to end at once"), seconds) as stop:
        callbacks = _failing_fast(callbacks, stop) if on_fault.fail_fast else callbacks
        if (start is not None or jobs > 1 or on_fault.retries) and todo:
            runs = [run for _, run in todo]
            with start(runs) if start is not None else Local(Places((CPU,), jobs, jobs)) as executor:
                outcomes |= run_all(todo, executor, callbacks, stop, train, on_fault.retries)
        else:
            for number, run in todo:
                outcomes[number] = not_reached(run) if stop.asked else _run_here(run, callbacks, stop, train)
    return [outcomes[number] for number in sorted(outcomes)]


def _failing_fast(callbacks: Callbacks, stop: Stop) -> Callbacks:
    """The same, which have all runs stop once one has failed."""

    def on_end(outcome: Outcome) -> None:
        callbacks.on_end(outcome)
        if outcome.state == "failed" and not stop.asked:
            callbacks.notify("stopping the other runs after a checkpoint (--fail-fast)")
            stop.ask()

    return callbacks._replace(on_end=on_end)


def _run_here(run: PlannedRun, callbacks: Callbacks, stop: Stop, train: Train | None) -> Outcome:
    directory, first = begin(run, callbacks), True

    def on_metrics(group: str, step: int, values: dict[str, float]) -> None:
        nonlocal first
        callbacks.on_metrics(run.about, group, step, values)
        if first or group == "val":
            callbacks.deliver(directory)
        first = False

    outcome = run_one(run, on_metrics, _named(run, callbacks.notify), lambda: stop.asked, train)
    callbacks.on_end(outcome)
    if outcome.state != "running":
        callbacks.deliver(directory)
    return outcome


def _named(run: PlannedRun, notify: Notify) -> Notify:
    return lambda line: notify(f"{run.about.name}: {line}")


def _settled(run: PlannedRun, rerun_stale: bool) -> Outcome | None:
    """The outcome of a run that need not be executed."""
    if run.directory is None or (run.state != "finished" and (run.state != "stale" or rerun_stale)):
        return None
    outcome = finished(run.about, run.directory, read_result(run.directory / RESULT) or {})
    return outcome._replace(state=run.state, message=run.reason)
