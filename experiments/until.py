"""Runs until decided: seeds are added, look by look, to the rows of those steps that are not decided yet.

What is finished is read from the runs' directories, so the command may be stopped and given again at any time, and
runs that were made otherwise count. The looks and what is decided at each are experiments/steps.py.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from experiments import boundaries
from experiments.decisions import Decision, decide
from experiments.evidence import SETTLED, steps_of_runs
from experiments.outcome import Outcome
from experiments.plan import PlannedRun
from experiments.rundir import RESULT, row_folder
from experiments.suite import Row, Suite
from rasa.callbacks import Notify
from rasa.errors import SpecError


class Look(NamedTuple):
    """How the steps stand, and the runs of the next look: `seeds` of each row that it needs, seed by seed.

    No runs: nothing is left to decide, or no seeds are left to decide it with, or all are `elsewhere`, going on in
    another process.
    """

    decisions: dict[str, Decision]
    seeds: int
    runs: list[PlannedRun]
    elsewhere: int = 0

    @property
    def open(self) -> list[str]:
        """Rows whose step is not decided."""
        return [row for row, decision in self.decisions.items() if not decision.decided]


class Ended(NamedTuple):
    """The last look, every run's outcome, and why it ended, in a sentence."""

    look: Look
    outcomes: list[Outcome]
    reason: str
    stopped: bool  # by a person


def rows_of_steps(suite: Suite, rows: Sequence[Row]) -> list[Row]:
    """These rows and those that they go on from, in the suite's order. Raises SpecError if none is a step."""
    steps = [row for row in rows if row.versus is not None]
    if not steps:
        names = ", ".join(row.name for row in rows[:3])
        raise SpecError(
            f"{suite.file}: nothing to decide: no row of {names} names the one that it goes on from (versus)"
        )
    needed = {name for row in steps for name in (row.name, row.versus)}
    return [row for row in suite.rows if row.name in needed]


def look(
    suite: Suite, planned: Sequence[PlannedRun], most: int, margin: float, tried: Iterable[tuple[str, int]] = ()
) -> Look:
    """How the steps of the planned runs (all seeds up to `most`) stand, and what the next look needs.

    A run that was tried, and is still not finished, is not tried again: its step goes on without that seed.
    """
    decisions = decide(steps_of_runs(suite, planned), most, margin)
    waiting = {name for row, each in decisions.items() if not each.decided for name in (row, each.versus)}
    left = [
        run
        for run in planned
        if run.about.row in waiting and run.state not in SETTLED and (run.about.row, run.about.seed) not in {*tried}
    ]
    for seeds in boundaries.looks(most):
        if of_look := [run for run in left if run.about.seed < seeds]:
            runs = [run for run in of_look if run.state != "running"]
            return Look(decisions, seeds, runs, len(of_look) - len(runs))
    return Look(decisions, most, [])


def until_decided(
    next_look: Callable[[set[tuple[str, int]]], Look],
    execute: Callable[[list[PlannedRun], float | None], list[Outcome]],
    notify: Notify,
    jobs: int = 1,
    budget: float | None = None,
) -> Ended:
    """Run look after look until every step is decided, all seeds are used, or the budget (seconds) is spent.

    `next_look` reads how things stand, given the runs that were tried; `execute` brings runs to their end within so
    many seconds. By their estimates, whole seeds that would not end in time are not begun.
    """
    ends = None if budget is None else time.monotonic() + budget
    tried: set[tuple[str, int]] = set()
    outcomes: dict[tuple[str, int], Outcome] = {}
    while True:
        now = next_look(tried)
        left = None if ends is None else ends - time.monotonic()
        notify(standing(now))
        if not now.runs:
            return Ended(now, [*outcomes.values()], _why(now), False)
        if not (runs := fitting(now.runs, jobs, left)):
            return Ended(now, [*outcomes.values()], _spent(now), False)
        done = execute(runs, left)
        tried |= {
            (outcome.about.row, outcome.about.seed)
            for outcome in done
            if outcome.state != "running" and outcome.reached
        }
        outcomes |= {(outcome.about.row, outcome.about.seed): outcome for outcome in done}
        if any(outcome.state == "interrupted" or not outcome.reached for outcome in done):
            late = ends is not None and time.monotonic() >= ends
            now = next_look(tried)
            return Ended(now, [*outcomes.values()], _spent(now) if late else "stopped", not late)


def seen_before(planned: Sequence[PlannedRun], workspace: Path) -> bool:
    """Whether a step among these runs may have the seeds that its first look needs."""
    folders = {
        run.about.row: row_folder(workspace, run.about.suite, run.about.row, run.about.profile)
        for run in planned
        if run.about.versus is not None
    }
    return any(len([*folder.glob(f"seed-*/{RESULT}")]) >= boundaries.FEWEST for folder in folders.values())


def fitting(runs: Sequence[PlannedRun], jobs: int, seconds: float | None) -> list[PlannedRun]:
    """The first whole seeds of these runs that take no longer, by their estimates, with so many at a time."""
    if seconds is None:
        return list(runs)
    chosen: list[PlannedRun] = []
    for _, of_seed in groupby(runs, key=lambda run: run.about.seed):
        more = [*chosen, *of_seed]
        if duration(more, jobs) > seconds:
            break
        chosen = more
    return chosen if seconds > 0 else []


def duration(runs: Sequence[PlannedRun], jobs: int) -> float:
    """Seconds that these runs take, by their estimates, those without one left out."""
    known = [run.seconds for run in runs if run.seconds is not None]
    return max(sum(known) / min(jobs, max(1, len(known))), *known, 0.0) if known else 0.0


def standing(now: Look) -> str:
    """One line: how many steps are decided, and what comes next."""
    decided = len(now.decisions) - len(now.open)
    text = f"{decided} of {len(now.decisions)} steps decided"
    if not now.runs:
        return text
    rows = len({run.about.row for run in now.runs})
    return f"{text}; next look after {now.seeds} seeds: {len(now.runs)} runs of {rows} rows"


def words(decision: Decision) -> str:
    """A step in a line, e.g. `itm - cl: shown, +9.1 [+6.2, +12.0], 3 seeds, published +9.94 inside`."""
    name = f"{decision.row} - {decision.versus}: {decision.verdict}"
    parts = [name]
    if decision.mean is not None:
        between = (
            "" if decision.low is None or decision.high is None else f" [{decision.low:+.1f}, {decision.high:+.1f}]"
        )
        parts += [f"{decision.mean:+.1f}{between}", f"{decision.n} seed" + "s" * (decision.n > 1)]
    if decision.published is not None:
        parts.append(f"published {decision.published:+.2f}" + (f" {decision.size}" if decision.size else ""))
    return ", ".join(parts)


def _why(now: Look) -> str:
    if not now.open:
        return "every step is decided"
    if now.elsewhere:
        return f"runs going on in another process: {now.elsewhere}; the same command goes on when they have ended"
    return f"no runs are left for {', '.join(now.open)}: all seeds are used, or theirs failed"


def _spent(now: Look) -> str:
    text = "the budget is spent; the same command goes on from here"
    return f"{text} with {', '.join(now.open)}" if now.open else text
