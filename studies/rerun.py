"""The winner's curse, measured: the best trials of a search, trained again on seeds that the search has not seen."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.executors.choice import starter
from experiments.options import HERE, Where
from experiments.outcome import NO_CALLBACKS, Callbacks, Train, raise_for
from experiments.rundir import RESULT, read_result
from experiments.runner import execute
from rasa.errors import SpecError
from studies.points import Points
from studies.space import Space
from studies.trials import fixed

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

FRESH = 1000  # the first seed of a re-run; a search's are small numbers
CONFIDENCE = 0.95


class Spread(NamedTuple):
    """Values of several seeds: their mean, and the half width of its 95 % interval (None below two values)."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        """None without values."""
        return sum(self.values) / len(self.values) if self.values else None

    @property
    def half_width(self) -> float | None:
        """By Student's t."""
        from scipy.stats import t

        n = len(self.values)
        if self.mean is None or n < 2:
            return None
        deviation = math.sqrt(sum((value - self.mean) ** 2 for value in self.values) / (n - 1))
        return float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * deviation / math.sqrt(n)


class Winner(NamedTuple):
    """One of the best trials. `row`: the point that the search started from, for comparison."""

    trial: int
    point: dict[str, Any]
    searched: float  # the first objective, as the search saw it
    validation: Spread  # the same on fresh seeds
    test: Spread  # test R@1 of the fresh runs: looked at here for the first time
    row: bool
    sign: int = -1  # of the first objective, as something to be made small

    @property
    def curse(self) -> float | None:
        """By how much the search was too hopeful; None without a re-run."""
        return self.sign * (self.validation.mean - self.searched) if self.validation.mean is not None else None


def best_trials(space: Space, trials: "Sequence[FrozenTrial]", top: int) -> "list[FrozenTrial]":
    """The complete trials that keep the constraints, best first by the first objective."""
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    done = [trial for trial in complete if all(excess <= 0 for excess in trial.constraints.values())]
    if not done:
        which = "complete trial that keeps the constraints" if complete else "complete trial"
        raise SpecError(f"{space.file}: the study has no {which}; `rasa study run` with more --trials goes on with it")
    return sorted(done, key=lambda trial: (_sign(space) * trial.values[0], trial.number))[:top]


def _sign(space: Space) -> int:
    """Of the first objective, as something to be made small."""
    return -1 if space.objectives[0].way == "maximize" else 1


def fresh_seeds(points: Points, count: int) -> list[int]:
    """Seeds that no trial has used: the same for every point, so that points are compared on equal terms."""
    seeds: list[int] = []
    seed = FRESH
    while len(seeds) < count:
        if seed not in points.seeds:
            seeds.append(seed)
        seed += 1
    return seeds


def chosen(points: Points, trials: "Sequence[FrozenTrial]", top: int) -> "list[FrozenTrial]":
    """The best trials, and the row's own if it was tried: a winner has to beat that."""
    winners = best_trials(points.space, trials, top)
    row = points.row_point()
    own = [
        trial
        for trial in best_trials(points.space, trials, len(trials))
        if row is not None and dict(fixed(trial)) == row
    ]
    return winners + [trial for trial in own if trial.number not in {winner.number for winner in winners}]


def rerun(
    points: Points,
    trials: "Sequence[FrozenTrial]",
    seeds: int,
    where: Where = HERE,
    callbacks: Callbacks = NO_CALLBACKS,
    train: Train | None = None,
) -> None:
    """Train these trials' points on fresh seeds; finished ones are skipped. Raises as `rasa run` does."""
    runs = [run for trial in trials for run in points.runs(fixed(trial), fresh_seeds(points, seeds), points.best_suite)]
    raise_for(
        execute(runs, points.workspace, callbacks=callbacks, train=train, start=starter(where, runs, points.workspace))
    )


def winners(points: Points, trials: "Sequence[FrozenTrial]") -> list[Winner]:
    """What the workspace's fresh runs say of these trials, best first by their re-run, if all have one."""
    row = points.row_point()
    found = [_winner(points, trial, dict(fixed(trial)) == row) for trial in trials]
    if any(winner.validation.mean is None for winner in found):
        return found
    return sorted(found, key=lambda winner: winner.sign * (winner.validation.mean or 0))


def _winner(points: Points, trial: "FrozenTrial", row: bool) -> Winner:
    results = [read_result(directory / RESULT) or {} for directory in _fresh_runs(points, trial)]
    group, _, name = points.space.objectives[0].metric.partition("/")
    sections = [
        result.get("selected", {}).get("val", {}) if group == "val" else result.get("cost", {}) for result in results
    ]
    validation = Spread(tuple(float(section[name]) for section in sections if name in section))
    test = Spread(tuple(float(result["test"]["r1"]) for result in results if "r1" in result.get("test", {})))
    return Winner(trial.number, dict(fixed(trial)), float(trial.values[0]), validation, test, row, _sign(points.space))


def _fresh_runs(points: Points, trial: "FrozenTrial") -> list[Path]:
    (one,) = points.runs(fixed(trial), [FRESH], points.best_suite)
    if one.directory is None:  # the benchmark that the search has run on is not on this machine
        return []
    seeds = {int(path.name.split("-")[1]) for path in one.directory.parent.glob("seed-*")}
    fresh = sorted(seed for seed in seeds if seed >= FRESH and seed not in points.seeds)
    runs = points.runs(fixed(trial), fresh, points.best_suite) if fresh else []
    return [run.directory for run in runs if run.directory is not None and run.state in ("finished", "stale")]
