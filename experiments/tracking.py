"""What is written to MLflow: experiment = suite, parent run = row (or start), child run = seed.

This module owns every name used there. How a run's directory gets there: experiments/delivery.py, and when:
experiments/uploader.py. Nothing ever decides by what MLflow says of a run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.environment import code_digest, environment
from experiments.layers import flatten
from experiments.rundir import ENVIRONMENT, RUNS, About, read_json
from experiments.store import parent_lock

# Tags of parent and child runs.
KIND, SUITE, ROW, PROFILE, ROW_DIGEST = "rasa.kind", "rasa.suite", "rasa.row", "rasa.profile", "rasa.row_digest"
DATA_DIGEST, WEIGHTS_DIGEST = "rasa.data_digest", "rasa.weights_digest"
# Tags of parents only: what the table needs of a row.
TITLE, ROW_ORDER, LABELS, PAPER, VERSUS = "rasa.title", "rasa.row_order", "rasa.labels", "rasa.paper", "rasa.versus"
# Tags of children, and of a start, which is parent and child in one: it has no seeds.
PARENT = "mlflow.parentRunId"
SEED, RUN_ID, STATE, DIRECTORY = "rasa.seed", "rasa.run_id", "rasa.state", "rasa.directory"
# When the training began, by its own record, and when it ended so: with the run id they tell one training from another
# of the same config, wherever its directory lies.
STARTED, ENDED_AT = "rasa.started", "rasa.ended"
CODE_DIGEST, GIT_COMMIT, GIT_DIRTY = "rasa.code_digest", "rasa.git_commit", "rasa.git_dirty"
# The data set's name (`synthetic` or its format), its folder, and the built-in benchmark's parameters as JSON.
DATA, DATA_ROOT, BENCHMARK = "rasa.data", "rasa.data_root", "rasa.benchmark"
TARGET, TARGET_ROOT = "rasa.target", "rasa.target_root"  # name and folder of the data tested on, where it is another
COPIED = "rasa.copied_from"  # the suite/row that was trained, if this run is a copy of it
VARIANT = "rasa.variant"  # what -o changes of the row; of a start: in what it differs from the suite's others
SELECTED_EPOCH, SELECTED_STEP = "rasa.selected_epoch", "rasa.selected_step"
# How the run was computed: float32, tf32 or bf16; whether layers were compiled; the batch, e.g. `4 x 13` if in shares.
NUMERICS = {
    "precision": "rasa.precision",
    "compiled": "rasa.compiled",
    "batch": "rasa.batch",
    "processes": "rasa.processes",
}

KIND_ROW, KIND_SEED, KIND_START, KIND_REPORT = "row", "seed", "start", "report"
NOTE = "mlflow.note.content"  # what MLflow shows, as Markdown, above an experiment or a run
TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # of an experiment, which so opens with its runs
NOTED = "rasa.note"  # digest of the note that is ours: one that a person has changed since stays
SUMMARIES = "rasa.summaries"  # of a row: how often its means were written, which is their step
MERGED = "rasa.merged_into"  # of a row that another host had made, too: the row that stays
REPORT = "rasa.report"  # of the run that holds a suite's pages: which report they are of
MODEL_FILES = "rasa.files"  # of a checkpoint's record: where its weights are
# Validation by epoch, whose value in MLflow is the last epoch's; `val/` has the figures of the epoch that was chosen.
VAL, VAL_LAST = "val", "val_last"
GROUPS = {VAL: VAL_LAST}  # under whose name a group of figures is sent, where it is another
LONGEST_NAME = 240  # of a run; 250 is what MLflow's databases hold
SYNTHETIC = "synthetic"
BENCHMARKS = "benchmarks"  # the experiment of `rasa bench`
VOCABULARY = "vocab.txt"  # without it the weights are of no use where the tokenizer was trained on the captions
# What becomes of a run's state here. A stale run is finished: that the code changed since is not the tracker's to say.
STATES = {"new": "running", "stale": "finished"}
STATUSES = {
    "running": "RUNNING",
    "finished": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "superseded": "FINISHED",
}
ENDED = ("finished", "superseded", "failed")
PARENT_STATUSES = ("RUNNING", "FAILED", "KILLED", "FINISHED")  # a row's is the first of these that a seed of it has
BATCH, PARAMS_BATCH, PARAM_LENGTH, DIGEST_LENGTH = 1000, 100, 6000, 36  # MLflow's limits
GONE = "RESOURCE_DOES_NOT_EXIST"


def log_benchmark(figures: dict[str, Any], uri: str, workspace: Path) -> str:
    """Log one benchmark's figures, numbers as metrics `bench/...`, the rest as parameters, and give the run's id.

    Raises StoreFault if the store is away.
    """
    from mlflow.entities import Metric, Param

    from experiments.store import experiment_of, faults, open_store

    client = open_store(uri)
    variants = {each["variant"].replace(" ", "-"): each for each in figures.get("variants", ())}
    flat = flatten(figures | {"variants": variants})
    numbers = {name: value for name, value in flat.items() if isinstance(value, int | float)}
    with faults(uri), parent_lock(uri, workspace):
        experiment = experiment_of(client, uri, workspace, BENCHMARKS)
        name = " ".join(str(figures[key]) for key in ("benchmark", "size", "device"))
        run = client.create_run(experiment, run_name=name, tags={KIND: "benchmark", **code_tags(environment())}).info
        now = run.start_time
        client.log_batch(
            run.run_id,
            metrics=[Metric(f"bench/{name}", float(value), now, 0) for name, value in numbers.items()],
            params=[Param(name, str(value)[:PARAM_LENGTH]) for name, value in flat.items() if name not in numbers],
        )
        client.log_dict(run.run_id, figures, "benchmark.json")
        client.set_terminated(run.run_id)
    return run.run_id


def code_tags(began: dict[str, Any]) -> dict[str, str]:
    return {
        CODE_DIGEST: code_digest(began.get("code", {})),
        GIT_COMMIT: str(began.get("git_commit") or ""),
        GIT_DIRTY: "" if began.get("git_dirty") is None else str(began["git_dirty"]).lower(),
    }


def row_name(about: About) -> str:
    """The name of a row's run, and of a start's: with what -o changes, e.g. `m-rtd (optimisation.epochs=2)`."""
    return _named(about.row, about.variant)


def seed_name(about: About) -> str:
    """The name of a seed's run: `m-rtd/seed-0`, with what -o changes."""
    return _named(f"{about.row}/seed-{about.seed}", about.variant)


def old_names(about: About) -> tuple[str, ...]:
    """What earlier versions called the same run: still so, it is renamed; not so, a person has named it."""
    return (about.row,) if about.untrained else (f"seed-{about.seed}",)


def _named(name: str, variant: str) -> str:
    whole = f"{name} ({variant})" if variant else name
    return whole if len(whole) <= LONGEST_NAME else f"{whole[: LONGEST_NAME - 1]}…"


def directory_tag(directory: Path) -> str:
    """How a run's directory is named in a store: below its workspace, which may be moved or copied as a whole."""
    return Path(RUNS, *directory.absolute().parts[-4:]).as_posix()


def place_tag(workspace: Path, place: str) -> str:
    """How a folder of data is named in a store: below the workspace if it lies there, else by its absolute place."""
    for folder in (workspace.absolute(), workspace.resolve()):
        if place and Path(place).is_relative_to(folder):
            return Path(place).relative_to(folder).as_posix()
    return place


def local_directory(tags: Mapping[str, str], workspace: Path) -> Path | None:
    """The directory that a run of the store has in this workspace, or, of an old record, at its absolute place.

    None if it is not on this machine, or holds another training of the same config.
    """
    stated = Path(tags.get(DIRECTORY, ""))
    if not stated.name:
        return None
    below = Path(RUNS, *stated.parts[-4:])  # a record of an earlier version has the absolute place
    for directory in (workspace.absolute() / below, stated):  # a workspace is mostly given as "."
        if directory.is_absolute() and directory.is_dir():
            return directory if _same_training(directory, tags) else None
    return None


def _same_training(directory: Path, tags: Mapping[str, str]) -> bool:
    began = (read_json(directory / ENVIRONMENT) or {}).get("started")
    return not tags.get(STARTED) or tags[STARTED] == began
