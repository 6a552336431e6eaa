"""What figures over queries and over seeds can tell: pure functions of arrays.

Accuracies and differences are in percent points. Shape suffixes: S seeds, T queries, C clusters (the identities that
the queries describe), R resamples, K columns, N rows of a table, F comparisons of a family.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]

LEVEL, POWER = 0.05, 0.8
RESAMPLES = 10_000
CELLS = 2**21  # resamples x clusters held at once
MOST_SEEDS = 10_000
EQUAL = 1e-9  # percent points: differences this close are rounding of the same one
AS_PAPER, OPPOSITE, UNDECIDED = "as in the paper", "opposite", "cannot be told apart"
HIGHER, LOWER = "higher", "lower"  # where there is no published step


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


class SeedTest(NamedTuple):
    """A paired t-test over seeds: whether the mean difference is 0, and Cohen's d_z = mean / sd; None if untold."""

    p: float | None
    effect: float | None


class Estimate(NamedTuple):
    """A figure with its bootstrap distribution: standard error, 95 % percentile interval, two-sided p against 0."""

    value: float
    se: float
    low: float
    high: float
    p: float


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


def over_seeds(values_S: ArrayLike) -> Seeds:
    """Mean, sample standard deviation and 95 % t-interval, mean ± t(n - 1) sd / sqrt(n). Raises ValueError if empty."""
    values = np.asarray(values_S, dtype=np.float64)
    if not values.size:
        raise ValueError("over_seeds: no values")
    each, mean = tuple(values.tolist()), float(values.mean())
    if values.size == 1:
        return Seeds(each, mean, None, None, None)
    sd = float(values.std(ddof=1))
    half = float(stats.t.isf(LEVEL / 2, values.size - 1)) * sd / math.sqrt(values.size)
    return Seeds(each, mean, sd, mean - half, mean + half)


def seed_test(differences: Seeds) -> SeedTest:
    """The paired t-test of the differences (same seed in both rows) against 0.

    Differences that are all alike and not 0 leave t without a scale: untold. All 0: p is 1.
    """
    if differences.sd is None:
        return SeedTest(None, None)
    if differences.sd < EQUAL:
        return SeedTest(1.0, 0.0) if abs(differences.mean) < EQUAL else SeedTest(None, None)
    effect = differences.mean / differences.sd
    return SeedTest(float(2 * stats.t.sf(abs(effect) * math.sqrt(differences.n), differences.n - 1)), effect)


def wilcoxon_floor(n: int) -> float:
    """The least two-sided p that a Wilcoxon signed-rank test of n pairs can reach: both of 2^n signs that all agree."""
    return min(1.0, 2.0 ** (1 - n))


def mcnemar(first_T: ArrayLike, second_T: ArrayLike) -> McNemar:
    """Whether two rankings answer equally many of the same queries right (R@1 of one seed); T booleans each.

    Exact at any number of discordant pairs. It takes queries for independent, which those of one identity are not:
    beside it stands the bootstrap that resamples identities.
    """
    first, second = np.asarray(first_T, dtype=bool), np.asarray(second_T, dtype=bool)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    fewer, both = min(only_first, only_second), only_first + only_second
    return McNemar(only_first, only_second, min(1.0, 2 * float(stats.binom.cdf(fewer, both, 0.5))))


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


def estimate(value: float, draws_R: Floats) -> Estimate:
    """`value` with what its resamples tell. p is twice the share of resamples on the other side of 0, at most 1.

    So p is under 0.05 where the interval leaves 0 out, and never under 2 / (R + 1).
    """
    draws = np.round(draws_R, 12)  # a difference of 0 is not to count for one side by its last bit
    low, high = np.quantile(draws, (LEVEL / 2, 1 - LEVEL / 2)).tolist()
    beyond = 1 + min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return Estimate(value, float(draws.std(ddof=1)), low, high, min(1.0, 2 * beyond / (len(draws) + 1)))


def over_both(queries: Estimate, clusters: int, seeds: Seeds) -> float:
    """p of a mean difference if other people are searched *and* the rows are trained from other seeds.

    The variances over queries (`queries`, of the mean over the seeds) and over seeds (sd² / n) add up; t has the
    degrees of freedom of Welch and Satterthwaite. What a query's answer varies with the seed is in both, so the sum
    is if anything too large. With two or three seeds the sum alone rejects too often, since it takes a small sd by
    luck at its word (at 0.05: 13 % for two seeds); p is therefore at least that over seeds and that over queries
    alone, which holds 0.05 to 6 % and 0.0056 to 0.8 % for two to eight seeds, whichever source is the larger.
    """
    test = seed_test(seeds)
    of_queries, of_seeds = queries.se**2, (seeds.sd or 0.0) ** 2 / seeds.n
    known = [queries.p, *([] if test.p is None else [test.p])]
    if variance := of_queries + of_seeds:
        terms = of_queries**2 / (clusters - 1) + (of_seeds**2 / (seeds.n - 1) if seeds.n > 1 else 0.0)
        known.append(float(2 * stats.t.sf(abs(seeds.mean) / math.sqrt(variance), variance**2 / terms)))
    return max(known)


def holm(p_F: ArrayLike) -> Floats:
    """Holm's adjusted p: the i-th smallest of F times F - i + 1, never under that of a smaller p, at most 1."""
    p = np.asarray(p_F, dtype=np.float64)
    order = p.argsort(kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def power(noncentrality: float, freedom: float) -> float:
    """How often a two-sided t-test at 0.05 rejects. For n pairs: difference sqrt(n) / sd, and n - 1."""
    critical = stats.t.isf(LEVEL / 2, freedom)
    above, below = stats.nct.sf(critical, freedom, noncentrality), stats.nct.cdf(-critical, freedom, noncentrality)
    return float(above + np.nan_to_num(below))  # scipy has no number for some far tails, all of them under 1e-9


def detectable(sd: float, n: int) -> float:
    """The smallest difference that a two-sided paired t-test of n >= 2 seeds at 0.05 shows in 80 % of all cases."""
    found = optimize.brentq(lambda noncentrality: power(noncentrality, n - 1) - POWER, 0.0, 30.0)
    return float(found) * sd / math.sqrt(n)


def seeds_needed(difference: float, sd: float) -> int | None:
    """The least number of seeds that shows the difference in 80 % of all cases; None if over 10,000.

    The search begins where a test that knows sd would end: one that does not needs more.
    """
    normal = float(stats.norm.isf(LEVEL / 2) + stats.norm.ppf(POWER))
    if abs(difference) * math.sqrt(MOST_SEEDS) <= normal * sd:
        return None
    n = max(2, math.floor((normal * sd / difference) ** 2))
    while n <= MOST_SEEDS and sd and power(abs(difference) * math.sqrt(n) / sd, n - 1) < POWER:
        n += 1
    return n if n <= MOST_SEEDS else None


def kendall_tau(ours_N: ArrayLike, paper_N: ArrayLike) -> float:
    """Kendall's tau-b between our order of N rows and the paper's; 0 where all rows of one side are tied."""
    ours, paper = np.asarray(ours_N, dtype=np.float64), np.asarray(paper_N, dtype=np.float64)
    first, second = np.triu_indices(len(paper), 1)
    signs, published = np.sign(np.round(ours[first] - ours[second], 12)), np.sign(paper[first] - paper[second])
    scale = math.sqrt(np.abs(signs).sum() * np.abs(published).sum())
    return float(signs @ published) / scale if scale else 0.0


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
    told = np.abs(difference) > np.maximum(bound * se, EQUAL)
    published = np.sign(paper[first] - paper[second])
    agreement = np.sign(difference) * published * told
    up, down, open_ = int((agreement > 0).sum()), int((agreement < 0).sum()), int((~told & (published != 0)).sum())
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


def judge(difference: float, p: float, paper: float | None) -> str:
    """A step's verdict: its sign if p (corrected) is under 0.05, beside the paper's sign."""
    if p >= LEVEL or difference == 0:
        return UNDECIDED
    if not paper:
        return HIGHER if difference > 0 else LOWER
    return AS_PAPER if (difference > 0) == (paper > 0) else OPPOSITE
