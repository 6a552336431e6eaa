"""Dropout from a named stream.

Each pass through an encoder draws from a stream of its own, so that a pass that an ablation switches off moves no other
pass's draws. On the CPU a mask is cut from 64-bit words of numpy's SFC64, four 16-bit draws a word, because torch's
dropout costs three to five times as much there, a sixth of a whole training step. The probability is thereby rounded
to 1/65536, and survivors are scaled by the exact share.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

DRAWS = 1 << 16
_bits: np.random.SFC64 | None = None


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
    threshold, count = round(p * DRAWS), x.numel()
    drawn = _bits.random_raw((count + 3) // 4).view(np.uint16)[:count]
    kept = np.multiply(drawn >= threshold, np.float32(DRAWS / (DRAWS - threshold)))
    return x * torch.from_numpy(kept).view(x.shape).to(x.dtype)
