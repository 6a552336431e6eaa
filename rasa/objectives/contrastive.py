"""Contrastive learning, Eq. 7-10. Shape suffixes: B batch, K keys (batch and queue), E embedding width.

ITC pairs an online feature with the other modality's momentum keys, IMC with its own modality's. Both use the same
form, so L_cl is the mean of four terms: i2t, t2i (Eq. 8), i2i, t2t (Eq. 9).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def positive_targets(identities_B: Tensor, key_identities: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Targets [B, K] that share a row's mass equally over all keys of its identity (released code, MPS 67-70).

    `key_identities` are [K], or [B, K] where rows see different keys. Every row has a positive as long as the sample's
    own feature is among the keys.
    """
    same_BK = (identities_B[:, None] == key_identities).to(dtype)
    return same_BK / same_BK.sum(1, keepdim=True)


def own_targets(logits_BK: Tensor, ranks: int = 1) -> Tensor:
    """Targets [B, K] with a sample's own key as the single positive (Eq. 7 literally).

    That is column i of row i (of its share).
    """
    own = torch.eye(len(logits_BK) // ranks, device=logits_BK.device, dtype=logits_BK.dtype).repeat(ranks, 1)
    return F.pad(own, (0, logits_BK.shape[1] - own.shape[1]))


def soften(targets_BK: Tensor, momentum_logits_BK: Tensor, alpha: float) -> Tensor:
    """alpha * softmax(momentum similarities) + (1 - alpha) * targets (released code, MPS 82-90)."""
    return alpha * momentum_logits_BK.softmax(1) + (1 - alpha) * targets_BK


def info_nce(logits_BK: Tensor, targets_BK: Tensor) -> Tensor:
    """Mean over rows of the cross-entropy of softmax(logits) against soft targets; a scalar (Eq. 7).

    `logits` are cosine similarities over the temperature.
    """
    return F.cross_entropy(logits_BK, targets_BK)


def similarities(
    queries_BE: Tensor, batch_keys_BE: Tensor, queue_keys_RE: Tensor, temperature: Tensor | float, ranks: int = 1
) -> Tensor:
    """Cosine similarities over the temperature, [B, B / ranks + R]: the batch's keys first, then the queue's.

    With several ranks a row sees the batch keys of its own share alone.
    """
    own = queries_BE.unflatten(0, (ranks, -1)) @ batch_keys_BE.unflatten(0, (ranks, -1)).mT
    return torch.cat([own.flatten(0, 1), queries_BE @ queue_keys_RE.T], dim=1) / temperature


def key_identities(identities_B: Tensor, queue_identities_R: Tensor, ranks: int = 1) -> Tensor:
    """Whom the columns of `similarities` show, [B, B / ranks + R]."""
    own = identities_B.unflatten(0, (ranks, 1, -1)).expand(-1, len(identities_B) // ranks, -1).flatten(0, 1)
    return torch.cat([own, queue_identities_R.expand(len(identities_B), -1)], dim=1)
