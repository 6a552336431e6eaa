"""Learning curves: losses, validation R@1 and what the generator does, over the epochs, mean and spread over seeds.

`panels` has the figure's numbers, `draw` only draws. Rows stand in the same panel, on the same axes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple

from experiments.curves import Windows, averaged
from experiments.plot_style import INK, STYLE, save
from experiments.rundir import Point
from reports.style import row_colours, row_marks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Points = Mapping[tuple[str, int], Sequence[Point]]  # what a run reported, by row and seed
COLUMNS = 3
WIDTH, PANEL_HEIGHT, LEGEND_HEIGHT = 8.6, 2.15, 0.22  # inches
FEWEST = 0.5  # share of a run's windows that must be known
ALPHA = 0.18  # of the band


class Quantity(NamedTuple):
    """One figure of a run over time: how its record calls it, and how a reader does."""

    group: str
    name: str
    title: str


LEARNING = (
    Quantity("val", "r1", "validation R@1, %"),
    Quantity("train", "loss_cl", "loss of CL"),
    Quantity("train", "loss_itc", "loss of ITC"),
    Quantity("train", "loss_itm", "loss of ITM"),
    Quantity("train", "loss_prd", "loss of PRD"),
    Quantity("train", "loss_mlm", "loss of MLM"),
    Quantity("train", "loss_rtd", "loss of RTD"),
)
GENERATOR = (
    Quantity("val", "rtd_entropy", "entropy of the generator, nats"),
    Quantity("val", "rtd_base", "words replaced, % of all"),
    Quantity("val", "rtd_synonyms", "of these, the same in meaning, %"),
    Quantity("val", "rtd_auc", "AUC of the detector, %"),
)


GUESSED = {"rtd_auc": 50.0}  # what a detector that guesses reaches


class Curve(NamedTuple):
    """One row's, at rising epochs; `sd` is None where one seed alone has a value. `seeds`: the most at any epoch."""

    row: str
    epochs: tuple[float, ...]
    mean: tuple[float, ...]
    sd: tuple[float | None, ...]
    seeds: int


class Panel(NamedTuple):
    """One quantity of all rows that have it; `chance` is what a model that has learned nothing reaches."""

    title: str
    curves: tuple[Curve, ...]
    chance: float | None = None


def panels(
    points: Points, rows: Sequence[str], quantities: Sequence[Quantity], chances: Mapping[str, float] = {}
) -> list[Panel]:
    """The figure's numbers: a panel for each quantity that some run has; `chances` by a quantity's name."""
    found, runs = [], dict[str, list[_Run]]()
    for (row, _), of_run in points.items():
        runs.setdefault(row, []).append(_Run(Windows.of(of_run), list(averaged(of_run))))
    for quantity in quantities:
        curves = tuple(curve for row in rows if (curve := _curve(row, runs.get(row, []), quantity)) is not None)
        if curves:
            found.append(Panel(quantity.title, curves, chances.get(quantity.name)))
    return found


class _Run(NamedTuple):
    """What one run reported: how its steps are averaged, and what comes of it."""

    windows: Windows | None
    points: Sequence[Point]


def _curve(row: str, runs: Sequence[_Run], quantity: Quantity) -> Curve | None:
    seeds = [dict(_series(run, quantity)) for run in runs]
    epochs = sorted({epoch for series in seeds for epoch in series})
    if not epochs:
        return None
    values = [[series[epoch] for series in seeds if epoch in series] for epoch in epochs]
    spread = tuple(stdev(each) if len(each) > 1 else None for each in values)
    return Curve(row, tuple(epochs), tuple(map(fmean, values)), spread, max(map(len, values)))


def _series(run: _Run, quantity: Quantity) -> Iterator[tuple[float, float]]:
    """(epochs passed, value) of one run; none of the losses of a run of which too few steps are known."""
    windows = run.windows
    of_group = [point for point in run.points if point.group == quantity.group]
    if windows is None or (quantity.group == "train" and len(of_group) < FEWEST * windows.total):
        return
    for point in of_group:
        if math.isfinite(value := point.values.get(quantity.name, math.nan)):
            yield windows.middle(point.step) if quantity.group == "train" else float(point.values["epoch"]), value


def describe(figure: Sequence[Panel], names: Mapping[str, str]) -> str:
    """Each panel's last values in words, for whoever does not see it."""
    told = []
    for panel in figure:
        ends = (f"{names[curve.row]} {curve.mean[-1]:.3g} ({_seeds(curve)})" for curve in panel.curves)
        chance = "" if panel.chance is None else f", chance {panel.chance:.2g}"
        told.append(f"{panel.title} at the end{chance}: {', '.join(ends)}")
    return f"Curves over the epochs of training. {'; '.join(told)}."


def _seeds(curve: Curve) -> str:
    return "1 seed" if curve.seeds == 1 else f"mean of {curve.seeds} seeds"


def draw(figure: Sequence[Panel], names: Mapping[str, str], title: str, path: Path) -> None:
    """Write the picture to `path`. `names`: what a person calls each row of the suite, in the suite's order."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(figure))
    rows = math.ceil(len(figure) / columns)
    shown = [row for row in names if any(curve.row == row for panel in figure for curve in panel.curves)]
    legend = 0.5 + LEGEND_HEIGHT * math.ceil(len(shown) / 4)
    with rc_context(STYLE):
        picture = Figure(figsize=(WIDTH, 0.3 + PANEL_HEIGHT * rows + legend), layout="constrained")
        axes = picture.subplots(rows, columns, squeeze=False, sharex=True)
        cells = [axis for line in axes for axis in line]
        colours, marks = row_colours(names), row_marks(names)
        for axis, panel in zip(cells, figure, strict=False):
            _draw_panel(axis, panel, colours, marks)
        for number, axis in enumerate(cells):
            if number >= len(figure):
                axis.set_visible(False)
            elif number + columns >= len(figure):
                axis.set_xlabel("epochs")
                axis.tick_params(labelbottom=True)
        picture.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=9)
        handles = _handles(figure, shown, names, colours, marks)
        picture.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
        save(picture, path)


def _draw_panel(axis: "Axes", panel: Panel, colours: Mapping[str, str], marks: Mapping[str, tuple[str, str]]) -> None:
    from matplotlib.ticker import MaxNLocator

    for curve in panel.curves:
        marker, dashes = marks[curve.row]
        axis.plot(
            curve.epochs,
            curve.mean,
            color=colours[curve.row],
            linestyle=dashes,
            linewidth=1.4,
            marker=marker,
            markersize=3.2 if len(curve.epochs) > 6 else 4.5,
            markevery=max(1, len(curve.epochs) // 6),
        )
        known = [(x, m - s, m + s) for x, m, s in zip(curve.epochs, curve.mean, curve.sd, strict=True) if s is not None]
        if known:
            at, low, high = zip(*known, strict=True)
            axis.fill_between(at, low, high, color=colours[curve.row], alpha=ALPHA, linewidth=0)
    if panel.chance is not None:
        axis.axhline(panel.chance, color=INK, linewidth=1, linestyle=":")
    axis.set_title(panel.title, loc="left")
    axis.set_ylim(*_limits(panel))
    axis.grid(axis="y")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _limits(panel: Panel) -> tuple[float | None, float | None]:
    """From 0, since none of these quantities is negative; the first steps' losses are cut, or nothing else is seen."""
    last = max(curve.epochs[-1] for curve in panel.curves)
    tops = [
        mean + (sd or 0)
        for curve in panel.curves
        for epoch, mean, sd in zip(curve.epochs, curve.mean, curve.sd, strict=True)
        if epoch > 0.05 * last or epoch == curve.epochs[-1]
    ]
    return 0.0, 1.06 * max(*tops, panel.chance or 0, 1e-9)


def _handles(
    figure: Sequence[Panel],
    shown: Sequence[str],
    names: Mapping[str, str],
    colours: Mapping[str, str],
    marks: Mapping[str, tuple[str, str]],
) -> list["Line2D"]:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colours[row], marker=marks[row][0], markersize=4, label=names[row]) for row in shown
    ]
    for handle, row in zip(handles, shown, strict=True):
        handle.set(linestyle=marks[row][1])
    if any(sd is not None for panel in figure for curve in panel.curves for sd in curve.sd):
        handles.append(Line2D([], [], color=INK, linewidth=7, alpha=ALPHA, label="± standard deviation over seeds"))
    if any(panel.chance is not None for panel in figure):
        handles.append(Line2D([], [], color=INK, linewidth=1, linestyle=":", label="chance"))
    return handles
