"""Memory and disk that are used up: one line with what was asked for and a setting that fits; nothing half written."""

import errno
import re
from types import SimpleNamespace

import pytest
import torch

from experiments.execution import failed
from rasa import memory
from rasa.config.run import Config
from rasa.errors import ResourceError, RunFailed
from rasa.evaluation.split import retrieval_too_large
from rasa.memory import check_room, is_out_of_memory, memory_explained
from rasa.training.train import train
from rasa.weights.files import bounded_memory
from rasa.weights.folder import load_checkpoint, save_checkpoint
from tests.helpers.people import tiny_config, write_people


def test_the_words_of_torch_s_own_allocator_are_known():
    with bounded_memory(2**28), pytest.raises(RuntimeError) as fault:
        torch.empty(2**40)
    assert not isinstance(fault.value, torch.OutOfMemoryError)  # else nothing of this would be needed
    assert (
        is_out_of_memory(fault.value) and is_out_of_memory(MemoryError()) and is_out_of_memory(torch.OutOfMemoryError())
    )
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes"), memory_explained(lambda: "too large"):
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (
            "rasa.training.train.forward_backward",
            r"out of memory with batch 8 in 1 parts at 32 x 16 pixels; try -o optimisation.accumulation=2",
        ),
        (
            "rasa.evaluation.split.evaluate_by",
            r"out of memory in retrieval on val: 24 captions, 12 images of 32 x 16 pixels.*-o evaluation.batch_size=",
        ),
    ],
)
def test_a_cpu_s_want_of_memory_names_batch_size_image_size_and_a_setting_that_fits(tmp_path, monkeypatch, place, said):
    def greedy(*arguments, **named):
        return torch.empty(2**46)

    monkeypatch.setattr(place, greedy)
    (tmp_path / "run").mkdir()
    config = Config.model_validate(tiny_config(write_people(tmp_path / "people")))
    with pytest.raises(RunFailed, match=said):
        train(config, tmp_path / "run", log=lambda *figures: None)


@pytest.mark.parametrize("least", [False, True])
def test_the_settings_that_are_named_for_retrieval_are_smaller_and_valid(tmp_path, least):
    """Where a setting cannot be smaller it stays."""
    values = tiny_config(tmp_path, evaluation={"topk": 2} | ({"batch_size": 2, "gallery_mib": 1} if least else {}))
    config = Config.model_validate(values)
    text = retrieval_too_large(SimpleNamespace(name="test", captions=("a",), image_files=("b",)), config)
    options = dict(re.findall(r"-o evaluation\.(\w+)=(\d+)", text))
    assert options.keys() == {"batch_size", "tokens_per_call", "gallery_mib"}
    smaller = Config.model_validate(values | {"evaluation": values["evaluation"] | options}).evaluation
    for name in options:
        asked, before = getattr(smaller, name), getattr(config.evaluation, name)
        assert asked < before or (least and name == "gallery_mib" and asked == before == 1)


def test_a_checkpoint_that_does_not_fit_is_refused_before_a_byte_is_written(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "step-1", {"a": torch.ones(4)}, {"epoch": 1})
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    with pytest.raises(ResourceError, match=r"step-2: 17 MiB are needed and 1 MiB are free; free some space there"):
        save_checkpoint(tmp_path / "step-2", {"a": torch.ones(2**18)}, {"epoch": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    assert load_checkpoint(tmp_path / "step-1")[1] == {"epoch": 1}
    with pytest.raises(ResourceError, match="are needed"):
        check_room(tmp_path / "not" / "there" / "yet", 1)


def test_a_disk_that_fills_while_a_checkpoint_is_written_leaves_no_part_of_it(tmp_path, monkeypatch):
    def fills(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("rasa.weights.folder._sync", fills)
    with pytest.raises(ResourceError, match="step-2: .*free some space there, then the same command goes on"):
        save_checkpoint(tmp_path / "step-2", {"a": torch.ones(4)}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_the_system_refuses_is_no_bug_of_the_program(tmp_path):
    run = SimpleNamespace(directory=tmp_path, about=SimpleNamespace(name="table4/cl seed 0"))
    full = failed(run, OSError(errno.ENOSPC, "No space left on device"))
    assert (
        full.exit_code == 5
        and full.message
        == f"{tmp_path}: no space left on the disk; free some space there, then the same command goes on"
    )
    closed = failed(run, PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "metrics.jsonl")))
    assert closed.exit_code == 5 and closed.message.startswith(f"{tmp_path}/metrics.jsonl: Permission denied; ")
