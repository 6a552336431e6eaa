"""One run's directory on its way into a store: what the store lacks is sent, in an order that survives a kill anywhere.

`tracking.json` notes how far a running run has been sent. It is only a note: without it, or in another store, the store
is asked what it has. That all has arrived is the last thing written, with the last figures, in one transaction. What
there is to say: experiments/contents.py.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ValidationError

from experiments import logged_models, notes
from experiments.contents import Contents, milliseconds
from experiments.filed import Filed, parts, set_status, tag
from experiments.rundir import (
    CHANGES,
    ENVIRONMENT,
    FAILURE,
    METRICS,
    PREDICTIONS,
    RESULT,
    SELECTED,
    SPEC,
    TRACKING,
    read_json,
    write_json,
)
from experiments.sharing import send
from experiments.store import ACTIVE
from experiments.tracking import (
    BATCH,
    DIRECTORY,
    ENDED,
    ENDED_AT,
    KIND_ROW,
    KIND_SEED,
    KIND_START,
    PARAMS_BATCH,
    PARENT,
    STATE,
    STATUSES,
    VOCABULARY,
    old_names,
    row_name,
)
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
        self._filed, self._client, self._directory = filed, filed.client, directory
        self._run, self._noted = Contents(workspace, directory, notify), _read_cursor(directory)
        self._state = self._run.state

    def send(self) -> Arrived:
        """Bring the store up to date with the directory. `deleted`: a person deleted the run there, and it stays so."""
        noted, about, place = self._noted, self._run.about, self._run.place
        experiment = self._filed.experiment(about)
        run = self._filed.seed(experiment, about, self._run.started, place, noted.mlflow_run if noted else None)
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
            if run.info.run_name in old_names(about) and run.info.run_name != self._run.name:
                self._client.update_run(run.info.run_id, name=self._run.name)
        if not (self._state in ENDED and had.get(STATE) == self._state and self._ended_so(had)):
            self._send(cursor, run, had)
        elif had.get(DIRECTORY) != place:  # a record of an earlier version
            tag(self._client, cursor.mlflow_run, {DIRECTORY: place})
        if cursor != noted:
            self._write(cursor)
        return "there"

    def _ended_so(self, had: Mapping[str, str]) -> bool:
        """Whether the end that the store knows is this one; records of earlier versions do not say."""
        return had.get(ENDED_AT, self._run.ended_at) == self._run.ended_at

    def _send(self, cursor: Cursor, run: "Run", had: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        ended = self._state in ENDED
        changed = had.get(STATE) != self._state or ended
        # Early: a run without figures is cheap to change, and its own tag, sent last, says that all is there.
        if changed:
            self._set_status(cursor)
        params = [] if cursor.described else self._describe(cursor)
        model = None
        if ended and not (had.get(STATE) == "finished" and self._ended_so(had)):
            self._send_artifacts(run)
            model = logged_models.record(self._client, self._run, run, new=not had)
        if cursor.sending:
            self._ask_what_arrived(cursor)
        metrics = [metric for metric in self._run.metrics if metric.step > cursor.delivered.get(metric.key, -1)]
        there = run.data.tags
        tags = (
            {key: text for key, text in self._run.tags().items() if there.get(key) != text} if changed or params else {}
        )
        self._send_batches(
            cursor,
            logged_models.of_model(metrics, model, self._run.about),
            params,
            [RunTag(name, value) for name, value in tags.items()],
        )
        for metric in metrics:
            cursor.delivered[metric.key] = max(metric.step, cursor.delivered.get(metric.key, -1))
        cursor.sending, cursor.described = False, cursor.described or bool(params)
        if ended:  # again, since the row's figures are those that have arrived just now
            self._tell_row(cursor)

    def _send_batches(self, cursor: Cursor, metrics: "Sequence[Metric]", params: "Sequence[Param]", tags: Any) -> None:
        """Parameters first, tags with the last figures: a batch arrives as a whole or not at all."""
        told, figures = list(parts(params, PARAMS_BATCH)), list(parts(metrics, BATCH - PARAMS_BATCH - len(tags)))
        if metrics and self._noted:  # what a delivery that is cut off now would leave must not be taken for all
            cursor.sending = True
            self._write(cursor)
        for part in told[:-1]:
            self._client.log_batch(cursor.mlflow_run, params=part)
        count = max(len(figures), 1)
        for number in range(count):
            batch: dict[str, Any] = {"metrics": figures[number] if figures else []}
            batch |= {"params": told[-1]} if told and number == 0 else {}
            batch |= {"tags": tags} if number == count - 1 else {}
            if any(batch.values()):
                self._client.log_batch(cursor.mlflow_run, **batch)

    def _made(self, experiment: str) -> "tuple[Run, str]":
        """A new run of a seed under its row's, or of a start, which stands alone; and the row's."""
        said, about, parent = self._run, self._run.about, ""
        kind, own, began = KIND_SEED, dict[str, str](), milliseconds(said.first_time)
        if about.untrained:
            kind, own = KIND_START, said.row_tags()
        else:
            common, note = said.common_tags(KIND_ROW), notes.of_row(about)
            parent = self._filed.parent(experiment, row_name(about), common, said.row_tags(), note, began)
            own = {PARENT: parent}
        tags = {**said.common_tags(kind), **said.who, STATE: "running", **own}
        run = self._client.create_run(experiment, began, tags, said.name)
        self._filed.made(run)
        return run, parent

    def _describe(self, cursor: Cursor) -> "list[Param]":
        """Log the data set, and give the parameters: once, since MLflow's parameters cannot be changed."""
        from mlflow.entities import DatasetInput, InputTag, Param
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        if not self._run.told:
            return []
        context = InputTag(MLFLOW_DATASET_CONTEXT, "training")
        self._client.log_inputs(cursor.mlflow_run, [DatasetInput(self._run.dataset(), tags=[context])])
        return [Param(name, value) for name, value in self._run.params.items()]

    def _ask_what_arrived(self, cursor: Cursor) -> None:
        for name in {metric.key for metric in self._run.metrics}:
            history = self._client.get_metric_history(cursor.mlflow_run, name)
            cursor.delivered[name] = max((metric.step for metric in history), default=-1)
        cursor.sending = False

    def _send_artifacts(self, run: "Run") -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        # By its place, which is known here: by the run's id MLflow would read the whole run again.
        there = get_artifact_repository(run.info.artifact_uri, tracking_uri=self._filed.uri)
        for name in (SPEC, ENVIRONMENT, CHANGES, RESULT, FAILURE, PREDICTIONS, VOCABULARY, METRICS, REPLACED):
            if (self._directory / name).exists():
                send(there, self._directory / name)
        if (self._directory / SELECTED).is_dir():
            send(there, self._directory / SELECTED, SELECTED)

    def _set_status(self, cursor: Cursor) -> None:
        set_status(self._client, cursor.mlflow_run, STATUSES[self._state], milliseconds(self._run.last_time))
        if not (self._filed.whole and self._state in ENDED):  # else once is enough: at the end, before the row's turn
            self._tell_row(cursor)

    def _tell_row(self, cursor: Cursor) -> None:
        if cursor.parent_run:
            seed = self._run.as_seed(cursor.mlflow_run)
            self._filed.changed(cursor.parent_run, seed, milliseconds(self._run.last_time))

    def _write(self, cursor: Cursor) -> None:
        # A note that a power cut takes costs a question to the store, so no disk is waited for.
        write_json(self._directory / TRACKING, cursor.model_dump(), durable=False)


def _read_cursor(directory: Path) -> Cursor | None:
    """The note of an earlier delivery; None without one, or with one that cannot be read: the store knows more."""
    try:
        return Cursor.model_validate(read_json(directory / TRACKING))
    except ValidationError:
        return None
