"""The processes that train a study's runs. Each validation is answered by the driver: go on, or stop at once.

The answer is waited for, so a pruned trial never trains into the epoch after. Otherwise as experiments/workers.py: a
worker's death ends its pipe, and the driver's death ends the worker, with a checkpoint.
"""

from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import NamedTuple

from experiments.execution import run_one
from experiments.outcome import Outcome, Train
from experiments.plan import PlannedRun
from experiments.worker_log import output_kept
from experiments.workers import WorkerProcess, leave_signals_to_the_parent


class Validated(NamedTuple):
    """An epoch's figures; the worker waits for an answer."""

    step: int
    values: dict[str, float]


Message = Validated | Outcome | str


class Worker(WorkerProcess):
    """A process that trains one run after the other, and asks after each validation."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(_serve, environment)

    def train(self, run: PlannedRun, train: Train | None, threads: int) -> None:
        """Begin a run. Raises OSError if the worker has died."""
        self.send(run, train, threads)

    def answer(self, stop: bool) -> None:
        """Let the run go on after a validation, or stop it. Raises OSError if the worker has died."""
        self._tasks.send(stop)


def _serve(tasks: Connection, messages: Connection) -> None:
    """In the worker: train what comes, until nothing more can."""
    leave_signals_to_the_parent()

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
            with output_kept(run.directory):
                outcome = run_one(run, on_metrics, notify, tasks.poll, train, threads)
            messages.send(outcome)
    except (EOFError, OSError):
        return
