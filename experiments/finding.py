"""Runs as a person may name them: a directory, an id or enough of it, a run's name, a row, a suite.

`table4/m-rtd/synth/seed-0-1a2b3c4d5e6f` (from anywhere, or as it lies below `runs/`), a folder or a file in it,
`1a2b3c4d5e6f`, `1a2b`, `seed-0-1a2b3c4d5e6f` and `table4/m-rtd seed 0` mean one run; `table4/m-rtd` all of a row,
`table4` or `my.yaml` all of a suite, `table4/*rtd` or `table[1-3]/rasa` all that is called like that. Every command
that takes runs asks here.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from experiments.rundir import ABOUT, RESULT, RUNS, SPEC, SUPERSEDED, find_runs, read_result, suites_run
from experiments.wording import did_you_mean
from rasa.errors import ResourceError, SpecError

ROW = re.compile(r"(?P<suite>[\w.-]+)/(?P<row>[\w.-]+)")
OF_SEED = re.compile(rf"{ROW.pattern} seed (?P<seed>\d+)")  # as messages name a run
RUN_ID = re.compile(r"(?:seed-\d+-)?(?P<id>[0-9a-f]{4,12})")
NO_RUN = "no run's directory, id or name"
SHOWN = 6  # candidates that a message names


def run_named(name: str | Path, workspace: Path = Path()) -> Path | None:
    """The directory of the one run that `name` means; None if it means none, or a whole row or suite.

    Raises ResourceError, naming the candidates, if it fits several runs.
    """
    text = str(name).rstrip("/")
    below = workspace / RUNS / text if text.count("/") >= 3 else None
    if (found := _lying(Path(name)) or (below and _lying(below))) is not None:
        return found
    if matched := OF_SEED.fullmatch(text):
        return _only(text, _settled_on(workspace, f"{matched['suite']}/{matched['row']}/*/seed-{matched['seed']}-*"))
    matched = RUN_ID.fullmatch(text)
    if matched is None or (workspace / RUNS / text).is_dir():  # a suite may be called like an id
        return None
    begun = text if text.startswith("seed-") else f"seed-*-{matched['id']}"
    by_id: dict[str, Path] = {}
    for folder in _settled_on(workspace, f"*/*/*/{begun}*"):
        by_id.setdefault(folder.name, folder)  # of the same id is the same computation, under another row
    return _only(text, [*by_id.values()])


def finished_run(name: str, workspace: Path, profile: str | None = None, seed: int | None = None) -> Path:
    """The finished run that a person means by a directory, an id, a run's name, or SUITE/ROW with a profile and a seed.

    Without a profile the row must have been run at one alone; without a seed it is the lowest that has finished.
    A run that is named itself need not have finished. Raises ResourceError, naming what there is instead.
    """
    if (found := run_named(name, workspace)) is not None:
        return found
    matched = ROW.fullmatch(name.rstrip("/"))
    if matched is None:
        raise unknown(name, workspace)
    folder = workspace / RUNS / matched["suite"] / matched["row"]
    seeds = finished_seeds(folder, profile, name)
    if not any(folder.glob(f"{profile or '*'}/")):
        at = f" at the profile {profile}" if profile else ""
        hint = did_you_mean(name, _known(workspace)) if not folder.is_dir() else ""
        instead = hint or "; `rasa status` lists what has"
        raise ResourceError(f"{name}: has not been run{at} in {workspace.absolute()}{instead}")
    chosen = min(seeds, default=None) if seed is None else seed
    if chosen not in seeds:
        known = f"finished are {', '.join(map(str, sorted(seeds)))}" if seeds else "none has finished"
        raise ResourceError(f"{name}: seed {0 if chosen is None else chosen} has not finished; {known}")
    if len(seeds[chosen]) > 1:
        ids = ", ".join(directory.name for directory in seeds[chosen])
        raise ResourceError(f"{name}: seed {chosen} was run with several configs or data sets: {ids}; give one id")
    return seeds[chosen][0]


def runs_named(name: str, workspace: Path) -> list[Path]:
    """The directories of all runs that `name` means: one run, or those of a row, a sweep or a suite, maybe none yet.

    Superseded ones are left out. Raises SpecError, with the nearest names, for one that is nothing of these.
    """
    if (found := run_named(name, workspace)) is not None:
        return [found]
    if OF_SEED.fullmatch(name):
        raise unknown(name, workspace)
    several: list[Path] = []
    for suite, rows in _rows_named(name, workspace):
        directories = [each for each in find_runs(workspace, suite) if not SUPERSEDED.search(each.name)]
        several += [each for each in directories if rows is None or each.parent.parent.name in rows]
    return several


def _rows_named(name: str, workspace: Path) -> list[tuple[str, Sequence[str] | None]]:
    """The suites and the names of their rows that `name` means; None for all rows. Raises SpecError, ResourceError."""
    from experiments.spec import FILE, load_suite, suite_names
    from experiments.targets import is_pattern

    file = FILE.fullmatch(name)
    suite, _, row = (file["file"], "", file["row"]) if file else name.rstrip("/").partition("/")
    if file:
        return [_of_suite(load_suite(suite).suite, row, suite, workspace)]
    known = sorted({*suite_names(), *suites_run(workspace)})
    if is_pattern(suite):
        run = [each for each in suites_run(workspace) if fnmatchcase(each, suite)]
        if not any(fnmatchcase(each, suite) for each in known):
            raise SpecError(f"{name}: no suite is called like that; there is {', '.join(known)}")
        rows = {each: [one for one in _rows_run(workspace, each) if fnmatchcase(one, row or "*")] for each in run}
        return [(each, found) for each, found in rows.items() if found]
    if suite not in known:
        if RUN_ID.fullmatch(name) or Path(name).exists():
            raise unknown(name, workspace)
        raise SpecError(f"no suite {suite!r}{did_you_mean(suite, known)}")
    return [_of_suite(suite, row, suite if suite in suite_names() else None, workspace)]


def _of_suite(suite: str, row: str | None, file: str | None, workspace: Path) -> tuple[str, Sequence[str] | None]:
    """Of one suite, the rows that were run and those that its `file`, if it is known, has. Raises SpecError."""
    from experiments.spec import load_suite
    from experiments.targets import is_pattern, matching, parse_target

    if not row:
        return suite, None
    run = _rows_run(workspace, suite)
    rows = [each for each in run if fnmatchcase(each, row)]
    if file is not None and (row not in rows or is_pattern(row)):
        # The rows of -m are none of the file's; only if they are not meant need the file have such a row.
        named = matching(load_suite(file), row) if rows else parse_target(f"{file}/{row}")[1]
        rows += [each.name for each in named]
    if not rows:
        raise SpecError(f"{suite}/{row}: no row {row!r} was run{did_you_mean(row, run)}")
    return suite, rows


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


def unknown(name: str, workspace: Path) -> ResourceError:
    """The fault that no run of the workspace is meant by `name`, with the nearest names of rows that were run."""
    # Ids are random: the nearest one would mean nothing.
    hint = "" if RUN_ID.fullmatch(name) else did_you_mean(name, _known(workspace))
    return ResourceError(f"{name}: {NO_RUN}{hint or '; `rasa status` lists them'}")


def _lying(path: Path) -> Path | None:
    """The run in whose directory the path lies, if it exists."""
    if not path.exists():
        return None
    return next((folder for folder in (path, *path.parents[:3]) if (folder / SPEC).is_file()), None)


def _settled_on(workspace: Path, pattern: str) -> list[Path]:
    found = sorted((workspace / RUNS).glob(pattern))
    return [folder for folder in found if (folder / SPEC).is_file() and not SUPERSEDED.search(folder.name)]


def _only(name: str, found: Sequence[Path]) -> Path | None:
    """The only one found. Raises ResourceError, with all of them, if there are several."""
    if len(found) < 2:
        return found[0] if found else None
    each = [f"{folder.name} of {'/'.join(folder.parts[-4:-1])}" for folder in found[:SHOWN]]
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise ResourceError(f"{name} may be any of {len(found)} runs: {', '.join(each)}{more}; give one id")


def _rows_run(workspace: Path, suite: str) -> list[str]:
    """Names of the rows of a suite of which the workspace holds runs."""
    return sorted({path.parts[-4] for path in (workspace / RUNS / suite).glob(f"*/*/seed-*/{ABOUT}")})


def _known(workspace: Path) -> list[str]:
    """What was run: suites, and rows as `suite/row`."""
    suites = suites_run(workspace)
    return [*suites, *(f"{suite}/{row}" for suite in suites for row in _rows_run(workspace, suite))]
