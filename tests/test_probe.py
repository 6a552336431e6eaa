"""The sensitivity probe: which words are exchanged for which, and what a fall is."""

import random
import re

import pytest
import torch

from rasa.config.run import Config
from rasa.data.load import load_dataset
from rasa.data.tokenizer import build_tokenizer
from rasa.evaluation.split import evaluate_split
from rasa.evaluation.word_probe import Answer, exchange, exchanged, falls, sensitivity_figures
from rasa.model.rasa import build_model
from tests.helpers.people import tiny_config, write_people


def many(caption, kind):
    return {exchange(caption, kind, random.Random(seed)) for seed in range(200)}


def test_a_colour_becomes_another_colour_that_the_caption_lacks():
    caption = "a woman in a navy blue coat and white trousers"
    found = many(caption, "colour")
    assert len(found) > 20 and caption not in found
    for text in found:
        assert text.endswith("coat and white trousers") != text.startswith("a woman in a navy blue coat")
        assert "dark blue" not in text  # the same colour by another name
    assert "a woman in an orange coat and white trousers" in found


def test_a_phrase_is_one_word_and_garments_stay_on_their_part_of_the_body():
    found = many("a man in a short sleeved shirt and dress shoes", "garment")
    tops = {text for text in found if text.endswith("and dress shoes")}
    assert found - tops <= {
        f"a man in a short sleeved shirt and {shoe}" for shoe in ("sneakers", "boots", "sandals", "heels")
    }
    assert tops and all(re.fullmatch(r"a man in a [a-z ]+ and dress shoes", text) for text in tops)
    assert not any(re.search("jeans|coat|skirt", text) for text in found)


def test_hair_keeps_its_colour_and_a_caption_without_such_a_word_is_left_out():
    assert exchange("a woman with black hair", "colour", random.Random(0)) is None
    assert exchange("a woman in a blue dress", "accessory", random.Random(0)) is None
    captions = ["a man in a red coat", "a man", "a woman in blue jeans", "a woman in a white dress"]
    probed = exchanged(captions, "colour", 10)
    assert probed.queries.tolist() == [0, 2, 3]
    assert exchanged(captions, "colour", 2).queries.tolist() == sorted(
        exchanged(captions, "colour", 2).queries.tolist()
    )
    assert len(exchanged(captions, "colour", 2).captions) == 2
    assert exchanged(captions, "colour", 10).captions == probed.captions  # the same draws each time


def test_falls_by_hand():
    before = Answer(torch.tensor([3.0, 2.0, 1.0, 0.0]), torch.tensor([1, 1, 2, 4]))
    after = Answer(torch.tensor([1.0, 2.0, 2.0, -1.0]), torch.tensor([2, 1, 8, 4]))
    found = falls(before, after)  # the scores fall by 2, 0, -1, 1
    assert found["apart"] == pytest.approx(100 * (2 + 0.5) / 4)
    assert (found["r1"], found["r1_exchanged"]) == (50, 25)
    assert found["rank_factor"] == pytest.approx((2 * 1 * 4 * 1) ** (1 / 4))
    assert found["effect"] == pytest.approx(0.5 / (5 / 3) ** 0.5)
    assert "effect" not in falls(before, before) and falls(before, before)["apart"] == 50


@pytest.mark.parametrize("losses", [{"cl": 1.0}, {"cl": 0.5, "itm": 1.0}])
def test_the_probe_ranks_as_the_evaluation_does(tmp_path, losses):
    """Its ranks before the exchange are those of the test itself; a row without ITM has no stage 2 to tell of."""
    config = Config.model_validate(tiny_config(write_people(tmp_path, test=8), losses, evaluation={"sensitivity": 50}))
    dataset = load_dataset(config.data, 0)
    split, images = dataset.splits["test"], torch.randint(0, 256, (24, 3, 32, 16), dtype=torch.uint8)
    tokenizer = build_tokenizer("captions", dataset.splits["train"].captions, 100)
    model = build_model(config, tokenizer.vocabulary_size, tokenizer.pad_id, torch.device("cpu"))
    gallery = list(images.split(5))
    found = sensitivity_figures(model, lambda: gallery, split, tokenizer, config, torch.device("cpu"))
    ranking = evaluate_split(model, split, gallery, tokenizer, config, torch.device("cpu"))
    queries = exchanged(split.captions, "colour", 50).queries
    assert found["colour_queries"] == len(queries) > 30
    expected = 100 * float((ranking.final.first_rank_T[queries] == 1).double().mean())
    assert found["colour_r1"] == pytest.approx(expected)
    assert 0 <= found["colour_apart"] <= 100 and ("colour_stage1_apart" in found) == ("itm" in losses)
    assert model.training  # left as it was
    if "itm" in losses:
        stage1 = 100 * float((ranking.stage1.first_rank_T[queries] == 1).double().mean())
        assert found["colour_stage1_r1"] == pytest.approx(stage1)
