"""What a run found of each test query, in a few bytes per query, so that it can be published with a report.

Ranks are kept as they are. An average precision is kept in thousandths, rounded so that the sum over the queries is
kept too: a run's mAP follows from them to 0.05 / T percent points. Reports compare runs by these values in the first
place (reports/load.py), so nothing that they say of queries changes when only the published file is there.
Shape suffixes: T queries.
"""

import lzma
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rasa.errors import ResourceError

STEPS = 1000  # of an average precision, from 0 to 1
UNKNOWN = STEPS + 1  # of a query without a right image in the gallery, whose average precision is no number
IDENTITY, FIRST_RANK, AVERAGE_PRECISION = "identity", "first_rank", "average_precision"
STAGE1 = "stage1_"
KEPT = (IDENTITY, FIRST_RANK, AVERAGE_PRECISION, f"{STAGE1}{FIRST_RANK}", f"{STAGE1}{AVERAGE_PRECISION}")
NEEDED = KEPT[:3]
# Bytes of one plane are alike in nothing but how often each comes: no context, then.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]
ROUNDING = 1e-9  # percent points
MOST = 2**27  # bytes that a file may unpack to, or need for it: 670,000 queries
Arrays = Mapping[str, NDArray[Any]]


def in_steps(precision_T: NDArray[np.float64]) -> NDArray[np.int64]:
    """Average precisions [T] in thousandths, UNKNOWN for NaN.

    Each is rounded with what the ones before it were off, so every partial sum is off by at most half a step. Values
    that are whole steps stay as they are.
    """
    known = np.isfinite(precision_T)
    sums = np.floor(np.cumsum(precision_T[known] * STEPS) + 0.5).astype(np.int64)
    steps = np.full(len(precision_T), UNKNOWN, dtype=np.int64)
    steps[known] = np.diff(sums, prepend=0)
    return steps


def from_steps(steps_T: NDArray[np.int64]) -> NDArray[np.float64]:
    """The average precisions that `in_steps` stands for."""
    return np.where(steps_T == UNKNOWN, np.nan, steps_T / STEPS)


def pack(arrays: Arrays) -> bytes:
    """The arrays of KEPT that there are, [T] each, as an xz file that holds a safetensors file.

    Each array is 8 planes [8, T] of bytes, the lowest of the little-endian int64 first; identities as differences.
    """
    from safetensors.numpy import save

    planes = {}
    for name in KEPT:
        if name in arrays:
            values = in_steps(arrays[name]) if name.endswith(AVERAGE_PRECISION) else arrays[name].astype(np.int64)
            values = np.diff(values, prepend=0) if name == IDENTITY else values
            planes[name] = np.ascontiguousarray(values.astype("<i8").view(np.uint8).reshape(-1, 8).T)
    return lzma.compress(save(planes), format=lzma.FORMAT_XZ, filters=FILTERS)


def unpack(content: bytes, source: str) -> dict[str, NDArray[Any]]:
    """What `pack` was given, average precisions in whole steps. Raises ResourceError that names `source`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        reader = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MOST)
        planes = load(reader.decompress(content, max_length=MOST))
        if not reader.eof:
            raise ValueError("it ends too early, or does not end")
        lengths = {plane.shape[1] for plane in planes.values() if plane.dtype == np.uint8 and plane.shape[:1] == (8,)}
        known = {*NEEDED} <= {*planes} <= {*KEPT} and all(plane.ndim == 2 for plane in planes.values())
        if len(lengths) != 1 or not known:
            raise ValueError("not the arrays of a run's queries")
    except (lzma.LZMAError, SafetensorError, ValueError, LookupError) as error:
        raise ResourceError(f"{source}: damaged, so it cannot be read; take it from the repository again") from error
    arrays: dict[str, NDArray[Any]] = {}
    for name, bytes_8T in planes.items():
        values = np.ascontiguousarray(bytes_8T.T).view("<i8")[:, 0].astype(np.int64)
        values = np.cumsum(values) if name == IDENTITY else values
        arrays[name] = from_steps(values) if name.endswith(AVERAGE_PRECISION) else values
    return arrays


def figures(arrays: Arrays) -> dict[str, float]:
    """R@1, R@5, R@10 and mAP in percent, as a run names them, and stage 1's as far as its ranks are there."""
    found: dict[str, float] = {}
    for prefix in ("", STAGE1):
        if (rank_T := arrays.get(f"{prefix}{FIRST_RANK}")) is not None:
            found |= {f"{prefix}r{k}": 100 * (int((rank_T <= k).sum()) / len(rank_T)) for k in (1, 5, 10)}
        if (precision_T := arrays.get(f"{prefix}{AVERAGE_PRECISION}")) is not None:
            found[f"{prefix}map"] = 100 * float(precision_T.mean())
    return found


def tolerance(metric: str, queries: int) -> float:
    """By how many percent points a run's own figure may differ from that of its kept queries."""
    return ROUNDING + (100 * 0.5 / STEPS / queries if metric.endswith("map") else 0.0)
