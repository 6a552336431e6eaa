"""Checkpoints: written whole or not at all, and refused if a byte has changed."""

import os

import pytest
import torch

from rasa.errors import ResourceError
from rasa.weights.folder import load_checkpoint, newest_checkpoint, prune, save_checkpoint
from tests.helpers.checkpoints import TENSORS, saved


def test_round_trip_is_exact(tmp_path):
    state = {"nested": {"x": [0.1, 1e-300]}, "infinite": float("-inf")}
    tensors, read = load_checkpoint(saved(tmp_path, 7, **state))
    assert read == {"step": 7} | state
    assert all(torch.equal(tensors[k], v) and tensors[k].dtype == v.dtype for k, v in TENSORS.items())


def damage(path, kind):
    raw = bytearray(path.read_bytes())
    cut = {"empty": 0, "one byte": 1, "half": len(raw) // 2, "last byte": len(raw) - 1}
    if kind == "flipped":
        raw[-3] ^= 1
    path.write_bytes(bytes(raw[: cut.get(kind, len(raw))]))


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("kind", ["empty", "one byte", "half", "last byte", "flipped"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_taken(tmp_path, file, kind):
    saved(tmp_path, 1)
    damage(saved(tmp_path, 2) / file, kind)
    with pytest.raises(ResourceError, match="step-000000002"):
        load_checkpoint(tmp_path / "step-000000002")
    _, state, problems = newest_checkpoint(tmp_path)
    assert state["step"] == 1 and len(problems) == 1 and "step-000000002" in problems[0]


def test_no_valid_checkpoint_is_not_a_fresh_start(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    damage(saved(tmp_path, 2) / "tensors.safetensors", "half")
    with pytest.raises(ResourceError, match="no valid checkpoint left"):
        newest_checkpoint(tmp_path)


def test_prune_keeps_the_newest_and_clears_what_a_kill_left(tmp_path):
    for step in (1, 2, 3):
        saved(tmp_path, step)
    (tmp_path / ".step-000000004.tmp").mkdir()
    prune(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000002", "step-000000003"]


def test_an_unwritable_place_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="could not be written") as fault:
        save_checkpoint(tmp_path / "file" / "step-1", TENSORS, {})
    assert "\n" not in str(fault.value)


def test_a_kill_while_a_checkpoint_is_replaced_leaves_the_old_one(tmp_path, monkeypatch):
    """The step that follows validation has the same number, so its checkpoint replaces one of the same name."""
    saved(tmp_path, 1)
    saved(tmp_path, 2, validated=False)
    renames = []

    class Killed(BaseException):
        pass

    def replace(source, target):
        renames.append(target)
        if len(renames) == 2:
            raise Killed
        return original(source, target)

    original = os.replace
    monkeypatch.setattr("rasa.weights.folder.os.replace", replace)
    with pytest.raises(Killed):
        saved(tmp_path, 2, validated=True)
    monkeypatch.undo()
    _, state, problems = newest_checkpoint(tmp_path)
    assert state == {"step": 2, "validated": False} and not problems
    saved(tmp_path, 2, validated=True)
    prune(tmp_path, 2)
    assert newest_checkpoint(tmp_path)[1]["validated"] and not list(tmp_path.glob(".step-*"))
