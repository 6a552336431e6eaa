"""A store with many runs, made from one that was synced with fewer: rows of its tables, copied under other names.

A sync of 10,000 runs takes ten minutes of a processor, most of it MLflow's own work, and is measured at smaller sizes.
What reads a store sees no difference: each run has its own tags, figures, parameters and data set.
"""

import json
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.rundir import ABOUT, ENVIRONMENT, RESULT, find_runs

OWN = {"tags": "key", "params": "key", "latest_metrics": "key", "metrics": "key"}  # tables with a row per run and key


def fill(workspace: Path, synced: Path) -> None:
    """The store of `workspace` from that of `synced`, which holds its first seeds: the runs that are missing added."""
    target = workspace / "mlflow.db"
    if target.exists():
        return
    shutil.copyfile(synced / "mlflow.db", target)
    with sqlite3.connect(target) as store:
        known = dict(store.execute("select value, run_uuid from tags where key = 'rasa.run_id'"))
        templates = _templates(store)
        for run in _missing(workspace, known):
            _copy(store, templates[run["row"]], run)
    store.close()


def _missing(workspace: Path, known: dict[str, str]) -> Iterator[dict[str, Any]]:
    for directory in find_runs(workspace):
        about = json.loads((directory / ABOUT).read_text())
        if about["run_id"] not in known:
            result = json.loads((directory / RESULT).read_text())
            started = json.loads((directory / ENVIRONMENT).read_text())["started"]
            yield {**about, "test": result["test"], "started": started, "place": str(directory.relative_to(workspace))}


def _templates(store: sqlite3.Connection) -> dict[str, str]:
    """By row, the run of its seed 0."""
    found = store.execute(
        "select row.value, row.run_uuid from tags row join tags seed on row.run_uuid = seed.run_uuid "
        "where row.key = 'rasa.row' and seed.key = 'rasa.seed' and seed.value = '0'"
    )
    return dict(found)


def _copy(store: sqlite3.Connection, template: str, run: dict[str, Any]) -> None:
    new = uuid.uuid4().hex
    own = {
        "rasa.seed": str(run["seed"]),
        "rasa.run_id": run["run_id"],
        "rasa.started": run["started"],
        "rasa.directory": run["place"],
        "mlflow.runName": f"{run['row']}/seed-{run['seed']}",
    }
    names = _columns(store, "runs")
    values = {"run_uuid": new, "name": own["mlflow.runName"]}
    chosen = ["?" if name in values else f'"{name}"' for name in names]
    store.execute(
        f"insert into runs ({_list(names)}) select {', '.join(chosen)} from runs where run_uuid = ?",
        (*(values[name] for name in names if name in values), template),
    )
    for table in OWN:
        names = _columns(store, table)
        chosen = ["?" if name == "run_uuid" else f'"{name}"' for name in names]
        store.execute(
            f"insert into {table} ({_list(names)}) select {', '.join(chosen)} from {table} where run_uuid = ?",
            (new, template),
        )
    store.executemany("update tags set value = ? where run_uuid = ? and key = ?", [(v, new, k) for k, v in own.items()])
    figures = [(value, new, f"test/{name}") for name, value in run["test"].items()]
    for table in ("latest_metrics", "metrics"):
        store.executemany(f"update {table} set value = ? where run_uuid = ? and key = ?", figures)
    store.execute(
        "insert into inputs (input_uuid, source_type, source_id, destination_type, destination_id, step) "
        "select ?, source_type, source_id, destination_type, ?, step from inputs where destination_id = ?",
        (uuid.uuid4().hex, new, template),
    )


def _columns(store: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in store.execute(f"pragma table_info({table})")]


def _list(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
