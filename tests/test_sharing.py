"""Files that never change lie on the disk once: a run's folder, its artifacts, a run that was copied."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import sharing
from experiments.clean import CHECKPOINTS, remove, unneeded
from experiments.delivery import Delivery
from experiments.filed import Filed
from experiments.plan import plan
from experiments.rundir import METRICS, PREDICTIONS, RESULT, SELECTED
from experiments.runner import execute
from experiments.sharing import place, place_folder, shareable
from experiments.spec import load_suite
from experiments.store import default_uri, open_store
from rasa.weights.folder import load_checkpoint, save_checkpoint, save_tensors
from tests.helpers.people import write_people
from tests.helpers.stand_in import checkpoint, trainer


def trains(config, directory, **rest):
    """The stand-in, which also leaves predictions, chosen weights and a checkpoint."""
    found = trainer(config, directory, **rest)
    save_tensors({"first_rank": torch.arange(64)}, directory / PREDICTIONS)
    save_checkpoint(directory / SELECTED / "epoch-0002", {"a": torch.arange(4096.0)}, {"epoch": 2})
    return found


@pytest.fixture
def run(tmp_path):
    people = write_people(tmp_path / "people", train=4, val=2, test=2, images=1)
    suite = load_suite("table4")
    (planned,) = plan(
        suite, [suite.row("cl")], "smoke", [f"data.root={people}", "optimisation.epochs=2"], [0], tmp_path
    )
    execute([planned], tmp_path, train=trains)
    return planned


def delivered(run, workspace):
    """The folder of a run's artifacts, after a delivery."""
    uri = default_uri(workspace)
    client = open_store(uri)
    assert Delivery(Filed(client, uri, workspace, False), workspace, run.directory).send() == "there"
    found = [path for path in workspace.rglob(RESULT) if path.parent != run.directory]
    assert len(found) == 1
    return found[0].parent


def same(a: Path, b: Path) -> bool:
    return os.path.samefile(a, b)


def weights(folder: Path) -> Path:
    (found,) = (folder / SELECTED / "epoch-0002").glob("*.safetensors")
    return found


def test_a_delivery_shares_weights_and_predictions_and_copies_what_may_change(run, tmp_path):
    there = delivered(run, tmp_path)
    assert same(there / PREDICTIONS, run.directory / PREDICTIONS)
    assert same(weights(there), weights(run.directory))
    for name in (METRICS, RESULT, "spec.yaml"):
        assert not same(there / name, run.directory / name)
        assert (there / name).read_bytes() == (run.directory / name).read_bytes()
    assert not list(there.rglob("*.tmp"))


def test_what_is_written_anew_leaves_the_artifact_as_it_was(run, tmp_path):
    """Weights, predictions by the writers that runs have; a line more of figures; and the run's folder removed."""
    there = delivered(run, tmp_path)
    before = {path: path.read_bytes() for path in there.rglob("*") if path.is_file()}
    save_checkpoint(run.directory / SELECTED / "epoch-0002", {"a": torch.zeros(4096)}, {"epoch": 2})
    with (run.directory / METRICS).open("a") as file:
        file.write("{}\n")
    assert {path: path.read_bytes() for path in before} == before
    shutil.rmtree(run.directory)
    assert {path: path.read_bytes() for path in before} == before
    assert load_checkpoint(there / SELECTED / "epoch-0002")[0]["a"].sum() == torch.arange(4096.0).sum()


def test_predictions_are_never_written_into(run, tmp_path, monkeypatch):
    """The writer of predictions (rasa/evaluation/split.py) puts a new file in the old one's place."""
    from rasa.evaluation import split as splits

    there = delivered(run, tmp_path)
    before = (there / PREDICTIONS).read_bytes()

    class Ranking:
        @staticmethod
        def predictions():
            return {"first_rank": torch.zeros(64)}

    class Split:
        @staticmethod
        def order():
            return {}

    monkeypatch.setattr(splits, "query_identities", lambda *given: np.zeros(1))
    splits.save_predictions(run.directory, Ranking, Split, "text-to-image")
    assert (run.directory / PREDICTIONS).read_bytes() != before == (there / PREDICTIONS).read_bytes()


def test_clean_removes_checkpoints_and_leaves_what_is_shared(run, tmp_path):
    there = delivered(run, tmp_path)
    checkpoint(run.directory, 3)
    before = {path: path.read_bytes() for path in there.rglob("*") if path.is_file()}
    for found in list(unneeded(tmp_path)):
        assert remove(found)
    assert not (run.directory / CHECKPOINTS).exists()
    assert weights(run.directory).exists() and (run.directory / PREDICTIONS).exists()
    assert {path: path.read_bytes() for path in before} == before


def test_another_disk_gets_copies(run, tmp_path, monkeypatch):
    def refuses(*given, **rest):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(sharing.os, "link", refuses)
    there = delivered(run, tmp_path)
    assert not same(there / PREDICTIONS, run.directory / PREDICTIONS)
    assert (there / PREDICTIONS).read_bytes() == (run.directory / PREDICTIONS).read_bytes()
    assert weights(there).read_bytes() == weights(run.directory).read_bytes()


def test_placing_again_changes_nothing_and_leaves_nothing(tmp_path):
    source, target = tmp_path / "a.safetensors", tmp_path / "to" / "a.safetensors"
    source.write_bytes(b"1")
    target.parent.mkdir()
    target.write_bytes(b"old")
    for _ in range(2):
        place(source, target)
        assert same(source, target) and [path.name for path in target.parent.iterdir()] == ["a.safetensors"]
    (tmp_path / "from" / "deep").mkdir(parents=True)
    (tmp_path / "from" / "deep" / "state.json").write_text("{}")
    place_folder(tmp_path / "from", target.parent)
    assert (target.parent / "deep" / "state.json").read_text() == "{}"
    assert shareable(source) and not shareable(tmp_path / METRICS) and not shareable(tmp_path / RESULT)


def test_a_run_that_is_copied_shares_its_twin_s_weights(run, tmp_path):
    suite = load_suite("table4")
    text = json.dumps(
        {
            "suite": "other",
            "title": "The same row",
            "profile": "smoke",
            "rows": [{"name": "cl", "extends": "table4/cl"}],
        }
    )
    (tmp_path / "other.yaml").write_text(text)
    other = load_suite(str(tmp_path / "other.yaml"))
    options = [f"data.root={tmp_path / 'people'}", "optimisation.epochs=2"]
    (copy,) = plan(other, list(other.rows), "smoke", options, [0], tmp_path)
    (done,) = execute([copy], tmp_path, train=None)
    assert done.state == "finished" and suite.suite == "table4"
    assert same(weights(copy.directory), weights(run.directory))
    assert not same(copy.directory / METRICS, run.directory / METRICS)
