"""Reading weights that others wrote: nothing in a file is run, and no more memory is taken than the file can fill.

A pickle (.pth, .pt, .bin) is read with `weights_only`, which builds tensors and plain containers and refuses everything
else. That alone bounds no memory: a few bytes may declare a terabyte. So a zip whose records unpack to more than the
file holds is refused, and while a pickle is read the process may grow by a small multiple of the file's size.
"""

import resource
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from rasa.errors import ResourceError
from rasa.weights.folder import STATE, TENSORS, load_checkpoint
from rasa.weights.foreign import what_it_is

FOLDERS = (TENSORS, "model.safetensors", "pytorch_model.bin")  # weights in a folder: one of ours, or transformers'
WRAPPERS = ("model", "state_dict", "model_state_dict", "net")  # under which training programs file their weights
ROOM = 2**30  # bytes that reading may take beside twice the file


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors by name of a .safetensors file, of a pickled state dict (alone or wrapped), or of a folder of either.

    They lie on the CPU. Raises ResourceError if the file is missing, damaged, or holds anything but dense tensors.
    """
    path = selected_in(path)
    if path.is_dir() and (path / STATE).is_file():
        return dict(load_checkpoint(path)[0])  # a folder that this project wrote: its hash must fit
    if path.is_dir():
        path = next((path / name for name in FOLDERS if (path / name).is_file()), path)
    if not path.is_file():
        what = "holds no weights" if path.is_dir() else "no such file"
        raise ResourceError(f"{path}: {what}; give a checkpoint's path, e.g. ALBEF.pth, or a run's directory")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except Exception as fault:  # every reader has its own exceptions for a damaged or hostile file
        raise ResourceError(f"{path}: not a readable checkpoint: {what_it_is(path, fault)}") from fault
    return _dense(_unwrapped(state), path)


def selected_in(path: Path) -> Path:
    """Where a run's directory, or the folder of its selected weights, is given: those weights; else the path itself."""
    for folder in (path / "selected", path):
        epochs = sorted(folder.glob("epoch-*/")) if folder.is_dir() else []
        if epochs and not (path / STATE).is_file():
            return epochs[-1]
    return path


def _unpickled(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
        if sum(record.file_size for record in records) > path.stat().st_size:
            raise ValueError("its records unpack to more than the file holds")
    with bounded_memory(2 * path.stat().st_size + ROOM), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own advice about hostile files is to load them all the same
        # Namespaces are how training programs keep their arguments; building one runs nothing.
        with torch.serialization.safe_globals([Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=False)


@contextmanager
def bounded_memory(extra: int) -> Iterator[None]:
    """Inside, this process may take at most `extra` bytes of address space more (MemoryError or RuntimeError beyond).

    Where the system does not tell how much it has (no /proc) there is no bound.
    """
    try:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = held + extra
    if before[0] != resource.RLIM_INFINITY:
        limit = min(limit, before[0])
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _unwrapped(state: Any) -> Any:
    for _ in range(2):  # a wrapper may wrap another; a hostile file, itself
        if isinstance(state, dict):
            state = next((state[name] for name in WRAPPERS if isinstance(state.get(name), dict)), state)
    return state


def _dense(state: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(state, dict) or not state:
        raise ResourceError(
            f"{path}: holds no state dict; expected tensors by name, alone or under {', '.join(WRAPPERS)}"
        )
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise ResourceError(f"{path}: {key} is not a dense tensor")
        if value.device.type != "cpu" or value.is_quantized or value.is_complex():
            raise ResourceError(f"{path}: {key} is not a dense tensor of plain numbers")
    return {key: value.detach() for key, value in state.items()}
