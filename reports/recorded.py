"""A published report's runs as the same tidy table that reports/load.py reads from MLflow: no store, no workspace."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experiments import predictions
from experiments.environment import code_digest
from experiments.machine import device_of
from experiments.records import Record, last_figures
from experiments.spec import read_spec
from experiments.suite import Suite
from experiments.targets import asked_again
from reports import formats
from reports.build import How, assemble
from reports.cells import Report
from reports.drawings import drawings
from reports.load import COLUMNS, METRICS, Queries, Start, SuiteRuns, measured, queries_of, selection
from reports.pages import Picture
from reports.publication import PAGE, SEEDS_CSV, SPECS, TABLE, TABLE_CSV, Manifest, records_of
from reports.tables import FINISHED


def suite_of(folder: Path, manifest: Manifest) -> Suite:
    """The suite as it was when it was published, or the rows of it that were. Raises SpecError."""
    path = folder / SPECS / manifest.suite
    suite = read_spec(Suite, path, str(path))
    return asked_again(suite, manifest.asked).shown if manifest.asked else suite


def report_of(folder: Path, manifest: Manifest) -> Report:
    """The report, made again from the records alone. Raises SpecError and ResourceError."""
    loaded = load_recorded(folder, manifest)
    how = How(
        manifest.command, manifest.made, manifest.margin, manifest.max_seeds, manifest.resamples, manifest.variant
    )
    return assemble(suite_of(folder, manifest), manifest.profile, loaded, how)


def texts_of(report: Report) -> dict[str, str]:
    """The published page and tables by their files' names; the page has its figures' places empty."""
    pictures = [Picture(Path(each.file), each.words, each.caption, each.section) for each in drawings(report)]
    return {
        PAGE: formats.html(report, pictures, drawn=False),
        TABLE: formats.markdown(report, pictures),
        TABLE_CSV: formats.csv_table(report),
        SEEDS_CSV: formats.seeds_table(report),
    }


def load_recorded(folder: Path, manifest: Manifest) -> SuiteRuns:
    """The runs of a published report. Raises ResourceError for a record that cannot be read."""
    import pandas as pd

    records = records_of(folder, manifest.runs)
    rows: list[Mapping[str, Any]] = [_tidy(record) for record in records]
    blank: dict[str, Any] = dict.fromkeys(COLUMNS, "") | dict.fromkeys(METRICS, float("nan"))
    rows += [blank | run.model_dump() for run in manifest.unfinished]
    started = records_of(folder, [start.record for start in manifest.starts])
    return SuiteRuns(
        runs=pd.DataFrame(rows, columns=list(COLUMNS)),
        notes=manifest.notes,
        sizes=_sizes(records),
        queries={(record.about.row, record.about.seed): _queries(record) for record in records},
        starts=[_start(record, start.rows) for record, start in zip(started, manifest.starts, strict=True)],
        stage1={record.about.row: record.about.row in manifest.stage1 for record in records},
        points={(record.about.row, record.about.seed): record.points for record in records},
        replaced={
            (record.about.row, record.about.seed): record.words for record in records if record.words is not None
        },
    )


def _tidy(record: Record) -> dict[str, Any]:
    """One row of the table."""
    about, environment, dirty = record.about, record.environment, record.environment.get("git_dirty")
    figures = last_figures(record)
    return {
        **{name: getattr(about, name) for name in ("suite", "row", "profile", "seed", "run_id", "row_digest")},
        "data_digest": about.data_digest,
        "weights_digest": about.weights_digest,
        "data": about.data_name,
        "code_digest": code_digest(environment.get("code", {})),
        "git_commit": str(environment.get("git_commit") or ""),
        "git_dirty": "" if dirty is None else str(dirty).lower(),
        "state": FINISHED,
        "reason": "",
        "directory": "",
        "started": datetime.fromtimestamp(record.began / 1000, UTC),
        "mlflow_run": "",
        "device": device_of(record.result, lambda: environment),
        **{name: figures.get(name, float("nan")) for name in METRICS},
        **selection(record.result),
        **measured(record.result),
    }


def _queries(record: Record) -> Queries:
    arrays = record.arrays
    return queries_of(
        arrays[predictions.FIRST_RANK], arrays[predictions.AVERAGE_PRECISION], arrays[predictions.IDENTITY]
    )


def _start(record: Record, rows: Sequence[str]) -> Start:
    return Start(
        variant=record.about.variant,
        rows=tuple(rows),
        reranked=bool(record.result.get("reranked", True)),
        metrics=last_figures(record) | measured(record.result),
        queries=_queries(record),
        stage1=record.arrays.get(f"{predictions.STAGE1}{predictions.FIRST_RANK}"),
    )


def _sizes(records: Sequence[Record]) -> Mapping[str, Mapping[str, int]]:
    newest = max(records, key=lambda record: record.began, default=None)
    return newest.result.get("sizes", {}) if newest else {}
