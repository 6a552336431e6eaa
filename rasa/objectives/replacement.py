"""Replaced token detection, Eq. 5. Shape suffixes: N tokens of all texts.

What differs between f-, o- and m-RTD is who proposes the words; building the replaced text and the loss are the same.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rasa.objectives.language import IGNORED, SpecialIds


def replaceable(ids: Tensor, mask: Tensor, special: SpecialIds, separator: bool) -> Tensor:
    """Which tokens may take another word and be scored: f_1..f_N, without [SEP] unless `separator`.

    Bool, in their shape.
    """
    allowed = mask & (ids != special.cls)
    return allowed if separator else allowed & (ids != special.sep)


def replacement_labels(ids: Tensor, new_ids: Tensor, scored: Tensor) -> Tensor:
    """Labels in the ids' shape: 1 = another word than the original, 0 = the same, -100 where not scored."""
    return torch.where(scored, (new_ids != ids).long(), IGNORED)


def without_sampled_specials(scored: Tensor, new_ids: Tensor, special: SpecialIds) -> Tensor:
    """`scored` less the positions whose new word is [PAD] or [CLS]."""
    # released code: the ignore rule looks at the sampled id (MPS 267-268), so real positions drop out
    return scored & (new_ids != special.pad) & (new_ids != special.cls)


def detection_loss(logits_N2: Tensor, labels_N: Tensor, weights_N: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of scored tokens, class 1 = replaced (Eq. 5), or the sum by `weights_N`; 0 without any."""
    if weights_N is not None:
        return weights_N @ F.cross_entropy(logits_N2, labels_N, ignore_index=IGNORED, reduction="none")
    total = F.cross_entropy(logits_N2, labels_N, ignore_index=IGNORED, reduction="sum")
    return total / (labels_N != IGNORED).sum().clamp(min=1)
