"""Random draws, each kind from its own generator, a pure function of (seed, kind, position).

Nothing here has a state that runs on: a draw of kind K at step S is the same whatever else was drawn before, so
an objective that is switched off moves no other draw, and a resumed run needs only the step's number. Draws are
made on the CPU and moved, so that a GPU run sees the same ones.
"""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

DRAWS_16BIT = 1 << 16
_bits: np.random.SFC64 | None = None  # of the dropout stream that is open


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed for the draws that `names` name, e.g. `derive(0, "flip", epoch)`."""
    digest = hashlib.blake2b(repr((seed, *names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    """A fresh CPU generator for the draws that `names` name."""
    return torch.Generator().manual_seed(derive(seed, *names))


class Draws:
    """The random outcomes of one training step.

    `part` names the rows of a batch of `size` to which all draws belong: those of the whole batch are made, so that a
    batch that passes through the model in parts sees the same ones.
    """

    def __init__(self, seed: int, step: int, part: slice = slice(None), size: int | None = None):
        self.seed, self.step = seed, step
        self.part, self.size = part, size

    def of_part(self, rows: slice, size: int) -> "Draws":
        """What falls to some rows of a batch of `size`."""
        return Draws(self.seed, self.step, rows, size)

    def uniform(self, kind: str, shape: torch.Size) -> Tensor:
        """Numbers in [0, 1), on the CPU."""
        return torch.rand(self._whole(shape), generator=generator(self.seed, kind, self.step))[self.part]

    def bernoulli(self, kind: str, shape: torch.Size, p: float) -> Tensor:
        """Booleans on the CPU, where texts are masked, each true with probability p."""
        return self.uniform(kind, shape) < p

    def integers(self, kind: str, shape: torch.Size, high: int) -> Tensor:
        """Uniform integers in [0, high), on the CPU."""
        return torch.randint(high, self._whole(shape), generator=generator(self.seed, kind, self.step))[self.part]

    def categorical(self, kind: str, weights: Tensor, cells: tuple[torch.Size, Tensor] | None = None) -> Tensor:
        """One index per row, with probability proportional to `weights` [..., N] (non-negative, not all zero).

        By inversion of the cumulative weights, so that no device has to answer before the next kernel starts. With
        `cells` (a shape and the flat positions in it to which the rows belong) a row's draw is that of its position,
        whichever others are drawn.
        """
        cumulative = weights.double().cumsum(-1)
        total = cumulative[..., -1:]
        shape, positions = cells or (weights.shape[:-1], None)
        uniform = self.uniform(kind, shape).to(weights.device, non_blocking=True).double()
        uniform = uniform if positions is None else uniform.flatten()[positions]
        point = uniform.unsqueeze(-1) * total
        # A point that rounds up to the total would fall on the last entry even if its weight is zero.
        point = torch.minimum(point, torch.nextafter(total, torch.zeros_like(total)))
        return torch.searchsorted(cumulative, point, right=True).squeeze(-1).clamp_(max=weights.shape[-1] - 1)

    def dropout(self, kind: str) -> AbstractContextManager[None]:
        """Inside, dropout draws from this step's and kind's stream; each part of a batch has its own."""
        part = () if self.size is None else (self.part.start,)
        return dropout_stream(derive(self.seed, "dropout", kind, self.step, *part))

    def _whole(self, shape: torch.Size) -> torch.Size:
        """The same shape with the whole batch's number of rows."""
        return shape if self.size is None else torch.Size([self.size, *shape[1:]])


# Dropout. Each pass through an encoder draws from a stream of its own, so that a pass that an ablation switches off
# moves no other pass's draws. On the CPU a mask is cut from 64-bit words of numpy's SFC64, four 16-bit draws a word,
# because torch's dropout costs three to five times as much there, a sixth of a whole training step. The probability is
# thereby rounded to 1/65536, and survivors are scaled by the exact share.


@contextmanager
def dropout_stream(seed: int) -> Iterator[None]:
    """Inside, all dropout draws come from a stream that starts at `seed`."""
    global _bits
    before, _bits = _bits, np.random.SFC64(seed)
    torch.manual_seed(seed)  # a GPU's fused attention kernels know no other generator
    try:
        yield
    finally:
        _bits = before


@contextmanager
def in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """With dropout or without inside, in the mode it came in afterwards."""
    before = module.training
    module.train(training)
    try:
        yield
    finally:
        module.train(before)


def dropout(x: Tensor, p: float) -> Tensor:
    """`x` with a share `p` of its entries zeroed and the rest scaled up so that the mean stays."""
    if p == 0:
        return x
    if _bits is None or x.device.type != "cpu":
        return F.dropout(x, p)
    threshold, count = round(p * DRAWS_16BIT), x.numel()
    drawn = _bits.random_raw((count + 3) // 4).view(np.uint16)[:count]
    kept = np.multiply(drawn >= threshold, np.float32(DRAWS_16BIT / (DRAWS_16BIT - threshold)))
    return x * torch.from_numpy(kept).view(x.shape).to(x.dtype)
