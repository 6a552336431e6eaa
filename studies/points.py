"""From a point of a space to the runs that measure it: one per seed, filed under the study's own suite."""

import itertools
import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.layers import differences, flatten, merge, parse_override
from experiments.plan import PlannedRun, data_reader, plan, state_of
from experiments.rundir import STUDY_SUITE, find_runs, read_about, suites_run
from experiments.spec import load_profile, resolve, short_digest
from experiments.suite import LONGEST_NAME, NAME, Row, Suite
from experiments.targets import parse_target
from experiments.wording import field_paths, nearest_keys
from rasa.config.run import Config
from rasa.errors import SpecError
from studies.space import Space, Value, check_wilcoxon

WEIGHTS = "objectives.weights"


class Start(NamedTuple):
    """The row from which a space starts, as a row of another suite could say it."""

    suite: Suite
    row: Row
    extends: str


class Points:
    """A space bound to a profile, overrides, seeds and a workspace. Raises SpecError if they do not go together."""

    def __init__(
        self,
        space: Space,
        profile: str | None,
        overrides: Sequence[str],
        seeds: Sequence[int] | None,
        workspace: Path,
        name: str | None = None,
    ):
        self.space, self.workspace = space, workspace.resolve()
        self.profile, self.overrides = profile or space.profile, tuple(overrides)
        self.seeds = tuple(seeds or space.seeds)
        if name is not None and (not NAME.fullmatch(name) or len(name) > LONGEST_NAME):
            raise SpecError(
                f"--name {name}: use letters, digits, dots, hyphens and underscores, {LONGEST_NAME} at most"
            )
        self.suite_name = f"{STUDY_SUITE}{name or space.study}"
        self.best_suite = f"best-{name or space.study}"  # of the runs that a report makes: ordinary ones
        self.name = f"{name or space.study}/{load_profile(self.profile).profile}"
        self.start = _start(space)
        self._read = data_reader()
        try:
            check_wilcoxon(space.pruner, len(self.seeds))
        except ValueError as error:
            raise SpecError(f"{space.file}: {error}") from error
        self._check()

    @property
    def row_config(self) -> Config:
        """The row as it is, without any parameter's value."""
        return self._resolve([], self.seeds[0])

    @property
    def epochs(self) -> int:
        """Epochs of one run of the row."""
        return self.row_config.optimisation.epochs

    def row_point(self) -> dict[str, Value] | None:
        """The row's own values; None if one of them is not in the space."""
        values = flatten(self.row_config.model_dump(mode="json"))
        point = {name: values.get(name) for name in self.space.parameters}
        return point if self.contains(point) else None

    def untried(self, tried: Container[str]) -> list[dict[str, Value]]:
        """The points of a finite space that keep its constraints and whose names are not among `tried`."""
        names, values = list(self.space.parameters), [p.values() for p in self.space.parameters.values()]
        every = (dict(zip(names, point, strict=True)) for point in itertools.product(*values))
        return [point for point in every if point_name(point) not in tried and self.allows(point)]

    def contains(self, point: Mapping[str, Any]) -> bool:
        """Whether every value lies in its parameter's range, on its step."""
        for name, parameter in self.space.parameters.items():
            distribution, value = parameter.distribution(), point[name]
            try:
                if not distribution._contains(distribution.to_internal_repr(value)):
                    return False
            except (ValueError, TypeError):  # a categorical one's unknown choice, a number that is none
                return False
        return True

    def allows(self, point: Mapping[str, Any]) -> bool:
        """Whether the point keeps every constraint of its parameters."""
        return all(excess <= 0 for excess in self.broken(point).values())

    def over(self, figures: Mapping[str, float]) -> dict[str, float]:
        """By how much a trained point's figures exceed each constraint of them; 0 or less is allowed."""
        return {c.name: c.excess(figures) for c in self.space.constraints if c.metric is not None}

    def broken(self, point: Mapping[str, Any]) -> dict[str, float]:
        """By how much the point exceeds each constraint of its parameters; 0 or less is allowed."""
        return {c.name: c.excess(point) for c in self.space.constraints if c.sum is not None}

    def runs(
        self, point: Mapping[str, Any], seeds: Sequence[int] | None = None, suite_name: str | None = None
    ) -> list[PlannedRun]:
        """The runs of a point, planned. Raises SpecError if no config can have these values."""
        row = Row(name=point_name(point), extends=self.start.extends)
        suite = Suite(suite=suite_name or self.suite_name, title=self.space.title, profile=self.profile, rows=(row,))
        suite._file = self.space.file
        return plan(
            suite, [row], self.profile, self._sets(settings(point)), seeds or self.seeds, self.workspace, self._read
        )

    def finished_elsewhere(self, run: PlannedRun) -> Path | None:
        """The directory of a finished run of the same id, in whichever suite; None if there is none."""
        pattern = f"*/*/*/seed-{run.about.seed}-{run.about.run_id}/result.json"
        found = [path.parent for path in sorted((self.workspace / "runs").glob(pattern))]
        return next((directory for directory in found if state_of(directory)[0] == "finished"), None)

    def identity(self) -> dict[str, Any]:
        """What a study of this name has to agree on: the space, what it starts from, and the data and weights."""
        (run,) = self.runs(self.row_point() or self.first_point(), self.seeds[:1])
        fields = set(self.space.parameters) | {"seed"}
        shared = {key: value for key, value in flatten(run.about.identity).items() if key not in fields}
        space = self.space.model_dump(mode="json", include={"parameters", "constraints", "objectives"})
        data = {"data": run.about.data_digest, "weights": run.about.weights_digest}
        return {"space": space, "config": shared, "seeds": list(self.seeds), "digests": data}

    def refuse_other(self, before: Mapping[str, Any], now: Mapping[str, Any], storage: str) -> None:
        """Raise SpecError if `storage`'s study of this name has another identity than this space and its options."""
        changed = differences(before, now)
        if not changed:
            return
        texts = [f"{key} ({json.dumps(old)} -> {json.dumps(new)})" for key, (old, new) in changed.items()]
        more = f" and {len(texts) - 2} more" if len(texts) > 2 else ""
        raise SpecError(
            f"{self.space.file}: the study {self.name} in {storage} has another space: "
            f"{', '.join(texts[:2])}{more}; take it back, or give --name for a new study"
        )

    def finished_rows(self, suite: str) -> list[tuple[str, dict[str, Value], list[Path]]]:
        """Points of the space that finished runs of a suite have measured: `suite/row`, the point, the directories.

        A run counts if it agrees with the study in all but the parameters: config, data, initial weights. Raises
        SpecError if the workspace has no run of that suite.
        """
        if not find_runs(self.workspace, suite):
            there = ", ".join(name for name in suites_run(self.workspace) if not name.startswith(STUDY_SUITE))
            raise SpecError(
                f"--start-from {suite}: {self.workspace} has no run of it" + (f"; of {there}" if there else "")
            )
        own, found = self.identity(), dict[str, tuple[str, dict[str, Value], list[Path]]]()
        for directory in find_runs(self.workspace, suite):
            about = read_about(directory)
            values = flatten(about.identity)
            rest = {key: value for key, value in values.items() if key not in {*self.space.parameters, "seed"}}
            digests = {"data": about.data_digest, "weights": about.weights_digest}
            point = {name: values.get(name) for name in self.space.parameters}
            agrees = rest == own["config"] and digests == own["digests"] and about.seed in self.seeds
            if agrees and state_of(directory)[0] == "finished" and self.contains(point):
                _, _, directories = found.setdefault(point_name(point), (f"{about.suite}/{about.row}", point, []))
                directories.append(directory)
        return list(found.values())

    def as_suite(self, point: Mapping[str, Any], suite: str, row: str, title: str) -> dict[str, Any]:
        """A suite file's content, whose one row is the row with the point's values."""
        changes: dict[str, Any] = {}
        for text in self._sets(settings(point)):
            changes = merge(changes, parse_override(text).values, whole=False)
        if "weights" in changes.get("objectives", {}):  # a row states all its losses
            config = self._resolve(settings(point), 0)
            changes["objectives"] = {**changes["objectives"], "weights": dict(config.objectives.weights)}
        rows = [{"name": row, "extends": self.start.extends, "changes": changes}]
        return {"suite": suite, "title": title, "labels": ["Trial"], "profile": self.profile, "rows": rows}

    def _resolve(self, more: Sequence[str], seed: int) -> Config:
        return resolve(self.start.suite, self.start.row, self.profile, self._sets(more), seed)

    def _sets(self, more: Sequence[str]) -> list[str]:
        base = [f"{key}={json.dumps(value)}" for key, value in flatten(self.space.base).items()]
        return [*base, *self.overrides, *more]

    def _check(self) -> None:
        """Every parameter is a field that matters, and the row can have it at the ends of its range."""
        known = set(field_paths(Config))
        matters = {key for key in flatten(self.row_config.identity())}
        for name, parameter in self.space.parameters.items():
            where = f"{self.space.file}: parameters.{name}"
            if name not in known or name == "seed":
                near = nearest_keys(name, Config)
                raise SpecError(
                    f"{where}: no such config field" + (f"; did you mean {' or '.join(near)}?" if near else "")
                )
            if name not in matters and not name.startswith(f"{WEIGHTS}."):
                raise SpecError(f"{where}: is no value that a trial could compute otherwise; remove it")
            for value in parameter.ends():
                self._check_end(where, name, value)
        for number, point in enumerate(self.space.start_at):
            if not self.contains(point):
                raise SpecError(f"{self.space.file}: start_at.{number}: {json.dumps(point)} is not in the space")

    def _check_end(self, where: str, name: str, value: Value) -> None:
        try:
            self._resolve([f"{name}={json.dumps(value)}"], 0)
        except SpecError as fault:
            raise SpecError(f"{where}: the value {json.dumps(value)} cannot be: {fault}") from fault

    def first_point(self) -> dict[str, Value]:
        """The low end of every range, or the first choice: some point of the space."""
        return {name: parameter.ends()[0] for name, parameter in self.space.parameters.items()}


def settings(point: Mapping[str, Any]) -> list[str]:
    """The point as `-o` overrides."""
    return [f"{name}={json.dumps(value)}" for name, value in point.items()]


def point_name(point: Mapping[str, Any]) -> str:
    """A name that equal points share, and that names their runs' folder: so a repeated point finds what it has done."""
    return f"p-{short_digest(dict(point))}"


def _start(space: Space) -> Start:
    if "/" not in space.row:
        raise SpecError(f"{space.file}: row: write suite/row ({space.row})")
    suite, (row,) = parse_target(space.row)
    return Start(suite, row, space.row)
