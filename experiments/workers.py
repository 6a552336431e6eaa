"""Several runs at once, one process each. A worker that dies fails its own run; the others go on.

Plain processes and pipes: a pool is broken as a whole by the death of one process, and its processes outlive a
parent that is killed. Here a worker stops, with a checkpoint, once the pipe that brings its tasks is closed: on
purpose, or by the parent's death.
"""

import multiprocessing
import signal
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait

from experiments.environment import cpu_count
from experiments.execution import begin, failed, run_one
from experiments.outcome import Callbacks, Outcome, Train, not_reached, stopped
from experiments.plan import PlannedRun
from experiments.rundir import Follower
from experiments.stop import Stop
from rasa.errors import RunFailed

POLL = 0.5  # seconds between looks at the running ones' figures


class Worker:
    """A process that executes one run after the other."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        tasks, self.tasks = context.Pipe(duplex=False)
        self.results, results = context.Pipe(duplex=False)
        # Not a daemon: those may have no children, and loading images may want some.
        self._process = context.Process(target=_serve, args=(tasks, results))
        self._process.start()
        tasks.close()
        results.close()  # so that the worker's death ends the pipe

    def close(self) -> None:
        """Let the worker end; a run that it has is checkpointed."""
        self.tasks.close()
        self._process.join()
        self.results.close()


def run_all(
    todo: Sequence[tuple[int, PlannedRun]], jobs: int, callbacks: Callbacks, stop: Stop, train: Train | None
) -> dict[int, Outcome]:
    """Execute the runs, `jobs` at a time; outcomes by the runs' numbers."""
    waiting, outcomes = deque(todo), {number: not_reached(run) for number, run in todo}
    threads = max(1, cpu_count() // max(1, jobs))
    free = [Worker() for _ in range(jobs)]
    busy: dict[Connection, Job] = {}
    try:
        while busy or (waiting and not stop.asked):
            if stop.asked:
                for job in busy.values():
                    job.worker.tasks.close()
            while waiting and free and not stop.asked:
                job = Job(*waiting.popleft(), free.pop(), callbacks)
                job.worker.tasks.send((job.run, train, threads))
                busy[job.worker.results] = job
            ready = wait(list(busy), timeout=POLL)
            for job in busy.values():
                job.report()
            for results in [results for results in busy if results in ready]:
                if (outcome := busy[results].hear(stop)) is not None:
                    job = busy.pop(results)
                    outcomes[job.number] = outcome
                    free.append(job.worker)
    finally:
        for worker in [*free, *(job.worker for job in busy.values())]:
            worker.close()
    return outcomes


class Job:
    """A run in a worker, followed through its directory."""

    def __init__(self, number: int, run: PlannedRun, worker: Worker, callbacks: Callbacks):
        self.number, self.run, self.worker, self._callbacks = number, run, worker, callbacks
        self._directory = begin(run, callbacks)
        self._follower, self._silent = Follower(self._directory), True

    def report(self) -> None:
        """Pass on the figures that have arrived since the last look."""
        points = self._follower.new()
        for point in points:
            self._callbacks.on_metrics(self.run.about, point.group, point.step, point.values)
        if points and (self._silent or any(point.group == "val" for point in points)):
            self._callbacks.deliver(self._directory)
            self._silent = False

    def hear(self, stop: Stop) -> Outcome | None:
        """What the worker sent: None for a line, which is passed on, or the outcome. A worker that died is replaced."""
        try:
            outcome: Outcome | str = self.worker.results.recv()
            if isinstance(outcome, str):
                self._callbacks.notify(f"{self.run.about.name}: {outcome}")
                return None
        except (EOFError, OSError):
            died = RunFailed("its process died (killed, or out of memory); `rasa run` goes on from the last checkpoint")
            outcome = stopped(self.run) if stop.asked else failed(self.run, died)
            self.worker.close()
            self.worker = Worker()
        self._callbacks.on_end(outcome)
        if outcome.state != "running":
            self._callbacks.deliver(self._directory)
        return outcome


def _serve(tasks: Connection, results: Connection) -> None:
    """In the worker: execute what comes, until nothing more can."""
    # A terminal's Ctrl-C, and its end, reach the whole group, but only the parent decides what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        while True:
            run, train, threads = tasks.recv()
            results.send(run_one(run, lambda *figures: None, results.send, tasks.poll, train, threads))
    except (EOFError, BrokenPipeError):
        return  # the parent is done, or dead
