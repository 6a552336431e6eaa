"""What a run's directory has to say to a store: who the run is, what it was told, what it measured, what it left."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.adopt import COPIED_FROM
from experiments.layers import flatten
from experiments.plan import state_of
from experiments.rundir import (
    ABOUT,
    ENVIRONMENT,
    FAILURE,
    RESULT,
    SPEC,
    Point,
    read_about,
    read_config,
    read_json,
    read_points,
    read_result,
)
from experiments.summary import Seed
from experiments.tracking import (
    BENCHMARK,
    COPIED,
    DATA,
    DATA_DIGEST,
    DATA_ROOT,
    DIGEST_LENGTH,
    DIRECTORY,
    ENDED_AT,
    GROUPS,
    KIND,
    LABELS,
    NUMERICS,
    PAPER,
    PARAM_LENGTH,
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
    VAL,
    VARIANT,
    VERSUS,
    WEIGHTS_DIGEST,
    code_tags,
    directory_tag,
    place_tag,
    row_name,
    seed_name,
)
from experiments.yaml_io import load_mapping
from rasa.errors import RasaError

if TYPE_CHECKING:
    from mlflow.entities import Dataset, Metric


class Contents:
    """One run's directory, as a store is told of it."""

    def __init__(self, workspace: Path, directory: Path, notify: Callable[[str], None] = lambda line: None):
        self._workspace, self.directory, self._notify = workspace, directory, notify
        self.about = read_about(directory)
        self.place = directory_tag(directory)
        self._began = read_json(directory / ENVIRONMENT) or {}
        self.result = read_result(directory / RESULT) or {}
        self.state = _state(directory)

    @property
    def name(self) -> str:
        """Of its run."""
        return row_name(self.about) if self.about.untrained else seed_name(self.about)

    def row_tags(self) -> dict[str, str]:
        """What the table needs of a row."""
        about = self.about
        return {
            TITLE: about.title,
            ROW_ORDER: str(about.order),
            LABELS: json.dumps(about.labels, ensure_ascii=False),
            PAPER: json.dumps(about.paper),
            VERSUS: about.versus or "",
            VARIANT: about.variant,
        }

    def common_tags(self, kind: str) -> dict[str, str]:
        """What a row's run shares with those of its seeds."""
        about = self.about
        return {
            KIND: kind,
            SUITE: about.suite,
            ROW: about.row,
            PROFILE: about.profile,
            ROW_DIGEST: about.row_digest,
            DATA_DIGEST: about.data_digest,
            WEIGHTS_DIGEST: about.weights_digest,
        }

    @cached_property
    def who(self) -> dict[str, str]:
        """Which training this is, by what code and on what data."""
        about = self.about
        return {
            SEED: str(about.seed),
            RUN_ID: about.run_id,
            STARTED: self.started,
            **code_tags(self._began),
            DIRECTORY: self.place,
            DATA: about.data_name,
            DATA_ROOT: place_tag(self._workspace, about.data_root),
            BENCHMARK: benchmark_params(about.data_root) if about.data_name == SYNTHETIC else "",
            **(
                {TARGET: about.target_name, TARGET_ROOT: place_tag(self._workspace, about.target_root)}
                if about.target_root
                else {}
            ),
        }

    def tags(self) -> dict[str, str]:
        """Who it is, as known since it has begun, and how it ended."""
        selected, numerics = self.result.get("selected", {}), self.result.get("numerics", {})
        tags = {**self.who, STATE: self.state, ENDED_AT: self.ended_at}
        tags |= {name: str(numerics[key]) for key, name in NUMERICS.items() if key in numerics}
        tags |= {
            name: str(selected[key])
            for name, key in ((SELECTED_EPOCH, "epoch"), (SELECTED_STEP, "step"))
            if key in selected
        }
        if COPIED_FROM in self.result:
            tags[COPIED] = str(self.result[COPIED_FROM])
        return tags

    @property
    def told(self) -> bool:
        """Whether its config is there: not before it has begun."""
        return (self.directory / SPEC).exists()

    @cached_property
    def params(self) -> dict[str, str]:
        """Its config's fields."""
        leaves = _leaves((self.directory / SPEC).read_text(encoding="utf-8")) if self.told else {}
        return {name: value[:PARAM_LENGTH] for name, value in leaves.items()}

    def as_seed(self, run: str) -> Seed:
        """As its row sees it; `run`: which it is there."""
        last = {each.key: each.value for each in sorted(self.metrics, key=lambda each: (each.step, each.timestamp))}
        status, began = STATUSES[self.state], milliseconds(self.first_time)
        return Seed(run, str(self.about.seed), self.state, status, began, last, self.params)

    def dataset(self) -> "Dataset":
        """What it trains on, with the sizes of its splits."""
        from mlflow.entities import Dataset

        about, sizes = self.about, self._sizes()  # now or never: MLflow keeps a data set as it was first logged
        source = json.dumps({"uri": place_tag(self._workspace, about.data_root)})
        profile = json.dumps(sizes) if sizes else None
        return Dataset(about.data_name, about.data_digest[:DIGEST_LENGTH], "local", source, profile=profile)

    def _sizes(self) -> dict[str, dict[str, int]]:
        """Images, captions and identities per split: from the result, or from the data if it is there; else nothing."""
        sizes: dict[str, dict[str, int]] | None = self.result.get("sizes")
        if sizes:
            return sizes
        try:
            return _split_sizes(read_config(self.directory).data.model_dump_json(), self.about.data_digest)
        except RasaError:  # a spec of another version, or data that is gone: a run's record does without
            return {}

    @cached_property
    def _points(self) -> list[Point]:
        return read_points(self.directory, self._notify)

    @cached_property
    def metrics(self) -> "list[Metric]":
        """All figures of the directory, and what only the result holds."""
        from mlflow.entities import Metric

        metrics = [
            Metric(f"{GROUPS.get(point.group, point.group)}/{name}", value, milliseconds(point.time), point.step)
            for point in self._points
            for name, value in point.values.items()
        ]
        step = int(self.result.get("cost", {}).get("steps") or 0)
        known, now = {metric.key for metric in metrics}, milliseconds(self.last_time)
        for group in ("test", "cost"):
            for name, value in self.result.get(group, {}).items():
                if isinstance(value, int | float) and f"{group}/{name}" not in known:
                    metrics.append(Metric(f"{group}/{name}", float(value), now, step))
        return [*metrics, *self._chosen()]

    def _chosen(self) -> "Iterator[Metric]":
        """Validation at the epoch that it chose: known at the end, and one value, which no later epoch covers."""
        from mlflow.entities import Metric

        selected = self.result.get("selected", {})
        step = int(selected.get("step") or 0)
        at = next((point.time for point in self._points if point.group == VAL and point.step == step), self.last_time)
        for name, value in selected.get("val", {}).items():
            if isinstance(value, int | float):
                yield Metric(f"{VAL}/{name}", float(value), milliseconds(at), step)

    @property
    def started(self) -> str:
        """When the training began, by its own record; nothing before."""
        return str(self._began.get("started") or "")

    @property
    def ended_at(self) -> str:
        """When it ended, likewise."""
        ended = self.result.get("finished") or (read_json(self.directory / FAILURE) or {}).get("time")
        return str(ended or "")

    @property
    def first_time(self) -> float:
        """When it began, in seconds since 1970."""
        try:
            return datetime.fromisoformat(self.started).timestamp()
        except ValueError:  # nothing has been noted of its beginning yet
            return (self.directory / ABOUT).stat().st_mtime

    @property
    def last_time(self) -> float:
        """When it was last heard of."""
        return self._points[-1].time if self._points else self.first_time


def benchmark_params(root: str) -> str:
    """The parameters of the built-in benchmark in `root` as JSON; nothing if that is gone."""
    from rasa.data.synthetic.write import ABOUT as BENCHMARK_FILE

    about = read_json(Path(root) / BENCHMARK_FILE) or {}
    return json.dumps(about["params"], sort_keys=True) if "params" in about else ""


def _state(directory: Path) -> str:
    state = state_of(directory)[0]
    return STATES.get(state, state)


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


def milliseconds(seconds: float) -> int:
    """As MLflow counts time."""
    return round(seconds * 1000)
