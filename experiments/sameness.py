"""Whether two runs of one config came to the same bits: figures, predictions, selected weights; by how much if not."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments import predictions
from experiments.curves import averaged
from experiments.layers import flatten
from experiments.rundir import PREDICTIONS, RESTORED, RESULT, SELECTED, Point, read_points, read_result
from rasa.errors import ResourceError

# Of a result: what tells of the computation. Costs and times are the machine's.
TOLD = ("test", "source", "sensitivity", "selected", "last", "test_oracle", "sizes")
TIMED = ("cost",)  # groups of figures that are never the same twice
KEY = "selected"  # in a result's digests: the SHA-256 of the selected weights
STATE, TENSORS = "state.json", "tensors.safetensors"


class Part(NamedTuple):
    """One kind of what a run leaves. `equal` is None if one of the two runs does not have it any more."""

    name: str
    equal: bool | None
    text: str


def compare(recorded: Path, rebuilt: Path) -> list[Part]:
    """Part by part. A run that was put back from a published report is compared in what that keeps.

    Raises ResourceError for a run that has not finished.
    """
    published = (recorded / RESTORED).exists()
    return [
        _results(_result(recorded), _result(rebuilt)),
        _metrics(_points(recorded, published), _points(rebuilt, published)),
        _predictions(_arrays(recorded), _arrays(rebuilt), published),
        _weights(recorded, rebuilt),
    ]


def _result(directory: Path) -> dict[str, Any]:
    result = read_result(directory / RESULT)
    if result is None:
        raise ResourceError(f"{directory}: not finished, so there is nothing to compare; `rasa run` finishes it")
    return result


def _points(directory: Path, published: bool) -> list[Point]:
    points = [point for point in read_points(directory) if point.group not in TIMED]
    return [*averaged(points)] if published else points


def _results(old: Mapping[str, Any], new: Mapping[str, Any]) -> Part:
    was, now = ({name: each[name] for name in TOLD if name in each} for each in (old, new))
    return _figures("result", flatten(was), flatten(now))


def _metrics(old: Sequence[Point], new: Sequence[Point]) -> Part:
    was, now = (
        {f"{point.group}/{name} at step {point.step}": value for point in each for name, value in point.values.items()}
        for each in (old, new)
    )
    return _figures("metrics", was, now)


def _figures(name: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Part:
    """Bit by bit: 0.1 + 0.2 is not 0.3, and NaN is NaN."""
    keys = [*dict.fromkeys([*was, *now])]
    differing = [key for key in keys if not _same(was.get(key), now.get(key))]
    if not differing:
        return Part(name, True, f"{len(keys)} figures")
    numbers = [key for key in differing if all(isinstance(each.get(key), int | float) for each in (was, now))]
    largest = max(numbers, key=lambda key: abs(was[key] - now[key]), default=differing[0])
    first = differing[0]
    text = f"{len(differing)} of {len(keys)} figures differ, first {first}: {was.get(first)} -> {now.get(first)}"
    if numbers:
        gap = abs(was[largest] - now[largest])
        text += f"; at most by {gap:.3g} ({_relative(gap, was[largest])}), {largest}: {was[largest]} -> {now[largest]}"
    return Part(name, False, text)


def _same(old: Any, new: Any) -> bool:
    return bool(old == new) or all(isinstance(each, float) and math.isnan(each) for each in (old, new))


def _relative(gap: float, value: float) -> str:
    return f"relative {gap / abs(value):.1e}" if value else "from 0"


def _arrays(directory: Path) -> dict[str, NDArray[Any]] | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(directory / PREDICTIONS)
    except (OSError, SafetensorError):
        return None  # is said by the part


def _predictions(old: dict[str, NDArray[Any]] | None, new: dict[str, NDArray[Any]] | None, published: bool) -> Part:
    if old is None or new is None:
        return Part("predictions", None, "not there any more, so not compared")
    if published:
        new = {name: _kept(name, values) for name, values in new.items() if name in old}
    names = sorted({*old, *new})
    differing = [name for name in names if name not in old or name not in new or not _equal(old[name], new[name])]
    queries = len(new[predictions.FIRST_RANK])
    if not differing:
        return Part("predictions", True, f"{queries} queries, {len(names)} arrays")
    return Part("predictions", False, f"{', '.join(differing)} differ; {'; '.join(_ranks(old, new)) or 'no rank'}")


def _ranks(old: Mapping[str, NDArray[Any]], new: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    was, now = old[predictions.FIRST_RANK], new[predictions.FIRST_RANK]
    if was.shape != now.shape:
        yield f"{len(was)} queries -> {len(now)}"
        return
    if changed := int((was != now).sum()):
        yield f"{changed} of {len(now)} queries have another rank, {int(((was == 1) != (now == 1)).sum())} at R@1"
    gaps = np.abs(old[predictions.AVERAGE_PRECISION] - new[predictions.AVERAGE_PRECISION])
    if np.nanmax(gaps, initial=0):
        yield f"average precisions by at most {np.nanmax(gaps):.3g}"


def _kept(name: str, values: NDArray[Any]) -> NDArray[Any]:
    if name.endswith(predictions.AVERAGE_PRECISION):
        return predictions.from_steps(predictions.in_steps(values))
    return values


def _equal(old: NDArray[Any], new: NDArray[Any]) -> bool:
    return bool(old.dtype == new.dtype and old.shape == new.shape and old.tobytes() == new.tobytes())


def _weights(recorded: Path, rebuilt: Path) -> Part:
    old, new = selected(recorded), selected(rebuilt)
    was, now = weights_digest(recorded), weights_digest(rebuilt)
    if not now and not was:
        return Part("weights", True, "none, of neither")  # a start has none of its own
    if not was or not now:
        return Part("weights", None, "not there any more, and no digest of them, so not compared")
    if was == now:
        return Part("weights", True, f"SHA-256 {now[:12]}")
    return Part("weights", False, _gaps(old, new) if old and new else f"SHA-256 {was[:12]} -> {now[:12]}")


def selected(directory: Path) -> Path | None:
    """The folder of a run's selected weights; None if they are not there."""
    return max((directory / SELECTED).glob("epoch-*"), default=None)


def weights_digest(directory: Path) -> str:
    """SHA-256 of a run's selected weights: of the file, or as its result noted it; nothing if neither is there."""
    folder = selected(directory)
    if folder is not None and (folder / TENSORS).is_file():
        with (folder / TENSORS).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return str((read_result(directory / RESULT) or {}).get("digests", {}).get(KEY) or "")


def _gaps(old: Path, new: Path) -> str:
    from safetensors.torch import load_file

    was, now = load_file(old / TENSORS), load_file(new / TENSORS)
    if was.keys() != now.keys() or any(was[name].shape != now[name].shape for name in was):
        return f"other tensors: {len(was)} -> {len(now)}"
    gaps = {name: float((was[name].double() - now[name].double()).abs().max()) for name in was if was[name].numel()}
    differing = [name for name, gap in gaps.items() if gap != 0]
    if not differing:
        return f"the same tensors of other types, or epoch ({old.name} -> {new.name})"
    worst = max(gaps, key=lambda name: gaps[name])
    scale = float(was[worst].double().abs().max())
    epochs = "" if old.name == new.name else f"; {old.name} -> {new.name}"
    return (
        f"{len(differing)} of {len(gaps)} tensors differ, at most by {gaps[worst]:.3g} "
        f"({_relative(gaps[worst], scale)} of the largest in {worst}){epochs}"
    )
