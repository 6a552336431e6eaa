"""A table of cells of text under headings, the same for every format: which text stands where, and what is the best."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

NONE = "-"  # nothing belongs here; what belongs here and is not there says missing or failed
L = TypeVar("L")  # what a line of the table is made of


class Cell(NamedTuple):
    """One cell; `detail` holds the individual values, for a format with room for them."""

    text: str
    best: bool
    detail: str


class Column(NamedTuple, Generic[L]):
    """How a column's cells are made. Where there is a `value`, the largest, as printed, is the best."""

    heading: str
    text: Callable[[L], str]
    value: Callable[[L], float | None] = lambda line: None
    detail: Callable[[L], str] = lambda line: ""
    digits: int = 1
    numeric: bool = True
    bold: Callable[[L], bool] = lambda line: False  # where what is shown was decided
    names: bool = False  # whether it tells the rows apart: their heading


class Grid(NamedTuple):
    """A table of cells under its headings, and what it comes to."""

    caption: str
    columns: Sequence[Column[Any]]
    rows: Sequence[Sequence[Cell]]
    said: Sequence[str] = ()

    @property
    def heading(self) -> str:
        """The caption's first words, which a list of contents has room for."""
        return self.caption.partition(":")[0].partition(" (")[0].partition(", ")[0]

    @property
    def header(self) -> int:
        """The column that tells the rows apart."""
        return next((place for place, column in enumerate(self.columns) if column.names), 0)


def grid_of(caption: str, columns: Sequence[Column[L]], lines: Sequence[L], said: Sequence[str] = ()) -> Grid:
    """The grid with a row per line."""
    best = [_best(column, lines) for column in columns]
    rows = [[_cell(column, line, top) for column, top in zip(columns, best, strict=True)] for line in lines]
    return Grid(caption, columns, rows, said)


def _cell(column: Column[L], line: L, best: float | None) -> Cell:
    shown = _printed(column, line)
    best_of_all = shown is not None and shown == best
    return Cell(column.text(line), best_of_all or column.bold(line), column.detail(line))


def _best(column: Column[L], lines: Sequence[L]) -> float | None:
    return max((value for line in lines if (value := _printed(column, line)) is not None), default=None)


def _printed(column: Column[L], line: L) -> float | None:
    """The value as far as it is printed: what reads the same is equally good."""
    value = column.value(line)
    return None if value is None else round(value, column.digits)
