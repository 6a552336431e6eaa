"""Test R@1 per row, ours beside the paper's: `bars` has the figure's numbers, `draw` only draws."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple

from experiments.plot_style import INK, QUIET, STYLE, save
from reports.style import MARKERS, row_colours
from reports.tables import FINISHED, KINDS, MISSING, UNTRAINED, Line, telling_names

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

WIDTH, ROW_HEIGHT, MARGINS = 8.0, 0.34, 1.25  # inches
LABEL_WIDTH = 24  # characters
KIND_COLOURS = ("#5716B1", "#057A86", "#C44E00")  # of the probe's kinds of words
UNSEEN = 50.0  # percent of wrong words that a coin would notice


class Bar(NamedTuple):
    """One row of the figure; accuracies in percent."""

    label: str
    row: str
    mean: float | None
    sd: float | None
    values: tuple[float, ...]
    paper: float | None
    state: str

    def __str__(self) -> str:
        ours = self.state if self.mean is None else f"{self.mean:.1f}"
        beside = "" if self.paper is None else f" (published {self.paper:.2f})"
        return f"{self.label} {ours}{beside}"


def bars(lines: Sequence[Line]) -> list[Bar]:
    """The figure's numbers, one bar per line."""
    names = telling_names(lines)
    return [_bar(line, names[line.name]) for line in lines]


def describe(figure: Sequence[Bar], chance: float | None) -> str:
    """The figure in words, for whoever does not see it."""
    beside = "" if chance is None else f" Chance is {chance:.3g}."
    return f"Test R@1 of each row in percent: {'; '.join(map(str, figure))}.{beside}"


def draw(figure: Sequence[Bar], ours: str, paper: str, path: Path, chance: float | None = None) -> None:
    """Write the picture to `path`: bars from 0, the published values on the same scale, and a line at chance.

    `ours` and `paper` say on which data each was measured.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        picture = Figure(figsize=(WIDTH, MARGINS + ROW_HEIGHT * len(figure)), layout="constrained")
        axis = picture.subplots()
        _frame(axis, figure, ours)
        colours = row_colours(bar.row for bar in figure)
        for y, bar in enumerate(figure):
            _draw_bar(axis, y, bar, QUIET if bar.state == UNTRAINED else colours[bar.row])
        if chance is not None:
            axis.axvline(chance, color=INK, linestyle=":", linewidth=1.2, zorder=4)
        axis.set_xlim(0, max(map(_reach, figure)) * 1.03 or 100)
        _columns(axis, figure)
        picture.legend(handles=_handles(figure, paper, chance), loc="outside lower center", ncols=3, frameon=False)
        save(picture, path)


def draw_probe(lines: Sequence[Line], title: str, path: Path) -> None:
    """Write the sensitivity probe's picture: per row how often a wrong word is noticed, and how far the ranks fall."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    with rc_context(STYLE):
        picture = Figure(figsize=(WIDTH, MARGINS + ROW_HEIGHT * len(lines)), layout="constrained")
        noticed, fallen = picture.subplots(1, 2, sharey=True)
        noticed.axvline(UNSEEN, color=INK, linestyle=":", linewidth=1.2)
        fallen.axvline(1, color=INK, linestyle=":", linewidth=1.2)
        for number, kind in enumerate(KINDS):
            colour, marker = KIND_COLOURS[number], MARKERS[number]
            for axis, name in ((noticed, "apart"), (fallen, "rank_factor")):
                for y, line in enumerate(lines):
                    figure, at = line.figures[f"{kind}_{name}"], y + 0.2 * (number - 1)
                    axis.plot(figure.values, [at] * figure.n, "o", color=colour, markersize=3, alpha=0.35)
                    if figure.mean is not None:
                        axis.plot(figure.mean, at, marker, color=colour, markersize=5)
        _frame(noticed, bars(lines), title)
        _frame(fallen, bars(lines), "")
        noticed.set_xlabel("wrong word noticed, % of queries")
        fallen.set_xlabel("rank of the first true image grows by this factor")
        handles: list[Artist] = [
            Line2D([], [], color=KIND_COLOURS[number], marker=MARKERS[number], ls="", label=f"{kind} word")
            for number, kind in enumerate(KINDS)
        ]
        handles.append(Line2D([], [], color=INK, marker="o", ls="", markersize=3, alpha=0.35, label="single seeds"))
        handles.append(Line2D([], [], color=INK, ls=":", lw=1.2, label="not seen: 50 %, factor 1"))
        picture.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
        save(picture, path)


def describe_probe(lines: Sequence[Line]) -> str:
    """The probe's picture in words."""
    names = telling_names(lines)
    rows = []
    for line in lines:
        seen = {kind: line.figures[f"{kind}_apart"].mean for kind in KINDS}
        told = ", ".join(f"{kind} {share:.0f}" for kind, share in seen.items() if share is not None)
        rows.append(f"{names[line.name]}: {told}")
    return f"Percent of queries in which a wrong word is noticed, where 50 is not seen. {'; '.join(rows)}."


def _bar(line: Line, name: str) -> Bar:
    r1 = line.figures["r1"]
    state = MISSING if line.state == FINISHED and not r1.n else line.state
    values = () if line.state == UNTRAINED else r1.values  # a bar alone: it is of no seed
    return Bar(name, line.name, r1.mean, r1.sd, values, line.paper.get("r1"), state)


def _draw_bar(axis: "Axes", y: int, bar: Bar, colour: str) -> None:
    if bar.paper is not None:
        axis.plot(bar.paper, y, "D", color=INK, markerfacecolor="white", markersize=6, zorder=5)
    if bar.mean is None:
        axis.text(0, y, f" {bar.state}", va="center", color=INK, style="italic")
        return
    axis.barh(y, bar.mean, height=0.66, color=colour)
    below = 0.0
    if bar.sd is not None:
        # Whisker and dots side by side: on one line the dots hide its ends.
        axis.errorbar(bar.mean, y - 0.13, xerr=bar.sd, color=INK, capsize=2.5, linewidth=1.2)
        below = 0.17
    dots = [y + below] * len(bar.values)
    axis.scatter(bar.values, dots, s=13, color="white", edgecolor=INK, linewidth=0.8, zorder=3)


def _columns(axis: "Axes", figure: Sequence[Bar]) -> None:
    """The numbers at the right edge, ours and the published ones each in a column."""
    published = any(bar.paper is not None for bar in figure)

    def put(y: float, across: int, text: str) -> None:
        axis.annotate(
            text,
            (1, y),
            xycoords=("axes fraction", "data"),
            xytext=(across, 0),
            textcoords="offset points",
            ha="right",
            va="center",
        )

    put(-0.85, 34, "ours")
    if published:
        put(-0.85, 90, "published")
    for y, bar in enumerate(figure):
        put(y, 34, "-" if bar.mean is None else f"{bar.mean:.1f}")
        if bar.paper is not None:
            put(y, 90, f"{bar.paper:.2f}")


def _reach(bar: Bar) -> float:
    """Where the last of a bar's marks ends."""
    return max((bar.mean or 0) + (bar.sd or 0), *bar.values, bar.paper or 0, 0)


def _frame(axis: "Axes", figure: Sequence[Bar], title: str) -> None:
    axis.set_title(title, loc="left", weight="bold")
    axis.set_xlabel("test R@1, %")
    axis.set_yticks(range(len(figure)), [fill(bar.label, LABEL_WIDTH) for bar in figure])
    axis.set_ylim(len(figure) - 0.4, -0.6)
    axis.tick_params(left=False)
    axis.grid(axis="x")


def _handles(figure: Sequence[Bar], paper: str, chance: float | None) -> list["Artist"]:
    from matplotlib.lines import Line2D

    handles: list[Artist] = []
    if any(bar.values for bar in figure):
        handles.append(
            Line2D([], [], label="one seed", marker="o", ls="", markersize=4, markerfacecolor="white", color=INK)
        )
    if any(bar.sd is not None for bar in figure):
        handles.append(Line2D([], [], color=INK, linewidth=1.2, label="± standard deviation"))
    if any(bar.paper is not None for bar in figure):
        handles.append(Line2D([], [], label=paper, marker="D", ls="", markersize=6, markerfacecolor="white", color=INK))
    if chance is not None:
        handles.append(Line2D([], [], color=INK, linestyle=":", linewidth=1.2, label=f"chance ({chance:.3g})"))
    return handles
