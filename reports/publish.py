"""Writes a published report: the tables, and beside them all that they can be computed from again."""

import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from tempfile import TemporaryDirectory

import rasa
from experiments.boundaries import MOST
from experiments.records import SHARED, Record, files_of, read_run
from experiments.rundir import write_text
from experiments.spec import chain, load_profile, profile_names, suite_names
from experiments.steps import MARGIN
from experiments.suite import Suite
from experiments.yaml_io import dump
from rasa.errors import RasaError, ResourceError
from reports import formats
from reports.build import MADE, How, assemble, draw_figures, how_made
from reports.cells import Report
from reports.load import SuiteRuns, load_runs
from reports.publication import (
    MANIFEST,
    PAGE,
    PROFILES,
    RECORDS,
    SPECS,
    Evaluated,
    Manifest,
    Unfinished,
    altered,
    digest,
    digests,
    read_manifest,
)
from reports.recorded import report_of, texts_of
from reports.tables import FINISHED
from reports.verdict import SEED
from reports.verify import faults

PLACE = re.compile(r"(^|[^\w.])(~?/|[A-Za-z]:\\)\w")  # a path of the machine, which is nobody else's business
Kept = Sequence[tuple[Record, Sequence[str]]]  # of each start, and the rows that began with it


def publish(
    suite: Suite,
    profile: str,
    overrides: Sequence[str],
    uri: str,
    folder: Path,
    margin: float = MARGIN,
    most: int = MOST,
    workspace: Path = Path(),
    settled: bool = False,
) -> Manifest:
    """Write the report of these runs into `folder`, once it was found to follow from the records in it.

    A published report that is there is replaced; what in the folder is not of it (README.md) stays. With `settled` it
    says that it was made when its last run had ended, so that the same runs make the same files. Raises SpecError, and
    ResourceError if a run lacks what a record needs, or if the folder is something else.
    """
    folder, loaded = folder.absolute(), load_runs(suite, profile, overrides, uri, workspace)
    loaded.runs["reason"] = [why if not PLACE.search(why) else "" for why in loaded.runs["reason"]]
    records = _records(loaded)
    starts = [(read_run(_there(start.directory, "start")), start.rows) for start in loaded.starts]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
            made = Path(place) / folder.name
            how = how_made(suite, profile, overrides, margin, most)
            how = how._replace(made=last_ended([*records, *(record for record, _ in starts)]) if settled else how.made)
            manifest = _written(made, suite, profile, overrides, how, loaded, records, starts)
            if fault := next(faults(made, manifest), None):
                raise RasaError(f"{folder}: not written, for its tables do not follow from its records: {fault}")
            _keep_others(folder, made, manifest)
            _swap(made, folder, Path(place) / "old")
    except OSError as error:
        raise ResourceError(f"{folder}: {error.strerror or error}; give a folder that can be written") from error
    return manifest


def last_ended(records: Sequence[Record]) -> str:
    """When the last of these runs had ended, in a report's words."""
    ended = max(str(record.result.get("finished") or "") for record in records)
    try:
        return datetime.fromisoformat(ended).astimezone(UTC).strftime(MADE)
    except ValueError:  # of a version that noted no times
        return "unknown"


def _records(loaded: SuiteRuns) -> list[Record]:
    """Of every finished run of the report, row by row as they are read."""
    finished = loaded.runs[loaded.runs["state"] == FINISHED]
    found = []
    for row, seed, directory in zip(finished["row"], finished["seed"], finished["directory"], strict=True):
        found.append(read_run(_there(directory, f"{row} seed {seed}")))
        if (row, seed) not in loaded.queries:
            raise ResourceError(
                f"{directory}: what it found of each query is not what it reported, so its report could not be "
                "checked; run it again"
            )
    if not found:
        raise ResourceError("no run has finished, so there is nothing to publish; `rasa plan` says how they stand")
    return found


def _there(directory: str, name: str) -> Path:
    if not directory or not Path(directory).is_dir():
        raise ResourceError(
            f"{name}: its directory {directory or '(unknown)'} is not on this machine; publish where it ran"
        )
    return Path(directory)


def _written(
    folder: Path,
    suite: Suite,
    profile: str,
    overrides: Sequence[str],
    how: How,
    loaded: SuiteRuns,
    records: Sequence[Record],
    starts: Kept,
) -> Manifest:
    name = load_profile(profile).profile
    report = assemble(suite, name, loaded, how)
    folder.mkdir()
    write_report(report, folder)
    for record in (*records, *(record for record, _ in starts)):
        write_record(record, folder / RECORDS)
    unfinished = loaded.runs[loaded.runs["state"] != FINISHED]
    manifest = Manifest(
        version=rasa.__version__,
        suite=_write_specs(suite, profile, folder / SPECS),
        asked=suite.asked,
        profile=name,
        overrides=tuple(overrides),
        margin=how.margin,
        max_seeds=how.most,
        resamples=how.resamples,
        variant=how.variant,
        resamples_seed=SEED,
        made=how.made,
        command=how.command,
        notes=tuple(loaded.notes),
        runs=tuple(record.folder for record in records),
        starts=tuple(Evaluated(record=record.folder, rows=tuple(rows)) for record, rows in starts),
        stage1=tuple(row for row, alone in loaded.stage1.items() if alone),
        unfinished=tuple(
            Unfinished(row=row, seed=int(seed), state=state, reason=reason)
            for row, seed, state, reason in zip(
                *(unfinished[name] for name in ("row", "seed", "state", "reason")), strict=True
            )
        ),
        files=digests(folder),
    )
    (folder / MANIFEST).write_text(manifest.text(), encoding="utf-8")
    return manifest


def renew(folder: Path) -> Manifest:
    """Write a published report's page, tables and figures again, as this version prints them, from its records.

    Raises RasaError if a record or a spec is not as it was published, and ResourceError if the folder is none.
    """
    manifest = read_manifest(folder)
    kept = (f"{RECORDS}/", f"{SPECS}/")
    if fault := next((each for each in altered(folder, manifest) if each.startswith(kept)), None):
        raise RasaError(f"{folder}/{fault}; take the folder from the repository again")
    report = report_of(folder, manifest)
    for name in [name for name in manifest.files if not name.startswith(kept)]:
        (folder / name).unlink(missing_ok=True)
    made = write_report(report, folder)
    files = {name: value for name, value in manifest.files.items() if name.startswith(kept)}
    files |= {path.name: digest(path) for path in made}
    renewed = manifest.model_copy(update={"version": rasa.__version__, "files": dict(sorted(files.items()))})
    write_text(folder / MANIFEST, renewed.text())
    return renewed


def write_report(report: Report, folder: Path) -> list[Path]:
    """The files that a reader opens: the page, the tables, the figures."""
    pictures = draw_figures(report, folder)
    texts = texts_of(report) | {PAGE: formats.html(report, pictures)}
    for name, text in texts.items():
        write_text(folder / name, text)
    return [*(folder / name for name in texts), *(picture.file for picture in pictures)]


def write_record(record: Record, folder: Path) -> None:
    own, shared = files_of(record)
    (folder / record.folder).mkdir(parents=True)
    (folder / SHARED).mkdir(exist_ok=True)
    for name, content in own.items():
        (folder / record.folder / name).write_bytes(content)
    for name, content in shared.items():
        (folder / SHARED / name).write_bytes(content)


def _write_specs(suite: Suite, profile: str, folder: Path) -> str:
    """Copy the suite's file, those of all suites that it extends, and the profile's; the name of the first.

    Rows that `ablate` stands for are written out, so that they are what they are now.
    """
    (folder / PROFILES).mkdir(parents=True)
    built_in = files("experiments") / "specs"
    extended = {origin.suite: origin for row in suite.rows for origin, _ in chain(suite, row)} | {suite.suite: suite}
    for other in extended.values():
        source: Traversable = built_in / f"{other.suite}.yaml" if other.suite in suite_names() else Path(other.file)
        content = source.read_bytes()
        if other.ablate is not None:
            content = dump(other.model_dump(mode="json", exclude_unset=True, exclude={"ablate"})).encode()
        (folder / f"{other.suite}.yaml").write_bytes(content)
    loaded = load_profile(profile)
    source = built_in / PROFILES / f"{loaded.profile}.yaml" if loaded.profile in profile_names() else Path(profile)
    (folder / PROFILES / f"{loaded.profile}.yaml").write_bytes(source.read_bytes())
    return f"{suite.suite}.yaml"


def _keep_others(folder: Path, made: Path, manifest: Manifest) -> None:
    """Copy what in `folder` is not of a published report. Raises ResourceError if that would be written over."""
    own = {MANIFEST, *read_manifest(folder).files} if (folder / MANIFEST).exists() else set()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name in own:
            continue
        if name in {MANIFEST, *manifest.files}:
            raise ResourceError(f"{path}: is there already, and is not of a published report; give another folder")
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, made / name)


def _swap(made: Path, folder: Path, old: Path) -> None:
    if folder.exists():
        folder.rename(old)
    made.rename(folder)
