"""Cost against accuracy: what each row's training takes, and the R@1 that it reaches, one panel for each kind of cost.

`panels` has the figure's numbers, `draw` only draws.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from experiments.plot_style import INK, STYLE, save
from reports.style import row_colours, row_marks
from reports.tables import Line, telling_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT, LEGEND_HEIGHT = 8.6, 2.6, 0.22  # inches
COSTS = {"minutes": "minutes of a run", "tflop": "TFLOP of its training steps", "peak_mib": "peak memory, MiB"}


class Dot(NamedTuple):
    """One row: means over seeds, and each seed's (cost, R@1)."""

    row: str
    cost: float
    r1: float
    seeds: tuple[tuple[float, float], ...]


class Panel(NamedTuple):
    """One kind of cost, of the rows of which it is known; `without` are the finished ones of which it is not."""

    title: str
    dots: tuple[Dot, ...]
    without: tuple[str, ...]


def panels(lines: Sequence[Line]) -> list[Panel]:
    """The figure's numbers: a panel for each kind of cost that some finished row has."""
    found = []
    for name, title in COSTS.items():
        dots = tuple(dot for line in lines if (dot := _dot(line, name)) is not None)
        shown = {dot.row for dot in dots}
        if dots:
            without = tuple(line.name for line in lines if line.n and line.name not in shown)
            found.append(Panel(title, dots, without))
    return found


def _dot(line: Line, name: str) -> Dot | None:
    cost, r1 = line.figures[name], line.figures["r1"]
    both = sorted(cost.by_seed.keys() & r1.by_seed.keys())
    if not both or cost.mean is None or r1.mean is None:
        return None
    pairs = tuple((cost.by_seed[seed], r1.by_seed[seed]) for seed in both)
    return Dot(line.name, sum(x for x, _ in pairs) / len(pairs), sum(y for _, y in pairs) / len(pairs), pairs)


def describe(figure: Sequence[Panel], lines: Sequence[Line]) -> str:
    """The figure in words, for whoever does not see it."""
    names = telling_names(lines)
    told = []
    for panel in figure:
        dots = (f"{names[dot.row]} {_plain(dot.cost)} for R@1 {dot.r1:.1f}" for dot in panel.dots)
        lacking = f"; not recorded: {', '.join(names[row] for row in panel.without)}" if panel.without else ""
        told.append(f"{panel.title}: {', '.join(dots)}{lacking}")
    return f"Test R@1 in percent against what it costs. {'. '.join(told)}."


def draw(figure: Sequence[Panel], lines: Sequence[Line], title: str, path: Path, chance: float | None = None) -> None:
    """Write the picture to `path`."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    names = telling_names(lines)
    colours, marks = row_colours(names), row_marks(names)
    shown = [row for row in names if any(dot.row == row for panel in figure for dot in panel.dots)]
    with rc_context(STYLE):
        height = HEIGHT + 0.5 + LEGEND_HEIGHT * -(-len(shown) // 4)
        picture = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = picture.subplots(1, len(figure), sharey=True, squeeze=False)[0]
        for axis, panel in zip(axes, figure, strict=True):
            _draw_panel(axis, panel, colours, marks)
            if chance is not None:
                axis.axhline(chance, color=INK, linewidth=1, linestyle=":")
        axes[0].set_ylabel("test R@1, %")
        axes[0].set_ylim(0, 1.08 * max(y for panel in figure for dot in panel.dots for _, y in dot.seeds) or 100)
        picture.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=9)
        handles = [
            Line2D([], [], color=colours[row], marker=marks[row][0], ls="", markersize=6, label=names[row])
            for row in shown
        ]
        if any(len(dot.seeds) > 1 for panel in figure for dot in panel.dots):
            handles.append(Line2D([], [], color=INK, marker="o", ls="", markersize=3, alpha=0.4, label="single seeds"))
        if chance is not None:
            handles.append(Line2D([], [], color=INK, linewidth=1, linestyle=":", label=f"chance ({chance:.3g})"))
        picture.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
        save(picture, path)


def _draw_panel(axis: "Axes", panel: Panel, colours: Mapping[str, str], marks: Mapping[str, tuple[str, str]]) -> None:
    for dot in panel.dots:
        if len(dot.seeds) > 1:
            axis.plot(*zip(*dot.seeds, strict=True), "o", color=colours[dot.row], markersize=3, alpha=0.4)
        axis.plot(dot.cost, dot.r1, marks[dot.row][0], color=colours[dot.row], markersize=7, markeredgecolor="white")
    axis.set_xlabel(panel.title)
    axis.set_xlim(0, 1.08 * max(x for dot in panel.dots for x, _ in dot.seeds) or 1)
    axis.grid()
    if panel.without:
        rows = "row" if len(panel.without) == 1 else "rows"
        axis.set_title(f"not recorded of {len(panel.without)} {rows}", loc="right", style="italic")


def _plain(value: float) -> str:
    """Three digits, and no power of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
