"""Which running trials have lost their driver: at once on this machine, after a silence elsewhere.

Optuna's journal has no heartbeat, and its databases never miss a trial that was killed before its first one; so there
is one of our own, in the trial's attributes, for all storages.
"""

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rasa.errors import ResourceError
from rasa.lock import Lock, is_locked

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

DRIVERS = "studies/drivers"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Attributes of a trial.
DRIVER, BEAT = "driver", "beat"
BEAT_SECONDS, GRACE_SECONDS = 15.0, 120.0


class DriverLock:
    """This process, as other drivers see it: a name, and a lock that its death releases. Used as a context."""

    def __init__(self, workspace: Path):
        self.name = f"{machine()}.{os.getpid()}.{uuid.uuid4().hex[:6]}"
        self._path = workspace / DRIVERS / f"{self.name}.lock"
        self._lock = Lock(self._path)

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(f"{self._path.parent}: {error.strerror}; give a writable --workspace") from error
        self._lock.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.__exit__(kind, error, at)
        self._path.unlink(missing_ok=True)


def machine() -> str:
    """Equal for processes between which a file lock works for sure: those of one running kernel."""
    try:
        return f"{socket.gethostname()}-{BOOT_ID.read_text().strip()[:8]}"
    except OSError:
        return socket.gethostname()


def driven_here(workspace: Path) -> bool:
    """Whether some driver of this machine works in the workspace now."""
    return any(is_locked(lock) for lock in (workspace / DRIVERS).glob("*.lock"))


class Watcher:
    """Watches the beats of other drivers' trials. Only that a beat changes counts, so no two clocks are compared."""

    def __init__(self, workspace: Path, grace: float = GRACE_SECONDS, clock: Callable[[], float] = time.monotonic):
        self._drivers, self._grace, self._clock = workspace / DRIVERS, grace, clock
        self._seen: dict[int, tuple[Any, float]] = {}  # by trial: its last beat, and since when

    def dead(self, running: "Iterable[FrozenTrial]", mine: str) -> "list[FrozenTrial]":
        """The running trials whose driver, other than `mine`, is gone."""
        return [trial for trial in running if trial.user_attrs.get(DRIVER) != mine and self._is_dead(trial)]

    def _is_dead(self, trial: "FrozenTrial") -> bool:
        driver = str(trial.user_attrs.get(DRIVER, ""))
        lock = self._drivers / f"{driver}.lock"
        if driver.startswith(f"{machine()}.") and lock.exists():
            return not is_locked(lock)
        now, beat = self._clock(), [driver, trial.user_attrs.get(BEAT)]
        before, since = self._seen.get(trial.number, (None, now))
        if beat != before:
            self._seen[trial.number] = (beat, now)
            return False
        return now - since > self._grace
