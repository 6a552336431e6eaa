"""The feature queues Q_v and Q_t with their identities (paper 3.2; He et al. 2020)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rasa.draws import generator

NOBODY = -100  # identity of entries that no sample has filled: negatives for everyone (released code)


class FeatureQueue(nn.Module):
    """Ring buffers of the last R momentum features of both modalities and the identities they belong to."""

    images: Tensor
    texts: Tensor
    identities: Tensor
    pointer: Tensor

    def __init__(self, size: int, width: int, seed: int = 0):
        super().__init__()
        for name in ("images", "texts"):
            drawn = torch.randn(size, width, generator=generator(seed, "initial queue", name), device="cpu")
            self.register_buffer(name, F.normalize(drawn, dim=-1))
        self.register_buffer("identities", torch.full((size,), NOBODY))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, images: Tensor, texts: Tensor, identities: Tensor) -> None:
        """Overwrite the oldest entries with B new features [B, D]; of more than R only the last R are kept."""
        size = len(self.identities)
        batch = len(identities)
        kept = slice(max(0, batch - size), None)
        slots = (self.pointer + torch.arange(batch, device=identities.device))[kept] % size
        self.images[slots], self.texts[slots] = images[kept].to(self.images), texts[kept].to(self.texts)
        self.identities[slots] = identities[kept]
        self.pointer.add_(batch).remainder_(size)

    def without_oldest(self, count: int) -> Tensor:
        """Slots [R - count] that stay when `count` new features are pushed."""
        size = len(self.identities)
        first = min(count, size)
        return (self.pointer + torch.arange(first, size, device=self.pointer.device)) % size
