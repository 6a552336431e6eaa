"""A step's test: a row minus the row that it goes on from, over other people *and* other seeds, at every look.

For a step, d[s, c] is the difference that seed s makes on the queries of person c: the step, plus what holds for this
person whichever the seed, plus what holds for this seed whoever is searched, plus the rest. The mean over n seeds
varies by V = s² / n + q. s² is the variance of one seed's mean over the seeds, and the rest is in it; q is what two
seeds have in common over other people, and no number of seeds makes it smaller. The degrees of freedom are those of
Satterthwaite for this sum, as Hillis (2007) has it for readers and cases.

With n = 3 a variance over seeds is almost unknown, and a small one by luck would pass for certainty. So it is taken
from the step's own seeds (n - 1 degrees of freedom) and, with the weight of BORROWED more, from the other steps of the
suite (Smyth 2004, with a fixed prior weight), if that makes it larger. With fewer than three steps there is nothing to
borrow; then a difference must be told over the seeds alone, too.

Shapes: [..., S, F], S being the number of seeds from the first on, F the steps of the suite. Percent points.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from experiments import boundaries
from experiments.statistics import EQUAL, LEVEL, Floats, clustered, holm, t_above, t_beyond

BORROWED = 2  # degrees of freedom
LENDERS = 3  # steps that a suite must have for that
CAP = 6.0  # times the median: a larger variance lends no more, so that one wild row does not decide for all
MARGIN = 1.0  # percent points of R@1 within which two rows are called equivalent


class Prefixes(NamedTuple):
    """What the first 1, 2, ... seeds tell of each step; NaN beyond those it has."""

    mean: Floats  # [..., S, F]
    over_seeds: Floats  # [..., S, F], s²; NaN for one seed
    over_queries: Floats  # [..., S, F], q; 0 where the queries are not known
    clusters: Floats  # [F]; inf where they are not known


class Spread(NamedTuple):
    """By how much a mean difference varies: a test's standard errors and degrees of freedom. All of them must agree."""

    mean: Floats
    scales: Sequence[tuple[Floats, Floats]]

    def p(self, difference: ArrayLike) -> Floats:
        """Two-sided, that what was seen is `difference` from the truth. Where nothing varies, nothing is told: 1."""
        return np.minimum(1.0, 2 * self.above(np.abs(difference)))

    def above(self, difference: ArrayLike) -> Floats:
        """One-sided, that what was seen is at least `difference` above the truth; 1 if nothing varies."""
        found = [
            np.where(se > EQUAL, t_above(difference / np.where(se > EQUAL, se, 1), free), 1) for se, free in self.scales
        ]
        return np.maximum.reduce(found)

    def half(self, level: float) -> Floats:
        """Half the width of the interval that holds the truth with 1 - level."""
        return np.maximum.reduce([np.nan_to_num(t_beyond(level / 2, free) * se) for se, free in self.scales])


class Replayed(NamedTuple):
    """What all looks up to now tell of each step [..., F]. p: of no difference; p_equivalent: of one beyond the margin.

    Both hold whenever one stops, before and after Holm's correction over the steps. The interval is where the intervals
    of all looks meet; it covers at 95 % whenever one stops, and leaves out 0 where p is under 0.05. `after` is the
    number of seeds that first gave a verdict; 0 without one.
    """

    mean: Floats
    low: Floats
    high: Floats
    p: Floats
    p_holm: Floats
    p_equivalent: Floats
    p_equivalent_holm: Floats
    after: Floats


def prefixes(differences_ST: ArrayLike, cluster_T: ArrayLike | None) -> tuple[Floats, Floats, Floats, float]:
    """Mean, s² and q [S] after 1, 2, ... seeds, and the clusters; without clusters the values are T = 1 mean each."""
    values = np.asarray(differences_ST, dtype=np.float64)
    mean, over_seeds = running(values.mean(-1)[:, None])
    if cluster_T is None or len(known := np.unique(cluster_T)) < 2:
        return mean[:, 0], over_seeds[:, 0], np.zeros(len(values)), np.inf
    shared = [clustered(values[: n + 1], cluster_T).shared for n in range(len(values))]
    return mean[:, 0], over_seeds[:, 0], np.array(shared), float(len(known))


def running(values_SF: Floats) -> tuple[Floats, Floats]:
    """Mean and sample variance of the first 1, 2, ... values [..., S, F]; the variance of one is NaN."""
    n = np.arange(1, values_SF.shape[-2] + 1)[:, None]
    centre = values_SF[..., :1, :]
    away = values_SF - centre  # so that the squares lose no digits
    mean = away.cumsum(-2) / n
    squares = np.maximum(0.0, (away**2).cumsum(-2) - n * mean**2)
    return mean + centre, np.where(n > 1, squares / np.maximum(n - 1, 1), np.nan)


def spread(known: Prefixes, counts: ArrayLike) -> Spread:
    """How much each step's mean over its first `counts` [..., F] seeds varies."""
    at = np.asarray(counts)[..., None, :]

    def pick(values: Floats) -> Floats:
        at_ = np.broadcast_to(at, (*np.broadcast_shapes(at.shape[:-2], values.shape[:-2]), 1, at.shape[-1]))
        return np.take_along_axis(np.broadcast_to(values, (*at_.shape[:-2], *values.shape[-2:])), at_ - 1, -2)[
            ..., 0, :
        ]

    n = np.asarray(counts, dtype=np.float64)
    over_seeds, free = pick(known.over_seeds), n - 1
    if borrows := n.shape[-1] >= LENDERS:
        mixed = (BORROWED * _lent(over_seeds, free) + free * over_seeds) / (BORROWED + free)
        over_seeds, free = np.maximum(over_seeds, mixed), BORROWED + free
    of_seeds, of_queries = over_seeds / n, pick(known.over_queries)
    variance = of_seeds + of_queries
    terms = of_seeds**2 / free + of_queries**2 / (known.clusters - 1)
    both = (np.sqrt(variance), variance**2 / np.where(terms > 0, terms, 1.0))
    return Spread(pick(known.mean), [both] if borrows else [both, (np.sqrt(of_seeds), free)])


def replay(known: Prefixes, counts: ArrayLike, most: int, margin: float = MARGIN) -> Replayed:
    """Go through the looks as if each were new: after 3, 5, 8, 12 seeds, and after `counts` [..., F], at least 3 each.

    The verdicts of a suite depend on its runs alone, and not on who looked at them when.
    """
    counts = np.asarray(counts)
    shape = np.broadcast_shapes(counts.shape, (*known.mean.shape[:-2], counts.shape[-1]))
    most = max(most, int(counts.max()))
    p, p_equivalent, after = np.ones(shape), np.ones(shape), np.zeros(shape)
    low, high, last = np.full(shape, -np.inf), np.full(shape, np.inf), np.zeros(shape)
    planned = boundaries.looks(most)
    for n in sorted({*planned, *np.unique(counts).tolist()}):
        due = np.broadcast_to((counts == n) | ((counts > n) & (n in planned)), shape)
        if not due.any():
            continue
        seen = spread(known, np.minimum(n, counts))
        p = np.where(due, np.minimum(p, boundaries.sequential_p(seen.p(seen.mean), n, most)), p)
        outside = np.minimum(1.0, 2 * seen.above(margin - np.abs(seen.mean)))
        outside = np.where((seen.scales[0][0] <= EQUAL) & (np.abs(seen.mean) < margin), 0.0, outside)
        p_equivalent = np.where(due, np.minimum(p_equivalent, _one_sided(outside, n, most)), p_equivalent)
        half = seen.half(boundaries.nominal(n, most, LEVEL))
        narrow = np.maximum(low, seen.mean - half), np.minimum(high, seen.mean + half)
        apart = narrow[0] > narrow[1]  # looks that contradict each other: the last one counts
        low = np.where(due, np.where(apart, seen.mean - half, narrow[0]), low)
        high = np.where(due, np.where(apart, seen.mean + half, narrow[1]), high)
        last = np.where(due, seen.mean, last)
        decided = (holm(p) < LEVEL) | (holm(p_equivalent) < LEVEL)
        after = np.where(decided & (after == 0), n, after)
    return Replayed(last, low, high, p, holm(p), p_equivalent, holm(p_equivalent), after)


def _lent(over_seeds: Floats, free: Floats) -> Floats:
    """For each step [..., F] the mean variance of the others, weighted by their degrees of freedom, each capped.

    The median is of all steps, the step's own among them: that of two lenders would be their mean, which caps neither.
    """
    found = np.empty_like(over_seeds)
    cap = CAP * np.median(over_seeds, -1, keepdims=True)
    for at in range(over_seeds.shape[-1]):
        others, weights = np.delete(over_seeds, at, -1), np.delete(free, at, -1)
        capped = np.minimum(others, cap)
        found[..., at] = (weights * capped).sum(-1) / weights.sum(-1)
    return found


def _one_sided(doubled: Floats, n: int, most: int) -> Floats:
    """The sequential p of two one-sided tests, of which each may err at the level; `doubled` is twice the larger p."""
    return np.where(doubled < 1, boundaries.sequential_p(doubled, n, most) / 2, 1.0)
