"""A suite's tables as cells of text, the same for every format. No figure is made here, only words and digits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from experiments.decisions import SHOWN, Decision
from experiments.suite import HEADINGS
from reports import grid
from reports.grid import NONE, Grid
from reports.grid import grid_of as _grid
from reports.learning import Panel
from reports.measured import SELECTION, domains, figure_column, measured, selection
from reports.replaced_figure import Shown
from reports.starts import OverStart
from reports.tables import MISSING, UNTRAINED, Line, last_label_tells, telling_names
from reports.verdict import SHARE, Judged, Step, sentences
from reports.words import absent, between, p_value, plus_minus, signed, values

if TYPE_CHECKING:
    from reports.sweeps import Curve

TOLD_APART = "What is decided: R@1 (and mAP) of each row minus that of the row before it, in percent points"
Column = grid.Column[Line]


@dataclass(frozen=True)
class Report:
    """A suite's table, and what a reader must know to judge it."""

    title: str
    profile: str
    source: str  # where the published values stand
    comparable: bool  # whether ours were measured on the paper's data
    metrics: Sequence[str]
    lines: Sequence[Line]
    judged: Judged
    notes: Sequence[str]
    provenance: Mapping[str, str]
    others: Sequence[Grid] = ()  # that stand after the first table
    curves: Sequence["Curve"] = ()  # of a suite of sweeps; then they are the picture
    paper_data: str = "CUHK-PEDES"  # on which the published values were measured
    published: Sequence[Grid] = ()  # the paper's table with ours in it, for a suite that names one
    competitors: Sequence[Mapping[str, object]] = ()  # its lines that are no rows of the suite, as records
    starts: Sequence[Line] = ()  # the untrained weights, the first lines of each table
    over_start: Mapping[str, OverStart] = field(default_factory=dict)  # by row
    above: Sequence[str] = ()  # what must be said above the tables
    learning: Sequence[Panel] = ()  # of the losses and of R@1 on validation, over the epochs
    generators: Sequence[Panel] = ()  # of RTD's words and who finds them
    words: Sequence[Shown] = ()  # of RTD, in some captions
    # By row and seed, where finished runs lie on this machine; empty for a published report, which has no images.
    directories: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    chance: float | None = None  # R@1 of a random ranking, with equally many images of each identity; None: not known

    @property
    def all_lines(self) -> list[Line]:
        """The starts, and then the rows."""
        return [*self.starts, *self.lines]


def grids(report: Report) -> list[Grid]:
    """What the rows reach and gain, which steps can be told apart, the published values and costs, the selection."""
    labels = _label_columns(report.lines)
    telling = labels[-1:] if last_label_tells(report.lines) else labels
    published = [metric for metric in report.metrics if any(metric in line.paper for line in report.lines)]
    reached = [Column("Seeds", _seeds), *(figure_column(HEADINGS[metric], metric) for metric in report.metrics)]
    reached += [*_gains(report.lines), *_over_start(report)]
    beside = [*map(_published, published), figure_column("Stage-1 R@1", "stage1_r1"), *_cost(report.all_lines)]
    what = "Published values (in brackets: ours minus these), stage 1 alone, and cost per run"
    stepped = [line for line in report.lines if line.versus is not None]
    told_apart = [_grid(TOLD_APART, [*telling, *_steps(report)], stepped, sentences(report.judged))] if stepped else []
    return [
        _grid("Test split, in percent", [*labels, *reached], report.all_lines),
        *report.others,
        *report.published,
        *told_apart,
        _grid(
            what if published else "Stage 1 alone, and cost per run", [*labels, *beside], _with_costs(report.all_lines)
        ),
        _grid(SELECTION, [*labels, *selection()], report.all_lines),
        *domains(report.all_lines, labels),
        *measured(report.all_lines, telling),
    ]


def _label_columns(lines: Sequence[Line]) -> list[Column]:
    headings = list(lines[0].labels)
    telling = headings[-1 if last_label_tells(lines) else 0]

    def column(heading: str) -> Column:
        return Column(heading, lambda line: line.labels[heading], numeric=False, names=heading == telling)

    return [column(heading) for heading in headings]


def _seeds(line: Line) -> str:
    if line.state == UNTRAINED:
        return NONE
    return f"n = {line.n}" if line.n else line.state


def _gains(lines: Sequence[Line]) -> list[Column]:
    """From which row each step is taken, our gain, and the paper's if it has any. No gain is the best: steps differ."""
    settings = telling_names(lines)

    def ours(line: Line) -> str:
        if line.gain.mean is None:
            return NONE if line.versus is None else absent(line)
        few = f" (n = {line.gain.n})" if line.gain.n != line.n else ""
        return signed(line.gain.mean) + plus_minus(line.gain, 1) + few

    def paper(line: Line) -> str:
        return NONE if line.paper_gain is None else signed(line.paper_gain, 2)

    columns: list[Column] = [
        Column("Step from", lambda line: settings[line.versus] if line.versus else NONE, numeric=False),
        Column("Gain R@1", ours, detail=lambda line: values(line.gain, "+.1f")),
    ]
    if any(line.paper_gain is not None for line in lines):
        columns.append(Column("Paper's gain", paper))
    return columns if any(line.versus is not None for line in lines) else []


def _over_start(report: Report) -> list[Column]:
    """What each row gained over the weights that it started from."""

    def text(line: Line) -> str:
        gain = report.over_start.get(line.name)
        if gain is None:
            return NONE
        return signed(gain.value) + (
            "" if gain.low is None or gain.high is None else between(gain.low, gain.high, "+.1f")
        )

    return [Column("Over start R@1", text)] if report.starts else []


def _steps(report: Report) -> list[Column]:
    """A step's difference, how sure it is, the verdict, and what these runs could tell. All over queries and seeds."""
    settings = telling_names(report.lines)
    steps = report.judged.steps

    def column(heading: str, text: Callable[[Step], str | None], numeric: bool = True) -> Column:
        return Column(heading, lambda line: text(steps[line.name]) or _untold(line), numeric=numeric)

    def seeds(step: Step) -> str | None:
        return f"n = {step.r1.n}" if step.r1.n else None

    def untested(step: Step) -> str | None:
        return NONE if step.r1.n else None

    def decided(line: Line) -> bool:
        return steps[line.name].verdict == SHOWN

    columns: list[Column] = [Column("Step from", lambda line: settings[line.versus or ""], numeric=False)]
    published = any(step.r1.published is not None for step in steps.values())
    if published:
        columns.append(
            column("Paper", lambda step: NONE if step.r1.published is None else signed(step.r1.published, 2))
        )
    columns += [
        column("Seeds", seeds),
        column(f"R@1 [{SHARE} %]", lambda step: difference(step.r1))._replace(bold=decided),
        column("p (Holm)", lambda step: p_value(step.r1.p_holm) or untested(step)),
        column("p, equivalent (Holm)", lambda step: p_value(step.r1.p_equivalent_holm) or untested(step)),
        column(f"mAP [{SHARE} %]", lambda step: difference(step.map) if step.map else None),
        column("Verdict", lambda step: step.wording, numeric=False),
        column("Could see", lambda step: _points(step.foresight.could_see) or untested(step)),
    ]
    if published:
        columns += [
            column("Power", lambda step: _percent(step.foresight.power) or untested(step)),
            column("Seeds needed", lambda step: _needed(step) or untested(step)),
        ]
    return columns


def difference(step: Decision) -> str | None:
    """`+2.5 [+0.8, +4.1]`; None without a seed that both rows have."""
    if step.mean is None:
        return None
    interval = "" if step.low is None or step.high is None else between(step.low, step.high, "+.1f")
    return signed(step.mean) + interval


def _points(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.0f} %"


def _needed(step: Step) -> str | None:
    """Seeds that show the published step in 80 % of cases."""
    if step.foresight.power is None:
        return None
    return str(step.foresight.seeds_needed or "none")


def _untold(line: Line) -> str:
    """Why a comparison is not there: what became of the row, or that something of it or the row before is missing."""
    return MISSING if line.gain.n else absent(line)


def _published(metric: str) -> Column:
    def text(line: Line) -> str:
        if metric not in line.paper:
            return NONE
        difference = line.minus_paper(metric)
        return f"{line.paper[metric]:.2f} ({absent(line) if difference is None else signed(difference)})"

    return Column(f"Paper {HEADINGS[metric]}", text)


def _cost(lines: Sequence[Line]) -> list[Column]:
    def form(mean: float) -> str:
        return f".{2 if mean < 1 else 1 if mean < 100 else 0}f"

    def column(heading: str, name: str) -> Column:
        def text(line: Line) -> str:
            mean = line.figures[name].mean
            return absent(line) if mean is None else format(mean, form(mean))

        return Column(heading, text, detail=lambda line: values(line.figures[name], form(line.figures[name].mean or 0)))

    def counted(heading: str, name: str) -> Column:
        def text(line: Line) -> str:
            mean = line.figures[name].mean
            return NONE if mean is None else format(mean, form(mean))

        return Column(heading, text)

    known = any(line.figures["tflop"].n for line in lines)  # runs of older versions lack it
    flops = [counted("GFLOP a step", "gflop_per_step"), counted("TFLOP", "tflop")] if known else []
    return [column("Minutes", "minutes"), column("Pairs/s", "pairs_per_s"), column("Peak MiB", "peak_mib"), *flops]


def _with_costs(lines: Sequence[Line]) -> list[Line]:
    """Without the lines of a start's stage 1, whose figures stand with the re-ranked ones."""
    return [line for line in lines if line.state != UNTRAINED or line.figures["stage1_r1"].n]
