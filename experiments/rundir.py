"""A run's directory: the files in it, written so that a kill at any moment leaves the old or the new content.

`spec.yaml` the resolved config, `run.json` who the run is, `environment.json` on what it runs, `metrics.jsonl` every
figure, and, last, `result.json` or `failure.json`. `changes.patch` is there if the code was not as committed. What the
trainer needs to go on lies there too (rasa/training/train.py).
"""

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from rasa.config.run import Config
from rasa.errors import ResourceError

RUNS = "runs"
STUDY_SUITE = "study."  # begins the suite's name of a study's trials, whose records are the study's (studies/)
SPEC, ABOUT, ENVIRONMENT, METRICS = "spec.yaml", "run.json", "environment.json", "metrics.jsonl"
CHANGES = "changes.patch"  # from the commit to the code that ran (experiments/uncommitted.py)
RESULT, FAILURE, LOCK, TRACKING = "result.json", "failure.json", "run.lock", "tracking.json"
ATTEMPTS = "attempts.jsonl"  # those that failed, whatever came of the run later
START = "start"  # the row under which the evaluation of initial weights is recorded (experiments/start.py)
SELECTED, PREDICTIONS = "selected", "predictions.safetensors"
# Parts of result.json that others read; those with figures alone.
FIGURES = ("test", "cost", "source", "sensitivity")
SECTIONS = (*FIGURES, "selected", "last", "test_oracle", "digests", "numerics", "sizes")
RESTORED = "restored.json"  # of a run that was put back from a published report, and so has no weights
SUPERSEDED = re.compile(r"\.stale-\d+$")


class About(BaseModel):
    """Who a run is: enough to file it in a tracker without the suite's file."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    suite: str
    row: str
    profile: str
    seed: int
    title: str
    order: int
    labels: dict[str, str]
    paper: dict[str, float] | None
    versus: str | None
    row_digest: str
    data_digest: str
    weights_digest: str
    data_name: str
    data_root: str
    target_name: str = ""  # of the data set that is tested on, where it is another (data.target)
    target_root: str = ""
    expected_minutes: float | None = None
    data_sizes: dict[str, dict[str, int]] = {}  # images, captions and identities of its splits, as it began
    variant: str = ""  # what -o changes of the row; of a start: in what it differs from the others of its suite
    identity: dict[str, Any]

    @property
    def untrained(self) -> bool:
        """Whether it is the evaluation of initial weights, which belongs to no seed."""
        return self.row == START

    @property
    def name(self) -> str:
        """As messages give it, e.g. `table4/m-rtd seed 0`, or `table4/start`."""
        which = (f" ({self.variant})" if self.variant else "") if self.untrained else f" seed {self.seed}"
        return f"{self.suite}/{self.row}{which}"


class Point(NamedTuple):
    """Figures of one group at one step, as the trainer reported them; `time` in seconds since 1970."""

    group: str
    step: int
    values: dict[str, float]
    time: float


def run_folder(workspace: Path, about: About) -> Path:
    """Where a run of that identity lies."""
    return row_folder(workspace, about.suite, about.row, about.profile) / f"seed-{about.seed}-{about.run_id}"


def workspace_of(directory: Path) -> Path:
    """The workspace in which a run's directory lies."""
    return directory.parents[4]


def row_folder(workspace: Path, suite: str, row: str, profile: str) -> Path:
    """The folder of all runs of one row at one profile."""
    return workspace / RUNS / suite / row / profile


def find_runs(workspace: Path, suite: str = "*") -> list[Path]:
    """All run directories of the workspace, or of one suite; those that a re-run has superseded are among them."""
    return sorted(path.parent for path in (workspace / RUNS).glob(f"{suite}/*/*/seed-*/{ABOUT}"))


def suites_run(workspace: Path) -> list[str]:
    """Names of the suites of which the workspace holds runs."""
    return sorted(path.name for path in (workspace / RUNS).glob("*/") if not path.name.startswith("."))


def read_about(directory: Path) -> About:
    """Who the run in `directory` is. Raises ResourceError."""
    try:
        return About.model_validate_json((directory / ABOUT).read_bytes())
    except (OSError, ValidationError) as error:
        raise ResourceError(f"{directory / ABOUT}: cannot be read; move the folder away ({_short(error)})") from error


def read_config(directory: Path) -> Config:
    """The config that the run in `directory` was started with. Raises ResourceError."""
    from experiments.yaml_io import load_mapping

    try:
        values = load_mapping((directory / SPEC).read_text(encoding="utf-8"), str(directory / SPEC))
        return Config.model_validate_json(json.dumps(values), strict=True)
    except (OSError, ValueError, TypeError) as error:  # of which pydantic's and a wrong encoding are two
        raise ResourceError(f"{directory / SPEC}: no config of this version ({_short(error)})") from error


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`; None if there is no file, or none that was written to its end."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_result(path: Path) -> dict[str, Any] | None:
    """What a run's `result.json` says; None if there is no such file, or none that has the figures of a whole run.

    A file of other types (damaged, or handwritten) is none: the run goes on from its last checkpoint and rewrites it.
    """
    result = read_json(path)
    if result is None or any(not isinstance(result.get(name, {}), dict) for name in SECTIONS):
        return None
    numbers = (value for name in FIGURES for value in result.get(name, {}).values())
    selected, last = (result.get(name, {}).get("val", {}) for name in ("selected", "last"))
    sound = (
        all(isinstance(value, int | float) for value in numbers)
        and isinstance(selected, dict)
        and isinstance(last, dict)
    )
    return result if sound else None


def note_attempt(directory: Path, failure: dict[str, Any]) -> None:
    """Add a failed attempt (what `failure.json` says of it, without the traceback) to the run's. Raises OSError."""
    told = {name: value for name, value in failure.items() if name != "traceback"}
    with (directory / ATTEMPTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(told, ensure_ascii=False) + "\n")


def read_attempts(directory: Path) -> list[dict[str, Any]]:
    """The attempts of a run that failed, in their order; a line that is torn is none."""
    path, found = directory / ATTEMPTS, []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        with suppress(ValueError):
            if isinstance(told := json.loads(line), dict):
                found.append(told)
    return found


def write_json(path: Path, value: dict[str, Any], durable: bool = True) -> None:
    """Write `path` as a whole: after a kill it holds the old content or the new one.

    If `durable`, this holds after a power cut too.
    """
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n", durable)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """As write_json, for text."""
    write_bytes(path, text.encode(), durable)


def write_bytes(path: Path, content: bytes, durable: bool = True) -> None:
    """As write_json, for bytes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def timestamp() -> str:
    """Now, in UTC, e.g. `2026-01-31T12:00:00.250+00:00`: two trainings of one run are told apart by it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def read_points(directory: Path, notify: Callable[[str], None] = lambda line: None) -> list[Point]:
    """The figures that a run has reported; a last line that a kill has torn is none.

    Lines that are damaged (a power cut may leave NULs) are left out, and `notify` is told how many.
    """
    path = directory / METRICS
    points, _, damaged = _parse(path.read_bytes()) if path.exists() else ([], 0, 0)
    if damaged:
        notify(f"{path}: {damaged} damaged line{'s' if damaged > 1 else ''} left out")
    return points


class Follower:
    """Reads the figures that a run in another process reports from now on."""

    def __init__(self, directory: Path):
        self._path, self._since = directory / METRICS, time.time()
        self._inode, self._offset = 0, 0

    def new(self) -> list[Point]:
        """The figures since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            # A run that is resumed replaces the file by its beginning, which is older than this follower.
            if (inode := os.fstat(file.fileno()).st_ino) != self._inode:
                self._inode, self._offset = inode, 0
            file.seek(self._offset)
            points, size, _ = _parse(file.read())
        self._offset += size
        return [point for point in points if point.time >= self._since]


class MetricsLog:
    """Appends to metrics.jsonl; a resumed run never leaves a step twice. `notify` is told of what was damaged."""

    def __init__(self, directory: Path, notify: Callable[[str], None] = lambda line: None):
        self._path, self._notify = directory / METRICS, notify
        self._seen: set[tuple[str, int]] = set()

    def resume_from(self, step: int) -> None:
        """Drop what lies beyond the checkpoint at `step` (steps done): those figures will be reported again.

        A validation is reported at the number of steps done, just before the checkpoint: it stays. The training
        figures at that number belong to the next step.
        """
        points = read_points(self._path.parent, self._notify)
        kept = [point for point in points if point.step < step or (point.step == step and point.group == "val")]
        write_text(self._path, "".join(to_line(point) for point in kept))
        self._seen = {(point.group, point.step) for point in kept if point.step == step}

    def append(self, group: str, step: int, values: dict[str, float]) -> bool:
        """Add one line; False if the figures were there before the resume. An epoch's end survives a power cut."""
        if (group, step) in self._seen:
            return False
        with self._path.open("a", encoding="utf-8") as file:
            file.write(to_line(Point(group, step, values, time.time())))
            if group != "train":
                file.flush()
                os.fsync(file.fileno())
        return True


def _parse(text: bytes) -> tuple[list[Point], int, int]:
    """The points of the whole lines in `text`, the bytes that all whole lines take, and how many are damaged."""
    whole = text[: text.rfind(b"\n") + 1]
    found = [_point(line) for line in whole.splitlines() if line]
    points = [point for point in found if point is not None]
    return points, len(whole), len(found) - len(points)


def _point(line: bytes) -> Point | None:
    """The figures in one line; None if it is not as `_line` wrote it."""
    try:
        point = Point(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None
    sound = isinstance(point.group, str) and type(point.step) is int and isinstance(point.time, int | float)
    figures = isinstance(point.values, dict) and all(isinstance(value, int | float) for value in point.values.values())
    return point if sound and figures else None


def to_line(point: Point) -> str:
    """The point as a line of `metrics.jsonl`."""
    return json.dumps(point._asdict()) + "\n"


def _short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}" if where else first["msg"]
    return " ".join(str(error).split())[:200]
