"""Works in processes of this machine, each on the devices that it is given by CUDA_VISIBLE_DEVICES.

A process belongs to its devices and executes one work after another there. One that dies ends its own work alone.
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import NamedTuple, Self

from experiments.environment import cpu_count
from experiments.executors.interface import Event, Work
from experiments.places import Held, Places, Want, assign, environment_of
from experiments.workers import WorkerProcess, leave_signals_to_the_parent


class _Waiting(NamedTuple):
    ticket: str
    work: Work
    alone: bool


class _Busy:
    """A work in a process."""

    def __init__(self, ticket: str, held: Held, worker: WorkerProcess):
        self.ticket, self.held, self.worker = ticket, held, worker
        self.shared = False  # with others, at some time


class Local:
    """The executor `local`.

    `room` says how many works there is memory for, and None, which lets one go on, while that is not known.
    """

    def __init__(self, places: Places, room: Callable[[], int | None] | None = None):
        self._places, self._room = places, room
        self._numbers = count()
        self._waiting: deque[_Waiting] = deque()
        self._busy: dict[Connection, _Busy] = {}
        self._free: dict[tuple[str, ...], list[WorkerProcess]] = {}
        self._news: list[Event] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Have all processes end; those that have a work checkpoint it first."""
        self._waiting.clear()
        for worker in [*self._idle(), *(busy.worker for busy in self._busy.values())]:
            worker.stop()
        for worker in [*self._idle(), *(busy.worker for busy in self._busy.values())]:
            worker.close()

    def submit(self, works: Sequence[Work], alone: bool = False) -> list[str]:
        """As Executor; those that are to be alone come next."""
        waiting = [_Waiting(str(next(self._numbers)), work, alone) for work in works]
        if alone:
            self._waiting.extendleft(reversed(waiting))
        else:
            self._waiting.extend(waiting)
        return [each.ticket for each in waiting]

    def poll(self, seconds: float) -> list[Event]:
        """As Executor."""
        self._place()
        ready = wait(list(self._busy), timeout=0 if self._news else seconds)
        for messages in [messages for messages in self._busy if messages in ready]:
            self._receive(messages)
        news, self._news = self._news, []
        return news

    def cancel(self, tickets: Sequence[str]) -> None:
        """As Executor."""
        kept, wanted = deque[_Waiting](), set(tickets)
        for each in self._waiting:
            if each.ticket in wanted:
                self._news.append(Event(each.ticket, "withdrawn"))
            else:
                kept.append(each)
        self._waiting = kept
        for busy in self._busy.values():
            if busy.ticket in wanted:
                busy.worker.stop()

    def logs(self, ticket: str) -> str:
        """As Executor: nothing but what it said."""
        return "stderr"

    def _place(self) -> None:
        """Begin what there is a place for."""
        wanted = [Want(each.work.size if self._places.on_gpus else 1, each.alone) for each in self._waiting]
        room = self._places.jobs - len(self._busy)
        if self._room is not None and wanted and room > 0:
            room = min(room, (self._room() or 1) - len(self._busy))
        held = [busy.held for busy in self._busy.values()]
        found = assign(self._places.devices, self._places.per_device, held, wanted)
        left = deque[_Waiting]()
        for each, devices in zip(self._waiting, found, strict=True):
            if devices is None or room <= 0:
                left.append(each)
                continue
            room -= 1
            self._begin(each, devices)
        self._waiting = left
        if not left:  # an idle process on a GPU holds memory there
            for worker in self._idle():
                worker.close()
            self._free.clear()

    def _begin(self, each: _Waiting, devices: tuple[str, ...]) -> None:
        others = [busy for busy in self._busy.values() if set(busy.held.devices) & set(devices)]
        if each.alone:
            for at in [at for at in self._free if set(at) & set(devices)]:
                for worker in self._free.pop(at):
                    worker.close()
        free = self._free.get(devices)
        worker = free.pop() if free else WorkerProcess(_serve, environment_of(devices))
        busy = _Busy(each.ticket, Held(devices, each.alone), worker)
        busy.shared = bool(others)
        for other in others:
            other.shared = True
        self._busy[worker.messages] = busy
        where = f"GPU {', '.join(devices)}" if self._places.on_gpus else ""
        self._news.append(Event(each.ticket, "began", where))
        with suppress(OSError):  # one that has died says so by its pipe
            worker.send(each.work, self._threads())

    def _threads(self) -> int:
        """CPU threads of a work: an equal share, of the first one too, whose memory is not known yet."""
        at_a_time = (self._room and self._room()) or self._places.jobs
        return max(1, cpu_count() // max(1, at_a_time, len(self._busy)))

    def _receive(self, messages: Connection) -> None:
        busy = self._busy[messages]
        try:
            kind, content = messages.recv()
        except (EOFError, OSError):
            del self._busy[messages]
            busy.worker.close()
            why = f"its process died ({busy.worker.ending}: killed, or out of memory)"
            self._news.append(Event(busy.ticket, "died", why, busy.shared))
            return
        self._news.append(Event(busy.ticket, kind, content, busy.shared))
        if kind == "ended":
            del self._busy[messages]
            if busy.worker.stopped:
                busy.worker.close()
            else:
                self._free.setdefault(busy.held.devices, []).append(busy.worker)

    def _idle(self) -> list[WorkerProcess]:
        return [worker for workers in self._free.values() for worker in workers]


def _serve(tasks: Connection, messages: Connection) -> None:
    """In the process: execute what comes, until nothing more can."""
    leave_signals_to_the_parent()

    def notify(line: str) -> None:
        with suppress(OSError):  # nobody is left to hear it
            messages.send(("said", line))

    try:
        while True:
            work, threads = tasks.recv()
            messages.send(("ended", work(notify, tasks.poll, threads, 1)))
    except (EOFError, BrokenPipeError):
        return  # the parent is done, or dead
