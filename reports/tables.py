"""A suite's table of figures from the tidy table of its runs: mean, spread, n and the individual values together.

Nothing is rounded or formatted here (reports/cells.py). Accuracies are in percent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from experiments.statistics import over_seeds
from experiments.suite import Row, Suite
from rasa.config.run import DETECTORS

if TYPE_CHECKING:
    import pandas as pd

FINISHED, NEVER = "finished", "never run"
MISSING, NOT_ASKED = "missing", "not asked"  # a figure that a finished run should have, and one that it need not
UNTRAINED = "untrained"  # the state of a line that no training belongs to
# A line's figures by name: the column of the tidy table, and what one of its units is in the figure's.
DETECTION = ("loss", "guess", "base", "recall", "precision", "auc")  # as rasa/training/detectors.py defines them
KINDS = ("colour", "garment", "accessory")
PROBED = (
    "queries",
    "apart",
    "effect",
    "r1",
    "r1_exchanged",
    "rank_factor",
    "stage1_apart",
)  # as rasa/evaluation/word_probe.py does
GENERATOR_FIGURES = ("rtd_entropy", "rtd_synonyms")  # as rasa/training/replaced.py defines them
DETECTOR_FIGURES = (*(f"{head}_{name}" for head in DETECTORS for name in DETECTION), *GENERATOR_FIGURES)
COUNTED_FIGURES = ("gflop_per_step", "tflop")  # that older runs lack
PROBE_FIGURES = tuple(f"{kind}_{name}" for kind in KINDS for name in PROBED)
SOURCE = ("r1", "r5", "r10", "map")  # of the data trained on, where test is another data set's (data.target)
SOURCE_FIGURES = tuple(f"source_{name}" for name in SOURCE)
FIGURES = {
    "r1": ("test/r1", 1.0),
    "r5": ("test/r5", 1.0),
    "r10": ("test/r10", 1.0),
    "map": ("test/map", 1.0),
    **{name: (f"test/{name}", 1.0) for name in ("tr_r1", "tr_r5", "tr_r10", "ap50")},
    "stage1_r1": ("test/stage1_r1", 1.0),
    **{f"source_{name}": (f"source/{name}", 1.0) for name in SOURCE},
    "val_r1": ("selected/val_r1", 1.0),  # of the checkpoint that validation chose, as are the figures on test above
    "last_val_r1": ("val_last/r1", 1.0),
    "last_r1": ("last/test_r1", 1.0),
    "oracle_r1": ("oracle/test_r1", 1.0),  # of the checkpoint that is best on test, which nobody may choose
    "minutes": ("cost/seconds", 1 / 60),
    "pairs_per_s": ("cost/pairs_per_s", 1.0),
    "peak_mib": ("cost/peak_mib", 1.0),
    "gflop_per_step": ("cost/flops_per_step", 1e-9),
    "tflop": ("cost/flops", 1e-12),  # of all training steps
    **{name: (f"detector/{name}", 1.0) for name in DETECTOR_FIGURES},
    **{name: (f"probe/{name}", 1.0) for name in PROBE_FIGURES},
}


@dataclass(frozen=True)
class Spread:
    """One figure over seeds. `mean` is None without a value, `sd` (of the sample) with less than two."""

    by_seed: Mapping[int, float]

    @property
    def n(self) -> int:
        """How many seeds have a value."""
        return len(self.by_seed)

    @cached_property
    def values(self) -> tuple[float, ...]:
        """The individual values, by rising seed."""
        return tuple(self.by_seed[seed] for seed in sorted(self.by_seed))

    @cached_property
    def mean(self) -> float | None:
        """Arithmetic mean."""
        return fmean(self.values) if self.n else None

    @cached_property
    def sd(self) -> float | None:
        """Standard deviation of the sample, n - 1 in the denominator."""
        return stdev(self.values) if self.n > 1 else None

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """95 % t-interval of the mean; None with less than two values."""
        summary = over_seeds(self.values) if self.n else None
        return None if summary is None or summary.low is None or summary.high is None else (summary.low, summary.high)

    def minus(self, other: "Spread") -> "Spread":
        """The differences over the seeds that both have, paired by seed."""
        both = self.by_seed.keys() & other.by_seed.keys()
        return Spread({seed: self.by_seed[seed] - other.by_seed[seed] for seed in both})


@dataclass(frozen=True)
class Line:
    """One row of a suite: what its seeds reached, what the step to it gained, and the paper's values."""

    name: str
    labels: Mapping[str, str]
    state: str  # finished if any seed is; else failed, running or interrupted; or never run
    unfinished: Mapping[int, str]  # by seed, what became of those without a finished run
    figures: Mapping[str, Spread]
    paper: Mapping[str, float]
    versus: str | None
    gain: Spread  # R@1 minus that of the row `versus`
    paper_gain: float | None
    reasons: Mapping[int, str] = field(default_factory=dict)  # by seed, why those did not finish, where it is known

    @property
    def why(self) -> str:
        """The state of a row without a finished seed, and the reason of the first that has one."""
        told = next((self.reasons[seed] for seed in sorted(self.reasons) if self.unfinished[seed] == self.state), "")
        return f"{self.state}: {told}" if told else self.state

    @property
    def n(self) -> int:
        """How many seeds finished."""
        return self.figures["r1"].n

    def minus_paper(self, metric: str) -> float | None:
        """Our mean minus the paper's value; None if one of them is missing."""
        mean, paper = self.figures[metric].mean, self.paper.get(metric)
        return None if mean is None or paper is None else mean - paper


def suite_lines(runs: "pd.DataFrame", suite: Suite) -> list[Line]:
    """One line per row of the suite, in its order, whether or not it has been run.

    `runs` has one row per suite row and seed (reports/load.py).
    """
    figures = {row.name: _figures(runs, row.name) for row in suite.rows}
    return [_line(runs, suite, row, figures) for row in suite.rows]


def _line(runs: "pd.DataFrame", suite: Suite, row: Row, figures: Mapping[str, Mapping[str, Spread]]) -> Line:
    own = runs[(runs["row"] == row.name) & (runs["state"] != FINISHED)]
    unfinished = {int(seed): str(state) for seed, state in zip(own["seed"], own["state"], strict=True)}
    paper = _paper(row)
    before = suite.row(row.versus) if row.versus else None
    gain, paper_gain = Spread({}), None
    if before is not None:
        gain = figures[row.name]["r1"].minus(figures[before.name]["r1"])
        published = _paper(before)
        if "r1" in paper and "r1" in published:
            paper_gain = paper["r1"] - published["r1"]
    return Line(
        name=row.name,
        labels=suite.labels_of(row),
        state=FINISHED if figures[row.name]["r1"].n else _state(unfinished),
        unfinished=unfinished,
        figures=figures[row.name],
        paper=paper,
        versus=row.versus,
        gain=gain,
        paper_gain=paper_gain,
        reasons={int(seed): str(why) for seed, why in zip(own["seed"], own["reason"], strict=True) if why},
    )


def _paper(row: Row) -> dict[str, float]:
    return {str(metric): value for metric, value in (row.paper or {}).items()}


def _state(unfinished: Mapping[int, str]) -> str:
    states = [unfinished[seed] for seed in sorted(unfinished)]
    return "failed" if "failed" in states else states[-1] if states else NEVER


def _figures(runs: "pd.DataFrame", row: str) -> dict[str, Spread]:
    own = runs[(runs["row"] == row) & (runs["state"] == FINISHED)]
    return {name: _spread(own, column, scale) for name, (column, scale) in FIGURES.items()}


def _spread(own: "pd.DataFrame", column: str, scale: float) -> Spread:
    # A figure that a run lacks is left out, so that n says on how many values the mean rests.
    known = own[own[column].notna()]
    return Spread({int(seed): float(value) * scale for seed, value in zip(known["seed"], known[column], strict=True)})


def seeds_of(lines: Sequence[Line]) -> str:
    """`n = 3`, or `n = 0 to 3` if the rows differ."""
    counts = [line.n for line in lines]
    low, high = min(counts), max(counts)
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def last_label_tells(lines: Sequence[Line]) -> bool:
    """Whether the last label column alone tells the rows apart.

    The settings of Table 4 do, the methods of Table 7 do not.
    """
    last = [list(line.labels.values())[-1] for line in lines]
    return len(set(last)) == len(last)


def telling_names(lines: Sequence[Line]) -> dict[str, str]:
    """By row, what a person calls it: its last label if that tells the rows apart, else all, else its name."""
    alone = last_label_tells(lines)
    cells = {line.name: list(line.labels.values()) for line in lines}
    return {row: (labels[-1] if alone else ", ".join(filter(None, labels))) or row for row, labels in cells.items()}
