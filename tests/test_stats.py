"""Statistics: arithmetic by hand, slow forms that share no code with the fast ones, and what must hold of any data."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, stats

from reports.stats import (
    LEVEL,
    Estimate,
    cluster_bootstrap,
    detectable,
    estimate,
    holm,
    judge,
    kendall_tau,
    mcnemar,
    over_both,
    over_seeds,
    power,
    reseeded,
    seed_test,
    seeds_needed,
    told_order,
    wilcoxon_floor,
)


def test_seeds_by_hand():
    """40, 42, 44: mean 42, sd 2; t(2) at 97.5 % is 4.3027, so 42 ± 4.3027 * 2 / 1.7321 = 42 ± 4.968."""
    three = over_seeds([40, 42, 44])
    assert (three.n, three.mean, three.sd, three.values) == (3, 42.0, 2.0, (40.0, 42.0, 44.0))
    assert (three.low, three.high) == (pytest.approx(37.032, abs=1e-3), pytest.approx(46.968, abs=1e-3))
    assert over_seeds([40])[1:] == (40.0, None, None, None)
    with pytest.raises(ValueError, match="no values"):
        over_seeds([])


def test_paired_t_by_hand():
    """1, 2, 3: t = 2 / (1 / sqrt 3) = 3.464; with 2 degrees of freedom p = 1 - t / sqrt(t² + 2) = 1 - sqrt(12 / 14)."""
    assert seed_test(over_seeds([1, 2, 3])) == (pytest.approx(1 - math.sqrt(12 / 14)), 2.0)
    assert seed_test(over_seeds([0, 0, 0])) == (1.0, 0.0)
    assert seed_test(over_seeds([5])) == (None, None)
    assert seed_test(over_seeds([42.1 - 40.1, 43.1 - 41.1])) == (None, None)  # both 2, but for the last bit


def test_paired_t_against_scipy():
    draw = np.random.default_rng(0)
    first, second = draw.normal(1, 1, 7), draw.normal(0, 1, 7)
    theirs = stats.ttest_rel(first, second)
    ours = over_seeds(first - second)
    assert seed_test(ours).p == pytest.approx(theirs.pvalue, rel=1e-10)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-10)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_wilcoxon_floor_by_counting_signs(n):
    """All signs alike is the rarest: 2 of the 2^n patterns have a rank sum as far out as that, for 5 pairs 2 / 32."""
    ranks = range(1, n + 1)
    middle, top = sum(ranks) / 2, sum(ranks)
    sums = [
        sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
        for signs in itertools.product((0, 1), repeat=n)
    ]
    assert wilcoxon_floor(n) == np.mean([abs(total - middle) >= top - middle for total in sums])
    assert wilcoxon_floor(5) == 0.0625


def test_mcnemar_by_hand():
    """One query is answered by the first alone, five by the second alone: 2 (1 + 6) / 2^6 = 0.21875."""
    first = [True, True, True, False, False, False, False, False, False]
    second = [True, True, False, True, True, True, True, True, False]
    assert mcnemar(first, second) == (1, 5, pytest.approx(0.21875))
    assert mcnemar(first, first) == (0, 0, 1.0)
    assert mcnemar([True], [False]).p == 1.0  # 2 * 1/2


def test_mcnemar_against_scipy():
    draw = np.random.default_rng(1)
    first, second = draw.random(900) < 0.7, draw.random(900) < 0.66
    ours = mcnemar(first, second)
    expected = stats.binomtest(ours.only_first, ours.only_first + ours.only_second, 0.5).pvalue
    assert ours.p == pytest.approx(expected, rel=1e-10)


def test_bootstrap_of_two_clusters_by_hand():
    """One query at 3, three at 1. The first twice: 3; the second twice: 1; both, half the time: 6 / 4."""
    means = cluster_bootstrap([[3], [1], [1], [1]], ["a", "b", "b", "b"], np.random.default_rng(0), 4000)[:, 0]
    values, counts = np.unique(means, return_counts=True)
    assert values.tolist() == [1.0, 1.5, 3.0]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)  # four standard errors of a share of 4000
    with pytest.raises(ValueError, match="one cluster"):
        cluster_bootstrap([[1], [2]], [7, 7], np.random.default_rng(0), 10)


def test_bootstrap_equals_putting_the_queries_together():
    draw = np.random.default_rng(2)
    cluster = draw.integers(20, size=90) * 3 + 5
    values = draw.normal(size=(90, 2))
    fast = cluster_bootstrap(values, cluster, np.random.default_rng(7), 50)
    names = sorted(set(cluster.tolist()))
    for row, picks in enumerate(np.random.default_rng(7).integers(len(names), size=(50, len(names)))):
        drawn = [values[cluster == names[pick]] for pick in picks]
        assert fast[row] == pytest.approx(np.concatenate(drawn).mean(axis=0), rel=1e-12)


def test_bootstrap_in_parts_is_deterministic(monkeypatch):
    values, cluster = np.arange(30.0)[:, None], np.arange(30) // 3
    whole = cluster_bootstrap(values, cluster, np.random.default_rng(3), 101)
    monkeypatch.setattr("reports.stats.CELLS", 70)
    assert np.array_equal(whole, cluster_bootstrap(values, cluster, np.random.default_rng(3), 101))
    assert whole.shape == (101, 1)


def test_estimate_by_hand():
    """Of nine resamples one is not over 0: p = 2 (1 + 1) / (9 + 1) = 0.4. Half of them at 0: p = 1."""
    assert estimate(1.0, np.array([-1.0, 1, 2, 3, 4, 5, 6, 7, 8])).p == pytest.approx(0.4)
    assert estimate(1.0, np.array([0.0, 0.0, 1.0, 1.0])).p == 1.0
    assert estimate(0.0, np.array([1e-17, -1e-17, 1e-17])) == (0.0, 0.0, 0.0, 0.0, 1.0)
    spread = estimate(50.0, np.arange(0.5, 101))
    assert (spread.low, spread.high) == (3.0, 98.0)  # 2.5 and 97.5 hundredths of the way from 0.5 to 100.5
    assert spread.p < LEVEL


def _clustered(draw, clusters):
    """Differences in clusters of 1-6 queries that share half of their variance; the expected mean is 0.

    The size does not depend on the difference, so that the mean over queries is that over clusters in expectation.
    """
    cluster = np.repeat(np.arange(clusters), draw.integers(1, 7, clusters))
    return cluster, draw.normal(size=clusters)[cluster] + draw.normal(size=len(cluster))


def test_bootstrap_interval_covers():
    """95 % of intervals hold 0, within four standard errors of 400 trials; with queries as clusters far fewer."""
    draw = np.random.default_rng(4)
    covered, naive = [], []
    for _ in range(400):
        cluster, values = _clustered(draw, 80)
        for found, by in ((covered, cluster), (naive, np.arange(len(values)))):
            one = estimate(values.mean(), cluster_bootstrap(values[:, None], by, draw, 400)[:, 0])
            found.append(one.low <= 0 <= one.high)
    assert 0.905 < np.mean(covered) < 0.99
    assert np.mean(naive) < 0.85


def test_bootstrap_se_is_that_of_clusters():
    """Clusters of equal size: the mean of their means, so se = sd of these / sqrt C (with C in the denominator)."""
    draw = np.random.default_rng(5)
    values = draw.normal(size=(50, 4)) + draw.normal(size=(50, 1))
    draws = cluster_bootstrap(values.reshape(-1, 1), np.repeat(np.arange(50), 4), draw, 20_000)[:, 0]
    # The sd of 20,000 draws has a relative error of 0.5 %.
    assert estimate(0.0, draws).se == pytest.approx(values.mean(axis=1).std() / math.sqrt(50), rel=0.02)


def test_both_by_hand():
    """Over queries 0.6; over seeds sd 0.8 * sqrt 4, so 0.8: together 1. Mean 2, so t = 2; degrees of freedom
    1 / (0.36² / 300 + 0.64² / 3) = 7.301. Over seeds alone t = 2.5 with 3, which is less sure, and counts."""
    values = 2 + 1.6 * np.array([-1.0, 1, -1, 1]) / math.sqrt(4 / 3)
    seeds = over_seeds(values)
    assert (seeds.mean, seeds.sd) == (pytest.approx(2), pytest.approx(1.6))
    together, alone = 2 * stats.t.sf(2, 7.301), 2 * stats.t.sf(2.5, 3)
    assert alone > together
    assert over_both(Estimate(2, 0.6, 0, 0, 0.001), 301, seeds) == pytest.approx(alone)
    # Nothing varies over seeds: what queries tell remains. Nothing varies at all: p is 1 at 0.
    assert over_both(Estimate(2, 1.0, 0, 0, 0.001), 301, over_seeds([2, 2, 2])) == pytest.approx(2 * stats.t.sf(2, 300))
    assert over_both(Estimate(0, 0.0, 0, 0, 1.0), 301, over_seeds([0, 0])) == 1.0
    # More over queries than over seeds: t = 2 / sqrt(1 + 0.01), 301.. degrees of freedom, over seeds t = 20.
    steady = over_seeds(2 + 0.2 * np.array([-1.0, 1, -1, 1]) / math.sqrt(4 / 3))
    freedom = 1.01**2 / (1 / 300 + 0.01**2 / 3)
    expected = 2 * stats.t.sf(2 / math.sqrt(1.01), freedom)
    assert over_both(Estimate(2, 1.0, 0, 0, 0.001), 301, steady) == pytest.approx(expected)


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("ratio", [0.3, 2.0])
def test_both_keeps_its_level(n, ratio):
    """No step, noise over seeds `ratio` times that over queries: at most 6 % under 0.05, plus 4 standard errors."""
    draw, rejected = np.random.default_rng(6), 0
    for _ in range(1500):
        by_query, by_seed = draw.normal(), draw.normal(0, ratio * math.sqrt(n), n)
        se = math.sqrt(draw.chisquare(299) / 299)
        seeds = over_seeds(by_query + by_seed)
        rejected += over_both(Estimate(seeds.mean, se, 0, 0, 0.0), 300, seeds) < LEVEL
    assert rejected / 1500 < 0.06 + 4 * math.sqrt(0.06 * 0.94 / 1500)


def test_holm_by_hand():
    """0.01 * 3 = 0.03; 0.03 * 2 = 0.06; 0.04 * 1 = 0.04, which may not be under 0.06. 0.6 * 2 is at most 1."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([0.2]).tolist() == [0.2]
    assert holm([]).size == 0


def test_holm_is_monotone_and_rejects_step_down():
    """Slow form: go through the p from the smallest, and stop at the first that is not under 0.05 / (those left)."""
    draw = np.random.default_rng(8)
    for _ in range(200):
        p = draw.random(9) ** 4
        adjusted = holm(p)
        assert (adjusted >= p).all() and (adjusted <= 1).all()
        assert (np.diff(adjusted[p.argsort()]) >= 0).all()
        assert (adjusted <= np.minimum(1, 9 * p) + 1e-15).all()  # never more severe than Bonferroni
        rejected = np.zeros(9, dtype=bool)
        for left, index in zip(range(9, 0, -1), p.argsort(), strict=True):
            if p[index] >= LEVEL / left:
                break
            rejected[index] = True
        assert ((adjusted < LEVEL) == rejected).all()


def test_holm_keeps_the_family():
    """Nine true nulls: some p under 0.05 in 5 % of families; 37 % uncorrected."""
    p = np.random.default_rng(9).random((4000, 9))
    found = np.mean([holm(family).min() < LEVEL for family in p])
    assert found == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 4000))
    assert np.mean(p.min(axis=1) < LEVEL) > 0.3


@pytest.mark.parametrize("freedom", [1, 2, 4, 29])
@pytest.mark.parametrize("noncentrality", [0.0, 1.0, 3.3, 12.0])
def test_power_against_integration(freedom, noncentrality):
    """Slow form: given the sample's sd (chi), the mean is normal; integrate over the sd."""
    critical = stats.t.isf(LEVEL / 2, freedom)

    def rejects(scale: float) -> float:
        reach = critical * scale / math.sqrt(freedom)
        missed = stats.norm.cdf(reach - noncentrality) - stats.norm.cdf(-reach - noncentrality)
        return (1 - missed) * stats.chi.pdf(scale, freedom)

    expected, _ = integrate.quad(rejects, 0, 40, limit=400, points=[0.5, 1, 2, 5])
    assert power(noncentrality, freedom) == pytest.approx(expected, abs=1e-6)


def test_power_without_an_effect_is_the_level():
    assert [power(0.0, freedom) for freedom in (1, 4, 9)] == pytest.approx([LEVEL] * 3)


@pytest.mark.parametrize(("effect", "n"), [(0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed_as_in_the_tables(effect, n):
    """Textbook sample sizes of a paired t-test at 0.05 (two-sided) and 80 %."""
    assert seeds_needed(effect * 2.5, 2.5) == n
    assert seeds_needed(-effect, 1.0) == n
    assert detectable(2.5, n) <= effect * 2.5 < detectable(2.5, n - 1)


def test_seeds_needed_at_the_ends():
    """Four sd: power(4 sqrt 2, 1) is under 80 %, so three. Without spread two would do. Nothing shows no difference."""
    assert seeds_needed(4.0, 1.0) == 3
    assert seeds_needed(4.0, 0.0) == 2
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(0.001, 1.0) is None  # (2.8 / 0.001)², 7.8 million


def test_detectable():
    """Many seeds: (1.960 + 0.842) sd / sqrt n. Five: 1.68 sd; three: 3.26; two: 11.5."""
    assert detectable(3.0, 400) == pytest.approx(2.8016 * 3 / 20, rel=0.01)
    assert [detectable(1.0, n) for n in (5, 3, 2)] == pytest.approx([1.68, 3.26, 11.55], abs=0.005)


def test_detectable_by_trial():
    """80 % of 20,000 tests of four seeds at that difference reject; four standard errors are 1.1 %."""
    values = np.random.default_rng(10).normal(detectable(1.0, 4), 1, (20_000, 4))
    assert np.mean(stats.ttest_1samp(values, 0, axis=1).pvalue < LEVEL) == pytest.approx(0.8, abs=0.0115)


def test_kendall_by_hand():
    """Of the pairs of 1, 2, 3 against 1, 3, 2 two agree and one does not: (2 - 1) / 3. A tie: (2 - 0) / sqrt(3 * 2)."""
    assert kendall_tau([1, 2, 3], [1, 3, 2]) == pytest.approx(1 / 3)
    assert kendall_tau([1, 2, 2], [1, 3, 2]) == pytest.approx(2 / math.sqrt(6))
    assert kendall_tau([5, 5, 5], [1, 3, 2]) == 0.0


def test_kendall_against_scipy():
    draw = np.random.default_rng(11)
    for _ in range(30):
        ours, paper = draw.integers(6, size=10), draw.integers(9, size=10)
        assert kendall_tau(ours, paper) == pytest.approx(stats.kendalltau(ours, paper).statistic, abs=1e-12)


def test_told_order_by_hand():
    """Rows at 0, 10 and 10.1 with noise of 1: the first is under both, the others stand either way; published 1, 3, 2.

    So one pair of three is open: tau is (2 - 1) / 3 or (2 + 1) / 3.
    """
    ours = np.array([0.0, 10.0, 10.1])
    draws = ours + np.random.default_rng(12).normal(size=(500, 3))
    assert told_order(ours, draws, [1, 3, 2]) == (2, 0, 1, pytest.approx(1 / 3), 1.0)
    assert told_order(ours, draws, [3, 2, 1])[:3] == (0, 2, 1)
    exact = told_order(ours, np.tile(ours, (9, 1)), [1, 3, 2])  # nothing varies: tau itself
    assert exact == (2, 1, 0, pytest.approx(1 / 3), pytest.approx(1 / 3))
    same = told_order([4, 4, 4], np.full((9, 3), 4.0), [1, 3, 2])
    assert same == (0, 0, 3, -1.0, 1.0)


@pytest.mark.parametrize("noise", [0.2, 1.5])
def test_told_order_covers(noise):
    """At least 95 % of intervals hold the true tau, be the noise under the steps or over them (100 of 100 expected)."""
    draw = np.random.default_rng(13)
    paper = np.array([61.35, 71.29, 73.52, 72.58, 73.03, 74.2, 74.81, 75.13, 75.99, 76.51])
    covered = []
    for _ in range(100):
        truth = paper + draw.normal(0, 0.7, 10)
        ours = truth + draw.normal(0, noise, 10)
        told = told_order(ours, ours + draw.normal(0, noise, (400, 10)), paper)
        covered.append(told.low - 1e-9 <= kendall_tau(truth, paper) <= told.high + 1e-9)
        assert told.low - 1e-9 <= kendall_tau(ours, paper) <= told.high + 1e-9
    assert np.mean(covered) >= 0.95


def test_reseeded_has_the_variance_of_a_mean():
    """1, 2, 6: s² = 7 (mean 3, squares 4 + 1 + 9 over 2), so the mean's variance is 7 / 3; drawing alone: 14 / 9."""
    draws = reseeded(np.tile([1.0, 2.0, 6.0], (40_000, 1)), np.random.default_rng(14))
    assert draws.mean() == pytest.approx(3, abs=4 * math.sqrt(7 / 3 / 40_000))
    assert draws.var() == pytest.approx(7 / 3, rel=0.03)
    assert reseeded(np.array([[5.0], [6.0]]), np.random.default_rng(0)).tolist() == [5.0, 6.0]


@pytest.mark.parametrize(
    ("difference", "p", "paper", "verdict"),
    [
        (2.0, 0.01, 1.0, "as in the paper"),
        (-2.0, 0.01, -1.0, "as in the paper"),
        (-2.0, 0.01, 1.0, "opposite"),
        (2.0, 0.05, 1.0, "cannot be told apart"),
        (0.0, 0.01, 1.0, "cannot be told apart"),
        (2.0, 0.01, None, "higher"),
        (-2.0, 0.01, 0.0, "lower"),
    ],
)
def test_verdict(difference, p, paper, verdict):
    assert judge(difference, p, paper) == verdict
