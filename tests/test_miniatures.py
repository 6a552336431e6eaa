"""Tables 5 to 7 in small, on rendered people: their suites run, by their own protocols, and report what they should."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file

from experiments.plan import located
from experiments.spec import load_suite, resolve
from experiments.store import open_store
from rasa.commands.cli import main
from rasa.config.benchmark import BenchmarkParams
from rasa.config.run import Config, Data
from rasa.data.load import load_dataset
from rasa.data.synthetic.write import write_benchmark
from rasa.errors import ResourceError
from rasa.training.train import train
from tests.helpers.people import tiny_config, write_people

PEOPLE = {"train_identities": 12, "val_identities": 3, "test_identities": 4}
SHORT = ["-o", "optimisation.epochs=1", "-o", "optimisation.max_steps_per_epoch=2", "-o", "optimisation.batch_size=8"]


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def sized(**sizes) -> list[str]:
    return [part for name, value in sizes.items() for part in ("-o", f"data.synthetic.{name}={value}")]


def results(workspace: Path) -> dict[str, dict]:
    """What the finished runs of a workspace recorded, by row."""
    return {file.parts[-4]: json.loads(file.read_text()) for file in workspace.glob("runs/*/*/*/*/result.json")}


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("suite", "sizes", "figures", "headings"),
    [
        ("table5", {"train_identities": 24}, {"tr_r1", "tr_r5", "tr_r10"}, ["TR R@1", "IR R@10"]),
        ("table6", {"images_per_identity": 6}, {"tr_r1", "ap50"}, ["TR R@1", "AP@50"]),
        ("table7", {}, {"r1", "map"}, ["R@1", "Drop"]),
        ("table8", {}, {"r1", "map"}, ["R@1", "mAP"]),
    ],
)
def test_tables_5_to_8_run_and_are_reported(tmp_path, capsys, suite, sizes, figures, headings):
    options = ["--profile", "smoke", *sized(**PEOPLE | sizes), *SHORT]
    assert run("run", suite, *options) == 0
    found = results(tmp_path)
    assert set(found) == {row.name for row in load_suite(suite).rows}
    for result in found.values():
        assert figures <= set(result["test"]) and all(0 <= result["test"][name] <= 100 for name in figures)
        assert result["sizes"]["test"]["identities"] == 4
    capsys.readouterr()
    assert run("report", suite, *options) == 0
    page = capsys.readouterr().out
    assert all(heading in page for heading in headings) and "missing" not in page.split("As published")[0]


@pytest.mark.parametrize("row", ["rasa-clip", "rasa-tcl"])
def test_other_backbones_at_the_synth_profile(tmp_path, row):
    """TCL from the start that ships, whose architecture it has; CLIP, for which none does, from random weights."""
    options = [
        "--profile",
        "synth",
        *sized(**PEOPLE),
        *SHORT,
        "-o",
        "model.queue_size=16",
        "-o",
        "evaluation.sensitivity=0",
    ]
    assert run("run", f"table8/{row}", *options) == 0
    result = results(tmp_path)[row]
    assert result["cost"]["steps"] == 2 and 0 <= result["test"]["r1"] <= 100


def test_the_built_in_benchmark_has_the_classes_of_the_format(tmp_path):
    """Of Flickr30K every image is a class, of CUB the person; the files are the same."""
    write_benchmark(tmp_path / "b", BenchmarkParams(train_identities=4, val_identities=2, test_identities=2))
    read = {name: load_dataset(Data(root=tmp_path / "b", format=name)) for name in ("cuhk-pedes", "flickr30k", "cub")}
    assert {name: len(set(data.splits["test"].image_identities.tolist())) for name, data in read.items()} == {
        "cuhk-pedes": 2,
        "flickr30k": 8,
        "cub": 2,
    }
    assert {data.name for data in read.values()} == {"synthetic"}
    assert len({data.splits["test"].image_files for data in read.values()}) == 1
    assert {len(caption.split()) for caption in read["cub"].splits["test"].captions} <= set(range(31))


def test_what_a_domain_changes(tmp_path):
    """The evening has the same people, poses and captions, and other pixels: darker, and redder than blue."""
    sizes = {"train_identities": 2, "val_identities": 1, "test_identities": 2}
    for domain in ("day", "evening"):
        write_benchmark(tmp_path / domain, BenchmarkParams(**sizes, domain=domain))
    day, evening = tmp_path / "day", tmp_path / "evening"
    for name in ("reid_raw.json", "attributes.csv", "facts.json"):
        assert (day / name).read_bytes() == (evening / name).read_bytes()
    pixels = {
        folder: np.stack([np.asarray(Image.open(file), float) for file in sorted(folder.glob("imgs/*/*.png"))])
        for folder in (day, evening)
    }
    assert pixels[evening].mean() < 0.75 * pixels[day].mean()
    cast = {folder: values[..., 0].mean() / values[..., 2].mean() for folder, values in pixels.items()}
    assert cast[evening] > 1.5 * cast[day]
    assert BenchmarkParams().folder() != BenchmarkParams(domain="evening").folder()


def test_trained_by_day_and_tested_in_the_evening_with_the_drop_shown(tmp_path, capsys):
    """Table 7's miniature: the start that ships with the package, two more steps, both test splits, the difference."""
    options = [
        "--profile",
        "synth",
        *sized(train_identities=12, val_identities=3, test_identities=24),
        *SHORT,
        "-o",
        "model.queue_size=16",
        "-o",
        "optimisation.learning_rate=1e-6",
        "-o",
        "optimisation.warmup_steps=0",
        "-o",
        "evaluation.sensitivity=0",
    ]
    assert run("run", "table7/rasa-c-to-i", *options) == 0
    result = results(tmp_path)["rasa-c-to-i"]
    source, target = result["source"]["r1"], result["test"]["r1"]
    assert source > target + 10, "the start has seen no evening"
    assert result["sizes"]["test"] == {"images": 96, "captions": 192, "identities": 24}
    capsys.readouterr()

    assert run("report", "table7", *options, "--format", "csv") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("C to I,RaSa,"))
    assert f",{source}" in line and f",{target}" in line
    assert run("report", "table7", *options) == 0
    table = next(
        part for part in capsys.readouterr().out.split("\n\n") if part.startswith("| Domains") and "Drop" in part
    )
    row = next(line for line in table.splitlines() if "C to I" in line)
    assert f"{source:.1f}" in row and f"{target:.1f}" in row and f"{target - source:+.1f}" in row

    # `rasa evaluate` tells both by hand: a run's own data is the source, the target is named.
    (directory,) = tmp_path.glob("runs/*/rasa-c-to-i/*/seed-0-*")
    (evening,) = (file.parent for file in tmp_path.glob("data/*/synthetic.json") if '"evening"' in file.read_text())
    for arguments, figures in (((directory,), "source"), ((directory, "--data", evening), "test")):
        assert run("evaluate", *arguments, "--json") == 0
        assert json.loads(capsys.readouterr().out)["metrics"] == pytest.approx(result[figures])


def test_a_target_of_files_is_part_of_the_digest_and_of_the_run_id(tmp_path):
    home, away = (write_people(tmp_path / name, train=16, seed=seed) for name, seed in (("home", 0), ("away", 7)))
    data = Data(root=home, target={"format": "cuhk-pedes", "root": away})
    alone, moved = load_dataset(Data(root=home)), load_dataset(data)
    assert moved.target is not None and moved.tested is moved.target and alone.tested is alone
    assert moved.target.digest == load_dataset(Data(root=away)).digest
    assert len({alone.digest, moved.digest, moved.target.digest}) == 3
    (away / "reid_raw.json").write_text((away / "reid_raw.json").read_text().replace("walking", "strolling"))
    assert load_dataset(data).digest != moved.digest and load_dataset(Data(root=home)).digest == alone.digest

    without = Config.model_validate(tiny_config(home))
    beside = without.model_copy(update={"data": without.data.model_copy(update={"target": data.target})})
    assert "target" not in without.identity()["data"]
    assert beside.identity()["data"]["target"] == {
        "format": "cuhk-pedes",
        "annotations": None,
        "image_folder": "imgs",
        "synthetic": None,
    }


def test_of_a_target_the_test_split_alone_is_read(tmp_path):
    """So it needs no other, holds nobody out, and says nothing of validation."""
    home, away = (write_people(tmp_path / name, train=16, seed=seed) for name, seed in (("home", 0), ("away", 7)))
    file = away / "reid_raw.json"
    file.write_text(json.dumps([record for record in json.loads(file.read_text()) if record["split"] == "test"]))
    data = Data(root=home, target={"format": "cuhk-pedes", "root": away})
    target = load_dataset(data).target
    assert set(target.splits) == {"test"} and target.notes == ()
    with pytest.raises(ResourceError, match="no usable record has split train; use the complete published file"):
        load_dataset(Data(root=away))
    assert load_dataset(Data(root=away), test_only=True).digest == target.digest
    config = tiny_config(home)
    config["data"]["target"] = data.target.model_dump(mode="json")
    result = train(Config.model_validate(config), tmp_path, lambda *_: None)
    assert result["sizes"]["test"] == {"images": 12, "captions": 24, "identities": 4}
    assert result["cost"]["looks_seconds"] > 0  # the own test split is looked at beside what the run costs


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            {"root": "nowhere"},
            r"nowhere: does not exist; set data\.target\.root to the folder that holds reid_raw\.json",
        ),
        (
            {"root": "empty"},
            r"annotation file of format cuhk-pedes is missing; put it there or set data\.target\.annotations",
        ),
        ({"root": "people", "format": "rstpreid"}, r"looks like cuhk-pedes: set data\.target\.format to cuhk-pedes"),
        ({"root": "people", "image_folder": "x"}, r"unpack the images there or set data\.target\.image_folder"),
    ],
)
def test_faults_of_a_target_name_its_fields(tmp_path, target, message):
    write_people(tmp_path / "people", train=4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResourceError, match=message):
        load_dataset(Data(root=tmp_path / "people", target=target))


def test_a_report_is_of_runs_on_the_target_asked_for(tmp_path, capsys):
    """Its name and folder are tags; runs that were tested on another folder are left out,
    also once the folders are gone."""
    for name, seed in (("home", 0), ("away", 7), ("far", 9)):
        write_people(tmp_path / name, train=16, seed=seed)
    values = tiny_config(Path("home"), {"cl": 0.5, "itm": 1.0}, optimisation={"epochs": 1})
    values["data"]["target"] = {"format": "cuhk-pedes"}
    suite = {"suite": "moved", "metrics": ["r1"], "rows": [{"name": "a", "changes": values}]}
    (tmp_path / "moved.yaml").write_text(json.dumps(suite))
    target = "data.target.root={}".format
    assert run("run", "moved.yaml", "-o", target("away")) == 0
    client = open_store(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("moved").experiment_id
    (made,) = client.search_runs([experiment], "tags.`rasa.kind` = 'seed'")
    assert made.data.tags["rasa.target"] == "cuhk-pedes"
    assert made.data.tags["rasa.target_root"] == "away"  # from the workspace, which may be moved
    for gone in (False, True):
        if gone:
            for name in ("home", "away", "far"):
                (tmp_path / name).rename(tmp_path / f"{name}-moved")
        capsys.readouterr()
        assert run("report", "moved.yaml", "-o", target("away")) == 0
        assert run("report", "moved.yaml", "-o", target("far")) == 5
        assert "1 of another config or on other data are there" in capsys.readouterr().err


def test_every_figure_on_test_is_of_the_target(tmp_path):
    """Two folders of different size: test, its records and the oracle are of the other data, `source` of the own."""
    home = write_people(tmp_path / "home", train=16, test=4)
    away = write_people(tmp_path / "away", train=16, test=6, seed=7)
    config = tiny_config(home, {"cl": 0.5, "itm": 1.0}, evaluation={"topk": 6, "selection_gap": True})
    config["data"]["target"] = {"format": "cuhk-pedes", "root": str(away)}
    logged = []
    result = train(Config.model_validate(config), tmp_path, lambda group, step, values: logged.append(group))
    assert result["sizes"]["test"] == {"images": 18, "captions": 36, "identities": 6}
    kept = load_file(tmp_path / "predictions.safetensors")
    assert {len(tensor) for tensor in kept.values()} == {36}
    of_target = [share * 36 / 100 for share in (result["test"]["r1"], result["test_oracle"]["test"]["r1"])]
    assert of_target == pytest.approx([round(hits) for hits in of_target])
    assert result["source"]["r1"] * 24 / 100 == pytest.approx(round(result["source"]["r1"] * 24 / 100))
    assert 100 * (kept["first_rank"] == 1).double().mean() == pytest.approx(result["test"]["r1"])
    assert logged.count("source") == logged.count("test") == 1


def test_files_of_one_s_own_beside_a_built_in_benchmark_are_read(tmp_path):
    """It stands in for a format only where that format's own annotations are not, and none are named."""
    write_benchmark(tmp_path / "b", BenchmarkParams(train_identities=4, val_identities=2, test_identities=2))
    with pytest.raises(ResourceError, match=r"nope.json: the annotation file of format cuhk-pedes is missing"):
        load_dataset(Data(root=tmp_path / "b", annotations="nope.json"))
    records = json.loads((tmp_path / "b" / "reid_raw.json").read_text())
    rows = [f"imgs/{r['file_path']},{r['captions'][0].replace(',', ' ')},{r['id']},{r['split']}" for r in records]
    (tmp_path / "b" / "captions.csv").write_text("\n".join(["image,caption,identity,split", *rows[:-4]]) + "\n")
    assert len(load_dataset(Data(root=tmp_path / "b", format="table")).splits["test"].captions) == 4


def test_a_target_is_built_with_the_parameters_of_the_source(tmp_path):
    config = located(resolve(load_suite("table7"), "rasa-i-to-c", "smoke", [], 0), tmp_path)
    target = config.data.of_target()
    assert (config.data.synthetic.domain, target.synthetic.domain) == ("evening", "day")
    assert target.synthetic.model_copy(update={"domain": "evening"}) == config.data.synthetic
    assert target.target is None and target.tokenizer == config.data.tokenizer


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({}, "target.root is not set; give that data set's folder, e.g. -o data.target.root=DIR"),
        (
            {"synthetic": {"domain": "night"}},
            r"target.synthetic.domain: Input should be 'day', 'evening' or 'web' \('night'\)",
        ),
        ({"synthetic": {"fog": 1}}, "target.synthetic.fog: Extra inputs are not permitted"),
        (
            {"format": "cub", "root": "."},
            "target.format cub is evaluated by classes, format cuhk-pedes by text-to-image",
        ),
    ],
)
def test_targets_that_cannot_be_are_one_line(target, message):
    with pytest.raises(ValidationError, match=message) as caught:
        Data.model_validate({"synthetic": {}, "target": target})
    assert caught.value.error_count() == 1


def test_a_report_needs_no_folder_of_the_target(tmp_path, capsys):
    """As without a target: at the paper profile any data will do, and what is missing is the runs."""
    (tmp_path / "home").mkdir()
    for options in ([], ["-o", "data.root=home"], ["-o", "data.target.root=home"]):
        assert run("report", "table7", "--profile", "paper", *options) == 5
        assert "mlflow.db: no runs yet; start them with" in capsys.readouterr().err
