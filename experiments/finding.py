"""A run as a person may name it: its directory, a folder in it, its id, or enough of that."""

import re
from pathlib import Path

from experiments.rundir import RUNS, SPEC, SUPERSEDED
from rasa.errors import ResourceError

RUN_ID = re.compile(r"(?:seed-\d+-)?(?P<id>[0-9a-f]{6,12})")


def run_named(name: str | Path, workspace: Path = Path()) -> Path | None:
    """The run directory that `name` means; None if it means none.

    Raises ResourceError if an id fits several trainings.
    """
    path = Path(name)
    for folder in (path, *path.parents[:3]):
        if path.exists() and (folder / SPEC).is_file():
            return folder
    matched = RUN_ID.fullmatch(str(name))
    if matched is None:
        return None
    folders = sorted((workspace / RUNS).glob(f"*/*/*/seed-*-{matched['id']}*"))
    found = [folder for folder in folders if (folder / SPEC).is_file() and not SUPERSEDED.search(folder.name)]
    if len({folder.name for folder in found}) > 1:
        raise ResourceError(
            f"{name} is the beginning of several runs' ids: {', '.join(folder.name for folder in found)}"
        )
    return found[0] if found else None  # of the same id: the same computation, under another row
