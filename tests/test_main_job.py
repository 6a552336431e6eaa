"""The main job as a user runs it: `rasa run` on files from elsewhere, killed and run again, planned and skipped."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rasa.commands.cli import main
from rasa.data.tokenizer import tokenizer_from_vocabulary
from rasa.errors import SpecError
from rasa.training.masked_lm import check_masked_lm
from tests.helpers.one_row import EVERYTHING, newest, run_directory, without_time, write_suite
from tests.helpers.people import write_people


def run(*arguments) -> int:
    return main([str(a) for a in arguments])


def test_kill_9_in_the_middle_of_an_epoch_then_the_same_command(tmp_path, monkeypatch):
    """A real SIGKILL between two checkpoints of epoch 2;
    weights, moments, queues and figures equal the unbroken run's."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    people = write_people(tmp_path / "people", train=40)
    suite = write_suite(tmp_path, people, EVERYTHING, "momentum", checkpoint_steps=4, max_steps_per_epoch=None)
    command = ("run", "--keep-checkpoints", suite, "-o", f"data.root={people}", "--workspace")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    assert run(*command, whole) == 0

    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from rasa.commands.cli import main; sys.exit(main(sys.argv[1:]))",
            *map(str, command),
            str(broken),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    steps_per_epoch = 40 * 3 * 2 // 8
    deadline = time.monotonic() + 600  # on machines that may be busy
    while time.monotonic() < deadline and process.poll() is None:
        if list(broken.glob(f"runs/own/row/*/*/checkpoints/step-{steps_per_epoch + 8:09d}")):
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    stopped = newest(run_directory(broken))[1]
    assert stopped["epoch"] == 1 and stopped["step_in_epoch"] > 0, "not killed in the middle of epoch 2"
    assert not (run_directory(broken) / "result.json").exists()

    assert run(*command, broken) == 0
    (ours, our_state), (theirs, their_state) = newest(run_directory(broken)), newest(run_directory(whole))
    assert set(ours) == set(theirs) and all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert our_state["history"] == their_state["history"]
    assert without_time(run_directory(broken)) == without_time(run_directory(whole))
    results = [json.loads((run_directory(w) / "result.json").read_text()) for w in (broken, whole)]
    assert results[0]["run_id"] == results[1]["run_id"]


def odd_images(folder: Path) -> list[str]:
    """Files as one meets them: palette, RGBA, grey and plain, PNG and JPEG, of all sizes. 16 of them."""
    draw = np.random.default_rng(0)
    names = []
    for i in range(16):
        pixels = draw.integers(0, 255, (20 + 7 * i, 15 + 5 * (i % 4), 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        mode, suffix = [("P", "png"), ("RGBA", "png"), ("L", "jpg"), ("RGB", "jpg")][i % 4]
        image = image.convert(mode)
        name = f"c{i % 3}/{i:03d}.{suffix}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name, **({"transparency": 0} if mode == "P" else {}))
        names.append(name)
    return names


def foreign(root: Path, layout: str) -> Path:
    """16 images of 8 identities under the published field names of `layout`."""
    names = odd_images(root / "imgs")
    records = []
    for i, name in enumerate(names):
        captions = [f"a person number {i // 2} with a {c} coat" for c in ("red", "blue")]
        tokens = [c.split() for c in captions]
        split = "train" if i < 8 else "val" if i < 12 else "test"
        if layout == "rstpreid":
            records.append({"id": i // 2, "img_path": name, "captions": captions, "split": split})
        elif layout == "icfg-pedes":  # one caption, no validation split
            records.append(
                {
                    "split": "train" if i < 12 else "test",
                    "captions": captions[:1],
                    "file_path": name,
                    "processed_tokens": tokens[:1],
                    "id": i // 2,
                }
            )
        else:
            records.append(
                {"split": split, "captions": captions, "file_path": name, "processed_tokens": tokens, "id": i // 2}
            )
    file = {"cuhk-pedes": "reid_raw.json", "icfg-pedes": "ICFG-PEDES.json", "rstpreid": "data_captions.json"}[layout]
    (root / file).write_text(json.dumps(records))
    return root


@pytest.mark.parametrize("layout", ["cuhk-pedes", "icfg-pedes", "rstpreid"])
def test_the_main_job_on_files_that_this_project_did_not_make(tmp_path, monkeypatch, capsys, layout):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = foreign(tmp_path / "their data", layout)
    options = ["-o", f"data.format={layout}", "-o", f"data.root={root}", "-o", "optimisation.epochs=1"]
    if layout == "icfg-pedes":
        options += ["-o", "data.val_identities=2"]
    assert run("run", "table4/p-itm", *options, "--workspace", tmp_path) == 0
    out = capsys.readouterr()
    assert "finished" in out.out
    (result,) = tmp_path.glob("runs/table4/p-itm/smoke/*/result.json")
    assert set(json.loads(result.read_text())["sizes"]) == {"train", "val", "test"}

    assert run("plan", "table4/p-itm", *options, "--workspace", tmp_path) == 0
    assert "finished" in capsys.readouterr().out
    changed = result.stat().st_mtime_ns
    assert run("run", "table4/p-itm", *options, "--workspace", tmp_path) == 0
    assert result.stat().st_mtime_ns == changed
    assert run("plan", "table4/p-itm", *options, "-o", "optimisation.learning_rate=2e-3", "--workspace", tmp_path) == 0
    planned = capsys.readouterr().out
    assert "new" in planned and "optimisation.learning_rate (0.005 -> 0.002)" in planned


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["-o", "objectives.p_waek=0.2"], 3, "objectives.p_weak"),
        (["-o", "optimisation.epochs=many"], 3, "optimisation.epochs"),
        (["-o", "objectives.positives=annotated"], 3, "weights.prd needs positives of both kinds"),
        (["-o", "data.root=nowhere"], 5, "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys, options, code, message):
    assert run("run", "table4/p-itm-prd", *options, "--workspace", tmp_path) == code
    err = capsys.readouterr().err.strip()
    assert message in err and len(err.splitlines()) == 1
    assert not list((tmp_path / "runs").glob("*/*/*/*"))


def test_a_missing_image_is_found_before_training(tmp_path, capsys):
    root = foreign(tmp_path / "data", "cuhk-pedes")
    (root / "imgs" / "c1" / "001.png").unlink()
    assert run("run", "table4/cl", "-o", f"data.root={root}", "--workspace", tmp_path) == 5
    err = capsys.readouterr().err.strip()
    assert "c1/001.png" in err and len(err.splitlines()) == 1


def test_an_ablation_of_ones_own_takes_ten_lines(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.yaml").write_text(
        """\
suite: more-weak-pairs
title: How many weak pairs does p-ITM take?
labels: [p_weak]
rows:
- name: p-weak-0.3
  labels: ["0.3"]
  extends: table4/p-itm-prd
  changes:
    objectives: {p_weak: 0.3}
"""
    )
    assert run("show", tmp_path / "mine.yaml") == 0
    shown = capsys.readouterr().out
    assert "p_weak: 0.3" in shown and "prd: 0.5" in shown


def test_checkpoint_inspect_on_a_full_size_file(tmp_path, capsys):
    """A pre-training file with the 844 published keys, one value per tensor on disk."""
    keys = json.loads((Path(__file__).parent / "golden" / "facts" / "checkpoint_keys.json").read_text())[
        "pretraining_keys"
    ]
    torch.save({"model": {key: torch.zeros(()).expand(shape) for key, shape in keys.items()}}, tmp_path / "ALBEF.pth")
    assert run("checkpoint", "inspect", tmp_path / "ALBEF.pth") == 0
    out = capsys.readouterr().out
    assert "ALBEF or TCL pre-training checkpoint" in out and "missing      5: " in out
    full = json.loads((Path(__file__).parent / "golden" / "facts" / "full_size_model.json").read_text())[
        "state_dict_keys"
    ]
    torch.save({"model": {key: torch.zeros(()).expand(shape) for key, shape in full.items()}}, tmp_path / "RaSa.pth")
    assert run("checkpoint", "inspect", tmp_path / "RaSa.pth", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["complete"] and found["keys"] == 849 and not found["missing"] and not found["unexpected"]


def test_a_fixed_generator_of_other_words_is_refused_before_the_first_run(tmp_path, monkeypatch, capsys):
    """By the config's size, or by the words that the folder lists; rows without that generator do not look at it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = foreign(tmp_path / "data", "cuhk-pedes")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "person", "coat"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"vocab_size": 100}')
    shared = ["-o", f"data.root={root}", "-o", f"data.tokenizer={tmp_path / 'vocab.txt'}", "--workspace", tmp_path]
    for vocabulary, generator, code, message in (
        (None, other, 3, "another vocabulary (100 words) than the tokenizer (7)"),
        ([*words[:-1], "shoe"], other, 3, "another vocabulary (7 words"),
        (["[PAD]"], other, 5, "could not be loaded"),
        (None, "/nope", 5, "objectives.masked_lm: /nope could not be loaded (no such folder); give a folder or a name"),
    ):
        if vocabulary:
            (other / "config.json").write_text('{"vocab_size": 7}')
            (other / "vocab.txt").write_text("\n".join(vocabulary))
        assert run("run", "table4/f-rtd", *shared, "-o", f"objectives.masked_lm={generator}") == code
        err = capsys.readouterr().err.strip()
        assert message in err and len(err.splitlines()) == 1
    assert not list((tmp_path / "runs").glob("*/*/*/*"))
    (other / "vocab.txt").unlink()
    whole = {
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: i for i, word in enumerate(words)},
        }
    }
    (other / "tokenizer.json").write_text(json.dumps(whole))
    check_masked_lm(str(other), tokenizer_from_vocabulary(tmp_path / "vocab.txt"))
    whole["model"]["vocab"] = {word: i for i, word in enumerate([*words[:-1], "shoe"])}
    (other / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(SpecError, match="another vocabulary"):
        check_masked_lm(str(other), tokenizer_from_vocabulary(tmp_path / "vocab.txt"))


def test_a_damaged_image_ends_a_single_run_with_5_and_is_told_once(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = foreign(tmp_path / "data", "cuhk-pedes")
    (root / "imgs" / "c1" / "001.png").write_bytes(b"no image")
    options = ["-o", f"data.root={root}", "-o", "optimisation.epochs=1", "--workspace", tmp_path]
    assert run("run", "table4/cl", *options) == 5
    out = capsys.readouterr()
    assert (out.out + out.err).count("001.png") == 1
    assert run("run", "table4/cl", *options, "--seeds", "0,1") == 4
    out = capsys.readouterr()
    assert (out.out + out.err).count("001.png") == 2
