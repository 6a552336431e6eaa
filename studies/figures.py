"""A study's figures in our plot style: history, importances, slices, contour, Pareto front.

Numbers first, then drawing.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.plot_style import ACCENT, INK, OURS, QUIET, STYLE, save
from studies.space import Space

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from optuna.trial import FrozenTrial

WIDTH, HEIGHT = 8.0, 3.2  # inches
COMPLETE, PRUNED, BEST = OURS, QUIET, ACCENT


class Dot(NamedTuple):
    """A trial that was trained to its end, or stopped (then `value` is its last one)."""

    number: int
    value: float
    point: Mapping[str, Any]
    pruned: bool
    second: float | None = None


def dots(trials: "Sequence[FrozenTrial]") -> list[Dot]:
    """The trials that have a value, by number."""
    found = []
    for trial in trials:
        if trial.values is not None and trial.state.name in ("COMPLETE", "PRUNED"):
            second = trial.values[1] if len(trial.values) > 1 else None
            found.append(Dot(trial.number, trial.values[0], trial.params, trial.state.name == "PRUNED", second))
    return found


def best_so_far(found: Sequence[Dot], maximize: bool) -> list[float]:
    """After each dot the best value of a whole trial; before there is one, that dot's own."""
    best: list[float] = []
    pick: Callable[[float, float], float] = max if maximize else min
    whole = [dot.value for dot in found if not dot.pruned]
    current = whole[0] if whole else 0.0
    for dot in found:
        current = current if dot.pruned else pick(current, dot.value)
        best.append(current)
    return best


def draw_all(
    space: Space, trials: "Sequence[FrozenTrial]", importances: Mapping[str, float], folder: Path
) -> list[Path]:
    """Write the figures that there are numbers for, and name them."""
    from matplotlib import rc_context

    found, drawn = dots(trials), []
    whole = [dot for dot in found if not dot.pruned]
    with rc_context(STYLE):
        drawn.append(_history(space, found, folder / "history.png"))
        drawn.append(_slices(space, found, folder / "slices.png"))
        if importances:
            drawn.append(_importances(importances, folder / "importances.png"))
        numeric = [name for name in importances if space.parameters[name].type != "categorical"]
        if len(numeric) >= 2 and len(whole) >= 4:
            drawn.append(_contour(space, whole, (numeric[0], numeric[1]), folder / "contour.png"))
        if len(space.objectives) > 1:
            drawn.append(_pareto(space, whole, folder / "pareto.png"))
    return drawn


def front(found: Sequence[Dot], ways: tuple[str, str]) -> list[Dot]:
    """The dots that no other beats in both objectives, in the first one's order."""
    signs = [1 if way == "maximize" else -1 for way in ways]

    def gains(dot: Dot) -> tuple[float, float]:
        assert dot.second is not None
        return signs[0] * dot.value, signs[1] * dot.second

    def beaten(dot: Dot) -> bool:
        own = gains(dot)
        return any(all(a >= b for a, b in zip(gains(o), own, strict=True)) and gains(o) != own for o in found)

    return sorted((dot for dot in found if not beaten(dot)), key=lambda dot: dot.value)


def _history(space: Space, found: Sequence[Dot], path: Path) -> Path:
    figure, (axis,) = _figure(1, HEIGHT)
    _scatter(axis, [dot.number for dot in found], found)
    maximize = space.objectives[0].way == "maximize"
    axis.step(
        [dot.number for dot in found], best_so_far(found, maximize), where="post", color=BEST, label="best so far"
    )
    axis.set_xlabel("trial")
    axis.set_ylabel(space.objectives[0].metric)
    axis.grid(axis="y")
    axis.legend(frameon=False, loc="lower right" if maximize else "upper right")
    save(figure, path)
    return path


def _slices(space: Space, found: Sequence[Dot], path: Path) -> Path:
    figure, axes = _figure(len(space.parameters), HEIGHT)
    for axis, name in zip(axes, space.parameters, strict=True):
        _scatter(axis, [_place(space, name, dot.point[name]) for dot in found], found)
        _scale(axis, space, name)
        axis.grid(axis="y")
    axes[0].set_ylabel(space.objectives[0].metric)
    save(figure, path)
    return path


def _importances(importances: Mapping[str, float], path: Path) -> Path:
    figure, (axis,) = _figure(1, 1.0 + 0.35 * len(importances))
    names = list(importances)
    axis.barh(range(len(names)), list(importances.values()), height=0.66, color=COMPLETE)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel("share of the differences between good and other trials (PED-ANOVA)")
    axis.grid(axis="x")
    save(figure, path)
    return path


def _contour(space: Space, whole: Sequence[Dot], names: tuple[str, str], path: Path) -> Path:
    import numpy as np

    figure, (axis,) = _figure(1, 4.0)
    x, y = ([float(dot.point[name]) for dot in whole] for name in names)
    logs = [space.parameters[name].log for name in names]
    across, up = (np.log10(v) if log else np.asarray(v) for v, log in zip((x, y), logs, strict=True))
    if np.linalg.matrix_rank(np.stack([across - across[0], up - up[0]])) == 2:  # else there is no plane to draw on
        levels = axis.tricontourf(across, up, [dot.value for dot in whole], levels=12, cmap="viridis")
        figure.colorbar(levels, ax=axis, label=space.objectives[0].metric)
    axis.scatter(across, up, s=14, color="white", edgecolor=INK, linewidth=0.7, zorder=3)
    for set_label, name, log in ((axis.set_xlabel, names[0], logs[0]), (axis.set_ylabel, names[1], logs[1])):
        set_label(f"log10 {name}" if log else name)
    save(figure, path)
    return path


def _pareto(space: Space, whole: Sequence[Dot], path: Path) -> Path:
    figure, (axis,) = _figure(1, 4.0)
    best = front(whole, (space.objectives[0].way, space.objectives[1].way))
    axis.scatter([dot.second for dot in whole], [dot.value for dot in whole], s=20, color=COMPLETE, label="trial")
    axis.plot(
        [dot.second for dot in best],
        [dot.value for dot in best],
        color=BEST,
        marker="o",
        markersize=5,
        label="no other trial is better in both",
    )
    for dot in best:
        axis.annotate(str(dot.number), (dot.second or 0, dot.value), xytext=(5, 4), textcoords="offset points")
    axis.set_xlabel(space.objectives[1].metric)
    axis.set_ylabel(space.objectives[0].metric)
    axis.grid()
    axis.legend(frameon=False)
    save(figure, path)
    return path


def _figure(panels: int, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(WIDTH, 2.1 * panels), height), layout="constrained")
    return figure, figure.subplots(1, panels, sharey=True, squeeze=False)[0]


def _scatter(axis: "Axes", across: Sequence[float], found: Sequence[Dot]) -> None:
    for pruned, colour, label in ((False, COMPLETE, "complete"), (True, PRUNED, "pruned (last value)")):
        shown = [(x, dot.value) for x, dot in zip(across, found, strict=True) if dot.pruned == pruned]
        if shown:
            face = "white" if pruned else colour  # told apart in grey too
            across_shown, up = zip(*shown, strict=True)
            axis.scatter(across_shown, up, s=18, facecolor=face, edgecolor=colour, label=label, zorder=2)


def _scale(axis: "Axes", space: Space, name: str) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    parameter = space.parameters[name]
    axis.set_xlabel(name.removeprefix("objectives.").removeprefix("optimisation."))
    if parameter.choices is not None:
        axis.set_xticks(range(len(parameter.choices)), [str(choice) for choice in parameter.choices])
        axis.set_xlim(-0.5, len(parameter.choices) - 0.5)
    elif parameter.log:
        axis.set_xscale("log")
        # Ticks in plain digits: matplotlib's own for logarithms are formulas, and a label is text here (STYLE).
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())


def _place(space: Space, name: str, value: Any) -> float:
    choices = space.parameters[name].choices
    return float(choices.index(value)) if choices is not None else float(value)
