"""One look for all figures of a report: the same colour and the same mark for the same row, wherever it is drawn.

Colours, letters and how a file is written are experiments/plot_style.py's, which studies use too.
"""

from collections.abc import Iterable

from experiments.plot_style import PALETTE
from experiments.spec import load_suite

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
FIRST = "table4"  # the suite whose rows have their colours by name, in any figure and with any other rows


def row_colours(rows: Iterable[str]) -> dict[str, str]:
    """A colour by row, e.g. `{"m-rtd": "#D86302"}`; name all rows of the suite, also those that a figure leaves out.

    Rows of Table 4 always have the same one. Others get those that are left, in their order; with more rows than
    colours these begin again, and `row_marks` tells them apart.
    """
    return {row: PALETTE[place % len(PALETTE)] for row, place in _places(rows).items()}


def row_marks(rows: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A marker and a line's dashes by row, for whoever sees no colours; with these no two of 70 rows look alike."""
    return {row: (MARKERS[place % len(MARKERS)], DASHES[place % len(DASHES)]) for row, place in _places(rows).items()}


def _places(rows: Iterable[str]) -> dict[str, int]:
    fixed = {row.name: place for place, row in enumerate(load_suite(FIRST).rows)}
    named = list(dict.fromkeys(rows))
    taken = {fixed[row] for row in named if row in fixed}
    free = (place for place in range(len(fixed) + len(named)) if place not in taken)
    return {row: fixed[row] if row in fixed else next(free) for row in named}
