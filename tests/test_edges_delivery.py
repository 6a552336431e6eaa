"""What a store has is asked of the store: emptied, moved and copied workspaces, lost answers,
one run's damage, many runs."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from experiments import store
from experiments.asking import pages
from experiments.filed import Filed
from experiments.outcome import NO_CALLBACKS
from experiments.rundir import METRICS, RESULT, TRACKING, read_json, write_json
from experiments.runner import execute
from experiments.uploader import Tracker, sync
from tests.helpers.stand_in import stops_at_step_7, trainer
from tests.helpers.tracked import children, planned


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace with two finished rows of two seeds, delivered to its own store; tests copy it."""
    workspace = tmp_path_factory.mktemp("made") / "old"
    workspace.mkdir()
    tracker = Tracker(store.default_uri(workspace), workspace, print)
    callbacks = NO_CALLBACKS._replace(deliver=tracker.deliver)
    execute(planned(workspace, "cl", "itm", seeds=[0, 1]), workspace, callbacks=callbacks, train=trainer)
    return workspace


@pytest.fixture
def copy(made, tmp_path):
    """A copy of it elsewhere; the original stays, so that what is written there would show."""
    return Path(shutil.copytree(made, tmp_path / "new o'ld"))


def opened(workspace):
    return store.open_store(store.default_uri(workspace))


def figures(client):
    """Every metric's history, by row and seed, as the store has it."""
    found = {}
    for run in children(client):
        key = (run.data.tags["rasa.row"], run.data.tags["rasa.seed"])
        assert key not in found, f"{key} is there twice"
        names = sorted(run.data.metrics)
        found[key] = {n: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, n)] for n in names}
    return found


def files_of(workspace):
    return {
        path: path.stat().st_mtime_ns
        for path in workspace.rglob("*")
        if path.is_file() and "mlflow.db" not in path.name
    }


def test_an_emptied_store_is_filled_again_and_never_claimed(copy):
    before = figures(opened(copy))
    store_file = copy / "mlflow.db"
    # A store of the same address that has nothing: what a server that was reset is.
    with sqlite3.connect(store_file) as connection:
        for table in ("metrics", "latest_metrics", "params", "tags", "inputs", "runs", "experiment_tags"):
            connection.execute(f"delete from {table}")
        connection.execute("delete from experiments where name = 'table4'")
    shutil.rmtree(copy / "mlartifacts")
    assert sync(copy, store.default_uri(copy), print) == (4, 0, 4)
    assert figures(opened(copy)) == before
    assert sync(copy, store.default_uri(copy), print) == (4, 0, 4)
    assert figures(opened(copy)) == before


def test_a_copied_workspace_syncs_nothing_twice_and_writes_nothing_into_the_old_place(made, copy):
    there = files_of(made)
    before = figures(opened(made))
    assert sync(copy, store.default_uri(copy), print) == (4, 0, 4)
    client = opened(copy)
    assert figures(client) == before
    (one,) = planned(copy, "p-itm")
    tracker = Tracker(store.default_uri(copy), copy, print)
    execute([one], copy, callbacks=NO_CALLBACKS._replace(deliver=tracker.deliver), train=trainer)
    (run,) = children(client, row="p-itm")
    (old,) = children(client, row="cl", seed="0")
    for record in (run, old):
        assert (copy / "mlartifacts" / record.info.run_id / "artifacts" / RESULT).is_file()
        assert record.info.artifact_uri.startswith((copy / "mlartifacts").as_uri())
    assert files_of(made) == there
    assert str(made) not in str([run.data.tags["rasa.directory"] for run in children(client)])


def test_elsewhere_and_back_is_still_once(copy):
    first, second = store.default_uri(copy), f"{store.SQLITE}{copy / 'other.db'}"
    before = figures(opened(copy))
    assert sync(copy, second, print) == (4, 0, 4)
    assert figures(store.open_store(second)) == before
    assert sync(copy, first, print) == (4, 0, 4)
    assert figures(opened(copy)) == before


def test_without_its_notes_a_running_run_goes_on_where_the_store_stands(copy):
    tracker = Tracker(store.default_uri(copy), copy, print)
    (run,) = planned(copy, "mlm")
    execute([run], copy, callbacks=NO_CALLBACKS._replace(deliver=tracker.deliver), train=stops_at_step_7)
    (run.directory / TRACKING).unlink()
    execute(planned(copy, "mlm"), copy, callbacks=NO_CALLBACKS._replace(deliver=tracker.deliver), train=trainer)
    assert [step for step, _ in figures(opened(copy))["mlm", "0"]["train/loss"]] == list(range(10))


def test_what_lost_answers_made_twice_is_there_once_after_the_next_look(copy):
    client, uri = opened(copy), store.default_uri(copy)
    experiment = client.get_experiment_by_name("table4").experiment_id
    (child,) = children(client, row="cl", seed="0")
    parent = client.get_run(child.data.tags["mlflow.parentRunId"])
    own = ("mlflow.user", "mlflow.source", "mlflow.runName")
    tags = {name: value for name, value in child.data.tags.items() if not name.startswith(own)}
    client.create_run(experiment, run_name="seed-0", tags=tags | {"rasa.state": "running"})
    again = {name: value for name, value in parent.data.tags.items() if not name.startswith(own)}
    client.create_run(experiment, run_name="cl", tags=again)
    assert sync(copy, uri, print) == (4, 0, 4)
    (kept,) = children(client, row="cl", seed="0")
    assert kept.info.run_id == child.info.run_id
    filed = Filed(client, uri, copy)
    kinds = {"rasa.kind": "row", "rasa.row": "cl"}
    common = {name: parent.data.tags[name] for name in ("rasa.kind", "rasa.suite", "rasa.row", "rasa.row_digest")}
    assert filed.parent(experiment, "cl", common, {}) == parent.info.run_id
    assert [run.info.run_id for run in pages(client, experiment, kinds)] == [parent.info.run_id]


def test_a_run_that_failed_again_while_the_tracker_was_away_is_brought_up_to_date(copy):
    def fails_later(config, directory, log, **rest):
        log("train", 3, {"loss": 0.5})
        raise ZeroDivisionError("again")

    def fails(config, directory, log, **rest):
        log("train", 0, {"loss": 1.0})
        raise ZeroDivisionError("once")

    uri = store.default_uri(copy)
    execute(
        planned(copy, "f-rtd"),
        copy,
        callbacks=NO_CALLBACKS._replace(deliver=Tracker(uri, copy, print).deliver),
        train=fails,
    )
    (run,) = planned(copy, "f-rtd")
    (run.directory / "failure.json").write_text('{"message": "again", "time": "2030-01-01T00:00:00+00:00"}')
    with (run.directory / METRICS).open("a") as file:
        file.write('{"group": "train", "step": 3, "values": {"loss": 0.5}, "time": 1900000000.0}\n')
    assert sync(copy, uri, print) == (5, 0, 5)
    assert figures(opened(copy))["f-rtd", "0"]["train/loss"] == [(0, 1.0), (3, 0.5)]


def test_one_damaged_run_holds_up_no_other(copy):
    client, uri = opened(copy), store.default_uri(copy)
    for run in children(client):
        client.delete_run(run.info.run_id)
        client.delete_run(run.data.tags["mlflow.parentRunId"]) if run.data.tags["rasa.seed"] == "0" else None
    fresh = f"{store.SQLITE}{copy / 'fresh.db'}"
    (cl0, itm0, _, _) = (run.directory for run in planned(copy, "cl", "itm", seeds=[0, 1]))
    with (cl0 / METRICS).open("ab") as file:
        file.write(b'\0\0\0\0\n{"group": 3, "step": "x"}\n{"group": "tr')
    write_json(itm0 / RESULT, read_json(itm0 / RESULT) | {"test": ["r1", 50]})
    lines = []
    there, _, total = sync(copy, fresh, lines.append)
    assert (there, total) == (4, 4)
    assert any("table4/cl" in line and "2 damaged lines" in line for line in lines)
    found = figures(store.open_store(fresh))
    assert [step for step, _ in found["cl", "0"]["train/loss"]] == list(range(10))
    assert sync(copy, uri, print) == (0, 4, 4)  # deleted by a person there: they stay so, and are not called delivered


def test_a_sqlite_address_is_whole_so_that_another_folder_means_no_other_store(copy, monkeypatch):
    monkeypatch.chdir(copy)
    uri = store.tracking_uri(Path(), "sqlite:///mlflow.db")
    monkeypatch.chdir("/")
    assert sync(copy, uri, print) == (4, 0, 4)
    assert len(figures(store.open_store(uri))) == 4


def test_a_whole_sync_leaves_an_ordinary_file_and_rows_that_stand_as_their_seeds(copy):
    uri = f"{store.SQLITE}{copy / 'bulk.db'}"
    sync(copy, uri, print)
    with sqlite3.connect(copy / "bulk.db") as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("delete",)
    client = store.open_store(uri)
    experiment = client.get_experiment_by_name("table4").experiment_id
    rows = list(pages(client, experiment, {"rasa.kind": "row"}))
    assert sorted((run.info.run_name, run.info.status) for run in rows) == [
        (f"{row} (optimisation.epochs=2)", "FINISHED") for row in ("cl", "itm")
    ]


@pytest.mark.parametrize("sign", ["'", "#", ";", "&"])
def test_a_workspace_may_have_any_sign_in_its_path(tmp_path, sign):
    workspace = tmp_path / f"a{sign}b"
    workspace.mkdir()
    (run,) = planned(workspace, "cl")
    execute([run], workspace, train=trainer)
    assert sync(workspace, store.default_uri(workspace), print) == (1, 0, 1)
    assert (workspace / "mlflow.db").is_file()
