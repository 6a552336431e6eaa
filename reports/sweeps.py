"""Sweeps: R@1 over one parameter's values, where it is best, and how sure that is. `draw` makes the picture's panels.

Shape suffixes: V values, S seeds, T queries, R resamples.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments import statistics
from experiments.plot_style import INK, STYLE, save, symbol_label
from experiments.statistics import Floats
from experiments.suite import Key, Suite, Sweep
from reports.grid import NONE, Cell, Column, Grid
from reports.style import row_colours, row_marks
from reports.tables import NEVER, Line, Spread
from reports.verdict import SEED, SHARE, Known

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL, COLUMNS = (3.4, 2.7), 3  # inches, and panels side by side
TIE = 1e-9  # percent points within which two means are one


class Curve(NamedTuple):
    """One sweep: R@1 by value, for values with a finished run. `best` has, by value, how often it is best in resamples
    of queries (whole identities) and seeds; nothing where the runs do not allow it."""

    sweep: Sweep
    figures: Mapping[Key, Spread]
    best: Mapping[Key, float]
    seeds: int  # that all values have, over which (and queries) the resamples are
    starts: Mapping[Key, float] = {}  # by value, what the weights that its runs began with reach untrained

    @property
    def over(self) -> str:
        """What was drawn anew, in words."""
        return "queries" if self.seeds == 1 else f"queries and {self.seeds} seeds"

    @property
    def top(self) -> tuple[Key, ...]:
        """The value with the best mean, or all that share it."""
        means = {value: figure.mean for value, figure in self.figures.items() if figure.mean is not None}
        best = max(means.values(), default=0.0)
        return tuple(value for value, mean in means.items() if mean >= best - TIE)

    @property
    def candidates(self) -> tuple[Key, ...]:
        """The fewest values that hold the best one in 95 % of the resamples."""
        kept: list[Key] = []
        share = 0.0
        for value in sorted(self.best, key=lambda value: -self.best[value]):
            if share >= 1 - statistics.LEVEL:
                break
            kept.append(value)
            share += self.best[value]
        return tuple(self.in_order(kept))

    def in_order(self, keys: Iterable[Key]) -> list[Key]:
        """Those values, as the sweep orders them."""
        return sorted(keys, key=self.sweep.keys.index)


def curves(
    suite: Suite,
    lines: Sequence[Line],
    known: Known,
    resamples: int = statistics.RESAMPLES,
    untrained: Mapping[str, float] | None = None,
) -> list[Curve]:
    """One curve per sweep of the suite.

    `untrained`: what rows are compared with of the weights that they started from.
    """
    by_name = {line.name: line for line in lines}
    found = []
    for sweep in suite.sweeps:
        rows = sweep.row_names
        figures = {value: by_name[row].figures["r1"] for value, row in rows.items() if by_name[row].n}
        best: dict[Key, float] = {}
        seeds = 0
        if sweep.compares:
            best, seeds = _best({value: rows[value] for value in figures}, known, resamples)
        starts = {value: untrained[row] for value, row in rows.items() if untrained and row in untrained}
        found.append(Curve(sweep, figures, best, seeds, starts))
    return found


def _best(rows: Mapping[Key, str], known: Known, resamples: int) -> tuple[dict[Key, float], int]:
    """How often each value is best, and over how many seeds.

    Only seeds that all values have count, so that all are compared alike.
    """
    seeds = sorted(
        set.intersection(*({seed for row, seed in known if row == name} for name in rows.values())) if rows else ()
    )
    if len(rows) < 2 or not seeds:
        return {}, 0
    first = known[next(iter(rows.values())), seeds[0]]
    queries = [[known[row, seed] for seed in seeds] for row in rows.values()]
    if any(not np.array_equal(each.identity_T, first.identity_T) for of_row in queries for each in of_row):
        return {}, 0
    hits_TK = np.stack([each.first_rank_T == 1 for of_row in queries for each in of_row], 1).astype(np.float64) * 100
    generator = np.random.default_rng(SEED)
    means_RVS = statistics.cluster_bootstrap(hits_TK, first.identity_T, generator, resamples)
    means_RVS = means_RVS.reshape(resamples, len(rows), len(seeds))
    means_RV = _reseeded(means_RVS, generator)
    tied_RV = means_RV >= means_RV.max(1, keepdims=True) - TIE
    shares = (tied_RV / tied_RV.sum(1, keepdims=True)).mean(0)  # equal values share a resample
    return dict(zip(rows, shares.tolist(), strict=True)), len(seeds)


def _reseeded(means_RVS: Floats, generator: np.random.Generator) -> Floats:
    """Means over as many seeds as there are, drawn anew in each resample.

    The draws are the same for all values: they are paired.
    """
    resamples, _, n = means_RVS.shape
    drawn = generator.integers(n, size=(resamples, 1, n)).repeat(means_RVS.shape[1], 1)
    mean = means_RVS.mean(2)
    # As statistics.reseeded: drawn seeds vary by (n - 1) / n too little.
    stretch = (n / (n - 1)) ** 0.5 if n > 1 else 0.0
    found: Floats = mean + stretch * (np.take_along_axis(means_RVS, drawn, 2).mean(2) - mean)
    return found


def sentences(found: Sequence[Curve]) -> Iterator[str]:
    """For each sweep where it is best, and whether that agrees with the paper."""
    for curve in found:
        if not curve.top or len(curve.figures) < 2 or not curve.sweep.compares:
            continue
        name = f"{curve.sweep.label} ({curve.sweep.name})"
        text = f"{name}: R@1 is best at {' and '.join(map(str, curve.top))}"
        if curve.best:
            values = ", ".join(map(str, curve.candidates))
            text += f"; over {curve.over} the best value is among {values} in {SHARE} % of the resamples"
        paper = curve.sweep.paper_best
        yield text + (f"; the paper's best is {paper}: {_agreement(curve, paper)}." if paper is not None else ".")


def _agreement(curve: Curve, paper: Key) -> str:
    if paper not in curve.figures:
        return "that value has no finished run"
    if not curve.best:
        return "no uncertainty is known, since the runs' queries are not"
    if paper not in curve.candidates:
        return "it does not agree" + ("" if curve.seeds > 1 else " with this one seed; of others nothing is known")
    if len(curve.candidates) == len(curve.figures):
        return "it may agree, as may every other value: these runs cannot tell"
    return "it agrees within the uncertainty"


def grid(found: Sequence[Curve]) -> Grid | None:
    """Per sweep the paper's best value, ours, and how often each value is best in the resamples; None without one."""
    found = [curve for curve in found if curve.sweep.compares]
    if not found:
        return None

    def share(curve: Curve) -> str:
        return "  ".join(f"{value}: {100 * curve.best[value]:.0f}" for value in curve.in_order(curve.best)) or NONE

    texts: Mapping[str, Callable[[Curve], str]] = {
        "Parameter": lambda curve: curve.sweep.label,
        "Paper's best": lambda curve: NONE if curve.sweep.paper_best is None else str(curve.sweep.paper_best),
        "Our best": lambda curve: ", ".join(map(str, curve.top)) or NEVER,
        "How often each value is best (% of resamples)": share,
    }
    columns: list[Column[Line]] = [Column(heading, lambda line: "", numeric=False) for heading in texts]
    rows = [[Cell(text(curve), False, "") for text in texts.values()] for curve in found]
    return Grid("Where each parameter is best, by test R@1", columns, rows, [*sentences(found)])


def describe(found: Sequence[Curve]) -> str:
    """The figure in words, for whoever does not see it."""
    told = []
    for curve in found:
        shown = ((value, curve.figures[value].mean) for value in curve.in_order(curve.figures))
        points = ", ".join(f"{value}: {mean:.1f}" for value, mean in shown)
        told.append(f"{curve.sweep.label}: {points or NEVER}")
    return f"Test R@1 in percent over the values of each parameter. {'; '.join(told)}."


def draw(found: Sequence[Curve], title: str, path: Path, chance: float | None = None) -> None:
    """Write the picture: a panel per parameter with mean, t-interval, single seeds, the paper's best value, chance."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    panels: dict[str, list[Curve]] = {}
    for curve in found:
        panels.setdefault(curve.sweep.parameter, []).append(curve)
    across = min(COLUMNS, len(panels))
    down = -(-len(panels) // across)
    with rc_context(STYLE):
        width = max(across * PANEL[0], 5.0)
        picture = Figure(figsize=(width, down * PANEL[1] + 0.7), layout="constrained")
        axes = list(picture.subplots(down, across, squeeze=False, sharey=True).flat)
        for axis, group in zip(axes, panels.values(), strict=False):
            _panel(axis, group)
            if chance is not None:
                axis.axhline(chance, color=INK, linestyle=(0, (1, 3)), linewidth=1.2)
        for axis in axes[::across]:
            axis.set_ylabel("Test R@1 (%)")
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        handles = [
            Line2D([], [], color=INK, marker="o", markersize=4, label=f"mean, {SHARE} % t-interval"),
            Line2D([], [], color=INK, marker="o", markersize=3, alpha=0.4, linestyle="", label="single seeds"),
        ]
        if any(curve.sweep.paper_best is not None for curve in found):
            handles.append(Line2D([], [], color=INK, linestyle=":", label="the paper's best"))
        if any(curve.starts for curve in found):
            handles.append(Line2D([], [], color=INK, linestyle="--", linewidth=1, label="start, no training"))
        if chance is not None:
            handles.append(Line2D([], [], color=INK, linestyle=(0, (1, 3)), lw=1.2, label=f"chance ({chance:.3g})"))
        picture.suptitle(title, fontsize=9)
        picture.legend(handles=handles, loc="outside lower center", ncols=min(3, len(handles)), frameon=False)
        save(picture, path)


def _panel(axis: "Axes", group: Sequence[Curve]) -> None:
    sweep, places = group[0].sweep, _places(group)
    numeric = all(curve.sweep.numeric for curve in group)
    # Curves of one panel are moved apart, so that none hides another.
    names = [_row(group, curve) for curve in group]
    colours, marks = row_colours(names), row_marks(names)
    apart = 0.012 * (max(places.values()) - min(places.values()))
    for number, curve in enumerate(group):
        name, shift = _row(group, curve), apart * (number - (len(group) - 1) / 2)
        colour, (marker, dashes) = colours[name], marks[name]
        values = curve.in_order(curve.figures)
        at = {value: places[value] + shift for value in values}
        means = np.array([curve.figures[value].mean for value in values], float)
        axis.plot(
            [*at.values()],
            means,
            color=colour,
            marker=marker,
            # Words have no distances: no line says what lies between them.
            ls="" if not numeric else dashes if len(group) > 1 else "-",
            ms=4,
            label=curve.sweep.label,
        )
        known = {at[value]: interval for value in values if (interval := curve.figures[value].interval)}
        low, high = np.array([*known.values()]).reshape(-1, 2).T.clip(0, 100)  # nothing can be beyond
        if len(group) == 1 and numeric:
            axis.fill_between(np.array([*known]), low, high, color=colour, alpha=0.15, linewidth=0)
        else:
            axis.vlines(np.array([*known]), low, high, color=colour, alpha=0.6)
        for value in values:
            each = curve.figures[value].values
            axis.plot([at[value]] * len(each), each, color=colour, marker="o", markersize=3, alpha=0.4, linestyle="")
        if curve.sweep.paper_best is not None:
            axis.axvline(places[curve.sweep.paper_best], color=INK, linestyle=":", linewidth=1)
    starts = {places[value]: reached for curve in group for value, reached in curve.starts.items()}  # the same for all
    if starts:
        axis.plot(sorted(starts), [starts[value] for value in sorted(starts)], color=INK, linestyle="--", linewidth=1)
    if not any(curve.figures for curve in group):
        axis.text(0.5, 0.5, NEVER, transform=axis.transAxes, ha="center", style="italic")
    axis.set_xticks([places[key] for key in sweep.keys] if numeric else [*places.values()])
    if not numeric:
        axis.set_xticklabels([str(key) for key in places])
    symbol_label(axis.xaxis.label, sweep.axis or sweep.label)
    axis.grid(axis="y")
    if len(group) > 1:
        axis.legend(frameon=False, fontsize=8)


def _places(group: Sequence[Curve]) -> dict[Key, float]:
    """Where each value of a panel stands on its axis: a number at itself, words and the like in their order."""
    keys = dict.fromkeys(key for curve in group for key in curve.sweep.keys)
    if all(curve.sweep.numeric for curve in group):
        return {key: float(key) for key in keys}
    return {key: float(number) for number, key in enumerate(keys)}


def _row(group: Sequence[Curve], curve: Curve) -> str:
    """Whose colour the curve has: the row's that it starts from, where no other of its panel does."""
    rows = [each.sweep.extends for each in group]
    return curve.sweep.extends.rpartition("/")[2] if len(set(rows)) == len(rows) else curve.sweep.name
