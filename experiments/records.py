"""What is published of a finished run: enough to compute its report again, and to put it back into a workspace.

Of a run's directory that is all but its weights and checkpoints, with two things made small: of the training figures
their means over windows (experiments/curves.py), and of each query what experiments/predictions.py keeps. No name of a
machine and no path of it is published; what the code had beside its commit is. What several runs have in common is
written once: `shared/` holds files that are named by their content.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import ValidationError

from experiments import predictions
from experiments.curves import averaged
from experiments.plan import DATA
from experiments.rundir import (
    ABOUT,
    CHANGES,
    ENVIRONMENT,
    METRICS,
    PREDICTIONS,
    RESTORED,
    RESULT,
    SPEC,
    About,
    Point,
    read_about,
    read_config,
    read_json,
    read_points,
    read_result,
    run_folder,
    to_line,
)
from experiments.suite import NAME
from experiments.tracking import GROUPS, SYNTHETIC, VAL
from experiments.yaml_io import dump, load_mapping
from rasa.config.run import Config, Data
from rasa.errors import ResourceError
from rasa.training.words import FILE as REPLACED
from rasa.training.words import Replaced, read_replaced, save_replaced
from rasa.weights import start

SHARED = "shared"
PACKED = "predictions.safetensors.xz"
PLAIN = re.compile(rf"{NAME.pattern}")  # what becomes a folder
PLACES = {"machine", "started", "workspace"}  # of an environment: what differs between runs that are alike
MILLISECONDS = 10**6  # in nanoseconds


@dataclass(frozen=True)
class Record:
    """A finished run as it is published. `spec` and `about` name no folder of the machine that it ran on."""

    about: About
    began: int  # milliseconds since 1970
    environment: Mapping[str, Any]
    spec: Mapping[str, Any]
    result: Mapping[str, Any]
    points: Sequence[Point]
    arrays: Mapping[str, NDArray[Any]]
    words: Replaced | None = None  # that its generator exchanged, if it kept them
    changes: bytes = b""  # of the code since its commit, a patch

    @property
    def folder(self) -> str:
        """Where it lies among the published records."""
        return f"{self.about.row}/seed-{self.about.seed}-{self.about.run_id}"

    @property
    def queries(self) -> int:
        """How many test queries its predictions are of."""
        return len(self.arrays[predictions.FIRST_RANK])


def read_run(directory: Path) -> Record:
    """The record of a finished run. Raises ResourceError if its directory lacks something that a record needs."""
    about, result = read_about(directory), read_result(directory / RESULT)
    if result is None:
        raise ResourceError(f"{directory}: not finished, so it cannot be published; `rasa run` finishes it")
    return Record(
        about=about.model_copy(update={"data_root": "", "target_root": ""}),
        began=(directory / ABOUT).stat().st_mtime_ns // MILLISECONDS,
        environment=read_json(directory / ENVIRONMENT) or {},
        spec=_without_places(read_config(directory), about),
        result=result,
        points=list(averaged(read_points(directory))),
        arrays=_predictions(directory),
        words=read_replaced(directory / REPLACED),
        changes=(directory / CHANGES).read_bytes() if (directory / CHANGES).exists() else b"",
    )


def files_of(record: Record) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The record's own files by name, and those that other runs may share, by their names in `shared/`."""
    about = record.about.model_dump(mode="json")
    identity = about.pop("identity")
    environment = {name: value for name, value in record.environment.items() if name not in PLACES}
    spec = {name: value for name, value in record.spec.items() if name != "seed"}
    common = {
        "environment": (_json(environment), ".json"),
        "spec": (dump(spec).encode(), ".yaml"),
        "identity": (_json(identity | ({"seed": None} if "seed" in identity else {})), ".json"),
    }
    if record.changes:
        common["changes"] = (record.changes, ".patch")
    named = {part: f"{part}-{_digest(content)}{end}" for part, (content, end) in common.items()}
    who = about | {"began": record.began, "environment_started": record.environment.get("started"), "shared": named}
    own = {
        ABOUT: _json(who),
        RESULT: _json(dict(record.result)),
        METRICS: "".join(map(to_line, record.points)).encode(),
        PACKED: predictions.pack(record.arrays),
    }
    if record.words is not None:
        own[REPLACED] = record.words.text().encode()
    return own, {named[part]: content for part, (content, _) in common.items()}


def inside(name: str) -> str:
    """The relative path, as it is. Raises ValueError for one that could lead out of the folder that it belongs to."""
    parts = name.split("/")
    if not all(parts) or {".", ".."} & {*parts} or not name.isprintable() or set(name) & set("\\:"):
        raise ValueError(f"{name[:80]!r} is no path inside a folder")
    return name


def read_record(folder: Path, shared: Path) -> Record:
    """The record whose own files are in `folder`. Raises ResourceError for one that is damaged or not whole.

    It may be from anywhere: no name in it leads out of these two folders, or, restored, out of a workspace.
    """
    try:
        who = json.loads((folder / ABOUT).read_bytes())
        named, began = {part: inside(name) for part, name in who.pop("shared").items()}, int(who.pop("began"))
        environment_started = who.pop("environment_started")
        identity = json.loads((shared / named["identity"]).read_bytes())
        environment = json.loads((shared / named["environment"]).read_bytes())
        spec = load_mapping((shared / named["spec"]).read_text(encoding="utf-8"), named["spec"])
        about = About.model_validate(
            who | {"identity": identity | ({"seed": who["seed"]} if "seed" in identity else {})}
        )
        if wrong := [
            name for name in (about.suite, about.row, about.profile, about.run_id) if not PLAIN.fullmatch(name)
        ]:
            raise ValueError(f"{wrong[0][:80]!r} is no name of a suite, a row, a profile or a run")
        if (result := read_result(folder / RESULT)) is None:
            raise ValueError(f"{RESULT} has not the figures of a run")
        (folder / METRICS).stat()  # a run without any figure has the file, too
        damaged: list[str] = []
        points = read_points(folder, damaged.append)
        if damaged:
            raise ValueError(damaged[0])
        return Record(
            about=about,
            began=began,
            environment=environment | ({} if environment_started is None else {"started": environment_started}),
            spec={"seed": about.seed, **spec},
            result=result,
            points=points,
            arrays=predictions.unpack((folder / PACKED).read_bytes(), str(folder / PACKED)),
            words=read_replaced(folder / REPLACED),
            changes=(shared / named["changes"]).read_bytes() if "changes" in named else b"",
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ResourceError(f"{folder}: no record of a run that can be read ({text})") from error


def restore(record: Record, workspace: Path) -> Path | None:
    """Put the run into the workspace, finished and without weights; its directory, or None if there is one already.

    The directory appears as a whole or not at all. Raises ResourceError if it cannot be written.
    """
    workspace = workspace.resolve()
    directory = run_folder(workspace, record.about)
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    try:
        if directory.exists():
            return None
        temporary.mkdir(parents=True)
        try:
            write_run(record, temporary, workspace)
            (temporary / RESTORED).write_bytes(_json({"lacks": "weights and checkpoints"}))
            temporary.rename(directory)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise ResourceError(f"{directory}: {error.strerror or error}; give a writable --workspace") from error
    return directory


def write_run(record: Record, directory: Path, workspace: Path) -> None:
    """The files of a finished run, as it left them in its own directory, in an empty one."""
    from safetensors.numpy import save_file

    about = record.about.model_copy(update=_roots(record, workspace))
    (directory / ABOUT).write_bytes(_json(about.model_dump(mode="json")))
    (directory / SPEC).write_text(dump(dict(record.spec)), encoding="utf-8")
    (directory / ENVIRONMENT).write_bytes(_json(dict(record.environment)))
    if record.changes:
        (directory / CHANGES).write_bytes(record.changes)
    (directory / METRICS).write_text("".join(map(to_line, record.points)), encoding="utf-8")
    save_file(dict(record.arrays), directory / PREDICTIONS)
    if record.words is not None:
        save_replaced(record.words, directory / REPLACED)
    (directory / RESULT).write_bytes(_json(dict(record.result)))
    nanoseconds = record.began * MILLISECONDS
    os.utime(directory / ABOUT, ns=(nanoseconds, nanoseconds))  # when it began, for the tracker


def last_figures(record: Record) -> dict[str, float]:
    """Each figure as the tracker shows it: its value at the last step, and what the result alone has."""
    found: dict[str, tuple[int, float]] = {}
    for point in record.points:
        for name, value in point.values.items():
            key = f"{GROUPS.get(point.group, point.group)}/{name}"
            if point.step >= found.get(key, (-1, 0.0))[0]:
                found[key] = (point.step, float(value))
    of_result = {name: record.result.get(name, {}) for name in ("test", "cost")}
    for group, figures in (of_result | {VAL: record.result.get("selected", {}).get("val", {})}).items():
        for name, value in figures.items():
            if isinstance(value, int | float):
                found.setdefault(f"{group}/{name}", (0, float(value)))
    return {key: value for key, (_, value) in found.items()}


def _predictions(directory: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = load_file(directory / PREDICTIONS)
    except (OSError, SafetensorError) as error:
        raise ResourceError(
            f"{directory / PREDICTIONS}: missing or damaged, so its report could not be checked; run it again"
        ) from error
    if lacking := [name for name in predictions.NEEDED if name not in found]:
        raise ResourceError(f"{directory / PREDICTIONS}: lacks {', '.join(lacking)}, from older code; run it again")
    return {name: values for name, values in found.items() if name in predictions.KEPT}


def _without_places(config: Config, about: About) -> dict[str, Any]:
    """The config as on any machine: the built-in benchmark and what ships by their names, files by theirs alone."""
    values = config.model_dump(mode="json")
    data, model, objectives = values["data"], values["model"], values["objectives"]
    data["root"] = _named(data["root"], about.data_name)
    if data["target"] is not None:
        data["target"]["root"] = _named(data["target"]["root"], about.target_name)
    if model["weights"] is not None and config.model.weights_name is None:
        model["weights"] = _last(model["weights"])
    data["tokenizer"] = _last(data["tokenizer"])
    objectives["masked_lm"] = _last(objectives["masked_lm"])
    return values


def _named(root: str | None, name: str) -> str | None:
    return None if root is None or name == SYNTHETIC else _last(root)


def _last(path: str) -> str:
    """The last part of an absolute path; what is none stays (the names of vocabularies have slashes, too).

    What ships is called by its name, whichever copy of the code the run was made with.
    """
    shipped = [file.parts[-3:] for file in (start.WEIGHTS, start.VOCABULARY)]  # rasa/weights/start/...
    if Path(path).parts[-3:] in shipped:
        return start.NAME
    return Path(path).name if Path(path).is_absolute() else path


def _roots(record: Record, workspace: Path) -> dict[str, str]:
    """Where the data is, or will be built, in this workspace; that of other data is not known."""
    try:
        data = Data.model_validate_json(json.dumps(record.spec["data"]))
    except (KeyError, ValidationError) as error:
        raise ResourceError(
            f"{record.about.name}: its data section is not one of this version, so it cannot be restored"
        ) from error
    roots = {}
    if record.about.data_name == SYNTHETIC and data.synthetic is not None:
        roots["data_root"] = str(workspace / DATA / data.synthetic.folder())
    if record.about.target_name == SYNTHETIC and (target := data.of_target().synthetic) is not None:
        roots["target_root"] = str(workspace / DATA / target.folder())
    return roots


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
