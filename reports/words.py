"""How a figure is written in a cell: means, spreads, intervals, signs, and what stands where there is none."""

from reports.grid import NONE
from reports.tables import FINISHED, MISSING, NOT_ASKED, UNTRAINED, Line, Spread

# Of the last checkpoint and of the best one on test a run knows only if it was asked to test every epoch.
OPTIONAL = ("last_r1", "oracle_r1")


def spread(figure: Spread, digits: int = 1) -> str:
    """`71.3 ± 0.8 [70.2, 72.4]` of a figure in percent; `71.3` for a single value."""
    if figure.mean is None:
        return MISSING
    known = possible(figure)
    return plain_spread(figure, digits) + ("" if known is None else between(*known, f".{digits}f"))


def plain_spread(figure: Spread, digits: int = 1) -> str:
    """`71.3 ± 0.8`, without the interval."""
    return MISSING if figure.mean is None else f"{figure.mean:.{digits}f}" + plus_minus(figure, digits)


def possible(figure: Spread) -> tuple[float, float] | None:
    """The t-interval of a figure in percent; None if it reaches below 0 or above 100, where nothing can be."""
    interval = figure.interval
    return interval if interval is not None and interval[0] >= 0 and interval[1] <= 100 else None


def signed(value: float, digits: int = 1) -> str:
    """With its sign; zero is `+0.0`, since `-0.0` would claim a direction."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def between(low: float, high: float, form: str) -> str:
    """` [low, high]`."""
    return f" [{_zeroed(low, form)}, {_zeroed(high, form)}]"


def plus_minus(figure: Spread, digits: int) -> str:
    """` ± sd`; nothing of a single value."""
    return "" if figure.sd is None else f" ± {figure.sd:.{digits}f}"


def values(figure: Spread, form: str) -> str:
    """The individual values, for a format with room for them; nothing of a single one."""
    return "  ".join(format(value, form) for value in figure.values) if figure.n > 1 else ""


def p_value(p: float | None) -> str | None:
    """`0.012`, or `3e-05`."""
    return None if p is None else f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def absent(line: Line, figure: str = "") -> str:
    """What stands for a figure that is not there: never nothing, and never 0."""
    if line.state == UNTRAINED:  # what it has not, belongs to training
        return NONE
    if line.state != FINISHED:
        return line.state
    return NOT_ASKED if figure in OPTIONAL else MISSING


def _zeroed(value: float, form: str) -> str:
    return format(round(value, int(form[-2])) + 0.0, form)
