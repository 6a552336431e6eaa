"""Which figures a report has, where on the page each stands, and what it shows in words.

A new figure is one more function in FIGURES: it names its section (a table's heading, or a new one), and draws only
when asked to.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from reports import figures, forest, sweeps
from reports.cells import Report
from reports.tables import KINDS, seeds_of

TOP = ""  # the section of a figure that stands before the first table
STEPS, REACHED, PROBE = "steps.svg", "r1.svg", "sensitivity.svg"


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
    bars = figures.bars(report.all_lines)
    paper = f"published, on {report.paper_data}" + ("" if report.comparable else " (other data)")
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


def _ours(report: Report) -> str:
    return f"ours: {report.profile} ({seeds_of(report.lines)})"


FIGURES: tuple[Callable[[Report], Iterator[Drawing]], ...] = (_steps, _reached, _probe)
