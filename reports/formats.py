"""A report in each of its formats. CSV is made here; the others have modules of their own."""

import csv
import io
import re
from collections.abc import Mapping, Sequence

from reports.cells import Report
from reports.document import json_text, schema_text
from reports.html_page import html
from reports.markdown import markdown
from reports.pages import Page, page_of
from reports.starts import OverStart
from reports.tables import (
    COUNTED_FIGURES,
    DETECTOR_FIGURES,
    FIGURES,
    PROBE_FIGURES,
    SOURCE_FIGURES,
    UNTRAINED,
    Line,
    Spread,
)
from reports.tex import latex, latex_files
from reports.verdict import Step
from reports.words import possible

__all__ = [
    "Page",
    "csv_of",
    "csv_table",
    "html",
    "json_text",
    "latex",
    "latex_files",
    "markdown",
    "page_of",
    "schema_text",
    "seeds_table",
]
OTHERS = ("stage1_r1", "val_r1", "last_val_r1", "last_r1", "oracle_r1", "minutes", "pairs_per_s", "peak_mib")
NA = "NA"  # pandas and R read it as a missing number
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of one
NUMBERS = re.compile(r"[-+0-9.e;]*|[-+]?(inf|nan)")  # one or several with semicolons between them


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


def _record(line: Line, metrics: Sequence[str]) -> dict[str, object]:
    # The label columns keep their headings, so that one called `Row` is not the row's name.
    record: dict[str, object] = dict(line.labels)
    record |= {"row": line.name, "state": line.state, "n": line.n}
    record["seeds"] = ";".join(map(str, sorted(line.figures["r1"].by_seed))) or NA
    for metric in metrics:
        record |= _spread(f"test_{metric}", line.figures[metric])
        low, high = possible(line.figures[metric]) or (None, None)
        record |= {f"test_{metric}_low": _number(low), f"test_{metric}_high": _number(high)}
        record |= {f"paper_{metric}": _number(line.paper.get(metric))}
        record |= {f"test_{metric}_mean_minus_paper": _number(line.minus_paper(metric))}
    record |= {"versus": line.versus or NA, **_spread("gain_test_r1", line.gain), "gain_n": line.gain.n}
    record |= {"paper_gain_r1": _number(line.paper_gain)}
    for name in OTHERS:
        record |= _spread(name, line.figures[name])
    for name in (*COUNTED_FIGURES, *SOURCE_FIGURES, *DETECTOR_FIGURES, *PROBE_FIGURES):  # of runs that have them
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
