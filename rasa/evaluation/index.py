"""Stage 1 over galleries of any size: exact top-k in chunks. Shape suffixes: T queries, N gallery images, E embedding
width, K best, C gallery rows of one chunk.

A sorted matrix of similarities [T, N] takes terabytes where the features take one gigabyte, so it never exists: each
chunk's best are merged into the best so far. The result is that of a stable sort of the whole matrix, ties included.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

Gallery = Tensor | np.ndarray | Iterable[Tensor]


@torch.inference_mode()
def top_k(
    queries_TE: Tensor, gallery: Gallery, k: int, chunk: int = 16384, query_chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """Scores and gallery indices [T, K] of each query's K = min(k, N) best by inner product.

    Best first, equal scores in gallery order: the first K columns of `stage1_order`. `gallery` is [N, E]: a tensor, an
    array or memory map, or an iterable of tensors [*, E], which is read once. At most `chunk` of its rows are on the
    queries' device at a time, and `query_chunk` x `chunk` scores; scores are float32, or wider if an input is. Raises
    ValueError if k is less than 1 or widths differ.
    """
    if k < 1:
        raise ValueError(f"k is {k}; at least 1 image must be asked for")
    size = len(queries_TE)
    dtype = torch.promote_types(queries_TE.dtype, torch.float32)
    scores_TK = torch.empty(size, 0, device=queries_TE.device, dtype=dtype)
    indices_TK = torch.empty(size, 0, device=queries_TE.device, dtype=torch.int64)
    first = 0
    for rows_CE in _chunks(gallery, chunk):
        if rows_CE.shape[1:] != queries_TE.shape[1:]:
            raise ValueError(f"gallery rows of shape {list(rows_CE.shape[1:])}, queries {list(queries_TE.shape[1:])}")
        dtype = torch.promote_types(dtype, rows_CE.dtype)
        gallery_EC = rows_CE.to(queries_TE.device, dtype).T
        parts = [
            _merge(best, indices, queries.to(dtype) @ gallery_EC, first, k)
            for best, indices, queries in zip(
                scores_TK.to(dtype).split(query_chunk),
                indices_TK.split(query_chunk),
                queries_TE.split(query_chunk),
                strict=True,
            )
        ]
        scores_TK, indices_TK = (torch.cat(part) for part in zip(*parts, strict=True))
        first += len(rows_CE)
    return scores_TK, indices_TK


def _chunks(gallery: Gallery, chunk: int) -> Iterator[Tensor]:
    if isinstance(gallery, Tensor):
        yield from gallery.split(chunk)
    elif isinstance(gallery, np.ndarray):
        for at in range(0, len(gallery), chunk):
            yield torch.from_numpy(np.array(gallery[at : at + chunk]))  # a copy: torch warns of read-only maps
    else:
        for rows in gallery:
            yield from rows.split(chunk)


def _merge(best_TK: Tensor, indices_TK: Tensor, scores_TC: Tensor, first: int, k: int) -> tuple[Tensor, Tensor]:
    """The k best of those so far and of the next chunk, which begins at gallery index `first`.

    The earlier stand first and both parts are in gallery order among equals, so a stable sort keeps gallery order.
    """
    chosen = _first_best(scores_TC, k)
    scores = torch.cat([best_TK, scores_TC.gather(1, chosen)], 1)
    indices = torch.cat([indices_TK, chosen + first], 1)
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return scores[:, :k], indices.gather(1, order[:, :k])


def _first_best(scores_TC: Tensor, k: int) -> Tensor:
    """Columns [T, min(k, C)] of the k best of each row, in ascending order; of equal ones the first.

    `topk` breaks ties as it likes. That shows only where the k-th and the next value are equal; such rows are sorted.
    """
    if scores_TC.shape[1] <= k:
        return torch.arange(scores_TC.shape[1], device=scores_TC.device).expand(len(scores_TC), -1)
    values, columns = scores_TC.topk(k + 1, dim=1)
    columns = columns[:, :k]
    tied = (values[:, k - 1] == values[:, k]).nonzero().squeeze(1)
    if len(tied):
        columns[tied] = scores_TC[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
    return columns.sort(dim=1).values
