"""Delivery to real MLflow stores: what arrives, once; stores that are away, failing, or fresh with many at the door."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments import filed, store, tracking
from experiments.contents import benchmark_params
from experiments.delivery import Delivery
from experiments.filed import Filed
from experiments.found import find
from experiments.outcome import NO_CALLBACKS
from experiments.plan import plan, recorded_runs
from experiments.rundir import ENVIRONMENT, RESULT, TRACKING, read_json, write_json
from experiments.runner import execute
from experiments.uploader import Tracker, Uploader, sync
from rasa.config.benchmark import BenchmarkParams
from rasa.data.load import ensure_builtin
from rasa.errors import ResourceError, RunFailed
from reports.load import _record
from tests.helpers.processes import fresh_store
from tests.helpers.stand_in import stops_at_step_7, trainer
from tests.helpers.tracked import children, planned


def with_weights(config, directory, **rest):
    (directory / "selected" / "epoch-0002").mkdir(parents=True, exist_ok=True)
    (directory / "selected" / "epoch-0002" / "tensors.safetensors").write_bytes(b"weights")
    (directory / "predictions.safetensors").write_bytes(b"predictions")
    (directory / "vocab.txt").write_text("[PAD]\n")
    return trainer(config, directory, **rest)


def fails(config, directory, **rest):
    raise RunFailed("loss is nan")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A workspace, with a space and a letter beyond ASCII in its name, in which a few runs came to different ends."""
    workspace = tmp_path_factory.mktemp("a wörkspace")
    lines = []
    tracker = Tracker(store.tracking_uri(workspace), workspace, lines.append)
    assert tracker.open()
    callbacks = NO_CALLBACKS._replace(deliver=tracker.deliver)
    execute(planned(workspace, "m-rtd", seeds=[0, 1]), workspace, callbacks=callbacks, train=with_weights)
    execute(planned(workspace, "cl"), workspace, callbacks=callbacks, train=stops_at_step_7)
    execute(planned(workspace, "itm"), workspace, callbacks=callbacks, train=fails)
    assert lines == []
    shutil.copytree(workspace, workspace.parent / "first")
    return workspace


@pytest.fixture
def copy_of(tracked, tmp_path):
    """A copy of it as it was at first, in which a test may do harm."""
    return Path(shutil.copytree(tracked.parent / "first", tmp_path / "copy"))


@pytest.fixture
def client(tracked):
    return store.open_store(store.tracking_uri(tracked))


def test_layout_of_a_suite(tracked, client):
    runs = children(client, row="m-rtd")
    assert sorted(run.info.run_name for run in runs) == [
        f"m-rtd/seed-{seed} (optimisation.epochs=2)" for seed in (0, 1)
    ]
    (parent,) = {run.data.tags["mlflow.parentRunId"] for run in runs}
    row = client.get_run(parent)
    assert (row.info.run_name, row.info.status) == ("m-rtd (optimisation.epochs=2)", "FINISHED")
    assert row.data.tags["rasa.kind"] == "row"
    tags = row.data.tags
    assert json.loads(tags["rasa.labels"]) == {"Module": "++SA", "Setting": "MLM + m-RTD"}
    assert json.loads(tags["rasa.paper"])["r1"] == 76.51
    assert (tags["rasa.versus"], tags["rasa.row_order"]) == ("o-rtd", "9")
    assert tags["rasa.row_digest"] == runs[0].data.tags["rasa.row_digest"]


def test_what_a_finished_run_has(tracked, client):
    (run,) = children(client, row="m-rtd", seed="1")
    (record,) = [found for found in recorded_runs(tracked) if found.about.row == "m-rtd" and found.about.seed == 1]
    tags = run.data.tags
    assert run.info.status == "FINISHED"
    assert (tags["rasa.state"], tags["rasa.run_id"]) == ("finished", record.about.run_id)
    assert tags["rasa.data_digest"] == record.about.data_digest
    assert tags["rasa.directory"] == str(record.directory.relative_to(tracked))
    assert tags["rasa.code_digest"] == read_json(record.directory / RESULT)["digests"]["code"]
    assert (tags["rasa.selected_epoch"], tags["rasa.selected_step"]) == ("2", "10")
    assert run.data.metrics["test/r1"] == 51.0
    assert run.data.metrics["test/map"] == 40.0
    assert run.data.metrics["cost/seconds"] == 4.0
    assert run.data.params["optimisation.epochs"] == "2"
    assert run.data.params["objectives.generator"] == "momentum"
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.digest == record.about.data_digest
    assert len(data.dataset.digest) <= 36
    assert json.loads(data.dataset.profile)["test"] == {"images": 2, "captions": 4, "identities": 2}
    assert [(tag.key, tag.value) for tag in data.tags] == [("mlflow.data.context", "training")]
    assert (tags["rasa.data"], tags["rasa.data_root"]) == ("cuhk-pedes", "people")
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    documents = {"spec.yaml", "environment.json", "result.json", "vocab.txt", "metrics.jsonl"}
    assert files == documents | {"predictions.safetensors", "selected"}
    assert client.list_artifacts(run.info.run_id, "selected/epoch-0002")[0].path.endswith("tensors.safetensors")
    assert (tracked / "mlartifacts" / run.info.run_id / "artifacts" / "result.json").exists()


@pytest.mark.parametrize(("row", "state", "status"), [("cl", "interrupted", "KILLED"), ("itm", "failed", "FAILED")])
def test_a_run_that_did_not_finish_says_so(tracked, client, row, state, status):
    (run,) = children(client, row=row)
    assert (run.data.tags["rasa.state"], run.info.status) == (state, status)


def test_the_built_in_benchmark_is_filed_with_its_parameters(tmp_path):
    root = ensure_builtin(BenchmarkParams(train_identities=1, val_identities=1, test_identities=1), tmp_path)
    assert json.loads(benchmark_params(str(root)))["train_identities"] == 1
    assert benchmark_params(str(tmp_path / "gone")) == ""


def all_of(client):
    """Every run of the suite, rows and seeds, with the history of a figure that both have; and the models."""
    experiment = client.get_experiment_by_name("table4").experiment_id
    runs = client.search_runs([experiment], max_results=1000)
    models = client.search_logged_models([experiment])
    history = {run.info.run_id: len(client.get_metric_history(run.info.run_id, "test/r1")) for run in runs}
    return {run.info.run_id: (run.to_dictionary(), history[run.info.run_id]) for run in runs}, [
        model.to_dictionary() for model in models
    ]


def test_delivering_again_changes_nothing(tracked, client):
    before = all_of(client)
    assert len(before[0]) == 7 and len(before[1]) == 2
    assert sync(tracked, store.tracking_uri(tracked), print) == (4, 0, 4)
    assert all_of(client) == before


def test_a_row_has_the_mean_of_its_seeds_and_what_they_share(tracked, client):
    (row,) = {run.data.tags["mlflow.parentRunId"] for run in children(client, row="m-rtd")}
    row = client.get_run(row)
    found = row.data.metrics
    assert (found["test/r1"], found["test/r1_n"]) == (50.5, 2.0)  # of 50 and 51
    assert found["test/r1_sd"] == pytest.approx(0.5**0.5)
    assert (found["val/r1"], found["val_last/r1"], found["cost/seconds_n"]) == (10.0, 10.0, 2.0)
    assert row.data.params["optimisation.epochs"] == "2" and "seed" not in row.data.params
    assert "data.root" not in row.data.params and "data.image_size" in row.data.params
    assert row.data.tags["mlflow.note.content"].startswith("- Module: \\+\\+SA\n")
    starts = [run.info.start_time for run in children(client, row="m-rtd")]
    assert row.info.start_time == min(starts) <= row.info.end_time
    (failed,) = {run.data.tags["mlflow.parentRunId"] for run in children(client, row="itm")}
    assert client.get_run(failed).data.metrics == {}


def test_a_row_follows_each_seed_that_ends(tmp_path, tracked, monkeypatch):
    """In its own store; a seed that is run again takes the place of the old one, whatever the machines' clocks say."""
    seconds = count(1_800_000_000, -60)
    monkeypatch.setattr(filed, "time", SimpleNamespace(time=lambda: next(seconds)))
    uri = fresh_store(tmp_path)
    client, callbacks = store.open_store(uri), NO_CALLBACKS._replace(deliver=Tracker(uri, tmp_path, print).deliver)

    def row_after(*seeds, train=trainer):
        runs = planned(tmp_path, "cl", seeds=seeds)
        execute(runs, tmp_path, rerun_stale=True, callbacks=callbacks, train=train)
        return client.get_run(read_json(runs[0].directory / TRACKING)["parent_run"])

    def better(config, directory, log, **rest):
        def logged(group, step, values):
            log(group, step, values | ({"r1": 60.0} if group == "test" else {}))

        return trainer(config, directory, logged, **rest)

    assert row_after(0).data.metrics["test/r1"] == 50.0
    found = row_after(0, 1).data.metrics
    assert (found["test/r1"], found["test/r1_n"]) == (50.5, 2.0)
    assert row_after(2, train=fails).data.metrics["test/r1"] == 50.5
    (run,) = planned(tmp_path, "cl", seeds=[0])
    write_json(run.directory / ENVIRONMENT, read_json(run.directory / ENVIRONMENT) | {"code": {"rasa/gone.py": "0"}})
    row = row_after(0, train=better)
    assert (row.data.metrics["test/r1"], row.data.metrics["test/r1_n"]) == (55.5, 2.0)
    before = row.to_dictionary()
    assert sync(tmp_path, uri, print).there == 4
    assert client.get_run(row.info.run_id).to_dictionary() == before


def test_validation_is_of_the_chosen_epoch_and_every_epoch_has_a_name_of_its_own(tmp_path):
    def first_is_best(config, directory, **rest):
        return trainer(config, directory, **rest) | {"selected": {"epoch": 1, "step": 5, "val": {"r1": 5.0}}}

    uri = fresh_store(tmp_path)
    (run,) = planned(tmp_path, "cl")
    execute([run], tmp_path, train=first_is_best)
    assert sync(tmp_path, uri, print).there == 1
    client = store.open_store(uri)
    (child,) = children(client, row="cl")
    assert (child.data.metrics["val/r1"], child.data.metrics["val_last/r1"]) == (5.0, 10.0)
    history = [client.get_metric_history(child.info.run_id, f"{name}/r1") for name in ("val", "val_last")]
    assert [[(point.step, point.value) for point in points] for points in history] == [
        [(5, 5.0)],
        [(5, 5.0), (10, 10.0)],
    ]


def test_a_checkpoint_is_a_model_with_its_figures_and_data_and_no_copy_of_its_weights(tracked, client):
    (run,) = children(client, row="m-rtd", seed="1")
    experiment = run.info.experiment_id
    (model,) = client.search_logged_models([experiment], f"source_run_id = '{run.info.run_id}'")
    assert (model.name, str(model.status)) == ("m-rtd-seed-1 (optimisation-epochs=2)", "READY")
    figures = {metric.key: metric for metric in model.metrics}
    assert {name for name in figures if name.startswith("test/")} == {"test/r1", "test/r5", "test/r10", "test/map"}
    assert (figures["test/r1"].value, figures["val/r1"].value) == (51.0, 10.0)
    assert figures["test/r1"].dataset_digest == run.data.tags["rasa.data_digest"]
    assert not any(name.startswith(("train/", "val_last/")) for name in figures)
    place = model.tags["rasa.files"].removeprefix(f"runs:/{run.info.run_id}/")
    assert client.list_artifacts(run.info.run_id, place)
    weights = list((tracked / "mlartifacts").rglob("tensors.safetensors"))
    assert len(weights) == 2 and not list((tracked / "mlartifacts").glob("models/**/*.*"))
    (linked,) = run.outputs.model_outputs
    assert (linked.model_id, linked.step) == (model.model_id, 10)


def test_a_checkpoint_whose_delivery_was_cut_off_is_one_model(tmp_path):
    uri = fresh_store(tmp_path)
    (run,) = planned(tmp_path, "cl")
    execute([run], tmp_path, train=with_weights)
    client = store.open_store(uri)

    class Killed(BaseException):
        pass

    def kill(*parts, **named):
        raise Killed

    delivery = Delivery(Filed(client, uri, tmp_path), tmp_path, run.directory)
    delivery._send_batches = kill
    with pytest.raises(Killed):
        delivery.send()
    assert sync(tmp_path, uri, print).there == 1
    (child,) = children(client, row="cl")
    (model,) = client.search_logged_models([child.info.experiment_id])
    assert {metric.key for metric in model.metrics} >= {"test/r1", "val/r1"}


def test_the_models_of_a_moved_store_say_where_it_is_now(copy_of):
    client = store.open_store(store.default_uri(copy_of))
    models = client.search_logged_models([client.get_experiment_by_name("table4").experiment_id])
    here = (copy_of / "mlartifacts").as_uri()
    assert len(models) == 2 and all(model.artifact_location.startswith(f"{here}/models/") for model in models)


def test_runs_are_renamed_from_what_earlier_versions_called_them_and_not_from_a_person_s(copy_of):
    workspace, uri = copy_of, store.default_uri(copy_of)
    client = store.open_store(uri)
    first, second = sorted(children(client, row="m-rtd"), key=lambda run: run.data.tags["rasa.seed"])
    client.update_run(first.info.run_id, name="seed-0")
    client.update_run(second.info.run_id, name="the good one")
    assert sync(workspace, uri, print) == (4, 0, 4)
    names = {run.data.tags["rasa.seed"]: run.info.run_name for run in children(client, row="m-rtd")}
    assert names == {"0": "m-rtd/seed-0 (optimisation.epochs=2)", "1": "the good one"}


def test_an_experiment_says_what_is_in_it_unless_a_person_does(copy_of):
    uri = store.default_uri(copy_of)
    client = store.open_store(uri)

    def note():
        return client.get_experiment_by_name("table4").tags["mlflow.note.content"]

    experiment = client.get_experiment_by_name("table4").experiment_id
    ours = note()
    assert "rasa report table4 --profile" in ours and ours.startswith("**Objectives and settings of RaSa**")
    assert client.get_experiment(experiment).tags["mlflow.experimentKind"] == "custom_model_development"
    for text, after in (("", ours), ("mine", "mine")):
        client.set_experiment_tag(experiment, "mlflow.note.content", text)
        sync(copy_of, uri, print)
        assert note() == after


def test_a_store_of_an_earlier_version_gets_its_rows_figures_and_its_report_the_last_validation(copy_of):
    """As it was: no figures of rows, every epoch under `val/`."""
    workspace, uri = copy_of, store.default_uri(copy_of)
    with closing(sqlite3.connect(workspace / "mlflow.db")) as connection, connection:
        rows = "(select run_uuid from tags where key = 'rasa.kind' and value = 'row')"
        for table in ("metrics", "latest_metrics", "params"):
            connection.execute(f"delete from {table} where run_uuid in {rows}")
        connection.execute(f"delete from tags where key = 'rasa.summaries' and run_uuid in {rows}")
        for table in ("metrics", "latest_metrics"):
            connection.execute(f"delete from {table} where key like 'val/%'")
            connection.execute(f"update {table} set key = replace(key, 'val_last/', 'val/')")
    assert sync(workspace, uri, print) == (4, 0, 4)
    client = store.open_store(uri)
    (run, *_) = children(client, row="m-rtd")
    row = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert (row.data.metrics["test/r1"], row.data.params["optimisation.epochs"]) == (50.5, "2")
    assert "val/r1" not in row.data.metrics  # they were the last epoch's
    found = [_record(run, workspace) for run in find(client, "table4", {"rasa.kind": "seed", "rasa.row": "m-rtd"})]
    assert [record["val_last/r1"] for record in found] == [run.data.metrics["val/r1"]] * 2 == [10.0] * 2


@pytest.mark.parametrize("lost", ["nothing", "the note that a batch arrived"])
def test_a_resumed_run_has_each_step_once(tracked, client, lost):
    row = {"nothing": "p-itm", "the note that a batch arrived": "s-itm"}[lost]
    tracker = Tracker(store.tracking_uri(tracked), tracked, print)
    callbacks = NO_CALLBACKS._replace(deliver=tracker.deliver)
    (run,) = planned(tracked, row)
    execute([run], tracked, callbacks=callbacks, train=stops_at_step_7)
    cursor = read_json(run.directory / TRACKING)
    if lost != "nothing":  # as if the process had been killed between sending and noting
        write_json(run.directory / TRACKING, cursor | {"delivered": {"train/loss": 2}, "sending": True})
    execute(planned(tracked, row), tracked, callbacks=callbacks, train=trainer)
    history = client.get_metric_history(cursor["mlflow_run"], "train/loss")
    assert [(point.step, point.value) for point in sorted(history, key=lambda point: point.step)] == [
        (step, 1 / (step + 1)) for step in range(10)
    ]
    assert [point.step for point in client.get_metric_history(cursor["mlflow_run"], "val_last/r1")] == [5, 10]
    (child,) = children(client, row=row)
    assert (child.data.tags["rasa.state"], child.info.status) == ("finished", "FINISHED")


def test_a_row_stands_as_its_seeds_do_and_is_described_as_the_suite_s_file_is_now(tracked, client):
    callbacks = NO_CALLBACKS._replace(deliver=Tracker(store.tracking_uri(tracked), tracked, print).deliver)

    def row_after(train, seed, title):
        (run,) = planned(tracked, "p-itm-prd", seeds=[seed])
        run = run._replace(about=run.about.model_copy(update={"title": title}))
        execute([run], tracked, callbacks=callbacks, train=train)
        return client.get_run(read_json(run.directory / TRACKING)["parent_run"])

    def sees(config, directory, **rest):
        parent = read_json(directory.parent / first / TRACKING)["parent_run"]
        rest["log"]("train", 0, {"loss": 1.0})  # delivers
        assert client.get_run(parent).info.status == "RUNNING"
        return trainer(config, directory, **rest)

    assert row_after(fails, 0, "as it was").info.status == "FAILED"
    first = planned(tracked, "p-itm-prd")[0].directory.name
    row = row_after(sees, 1, "as it is")
    assert (row.info.status, row.data.tags["rasa.title"]) == ("FAILED", "as it is")
    assert row_after(trainer, 0, "as it is").info.status == "FINISHED"


def test_a_run_deleted_in_the_tracker_stays_deleted(tracked, client):
    (run,) = planned(tracked, "itm-prd")
    tracker = Tracker(store.tracking_uri(tracked), tracked, print)
    execute([run], tracked, callbacks=NO_CALLBACKS._replace(deliver=tracker.deliver), train=stops_at_step_7)
    client.delete_run(read_json(run.directory / TRACKING)["mlflow_run"])
    assert tracker.deliver(run.directory)
    assert children(client, row="itm-prd") == []


def test_a_run_made_by_a_process_that_died_at_once_is_taken_over(tracked, client):
    uri, (run,) = store.tracking_uri(tracked), planned(tracked, "mlm")
    execute([run], tracked, train=stops_at_step_7)
    of_store = Filed(client, uri, tracked)
    made, _ = Delivery(of_store, tracked, run.directory)._made(of_store.experiment(run.about))
    assert Tracker(uri, tracked, print).deliver(run.directory)
    (child,) = children(client, row="mlm")
    assert (child.info.run_id, child.data.tags["rasa.state"]) == (made.info.run_id, "interrupted")


def test_a_stale_run_that_is_run_again_is_superseded(tracked, client):
    callbacks = NO_CALLBACKS._replace(deliver=Tracker(store.tracking_uri(tracked), tracked, print).deliver)
    (run,) = planned(tracked, "o-rtd")
    execute([run], tracked, callbacks=callbacks, train=trainer)
    write_json(run.directory / ENVIRONMENT, read_json(run.directory / ENVIRONMENT) | {"code": {"rasa/gone.py": "0"}})
    execute(planned(tracked, "o-rtd"), tracked, rerun_stale=True, callbacks=callbacks, train=trainer)
    runs = {child.data.tags["rasa.state"]: child for child in children(client, row="o-rtd")}
    assert set(runs) == {"superseded", "finished"}
    assert runs["finished"].data.tags["rasa.directory"] == str(run.directory.relative_to(tracked))


def test_a_tracker_that_is_away_costs_a_line_and_is_caught_up(tmp_path, tracked):
    lines = []
    closed = Tracker("http://127.0.0.1:1", tmp_path, lines.append)
    runs = planned(tmp_path, "cl", "itm")
    outcomes = execute(runs, tmp_path, callbacks=NO_CALLBACKS._replace(deliver=closed.deliver), train=trainer)
    assert [outcome.state for outcome in outcomes] == ["finished", "finished"]
    assert len(lines) == 1
    assert lines[0].startswith("tracking: http://127.0.0.1:1: ")
    assert "Connection refused" in lines[0]
    assert lines[0].endswith("`rasa sync` delivers later")
    with pytest.raises(ResourceError, match="127.0.0.1:1"):
        sync(tmp_path, "http://127.0.0.1:1", print)
    uri = store.default_uri(tracked)  # a store that is there already: making one takes seconds
    assert sync(tmp_path, uri, print) == (2, 0, 2)
    assert sync(tmp_path, uri, print) == (2, 0, 2)
    delivered = [read_json(run.directory / TRACKING)["mlflow_run"] for run in runs]
    client = store.open_store(uri)
    assert [len(client.get_metric_history(run, "train/loss")) for run in delivered] == [10, 10]


class Refuses(BaseHTTPRequestHandler):
    """Answers 500 to everything."""

    def do_GET(self):
        self.send_error(500)

    do_POST = do_GET

    def log_message(self, *arguments):
        """Say nothing."""


def test_a_tracker_that_answers_500_is_away(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    lines = []
    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tracker = Tracker(f"http://127.0.0.1:{server.server_port}", tmp_path, lines.append)
        assert not tracker.open()
        server.shutdown()
    assert "500 error responses" in lines[0]


def test_the_store_is_the_one_asked_for_or_the_environment_s_or_the_workspace_s(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert store.tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker:5000")
    assert store.tracking_uri(tmp_path) == "http://tracker:5000"
    monkeypatch.chdir(tmp_path)
    assert store.tracking_uri(Path("elsewhere"), "sqlite:///x.db") == f"sqlite:///{tmp_path}/x.db"


FIRST_TOUCH = """
import sys
from pathlib import Path
from experiments.store import open_store, tracking_uri
print(len(open_store(tracking_uri(Path(sys.argv[1]))).search_experiments()))
"""


def test_four_processes_may_touch_a_fresh_store_first(tmp_path):
    command = [sys.executable, "-c", FIRST_TOUCH, str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    ended = [process.communicate(timeout=120) for process in started]
    assert ended == [("1\n", "")] * 4  # the default experiment, and not a word of chatter


def test_the_courier_delivers_all_before_it_ends_and_raises_its_own_faults_then(tmp_path):
    delivered = []
    with Uploader(delivered.append) as uploader:
        for name in "abc":
            uploader.ask(tmp_path / name)
    assert delivered == [tmp_path / name for name in "abc"]

    def broken(directory):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Uploader(broken) as uploader:
        uploader.ask(tmp_path)


def test_names_that_reports_read_are_the_documented_ones():
    assert (tracking.RUN_ID, tracking.STATE, tracking.ROW_DIGEST) == ("rasa.run_id", "rasa.state", "rasa.row_digest")


def test_a_copied_run_arrives_with_all_its_figures_and_says_whose_they_are(tracked, client):
    from experiments.targets import parse_target

    (tracked / "mine.yaml").write_text("suite: mine\nrows: [{name: same, extends: table4/m-rtd}]\n")
    suite, rows = parse_target(str(tracked / "mine.yaml"))
    options = [f"data.root={tracked / 'people'}", "optimisation.epochs=2"]
    (run,) = plan(suite, rows, "smoke", options, [1], tracked)
    lines = []
    tracker = Tracker(store.tracking_uri(tracked), tracked, lines.append)
    assert tracker.open()
    execute([run], tracked, callbacks=NO_CALLBACKS._replace(deliver=tracker.deliver), train=fails)
    (original,) = children(client, row="m-rtd", seed="1")
    found = client.search_runs([client.get_experiment_by_name("mine").experiment_id], "tags.`rasa.kind` = 'seed'")
    assert lines == [] and len(found) == 1
    assert found[0].data.metrics == original.data.metrics and found[0].info.status == "FINISHED"
    assert found[0].data.tags["rasa.copied_from"] == "table4/m-rtd" and "rasa.copied_from" not in original.data.tags


def test_a_run_s_directory_is_found_from_the_workspace_itself(tmp_path, monkeypatch):
    """As commands mean it: the workspace is the current folder, and the tag names the directory below it."""
    directory = tmp_path / "runs" / "suite" / "row" / "smoke" / "seed-0-0123456789ab"
    directory.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    tags = {tracking.DIRECTORY: tracking.directory_tag(directory)}
    assert tracking.local_directory(tags, Path()) == directory == tracking.local_directory(tags, tmp_path)
    assert tracking.local_directory({tracking.DIRECTORY: str(directory)}, tmp_path / "elsewhere") == directory
    assert tracking.local_directory({}, Path()) is None
