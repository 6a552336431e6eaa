"""The processes that train a study's runs. Each validation is answered by the driver: go on, or stop at once.

The answer is waited for, so a pruned trial never trains into the epoch after. Otherwise as experiments/workers.py: a
worker's death ends its pipe, and the driver's death ends the worker, with a checkpoint.
"""

import multiprocessing
import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import NamedTuple

from experiments.execution import run_one
from experiments.outcome import Outcome, Train
from experiments.plan import PlannedRun


class Validated(NamedTuple):
    """An epoch's figures; the worker waits for an answer."""

    step: int
    values: dict[str, float]


Message = Validated | Outcome | str


class Worker:
    """A process that trains one run after the other."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        tasks, self._tasks = context.Pipe(duplex=False)
        self.messages, messages = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(tasks, messages))  # no daemon: loading may want children
        self._process.start()
        tasks.close()
        messages.close()  # so that the worker's death ends the pipe

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def train(self, run: PlannedRun, train: Train | None, threads: int) -> None:
        """Begin a run. Raises OSError if the worker has died."""
        self._tasks.send((run, train, threads))

    def answer(self, stop: bool) -> None:
        """Let the run go on after a validation, or stop it. Raises OSError if the worker has died."""
        self._tasks.send(stop)

    def stop(self) -> None:
        """Have the run that it has checkpointed and stopped; the worker ends then."""
        self._tasks.close()

    def close(self) -> None:
        """Let the worker end, and wait for it."""
        self._tasks.close()
        self._process.join()
        self.messages.close()


def _serve(tasks: Connection, messages: Connection) -> None:
    """In the worker: train what comes, until nothing more can."""
    # A terminal's Ctrl-C reaches the whole group, but only the driver decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def on_metrics(group: str, step: int, values: dict[str, float]) -> None:
        if group != "val":
            return
        try:
            messages.send(Validated(step, values))
            stop = tasks.recv()
        except (EOFError, OSError):
            return  # the driver is done, or dead: the next step checkpoints and stops
        if stop:
            raise KeyboardInterrupt

    def notify(line: str) -> None:
        with suppress(OSError):  # nobody is left to hear it
            messages.send(line)

    try:
        while True:
            run, train, threads = tasks.recv()
            messages.send(run_one(run, on_metrics, notify, tasks.poll, train, threads))
    except (EOFError, OSError):
        return
