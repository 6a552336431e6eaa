"""Positive relation detection, Eq. 2."""

import torch.nn.functional as F
from torch import Tensor


def relation_loss(logits: Tensor, weak: Tensor) -> Tensor:
    """Mean cross-entropy of [B, 2] logits of positive pairs, class 0 = strong, 1 = weak (Eq. 2)."""
    return F.cross_entropy(logits, weak.long())
