"""Evaluation both ways and by class: by hand, and against every pair computed alone."""

import numpy as np
import pytest
import torch

from rasa.data.dataset import Split, query_identities
from rasa.evaluation.metrics import evaluate_order, final_order, stage1_order
from rasa.evaluation.protocols import (
    both_ways,
    by_class,
    class_features,
    class_figures,
    evaluate_by,
    precision_at,
    selection_key,
    texts_of,
)
from rasa.evaluation.rank import EncodedGallery, EncodedQueries, RankingSettings
from tests.helpers.tiny_retrieval import CPU, few_pairs, query_major, random_split, run, seeded, sharp_model

SETTINGS = RankingSettings(6, "logit", "stage1", 7, 50, 100, "float32", CPU)


@pytest.fixture(scope="module")
def small():
    return few_pairs()


@pytest.fixture(scope="module")
def split():
    return random_split()


@pytest.fixture(scope="module")
def model():
    return sharp_model()


def stage_1_alone(similarity_TN):
    """Features whose products are `similarity_TN`, without anything for stage 2."""
    return EncodedGallery(torch.eye(similarity_TN.shape[1]), lambda: ()), EncodedQueries(similarity_TN, None)


# Both ways


def test_text_and_image_retrieval_with_five_captions_by_hand():
    """Three images with five captions each; the columns below are the images, the rows the captions.

    IR, a caption's best image: captions 0-4 (of image 0): 0, 0, 0, 0, 1; captions 5-9 (of image 1): 1, 1, 0, 0, 0;
    captions 10-14 (of image 2): 0 first, 1 second, 2 third for all. So 4 + 2 + 0 of 15 are right at once, and with 3
    images all in the first five. TR, an image's best captions: image 0: caption 0 (9.0), its own: rank 1. Image 1:
    caption 4 (of image 0, 8.0), then 5 (7.0), its own: rank 2. Image 2: the ten captions of the others (2.0) before its
    own (1.0): rank 11.
    """
    similarity = torch.tensor(
        [[9.0, 1, 2]]
        + [[6, 1, 2]] * 3
        + [[5, 8, 2]]  # of image 0
        + [[3, 7, 2], [3, 4, 2], [5, 4, 2], [5, 4, 2], [5, 4, 2]]  # of image 1
        + [[4, 3, 1]] * 5  # of image 2
    )
    whom = torch.tensor([0, 1, 2]), torch.arange(3).repeat_interleave(5)
    ranking = both_ways(None, *stage_1_alone(similarity), *whom, SETTINGS)
    assert ranking.final.first_rank_T.tolist() == [1, 1, 1, 1, 2, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]
    third = 100 / 3
    assert ranking.final.metrics == pytest.approx(
        {"r1": 40, "r5": 100, "r10": 100, "map": 100 * (6 + 4 / 2 + 5 / 3) / 15}
        | {"tr_r1": third, "tr_r5": 2 * third, "tr_r10": 2 * third}
    )
    assert ranking.stage1.metrics == ranking.final.metrics


def in_double(small):
    """The tiny model's gallery and queries in double precision: 9 texts, 7 images."""
    width = 8
    features = (
        torch.randn(7, width, generator=seeded(20)).double(),
        torch.randn(9, width, generator=seeded(21)).double(),
    )
    gallery = EncodedGallery(features[0], lambda: small.tokens.split(3))
    return gallery, EncodedQueries(features[1], small.texts), features[1] @ features[0].T


def every_pair(small):
    """Match logits [9, 7] of all pairs, each computed alone."""
    everything = torch.arange(7).expand(9, -1)
    return query_major(small.model, small.states, small.packing, small.tokens, everything)


@torch.no_grad()
@pytest.mark.parametrize(("topk", "beyond"), [(1, "stage1"), (4, "stage1"), (4, "tied"), (20, "stage1")])
def test_both_stages_in_both_directions(small, topk, beyond):
    """Stage 2 re-ranks the first K images of each text, and the first K texts of each image,
    by the same pairs' scores."""
    gallery, queries, similarity = in_double(small)
    whom_N, whom_T = torch.arange(7) % 4, torch.arange(9) % 4
    ranking = both_ways(small.model, gallery, queries, whom_N, whom_T, SETTINGS._replace(topk=topk, beyond=beyond))
    scores = every_pair(small)
    expected = {}
    for prefix, near, match, own, other in (
        ("", similarity, scores, whom_T, whom_N),
        ("tr_", similarity.T, scores.T, whom_N, whom_T),
    ):
        order = stage1_order(near)
        final = final_order(order, match.gather(1, order[:, :topk]), beyond)
        found = evaluate_order(final, other, own).metrics
        expected |= {f"{prefix}{name}": value for name, value in found.items() if not (prefix and name == "map")}
        if not prefix:
            assert torch.equal(ranking.best_TJ, final[:, :10])
            assert torch.allclose(ranking.scores_TK, match.gather(1, order[:, :topk]), atol=1e-12)
    assert ranking.final.metrics == pytest.approx(expected, abs=1e-9)


def test_images_are_searched_as_without_the_other_direction(model, split):
    pixels, texts, whom_N, whom_T = split
    alone = run(model, split)
    described = Split("test", ("",) * 20, whom_N.numpy(), ("",) * 30, np.arange(30) % 20)
    described.__dict__["caption_identities"] = whom_T.numpy()  # as the fixture has them
    ranking = evaluate_by("both-ways", model, lambda: pixels.split(6), texts, described, SETTINGS)
    assert torch.equal(ranking.best_TJ, alone.best_TJ) and torch.allclose(ranking.scores_TK, alone.scores_TK, atol=1e-5)
    assert {name: ranking.final.metrics[name] for name in alone.final.metrics} == alone.final.metrics
    plain = evaluate_by("text-to-image", model, lambda: pixels.split(6), texts, described, SETTINGS)
    assert plain.final.metrics == alone.final.metrics and torch.equal(plain.scores_TK, alone.scores_TK)


# By class


def test_precision_at_50_by_hand():
    """Class 0 has 40 of 60 images and ranks them first: 40 of 50.

    Class 1 has 20 and ranks 15 among its first 50: 30 %.
    """
    whom = torch.tensor([0] * 40 + [1] * 20)
    orders = torch.stack([torch.arange(60), torch.cat([torch.arange(45, 60), torch.arange(45)])])
    assert precision_at(orders, whom, torch.tensor([0, 1]), 50) == pytest.approx((80 + 30) / 2)
    # With four images all four are looked at: classes 0 and 1 have three and one of them.
    whom = torch.tensor([0, 0, 1, 0])
    orders = torch.stack([torch.tensor([2, 0, 1, 3]), torch.tensor([2, 3, 1, 0])])
    assert precision_at(orders, whom, torch.tensor([0, 1]), 50) == pytest.approx((75 + 25) / 2)
    assert precision_at(orders, whom, torch.tensor([0, 1]), 1) == pytest.approx(50)


def test_class_features_by_hand():
    """Class 0: (1, 0) and (0, 1), whose mean has the direction (1, 1); class 1: (0.6, 0.8) alone."""
    features = class_features(torch.tensor([[1.0, 0], [0.6, 0.8], [0, 1]]), torch.tensor([0, 1, 0]))
    assert torch.allclose(features, torch.tensor([[0.5**0.5, 0.5**0.5], [0.6, 0.8]]))


def test_class_figures_by_hand():
    """Classes 3 and 8, images of 3, 3, 8. Class 3 ranks 8's image second: precision of all three 2/3; class 8 1/3.

    Of the images the first two name class 3, the last one too, so two of three are right. First right images: 1 and 2.
    """
    whom, classes = torch.tensor([3, 3, 8]), torch.tensor([3, 8])
    order_CN, order_NC = torch.tensor([[0, 2, 1], [1, 2, 0]]), torch.tensor([[0, 1], [0, 1], [0, 1]])
    found = class_figures(order_CN, order_NC, classes, whom)
    assert found.first_rank_T.tolist() == [1, 2]
    expected = {"r1": 50, "r5": 100, "r10": 100, "map": 100 * ((1 + 2 / 3) / 2 + 1 / 2) / 2, "ap50": 50}
    assert found.metrics == pytest.approx(expected | {"tr_r1": 200 / 3, "tr_r5": 100, "tr_r10": 100})


def test_texts_of_by_hand():
    """Texts 0, 2 are class 0's, 1 and 3 and 4 class 1's; groups of the classes 1, 0, 1."""
    texts, groups = texts_of(torch.tensor([1, 0, 1]), torch.tensor([0, 1, 0, 1, 1]))
    assert texts.tolist() == [1, 3, 4, 0, 2, 1, 3, 4] and groups.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]


@torch.no_grad()
@pytest.mark.parametrize("ranking_score", ["logit", "probability"])
@pytest.mark.parametrize("topk", [2, 50])
def test_joint_states_are_averaged_over_a_class(small, ranking_score, topk):
    """By all pairs alone: the head is linear, so the logit of the mean state is the mean of the logits.

    With the other class's logit held at 0 the log-odds of the mean state are the mean logit too.
    """
    head = small.model.heads["itm"]
    weight, bias = head.weight.detach().clone(), head.bias.detach().clone()
    head.weight[0], head.bias[0] = 0, 0
    gallery, queries, _ = in_double(small)
    whom_T, whom_N = torch.tensor([2, 5, 5, 9, 2, 9, 9, 5, 5]), torch.tensor([5, 9, 2, 9, 5, 5, 9])
    settings = SETTINGS._replace(topk=topk, ranking_score=ranking_score, tokens_per_call=30)
    ranking = by_class(small.model, gallery, queries, whom_N, whom_T, settings)
    logits = every_pair(small)
    head.weight.copy_(weight), head.bias.copy_(bias)

    classes = torch.tensor([2, 5, 9])
    scores = torch.stack([logits[whom_T == whom].mean(0) for whom in classes])
    near = torch.stack([queries.features_TE[whom_T == whom].mean(0) for whom in classes])
    near = near / near.norm(dim=1, keepdim=True) @ gallery.features_NE.T
    order_CN, order_NC = stage1_order(near), stage1_order(near.T)
    assert torch.equal(ranking.candidates_TK, order_CN[:, :topk])
    assert torch.allclose(ranking.scores_TK, scores.gather(1, order_CN[:, :topk]), atol=1e-12)
    assert ranking.stage1.metrics == class_figures(order_CN, order_NC, classes, whom_N).metrics
    final_CN = final_order(order_CN, scores.gather(1, order_CN[:, :topk]))
    final_NC = final_order(order_NC, scores.T.gather(1, order_NC))  # three classes: each image reads them all
    assert ranking.final.metrics == class_figures(final_CN, final_NC, classes, whom_N).metrics
    assert torch.equal(ranking.best_TJ, final_CN[:, :10])


@torch.no_grad()
def test_an_image_reads_its_five_nearest_classes(small):
    """Nine classes of one text: with topk 1 each class reads an image, and each of the 7 images 5 classes."""
    gallery, queries, similarity = in_double(small)
    fused = []
    query = small.model.encoders.fusion.layers[-1].cross_attention.query
    hook = query.register_forward_hook(lambda _, given, out: fused.append(len(given[0])))  # one row a pair
    ranking = by_class(small.model, gallery, queries, torch.arange(7), torch.arange(9), SETTINGS._replace(topk=1))
    hook.remove()
    near = class_features(queries.features_TE, torch.arange(9)) @ gallery.features_NE.T
    pairs = {(int(c), int(n)) for n, row in enumerate(stage1_order(near.T)[:, :5]) for c in row}
    pairs |= {(c, int(n)) for c, n in enumerate(stage1_order(near)[:, 0])}
    assert sum(fused) == len(pairs) and ranking.scores_TK.shape == (9, 1)
    assert similarity.shape == (9, 7) and not ranking.scores_TK.isnan().any()


def test_without_a_match_head_classes_are_ranked_by_their_features():
    similarity = torch.tensor([[1.0, 0], [0, 1]])
    ranking = by_class(None, *stage_1_alone(similarity), torch.tensor([4, 7]), torch.tensor([4, 7]), SETTINGS)
    assert ranking.scores_TK is None and ranking.final.metrics == ranking.stage1.metrics
    assert ranking.final.metrics["tr_r1"] == 100 and ranking.final.metrics["ap50"] == 50


# What the trainer asks


def test_selection_by_hand():
    person = {"r1": 50.0, "r5": 60.0, "r10": 70.0, "map": 1.0}
    assert selection_key(person) == (50, 60)
    assert selection_key(person | {"tr_r1": 70.0, "tr_r5": 80.0, "tr_r10": 90.0}) == (60, 70)
    assert selection_key(person | {"tr_r1": 70.0, "tr_r5": 0, "tr_r10": 0, "ap50": 20.0}) == (45, 60)


def test_queries_are_captions_or_classes():
    described = Split("test", ("a", "b", "c"), np.array([7, 2, 7]), ("x", "y", "z"), np.array([0, 1, 2]))
    assert query_identities("text-to-image", described).tolist() == [7, 2, 7]
    assert query_identities("classes", described).tolist() == [2, 7]


def test_unknown_protocol(model, split):
    with pytest.raises(ValueError, match="protocol 'both' is none of text-to-image, both-ways, classes"):
        evaluate_by("both", model, lambda: (), split[1], Split("test", (), np.array([0]), (), np.array([0])), SETTINGS)
