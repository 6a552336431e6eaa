"""Runs as pandas frames: `reports.frame`, on records written by hand."""

import json

import pandas as pd
import pytest

from experiments.rundir import Point, to_line
from experiments.spec import load_suite, resolve
from experiments.yaml_io import dump
from rasa.errors import ResourceError, SpecError
from reports import frame

TEST = {"r1": 20.0, "map": 10.5}


def write_run(workspace, row="s-itm", seed=0, result=None, failure=None, suffix=""):
    """A run's folder as the runner leaves it, with `result` or `failure`."""
    run_id = f"{seed:012x}"
    folder = workspace / "runs" / "table4" / row / "smoke" / f"seed-{seed}-{run_id}{suffix}"
    folder.mkdir(parents=True)
    config = resolve(load_suite("table4"), "s-itm" if row == "start" else row, "smoke", [], seed)
    (folder / "spec.yaml").write_text(dump(config.model_dump(mode="json")))
    about = {
        **dict.fromkeys(("title", "row_digest", "data_digest", "weights_digest", "data_root"), ""),
        "run_id": run_id,
        "suite": "table4",
        "row": row,
        "profile": "smoke",
        "seed": seed,
        "order": 0,
        "labels": {},
        "paper": None,
        "versus": None,
        "data_name": "synthetic",
        "identity": {},
    }
    (folder / "run.json").write_text(json.dumps(about))
    for name, content in (("result.json", result), ("failure.json", failure)):
        if content is not None:
            (folder / name).write_text(json.dumps(content))
    return folder


def test_a_line_a_run_with_its_figures_by_their_names(tmp_path):
    """90 seconds are 1.5 minutes; the mean of 20 and 30 is 25, of the runs that have a figure alone."""
    cost, val = {"seconds": 90.0, "peak_mib": 7.0}, {"epoch": 2, "r1": 40.0}
    write_run(tmp_path, seed=1, result={"test": TEST | {"r1": 30.0}})
    first = {"test": TEST, "cost": cost, "sensitivity": {"colour_apart": 86.0}, "selected": {"epoch": 2, "val": val}}
    folder = write_run(tmp_path, seed=0, result=first)
    write_run(tmp_path, seed=2, failure={"message": "the loss is not a number"})
    write_run(tmp_path, row="itm", seed=3)
    runs = frame.runs(tmp_path)
    assert list(runs.columns[: len(frame.WHO)]) == list(frame.WHO)
    assert list(zip(runs["row"], runs["seed"], runs["state"], strict=True)) == [
        ("itm", 3, "interrupted"),
        ("s-itm", 0, "finished"),
        ("s-itm", 1, "finished"),
        ("s-itm", 2, "failed"),
    ]
    line = runs.iloc[1]
    assert (line["test/r1"], line["test/map"], line["val/r1"], line["val/epoch"]) == (20.0, 10.5, 40.0, 2)
    assert (line["minutes"], line["cost/peak_mib"], line["probe/colour_apart"]) == (1.5, 7.0, 86.0)
    assert line["directory"] == folder and line["data"] == "synthetic"
    assert runs.iloc[3]["reason"] == "the loss is not a number" and pd.isna(runs.iloc[3]["test/r1"])
    assert runs.groupby("row")["test/r1"].agg(["mean", "count"]).loc["s-itm"].tolist() == [25.0, 2]


def test_the_start_has_no_seed_and_superseded_runs_are_left_out(tmp_path):
    write_run(tmp_path, row="start", result={"test": TEST})
    write_run(tmp_path, row="s-itm", result={"test": TEST})
    write_run(tmp_path, row="s-itm", result={"test": TEST}, suffix=".stale-1")
    runs = frame.runs(tmp_path)
    assert runs["row"].tolist() == ["s-itm", "start"]
    assert runs["seed"].isna().tolist() == [False, True]


def test_config_fields_are_columns_where_they_are_asked_for(tmp_path):
    write_run(tmp_path, row="s-itm", result={"test": TEST})
    write_run(tmp_path, row="p-itm", seed=1, result={"test": TEST})
    runs = frame.runs(tmp_path, fields=["objectives.positives", "objectives.p_weak"])
    assert runs["objectives.positives"].tolist() == ["probabilistic", "annotated"]
    assert runs["objectives.p_weak"].tolist() == [0.1, 0.1]
    with pytest.raises(SpecError, match=r"fields: objectives.p_week: no run has it"):
        frame.runs(tmp_path, fields=["objectives.p_week"])


def test_a_folder_without_runs_and_a_damaged_record_are_one_line(tmp_path):
    with pytest.raises(ResourceError, match="no runs; give the folder in which `rasa run` was started"):
        frame.runs(tmp_path)
    folder = write_run(tmp_path)
    (folder / "run.json").write_text("{")
    with pytest.raises(ResourceError, match=r"run\.json: cannot be read"):
        frame.runs(tmp_path)


def test_curves_have_a_line_for_each_step_and_group(tmp_path):
    folder = write_run(tmp_path)
    points = [Point("train", 0, {"loss_itm": 0.7}, 0.0), Point("train", 1, {"loss_itm": 0.5}, 1.5)]
    points.append(Point("val", 2, {"r1": 9.0}, 2.0))
    (folder / "metrics.jsonl").write_text("".join(map(to_line, points)))
    curves = frame.curves(folder)
    assert curves["step"].tolist() == [0, 1, 2]
    assert curves["train/loss_itm"].dropna().tolist() == [0.7, 0.5] and curves["val/r1"].dropna().tolist() == [9.0]
    assert curves["time"].iloc[1] == pd.Timestamp("1970-01-01T00:00:01.5", tz="UTC")
    with pytest.raises(ResourceError, match="has reported nothing"):
        frame.curves(tmp_path)
