"""What figures over queries and over seeds can tell: pure functions of arrays.

Accuracies and differences are in percent points. Shape suffixes: S seeds, T queries, C clusters (the identities that
the queries describe), R resamples, K columns, N rows of a table, F comparisons of a family.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # not scipy.stats, which takes a second to import: a report reads these functions

Floats = NDArray[np.float64]

LEVEL = 0.05
RESAMPLES = 10_000
CELLS = 2**21  # resamples x clusters held at once
EQUAL = 1e-9  # percent points: differences this close are rounding of the same one


class Seeds(NamedTuple):
    """Figures over seeds. What one value cannot tell is None: `sd` (of the sample), the t-interval of the mean."""

    values: tuple[float, ...]
    mean: float
    sd: float | None
    low: float | None
    high: float | None

    @property
    def n(self) -> int:
        """How many seeds."""
        return len(self.values)


class Order(NamedTuple):
    """What is told apart of an order of rows: pairs of rows that stand as published, the other way, or either way, and
    the least and the greatest Kendall tau that these leave possible."""

    as_paper: int
    opposite: int
    undecided: int
    low: float
    high: float


class McNemar(NamedTuple):
    """Queries that only one of two rankings answers, and the exact two-sided p."""

    only_first: int
    only_second: int
    p: float


class Clustered(NamedTuple):
    """Means over queries, one for each seed [..., S], and the part of their variance that other people would change.

    `each` is that variance of one seed's mean, averaged over the seeds; `shared` what any two seeds have in common of
    it, and so all that is left of it in the mean over ever more seeds. Both are [...].
    """

    mean: Floats
    each: Floats
    shared: Floats


def t_above(value: ArrayLike, freedom: ArrayLike) -> Floats:
    """The probability that Student's t exceeds `value`: scipy.stats.t.sf to the bit."""
    probability: Floats = special.stdtr(freedom, np.negative(value))
    return probability


def t_beyond(level: ArrayLike, freedom: ArrayLike) -> Floats:
    """What Student's t exceeds with probability `level`: scipy.stats.t.isf to the bit."""
    value: Floats = -special.stdtrit(freedom, level)
    return value


def over_seeds(values_S: ArrayLike) -> Seeds:
    """Mean, sample standard deviation and 95 % t-interval, mean ± t(n - 1) sd / sqrt(n). Raises ValueError if empty."""
    values = np.asarray(values_S, dtype=np.float64)
    if not values.size:
        raise ValueError("over_seeds: no values")
    each, mean = tuple(values.tolist()), float(values.mean())
    if values.size == 1:
        return Seeds(each, mean, None, None, None)
    sd = float(values.std(ddof=1))
    half = float(t_beyond(LEVEL / 2, values.size - 1)) * sd / math.sqrt(values.size)
    return Seeds(each, mean, sd, mean - half, mean + half)


def clustered(values_ST: ArrayLike, cluster_T: ArrayLike) -> Clustered:
    """The values [..., S, T] of each seed and query, as if the clusters were drawn anew with all their queries.

    The variance of a mean (total over number of queries) is the sandwich form of a ratio: with r the cluster's total
    minus its size times the mean, C / (C - 1) times the sum of r² over T². `shared` is the same with the product of two
    seeds' r, averaged over all pairs of seeds: from V, the variance of the mean over S seeds, it is
    (S V - each) / (S - 1), at least 0. With one seed nothing tells it from `each`.
    Raises ValueError for less than two clusters.
    """
    values = np.asarray(values_ST, dtype=np.float64)
    seeds, queries = values.shape[-2:]
    cluster = np.asarray(cluster_T)
    order = cluster.argsort(kind="stable")
    _, begins, sizes = np.unique(cluster[order], return_index=True, return_counts=True)
    if (clusters := len(sizes)) < 2:
        raise ValueError("clustered: one cluster, and two are the least that can vary")
    mean = values.mean(-1)
    rest = np.add.reduceat(values[..., order], begins, axis=-1) - mean[..., None] * sizes
    scale = clusters / (clusters - 1) / queries**2
    each = scale * (rest**2).sum(-1).mean(-1)
    if seeds == 1:
        return Clustered(mean, each, each)
    whole = scale * (rest.mean(-2) ** 2).sum(-1)
    return Clustered(mean, each, np.maximum(0.0, (seeds * whole - each) / (seeds - 1)))


def mcnemar(first_T: ArrayLike, second_T: ArrayLike) -> McNemar:
    """Whether two rankings answer equally many of the same queries right (R@1 of one seed); T booleans each.

    Exact at any number of discordant pairs. It takes queries for independent, which those of one identity are not.
    """
    first, second = np.asarray(first_T, dtype=bool), np.asarray(second_T, dtype=bool)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    both = only_first + only_second
    # Twice the smaller tail of a fair coin is scipy.stats.binomtest's own p, in microseconds: a report has thousands.
    p = min(1.0, 2 * float(special.bdtr(min(only_first, only_second), both, 0.5)))
    return McNemar(only_first, only_second, p)


def cluster_bootstrap(
    values_TK: ArrayLike, cluster_T: ArrayLike, generator: np.random.Generator, resamples: int = RESAMPLES
) -> Floats:
    """Means [R, K] over the queries of as many clusters as there are, drawn with replacement, all their queries each.

    A resample is the same for all columns, so that columns stay paired. Raises ValueError for less than two clusters.
    """
    values = np.asarray(values_TK, dtype=np.float64)
    _, cluster = np.unique(cluster_T, return_inverse=True)
    size = int(cluster.max()) + 1
    if size < 2:
        raise ValueError("cluster_bootstrap: one cluster, and two are the least that can vary")
    table = np.zeros((size, values.shape[1] + 1))  # sums of the columns, and the number of queries
    np.add.at(table, cluster, np.column_stack([values, np.ones(len(values))]))
    means = []
    for start in range(0, resamples, part := max(1, CELLS // size)):
        rows = min(part, resamples - start)
        drawn = generator.integers(size, size=(rows, size)) + size * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
        sums = counts.astype(np.float64) @ table
        means.append(sums[:, :-1] / sums[:, -1:])
    return np.concatenate(means)


def holm(p_F: ArrayLike) -> Floats:
    """Holm's adjusted p [..., F]: the i-th smallest of F times F - i + 1, not under that of a smaller p, at most 1."""
    p = np.asarray(p_F, dtype=np.float64)
    order = p.argsort(axis=-1, kind="stable")
    factors = np.arange(p.shape[-1], 0, -1)
    rising = np.maximum.accumulate(np.take_along_axis(p, order, -1) * factors, axis=-1)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(1.0, rising), -1)
    return adjusted


def kendall_tau(ours_N: ArrayLike, paper_N: ArrayLike) -> float:
    """Kendall's tau-b between our order of N rows and the paper's; 0 where all rows of one side are tied."""
    ours, paper = np.round(np.asarray(ours_N, dtype=np.float64), 12), np.asarray(paper_N, dtype=np.float64)
    first, second = np.triu_indices(len(paper), 1)
    signs, published = np.sign(ours[first] - ours[second]), np.sign(paper[first] - paper[second])
    scale = math.sqrt(np.abs(signs).sum() * np.abs(published).sum())
    return float((signs * published).sum()) / scale if scale else 0.0


def told_order(ours_N: ArrayLike, draws_RN: Floats, paper_N: ArrayLike) -> Order:
    """Which pairs of rows are told apart, all at once at 95 %, and what that leaves of Kendall's tau.

    A pair is if its difference exceeds c standard errors, c being the 95 % quantile of the largest such deviation
    among all pairs in a resample (max-t). The interval of tau takes all other pairs as published at one end, and all
    against it at the other: it covers in at least 95 % of cases. Percentiles of the resamples' own tau do not (30 % of
    cases where the noise is as large as the paper's steps): noise upon noise takes order away.
    """
    ours, paper = np.asarray(ours_N, dtype=np.float64), np.asarray(paper_N, dtype=np.float64)
    first, second = np.triu_indices(len(paper), 1)
    difference, draws = ours[first] - ours[second], draws_RN[:, first] - draws_RN[:, second]
    se = draws.std(axis=0, ddof=1)
    varies = se > EQUAL
    deviation = np.abs(draws - difference)[:, varies] / se[varies]
    bound = float(np.quantile(deviation.max(axis=1), 1 - LEVEL)) if varies.any() else 0.0
    apart = np.abs(difference) > np.maximum(bound * se, EQUAL)
    published = np.sign(paper[first] - paper[second])
    agreement = np.sign(difference) * published * apart
    up, down, open_ = int((agreement > 0).sum()), int((agreement < 0).sum()), int((~apart & (published != 0)).sum())
    scale = math.sqrt(len(first) * np.abs(published).sum()) or 1.0
    return Order(up, down, open_, (up - down - open_) / scale, (up - down + open_) / scale)


def reseeded(values_RS: Floats, generator: np.random.Generator) -> Floats:
    """The mean over as many seeds as there are, drawn with replacement, in each of R resamples [R].

    Drawn ones vary by (n - 1) / n too little; their distance from the mean is stretched to make up for that.
    """
    n = values_RS.shape[1]
    mean: Floats = values_RS.mean(axis=1)
    if n == 1:
        return mean
    drawn = np.take_along_axis(values_RS, generator.integers(n, size=values_RS.shape), 1).mean(axis=1)
    return mean + math.sqrt(n / (n - 1)) * (drawn - mean)
