"""Which runs of a suite are new, finished, stale, failed, interrupted or running, and how long the rest will take."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from experiments.environment import changed_files, code_hashes, content_digest
from experiments.estimates import Estimates, usual_work, work_on
from experiments.layers import differences
from experiments.rundir import (
    ABOUT,
    ENVIRONMENT,
    FAILURE,
    LOCK,
    RESTORED,
    RESULT,
    RUNS,
    SUPERSEDED,
    About,
    find_runs,
    read_about,
    read_config,
    read_json,
    read_result,
    row_folder,
    run_folder,
    workspace_of,
)
from experiments.spec import identity_of, load_profile, local_path, resolve, seedless_digest, short_digest
from experiments.suite import Row, Suite
from experiments.workload import SizesOfSplits, Work, expected_sizes
from rasa.config.benchmark import BenchmarkParams
from rasa.config.run import Config, Data
from rasa.errors import ResourceError, SpecError
from rasa.lock import is_locked
from rasa.weights import start

State = Literal["new", "finished", "stale", "failed", "interrupted", "running", "superseded"]
DATA = "data"
SEED_FOLDER = re.compile(r"seed-\d+-")


class PlannedRun(NamedTuple):
    """One run that a command names. `directory` is None, and the run id empty, while its data does not exist."""

    about: About
    config: Config
    directory: Path | None
    state: State
    reason: str
    seconds: float | None  # estimated wall time; None if nothing is known
    keep_checkpoints: bool = False  # when it has finished


class Recorded(NamedTuple):
    """One run that a workspace holds."""

    about: About
    directory: Path
    state: State
    reason: str


def plan(
    suite: Suite,
    rows: Sequence[Row],
    profile: str,
    overrides: Sequence[str],
    seeds: Sequence[int],
    workspace: Path,
    read: Callable[[str], "Read"] | None = None,
) -> list[PlannedRun]:
    """The runs of these rows and seeds with their states. Reads, and never builds data.

    Seed by seed, so that a suite that is stopped early has the whole table for its first seeds. `read`: one
    `data_reader()` for several plans. Raises SpecError and ResourceError.
    """
    name, workspace = load_profile(profile).profile, workspace.resolve()
    read, shelf, estimates = read or data_reader(), Shelf(workspace), Estimates(workspace)
    # A row's seeds have all else in common.
    of_rows = [(row, _told(suite, row, profile, overrides, workspace, read)) for row in rows]
    runs = []
    for seed in seeds:
        for row, resolved in of_rows:
            config = resolved.config.model_copy(update={"seed": seed})
            about = about_of(
                suite, row, name, config, resolved.identity | {"seed": seed}, resolved.data, resolved.weights
            )
            about = about.model_copy(update={"variant": resolved.variant})
            seconds = estimates.seconds(about, resolved.work, resolved.usual)
            runs.append(placed(about, config, workspace, seconds, shelf))
    return list(once(runs))


def data_reader() -> Callable[[str], "Read"]:
    """Name and digest of a data set by its section's JSON; ten rows, or a study's points, read one data set once."""
    return cache(_read_data)


def recorded_runs(workspace: Path, suite: str = "*") -> list[Recorded]:
    """Every run of the workspace as its directory records it, in the suites' order; superseded ones are left out."""
    return recorded(find_runs(workspace, suite))


def recorded(directories: Iterable[Path]) -> list[Recorded]:
    """The runs in these directories, as recorded_runs gives them."""
    found = [Recorded(about, directory, *state_of(directory)) for directory, about in _readable(directories)]
    found = [run for run in found if run.state != "superseded"]
    return sorted(found, key=lambda run: (run.about.suite, run.about.profile, run.about.seed, run.about.order))


def planned_again(run: Recorded, workspace: Path) -> PlannedRun:
    """A recorded run, ready to be executed from its own spec. Raises ResourceError if that cannot be read."""
    config = _followed(read_config(run.directory), run.directory, workspace.resolve())
    seconds = Estimates(workspace).seconds(run.about)
    return PlannedRun(run.about, config, run.directory, run.state, run.reason, seconds)


def _followed(config: Config, directory: Path, workspace: Path) -> Config:
    """The config of a run whose workspace may have been moved since: what lay in it is looked for where it is now."""
    began = str((read_json(directory / ENVIRONMENT) or {}).get("workspace") or "")
    if not began or Path(began) == workspace:
        return config
    old, text = json.dumps(began)[1:-1], config.model_dump_json()
    new = json.dumps(str(workspace), ensure_ascii=False)[1:-1]
    for end in ("/", '"'):  # all of a path, or its beginning
        text = text.replace(f'"{json.dumps(began, ensure_ascii=False)[1:-1]}{end}', f'"{new}{end}').replace(
            f'"{old}{end}', f'"{new}{end}'
        )
    return Config.model_validate_json(text)


def located(config: Config, workspace: Path) -> Config:
    """The config with absolute paths, and with data.root set if it is the built-in benchmark and that is built."""
    data, model, objectives = config.data, config.model, config.objectives
    target = data.target
    if target is not None:
        target = target.model_copy(update={"root": _root(data.of_target(), workspace)})
    weights = model.weights.expanduser().absolute() if model.weights and not model.weights_name else model.weights
    if model.weights == Path(start.NAME):
        weights = start.WEIGHTS
    tokenizer, masked_lm = (str(local_path(name) or name) for name in (data.tokenizer, objectives.masked_lm))
    sections = {
        "data": data.model_copy(update={"root": _root(data, workspace), "tokenizer": tokenizer, "target": target}),
        "model": model.model_copy(update={"weights": weights}),
        "objectives": objectives.model_copy(update={"masked_lm": masked_lm}),
    }
    return config.model_copy(update=sections)


def not_built(config: Config) -> list[BenchmarkParams]:
    """The built-in benchmarks that a located config needs and that are not there."""
    parts = [config.data, *([config.data.of_target()] if config.data.target is not None else [])]
    return [part.synthetic for part in parts if part.root is None and part.synthetic is not None]


def _root(data: Data, workspace: Path) -> Path | None:
    """The data set's absolute path; None if it is a built-in benchmark that was not built, or is gone."""
    if data.root is not None:
        return data.root.expanduser().absolute()
    root = workspace / DATA / data.synthetic.folder() if data.synthetic is not None else None
    return root.absolute() if root is not None and root.is_dir() else None  # it is built aside, so it is whole


def state_of(directory: Path) -> tuple[State, str]:
    """What the files in a run's directory say of it, in a word and in a sentence."""
    if SUPERSEDED.search(directory.name):
        return "superseded", "finished, and run again after the code changed"
    if not (directory / ABOUT).exists():
        return "new", "never run"
    changed = _changed_code(directory)
    if read_result(directory / RESULT) is not None:
        if changed:
            return "stale", f"finished, but {changed} since"
        return "finished", "restored, without weights" if (directory / RESTORED).exists() else ""
    damaged = f"{RESULT} is damaged and will be made again; " if (directory / RESULT).exists() else ""
    if is_locked(directory / LOCK):
        return "running", "in another process"
    if (failure := read_json(directory / FAILURE)) is not None:
        return "failed", str(failure.get("message", "no reason recorded"))
    text = damaged + _checkpoint(directory)
    return "interrupted", f"{text}; {changed} since" if changed else text


class _Told(NamedTuple):
    """What the runs of one row have in common."""

    config: Config
    identity: dict[str, Any]
    data: "Read"
    weights: str
    variant: str
    work: Work | None
    usual: Work | None  # what the suite's `expected_minutes` are of


def _told(
    suite: Suite, row: Row, profile: str, overrides: Sequence[str], workspace: Path, read: Callable[[str], "Read"]
) -> _Told:
    config = located(resolve(suite, row, profile, overrides, 0), workspace)
    data, weights = inputs_of(config, read)
    variant = variant_of(suite, row, profile, overrides)
    own = work_on(config, data.sizes)
    stated = load_profile(profile).profile in suite.expected_minutes  # a study's point has no such figure
    usual = usual_work(suite, row, profile) if stated else None
    return _Told(config, identity_of(config), data, weights, variant, own, usual)


def variant_of(suite: Suite, row: Row, profile: str, overrides: Sequence[str]) -> str:
    """In what a row's overrides change what it computes: `optimisation.epochs=3`; nothing if in nothing."""
    return ", ".join(f"{key}={value}" for key, value in changes_of(suite, row, profile, overrides).items())


def changes_of(suite: Suite, row: Row, profile: str, overrides: Sequence[str]) -> dict[str, str]:
    """The fields of what a row computes that its overrides change, as text. Raises SpecError."""
    if not overrides:
        return {}
    given = resolve(suite, row, profile, overrides, 0).identity()
    try:
        usual = resolve(suite, row, profile, (), 0).identity()
    except SpecError:  # it needs something that is the user's to give, e.g. data.root
        usual = resolve(suite, row, profile, [text for text in overrides if text.startswith("data.")], 0).identity()
    changed = differences(usual, given)
    return {key: json.dumps(value, ensure_ascii=False).strip('"') for key, (_, value) in changed.items()}


class Shelf:
    """The run folders of a workspace, listed once."""

    def __init__(self, workspace: Path):
        self._runs = workspace / RUNS

    @cached_property
    def _by_row(self) -> dict[Path, dict[str, list[str]]]:
        """By the row's folder and the folder's `seed-N`."""
        found: dict[Path, dict[str, list[str]]] = {}
        for folder in self._runs.glob("*/*/*/"):
            for name in sorted(os.listdir(folder)):
                if matched := SEED_FOLDER.match(name):
                    found.setdefault(folder, {}).setdefault(matched[0], []).append(name)
        return found

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for folder, seeds in self._by_row.items():
            for name in (name for names in seeds.values() for name in names):
                found.setdefault(name, []).append(folder / name)
        return found

    def named(self, name: str) -> list[Path]:
        """The run folders of that name, of whatever row."""
        return sorted(self._by_name.get(name, ()))

    def of_seed(self, folder: Path, seed: int) -> list[Path]:
        """The run folders of a row's seed, those of superseded runs left out."""
        names = self._by_row.get(folder, {}).get(f"seed-{seed}-", ())
        return [folder / name for name in names if not SUPERSEDED.search(name) and (folder / name / ABOUT).exists()]


def placed(
    about: About, config: Config, workspace: Path, seconds: float | None, shelf: Shelf | None = None
) -> PlannedRun:
    """The run in its state, where it lies in the workspace; a new one takes `seconds`, unless it can be copied."""
    if not about.run_id:
        return PlannedRun(about, config, None, "new", "the built-in benchmark is not built yet", seconds)
    directory = run_folder(workspace, about)
    state, reason = state_of(directory)
    shelf = shelf or Shelf(workspace)
    if state == "new" and (same := twin(directory, shelf)) is not None:
        other = read_about(same)
        return PlannedRun(about, config, directory, state, f"as the finished {other.name}, which will be copied", 0.0)
    if state == "new":
        reason = _why_new(about, workspace, shelf)
    return PlannedRun(about, config, directory, state, reason, seconds)


def once(runs: Iterable[PlannedRun]) -> Iterator[PlannedRun]:
    """The same runs; of those that compute the same, one after another, only the first takes time."""
    first: dict[str, PlannedRun] = {}
    for run in runs:
        same = first.setdefault(run.about.run_id, run) if run.about.run_id else run
        if same is not run and run.state == "new" and same.state not in ("finished", "stale"):
            run = run._replace(reason=f"as {same.about.name}, which comes before it", seconds=0.0)
        yield run


def twin(directory: Path, shelf: Shelf | None = None) -> Path | None:
    """A finished run of another row, by the code as it is now, that computes what this one would; None without one."""
    for other in (shelf or Shelf(workspace_of(directory))).named(directory.name):
        if other != directory and state_of(other)[0] == "finished":
            return other
    return None


def inputs_of(config: Config, read: Callable[[str], "Read"]) -> "tuple[Read, str]":
    """The data set of a located config and the digest of its initial weights; no digests while it is not built."""
    if not_built(config):
        return Read("built-in", "", sizes=expected_sizes(config.data)), ""
    return read(config.data.model_dump_json()), _weights_digest(config)


def about_of(
    suite: Suite, row: Row, profile: str, config: Config, identity: dict[str, Any], data: "Read", weights_digest: str
) -> About:
    """Who the run is that computes what `identity` says, on that data and from those weights."""
    target = config.data.target
    return About(
        run_id=short_digest([identity, data.digest, weights_digest]) if data.digest else "",
        suite=suite.suite,
        row=row.name,
        profile=profile,
        seed=config.seed,
        title=suite.title,
        order=suite.rows.index(row) if row in suite.rows else -1,
        labels=suite.labels_of(row),
        paper=dict(row.paper) if row.paper else None,
        versus=row.versus,
        row_digest=seedless_digest(identity),
        data_digest=data.digest,
        weights_digest=weights_digest,
        data_name=data.name,
        data_root=str(config.data.root or ""),
        target_name=data.target,
        target_root=str((target and target.root) or ""),
        expected_minutes=suite.expected_minutes.get(profile),
        data_sizes={name: dict(split) for name, split in (data.sizes or {}).items()},
        identity=identity,
    )


class Read(NamedTuple):
    """Name and digest of a data set, the name of its target, if it has one, and the sizes of its splits."""

    name: str
    digest: str
    target: str = ""
    sizes: SizesOfSplits | None = None


def _read_data(data: str) -> Read:
    """The data set, equal for all seeds, that a `data` section's JSON names."""
    from rasa.config.run import Data
    from rasa.data.load import load_dataset

    dataset = load_dataset(Data.model_validate_json(data))
    return Read(dataset.name, dataset.digest, dataset.target.name if dataset.target else "", dataset.sizes())


def _weights_digest(config: Config) -> str:
    path = config.model.weights
    if path is None:
        return ""
    if config.model.weights_name is not None:
        return short_digest(config.model.weights_name)  # as a tokenizer's name: what lies behind it is the hub's
    try:
        return content_digest(path)
    except OSError as error:
        raise ResourceError(f"model.weights: {path}: {error.strerror}; give the file's path") from error


def _changed_code(directory: Path) -> str:
    """`rasa/training/step.py and 2 other files changed`, or nothing."""
    recorded = (read_json(directory / ENVIRONMENT) or {}).get("code")
    changed = changed_files(recorded, code_hashes()) if isinstance(recorded, dict) else []
    others = len(changed) - 1
    more = f" and {others} other file{'s' if others > 1 else ''}" if others > 0 else ""
    return f"{changed[0]}{more} changed" if changed else ""


def _checkpoint(directory: Path) -> str:
    """Where the trainer would go on (rasa/weights/folder.py; read without loading torch)."""
    for folder in sorted((directory / "checkpoints").glob("step-*"), reverse=True):
        body = read_json(folder / "state.json") or {}
        state: dict[str, Any] = body.get("state") or {}
        if isinstance(state, dict) and isinstance(state.get("epoch"), int):
            epoch, step = state["epoch"] + 1, state.get("step_in_epoch", 0)
            return f"checkpoint at epoch {epoch} step {step}; will be resumed"
    return "no checkpoint yet; will start again"


def _why_new(about: About, workspace: Path, shelf: Shelf) -> str:
    """How a new run differs from the nearest earlier one of its row, profile and seed."""
    folder = row_folder(workspace, about.suite, about.row, about.profile)
    earlier = [other for _, other in _readable(shelf.of_seed(folder, about.seed))]
    return "an earlier run " + min(_differs(other, about) for other in earlier)[1] if earlier else "never run"


def _readable(directories: Iterable[Path]) -> Iterator[tuple[Path, About]]:
    """The runs whose record can be read; one that cannot must not hold up the others, and is told of on stderr."""
    for directory in directories:
        try:
            yield directory, read_about(directory)
        except ResourceError as fault:
            print(f"skipped: {fault}", file=sys.stderr)


def _differs(old: About, new: About) -> tuple[int, str]:
    """In how many respects `new` differs from `old`, and which."""
    fields = differences(old.identity, new.identity)
    texts = [f"{key} ({before} -> {after})" for key, (before, after) in fields.items()]
    shown = [*texts[:3], f"{len(texts) - 3} more"] if len(texts) > 3 else texts
    causes = [f"differs in {', '.join(shown)}"] if texts else []
    if old.data_digest != new.data_digest:
        causes.append("has another data digest")
    if old.weights_digest != new.weights_digest:
        causes.append("has other initial weights")
    return len(texts) + len(causes), " and ".join(causes) or "has another id"
