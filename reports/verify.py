"""Whether a published report follows from its records: every digit of its tables is computed again and compared."""

import csv
import io
import math
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from experiments import predictions
from experiments.records import Record
from experiments.rundir import ABOUT, METRICS, RESULT
from rasa.errors import RasaError, printable
from reports.html_page import told
from reports.publication import MANIFEST, PAGE, RECORDS, SPECS, Manifest, altered, records_of
from reports.recorded import report_of, texts_of
from reports.verdict import SEED

# Of a number at full precision, the last digits are the machine's: sums are rounded in another order on each.
RELATIVE, ABSOLUTE = 1e-9, 1e-12
RULE = re.compile(r"\|[ :|-]+\|")


def faults(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A sentence for everything in a published report that does not follow from its records, or was changed."""
    try:
        records = records_of(folder, [*manifest.runs, *(start.record for start in manifest.starts)])
        for record in records:
            yield from _of_run(record)
        yield from _of_tables(folder, manifest)
    except RasaError as error:
        yield f"cannot be computed again: {error}"
    except Exception as error:  # noqa: BLE001  # whatever a changed record does to the report is the record's fault
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        yield f"cannot be computed again: a record or a spec holds what no run leaves ({printable(text)})"
    yield from altered(folder, manifest)


def unlisted(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A sentence for each file that is none of the published report's: in a folder a person's, in a zip nobody's."""
    for name in sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()):
        if name != MANIFEST and name not in manifest.files and not name.startswith((f"{RECORDS}/", f"{SPECS}/")):
            yield f"{name}: {MANIFEST} does not list it"


def _of_run(record: Record) -> Iterator[str]:
    """Whether a run's figures are those of its predictions, and those that it logged."""
    where, test = f"{RECORDS}/{record.folder}", record.result.get("test", {})
    for name in ("run_id", "row", "seed"):
        if record.result.get(name) != getattr(record.about, name):
            yield (
                f"{where}/{RESULT}: {name}: printed {record.result.get(name)!r}, {ABOUT} has "
                f"{getattr(record.about, name)!r}"
            )
    for metric, value in predictions.figures(record.arrays).items():
        if metric in test and not _near(float(test[metric]), value, predictions.tolerance(metric, record.queries)):
            yield f"{where}/{RESULT}: test {metric}: printed {test[metric]!r}, recomputed {value!r}"
    for point in record.points:
        expected = {"test": test, "cost": record.result.get("cost", {})}.get(point.group, {})
        for metric, value in point.values.items():
            if metric in expected and value != expected[metric]:
                yield f"{where}/{METRICS}: {point.group} {metric}: printed {value!r}, {RESULT} has {expected[metric]!r}"


def _of_tables(folder: Path, manifest: Manifest) -> Iterator[str]:
    if manifest.resamples_seed != SEED:
        raise RasaError(f"its resamples were drawn with seed {manifest.resamples_seed}, this version has {SEED}")
    for name, text in texts_of(report_of(folder, manifest)).items():
        path = folder / name
        printed = path.read_text(encoding="utf-8") if path.is_file() else ""
        if name == PAGE:  # how it looks is no matter
            printed, text = told(printed), told(text)
        compare = differing_records if name.endswith(".csv") else differing_lines
        yield from (f"{name}: {fault}" for fault in compare(printed, text))


def differing_records(printed: str, recomputed: str) -> Iterator[str]:
    """The cells in which two CSV texts differ."""
    tables = [list(csv.DictReader(io.StringIO(text))) for text in (printed, recomputed)]
    if len(tables[0]) != len(tables[1]):
        yield f"printed {len(tables[0])} records, recomputed {len(tables[1])}"
    for number, (old, new) in enumerate(zip(*tables, strict=False), start=1):
        name = " ".join(filter(None, [f"row {new['row']}" if new.get("row") else f"record {number}", _seed(new)]))
        for column in dict.fromkeys([*new, *old]):
            if not _same(old.get(column), new.get(column)):
                yield f"{name}, column {column}: printed {old.get(column)}, recomputed {new.get(column)}"


def differing_lines(printed: str, recomputed: str) -> Iterator[str]:
    """The cells and the sentences in which two Markdown texts differ."""
    caption, heading, labels = "", list[str](), 1
    for old, new in zip_longest(printed.splitlines(), recomputed.splitlines()):
        before, after = _cells(old), _cells(new)
        if not after:
            caption, heading = (new or caption).rstrip(":"), []
        elif not heading:
            heading = after
        elif RULE.fullmatch(new or ""):
            labels = next((number for number, rule in enumerate(after) if rule.endswith(":")), 1)
        if len(before) == len(after) > 0:
            row = ", ".join(filter(None, after[:labels]))
            for column, was, now in zip(heading, before, after, strict=True):
                if was != now and not RULE.fullmatch(new or ""):
                    yield f"{caption}: row {row}, column {column}: printed {was}, recomputed {now}"
        elif old != new:
            yield f"printed {_quoted(old)}, recomputed {_quoted(new)}"


def _cells(line: str | None) -> list[str]:
    """The cells of a line of a Markdown table; none of another line."""
    if not line or not line.startswith("|"):
        return []
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _quoted(line: str | None) -> str:
    return "nothing" if line is None else f"'{line}'"


def _seed(record: dict[str, str]) -> str:
    return f"seed {record['seed']}" if record.get("seed") else ""


def _same(printed: str | None, recomputed: str | None) -> bool:
    """Whether two cells say the same, value by value where they hold several."""
    if printed == recomputed or printed is None or recomputed is None:
        return printed == recomputed
    old, new = printed.split(";"), recomputed.split(";")
    return len(old) == len(new) and all(_alike(was, now) for was, now in zip(old, new, strict=True))


def _alike(printed: str, recomputed: str) -> bool:
    try:
        return printed == recomputed or math.isclose(
            float(printed), float(recomputed), rel_tol=RELATIVE, abs_tol=ABSOLUTE
        )
    except ValueError:
        return False


def _near(printed: float, recomputed: float, tolerance: float) -> bool:
    return abs(printed - recomputed) <= tolerance or (math.isnan(printed) and math.isnan(recomputed))
