"""How a study is filed in MLflow: experiment = study, parent run = the study, child run = trial with its true state.

Part of the one writer (experiments/tracking.py), whose tags it shares. The study's storage is the truth: a delivery
compares every trial with what MLflow has and sends what differs, so a tracker that was away loses nothing.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.asking import pages
from experiments.store import ACTIVE, experiment_of, parent_lock
from experiments.tracking import KIND, PARAM_LENGTH, PARENT, PROFILE, ROW, STATE, SUITE, TITLE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STUDY, STORAGE, DIRECTIONS = "rasa.study", "rasa.storage", "rasa.directions"
TRIAL, OPTUNA_STATE = "rasa.trial", "rasa.optuna_state"
KIND_STUDY, KIND_TRIAL = "study", "trial"
# MLflow knows no pruned run: a trial that was stopped on purpose is KILLED there, and its tag says pruned.
STATUSES = {"waiting": "SCHEDULED", "running": "RUNNING", "complete": "FINISHED", "pruned": "KILLED", "fail": "FAILED"}


class TrialRecord(NamedTuple):
    """A trial as its study's storage has it. `state` is ours (retried, skipped, ...), `optuna_state` Optuna's."""

    number: int
    state: str
    optuna_state: str
    params: dict[str, Any]
    figures: dict[str, float]
    curve: dict[int, float]  # the first objective by step
    curve_metric: str
    tags: dict[str, str]
    started: float | None
    ended: float | None


class StudyRecord(NamedTuple):
    """A study as its storage has it."""

    name: str
    suite: str
    profile: str
    title: str
    storage: str
    row: str
    directions: dict[str, str]
    space: dict[str, Any]
    trials: list[TrialRecord]


def deliver_study(client: "MlflowClient", uri: str, workspace: Path, study: StudyRecord) -> None:
    """Bring MLflow up to date with the study. The caller holds the study's lock; raises the store's faults."""
    with parent_lock(uri, workspace):
        experiment = experiment_of(client, uri, workspace, study.suite)
        parent = _parent(client, experiment, workspace, study)
    filed = _filed(client, experiment, parent)
    for trial in study.trials:
        run = filed.get(trial.number)
        if (
            run is None
            or run.data.tags.get(STATE) != trial.state
            or run.data.tags.get(OPTUNA_STATE) != trial.optuna_state
        ):
            _send(client, experiment, parent, study, trial, run)
    _end_parent(client, parent, study)


def _parent(client: "MlflowClient", experiment: str, workspace: Path, study: StudyRecord) -> str:
    # A storage in the workspace is named as from there: both may be moved together.
    storage = study.storage.replace(f"{workspace.resolve()}/", "")
    tags = {KIND: KIND_STUDY, STUDY: study.name, STORAGE: storage}
    if found := next(pages(client, experiment, tags), None):
        return str(found.info.run_id)
    tags |= {SUITE: study.suite, PROFILE: study.profile, TITLE: study.title, ROW: study.row}
    tags |= {DIRECTIONS: json.dumps(study.directions)}
    run = client.create_run(experiment, run_name=study.name, tags=tags).info.run_id
    client.log_dict(run, study.space, "space.json")
    return run


def _filed(client: "MlflowClient", experiment: str, parent: str) -> "dict[int, Run]":
    """The study's trials that MLflow has, by number; deleted ones included, so that they are not filed again."""
    return {int(run.data.tags[TRIAL]): run for run in pages(client, experiment, {PARENT: parent}, deleted=True)}


def _send(
    client: "MlflowClient", experiment: str, parent: str, study: StudyRecord, trial: TrialRecord, run: "Run | None"
) -> None:
    from mlflow.entities import Metric, Param, RunTag

    if run is not None and run.info.lifecycle_stage != ACTIVE:
        return
    if run is None:
        tags = {KIND: KIND_TRIAL, STUDY: study.name, SUITE: study.suite, PROFILE: study.profile, PARENT: parent}
        tags |= {TRIAL: str(trial.number), STATE: "waiting"}
        started = round(trial.started * 1000) if trial.started else None
        run = client.create_run(experiment, start_time=started, run_name=f"trial-{trial.number}", tags=tags)
    now = round((trial.ended or trial.started or 0) * 1000) or run.info.start_time
    metrics = [Metric(f"curve/{trial.curve_metric}", value, now, step) for step, value in trial.curve.items()]
    metrics += [Metric(name, value, now, 0) for name, value in trial.figures.items()]
    params = [Param(name, str(value)[:PARAM_LENGTH]) for name, value in trial.params.items()]
    tags = {f"rasa.{name}": value[:PARAM_LENGTH] for name, value in trial.tags.items()}
    client.log_batch(run.info.run_id, metrics=metrics, params=params, tags=[RunTag(*tag) for tag in tags.items()])
    status = STATUSES[trial.optuna_state]
    if status in ("RUNNING", "SCHEDULED"):
        client.update_run(run.info.run_id, status=status)
    else:
        client.set_terminated(run.info.run_id, status, now)
    # Last: a delivery that was cut off is seen by the state's tag, and made again.
    states = {STATE: trial.state, OPTUNA_STATE: trial.optuna_state}
    client.log_batch(run.info.run_id, tags=[RunTag(*tag) for tag in states.items()])


def _end_parent(client: "MlflowClient", parent: str, study: StudyRecord) -> None:
    status = "RUNNING" if any(trial.state in ("running", "waiting") for trial in study.trials) else "FINISHED"
    if client.get_run(parent).info.status == status:
        return
    if status == "RUNNING":
        client.update_run(parent, status=status)
    else:
        client.set_terminated(parent, status)
