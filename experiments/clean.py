"""What a workspace keeps and nothing needs any more: `rasa clean`, and the checkpoints of a run that has finished.

A finished run is its record and its selected weights. The state of its optimizer, its momentum copy and its queues
served to resume it, and at the paper's size they are most of its disk. What a report reads (records, predictions), what
a study reads and what an interrupted run goes on from is never touched.
"""

import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from experiments.plan import DATA, state_of
from experiments.rundir import FAILURE, LOCK, find_runs, read_json
from rasa.errors import Diverged
from rasa.lock import Lock

CHECKPOINTS = "checkpoints"
DAY = 86400.0  # seconds


class Unneeded(NamedTuple):
    """A folder or a file that can go, and why."""

    path: Path
    why: str
    bytes: int


def unneeded(workspace: Path, older_than: float = 0.0, directories: Iterable[Path] | None = None) -> Iterator[Unneeded]:
    """What can be removed of the workspace, or of these runs alone, and has not been written for so many seconds."""
    before, active = time.time() - older_than, False
    for directory in find_runs(workspace) if directories is None else directories:
        state = state_of(directory)[0]
        active = active or state in ("running", "interrupted")
        folder = directory / CHECKPOINTS
        why = _why(directory, state) if folder.is_dir() and _last_written(folder) <= before else ""
        if why and (size := _size(folder)):
            yield Unneeded(folder, why, size)
    for file in _caches(workspace) if directories is None else ():
        if not active and _last_used(file) <= before:
            yield Unneeded(file, "decoded images, made again when a run needs them", file.stat().st_size)


def remove(found: Unneeded) -> bool:
    """Remove it. False if it is a run's, and a process has begun to use that in the meantime. Raises OSError."""
    if found.path.is_file():
        found.path.unlink(missing_ok=True)
        return True
    with Lock(found.path.parent / LOCK) as lock:
        if not lock.acquired or not _why(found.path.parent, state_of(found.path.parent)[0], held=True):
            return False
        shutil.rmtree(found.path)
    return True


def drop_checkpoints(directory: Path) -> None:
    """Of a run that has just finished, and whose lock the caller holds."""
    shutil.rmtree(directory / CHECKPOINTS, ignore_errors=True)  # what is left is `rasa clean`'s


def _why(directory: Path, state: str, held: bool = False) -> str:
    if state in ("finished", "stale"):
        return "checkpoints of a finished run"
    if state == "superseded":
        return "checkpoints of a run that was run again"
    failed = state == "failed" or (held and state == "running")  # our own lock makes it look so
    if failed and ((read_json(directory / FAILURE) or {}).get("type") == Diverged.__name__):
        return "checkpoints of a run that diverged, and would again"
    return ""


def _caches(workspace: Path) -> list[Path]:
    from rasa.data.image_cache import FOLDER, SUFFIX, UNFINISHED

    place = workspace / DATA / FOLDER
    return [*sorted(place.glob(f"*{SUFFIX}")), *sorted(place.glob(f"*{UNFINISHED}*"))]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _last_written(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))


def _last_used(file: Path) -> float:
    stat = file.stat()
    return max(stat.st_mtime, stat.st_atime)
