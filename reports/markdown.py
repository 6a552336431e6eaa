"""A page as Markdown: what GitHub renders and a terminal shows, in lines of less than 200 characters."""

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from reports.cells import Report
from reports.grid import Cell, Grid
from reports.pages import Page, Picture, page_of

WIDTH = 190  # characters of a line, at most
# What is markup anywhere; and what would be a link, an image, a footnote or an entity. A bracket alone is a bracket.
MARKUP = re.compile(r"[\\|*_`$~#<>\n\r]|\](?=[(\[:])|\[(?=\^)|!(?=\[)|&(?=#?\w+;)")
OTHERWISE = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " ", "\r": " "}  # than with a backslash
BLOCK = re.compile(r"(?:[-+]|\d+[.)])(?= |$)|=+$|-+$")  # what at a line's beginning would be a list, or underline it


def markdown(report: Report | Page, pictures: Sequence[Picture] = ()) -> str:
    """The sentences, the tables, and what must be said under them; columns are aligned for a terminal too.

    A table that is too wide for a line is cut into several, each with the columns that name the rows. `pictures` stand
    in it as files beside it.
    """
    page = page_of(report)
    parts = [f"### {escaped(page.title)}", *map(_paragraph, page.verdict)]
    parts += [_paragraph(text, "**", "**") for text in page.above]
    parts += [_image(picture) for picture in pictures if not picture.section]
    for grid in page.grids:
        parts += [_image(picture) for picture in pictures if picture.section and picture.section == grid.heading]
        parts.append(_paragraph(f"{grid.caption}:"))
        parts += ["\n".join(_table(part)) for part in _parts(grid)]
        parts.append(_list(grid.said))
    headings = {grid.heading for grid in page.grids}
    parts += [_image(each) for each in pictures if each.section and each.section not in headings]
    parts.append(_list(page.notes))
    parts.append(_wrapped("; ".join(f"{name}: {escaped(value)}" for name, value in page.provenance.items())))
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: str) -> str:
    """The text as it stands, whatever Markdown or HTML it looks like."""
    return MARKUP.sub(lambda found: OTHERWISE.get(found[0], f"\\{found[0]}"), text)


def _image(picture: Picture) -> str:
    words = escaped(picture.words).replace("[", r"\[").replace("]", r"\]")
    return _wrapped(f"![{words}]({picture.file.name})")


def _paragraph(text: str, before: str = "", after: str = "") -> str:
    return _wrapped(f"{before}{escaped(text)}{after}")


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(_wrapped(escaped(sentence), "- ", "  ") for sentence in sentences)


def _wrapped(text: str, first: str = "", rest: str = "") -> str:
    lines = textwrap.wrap(text, WIDTH - len(rest) - 1, break_long_words=False, break_on_hyphens=False) or [""]
    # In the middle of a sentence a line may begin with what would be a list: `+ PRD`.
    guarded = [lines[0], *(_guarded(line) for line in lines[1:])]
    return "\n".join((first if number == 0 else rest) + line for number, line in enumerate(guarded))


def _guarded(line: str) -> str:
    found = BLOCK.match(line)
    if found is None:
        return line
    place = found.end() - 1 if found[0][0].isdigit() else 0
    return f"{line[:place]}\\{line[place:]}"


def _parts(grid: Grid) -> Iterator[Grid]:
    """The grid in pieces that fit a line, each with the columns up to the one that names the rows."""
    widths = [max(len(text) for text in texts) + 3 for texts in zip(*_texts(grid), strict=True)]
    kept = list(range(grid.header + 1))
    piece: list[int] = []
    for place in range(len(kept), len(widths)):
        if piece and sum(widths[each] for each in [*kept, *piece, place]) + 1 > WIDTH:
            yield _columns(grid, [*kept, *piece])
            piece = []
        piece.append(place)
    yield _columns(grid, [*kept, *piece])


def _columns(grid: Grid, places: Sequence[int]) -> Grid:
    rows = [[row[place] for place in places] for row in grid.rows]
    return grid._replace(columns=[grid.columns[place] for place in places], rows=rows)


def _texts(grid: Grid) -> list[list[str]]:
    return [[escaped(column.heading) for column in grid.columns], *([_bold(cell) for cell in row] for row in grid.rows)]


def _table(grid: Grid) -> Iterable[str]:
    texts = _texts(grid)
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    numeric = [column.numeric for column in grid.columns]

    def joined(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, numeric, strict=True)]
    return [joined(cells) for cells in (texts[0], rule, *texts[1:])]


def _bold(cell: Cell) -> str:
    text = escaped(cell.text)
    return f"**{text}**" if cell.best else text
