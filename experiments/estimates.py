"""How long runs take: as measured in the workspace, or else as the suite states, scaled by what they compute."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.rundir import ABOUT, RESULT, RUNS, START, About, read_json, read_result, row_folder
from experiments.spec import resolve
from experiments.suite import Row, Suite
from experiments.workload import SizesOfSplits, Work, expected_sizes, recorded_work, work_of
from rasa.config.run import Config
from rasa.errors import SpecError

MEASURED = 20  # runs of a row from which its time is estimated
AT_LEAST = 5.0  # seconds: to load the program, the data and the models, however little is computed


def work_on(config: Config, sizes: SizesOfSplits | None) -> Work | None:
    """What a run computes on data of these sizes, or if it is not there, of the expected ones; None if unknown."""
    sizes = sizes or expected_sizes(config.data)
    return work_of(config, sizes) if sizes else None


def usual_work(suite: Suite, row: Row, profile: str) -> Work | None:
    """What a row computes as the profile has it, on the profile's own data; None if that is not known."""
    for given in ([], ["data.root=."]):  # the data may be the user's to give
        try:
            config = resolve(suite, row, profile, given, 0)
        except SpecError:
            continue
        return work_on(config, None)
    return None


class Measured(NamedTuple):
    """Wall time of a finished run, and what it computed, if its record tells."""

    seconds: float
    work: Work | None

    def scaled(self, work: Work | None) -> float:
        """Seconds that other work would have taken at the same speed."""
        if work is None or self.work is None:
            return self.seconds
        return self.seconds * work.total / self.work.total


class Estimates:
    """How long runs of a workspace take; what has been measured is read once for each row and profile."""

    def __init__(self, workspace: Path):
        self._workspace = workspace
        self._rows: dict[tuple[str, str, str], list[Measured]] = {}
        self._suites: dict[tuple[str, str], list[Measured]] = {}
        self._works: dict[str, Work | None] = {}

    def seconds(self, about: About, work: Work | None = None, usual: Work | None = None) -> float | None:
        """As measured in this row, or else in other rows of the profile, or else as the suite states.

        All are scaled to the run's own `work`: the suite's figure from what a row of the profile computes, `usual`.
        """
        measured = self._of_row(about.suite, about.row, about.profile) or self._of_suite(about.suite, about.profile)
        if measured:
            return sum(each.scaled(work) for each in measured) / len(measured)
        if about.expected_minutes is None:
            return None
        return max(AT_LEAST, Measured(about.expected_minutes * 60, usual).scaled(work))

    def _of_row(self, suite: str, row: str, profile: str) -> list[Measured]:
        key = (suite, row, profile)
        if key not in self._rows:
            results = sorted(row_folder(self._workspace, *key).glob(f"seed-*/{RESULT}"))
            found = (self._measured(path) for path in results[-MEASURED:])
            self._rows[key] = [each for each in found if each is not None]
        return self._rows[key]

    def _of_suite(self, suite: str, profile: str) -> list[Measured]:
        if (suite, profile) not in self._suites:
            rows = sorted(path.parent.name for path in (self._workspace / RUNS / suite).glob(f"*/{profile}"))
            every = [self._of_row(suite, row, profile) for row in rows if row != START]
            self._suites[suite, profile] = [measured for of_row in every for measured in of_row]
        return self._suites[suite, profile]

    def _measured(self, path: Path) -> Measured | None:
        """A finished run's seconds, and what it computed, which runs that differ in the seed alone share."""
        result = read_result(path) or {}
        if (seconds := seconds_of(result)) is None:
            return None
        about = read_json(path.parent / ABOUT) or {}
        key = json.dumps([about.get("row_digest"), result.get("sizes")], sort_keys=True)
        if key not in self._works:
            self._works[key] = recorded_work(about.get("identity") or {}, result.get("sizes"))
        return Measured(seconds, self._works[key])


def measured_seconds(results: Iterable[Path]) -> list[float]:
    """Wall times that these result files record."""
    found = (seconds_of(read_result(path) or {}) for path in results)
    return [seconds for seconds in found if seconds is not None]


def seconds_of(result: Mapping[str, Any]) -> float | None:
    """Wall time that a result records."""
    cost = result.get("cost") or {}
    if "seconds" not in cost:
        return None
    # What a run's cost leaves out, e.g. the test of every epoch's weights, takes time all the same.
    return float(cost["seconds"]) + float(cost.get("looks_seconds", 0))
