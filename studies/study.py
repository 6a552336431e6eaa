"""A study in a storage: asks for points and keeps count of them, whoever dies, however many drivers there are.

What must not happen twice (the next trial, the end of one, the retry of a dead one) happens under the storage's lock.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.rundir import RESULT, read_points, read_result
from rasa.errors import RunFailed, SpecError
from studies.liveness import BEAT, DRIVER, Watcher
from studies.other_drivers import end_as_failed, set_attribute
from studies.points import Points, point_name
from studies.samplers import make_pruner, make_sampler
from studies.space import Sampler
from studies.storage import TRIALS, Storage, faults
from studies.trials import (
    DEATHS,
    EPOCHS,
    IDENTITY,
    IMPORTED,
    OPTIONS,
    POINT,
    REASON,
    RETRY_OF,
    SECONDS,
    SEEDS,
    SKIPPED,
    SPACE,
    VALUES,
    fixed,
    tally,
    visited,
)

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

REPEATS = 10  # repeated points in a row after which one is drawn at random
LARGE = 10_000  # points from which on a finite space is not gone through
FRUITLESS = 100  # points in a row that cannot be trained after which there are none
MAX_DEATHS = 3  # of one trial's process before it is given up
FAILURES = 5  # trials in a row that fail for their own reason before the study does


class Measured(NamedTuple):
    """What training a point gave, seed by seed."""

    values: list[list[float]]  # by seed, by objective
    figures: dict[str, float]  # means over seeds, by metric
    seconds: float
    epochs: int


class SharedStudy:
    """One study, as one driver sees it. Raises SpecError, ResourceError and RunFailed with one line."""

    def __init__(self, points: Points, storage: Storage, driver: str, watcher: Watcher, notify: Callable[[str], None]):
        self.points, self.storage, self._driver, self._watcher, self._notify = points, storage, driver, watcher, notify
        self._distributions = {name: p.distribution() for name, p in points.space.parameters.items()}
        self.exhausted = False
        with faults(storage.shown), storage.exclusive(TRIALS):
            self.study = self._open()

    def trials(self) -> "list[FrozenTrial]":
        """All trials, by number."""
        with faults(self.storage.shown):
            return self.study.get_trials(deepcopy=False)

    def start_from(self, suite: str) -> int:
        """Add what finished runs of a suite have measured as complete trials; how many are new.

        A point that was not trained with all the study's seeds is none, since its mean could not be compared, nor is
        one that breaks a constraint.
        """
        import optuna

        added = partial = 0
        with self._alone():
            known = visited(self.trials(), len(self._distributions))
            for name, point, directories in self.points.finished_rows(suite):
                if point_name(point) in known:
                    continue
                if len(directories) < len(self.points.seeds):
                    partial += 1
                    continue
                if not self.points.allows(point):
                    continue
                measured = self.measure(directories)
                if any(excess > 0 for excess in self.points.over(measured.figures).values()):
                    continue
                attributes = {IMPORTED: name, POINT: point_name(point), **_attributes(measured)}
                self.study.add_trial(
                    optuna.create_trial(
                        params=point,
                        distributions=self._distributions,
                        values=_means(measured.values),
                        user_attrs=attributes,
                        intermediate_values=self._curve(directories),
                    )
                )
                added += 1
        if partial:
            self._notify(
                f"{partial} points of {suite} were not trained with all seeds, {', '.join(map(str, self.points.seeds))}"
            )
        return added

    def next(self, total: int) -> "Trial | None":
        """The next trial to train, owned by this driver; None if the budget is spent, or given out.

        Dead trials of other drivers are found here, and given out again.
        """
        with self._alone():
            self._reap()
            for attempt in range(FRUITLESS):
                trials = self.trials()
                counts = tally(trials)
                if self.exhausted and not counts.waiting:
                    return None
                if counts.settled + counts.running >= total:
                    return None
                tried = visited(trials, len(self._distributions))
                if not counts.waiting and self.points.space.size is not None and len(tried) >= self.points.space.size:
                    break
                if attempt == REPEATS and (self.points.space.size or LARGE) < LARGE and not counts.waiting:
                    left = self.points.untried(tried)
                    if not left:
                        break
                    self.study.enqueue_trial(left[len(trials) % len(left)])
                trial = self._ask(len(trials), at_random=attempt >= REPEATS)
                if (reason := self._unfit(trial, tried)) is None:
                    return trial
                self._skip(trial, reason)
            self.exhausted = True
        return None

    def beat(self, trial: "Trial", progress: Mapping[str, Any]) -> None:
        """Say that the trial is alive, and how far it is. Raises UpdateFinishedTrialError if others gave it up."""
        with faults(self.storage.shown):
            trial.set_user_attr(BEAT, dict(progress))

    def report(self, trial: "Trial", step: int, value: float) -> bool:
        """Note a value of validation; whether the trial should stop. Raises UpdateFinishedTrialError."""
        if len(self.points.space.objectives) > 1:
            return False
        with faults(self.storage.shown):
            trial.report(value, step)
            return trial.should_prune()

    def measure(self, directories: Sequence[Path]) -> Measured:
        """What the results of a point's runs say; never anything of the test split. Raises RunFailed."""
        results = [read_result(directory / RESULT) or {} for directory in directories]
        figures = [_figures(result) for result in results]
        metrics = [objective.metric for objective in self.points.space.objectives]
        means = {
            name: sum(each[name] for each in figures) / len(figures)
            for name in set.intersection(*(set(each) for each in figures))
        }
        seconds = sum(float(result.get("cost", {}).get("seconds") or 0) for result in results)
        epochs = sum(int(result.get("last", {}).get("epoch") or 0) for result in results)
        bounded = [str(c.metric) for c in self.points.space.constraints if c.metric is not None]
        if missing := [metric for metric in (*metrics, *bounded) if metric not in means]:
            raise RunFailed(f"its result has no {', '.join(missing)}")
        return Measured([[each[metric] for metric in metrics] for each in figures], means, seconds, epochs)

    def complete(self, trial: "Trial", measured: Measured) -> None:
        """End a trial with its mean over seeds."""
        with self._alone():
            for name, excess in self.points.over(measured.figures).items():
                trial.set_constraint(name, excess)
            self._note(trial, _attributes(measured))
            self.study.tell(trial, _means(measured.values))

    def prune(self, trial: "Trial", epochs: int) -> None:
        """End a trial that its pruner has stopped."""
        from optuna.trial import TrialState

        with self._alone():
            self._note(trial, {EPOCHS: epochs})
            self.study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: "Trial", reason: str, epochs: int) -> None:
        """End a trial that failed for a reason of its own, and would again. Raises RunFailed if all of them do."""
        with self._alone():
            self._note(trial, {EPOCHS: epochs})
            self._fail(trial, reason)
        last = [t for t in self.trials() if t.state.is_finished() and SKIPPED not in t.user_attrs][-FAILURES:]
        if len(last) == FAILURES and tally(last).failed == FAILURES:
            raise RunFailed(f"{FAILURES} trials in a row failed, the last one so: {reason}")

    def again(self, trial: "Trial", reason: str, died: bool) -> bool:
        """Give the trial out again, from its checkpoint, under a new number; False if it has died too often."""
        from optuna.exceptions import UpdateFinishedTrialError

        with self._alone():
            record = self.trials()[trial.number]
            if record.state.is_finished():
                raise UpdateFinishedTrialError(f"trial {trial.number} was ended by another driver")
            return self._retry(record, reason, died)

    def _curve(self, directories: Sequence[Path]) -> dict[int, float]:
        """What a trial would have reported of these runs; nothing if they are not all of its seeds."""
        space = self.points.space
        if len(directories) < len(self.points.seeds) or len(space.objectives) > 1:
            return {}
        if space.pruner.name == "wilcoxon":
            return {number: values[0] for number, values in enumerate(self.measure(directories).values)}
        name = space.objectives[0].metric.removeprefix("val/")
        points = [point for folder in directories for point in read_points(folder) if point.group == "val"]
        return {step: point.values[name] for step, point in enumerate(points, start=1) if name in point.values}

    def _open(self) -> "Study":
        import optuna

        points, space = self.points, self.points.space
        pruner = make_pruner(space.pruner, points.epochs, len(points.seeds))
        study = optuna.create_study(
            storage=self.storage.optuna,
            sampler=make_sampler(space.sampler, 0),
            pruner=pruner,
            study_name=points.name,
            directions=[objective.way for objective in space.objectives],
            load_if_exists=True,
        )
        identity = points.identity()
        options = {"profile": points.profile, "overrides": list(points.overrides)}
        if (before := study.user_attrs.get(IDENTITY)) is not None:
            points.refuse_other(before, identity, self.storage.shown)
            if study.user_attrs.get(OPTIONS) != options:
                study.set_user_attr(OPTIONS, options)
            return study
        for point in self._first_points():
            study.enqueue_trial(dict(point))
        study.set_user_attr(OPTIONS, options)
        study.set_user_attr(SPACE, space.model_dump(mode="json"))
        study.set_user_attr(IDENTITY, identity)  # last: a study that was cut off before it is begun anew
        return study

    def _first_points(self) -> list[Mapping[str, Any]]:
        space = self.points.space
        row = self.points.row_point() if space.start_at_row else None
        points = ([row] if row is not None else []) + [dict(point) for point in space.start_at]
        fit = [point for point in points if self.points.allows(point)]
        return list({point_name(point): point for point in fit}.values())

    def _ask(self, number: int, at_random: bool) -> "Trial":
        sampler = self.points.space.sampler
        self.study.sampler = make_sampler(Sampler(name="random", seed=sampler.seed) if at_random else sampler, number)
        trial = self.study.ask(self._distributions)
        self._note(trial, {DRIVER: self._driver, POINT: point_name(trial.params), SEEDS: list(self.points.seeds)})
        return trial

    def _unfit(self, trial: "Trial", tried: Mapping[str, int]) -> str | None:
        """Why a point is not trained; None if it is."""
        first = tried.get(point_name(trial.params), trial.number)
        if first != trial.number:
            return f"repeats trial {first}"
        broken = self.points.broken(trial.params)
        for name, excess in broken.items():
            trial.set_constraint(name, excess)
        if over := [name for name, excess in broken.items() if excess > 0]:
            return f"outside {', '.join(over)}"
        try:
            self.points.runs(trial.params)
        except SpecError as fault:
            return str(fault)
        return None

    def _skip(self, trial: "Trial", reason: str) -> None:
        from optuna.trial import TrialState

        self._note(trial, {SKIPPED: reason})
        # A pruned trial tells the sampler that the point is bad; a repeated one must tell it nothing.
        infeasible = reason.startswith("outside")
        self.study.tell(trial, state=TrialState.PRUNED if infeasible else TrialState.FAIL)

    def _reap(self) -> None:
        from optuna.trial import TrialState

        running = [trial for trial in self.trials() if trial.state == TrialState.RUNNING]
        for trial in self._watcher.dead(running, self._driver):
            kept = self._retry(trial, "its driver died", died=True)
            self._notify(f"trial {trial.number}: its driver died" + ("; it will be gone on with" if kept else ""))

    def _retry(self, trial: "FrozenTrial", reason: str, died: bool) -> bool:
        """Fail a trial and queue it anew, unless that is done, or hopeless. First the new one: none may be lost."""
        import optuna

        deaths, point = int(trial.user_attrs.get(DEATHS, 0)) + died, fixed(trial)
        again, hopeless = {RETRY_OF: trial.number, DEATHS: deaths}, deaths > MAX_DEATHS
        if len(point) < len(self._distributions):
            set_attribute(self.study, trial, SKIPPED, "cut off before it had a point")
        elif not hopeless and all(other.user_attrs.get(RETRY_OF) != trial.number for other in self.trials()):
            self.study.add_trial(
                optuna.create_trial(
                    state=optuna.trial.TrialState.WAITING,
                    params=dict(point),
                    distributions=self._distributions,
                    user_attrs=again,
                )
            )
        self._fail(trial, f"{reason}, {deaths} times" if hopeless else reason)
        return not hopeless

    def _fail(self, trial: "Trial | FrozenTrial", reason: str) -> None:
        set_attribute(self.study, trial, REASON, reason)
        end_as_failed(self.study, trial)

    def _note(self, trial: "Trial", attributes: Mapping[str, Any]) -> None:
        for name, value in attributes.items():
            trial.set_user_attr(name, value)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with faults(self.storage.shown), self.storage.exclusive(TRIALS):
            yield


def _figures(result: Mapping[str, Any]) -> dict[str, float]:
    """Validation of the selected epoch, and cost: all that a search may see."""
    groups = {"val": result.get("selected", {}).get("val", {}), "cost": result.get("cost", {})}
    return {f"{group}/{name}": float(v) for group, values in groups.items() for name, v in values.items()}


def _means(values: Sequence[Sequence[float]]) -> list[float]:
    return [sum(of_objective) / len(values) for of_objective in zip(*values, strict=True)]


def _attributes(measured: Measured) -> dict[str, Any]:
    return {VALUES: measured.values, SECONDS: measured.seconds, EPOCHS: measured.epochs}
