"""The steps of a suite as a waterfall: each row's R@1 from that of the row before it, ours beside the paper's.

Both panels have as many percent points to the inch, so that a step is as long in one as it is large. `steps` has the
figure's numbers, `draw` only draws.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple

from experiments.plot_style import INK, STYLE, save
from reports.style import row_colours
from reports.tables import FINISHED, Line, telling_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, ROW_HEIGHT, MARGINS = 8.6, 0.36, 1.0  # inches
LABEL_WIDTH = 24  # characters
LEAST = 4.0  # percent points that an axis shows at least


class Stair(NamedTuple):
    """One row: where its bar begins (None: it is no step) and ends; None is what is not known."""

    row: str
    label: str
    begins: float | None
    ends: float | None
    state: str = FINISHED

    @property
    def gain(self) -> float | None:
        """Percent points; None where one of the two is not known."""
        return None if self.begins is None or self.ends is None else self.ends - self.begins

    def __str__(self) -> str:
        if self.ends is None:
            return f"{self.label}: {self.state}"
        return f"{self.label} {self.ends:.1f}" + ("" if self.gain is None else f" ({_signed(self.gain)})")


def _signed(gain: float) -> str:
    return f"{round(gain, 1) + 0.0:+.1f}"  # `-0.0` would claim a direction


def steps(lines: Sequence[Line], paper: bool = False) -> list[Stair]:
    """One stair for each row, ours or the paper's. A step is between the means over the seeds that both rows have."""
    names, by_name = telling_names(lines), {line.name: line for line in lines}
    found = []
    for line in lines:
        ends = _r1(line, paper)
        begins = _r1(by_name[line.versus], paper) if line.versus in by_name else None
        if not paper and ends is not None and begins is not None:
            begins = None if line.gain.mean is None else ends - line.gain.mean
        state = "not published" if paper else line.state
        found.append(Stair(line.name, names[line.name], begins, ends, state))
    return found


def _r1(line: Line, paper: bool) -> float | None:
    return line.paper.get("r1") if paper else line.figures["r1"].mean


def worth_drawing(lines: Sequence[Line]) -> bool:
    """Whether there is a step of ours."""
    return any(stair.gain is not None for stair in steps(lines))


def describe(lines: Sequence[Line]) -> str:
    """The figure in words, for whoever does not see it."""
    told, published = [f"Ours: {'; '.join(map(str, steps(lines)))}."], steps(lines, paper=True)
    if any(stair.ends is not None for stair in published):
        told.append(f"Published: {'; '.join(map(str, published))}.")
    return f"R@1 of each row in percent, and in brackets its gain over the row that it is a step from. {' '.join(told)}"


def draw(lines: Sequence[Line], ours: str, paper: str, path: Path, chance: float | None = None) -> None:
    """Write the picture to `path`. `ours` and `paper` say above their panels on which data each was measured."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    sides = [(ours, steps(lines)), (paper, steps(lines, paper=True))]
    sides = [side for side in sides if any(stair.ends is not None for stair in side[1])]
    span = max(LEAST, *(_reach(stairs)[1] - _reach(stairs)[0] for _, stairs in sides))
    colours = row_colours(line.name for line in lines)
    with rc_context(STYLE):
        picture = Figure(figsize=(WIDTH, MARGINS + ROW_HEIGHT * len(lines)), layout="constrained")
        axes = picture.subplots(1, len(sides), sharey=True, squeeze=False)[0]
        for axis, (title, stairs) in zip(axes, sides, strict=True):
            _draw_side(axis, stairs, colours)
            middle = sum(_reach(stairs)) / 2
            axis.set_xlim(middle - 0.62 * span, middle + 0.78 * span)  # room for the last one's number
            if chance is not None and axis.get_xlim()[0] <= chance:
                axis.axvline(chance, color=INK, linewidth=1, linestyle=":")
            axis.set_title(title, loc="left", weight="bold")
            axis.set_xlabel("test R@1, % (axis does not begin at 0)")
            axis.grid(axis="x")
        axes[0].set_yticks(range(len(lines)), [fill(stair.label, LABEL_WIDTH) for stair in sides[0][1]])
        axes[0].set_ylim(len(lines) - 0.4, -0.6)
        for axis in axes:
            axis.tick_params(left=False)
        save(picture, path)


def _draw_side(axis: "Axes", stairs: Sequence[Stair], colours: Mapping[str, str]) -> None:
    places = {stair.row: y for y, stair in enumerate(stairs)}
    for stair in stairs:
        y, colour = places[stair.row], colours[stair.row]
        if stair.ends is None:
            axis.text(
                0.02, y, stair.state, va="center", style="italic", color=INK, transform=axis.get_yaxis_transform()
            )
            continue
        if stair.begins is not None:
            axis.barh(y, stair.ends - stair.begins, left=stair.begins, height=0.56, color=colour, zorder=2)
            axis.plot([stair.begins] * 2, [y - 0.4, y + 0.4], color=INK, linewidth=0.8, linestyle=":", zorder=3)
        axis.plot(stair.ends, y, "o", color=colour, markersize=5, markeredgecolor="white", zorder=4)
        text = f"{stair.ends:.1f}" + ("" if stair.gain is None else f" ({_signed(stair.gain)})")
        right = max(stair.ends, stair.ends if stair.begins is None else stair.begins)
        axis.annotate(text, (right, y), xytext=(6, 0), textcoords="offset points", va="center")


def _reach(stairs: Sequence[Stair]) -> tuple[float, float]:
    known = [value for stair in stairs for value in (stair.begins, stair.ends) if value is not None]
    return min(known), max(known)
