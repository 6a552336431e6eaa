"""What `rasa status` shows of each run: a line of a table, or an object with the keys that docs/everyday.md lists."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

from experiments.plan import Recorded
from experiments.printing import row_of
from experiments.progress import duration
from experiments.reached import Reached

NONE = "-"


class Line(NamedTuple):
    """One run: as its directory records it, and what it has reached."""

    run: Recorded
    reached: Reached


class Column(NamedTuple):
    """A heading and what stands under it; `needed`: shown even if no run has anything there."""

    heading: str
    text: Callable[[Line], str]
    right: bool = False
    needed: bool = True


COLUMNS = (
    Column("RUN", lambda line: line.run.about.name),
    Column("PROFILE", lambda line: line.run.about.profile),
    Column("ID", lambda line: line.run.about.run_id),
    Column("STATE", lambda line: line.run.state),
    Column("VAL R@1", lambda line: _figure(line.reached.val_r1), right=True),
    Column("TEST R@1", lambda line: _figure(line.reached.test_r1), right=True),
    Column("EPOCH", lambda line: _epoch(line.reached), right=True),
    Column("LEFT", lambda line: _left(line), right=True, needed=False),
    Column("WHEN", lambda line: _local(line.reached.when)),
    Column("CHANGED BY -o", lambda line: _variant(line.run), needed=False),
    Column("WHY", lambda line: line.run.reason, needed=False),
)


def table(lines: Sequence[Line]) -> list[str]:
    """Headings and a line for each run, in columns as wide as they need; those that are empty throughout left out."""
    shown = [column for column in COLUMNS if column.needed or any(column.text(line) for line in lines)]
    cells = [[column.heading for column in shown], *([column.text(line) for column in shown] for line in lines)]
    widths = [max(len(row[number]) for row in cells) for number in range(len(shown))]
    aligned = [[_aligned(*cell) for cell in zip(row, widths, shown, strict=True)] for row in cells]
    return ["  ".join(row).rstrip() for row in aligned]


def document(line: Line) -> dict[str, Any]:
    """One run for programs. Null where there is nothing (yet)."""
    about, got = line.run.about, line.reached
    figures = {
        "val_r1": got.val_r1,
        "test_r1": got.test_r1,
        "selected_epoch": got.selected,
        "epoch": got.epoch,
        "epochs": got.epochs,
        "when": got.when or None,
        "seconds": got.seconds,
        "remaining_seconds": got.left,
        "failed_attempts": got.attempts,
        "weights": str(got.weights) if got.weights else None,
    }
    return row_of(about, line.run.state, line.run.reason, line.run.directory) | figures


def _left(line: Line) -> str:
    return "" if line.reached.left is None else f"about {duration(line.reached.left)}"


def _aligned(text: str, width: int, column: Column) -> str:
    return text.rjust(width) if column.right else text.ljust(width)


def _figure(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _epoch(got: Reached) -> str:
    return NONE if got.epochs is None else f"{got.epoch}/{got.epochs}"


def _variant(run: Recorded) -> str:
    return "" if run.about.untrained else run.about.variant  # a start's stands in its name


def _local(when: str) -> str:
    """`2026-01-31 13:00` in this machine's time, of an ISO time with its zone."""
    with suppress(ValueError):  # a record that someone has edited: shown as it is
        return f"{datetime.fromisoformat(when).astimezone():%Y-%m-%d %H:%M}"
    return when
