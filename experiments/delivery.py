"""One run's directory on its way into a store: what the store lacks is sent, in an order that survives a kill anywhere.

`tracking.json` notes how far a running run has been sent. It is only a note: without it, or in another store, the store
is asked what it has. That all has arrived is the last thing written, with the last figures, in one transaction.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ValidationError

from experiments.adopt import COPIED_FROM
from experiments.filed import Filed, set_status, tag
from experiments.layers import flatten
from experiments.plan import state_of
from experiments.rundir import (
    ABOUT,
    ENVIRONMENT,
    FAILURE,
    METRICS,
    PREDICTIONS,
    RESULT,
    SELECTED,
    SPEC,
    TRACKING,
    Point,
    read_about,
    read_config,
    read_json,
    read_points,
    read_result,
    write_json,
)
from experiments.store import ACTIVE
from experiments.tracking import (
    BATCH,
    BENCHMARK,
    COPIED,
    DATA,
    DATA_DIGEST,
    DATA_ROOT,
    DIGEST_LENGTH,
    DIRECTORY,
    ENDED,
    ENDED_AT,
    KIND,
    KIND_ROW,
    KIND_SEED,
    KIND_START,
    LABELS,
    NUMERICS,
    PAPER,
    PARAM_LENGTH,
    PARAMS_BATCH,
    PARENT,
    PROFILE,
    ROW,
    ROW_DIGEST,
    ROW_ORDER,
    RUN_ID,
    SEED,
    SELECTED_EPOCH,
    SELECTED_STEP,
    STARTED,
    STATE,
    STATES,
    STATUSES,
    SUITE,
    SYNTHETIC,
    TARGET,
    TARGET_ROOT,
    TITLE,
    VARIANT,
    VERSUS,
    VOCABULARY,
    WEIGHTS_DIGEST,
    code_tags,
    directory_tag,
    place_tag,
)
from experiments.yaml_io import load_mapping
from rasa.errors import RasaError
from rasa.training.words import FILE as REPLACED

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param, Run

Arrived = Literal["there", "deleted"]


class Cursor(BaseModel):
    """`tracking.json`: what of a run has been sent, and as which run of the store."""

    mlflow_run: str
    parent_run: str  # empty for a start, which has none
    delivered: dict[str, int] = {}  # metric name: the last step sent
    sending: bool = False  # a batch was on its way when this was written: ask the store what arrived
    described: bool = False  # parameters and data set are there


class Delivery:
    """One run directory on its way into one store."""

    def __init__(
        self, filed: Filed, workspace: Path, directory: Path, notify: Callable[[str], None] = lambda line: None
    ):
        self._filed, self._client = filed, filed.client
        self._workspace, self._directory, self._notify = workspace, directory, notify
        self._about, self._noted = read_about(directory), _read_cursor(directory)
        self._place = directory_tag(directory)
        self._began = read_json(directory / ENVIRONMENT) or {}
        self._result = read_result(directory / RESULT) or {}
        self._state = _state(directory)

    def send(self) -> Arrived:
        """Bring the store up to date with the directory. `deleted`: a person deleted the run there, and it stays so."""
        noted, experiment = self._noted, self._filed.experiment(self._about.suite)
        run = self._filed.seed(experiment, self._about, self._started, self._place, noted.mlflow_run if noted else None)
        if run is not None and run.info.lifecycle_stage != ACTIVE:
            return "deleted"
        if run is None:
            run, parent = self._made(experiment)
            cursor, had = Cursor(mlflow_run=run.info.run_id, parent_run=parent), {}
        else:
            had = run.data.tags
            parent, described = had.get(PARENT, ""), bool(run.data.params)
            cursor = Cursor(mlflow_run=run.info.run_id, parent_run=parent, sending=True, described=described)
            if noted is not None and noted.mlflow_run == run.info.run_id:
                cursor = noted.model_copy(update={"parent_run": parent})
        if not (self._state in ENDED and had.get(STATE) == self._state and self._ended_so(had)):
            self._send(cursor, run, had)
        elif had.get(DIRECTORY) != self._place:  # a record of an earlier version
            tag(self._client, cursor.mlflow_run, {DIRECTORY: self._place})
        if cursor != noted:
            self._write(cursor)
        return "there"

    def _ended_so(self, had: Mapping[str, str]) -> bool:
        """Whether the end that the store knows is this one; records of earlier versions do not say."""
        return had.get(ENDED_AT, self._ended_at) == self._ended_at

    def _send(self, cursor: Cursor, run: "Run", had: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        changed = had.get(STATE) != self._state or self._state in ENDED
        # Early: a run without figures is cheap to change, and its own tag, sent last, says that all is there.
        if changed:
            self._set_status(cursor)
        params = [] if cursor.described else self._describe(cursor)
        if self._state in ENDED and not (had.get(STATE) == "finished" and self._ended_so(had)):
            self._send_artifacts(run)
        if cursor.sending:
            self._ask_what_arrived(cursor)
        metrics = [metric for metric in self._metrics if metric.step > cursor.delivered.get(metric.key, -1)]
        tags = self._tags() if changed or params else {}
        self._send_batches(cursor, metrics, params, [RunTag(name, value) for name, value in tags.items()])
        for metric in metrics:
            cursor.delivered[metric.key] = max(metric.step, cursor.delivered.get(metric.key, -1))
        cursor.sending, cursor.described = False, cursor.described or bool(params)

    def _send_batches(self, cursor: Cursor, metrics: "Sequence[Metric]", params: "Sequence[Param]", tags: Any) -> None:
        """Parameters first, tags with the last figures: a batch arrives as a whole or not at all."""
        parts = [params[start : start + PARAMS_BATCH] for start in range(0, len(params), PARAMS_BATCH)]
        room = BATCH - PARAMS_BATCH - len(tags)
        figures = [metrics[start : start + room] for start in range(0, len(metrics), room)]
        if metrics and self._noted:  # what a delivery that is cut off now would leave must not be taken for all
            cursor.sending = True
            self._write(cursor)
        for part in parts[:-1]:
            self._client.log_batch(cursor.mlflow_run, params=part)
        count = max(len(figures), 1)
        for number in range(count):
            batch: dict[str, Any] = {"metrics": figures[number] if figures else []}
            batch |= {"params": parts[-1]} if parts and number == 0 else {}
            batch |= {"tags": tags} if number == count - 1 else {}
            if any(batch.values()):
                self._client.log_batch(cursor.mlflow_run, **batch)

    def _made(self, experiment: str) -> "tuple[Run, str]":
        """A new run of a seed under its row's, or of a start, which stands alone; and the row's."""
        about, parent = self._about, ""
        name, kind, own = f"seed-{about.seed}", KIND_SEED, dict[str, str]()
        if about.untrained:
            name, kind, own = about.row, KIND_START, self._row_tags()
        else:
            shown = f"{about.row} ({about.variant})" if about.variant else about.row
            parent = self._filed.parent(experiment, shown, self._common_tags(KIND_ROW), self._row_tags())
            own = {PARENT: parent}
        tags = {**self._common_tags(kind), **self._who(), STATE: "running", **own}
        run = self._client.create_run(experiment, _milliseconds(self._first_time), tags, name)
        self._filed.made(run)
        return run, parent

    def _row_tags(self) -> dict[str, str]:
        """What the table needs of a row."""
        about = self._about
        return {
            TITLE: about.title,
            ROW_ORDER: str(about.order),
            LABELS: json.dumps(about.labels, ensure_ascii=False),
            PAPER: json.dumps(about.paper),
            VERSUS: about.versus or "",
            VARIANT: about.variant,
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

    def _who(self) -> dict[str, str]:
        """Which training this is, by what code and on what data."""
        about = self._about
        return {
            SEED: str(about.seed),
            RUN_ID: about.run_id,
            STARTED: self._started,
            **code_tags(self._began),
            DIRECTORY: self._place,
            DATA: about.data_name,
            DATA_ROOT: place_tag(self._workspace, about.data_root),
            BENCHMARK: benchmark_params(about.data_root) if about.data_name == SYNTHETIC else "",
            **(
                {TARGET: about.target_name, TARGET_ROOT: place_tag(self._workspace, about.target_root)}
                if about.target_root
                else {}
            ),
        }

    def _tags(self) -> dict[str, str]:
        """Who it is, as known since it has begun, and how it ended."""
        selected, numerics = self._result.get("selected", {}), self._result.get("numerics", {})
        tags = {**self._who(), STATE: self._state, ENDED_AT: self._ended_at}
        tags |= {name: str(numerics[key]) for key, name in NUMERICS.items() if key in numerics}
        tags |= {
            name: str(selected[key])
            for name, key in ((SELECTED_EPOCH, "epoch"), (SELECTED_STEP, "step"))
            if key in selected
        }
        if COPIED_FROM in self._result:
            tags[COPIED] = str(self._result[COPIED_FROM])
        return tags

    def _describe(self, cursor: Cursor) -> "list[Param]":
        """Log the data set, and give the parameters: once, since MLflow's parameters cannot be changed."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        if not (self._directory / SPEC).exists():
            return []
        about, sizes = self._about, self._sizes()  # now or never: MLflow keeps a data set as it was first logged
        source, profile = (
            json.dumps({"uri": place_tag(self._workspace, about.data_root)}),
            json.dumps(sizes) if sizes else None,
        )
        data = Dataset(about.data_name, about.data_digest[:DIGEST_LENGTH], "local", source, profile=profile)
        context = InputTag(MLFLOW_DATASET_CONTEXT, "training")
        self._client.log_inputs(cursor.mlflow_run, [DatasetInput(data, tags=[context])])
        leaves = _leaves((self._directory / SPEC).read_text(encoding="utf-8"))
        return [Param(name, value[:PARAM_LENGTH]) for name, value in leaves.items()]

    def _sizes(self) -> dict[str, dict[str, int]]:
        """Images, captions and identities per split: from the result, or from the data if it is there; else nothing."""
        sizes: dict[str, dict[str, int]] | None = self._result.get("sizes")
        if sizes:
            return sizes
        try:
            return _split_sizes(read_config(self._directory).data.model_dump_json(), self._about.data_digest)
        except RasaError:  # a spec of another version, or data that is gone: a run's record does without
            return {}

    @cached_property
    def _points(self) -> list[Point]:
        return read_points(self._directory, self._notify)

    @cached_property
    def _metrics(self) -> "list[Metric]":
        """All figures of the directory, and what only the result holds."""
        from mlflow.entities import Metric

        metrics = [
            Metric(f"{point.group}/{name}", value, _milliseconds(point.time), point.step)
            for point in self._points
            for name, value in point.values.items()
        ]
        step = int(self._result.get("cost", {}).get("steps") or 0)
        known, now = {metric.key for metric in metrics}, _milliseconds(self._last_time)
        for group in ("test", "cost"):
            for name, value in self._result.get(group, {}).items():
                if isinstance(value, int | float) and f"{group}/{name}" not in known:
                    metrics.append(Metric(f"{group}/{name}", float(value), now, step))
        return metrics

    def _ask_what_arrived(self, cursor: Cursor) -> None:
        for name in {metric.key for metric in self._metrics}:
            history = self._client.get_metric_history(cursor.mlflow_run, name)
            cursor.delivered[name] = max((metric.step for metric in history), default=-1)
        cursor.sending = False

    def _send_artifacts(self, run: "Run") -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        # By its place, which is known here: by the run's id MLflow would read the whole run again.
        there = get_artifact_repository(run.info.artifact_uri, tracking_uri=self._filed.uri)
        for name in (SPEC, ENVIRONMENT, RESULT, FAILURE, PREDICTIONS, VOCABULARY, METRICS, REPLACED):
            if (self._directory / name).exists():
                there.log_artifact(str(self._directory / name))
        if (self._directory / SELECTED).is_dir():
            there.log_artifacts(str(self._directory / SELECTED), SELECTED)

    def _set_status(self, cursor: Cursor) -> None:
        status, at = STATUSES[self._state], _milliseconds(self._last_time)
        set_status(self._client, cursor.mlflow_run, status, at)
        if cursor.parent_run:
            self._filed.ended(cursor.parent_run, cursor.mlflow_run, status, at)

    @property
    def _started(self) -> str:
        return str(self._began.get("started") or "")

    @property
    def _ended_at(self) -> str:
        ended = self._result.get("finished") or (read_json(self._directory / FAILURE) or {}).get("time")
        return str(ended or "")

    @property
    def _first_time(self) -> float:
        try:
            return datetime.fromisoformat(self._started).timestamp()
        except ValueError:  # nothing has been noted of its beginning yet
            return (self._directory / ABOUT).stat().st_mtime

    @property
    def _last_time(self) -> float:
        return self._points[-1].time if self._points else self._first_time

    def _write(self, cursor: Cursor) -> None:
        # A note that a power cut takes costs a question to the store, so no disk is waited for.
        write_json(self._directory / TRACKING, cursor.model_dump(), durable=False)


def benchmark_params(root: str) -> str:
    """The parameters of the built-in benchmark in `root` as JSON; nothing if that is gone."""
    from rasa.data.synthetic.write import ABOUT as BENCHMARK_FILE

    about = read_json(Path(root) / BENCHMARK_FILE) or {}
    return json.dumps(about["params"], sort_keys=True) if "params" in about else ""


def _state(directory: Path) -> str:
    state = state_of(directory)[0]
    return STATES.get(state, state)


def _read_cursor(directory: Path) -> Cursor | None:
    """The note of an earlier delivery; None without one, or with one that cannot be read: the store knows more."""
    try:
        return Cursor.model_validate(read_json(directory / TRACKING))
    except ValidationError:
        return None


def _leaves(spec: str) -> dict[str, str]:
    """A spec's leaves by dotted key. Runs that differ in the seed alone share the reading of all else."""
    lines = spec.splitlines(keepends=True)
    rest = "".join(line for line in lines if not line.startswith("seed:"))
    seeds = load_mapping("".join(line for line in lines if line.startswith("seed:")) or "{}", SPEC)
    return {name: str(value) for name, value in {**_read_leaves(rest), **seeds}.items()}


@cache
def _read_leaves(text: str) -> dict[str, Any]:
    return flatten(load_mapping(text, SPEC))


@cache
def _split_sizes(data: str, digest: str) -> dict[str, dict[str, int]]:
    """Of the data set that a `data` section's JSON names; nothing if it is no longer the one of that digest."""
    from rasa.config.run import Data
    from rasa.data.load import load_dataset

    dataset = load_dataset(Data.model_validate_json(data))
    return dataset.sizes() if dataset.digest == digest else {}


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
