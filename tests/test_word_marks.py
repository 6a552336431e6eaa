"""Figures of marks by hand, and where a word of a query lies in what the model reads."""

import numpy as np
import pytest
import torch

from benchmarks.word_marks import (
    auc,
    auc_interval,
    best_threshold,
    cells_of,
    judged,
    marks_at,
    masked,
    relative,
    said_at,
)
from rasa.evaluation.rank import retrieval_mode
from rasa.evaluation.word_probe import exchangeable, exchanged_at
from tests.helpers.galleries import engine, write_gallery

TEXT = "a man with a white backpack in a red coat"


def test_auc_by_hand():
    """Absent 3 and 1, others 2 and 1: of four pairs 3 > 2, 3 > 1, 1 < 2 and 1 = 1: (1 + 1 + 0 + 1/2) / 4."""
    values, absent = np.array([3.0, 1.0, 2.0, 1.0]), np.array([True, True, False, False])
    assert auc(values, absent) == 0.625
    assert np.isnan(auc(values, np.zeros(4, bool)))
    # Of kind x 3 > 1, of kind y 1 < 2.
    assert auc(values, absent, np.array(["x", "y", "y", "x"])) == 0.5


def test_interval_resamples_queries_and_not_words():
    """Two queries of equal words each: a sample has one of them or both, so the area is 1, or none can be told."""
    values, absent = np.repeat([1.0, 0.0], 50), np.repeat([True, False], 50)
    assert auc_interval(values, absent, np.full(100, "x"), np.repeat([0, 1], 50)) == (1.0, 1.0, 1.0)


def test_interval_has_the_width_that_theory_gives():
    """Of noise, 100 against 100: sd sqrt(201 / (12 x 100 x 100)) = 0.041. Twice the same words tell nothing new."""
    noise, absent, query = np.random.default_rng(1).normal(size=200), np.arange(200) < 100, np.arange(200)
    kinds = np.full(200, "x")
    _, low, high = auc_interval(noise, absent, kinds, query)
    assert high - low == pytest.approx(2 * 1.96 * 0.041, rel=0.15)
    twice = [np.concatenate([each, each]) for each in (noise, absent, kinds, query)]
    assert auc_interval(*twice)[1:] == pytest.approx((low, high), abs=0.01)


def test_threshold_is_that_of_the_best_f1():
    """From 5 on: 1 right of 1, F1 2/(3 + 1) = 0.5; from 4: 2/(3 + 2) x 1 = 0.4; from 3: 2 x 2/6 = 0.67; from 2: 6/7."""
    values, absent = np.array([5.0, 4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, True, False])
    assert best_threshold(values, absent) == 2.0
    assert marks_at(values, absent, 3.0) == {
        "marked": 3,
        "right": 2,
        "precision": 66.7,
        "recall": 66.7,
        "false_alarms": 50.0,
    }


def test_relative_by_hand():
    """Found 3 and 5, others 1 and 3: (4 - 2) / sqrt(2)."""
    assert relative(torch.tensor([3.0, 5.0, 1.0, 3.0]), 2) == pytest.approx(2 / 2**0.5)


@pytest.fixture(scope="module")
def searching(tmp_path_factory):
    """An engine whose model has the heads of MLM and RTD, too."""
    return engine(write_gallery(tmp_path_factory.mktemp("marks")), losses={"mlm": 1.0, "rtd": 1.0})


def test_a_word_lies_where_its_pieces_are(searching):
    """`bagpack` is spelt in five; `orange` has another article."""
    (place,), tokenizer = exchangeable(TEXT, "accessory"), searching.encoder.tokenizer
    for word, pieces in (("backpack", 1), ("bagpack", 5)):
        said = said_at(TEXT, place, word)
        assert said.text[said.start : said.stop] == word and said.text == TEXT.replace("backpack", word)
        start, stop = cells_of(said, tokenizer)
        assert (start, stop) == (6, 6 + pieces)
        assert torch.equal(tokenizer.encode([said.text]).ids[0, start:stop], tokenizer.encode([word]).ids[0, 1:-1])
    said = said_at("a red coat", exchangeable("a red coat", "colour")[0], "orange")
    assert said.text == "an orange coat" and said.text[said.start : said.stop] == "orange"


def test_match_scores_are_those_of_the_search(searching):
    (place,) = exchangeable(TEXT, "accessory")
    words = ["backpack", "bagpack", "hat"]
    with torch.inference_mode(), retrieval_mode(searching.encoder.model, searching.encoder.device):
        match_WK, replaced_WK = judged(searching, TEXT, place, words, [3, 0])
        expected = searching.final_scores([exchanged_at(TEXT, place, word) for word in words], [3, 0])
    torch.testing.assert_close(match_WK, expected, atol=1e-5, rtol=0)
    assert replaced_WK.shape == (3, 2) and len(set(replaced_WK.flatten().tolist())) == 6


def test_chances_of_the_words_of_a_sort_are_one_together(searching):
    """One of them is spelt in several pieces, and all take the same article."""
    (place,), words = exchangeable(TEXT, "accessory"), ["backpack", "bagpack", "hat"]
    with torch.inference_mode(), retrieval_mode(searching.encoder.model, searching.encoder.device):
        chances = [masked(searching, TEXT, place, [word, *(w for w in words if w != word)], [1, 2]) for word in words]
    torch.testing.assert_close(torch.stack(chances).exp().sum(0), torch.ones(2), atol=1e-5, rtol=0)
    assert len(set(torch.stack(chances).flatten().tolist())) == 6
