"""What a run's own process prints, kept in the run's directory: `worker.log`, with a line where each attempt begins.

Libraries, warnings and crashes print past every logger, so the descriptors themselves are turned to the file. The lines
that a person is to see do not come this way: a worker sends them.
"""

import faulthandler
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.rundir import timestamp

WORKER_LOG = "worker.log"
BEGINS = "--- "


@contextmanager
def output_kept(directory: Path) -> Iterator[None]:
    """Inside, what this process and its children print goes to the end of the run's log.

    An attempt that printed nothing leaves no trace, unless it is killed.
    """
    path = directory / WORKER_LOG
    try:
        file = path.open("ab", buffering=0)
    except OSError:  # a disk that is full or only read: the run's own files say so, in words
        yield
        return
    with file:
        before = os.fstat(file.fileno()).st_size
        file.write(f"{BEGINS}{timestamp()}, process {os.getpid()}\n".encode())
        begun = os.fstat(file.fileno()).st_size
        kept = _turned_to(file.fileno())
        faulthandler.enable(file)  # a crash in a library's C leaves the place in our code
        try:
            yield
        finally:
            faulthandler.disable()
            _turned_back(kept)
            if os.fstat(file.fileno()).st_size == begun:
                os.truncate(file.fileno(), before)
                if before == 0:
                    path.unlink(missing_ok=True)


def said(directory: Path) -> Path | None:
    """The run's log, if its last attempt has printed anything."""
    path = directory / WORKER_LOG
    if not path.is_file():
        return None
    lines = path.read_bytes().splitlines()
    return path if lines and not lines[-1].startswith(BEGINS.encode()) else None


def _turned_to(descriptor: int) -> list[int]:
    """stdout and stderr go there from now on; where they went before."""
    _flush()
    kept = [os.dup(number) for number in (1, 2)]
    for number in (1, 2):
        os.dup2(descriptor, number)
    return kept


def _turned_back(kept: list[int]) -> None:
    _flush()
    for number, descriptor in zip((1, 2), kept, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
