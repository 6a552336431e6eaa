"""What a store has of a workspace's runs. The store is asked, by run id and training, never a note beside the run.

An answer may be lost while what was asked for is done. So the same row or seed may be there twice; the next look keeps
one of them and deletes the others.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from experiments import notes
from experiments.asking import insist, pages
from experiments.rows import adopt, chosen, delete, merge
from experiments.rundir import About
from experiments.spec import suite_names
from experiments.store import ACTIVE, experiment_of, holds_for_all, mlflow_error, parent_lock
from experiments.summary import Seed, differs, seed_of, shared, summary
from experiments.tracking import (
    BATCH,
    DIRECTORY,
    ENDED,
    GONE,
    KIND,
    KIND_ROW,
    MERGED,
    NOTE,
    PARAMS_BATCH,
    PARENT,
    PARENT_STATUSES,
    PROFILE,
    ROW,
    RUN_ID,
    STARTED,
    STATE,
    SUITE,
    SUMMARIES,
    TRAINING,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

LOOKS = 5  # at a row whose seeds other hosts end meanwhile
T = TypeVar("T")


class Filed:
    """One store, as deliveries see it. `whole`: a suite's runs are read at once, for many deliveries in a row."""

    def __init__(self, client: "MlflowClient", uri: str, workspace: Path, whole: bool = False):
        self.client, self.uri, self._workspace, self.whole = client, uri, workspace, whole
        self._experiments: dict[str, str] = {}  # as the next ones, of a whole reading only
        self._runs: dict[str, dict[str, list[Run]]] = {}  # by experiment and run id
        self._parents: dict[tuple[str, ...], str] = {}
        self._seeds: dict[str, dict[str, Seed]] = {}  # by parent and run
        self._rows: dict[str, Run] = {}  # the parents themselves
        self._changed: dict[str, int] = {}  # parents to be looked at, with the time (ms) of the last change

    def experiment(self, about: About) -> str:
        """The experiment of the run's suite, which is made, or described, if it is not."""
        suite = about.suite
        if suite in self._experiments:
            return self._experiments[suite]
        note = notes.of_suite(about, suite in suite_names())
        with parent_lock(self.uri, self._workspace):
            experiment = experiment_of(
                self.client,
                self.uri,
                self._workspace,
                suite,
                lambda had: {**notes.renewed(note, had), **{k: v for k, v in TRAINING.items() if k not in had}},
            )
        if self.whole:
            self._experiments[suite] = experiment
            self._read(experiment)
        return experiment

    def seed(self, experiment: str, about: About, started: str, directory: str, known: str | None) -> "Run | None":
        """The run of one training: the one noted (`known`), else by what it says of itself; a deleted one, too.

        `directory` as its tag names it. None if the store has no such run.
        """
        runs = [run for run in self._of(experiment, about.run_id) if _same(run, about)]
        if known is not None and all(run.info.run_id != known for run in runs):  # made since the runs were read
            runs += [run for run in self._get(known) if _same(run, about)]
        folder = directory.rpartition("/")[2]
        own = [run for run in runs if _is(run, known, started, folder)]
        active = [run for run in own if run.info.lifecycle_stage == ACTIVE]
        if len(active) > 1:
            active.sort(
                key=lambda run: (
                    run.info.run_id != known,
                    run.data.tags.get(STATE) not in ENDED,
                    -len(run.data.metrics),
                )
            )
            self._delete(run for run in active[1:] if started and run.data.tags.get(STARTED) == started)
        return next(iter([*active, *own]), None)

    def parent(
        self,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        described: Mapping[str, str],
        note: str = "",
        began: int | None = None,
    ) -> str:
        """The row's run: one for all seeds that differ in nothing else. Made, or described anew, where needed.

        A new one gets the `note`, and `began` (ms), when its first seed did.
        """
        key = (experiment, *tags.values(), *described.values())
        if key in self._parents:
            return self._parents[key]
        with parent_lock(self.uri, self._workspace):
            run = self._parent(experiment, name, tags, described, note, began)
        if self.whole:
            self._parents[key] = run
        return run

    def made(self, run: "Run") -> None:
        """Take note of a new seed."""
        if self.whole:
            of_experiment = self._runs.setdefault(run.info.experiment_id, {})
            of_experiment.setdefault(run.data.tags[RUN_ID], []).append(run)

    def changed(self, parent: str, seed: Seed, at: int) -> None:
        """A seed has changed, at `at` (ms): its row follows, at the end of a whole reading."""
        self._changed[parent] = max(at, self._changed.get(parent, 0))
        if self.whole:
            self._seeds.setdefault(parent, {})[seed.run] = seed
        else:
            self.settle()

    def settle(self) -> None:
        """Give every row whose seeds have changed the status, the figures and the parameters that they give it."""
        for parent, at in self._changed.items():
            with parent_lock(self.uri, self._workspace):  # so that of two seeds that end at once the last sees both
                self._settle(parent, at)
        self._changed.clear()

    def _settle(self, parent: str, at: int) -> None:
        for look in range(LOOKS):
            row = self._row(parent)
            if row is None:
                return
            # What was read for many rows at once is right only while no other host has written of this one.
            known = self.whole and look == 0 and parent in self._seeds and self._is_as_read(parent, row)
            seeds = list(self._seeds[parent].values() if known else self._seeds_of(row))
            if not seeds or not self._told(row, seeds, at) or holds_for_all(self.uri):
                return  # without a lock another host may have written between: the last one to write looks again

    def _is_as_read(self, parent: str, now: "Run") -> bool:
        before = self._rows.get(parent)
        return (
            before is not None
            and (before.info.run_id, before.info.status) == (now.info.run_id, now.info.status)
            and before.data.tags.get(SUMMARIES) == now.data.tags.get(SUMMARIES)
        )

    def _row(self, parent: str) -> "Run | None":
        """A row's run as it is now, or the one to which it has given way; None if a person deleted it."""
        row, seen = next(iter(self._get(parent)), None), set[str]()
        while row is not None and (target := row.data.tags.get(MERGED)) and row.info.run_id not in seen:
            seen.add(row.info.run_id)
            kept = next(iter(self._get(target)), None)
            if kept is None or (kept.info.lifecycle_stage != ACTIVE and MERGED not in kept.data.tags):
                break
            adopt(self.client, kept, row)
            row = kept
        return row if row is not None and row.info.lifecycle_stage == ACTIVE else None

    def _told(self, row: "Run", seeds: Sequence[Seed], at: int) -> bool:
        """Tell a row what its seeds give it; whether there was anything to tell."""
        statuses = {seed.status for seed in seeds}
        status = next((status for status in PARENT_STATUSES if status in statuses), "FINISHED")
        if changed := row.info.status != status:
            set_status(self.client, row.info.run_id, status, at)
        return self._summarise(row, seeds) or changed

    def _seeds_of(self, row: "Run") -> Iterator[Seed]:
        return map(seed_of, pages(self.client, row.info.experiment_id, {PARENT: row.info.run_id}))

    def _summarise(self, row: "Run", seeds: Sequence[Seed]) -> bool:
        from mlflow.entities import Metric, Param, RunTag

        run, told = row.info.run_id, shared(seeds) if not row.data.params else {}
        for params in parts([Param(name, value) for name, value in told.items()], PARAMS_BATCH):
            insist(partial(self.client.log_batch, run, params=params))
        found = summary(seeds)
        if not differs(found, row.data.metrics):
            return bool(told)
        # A step of its own for each time: MLflow shows the figure of the highest one.
        step, now = int(row.data.tags.get(SUMMARIES, "0")) + 1, round(1000 * time.time())
        figures = [Metric(name, value, now, step) for name, value in found.items()]
        for metrics in parts(figures, BATCH - 1):
            insist(partial(self.client.log_batch, run, metrics=metrics, tags=[RunTag(SUMMARIES, str(step))]))
        return True

    def _of(self, experiment: str, run_id: str) -> "list[Run]":
        if self.whole:
            return list(self._runs.get(experiment, {}).get(run_id, ()))
        return list(pages(self.client, experiment, {RUN_ID: run_id}, deleted=True))

    def _get(self, run: str) -> "list[Run]":
        try:
            return [self.client.get_run(run)]
        except mlflow_error() as error:
            if error.error_code == GONE:  # the store is another one, or was emptied
                return []
            raise

    def _read(self, experiment: str) -> None:
        index = self._runs.setdefault(experiment, {})
        for run in pages(self.client, experiment, {}, deleted=True):
            if run_id := run.data.tags.get(RUN_ID):
                index.setdefault(run_id, []).append(run)
            if run.info.lifecycle_stage != ACTIVE:
                continue
            if run.data.tags.get(KIND) == KIND_ROW:
                self._rows[run.info.run_id] = run
            elif parent := run.data.tags.get(PARENT):
                self._seeds.setdefault(parent, {})[run.info.run_id] = seed_of(run)
                self._changed[parent] = max(run.info.end_time or 0, self._changed.get(parent, 0))

    def _parent(
        self,
        experiment: str,
        name: str,
        tags: Mapping[str, str],
        described: Mapping[str, str],
        note: str,
        began: int | None,
    ) -> str:
        kept, others = chosen(pages(self.client, experiment, tags, deleted=True))
        if kept is None:
            own = {**tags, **described, **({NOTE: note} if note else {})}
            made = self.client.create_run(experiment, began, own, name)
            kept, others = chosen(pages(self.client, experiment, tags, deleted=True))
            kept = kept or made
        merge(self.client, kept, others)
        for other in others:
            self._changed[kept.info.run_id] = max(
                self._changed.pop(other.info.run_id, 0), self._changed.get(kept.info.run_id, 0)
            )
            self._seeds.setdefault(kept.info.run_id, {}).update(self._seeds.pop(other.info.run_id, {}))
        if not described.items() <= kept.data.tags.items():  # the suite's file has changed since
            tag(self.client, kept.info.run_id, described)
        return self._kept(kept)

    def _kept(self, row: "Run") -> str:
        if self.whole:
            self._rows[row.info.run_id] = row
        return str(row.info.run_id)

    def _delete(self, runs: "Iterable[Run]") -> None:
        for run in runs:
            delete(self.client, run)
            for of_parent in self._seeds.values():
                of_parent.pop(run.info.run_id, None)


def parts(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The values in parts that one request takes."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def tag(client: "MlflowClient", run: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run in one request."""
    from mlflow.entities import RunTag

    insist(lambda: client.log_batch(run, tags=[RunTag(name, value) for name, value in tags.items()]))


def set_status(client: "MlflowClient", run: str, status: str, at: int) -> None:
    """Give a run a status, at `at` (ms) if it is an end."""
    if status == "RUNNING":
        client.update_run(run, status=status)
    else:
        client.set_terminated(run, status, at)


def _same(run: "Run", about: About) -> bool:
    tags = run.data.tags
    who = {RUN_ID: about.run_id, SUITE: about.suite, ROW: about.row, PROFILE: about.profile}
    return who.items() <= tags.items() and tags.get(KIND) != KIND_ROW


def _is(run: "Run", known: str | None, started: str, folder: str) -> bool:
    """Whether a run of that id is that training: it is noted, began at the same time, or has not said when it began."""
    tags = run.data.tags
    if run.info.run_id == known:
        return True
    if tags.get(STARTED):
        return tags[STARTED] == started
    return tags.get(DIRECTORY, "").rpartition("/")[2] == folder
