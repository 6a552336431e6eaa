"""One run of each row, though hosts that share a server make it at once: there is no lock that both could take.

Whoever makes a row's run looks again. Of several the oldest stays, by start and id, so that all hosts choose the same
one; the seeds of the others are put under it, and the others are deleted. A run that gives way is marked first. Whoever
files a seed looks at its row's run afterwards. Either that look sees the mark, or the mark's own look sees the seed: no
seed stays behind, and a kill anywhere is made good by the next look.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from experiments.asking import insist, pages
from experiments.store import ACTIVE, mlflow_error
from experiments.tracking import MERGED, PARENT

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def chosen(found: "Iterable[Run]") -> "tuple[Run | None, list[Run]]":
    """Of all runs of a row, also deleted ones: the one that stays, and those that have given way, or are to."""
    runs = sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))
    active = [run for run in runs if _active(run)]
    gone = [run for run in runs if not _active(run) and MERGED in run.data.tags]  # not those that a person deleted
    return next(iter(active), None), [*active[1:], *gone]


def merge(client: "MlflowClient", kept: "Run", others: "Iterable[Run]") -> None:
    """Have `others`, of the same row, give way to `kept`, as far as they have not yet."""
    others = list(others)
    for other in others:
        if _active(other):
            with unless_deleted(client, other):
                insist(partial(client.set_tag, other.info.run_id, MERGED, kept.info.run_id))
    for other in others:
        adopt(client, kept, other)
        if _active(other):
            delete(client, other)
    if MERGED in kept.data.tags:  # it was to give way to one that a person has deleted since
        with unless_deleted(client, kept):
            client.delete_tag(kept.info.run_id, MERGED)


def adopt(client: "MlflowClient", kept: "Run", other: "Run") -> None:
    """Put under `kept` what is filed under `other`."""
    for seed in pages(client, other.info.experiment_id, {PARENT: other.info.run_id}, deleted=True):
        if _active(seed):
            with unless_deleted(client, seed):
                insist(partial(client.set_tag, seed.info.run_id, PARENT, kept.info.run_id))


def delete(client: "MlflowClient", run: "Run") -> None:
    """Delete a run that another host may be deleting."""
    with unless_deleted(client, run):
        client.delete_run(run.info.run_id)


@contextmanager
def unless_deleted(client: "MlflowClient", run: "Run") -> Iterator[None]:
    """What the store refuses since another host has deleted the run needs not be done."""
    try:
        yield
    except mlflow_error():
        if _active(client.get_run(run.info.run_id)):
            raise


def _active(run: "Run") -> bool:
    return bool(run.info.lifecycle_stage == ACTIVE)
