"""The one writer to MLflow: experiment = suite, parent run = row (or start), child run = seed. It owns every name used there.

A delivery replays a run's directory from where the last one ended (`tracking.json`), so a tracker that is away costs
nothing but a line (experiments/courier.py), and `sync` sends the rest later. Nothing ever decides by what MLflow says of a run.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from experiments.adopt import COPIED_FROM
from experiments.environment import code_digest, environment
from experiments.layers import flatten
from experiments.plan import judge
from experiments.rundir import (
    ABOUT,
    ENVIRONMENT,
    FAILURE,
    PREDICTIONS,
    RESULT,
    SELECTED,
    SPEC,
    TRACKING,
    read_about,
    read_config,
    read_json,
    read_points,
    write_json,
)
from experiments.store import artifact_location, mlflow_error, parent_lock
from experiments.yaml_io import load_mapping
from rasa.errors import RasaError, ResourceError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

# Tags of parent and child runs.
KIND, SUITE, ROW, PROFILE, ROW_DIGEST = "rasa.kind", "rasa.suite", "rasa.row", "rasa.profile", "rasa.row_digest"
DATA_DIGEST, WEIGHTS_DIGEST = "rasa.data_digest", "rasa.weights_digest"
# Tags of parents only: what the table needs of a row.
TITLE, ROW_ORDER, LABELS, PAPER, VERSUS = "rasa.title", "rasa.row_order", "rasa.labels", "rasa.paper", "rasa.versus"
# Tags of children, and of a start, which is parent and child in one: it has no seeds.
PARENT = "mlflow.parentRunId"
SEED, RUN_ID, STATE, DIRECTORY = "rasa.seed", "rasa.run_id", "rasa.state", "rasa.directory"
CODE_DIGEST, GIT_COMMIT, GIT_DIRTY = "rasa.code_digest", "rasa.git_commit", "rasa.git_dirty"
# The data set's name (`synthetic` or its format), its folder, and the built-in benchmark's parameters as JSON.
DATA, DATA_ROOT, BENCHMARK = "rasa.data", "rasa.data_root", "rasa.benchmark"
TARGET, TARGET_ROOT = "rasa.target", "rasa.target_root"  # name and folder of the data tested on, where it is another
COPIED = "rasa.copied_from"  # the suite/row that was trained, if this run is a copy of it
VARIANT = "rasa.variant"  # of a start: in what it differs from the suite's others
SELECTED_EPOCH, SELECTED_STEP = "rasa.selected_epoch", "rasa.selected_step"
# How the run was computed: float32, tf32 or bf16; whether layers were compiled; the batch, e.g. `4 x 13` if in shares.
NUMERICS = {"precision": "rasa.precision", "compiled": "rasa.compiled", "batch": "rasa.batch"}

KIND_ROW, KIND_SEED, KIND_START = "row", "seed", "start"
SYNTHETIC = "synthetic"
BENCHMARKS = "benchmarks"  # the experiment of `rasa bench`
VOCABULARY = "vocab.txt"  # without it the weights are of no use where the tokenizer was trained on the captions
# What becomes of a run's state here. A stale run is finished: that the code changed since is not the tracker's to say.
STATES = {"new": "running", "stale": "finished"}
STATUSES = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED",
            "superseded": "FINISHED"}  # fmt: skip
ENDED = ("finished", "superseded", "failed")
PARENT_STATUSES = ("RUNNING", "FAILED", "KILLED", "FINISHED")  # a row's is the first of these that a seed of it has
BATCH, PARAMS_BATCH, PARAM_LENGTH, DIGEST_LENGTH = 1000, 100, 6000, 36  # MLflow's limits
GONE = "RESOURCE_DOES_NOT_EXIST"


class Cursor(BaseModel):
    """`tracking.json`: what of a run has been delivered, and where to."""

    uri: str
    mlflow_run: str
    parent_run: str  # empty for a start, which has none
    delivered: dict[str, int] = {}  # metric name: the last step sent
    sending: bool = False  # a batch was on its way when this was written: ask the tracker what arrived
    described: bool = False  # parameters and data set are there
    state: str = ""  # the last one sent; if the run has ended with it, all is delivered


def delivered(directory: Path, uri: str) -> bool:
    """Whether the store has all of a run that has ended; asks the directory, not the store."""
    cursor = _read_cursor(directory, uri)
    return cursor is not None and cursor.state in ENDED and cursor.state == _state(directory)


class Delivery:
    """One run directory on its way into one store."""

    def __init__(self, client: "MlflowClient", uri: str, workspace: Path, directory: Path):
        self._client, self._uri, self._workspace, self._directory = client, uri, workspace, directory
        self._about = read_about(directory)

    def send(self) -> None:
        """Bring the store up to date with the directory."""
        cursor = self._cursor()
        if cursor is None:
            return
        state = _state(self._directory)
        if not cursor.described:
            self._describe(cursor)
        if cursor.sending:
            self._ask_what_arrived(cursor)
        self._send_metrics(cursor, self._metrics())
        if state != cursor.state:
            if state in ENDED and cursor.state != "finished":
                self._send_artifacts(cursor)
            self._send_state(cursor, state)
        self._write(cursor)

    def _cursor(self) -> Cursor | None:
        """Where the last delivery ended; a new pair of runs if there was none; None if a person deleted the run."""
        cursor = _read_cursor(self._directory, self._uri)
        if cursor is not None:
            try:
                stage = self._client.get_run(cursor.mlflow_run).info.lifecycle_stage
                return cursor if stage == "active" else None
            except mlflow_error() as error:
                if error.error_code != GONE:  # else the store is another one, at the old address
                    raise
        with parent_lock(self._uri, self._workspace):
            experiment = self._experiment()
            parent = "" if self._about.untrained else self._parent(experiment)
        run = self._unclaimed(experiment) or self._child(experiment, parent)
        cursor = Cursor(uri=self._uri, mlflow_run=run, parent_run=parent)
        self._write(cursor)
        return cursor

    def _unclaimed(self, experiment: str) -> str | None:
        """A run that was made for this directory by a process that died before it could note that."""
        terms = f"tags.`{RUN_ID}` = '{self._about.run_id}' and tags.`{STATE}` = 'running'"
        for run in self._client.search_runs([experiment], terms):
            if run.data.tags.get(DIRECTORY) == str(self._directory.absolute()) and not run.data.metrics:
                return run.info.run_id
        return None

    def _child(self, experiment: str, parent: str) -> str:
        """A new run of a seed under its row's, or of a start, which stands alone."""
        about = self._about
        name, kind, own = f"seed-{about.seed}", KIND_SEED, {PARENT: parent}
        if about.untrained:
            name, kind, own = about.row, KIND_START, self._row_tags() | {VARIANT: about.variant}
        run = self._client.create_run(
            experiment,
            start_time=_milliseconds(self._first_time()),
            run_name=name,
            tags={**self._common_tags(kind), **self._child_tags(), **own},
        )
        return run.info.run_id

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._about.suite)
        if found is None:
            location = artifact_location(self._uri, self._workspace)
            return self._client.create_experiment(self._about.suite, artifact_location=location)
        if found.lifecycle_stage != "active":
            self._client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def _parent(self, experiment: str) -> str:
        """The row's run: one for all seeds that differ in nothing else, data and initial weights included."""
        tags = self._common_tags(KIND_ROW)
        terms = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        found = self._client.search_runs([experiment], terms, max_results=1)
        described = self._row_tags()
        if found:
            if not described.items() <= found[0].data.tags.items():  # the suite's file has changed since
                self._tag(found[0].info.run_id, described)
            return found[0].info.run_id
        return self._client.create_run(experiment, run_name=self._about.row, tags=tags | described).info.run_id

    def _row_tags(self) -> dict[str, str]:
        """What the table needs of a row."""
        about = self._about
        return {
            TITLE: about.title,
            ROW_ORDER: str(about.order),
            LABELS: json.dumps(about.labels, ensure_ascii=False),
            PAPER: json.dumps(about.paper),
            VERSUS: about.versus or "",
        }

    def _common_tags(self, kind: str) -> dict[str, str]:
        about = self._about
        return {
            KIND: kind,
            SUITE: about.suite,
            ROW: about.row,
            PROFILE: about.profile,
            ROW_DIGEST: about.row_digest,
            DATA_DIGEST: about.data_digest,
            WEIGHTS_DIGEST: about.weights_digest,
        }

    def _child_tags(self) -> dict[str, str]:
        about, began = self._about, read_json(self._directory / ENVIRONMENT) or {}
        return {
            SEED: str(about.seed),
            RUN_ID: about.run_id,
            STATE: "running",
            **_code_tags(began),
            DIRECTORY: str(self._directory.absolute()),
            DATA: about.data_name,
            DATA_ROOT: about.data_root,
            BENCHMARK: _benchmark(about.data_root) if about.data_name == SYNTHETIC else "",
            **({TARGET: about.target_name, TARGET_ROOT: about.target_root} if about.target_root else {}),
        }

    def _describe(self, cursor: Cursor) -> None:
        """Parameters and data set: once, since MLflow's parameters cannot be changed."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        if not (self._directory / SPEC).exists():
            return
        leaves = flatten(load_mapping((self._directory / SPEC).read_text(encoding="utf-8"), SPEC))
        params = [Param(name, str(value)[:PARAM_LENGTH]) for name, value in leaves.items()]
        for part in _batches(params, PARAMS_BATCH):
            self._client.log_batch(cursor.mlflow_run, params=part)
        about = self._about
        source = json.dumps({"uri": about.data_root})
        sizes = self._sizes()  # now or never: MLflow keeps a data set as it was first logged
        profile = json.dumps(sizes) if sizes else None
        data = Dataset(about.data_name, about.data_digest[:DIGEST_LENGTH], "local", source, profile=profile)
        context = InputTag(MLFLOW_DATASET_CONTEXT, "training")
        self._client.log_inputs(cursor.mlflow_run, [DatasetInput(data, tags=[context])])
        self._tag(cursor.mlflow_run, self._child_tags())  # the environment is known only since the run has begun
        cursor.described = True
        self._write(cursor)

    def _sizes(self) -> dict[str, dict[str, int]]:
        """Images, captions and identities per split: from the result, or from the data if it is there; else nothing."""
        sizes: dict[str, dict[str, int]] | None = (read_json(self._directory / RESULT) or {}).get("sizes")
        if sizes:
            return sizes
        try:
            return _split_sizes(read_config(self._directory).data.model_dump_json(), self._about.data_digest)
        except RasaError:  # a spec of another version, or data that is gone: a run's record does without
            return {}

    def _metrics(self) -> list["Metric"]:
        """All figures of the directory, and what only the result holds."""
        from mlflow.entities import Metric

        metrics = [
            Metric(f"{point.group}/{name}", value, _milliseconds(point.time), point.step)
            for point in read_points(self._directory)
            for name, value in point.values.items()
        ]
        result = read_json(self._directory / RESULT) or {}
        step = int(result.get("cost", {}).get("steps") or 0)
        known, now = {metric.key for metric in metrics}, _milliseconds(self._last_time())
        for group in ("test", "cost"):
            for name, value in result.get(group, {}).items():
                if isinstance(value, int | float) and f"{group}/{name}" not in known:
                    metrics.append(Metric(f"{group}/{name}", float(value), now, step))
        return metrics

    def _send_metrics(self, cursor: Cursor, metrics: list["Metric"]) -> None:
        new = [metric for metric in metrics if metric.step > cursor.delivered.get(metric.key, -1)]
        if not new:
            return
        cursor.sending = True
        self._write(cursor)
        for part in _batches(new, BATCH):
            self._client.log_batch(cursor.mlflow_run, metrics=part)
        for metric in new:
            cursor.delivered[metric.key] = max(metric.step, cursor.delivered.get(metric.key, -1))
        cursor.sending = False
        self._write(cursor)

    def _ask_what_arrived(self, cursor: Cursor) -> None:
        for name in {metric.key for metric in self._metrics()}:
            history = self._client.get_metric_history(cursor.mlflow_run, name)
            cursor.delivered[name] = max((metric.step for metric in history), default=-1)
        cursor.sending = False

    def _send_artifacts(self, cursor: Cursor) -> None:
        for name in (SPEC, ENVIRONMENT, RESULT, FAILURE, PREDICTIONS, VOCABULARY):
            if (self._directory / name).exists():
                self._client.log_artifact(cursor.mlflow_run, str(self._directory / name))
        if (self._directory / SELECTED).is_dir():
            self._client.log_artifacts(cursor.mlflow_run, str(self._directory / SELECTED), SELECTED)

    def _send_state(self, cursor: Cursor, state: str) -> None:
        result = read_json(self._directory / RESULT) or {}
        selected, numerics = result.get("selected", {}), result.get("numerics", {})
        tags = {STATE: state, DIRECTORY: str(self._directory.absolute())}
        tags |= {tag: str(numerics[key]) for key, tag in NUMERICS.items() if key in numerics}
        tags |= {name: str(selected[key]) for name, key in ((SELECTED_EPOCH, "epoch"), (SELECTED_STEP, "step"))
                 if key in selected}  # fmt: skip
        if COPIED_FROM in result:
            tags[COPIED] = str(result[COPIED_FROM])
        self._tag(cursor.mlflow_run, tags)
        self._set_status(cursor.mlflow_run, STATUSES[state])
        if cursor.parent_run:
            self._end_parent(cursor)
        cursor.state = state

    def _end_parent(self, cursor: Cursor) -> None:
        with parent_lock(self._uri, self._workspace):  # so that of two seeds that end at once the last sees both
            self._set_status(cursor.parent_run, self._parent_status(cursor))

    def _parent_status(self, cursor: Cursor) -> str:
        experiment = self._client.get_run(cursor.parent_run).info.experiment_id
        seeds = self._client.search_runs([experiment], f"tags.`{PARENT}` = '{cursor.parent_run}'")
        statuses = {run.info.status for run in seeds}
        return next((status for status in PARENT_STATUSES if status in statuses), "FINISHED")

    def _set_status(self, run: str, status: str) -> None:
        if status == "RUNNING":
            self._client.update_run(run, status=status)
        else:
            self._client.set_terminated(run, status, _milliseconds(self._last_time()))

    def _tag(self, run: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(run, tags=[RunTag(name, value) for name, value in tags.items()])

    def _first_time(self) -> float:
        return (self._directory / ABOUT).stat().st_mtime

    def _last_time(self) -> float:
        points = read_points(self._directory)
        return points[-1].time if points else self._first_time()

    def _write(self, cursor: Cursor) -> None:
        write_json(self._directory / TRACKING, cursor.model_dump())


def log_benchmark(figures: dict[str, Any], uri: str, workspace: Path) -> str:
    """Log one benchmark's figures, numbers as metrics `bench/...`, the rest as parameters, and give the run's id.

    Raises StoreFault if the store is away.
    """
    from mlflow.entities import Metric, Param

    from experiments.store import faults, open_store

    client = open_store(uri)
    variants = {each["variant"].replace(" ", "-"): each for each in figures.get("variants", ())}
    flat = flatten(figures | {"variants": variants})
    numbers = {name: value for name, value in flat.items() if isinstance(value, int | float)}
    with faults(uri), parent_lock(uri, workspace):
        found = client.get_experiment_by_name(BENCHMARKS)
        experiment = (
            found.experiment_id
            if found
            else client.create_experiment(BENCHMARKS, artifact_location=artifact_location(uri, workspace))
        )
        name = " ".join(str(figures[key]) for key in ("benchmark", "size", "device"))
        run = client.create_run(experiment, run_name=name, tags={KIND: "benchmark", **_code_tags(environment())}).info
        now = run.start_time
        client.log_batch(
            run.run_id,
            metrics=[Metric(f"bench/{name}", float(value), now, 0) for name, value in numbers.items()],
            params=[Param(name, str(value)[:PARAM_LENGTH]) for name, value in flat.items() if name not in numbers],
        )
        client.log_dict(run.run_id, figures, "benchmark.json")
        client.set_terminated(run.run_id)
    return run.run_id


def _code_tags(began: dict[str, Any]) -> dict[str, str]:
    return {
        CODE_DIGEST: code_digest(began.get("code", {})),
        GIT_COMMIT: str(began.get("git_commit") or ""),
        GIT_DIRTY: "" if began.get("git_dirty") is None else str(began["git_dirty"]).lower(),
    }


def _state(directory: Path) -> str:
    state = judge(directory)[0]
    return STATES.get(state, state)


def _read_cursor(directory: Path, uri: str) -> Cursor | None:
    stored = read_json(directory / TRACKING)
    if stored is None or stored.get("uri") != uri:
        return None
    try:
        return Cursor.model_validate(stored)
    except ValidationError as error:
        raise ResourceError(f"{directory / TRACKING}: cannot be read; remove it to deliver the run anew") from error


def _benchmark(root: str) -> str:
    """The parameters of the built-in benchmark in `root` as JSON; nothing if that is gone."""
    from rasa.data.synthetic.write import ABOUT as BENCHMARK_FILE

    about = read_json(Path(root) / BENCHMARK_FILE) or {}
    return json.dumps(about["params"], sort_keys=True) if "params" in about else ""


@cache
def _split_sizes(data: str, digest: str) -> dict[str, dict[str, int]]:
    """Of the data set that a `data` section's JSON names; nothing if it is no longer the one of that digest."""
    from rasa.config import Data
    from rasa.data.load import load_dataset

    dataset = load_dataset(Data.model_validate_json(data))
    return dataset.sizes() if dataset.digest == digest else {}


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
