"""`rasa evaluate`: the recorded score matrix from files, a run on its own and on other data, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from rasa.commands.cli import main
from rasa.config.benchmark import BenchmarkParams
from rasa.data.synthetic.write import write_benchmark
from rasa.data.transforms import MEAN, STD
from tests.helpers import golden_set as golden
from tests.helpers.dataset_folders import write_finegrained
from tests.helpers.people import tiny_config, write_people

EVAL, FACTS = golden.tensors("eval"), golden.FACTS["evaluation"]
# Which recorded text is written for which recorded image, so that each image has at least one of its own person.
CAPTIONS = {0: [0, 1], 1: [2, 3], 2: [4, 5], 3: [6], 4: [8, 9], 5: [10], 6: [12], 7: [13], 8: [11], 9: [7]}
TEXTS = [text for texts in CAPTIONS.values() for text in texts]
PATCH = golden.SIZES["patch_size"]
LOWEST, STEP = -8.0, 16.0 / 2**32  # recorded pixels in steps that four bytes can count


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def as_digits(pixels: torch.Tensor) -> np.ndarray:
    """Recorded pixels [3, h, w] as bytes [2h, 2w, 3]: each becomes the four base-256 digits of its number of steps."""
    steps = ((pixels.double() - LOWEST) / STEP).round().long()
    digits = torch.stack([steps >> shift & 255 for shift in (24, 16, 8, 0)], -1).unflatten(-1, (2, 2))
    return digits.permute(1, 3, 2, 4, 0).flatten(0, 1).flatten(1, 2).to(torch.uint8).numpy()


def reading_digits(weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The patch embedding [D, 3, p, p] of recorded pixels as one [D, 3, 2p, 2p] of their digits in normalised images.

    A digit d comes in as v = (d / 255 - mean) / std, so d = 255 (std v + mean), and a pixel is the sum of
    256^(3 - k) STEP d_k, plus LOWEST.
    """
    mean, std = (torch.tensor(values, dtype=torch.float64)[None, :, None, None] for values in (MEAN, STD))
    place = STEP * 256.0 ** torch.arange(3, -1, -1, dtype=torch.float64).view(2, 2)
    weight = weight.double()
    wide = torch.kron(weight * 255 * std, place[None, None])
    constant = LOWEST + place.sum() * 255 * mean
    return wide.float(), (bias.double() + (weight * constant).sum((1, 2, 3))).float()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """The golden checkpoint as the released code saves it, and its gallery and queries as a CUHK-PEDES folder."""
    folder = tmp_path_factory.mktemp("recorded")
    state = dict(golden.tensors("state_before"))
    for suffix in ("", "_m"):
        keys = [f"visual_encoder{suffix}.patch_embed.proj.{part}" for part in ("weight", "bias")]
        state |= zip(keys, reading_digits(*(state[key] for key in keys)), strict=True)
    config = {"image_res": golden.SIZES["image_res"], "bert_config": "configs/config_bert.json"}
    torch.save({"model": state, "optimizer": {"state": {}}, "config": config, "epoch": 29}, folder / "rasa.pth")

    words = [f"w{i}" for i in range(golden.TEXT["vocab_size"])]
    for token, name in (("pad", "[PAD]"), ("unk", "[UNK]"), ("cls", "[CLS]"), ("sep", "[SEP]"), ("mask", "[MASK]")):
        words[golden.IDS[token]] = name
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    captions = [
        " ".join(words[i] for i, real in zip(ids[1:], mask[2:], strict=False) if real)
        for ids, mask in zip(EVAL["input_ids"].tolist(), EVAL["attention_mask"].tolist(), strict=True)
    ]

    records = []
    (folder / "data" / "imgs").mkdir(parents=True)
    for image, texts in CAPTIONS.items():
        Image.fromarray(as_digits(EVAL["images"][image])).save(folder / "data" / "imgs" / f"{image}.png")
        assert all(FACTS["txt2person"][text] == FACTS["img2person"][image] for text in texts)
        for split, first in (("train", 100), ("val", 200), ("test", 0)):
            written = [captions[text] for text in texts]
            records.append(
                {
                    "split": split,
                    "captions": written,
                    "file_path": f"{image}.png",
                    "id": first + FACTS["img2person"][image],
                    "processed_tokens": [caption.split() for caption in written],
                }
            )
    (folder / "data" / "reid_raw.json").write_text(json.dumps(records))
    return folder


def options(folder: Path) -> list[str]:
    return [
        "--data",
        str(folder / "data"),
        "-o",
        f"data.tokenizer={folder / 'vocab.txt'}",
        "-o",
        "model.vision_heads=4",
        "-o",
        "model.text_heads=4",
        "-o",
        f"evaluation.topk={FACTS['k_test']}",
        "-o",
        "optimisation.device=cpu",
    ]


@pytest.mark.parametrize("converted", [False, True], ids=["as released", "converted"])
def test_a_released_checkpoint_gives_the_recorded_score_matrix(recorded, tmp_path, capsys, converted):
    """Weights wrapped as released, PNG files and captions through the tokenizer: all scores of the official code.

    Recorded pixels are arbitrary numbers, which no image file holds; so each is written as the four bytes of its value
    in steps of 2^-28, and the patch embedding, which is linear, adds them up again. Nothing else of the checkpoint
    changes.
    """
    weights = recorded / "rasa.pth"
    if converted:
        weights = tmp_path / "ours"
        assert run("checkpoint", "convert", recorded / "rasa.pth", weights) == 0
        capsys.readouterr()
    file = tmp_path / "predictions.safetensors"
    assert run("evaluate", weights, *options(recorded), "--predictions", file, "--json") == 0
    out = json.loads(capsys.readouterr().out)
    kept = load_file(file)
    matrix = torch.full(EVAL["score"].shape, FACTS["unselected_score"])
    matrix[TEXTS] = matrix[TEXTS].scatter(1, kept["candidates"], kept["scores"])
    assert torch.equal(kept["candidates"], EVAL["topk_idx"][TEXTS])
    # 2e-5: scores of the set differ by 2e-6 between precisions; sums over four digits round a little more
    assert torch.allclose(matrix, EVAL["score"], atol=2e-5)
    for ours in ("r1", "r5", "r10"):
        assert out["metrics"][ours] == pytest.approx(FACTS["metrics_official"][ours], abs=1e-4)
    assert out["metrics"]["map"] == pytest.approx(FACTS["mAP_by_tie_order"]["stable"], abs=1e-4)
    assert (out["images"], out["captions"]) == (10, 14)


def test_the_figures_are_a_table_for_people(recorded, capsys):
    assert run("evaluate", recorded / "rasa.pth", *options(recorded), "--split", "val") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "cuhk-pedes val: 10 images, 14 captions" in lines[0]
    assert lines[1].split() == ["R@1", "R@5", "R@10", "mAP"] and lines[3].startswith("re-ranked     21.43")


def test_the_start_on_cub_by_its_protocol(tmp_path, capsys):
    """Weights by their short name on a folder of Reed et al.'s layout, which is found:
    classes are searched, both ways."""
    root = write_finegrained(tmp_path / "cub", "cub")
    arguments = ["start", "--data", root]  # its recipe has the image size, the heads and the vocabulary
    assert run("evaluate", *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "start on cub test: 6 images, 60 captions"
    assert lines[1].split("  ")[-1] == "AP@50" and "TR R@10" in lines[1]
    assert run("evaluate", *arguments, "--json") == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    # Two classes of three coloured images each, six in all: the 50 found first are all six, half of them right.
    # A class's first image is right or not, so R@1 of two classes is 0, 50 or 100; of six images
    # it is a sixth's multiple.
    assert (
        metrics["ap50"] == 50
        and metrics["r1"] in (0, 50, 100)
        and 6 * metrics["tr_r1"] % 100 == pytest.approx(0, abs=1e-6)
    )


def test_ap50_from_end_to_end_sees_the_order(tmp_path, capsys):
    """Classes of 30 images in a gallery of 90: at best 60 %, in any order a third, and as the kept scores rank them."""
    sizes = {"train_identities": 2, "val_identities": 1, "test_identities": 3, "images_per_identity": 30}
    write_benchmark(tmp_path / "b", BenchmarkParams(**sizes))
    arguments = ["start", "--data", tmp_path / "b", "--format", "cub", "-o", "evaluation.topk=90"]
    assert run("evaluate", *arguments, "--json", "--predictions", tmp_path / "kept.safetensors") == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert 45 < metrics["ap50"] <= 60 and metrics["ap50"] != pytest.approx(100 / 3, abs=5)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (lambda f: [f / "rasa.pth", "--data", f / "data"], 3, "give -o model.vision_heads=N"),
        (lambda f: [f / "rasa.pth", *options(f)[2:]], 2, "is no run, so it has no data of its own; give --data DIR"),
        (
            lambda f: [f / "rasa.pth", *options(f), "-o", "data.tokenizer=captions"],
            5,
            "give the vocabulary that it was trained with",
        ),
        (lambda f: [f / "nowhere.pth", *options(f)], 5, "nowhere.pth: no such file"),
        (lambda f: [f / "vocab.txt", *options(f)], 5, "vocab.txt: not a readable checkpoint"),
        (
            lambda f: [f / "rasa.pth", *options(f), "--data", f],
            5,
            "the annotation file of format cuhk-pedes is missing",
        ),
        (lambda f: [f / "rasa.pth", *options(f), "-o", "model.text_layers=3"], 5, "does not fit this model"),
        (
            lambda f: [f / "rasa.pth", *options(f), "-o", "data.target.root=x"],
            3,
            "-o: data.target: one data set is ranked at a time; name it with --data",
        ),
    ],
    ids=["heads", "no data", "vocabulary", "no file", "no checkpoint", "no data set", "sizes", "target"],
)
def test_what_does_not_fit_is_refused_in_one_line(recorded, capsys, arguments, code, message):
    assert run("evaluate", *arguments(recorded)) == code
    err = capsys.readouterr().err.strip().splitlines()
    assert message in err[-1]
    assert len([line for line in err if line.startswith(("rasa:", "Error:"))]) == 1


def test_a_run_brings_its_spec_weights_and_vocabulary_and_takes_other_data(tmp_path, monkeypatch, capsys):
    """On its own data it repeats its test figures to the last digit; on another domain they differ (Table 7)."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home, away = (write_people(tmp_path / name, train=16, seed=seed) for name, seed in (("home", 0), ("away", 7)))
    config = tiny_config(home, {"cl": 0.5, "itm": 1.0})
    config["data"].pop("root")
    spec = {
        "suite": "own",
        "title": "A test",
        "labels": ["Setting"],
        "base": config,
        "rows": [{"name": "row", "labels": ["one"], "changes": {"objectives": config.pop("objectives")}}],
    }
    (tmp_path / "own.yaml").write_text(json.dumps(spec))
    assert run("run", tmp_path / "own.yaml", "-o", f"data.root={home}", "--workspace", tmp_path) == 0
    (directory,) = (tmp_path / "runs").glob("own/row/*/seed-0-*")
    capsys.readouterr()

    told = []
    (selected,) = (directory / "selected").glob("epoch-*")
    for arguments in ((directory,), (selected,), (directory, "--data", home), (directory, "--data", away)):
        assert run("evaluate", *arguments, "--json") == 0
        told.append(json.loads(capsys.readouterr().out))
    for name in ("own/row", "own/row seed 0", directory.name.removeprefix("seed-0-")[:7]):
        assert run("evaluate", name, "--workspace", tmp_path, "--json") == 0
        assert json.loads(capsys.readouterr().out)["metrics"] == told[0]["metrics"]
    assert run("evaluate", "own/rwo", "--workspace", tmp_path) == 5
    assert "own/rwo: has not been run in" in (said := capsys.readouterr().err) and "did you mean own/row" in said
    assert [entry["metrics"] for entry in told[:3]] == [json.loads((directory / "result.json").read_text())["test"]] * 3
    assert told[3]["data"]["root"] == str(away) and told[3]["data"]["digest"] != told[0]["data"]["digest"]
    assert told[3]["metrics"] != told[0]["metrics"]
    # The other data has words of its own; a vocabulary made from its captions would have been another one.
    assert told[3]["captions"] == 24

    for old in (directory / "selected").glob("epoch-*"):
        old.rename(tmp_path / old.name)
    assert run("evaluate", directory) == 5
    assert "has no selected weights yet" in capsys.readouterr().err
