"""What the report reads: which runs count, what their results state, and one real store end to end."""

import csv
import io
import json
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from experiments import tracking
from experiments.spec import load_suite, resolve, row_digest
from experiments.store import DATABASE, SQLITE, open_store
from experiments.suite import Suite
from rasa.data.load import load_dataset
from rasa.errors import ResourceError
from reports.commands import report as command
from reports.document import Document
from reports.load import _dataset, choose, measured, row_configs, selection
from tests.helpers.people import write_people


def test_which_run_of_a_seed_counts():
    """The newest finished one; a later failure hides nothing.

    Most rows finished decide on the data, then the newest.
    """
    configs = row_configs(load_suite("table4"), "smoke", [])

    def record(run: str, day: int, state: str = "finished", row: str = "cl", data: str = "new", seed: int = 0):
        started = datetime(2026, 1, day, tzinfo=UTC)
        return {
            "run_id": run,
            "row": row,
            "seed": seed,
            "state": state,
            "started": started,
            "data_digest": data,
            "weights_digest": "",
        }

    records = [
        record("newest", 3),
        record("older", 2),
        record("later failure", 5, "failed"),
        record("only failure", 4, "failed", seed=1),
        record("other data", 1, row="itm", data="old"),
    ]
    chosen, said = choose(records, configs)
    assert {record["run_id"] for record in chosen} == {"newest", "only failure"}
    why = "initial weights none: with others more rows, or newer runs, finished."
    assert said == (f"Left out: runs of itm with data digest old and {why}",)

    records += [record("s-itm", 1, row="s-itm", data="old"), record("p-itm", 1, "failed", row="p-itm", data="old")]
    chosen, said = choose(records, configs)
    assert {record["run_id"] for record in chosen} == {"other data", "s-itm", "p-itm"}
    assert said == (f"Left out: runs of cl with data digest new and {why}",)


def test_paper_profile_needs_no_data_to_be_reported():
    """A run needs data.root; a reader does not, and where the data lies changes no row's identity."""
    suite = load_suite("table4")
    configs = row_configs(suite, "paper", [])
    assert row_digest(configs["cl"]) == row_digest(resolve(suite, "cl", "paper", ["data.root=/data"], 3))


def test_what_a_result_states_of_the_selection():
    """The last checkpoint's test figures need no second evaluation if it is the chosen one."""
    result = {"selected": {"epoch": 3, "val": {"r1": 50.0}}, "last": {"epoch": 4}, "test": {"r1": 40.0}}
    assert selection(result) == {
        "selected/val_r1": 50.0,
        "last/test_r1": pytest.approx(math.nan, nan_ok=True),
        "oracle/test_r1": pytest.approx(math.nan, nan_ok=True),
    }
    assert selection(result | {"last": {"epoch": 3}})["last/test_r1"] == 40.0
    stated = {"last": {"epoch": 4, "test": {"r1": 38.0}}, "test_oracle": {"epoch": 2, "test": {"r1": 43.0}}}
    assert list(selection(result | stated).values()) == [50.0, 38.0, 43.0]
    assert all(math.isnan(value) for value in selection({}).values())


def test_what_a_result_states_of_detectors_and_probe():
    result = {"selected": {"val": {"r1": 50.0, "prd_auc": 80.0}}, "sensitivity": {"colour_apart": 70.0, "new": 1.0}}
    assert measured(result) == {"detector/prd_auc": 80.0, "probe/colour_apart": 70.0}
    assert measured({}) == {}


TINY = """
suite: tiny
title: Two rows
labels: [Setting]
base: {optimisation: {epochs: 2}}
rows:
- {name: cl, labels: [CL], changes: {objectives: {weights: {cl: 0.5}}}, paper: {r1: 61.35}}
- {name: itm, labels: [CL + ITM], versus: cl, changes: {objectives: {weights: {cl: 0.5, itm: 1}}}, paper: {r1: 71.29}}
- {name: s, labels: [never run], versus: cl, changes: {objectives: {weights: {cl: 0.5, itm: 2}}}}
"""


def _write_store(workspace: Path, suite: Suite) -> None:
    """Two seeds of `cl`, one of `itm` and a failed one, and a run of another config, as the writer files them."""
    client = open_store(f"{SQLITE}{workspace / DATABASE}")
    (workspace / "result.json").write_text('{"sizes": {"test": {"images": 64, "captions": 128}}}')
    experiment = client.create_experiment(suite.suite, artifact_location=(workspace / "artifacts").as_uri())
    benchmark = resolve(suite, "cl", "smoke", [], 0).data.synthetic.model_dump_json()
    runs = [("cl", 0, "finished", 30.0), ("cl", 1, "finished", 34.0), ("itm", 0, "finished", 41.0)]
    for row, seed, state, r1 in [*runs, ("itm", 1, "failed", 0.0), ("cl", 2, "finished", 99.0)]:
        epochs = "optimisation.epochs=9" if r1 == 99 else "optimisation.epochs=2"
        tags = {
            tracking.KIND: tracking.KIND_SEED,
            tracking.SUITE: suite.suite,
            tracking.ROW: row,
            tracking.PROFILE: "smoke",
            tracking.SEED: str(seed),
            tracking.STATE: state,
            tracking.ROW_DIGEST: row_digest(resolve(suite, row, "smoke", [epochs], seed)),
            tracking.DATA_DIGEST: "d1a7a",
            tracking.GIT_COMMIT: "c0ffee",
            tracking.GIT_DIRTY: "false",
            tracking.DIRECTORY: str(workspace),
            tracking.DATA: "synthetic",
            tracking.BENCHMARK: benchmark,
        }
        run = client.create_run(experiment, tags=tags).info.run_id
        if state == "finished":
            for name, value in {"r1": r1, "r5": r1 + 10, "r10": r1 + 20, "map": r1}.items():
                client.log_metric(run, f"test/{name}", value)


def test_report_of_a_real_store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    _write_store(tmp_path, load_suite(str(file)))
    done = CliRunner().invoke(command, [str(file), "--workspace", str(tmp_path)], catch_exceptions=False)
    folder = tmp_path / "report" / "tiny-smoke"
    assert done.exit_code == 0
    assert done.stderr.endswith(f"report: {folder / 'report.html'}\n")
    assert "32.0 ± 2.8" in done.stdout and "+11.0 (n = 1)" not in done.stdout and "+11.0" in done.stdout
    assert "99.0" not in done.stdout
    assert "itm: seed 1 failed." in done.stdout and "Never run with this config on this data: s." in done.stdout
    assert "64 images, 128 captions" in done.stdout and "c0ffee" in done.stdout and "d1a7a" in done.stdout
    assert {path.name for path in folder.iterdir()} == {
        "table.md",
        "table.csv",
        "table.tex",
        "report.html",
        "report.json",
        "report.schema.json",
        "latex",
        "r1.svg",
        "waterfall.svg",
        "steps.svg",
    }
    assert Document.model_validate_json((folder / "report.json").read_text()).title in done.stdout

    arguments = [str(file), "--workspace", str(tmp_path), "-o", "optimisation.epochs=9", "--format", "csv"]
    done = CliRunner().invoke(command, [*arguments, "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert done.stdout.startswith("Setting,row,state") and "99.0" in done.stdout
    assert (tmp_path / "out" / "report.html").exists()

    done = CliRunner().invoke(command, [str(file), "--workspace", str(tmp_path), "-o", "optimisation.epochs=7"])
    assert isinstance(done.exception, ResourceError)
    assert "no runs of tiny at profile smoke (5 of another config or on other data are there)" in str(done.exception)


def test_a_report_of_some_rows_and_of_several_suites(tmp_path, monkeypatch):
    """ITM alone comes with CL, which it is compared with; a suite without runs is told of and stops no other."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file, other = tmp_path / "tiny.yaml", tmp_path / "other.yaml"
    file.write_text(TINY)
    other.write_text(TINY.replace("suite: tiny", "suite: other"))
    _write_store(tmp_path, load_suite(str(file)))

    def told(*words):
        return CliRunner().invoke(command, [*words, "--workspace", str(tmp_path)])

    done = told(f"{file}/i*", "--format", "json")
    document = json.loads(done.stdout)
    assert [row["name"] for row in document["rows"]] == ["cl", "itm"] and document["rows"][1]["versus"] == "cl"
    assert any(note.startswith("2 of the 3 rows of tiny are shown") for note in document["notes"])
    (folder,) = (tmp_path / "report").iterdir()
    assert folder.name.startswith("tiny-smoke-cl_itm-")
    assert document["provenance"]["command"] == f"rasa report '{file}/i*' --profile smoke"
    done = told(str(other), f"{file}/itm", str(file) + "/s", "--format", "json", "--out", str(tmp_path / "out"))
    (document,) = json.loads(done.stdout)
    assert done.exit_code == 0 and [row["name"] for row in document["rows"]] == ["cl", "itm", "s"]
    assert "skipped: " in done.stderr and "no runs of other at profile smoke" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tiny-smoke"]
    done = told(f"{file}/cl", "-m", "objectives.weights.cl=0.7", "--format", "csv")
    assert [line.split(",")[0] for line in done.stdout.splitlines()] == ["Setting", "CL", '"CL']
    done = told(str(other), str(other) + "/cl")
    assert isinstance(done.exception, ResourceError) and "no runs of other" in str(done.exception)


def _write_run_on(workspace: Path, suite: Suite, r1: float, tags: dict[str, str], params: dict[str, str]) -> None:
    """A newer finished run of `cl` than _write_store's, as filed with these tags and parameters."""
    client = open_store(f"{SQLITE}{workspace / DATABASE}")
    experiment = client.get_experiment_by_name(suite.suite).experiment_id
    config = resolve(suite, "cl", "smoke", ["optimisation.epochs=2"], 0)
    tags |= {
        tracking.KIND: tracking.KIND_SEED,
        tracking.ROW: "cl",
        tracking.PROFILE: "smoke",
        tracking.SEED: "0",
        tracking.STATE: "finished",
        tracking.ROW_DIGEST: row_digest(config),
    }
    run = client.create_run(experiment, tags=tags).info.run_id
    client.log_metric(run, "test/r1", r1)
    for name, value in params.items():
        client.log_param(run, name, value)


def test_runs_on_other_data_are_in_a_table_of_their_own(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    suite = load_suite(str(file))
    _write_store(tmp_path, suite)
    folder = write_people(tmp_path / "people", train=4, val=2, test=2, images=1)
    data = resolve(suite, "cl", "smoke", [f"data.root={folder}"], 0).data
    on_folder = {tracking.DATA: "cuhk-pedes", tracking.DATA_DIGEST: load_dataset(data).digest}
    _write_run_on(tmp_path, suite, 71.0, on_folder | {tracking.DATA_ROOT: str(folder)}, {})
    gone = {tracking.DATA: "cuhk-pedes", tracking.DATA_ROOT: "/gone", tracking.DATA_DIGEST: "90e"}
    _write_run_on(tmp_path, suite, 72.0, gone, {})
    built_in = {tracking.DATA: "synthetic", tracking.DATA_DIGEST: "d1a7a"}
    asked = data.synthetic.model_dump(mode="json")
    other = built_in | {tracking.BENCHMARK: json.dumps(asked | {"seed": 9})}
    _write_run_on(tmp_path, suite, 73.0, other | {tracking.DATA_DIGEST: "5eed9"}, {})
    _write_run_on(tmp_path, suite, 74.0, {tracking.DATA_DIGEST: "01d"}, {"data.synthetic.seed": "9"})  # before the tags
    _write_run_on(tmp_path, suite, 35.0, built_in | {tracking.BENCHMARK: json.dumps(asked)}, {})

    def reported(*options: str) -> tuple[list[str], str]:
        arguments = [str(file), "--workspace", str(tmp_path), "--out", str(tmp_path / "out"), *options]
        text = CliRunner().invoke(command, arguments, catch_exceptions=False).stdout
        records = csv.DictReader(io.StringIO((tmp_path / "out" / "table.csv").read_text()))
        return [record["test_r1_values"] for record in records], text

    values, text = reported()
    assert values == ["35.0;34.0", "41.0", "NA"]
    assert text.count("Left out: runs of cl with data digest ") == 4
    assert "digest 5eed9 and initial weights none: it is not the data asked for." in text
    assert reported("-o", f"data.root={folder}")[0] == ["71.0", "NA", "NA"]
    assert reported("-o", "data.root=/gone")[0] == ["72.0", "NA", "NA"]
    assert reported("-o", "data.synthetic.seed=9")[0] == ["74.0", "NA", "NA"]


def test_predictions_from_directory_tracker_and_data(tmp_path, monkeypatch):
    """`cl` has its file in its directory, `itm` as an artifact alone; `s` has none, and one that is another run's."""
    from safetensors.numpy import save_file

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    suite = load_suite(str(file))
    folder = write_people(tmp_path / "people", train=4, val=2, test=4, images=1)
    data = resolve(suite, "cl", "smoke", [f"data.root={folder}"], 0).data
    digest = load_dataset(data).digest
    client = open_store(f"{SQLITE}{tmp_path / DATABASE}")
    experiment = client.create_experiment(suite.suite, artifact_location=(tmp_path / "artifacts").as_uri())

    def write(row: str, seed: int, hits: list[int], place: str, reported: float | None = None) -> None:
        directory = tmp_path / "runs" / f"{row}-{seed}"
        directory.mkdir(parents=True)
        config = resolve(suite, row, "smoke", ["optimisation.epochs=2"], seed)
        tags = {
            tracking.KIND: tracking.KIND_SEED,
            tracking.ROW: row,
            tracking.PROFILE: "smoke",
            tracking.SEED: str(seed),
            tracking.STATE: "finished",
            tracking.ROW_DIGEST: row_digest(config),
            tracking.DATA: "cuhk-pedes",
            tracking.DATA_ROOT: str(folder),
            tracking.DATA_DIGEST: digest,
            tracking.DIRECTORY: str(directory),
        }
        run = client.create_run(experiment, tags=tags).info.run_id
        client.log_metric(run, "test/r1", 100 * float(np.mean(hits)) if reported is None else reported)
        if place:
            arrays = {"first_rank": np.where(hits, 1, 2), "average_precision": np.where(hits, 1.0, 0.5)}
            save_file(arrays, directory / "predictions.safetensors")
        (directory / "result.json").write_text('{"selected": {"epoch": 1, "val": {"r1": 31.0}}, "last": {"epoch": 2}}')
        if place == "tracker":
            for name in ("predictions.safetensors", "result.json"):
                client.log_artifact(run, str(directory / name))
                (directory / name).unlink()

    write("cl", 0, [1, 0, 0, 0, 0, 0, 0, 1], "directory")
    write("itm", 0, [1, 1, 1, 1, 1, 1, 1, 1], "tracker")
    write("s", 0, [1, 1, 0, 0, 0, 0, 0, 0], "")
    write("s", 1, [1, 1, 0, 0, 0, 0, 0, 0], "directory", reported=26.0)

    def reported() -> tuple[dict[str, dict[str, str]], str]:
        arguments = [
            str(file),
            "--workspace",
            str(tmp_path),
            "-o",
            f"data.root={folder}",
            "--out",
            str(tmp_path / "out"),
        ]
        text = CliRunner().invoke(command, arguments, catch_exceptions=False).stdout
        records = csv.DictReader(io.StringIO((tmp_path / "out" / "table.csv").read_text()))
        return {record["row"]: record for record in records}, text

    records, text = reported()
    assert float(records["itm"]["step_r1_mean"]) == 75.0
    assert (records["itm"]["step_queries"], records["itm"]["step_identities"]) == ("8", "4")
    assert records["itm"]["step_verdict"] == "too few seeds"
    assert (records["itm"]["val_r1_mean"], records["itm"]["last_r1_mean"]) == ("31.0", "NA")
    assert "Not compared over queries: s (seed 0): predictions.safetensors is missing." in text
    assert (
        "Not compared over queries: s (seed 1): predictions.safetensors gives another R@1 than the run reported."
        in text
    )
    assert "+75.0" in text and "A step has no verdict before 3 seeds" in text

    (folder / "reid_raw.json").unlink()  # whom the queries describe is known from the data alone
    _dataset.cache_clear()
    records, text = reported()
    assert records["itm"]["step_queries"] == "NA"
    assert (
        f"cl (seed 0), itm (seed 0): whom the queries describe is not known here, since the data ({digest}) is not."
        in text
    )


def test_no_store_is_made_by_reading(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = CliRunner().invoke(command, ["table4", "--workspace", str(tmp_path)])
    assert isinstance(done.exception, ResourceError)
    assert "`rasa run table4 --profile smoke`" in str(done.exception)
    assert list(tmp_path.iterdir()) == []
