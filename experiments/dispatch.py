"""Planned runs through an executor: each is followed through its directory, and its end is told.

One that fails stops no other.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from experiments.devices import processes_of
from experiments.execution import failed, prepare, run_one
from experiments.executors.interface import Event, Executor, Fault
from experiments.outcome import Callbacks, Died, Outcome, Train, finished, not_reached, stopped
from experiments.places import CPU
from experiments.plan import PlannedRun, state_of
from experiments.rundir import RESULT, Follower, read_result
from experiments.stop import Stop
from experiments.worker_log import output_kept, said
from rasa.callbacks import Notify
from rasa.errors import RasaError, RunFailed

POLL = 0.5  # seconds between looks at the running ones' figures
PATIENCE = 120  # seconds in which what had a run before lets go of it: a machine that is lost holds its lock a while


@dataclass(frozen=True)
class RunWork:
    """A run as an executor's work; `train` defaults to the real trainer."""

    run: PlannedRun
    train: Train | None = None
    again: bool = False  # whether a process had it before that died

    @property
    def name(self) -> str:
        """Of the run."""
        return self.run.about.name

    @property
    def size(self) -> int:
        """Devices that train it."""
        return processes_of(self.train)

    @property
    def on_cpu(self) -> bool:
        """Whether its config asks for the CPU."""
        return self.run.config.optimisation.device == CPU

    def __call__(
        self, notify: Notify, should_stop: Callable[[], bool], threads: int | None = None, attempt: int = 1
    ) -> Outcome:
        """Bring the run to its end in this process, unless another one has it."""
        assert self.run.directory is not None
        deadline = time.monotonic() + (PATIENCE if attempt > 1 or self.again else 0)
        try:
            prepare(self.run)
        except RasaError as fault:
            return failed(self.run, fault)
        while True:
            with output_kept(self.run.directory):
                outcome = run_one(self.run, lambda *figures: None, notify, should_stop, self.train, threads)
            if outcome.state != "running" or should_stop() or time.monotonic() >= deadline:
                return outcome
            time.sleep(1)


def run_all(
    todo: Sequence[tuple[int, PlannedRun]],
    executor: Executor,
    callbacks: Callbacks,
    stop: Stop,
    train: Train | None,
    retries: int = 0,
) -> dict[int, Outcome]:
    """Have the runs executed, those that died again up to `retries` times; outcomes by the runs' numbers."""
    outcomes = {number: not_reached(run) for number, run in todo}
    if not todo or stop.asked:
        return outcomes
    tickets = executor.submit([RunWork(run, train) for _, run in todo])
    jobs = {ticket: Job(number, run, callbacks, retries) for ticket, (number, run) in zip(tickets, todo, strict=True)}
    cancelled = False
    while jobs:
        if stop.asked and not cancelled:
            executor.cancel(list(jobs))
            cancelled = True
        events = executor.poll(POLL)
        for job in jobs.values():
            job.report()
        for event in events:
            job = jobs[event.ticket]
            if event.kind == "withdrawn":
                del jobs[event.ticket]
            elif (outcome := job.hear(event, executor.logs(event.ticket), stop)) is not None:
                del jobs[event.ticket]
                if job.moves(outcome, event, stop):
                    (ticket,) = executor.submit([RunWork(job.run, train)], alone=True)
                    jobs[ticket] = job
                elif job.tries_again(outcome, stop):
                    # After the others: what they use may be free by then.
                    (ticket,) = executor.submit([RunWork(job.run, train, again=True)])
                    jobs[ticket] = job
                else:
                    outcomes[job.number] = outcome
                    job.end(outcome)
    return outcomes


class Job:
    """A run that an executor has, followed through its directory."""

    def __init__(self, number: int, run: PlannedRun, callbacks: Callbacks, retries: int):
        assert run.directory is not None
        self.number, self.run, self._callbacks = number, run, callbacks
        self._directory, self._follower = run.directory, Follower(run.directory)
        self._begun, self._silent, self._moved = False, True, False
        self._retries, self._attempt = retries, 1

    def report(self) -> None:
        """Pass on the figures that have arrived since the last look."""
        if not self._begun:
            return
        points = self._follower.new()
        for point in points:
            self._callbacks.on_metrics(self.run.about, point.group, point.step, point.values)
        if points and (self._silent or any(point.group == "val" for point in points)):
            self._callbacks.deliver(self._directory)
            self._silent = False

    def hear(self, event: Event, logs: str, stop: Stop) -> Outcome | None:
        """What an event says of the run; its outcome if that is its end."""
        if event.kind == "began":
            self._begin(event.content)
        elif event.kind == "said":
            self._callbacks.notify(f"{self.run.about.name}: {event.content}")
        elif event.kind == "died":
            return self._outcome_of_death(str(event.content), logs, stop)
        else:
            self.report()
            if isinstance(event.content, Fault):
                error = RunFailed(event.content.text)
                error.exit_code = event.content.exit_code
                return failed(self.run, error)
            outcome: Outcome = event.content
            return outcome
        return None

    def moves(self, outcome: Outcome, event: Event, stop: Stop) -> bool:
        """Whether the run is to go on with its device for itself: once, and only if others were there."""
        if not outcome.out_of_memory or not event.shared or self._moved or stop.asked:
            return False
        self._moved = True
        self._callbacks.notify(
            f"{self.run.about.name}: out of memory beside other runs; it goes on from its last checkpoint with its "
            f"device for itself ({outcome.message})"
        )
        return True

    def tries_again(self, outcome: Outcome, stop: Stop) -> bool:
        """Whether a run that died is to be tried again. One that failed by itself would fail again."""
        if not outcome.died or self._attempt > self._retries or stop.asked:
            return False
        self._attempt += 1
        self._callbacks.notify(
            f"{self.run.about.name}: {outcome.message}; attempt {self._attempt} of {self._retries + 1} follows"
        )
        return True

    def end(self, outcome: Outcome) -> None:
        """Tell of the end."""
        self._callbacks.on_end(outcome)
        if outcome.state != "running":
            self._callbacks.deliver(self._directory)

    def _begin(self, where: str) -> None:
        if self._begun:
            if where:
                self._callbacks.notify(f"{self.run.about.name}: goes on ({where})")
            return
        self._begun = True
        self._callbacks.on_start(self.run)
        if where:
            self._callbacks.notify(f"{self.run.about.name}: on {where}")
        if self.run.state == "stale":
            for old in self._directory.parent.glob(f"{self._directory.name}.stale-*"):
                self._callbacks.deliver(old)

    def _outcome_of_death(self, why: str, logs: str, stop: Stop) -> Outcome:
        """Its directory is the truth: what died may have done all before."""
        if state_of(self._directory)[0] == "finished":
            return finished(self.run.about, self._directory, read_result(self._directory / RESULT) or {})
        if stop.asked:
            return stopped(self.run)
        printed = said(self._directory)
        where = f"; its output: {printed}" if printed else "" if logs == "stderr" else f"; its log: {logs}"
        return failed(self.run, Died(f"{why}; `rasa run` goes on from the last checkpoint{where}"))
