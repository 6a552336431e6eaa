"""Outside weights, converted once into a folder of our own: safetensors, hashed, with a record of the source."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rasa.errors import ResourceError
from rasa.weights.files import read_tensors
from rasa.weights.folder import save_checkpoint
from rasa.weights.inspect import inspect
from rasa.weights.layouts import recognise
from rasa.weights.released import REDUNDANT

WHOLE = ("idx_queue", "queue_ptr")  # keys of whole numbers


def convert(file: Path, out: Path) -> dict[str, Any]:
    """Write the weights of `file` to the checkpoint folder `out` under the published key names; returns its record.

    The record (`state.json`) holds the source's name, size and SHA-256, the layout, the model's sizes, what was renamed
    or left out. Raises ResourceError, with nothing written, if `out` exists, if the file cannot be read safely, or if a
    tensor is unknown, missing, of another shape or type than a model of these sizes has, or not finite.
    """
    if out.exists():
        raise ResourceError(f"{out}: is there already; give a new folder")
    reading = recognise(read_tensors(file), str(file))
    try:
        found = inspect(reading.state)
    except ResourceError as fault:
        raise ResourceError(f"{file}: {fault}") from None
    problems = [f"{key} is unknown" for key in found.unexpected] + list(found.other_shape)
    if not found.known:
        problems += [f"{key} is missing" for key in found.missing]
    if problems:
        raise ResourceError(f"{file}: fits no known layout in {len(problems)} keys: " + "; ".join(problems[:5]))
    kept = {key: _checked(key, value, file) for key, value in reading.state.items() if not REDUNDANT.match(key)}
    record = {
        "source": {"name": file.name, "sha256": _sha256(file), "bytes": _bytes(file)},
        "layout": found.layout,
        "sizes": found.sizes,
        "notes": list(reading.notes),
        "left_out": [key for key in reading.state if REDUNDANT.match(key)],
    }
    save_checkpoint(out, kept, record)
    return record


def _checked(key: str, value: Tensor, file: Path) -> Tensor:
    """The tensor, contiguous, if it holds what it declares and that is finite numbers of the right kind."""
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ResourceError(
            f"{file}: {key} declares more values than it holds; it would take {value.numel()} in memory"
        )
    whole = key in WHOLE
    if value.is_floating_point() == whole or value.dtype == torch.bool:
        raise ResourceError(
            f"{file}: {key} is {value.dtype}, expected {'whole' if whole else 'floating-point'} numbers"
        )
    if not whole and not bool(torch.isfinite(value).all()):
        raise ResourceError(f"{file}: {key} holds values that are no finite numbers")
    return value.contiguous().clone()  # safetensors refuses tensors that share memory


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for file in _files(path):
        with file.open("rb") as content:
            while block := content.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in _files(path))
