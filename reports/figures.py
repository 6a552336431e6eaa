"""Test R@1 per row, ours beside the paper's: `bars` has the figure's numbers, `draw` only draws."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple

from experiments.plot_style import DPI, INK, PALETTE, STYLE
from reports.tables import FINISHED, KINDS, MISSING, UNTRAINED, Line, telling_names

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

WIDTH, ROW_HEIGHT, MARGINS = 8.0, 0.34, 1.25  # inches
LABEL_WIDTH, TITLE_WIDTH = 24, 38  # characters
SPAN = 2.0  # percent points that the paper's axis shows at least, or values that are almost equal look far apart


class Bar(NamedTuple):
    """One row of the figure; accuracies in percent."""

    label: str
    group: str
    mean: float | None
    sd: float | None
    values: tuple[float, ...]
    paper: float | None
    state: str


def bars(lines: Sequence[Line]) -> list[Bar]:
    """The figure's numbers, one bar per line; the first of several label columns groups them."""
    names = telling_names(lines)
    return [_bar(line, names[line.name]) for line in lines]


def draw(figure: Sequence[Bar], ours: str, paper: str, path: Path) -> None:
    """Write the picture to `path`. `ours` and `paper` say above their panels on which data each was measured."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    published = any(bar.paper is not None for bar in figure)
    ratios = [1.5, 1] if published else [1]
    with rc_context(STYLE):
        picture = Figure(figsize=(WIDTH, MARGINS + ROW_HEIGHT * len(figure)), layout="constrained")
        axes = picture.subplots(1, len(ratios), sharey=True, squeeze=False, width_ratios=ratios)[0]
        colours = _colours(figure)
        _draw_ours(axes[0], figure, colours, ours)
        if published:
            _draw_paper(axes[1], figure, colours, fill(paper, TITLE_WIDTH))
        picture.legend(handles=_handles(figure, colours), loc="outside lower center", ncols=6, frameon=False)
        picture.savefig(path, dpi=DPI)


def draw_probe(lines: Sequence[Line], title: str, path: Path) -> None:
    """Write the sensitivity probe's picture: per row how often a wrong word is noticed, and how far the ranks fall."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    with rc_context(STYLE):
        picture = Figure(figsize=(WIDTH, MARGINS + ROW_HEIGHT * len(lines)), layout="constrained")
        noticed, fallen = picture.subplots(1, 2, sharey=True)
        for number, kind in enumerate(KINDS):
            for axis, name in ((noticed, "apart"), (fallen, "rank_factor")):
                for y, line in enumerate(lines):
                    figure, at = line.figures[f"{kind}_{name}"], y + 0.2 * (number - 1)
                    axis.plot(figure.values, [at] * figure.n, "o", color=PALETTE[number], markersize=3, alpha=0.35)
                    if figure.mean is not None:
                        axis.plot(figure.mean, at, "D", color=PALETTE[number], markersize=5)
        _frame(noticed, bars(lines), title)
        _frame(fallen, bars(lines), "")
        noticed.set_xlabel("wrong word noticed, % of queries (50: not seen)")
        fallen.set_xlabel("rank of the first true image grows by this factor")
        handles: list[Artist] = [
            Line2D([], [], color=PALETTE[number], marker="D", ls="", label=f"{kind} word")
            for number, kind in enumerate(KINDS)
        ]
        handles.append(Line2D([], [], color=INK, marker="o", ls="", markersize=3, alpha=0.35, label="single seeds"))
        picture.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
        picture.savefig(path, dpi=DPI)


def _bar(line: Line, name: str) -> Bar:
    labels = list(line.labels.values())
    group = labels[0] if len(labels) > 1 else ""
    r1 = line.figures["r1"]
    state = MISSING if line.state == FINISHED and not r1.n else line.state
    values = () if line.state == UNTRAINED else r1.values  # a bar alone: it is of no seed
    return Bar(name, group, r1.mean, r1.sd, values, line.paper.get("r1"), state)


def _colours(figure: Sequence[Bar]) -> dict[str, str]:
    groups = list(dict.fromkeys(bar.group for bar in figure))
    return {group: PALETTE[number % len(PALETTE)] for number, group in enumerate(groups)}


def _draw_ours(axis: "Axes", figure: Sequence[Bar], colours: dict[str, str], title: str) -> None:
    _frame(axis, figure, title)
    for y, bar in enumerate(figure):
        if bar.mean is None:
            axis.text(0, y, f" {bar.state}", va="center", color=INK, style="italic")
            continue
        axis.barh(y, bar.mean, height=0.66, color=colours[bar.group])
        below = 0.0
        if bar.sd is not None:
            # Whisker and dots side by side: on one line the dots hide its ends.
            axis.errorbar(bar.mean, y - 0.13, xerr=bar.sd, color=INK, capsize=2.5, linewidth=1.2)
            below = 0.17
        dots = [y + below] * len(bar.values)
        axis.scatter(bar.values, dots, s=13, color="white", edgecolor=INK, linewidth=0.8, zorder=3)
        _value(axis, _reach(bar), y, f"{bar.mean:.1f}")
    axis.set_xlim(0, max(map(_reach, figure)) * 1.15 or 100)


def _draw_paper(axis: "Axes", figure: Sequence[Bar], colours: dict[str, str], title: str) -> None:
    _frame(axis, figure, title)
    known = [(y, bar, bar.paper) for y, bar in enumerate(figure) if bar.paper is not None]
    for y, bar, paper in known:
        axis.scatter(paper, y, s=42, marker="D", color=colours[bar.group], edgecolor=INK, linewidth=0.8, zorder=3)
        _value(axis, paper, y, f"{paper:.2f}")
    values = [paper for _, _, paper in known]
    reach = max(max(values) - min(values), SPAN)
    axis.set_xlabel("test R@1, % (axis does not begin at 0)")
    # Markers have no foot, so this axis need not begin at 0: the paper's last steps are a few tenths of a point.
    axis.set_xlim(min(values) - 0.1 * reach, max(values) + 0.35 * reach)


def _reach(bar: Bar) -> float:
    """Where the last of a bar's marks ends."""
    return max((bar.mean or 0) + (bar.sd or 0), *bar.values, 0)


def _frame(axis: "Axes", figure: Sequence[Bar], title: str) -> None:
    axis.set_title(title, loc="left", weight="bold")
    axis.set_xlabel("test R@1, %")
    axis.set_yticks(range(len(figure)), [fill(bar.label, LABEL_WIDTH) for bar in figure])
    axis.set_ylim(len(figure) - 0.4, -0.6)
    axis.tick_params(left=False)
    axis.grid(axis="x")


def _value(axis: "Axes", x: float, y: float, text: str) -> None:
    axis.annotate(text, (x, y), xytext=(6, 0), textcoords="offset points", va="center")


def _handles(figure: Sequence[Bar], colours: dict[str, str]) -> list["Artist"]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = [Patch(color=colour, label=group) for group, colour in colours.items() if group]
    if any(bar.values for bar in figure):
        handles.append(
            Line2D([], [], label="one seed", marker="o", ls="", markersize=4, markerfacecolor="white", color=INK)
        )
    if any(bar.sd is not None for bar in figure):
        handles.append(Line2D([], [], color=INK, linewidth=1.2, label="± standard deviation"))
    if any(bar.paper is not None for bar in figure):
        handles.append(
            Line2D([], [], label="published", marker="D", ls="", markersize=5, markerfacecolor="white", color=INK)
        )
    return handles
