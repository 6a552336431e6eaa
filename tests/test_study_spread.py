"""`rasa study run --executor`: a study in processes that an engine starts, followed from one that trains none."""

from collections import Counter
from pathlib import Path

import pytest

from experiments import store
from experiments.executors.choice import elsewhere
from experiments.options import Where
from rasa.errors import ResourceError, RunFailed
from studies.points import Points
from studies.spread import StudyWork, spread
from studies.storage import open_storage
from studies.trials import tally
from tests.helpers.searching import killed_once, points, trainer

ROOT = Path(__file__).parent.parent
MISSING = "submitit is not installed; pip install 'rasa-ablations[slurm]'"


@pytest.fixture
def bound(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return points(tmp_path)


def start(bound, cluster="local"):
    pytest.importorskip("submitit", reason=MISSING)
    return elsewhere(Where(2, executor="slurm", slurm=(f"cluster={cluster}",)), bound.workspace)


def test_two_workers_bring_a_study_to_its_end_and_one_process_files_it(bound):
    """Six trials, each once, by two drivers; MLflow has them all, though no worker has written to it."""
    found = spread(bound, None, 6, 2, start(bound), train=trainer)
    assert tally(found).complete == 6
    drivers = Counter(trial.user_attrs["driver"] for trial in found)
    assert len(drivers) == 2 and sum(drivers.values()) == 6
    assert len({tuple(sorted(trial.params.items())) for trial in found}) == 6
    client = store.open_store(store.tracking_uri(bound.workspace, None))
    (experiment,) = [e for e in client.search_experiments() if e.name.startswith("study.")]
    trials = [run for run in client.search_runs([experiment.experiment_id]) if "mlflow.parentRunId" in run.data.tags]
    assert len(trials) == 6 and {run.info.status for run in trials} == {"FINISHED"}


@pytest.mark.slow
def test_trials_whose_processes_are_killed_are_tried_again(bound):
    found = spread(bound, None, 3, 2, start(bound), train=killed_once)
    assert tally(found).complete == 3 and any("retry_of" in trial.user_attrs for trial in found)


def always_fails(*arguments, **named):
    raise RunFailed("loss is nan at epoch 1, step 3")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # submitit leaves its log files open
def test_a_study_whose_every_worker_ends_by_a_fault_ends_with_its_line(bound):
    with pytest.raises(RunFailed, match="trials failed in a row|loss is nan"):
        spread(bound, None, 20, 1, start(bound, "debug"), train=always_fails)


def test_sqlite_is_refused_before_anything_is_submitted(bound):
    with pytest.raises(ResourceError, match="--storage: sqlite serves one driver; give journal:///FILE"):
        spread(bound, f"sqlite:///{bound.workspace}/s.db", 4, 2, lambda: pytest.fail("submitted"))
    assert not (bound.workspace / "executors").exists()


def test_a_worker_makes_the_same_points_and_stops_when_it_is_asked_to(bound):
    name = bound.suite_name.removeprefix("study.")
    parts = (bound.space, bound.profile, bound.overrides, bound.seeds, bound.workspace, name)
    assert Points(*parts).name == bound.name and Points(*parts).seeds == bound.seeds
    work = StudyWork("toy worker 1", parts, None, 4, 120.0, trainer)
    assert work(print, lambda: True).state == "interrupted"
    counts = tally(open_storage(None, bound.workspace).optuna.get_all_trials(0)) if _studies(bound) else None
    assert counts is None or not counts.complete
    assert work(print, lambda: False).state == "finished"
    assert tally(open_storage(None, bound.workspace).optuna.get_all_trials(0)).complete == 4


def _studies(bound):
    return open_storage(None, bound.workspace).optuna.get_all_studies()
