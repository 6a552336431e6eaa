"""A page before it has a format: sentences, tables and figures in their order."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reports.cells import Report, grids
from reports.drawings import TOP
from reports.grid import Grid
from reports.summary import main_grid, summary


class Picture(NamedTuple):
    """A figure's SVG file, with the same in words, its caption, and the heading of the section in which it stands."""

    file: Path
    words: str
    caption: str
    section: str = TOP


class Page(NamedTuple):
    """Tables with what must be said under them, and where they come from. With `verdict`, the first table comes first
    and the others are folded away."""

    title: str
    source: str
    grids: Sequence[Grid]
    notes: Sequence[str] = ()
    provenance: Mapping[str, str] = {}
    above: Sequence[str] = ()
    verdict: Sequence[str] = ()


class Section(NamedTuple):
    """A part of a page under its heading; `key` names it in an address."""

    key: str
    heading: str
    pictures: Sequence[Picture]
    grids: Sequence[Grid]


def page_of(report: Report | Page) -> Page:
    """A suite's report as a page: the verdict, the one table, and then all others."""
    if isinstance(report, Page):
        return report
    main = main_grid(report)
    rest = [grid for grid in grids(report) if grid.caption != main.caption]
    return Page(
        report.title, report.source, [main, *rest], report.notes, report.provenance, report.above, summary(report)
    )


def sections(page: Page, pictures: Sequence[Picture] = ()) -> list[Section]:
    """What follows the first table: each other table with its figures, and figures that have a section of their own."""
    behind = page.grids[1:] if page.verdict else page.grids
    headings = dict.fromkeys([grid.heading for grid in behind] + [each.section for each in pictures if each.section])
    found = []
    for number, heading in enumerate(headings, 1):
        of_section = [each for each in pictures if each.section == heading]
        tables = [grid for grid in behind if grid.heading == heading]
        found.append(Section(f"section-{number}", heading, of_section, tables))
    return found
