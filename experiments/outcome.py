"""How a run stands after a command, and who is told while it goes on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.plan import PlannedRun, State
from experiments.rundir import About
from rasa.callbacks import Notify
from rasa.errors import RunFailed, SuiteFailed

Train = Callable[..., dict[str, Any]]
OnMetrics = Callable[[str, int, dict[str, float]], None]


class Outcome(NamedTuple):
    """How a run stands after a command. `running`: in another process, which goes on."""

    about: About
    directory: Path
    state: State
    message: str = ""
    r1: float | None = None
    seconds: float | None = None
    exit_code: int = RunFailed.exit_code  # of a failed run: its fault's
    reached: bool = True  # False of a run that the command was stopped before
    out_of_memory: bool = False  # of a failed run: that is why
    died: bool = False  # of a failed run: its process was killed, or had no memory, so another attempt may get through


class Died(RunFailed):
    """The process that trained a run, or one of them, was killed."""


class OnFault(NamedTuple):
    """What is done where a run fails: how often one that died is tried again, and whether the others go on."""

    retries: int = 0
    fail_fast: bool = False


STAY = OnFault()


class Callbacks(NamedTuple):
    """Who is told what happens: a person, and the tracker, which reads the run's directory."""

    on_start: Callable[[PlannedRun], None]
    on_metrics: Callable[[About, str, int, dict[str, float]], None]
    on_end: Callable[[Outcome], None]
    notify: Notify
    deliver: Callable[[Path], None]


NO_CALLBACKS = Callbacks(
    lambda run: None, lambda *figures: None, lambda outcome: None, lambda line: None, lambda folder: None
)


def finished(about: About, directory: Path, result: dict[str, Any]) -> Outcome:
    """The outcome that a result file records."""
    r1, seconds = result.get("test", {}).get("r1"), result.get("cost", {}).get("seconds")
    return Outcome(about, directory, "finished", "", r1, seconds)


def stopped(run: PlannedRun) -> Outcome:
    """The outcome of a run that was asked to stop."""
    assert run.directory is not None
    return Outcome(run.about, run.directory, "interrupted", "stopped; the same command goes on from here")


def not_reached(run: PlannedRun) -> Outcome:
    """The outcome of a run that was not started because the command was asked to stop: it is as it was."""
    assert run.directory is not None
    message = "not reached; the same command goes on from here"
    return Outcome(run.about, run.directory, run.state, message, reached=False)


def raise_for(outcomes: Sequence[Outcome], fail_fast: bool = False) -> None:
    """KeyboardInterrupt, RunFailed (a single run's, with its fault's exit code) or SuiteFailed if called for.

    A start beside a run leaves that the single one. With `fail_fast` it is a failure that has stopped the others.
    """
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    cut_off = [outcome for outcome in outcomes if outcome.state == "interrupted" or not outcome.reached]
    if cut_off and not (failed and fail_fast):
        raise KeyboardInterrupt
    single = sum(not outcome.about.untrained for outcome in outcomes) <= 1
    if len(failed) == 1 and single:
        error = RunFailed(f"{failed[0].about.name}: {failed[0].message}")
        error.exit_code = failed[0].exit_code
        raise error
    if failed:
        names = ", ".join(outcome.about.name for outcome in failed)
        others = f", and so {len(cut_off)} were stopped or not begun" if cut_off else ""
        raise SuiteFailed(
            f"{len(failed)} of {len(outcomes)} runs failed: {names}{others}; `rasa retry` runs them again"
        )
