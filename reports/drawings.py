"""Which figures a report has, where on the page each stands, and what it shows in words.

A new figure is one more function in FIGURES: it names its section (a table's heading, or a new one), and draws only
when asked to.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from reports import costs, figures, forest, learning, replaced_figure, sweeps, waterfall
from reports.cells import Report
from reports.tables import KINDS, seeds_of, telling_names

TOP = ""  # the section of a figure that stands before the first table
TRAINING, COST, REPLACED = "Training", "Cost", "Replaced words"
STEPS, REACHED, PROBE = "steps.svg", "r1.svg", "sensitivity.svg"
WATERFALL, LEARNING, COSTS = "waterfall.svg", "learning.svg", "cost.svg"
GENERATOR, WORDS = "generator.svg", "words.svg"


class Drawing(NamedTuple):
    """One figure. `words` say what it shows, for whoever does not see it; `draw` writes it to a file."""

    file: str
    section: str
    caption: str
    words: str
    draw: Callable[[Path], None]


def drawings(report: Report) -> list[Drawing]:
    """The figures of this report, in the page's order. Nothing is drawn yet."""
    return [drawing for figure in FIGURES for drawing in figure(report)]


def _steps(report: Report) -> Iterator[Drawing]:
    steps = forest.gains(report.lines, report.judged)
    if report.curves or all(gain.mean is None for gain in steps):
        return
    caption = "What each step gains in R@1: ours with its interval, the published gain, and what was too small to see"
    yield Drawing(STEPS, TOP, caption, forest.describe(steps), partial(forest.draw, steps, _ours(report)))


def _reached(report: Report) -> Iterator[Drawing]:
    if report.curves:
        drawn = partial(sweeps.draw, report.curves, _ours(report), chance=report.chance)
        yield Drawing(REACHED, TOP, "R@1 over each parameter's values", sweeps.describe(report.curves), drawn)
        return
    bars, paper = figures.bars(report.all_lines), _papers(report)
    section = "Test split" if report.judged.steps else TOP
    yield Drawing(
        REACHED,
        section,
        "R@1 of each row",
        figures.describe(bars, report.chance),
        lambda path: figures.draw(bars, _ours(report), paper, path, report.chance),
    )


def _probe(report: Report) -> Iterator[Drawing]:
    probed = [line for line in report.all_lines if any(line.figures[f"{kind}_apart"].n for kind in KINDS)]
    if probed:
        drawn = partial(figures.draw_probe, probed, f"sensitivity, {_ours(report)}")
        caption = "How often a wrong word is noticed, and how far the ranks fall"
        yield Drawing(PROBE, "Sensitivity", caption, figures.describe_probe(probed), drawn)


def _waterfall(report: Report) -> Iterator[Drawing]:
    if waterfall.worth_drawing(report.lines) and not report.curves:
        caption = "From row to row: what each step adds to R@1, ours beside the published steps"
        drawn = partial(waterfall.draw, report.lines, _ours(report), _papers(report), chance=report.chance)
        yield Drawing(WATERFALL, "Test split", caption, waterfall.describe(report.lines), drawn)


def _learning(report: Report) -> Iterator[Drawing]:
    if report.learning and not report.curves:  # the points of sweeps are too many for one panel
        caption = "R@1 on validation, and the losses of steps, averaged over windows of equal length"
        names = telling_names(report.lines)
        drawn = partial(learning.draw, report.learning, names, _ours(report))
        yield Drawing(LEARNING, TRAINING, caption, learning.describe(report.learning, names), drawn)


def _cost(report: Report) -> Iterator[Drawing]:
    panels = costs.panels(report.lines)
    if panels and not report.curves:
        drawn = partial(costs.draw, panels, report.lines, _ours(report), chance=report.chance)
        yield Drawing(COSTS, COST, "R@1 against its cost", costs.describe(panels, report.lines), drawn)


def _replaced(report: Report) -> Iterator[Drawing]:
    names = telling_names(report.lines)
    if report.generators and not report.curves:
        caption = "How confusing RTD's generator is over training, and how well its words are found, on validation"
        drawn = partial(learning.draw, report.generators, names, _ours(report))
        yield Drawing(GENERATOR, REPLACED, caption, learning.describe(report.generators, names), drawn)
    if report.words and not report.curves:
        caption = "What each generator replaced, and the detector's probability of it, in captions chosen by a seed"
        drawn = partial(replaced_figure.draw, report.words)
        yield Drawing(WORDS, REPLACED, caption, replaced_figure.describe(report.words), drawn)


def _papers(report: Report) -> str:
    return f"published, on {report.paper_data}" + ("" if report.comparable else " (other data)")


def _ours(report: Report) -> str:
    return f"ours: {report.profile} ({seeds_of(report.lines)})"


FIGURES: tuple[Callable[[Report], Iterator[Drawing]], ...] = (
    _steps,
    _reached,
    _waterfall,
    _probe,
    _learning,
    _cost,
    _replaced,
)
