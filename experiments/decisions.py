"""What is decided of a suite's steps, in words. Pure functions; `rasa run --until decided` and the report share them.

A step is shown, opposite or equivalent if it is decided, else undecided. All is told over other people and other seeds
(experiments/steps.py), at whichever look one stops (experiments/boundaries.py), for all steps of the suite at once
(Holm). Two kinds of error are held at 5 % each: that some step that is nothing is called shown or opposite, and that
some step that is as large as the margin is called equivalent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.boundaries import FEWEST, MOST
from experiments.statistics import EQUAL, LEVEL, Floats, clustered, t_beyond
from experiments.steps import MARGIN, Prefixes, prefixes, replay, running, spread

SHOWN, OPPOSITE, EQUIVALENT, UNDECIDED = "shown", "opposite", "equivalent", "undecided"
HIGHER, LOWER = "higher", "lower"  # where there is no published step
NO_HEADROOM = "no headroom"  # agrees, but neither row is better than the start that both were trained from
TOO_FEW = "too few seeds"
AGREEMENT = (SHOWN, EQUIVALENT)
Size = Literal["inside", "above", "below"]


class Queries(NamedTuple):
    """What one run found, per test query [T], and whom each query describes."""

    first_rank_T: NDArray[np.int64]  # of the first right image, 1 = top
    average_precision_T: NDArray[np.float64]
    identity_T: NDArray[np.int64]


class Step(NamedTuple):
    """The differences of R@1 (or of another figure in percent) of a row and the row `versus`, paired by seed."""

    row: str
    versus: str
    published: float | None
    seeds: tuple[int, ...]
    differences_ST: Floats  # by seed and query; or by seed alone, T = 1, where the queries are not known
    identity_T: NDArray[Any] | None
    better: str = ""  # the row of both with the higher mean

    @property
    def n(self) -> int:
        """How many seeds both rows have."""
        return len(self.seeds)


@dataclass(frozen=True)
class Decision:
    """What is known of a step, in percent points; None is what its seeds do not tell.

    `low`, `high` and both `p` are over queries and seeds (over seeds alone if `queries` is 0) and hold whenever one
    stops; so does the verdict, which rests on the p after Holm's correction. `size` says where the published step lies
    from the interval. `after` is the number of seeds that gave the verdict.
    """

    row: str
    versus: str
    published: float | None
    seeds: tuple[int, ...]
    queries: int
    identities: int
    mean: float | None
    verdict: str
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    p_equivalent: float | None = None
    p_equivalent_holm: float | None = None
    over_seeds: float | None = None  # variance of one seed's difference, as the test takes it
    over_queries: float | None = None  # variance that no number of seeds makes smaller
    size: Size | None = None
    after: int | None = None

    @property
    def n(self) -> int:
        """How many seeds both rows have."""
        return len(self.seeds)

    @property
    def decided(self) -> bool:
        """Whether more seeds would have nothing to add to the verdict."""
        return self.verdict not in (UNDECIDED, TOO_FEW)


def step_of(
    row: str,
    versus: str,
    published: float | None,
    gains: Mapping[int, float],
    found: Mapping[tuple[str, int], Queries],
    figure: Literal["r1", "map"] = "r1",
) -> Step:
    """A step from the differences of R@1 by seed, and from what the runs found of each query where that is known.

    Queries count if they are known of every seed, or of enough seeds for a verdict; both rows must have answered the
    same ones. An average precision that is NaN (no right image in the gallery) leaves the queries unknown.
    """
    better = row if sum(gains.values()) > 0 else versus
    values: dict[int, Floats] = {}
    identity_T = None
    for seed in sorted(gains):
        new, old = found.get((row, seed)), found.get((versus, seed))
        if new is None or old is None:
            continue
        identity_T = new.identity_T if identity_T is None else identity_T
        each = 100 * (_figures(new, figure) - _figures(old, figure)) if _same(new, old, identity_T) else None
        if each is not None and np.isfinite(each).all():
            values[seed] = each
    if values and len(values) >= min(FEWEST, len(gains)):
        return Step(row, versus, published, tuple(values), np.stack([*values.values()]), identity_T, better)
    alone = np.array([gains[seed] for seed in sorted(gains)], dtype=np.float64)
    return Step(row, versus, published, tuple(sorted(gains)), alone[:, None], None, better)


def decide(
    steps: Sequence[Step],
    most: int = MOST,
    margin: float = MARGIN,
    beats_start: Mapping[str, bool | None] | None = None,
) -> dict[str, Decision]:
    """The decision on each step, by its row.

    `beats_start` says of a row whether it is better than the start that it was trained from, by an interval that leaves
    out 0 (`interval`); None, or a row that is not in it: not known. Steps of fewer than 3 seeds get no verdict.
    """
    tested = [step for step in steps if step.n >= FEWEST]
    found = {step.row: _undecidable(step) for step in steps}
    if not tested:
        return found
    known, counts = together(tested), np.array([step.n for step in tested])
    replayed, seen = replay(known, counts, most, margin), spread(known, counts)
    for number, step in enumerate(tested):
        mean, low, high, p, p_holm, p_equivalent, p_equivalent_holm, after = (float(each[number]) for each in replayed)
        over_queries, se = float(known.over_queries[step.n - 1, number]), float(seen.scales[0][0][number])
        verdict = _verdict(mean, p_holm, p_equivalent_holm, step.published)
        if verdict in AGREEMENT and beats_start and beats_start.get(step.better) is False:
            verdict = NO_HEADROOM
        queries, identities = _sizes(step)
        found[step.row] = Decision(
            step.row,
            step.versus,
            step.published,
            step.seeds,
            queries,
            identities,
            mean,
            verdict,
            low,
            high,
            p,
            p_holm,
            p_equivalent,
            p_equivalent_holm,
            step.n * (se**2 - over_queries),
            over_queries,
            _size(step.published, low, high),
            int(after) or None,
        )
    return found


def interval(step: Step) -> tuple[float, float] | None:
    """The 95 % interval of a difference that is looked at once.

    Over queries and seeds; over queries alone with one seed, over seeds alone where no queries are known; None with
    neither.
    """
    if step.n > 1:
        seen = spread(together([step]), np.array([step.n]))
        mean, half = float(seen.mean[0]), float(seen.half(LEVEL)[0])
    elif step.identity_T is not None and (people := len(np.unique(step.identity_T))) > 1:
        found = clustered(step.differences_ST, step.identity_T)
        mean, half = float(found.mean[0]), float(t_beyond(LEVEL / 2, people - 1) * np.sqrt(found.each))
    else:
        return None
    return mean - half, mean + half


def together(steps: Sequence[Step]) -> Prefixes:
    """What the first seeds tell, of all steps side by side."""
    longest = max(step.n for step in steps)
    columns, clusters = [], []
    for step in steps:
        mean, over_seeds, over_queries, number = prefixes(step.differences_ST, step.identity_T)
        columns.append(
            [
                np.pad(values, (0, longest - step.n), constant_values=np.nan)
                for values in (mean, over_seeds, over_queries)
            ]
        )
        clusters.append(number)
    mean_SF, seeds_SF, queries_SF = (np.stack(each, -1) for each in zip(*columns, strict=True))
    return Prefixes(mean_SF, seeds_SF, queries_SF, np.array(clusters))


def _same(new: Queries, old: Queries, identity_T: NDArray[Any]) -> bool:
    """Whether both answered the queries of these identities."""
    return np.array_equal(new.identity_T, identity_T) and np.array_equal(old.identity_T, identity_T)


def _figures(queries: Queries, figure: str) -> Floats:
    return (queries.first_rank_T == 1).astype(np.float64) if figure == "r1" else queries.average_precision_T


def _undecidable(step: Step) -> Decision:
    mean = float(running(step.differences_ST.mean(-1)[:, None])[0][-1, 0]) if step.n else None
    return Decision(step.row, step.versus, step.published, step.seeds, *_sizes(step), mean, TOO_FEW)


def _sizes(step: Step) -> tuple[int, int]:
    """Queries and identities; 0 where they are not known."""
    return (0, 0) if step.identity_T is None else (len(step.identity_T), len(np.unique(step.identity_T)))


def _verdict(mean: float, p: float, p_equivalent: float, published: float | None) -> str:
    if p < LEVEL and abs(mean) > EQUAL:
        if not published:
            return HIGHER if mean > 0 else LOWER
        return SHOWN if (mean > 0) == (published > 0) else OPPOSITE
    return EQUIVALENT if p_equivalent < LEVEL else UNDECIDED


def _size(published: float | None, low: float, high: float) -> Size | None:
    """Where the published step lies from our interval."""
    if not published:
        return None
    return "above" if published > high else "below" if published < low else "inside"
