"""What a report comes to: three sentences, and the one table of six columns that stands before all others."""

from collections.abc import Iterator, Sequence

from experiments.boundaries import FEWEST
from experiments.decisions import EQUIVALENT, HIGHER, LOWER, NO_HEADROOM, OPPOSITE, SHOWN, TOO_FEW, UNDECIDED
from experiments.suite import HEADINGS, Key
from reports import sweeps
from reports.cells import Column, Report, difference
from reports.grid import NONE, Grid, grid_of
from reports.tables import UNTRAINED, Line, last_label_tells, telling_names
from reports.verdict import SHARE
from reports.words import absent, between, plain_spread, signed, spread, values

# How a sentence says what became of the paper's steps, in the order in which it says it.
SAID = {
    SHOWN: "shown",
    OPPOSITE: "the other way round",
    HIGHER: "higher",
    LOWER: "lower",
    EQUIVALENT: "no difference that matters",
    UNDECIDED: "undecided",
    NO_HEADROOM: "no headroom",
    TOO_FEW: "too few seeds",
}
MAIN = "Results"
FEW_NAMED = 4  # more rows than these are counted, not named


def summary(report: Report) -> list[str]:
    """The report in three sentences: what is decided, how it stands to paper and start, and on what it rests."""
    return [_decided(report), _beside(report), _basis(report)]


def main_grid(report: Report) -> Grid:
    """One line per row: seeds, R@1, and what it gained with its verdict; where nothing is compared, the other figures.

    Six columns at most. A row that did not finish says why.
    """
    if report.curves and (best := sweeps.grid(report.curves)) is not None:
        return best
    names = telling_names(report.all_lines)
    rest = list(report.lines[0].labels)[:-1] if last_label_tells(report.lines) else []
    setting: Column = Column(
        list(report.lines[0].labels)[-1],
        lambda line: names[line.name],
        detail=lambda line: ", ".join(filter(None, (line.labels[label] for label in rest))),
        numeric=False,
        names=True,
    )
    stepped = any(line.versus is not None for line in report.lines)
    columns = _of_steps(report) if stepped else _of_levels(report)
    return grid_of(
        f"{MAIN} on the test split, in percent", [setting, *columns], report.all_lines, [*_explained(report)]
    )


def at_chance(lines: Sequence[Line], chance: float | None) -> Iterator[str]:
    """A sentence if rows found hardly more than a random ranking would: less than twice as much."""
    known = {line.name: line.figures["r1"].mean for line in lines if line.figures["r1"].mean is not None}
    low = [row for row, mean in known.items() if chance is not None and mean is not None and mean < 2 * chance]
    if low and chance is not None:
        every = len(low) == len(known)
        who = "all rows" if every else ", ".join(low)
        end = "and rows cannot be compared" if every else "and what differs between them says nothing"
        yield f"R@1 of {who} is about chance ({chance:.3g}): nothing was learned there, {end}."


def _of_steps(report: Report) -> list[Column]:
    steps, names = report.judged.steps, telling_names(report.lines)

    def gain(line: Line) -> str:
        return (difference(steps[line.name].r1) if line.versus else None) or NONE

    def verdict(line: Line) -> str:
        if not line.n and line.state != UNTRAINED:
            return line.why
        step = steps.get(line.name)
        return NONE if step is None else step.wording or f"{names[line.versus or '']} has no such seed"

    def over(line: Line) -> str:
        return f"over {names[line.versus]}" if line.versus else ""

    columns = [
        Column("Seeds", _seeds),
        _r1(plain=True),
        Column(f"Gain [{SHARE} %]", gain, detail=over, bold=lambda line: _shown(report, line)),
    ]
    if any(line.paper_gain is not None for line in report.lines):
        columns.append(
            Column(
                "Paper's gain",
                lambda line: NONE if line.paper_gain is None else signed(line.paper_gain, 2),
            )
        )
    return [*columns, Column("Verdict", verdict, numeric=False)]


def _of_levels(report: Report) -> list[Column]:
    def start(line: Line) -> str:
        gain = report.over_start.get(line.name)
        if gain is None:
            return NONE
        return signed(gain.value) + ("" if gain.low is None or gain.high is None else _between(gain.low, gain.high))

    seeds: Column = Column("Seeds", lambda line: _seeds(line) if line.n or line.state == UNTRAINED else line.why)
    columns = [seeds, _r1(plain=False)]
    columns += [_figure(HEADINGS[name], name) for name in report.metrics if name != "r1"][-1:]
    if any("r1" in line.paper for line in report.lines):
        columns.append(Column("Paper R@1", lambda line: f"{line.paper['r1']:.2f}" if "r1" in line.paper else NONE))
    return [*columns, *([Column(f"Over start [{SHARE} %]", start)] if report.over_start else [])]


def _r1(plain: bool) -> Column:
    def text(line: Line) -> str:
        return (plain_spread if plain else spread)(line.figures["r1"]) if line.figures["r1"].n else NONE

    return Column(HEADINGS["r1"], text, detail=lambda line: values(line.figures["r1"], ".1f"))


def _figure(heading: str, name: str) -> Column:
    return Column(heading, lambda line: spread(line.figures[name]) if line.figures[name].n else absent(line, name))


def _between(low: float, high: float) -> str:
    return between(low, high, "+.1f")


def _seeds(line: Line) -> str:
    return NONE if line.state == UNTRAINED else str(line.n)


def _shown(report: Report, line: Line) -> bool:
    return line.name in report.judged.steps and report.judged.steps[line.name].verdict == SHOWN


def _explained(report: Report) -> Iterator[str]:
    if any(line.n > 1 for line in report.lines):
        yield "±: standard deviation over seeds."
    if any(_shown(report, line) for line in report.lines):
        yield "Bold: a gain that is shown."


def _decided(report: Report) -> str:
    names = telling_names(report.lines)
    if any(curve.sweep.compares for curve in report.curves):
        return _best_values(report)
    steps = report.judged.steps
    if not steps:
        reached = {line.name: line.figures["r1"].mean or 0.0 for line in report.lines if line.n}
        if not reached:
            return "No row has finished, so there is nothing to compare."
        best = max(reached, key=lambda row: reached[row])
        beside = ", and this suite names no steps that would decide whether that is more than chance"
        return f"Of {len(reached)} rows {names[best]} has the highest R@1, {reached[best]:.1f}{beside}."
    found: dict[str, list[str]] = {}
    for row, step in steps.items():
        found.setdefault(step.verdict, []).append(names[row])
    absent_rows = found.pop("", [])
    decided = [verdict for verdict in (SHOWN, OPPOSITE, HIGHER, LOWER, EQUIVALENT) if verdict in found]
    others = [verdict for verdict in SAID if verdict in found and verdict not in decided]
    parts = [f"{SAID[verdict]}: {_named(found[verdict])}" for verdict in (*decided, *others)]
    if absent_rows:
        parts.append(f"without runs: {_named(absent_rows)}")
    if not decided:
        wait = f" (a verdict takes {FEWEST} seeds of both rows)" if TOO_FEW in found else ""
        which = f"None of the {len(steps)} steps is" if len(steps) > 1 else "The one step is not"
        return f"{which} decided yet; {'; '.join(parts)}{wait}."
    many = sum(len(found[verdict]) for verdict in decided)
    which = f"{many} of the {len(steps)} steps {'are' if many > 1 else 'is'}" if len(steps) > 1 else "The one step is"
    return f"{which} decided; {'; '.join(parts)}."


def _best_values(report: Report) -> str:
    compared = [curve for curve in report.curves if curve.sweep.compares and len(curve.figures) > 1]
    known = [curve for curve in compared if curve.sweep.paper_best is not None and curve.best]
    if not known:
        return f"Of {len(report.curves)} sweeps none can be compared with the paper's best value yet."
    agrees = [curve.sweep.label for curve in known if curve.sweep.paper_best in curve.candidates]
    no_power = [curve for curve in known if len(curve.candidates) == len(curve.figures)]
    text = f"The paper's best value is among those that may be best here for {len(agrees)} of {len(known)} parameters"
    return text + (f", of which {len(no_power)} tell no value from any other." if no_power else ".")


def _either(values: Sequence[Key]) -> str:
    return " or ".join(map(str, values))


def _named(rows: Sequence[str]) -> str:
    between_names = " and " if any("," in row for row in rows) else ", "  # a name of several labels has commas itself
    return between_names.join(rows) if len(rows) <= FEW_NAMED else str(len(rows))


def _beside(report: Report) -> str:
    parts = []
    tops = [(curve.sweep.label, curve.top) for curve in report.curves if curve.sweep.compares and curve.top]
    if tops:
        parts.append(f"ours is best at {', '.join(f'{label} = {_either(top)}' for label, top in tops)}")
    if ranks := report.judged.ranks:
        told = ranks.told
        pairs = ranks.rows * (ranks.rows - 1) // 2
        text = f"The order of the {ranks.rows} rows agrees with the published one by Kendall's tau {ranks.tau:.2f}"
        if told is not None:
            text += (
                f" [{told.low:.2f}, {told.high:.2f}], with {told.as_paper} of {pairs} pairs told apart as published "
                f"and {told.opposite} the other way"
            )
        parts.append(text)
    elif differences := [line.minus_paper("r1") for line in report.lines if line.minus_paper("r1") is not None]:
        low, high = min(map(_float, differences)), max(map(_float, differences))
        span = signed(low) if signed(low) == signed(high) else f"{signed(low)} to {signed(high)}"
        parts.append(f"R@1 minus the published is {span} points")
    gains = list(report.over_start.values())
    if gains:
        low, high = min(gain.value for gain in gains), max(gain.value for gain in gains)
        beats = sum(bool(gain.beats) for gain in gains)
        who = "every row" if beats == len(gains) else f"{beats} of {len(gains)} rows"
        span = f"{signed(low)} to {signed(high)}" if len(gains) > 1 else signed(low)
        verb = "beat" if beats != len(gains) and beats != 1 else "beats"
        parts.append(f"{who} {verb} the untrained start it began with (differences: {span} points)")
    if not parts:
        return "Neither published values nor an evaluated start are there to compare with."
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _basis(report: Report) -> str:
    counts = [line.n for line in report.lines]
    low, high = min(counts), max(counts)
    seeds = f"{low}" if low == high else f"{low} to {high}"
    text = f"This rests on {seeds} seed{'s' * (seeds != '1')} of each row at profile {report.profile}"
    waiting = [line.name for line in report.lines if line.unfinished or not line.n]
    if waiting:
        text += f"; not finished: {_named(waiting)}{' rows' * (len(waiting) > FEW_NAMED)}"
    if any(line.paper for line in report.lines) and not report.comparable:
        text += f"; ours is not {report.paper_data}, so compare signs and order with the paper, not levels"
    return f"{text}."


def _float(value: float | None) -> float:
    return value or 0.0
