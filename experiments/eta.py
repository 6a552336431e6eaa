"""When a run will have ended, from the figures that it has reported so far and from what is still to be computed.

A step's time, a validation's and that between a validation and the next epoch are measured. What has not been seen yet,
above all the test, takes as many validations as it took other seeds of the row here; without any its share of FLOPs.
"""

from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

from experiments.rundir import ENVIRONMENT, RESTORED, RESULT, About, Point, read_about, read_json, read_points
from experiments.workload import expected_sizes, recorded_config, stages_of
from rasa.errors import ResourceError

SIBLINGS = 3  # other seeds that are asked
PAUSE = 5.0  # times the usual between two figures: the run was stopped in between


class Shape(NamedTuple):
    """A run's steps and epochs, and FLOPs of a step, of a validation, of the look after it and of the end."""

    steps: int
    epochs: int
    step: float
    validation: float
    look: float
    end: float

    @property
    def per_epoch(self) -> int:
        return self.steps // self.epochs


def shape_of(about: About, directory: Path | None = None) -> Shape | None:
    """Of a run; None of a start, of one whose data's sizes are not known, or of another version.

    `directory`: the run's own, beside which those of its row's other seeds lie.
    """
    config = recorded_config(about.identity)
    if config is None or about.untrained:
        return None
    sizes = about.data_sizes or (expected_sizes(config.data) if not about.data_root else None)
    if not sizes:
        return None
    shape = Shape(*stages_of(config, sizes))
    ends = [_end(sibling, shape) for sibling in _siblings(about, directory)] if directory else []
    known = [validations for validations in ends if validations is not None]
    return shape._replace(end=shape.validation * median(known)) if known else shape


def _siblings(about: About, directory: Path) -> list[Path]:
    """The row's other seeds with the same config that were trained to the end here, with such GPUs: a few of them."""
    found = (
        result.parent
        for result in directory.parent.glob(f"*/{RESULT}")
        if result.parent != directory and not (result.parent / RESTORED).exists()
    )
    own = _gpus(directory)
    alike = (sibling for sibling in found if _is_of(sibling, about.row_digest) and _gpus(sibling) == own)
    return list(islice(alike, SIBLINGS))


def _is_of(directory: Path, row_digest: str) -> bool:
    try:
        return read_about(directory).row_digest == row_digest
    except ResourceError:  # whoever lists runs says that it is damaged
        return False


def _gpus(directory: Path) -> list[str]:
    return (read_json(directory / ENVIRONMENT) or {}).get("gpus") or []


def _end(directory: Path, shape: Shape) -> float | None:
    """How many validations all that came after the last one took a run; None if its record does not tell."""
    points = read_points(directory)
    last = next((point for point in reversed(points) if point.group == "val"), None)
    if last is None or (step := _step_seconds(points, shape)) is None:
        return None
    validation = _validation(points, shape, step)
    return (points[-1].time - last.time) / validation if validation and points[-1] is not last else None


def remaining(points: Sequence[Point], shape: Shape, now: float) -> float | None:
    """Seconds from `now` until the run has ended; None before two training figures of one epoch are there."""
    if not points or (step := _step_seconds(points, shape)) is None:
        return None
    validations = [point for point in points if point.group == "val"]
    validation = _validation(points, shape, step)
    done, inside = _position(points[-1], shape)
    left = shape.epochs - len(validations)
    # After each validation comes a look at the test, if one was asked for, and a checkpoint.
    gaps = left + (0 if inside else 1)
    seconds = (shape.steps - done) * step + left * validation + gaps * _gap(points, shape, step, validation)
    if points[-1].group != "test":
        seconds += validation * shape.end / shape.validation
    return max(0.0, seconds - (now - points[-1].time))


def _step_seconds(points: Sequence[Point], shape: Shape) -> float | None:
    """Seconds of a step: between figures of one epoch, pauses left out."""
    train = [point for point in points if point.group == "train"]
    spans = [
        (later.time - earlier.time, later.step - earlier.step)
        for earlier, later in pairwise(train)
        if later.step > earlier.step and later.step // shape.per_epoch == earlier.step // shape.per_epoch
    ]
    if not spans:
        return None
    usual = median(seconds / steps for seconds, steps in spans)
    kept = [(seconds, steps) for seconds, steps in spans if seconds <= PAUSE * usual * steps]
    return sum(seconds for seconds, _ in kept) / sum(steps for _, steps in kept)


def _validation(points: Sequence[Point], shape: Shape, step: float) -> float:
    """Seconds of a validation: from the end of an epoch's last step, which may be unreported, to its figures."""
    found = []
    for earlier, later in pairwise(points):
        if later.group == "val" and earlier.group == "train":
            found.append(later.time - earlier.time - step * (later.step - 1 - earlier.step))
    return max(0.0, median(found)) if found else step * shape.validation / shape.step


def _gap(points: Sequence[Point], shape: Shape, step: float, validation: float) -> float:
    """Seconds between a validation's figures and the first step after it."""
    found = [
        later.time - earlier.time - step * (later.step - earlier.step + 1)
        for earlier, later in pairwise(points)
        if earlier.group == "val" and later.group == "train"
    ]
    return max(0.0, median(found)) if found else validation * shape.look / shape.validation


def _position(last: Point, shape: Shape) -> tuple[int, bool]:
    """Steps done at the last figure, and whether it lies inside an epoch."""
    if last.group == "train":
        return last.step + 1, True
    return min(last.step, shape.steps), False
