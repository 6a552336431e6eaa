"""What the PRD and RTD heads make of held-out pairs: figures by hand, and the same questions for all runs."""

import math

import pytest
import torch

from rasa.training.detectors import detection
from tests.helpers.people import write_people
from tests.helpers.short_runs import go, row


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The fixed generator is trained once for all tests."""
    return tmp_path_factory.mktemp("cache")


def test_detection_by_hand():
    """Margins 2, 1, -1 of positives and 1, -2 of negatives."""
    logits = torch.tensor([[0.0, 2.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
    found = detection(logits, torch.tensor([True, True, True, False, False]))
    soft = [math.log1p(math.exp(-x)) for x in (2, 1, -1, -1, 2)]
    assert found["loss"] == pytest.approx(sum(soft) / 5)
    assert found["base"] == pytest.approx(60)
    assert found["guess"] == pytest.approx(-0.6 * math.log(0.6) - 0.4 * math.log(0.4))
    assert found["recall"] == pytest.approx(200 / 3) and found["precision"] == pytest.approx(200 / 3)
    # pairs (positive, negative): 2>1, 2>-2, 1=1, 1>-2, -1<1, -1>-2
    assert found["auc"] == pytest.approx(100 * 4.5 / 6)


def test_with_one_class_nothing_is_said_of_telling_apart():
    logits = torch.tensor([[0.0, -1.0], [0.0, -1.0]])
    assert set(detection(logits, torch.tensor([False, False]))) == {"loss", "base"}
    found = detection(logits, torch.tensor([True, False]))
    assert found["recall"] == 0 and "precision" not in found and found["auc"] == 50


@pytest.mark.parametrize("name", ["itm", "p-itm-prd", "f-rtd", "m-rtd"])
def test_a_run_measures_the_heads_that_it_trains_and_is_not_moved_by_it(people, cache, tmp_path, name):
    asked, told = go(row(people, name, evaluation={"detectors": True}), tmp_path / "asked", cache)
    plain, quiet = go(row(people, name), tmp_path / "plain", cache)
    assert asked["test"] == plain["test"] and told.of("train") == quiet.of("train")
    heads = {key.split("_")[0] for _, values in told.of("val") for key in values} & {"prd", "rtd"}
    assert heads == {"itm": set(), "p-itm-prd": {"prd"}}.get(name, {"prd", "rtd"})
    if "rtd" in heads:
        val = asked["selected"]["val"]
        assert 0 < val["rtd_base"] < 100 and val["rtd_loss"] > 0 and 0 <= val["rtd_auc"] <= 100


def test_another_seed_is_asked_the_same_pairs(people, cache, tmp_path):
    """Of PRD: which pairs are weak. (Of RTD a trained generator's words differ.)"""
    bases = []
    for seed in (0, 1):
        result, _ = go(
            row(people, "itm-prd", evaluation={"detectors": True}) | {"seed": seed}, tmp_path / str(seed), cache
        )
        bases.append(result["selected"]["val"]["prd_base"])
    assert bases[0] == bases[1]
