"""A run as a person may name it: its directory, a folder in it, its id, or enough of that; and a suite."""

import re
from pathlib import Path

from experiments.rundir import RESULT, RUNS, SPEC, SUPERSEDED, read_result, suites_run
from experiments.spec import FILE, load_suite, suite_names
from experiments.wording import did_you_mean
from rasa.errors import ResourceError, SpecError

ALL = "*"  # suites
ROW = re.compile(r"(?P<suite>[\w.-]+)/(?P<row>[\w.-]+)")
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


def finished_run(name: str, workspace: Path, profile: str | None = None, seed: int | None = None) -> Path:
    """The finished run that a person means by a directory, an id, or SUITE/ROW with a profile and a seed.

    Without a profile the row must have been run at one alone; without a seed it is the lowest that has finished. Raises
    ResourceError, naming what there is instead.
    """
    if (found := run_named(name, workspace)) is not None:
        return found
    matched = ROW.fullmatch(name)
    if matched is None:
        raise ResourceError(f"{name}: no run's directory and no run's id; `rasa status` lists them")
    folder = workspace / RUNS / matched["suite"] / matched["row"]
    seeds = finished_seeds(folder, profile, name)
    if not any(folder.glob(f"{profile or '*'}/")):
        at = f" at the profile {profile}" if profile else ""
        raise ResourceError(f"{name}: has not been run{at} in {workspace.absolute()}; `rasa status` lists what has")
    chosen = min(seeds, default=None) if seed is None else seed
    if chosen not in seeds:
        known = f"finished are {', '.join(map(str, sorted(seeds)))}" if seeds else "none has finished"
        raise ResourceError(f"{name}: seed {0 if chosen is None else chosen} has not finished; {known}")
    if len(seeds[chosen]) > 1:
        ids = ", ".join(directory.name for directory in seeds[chosen])
        raise ResourceError(f"{name}: seed {chosen} was run with several configs or data sets: {ids}; give one id")
    return seeds[chosen][0]


def finished_seeds(row: Path, profile: str | None, name: str) -> dict[int, list[Path]]:
    """The finished runs in a row's folder, by seed: several of a seed if it was run with several configs or data sets.

    Raises ResourceError, naming the row `name`, if it was run at several profiles and none is given.
    """
    profiles = sorted(each.name for each in row.glob("*/"))
    if profile is None and len(profiles) > 1:
        raise ResourceError(f"{name}: was run at the profiles {', '.join(profiles)}; name one with --profile")
    found: dict[int, list[Path]] = {}
    for directory in sorted(row.glob(f"{profile or '*'}/seed-*")):
        if not SUPERSEDED.search(directory.name) and read_result(directory / RESULT) is not None:
            found.setdefault(int(directory.name.split("-")[1]), []).append(directory)
    return found


def suite_named(given: str, workspace: Path) -> str:
    """The suite that a name or a user's file means; SpecError with the nearest names for one that is nowhere."""
    name = load_suite(given).suite if FILE.fullmatch(given) else given
    known = sorted({*suite_names(), *suites_run(workspace)})
    if name != ALL and name not in known:
        raise SpecError(f"no suite {name!r}{did_you_mean(name, known)}")
    return name
