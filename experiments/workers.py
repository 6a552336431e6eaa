"""Processes that execute one thing after another. One that dies takes nothing with it but what it had.

Plain processes and pipes: a pool is broken as a whole by the death of one process, and its processes outlive a
parent that is killed. Here a worker stops, with a checkpoint, once the pipe that brings its tasks is closed: on
purpose, or by the parent's death.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any


class WorkerProcess:
    """A process in which `serve(tasks, messages)` goes on; the pipes' other ends are here.

    `environment` is added to its own.
    """

    def __init__(self, serve: Callable[[Connection, Connection], None], environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        tasks, self._tasks = context.Pipe(duplex=False)
        self.messages, messages = context.Pipe(duplex=False)
        # Not a daemon: those may have no children, and loading images may want some.
        self._process = context.Process(target=_start, args=(serve, tasks, messages, dict(environment)))
        self._process.start()
        tasks.close()
        messages.close()  # so that the worker's death ends the pipe
        self.environment, self.stopped = environment, False

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def ending(self) -> str:
        """How the process ended, once it is closed: `SIGKILL`, or `exit code 1`."""
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def send(self, *task: Any) -> None:
        """Give it something to do. Raises OSError if the worker has died."""
        self._tasks.send(task)

    def stop(self) -> None:
        """Have the run that it has checkpointed and stopped; the worker ends then."""
        self.stopped = True
        self._tasks.close()

    def close(self) -> None:
        """Let the worker end, and wait for it."""
        self._tasks.close()
        self._process.join()
        self.messages.close()


def leave_signals_to_the_parent() -> None:
    """In a worker: a terminal, or a scheduler, signals all processes at once; what it means, the parent alone says."""
    for name in ("SIGINT", "SIGHUP", "SIGTERM", "SIGUSR2"):
        if hasattr(signal, name):  # Windows has but some of them
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _start(
    serve: Callable[[Connection, Connection], None],
    tasks: Connection,
    messages: Connection,
    environment: dict[str, str],
) -> None:
    """In the worker: which GPUs there are is settled before anything could look."""
    os.environ.update(environment)
    serve(tasks, messages)
