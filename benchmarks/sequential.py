"""Runs until decided, tried on suites drawn from given variances: how often it errs, decides, and what it costs.

    python -m benchmarks.sequential [--suites 20000] [--seed 0]

Every suite has ten rows and table4's nine steps. A row's seeds and what the people searched make of it are drawn by
themselves, so steps that share a row are correlated as they are in a real suite. At each look, seeds are added to the
rows of undecided steps alone. Prints the tables of docs/statistics.md; the exit code is 1 if an error rate is over 5 %.
"""

import argparse
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.boundaries import LOOKS, looks
from experiments.spec import load_suite
from experiments.statistics import LEVEL, Floats, holm
from experiments.steps import MARGIN, Prefixes, replay, running, spread

SUITE = load_suite("table4")
ROWS = [row.name for row in SUITE.rows]
STEPS = [(ROWS.index(row.name), ROWS.index(row.versus)) for row in SUITE.rows if row.versus]
LEVELS = np.array([(row.paper or {})["r1"] for row in SUITE.rows])
PUBLISHED = np.array([LEVELS[new] - LEVELS[old] for new, old in STEPS])
PEOPLE = 1000
PART = 2000  # suites at a time


class Setting(NamedTuple):
    """Standard deviations of a row's R@1, in points: over seeds, and over people for good; one for each row."""

    name: str
    over_seeds: Floats
    over_people: Floats


def every(value: float) -> Floats:
    """The same for all rows."""
    return np.full(len(ROWS), value)


MEASURED = np.array(
    [0.30, 0.34, 0.56, 0.52, 1.13, 0.74, 0.39, 0.13, 0.32, 0.45]
)  # by reports/published/table4-synth at 76c91e1
SETTINGS = [
    Setting("equal rows, seeds 0.35, people 0.2", every(0.35), every(0.2)),
    Setting("equal rows, seeds 0.7, people 0.2", every(0.7), every(0.2)),
    Setting("equal rows, seeds 0.35, people 0.35", every(0.35), every(0.35)),
    Setting("rows as far apart as once measured, 0.13 to 1.13, people 0.2", MEASURED, every(0.2)),
    Setting("one row five times as noisy, 0.3 and 1.5, people 0.1", np.where(np.arange(10) == 4, 1.5, 0.3), every(0.1)),
    Setting("nothing over people, seeds 0.5", every(0.5), every(0.0)),
]


class Tried(NamedTuple):
    """Of suites that ran until decided: what was shown (by sign) and equivalent [suites, steps], and the runs used."""

    sign: Floats
    equivalent: NDArray[np.bool_]
    runs: Floats


def drawn(setting: Setting, truth: Floats, suites: int, n: int, generator: np.random.Generator) -> Prefixes:
    """So many suites of n seeds of every row, with these steps."""
    rows = len(setting.over_seeds)
    values = generator.normal(size=(suites, n, rows)) * setting.over_seeds
    values += generator.normal(size=(suites, 1, rows)) * setting.over_people
    new, old = np.transpose(STEPS)
    lasting = setting.over_people[new] ** 2 + setting.over_people[old] ** 2
    estimated = lasting * generator.chisquare(PEOPLE - 1, size=(suites, 1, len(STEPS))) / (PEOPLE - 1)
    return Prefixes(
        *running(truth + values[..., new] - values[..., old]), estimated.repeat(n, 1), np.full(len(STEPS), PEOPLE)
    )


def until_decided(suites: Prefixes, most: int = LOOKS[-1], margin: float = MARGIN) -> Tried:
    """Look by look, with seeds added to the rows of undecided steps."""
    shape = (suites.mean.shape[0], len(STEPS))
    seeds, waiting = np.zeros((shape[0], len(ROWS)), int), np.ones(shape, bool)
    for n in looks(most):
        for at, (new, old) in enumerate(STEPS):
            for row in (new, old):
                seeds[:, row] = np.where(waiting[:, at], n, seeds[:, row])
        counts = np.stack([np.minimum(seeds[:, new], seeds[:, old]) for new, old in STEPS], -1)
        replayed = replay(suites, counts, most, margin)
        waiting = (replayed.p_holm >= LEVEL) & (replayed.p_equivalent_holm >= LEVEL)
    return _tried(replayed.mean, replayed.p_holm, replayed.p_equivalent_holm, seeds.sum(-1))


def fixed(suites: Prefixes, n: int, margin: float = MARGIN) -> Tried:
    """The same test, after n seeds of every row and once, so that it may spend the whole level."""
    seen = spread(suites, np.full((suites.mean.shape[0], len(STEPS)), n))
    outside = seen.above(margin - np.abs(seen.mean))
    return _tried(seen.mean, holm(seen.p(seen.mean)), holm(outside), np.full(len(seen.mean), n * len(ROWS)))


def _tried(mean: Floats, p: Floats, p_equivalent: Floats, runs: Floats) -> Tried:
    shown = p < LEVEL
    return Tried(np.where(shown, np.sign(mean), 0), (p_equivalent < LEVEL) & ~shown, runs)


def repeated(setting: Setting, truth: Floats, suites: int, seed: int, n: int | None = None) -> Tried:
    """Of so many suites, until decided, or with n seeds of every row."""
    generator, parts = np.random.default_rng(seed), []
    while suites > 0:
        drawn_now = drawn(setting, truth, min(PART, suites), n or LOOKS[-1], generator)
        parts.append(fixed(drawn_now, n) if n else until_decided(drawn_now))
        suites -= PART
    return Tried(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def errors(setting: Setting, suites: int, seed: int) -> tuple[float, float, float]:
    """Three shares of suites, each under a truth of its own.

    With some step wrongly shown, if all are nothing. With one wrongly equivalent, if all are as large as the margin.
    With any wrong word, if every other step is nothing and the rest are as large as the margin.
    """
    none, margin = np.zeros(len(STEPS)), np.full(len(STEPS), MARGIN)
    mixed = np.where(np.arange(len(STEPS)) % 2 == 0, 0.0, MARGIN)
    of_none, of_margin, of_both = (repeated(setting, truth, suites, seed) for truth in (none, margin, mixed))
    wrong = ((of_both.sign != 0) & (mixed == 0)) | (of_both.equivalent & (mixed != 0)) | (of_both.sign < 0)
    return (
        float((of_none.sign != 0).any(-1).mean()),
        float(of_margin.equivalent.any(-1).mean()),
        float(wrong.any(-1).mean()),
    )


def gains(setting: Setting, suites: int, seed: int) -> Iterator[tuple[str, Tried]]:
    """With the published steps: until decided; as many runs in a fixed design; and all 12 seeds of every row."""
    ours = repeated(setting, PUBLISHED, suites, seed)
    yield "until decided", ours
    for n in dict.fromkeys((round(float(ours.runs.mean()) / len(ROWS)), LOOKS[-1])):
        yield f"fixed, {n} seeds", repeated(setting, PUBLISHED, suites, seed, n)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suites", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    worst = 0.0
    print("| rows' spread | wrongly shown | wrongly equivalent | any, mixed suite |\n| --- | --: | --: | --: |")
    for setting in SETTINGS:
        found = errors(setting, given.suites, given.seed)
        worst = max(worst, *found)
        print(f"| {setting.name} | {' | '.join(f'{100 * share:.1f} %' for share in found)} |", flush=True)
    names = " | ".join(ROWS[new] for new, _ in STEPS)
    print(f"\n| rows' spread | design | runs | decided | shown | {names} |\n| --- | --- {'| --: ' * (3 + len(STEPS))}|")
    for setting in SETTINGS:
        for design, tried in gains(setting, given.suites, given.seed):
            decided = (tried.sign != 0) | tried.equivalent
            shares = " | ".join(f"{100 * share:.0f}" for share in decided.mean(0))
            print(
                f"| {setting.name} | {design} | {tried.runs.mean():.0f} | {100 * decided.mean():.0f} % | "
                f"{100 * (tried.sign > 0).mean():.0f} % | {shares} |",
                flush=True,
            )
    return int(worst > LEVEL)


if __name__ == "__main__":
    sys.exit(main())
