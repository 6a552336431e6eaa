"""The step plot: each step's gain with its interval, the published gain, and what these runs could see.

Ten bars from 60.9 to 61.3 hide what a table of steps is about; this shows it. `gains` has the figure's numbers, `draw`
only draws.
"""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple

from experiments.plot_style import BAND, INK, STYLE, save
from reports.style import row_colours
from reports.tables import Line, telling_names
from reports.verdict import Judged

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, ROW_HEIGHT, MARGINS = 8.0, 0.38, 1.3  # inches
LABEL_WIDTH = 34  # characters
NO_COMMON = "no seed in common"
LEAST = 1.0  # percent points on either side of 0 that are always shown


class Gain(NamedTuple):
    """One step in percent points of R@1; None is what the runs do not tell."""

    label: str
    mean: float | None
    low: float | None
    high: float | None
    published: float | None
    could_see: float | None  # the smallest gain that as many runs would show four times of five
    words: str
    row: str = ""

    def __str__(self) -> str:
        if self.mean is None:
            return f"{self.label}: {self.words}"
        interval = "" if self.low is None or self.high is None else f" [{self.low:+.1f}, {self.high:+.1f}]"
        beside = "" if self.published is None else f", published {self.published:+.1f}"
        return f"{self.label}: {self.mean:+.1f}{interval}{beside}"


def gains(lines: Sequence[Line], judged: Judged) -> list[Gain]:
    """The figure's numbers, one per row that is compared with another."""
    names = telling_names(lines)
    found = []
    for line in lines:
        step = judged.steps.get(line.name)
        if step is None:
            continue
        r1, label = step.r1, f"{names[line.name]} from {names.get(step.r1.versus, step.r1.versus)}"
        words = step.wording or (NO_COMMON if line.n else line.state)
        found.append(Gain(label, r1.mean, r1.low, r1.high, r1.published, step.foresight.could_see, words, line.name))
    return found


def describe(figure: Sequence[Gain]) -> str:
    """The figure in words, for whoever does not see it."""
    return f"Gain of each step in percent points of R@1. {'; '.join(map(str, figure))}."


def draw(figure: Sequence[Gain], title: str, path: Path) -> None:
    """Write the picture to `path`."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    with rc_context(STYLE):
        picture = Figure(figsize=(WIDTH, MARGINS + ROW_HEIGHT * len(figure)), layout="constrained")
        axis = picture.subplots()
        colours = row_colours(gain.row for gain in figure)
        for y, gain in enumerate(figure):
            _draw(axis, y, gain, colours[gain.row])
        axis.axvline(0, color=INK, linewidth=1)
        axis.set_title(title, loc="left", weight="bold")
        axis.set_xlabel("gain in test R@1, percent points")
        axis.set_yticks(range(len(figure)), [fill(gain.label, LABEL_WIDTH) for gain in figure])
        axis.set_ylim(len(figure) - 0.4, -0.6)
        axis.set_xlim(*_limits(figure))
        axis.tick_params(left=False)
        axis.grid(axis="x")
        known = any(gain.low is not None for gain in figure)
        handles = [
            Line2D(
                [], [], color=INK, marker="o", label="ours, with its interval" if known else "ours, no interval yet"
            ),
            Line2D([], [], color=INK, marker="D", ls="", markerfacecolor="white", label="published"),
            Patch(color=BAND, label="too small for these runs to show"),
        ]
        shown = [True, any(each.published is not None for each in figure), any(each.could_see for each in figure)]
        picture.legend(
            handles=[handle for handle, there in zip(handles, shown, strict=True) if there],
            loc="outside lower center",
            ncols=3,
            frameon=False,
        )
        save(picture, path)


def _draw(axis: "Axes", y: int, gain: Gain, colour: str) -> None:
    if gain.could_see is not None:
        axis.barh(y, 2 * gain.could_see, left=-gain.could_see, height=0.7, color=BAND, zorder=1)
    if gain.low is not None and gain.high is not None:
        axis.plot([gain.low, gain.high], [y, y], color=colour, linewidth=2.5, solid_capstyle="butt", zorder=3)
    if gain.published is not None:
        axis.plot(gain.published, y, "D", color=INK, markerfacecolor="white", markersize=7, zorder=4)
    if gain.mean is not None:
        axis.plot(gain.mean, y, "o", color=colour, markersize=6, zorder=5)
    axis.annotate(
        gain.words, (1, y), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points", va="center"
    )


def _limits(figure: Sequence[Gain]) -> tuple[float, float]:
    """All marks, 0 and a point on either side; a band that reaches farther is cut."""
    marks = [
        value for gain in figure for value in (gain.mean, gain.low, gain.high, gain.published) if value is not None
    ]
    low, high = min([*marks, -LEAST]), max([*marks, LEAST])
    room = 0.06 * (high - low)
    return low - room, high + room
