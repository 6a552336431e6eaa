"""The momentum model (paper 3.1): a copy of the encoders that follows the online ones and gets no gradient."""

import copy

import torch
from torch import nn

from rasa.model.rasa import Encoders


def momentum_copy(encoders: Encoders, fusion: bool, language: bool) -> Encoders:
    """A copy without gradients, less the parts that no objective asks of the momentum model."""
    kept = {
        "fusion": encoders.fusion if fusion else None,
        "language_head": encoders.language_head if language else None,
    }
    skipped = {
        id(part): None
        for name, part in (("fusion", encoders.fusion), ("language_head", encoders.language_head))
        if part is not None and kept[name] is None
    }
    return copy.deepcopy(encoders, skipped).requires_grad_(False)


@torch.no_grad()
def ema_update(momentum: nn.Module, online: nn.Module, m: float) -> None:
    """theta_hat <- m theta_hat + (1 - m) theta for every parameter of `momentum` (paper 3.1), in one fused call."""
    source = dict(online.named_parameters())
    targets, sources = zip(*((p, source[name]) for name, p in momentum.named_parameters()), strict=True)
    torch._foreach_lerp_(list(targets), list(sources), 1 - m)
