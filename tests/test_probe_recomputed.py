"""The word probe's figures by a second, slow way: query by query, every image of the gallery,
all in double precision."""

import math

import pytest
import torch

from benchmarks.plain import feature, plain_rerank, text_states
from rasa.config.run import Config
from rasa.data.load import load_dataset
from rasa.data.tokenizer import build_tokenizer
from rasa.data.transforms import normalise
from rasa.evaluation.word_probe import KINDS, exchanged, sensitivity_figures
from rasa.model.rasa import build_model
from tests.helpers.people import tiny_config, write_people
from tests.helpers.recipe import doubled


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"), test=6)


def answers(model, tokens, caption, tokenizer, config):
    """(similarities, match scores or None, final order, first order) of one caption with all images."""
    text = tokenizer.encode([caption], config.data.max_tokens)
    encoders = model.encoders
    words = feature(encoders.text_proj, text_states(encoders, text, 0.0))[0]
    similar = (feature(encoders.vision_proj, tokens) @ words).tolist()
    first = sorted(range(len(similar)), key=lambda image: -similar[image])
    if "itm" not in model.heads:
        return similar, None, first, first
    everyone = torch.arange(len(similar))[None]
    scores = plain_rerank(model, tokens, *text, everyone, config.fidelity.ranking_score)[0].tolist()
    front, rest = first[: config.evaluation.topk], first[config.evaluation.topk :]
    rest = sorted(rest) if config.fidelity.beyond_topk == "tied" else rest
    return similar, scores, sorted(front, key=lambda image: -scores[image]) + rest, first


def first_right(order, split, query):
    right = [split.image_identities[image] == split.caption_identities[query] for image in order]
    return right.index(True) + 1


def expected_figures(before, after):
    """Of (own score, first right rank) of each query with the written and with the exchanged caption;
    shares in percent."""
    count, falls = len(before), [b[0] - a[0] for b, a in zip(before, after, strict=True)]
    mean = sum(falls) / count
    deviation = math.sqrt(sum((fall - mean) ** 2 for fall in falls) / (count - 1))
    logs = [math.log(a[1] / b[1]) for b, a in zip(before, after, strict=True)]
    return {
        "apart": 100 * sum(1.0 if fall > 0 else 0.5 if fall == 0 else 0.0 for fall in falls) / count,
        "effect": mean / deviation,
        "r1": 100 * sum(b[1] == 1 for b in before) / count,
        "r1_exchanged": 100 * sum(a[1] == 1 for a in after) / count,
        "rank_factor": math.exp(sum(logs) / count),
    }


@pytest.mark.parametrize(
    ("losses", "fidelity"),
    [
        ({"cl": 0.5, "itm": 1.0}, {"preset": "paper"}),
        ({"cl": 0.5, "itm": 1.0}, {"preset": "released"}),
        ({"cl": 1.0}, {"preset": "paper"}),
    ],
)
@torch.no_grad()
def test_all_figures_of_the_probe(people, losses, fidelity):
    config = Config.model_validate(
        tiny_config(people, losses, evaluation={"sensitivity": 15, "topk": 5}, fidelity=fidelity)
    )
    dataset = load_dataset(config.data)
    split, pixels = (
        dataset.splits["test"],
        torch.randint(0, 256, (18, 3, 32, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)),
    )
    tokenizer = build_tokenizer("captions", dataset.splits["train"].captions, 100)
    model = build_model(config, tokenizer.vocabulary_size, tokenizer.pad_id)
    for parameter in model.parameters():  # so that scores of random weights differ well beyond rounding
        parameter.mul_(1.5)
    doubled(model.encoders)
    model.double()
    found = sensitivity_figures(model, lambda: pixels.split(7), split, tokenizer, config, torch.device("cpu"))
    tokens = model.encoders.vision.forward_features(normalise(pixels, torch.zeros(18, dtype=torch.bool)))
    expected, told = {}, []
    for kind in KINDS:
        probed = exchanged(split.captions, kind, 15)
        if not probed.captions:  # nothing is said of a kind that no caption has
            continue
        told.append(kind)
        rows = {"": ([], []), "stage1_": ([], [])}
        for query, other in zip(probed.queries.tolist(), probed.captions, strict=True):
            own = int(split.caption_images[query])
            for side, caption in enumerate((split.captions[query], other)):
                similar, scores, final, first = answers(model, tokens, caption, tokenizer, config)
                rows[""][side].append(((scores or similar)[own], first_right(final, split, query)))
                rows["stage1_"][side].append((similar[own], first_right(first, split, query)))
        expected[f"{kind}_queries"] = len(probed.queries)
        for stage in rows if "itm" in losses else [""]:
            expected |= {f"{kind}_{stage}{name}": value for name, value in expected_figures(*rows[stage]).items()}
    assert found == pytest.approx(expected, rel=1e-9) and min(expected[f"{kind}_queries"] for kind in told) > 5
    assert len(told) > 1
    if "itm" in losses:  # the two stages do tell different things here
        assert any(
            abs(expected[f"{kind}_{name}"] - expected[f"{kind}_stage1_{name}"]) > 1e-6
            for kind in told
            for name in ("apart", "rank_factor")
        )
