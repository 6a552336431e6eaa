"""The folder of a published report: what lies in it, and its manifest.

`report.html`, `table.md`, `table.csv`, `seeds.csv` and the figures are the report; `specs/` holds the suite's and the
profile's files as they were; `records/` what is kept of each run (experiments/records.py). `manifest.json` says how all
of it was made, and has a digest of each file. The text around it (README.md) is a person's, and not listed.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from experiments.records import SHARED, Record, inside, read_record
from experiments.statistics import RESAMPLES
from rasa.errors import RasaError, ResourceError

FORMAT = 1
MANIFEST = "manifest.json"
CHANGED = "changed since it was published"
RECORDS, SPECS, PROFILES = "records", "specs", "profiles"
TABLE, TABLE_CSV, SEEDS_CSV, PAGE = "table.md", "table.csv", "seeds.csv", "report.html"


Inside = Annotated[str, AfterValidator(inside)]  # a path in the folder, wherever the manifest is from


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Unfinished(_Part):
    """A run that the report names and that has no record, since it did not finish."""

    row: str
    seed: int
    state: str
    reason: str = ""  # without what names a place on a machine


class Evaluated(_Part):
    """The evaluation of initial weights, and the rows that started from them."""

    record: Inside
    rows: tuple[str, ...]


class Manifest(_Part):
    """How a published report was made, and of which files it consists."""

    format: int = FORMAT
    version: str  # of this package
    suite: Inside  # the file in specs/
    asked: tuple[str, ...] = ()  # rows of it, as they were typed; none: all
    profile: str  # its name
    overrides: tuple[str, ...]
    margin: float = Field(gt=0, allow_inf_nan=False)  # percent points of R@1
    max_seeds: int = Field(ge=1, le=1000)  # of the last look
    resamples: int = Field(ge=1, le=10 * RESAMPLES)
    resamples_seed: int
    variant: str = ""  # what -o changed
    made: str
    command: str
    notes: tuple[str, ...]  # on runs that were left out of it
    runs: tuple[Inside, ...]  # folders in records/
    starts: tuple[Evaluated, ...]
    stage1: tuple[str, ...]  # rows that stage 1 alone ranks
    unfinished: tuple[Unfinished, ...]
    files: dict[Inside, str]  # SHA-256 by path, the manifest left out

    def text(self) -> str:
        """As it is written."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a published report. Raises ResourceError if the folder is none, or of another format."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ResourceError(f"{folder}: no published report (it has no {MANIFEST}); `rasa publish` makes one")
    try:
        values = json.loads(path.read_bytes())
        number = values.get("format") if isinstance(values, dict) else None
        if number == FORMAT:
            return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:  # pydantic's ValidationError is a ValueError
        fault = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
        text = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" if fault else " ".join(str(error).split())[:200]
        raise ResourceError(f"{path}: no manifest of a published report ({text})") from error
    raise ResourceError(
        f"{path}: format {number} is not known to this version, which reads {FORMAT}; take another version"
    )


def digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """By path, of all files in the folder but the manifest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): digest(path) for path in files}


def altered(folder: Path, manifest: Manifest) -> Iterator[str]:
    """A sentence for each listed file that is not as it was published, and for each record that is not listed."""
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            yield f"{name}: missing, and {MANIFEST} lists it"
        elif (found := digest(path)) != expected:
            yield f"{name}: {CHANGED} (SHA-256 {found[:12]}, {MANIFEST} has {expected[:12]})"
    for part in (RECORDS, SPECS):
        for path in sorted((folder / part).rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and name not in manifest.files:
                yield f"{name}: {MANIFEST} does not list it"


def records_of(folder: Path, names: Sequence[str]) -> list[Record]:
    """The records of these names. Raises ResourceError for one that cannot be read."""
    return [read_record(folder / RECORDS / name, folder / RECORDS / SHARED) for name in names]


def whole(folder: Path) -> Manifest:
    """The manifest, once all files are found as they were published. Raises RasaError, with the first that is not."""
    manifest = read_manifest(folder)
    if fault := next(altered(folder, manifest), None):
        raise RasaError(f"{folder}/{fault}; take the folder from the repository again")
    return manifest
