"""What a run reported while it trained, as learning curves: single steps are averaged over windows of equal length.

A single step's loss is its batch's more than the model's. Reports draw these means, and published records keep them, so
both show the same.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import NamedTuple

from experiments.rundir import Point

WINDOWS = 24  # of a whole run, but at least one in each epoch


class Windows(NamedTuple):
    """How the steps of a run are divided."""

    per_epoch: int
    epochs: int
    steps: float  # of one window

    @classmethod
    def of(cls, points: Sequence[Point]) -> "Windows | None":
        """From the validations, each of which ends an epoch; None without any."""
        ends = [(point.step, int(point.values.get("epoch", 0))) for point in points if point.group == "val"]
        step, epoch = max(ends, default=(0, 0))
        if step <= 0 or epoch <= 0:
            return None
        per_epoch = max(1, round(WINDOWS / epoch))
        return cls(per_epoch, epoch, step / epoch / per_epoch)

    def number(self, step: int) -> int:
        """In which window the step lies, from 0."""
        return int(step / self.steps)

    def middle(self, step: int) -> float:
        """Epochs that have passed in the middle of the step's window."""
        return (self.number(step) + 0.5) / self.per_epoch

    @property
    def total(self) -> int:
        """All windows of the run."""
        return self.per_epoch * self.epochs


def averaged(points: Sequence[Point]) -> Iterator[Point]:
    """The points with each window's training figures as one point, at its last step, with their means.

    What is no number is left out. Averaging what was averaged changes nothing.
    """
    windows, waiting = Windows.of(points), list[Point]()
    for point in points:
        if waiting and windows and (point.group != "train" or _apart(windows, waiting[-1], point)):
            yield _mean(waiting)
            waiting = []
        if point.group != "train":
            yield point
        elif windows is not None:
            waiting.append(point)
    if waiting:
        yield _mean(waiting)


def _apart(windows: Windows, one: Point, other: Point) -> bool:
    return windows.number(one.step) != windows.number(other.step)


def _mean(points: Sequence[Point]) -> Point:
    values: dict[str, list[float]] = {}
    for point in points:
        for name, value in point.values.items():
            if math.isfinite(value):
                values.setdefault(name, []).append(value)
    return points[-1]._replace(values={name: fmean(each) for name, each in values.items()})
