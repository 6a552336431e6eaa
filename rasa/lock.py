"""Locks between processes, which a holder's death releases: one builder, one trainer, one driver at a time."""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from rasa.errors import ResourceError

try:
    import fcntl
except ImportError:  # Windows has no such locks; filelock has its own there
    fcntl = None  # type: ignore[assignment]

MODE = 0o666  # less what the umask takes: other users of a shared workspace lock the same files
PATIENCE, PAUSE = 10, 0.05  # tries, and seconds between them
# What file systems without locks answer: Lustre without its option `flock`, NFS 3 without lockd, others.
WITHOUT = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold `file` alone, waiting for whoever has it. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file, mode=MODE):
        yield


class Lock:
    """Holds `path` alone if free; `acquired` tells whether it was. Raises ResourceError if it cannot be written."""

    def __init__(self, path: Path):
        self._path, self._lock, self.acquired = path, FileLock(path, mode=MODE), False

    def __enter__(self) -> Self:
        # `rasa plan` in another process holds the lock for an instant to see whether it is free.
        for attempt in range(PATIENCE):
            if attempt:
                time.sleep(PAUSE)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                continue
            except OSError as error:
                why = f"{error.strerror}; make the folder writable"
                raise ResourceError(f"{self._path}: {without_locks(error) or why}") from error
            self.acquired = True
            break
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.acquired:
            self._lock.release()


def without_locks(error: OSError) -> str:
    """What to tell where a file system has no locks; nothing where `error` is another one."""
    if error.errno not in WITHOUT:
        return ""
    return (
        f"files cannot be locked here ({error.strerror}), so two programs could train one run; mount the disk with "
        "locks (Lustre: flock, NFS 3: lockd), or give a --workspace on another"
    )


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock at `path`. Asking leaves no file behind."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0, mode=MODE):
            return False
    except Timeout:
        return True
    except OSError:  # a disk or a workspace that may only be read
        return _is_locked_for_others(path)


def _is_locked_for_others(path: Path) -> bool:
    """The same of a file that may only be read."""
    if fcntl is None:
        return False
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # Shared: NFS refuses to lock for one alone what is open for reading only.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # some file systems say the second of what another holds
        return True
    except OSError as error:
        if error.errno not in WITHOUT:
            raise
        return False  # nobody can hold it
    finally:
        os.close(handle)
    return False


def check_locks(folder: Path) -> None:
    """Raises ResourceError if files in `folder` cannot be locked, and OSError if none can be made there."""
    if fcntl is None:
        return
    with TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in WITHOUT:
                raise
            raise ResourceError(f"{folder}: {without_locks(error)}") from error
