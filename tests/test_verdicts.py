"""Verdicts on steps: arithmetic by hand, the level that the test holds, the words, and the power that is foretold."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks import power, sequential
from experiments.boundaries import looks, next_look, nominal, sequential_p
from experiments.decisions import Queries, Step, decide, interval, step_of
from experiments.power import Variances, could_see, drawn, foresee, needed, shown
from experiments.statistics import LEVEL
from experiments.steps import Prefixes, replay, running, spread

PUBLISHED = np.array([9.94, 2.23, 1.29, 1.74, 1.62, 0.61, 0.32, 0.86, 0.52])
PEOPLE = np.arange(300)


def test_looks():
    assert (
        looks(12) == (3, 5, 8, 12) and looks(6) == (3, 5, 6) and looks(3) == (3,) and looks(20) == (3, 5, 8, 12, 18, 20)
    )
    assert [next_look(n, 12) for n in (0, 3, 4, 11, 12)] == [3, 5, 5, 12, None]
    with pytest.raises(ValueError, match="3 are the fewest"):
        looks(2)


def test_first_boundary_by_hand():
    """Of 0.05 the look after 3 of 12 seeds may spend 0.05 * (1 / 4)^1.5 = 0.00625; a fixed design of 5 spends all."""
    assert nominal(3, 12) == pytest.approx(0.00625, rel=2e-3)
    assert float(sequential_p(0.00625, 3, 12)) == pytest.approx(0.05, rel=2e-3)
    assert nominal(3, 3) == pytest.approx(0.05, rel=2e-3)
    assert float(sequential_p(0.0, 3, 12)) == pytest.approx(0.0, abs=1e-200) and float(sequential_p(1.0, 3, 12)) == 1.0


@pytest.mark.parametrize("level", [0.05, 0.05 / 9])
def test_boundaries_spend_as_they_should(level):
    """Slow form: 400,000 random walks; by each look the share that was ever beyond is level * (n / 12)^1.5."""
    draw, ever = np.random.default_rng(0), np.zeros(400_000, bool)
    walk = draw.normal(size=(400_000, 12)).cumsum(1)
    for n in looks(12):
        ever |= 2 * stats.norm.sf(np.abs(walk[:, n - 1]) / math.sqrt(n)) < nominal(n, 12, level)
        due = level * (n / 12) ** 1.5
        assert ever.mean() == pytest.approx(due, abs=4 * math.sqrt(due / 400_000) + 0.01 * due)


def test_sequential_p_is_the_inverse():
    for n in looks(12):
        for level in (0.2, 0.05, 0.001, 1e-6):
            assert float(sequential_p(nominal(n, 12, level), n, 12)) == pytest.approx(level, rel=0.02)
        p = sequential_p(np.geomspace(1e-12, 1, 300), n, 12)
        assert (np.diff(p) >= 0).all() and p[-1] == 1.0


def test_running_by_hand():
    """1, 2, 6: means 1, 1.5, 3; variances -, 0.5, (4 + 1 + 9) / 2 = 7."""
    mean, variance = running(np.array([[1.0], [2.0], [6.0]]))
    assert mean[:, 0].tolist() == [1.0, 1.5, 3.0]
    assert np.isnan(variance[0, 0]) and variance[1:, 0] == pytest.approx([0.5, 7.0])


def _known(mean, over_seeds, over_queries=0.0, clusters=math.inf, n=3):
    def rows(values):
        return np.tile(np.broadcast_to(np.asarray(values, float), np.shape(mean)), (n, 1))

    return Prefixes(rows(mean), rows(over_seeds), rows(over_queries), np.broadcast_to(clusters, np.shape(mean)))


def test_spread_by_hand():
    """Three steps of three seeds, s² 3, 6, 9, of which each borrows two degrees of freedom:
    (2 * 3 + 2 * 7.5) / 4 = 5.25.

    Over 3 seeds 1.75, and q = 2.25 makes 4: se 2. Degrees of freedom 16 / (1.75² / 4 + 2.25² / 300). The last one would
    have (2 * 4.5 + 2 * 9) / 4 = 6.75, but never less than its own.
    """
    ((se, free),) = spread(_known([1.0, 2.0, 3.0], [3, 6, 9], 2.25, 301), np.full(3, 3)).scales
    assert se[0] == pytest.approx(2.0)
    assert free[0] == pytest.approx(16 / (1.75**2 / 4 + 2.25**2 / 300))
    assert se[1:] == pytest.approx([math.sqrt(6 / 3 + 2.25), math.sqrt(9 / 3 + 2.25)])


def test_a_wild_row_does_not_decide_for_all():
    """s² 1, 1, 1, 900: the median of the others is 1, so 900 lends 6:
    (1 + 1 + 6) / 3, and (2 * 8 / 3 + 2) / 4 = 11 / 6."""
    ((se, _),) = spread(_known(np.zeros(4), [1, 1, 1, 900.0]), np.full(4, 3)).scales
    assert se == pytest.approx(np.sqrt([11 / 18, 11 / 18, 11 / 18, 300]))


def test_two_steps_borrow_nothing_and_must_be_told_over_seeds_alone():
    """s² 3 over 3 seeds is 1, q 3: t = 4 / sqrt 4 with 16 / (1 / 2 + 9 / 300); over seeds alone 4 / 1 with 2."""
    seen = spread(_known([4.0, 0.0], [3, 3], 3.0, 301), np.full(2, 3))
    both, alone = 2 * stats.t.sf(2, 16 / 0.53), 2 * stats.t.sf(4, 2)
    assert seen.p(seen.mean)[0] == pytest.approx(max(both, alone))
    assert seen.half(0.05)[0] == pytest.approx(max(2 * stats.t.isf(0.025, 16 / 0.53), stats.t.isf(0.025, 2)))


def test_interval_and_p_agree_at_every_look():
    """The interval leaves out 0 where p is under 0.05, and only there: with one look, and where several meet."""
    draw = np.random.default_rng(1)
    values = draw.normal(1.2, 0.8, (300, 12, 4))
    known = Prefixes(*running(values), np.full((300, 12, 4), 0.05), np.full(4, 500.0))
    for n in (3, 5, 12):
        found = replay(known, np.full(4, n), 12)
        outside = (found.low > 0) | (found.high < 0)
        near = np.abs(found.p - LEVEL) < 1e-3
        assert ((found.p < LEVEL) == outside)[~near].mean() > 0.998  # but for looks that contradict each other
        assert 0.01 < outside.mean() < 0.995


def test_what_was_decided_stays_so():
    draw = np.random.default_rng(2)
    known = Prefixes(*running(draw.normal(1.4, 0.6, (200, 12, 9))), np.full((200, 12, 9), 0.02), np.full(9, 500.0))
    early, late = (replay(known, np.full(9, n), 12) for n in (5, 12))
    assert (late.p <= early.p).all() and (late.p_equivalent <= early.p_equivalent).all()
    assert (late.after[early.after > 0] == early.after[early.after > 0]).all()
    assert 0.1 < (early.after > 0).mean() < 0.9


def _step(values_S, published=1.0, row="step", noise=0.0, draw=None):
    """A step of these means over seeds; with noise its queries vary, one for each of 300 people."""
    values = np.array(values_S, float)[:, None] + np.zeros(300)
    if noise:
        around = (draw or np.random.default_rng(3)).normal(0, noise, 300)
        values = values + around - around.mean()
    return Step(row, "base", published, tuple(range(len(values))), values, PEOPLE, row)


STEADY = np.array([-0.1, 0.1, 0.0, 0.05, -0.05])


@pytest.mark.parametrize(
    ("mean", "published", "verdict", "size"),
    [
        (3.0, 3.1, "shown", "inside"),
        (3.0, 9.0, "shown", "above"),
        (3.0, 1.5, "shown", "below"),
        (-3.0, -3.0, "shown", "inside"),
        (-3.0, 1.0, "opposite", "above"),
        (0.0, 2.0, "equivalent", "above"),
        (3.0, None, "higher", None),
        (-3.0, 0.0, "lower", None),
        (0.0, None, "equivalent", None),
    ],
)
def test_words(mean, published, verdict, size):
    others = [_step(STEADY[::-1], row=name, noise=2.0) for name in ("a", "b")]
    found = decide([_step(mean + STEADY, published, noise=2.0), *others])["step"]
    assert (found.verdict, found.size, found.n, found.identities, found.queries) == (verdict, size, 5, 300, 300)
    assert found.low < found.mean < found.high and found.decided and found.after in (3, 5)


def test_what_varies_is_undecided():
    values = [3.0, -2.0, 2.0, 0.0, 1.0]
    found = decide([_step(values, row=name, noise=20.0) for name in "abc"])["a"]
    assert (found.verdict, found.decided, found.after) == ("undecided", False, None)
    assert found.low < 0 < found.high and found.p_holm >= found.p > LEVEL


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_seeds_give_no_verdict(n):
    found = decide([_step(np.full(n, 30.0), row=name, noise=1.0) for name in "abc"])["a"]
    assert (found.verdict, found.mean, found.low, found.p, found.decided) == ("too few seeds", 30.0, None, None, False)


def test_no_agreement_without_headroom():
    """A step whose better row does not beat the start is no agreement; one that goes the other way stays what it is."""
    steps = [_step(3 + STEADY, 3.0, "up", 2.0), _step(-3 + STEADY, 3.0, "down", 2.0), _step(STEADY, 3.0, "same", 2.0)]
    words = {row: step.verdict for row, step in decide(steps).items()}
    assert words == {"up": "shown", "down": "opposite", "same": "equivalent"}
    words = {row: step.verdict for row, step in decide(steps, beats_start=dict.fromkeys(words, False)).items()}
    assert words == {"up": "no headroom", "down": "opposite", "same": "no headroom"}
    for known in (dict.fromkeys(words, True), dict.fromkeys(words)):
        assert decide(steps, beats_start=known)["up"].verdict == "shown"
    fallen = _step(-3 + STEADY, -3.0, "fallen", 2.0)._replace(better="base")
    steps = [fallen, *steps[1:]]
    assert decide(steps, beats_start={"fallen": False, "base": True})["fallen"].verdict == "shown"
    assert decide(steps, beats_start={"fallen": True, "base": False})["fallen"].verdict == "no headroom"


def test_a_verdict_is_of_the_corrected_p():
    """One of nine steps whose own p is under 0.05, and nine times it is not."""
    steps = [_step(0.9 * (row == "a") + 6 * STEADY, 1.0, row, 2.0) for row in "abcdefghi"]
    found = decide(steps)["a"]
    assert found.p < LEVEL < found.p_holm and found.verdict == "undecided"


def test_interval_of_a_difference_that_is_looked_at_once():
    """One seed: as over people (se 2, 299 degrees of freedom). Two, 1 and 3: s² 2, over two 1; t(1) is 12.706."""
    one = _step([3.0], noise=20.0)
    se = one.differences_ST.std(ddof=1) / math.sqrt(300)
    half = stats.t.isf(0.025, 299) * se
    assert interval(one) == (pytest.approx(3 - half), pytest.approx(3 + half))
    assert interval(_step([1.0, 3.0])) == (pytest.approx(2 - 12.706, abs=1e-3), pytest.approx(2 + 12.706, abs=1e-3))
    assert interval(one._replace(identity_T=None)) is None


def test_a_row_against_itself_is_equivalent():
    found = decide([_step(np.zeros(3), row=name) for name in "abc"])["a"]
    assert (found.verdict, found.p, found.low, found.high) == ("equivalent", 1.0, 0.0, 0.0)
    assert found.p_equivalent < 1e-200
    alike = decide([_step(np.full(3, 0.5), row=name) for name in "abc"])["a"]  # not 0, but without a scale
    assert alike.p == 1.0


def _found(hits):
    hits = np.array(hits)
    return Queries(np.where(hits, 1, 3), hits * 0.5 + 0.25, np.array([7, 7, 9, 9]))


def test_steps_from_what_runs_found():
    """Both rows' hits by seed, in percent; seeds without queries are left out if enough others have them."""
    found = {("new", seed): _found([1, 1, 0, 0]) for seed in range(4)} | {
        ("old", seed): _found([1, 0, 0, 0]) for seed in range(3)
    }
    gains = dict.fromkeys(range(4), 25.0)
    step = step_of("new", "old", 1.0, gains, found)
    assert step.seeds == (0, 1, 2) and step.differences_ST.tolist() == [[0, 100, 0, 0]] * 3 and step.better == "new"
    assert step_of("new", "old", 1.0, gains, found, "map").differences_ST[0].tolist() == [0, 50, 0, 0]
    alone = step_of("new", "old", 1.0, gains, {key: found[key] for key in found if key[1] != 1})
    assert alone.seeds == (0, 1, 2, 3) and alone.differences_ST.shape == (4, 1) and alone.identity_T is None
    other = found | {("old", 1): _found([1, 0, 0, 0])._replace(identity_T=np.array([1, 2, 3, 4]))}
    assert step_of("new", "old", 1.0, gains, other).identity_T is None


SETTINGS = {"as measured": (0.5, 0.3), "seeds": (1.0, 0.2), "people": (0.3, 0.6)}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("n", [3, 5, 8])
def test_the_level_holds_for_a_family_of_nine(setting, n):
    """3,000 suites of steps that are nothing: some step shown in at most 5 % (4 standard errors: 1.6 %)."""
    sd, people = SETTINGS[setting]
    variances = Variances(np.full(9, sd**2), np.full(9, people**2), np.full(9, 1000.0))
    suites = drawn(variances, np.zeros(9), n, 3000, np.random.default_rng(5))
    assert (replay(suites, np.full(9, n), n).p_holm.min(-1) < LEVEL).mean() < 0.05 + 0.016
    beyond = drawn(variances, np.ones(9), n, 3000, np.random.default_rng(6))
    assert (replay(beyond, np.full(9, n), n).p_equivalent_holm.min(-1) < LEVEL).mean() < 0.05 + 0.016


@pytest.mark.parametrize("n", [3, 5, 8])
def test_power_is_what_is_achieved(n):
    """Foretold from the variances, and achieved by people and seeds: within 5 points (600 suites: 2 points, 2.5 sd)."""
    setting = 300, 0.5, 0.28
    foretold = shown(power.variances(*setting), PUBLISHED, np.full(9, n), suites=4000)
    achieved = power.achieved(*setting, n, 600, np.random.default_rng(7))
    assert np.abs(foretold - achieved).max() < 0.05
    assert 0.1 < foretold[2] < 0.95  # neither sure nor hopeless


def test_smallest_difference_seen_is_seen():
    """At that difference, 80 % of other suites show it: 4,000 suites, so within 3 points and the search's precision."""
    variances, counts = Variances(np.full(9, 0.25), np.full(9, 0.08), np.full(9, 1000.0)), np.full(9, 5)
    seen = could_see(variances, PUBLISHED, counts)[5]
    truth = PUBLISHED.copy()
    truth[5] = seen
    suites = drawn(variances, truth, 5, 4000, np.random.default_rng(8))
    assert (replay(suites, counts, 12).p_holm[:, 5] < LEVEL).mean() == pytest.approx(0.8, abs=0.05)


def test_people_set_a_bound_that_no_seeds_break():
    """0.6 points with a part of 0.3 that no seed changes: z = 2 at the most. With 0.1 it takes some seeds."""
    truth = np.array([9.0, 0.6, 0.6])
    needs = needed(Variances(np.full(3, 0.25), np.array([0.04, 0.09, 0.01]), np.full(3, 1000.0)), truth)
    assert needs[0] == 3 and needs[1] is None and 5 <= needs[2] <= 30


def test_foresight_of_decisions():
    draw = np.random.default_rng(9)
    steps = [
        _step(size + draw.normal(0, 0.5, 5), size, row, 5.0, draw) for row, size in (("a", 9.0), ("b", 0.3), ("c", 2.0))
    ]
    steps.append(_step(1 + draw.normal(0, 0.5, 5), None, "d", 5.0, draw))
    found = foresee([*decide([*steps, _step([1.0], row="young")]).values()])
    assert found.keys() == {"a", "b", "c", "d"}
    assert found["a"].power == 1.0 and found["a"].seeds_needed == 3
    assert found["b"].power < 0.3 and found["b"].could_see > 0.6
    assert found["d"].power is None and found["d"].seeds_needed is None
    assert foresee([]) == {}


def test_runs_until_decided_err_no_more_often_than_they_may():
    """2,000 null suites of nine steps (the full tables: `python -m benchmarks.sequential`):
    at most 5 % + 4 se of 0.5 %."""
    setting = sequential.SETTINGS[0]
    shown_wrongly, equivalent_wrongly, _ = sequential.errors(setting, 2000, 0)
    assert shown_wrongly < 0.05 + 0.02 and equivalent_wrongly < 0.05 + 0.02
    assert shown_wrongly > 0.01  # and the level is used


def test_runs_until_decided_cost_less_than_they_decide():
    """With the published steps: the shares of decided steps and the runs that docs/statistics.md states."""
    setting = sequential.SETTINGS[0]
    ours, same = (repeated for _, repeated in list(sequential.gains(setting, 2000, 0))[:2])
    decided = [((tried.sign != 0) | tried.equivalent).mean() for tried in (ours, same)]
    assert abs(ours.runs.mean() - same.runs.mean()) < 6  # of 120
    assert decided[0] > decided[1] - 0.02 and decided[0] > 0.6
    assert (ours.sign < 0).mean() < 0.001
    assert ours.runs.min() >= 30 and ours.runs.max() <= 120
