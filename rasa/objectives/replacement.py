"""Replaced token detection, Eq. 5. Shape suffixes: B texts, L tokens.

What differs between f-, o- and m-RTD is who proposes the words; building the replaced text and the loss are the same.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rasa.objectives.language import IGNORED, SpecialIds


def replaceable(ids_BL: Tensor, mask_BL: Tensor, special: SpecialIds, separator: bool) -> Tensor:
    """Positions [B, L] that may take another word and be scored: f_1..f_N, without [SEP] unless `separator`."""
    allowed = mask_BL & (ids_BL != special.cls)
    return allowed if separator else allowed & (ids_BL != special.sep)


def replacement_labels(ids_BL: Tensor, new_ids_BL: Tensor, scored_BL: Tensor) -> Tensor:
    """Labels [B, L]: 1 = another word than the original, 0 = the same, -100 where not scored."""
    return torch.where(scored_BL, (new_ids_BL != ids_BL).long(), IGNORED)


def without_sampled_specials(scored_BL: Tensor, new_ids_BL: Tensor, special: SpecialIds) -> Tensor:
    """`scored` less the positions whose new word is [PAD] or [CLS]."""
    # released code: the ignore rule looks at the sampled id (MPS 267-268), so real positions drop out
    return scored_BL & (new_ids_BL != special.pad) & (new_ids_BL != special.cls)


def detection_loss(logits_BL2: Tensor, labels_BL: Tensor) -> Tensor:
    """Mean cross-entropy over scored positions, class 1 = replaced (Eq. 5); 0 if none is scored."""
    total = F.cross_entropy(logits_BL2.flatten(0, 1), labels_BL.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (labels_BL != IGNORED).sum().clamp(min=1)
