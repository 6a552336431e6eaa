"""When runs are delivered: one store at a time, in the background, and without harm if the store is away."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from experiments.delivery import Delivery
from experiments.filed import Filed
from experiments.rundir import STUDY_SUITE, TRACKING, find_runs
from experiments.store import StoreFault, bulk, faults, open_store
from rasa.errors import ResourceError
from rasa.lock import Lock

if TYPE_CHECKING:
    from mlflow import MlflowClient

RETRY_AFTER = 60.0  # seconds for which a store that is away is left alone


class Tracker:
    """Delivers run directories to one store; every fault of the store becomes one line to `notify`.

    `whole`: for many runs in a row, so that the store is read once; `settle` must come after the last of them.
    `client`: of the store, if it is open already.
    """

    def __init__(
        self,
        uri: str,
        workspace: Path,
        notify: Callable[[str], None],
        whole: bool = False,
        client: "MlflowClient | None" = None,
    ):
        self.uri, self._workspace, self._notify, self._whole = uri, workspace, notify, whole
        self.deleted: list[Path] = []  # runs that a person deleted in the store
        self._filed = None if client is None else Filed(client, uri, workspace, whole)
        self._away_until = float("-inf")

    def open(self) -> bool:
        """Open the store, whose tables are made now if it is fresh. False if it is away."""
        return self._tried(self._open)

    def deliver(self, directory: Path) -> bool:
        """Send what the store lacks of this run. False if it is not there now: `rasa sync` delivers later."""
        return self._tried(lambda: self._deliver(directory))

    def settle(self) -> bool:
        """Give the rows the status that their seeds give them. False if the store is away."""
        return self._tried(self._settle)

    def use(self, work: Callable[["MlflowClient"], object]) -> bool:
        """Have something else done with the store. False if it is away."""

        def with_client() -> None:
            client = self._open().client
            with faults(self.uri):
                work(client)

        return self._tried(with_client)

    def _open(self) -> Filed:
        self._filed = self._filed or Filed(open_store(self.uri), self.uri, self._workspace, self._whole)
        return self._filed

    def _settle(self) -> None:
        if self._filed is not None:
            with faults(self.uri):
                self._filed.settle()

    def _deliver(self, directory: Path) -> None:
        with Lock(directory / f".{TRACKING}.lock") as lock:
            if not lock.acquired:
                raise ResourceError(f"{directory}: another process is delivering this run")
            with readable(directory):
                delivery = Delivery(self._open(), self._workspace, directory, self._notify)
            with faults(self.uri):
                arrived = delivery.send()
            if arrived == "deleted":
                self.deleted.append(directory)

    def _tried(self, work: Callable[[], object]) -> bool:
        if time.monotonic() < self._away_until:
            return False
        try:
            work()
        except StoreFault as fault:
            if self._away_until < 0:  # once per outage
                self._notify(f"tracking: {fault}; runs go on, `rasa sync` delivers later")
            self._away_until = time.monotonic() + RETRY_AFTER
            return False
        except ResourceError as fault:
            self._notify(f"tracking: {fault}")
            return False
        self._away_until = float("-inf")
        return True


@contextmanager
def readable(directory: Path) -> Iterator[None]:
    """A run's record that cannot be read, for whatever reason, as a ResourceError: it must not hold up the others."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as fault:
        raise ResourceError(
            f"{directory}: its record cannot be read ({type(fault).__name__}: {fault}); repair or move the folder away"
        ) from fault


class Synced(NamedTuple):
    """How many runs there are, and how many of them are in the store now; the rest are deleted there, or missing."""

    there: int
    deleted: int
    total: int


def sync(workspace: Path, uri: str, notify: Callable[[str], None]) -> Synced:
    """Deliver every run directory of the workspace.

    Idempotent. Raises ResourceError if the tracker is away.
    """
    client = open_store(uri)  # raises, where the tracker only says
    # A study's trials are filed by the study (experiments/trials.py); as runs they would be there twice.
    tracker, directories = Tracker(uri, workspace, notify, whole=True, client=client), find_runs(workspace)
    directories = [folder for folder in directories if not folder.parents[2].name.startswith(STUDY_SUITE)]
    with bulk(client, uri):
        reached = sum(tracker.deliver(directory) for directory in directories)
        tracker.settle()
    deleted = len(tracker.deleted)
    return Synced(reached - deleted, deleted, len(directories))


class Uploader:
    """A thread that calls `deliver` for each directory asked for, so that a slow store takes no time from training.

    Used as a context, whose end waits for the rest.
    """

    def __init__(self, deliver: Callable[[Path], object]):
        self._deliver = deliver
        self._asked: queue.Queue[Path | None] = queue.Queue()
        self._waiting: set[Path] = set()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)

    def ask(self, directory: Path) -> None:
        """Have the directory delivered soon; asking again before that changes nothing."""
        if directory not in self._waiting:
            self._waiting.add(directory)
            self._asked.put(directory)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._asked.put(None)
        self._thread.join()
        if self._fault is not None and error is None:
            raise self._fault

    def _work(self) -> None:
        while (directory := self._asked.get()) is not None:
            self._waiting.discard(directory)  # first, so that what arrives during a delivery is delivered after it
            try:
                self._deliver(directory)
            except Exception as fault:  # noqa: BLE001  # ours; raised at the end, not into training
                self._fault = self._fault or fault
