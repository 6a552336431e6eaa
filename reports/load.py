"""The one reader of MLflow: the runs of a suite as one tidy table, one row per suite row and seed.

Only runs of the config that a row resolves to now are in it, on one data set and from one set of initial weights, so
that no table mixes what cannot be compared.
"""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import tracking
from experiments.layers import flatten
from experiments.rundir import RESULT, read_json
from experiments.spec import Suite, load_profile, resolve, row_digest, suite_names
from experiments.store import SQLITE, faults, open_store
from rasa.config import Config, Data
from rasa.errors import RasaError, ResourceError, SpecError
from reports.tables import FIGURES, FINISHED

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000  # runs per request
SUPERSEDED = "superseded"
METRICS = tuple(column for column, _ in FIGURES.values())
# A column of the table and the tag that it is read from.
TAGS = {
    "suite": tracking.SUITE,
    "row": tracking.ROW,
    "profile": tracking.PROFILE,
    "seed": tracking.SEED,
    "run_id": tracking.RUN_ID,
    "row_digest": tracking.ROW_DIGEST,
    "data_digest": tracking.DATA_DIGEST,
    "weights_digest": tracking.WEIGHTS_DIGEST,
    "data": tracking.DATA,
    "code_digest": tracking.CODE_DIGEST,
    "git_commit": tracking.GIT_COMMIT,
    "git_dirty": tracking.GIT_DIRTY,
    "state": tracking.STATE,
    "directory": tracking.DIRECTORY,
}
COLUMNS = (*TAGS, "started", "mlflow_run", *METRICS)
Record = dict[str, Any]


@dataclass(frozen=True)
class SuiteRuns:
    """The table of a suite's runs (COLUMNS), what was left out of it, and the sizes of the data's splits if known."""

    runs: "pd.DataFrame"
    notes: tuple[str, ...]
    sizes: Mapping[str, Mapping[str, int]]


def load_runs(suite: Suite, profile: str, overrides: Sequence[str], uri: str) -> SuiteRuns:
    """The runs of `suite` at `profile` that the store at `uri` holds; one that is not there is not made.

    Raises SpecError, and ResourceError if there is no such run or the store cannot be read.
    """
    import pandas as pd

    configs = row_configs(suite, profile, overrides)
    name = load_profile(profile).profile
    remedy = (
        f"start them with `{command_line('run', suite, profile, overrides)}` (`rasa sync` if the tracker missed them)"
    )
    _refuse_absent(uri, f"no runs yet; {remedy}")
    with faults(uri):
        client = open_store(uri)
        found = list(_search(client, suite.suite, name))
        digests = {row: row_digest(config) for row, config in configs.items()}
        of_config = [run for run in found if _of_config(run, configs, digests)]
        records: dict[bool, list[Record]] = {True: [], False: []}  # by whether they are on the data asked for
        for run in of_config:
            records[_on_data(run, configs[run.data.tags[tracking.ROW]].data)].append(_record(run))
        if not records[True]:
            other = f" ({len(found)} of another config or on other data are there)" if found else ""
            raise ResourceError(f"{uri}: no runs of {suite.suite} at profile {name}{other}; {remedy}")
        chosen, notes = choose(records[True], configs)
        notes = (*_left_out(records[False], "it is not the data asked for"), *notes)
        return SuiteRuns(pd.DataFrame(chosen, columns=list(COLUMNS)), notes, _sizes(chosen))


def command_line(verb: str, suite: Suite, profile: str, overrides: Sequence[str]) -> str:
    """What a user types to run, or to report, these rows."""
    target = suite.suite if suite.suite in suite_names() else suite.file
    options = [part for text in overrides for part in ("-o", text)]
    return shlex.join(["rasa", verb, target, "--profile", profile, *options])


def row_configs(suite: Suite, profile: str, overrides: Sequence[str]) -> dict[str, Config]:
    """What each row resolves to now. A profile that leaves data.root to the user is no fault here: any data will do."""

    def config(row: str) -> Config:
        try:
            return resolve(suite, row, profile, overrides, seed=0)
        except SpecError:
            found = resolve(suite, row, profile, ["data.root=.", *overrides], seed=0)
            return found.model_copy(update={"data": found.data.model_copy(update={"root": None})})

    return {row.name: config(row.name) for row in suite.rows}


def choose(records: Iterable[Record], configs: Mapping[str, Config]) -> tuple[list[Record], tuple[str, ...]]:
    """One record per row and seed, and notes on what was left out.

    Rows that are to share their data and initial weights are shown on those that most of them finished on, of equals
    on the newest. Of several runs of one seed the newest finished one counts, else the newest.
    """
    ordered = sorted(records, key=lambda record: (record["state"] == FINISHED, record["started"]))
    shown = _shown_inputs(ordered, configs)
    kept, left_out = {}, []
    for record in ordered:
        if _inputs(record) == shown[_shared(configs[record["row"]])]:
            kept[record["row"], record["seed"]] = record
        else:
            left_out.append(record)
    return list(kept.values()), tuple(_left_out(left_out, "with others more rows, or newer runs, finished"))


def _shown_inputs(ordered: Sequence[Record], configs: Mapping[str, Config]) -> dict[str, tuple[str, str]]:
    """The inputs on which the rows that share theirs are shown; `ordered` has what is to be preferred last."""
    finished: dict[str, dict[tuple[str, str], set[str]]] = {}
    for record in ordered:
        rows_by_inputs = finished.setdefault(_shared(configs[record["row"]]), {})
        rows = rows_by_inputs.pop(_inputs(record), set())  # and to the end, where the preferred ones stand
        rows_by_inputs[_inputs(record)] = rows | ({record["row"]} if record["state"] == FINISHED else set())
    return {
        shared: max(reversed(rows_by_inputs), key=lambda inputs: len(rows_by_inputs[inputs]))
        for shared, rows_by_inputs in finished.items()
    }


def _left_out(records: Iterable[Record], why: str) -> Iterator[str]:
    """A sentence for all runs on the same inputs."""
    rows: dict[tuple[str, str], set[str]] = {}
    for record in records:
        rows.setdefault(_inputs(record), set()).add(record["row"])
    for (data, weights), names in sorted(rows.items()):
        runs = f"runs of {', '.join(sorted(names))} with data digest {data} and initial weights {weights or 'none'}"
        yield f"Left out: {runs}: {why}."


def _shared(config: Config) -> str:
    """Equal for rows that are to run on the same data and from the same weights."""
    return json.dumps([config.data.model_dump(mode="json"), str(config.model.weights)])


def _inputs(record: Record) -> tuple[str, str]:
    return record["data_digest"], record["weights_digest"]


def _search(client: "MlflowClient", suite: str, profile: str) -> Iterator["Run"]:
    """All seed runs of the suite at the profile, page by page."""
    experiment = client.get_experiment_by_name(suite)
    if experiment is None or experiment.lifecycle_stage != "active":
        return
    terms = {tracking.KIND: tracking.KIND_SEED, tracking.PROFILE: profile}
    text = " and ".join(f"tags.`{name}` = '{value}'" for name, value in terms.items())
    token = None
    while True:
        page = client.search_runs([experiment.experiment_id], text, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _of_config(run: "Run", configs: Mapping[str, Config], digests: Mapping[str, str]) -> bool:
    """Whether the run is one of a row as it resolves now. Its data is not part of that."""
    tags = run.data.tags
    row = tags.get(tracking.ROW, "")
    return row in configs and tags.get(tracking.ROW_DIGEST) == digests[row] and tags.get(tracking.STATE) != SUPERSEDED


def _on_data(run: "Run", data: Data) -> bool:
    """Whether the run is on the data that the config names: its root, or the built-in benchmark; any if neither."""
    tags, params = run.data.tags, run.data.params
    if data.root is not None:
        root = data.root.expanduser().absolute()
        digest = _digest_now(data.model_copy(update={"root": root}).model_dump_json()) if root.is_dir() else ""
        if digest:
            return tags.get(tracking.DATA_DIGEST) == digest
        return tags.get(tracking.DATA_ROOT, params.get("data.root")) == str(root)
    if data.synthetic is None:
        return True
    asked = data.synthetic.model_dump(mode="json")
    if benchmark := tags.get(tracking.BENCHMARK):
        return bool(json.loads(benchmark) == asked)
    # Its folder was gone when the run was delivered, or the run is older than that tag: the config's parameters count.
    leaves = flatten({"data": {"synthetic": asked}})
    same = all(params.get(name, str(value)) == str(value) for name, value in leaves.items())
    return same and _data_name(run) in ("", tracking.SYNTHETIC)


@cache
def _digest_now(data: str) -> str:
    """Digest of the data set that a `data` section's JSON names; nothing if it cannot be read."""
    from rasa.data.load import load_dataset

    try:
        return load_dataset(Data.model_validate_json(data)).digest
    except RasaError:
        return ""


def _logged(run: "Run") -> Any:
    """The data set that was logged with the run; None before it has begun."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return inputs[0].dataset if inputs else None


def _data_name(run: "Run") -> str:
    logged = _logged(run)
    return run.data.tags.get(tracking.DATA) or (logged.name if logged else "")


def _record(run: "Run") -> Record:
    tags, metrics = run.data.tags, run.data.metrics
    record: Record = {column: tags.get(tag, "") for column, tag in TAGS.items()}
    record |= {"seed": int(tags[tracking.SEED]), "mlflow_run": run.info.run_id, "data": _data_name(run)}
    record["sizes"] = json.loads(getattr(_logged(run), "profile", None) or "{}")  # no column
    record["started"] = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    return record | {name: metrics.get(name, float("nan")) for name in METRICS}


def _sizes(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    """Images, captions and identities per split, as the newest finished run's result states them.

    If that run's directory is not on this machine: as they were logged with its data set.
    """
    finished = [record for record in records if record["state"] == FINISHED]
    if not finished:
        return {}
    newest = max(finished, key=lambda record: record["started"])
    result = read_json(Path(newest["directory"]) / RESULT) if newest["directory"] else None
    sizes: dict[str, dict[str, int]] = (result or {}).get("sizes") or newest["sizes"]
    return sizes


def _refuse_absent(uri: str, text: str) -> None:
    """MLflow would make a sqlite file that is not there, and a reader makes nothing."""
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).is_file():
        raise ResourceError(f"{uri}: {text}")
