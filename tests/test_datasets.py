"""Every data set in its published layout: read, trained one epoch, evaluated by its own protocol,
checked and counted."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from pydantic import ValidationError
from safetensors.torch import load_file

from experiments.wording import describe
from rasa.commands.data import data as data_group
from rasa.config.formats import FORMATS
from rasa.config.run import Config, Data
from rasa.data import readers as readers_package
from rasa.data.load import load_dataset
from rasa.data.locate import detect_format
from rasa.training.train import train
from tests.helpers.dataset_folders import (
    write_finegrained,
    write_icfg,
    write_imagefolder,
    write_karpathy,
    write_rstp,
    write_saved,
)
from tests.helpers.dataset_folders import write_table as write_own
from tests.helpers.people import tiny_config, write_people

WRITERS = {
    "cuhk-pedes": write_people,
    "icfg-pedes": write_icfg,
    "rstpreid": write_rstp,
    "flickr30k": lambda root: write_karpathy(root, "flickr30k"),
    "coco": lambda root: write_karpathy(root, "coco"),
    "cub": lambda root: write_finegrained(root, "cub"),
    "flowers": lambda root: write_finegrained(root, "flowers"),
    "table": write_own,
    "imagefolder": write_imagefolder,
    "datasets": write_saved,
}
# Images, captions and identities of train, val and test, by the arithmetic of the writers.
SIZES = {
    "cuhk-pedes": [(36, 72, 12), (12, 24, 4), (12, 24, 4)],
    "icfg-pedes": [(18, 18, 6), (6, 6, 2), (12, 12, 4)],  # 8 training people, of whom 2 are held out
    "rstpreid": [(30, 60, 6), (10, 20, 2), (10, 20, 2)],
    "flickr30k": [(8, 40, 8), (4, 20, 4), (4, 20, 4)],
    "coco": [(10, 50, 10), (4, 20, 4), (4, 20, 4)],  # 8 and the 2 of restval
    "cub": [(12, 120, 4), (6, 60, 2), (6, 60, 2)],
    "flowers": [(12, 120, 4), (6, 60, 2), (6, 60, 2)],
    "table": [(12, 24, 6), (4, 8, 2), (4, 8, 2)],
    "imagefolder": [(12, 12, 6), (4, 4, 2), (4, 4, 2)],
    "datasets": [(12, 24, 6), (4, 8, 2), (4, 8, 2)],
}
SEARCHED = {"r1", "r5", "r10", "map"}
FIGURES = {
    "text-to-image": SEARCHED,
    "both-ways": SEARCHED | {"tr_r1", "tr_r5", "tr_r10"},
    "classes": SEARCHED | {"tr_r1", "tr_r5", "tr_r10", "ap50"},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def folder(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            made[name] = WRITERS[name](made[name] / "root" if name in ("cub", "flowers") else made[name])
        return made[name]

    return folder


def config_of(name, root, **changes):
    """All losses, or, where every image is a class of its own, those that A.3 leaves: CL, ITM, MLM, RTD."""
    losses = {"cl": 0.5, "itm": 1.0, "mlm": 1.0, "rtd": 0.5}
    losses |= {} if FORMATS[name].own_classes else {"prd": 0.5}
    config = tiny_config(root, losses, optimisation={"epochs": 1, "batch_size": 6, "max_steps_per_epoch": 2}, **changes)
    config["data"] |= {"format": name, "val_identities": 2, "max_words": 20}
    if FORMATS[name].own_classes:
        config["objectives"]["positives"] = "annotated"
    if name == "imagefolder":  # one caption an image: weak pairs are those of other images
        config["objectives"]["positives"] = "uniform"
    return config


def test_every_format_has_a_reader_and_is_in_the_config():
    assert set(FORMATS) == set(WRITERS) == set(Data.model_fields["format"].annotation.__args__)
    readers = {path.stem for path in Path(readers_package.__path__[0]).glob("*.py")} - {"__init__", "rows"}
    assert {format.reader for format in FORMATS.values()} == readers


@pytest.mark.parametrize("name", WRITERS)
def test_read_with_the_published_names(folders, name):
    root = folders(name)
    assert detect_format(root) == name
    dataset = load_dataset(Data(root=root, format=name, val_identities=2))
    splits = [dataset.splits[split] for split in ("train", "val", "test")]
    counted = [(len(s.image_files), len(s.captions), len(set(s.image_identities.tolist()))) for s in splits]
    assert counted == SIZES[name]
    assert dataset.name == name and len(dataset.digest) == 16
    assert all((dataset.image_root / file).is_file() for split in splits for file in split.image_files)
    people = [set(split.image_identities.tolist()) for split in splits]
    assert not people[0] & people[1] and not people[0] & people[2] and not people[1] & people[2]


@pytest.mark.parametrize("name", WRITERS)
def test_one_epoch_and_its_own_protocol(folders, name, tmp_path):
    protocol, logged = FORMATS[name].protocol, []
    config = Config.model_validate(config_of(name, folders(name)))
    result = train(config, tmp_path, lambda group, step, values: logged.append((group, values)))
    expected = FIGURES[protocol]
    assert set(result["test"]) == expected | {f"stage1_{figure}" for figure in expected}
    assert set(result["selected"]["val"]) == set(result["test"]) | {"epoch"}
    assert all(0 <= value <= 100 for value in result["test"].values())
    steps = [values for group, values in logged if group == "train"]
    assert len(steps) == 2 and {f"loss_{loss}" for loss in config.objectives.weights} <= set(steps[0])
    kept = load_file(tmp_path / "predictions.safetensors")
    _, captions, classes = SIZES[name][2]
    queries = classes if protocol == "classes" else captions
    assert {len(tensor) for tensor in kept.values()} == {queries}
    assert 100 * (kept["first_rank"] == 1).double().mean() == pytest.approx(result["test"]["r1"], abs=1e-9)


@pytest.mark.parametrize("name", WRITERS)
def test_check_and_stats(folders, name):
    root = folders(name)
    arguments = [str(root), "--val-identities", "2", "--json"]
    checked = CliRunner().invoke(data_group, ["check", *arguments], catch_exceptions=False)
    assert checked.exit_code == 0, checked.stdout
    assert not [problem for problem in json.loads(checked.stdout) if problem["refused"]]
    counted = CliRunner().invoke(data_group, ["stats", *arguments], catch_exceptions=False)
    document = json.loads(counted.stdout)
    assert document["name"] == name
    measured = [document["splits"][split] for split in ("train", "val", "test")]
    assert [(s["images"], s["captions"], s["identities"]) for s in measured] == SIZES[name]


@pytest.mark.parametrize("name", ["flickr30k", "coco"])
@pytest.mark.parametrize(
    "objectives",
    [
        {"weights": {"itm": 1, "prd": 1}, "positives": "uniform"},
        {"weights": {"itm": 1}, "positives": "probabilistic"},
    ],
)
def test_relations_are_refused_where_every_image_is_a_class(name, objectives):
    with pytest.raises(ValidationError, match="RA does not apply .A.3.; leave weights.prd out and set"):
        Config.model_validate({"data": {"format": name, "root": "."}, "objectives": objectives})


def test_what_a_format_fixes_and_what_it_leaves():
    assert Data() == Data(format="cuhk-pedes") and Data().image_folder == "imgs" and Data().max_tokens == 50
    cub = Data(format="cub")
    assert (cub.image_folder, cub.max_words, cub.max_tokens) == ("CUB_200_2011/images", 30, 30)
    assert Data(format="cub", max_tokens=40, image_folder="x").model_dump()["max_tokens"] == 40
    again = Data.model_validate_json(Data(format="cub", max_tokens=40, image_folder="x").model_dump_json())
    assert (again.max_tokens, again.max_words, again.image_folder) == (40, 30, "x")


def test_a_format_that_is_none_is_one_fault():
    """And not also one for each field whose default waits for the format."""
    with pytest.raises(ValidationError) as caught:
        Data.model_validate_json('{"format": "flickr", "image_size": [8, 8]}', strict=True)
    (fault,) = describe(caught.value, Data)
    assert fault.path == ("format",) and "'flickr30k'" in fault.text and fault.text.endswith('("flickr")')


def test_a_format_adds_nothing_to_the_identity_of_a_run():
    """The fields of `data` that the hash of a run covers, by name:
    a new one would make every finished run a new one."""
    config = Config.model_validate({"data": {"root": "."}, "objectives": {"weights": {"cl": 1}}})
    assert set(config.identity()["data"]) == {
        "format",
        "annotations",
        "image_folder",
        "image_size",
        "flip_probability",
        "max_words",
        "max_tokens",
        "tokenizer",
        "vocabulary_size",
        "val_identities",
    }


def test_workers_change_nothing_about_crops(folders, tmp_path):
    """Crops are drawn by seed and epoch, whoever decodes:
    two runs on CUB end in the same weights, another seed does not."""
    weights = []
    for number, (workers, seed) in enumerate([(0, 0), (1, 0), (0, 1)]):
        config = config_of("cub", folders("cub")) | {"seed": seed}
        config["data"] |= {"workers": workers, "image_cache_gib": 0}
        directory = tmp_path / str(number)
        directory.mkdir()
        train(Config.model_validate(config), directory, lambda group, step, values: None)
        weights.append(load_file(next(directory.glob("selected/*/*.safetensors"))))
    first, again, other = (torch.cat([tensor.flatten() for tensor in tensors.values()]) for tensors in weights)
    assert torch.equal(first, again) and not torch.equal(first, other)
