"""One run over the processes that torchrun has started: `torchrun --nproc-per-node 4 -m rasa run ...`.

The first process is the command: it plans, records and reports. The others wait for the runs that it begins and train
them with it. After a fault that one of them has alone nobody knows where the others wait, so it ends the command;
torchrun ends the rest, and with --max-restarts begins the same command again, which goes on from the last checkpoint.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.devices import GRACE, Job, Spread, quiet_libraries
from experiments.options import AUTO, Where
from experiments.outcome import Train
from rasa.callbacks import Log, Notify
from rasa.config.run import Config
from rasa.errors import RasaError, RunFailed

if TYPE_CHECKING:
    from torch.distributed import Store

    from rasa.training.processes import Processes

FAULT = "rasa/fault"  # the key under which a process leaves what has happened to it


def launched() -> bool:
    """Whether torchrun has started this process beside others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def follows() -> bool:
    """Whether it is one of those that wait for the first one's runs."""
    return launched() and os.environ["RANK"] != "0"


@contextmanager
def trainer(where: Where, retries: int = 0) -> Iterator[Train | None]:
    """Who trains a run: so many processes, those of torchrun, or with None this one alone."""
    devices, jobs = where.devices, where.jobs
    if not launched():
        yield Spread(devices) if devices is not None and devices > 1 else None
        return
    size = int(os.environ["WORLD_SIZE"])
    if devices not in (None, size):
        raise click.UsageError(f"--devices {devices}, but torchrun has started {size} processes; leave --devices out")
    if where.executor != "local":
        raise click.UsageError(f"--executor {where.executor}: torchrun has started this command's processes already")
    if jobs != 1:
        raise click.UsageError(
            f"--jobs {jobs or AUTO}: the processes of torchrun train one run at a time; leave --jobs out"
        )
    if retries:
        raise click.UsageError(f"--retries {retries}: torchrun has --max-restarts for it; leave --retries out")
    with _group() as (processes, store):
        leader = Leader(processes, store)
        yield leader
        if leader.broken:
            # Where the others are, is unknown: no goodbye can be waited for, and torchrun ends them.
            raise RunFailed("the processes of torchrun are no group any more; the same command goes on from here")
        processes.told(None)


class Leader:
    """The trainer, in all processes of torchrun; called in the first one as the one of this process."""

    def __init__(self, processes: "Processes", store: "Store"):
        self.processes, self._store, self.broken = processes, store, False
        self.size = processes.size

    def __call__(
        self,
        config: Config,
        directory: Path,
        log: Log,
        should_stop: Callable[[], bool] = lambda: False,
        resume_from_step: Callable[[int], None] = lambda step: None,
        cache: Path | None = None,
        notify: Notify = lambda line: None,
    ) -> dict[str, Any]:
        """As `rasa.training.train.train`. After a fault no further run is begun: KeyboardInterrupt."""
        from rasa.training.train import train

        if self.broken:
            raise KeyboardInterrupt
        self.processes.told(Job(config, directory, cache))
        try:
            return train(config, directory, log, should_stop, resume_from_step, cache, notify, processes=self.processes)
        except Exception as error:
            self.broken = True
            raise self._cause(error) from error

    def _cause(self, error: Exception) -> Exception:
        """What another process has said that happened to it, if this one's fault is but its absence."""
        from torch.distributed import DistError

        if isinstance(error, RasaError):
            return error
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            if self._store.check([FAULT]):
                return RunFailed(self._store.get(FAULT).decode())
            time.sleep(0.1)
        if isinstance(error, DistError) or "gloo" in str(error):  # gloo's errors are plain RuntimeErrors
            return RunFailed(
                "another process of torchrun's is gone (killed, or out of memory); the same command goes on from the "
                "last checkpoint"
            )
        return error


def follow() -> int:
    """Train what the first process begins, until it has nothing more; the exit code."""
    quiet_libraries()
    from rasa.training.train import train

    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the first process says what they mean: it may want a checkpoint yet
    with _group() as (processes, store):
        try:
            while (job := processes.told(None)) is not None:
                try:
                    train(job.config, job.directory, lambda *figures: None, cache=job.cache, processes=processes)
                except KeyboardInterrupt:
                    continue  # the run is stopped
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told there
            store.compare_set(FAULT, "", f"process {processes.rank + 1} of {processes.size}: {error}")
            os._exit(error.exit_code if isinstance(error, RasaError) else RunFailed.exit_code)
    return 0


@contextmanager
def _group() -> "Iterator[tuple[Processes, Store]]":
    quiet_libraries()
    import torch.distributed as dist

    from rasa.training.processes import PATIENCE, Processes, joined

    store, rank, size = next(iter(dist.rendezvous("env://", timeout=PATIENCE)))
    processes = Processes(rank, size, local=int(os.environ["LOCAL_RANK"]))
    with joined(processes, store):
        yield processes, store
