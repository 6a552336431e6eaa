"""Random draws, each kind from its own generator, a pure function of (seed, kind, position).

Nothing here has a state that runs on: a draw of kind K at step S is the same whatever else was drawn before, so
an objective that is switched off moves no other draw, and a resumed run needs only the step's number. Draws are
made on the CPU and moved, so that a GPU run sees the same ones.
"""

import hashlib
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from rasa.dropout import dropout_stream


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed for the draws that `names` name, e.g. `derive(0, "flip", epoch)`."""
    digest = hashlib.blake2b(repr((seed, *names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    """A fresh CPU generator for the draws that `names` name."""
    return torch.Generator().manual_seed(derive(seed, *names))


class Draws:
    """The random outcomes of one training step."""

    def __init__(self, seed: int, step: int, device: torch.device | str = "cpu"):
        self.seed, self.step, self.device = seed, step, torch.device(device)

    def bernoulli(self, kind: str, shape: torch.Size, p: float) -> Tensor:
        """Booleans, each true with probability p."""
        return self._uniform(kind, shape) < p

    def integers(self, kind: str, shape: torch.Size, high: int) -> Tensor:
        """Uniform integers in [0, high)."""
        drawn = torch.randint(high, shape, generator=generator(self.seed, kind, self.step))
        return drawn.to(self.device, non_blocking=True)

    def categorical(self, kind: str, weights: Tensor) -> Tensor:
        """One index per row, with probability proportional to `weights` [..., N] (non-negative, not all zero).

        By inversion of the cumulative weights, so that no device has to answer before the next kernel starts.
        """
        cumulative = weights.double().cumsum(-1)
        total = cumulative[..., -1:]
        point = self._uniform(kind, weights.shape[:-1]).double().unsqueeze(-1) * total
        # A point that rounds up to the total would fall on the last entry even if its weight is zero.
        point = torch.minimum(point, torch.nextafter(total, torch.zeros_like(total)))
        return torch.searchsorted(cumulative, point, right=True).squeeze(-1).clamp_(max=weights.shape[-1] - 1)

    def dropout(self, kind: str) -> AbstractContextManager[None]:
        """Inside, dropout draws from this step's and kind's stream."""
        return dropout_stream(derive(self.seed, "dropout", kind, self.step))

    def _uniform(self, kind: str, shape: torch.Size) -> Tensor:
        drawn = torch.rand(shape, generator=generator(self.seed, kind, self.step))
        return drawn.to(self.device, non_blocking=True)
