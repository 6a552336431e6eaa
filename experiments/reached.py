"""What a run has reached so far, read from its directory: epochs, validation of the chosen one, test, when."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from experiments.eta import remaining, shape_of
from experiments.rundir import (
    ENVIRONMENT,
    FAILURE,
    RESTORED,
    RESULT,
    SELECTED,
    About,
    read_attempts,
    read_json,
    read_points,
    read_result,
)

OF_EPOCH = re.compile(r"epoch-(\d+)")


class Reached(NamedTuple):
    """`selected` is the epoch that validation chose, or has chosen so far; `val` its figures, `test` those on test.

    `when` is the end of a run that has ended, else its last sign of life, in UTC as ISO 8601; `seconds` its training
    time, of a finished run alone.
    """

    epoch: int
    epochs: int | None
    selected: int | None
    val: Mapping[str, float]
    test: Mapping[str, float]
    when: str
    seconds: float | None
    weights: Path | None
    attempts: int = 0  # that failed
    left: float | None = None  # seconds until a run that is training now has ended

    @property
    def val_r1(self) -> float | None:
        """Validation R@1 of the chosen epoch."""
        return self.val.get("r1")

    @property
    def test_r1(self) -> float | None:
        """Test R@1, of the weights of that epoch."""
        return self.test.get("r1")


def reached(directory: Path, about: About, running: bool = False) -> Reached:
    """What the run in `directory` has reached. A start has no epochs. Of a `running` one also when it will end."""
    stated = (about.identity.get("optimisation") or {}).get("epochs")
    epochs = stated if isinstance(stated, int) and not about.untrained else None
    if (result := read_result(directory / RESULT)) is not None:
        return _of_result(directory, result, epochs)
    points = read_points(directory)
    by_epoch = {int(point.values.get("epoch", 0)): point.values for point in points if point.group == "val"}
    chosen = _chosen(directory)
    epoch = int(chosen.name.removeprefix("epoch-")) if chosen else None
    failure = read_json(directory / FAILURE) or {}
    seen = points[-1].time if points else None
    shape = shape_of(about, directory) if points and running else None
    left = remaining(points, shape, time.time()) if shape else None
    when = str(failure.get("time") or (_utc(seen) if seen else "") or _begun(directory))
    return Reached(
        max(by_epoch, default=0),
        epochs,
        epoch,
        by_epoch.get(epoch or 0, {}),
        {},
        when,
        None,
        chosen,
        len(read_attempts(directory)),
        left,
    )


def choice(val: Mapping[str, float]) -> tuple[float, float]:
    """By what validation chooses: R@1 (of both directions, or with AP@50, where there are two), then the recalls' mean.

    As rasa.evaluation.protocols.selection_key, without torch, and of records that lack a figure too.
    """

    def figures(*names: str) -> list[float]:
        return [val[name] for name in names if name in val]

    first = figures("ap50", "tr_r1") if "ap50" in val else figures("r1", "tr_r1")
    every = figures("r1", "r5", "r10")
    if "tr_r1" in val and "ap50" not in val:
        every += figures("tr_r1", "tr_r5", "tr_r10")
    return fmean(first) if first else float("-inf"), fmean(every) if every else float("-inf")


def _of_result(directory: Path, result: Mapping[str, Any], epochs: int | None) -> Reached:
    selected, last = (result.get(name) or {} for name in ("selected", "last"))
    chosen, done = selected.get("epoch"), last.get("epoch", epochs)
    val = selected.get("val") or {}
    val = {name: value for name, value in val.items() if name != "epoch" and isinstance(value, int | float)}
    return Reached(
        epoch=done if isinstance(done, int) else 0,
        epochs=epochs,
        selected=chosen if isinstance(chosen, int) else None,
        val=val,
        test=result.get("test") or {},
        when=str(result.get("finished") or _begun(directory)),
        seconds=(result.get("cost") or {}).get("seconds"),
        weights=None if (directory / RESTORED).exists() else _chosen(directory),
        attempts=len(read_attempts(directory)),
    )


def _chosen(directory: Path) -> Path | None:
    """The selected weights: those of the newest epoch, for an older choice is removed once a newer one is whole."""
    found = [path for path in (directory / SELECTED).glob("epoch-*") if OF_EPOCH.fullmatch(path.name)]
    return max(found, default=None)


def _begun(directory: Path) -> str:
    return str((read_json(directory / ENVIRONMENT) or {}).get("started") or "")


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
