"""`rasa status` and `rasa best`: what runs have reached, and which are best by validation whatever test says."""

import json
import os
from datetime import datetime
from pathlib import Path

import pytest

from experiments.plan import plan
from experiments.reached import choice
from experiments.rundir import RESULT, read_json, write_json
from experiments.runner import execute
from experiments.spec import load_suite
from rasa.commands.cli import main
from rasa.errors import RunFailed
from rasa.evaluation.protocols import selection_key
from tests.helpers.people import write_people
from tests.helpers.stand_in import trainer


@pytest.fixture
def people(tmp_path):
    return write_people(tmp_path / "people", train=4, val=2, test=2, images=1)


def run(workspace, people, row, seeds=(0,), train=trainer, overrides=()):
    suite = load_suite("table4")
    given = [f"data.root={people}", *overrides]
    runs = plan(suite, [suite.row(row)], "smoke", given, seeds, workspace)
    execute(runs, workspace, train=train)
    return [each.directory for each in runs]


def reaching(val, test, epoch=2):
    """A trainer that ends at once, with that validation (R@1, R@5, R@10) and test R@1."""

    def train(config, directory, log, **rest):
        (directory / "selected" / f"epoch-{epoch:04d}").mkdir(parents=True)
        values = dict(zip(("r1", "r5", "r10"), val, strict=True))
        selected = {"epoch": epoch, "step": 1, "val": {"epoch": epoch, **values}}
        return {"selected": selected, "last": {"epoch": 3}, "test": {"r1": test}, "cost": {"seconds": 5.0}}

    return train


def stops_in_epoch_3(config, directory, log, should_stop, resume_from_step, **rest):
    """Two epochs, of which validation has chosen the first, and a step of the third."""
    for epoch, r1 in ((1, 30.0), (2, 20.0)):
        log("val", 5 * epoch, {"r1": r1, "r5": 50.0, "r10": 60.0, "epoch": epoch})
    (directory / "selected" / "epoch-0001").mkdir(parents=True)
    log("train", 11, {"loss": 1.0})
    raise KeyboardInterrupt


def told(capsys, *arguments):
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_a_line_for_each_run_with_what_it_has_reached(people, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    changed = ["optimisation.weight_decay=0.5"]
    (done,) = run(tmp_path, people, "cl", train=reaching((40.0, 50.0, 60.0), 12.5))
    run(tmp_path, people, "itm", train=stops_in_epoch_3, overrides=changed)
    text = told(capsys, "status", "--workspace", tmp_path).splitlines()
    rows = [line.split() for line in text]
    assert rows[0] == [
        "RUN",
        "PROFILE",
        "ID",
        "STATE",
        "VAL",
        "R@1",
        "TEST",
        "R@1",
        "EPOCH",
        "WHEN",
        "CHANGED",
        "BY",
        "-o",
        "WHY",
    ]
    assert rows[1][:8] == ["table4/cl", "seed", "0", "smoke", done.name[7:], "finished", "40.00", "12.50"]
    assert rows[1][8] == "3/5" and rows[1][9] == read_json(done / RESULT)["finished"][:10]
    # The chosen epoch's R@1, not the last one's; nothing of test yet.
    assert rows[2][5:9] == ["interrupted", "30.00", "-", "2/5"] and rows[2][11] == changed[0]
    assert "no checkpoint yet" in text[2]
    starts = {line.index(word) for line, word in zip(text, ("STATE", "finished", "interrupted"), strict=True)}
    assert len(starts) == 1  # they are columns
    assert "CHANGED" not in told(capsys, "status", "table4/cl", "--workspace", tmp_path)


def test_the_json_of_a_run_has_the_documented_keys(people, tmp_path, capsys):
    (half,) = run(tmp_path, people, "itm", train=stops_in_epoch_3)
    (found,) = json.loads(told(capsys, "status", "--workspace", tmp_path, "--json"))
    documented = (Path(__file__).parents[1] / "docs" / "everyday.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in documented for key in found)
    assert found["val_r1"] == 30.0 and found["test_r1"] is None and found["selected_epoch"] == 1
    assert (found["epoch"], found["epochs"], found["seconds"]) == (2, 5, None)
    assert found["weights"] == str(half / "selected" / "epoch-0001")
    last = json.loads((half / "metrics.jsonl").read_text().splitlines()[-1])["time"]
    assert datetime.fromisoformat(found["when"]).timestamp() == pytest.approx(last, abs=2e-3)


def test_a_failed_run_says_when_and_why(people, tmp_path, capsys):
    def fails(config, directory, **rest):
        raise RunFailed("loss is nan at epoch 1, step 3")

    (directory,) = run(tmp_path, people, "cl", train=fails)
    (found,) = json.loads(told(capsys, "status", "table4", "--workspace", tmp_path, "--json"))
    assert (found["state"], found["reason"], found["val_r1"]) == ("failed", "loss is nan at epoch 1, step 3", None)
    assert found["when"] == read_json(directory / "failure.json")["time"] and found["weights"] is None


@pytest.mark.parametrize(
    "figures",
    [
        {"r1": 10.0, "r5": 20.0, "r10": 60.0},
        {"r1": 10.0, "r5": 20.0, "r10": 60.0, "tr_r1": 30.0, "tr_r5": 40.0, "tr_r10": 50.0},
        {"r1": 10.0, "r5": 20.0, "r10": 60.0, "tr_r1": 30.0, "tr_r5": 0.0, "tr_r10": 0.0, "ap50": 20.0},
    ],
)
def test_rows_are_chosen_by_what_epochs_are_chosen_by(figures):
    assert choice(figures) == pytest.approx(selection_key(figures))
    assert choice(figures | {"epoch": 3, "loss": 99.0}) == choice(figures)


def test_the_best_are_chosen_by_validation_and_never_by_test(people, tmp_path, capsys):
    """By hand: cl has validation 40 and 50, mean 45, test 10; itm 44, test 90. So cl is first, and its seed 1."""
    run(tmp_path, people, "cl", [0], reaching((40.0, 50.0, 60.0), 10.0))
    (best,) = run(tmp_path, people, "cl", [1], reaching((50.0, 60.0, 70.0), 10.0, epoch=3))
    run(tmp_path, people, "itm", [0], reaching((44.0, 99.0, 99.0), 90.0))
    run(tmp_path, people, "s-itm", [0], stops_in_epoch_3)
    (contest,) = json.loads(told(capsys, "best", "--workspace", tmp_path, "--json"))
    assert [(row["row"], row["rank"], row["val_r1"], row["test_r1"]) for row in contest["rows"]] == [
        ("cl", 1, 45.0, 10.0),
        ("itm", 2, 44.0, 90.0),
    ]
    first = contest["rows"][0]["best"]
    assert (first["seed"], first["epoch"], first["val_r1"]) == (1, 3, 50.0)
    assert first["weights"] == str(best / "selected" / "epoch-0003") and os.path.isdir(first["weights"])
    assert contest["rows"][0]["seeds"] == [0, 1] and "validation" in contest["chosen_by"]
    text = told(capsys, "best", "table4", "--number", "1", "--workspace", tmp_path)
    assert "1. cl" in text and str(best / "selected" / "epoch-0003") in text and "and 1 more rows" in text
    assert "itm" not in text


def test_equal_validation_is_decided_by_the_recalls_and_then_by_the_seed(people, tmp_path, capsys):
    run(tmp_path, people, "cl", [0, 1], reaching((40.0, 50.0, 60.0), 1.0))
    run(tmp_path, people, "itm", [0], reaching((40.0, 50.0, 63.0), 1.0))
    (contest,) = json.loads(told(capsys, "best", "--workspace", tmp_path, "--json"))
    assert [row["row"] for row in contest["rows"]] == ["itm", "cl"]
    assert contest["rows"][1]["best"]["seed"] == 0


def test_other_configs_of_a_row_are_rows_of_their_own_and_other_data_is_another_contest(people, tmp_path, capsys):
    run(tmp_path, people, "cl", [0], reaching((40.0, 50.0, 60.0), 1.0))
    run(tmp_path, people, "cl", [0], reaching((45.0, 50.0, 60.0), 1.0), ["optimisation.epochs=3"])
    other = write_people(tmp_path / "other", train=5, val=2, test=2, images=1)
    run(tmp_path, other, "cl", [0], reaching((99.0, 99.0, 99.0), 1.0))
    contests = json.loads(told(capsys, "best", "--workspace", tmp_path, "--json"))
    of_rows = sorted([(row["variant"], row["val_r1"]) for row in contest["rows"]] for contest in contests)
    assert of_rows == [[("", 99.0)], [("optimisation.epochs=3", 45.0), ("", 40.0)]]


def test_a_stale_best_run_is_marked_and_nothing_finished_is_said(people, tmp_path, capsys):
    assert main(["best", "--workspace", str(tmp_path)]) == 0
    assert f"no finished runs in {tmp_path / 'runs'}" in capsys.readouterr().err
    (directory,) = run(tmp_path, people, "cl", train=reaching((40.0, 50.0, 60.0), 1.0))
    environment = read_json(directory / "environment.json")
    environment["code"]["rasa/draws.py"] = "0" * 64
    write_json(directory / "environment.json", environment)
    assert "(stale: the code has changed since)" in told(capsys, "best", "--workspace", tmp_path)
