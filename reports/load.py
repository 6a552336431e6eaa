"""The one reader of MLflow: the runs of a suite as one tidy table, one row per suite row and seed.

Only runs of the config that a row resolves to now are in it, on one data set and from one set of initial weights, so
that no table mixes what cannot be compared. With it comes what each finished run kept of every test query.
"""

import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments import tracking
from experiments.databases import shown
from experiments.decisions import Queries
from experiments.evidence import SAME, tensors_in
from experiments.found import FoundRun, find
from experiments.layers import flatten
from experiments.machine import device_of
from experiments.plan import state_of
from experiments.predictions import from_steps, in_steps
from experiments.rundir import (
    ENVIRONMENT,
    FAILURE,
    PREDICTIONS,
    RESULT,
    RUNS,
    Point,
    find_runs,
    read_json,
    read_points,
    read_result,
)
from experiments.rundir import METRICS as POINTS
from experiments.spec import load_profile, resolve_without_data, row_digest, suite_names
from experiments.start import re_ranks, start_digest
from experiments.store import SQLITE, faults, mlflow_error, open_store
from experiments.suite import Suite
from rasa.config.benchmark import BenchmarkParams
from rasa.config.run import Config, Data
from rasa.errors import RasaError, ResourceError
from rasa.training.words import FILE as REPLACED
from rasa.training.words import Replaced, read_replaced
from reports.tables import FIGURES, FINISHED

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from rasa.data.dataset import Dataset

SUPERSEDED, RUNNING = "superseded", "running"
METRICS = tuple(column for column, _ in FIGURES.values())
LAST_VAL_R1, _ = FIGURES["last_val_r1"]
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
COLUMNS = (*TAGS, "reason", "started", "mlflow_run", "device", *METRICS)
Record = dict[str, Any]


def queries_of(
    first_rank_T: NDArray[np.int64], average_precision_T: NDArray[np.float64], identity_T: NDArray[np.int64]
) -> Queries:
    """As a report uses them: average precisions in the steps that are published, so that it can be made again."""
    return Queries(first_rank_T, from_steps(in_steps(average_precision_T)), identity_T)


@dataclass(frozen=True, eq=False)
class Start:
    """What the weights that the runs of `rows` began with reach untrained. `metrics` by their names in the tracker.

    `queries` is None where what it found of each query is not known; then so is `stage1`, which has first ranks alone.
    """

    variant: str
    rows: tuple[str, ...]
    reranked: bool  # else its weights have no ITM head, and all its figures are stage 1's
    metrics: Mapping[str, float]
    queries: Queries | None
    stage1: NDArray[np.int64] | None
    directory: str = ""  # of its run


@dataclass(frozen=True)
class SuiteRuns:
    """The table of a suite's runs (COLUMNS), what was left out of it, and the sizes of the data's splits if known.

    `queries` has what each run, by row and seed, found; a run of which that is not known is not there.
    """

    runs: "pd.DataFrame"
    notes: tuple[str, ...]
    sizes: Mapping[str, Mapping[str, int]]
    queries: Mapping[tuple[str, int], Queries] = field(default_factory=dict)
    starts: Sequence[Start] = ()
    stage1: Mapping[str, bool] = field(default_factory=dict)  # by row, whether stage 1 alone ranks it
    points: Mapping[tuple[str, int], Sequence[Point]] = field(default_factory=dict)  # what each run reported on its way
    replaced: Mapping[tuple[str, int], Replaced] = field(default_factory=dict)  # of runs that kept their words


def load_runs(suite: Suite, profile: str, overrides: Sequence[str], uri: str, workspace: Path = Path()) -> SuiteRuns:
    """The runs of `suite` at `profile` that the store at `uri` holds; one that is not there is not made.

    What a run kept is read in `workspace`, where its directory is there.

    Raises SpecError, and ResourceError if there is no such run or the store cannot be read.
    """
    import pandas as pd

    configs = row_configs(suite, profile, overrides)
    name = load_profile(profile).profile
    remedy = start = f"start them with `{command_line('run', suite, profile, overrides)}`"
    if lying := len(find_runs(workspace, suite.suite)):
        remedy = f"`rasa sync` delivers the {lying} that lie in {workspace.absolute() / RUNS}; or {start}"
    _refuse_absent(uri, f"no runs yet; {remedy}")
    with faults(uri):
        client = open_store(uri, reading=True)
        found = list(_search(client, suite.suite, name))
        digests = {row: row_digest(config) for row, config in configs.items()}
        of_config = [run for run in found if _of_config(run, configs, digests)]
        records: dict[bool, list[Record]] = {True: [], False: []}  # by whether they are on the data asked for
        for run in of_config:
            records[_on_data(run, configs[run.tags[tracking.ROW]].data, workspace)].append(_record(run, workspace))
        if not records[True]:
            other = f" ({len(found)} of another config or on other data are there)" if found else ""
            raise ResourceError(f"{shown(uri)}: no runs of {suite.suite} at profile {name}{other}; {remedy}")
        chosen, notes = choose(records[True], configs)
        notes = (*_left_out(records[False], "it is not the data asked for"), *notes)
        finished = [record for record in chosen if record["state"] == FINISHED]
        with TemporaryDirectory() as scratch:
            for record in finished:
                result = read_result(_kept(client, record, RESULT, Path(scratch))) or {}
                began = partial(_began, client, record, Path(scratch))
                record |= selection(result) | measured(result) | {"device": device_of(result, began)}
            for record in chosen:
                if record["state"] == "failed" and not record["reason"]:  # its directory is on another machine
                    told = read_json(_kept(client, record, FAILURE, Path(scratch))) or {}
                    record["reason"] = str(told.get("message", ""))
            queries, said = _queries(client, finished, configs, Path(scratch))
            starts = _starts(client, suite.suite, name, finished, configs, Path(scratch), workspace)
            points, replaced = _on_the_way(client, finished, Path(scratch))
        without = {record["row"] for record in finished if record["weights_digest"]}
        without -= {row for start in starts for row in start.rows}
        if without:
            rows = ", ".join(row for row in configs if row in without)
            said.append(f"The weights that {rows} started from were not evaluated: {start}.")
        table = pd.DataFrame(chosen, columns=list(COLUMNS))
        stage1 = {row: not re_ranks(config) for row, config in configs.items()}
        return SuiteRuns(table, (*notes, *said), _sizes(finished), queries, starts, stage1, points, replaced)


def command_line(verb: str, suite: Suite, profile: str, overrides: Sequence[str]) -> str:
    """What a user types to run, or to report, these rows."""
    targets = suite.asked or (suite.suite if suite.suite in suite_names() else suite.file,)
    options = [part for text in overrides for part in ("-o", text)]
    return shlex.join(["rasa", verb, *targets, "--profile", profile, *options])


def row_configs(suite: Suite, profile: str, overrides: Sequence[str]) -> dict[str, Config]:
    """What each row resolves to now. A profile that leaves data.root to the user is no fault here: any data will do."""
    return {row.name: resolve_without_data(suite, row, profile, overrides)[0] for row in suite.rows}


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


def _search(client: "MlflowClient", suite: str, profile: str, kind: str = tracking.KIND_SEED) -> Iterator[FoundRun]:
    """All seed runs (or starts) of the suite at the profile."""
    return find(client, suite, {tracking.KIND: kind, tracking.PROFILE: profile})


def _of_config(run: FoundRun, configs: Mapping[str, Config], digests: Mapping[str, str]) -> bool:
    """Whether the run is one of a row as it resolves now. Its data is not part of that."""
    tags = run.tags
    row = tags.get(tracking.ROW, "")
    return row in configs and tags.get(tracking.ROW_DIGEST) == digests[row] and tags.get(tracking.STATE) != SUPERSEDED


def _on_data(run: FoundRun, data: Data, workspace: Path) -> bool:
    """Whether the run is on the data that the config names: its root, or the built-in benchmark; any if neither."""
    tags, params = run.tags, run.params
    away = data.target.root if data.target is not None else None
    if data.root is not None:
        root = data.root.expanduser().absolute()
        known = root.is_dir() and (data.target is None or away is not None)
        digest = _digest_now(data.model_copy(update={"root": root}).model_dump_json()) if known else ""
        if digest:
            return tags.get(tracking.DATA_DIGEST) == digest
    if away is not None:
        tested = tags.get(tracking.TARGET_ROOT, params.get("data.target.root"))
        if tested is None or workspace.absolute() / tested != away.expanduser().absolute():
            return False
    if data.root is not None:
        stated = tags.get(tracking.DATA_ROOT, params.get("data.root"))
        return stated is not None and workspace.absolute() / stated == root
    if data.synthetic is None:
        return True
    if benchmark := tags.get(tracking.BENCHMARK):
        return data.synthetic == BenchmarkParams.model_validate_json(benchmark)
    asked = data.synthetic.model_dump(mode="json")
    # Its folder was gone when the run was delivered, or the run is older than that tag: the config's parameters count.
    leaves = flatten({"data": {"synthetic": asked}})
    same = all(params.get(name, str(value)) == str(value) for name, value in leaves.items())
    return same and _data_name(run) in ("", tracking.SYNTHETIC)


def _digest_now(data: str) -> str:
    """Digest of the data set that a `data` section's JSON names; nothing if it cannot be read."""
    dataset = _dataset(data)
    return dataset.digest if dataset else ""


@cache
def _dataset(data: str) -> "Dataset | None":
    """The data set that a `data` section's JSON names; None if it cannot be read."""
    from rasa.data.load import load_dataset

    try:
        return load_dataset(Data.model_validate_json(data))
    except RasaError:
        return None


def _data_name(run: FoundRun) -> str:
    return run.tags.get(tracking.DATA) or run.dataset


def _record(run: FoundRun, workspace: Path) -> Record:
    tags, metrics = run.tags, run.metrics
    record: Record = {column: tags.get(tag, "") for column, tag in TAGS.items()}
    here = tracking.local_directory(tags, workspace)
    record["directory"] = str(here) if here else ""
    record["reason"] = ""
    if here and record["state"] != FINISHED:  # as last heard of; the directory knows of a kill, and why it failed
        state, reason = state_of(here)
        if state in (FINISHED, "stale"):
            record |= {"state": RUNNING, "reason": "finished since; `rasa sync` delivers it"}
        elif state != "new":  # else it is empty now, and the tracker knows better
            record |= {"state": state, "reason": reason}
    record |= {"seed": int(tags[tracking.SEED]), "mlflow_run": run.run_id, "data": _data_name(run)}
    record["sizes"] = json.loads(run.sizes or "{}")  # no column, and so is the next
    stated = tags.get(tracking.DATA_ROOT) or run.params.get("data.root", "")
    record["data_root"] = str(workspace.absolute() / stated) if stated else ""
    record["started"] = datetime.fromtimestamp(run.started / 1000, UTC)
    if not any(name.startswith(f"{tracking.VAL_LAST}/") for name in metrics):  # of an earlier version
        metrics = {**metrics, LAST_VAL_R1: metrics.get(f"{tracking.VAL}/r1", float("nan"))}
    return record | {name: metrics.get(name, float("nan")) for name in METRICS}


def selection(result: Mapping[str, Any]) -> dict[str, float]:
    """R@1 of the checkpoints that might have been chosen, as far as a run's result states them; NaN where it does not.

    The last checkpoint's test figures are known without being stated if it is the one that was chosen.
    """
    selected, last = result.get("selected", {}), result.get("last", {})
    on_test = result.get("test", {}) if selected and selected.get("epoch") == last.get("epoch") else {}
    figures = {
        "selected/val_r1": selected.get("val", {}),
        "last/test_r1": last.get("test", on_test),
        "oracle/test_r1": result.get("test_oracle", {}).get("test", {}),
    }
    return {name: values.get("r1", float("nan")) for name, values in figures.items()}


def measured(result: Mapping[str, Any]) -> dict[str, float]:
    """What the heads make of validation pairs at the chosen checkpoint, and the sensitivity probe.

    Each where a result has it.
    """
    held_out = result.get("selected", {}).get("val", {})
    heads = {f"detector/{name}": value for name, value in held_out.items()}
    probed = {f"probe/{name}": value for name, value in result.get("sensitivity", {}).items()}
    return {name: value for name, value in (heads | probed).items() if name in METRICS}


def _began(client: "MlflowClient", record: Record, scratch: Path) -> Mapping[str, Any]:
    return read_json(_kept(client, record, ENVIRONMENT, scratch)) or {}


def _queries(
    client: "MlflowClient", finished: Iterable[Record], configs: Mapping[str, Config], scratch: Path
) -> tuple[dict[tuple[str, int], Queries], list[str]]:
    """What the runs kept of each query, by row and seed, and a sentence for each reason why it is not known of some."""
    known, missing = {}, dict[str, dict[str, list[int]]]()
    for record in finished:
        tensors = tensors_in(_kept(client, record, PREDICTIONS, scratch))
        rank, precision = tensors.get("first_rank"), tensors.get("average_precision")
        if rank is None or precision is None:
            why = f"{PREDICTIONS} is missing"
        elif abs(100 * (rank == 1).mean() - record["test/r1"]) > SAME:
            why = f"{PREDICTIONS} gives another R@1 than the run reported"
        elif (identity := _identities(tensors, record, configs[record["row"]].data)) is None:
            why = f"whom the queries describe is not known here, since the data ({record['data_digest']}) is not"
        else:
            known[record["row"], record["seed"]] = queries_of(rank, precision, identity)
            continue
        missing.setdefault(why, {}).setdefault(record["row"], []).append(record["seed"])
    return known, [_not_compared(seeds, why) for why, seeds in missing.items()]


def _on_the_way(
    client: "MlflowClient", finished: Iterable[Record], scratch: Path
) -> tuple[dict[tuple[str, int], Sequence[Point]], dict[tuple[str, int], Replaced]]:
    """What runs reported over their epochs, and the words that they kept; of runs that have them."""
    points, words = dict[tuple[str, int], Sequence[Point]](), {}
    for record in finished:
        key, here = (record["row"], record["seed"]), Path(record["directory"] or scratch)
        local = bool(record["directory"]) and (here / POINTS).is_file()
        points[key] = read_points(here if local else _kept(client, record, POINTS, scratch).parent)
        if (found := read_replaced(here / REPLACED if local else _kept(client, record, REPLACED, scratch))) is not None:
            words[key] = found
    return points, words


def _starts(
    client: "MlflowClient",
    suite: str,
    profile: str,
    finished: Iterable[Record],
    configs: Mapping[str, Config],
    scratch: Path,
    workspace: Path,
) -> list[Start]:
    """What was evaluated of the weights that these runs began with, in the order of the rows; the newest of each."""
    rows: dict[tuple[str, ...], dict[str, None]] = {}
    for record in sorted(finished, key=lambda record: list(configs).index(record["row"])):
        if record["weights_digest"]:
            key = (start_digest(configs[record["row"]]), *_inputs(record))
            rows.setdefault(key, {})[record["row"]] = None
    evaluated: dict[tuple[str, ...], FoundRun] = {}
    for run in sorted(_search(client, suite, profile, tracking.KIND_START), key=lambda run: run.started):
        tags = run.tags
        if tags.get(tracking.STATE) == FINISHED:
            inputs = tags[tracking.DATA_DIGEST], tags[tracking.WEIGHTS_DIGEST]
            evaluated[(tags[tracking.ROW_DIGEST], *inputs)] = run
    return [
        _start(client, evaluated[key], [*of], configs, scratch, workspace)
        for key, of in rows.items()
        if key in evaluated
    ]


def _start(
    client: "MlflowClient",
    run: FoundRun,
    rows: Sequence[str],
    configs: Mapping[str, Config],
    scratch: Path,
    workspace: Path,
) -> Start:
    record = _record(run, workspace)
    result = read_result(_kept(client, record, RESULT, scratch)) or {}
    tensors = tensors_in(_kept(client, record, PREDICTIONS, scratch))
    identity = _identities(tensors, record, configs[rows[0]].data)
    queries = stage1 = None
    if identity is not None and "stage1_first_rank" in tensors:
        queries = queries_of(tensors["first_rank"], tensors["average_precision"], identity)
        stage1 = tensors["stage1_first_rank"]
    reranked = bool(result.get("reranked", True))
    metrics = {**run.metrics, **measured(result)}
    return Start(
        run.tags.get(tracking.VARIANT, ""), tuple(rows), reranked, metrics, queries, stage1, record["directory"]
    )


def _not_compared(seeds: Mapping[str, Sequence[int]], why: str) -> str:
    runs = ", ".join(f"{row} (seed {', '.join(map(str, sorted(of_row)))})" for row, of_row in seeds.items())
    return f"Not compared over queries: {runs}: {why}."


def _kept(client: "MlflowClient", record: Record, name: str, scratch: Path) -> Path:
    """A file of a run: in its directory, if that is on this machine, else from the tracker; it may be absent."""
    if record["directory"] and (path := Path(record["directory"]) / name).is_file():
        return path
    folder = scratch / record["mlflow_run"]
    folder.mkdir(exist_ok=True)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    try:
        return Path(client.download_artifacts(record["mlflow_run"], name, str(folder)))
    except (OSError, mlflow_error()):
        return folder / name


def _identities(tensors: Mapping[str, NDArray[Any]], record: Record, data: Data) -> NDArray[np.int64] | None:
    """Whom the test captions describe [T]: as the run kept it, or from its data; None if not on this machine."""
    if "identity" in tensors:
        return tensors["identity"]
    root = Path(record["data_root"])
    if not record["data_root"] or not root.is_dir():
        return None
    dataset = _dataset(data.model_copy(update={"root": root}).model_dump_json())
    same = dataset is not None and dataset.digest == record["data_digest"]
    return dataset.tested.splits["test"].caption_identities if dataset and same else None


def _sizes(finished: Sequence[Record]) -> dict[str, dict[str, int]]:
    """Images, captions and identities per split, as the newest finished run's result states them.

    If that run's directory is not on this machine: as they were logged with its data set.
    """
    if not finished:
        return {}
    newest = max(finished, key=lambda record: record["started"])
    result = read_result(Path(newest["directory"]) / RESULT) if newest["directory"] else None
    sizes: dict[str, dict[str, int]] = (result or {}).get("sizes") or newest["sizes"]
    return sizes


def _refuse_absent(uri: str, text: str) -> None:
    """MLflow would make a sqlite file that is not there, and a reader makes nothing."""
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).is_file():
        raise ResourceError(f"{uri}: {text}")
