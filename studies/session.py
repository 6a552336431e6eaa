"""One `rasa study run`: the storage, this driver's mark, the tracker and the drive, in this order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from experiments import store
from experiments.outcome import Train
from experiments.resources import check_resources
from experiments.trials import StudyRecord, TrialRecord, deliver_study
from experiments.uploader import Tracker, Uploader
from rasa.callbacks import Notify
from rasa.errors import SpecError
from studies.driver import Driver
from studies.liveness import DRIVER, DriverLock, Watcher
from studies.points import Points
from studies.screen import Screen
from studies.storage import FILING, Storage, open_storage, remember
from studies.study import SharedStudy
from studies.trials import EPOCHS, IMPORTED, REASON, RETRY_OF, SECONDS, SKIPPED, fixed, states

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from optuna.trial import FrozenTrial


def search(
    points: Points,
    url: str | None,
    total: int,
    jobs: int,
    start_from: Sequence[str] = (),
    grace: float = 120.0,
    tracking_uri: str | None = None,
    train: Train | None = None,
    environments: Sequence[Mapping[str, str]] = (),
    should_stop: Callable[[], bool] | None = None,
    filed_elsewhere: bool = False,
    threads: int | None = None,
) -> "list[FrozenTrial]":
    """Bring the study to `total` trials and give all its trials.

    `filed_elsewhere`: another process brings them to the tracker. `should_stop` is asked in place of signals. `threads`
    are a worker's, on a CPU; without them the cores are shared out.

    Raises SpecError, ResourceError, RunFailed and KeyboardInterrupt; whatever ended it, the same call goes on.
    """
    uri = store.tracking_uri(points.workspace, tracking_uri)
    check_resources([run.config for run in points.runs(points.row_point() or points.first_point(), points.seeds[:1])])
    storage = open_storage(url, points.workspace)
    if url is not None:
        remember(points.workspace, points.name, url)
    with storage.driving(), DriverLock(points.workspace) as driver, Screen(points.space) as screen:
        shared = SharedStudy(points, storage, driver.name, Watcher(points.workspace, grace), screen.notify)
        for suite in start_from:
            screen.notify(f"{shared.start_from(suite)} points of {suite} count as trials")
        if filed_elsewhere:
            Driver(shared, total, jobs, screen, lambda: None, train, environments, should_stop, threads).run()
        else:
            with filing(shared, storage, uri, screen.notify) as file:
                Driver(shared, total, jobs, screen, file, train, environments, should_stop, threads).run()
                file()
        if shared.exhausted:
            screen.notify(f"{points.name}: no point is left, or none is found, that has not been tried")
        trials = shared.trials()
        if shared.exhausted and all(SKIPPED in trial.user_attrs for trial in trials):
            raise SpecError(f"{points.space.file}: no point of {len(trials)} could be trained: {_why_not(trials)}")
        return trials


@contextmanager
def filing(shared: SharedStudy, storage: Storage, uri: str, notify: Notify) -> Iterator[Callable[[], None]]:
    """Inside, what asks for the study to be filed in the tracker, in the background."""
    tracker = Tracker(uri, shared.points.workspace, notify)
    tracker.open()  # here and now: a fresh store is made by one process, before there are several
    with Uploader(lambda folder: tracker.use(lambda client: _deliver(client, uri, shared, storage))) as uploader:
        yield lambda: uploader.ask(shared.points.workspace)


def _why_not(trials: "Sequence[FrozenTrial]") -> str:
    return "; ".join(sorted({str(trial.user_attrs[SKIPPED]) for trial in trials})[:3])


def _deliver(client: "MlflowClient", uri: str, shared: SharedStudy, storage: Storage) -> None:
    """Bring MLflow up to date with the storage; one driver at a time, so that no trial is filed twice."""
    with storage.exclusive(FILING):  # not the trials' lock: a slow tracker must hold up no search
        deliver_study(client, uri, shared.points.workspace, record(shared, storage))


def record(shared: SharedStudy, storage: Storage) -> StudyRecord:
    """The study as the tracker files it."""
    points, trials = shared.points, shared.trials()
    of = states(trials)
    metrics = [objective.metric for objective in points.space.objectives]
    return StudyRecord(
        name=points.name,
        suite=points.suite_name,
        profile=points.profile,
        title=points.space.title,
        storage=storage.shown,
        row=points.space.row,
        directions={objective.metric: objective.way for objective in points.space.objectives},
        space=points.space.model_dump(mode="json"),
        trials=[_trial(trial, of[trial.number], metrics) for trial in trials],
    )


def _trial(trial: "FrozenTrial", state: str, metrics: Sequence[str]) -> TrialRecord:
    attributes = trial.user_attrs
    figures = dict(zip(metrics, trial.values or (), strict=False)) if trial.state.name == "COMPLETE" else {}
    figures |= {f"trial/{name}": float(attributes[name]) for name in (SECONDS, EPOCHS) if name in attributes}
    why = attributes.get(REASON) or attributes.get(SKIPPED) or ""
    return TrialRecord(
        number=trial.number,
        state=state,
        optuna_state=trial.state.name.lower(),
        params=dict(fixed(trial)),
        figures=figures,
        curve={step: value for step, value in trial.intermediate_values.items()},
        curve_metric=metrics[0],
        tags={
            "reason": str(why),
            "driver": str(attributes.get(DRIVER, "")),
            "retry_of": str(attributes.get(RETRY_OF, "")),
            "imported": str(attributes.get(IMPORTED, "")),
        },
        started=trial.datetime_start.timestamp() if trial.datetime_start else None,
        ended=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
    )
