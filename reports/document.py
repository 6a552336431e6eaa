"""A report as one document for programs, with everything that is on its page, and the schema that it follows."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from reports.cells import Report
from reports.grid import Grid
from reports.pages import Page, Picture, page_of
from reports.starts import OverStart
from reports.tables import Line, Spread
from reports.verdict import Step

VERSION = 1
SCHEMA = "report.schema.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Cell(_Part):
    """One cell as it is printed."""

    text: str
    bold: bool = Field(description="Whether it is printed bold: a step that is shown, or the best published value.")
    detail: str = Field(description="What stands small beneath it: single values, or the row's other labels.")


class Table(_Part):
    """A table as it is printed."""

    caption: str
    columns: list[str]
    header: int = Field(description="The place of the column that tells the rows apart.")
    rows: list[list[Cell]]
    said: list[str] = Field(description="Sentences beneath it.")


class Figure(_Part):
    """A picture, which lies beside the document."""

    file: str
    caption: str
    words: str = Field(description="What it shows.")
    section: str = Field(description="Heading of its section; empty: before the first table.")


class Estimate(_Part):
    """A figure over seeds; null is what the runs do not tell."""

    n: int
    mean: float | None
    sd: float | None = Field(description="Standard deviation of the sample.")
    low: float | None = Field(description="95 % t-interval of the mean.")
    high: float | None
    by_seed: dict[int, float]


class Difference(_Part):
    """One row minus the row `versus`, decided by R@1, in percent points."""

    versus: str
    verdict: str = Field(description="Empty without a seed that both rows have.")
    wording: str
    seeds: list[int]
    mean: float | None
    low: float | None
    high: float | None
    p_holm: float | None
    p_equivalent_holm: float | None
    published: float | None
    could_see: float | None
    power: float | None
    seeds_needed: int | None
    map_mean: float | None
    map_low: float | None
    map_high: float | None


class OfStart(_Part):
    """A row minus the untrained weights that it began with, in percent points of R@1."""

    start: str
    untrained: float
    value: float
    low: float | None
    high: float | None
    beats: bool | None


class RowOfReport(_Part):
    """A row with its numbers at full precision; accuracies in percent."""

    name: str
    labels: dict[str, str]
    state: str
    unfinished: dict[int, str] = Field(description="By seed, the state of what did not finish.")
    reasons: dict[int, str] = Field(description="By seed, why, where it is known.")
    figures: dict[str, Estimate]
    paper: dict[str, float]
    versus: str | None
    gain: Estimate
    paper_gain: float | None
    step: Difference | None
    over_start: OfStart | None


class Document(_Part):
    """A report."""

    schema_file: str = Field(SCHEMA, alias="$schema")
    version: int = VERSION
    title: str
    source: str
    verdict: list[str] = Field(description="What it comes to, a sentence each.")
    warnings: list[str]
    tables: list[Table]
    figures: list[Figure]
    notes: list[str]
    provenance: dict[str, str]
    profile: str = ""
    comparable: bool = Field(False, description="Whether ours were measured on the paper's data.")
    chance: float | None = Field(None, description="R@1 of a random ranking, in percent.")
    margin: float | None = Field(None, description="Percent points within which rows are equivalent.")
    rows: list[RowOfReport] = Field(default=[], description="The starts, then the suite's rows in their order.")
    competitors: list[dict[str, str | float]] = Field(default=[], description="The paper's lines that are no rows.")


def document(report: Report | Page, pictures: Sequence[Picture] = ()) -> Document:
    """Everything that is on the page, and the numbers behind it."""
    page = page_of(report)
    found: dict[str, Any] = {
        "title": page.title,
        "source": page.source,
        "verdict": list(page.verdict),
        "warnings": list(page.above),
        "tables": [_table(grid) for grid in page.grids],
        "figures": [
            Figure(file=each.file.name, caption=each.caption, words=each.words, section=each.section)
            for each in pictures
        ],
        "notes": list(page.notes),
        "provenance": dict(page.provenance),
    }
    if isinstance(report, Report):
        found |= {"profile": report.profile, "comparable": report.comparable, "chance": report.chance}
        found |= {"margin": report.judged.margin, "rows": [_row(line, report) for line in report.all_lines]}
        found["competitors"] = [dict(each) for each in report.competitors]
    return Document(**found)


def json_text(report: Report | Page, pictures: Sequence[Picture] = ()) -> str:
    """The document as it is written."""
    values = document(report, pictures).model_dump(mode="json", by_alias=True)
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def schema_text() -> str:
    """JSON Schema (draft 2020-12) of the document, as these models make it."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Document.model_json_schema()}
    return json.dumps(schema, indent=1) + "\n"


def _table(grid: Grid) -> Table:
    rows = [[Cell(text=cell.text, bold=cell.best, detail=cell.detail) for cell in row] for row in grid.rows]
    columns = [column.heading for column in grid.columns]
    return Table(caption=grid.caption, columns=columns, header=grid.header, rows=rows, said=list(grid.said))


def _row(line: Line, report: Report) -> RowOfReport:
    step, gain = report.judged.steps.get(line.name), report.over_start.get(line.name)
    return RowOfReport(
        name=line.name,
        labels=dict(line.labels),
        state=line.state,
        unfinished=dict(line.unfinished),
        reasons=dict(line.reasons),
        figures={name: _estimate(figure) for name, figure in line.figures.items() if figure.n},
        paper=dict(line.paper),
        versus=line.versus,
        gain=_estimate(line.gain),
        paper_gain=line.paper_gain,
        step=_difference(step) if step else None,
        over_start=_of_start(gain) if gain else None,
    )


def _estimate(figure: Spread) -> Estimate:
    low, high = figure.interval or (None, None)
    by_seed = {seed: value for seed, value in sorted(figure.by_seed.items()) if math.isfinite(value)}
    numbers = _finite({"mean": figure.mean, "sd": figure.sd, "low": low, "high": high})
    return Estimate(n=figure.n, by_seed=by_seed, **numbers)


def _difference(step: Step) -> Difference:
    r1, average, foresight = step.r1, step.map, step.foresight
    numbers = {name: getattr(r1, name) for name in ("mean", "low", "high", "p_holm", "p_equivalent_holm", "published")}
    numbers |= {"could_see": foresight.could_see, "power": foresight.power}
    numbers |= {f"map_{name}": getattr(average, name, None) for name in ("mean", "low", "high")}
    return Difference(
        versus=r1.versus,
        verdict=step.verdict,
        wording=step.wording,
        seeds=list(r1.seeds),
        seeds_needed=foresight.seeds_needed or None,
        **_finite(numbers),
    )


def _of_start(gain: OverStart) -> OfStart:
    return OfStart(
        start=gain.versus, untrained=gain.untrained, value=gain.value, low=gain.low, high=gain.high, beats=gain.beats
    )


def _finite(numbers: Mapping[str, float | None]) -> dict[str, Any]:
    """What is no number in JSON is null."""
    return {name: value if value is not None and math.isfinite(value) else None for name, value in numbers.items()}
