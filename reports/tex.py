"""Tables as LaTeX: booktabs, a caption, a label; each fits a column, or the page's width if it has many columns."""

import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise

from reports.cells import Report
from reports.grid import Grid
from reports.pages import Page, page_of

COLUMN = 6  # columns that a text column of a paper has room for
GREEK = {
    **dict(zip("αβγδεθλμ", ("alpha", "beta", "gamma", "delta", "epsilon", "theta", "lambda", "mu"), strict=True)),
    **dict(zip("πρστφω", ("pi", "rho", "sigma", "tau", "phi", "omega"), strict=True)),
}
SYMBOLS = {"±": "pm", "×": "times", "≥": "geq", "≤": "leq", "≈": "approx", "→": "to", "∞": "infty"} | GREEK
PLAIN = {"–": "--", "—": "---", "…": r"\ldots{}", "“": "``", "”": "''", "‘": "`", "’": "'", "\u00a0": "~", "−": "$-$"}
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "<": r"\textless{}"}
    | {">": r"\textgreater{}", "|": r"\textbar{}", '"': "''"}
    | {symbol: f"$\\{name}$" for symbol, name in SYMBOLS.items()}
    | PLAIN
)
LATIN = 0x17F  # the last letter that LaTeX has in its own fonts
NEEDS = r"% needs \usepackage{booktabs} and \usepackage{graphicx}"


def latex(report: Report | Page) -> str:
    """All tables one after the other; title, notes and provenance are comments."""
    page = page_of(report)
    lines = [NEEDS, _comment(page.title), *map(_comment, [*page.verdict, *page.above])]
    for name, text in latex_files(page).items():
        lines += ["", f"% {name}", *text.splitlines()[1:]]
    lines += ["", *map(_comment, page.notes)]
    lines += [_comment(f"{name}: {value}") for name, value in page.provenance.items()]
    return "\n".join(lines) + "\n"


def latex_files(report: Report | Page) -> dict[str, str]:
    """By file name, one table each, for \\input."""
    page, found = page_of(report), dict[str, str]()
    for number, grid in enumerate(page.grids, 1):
        name = f"{number:02d}-{slug(grid.heading)}"
        found[f"{name}.tex"] = "\n".join([NEEDS, *_table(grid, f"tab:{slug(page.title)}:{name}")]) + "\n"
    return found


def slug(text: str) -> str:
    """The text as a part of a file's name or a label: letters, digits and hyphens, 40 at most."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-") or "table"


def tex(text: str) -> str:
    """The text, escaped. A letter that LaTeX's fonts lack, as of Chinese, is written as its number, `[U+7EA2]`."""
    written = "".join(_letter(letter) for letter in text.translate(LATEX))
    return re.sub(r"(?<![\w$])-(?=\d)", "$-$", written)  # a hyphen before a number is a minus sign


def _letter(letter: str) -> str:
    if ord(letter) < 0x80 or (letter.isalpha() and 0xC0 <= ord(letter) <= LATIN):
        return letter if letter.isprintable() else " "
    return f"[U+{ord(letter):04X}]"


def _table(grid: Grid, label: str) -> Iterable[str]:
    kind, width = ("table*", r"\textwidth") if len(grid.columns) > COLUMN else ("table", r"\columnwidth")
    yield rf"\begin{{{kind}}}[t]"
    yield r"\centering"
    yield rf"\caption{{{tex(grid.caption)}.}}"
    yield rf"\label{{{label}}}"
    yield r"\footnotesize\setlength{\tabcolsep}{3pt}"
    yield rf"\resizebox{{\ifdim\width>{width} {width}\else\width\fi}}{{!}}{{%"
    yield from _tabular(grid)
    yield rf"\end{{{kind}}}"
    yield from map(_comment, grid.said)
    if lost := sorted({letter for text in _all_texts(grid) for letter in text if _letter(letter).startswith("[U+")}):
        lost = [letter for letter in lost if letter not in SYMBOLS and letter not in PLAIN]
        if lost:
            yield _comment(f"LaTeX's fonts lack {' '.join(lost)}: written as numbers; give English labels instead")


def _all_texts(grid: Grid) -> Iterable[str]:
    yield grid.caption
    yield from (column.heading for column in grid.columns)
    yield from (cell.text for row in grid.rows for cell in row)


def _tabular(grid: Grid) -> Iterable[str]:
    yield rf"\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in grid.columns)}}}"
    yield r"\toprule"
    yield _row([tex(column.heading) for column in grid.columns])
    yield r"\midrule"
    groups = [row[0].text for row in grid.rows]
    # A rule between groups of rows, but only if the first label does group them.
    grouped = len(set(groups)) < len(groups)
    for row, (group, after) in zip(grid.rows, pairwise([*groups, groups[-1]]), strict=True):
        yield _row([rf"\textbf{{{tex(cell.text)}}}" if cell.best else tex(cell.text) for cell in row])
        if grouped and group != after:
            yield r"\midrule"
    yield r"\bottomrule"
    yield r"\end{tabular}}"


def _row(cells: Iterable[str]) -> str:
    line = " & ".join(cells) + r" \\"
    # A bracket after the end of a row or after a rule would be taken for its argument.
    return "{}" + line if line.lstrip().startswith(("[", "*")) else line


def _comment(text: str) -> str:
    return f"% {' '.join(text.split())}"
