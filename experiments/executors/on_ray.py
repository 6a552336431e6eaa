"""Works as tasks of a Ray cluster: an existing one by its address, or one that this command starts and ends.

A task takes its GPUs and CPU cores as Ray's resources. One whose node is lost is begun again by Ray, on another node.
"""

import os
import secrets
import socket
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from experiments.executors.interface import Event, Work
from experiments.executors.remote import Preempted, RemoteWork, Telling, new_folder, told
from rasa.errors import ResourceError

EXTRA = "pip install 'rasa-ablations[ray]'"
LOCAL = "local"  # a cluster of this command's own
KNOCK = 10  # seconds in which a cluster's address is to answer
RETRIES = 3  # of a work whose process or node is lost


class _Task(NamedTuple):
    work: RemoteWork
    alone: bool


class Ray:
    """The executor `ray`; `jobs` works at a time, or as many as the cluster has room for, `per_device` on a GPU."""

    def __init__(self, workspace: Path, address: str | None, jobs: int | None, per_device: int | None):
        self._ray = connected(address)
        # One function for all tasks, or Ray takes them in any order. A process per task: what one leaves in memory, or
        # on a GPU, is no later one's.
        self._call = self._ray.remote(max_calls=1)(_call)
        totals = self._ray.cluster_resources()
        self._cores, self._gpus = int(totals.get("CPU", 1)), int(totals.get("GPU", 0))
        if per_device is not None and not self._gpus:
            self._ray.shutdown()
            raise ResourceError(f"--per-device {per_device}: the Ray cluster has no GPU; leave it out")
        self._jobs, self._per_device = jobs, per_device or 1
        self._telling = Telling(new_folder(workspace, "ray"))
        self._numbers = count()
        self._waiting: deque[tuple[str, _Task]] = deque()
        self._running: dict[Any, str] = {}  # tickets by object reference
        self._withdrawn: list[Event] = []
        self._shared: dict[str, bool] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the cluster; works that still go on are asked to stop, and end with this command at the latest."""
        if self._running:
            self._telling.stop()
        self._ray.shutdown()

    def submit(self, works: Sequence[Work], alone: bool = False) -> list[str]:
        """As Executor. Raises ResourceError for a work that no node can hold."""
        tickets = []
        for work in works:
            if self._on_gpus(work):
                self._check_size(work)
            ticket = str(next(self._numbers))
            remote = RemoteWork(work, self._telling.folder, ticket)
            (self._waiting.appendleft if alone else self._waiting.append)((ticket, _Task(remote, alone)))
            tickets.append(ticket)
        return tickets

    def poll(self, seconds: float) -> list[Event]:
        """As Executor."""
        self._start()
        ready: list[Any] = []
        if self._running:
            ready, _ = self._ray.wait(
                list(self._running), num_returns=len(self._running), timeout=seconds, fetch_local=False
            )
        events = self._telling.news(list(self._running.values()))
        events += [self._ended(reference) for reference in ready]
        withdrawn, self._withdrawn = self._withdrawn, []
        return events + withdrawn

    def cancel(self, tickets: Sequence[str]) -> None:
        """As Executor."""
        self._telling.stop()
        wanted = set(tickets)
        self._withdrawn += [Event(ticket, "withdrawn") for ticket, _ in self._waiting if ticket in wanted]
        self._waiting = deque(each for each in self._waiting if each[0] not in wanted)
        for reference, ticket in self._running.items():
            if ticket in wanted and not self._telling.begun(ticket):
                self._ray.cancel(reference)  # the cluster may be full of others' work for hours

    def logs(self, ticket: str) -> str:
        """As Executor."""
        return f"{self._telling.folder}/{ticket}.log"

    def _start(self) -> None:
        """Hand to Ray what may go on now; Ray says when and where."""
        while self._waiting and (self._jobs is None or len(self._running) < self._jobs):
            ticket, task = self._waiting.popleft()
            work, cores = task.work.work, self._cores_of(task.work.work)
            gpus = 0.0
            if self._on_gpus(work):
                gpus = work.size / (1 if task.alone or work.size > 1 else self._per_device)
            self._shared[ticket] = 0 < gpus < 1
            call = self._call.options(name=work.name, num_cpus=cores, num_gpus=gpus, max_retries=RETRIES)
            self._running[call.remote(replace(task.work, threads=cores))] = ticket

    def _cores_of(self, work: Work) -> int:
        """CPU cores of a work: one for each process, or more where `--jobs` leaves them free."""
        share = self._cores // self._jobs if self._jobs else self._cores // self._gpus if self._on_gpus(work) else 1
        return max(1, min(share, self._most("CPU")))

    def _on_gpus(self, work: Work) -> bool:
        return self._gpus > 0 and not work.on_cpu

    def _check_size(self, work: Work) -> None:
        if (most := self._most("GPU")) < work.size:
            raise ResourceError(f"--devices {work.size}: no node of the Ray cluster has more than {most} GPUs")

    def _most(self, kind: str) -> int:
        """What the largest node has."""
        return max((int(node["Resources"].get(kind, 0)) for node in self._ray.nodes() if node["Alive"]), default=0)

    def _ended(self, reference: Any) -> Event:
        ticket = self._running.pop(reference)
        errors = self._ray.exceptions
        try:
            return told(ticket, self._ray.get(reference))._replace(shared=self._shared[ticket])
        except errors.TaskCancelledError:
            return Event(ticket, "withdrawn")
        except errors.OutOfMemoryError:
            return Event(ticket, "died", "Ray ended it, for its node was out of memory")
        except (errors.RayError, ImportError) as fault:
            return Event(ticket, "died", f"Ray lost it {RETRIES + 1} times ({_first_line(fault)})")


def connected(address: str | None) -> Any:
    """The library, connected. Raises ResourceError with one line: not installed, nobody there, another version."""
    address = address or os.environ.get("RAY_ADDRESS") or LOCAL
    # Read by Ray when it is imported. Nothing is told to anybody outside, and a cluster of our own, whose ports other
    # machines may reach, asks for a token that nobody else has.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address == LOCAL and "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise ResourceError(f"--executor ray: Ray is not installed; {EXTRA}") from error
    settings: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
    if address not in (LOCAL, "auto"):
        _knock(address)
    try:
        ray.init(address, logging_level="ERROR", log_to_driver=False, **settings)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
        said = f"{_first_line(error)}; give HOST:PORT, auto or local"
        if "AuthToken" in str(error):
            said = "it asks for a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN as they are there"
        raise ResourceError(f"--ray-address: {address}: {said}") from error
    # Of a lost worker Ray prints a page on stdout, which is data here; the events of a work say it in a line.
    printer: Any = import_module("ray._private.worker")
    printer._worker_logs_enabled = False
    return ray


def _knock(address: str) -> None:
    """See whether anybody is there at all: Ray itself tries for five minutes. Raises ResourceError."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise ResourceError(f"--ray-address: {address!r}: give HOST:PORT, auto or local")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK).close()
    except (OSError, OverflowError) as error:
        raise ResourceError(f"--ray-address: {address}: {error}; give HOST:PORT, auto or local") from error


def _call(work: RemoteWork) -> Any:
    """In the task's process, of which it is the only task."""
    try:
        return work()
    except Preempted:
        sys.stdout.flush()
        os._exit(1)  # to Ray a lost process: the work is begun again


def _first_line(fault: BaseException) -> str:
    return (str(fault).strip() or type(fault).__name__).splitlines()[0][:200]
