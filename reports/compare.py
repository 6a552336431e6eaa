"""`rasa compare`: two runs, rows or suites side by side: in what they differ, what they reach, which queries flip."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from experiments.decisions import Queries, decide, interval, step_of
from experiments.environment import changed_files
from experiments.evidence import queries_in
from experiments.finding import finished_run, finished_seeds
from experiments.layers import differences
from experiments.machine import normalised
from experiments.rundir import (
    ENVIRONMENT,
    PREDICTIONS,
    RESULT,
    RUNS,
    About,
    read_about,
    read_config,
    read_json,
    read_result,
)
from experiments.statistics import McNemar, mcnemar
from experiments.suite import HEADINGS
from rasa.errors import ResourceError
from reports.formats import Page
from reports.grid import NONE, Column, grid_of

SHOWN = ("r1", "r5", "r10", "map", "stage1_r1", "tr_r1", "ap50")
COSTS = {"seconds": "Seconds", "pairs_per_s": "Pairs/s", "peak_mib": "Peak MiB"}
NAMES = {**HEADINGS, "stage1_r1": "Stage-1 R@1", **COSTS}
PLACES = ("data.root", "data.target.root", "seed")  # where things lie, and what tells the seeds of a row apart
OF_NEW = "variables"  # in environment.json since it names the whole installation
TOO_FEW = "at least three seeds of both make a verdict"


class Run(NamedTuple):
    """A finished run and what it found."""

    directory: Path
    about: About
    result: Mapping[str, Any]
    queries: Queries | None

    @property
    def figures(self) -> dict[str, float]:
        """Test figures and cost by name."""
        cost = self.result.get("cost", {})
        return {**self.result.get("test", {}), **{name: cost[name] for name in COSTS if name in cost}}


@dataclass(frozen=True)
class Side:
    """What a name means: the runs of one row, by seed."""

    name: str
    runs: Mapping[int, Run]

    @property
    def first(self) -> Run:
        """The one whose spec and environment stand for all."""
        return self.runs[min(self.runs)]


@dataclass(frozen=True)
class Comparison:
    """B against A. `pairs`: which run of A belongs to which of B, by seed, or the single ones of both."""

    a: Side
    b: Side
    pairs: tuple[tuple[Run, Run], ...]
    spec: Mapping[str, tuple[Any, Any]]
    other: Mapping[str, tuple[Any, Any]]  # data, weights, code, versions

    @property
    def table(self) -> tuple[int, int, int, int] | None:
        """Queries of the first pair: right by both, by A alone, by B alone, by neither; None if they are not known."""
        a, b = self.pairs[0]
        if a.queries is None or b.queries is None or not np.array_equal(a.queries.identity_T, b.queries.identity_T):
            return None
        one, other = a.queries.first_rank_T == 1, b.queries.first_rank_T == 1
        counts = (one & other, one & ~other, ~one & other, ~one & ~other)
        both, a_alone, b_alone, neither = (int(each.sum()) for each in counts)
        return both, a_alone, b_alone, neither

    @property
    def exact(self) -> McNemar | None:
        """The exact test of that table, which takes queries for independent."""
        if self.table is None:
            return None
        a, b = self.pairs[0]
        assert a.queries is not None and b.queries is not None
        return mcnemar(a.queries.first_rank_T == 1, b.queries.first_rank_T == 1)


def sides(name: str, workspace: Path, profile: str | None) -> dict[str, Side]:
    """The rows that a name means, by row: one for a run or a row, all for a suite. Raises ResourceError."""
    folder = workspace / RUNS / name
    if "/" not in name.strip("/") and folder.is_dir() and not Path(name).exists():
        found = {}
        for row in sorted(each.name for each in folder.glob("*/")):
            if runs := _one_each(finished_seeds(folder / row, profile, f"{name}/{row}")):
                found[row] = Side(f"{name}/{row}", runs)
        if not found:
            raise ResourceError(f"{name}: no run of this suite has finished in {workspace.absolute()}")
        return found
    run = finished_run(name, workspace, profile)
    about = read_about(run)
    if (of_row := workspace / RUNS / name.strip("/")).is_dir():
        runs = _one_each(finished_seeds(of_row, profile, name))
        return {about.row: Side(name, runs)}
    return {about.row: Side(f"{about.row} seed {about.seed}", {about.seed: _read(run)})}


def _one_each(seeds: Mapping[int, Sequence[Path]]) -> dict[int, Run]:
    """The only run of each seed. Raises ResourceError if a seed has several."""
    found = {}
    for seed, directories in seeds.items():
        first, *others = map(_read, directories)
        if others:
            both = f"{first.directory.name} and {others[0].directory.name}"
            raise ResourceError(f"{first.about.name}: was run with several configs or data sets: {both}; give one id")
        found[seed] = first
    return found


def _read(directory: Path) -> Run:
    result = read_result(directory / RESULT)
    if result is None:
        raise ResourceError(f"{directory}: has not finished; `rasa run` goes on")
    return Run(directory, read_about(directory), result, queries_in(directory / PREDICTIONS, result["test"]["r1"]))


def compare(a: Side, b: Side) -> Comparison:
    """B against A, paired by seed; single runs are paired whatever their seeds. Raises ResourceError without a pair."""
    pairs = tuple((a.runs[seed], b.runs[seed]) for seed in sorted(a.runs.keys() & b.runs.keys()))
    if len(a.runs) == len(b.runs) == 1:
        pairs = ((a.first, b.first),)
    if not pairs:
        raise ResourceError(
            f"{a.name} and {b.name} have no seed in common: {_listed(a.runs)} and {_listed(b.runs)}; run one of them "
            "with the other's seeds"
        )
    old, new = (read_config(side.first.directory).model_dump(mode="json") for side in (a, b))
    spec = {key: values for key, values in differences(old, new).items() if key not in PLACES}
    return Comparison(a, b, pairs, spec, dict(_others(a.first, b.first)))


def _others(a: Run, b: Run) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """What differs beside the spec: data, initial weights, code, versions, machine."""
    for name, field in (("data", "data_digest"), ("initial weights", "weights_digest")):
        if getattr(a.about, field) != getattr(b.about, field):
            yield name, (getattr(a.about, field), getattr(b.about, field))
    old, new = (read_json(run.directory / ENVIRONMENT) or {} for run in (a, b))
    if changed := changed_files(old.get("code", {}), new.get("code", {})):
        yield "code", (old.get("git_commit"), f"{new.get('git_commit')} ({len(changed)} files differ)")
    known = ("started", "workspace", "code", "git_commit", "git_dirty", "version", "changes")
    plain = [{key: value for key, value in each.items() if key not in known} for each in (old, new)]
    for each in plain:
        each["packages"] = {normalised(name): version for name, version in each.get("packages", {}).items()}
    if any(OF_NEW not in each for each in plain):  # what only a record of today holds is no difference
        plain = [_common(*pair) for pair in (plain, plain[::-1])]
    yield from differences(*plain).items()


def _common(own: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What of `own` the other record says something about, too; packages by package."""
    both = {key: value for key, value in own.items() if key in other}
    return both | {"packages": {name: own["packages"][name] for name in own["packages"] if name in other["packages"]}}


def page(comparison: Comparison) -> Page:
    """What there is to say of two rows: differences, figures with their tests, and the two by two of the queries."""
    a, b = comparison.a, comparison.b
    changes = [*comparison.spec.items(), *comparison.other.items()]
    grids = [
        grid_of(
            "What differs",
            [
                Column[Any]("Field", lambda line: line[0], numeric=False),
                Column[Any](a.name, lambda line: _shown(line[1][0]), numeric=False),
                Column[Any](b.name, lambda line: _shown(line[1][1]), numeric=False),
            ],
            changes,
            () if changes else ("Nothing: same config, data, initial weights, code and versions.",),
        ),
        _figures(comparison),
    ]
    if comparison.table is not None:
        grids.append(_queries(comparison, comparison.table))
    notes = [f"Paired by seed: {_listed({old.about.seed: old for old, _ in comparison.pairs})}."]
    if len(a.runs) == len(b.runs) == 1:
        notes = ["One run of each: the interval is over queries, and says nothing of another training."]
    return Page(f"{b.name} against {a.name}", "", grids, notes)


def _figures(comparison: Comparison) -> Any:
    pairs = comparison.pairs
    names = [name for name in (*SHOWN, *COSTS) if all(name in run.figures for pair in pairs for run in pair)]
    found = {}
    for old, new in pairs:
        for row, run in (("a", old), ("b", new)):
            if run.queries is not None:
                found[row, old.about.seed] = run.queries
    lines, said = [], []
    for name in names:
        gains = {old.about.seed: new.figures[name] - old.figures[name] for old, new in pairs}
        a, b = (fmean(run.figures[name] for run in runs) for runs in zip(*pairs, strict=True))
        low_high = None
        if name in ("r1", "map"):
            step = step_of("b", "a", None, gains, found, "r1" if name == "r1" else "map")
            low_high = interval(step)
            if name == "r1":
                verdict = decide([step])["b"]
                said.append(
                    f"R@1: {verdict.verdict}, p {verdict.p_holm:.3g} over queries and seeds."
                    if verdict.p_holm is not None
                    else f"R@1 has no verdict: {TOO_FEW}."
                )
        lines.append((name, a, b, fmean(gains.values()), low_high))
    return grid_of(
        "What they reach",
        [
            Column[Any]("Figure", lambda line: NAMES[line[0]], numeric=False),
            Column[Any](comparison.a.name, lambda line: f"{line[1]:.2f}"),
            Column[Any](comparison.b.name, lambda line: f"{line[2]:.2f}"),
            Column[Any]("Difference", lambda line: f"{line[3]:+.2f}"),
            Column[Any]("95 %", lambda line: NONE if line[4] is None else f"[{line[4][0]:+.2f}, {line[4][1]:+.2f}]"),
        ],
        lines,
        said,
    )


def _queries(comparison: Comparison, table: tuple[int, int, int, int]) -> Any:
    both, a_alone, b_alone, neither = table
    exact = comparison.exact
    assert exact is not None
    a, b = comparison.a.name, comparison.b.name
    lines = [("right", both, a_alone), ("wrong", b_alone, neither)]
    flipped = a_alone + b_alone
    said = (
        f"{flipped} queries flip: {b_alone} are right by {b} alone, {a_alone} by {a} alone "
        + f"(McNemar's exact p {exact.p:.3g}, queries taken for independent).",
    )
    seed = comparison.pairs[0][0].about.seed
    return grid_of(
        f"Queries whose first image is right, seed {seed}",
        [
            Column[Any](a, lambda line: line[0], numeric=False),
            Column[Any](f"right by {b}", lambda line: str(line[1])),
            Column[Any](f"wrong by {b}", lambda line: str(line[2])),
        ],
        lines,
        said,
    )


def document(comparison: Comparison) -> dict[str, Any]:
    """The same for programs."""
    figures = {
        f"{old.about.seed}": {
            name: [old.figures[name], new.figures[name]] for name in old.figures.keys() & new.figures.keys()
        }
        for old, new in comparison.pairs
    }
    names = ("both", "a_alone", "b_alone", "neither")
    table = None if comparison.table is None else dict(zip(names, comparison.table, strict=True))
    return {
        "a": [str(run.directory) for run in comparison.a.runs.values()],
        "b": [str(run.directory) for run in comparison.b.runs.values()],
        "spec": {key: list(values) for key, values in comparison.spec.items()},
        "other": {key: list(values) for key, values in comparison.other.items()},
        "figures": figures,
        "queries": table,
    }


def _shown(value: Any) -> str:
    return NONE if value is None else str(value)


def _listed(runs: Mapping[int, Run]) -> str:
    return f"seed{'s' if len(runs) > 1 else ''} {', '.join(map(str, sorted(runs)))}"
