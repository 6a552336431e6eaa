"""The common start: its losses by hand, that it learns, and that a stopped one goes on with the same bits."""

import math

import pytest
import torch

from rasa.config.benchmark import BenchmarkParams
from rasa.config.run import Model
from rasa.data.tokenizer import Tokens
from rasa.draws import Draws
from rasa.errors import ResourceError
from rasa.objectives.language import SpecialIds
from rasa.training.pretrain import SHIPPED, Masking, Recipe, matching_over_candidates, pretrain, rate_at
from rasa.weights.folder import load_checkpoint

SMALL = Recipe(
    people=BenchmarkParams(seed=5, train_identities=12, val_identities=3, test_identities=1, images_per_identity=2),
    model=Model(
        patch_size=24,
        vision_width=16,
        vision_depth=1,
        vision_heads=2,
        text_width=16,
        text_layers=1,
        fusion_layers=1,
        text_heads=2,
        text_mlp_width=32,
        max_positions=40,
        embed_dim=8,
        queue_size=8,
    ),
    batch_size=8,
    steps=9,
    warmup_steps=2,
    evaluate_every=4,
)


def test_matching_over_candidates_by_hand():
    """Undecided (0, 0) pairs: choosing among three costs ln 3, saying yes or no costs ln 2;
    the mean is (ln 3 + ln 2) / 2."""
    assert matching_over_candidates(torch.zeros(4, 3, 2)).item() == pytest.approx((math.log(3) + math.log(2)) / 2)
    sure = torch.tensor([[[-20.0, 20.0], [20.0, -20.0], [20.0, -20.0]]])
    assert matching_over_candidates(sure).item() < 1e-6
    assert matching_over_candidates(sure.flip(1)).item() > 10


def test_the_positive_weighs_as_much_as_all_negatives():
    """One wrong positive of five candidates costs as much as four wrong negatives: 10 either way, by softplus(10)."""
    right, wrong = torch.tensor([5.0, -5.0]), torch.tensor([-5.0, 5.0])  # class 0, class 1
    positive_wrong = torch.stack([right] + [right] * 4)[None]
    negatives_wrong = torch.stack([wrong] + [wrong] * 4)[None]
    among = math.log(5)  # all candidates score alike in both
    expected = (among + (10 + 2 * math.log1p(math.exp(-10))) / 2) / 2
    assert matching_over_candidates(positive_wrong).item() == pytest.approx(expected, abs=1e-5)
    assert matching_over_candidates(negatives_wrong).item() == pytest.approx(expected, abs=1e-5)


def test_function_words_are_masked_less():
    """Word 5 stands in every caption, word 6 in one of four."""
    ids = torch.tensor([[2, 5, 6, 3], [2, 5, 7, 3], [2, 5, 8, 3], [2, 5, 9, 3]])
    recipe = SMALL.model_copy(update={"mask_rate": 0.5, "function_rate": 0.1, "function_words": 0.3})
    masking = Masking.of(Tokens(ids, ids > 0), 10, recipe)
    assert masking.rates[5].item() == pytest.approx(0.1) and masking.rates[6].item() == pytest.approx(0.5)
    special, chosen = SpecialIds(pad=0, cls=2, sep=3, mask=4), torch.zeros(4)
    for step in range(400):
        masked, labels = masking.mask(Tokens(ids, ids > 0), Draws(0, step), special)
        chosen += (labels != -100).float().mean(0)
        assert (masked[labels != -100] == special.mask).all() and torch.equal(
            masked[labels == -100], ids[labels == -100]
        )
    # 1,600 draws of each column: standard deviations 0.008 and 0.013
    assert chosen[[0, 3]].sum() == 0
    assert (chosen / 400)[1:3].tolist() == pytest.approx([0.1, 0.5], abs=0.05)


def test_the_rate_rises_then_falls():
    recipe = SMALL.model_copy(update={"steps": 102, "warmup_steps": 2, "learning_rate": 1.0})
    assert [rate_at(recipe, step) for step in (0, 1, 2)] == pytest.approx([0.5, 1.0, 1.0])
    assert rate_at(recipe, 52) == pytest.approx(0.505) and rate_at(recipe, 102) == pytest.approx(0.01)


def test_a_stopped_start_goes_on_with_the_same_bits(tmp_path):
    torch.set_num_threads(1)
    logged = []
    whole = pretrain(SMALL, tmp_path / "whole", tmp_path, lambda *row: logged.append(row))
    stops = iter([False] * 5 + [True])
    with pytest.raises(KeyboardInterrupt):
        pretrain(SMALL, tmp_path / "stopped", tmp_path, lambda *row: None, should_stop=lambda: next(stops))
    told = []
    again = pretrain(SMALL, tmp_path / "stopped", tmp_path, lambda *row: None, notify=told.append)
    assert "going on from step 6" in told
    assert again["val"] == whole["val"] and again["curve"] == whole["curve"]
    one, two = (load_checkpoint(tmp_path / name / "start")[0] for name in ("whole", "stopped"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert {row[0] for row in logged} == {"val"} and [row[1] for row in logged] == [4, 8, 9]
    with pytest.raises(ResourceError, match="begun with another recipe"):
        pretrain(SMALL.model_copy(update={"steps": 10}), tmp_path / "whole", tmp_path, lambda *row: None)


def test_the_shipped_recipe_is_of_people_of_no_benchmark():
    assert SHIPPED.people.seed != BenchmarkParams().seed
    assert not set(SHIPPED.config(".").objectives.weights) & {"prd", "rtd"}
