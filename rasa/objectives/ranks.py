"""A batch as several processes would train on it: each takes a share of the pairs, and gradients are averaged.

The released training has four processes of 13 pairs (RET 43; `ranks` 4). A mean over a batch is then the mean of the
shares' means, which differs where shares count unlike numbers of terms: masked words, scored words, pairs with a
negative.
"""

import torch
from torch import Tensor


def rank_of(rows_B: Tensor, ranks: int) -> Tensor:
    """The share [B], 0 ... ranks - 1, of each row of a batch; consecutive rows belong together."""
    return torch.arange(len(rows_B), device=rows_B.device) * ranks // max(len(rows_B), 1)


def rank_weights(counted_N: Tensor, share_N: Tensor, ranks: int, dtype: torch.dtype) -> Tensor:
    """Weights [N] under which a sum of the counted terms (bool [N]) is the mean of the shares' means.

    A share in which nothing counts adds 0.
    """
    counted = counted_N.to(dtype)
    counts = counted.new_zeros(ranks).index_add_(0, share_N, counted)
    return counted / (ranks * counts.clamp(min=1))[share_N]
