"""Several runs at once, one process each. A worker that dies fails its own run; the others go on.

Plain processes and pipes: a pool is broken as a whole by the death of one process, and its processes outlive a
parent that is killed. Here a worker stops, with a checkpoint, once the pipe that brings its tasks is closed: on
purpose, or by the parent's death.
"""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait

from experiments.environment import cpu_count
from experiments.execution import begin, failed, run_one
from experiments.outcome import Callbacks, Outcome, Train, not_reached, stopped
from experiments.plan import PlannedRun
from experiments.rundir import Follower
from experiments.stop import Stop
from rasa.errors import RunFailed

POLL = 0.5  # seconds between looks at the running ones' figures


class WorkerProcess:
    """A process that executes one run after the other: `serve(tasks, messages)` in it, the pipes' other ends here."""

    def __init__(self, serve: Callable[[Connection, Connection], None]) -> None:
        context = multiprocessing.get_context("spawn")
        tasks, self._tasks = context.Pipe(duplex=False)
        self.messages, messages = context.Pipe(duplex=False)
        # Not a daemon: those may have no children, and loading images may want some.
        self._process = context.Process(target=serve, args=(tasks, messages))
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

    def stop(self) -> None:
        """Have the run that it has checkpointed and stopped; the worker ends then."""
        self._tasks.close()

    def close(self) -> None:
        """Let the worker end, and wait for it."""
        self._tasks.close()
        self._process.join()
        self.messages.close()


def leave_signals_to_the_parent() -> None:
    """In a worker: a terminal's Ctrl-C, and its end, reach the whole group, but only the parent says what they mean."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def run_all(
    todo: Sequence[tuple[int, PlannedRun]], jobs: int, callbacks: Callbacks, stop: Stop, train: Train | None
) -> dict[int, Outcome]:
    """Execute the runs, `jobs` at a time; outcomes by the runs' numbers."""
    waiting, outcomes = deque(todo), {number: not_reached(run) for number, run in todo}
    threads = max(1, cpu_count() // max(1, jobs))
    free = [WorkerProcess(_serve) for _ in range(jobs)]
    busy: dict[Connection, Job] = {}
    try:
        while busy or (waiting and not stop.asked):
            if stop.asked:
                for job in busy.values():
                    job.worker.stop()
            while waiting and free and not stop.asked:
                job = Job(*waiting.popleft(), free.pop(), callbacks)
                job.worker.train(job.run, train, threads)
                busy[job.worker.messages] = job
            ready = wait(list(busy), timeout=POLL)
            for job in busy.values():
                job.report()
            for results in [results for results in busy if results in ready]:
                if (outcome := busy[results].receive(stop)) is not None:
                    job = busy.pop(results)
                    outcomes[job.number] = outcome
                    free.append(job.worker)
    finally:
        for worker in [*free, *(job.worker for job in busy.values())]:
            worker.close()
    return outcomes


class Job:
    """A run in a worker, followed through its directory."""

    def __init__(self, number: int, run: PlannedRun, worker: WorkerProcess, callbacks: Callbacks):
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

    def receive(self, stop: Stop) -> Outcome | None:
        """What the worker sent: None for a line, which is passed on, or the outcome. A worker that died is replaced."""
        try:
            outcome: Outcome | str = self.worker.messages.recv()
            if isinstance(outcome, str):
                self._callbacks.notify(f"{self.run.about.name}: {outcome}")
                return None
        except (EOFError, OSError):
            died = RunFailed("its process died (killed, or out of memory); `rasa run` goes on from the last checkpoint")
            outcome = stopped(self.run) if stop.asked else failed(self.run, died)
            self.worker.close()
            self.worker = WorkerProcess(_serve)
        self._callbacks.on_end(outcome)
        if outcome.state != "running":
            self._callbacks.deliver(self._directory)
        return outcome


def _serve(tasks: Connection, results: Connection) -> None:
    """In the worker: execute what comes, until nothing more can."""
    leave_signals_to_the_parent()
    try:
        while True:
            run, train, threads = tasks.recv()
            results.send(run_one(run, lambda *figures: None, results.send, tasks.poll, train, threads))
    except (EOFError, BrokenPipeError):
        return  # the parent is done, or dead
