"""Power as it is foretold, and as people and seeds achieve it, for table4's nine published steps.

    python -m benchmarks.power [--suites 1000] [--seed 0]

Foretold: from variances alone (experiments/power.py). Achieved: a difference for every person and seed is drawn, the
variances are estimated from these as they are from a run's queries, and the step is judged as a report judges it.
Prints the table of docs/statistics.md; the exit code is 1 if they are over 5 points apart anywhere.
"""

import argparse
import math
import sys

import numpy as np

from benchmarks.sequential import PUBLISHED, ROWS, STEPS
from experiments.power import Variances, could_see, needed, shown
from experiments.statistics import LEVEL, Floats
from experiments.steps import Prefixes, prefixes, replay

SEEDS = (3, 5, 8)
SETTINGS = (
    (300, 0.5, 0.45),
    (300, 0.5, 0.28),
    (1000, 0.5, 0.25),
    (1000, 1.0, 0.25),
)  # people, sd over seeds, over people
ANEW = 0.3  # points of the mean over all people: what each seed draws anew for each of them
MOST_APART = 0.05


def variances(people: int, over_seeds: float, over_people: float) -> Variances:
    """The same for all steps."""
    every = np.ones(len(STEPS))
    return Variances(every * over_seeds**2, every * over_people**2, every * people)


def achieved(
    people: int, over_seeds: float, over_people: float, n: int, suites: int, generator: np.random.Generator
) -> Floats:
    """Share of suites that show each step after n seeds."""
    found, steps, each = np.zeros(len(STEPS)), len(STEPS), math.sqrt(people)
    own = math.sqrt(over_seeds**2 - ANEW**2)  # the variance over seeds holds what they draw anew for each person
    for _ in range(suites):
        lasting = generator.normal(size=(steps, 1, people)) * over_people * each
        anew = generator.normal(size=(steps, n, people)) * ANEW * each
        values = PUBLISHED[:, None, None] + lasting + anew + generator.normal(size=(steps, n, 1)) * own
        parts = zip(*(prefixes(step, np.arange(people)) for step in values), strict=True)
        mean, seeds, queries, clusters = (np.stack(part, -1) for part in parts)
        replayed = replay(Prefixes(mean, seeds, queries, clusters), np.full(steps, n), 12)
        found += (replayed.p_holm < LEVEL) & (replayed.mean > 0)
    return found / suites


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suites", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    generator, apart = np.random.default_rng(given.seed), 0.0
    print(f"| people | sd over seeds, people | seeds | could see | {' | '.join(ROWS[new] for new, _ in STEPS)} |")
    print(f"| --: | --: | --: | --: {'| --: ' * len(STEPS)}|")
    for people, over_seeds, over_people in SETTINGS:
        setting = variances(people, over_seeds, over_people)
        name = f"| {people} | {over_seeds}, {over_people} |"
        for n in SEEDS:
            counts = np.full(len(STEPS), n)
            foretold = shown(setting, PUBLISHED, counts, suites=4000)
            found = achieved(people, over_seeds, over_people, n, given.suites, generator)
            apart = max(apart, float(np.abs(foretold - found).max()))
            cells = " | ".join(
                f"{100 * one:.0f}, {100 * other:.0f}" for one, other in zip(foretold, found, strict=True)
            )
            seen = np.median([each or math.inf for each in could_see(setting, PUBLISHED, counts)])
            print(f"{name} {n} | {seen:.1f} | {cells} |", flush=True)
        print(
            f"{name} needed | | {' | '.join(str(each or 'none') for each in needed(setting, PUBLISHED))} |", flush=True
        )
    print(f"\nAt most {100 * apart:.1f} points apart.")
    return int(apart > MOST_APART)


if __name__ == "__main__":
    sys.exit(main())
