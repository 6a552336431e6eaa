"""Image-text matching, Eq. 1: ITM, s-ITM and p-ITM, which differ only in the positive caption they are given.

Shape suffixes: B batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rasa.objectives.ranks import rank_of

IGNORED = -100


def negative_weights(logits_BB: Tensor, identities_B: Tensor, ranks: int = 1) -> Tensor:
    """For each row, the probability [B, B] of drawing each column as its negative (released code, MPS 115-132).

    The softmax of the row's contrastive logits over the columns of other identities and, with several ranks, of its
    own share of the batch; all zero in a row that has none.
    """
    others = negatives(identities_B, ranks)
    return logits_BB.masked_fill(~others, -torch.inf).softmax(1).nan_to_num(0.0)


def random_negative_weights(identities_B: Tensor, ranks: int = 1) -> Tensor:
    """The same with every one of those columns equally likely."""
    others = negatives(identities_B, ranks).float()
    return others / others.sum(1, keepdim=True).clamp(min=1)


def negatives(identities_B: Tensor, ranks: int = 1) -> Tensor:
    """Which columns [B, B] are a negative of each row: another identity, in the same share of the batch."""
    share = rank_of(identities_B, ranks)
    return (identities_B[:, None] != identities_B) & (share[:, None] == share)


def drawable(weights_BB: Tensor) -> tuple[Tensor, Tensor]:
    """The weights with rows that have no negative made uniform, and which rows have one [B].

    Such a row draws something, so that shapes are fixed, and is then left out of the loss.
    """
    has_negative = weights_BB.sum(1) > 0
    return torch.where(has_negative[:, None], weights_BB, torch.ones_like(weights_BB)), has_negative


def matching_labels(has_negative_image_B: Tensor, has_negative_text_B: Tensor) -> Tensor:
    """Labels [3B] in the order positives (1), (text, negative image) (0), (negative text, image) (0)."""
    negatives = torch.cat([has_negative_image_B, has_negative_text_B])
    return torch.cat([torch.ones_like(has_negative_image_B, dtype=torch.int64), torch.where(negatives, 0, IGNORED)])


def matching_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of [3B, 2] logits, class 1 = match (Eq. 1), or the weighted sum; positives weigh one third."""
    if weights is None:
        return F.cross_entropy(logits, labels, ignore_index=IGNORED)
    return weights @ F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")


def relation_loss(logits: Tensor, weak: Tensor) -> Tensor:
    """Mean cross-entropy of [B, 2] logits of positive pairs, class 0 = strong, 1 = weak (Eq. 2)."""
    return F.cross_entropy(logits, weak.long())
