"""`rasa checkpoint convert`: outside weights become a folder of ours, or are refused with nothing written."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
import torch

from rasa.commands.cli import main
from rasa.errors import ResourceError
from rasa.weights.files import bounded_memory
from rasa.weights.folder import load_checkpoint
from rasa.weights.released import REDUNDANT, read_state
from tests.helpers.published import PRETRAINING, RASA, load, random_state, retrieval_state, wrapped
from tests.helpers.tiny_model import ALL


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("make", "layout"),
    [
        (lambda: wrapped(random_state(PRETRAINING)), "ALBEF or TCL pre-training checkpoint"),
        (lambda: wrapped(random_state(RASA)), "RaSa training checkpoint (online, momentum, heads, queues)"),
        (lambda: wrapped(retrieval_state()), "ALBEF or TCL checkpoint fine-tuned for retrieval"),
        (
            lambda: {f"module.{k}": v for k, v in random_state(RASA).items()},
            "RaSa training checkpoint (online, momentum, heads, queues)",
        ),
    ],
    ids=["pretraining", "released", "retrieval", "module"],
)
def test_convert_writes_a_folder_that_loads_like_the_file(tmp_path, capsys, make, layout):
    torch.save(make(), tmp_path / "theirs.pth")
    assert run("checkpoint", "convert", tmp_path / "theirs.pth", tmp_path / "ours", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["layout"] == layout and record["sizes"]["vision_depth"] == 12
    assert record["source"]["sha256"] == hashlib.sha256((tmp_path / "theirs.pth").read_bytes()).hexdigest()
    tensors, state = load_checkpoint(tmp_path / "ours")
    assert state == record
    theirs = {key: value for key, value in read_state(tmp_path / "theirs.pth").items() if not REDUNDANT.match(key)}
    assert set(tensors) == set(theirs) and all(torch.equal(tensors[key], value) for key, value in theirs.items())
    weights = {"cl": 0.5, "itm": 1.0} if "retrieval" in layout else ALL
    reports = [load(read_state(tmp_path / name), weights)[3] for name in ("theirs.pth", "ours")]
    assert reports[0] == reports[1]
    assert run("checkpoint", "inspect", tmp_path / "ours") == 0
    assert layout in capsys.readouterr().out


def spoiled(change):
    state = random_state(RASA)
    change(state)
    return {"model": state}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spoiled(lambda s: s.pop("text_proj.weight")), "text_proj.weight is missing"),
        (lambda: spoiled(lambda s: s.update({"blip.head": torch.zeros(2)})), "blip.head is unknown"),
        (lambda: spoiled(lambda s: s.update({"temp": torch.zeros(3)})), "temp [3] instead of []"),
        (lambda: spoiled(lambda s: s["itm_head.weight"].fill_(torch.nan)), "itm_head.weight holds values that are no"),
        (
            lambda: spoiled(lambda s: s.update({"itm_head.bias": torch.zeros(2, dtype=torch.int64)})),
            "itm_head.bias is torch.int64",
        ),
        (
            lambda: spoiled(lambda s: s.update({"itm_head.bias": torch.zeros(2).to_sparse()})),
            "itm_head.bias is not a dense tensor",
        ),
        (
            lambda: spoiled(lambda s: s.update({"image_queue": torch.zeros(1).expand(8, 16)})),
            "image_queue declares more values",
        ),
        (lambda: {"epoch": 3}, "epoch is not a dense tensor"),
        (lambda: {"a.b": torch.zeros(2)}, "not a RaSa, ALBEF, TCL or CLIP checkpoint"),
    ],
    ids=["missing", "unknown", "shape", "nan", "dtype", "sparse", "expanded", "no weights", "other"],
)
def test_convert_refuses_in_one_line_and_writes_nothing(tmp_path, capsys, make, message):
    torch.save(make(), tmp_path / "theirs.pth")
    assert run("checkpoint", "convert", tmp_path / "theirs.pth", tmp_path / "ours") == 5
    err = capsys.readouterr().err.strip()
    assert message in err and "theirs.pth" in err and len(err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs.pth"]


def test_convert_never_replaces_what_is_there(tmp_path, capsys):
    torch.save({"model": random_state(RASA)}, tmp_path / "theirs.pth")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "notes.txt").write_text("mine")
    assert run("checkpoint", "convert", tmp_path / "theirs.pth", tmp_path / "ours") == 5
    assert "ours: is there already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "ours").iterdir()] == ["notes.txt"]


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("payload-ran"),))


class Greedy:
    """A pickle of a few bytes that asks for 4 TB, by a call that weights_only allows."""

    def __reduce__(self):
        return (bytearray, (4 * 10**12,))


@pytest.mark.parametrize("extra", [Payload(), Greedy()], ids=["payload", "greedy"])
def test_convert_runs_nothing_and_takes_no_more_memory_than_the_file_fills(tmp_path, monkeypatch, capsys, extra):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": random_state(RASA), "config": extra}, "theirs.pth")
    assert run("checkpoint", "convert", "theirs.pth", "ours") == 5
    assert "theirs.pth: not a readable checkpoint" in capsys.readouterr().err
    assert not Path("payload-ran").exists() and not Path("ours").exists()


def test_memory_is_bounded_inside_and_not_afterwards():
    with pytest.raises(MemoryError), bounded_memory(64 * 2**20):
        bytearray(256 * 2**20)
    assert len(bytearray(256 * 2**20)) == 256 * 2**20


def test_a_zip_whose_records_unpack_to_more_than_the_file_is_refused(tmp_path):
    torch.save({"temp": torch.zeros(10**6)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for record in plain.infolist():
            packed.writestr(record.filename, plain.read(record))
    assert read_state(tmp_path / "plain.pth")["temp"].shape == (10**6,)
    with pytest.raises(ResourceError, match=r"packed.pth: not a readable checkpoint"):
        read_state(tmp_path / "packed.pth")


def test_one_flipped_byte_in_a_converted_folder_is_found(tmp_path):
    torch.save({"model": random_state(RASA)}, tmp_path / "theirs.pth")
    assert run("checkpoint", "convert", tmp_path / "theirs.pth", tmp_path / "ours") == 0
    file = tmp_path / "ours" / "tensors.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(ResourceError, match="damaged checkpoint"):
        read_state(tmp_path / "ours")
