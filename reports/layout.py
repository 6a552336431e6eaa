"""The paper's own table with this project's rows under its lines: every competitor, and what ours reached beside it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reports.grid import NONE, Column, Grid, grid_of
from reports.published import Entry, PublishedTable, heading
from reports.tables import FINISHED, MISSING, UNTRAINED, Line, Spread
from reports.words import spread

Place = tuple[str, str]  # a data set and a figure on it
PUBLISHED, OURS, REFERENCE = "published", "ours", "reference"
DIGITS = 1  # of ours, as in the other tables


@dataclass(frozen=True)
class Figure:
    """What stands at one place; without a `value` it is not among those of which the best is bold."""

    text: str
    value: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Shown:
    """A line as it is drawn; one of several data sets has figures on each."""

    labels: Mapping[str, str]
    by: str
    seeds: str
    figures: Mapping[Place, Figure]

    def at(self, dataset: str | None, metric: str) -> tuple[Place, Figure]:
        """The figure on the data set, or on the line's own if none is named; a dash where there is none."""
        place = (dataset or next(iter(self.figures), ("", ""))[0], metric)
        return place, self.figures.get(place, Figure(NONE))


def as_published(
    table: PublishedTable, lines: Sequence[Line] = (), comparable: bool = False, starts: Sequence[Line] = ()
) -> Grid:
    """The paper's table in its layout, the best of each data set and figure in bold; with `lines`, each under its own.

    Ours are never bold: no verdict is possible, since the published values come without a spread. Whether they are
    `comparable`, that is, measured on the paper's data, is said. A system that was measured on several data sets is one
    line, as in Tables 5 and 6. Rows that the paper does not have come last, but for the untrained weights of a table of
    one data set, which come first.
    """
    systems, own, shown = _systems(table), {line.name: line for line in lines}, list[Shown]()
    for line in starts if len(table.datasets) == 1 else ():
        shown.append(_beside(line, table))
    for entries in systems:
        shown.append(_published(entries))
        ours = {entry.dataset: own.pop(entry.row) for entry in entries if entry.row in own}
        if ours:
            shown.append(_ours(entries[0].labels, ours, table))
    left_out = list(own) if len(table.datasets) > 1 else []  # on which of them it was measured is not known
    if not left_out:
        shown += [_beside(line, table) for line in own.values()]
    wide = len(systems) < len(table.entries)
    columns = [*_labels(table), *(_whose() if lines else []), *_figures(table, shown, wide)]
    caption = f"As published{', with ours' if lines else ''}: {table.title}"
    return grid_of(caption, columns, shown, [*_said(bool(lines), comparable, left_out), *_comments(table)])


def competitors(table: PublishedTable, lines: Sequence[Line]) -> Iterator[dict[str, object]]:
    """The lines of the paper that are no rows of ours, as records for a CSV in which these have theirs."""
    names = {line.name for line in lines}
    for entry in table.entries:
        if entry.row not in names:
            record: dict[str, object] = {heading(label): text for label, text in entry.labels.items() if text}
            record |= {"Dataset": entry.dataset, "state": PUBLISHED}
            yield record | {f"paper_{metric}": value for metric, value in entry.values.items()}


def _systems(table: PublishedTable) -> list[list[Entry]]:
    """The entries by system: those of one have all labels in common, and a data set each."""
    systems: dict[tuple[str, ...], list[Entry]] = {}
    for entry in table.entries:
        systems.setdefault(tuple(entry.labels.values()), []).append(entry)
    return list(systems.values())


def _published(entries: Sequence[Entry]) -> Shown:
    figures = {
        (entry.dataset, metric): Figure(text, entry.values[metric])
        for entry in entries
        for metric, text in entry.printed.items()
    }
    return Shown(entries[0].labels, PUBLISHED, NONE, figures)


def _beside(line: Line, table: PublishedTable) -> Shown:
    """A line of ours that is none of the paper's, on its first data set."""
    labels = {_name(table): list(line.labels.values())[-1] or line.name}
    return _ours(labels, {table.datasets[0]: line}, table)


def _ours(labels: Mapping[str, str], lines: Mapping[str, Line], table: PublishedTable) -> Shown:
    """A line of ours under the labels of the paper's; `lines` are by data set."""
    seeds = {dataset: _seeds(line) for dataset, line in lines.items()}
    held = (
        [f"{dataset}: {text}" for dataset, text in seeds.items()] if len(set(seeds.values())) > 1 else [*seeds.values()]
    )
    figures = {
        (dataset, metric): _figure(line, metric)
        for dataset, line in lines.items()
        for metric in table.metrics
        if metric in line.figures
    }
    return Shown({**labels, REFERENCE: ""}, OURS, "; ".join(dict.fromkeys(held)), figures)


def _seeds(line: Line) -> str:
    if line.state == UNTRAINED:
        return NONE
    return f"n = {line.n}" if line.n else line.state


def _figure(line: Line, metric: str) -> Figure:
    figure: Spread = line.figures[metric]
    if figure.mean is None:
        return Figure({FINISHED: MISSING, UNTRAINED: NONE}.get(line.state, line.state))
    values = "  ".join(f"{value:.{DIGITS}f}" for value in figure.values) if figure.n > 1 else ""
    return Figure(spread(figure, DIGITS), None, values)


def _labels(table: PublishedTable) -> list[Column[Shown]]:
    def column(label: str) -> Column[Shown]:
        telling = label == _name(table)
        return Column(heading(label), lambda line: line.labels.get(label, ""), numeric=False, names=telling)

    return [column(label) for label in table.labels]


def _whose() -> list[Column[Shown]]:
    return [Column("By", lambda line: line.by, numeric=False), Column("Seeds", lambda line: line.seeds)]


def _figures(table: PublishedTable, shown: Sequence[Shown], wide: bool) -> list[Column[Shown]]:
    """A column per figure, or per data set and figure if the table is `wide`; the best is that of its data set."""
    best: dict[Place, float] = {}
    for line in shown:
        for place, figure in line.figures.items():
            if figure.value is not None:
                best[place] = max(figure.value, best.get(place, figure.value))

    def column(dataset: str | None, metric: str) -> Column[Shown]:
        def marked(line: Shown) -> float | None:
            place, figure = line.at(dataset, metric)
            return 1.0 if figure.value is not None and figure.value == best[place] else None

        def text(line: Shown) -> str:
            return line.at(dataset, metric)[1].text

        def detail(line: Shown) -> str:
            return line.at(dataset, metric)[1].detail

        name = table.headings[metric]
        return Column(f"{dataset} {name}" if dataset else name, text, marked, detail)

    datasets: Sequence[str | None] = table.datasets if wide else (None,)
    return [column(dataset, metric) for dataset in datasets for metric in table.metrics]


def _name(table: PublishedTable) -> str:
    """The label column that tells one system from another."""
    return [label for label in table.labels if label != REFERENCE][-1]


def _said(ours: bool, comparable: bool, left_out: Sequence[str]) -> Iterator[str]:
    if ours and comparable:
        yield (
            "Bold: the best published value of a column and data set. Ours do not compete, since the published values "
            "come without a spread: no verdict is possible."
        )
    elif ours:
        yield (
            "Bold: the best published value of a column and data set. Ours were measured on other data and do not "
            "compete."
        )
    if left_out:
        yield f"No lines of the paper's table, which is of several data sets: {', '.join(left_out)}."


def _comments(table: PublishedTable) -> Iterator[str]:
    """What in the paper contradicts a line that is kept as printed; once for a system of several data sets."""
    found = {(entry.labels[_name(table)], entry.comment): None for entry in table.entries if entry.comment}
    return (f"{name}: {comment}." for name, comment in found)
