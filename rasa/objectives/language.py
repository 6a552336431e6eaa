"""Masking and masked language modelling, Eq. 4. Shape suffixes: B texts, L tokens, N masked positions, V vocabulary."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100


class SpecialIds(NamedTuple):
    """Ids of the tokens that masking treats apart."""

    pad: int
    cls: int
    sep: int
    mask: int


class MaskDraws(NamedTuple):
    """Raw outcomes that decide a masking, each [B, L]."""

    select: Tensor  # bool: this token is chosen (before special tokens are exempted)
    replace80: Tensor  # bool: a chosen one becomes [MASK]
    random50: Tensor  # bool: one of the rest becomes a random word
    random_words: Tensor  # int64: that word


def mask_tokens(
    ids_BL: Tensor, draws: MaskDraws, special: SpecialIds, separator: bool, corruption: str
) -> tuple[Tensor, Tensor]:
    """Masked ids and labels [B, L]; a label is the original id at chosen positions, else -100.

    [PAD] and [CLS] are never chosen, [SEP] only if `separator`. `corruption` "bert": 80 % of the chosen become
    [MASK], 10 % a random word, 10 % stay (Devlin et al. 2018; released code, MPS 240-257); "mask": all become [MASK].
    """
    exempt = (ids_BL == special.pad) | (ids_BL == special.cls)
    if not separator:
        exempt |= ids_BL == special.sep
    chosen = draws.select & ~exempt
    labels = torch.where(chosen, ids_BL, IGNORED)
    if corruption == "mask":
        return ids_BL.masked_fill(chosen, special.mask), labels
    masked = chosen & draws.replace80
    random = chosen & draws.random50 & ~masked
    return torch.where(random, draws.random_words, ids_BL.masked_fill(masked, special.mask)), labels


def hard_loss(logits_NV: Tensor, labels_N: Tensor, weights_N: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the masked positions (Eq. 4), or the sum by `weights_N`; 0 if there is none."""
    if weights_N is None:
        return F.cross_entropy(logits_NV, labels_N, reduction="sum") / max(len(labels_N), 1)
    return weights_N @ F.cross_entropy(logits_NV, labels_N, reduction="none")


def soft_loss(log_probabilities_NV: Tensor, targets_NV: Tensor, weights_N: Tensor | None = None) -> Tensor:
    """The same of the cross-entropy against the momentum model's word distribution."""
    if weights_N is None:
        return -(targets_NV * log_probabilities_NV).sum() / max(len(targets_NV), 1)
    return -(weights_N @ (targets_NV * log_probabilities_NV).sum(1))
