"""Drives a study: gives trials to worker processes, reports, stops, ends and re-issues them, until the budget is spent.

Only the driver talks to the storage, so on one machine `--jobs N` needs no more of it than one job does.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.environment import cpu_count
from experiments.execution import begin
from experiments.outcome import NO_CALLBACKS, Outcome, Train
from experiments.plan import PlannedRun
from experiments.resources import writable
from experiments.rundir import read_points
from experiments.shared_disk import note_of
from experiments.stop import Stop
from rasa.errors import RasaError, RunFailed
from studies.liveness import BEAT_SECONDS
from studies.screen import Screen
from studies.study import SharedStudy
from studies.trials import tally
from studies.workers import Message, Validated, Worker

if TYPE_CHECKING:
    from optuna import Trial

POLL, LOOK = 0.5, 2.0  # seconds between looks at the clock, and at the storage while there is nothing to give out
DIED = "its process died (killed, or out of memory)"


class Active:
    """A trial on a worker."""

    def __init__(self, trial: "Trial", runs: list[PlannedRun], worker: Worker):
        self.trial, self.runs, self.worker = trial, runs, worker
        self.directories: list[Path] = []  # of the seeds that are measured
        self.reported: set[int] = set()  # steps
        self.stopped = False  # by the pruner
        self.waits_until: float | None = None  # its run is in another process's hands
        self.value: float | None = None
        self.beats = 0

    @property
    def run(self) -> PlannedRun:
        """The seed that it is at."""
        return self.runs[len(self.directories)]

    def progress(self) -> dict[str, Any]:
        """For other drivers, and for people."""
        self.beats += 1
        seed = min(len(self.directories), len(self.runs) - 1)
        run = self.runs[seed]
        epoch = len(_validations(run.directory)) if run.directory else 0
        return {
            "count": self.beats,
            "seed": seed,
            "seeds": len(self.runs),
            "epoch": epoch,
            "epochs": run.config.optimisation.epochs,
            "value": self.value,
        }


class Driver:
    """One driver's work on a study."""

    def __init__(
        self,
        shared: SharedStudy,
        total: int,
        jobs: int,
        screen: Screen,
        deliver: Callable[[], None],
        train: Train | None = None,
        environments: Sequence[Mapping[str, str]] = (),
        should_stop: Callable[[], bool] | None = None,
        threads: int | None = None,
    ):
        """`environments` are added to the workers' own, one to each; `should_stop` is asked in place of signals."""
        self._shared_study, self._total, self._screen, self._deliver, self._train = (
            shared,
            total,
            screen,
            deliver,
            train,
        )
        self._jobs, self._should_stop = jobs, should_stop
        self._threads = threads or max(1, cpu_count() // jobs)
        self._environments = [*environments, *[{}] * (jobs - len(environments))]  # that no worker has
        self._active: list[Active] = []
        self._free: list[Worker] = []
        self._look_at = self._beat_at = float("-inf")  # monotonic times of the next ones
        self._metric = shared.points.space.objectives[0].metric.removeprefix("val/")
        self._by_seed = shared.points.space.pruner.name == "wilcoxon"

    def run(self) -> None:
        """Go on until every trial of the budget has ended, also those of other drivers.

        The first SIGINT or SIGTERM checkpoints the trials and queues them anew, and raises KeyboardInterrupt. Raises
        ResourceError if the storage is away, RunFailed if trials fail in a row.
        """
        writable(self._shared_study.points.workspace)
        if note := note_of(self._shared_study.points.workspace):
            self._screen.notify(note)
        line = "stopping after a checkpoint; interrupt again to end at once"
        with Stop(lambda: self._screen.notify(line), instead=self._should_stop) as stop:
            try:
                while self._goes_on(stop):
                    self._receive(stop)
                    self._beat()
            finally:
                for worker in [*self._free, *(active.worker for active in self._active)]:
                    worker.close()
                self._give_back()
            if stop.asked:
                raise KeyboardInterrupt

    def _give_back(self) -> None:
        """Queue anew what is still active: a fault ends the drive, and these trials did not die of it."""
        from optuna.exceptions import UpdateFinishedTrialError

        for active in self._active:
            try:
                self._shared_study.again(active.trial, "its driver ended", died=False)
            except UpdateFinishedTrialError:
                continue
            except RasaError:
                return  # the storage is away; after a silence others will take these trials for dead

    def _goes_on(self, stop: Stop) -> bool:
        """Give out what there is; whether there is anything to wait for."""
        if stop.asked:
            for active in self._active:
                active.worker.stop()
            return bool(self._active)
        now = time.monotonic()
        if now < self._look_at:
            return True
        while len(self._active) < self._jobs and (trial := self._shared_study.next(self._total)) is not None:
            self._begin(trial)
        self._look_at = now + LOOK
        trials = self._shared_study.trials()
        counts = tally(trials)
        self._screen.show(trials, self._total)
        ended = self._shared_study.exhausted and not counts.running or counts.settled >= self._total
        return bool(self._active) or not ended

    def _begin(self, trial: "Trial") -> None:
        worker = self._free.pop() if self._free else Worker(self._environments.pop(0))
        active = Active(trial, self._shared_study.points.runs(trial.params), worker)
        self._active.append(active)
        self._screen.began(trial, active.runs)
        self._next_seed(active)
        self._deliver()

    def _next_seed(self, active: Active) -> None:
        """Train the seed that the trial is at, or end the trial if there is none, or none that is not measured."""
        while len(active.directories) < len(active.runs):
            found = self._shared_study.points.finished_elsewhere(active.run)
            if found is None:
                active.waits_until = None
                begin(active.run, NO_CALLBACKS)
                with suppress(OSError):  # a worker that has died says so by its pipe
                    active.worker.train(active.run, self._train, self._threads)
                return
            self._screen.notify(f"trial {active.trial.number}: {active.run.about.name} has been run before")
            self._report(active, found)
            active.directories.append(found)
        self._complete(active)

    def _receive(self, stop: Stop) -> None:
        """Take what the workers have sent, and try again what another process had in its hands."""
        pipes = {active.worker.messages: active for active in self._active if active.waits_until is None}
        if not pipes:
            time.sleep(POLL)
        ready = wait(list(pipes), timeout=POLL) if pipes else []
        for active in [active for pipe, active in pipes.items() if pipe in ready]:
            try:
                message: Message = active.worker.messages.recv()
            except (EOFError, OSError):
                self._died(active, stop)
                continue
            with self._ending(active):
                self._handle(active, message, stop)
        for active in list(self._active):
            until = active.waits_until
            if until is not None and (stop.asked or until < time.monotonic()):
                with self._ending(active):
                    self._next_seed(active)

    def _handle(self, active: Active, message: Message, stop: Stop) -> None:
        if isinstance(message, str):
            self._screen.notify(f"trial {active.trial.number}: {message}")
        elif isinstance(message, Validated):
            self._validated(active)
        elif message.state == "finished":
            self._measured(active)
        elif message.state == "failed":
            self._shared_study.fail(active.trial, message.message, self._epochs(active))
            self._ended(active, f"failed: {message.message}")
        elif message.state == "running":
            # A worker of a driver that died is at its last checkpoint, or `rasa run` is at it.
            active.waits_until = time.monotonic() + LOOK
        elif active.stopped:
            self._shared_study.prune(active.trial, self._epochs(active))
            self._ended(active, f"pruned after {self._epochs(active)} epochs")
        else:
            self._again(active, "interrupted", died=False)
            self._ended(active, "interrupted; the same command goes on from here", reuse=not stop.asked)

    def _validated(self, active: Active) -> None:
        """Report the epoch and answer the worker."""
        assert active.run.directory is not None
        worse = self._report(active, active.run.directory)
        epochs = len(_validations(active.run.directory))
        last = len(active.directories) == len(active.runs) - 1 and epochs >= active.run.config.optimisation.epochs
        active.stopped = worse and not last and not self._by_seed
        self._shared_study.beat(active.trial, active.progress())
        with suppress(OSError):  # as above
            active.worker.answer(active.stopped)

    def _measured(self, active: Active) -> None:
        assert active.run.directory is not None
        self._report(active, active.run.directory)
        active.directories.append(active.run.directory)
        if self._by_seed and self._worse_by_seed(active) and len(active.directories) < len(active.runs):
            self._shared_study.prune(active.trial, self._epochs(active))
            self._ended(active, f"pruned after {len(active.directories)} of {len(active.runs)} seeds")
        else:
            self._next_seed(active)

    def _report(self, active: Active, directory: Path) -> bool:
        """Report the epochs of the seed that the trial is at, each once; whether the pruner would stop it."""
        worse, before = False, len(active.directories) * active.run.config.optimisation.epochs
        for epoch, values in enumerate(_validations(directory), start=1):
            active.value = values.get(self._metric)
            if before + epoch not in active.reported and active.value is not None and not self._by_seed:
                active.reported.add(before + epoch)
                worse = self._shared_study.report(active.trial, before + epoch, active.value)
        return worse

    def _worse_by_seed(self, active: Active) -> bool:
        (value, *_), *_ = self._shared_study.measure(active.directories[-1:]).values
        return self._shared_study.report(active.trial, len(active.directories) - 1, value)

    def _complete(self, active: Active) -> None:
        try:
            measured = self._shared_study.measure(active.directories)
        except RunFailed as fault:
            self._shared_study.fail(active.trial, str(fault), self._epochs(active))
            self._ended(active, f"failed: {fault}")
            return
        self._shared_study.complete(active.trial, measured)
        self._ended(active, self._screen.values(measured.values))

    def _died(self, active: Active, stop: Stop) -> None:
        active.worker.close()
        reason = "interrupted" if stop.asked else DIED
        with self._ending(active):
            self._again(active, reason, died=not stop.asked)
        self._ended(active, reason, reuse=False)

    def _again(self, active: Active, reason: str, died: bool) -> None:
        if not self._shared_study.again(active.trial, reason, died):
            self._screen.notify(f"trial {active.trial.number}: given up, {reason} too often")

    @contextmanager
    def _ending(self, active: Active) -> Iterator[None]:
        """Inside, what may end the trial; one that another driver has given up is dropped, and its worker too."""
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            yield
        except UpdateFinishedTrialError:
            self._ended(active, "given up by another driver, which took this one for dead", reuse=False)
            active.worker.stop()

    def _ended(self, active: Active, how: str, reuse: bool = True) -> None:
        if active in self._active:
            self._active.remove(active)
            if reuse:
                self._free.append(active.worker)
            else:
                self._environments.append(active.worker.environment)
            self._look_at = float("-inf")
            self._screen.ended(active.trial, how)
            self._deliver()

    def _epochs(self, active: Active) -> int:
        every = [*active.directories, *([active.run.directory] if len(active.directories) < len(active.runs) else [])]
        return sum(len(_validations(directory)) for directory in every if directory is not None)

    def _beat(self) -> None:
        if time.monotonic() < self._beat_at:
            return
        self._beat_at = time.monotonic() + BEAT_SECONDS
        for active in list(self._active):
            with self._ending(active):
                self._shared_study.beat(active.trial, active.progress())


def _validations(directory: Path) -> list[dict[str, float]]:
    return [point.values for point in read_points(directory) if point.group == "val"]


__all__ = ["Driver", "Outcome"]
