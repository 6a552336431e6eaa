"""One study over the machines of a cluster: workers that an executor starts share its storage, this process follows.

Each worker is a driver of one job at a time, as `rasa study run` on another machine would be. The storage counts the
trials, so a worker that is lost loses none, and this process alone writes to the tracker.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from experiments import store
from experiments.executors.interface import Event, Executor, Fault
from experiments.outcome import Train
from experiments.places import CPU
from experiments.resources import check_resources
from experiments.rundir import STUDY_SUITE
from experiments.stop import Stop
from rasa.callbacks import Notify
from rasa.errors import RasaError, ResourceError, RunFailed
from studies.liveness import DriverLock, Watcher
from studies.points import Points
from studies.screen import Screen
from studies.session import filing, search
from studies.space import Space
from studies.storage import SQLITE_SCHEME, open_storage
from studies.study import SharedStudy

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

POLL, LOOK = 0.5, 2.0  # seconds between questions to the executor, and between looks at the storage


class Worked(NamedTuple):
    """How a worker ended."""

    state: str  # finished or interrupted


@dataclass(frozen=True)
class StudyWork:
    """A worker of a study, as an executor's work; `bound` is what makes its Points anew."""

    name: str
    bound: tuple[Space, str, tuple[str, ...], tuple[int, ...], Path, str]
    url: str | None
    total: int
    grace: float
    train: Train | None = None
    on_cpu: bool = False
    size: int = 1

    def __call__(
        self, notify: Notify, should_stop: Callable[[], bool], threads: int | None = None, attempt: int = 1
    ) -> Worked | Fault:
        """Train trials until the study has as many as it is to have."""
        try:
            search(
                Points(*self.bound),
                self.url,
                self.total,
                1,
                grace=self.grace,
                train=self.train,
                should_stop=should_stop,
                filed_elsewhere=True,
                threads=threads,
            )
        except KeyboardInterrupt:
            return Worked("interrupted")
        except RasaError as fault:
            return Fault(str(fault), fault.exit_code)
        return Worked("finished")


def spread(
    points: Points,
    url: str | None,
    total: int,
    jobs: int,
    start: Callable[[], Executor],
    start_from: tuple[str, ...] = (),
    grace: float = 120.0,
    tracking_uri: str | None = None,
    train: Train | None = None,
) -> "list[FrozenTrial]":
    """Bring the study to `total` trials with so many workers, and give all its trials.

    Raises SpecError, ResourceError, RunFailed (if the last worker ends by a fault) and KeyboardInterrupt; whatever
    ended it, the same call goes on.
    """
    if url is not None and url.startswith(SQLITE_SCHEME):
        raise ResourceError(
            "--storage: sqlite serves one driver; give journal:///FILE on a disk that all nodes share, or "
            "postgresql://USER@HOST/DATABASE"
        )
    uri = store.tracking_uri(points.workspace, tracking_uri)
    check_resources([run.config for run in points.runs(points.row_point() or points.first_point(), points.seeds[:1])])
    storage = open_storage(url, points.workspace)
    with DriverLock(points.workspace) as driver, Screen(points.space) as screen:
        shared = SharedStudy(points, storage, driver.name, Watcher(points.workspace, grace), screen.notify)
        for suite in start_from:
            screen.notify(f"{shared.start_from(suite)} points of {suite} count as trials")
        name = points.suite_name.removeprefix(STUDY_SUITE)
        bound = (points.space, points.profile, points.overrides, points.seeds, points.workspace, name)
        on_cpu = points.row_config.optimisation.device == CPU
        names = [f"{points.name} worker {number + 1}" for number in range(jobs)]
        works = [StudyWork(name, bound, url, total, grace, train, on_cpu) for name in names]
        line = "stopping after a checkpoint; interrupt again to end at once"
        with (
            filing(shared, storage, uri, screen.notify) as file,
            Stop(lambda: screen.notify(line)) as stop,
            start() as executor,
        ):
            faults = _Followed(shared, screen, executor, file, total).until_all_have_ended(works, stop)
            file()
        if stop.asked:
            raise KeyboardInterrupt
        if len(faults) == jobs:  # one that is left brings the study to its end
            error = RunFailed(faults[-1].text)
            error.exit_code = faults[-1].exit_code
            raise error
        return shared.trials()


class _Followed:
    """The workers of a study, from here."""

    def __init__(self, shared: SharedStudy, screen: Screen, executor: Executor, file: Callable[[], None], total: int):
        self._shared, self._screen, self._executor, self._file, self._total = shared, screen, executor, file, total

    def until_all_have_ended(self, works: list[StudyWork], stop: Stop) -> list[Fault]:
        """Follow them; the faults that ended workers."""
        tickets = dict(zip(self._executor.submit(works), works, strict=True))
        faults: list[Fault] = []
        cancelled, look_at = False, 0.0
        while tickets:
            if stop.asked and not cancelled:
                self._executor.cancel(list(tickets))
                cancelled = True
            for event in self._executor.poll(POLL):
                logs = self._executor.logs(event.ticket)
                if (fault := self._hear(tickets[event.ticket], event, logs)) is not None:
                    faults.append(fault)
                if event.kind in ("ended", "died", "withdrawn"):
                    del tickets[event.ticket]
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + LOOK
                self._screen.show(self._shared.trials(), self._total)
                self._file()
        return faults

    def _hear(self, work: StudyWork, event: Event, logs: str) -> Fault | None:
        """Tell of an event; the fault that it is, if it is one."""
        said = {
            "began": f"begins on {event.content}",
            "said": str(event.content),
            "withdrawn": "withdrawn before it began",
            "died": f"{event.content}; its log: {logs}",
            "ended": event.content.text if isinstance(event.content, Fault) else "has ended",
        }[event.kind]
        self._screen.notify(f"{work.name}: {said}")
        if event.kind == "died":
            return Fault(f"{work.name}: {said}", RunFailed.exit_code)
        return event.content if event.kind == "ended" and isinstance(event.content, Fault) else None
