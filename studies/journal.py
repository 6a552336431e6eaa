"""Optuna's journal file, which a process that is killed while it writes would otherwise leave unreadable for all.

A torn line without its end is cut off; one to which another process has already appended a record is blanked, byte for
byte, so that the places that living readers remember stay right. What is removed is kept beside the journal.
"""

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from rasa.errors import ResourceError

REMOVED = ".torn"  # suffix of the file that keeps what a repair has removed
RECORD = b'{"op_code"'  # how Optuna begins each record


class Journal(JournalFileBackend):
    """Optuna's backend, repaired when it is opened and before each append. Raises ResourceError and OSError.

    `reading`: for who only looks; then nothing is locked or repaired, and the file must be there.
    """

    def __init__(self, path: Path, reading: bool = False):
        path = path.absolute()  # Optuna's lock links to it, and waits for ever on a link that leads nowhere
        check(path)
        super().__init__(str(path), JournalFileSymlinkLock(str(path)))
        self._journal = path
        if reading:
            return
        self._lock.acquire()
        try:
            repair(path)
        finally:
            self._lock.release()

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """As Optuna's; of a line that is none, one line."""
        try:
            yield from super().read_logs(log_number_from)
        except ValueError as fault:
            raise ResourceError(
                f"{self._journal}: a line is no record ({fault}); `rasa study run` repairs what a kill left, else "
                "restore it"
            ) from fault

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """As Optuna's, after whoever was killed while writing."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._lock.acquire()
        try:
            cut_torn_end(self._journal)
            with self._journal.open("ab") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        finally:
            self._lock.release()


def check(path: Path) -> None:
    """Refuse a file that no study has begun, before anything in it is touched. Raises ResourceError and OSError."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        begun = file.readline().lstrip(b" ")[: len(RECORD)]
    if begun and not RECORD.startswith(begun):
        raise ResourceError(f"{path}: is no journal of studies; give another file")


def repair(path: Path) -> int:
    """Make every line of the journal readable, and say of how many that was not so; the caller holds its lock."""
    found = int(cut_torn_end(path))
    with path.open("r+b") as file:
        offset = 0
        for number, line in enumerate(file.read().splitlines(keepends=True), start=1):
            if not _is_record(line):
                file.seek(offset)
                file.write(_blanked(path, number, line))
                found += 1
            offset += len(line)
        file.flush()
        os.fsync(file.fileno())
    return found


def cut_torn_end(path: Path) -> bool:
    """Cut off a last line that has no end; whether there was one. The caller holds the journal's lock."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return False
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return False
        file.seek(0)
        end = file.read().rfind(b"\n") + 1
        file.seek(end)
        _keep(path, file.read())
        file.truncate(end)
        return True


def _blanked(path: Path, number: int, line: bytes) -> bytes:
    """The line with all but the last whole record in it replaced by spaces, which JSON does not mind."""
    start = line.rfind(RECORD)
    if start <= 0 or not _is_record(line[start:]):
        raise ResourceError(f"{path}: line {number} is no record; restore the journal from a copy, or remove that line")
    _keep(path, line[:start])
    return b" " * start + line[start:]


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _keep(path: Path, removed: bytes) -> None:
    with path.with_name(path.name + REMOVED).open("ab") as file:
        file.write(removed + b"\n")
