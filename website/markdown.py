"""Markdown, written: tables and code that survive what stands in them."""

from collections.abc import Iterable, Iterator, Sequence


def code(text: str) -> str:
    """Inline code, with backticks that the text itself has none of."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table's lines. A bar in a cell is escaped, and a line's end is a blank."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def outside_code(text: str) -> Iterator[tuple[bool, str]]:
    """The lines of a page, each with whether it is prose: not in a fenced block, and no fence itself."""
    fence = ""
    for line in text.split("\n"):
        start = line.lstrip()
        mark = start[:3]
        if fence:
            yield False, line
            if start.startswith(fence):
                fence = ""
        elif mark in ("```", "~~~"):
            fence = mark
            yield False, line
        else:
            yield True, line
