"""Contrastive learning, Eq. 7-10. Shape suffixes: B batch, K keys (batch and queue), E embedding width.

ITC pairs an online feature with the other modality's momentum keys, IMC with its own modality's. Both use the same
form, so L_cl is the mean of four terms: i2t, t2i (Eq. 8), i2i, t2t (Eq. 9).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def positive_targets(identities_B: Tensor, key_identities_K: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Targets [B, K] that share a row's mass equally over all keys of its identity (released code, MPS 67-70).

    Every row has a positive as long as the batch itself is among the keys.
    """
    same_BK = (identities_B[:, None] == key_identities_K[None, :]).to(dtype)
    return same_BK / same_BK.sum(1, keepdim=True)


def own_targets(logits_BK: Tensor) -> Tensor:
    """Targets [B, K] with a sample's own key, column i of row i, as the single positive (Eq. 7 read literally)."""
    return torch.eye(*logits_BK.shape, device=logits_BK.device, dtype=logits_BK.dtype)


def soften(targets_BK: Tensor, momentum_logits_BK: Tensor, alpha: float) -> Tensor:
    """alpha * softmax(momentum similarities) + (1 - alpha) * targets (released code, MPS 82-90)."""
    return alpha * momentum_logits_BK.softmax(1) + (1 - alpha) * targets_BK


def info_nce(logits_BK: Tensor, targets_BK: Tensor) -> Tensor:
    """Mean over rows of the cross-entropy of softmax(logits) against soft targets; a scalar (Eq. 7).

    `logits` are cosine similarities over the temperature.
    """
    return F.cross_entropy(logits_BK, targets_BK)


def similarities(
    queries_BE: Tensor, batch_keys_BE: Tensor, queue_keys_RE: Tensor, temperature: Tensor | float
) -> Tensor:
    """Cosine similarities over the temperature, [B, B + R]: the batch's keys first, then the queue's."""
    return torch.cat([queries_BE @ batch_keys_BE.T, queries_BE @ queue_keys_RE.T], dim=1) / temperature
