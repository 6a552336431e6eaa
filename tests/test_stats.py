"""Statistics: arithmetic by hand, slow forms that share no code with the fast ones, and what must hold of any data."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.statistics import (
    LEVEL,
    cluster_bootstrap,
    clustered,
    holm,
    kendall_tau,
    mcnemar,
    over_seeds,
    reseeded,
    t_above,
    t_beyond,
    told_order,
)


def test_seeds_by_hand():
    """40, 42, 44: mean 42, sd 2; t(2) at 97.5 % is 4.3027, so 42 ± 4.3027 * 2 / 1.7321 = 42 ± 4.968."""
    three = over_seeds([40, 42, 44])
    assert (three.n, three.mean, three.sd, three.values) == (3, 42.0, 2.0, (40.0, 42.0, 44.0))
    assert (three.low, three.high) == (pytest.approx(37.032, abs=1e-3), pytest.approx(46.968, abs=1e-3))
    assert over_seeds([40])[1:] == (40.0, None, None, None)
    with pytest.raises(ValueError, match="no values"):
        over_seeds([])


def test_mcnemar_by_hand():
    """One query is answered by the first alone, five by the second alone: 2 (1 + 6) / 2^6 = 0.21875."""
    first = [True, True, True, False, False, False, False, False, False]
    second = [True, True, False, True, True, True, True, True, False]
    assert mcnemar(first, second) == (1, 5, pytest.approx(0.21875))
    assert mcnemar(first, first) == (0, 0, 1.0)
    assert mcnemar([True], [False]).p == 1.0  # 2 * 1/2


@pytest.mark.parametrize("first, second", [(0, 0), (3, 3), (0, 9), (20, 21), (900, 1100), (0, 4000)])
def test_mcnemar_is_the_exact_test_of_a_fair_coin(first, second):
    found = mcnemar([True] * first + [False] * second, [False] * first + [True] * second)
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert found == (first, second, pytest.approx(expected, rel=1e-12))


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
    monkeypatch.setattr("experiments.statistics.CELLS", 70)
    assert np.array_equal(whole, cluster_bootstrap(values, cluster, np.random.default_rng(3), 101))
    assert whole.shape == (101, 1)


def test_variance_over_people_by_hand():
    """Two people, one with two queries. Seed 0: 3 and 0, 0, mean 1; seed 1: 0 and 3, 0, mean 1.

    The rest of a person is the total minus size times mean: seed 0: 2 and -2, seed 1: -1 and 1. So the sums of squares
    are 8 and 2, on average 5, times 2 / 1 / 9: 10 / 9. The product of the two seeds: -2 - 2 = -4, under 0, so nothing
    is shared.
    """
    found = clustered([[3, 0, 0], [0, 3, 0]], ["a", "b", "b"])
    assert found.mean.tolist() == [1.0, 1.0]
    assert (float(found.each), float(found.shared)) == (pytest.approx(10 / 9), 0.0)
    alike = clustered([[3, 0, 0], [3, 0, 0]], ["a", "b", "b"])
    assert float(alike.each) == float(alike.shared) == pytest.approx(16 / 9)
    half = clustered([[3, 0, 0], [2, 1, 0]], ["a", "b", "b"])  # rests 2, -2 and 1, -1: products 2 + 2, times 2 / 9
    assert float(half.shared) == pytest.approx(8 / 9)
    assert float(clustered([[3, 0, 0]], ["a", "b", "b"]).shared) == pytest.approx(
        16 / 9
    )  # one seed tells nothing apart
    with pytest.raises(ValueError, match="one cluster"):
        clustered([[1, 2]], [7, 7])


def test_variance_over_people_against_the_bootstrap():
    """The bootstrap has C where the sandwich form has C - 1, so 80 / 79; its sd of 20,000 draws is good to 0.5 %."""
    draw = np.random.default_rng(4)
    cluster = np.repeat(np.arange(80), draw.integers(1, 7, 80))
    values = draw.normal(size=80)[cluster] + draw.normal(size=len(cluster))
    variance = cluster_bootstrap(values[:, None], cluster, draw, 20_000).var(ddof=1)
    assert float(clustered(values[None], cluster).each) == pytest.approx(variance * 80 / 79, rel=0.03)


def test_what_seeds_share_is_told_from_what_they_do_not():
    """300 people with a part of sd 20 that stays and one of sd 30 that every seed draws anew:
    400 / 300 and 1300 / 300."""
    draw = np.random.default_rng(5)
    stays, anew = draw.normal(0, 20, (500, 1, 300)), draw.normal(0, 30, (500, 4, 300))
    found = clustered(stays + anew, np.arange(300))
    # Per suite the shared part has a standard error of about 12 %, so 0.6 % on average over 500.
    assert found.shared.mean() == pytest.approx(400 / 300, rel=0.03)
    assert found.each.mean() == pytest.approx(1300 / 300, rel=0.02)


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


def test_kendall_by_hand():
    """Of the pairs of 1, 2, 3 against 1, 3, 2 two agree and one does not: (2 - 1) / 3. A tie: (2 - 0) / sqrt(3 * 2)."""
    assert kendall_tau([1, 2, 3], [1, 3, 2]) == pytest.approx(1 / 3)
    assert kendall_tau([1, 2, 2], [1, 3, 2]) == pytest.approx(2 / math.sqrt(6))
    assert kendall_tau([5, 5, 5], [1, 3, 2]) == 0.0


def test_kendall_is_scipys():
    """Of 200 pairs of orders, with ties."""
    draw = np.random.default_rng(15)
    for ours, paper in draw.integers(0, 6, (200, 2, 7)):
        expected = stats.kendalltau(ours, paper).statistic
        assert kendall_tau(ours, paper) == pytest.approx(0.0 if math.isnan(expected) else expected, abs=1e-15)


def test_students_t_is_scipys():
    """To the bit, with what is no degree of freedom."""
    draw = np.random.default_rng(16)
    values, levels = draw.normal(0, 5, (400, 1)), draw.random((400, 1))
    freedom = np.array([1, 2, 2.5, 4, 11, 999, np.inf, np.nan, 0.0])
    assert np.array_equal(t_above(values, freedom), stats.t.sf(values, freedom), equal_nan=True)
    assert np.array_equal(t_beyond(levels, freedom), stats.t.isf(levels, freedom), equal_nan=True)


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
