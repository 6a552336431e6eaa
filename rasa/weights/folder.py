"""Exact save and resume: tensors in safetensors, the rest in JSON that carries both files' hashes.

A checkpoint is a folder that appears by one rename; one of the same name is set aside before and put back if a kill
falls between. So a kill at any moment leaves the old one or the new one. A flipped byte is found by the hash
(safetensors alone would load it).
"""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rasa.errors import ResourceError
from rasa.memory import check_room, is_full, no_room
from rasa.weights.notes import NOTES

FORMAT = 1
TENSORS, STATE = "tensors.safetensors", "state.json"


def save_checkpoint(
    folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], indent: int | None = 1
) -> None:
    """Write a checkpoint to `folder`, replacing one that is there. Raises ResourceError if the disk refuses.

    `indent`: the record's; None writes long ones in a tenth of the time.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    check_room(folder, size_of(tensors))
    try:
        temporary.mkdir(parents=True)
        save_tensors({name: value.detach().contiguous() for name, value in tensors.items()}, temporary / TENSORS)
        body = {"format": FORMAT, "tensors_sha256": _file_hash(temporary / TENSORS), "state": dict(state)}
        text = json.dumps(body | {"sha256": _body_hash(body)}, indent=indent)
        (temporary / STATE).write_text(text)
        for path in (temporary / TENSORS, temporary / STATE):
            _sync(path)
        before = _set_aside(folder)
        if folder.exists():
            os.replace(folder, before)
        os.replace(temporary, folder)
        _sync(folder.parent)
        shutil.rmtree(before, ignore_errors=True)
    except (OSError, SafetensorError) as fault:
        shutil.rmtree(temporary, ignore_errors=True)
        if is_full(fault):
            raise ResourceError(no_room(folder, size_of(tensors))) from fault
        why = getattr(fault, "strerror", None) or " ".join(str(fault).split())
        raise ResourceError(
            f"{folder}: the checkpoint could not be written ({why}); make the folder writable"
        ) from fault


def size_of(tensors: Mapping[str, Tensor]) -> int:
    """Bytes that the tensors take in a file."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def save_tensors(tensors: Mapping[str, Tensor], file: Path, notes: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file with the permissions that every other new file has.

    The library's own are the user's alone. `notes` are kept in the header as one JSON text: the library writes several
    keys in an order of chance, and then equal files are not equal. Raises OSError or SafetensorError; then no file is
    left.
    """
    try:
        save_file(dict(tensors), file, {NOTES: json.dumps(notes, sort_keys=True)} if notes else None)
        as_umask_says(file)
    except (OSError, SafetensorError):
        file.unlink(missing_ok=True)
        raise


def as_umask_says(file: Path) -> None:
    """Give a file the permissions of a new one."""
    probe = file.with_name(f".{file.name}.mode")  # the umask itself could be read only by changing it for all threads
    try:
        probe.touch()
        file.chmod(stat.S_IMODE(probe.stat().st_mode))
    finally:
        probe.unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the state of a checkpoint. Raises ResourceError if a byte of it is not as it was written."""
    try:
        body = json.loads((folder / STATE).read_text(encoding="utf-8"))
        tensors_hash = _file_hash(folder / TENSORS)
    except (OSError, ValueError, RecursionError) as fault:
        raise ResourceError(f"{folder}: not a readable checkpoint ({fault})") from fault
    written = body.get("format") if isinstance(body, dict) else None
    if type(written) is not int or written != FORMAT:
        raise ResourceError(
            f"{folder}: checkpoint format {repr(written)[:60]} is not {FORMAT}; take the version that wrote it"
        )
    declared, state = body.pop("sha256", None), body.get("state")
    if declared != _body_hash(body) or body.get("tensors_sha256") != tensors_hash:
        raise ResourceError(f"{folder}: damaged checkpoint (its hash does not match its content)")
    try:
        tensors = load_file(folder / TENSORS)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as fault:
        raise ResourceError(f"{folder}: not a readable checkpoint ({TENSORS} is no file of tensors)") from fault
    if not isinstance(state, dict):
        raise ResourceError(f"{folder}: damaged checkpoint (its record lacks the state)")
    return tensors, state


def recipe_of(folder: Path) -> dict[str, Any] | None:
    """The recipe that a start of `rasa pretrain` carries; None if `folder` is no such. Its hashes are not looked at."""
    try:
        body = json.loads((folder / STATE).read_text())
        recipe: dict[str, Any] = body["state"]["recipe"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return recipe


def newest_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[str]] | None:
    """The newest valid checkpoint under `folder` with one line for each newer one that is damaged; None if none is."""
    problems: list[str] = []
    for aside in folder.glob(".step-*.old"):  # a kill fell between setting it aside and its successor's rename
        name = folder / aside.name.removeprefix(".").removesuffix(".old")
        if not name.exists():
            os.replace(aside, name)
    for candidate in sorted((p for p in folder.glob("step-*") if p.is_dir()), reverse=True):
        try:
            return *load_checkpoint(candidate), problems
        except ResourceError as fault:
            problems.append(str(fault))
    if problems:
        raise ResourceError(f"{folder}: no valid checkpoint left; remove it to start again: " + "; ".join(problems))
    return None


def prune(folder: Path, keep: int) -> None:
    """Remove all but the `keep` newest checkpoints and what an interrupted save left."""
    for old in sorted((p for p in folder.glob("step-*") if p.is_dir()), reverse=True)[keep:]:
        shutil.rmtree(old)
    for left in (*folder.glob(".step-*.tmp"), *folder.glob(".step-*.old")):
        shutil.rmtree(left)


def _set_aside(folder: Path) -> Path:
    """Where a checkpoint waits while one of its name takes its place; empty now."""
    before = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(before, ignore_errors=True)
    return before


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _body_hash(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
