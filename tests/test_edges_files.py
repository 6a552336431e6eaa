"""Files from elsewhere: weights that are none, vocabularies that bring code,
captions and images as other systems write them."""

import json
import struct
import unicodedata
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from rasa.config.run import Data
from rasa.data.check import check
from rasa.data.load import load_dataset
from rasa.data.tokenizer import tokenizer_from_transformers
from rasa.data.transforms import ImageFault, open_rgb
from rasa.errors import ResourceError
from rasa.training.masked_lm import check_masked_lm
from rasa.weights.files import read_tensors
from rasa.weights.layouts import recognise
from reports.formats import csv_of
from tests.helpers.people import write_people

STATE = {f"visual_encoder.blocks.{i}.norm1.weight": torch.ones(4) for i in range(2)}


class Callback:
    """Something of a training program's own."""


def written(path, kind):
    if kind == "script":
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    elif kind == "lightning":
        torch.save({"state_dict": STATE, "pytorch-lightning_version": "2.5", "callbacks": {"x": Callback()}}, path)
    elif kind == "zip":
        import zipfile

        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "weights")
    elif kind == "npz":
        with path.open("wb") as file:
            np.savez(file, a=np.ones(2))
    elif isinstance(kind, bytes):
        path.write_bytes(kind)
    else:
        torch.save(kind, path)
    return path


whole = torch.nn.Linear(2, 2)
FOREIGN = [
    (b"<!DOCTYPE html><html><body>Virus scan warning</body></html>", "an HTML page.*download the file again"),
    (b"\n<HTML>", "an HTML page"),
    (b"<?xml version='1.0'?><Error/>", "XML or web page"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer.*git lfs pull"),
    (b"", "empty"),
    (b"\0" * 100, "nothing but zeros"),
    (b"\x1f\x8b\x08\0", "compressed archive.*unpack"),
    (b'{"weight_map": {}}', "JSON"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    ("script", "TorchScript.*state_dict"),
    ("lightning", "Lightning checkpoint.*state_dict"),
    ("zip", "zip archive without weights"),
    ("npz", "NumPy arrays"),
    (whole, "pickled module.*torch.nn.modules.linear.Linear.*state_dict"),
    ({"model": STATE, "best": np.float64(61.2)}, "NumPy values"),
    ({"model": STATE, "curve": np.ones(3)}, "NumPy values"),
    ({"model": STATE, "own": Callback()}, "pickled .*Callback"),
]


@pytest.mark.parametrize(("kind", "said"), FOREIGN)
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_foreign_file_is_named_for_what_it_is_with_what_to_do(tmp_path, kind, said):
    file = written(tmp_path / "weights.pth", kind)
    with pytest.raises(ResourceError, match=f"weights.pth: not a readable checkpoint: it .*{said}") as fault:
        read_tensors(file)
    assert "\n" not in str(fault.value) and len(str(fault.value)) < 420


def test_openai_s_names_of_clip_are_known_as_such():
    with pytest.raises(ResourceError, match=r"OpenAI's own names.*openai/clip-vit-base-patch16"):
        recognise({"visual.transformer.resblocks.0.ln_1.weight": torch.ones(1)}, "ViT-B-16.pt")


def test_a_run_and_its_folder_of_selected_weights_stand_for_the_weights(tmp_path):
    from rasa.weights.folder import save_checkpoint

    for epoch in (1, 2):
        save_checkpoint(tmp_path / "selected" / f"epoch-000{epoch}", {"a": torch.tensor([float(epoch)])}, {})
    assert read_tensors(tmp_path)["a"] == read_tensors(tmp_path / "selected")["a"] == torch.tensor([2.0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResourceError, match="holds no weights; give a checkpoint's path"):
        read_tensors(tmp_path / "empty")


@pytest.mark.parametrize(
    "stated",
    [
        {"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["evil.Tok", None]}}},
        {"config.json": {"auto_map": {"AutoConfig": "evil.Cfg"}, "model_type": "evil"}},
    ],
)
def test_a_folder_that_brings_code_is_refused_and_its_code_never_run(tmp_path, stated, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *prompt: pytest.fail("asked"))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'PWNED')!r}, 'w')\nclass Tok: pass\nclass Cfg: pass\n")
    for name, content in stated.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ResourceError, match=r"Python code of its own \(auto_map\), which is never run"):
        tokenizer_from_transformers(str(tmp_path))
    tokenizer = tokenizer_of(tmp_path)
    with pytest.raises(ResourceError, match="auto_map"):
        check_masked_lm(str(tmp_path), tokenizer)
    assert not (tmp_path / "PWNED").exists()


def tokenizer_of(folder):
    from rasa.data.tokenizer import train_tokenizer

    return train_tokenizer(["a person in red"], 64)


def changed(root, change):
    records = json.loads((root / "reid_raw.json").read_text())
    for number, record in enumerate(records):
        change(number, record)
    (root / "reid_raw.json").write_text(json.dumps(records))


@pytest.mark.parametrize(
    "text", ["\u200b", "\ufeff\u200d", "\u00ad", " \u2060 ", "\u0301", "\u3164", "\u2800", "\u202e", "\ufe0f"]
)
def test_a_caption_of_which_nothing_is_seen_is_refused_by_its_record(tmp_path, text):
    root = write_people(tmp_path, train=3, val=2, test=2, images=1)
    changed(root, lambda number, record: record.update(captions=["A person.", text]) if number == 3 else None)
    with pytest.raises(ResourceError, match=r"record 3.*captions\[1\].*cleaning leaves nothing"):
        load_dataset(Data(root=root))
    assert next(problem.kind for problem in check(Data(root=root, tokenizer="captions"), workers=1)) == "record"


def other_case(path):
    return path.replace("cam0", "CAM0").replace(".png", ".PNG")


SPELLINGS = {
    "backslashes": (lambda path: path.replace("/", "\\"), lambda path: path),
    "letter case": (other_case, lambda path: path),
    "composed on disk, decomposed in the file": (
        lambda path: unicodedata.normalize("NFD", path.replace("cam", "cäm")),
        lambda path: unicodedata.normalize("NFC", path.replace("cam", "cäm")),
    ),
    "all at once": (
        lambda path: unicodedata.normalize("NFD", path.replace("cam", "CÄM")).replace("/", "\\"),
        lambda path: unicodedata.normalize("NFC", path.replace("cam", "cäm")),
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_names_as_another_system_spells_them_are_read_and_said(tmp_path, spelling):
    in_file, on_disk = SPELLINGS[spelling]
    plain = load_dataset(Data(root=write_people(tmp_path / "plain", train=4, val=2, test=2, images=2)))
    root = write_people(tmp_path / "set", train=4, val=2, test=2, images=2)
    for path in sorted((root / "imgs").rglob("*.*")):
        name = root / "imgs" / on_disk(path.relative_to(root / "imgs").as_posix())
        name.parent.mkdir(exist_ok=True)
        path.rename(name)
    changed(root, lambda number, record: record.update(file_path=in_file(record["file_path"])))
    dataset = load_dataset(Data(root=root))
    assert any("spelt otherwise on the disk" in note for note in dataset.notes)
    for name, split in dataset.splits.items():
        assert split.captions == plain.splits[name].captions
        assert all((dataset.image_root / file).is_file() for file in split.image_files)


def test_a_spelling_that_fits_two_files_is_missing_and_another_ending_is_named(tmp_path):
    root = write_people(tmp_path, train=4, val=2, test=2, images=1)
    first = json.loads((root / "reid_raw.json").read_text())[0]["file_path"]
    image = root / "imgs" / first
    image.rename(image.with_suffix(".jpeg"))
    with pytest.raises(ResourceError, match=r"1 of 8 annotated images are missing.*is there as 0001_0.jpeg"):
        load_dataset(Data(root=root))
    for name in ("A.Png", "a.pnG"):
        (image.parent / name).write_bytes(image.with_suffix(".jpeg").read_bytes())
    changed(root, lambda number, record: record.update(file_path="cam0/a.png") if number == 0 else None)
    with pytest.raises(ResourceError, match="1 of 8 annotated images are missing: cam0/a.png"):
        load_dataset(Data(root=root))


def test_a_respelt_name_never_leads_out_of_the_image_folder(tmp_path):
    root = write_people(tmp_path / "set", train=4, val=2, test=2, images=1)
    (tmp_path / "secret").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "secret" / "a.png")
    (root / "imgs" / "OUT").symlink_to(tmp_path / "secret")
    changed(root, lambda number, record: record.update(file_path="out\\a.png") if number == 0 else None)
    with pytest.raises(ResourceError, match="is a link out of"):
        load_dataset(Data(root=root))


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("where", ["before the pixels", "after them"])
@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_a_whole_png_with_a_large_text_is_whole(tmp_path, where, kind):
    file = tmp_path / "a.png"
    Image.new("RGB", (8, 16), "red").save(file)
    content = file.read_bytes()
    packed = zlib.compress(b"x" * 2**24)
    text = chunk(kind, b"note\0\0" + packed if kind == b"zTXt" else b"note\0\1\0\0\0" + packed)
    place = content.index(b"IDAT") - 4 if where == "before the pixels" else content.index(b"IEND") - 4
    file.write_bytes(content[:place] + text + content[place:])
    assert open_rgb(file).getpixel((3, 3)) == (255, 0, 0)
    assert open_rgb(tmp_path / "gone.png", file.read_bytes()).getpixel((3, 3)) == (255, 0, 0)
    file.write_bytes(file.read_bytes()[: place + 20])
    with pytest.raises(ImageFault):
        open_rgb(file)


def test_no_cell_of_a_csv_is_a_formula():
    texts = ["=1+1", "+SA", "-cmd", "@x", "\t=1", "safe", "-0.5;0.25", "-3.5", "1e-05;-2.0"]
    table = csv_of([{"=head": text, "value": -0.5} for text in texts])
    rows = [line.rpartition(",")[0].strip('"') for line in table.splitlines()]
    assert rows == ["'=head", "'=1+1", "'+SA", "'-cmd", "'@x", "'\t=1", "safe", "-0.5;0.25", "-3.5", "1e-05;-2.0"]
    assert table.splitlines()[1].endswith(",-0.5")
