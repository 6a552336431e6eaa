"""A suite's tables as cells of text, the same for every format. No figure is made here, only words and digits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from experiments.decisions import Decision
from experiments.spec import HEADINGS
from rasa.config.run import DETECTORS
from reports import grid
from reports.grid import NONE, Grid
from reports.grid import grid_of as _grid
from reports.starts import OverStart
from reports.tables import FINISHED, KINDS, MISSING, UNTRAINED, Line, Spread, last_label_tells, telling_names
from reports.verdict import SHARE, Judged, Step, sentences

if TYPE_CHECKING:
    from reports.sweeps import Curve

TOLD_APART = "What is decided: R@1 (and mAP) of each row minus that of the row before it, in percent points"
SELECTION = "Selection: R@1 of the checkpoint that validation chose, of the last, and of the best on test (an oracle)"
DETECTION_CAPTION = (
    "What the detectors learned, on validation pairs: loss beside that of guessing the base rate (nats), the share of "
    "weak pairs or replaced words, and how well they are found (percent; AUC 50: not at all)"
)
DOMAINS = (
    "Domains: R@1 and mAP on the test split of the data trained on (source) and on that of the other data set "
    "(target), and the drop between them, paired by seed"
)
SENSITIVITY = (
    "Sensitivity: one word of the query exchanged for a wrong one. Noticed: the image scores lower with it (50 %: not "
    "seen), in brackets by stage 1 alone; step: minus the row before, with the t-interval over seeds; R@1 before and "
    "after; factor by which the rank of the first true image grows"
)
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

    @property
    def all_lines(self) -> list[Line]:
        """The starts, and then the rows."""
        return [*self.starts, *self.lines]


def grids(report: Report) -> list[Grid]:
    """What the rows reach and gain, which steps can be told apart, the published values and costs, the selection."""
    labels = _label_columns(report.lines)
    telling = labels[-1:] if last_label_tells(report.lines) else labels
    published = [metric for metric in report.metrics if any(metric in line.paper for line in report.lines)]
    reached = [Column("Seeds", _seeds), *(_figure(HEADINGS[metric], metric) for metric in report.metrics)]
    reached += [*_gains(report.lines), *_over_start(report)]
    beside = [*map(_published, published), _figure("Stage-1 R@1", "stage1_r1"), *_cost()]
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
        _grid(SELECTION, [*labels, *_selection()], report.all_lines),
        *_domains(report.all_lines, labels),
        *_measured(report.all_lines, telling),
    ]


def spread(figure: Spread, digits: int = 1) -> str:
    """`71.3 ± 0.8 [70.2, 72.4]`; `71.3` for a single value."""
    if figure.mean is None:
        return MISSING
    interval = "" if figure.interval is None else _interval(*figure.interval, f".{digits}f")
    return f"{figure.mean:.{digits}f}" + _plus_minus(figure, digits) + interval


def signed(value: float, digits: int = 1) -> str:
    """With its sign; zero is `+0.0`, since `-0.0` would claim a direction."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def _label_columns(lines: Sequence[Line]) -> list[Column]:
    def column(heading: str) -> Column:
        return Column(heading, lambda line: line.labels[heading], numeric=False)

    return [column(heading) for heading in lines[0].labels]


def _seeds(line: Line) -> str:
    if line.state == UNTRAINED:
        return NONE
    return f"n = {line.n}" if line.n else line.state


def _figure(heading: str, name: str) -> Column:
    def text(line: Line) -> str:
        return spread(line.figures[name]) if line.figures[name].n else _absent(line)

    return Column(heading, text, lambda line: line.figures[name].mean, lambda line: _values(line.figures[name], ".1f"))


def _gains(lines: Sequence[Line]) -> list[Column]:
    """From which row each step is taken, our gain, and the paper's if it has any. No gain is the best: steps differ."""
    settings = telling_names(lines)

    def ours(line: Line) -> str:
        if line.gain.mean is None:
            return NONE if line.versus is None else _absent(line)
        few = f" (n = {line.gain.n})" if line.gain.n != line.n else ""
        return signed(line.gain.mean) + _plus_minus(line.gain, 1) + few

    def paper(line: Line) -> str:
        return NONE if line.paper_gain is None else signed(line.paper_gain, 2)

    columns: list[Column] = [
        Column("Step from", lambda line: settings[line.versus] if line.versus else NONE, numeric=False),
        Column("Gain R@1", ours, detail=lambda line: _values(line.gain, "+.1f")),
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
            "" if gain.low is None or gain.high is None else _interval(gain.low, gain.high, "+.1f")
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

    columns: list[Column] = [Column("Step from", lambda line: settings[line.versus or ""], numeric=False)]
    published = any(step.r1.published is not None for step in steps.values())
    if published:
        columns.append(
            column("Paper", lambda step: NONE if step.r1.published is None else signed(step.r1.published, 2))
        )
    columns += [
        column("Seeds", seeds),
        column(f"R@1 [{SHARE} %]", lambda step: _difference(step.r1)),
        column("p (Holm)", lambda step: _p(step.r1.p_holm) or untested(step)),
        column("p, equivalent (Holm)", lambda step: _p(step.r1.p_equivalent_holm) or untested(step)),
        column(f"mAP [{SHARE} %]", lambda step: _difference(step.map) if step.map else None),
        column("Verdict", lambda step: step.wording, numeric=False),
        column("Could see", lambda step: _points(step.foresight.could_see) or untested(step)),
    ]
    if published:
        columns += [
            column("Power", lambda step: _percent(step.foresight.power) or untested(step)),
            column("Seeds needed", lambda step: _needed(step) or untested(step)),
        ]
    return columns


def _difference(step: Decision) -> str | None:
    if step.mean is None:
        return None
    interval = "" if step.low is None or step.high is None else _interval(step.low, step.high, "+.1f")
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
    return MISSING if line.gain.n else _absent(line)


def _p(p: float | None) -> str | None:
    return None if p is None else f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def _interval(low: float, high: float, form: str) -> str:
    return f" [{_zeroed(low, form)}, {_zeroed(high, form)}]"


def _zeroed(value: float, form: str) -> str:
    return format(round(value, int(form[-2])) + 0.0, form)


def _selection() -> list[Column]:
    def column(heading: str, name: str) -> Column:
        def text(line: Line) -> str:
            mean = line.figures[name].mean
            return _absent(line) if mean is None else f"{mean:.1f}"

        return Column(heading, text, detail=lambda line: _values(line.figures[name], ".1f"))

    def gap(line: Line) -> str:
        lost = line.figures["oracle_r1"].minus(line.figures["r1"])
        return _absent(line) if lost.mean is None else signed(lost.mean) + _plus_minus(lost, 1)

    return [
        column("Validation, chosen", "val_r1"),
        column("Validation, last", "last_val_r1"),
        column("Test, chosen", "r1"),
        column("Test, last", "last_r1"),
        column("Test, oracle", "oracle_r1"),
        Column("Gap (oracle - chosen)", gap),
    ]


def _domains(lines: Sequence[Line], labels: Sequence[Column]) -> list[Grid]:
    """Source beside target, where some run was tested on another data set."""
    moved = [line for line in lines if line.figures["source_r1"].n]
    columns = [column for metric in ("r1", "map") for column in _moved(metric)]
    return [_grid(DOMAINS, [*labels, *columns], moved)] if moved else []


def _moved(metric: str) -> list[Column]:
    def drop(line: Line) -> str:
        lost = line.figures[metric].minus(line.figures[f"source_{metric}"])
        interval = "" if lost.interval is None else _interval(*lost.interval, "+.1f")
        return NONE if lost.mean is None else signed(lost.mean) + interval

    heading = HEADINGS[metric]
    return [
        _figure(f"Source {heading}", f"source_{metric}"),
        _figure(f"Target {heading}", metric),
        Column("Drop", drop),
    ]


def _measured(lines: Sequence[Line], labels: Sequence[Column]) -> list[Grid]:
    """The detectors' figures and the sensitivity probe, each where some run has them."""
    detecting = [line for line in lines if any(line.figures[f"{head}_loss"].n for head in DETECTORS)]
    probed = [line for line in lines if any(line.figures[f"{kind}_apart"].n for kind in KINDS)]
    grids = []
    if detecting:
        columns = [column for head in DETECTORS for column in _detection(head)]
        grids.append(_grid(DETECTION_CAPTION, [*labels, *columns], detecting))
    if probed:
        by_name = {line.name: line for line in lines}
        columns = [column for kind in KINDS for column in _sensitivity(kind, by_name)]
        grids.append(_grid(SENSITIVITY, [*labels, *columns], probed))
    return grids


def _detection(head: str) -> list[Column]:
    def loss(line: Line) -> str:
        mean, guess = line.figures[f"{head}_loss"].mean, line.figures[f"{head}_guess"].mean
        return NONE if mean is None else f"{mean:.3f}" + ("" if guess is None else f" ({guess:.3f})")

    name = head.upper()
    columns = [Column(f"{name} loss (guess)", loss, detail=lambda line: _values(line.figures[f"{head}_loss"], ".3f"))]
    headings = {"base": "share", "recall": "recall", "precision": "precision", "auc": "AUC"}
    return [*columns, *(_plain(f"{name} {text}", f"{head}_{key}") for key, text in headings.items())]


def _sensitivity(kind: str, by_name: Mapping[str, Line]) -> list[Column]:
    def noticed(line: Line) -> str:
        alone = line.figures[f"{kind}_stage1_apart"].mean
        own = line.figures[f"{kind}_apart"]
        return NONE if own.mean is None else spread(own) + ("" if alone is None else f" ({alone:.1f})")

    def fallen(line: Line) -> str:
        before, after = line.figures[f"{kind}_r1"].mean, line.figures[f"{kind}_r1_exchanged"].mean
        return NONE if before is None or after is None else f"{before:.1f} to {after:.1f}"

    def step(line: Line) -> str:
        before = by_name[line.versus].figures[f"{kind}_apart"] if line.versus else Spread({})
        gain = line.figures[f"{kind}_apart"].minus(before)
        return (
            NONE
            if gain.mean is None
            else signed(gain.mean) + ("" if gain.interval is None else _interval(*gain.interval, "+.1f"))
        )

    heading = kind.capitalize()
    return [
        Column(f"{heading}: noticed", noticed, detail=lambda line: _values(line.figures[f"{kind}_apart"], ".1f")),
        Column("step", step),
        Column("R@1", fallen),
        _plain("rank x", f"{kind}_rank_factor", 2),
    ]


def _plain(heading: str, name: str, digits: int = 1) -> Column:
    def text(line: Line) -> str:
        mean = line.figures[name].mean
        return NONE if mean is None else f"{mean:.{digits}f}"

    return Column(heading, text, detail=lambda line: _values(line.figures[name], f".{digits}f"))


def _published(metric: str) -> Column:
    def text(line: Line) -> str:
        if metric not in line.paper:
            return NONE
        difference = line.minus_paper(metric)
        return f"{line.paper[metric]:.2f} ({_absent(line) if difference is None else signed(difference)})"

    return Column(f"Paper {HEADINGS[metric]}", text, lambda line: line.paper.get(metric), digits=2)


def _cost() -> list[Column]:
    def column(heading: str, name: str) -> Column:
        def text(line: Line) -> str:
            mean = line.figures[name].mean
            return _absent(line) if mean is None else f"{mean:.{2 if mean < 1 else 1 if mean < 100 else 0}f}"

        return Column(heading, text, detail=lambda line: _values(line.figures[name], ".3g"))

    return [column("Minutes", "minutes"), column("Pairs/s", "pairs_per_s"), column("Peak MiB", "peak_mib")]


def _with_costs(lines: Sequence[Line]) -> list[Line]:
    """Without the lines of a start's stage 1, whose figures stand with the re-ranked ones."""
    return [line for line in lines if line.state != UNTRAINED or line.figures["stage1_r1"].n]


def _absent(line: Line) -> str:
    """What stands for a figure that is not there: never nothing, and never 0."""
    if line.state == UNTRAINED:  # what it has not, belongs to training
        return NONE
    return MISSING if line.state == FINISHED else line.state


def _plus_minus(figure: Spread, digits: int) -> str:
    return "" if figure.sd is None else f" ± {figure.sd:.{digits}f}"


def _values(figure: Spread, form: str) -> str:
    return "  ".join(format(value, form) for value in figure.values) if figure.n > 1 else ""
