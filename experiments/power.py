"""How often a step would be shown, and how many seeds that takes: by trying, with the very test that decides.

Suites are drawn from the variances that the runs at hand show, over queries and over seeds, and put through the same
looks, the same borrowing and the same correction over all steps (experiments/steps.py). A closed formula of one
variance and one test is wrong here: for table4 with 300 identities one said 5 seeds where 5 showed the step in 49 %.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.boundaries import MOST
from experiments.decisions import Decision
from experiments.statistics import LEVEL, Floats, holm
from experiments.steps import Prefixes, Replayed, replay, running

POWER = 0.8
SUITES, MOST_SEEDS = 1000, 50
TRIED = (3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, MOST_SEEDS)  # numbers of seeds
SEED = 0
PRECISION = 0.05  # percent points of the smallest difference seen
WIDEST = 30.0


class Foresight(NamedTuple):
    """What a step's runs can tell. None: no step is published, or, of the seeds needed, more than 50 or never.

    `power` is how often the published step would be shown with the seeds at hand if it were true; `could_see` the
    smallest difference that they show in 80 % of cases; `seeds_needed` how many seeds of all rows show the published
    step in 80 % of cases.
    """

    power: float | None
    could_see: float | None
    seeds_needed: int | None


class Variances(NamedTuple):
    """Of a suite's steps [F]: of one seed's difference, of what other people change for good, and over how many."""

    over_seeds: Floats
    over_queries: Floats
    clusters: Floats


def foresee(decisions: Sequence[Decision], most: int = MOST) -> dict[str, Foresight]:
    """For each step with enough seeds for a verdict, by row. The others' steps are taken as published, or as ours."""
    known = [each for each in decisions if each.over_seeds is not None and each.over_queries is not None]
    if not known:
        return {}
    ours = np.array([each.mean for each in known], dtype=np.float64)
    published = np.array([each.published or 0.0 for each in known])
    truth = np.where(published != 0, published, ours)
    variances = Variances(
        np.array([each.over_seeds for each in known]),
        np.array([each.over_queries for each in known]),
        np.array([each.identities or np.inf for each in known], dtype=np.float64),
    )
    counts = np.array([each.n for each in known])
    power = shown(variances, truth, counts, most)
    seen = could_see(variances, truth, counts, most)
    seeds = needed(variances, truth, most)
    return {
        each.row: Foresight(float(power[at]) if published[at] else None, seen[at], seeds[at] if published[at] else None)
        for at, each in enumerate(known)
    }


def shown(variances: Variances, truth_F: Floats, counts_F: Floats, most: int = MOST, suites: int = SUITES) -> Floats:
    """How often each step [F] is told from nothing, with the right sign, if the truth is `truth_F`."""
    found = replay(drawn(variances, truth_F, int(counts_F.max()), suites), counts_F, most)
    share: Floats = _right(found, found.p_holm, truth_F).mean(0)
    return share


def needed(variances: Variances, truth_F: Floats, most: int = MOST) -> list[int | None]:
    """The least of TRIED numbers of seeds, the same for all rows, that shows each step in 80 % of cases; else None."""
    found: list[int | None] = [None] * len(truth_F)
    suites = drawn(variances, truth_F, MOST_SEEDS, SUITES)
    for n in TRIED:
        first = suites._replace(mean=suites.mean[:, :n], over_seeds=suites.over_seeds[:, :n])
        replayed = replay(first, np.full(len(truth_F), n), most)
        share = _right(replayed, replayed.p_holm, truth_F).mean(0)
        found = [n if old is None and share[at] >= POWER else old for at, old in enumerate(found)]
        if None not in found:
            break
    return found


def could_see(variances: Variances, truth_F: Floats, counts_F: Floats, most: int = MOST) -> list[float | None]:
    """The smallest difference of each step, the others being as they are, that is shown in 80 % of cases."""
    others = drawn(variances, truth_F, int(counts_F.max()), SUITES)
    p = replay(others, counts_F, most).p
    low, high = np.zeros(len(truth_F)), np.full(len(truth_F), WIDEST)
    while (high - low).max() > PRECISION:
        middle = (low + high) / 2
        replayed = replay(others._replace(mean=others.mean - truth_F + middle), counts_F, most)
        enough = np.array([_one_shown(replayed, p, at) for at in range(len(truth_F))]) >= POWER
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return [None if edge >= WIDEST else float(edge) for edge in high]


def drawn(
    variances: Variances, truth_F: Floats, n: int, suites: int, generator: np.random.Generator | None = None
) -> Prefixes:
    """So many suites [suites, n, F] with these variances and steps: what their first seeds would tell."""
    generator = generator or np.random.default_rng(SEED)
    steps = len(truth_F)
    people = generator.normal(size=(suites, 1, steps)) * np.sqrt(variances.over_queries)
    seeds = generator.normal(size=(suites, n, steps)) * np.sqrt(variances.over_seeds)
    free = np.where(np.isfinite(variances.clusters), variances.clusters, 2) - 1
    estimated = variances.over_queries * generator.chisquare(free, size=(suites, 1, steps)) / free
    return Prefixes(*running(truth_F + people + seeds), estimated.repeat(n, 1), variances.clusters)


def _one_shown(replayed: Replayed, p_others: Floats, at: int) -> float:
    """How often step `at` is shown beside the others as they were."""
    p = p_others.copy()
    p[:, at] = replayed.p[:, at]
    return float(((holm(p)[:, at] < LEVEL) & (replayed.mean[:, at] > 0)).mean())


def _right(replayed: Replayed, p: Floats, truth_F: Floats) -> Floats:
    right: Floats = (p < LEVEL) & (np.sign(replayed.mean) == np.sign(truth_F))
    return right
