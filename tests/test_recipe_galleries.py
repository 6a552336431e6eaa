"""Which images choose the epoch, which are reported, and with whose weights: by ranking every epoch's weights anew.

Validation, test and the target's test split hold other people's images. Weights move a lot at each step, so that the
best epoch on validation is neither the last one nor the best on test; both are asserted of the runs that are looked at.
"""

import copy
import json
from hashlib import sha256

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from rasa.config.run import Config
from rasa.data.load import load_dataset
from rasa.data.transforms import decode
from rasa.evaluation.split import evaluate_split
from rasa.weights.folder import load_checkpoint
from rasa.weights.released import to_released
from tests.helpers.people import tiny_config, write_people
from tests.helpers.recipe import training

EPOCHS = 6


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    own, target = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("target")
    return write_people(own, val=8, test=8), write_people(target, val=1, test=8, seed=3)


def config_of(folders, seed, **evaluation):
    return tiny_config(
        folders[0],
        {"cl": 0.5, "itm": 1.0},
        data={"target": {"root": str(folders[1])}},
        optimisation={"epochs": EPOCHS, "max_steps_per_epoch": 1, "learning_rate": 0.03, "schedule": "constant"},
        evaluation={"topk": 6} | evaluation,
    ) | {"seed": seed}


def pictures(dataset, split):
    """The split's images, read file by file."""
    files = dataset.splits[split].image_files
    return [torch.stack([decode(dataset.image_root / file, (32, 16)) for file in files])]


def key(figures):
    """R@1, ties broken by the mean of R@1, R@5 and R@10."""
    return figures["r1"], (figures["r1"] + figures["r5"] + figures["r10"]) / 3


def run_of(folders, seed, directory, **evaluation):
    """(result, log, each epoch's weights, and its rankings by name) of a whole run."""
    run, log = training(config_of(folders, seed, **evaluation), directory)
    dataset = load_dataset(run.config.data)
    places = {"val": (dataset, "val"), "test": (dataset.target, "test"), "source": (dataset, "test")}
    weights, rankings = [], []
    while run.progress.epoch < EPOCHS:
        run.train_epoch(lambda: False)
        weights.append(copy.deepcopy(to_released(run.model, redundant=False)))
        rankings.append(
            {
                name: evaluate_split(
                    run.model, of.splits[split], pictures(of, split), run.inputs.tokenizer, run.config, run.device
                )
                for name, (of, split) in places.items()
            }
        )
        run.validate()
    return run.test(), log, weights, rankings


@pytest.fixture(scope="module")
def chosen(folders, tmp_path_factory):
    """The first seed of which the best epoch on validation is not the last, and neither test split's best."""
    for seed in range(12):
        directory = tmp_path_factory.mktemp("run")
        result, log, weights, rankings = run_of(folders, seed, directory, selection_gap=True)
        best = {name: best_epoch(rankings, name) for name in ("val", "test", "source")}
        shown = [key(ranking["test"].figures()) for ranking in rankings]
        if best["val"] < EPOCHS and best["val"] not in (best["test"], best["source"]) and len(set(shown)) > 3:
            return result, log, weights, rankings, directory
    raise AssertionError("no seed of twelve tells the splits apart")


def best_epoch(rankings, name):
    """The first of the epochs, from 1, with the greatest key."""
    keys = [key(ranking[name].figures()) for ranking in rankings]
    return keys.index(max(keys)) + 1


def test_validation_images_alone_choose_the_epoch(chosen):
    result, log, _, rankings, _ = chosen
    for told, ranking in zip(log.of("val"), rankings, strict=True):
        expected = ranking["val"].figures()
        assert {name: told[name] for name in expected} == expected
        assert expected != ranking["test"].figures() and expected != ranking["source"].figures()
    best = best_epoch(rankings, "val")
    assert result["selected"]["epoch"] == best < EPOCHS and result["selected"]["step"] == best
    assert result["last"]["epoch"] == EPOCHS and result["selected"]["val"] == log.of("val")[best - 1]


def test_the_selected_weights_are_kept_and_tested_on_the_targets_images(chosen):
    result, log, weights, rankings, directory = chosen
    best = best_epoch(rankings, "val")
    expected, last = rankings[best - 1]["test"], rankings[-1]["test"]
    assert result["test"] == expected.figures() == log.of("test")[0] != last.figures()
    assert result["source"] == rankings[best - 1]["source"].figures() == log.of("source")[0] != result["test"]
    kept, told = load_checkpoint(next((directory / "selected").iterdir()))
    assert kept.keys() == weights[best - 1].keys() and told["epoch"] == best
    assert all(torch.equal(kept[name], value) for name, value in weights[best - 1].items())
    predictions = load_file(directory / "predictions.safetensors")
    for name, value in expected.predictions().items():
        assert torch.equal(predictions[name], value) or name == "average_precision", name
    assert torch.equal(predictions["average_precision"], expected.final.average_precision_T)


def test_predictions_name_the_order_that_their_numbers_mean(chosen, folders):
    *_, directory = chosen
    tested = load_dataset(Config.model_validate(config_of(folders, 0)).data).target.splits["test"]
    lines = {"images": tested.image_files, "captions": tested.captions}
    expected = {name: sha256("\n".join(of).encode()).hexdigest() for name, of in lines.items()}
    with safe_open(directory / "predictions.safetensors", "pt") as file:
        assert json.loads(file.metadata()["notes"]) == expected and list(file.metadata()) == ["notes"]


def test_the_gap_is_that_of_the_targets_images(chosen):
    result, _, _, rankings, _ = chosen
    tested = [ranking["test"].final.metrics for ranking in rankings]
    assert result["last"]["test"] == tested[-1]
    assert result["test_oracle"]["test"]["r1"] == max(figures["r1"] for figures in tested)
    assert tested[result["test_oracle"]["epoch"] - 1] == result["test_oracle"]["test"]


def test_held_out_pairs_of_the_detectors_are_validations(folders, tmp_path):
    """A head's loss against guessing is measured on pairs of val, none of train or test."""
    config = tiny_config(folders[0], {"cl": 0.5, "itm": 1.0, "prd": 0.5}, evaluation={"detectors": True})
    run, _ = training(config, tmp_path)
    assert run.inputs.held_out.split is run.inputs.dataset.splits["val"]
    identities = {int(i) for batch in run.inputs.held_out.epoch(0) for i in batch.identity}
    assert identities <= set(run.inputs.dataset.splits["val"].image_identities.tolist())
