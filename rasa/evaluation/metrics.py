"""Rank@K and mean average precision. Shape suffixes: T texts, N gallery images, K candidates."""

from typing import NamedTuple

import torch
from torch import Tensor


class Retrieval(NamedTuple):
    """`metrics`: r1, r5, r10, map in percent; per text: the rank of its first right image (1 = top) and its AP."""

    metrics: dict[str, float]
    first_rank_T: Tensor  # int64; N + 1 if the gallery holds none
    average_precision_T: Tensor  # float64 in [0, 1]; NaN if the gallery holds none


def stage1_order(similarity_TN: Tensor) -> Tensor:
    """Gallery indices [T, N], most similar first; equal ones in gallery order."""
    return similarity_TN.sort(dim=1, descending=True, stable=True).indices


def final_order(order_TN: Tensor, scores_TK: Tensor, beyond: str = "stage1") -> Tensor:
    """The order after stage 2: the first K of `order_TN` re-sorted by their scores, then the others.

    `beyond` "stage1" keeps stage 1's order behind the candidates, "tied" takes gallery order (the released code's
    -100 ties under a stable sort).
    """
    k = scores_TK.shape[1]
    best = scores_TK.sort(dim=1, descending=True, stable=True).indices
    rest = order_TN[:, k:]
    if beyond == "tied":
        rest = rest.sort(dim=1).values
    return torch.cat([order_TN[:, :k].gather(1, best), rest], dim=1)


def evaluate_order(order_TN: Tensor, gallery_identity_N: Tensor, text_identity_T: Tensor) -> Retrieval:
    """Metrics of a ranking. All images of the text's identity are relevant, wherever they rank (4.1).

    mAP is NaN if some text has no relevant image, as in the released code.
    """
    return summary(*query_figures(order_TN, gallery_identity_N, text_identity_T))


def query_figures(order_TN: Tensor, gallery_identity_N: Tensor, text_identity_T: Tensor) -> tuple[Tensor, Tensor]:
    """Each text's first right rank and average precision, as in `Retrieval`; texts do not depend on one another."""
    relevant_TN = gallery_identity_N[order_TN] == text_identity_T[:, None]
    size = order_TN.shape[1]
    found = relevant_TN.any(1)
    first_T = torch.where(found, relevant_TN.int().argmax(1) + 1, size + 1)
    ranks = torch.arange(1, size + 1, device=order_TN.device, dtype=torch.float64)
    precision_TN = relevant_TN.cumsum(1, dtype=torch.float64) / ranks
    ap_T = (precision_TN * relevant_TN).sum(1) / relevant_TN.sum(1)
    return first_T, ap_T


def summary(first_rank_T: Tensor, average_precision_T: Tensor) -> Retrieval:
    """Metrics of all texts' figures."""
    metrics = {f"r{k}": 100 * (first_rank_T <= k).double().mean().item() for k in (1, 5, 10)}
    metrics["map"] = 100 * average_precision_T.mean().item()
    return Retrieval(metrics, first_rank_T, average_precision_T)
