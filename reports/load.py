"""The one reader of MLflow: the runs of a suite as one tidy table, one row per suite row and seed.

Only runs of the config that a row resolves to now are in it, on one data set and from one set of initial weights, so
that no table mixes what cannot be compared.
"""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import tracking
from experiments.layers import flatten
from experiments.rundir import RESULT, read_json
from experiments.spec import Suite, load_profile, resolve, row_digest, suite_names
from experiments.store import SQLITE, faults, open_store
from rasa.config import Config
from rasa.errors import ResourceError, SpecError
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
        records = [_record(run) for run in found if _of_config(run, configs, digests)]
        if not records:
            other = f" ({len(found)} of another config are there)" if found else ""
            raise ResourceError(f"{uri}: no runs of {suite.suite} at profile {name}{other}; {remedy}")
        chosen, notes = choose(records, configs)
        return SuiteRuns(pd.DataFrame(chosen, columns=list(COLUMNS)), notes, _sizes(chosen))


def command_line(verb: str, suite: Suite, profile: str, overrides: Sequence[str]) -> str:
    """What a user types to run, or to report, these rows."""
    target = suite.suite if suite.suite in suite_names() else suite.file
    options = [part for text in overrides for part in ("-o", text)]
    return shlex.join(["rasa", verb, target, "--profile", profile, *options])


def row_configs(suite: Suite, profile: str, overrides: Sequence[str]) -> dict[str, Config]:
    """What each row resolves to now. A profile that leaves data.root to the user is no fault here: it is not read."""

    def config(row: str) -> Config:
        try:
            return resolve(suite, row, profile, overrides, seed=0)
        except SpecError:
            return resolve(suite, row, profile, ["data.root=.", *overrides], seed=0)

    return {row.name: config(row.name) for row in suite.rows}


def choose(records: Iterable[Record], configs: Mapping[str, Config]) -> tuple[list[Record], tuple[str, ...]]:
    """One record per row and seed, and notes on what was left out.

    Rows that are to share their data and initial weights are shown on the newest that any of them finished on. Of
    several runs of one seed the newest finished one counts, else the newest.
    """
    ordered = sorted(records, key=lambda record: (record["state"] == FINISHED, record["started"]))
    inputs: dict[str, tuple[str, str]] = {}
    for record in ordered:
        inputs[_shared(configs[record["row"]])] = _inputs(record)
    kept, left_out = {}, set()
    for record in ordered:
        if _inputs(record) == inputs[_shared(configs[record["row"]])]:
            kept[record["row"], record["seed"]] = record
        else:
            left_out.add(_inputs(record))
    notes = (
        f"Runs with data digest {data} and initial weights {weights or 'none'} are left out: there are newer ones "
        "with others."
        for data, weights in sorted(left_out)
    )
    return list(kept.values()), tuple(notes)


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
    """Whether the run is one of a row as it resolves now, and of the same built-in benchmark."""
    tags = run.data.tags
    row = tags.get(tracking.ROW, "")
    if row not in configs or tags.get(tracking.ROW_DIGEST) != digests[row] or tags.get(tracking.STATE) == SUPERSEDED:
        return False
    # The benchmark's parameters are in the data's digest, not in the row's; here only the parameters are at hand.
    synthetic = configs[row].data.model_dump(mode="json")["synthetic"] or {}
    leaves = flatten({"data": {"synthetic": synthetic}})
    return all(run.data.params.get(name, str(value)) == str(value) for name, value in leaves.items())


def _record(run: "Run") -> Record:
    tags, metrics = run.data.tags, run.data.metrics
    record: Record = {column: tags.get(tag, "") for column, tag in TAGS.items()}
    record |= {"seed": int(tags[tracking.SEED]), "mlflow_run": run.info.run_id}
    record["started"] = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    return record | {name: metrics.get(name, float("nan")) for name in METRICS}


def _sizes(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    """Images, captions and identities per split, as the newest finished run's result states them.

    Nothing if that run's directory is not on this machine.
    """
    finished = [record for record in records if record["state"] == FINISHED and record["directory"]]
    if not finished:
        return {}
    newest = max(finished, key=lambda record: record["started"])
    sizes: dict[str, dict[str, int]] = (read_json(Path(newest["directory"]) / RESULT) or {}).get("sizes", {})
    return sizes


def _refuse_absent(uri: str, text: str) -> None:
    """MLflow would make a sqlite file that is not there, and a reader makes nothing."""
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).is_file():
        raise ResourceError(f"{uri}: {text}")
