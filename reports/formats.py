"""A report as Markdown, CSV, LaTeX and HTML."""

import base64
import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from reports.cells import Report, grids
from reports.grid import Cell, Grid
from reports.starts import OverStart
from reports.tables import DETECTOR_FIGURES, FIGURES, PROBE_FIGURES, SOURCE_FIGURES, UNTRAINED, Line, Spread
from reports.verdict import Step

OTHERS = ("stage1_r1", "val_r1", "last_val_r1", "last_r1", "oracle_r1", "minutes", "pairs_per_s", "peak_mib")
NA = "NA"  # pandas and R read it as a missing number
MARKDOWN = str.maketrans({"\\": r"\\", "|": r"\|", "*": r"\*", "_": r"\_", "<": "&lt;", "\n": " "})
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of one
NUMBERS = re.compile(r"[-+0-9.e;]*|[-+]?(inf|nan)")  # one or several with semicolons between them
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "±": r"$\pm$"}
)


class Page(NamedTuple):
    """Tables with what must be said under them, and where they come from."""

    title: str
    source: str
    grids: Sequence[Grid]
    notes: Sequence[str] = ()
    provenance: Mapping[str, str] = {}
    above: Sequence[str] = ()


def page_of(report: Report) -> Page:
    """A suite's report as a page."""
    return Page(report.title, report.source, grids(report), report.notes, report.provenance, report.above)


def markdown(report: Report | Page) -> str:
    """The tables, and what must be said under them; columns are aligned for a terminal too."""
    page = report if isinstance(report, Page) else page_of(report)
    parts = [f"### {page.title.translate(MARKDOWN)}", *(f"**{text.translate(MARKDOWN)}**" for text in page.above)]
    for grid in page.grids:
        parts += [f"{grid.caption.translate(MARKDOWN)}:", "\n".join(_markdown_table(grid))]
        parts.append("\n".join(f"- {sentence.translate(MARKDOWN)}" for sentence in grid.said))
    parts.append("\n".join(f"- {note.translate(MARKDOWN)}" for note in page.notes))
    parts.append("; ".join(f"{name}: {value.translate(MARKDOWN)}" for name, value in page.provenance.items()))
    return "\n\n".join(part for part in parts if part) + "\n"


def csv_table(report: Report) -> str:
    """One record per row, numbers at full precision, NA where there is none; `state` says why.

    The paper's lines that are no rows of the suite follow, in state `published`.
    """
    own = [
        _record(line, report.metrics)
        | _over_start(report.over_start.get(line.name))
        | _step(report.judged.steps.get(line.name))
        for line in report.all_lines
    ]
    return csv_of([*own, *report.competitors])


def seeds_table(report: Report) -> str:
    """One record per line and seed: every figure of the table before the mean over seeds, at full precision."""
    records = []
    for line in report.all_lines:
        for seed in sorted(line.figures["r1"].by_seed):
            found = {name: line.figures[name].by_seed.get(seed) for name in FIGURES}
            who = {"row": line.name, "seed": NA if line.state == UNTRAINED else seed}
            records.append(who | {name: value for name, value in found.items() if value is not None})
    return csv_of(records)


def csv_of(records: Sequence[Mapping[str, object]]) -> str:
    """The records under the columns that any of them has, NA where one has nothing."""
    stream = io.StringIO()
    columns = dict.fromkeys(name for record in records for name in record)  # a row without a step has none of its own
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(_cell, columns))
    writer.writerows([_cell(record.get(name, NA)) for name in columns] for record in records)
    return stream.getvalue()


def _cell(value: object) -> object:
    """A value as a spreadsheet may read it: a text that begins as a formula does gets an apostrophe before it."""
    if isinstance(value, str) and value.startswith(FORMULA) and not NUMBERS.fullmatch(value):
        return f"'{value}"
    return value


def latex(report: Report | Page) -> str:
    """Booktabs tabulars; title, notes and provenance are comments."""
    page = report if isinstance(report, Page) else page_of(report)
    lines = [r"% needs \usepackage{booktabs}", _comment(page.title), *map(_comment, page.above)]
    for grid in page.grids:
        lines += ["", _comment(grid.caption), *_tabular(grid), *map(_comment, grid.said)]
    lines += ["", *map(_comment, page.notes)]
    lines += [_comment(f"{name}: {value}") for name, value in page.provenance.items()]
    return "\n".join(lines) + "\n"


def html(report: Report | Page, *pictures: tuple[Path, str]) -> str:
    """One page that needs no file beside it. `pictures`: PNG files, each with the same in words."""
    from jinja2 import Environment, StrictUndefined

    template = (files("reports") / "templates" / "report.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    figures = [(base64.b64encode(file.read_bytes()).decode("ascii"), text) for file, text in pictures]
    page = report if isinstance(report, Page) else page_of(report)
    return environment.from_string(template).render(report=page, grids=page.grids, figures=figures) + "\n"


def _markdown_table(grid: Grid) -> Iterable[str]:
    texts = [
        [column.heading.translate(MARKDOWN) for column in grid.columns],
        *([_bold(cell) for cell in row] for row in grid.rows),
    ]
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
    text = cell.text.translate(MARKDOWN)
    return f"**{text}**" if cell.best else text


def _tabular(grid: Grid) -> Iterable[str]:
    yield rf"\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in grid.columns)}}}"
    yield r"\toprule"
    yield _latex_row([_tex(column.heading) for column in grid.columns])
    yield r"\midrule"
    groups = [row[0].text for row in grid.rows]
    # A rule between groups of rows, but only if the first label does group them.
    grouped = len(set(groups)) < len(groups)
    for row, (group, after) in zip(grid.rows, pairwise([*groups, groups[-1]]), strict=True):
        yield _latex_row([rf"\textbf{{{_tex(cell.text)}}}" if cell.best else _tex(cell.text) for cell in row])
        if grouped and group != after:
            yield r"\midrule"
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _tex(text: str) -> str:
    # A hyphen before a number is a minus sign.
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", text.translate(LATEX))


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _comment(text: str) -> str:
    return f"% {' '.join(text.split())}"


def _record(line: Line, metrics: Sequence[str]) -> dict[str, object]:
    # The label columns keep their headings, so that one called `Row` is not the row's name.
    record: dict[str, object] = dict(line.labels)
    record |= {"row": line.name, "state": line.state, "n": line.n}
    record["seeds"] = ";".join(map(str, sorted(line.figures["r1"].by_seed))) or NA
    for metric in metrics:
        record |= _spread(f"test_{metric}", line.figures[metric])
        low, high = line.figures[metric].interval or (None, None)
        record |= {f"test_{metric}_low": _number(low), f"test_{metric}_high": _number(high)}
        record |= {f"paper_{metric}": _number(line.paper.get(metric))}
        record |= {f"test_{metric}_mean_minus_paper": _number(line.minus_paper(metric))}
    record |= {"versus": line.versus or NA, **_spread("gain_test_r1", line.gain), "gain_n": line.gain.n}
    record |= {"paper_gain_r1": _number(line.paper_gain)}
    for name in OTHERS:
        record |= _spread(name, line.figures[name])
    for name in (*SOURCE_FIGURES, *DETECTOR_FIGURES, *PROBE_FIGURES):  # of the runs that were asked for them
        if line.figures[name].n:
            record |= _spread(name, line.figures[name])
    return record


def _over_start(gain: OverStart | None) -> dict[str, object]:
    """The comparison with the weights that a row started from; nothing for a row without."""
    if gain is None:
        return {}
    record: dict[str, object] = {"start": gain.versus, "over_start_r1": gain.value}
    record |= {"over_start_r1_low": _number(gain.low), "over_start_r1_high": _number(gain.high)}
    return record | {"beats_start": NA if gain.beats is None else str(gain.beats).lower()}


def _step(step: Step | None) -> dict[str, object]:
    """The comparison with the row `versus`; nothing for a row without one."""
    if step is None:
        return {}
    r1 = step.r1
    record: dict[str, object] = {"step_queries": r1.queries or NA, "step_identities": r1.identities or NA}
    record["step_seeds"] = ";".join(map(str, r1.seeds)) or NA
    for name, figure in (("r1", r1), ("map", step.map)):
        for part in ("mean", "low", "high", "p", "p_holm"):
            record[f"step_{name}_{part}"] = _number(getattr(figure, part, None))
    record |= {f"step_{part}": _number(getattr(r1, part)) for part in ("p_equivalent", "p_equivalent_holm")}
    record |= {
        "step_variance_over_seeds": _number(r1.over_seeds),
        "step_variance_over_queries": _number(r1.over_queries),
    }
    record["step_r1_mcnemar_p_values"] = ";".join(repr(test.p) for test in step.mcnemar.values()) or NA
    record |= {f"step_{name}": _number(value) for name, value in step.foresight._asdict().items()}
    return record | {
        "step_published_size": r1.size or NA,
        "step_decided_after": _number(r1.after),
        "step_verdict": step.verdict or NA,
    }


def _spread(name: str, figure: Spread) -> dict[str, object]:
    values = ";".join(map(repr, figure.values)) or NA
    return {f"{name}_mean": _number(figure.mean), f"{name}_sd": _number(figure.sd), f"{name}_values": values}


def _number(value: float | None) -> object:
    return NA if value is None else value
