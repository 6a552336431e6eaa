"""Which steps of a suite are decided, and how, and whether its rows stand in the paper's order.

A step is a row minus the row that it names as `versus`. R@1 decides, since the paper orders its rows by it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from experiments import power, statistics
from experiments.boundaries import FEWEST, MOST, looks
from experiments.decisions import (
    EQUIVALENT,
    NO_HEADROOM,
    OPPOSITE,
    SHOWN,
    UNDECIDED,
    Decision,
    Queries,
    decide,
    step_of,
)
from experiments.power import Foresight
from experiments.statistics import Floats, McNemar
from experiments.steps import BORROWED, LENDERS, MARGIN
from reports.tables import Line

SEED = 0  # of the resamples: every comparison draws the same ones, whichever others there are
Known = Mapping[tuple[str, int], Queries]  # by row and seed
SHARE = round(100 * (1 - statistics.LEVEL))
ALONE = Foresight(None, None, None)
SIZES = {
    "inside": "published size inside",
    "above": "published size above",
    "below": "published size below",
}


@dataclass(frozen=True)
class Step:
    """One comparison, in percent points: what is decided of R@1, the same of mAP, McNemar's test of R@1 by seed, and
    how much these runs can tell. None is what the runs at hand do not tell."""

    r1: Decision
    map: Decision | None
    mcnemar: Mapping[int, McNemar]
    foresight: Foresight = ALONE

    @property
    def verdict(self) -> str:
        """The word for it; nothing without a seed that both rows have."""
        return self.r1.verdict if self.r1.n else ""

    @property
    def wording(self) -> str:
        """The verdict, and for a step that is shown where the published size lies from our interval."""
        beside = f" ({SIZES[self.r1.size]})" if self.verdict == SHOWN and self.r1.size else ""
        return self.verdict + beside


class Ranks(NamedTuple):
    """Kendall's tau between our order of `rows` rows and the paper's, and what of it is told apart over what."""

    rows: int
    tau: float
    told: statistics.Order | None  # None if nothing can vary
    over: str


class Judged(NamedTuple):
    """The steps by row, and the order."""

    steps: Mapping[str, Step]
    ranks: Ranks | None
    margin: float = MARGIN
    most: int = MOST


def judge(
    lines: Sequence[Line],
    known: Known,
    resamples: int = statistics.RESAMPLES,
    most: int = MOST,
    margin: float = MARGIN,
    beats_start: Mapping[str, bool | None] | None = None,
) -> Judged:
    """Compare each line with that of the row it names. `most` and `margin` are those that the runs were made with.

    `beats_start` says of a row whether it is better than its untrained start (reports/starts.py).
    """
    stepped = [line for line in lines if line.versus is not None]

    def decided(figure: Literal["r1", "map"]) -> dict[str, Decision]:
        steps = [
            step_of(
                line.name,
                line.versus or "",
                line.paper_gain if figure == "r1" else None,
                line.gain.by_seed,
                known,
                figure,
            )
            for line in stepped
        ]
        kept = [step for step in steps if figure == "r1" or step.identity_T is not None]
        return decide(kept, most, margin, beats_start if figure == "r1" else None)

    r1, average = decided("r1"), decided("map")
    foreseen = power.foresee([*r1.values()], most)
    steps = {
        row: Step(each, average.get(row), _mcnemar(each, known), foreseen.get(row, ALONE)) for row, each in r1.items()
    }
    return Judged(steps, _ranks(lines, known, resamples), margin, most)


def sentences(judged: Judged) -> list[str]:
    """What the comparisons come to, in words."""
    return [*_count(judged), *_method(judged), *_headroom(judged), *_power(judged), *_order_note(judged.ranks)]


def _mcnemar(step: Decision, known: Known) -> dict[int, McNemar]:
    pairs = {
        seed: (known[step.row, seed].first_rank_T == 1, known[step.versus, seed].first_rank_T == 1)
        for seed in step.seeds
        if step.queries
    }
    return {seed: statistics.mcnemar(new, old) for seed, (new, old) in pairs.items()}


def _ranks(lines: Sequence[Line], known: Known, resamples: int) -> Ranks | None:
    """Over the rows that both have; two of them would be a step."""
    both = [line for line in lines if line.n and "r1" in line.paper]
    if len(both) < 3:
        return None
    paper = [line.paper["r1"] for line in both]
    ours = [line.figures["r1"].mean or 0.0 for line in both]
    tau = statistics.kendall_tau(ours, paper)
    generator = np.random.default_rng(SEED)
    columns = _resampled(both, known, generator, resamples)
    several = any(line.n > 1 for line in both)
    over = " and ".join(["identities"] * (columns is not None) + ["seeds"] * several)
    if not over:
        return Ranks(len(both), tau, None, "")
    if columns is None:  # the seeds alone vary
        columns = [np.tile(line.figures["r1"].values, (resamples, 1)) for line in both]
    draws = np.column_stack([statistics.reseeded(values, generator) for values in columns])
    return Ranks(len(both), tau, statistics.told_order(ours, draws, paper), over)


def _resampled(
    lines: Sequence[Line], known: Known, generator: np.random.Generator, resamples: int
) -> list[Floats] | None:
    """R@1 of each row's seeds [R, S] over resampled identities; None unless all runs answered the same queries."""
    runs = [[known.get((line.name, seed)) for seed in sorted(line.figures["r1"].by_seed)] for line in lines]
    each = [queries for row in runs for queries in row if queries is not None]
    if len(each) < sum(map(len, runs)) or len(np.unique(identity := each[0].identity_T)) < 2:
        return None
    if not all(np.array_equal(queries.identity_T, identity) for queries in each):
        return None
    hits_TK = 100 * np.column_stack([(queries.first_rank_T == 1).astype(float) for queries in each])
    draws = statistics.cluster_bootstrap(hits_TK, identity, generator, resamples)
    return np.split(draws, np.cumsum([len(row) for row in runs])[:-1], axis=1)


def _count(judged: Judged) -> Iterator[str]:
    """How many steps came out how."""
    verdicts = [step.verdict for step in judged.steps.values() if step.verdict]
    if not verdicts:
        return
    order = [SHOWN, OPPOSITE, EQUIVALENT, *sorted({*verdicts} - {SHOWN, OPPOSITE, EQUIVALENT})]
    counts = "; ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in order if verdict in verdicts)
    absent = len(judged.steps) - len(verdicts)
    missing = f"; {absent} missing" if absent else ""
    yield f"Steps: {counts}{missing}. The published steps come without a spread and are taken as they stand."


def _method(judged: Judged) -> Iterator[str]:
    """What the words mean and what they rest on."""
    steps = [step.r1 for step in judged.steps.values() if step.r1.n]
    if any(step.n < FEWEST for step in steps):
        yield f"A step has no verdict before {FEWEST} seeds of both rows: one training says nothing of another."
    tested = [step for step in steps if step.n >= FEWEST]
    if not tested:
        return
    planned = ", ".join(map(str, looks(max(judged.most, *(step.n for step in tested)))))
    yield (
        f"Shown or opposite: the difference has the published sign, or the other one. Equivalent: it is within "
        f"{judged.margin:g} points of R@1 (two one-sided tests). Each at {round(100 * statistics.LEVEL)} % for all "
        f"{len(tested)} steps together (Holm), whichever of the looks after {planned} seeds one stops at."
    )
    for identities, queries in sorted({(step.identities, step.queries) for step in tested if step.queries}):
        yield (
            f"The intervals ({SHARE} %, one step at a time) and the p are over other people and other trainings: "
            f"{identities} identities, each with all its queries ({queries} in all), and the seeds of each step."
        )
    if alone := [step.row for step in tested if not step.queries]:
        yield f"Over seeds alone, for these very queries, since the runs' own are not known: {', '.join(alone)}."
    if len(tested) >= LENDERS:
        yield (
            f"The variance over seeds is a step's own, and with the weight of {BORROWED} seeds more that of the other "
            "steps (docs/decisions/0013-verdicts-and-looks.md)."
        )


def _headroom(judged: Judged) -> Iterator[str]:
    rows = [row for row, step in judged.steps.items() if step.verdict == NO_HEADROOM]
    if rows:
        yield (
            f"No headroom: {', '.join(rows)}. Neither row of these steps is better than the untrained start, so that "
            "their agreement says nothing."
        )


def _power(judged: Judged) -> Iterator[str]:
    """What the undecided steps would need."""
    weak = [
        f"{row} ({abs(step.r1.published or 0):.2f}: {_share(step.foresight.power)} of cases now, "
        f"{needs(step.foresight)})"
        for row, step in judged.steps.items()
        if step.verdict == UNDECIDED and step.foresight.power is not None and step.foresight.power < power.POWER
    ]
    if weak:
        yield (
            f"Undecided says nothing against a step that these runs would seldom show if it were as published: "
            f"{', '.join(weak)}. Tried with this very test and these variances."
        )


def needs(foresight: Foresight) -> str:
    """How many seeds the published step takes."""
    n = foresight.seeds_needed
    return f"{n} seeds needed" if n else f"{power.MOST_SEEDS} seeds would not do"


def _share(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:.0f} %"


def _order_note(ranks: Ranks | None) -> Iterator[str]:
    if ranks is None:
        return
    text = f"Order of {ranks.rows} rows by R@1 against the published one: Kendall's tau {ranks.tau:.2f}"
    if (told := ranks.told) is None:
        yield f"{text}."
        return
    yield (
        f"{text} [{told.low:.2f}, {told.high:.2f}] (at least {SHARE} %, over {ranks.over}). Of the pairs of rows, told "
        f"apart all at once, {told.as_paper} stand as published, {told.opposite} the other way, {told.undecided} "
        "either way."
    )
