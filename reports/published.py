"""The paper's own tables, every line of Tables 1 to 8, as they stand in reports/paper/*.csv.

A file has one record per line and data set of the printed table: label columns (the last of them `dataset`, on which
the figures were measured), `row` (the row of this project's suite of the same name that is this system; empty for a
competitor), the figures in percent with the decimals that are printed (empty: not reported), and `comment` (what in the
paper contradicts what is printed, which is kept). Figure 4 has no file: the paper prints no numbers for its points.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from experiments.suite import HEADINGS
from experiments.wording import did_you_mean
from rasa.errors import SpecError

PAPER = "Bai et al., RaSa, IJCAI 2023"
# The captions that the tables have in the paper.
TITLES = {
    "table1": "Comparison with other methods on CUHK-PEDES",
    "table2": "Comparison with other methods on ICFG-PEDES",
    "table3": "Comparison with other methods on RSTPReid",
    "table4": "Comparison of RaSa with different settings on CUHK-PEDES",
    "table5": "Results of coarse-grained retrieval on Flickr30K and COCO",
    "table6": "Results of fine-grained retrieval on CUB and Flowers",
    "table7": "Comparison with other methods on domain generalization task (C: CUHK-PEDES, I: ICFG-PEDES)",
    "table8": "Comparison with other methods on CUHK-PEDES, with CLIP and TCL as backbones of RaSa",
}
# Appendix A.1 and A.3: by which sizes a test split is known to be the published one.
TEST_SPLITS = {
    "CUHK-PEDES": {"images": 3074, "captions": 6156},
    "ICFG-PEDES": {"images": 19848, "captions": 19848},
    "RSTPReid": {"images": 1000, "captions": 2000},  # 200 identities, 5 images of each, 2 captions of each image
    "Flickr30K": {"images": 1000},
    "COCO": {"images": 5000},
    "CUB": {"identities": 50},
    "Flowers": {"identities": 20},
}
DATASET, ROW, COMMENT = "dataset", "row", "comment"
NUMBER = re.compile(r"\d{1,3}\.\d{1,2}", re.ASCII)


@dataclass(frozen=True)
class Entry:
    """One line of a printed table, on one data set."""

    labels: Mapping[str, str]  # by label column, without the data set
    dataset: str
    row: str  # of the suite; empty: a system that is not this project's
    values: Mapping[str, float]  # percent, by figure; one that is not reported is not there
    printed: Mapping[str, str]  # the same, as the paper prints them
    comment: str


@dataclass(frozen=True)
class PublishedTable:
    """A printed table; `metrics` are its figures in their order."""

    name: str
    title: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    entries: tuple[Entry, ...]

    @property
    def source(self) -> str:
        """Where it stands."""
        return f"{PAPER}, Table {self.name.removeprefix('table')}"

    @property
    def headings(self) -> dict[str, str]:
        """The figures' headings, with IR before those of one direction where the table has both."""
        both = any(metric.startswith("tr_") for metric in self.metrics)
        return {metric: "IR " * (both and not metric.startswith("tr_")) + HEADINGS[metric] for metric in self.metrics}

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets of its figures, in their order."""
        return tuple(dict.fromkeys(entry.dataset for entry in self.entries))


def published_names() -> list[str]:
    """`table1` to `table8`."""
    return list(TITLES)


def load_published(name: str) -> PublishedTable:
    """The paper's table of that name. Raises SpecError, with the nearest names, if there is none."""
    if name not in TITLES:
        raise SpecError(f"the paper has no table {name!r}{did_you_mean(name, TITLES)}")
    text = (files("reports") / "paper" / f"{name}.csv").read_text(encoding="utf-8")
    return parse(text, name, f"reports/paper/{name}.csv")


def parse(text: str, name: str, shown: str) -> PublishedTable:
    """The table that a CSV of the layout above holds. Raises SpecError naming `shown`, the line and the column."""
    try:
        lines = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise SpecError(f"{shown}: no CSV ({error})") from error
    labels, metrics = _columns(lines[0] if lines else [], shown)
    header = [*labels, DATASET, ROW, *metrics, COMMENT]
    entries = []
    for number, cells in enumerate(lines[1:], 2):
        where = f"{shown}, line {number}"
        if len(cells) != len(header):
            raise SpecError(f"{where}: {len(cells)} cells under {len(header)} headings")
        entries.append(_entry(dict(zip(header, cells, strict=True)), labels, metrics, where))
    if not entries:
        raise SpecError(f"{shown}: no line under the headings")
    _refuse_twice([(entry.dataset, *entry.labels.values()) for entry in entries], shown, "the line")
    _refuse_twice([(entry.row,) for entry in entries if entry.row], shown, "the row")
    return PublishedTable(name, TITLES.get(name, name), labels, metrics, tuple(entries))


def records(table: PublishedTable) -> Iterator[dict[str, object]]:
    """One record per entry, for a CSV: labels under their headings, figures as numbers, what is not there left out."""
    for entry in table.entries:
        record: dict[str, object] = {heading(label): text for label, text in entry.labels.items() if text}
        record |= {"dataset": entry.dataset} | ({"row": entry.row} if entry.row else {})
        record |= {f"paper_{metric}": value for metric, value in entry.values.items()}
        yield record | ({"comment": entry.comment} if entry.comment else {})


def heading(label: str) -> str:
    """A label column's heading."""
    return label.capitalize()


def _columns(header: Sequence[str], shown: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The label columns and the figures that the header names."""
    place = header.index(DATASET) if DATASET in header else 0
    labels, metrics = tuple(header[:place]), tuple(header[place + 2 : -1])
    as_expected = [*labels, DATASET, ROW, *metrics, COMMENT] == list(header) and len(set(header)) == len(header)
    if not (labels and metrics and as_expected):
        raise SpecError(f"{shown}: the columns must be labels, {DATASET}, {ROW}, figures, {COMMENT}, each once")
    for metric in metrics:
        if metric not in HEADINGS:
            raise SpecError(f"{shown}: no figure {metric!r}{did_you_mean(metric, HEADINGS)}")
    return labels, metrics


def _entry(cells: Mapping[str, str], labels: Sequence[str], metrics: Sequence[str], where: str) -> Entry:
    for column, cell in cells.items():
        if cell != cell.strip():
            raise SpecError(f"{where}: {column}: {cell!r} has a space at an end")
    if cells[DATASET] not in TEST_SPLITS:
        raise SpecError(
            f"{where}: {DATASET}: no data set {cells[DATASET]!r}{did_you_mean(cells[DATASET], TEST_SPLITS)}"
        )
    printed = {metric: cells[metric] for metric in metrics if cells[metric]}
    return Entry(
        labels={label: cells[label] for label in labels},
        dataset=cells[DATASET],
        row=cells[ROW],
        values={metric: _percent(text, f"{where}: {metric}") for metric, text in printed.items()},
        printed=printed,
        comment=cells[COMMENT],
    )


def _percent(text: str, where: str) -> float:
    # Not float() alone: it also takes nan, 1e1 and 1_0, which no table prints.
    if not NUMBER.fullmatch(text) or float(text) > 100:
        raise SpecError(f"{where}: {text!r} is not a percentage")
    return float(text)


def _refuse_twice(names: Sequence[tuple[str, ...]], shown: str, what: str) -> None:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise SpecError(f"{shown}: {what} {', '.join(filter(None, name))} is there twice")
