"""The objectives by hand: each expectation's arithmetic is in its docstring."""

import math

import pytest
import torch

from rasa.objectives import contrastive, language, matching, replacement
from rasa.objectives.language import MaskDraws, SpecialIds

SPECIAL = SpecialIds(pad=0, cls=1, sep=2, mask=3)
LOG2 = math.log(2)


def test_positive_targets_share_the_mass_over_an_identity():
    """Row 0 (identity 7) finds itself, column 2 and queue column 3: a third each. Row 1 finds only itself."""
    targets = contrastive.positive_targets(torch.tensor([7, 8, 7]), torch.tensor([7, 8, 7, 7, -100]))
    assert torch.allclose(targets[0], torch.tensor([1, 0, 1, 1, 0]) / 3)
    assert targets[1].tolist() == [0, 1, 0, 0, 0]


def test_soften_mixes_the_momentum_distribution():
    """Equal momentum logits over two keys are 1/2 each: 0.4 * 1/2 + 0.6 * (1, 0) = (0.8, 0.2)."""
    mixed = contrastive.soften(torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2), 0.4)
    assert torch.allclose(mixed, torch.tensor([[0.8, 0.2]]))


def test_info_nce():
    """Logits (ln 3, 0) have probabilities (3/4, 1/4).

    Target (1, 0) costs ln 4/3, target (1/2, 1/2) costs ln 4 - ln 3 / 2.
    """
    logits = torch.tensor([[math.log(3), 0.0]] * 2)
    loss = contrastive.info_nce(logits, torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(4) - math.log(3) / 2) / 2)


def test_similarities_are_batch_then_queue_over_the_temperature():
    """(1,0) with itself 1, with the queue's (0,1) 0 and (-1,0) -1; over 0.5: 2, 0, -2."""
    query = torch.tensor([[1.0, 0.0]])
    queue = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    assert contrastive.similarities(query, query, queue, 0.5).tolist() == [[2.0, 0.0, -2.0]]


def test_negative_weights_leave_out_the_own_identity():
    """Row 0 may draw columns 1 and 2 with logits (0, ln 3): 1/4 and 3/4. Row 2's identity fills columns 0 and 2."""
    logits = torch.tensor([[9.0, 0.0, math.log(3)], [1.0, 9.0, 1.0], [0.0, 0.0, 9.0]])
    weights = matching.negative_weights(logits, torch.tensor([5, 6, 7]))
    assert torch.allclose(weights[0], torch.tensor([0, 0.25, 0.75]))
    assert torch.allclose(matching.negative_weights(logits, torch.tensor([5, 6, 5]))[2], torch.tensor([0.0, 1.0, 0.0]))


def test_random_negatives_are_equally_likely():
    """Two of the three columns are of another identity than row 1."""
    assert matching.random_negative_weights(torch.tensor([5, 6, 5]))[1].tolist() == [0.5, 0.0, 0.5]


def test_a_batch_of_one_identity_has_no_negatives_and_a_finite_loss():
    """The six negative pairs are ignored; two positives at logits (0, 0) cost ln 2."""
    weights = matching.negative_weights(torch.zeros(2, 2), torch.tensor([4, 4]))
    drawable, has = matching.drawable(weights)
    assert has.tolist() == [False, False] and (drawable.sum(1) > 0).all()
    labels = matching.matching_labels(has, has)
    assert labels.tolist() == [1, 1, -100, -100, -100, -100]
    assert matching.matching_loss(torch.zeros(6, 2), labels).item() == pytest.approx(LOG2)


def test_matching_loss_weighs_positives_one_third():
    """One positive at (0, ln 3) costs ln 4/3; its two negatives at (0, 0) cost ln 2 each; the mean of three."""
    labels = matching.matching_labels(torch.tensor([True]), torch.tensor([True]))
    loss = matching.matching_loss(torch.tensor([[0, math.log(3)], [0, 0], [0, 0]]), labels)
    assert loss.item() == pytest.approx((math.log(4 / 3) + 2 * LOG2) / 3)


def test_relation_loss_calls_strong_class_0():
    """A strong pair at (ln 3, 0) costs ln 4/3, a weak one at the same logits ln 4."""
    logits = torch.tensor([[math.log(3), 0.0]] * 2)
    loss = matching.relation_loss(logits, torch.tensor([False, True]))
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)


IDS = torch.tensor([[1, 10, 11, 12, 13, 2, 0]])  # [CLS] four words [SEP] [PAD]


def everything(**outcomes) -> MaskDraws:
    on = torch.ones_like(IDS, dtype=torch.bool)
    return MaskDraws(
        **({"select": on, "replace80": on, "random50": on, "random_words": torch.full_like(IDS, 99)} | outcomes)
    )


@pytest.mark.parametrize(("separator", "kept"), [(True, [0, 6]), (False, [0, 5, 6])])
def test_masking_exempts_special_tokens(separator, kept):
    masked, labels = language.mask_tokens(IDS, everything(), SPECIAL, separator, "bert")
    chosen = [i for i in range(7) if i not in kept]
    assert masked[0, kept].tolist() == IDS[0, kept].tolist() and (labels[0, kept] == -100).all()
    assert (masked[0, chosen] == SPECIAL.mask).all() and torch.equal(labels[0, chosen], IDS[0, chosen])


def test_bert_masking_masks_replaces_and_keeps():
    """Word 1: [MASK]; word 2: not among the 80, among the 50: random; word 3: neither: kept but predicted."""
    raw = everything(
        select=torch.tensor([[1, 1, 1, 1, 0, 0, 1]]).bool(),
        replace80=torch.tensor([[0, 1, 0, 0, 1, 0, 0]]).bool(),
        random50=torch.tensor([[0, 1, 1, 0, 1, 0, 0]]).bool(),
    )
    masked, labels = language.mask_tokens(IDS, raw, SPECIAL, True, "bert")
    assert masked.tolist() == [[1, SPECIAL.mask, 99, 12, 13, 2, 0]]
    assert labels.tolist() == [[-100, 10, 11, 12, -100, -100, -100]]
    assert language.mask_tokens(IDS, raw, SPECIAL, True, "mask")[0].tolist() == [[1, 3, 3, 3, 13, 2, 0]]


def test_language_losses():
    """One position at (ln 3, 0): the right word costs ln 4/3; the soft target (1/2, 1/2) costs ln 4 - ln 3 / 2."""
    logits = torch.tensor([[math.log(3), 0.0]])
    assert language.hard_loss(logits, torch.tensor([0])).item() == pytest.approx(math.log(4 / 3))
    soft = language.soft_loss(logits.log_softmax(1), torch.tensor([[0.5, 0.5]]))
    assert soft.item() == pytest.approx(math.log(4) - math.log(3) / 2)


def test_nothing_masked_costs_nothing():
    """The released code divides by zero here; ours is 0, with a gradient of 0."""
    empty = torch.zeros(0, 5, requires_grad=True)
    loss = language.hard_loss(empty, torch.zeros(0, dtype=torch.int64)) + language.soft_loss(empty, empty.detach())
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(empty.grad).all()


def test_replaceable_positions():
    mask = IDS != SPECIAL.pad
    assert replacement.replaceable(IDS, mask, SPECIAL, separator=True).tolist() == [[False] + [True] * 5 + [False]]
    assert replacement.replaceable(IDS, mask, SPECIAL, separator=False).tolist() == [[False] + [True] * 4 + [False] * 2]


def test_detection_labels_and_loss():
    """Word 1 replaced (1), word 2 the same by chance (0), word 3 sampled as [PAD]: dropped by the released rule."""
    new = IDS.clone()
    new[0, 1], new[0, 3] = 20, SPECIAL.pad
    scored = replacement.replaceable(IDS, IDS != 0, SPECIAL, separator=False)
    labels = replacement.replacement_labels(IDS, new, scored)
    assert labels.tolist() == [[-100, 1, 0, 1, 0, -100, -100]]
    kept = replacement.without_sampled_specials(scored, new, SPECIAL)
    assert replacement.replacement_labels(IDS, new, kept).tolist() == [[-100, 1, 0, -100, 0, -100, -100]]
    # four scored positions at (0, 0) cost ln 2 each
    assert replacement.detection_loss(torch.zeros(7, 2), labels[0]).item() == pytest.approx(LOG2)
    nothing = torch.full_like(labels, -100)
    assert replacement.detection_loss(torch.zeros(7, 2), nothing[0]).item() == 0
