"""The lines of the untrained weights, and what each row gains over those that it started from, like with like.

A row that re-ranks is compared with the start's re-ranked figure, one that stage 1 alone ranks (CL) with the start's
stage 1: else re-ranking itself would pass for something that was learned.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from experiments.decisions import Queries, interval, step_of
from experiments.rundir import START
from experiments.start import LABEL, line_labels
from experiments.statistics import LEVEL
from experiments.suite import Suite
from reports.load import Start
from reports.tables import FIGURES, UNTRAINED, Line, Spread

STAGE1 = f"{LABEL}, stage 1"
NO_HEADROOM = (
    "No headroom: no row beats the weights that it starts from by an interval that excludes zero, so what its rows "
    "differ in says nothing of what their objectives teach."
)
Known = Mapping[tuple[str, int], Queries]  # by row and seed


class OverStart(NamedTuple):
    """R@1 of a row, the mean over its seeds, minus that of its start, in percent points.

    The interval is over queries (whole identities) and seeds, at 95 %; None where the runs at hand do not tell.
    """

    versus: str  # the line that it is compared with
    untrained: float  # R@1 there
    value: float
    n: int
    low: float | None
    high: float | None

    @property
    def beats(self) -> bool | None:
        """Whether the row is above its start, and zero outside the interval; None without one."""
        return None if self.low is None else self.low > 0


def start_lines(starts: Sequence[Start], suite: Suite) -> list[Line]:
    """For each start its line re-ranked and its line by stage 1; without an ITM head the latter alone."""
    return [
        _line(start, suite, stage1) for start in starts for stage1 in ((False, True) if start.reranked else (True,))
    ]


def over_start(
    lines: Sequence[Line],
    starts: Sequence[Start],
    stage1: Mapping[str, bool],
    known: Known,
) -> dict[str, OverStart]:
    """By row, what it gained over its start; rows without a start or without a finished run are not there.

    `stage1`: which rows are ranked by stage 1 alone.
    """
    of_row = {row: start for start in starts for row in start.rows}
    return {
        line.name: _gain(line, of_row[line.name], stage1[line.name], known)
        for line in lines
        if line.n and line.name in of_row
    }


def beats_start(gains: Mapping[str, OverStart]) -> dict[str, bool | None]:
    """Of each row whether it beats its start by an interval that excludes zero; None where that is not known.

    A step shows what its objective teaches only if the better of its rows does.
    """
    return {row: gain.beats for row, gain in gains.items()}


def headroom(gains: Mapping[str, OverStart]) -> list[str]:
    """What must be said above the table, if it is known that no row beats its start."""
    known = [gain.beats for gain in gains.values() if gain.beats is not None]
    return [NO_HEADROOM] if known and not any(known) else []


def on_starts(starts: Sequence[Start], gains: Mapping[str, OverStart], stage1: Mapping[str, bool]) -> Iterator[str]:
    """What a reader must know of the first lines and of the gains over them."""
    if not gains:
        return
    yield (
        "Over start: the row's R@1 minus that of the weights that it starts from, untrained, on the same data with the "
        f"same retrieval; in brackets {round(100 * (1 - LEVEL))} % over queries and seeds."
    )
    if alone := [row for row in gains if stage1[row]]:
        yield f"Ranked by stage 1 alone, and so compared with the start's stage 1: {', '.join(alone)}."
    if headless := [row for start in starts if not start.reranked for row in start.rows]:
        yield (
            f"No ITM head is in the weights that {', '.join(headless)} start from, so stage 1 alone ranks these "
            "untrained."
        )
    if unknown := [row for row, gain in gains.items() if gain.beats is None]:
        yield f"Not known to beat its start or not, with one seed and without the queries' ranks: {', '.join(unknown)}."


def _line(start: Start, suite: Suite, stage1: bool) -> Line:
    what = STAGE1 if stage1 else LABEL
    cells = line_labels(suite, start.variant, what)
    return Line(
        name=_name(start, stage1),
        labels=dict(zip(suite.labels, cells, strict=True)),
        state=UNTRAINED,
        unfinished={},
        figures={name: _figure(start, name, stage1) for name in FIGURES},
        paper={},
        versus=None,
        gain=Spread({}),
        paper_gain=None,
    )


def _name(start: Start, stage1: bool) -> str:
    name = f"{START} ({start.variant})" if start.variant else START
    return f"{name}, stage 1" if stage1 else name


def _figure(start: Start, name: str, stage1: bool) -> Spread:
    """One figure, exact: evaluating weights again gives it again.

    What both stages share stands with the re-ranked one.
    """
    column, scale = ("val/r1", 1.0) if name == "val_r1" else FIGURES[name]
    group, _, metric = column.partition("/")
    shared = name == "stage1_r1" or group in ("cost", "probe")
    if name == "last_val_r1" or (stage1 and start.reranked and shared):
        return Spread({})
    if stage1 and not shared and group in ("test", "val", "source"):
        column = f"{group}/stage1_{metric}"
    value = start.metrics.get(column, math.nan)
    return Spread({} if math.isnan(value) else {0: value * scale})


def _gain(line: Line, start: Start, stage1: bool, known: Known) -> OverStart:
    alone = stage1 or not start.reranked
    untrained = start.metrics["test/stage1_r1" if alone else "test/r1"]
    gains = {seed: value - untrained for seed, value in line.figures["r1"].by_seed.items()}
    first_T = start.stage1 if alone else start.queries.first_rank_T if start.queries else None
    found = dict(known)
    if start.queries is not None and first_T is not None:  # the start has no seeds: every run is compared with the same
        found |= {(_name(start, alone), seed): start.queries._replace(first_rank_T=first_T) for seed in gains}
    step = step_of(line.name, _name(start, alone), None, gains, found)
    low, high = interval(step) or (None, None)
    return OverStart(_name(start, alone), untrained, fmean(gains.values()), len(gains), low, high)
