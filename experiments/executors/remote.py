"""A work in a process that another program starts, on this machine or on another, told of by files in a shared folder.

Of a ticket the folder holds `TICKET.begun`, a line for each time that a process has taken the work, and `TICKET.log`,
what it said. A file `stop` asks all of them to checkpoint and stop; what has not begun by then never does. No file of
these says that a work is done: the directory of a run does.
"""

import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from experiments.executors.interface import Event, Fault, Work
from experiments.rundir import timestamp
from rasa.errors import RasaError, ResourceError

FOLDER = "executors"  # in the workspace
STOP, BEGUN, LOG = "stop", ".begun", ".log"
LOOK = 1.0  # seconds between looks at whether to stop
ENDING = (signal.SIGTERM, signal.SIGUSR2)  # how an engine says that it wants the machine back


class Withdrawn:
    """What a work returns that was stopped before it began."""


class Preempted(BaseException):
    """The engine wants the machine back, and the work has stopped with a checkpoint: it is to be begun again."""

    def __init__(self, number: int):
        super().__init__(number)
        self.signal = number


def new_folder(workspace: Path, engine: str) -> Path:
    """An empty folder for one command's works, on the disk that the machines share. Raises ResourceError."""
    name = f"{engine}-{time.strftime('%Y%m%d-%H%M%S')}-{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
    folder = workspace.absolute() / FOLDER / name
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ResourceError(f"{folder}: {error.strerror}; give a writable --workspace") from error
    return folder


@dataclass(frozen=True)
class RemoteWork:
    """A work, with the folder in which it is told of; called in the process that executes it."""

    work: Work
    folder: Path
    ticket: str
    threads: int | None = None
    home: Path = field(default_factory=Path.cwd)  # of the command that submits: paths in a config may be relative to it

    def __call__(self) -> Any:
        """What the work returns, Withdrawn or a Fault. Raises Preempted if it is to be begun again."""
        for path in (self.folder, self.home):
            if not path.is_dir():
                text = f"{socket.gethostname()} does not see {path}; it must lie on a disk that all nodes share"
                return Fault(text, ResourceError.exit_code)
        os.chdir(self.home)
        if (self.folder / STOP).exists():
            return Withdrawn()
        attempt = self._begin()
        signals = _Signals()
        with signals:
            try:
                watch = self._watch()
                value = self.work(self._notify, lambda: bool(signals.heard) or watch(), self.threads, attempt)
            except RasaError as fault:
                return Fault(str(fault), fault.exit_code)
        if signals.heard and not (self.folder / STOP).exists() and not ended(value):
            raise Preempted(signals.heard)
        return value

    def _begin(self) -> int:
        """Note that the work begins; for the how-many-th time."""
        path = self.folder / f"{self.ticket}{BEGUN}"
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{socket.gethostname()} {os.getpid()} {timestamp()}\n")
        return len(path.read_text(encoding="utf-8").splitlines())

    def _notify(self, line: str) -> None:
        with (self.folder / f"{self.ticket}{LOG}").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def _watch(self) -> Callable[[], bool]:
        """Whether the command that submitted the work wants it stopped; the disk is asked once a second."""
        asked, next_look = False, 0.0

        def watch() -> bool:
            nonlocal asked, next_look
            if not asked and time.monotonic() >= next_look:
                asked, next_look = (self.folder / STOP).exists(), time.monotonic() + LOOK
            return asked

        return watch


def ended(value: Any) -> bool:
    """Whether a work came to its own end: a run that was stopped has not."""
    return getattr(value, "state", "finished") not in ("interrupted", "running")


class _Signals:
    """While a work goes on: its end is asked for by these signals."""

    def __init__(self) -> None:
        self.heard = 0  # the first that came

    def __enter__(self) -> None:
        # Python hears signals in its main thread only; an engine that has another has its own ways to end a work.
        here = threading.current_thread() is threading.main_thread() and sys.platform != "win32"
        self._before = {number: signal.signal(number, self._hear) for number in (ENDING if here else ())}

    def __exit__(self, *fault: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard = self.heard or number


class Telling:
    """The folder, read by the command that submitted: what has begun, and what was said, each once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._attempts: dict[str, int] = {}
        self._read: dict[str, int] = {}  # bytes of each log

    def news(self, tickets: Sequence[str]) -> list[Event]:
        """What these have written since the last call."""
        there = {entry.name for entry in os.scandir(self.folder)}
        found = []
        for ticket in tickets:
            if f"{ticket}{BEGUN}" in there:
                found += self._began(ticket)
            if f"{ticket}{LOG}" in there:
                found += self._said(ticket)
        return found

    def begun(self, ticket: str) -> bool:
        """Whether a process has taken it."""
        return (self.folder / f"{ticket}{BEGUN}").exists()

    def stop(self) -> None:
        """Ask all works to stop."""
        (self.folder / STOP).touch()

    def _began(self, ticket: str) -> list[Event]:
        lines = (self.folder / f"{ticket}{BEGUN}").read_text(encoding="utf-8").splitlines()
        new = lines[self._attempts.get(ticket, 0) :]
        self._attempts[ticket] = len(lines)
        return [Event(ticket, "began", line.split()[0]) for line in new]

    def _said(self, ticket: str) -> list[Event]:
        with (self.folder / f"{ticket}{LOG}").open("rb") as file:
            file.seek(self._read.get(ticket, 0))
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]  # a line that is being written comes with the next look
        self._read[ticket] = self._read.get(ticket, 0) + len(whole)
        return [Event(ticket, "said", line) for line in whole.decode(errors="replace").splitlines()]


def told(ticket: str, value: Any) -> Event:
    """What a work returned, as an event."""
    return Event(ticket, "withdrawn") if isinstance(value, Withdrawn) else Event(ticket, "ended", value)
