"""Running out of memory or of disk, told in one line with what to do.

torch reports a CPU's want of memory in another way than a GPU's.
"""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from rasa.errors import OutOfMemory, ResourceError

# How torch's CPU allocator, and oneDNN's on top of it, say so, in a plain RuntimeError.
CPU_SAYS = ("can't allocate memory", "not enough memory", "DefaultCPUAllocator", "could not create a memory object")
FULL = (errno.ENOSPC, errno.EDQUOT)
MIB = 2**20
MARGIN = 16 * MIB  # for the records beside a checkpoint


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory, of a GPU or of the machine, is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in CPU_SAYS)


@contextmanager
def memory_explained(text: Callable[[], str]) -> Iterator[None]:
    """Inside, a want of memory is an OutOfMemory that says `text()`: what was asked for, and a setting that fits."""
    try:
        yield
    except (RuntimeError, MemoryError) as fault:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(fault):
            raise
        raise OutOfMemory(text()) from fault


def is_full(error: BaseException) -> bool:
    """Whether an exception says that a disk is full; safetensors has the system's words in an error of its own."""
    return (isinstance(error, OSError) and error.errno in FULL) or "No space left on device" in str(error)


def no_room(path: Path, needed: int | None = None) -> str:
    """What to say of a disk that is full, or too full for `needed` bytes."""
    free = shutil.disk_usage(_there(path)).free
    asked = (
        f"{needed / MIB:.0f} MiB are needed and {free / MIB:.0f} MiB are free"
        if needed
        else "no space left on the disk"
    )
    return f"{path}: {asked}; free some space there, then the same command goes on"


def check_room(path: Path, needed: int) -> None:
    """Refuse to begin to write `needed` bytes at `path` where they do not fit. Raises ResourceError."""
    if shutil.disk_usage(_there(path)).free < needed + MARGIN:
        raise ResourceError(no_room(path, needed + MARGIN))


def _there(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())
