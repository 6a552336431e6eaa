"""Which steps of a suite can be told apart from nothing, and whether its rows stand in the paper's order.

A step is a row minus the row that it names as `versus`. R@1 decides, since the paper orders its rows by it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from reports import stats
from reports.load import Queries
from reports.stats import UNDECIDED, Estimate, Floats, Seeds, SeedTest
from reports.tables import Line

SEED = 0  # of the resamples: every comparison draws the same ones, whichever others there are
Known = Mapping[tuple[str, int], Queries]  # by row and seed
SHARE = round(100 * (1 - stats.LEVEL))


@dataclass(frozen=True)
class Step:
    """One comparison, in percent points; None is what the runs at hand do not tell.

    `p` is what the verdict rests on: over queries with one seed (these very models, other people), over queries and
    seeds with more, over seeds if no queries are known. `corrected` are Holm's over the steps of the suite that have
    the same p, by its name: p, r1, map, seeds.
    """

    row: str
    versus: str
    paper: float | None
    queries: int
    identities: int
    r1: Estimate | None  # over queries, the mean over the seeds that are known
    map: Estimate | None
    mcnemar: Mapping[int, stats.McNemar]  # R@1, by seed
    seeds: Seeds | None  # the differences of R@1, paired by seed
    test: SeedTest
    p: float | None
    detectable: float | None
    seeds_for_ours: int | None
    seeds_for_paper: int | None
    corrected: Mapping[str, float]
    verdict: str

    @property
    def difference(self) -> float | None:
        """Mean difference of R@1."""
        return self.seeds.mean if self.seeds else None

    @property
    def too_few_seeds(self) -> bool:
        """Whether the paper's step is smaller than what this many seeds show in 80 % of all cases."""
        return bool(self.paper) and self.detectable is not None and self.detectable > abs(self.paper or 0)


class Ranks(NamedTuple):
    """Kendall's tau between our order of `rows` rows and the paper's, and what of it is told apart over what."""

    rows: int
    tau: float
    told: stats.Order | None  # None if nothing can vary
    over: str


class Judged(NamedTuple):
    """The steps by row, and the order."""

    steps: Mapping[str, Step]
    ranks: Ranks | None


def judge(lines: Sequence[Line], known: Known, resamples: int = stats.RESAMPLES) -> Judged:
    """Compare each line with that of the row it names."""
    steps = [_step(line, known, resamples) for line in lines if line.versus is not None]
    families: dict[str, dict[str, float]] = {"p": {}, "r1": {}, "map": {}, "seeds": {}}
    for step in steps:
        found = {"p": step.p, "r1": step.r1 and step.r1.p, "map": step.map and step.map.p, "seeds": step.test.p}
        for name, p in found.items():
            if p is not None:
                families[name][step.row] = p
    corrected = {name: dict(zip(each, stats.holm([*each.values()]), strict=True)) for name, each in families.items()}
    return Judged(
        {step.row: _decided(step, {name: float(p[step.row]) for name, p in corrected.items() if step.row in p})
         for step in steps},
        _ranks(lines, known, resamples),
    )  # fmt: skip


def sentences(judged: Judged) -> list[str]:
    """What the comparisons come to, in words."""
    return [*_count(judged), *_query_note(judged), *_seed_notes(judged), *_order_note(judged.ranks)]


def _step(line: Line, known: Known, resamples: int) -> Step:
    versus = line.versus or ""
    seeds = stats.over_seeds(line.gain.values) if line.gain.n else None
    test = stats.seed_test(seeds) if seeds else SeedTest(None, None)
    pairs = _pairs(line, known)
    r1, average = _over_queries(list(pairs.values()), resamples)
    identities = next((len(np.unique(new.identity_T)) for new, _ in pairs.values()), 0)
    p = test.p
    if r1 is not None:
        p = r1.p if seeds is None or seeds.n == 1 else stats.over_both(r1, identities, seeds)
    sd = seeds.sd if seeds and seeds.sd and seeds.sd > stats.EQUAL else None
    return Step(
        row=line.name,
        versus=versus,
        paper=line.paper_gain,
        queries=next((len(new.first_rank_T) for new, _ in pairs.values()), 0),
        identities=identities,
        r1=r1,
        map=average,
        mcnemar={s: stats.mcnemar(new.first_rank_T == 1, old.first_rank_T == 1) for s, (new, old) in pairs.items()},
        seeds=seeds,
        test=test,
        p=p,
        detectable=stats.detectable(sd, seeds.n) if seeds and sd else None,
        seeds_for_ours=stats.seeds_needed(seeds.mean, sd) if seeds and sd else None,
        seeds_for_paper=stats.seeds_needed(line.paper_gain, sd) if sd and line.paper_gain else None,
        corrected={},
        verdict="",
    )


def _decided(step: Step, corrected: Mapping[str, float]) -> Step:
    difference = step.difference
    verdict = "" if difference is None or step.p is None else stats.judge(difference, corrected["p"], step.paper)
    return replace(step, corrected=corrected, verdict=verdict)


def _pairs(line: Line, known: Known) -> dict[int, tuple[Queries, Queries]]:
    """Both rows' queries by seed, where they are the same queries; those of one suite and one data set are."""
    both = {seed: (known.get((line.name, seed)), known.get((line.versus or "", seed))) for seed in line.gain.by_seed}
    return {
        seed: (new, old)
        for seed, (new, old) in sorted(both.items())
        if new is not None and old is not None and np.array_equal(new.identity_T, old.identity_T)
    }


def _over_queries(pairs: Sequence[tuple[Queries, Queries]], resamples: int) -> tuple[Estimate | None, Estimate | None]:
    """Differences of R@1 and of mAP: of each query the mean over the seeds, then over resampled identities."""
    if not pairs or len(np.unique(identity := pairs[0][0].identity_T)) < 2:
        return None, None
    hits = np.mean([(new.first_rank_T == 1).astype(float) - (old.first_rank_T == 1) for new, old in pairs], axis=0)
    average = np.mean([new.average_precision_T - old.average_precision_T for new, old in pairs], axis=0)
    differences_T2 = 100 * np.column_stack([hits, average])
    draws = stats.cluster_bootstrap(differences_T2, identity, np.random.default_rng(SEED), resamples)
    # An average precision is NaN if the gallery holds no right image; then so is mAP, and it is not compared.
    found = [
        stats.estimate(float(column.mean()), drawn) if np.isfinite(column).all() else None
        for column, drawn in zip(differences_T2.T, draws.T, strict=True)
    ]
    return found[0], found[1]


def _ranks(lines: Sequence[Line], known: Known, resamples: int) -> Ranks | None:
    """Over the rows that both have; two of them would be a step."""
    both = [line for line in lines if line.n and "r1" in line.paper]
    if len(both) < 3:
        return None
    paper = [line.paper["r1"] for line in both]
    ours = [line.figures["r1"].mean or 0.0 for line in both]
    tau = stats.kendall_tau(ours, paper)
    generator = np.random.default_rng(SEED)
    columns = _resampled(both, known, generator, resamples)
    several = any(line.n > 1 for line in both)
    over = " and ".join(["identities"] * (columns is not None) + ["seeds"] * several)
    if not over:
        return Ranks(len(both), tau, None, "")
    if columns is None:  # the seeds alone vary
        columns = [np.tile(line.figures["r1"].values, (resamples, 1)) for line in both]
    draws = np.column_stack([stats.reseeded(values, generator) for values in columns])
    return Ranks(len(both), tau, stats.told_order(ours, draws, paper), over)


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
    draws = stats.cluster_bootstrap(hits_TK, identity, generator, resamples)
    return np.split(draws, np.cumsum([len(row) for row in runs])[:-1], axis=1)


def _count(judged: Judged) -> Iterator[str]:
    """How many steps came out how."""
    decided = [step for step in judged.steps.values() if step.verdict]
    if not decided:
        return
    verdicts = [step.verdict for step in decided]
    counts = "; ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(sorted(verdicts)))
    absent = len(judged.steps) - len(decided)
    missing = f"; {absent} missing" if absent else ""
    family = f" after Holm's correction over {len(decided)} steps" if len(decided) > 1 else ""
    yield (
        f"Steps: {counts}{missing} (p below {stats.LEVEL}{family}). The published steps come without a spread and "
        "are taken as they stand."
    )


def _query_note(judged: Judged) -> Iterator[str]:
    """Between what the resamples choose."""
    sizes = {(step.identities, step.queries) for step in judged.steps.values() if step.r1}
    for identities, queries in sorted(sizes):
        yield f"Over queries: resampling the {identities} identities, each with all its queries ({queries} in all)."


def _seed_notes(judged: Judged) -> Iterator[str]:
    """What the number of seeds allows."""
    numbers = {step.seeds.n for step in judged.steps.values() if step.seeds}
    if not numbers:
        return
    if 1 in numbers:
        whose = "One seed allows" if numbers == {1} else "A step of one seed allows"
        yield (
            f"{whose} comparisons over queries only: of these very models on other people, not of what another "
            "training would give."
        )
    if several := sorted(numbers - {1}):
        floors = ", ".join(f"{stats.wilcoxon_floor(n):.3g} with {n}" for n in several)
        yield (
            "With more than one seed the verdict is over queries and seeds together: other people, other trainings. A "
            f"two-sided Wilcoxon test over seeds could not go below {floors}."
        )
    weak = [step for step in judged.steps.values() if step.too_few_seeds]
    if weak:
        each = [f"{step.row} ({abs(step.paper or 0):.2f}, {_needed(step)})" for step in weak]
        yield (
            f"Too few seeds to show the published step in {round(100 * stats.POWER)} % of all cases, even uncorrected: "
            f"{', '.join(each)}. Where such a step is called '{UNDECIDED}', that says nothing against it."
        )


def _needed(step: Step) -> str:
    n = step.seeds_for_paper
    return f"needs {n} seeds" if n else f"needs over {stats.MOST_SEEDS} seeds"


def _order_note(ranks: Ranks | None) -> Iterator[str]:
    if ranks is None:
        return
    text = f"Order of {ranks.rows} rows by R@1 against the published one: Kendall's tau {ranks.tau:.2f}"
    if (told := ranks.told) is None:
        yield f"{text}."
        return
    yield (
        f"{text} [{told.low:.2f}, {told.high:.2f}] (at least {SHARE} %, over {ranks.over}). Of the pairs of rows, told "
        f"apart all at once, {told.as_paper} stand as published, {told.opposite} the other way, {told.undecided} either "
        "way."
    )
