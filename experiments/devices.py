"""One run over several devices of this machine: `--devices N` starts N processes that train it together.

This process stays what it is for any run: it holds the run's lock, writes metrics and results, hears signals. It calls
the processes through a trainer of the usual signature. The first of them calls back for each figure and waits for the
answer, so no checkpoint is ever ahead of the figures. A process that dies takes the others with it, and so does this
one's death.
"""

import ctypes
import os
import pickle
import queue
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from experiments.environment import cpu_count
from experiments.outcome import Died
from experiments.plan import PlannedRun
from experiments.workers import leave_signals_to_the_parent
from rasa.callbacks import Log, Notify
from rasa.config.run import Config
from rasa.errors import RasaError, RunFailed, SpecError

POLL = 0.2  # seconds between looks at whether to stop
GRACE = 5  # seconds in which a fault's cause may turn up: a death is noticed by the others, too
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
CALLED, FAILED, STOPPED, DONE = "called", "failed", "stopped", "done"  # what a process says
ANSWER, STOP = "answer", "stop"  # what it is told


class Job(NamedTuple):
    """What each process is to train."""

    config: Config
    directory: Path
    cache: Path | None


def check_devices(planned: Sequence[PlannedRun], devices: int) -> None:
    """Refuse runs whose batches cannot be shared out among so many processes. Raises SpecError."""
    for run in planned:
        ranks = run.config.fidelity.ranks
        if run.about.untrained or ranks % devices == 0:
            continue
        fitting = " or ".join(str(n) for n in range(2, ranks + 1) if ranks % n == 0)
        remedy = f"give --devices {fitting}" if fitting else "leave --devices out"
        raise SpecError(
            f"{run.about.name}: --devices {devices} does not divide fidelity.ranks {ranks}, the shares in which a "
            f"batch is contrasted; {remedy}, or -o fidelity.ranks={devices}, which is another run with other numbers"
        )


def processes_of(train: object) -> int:
    """How many processes a trainer has; the usual one has one."""
    return getattr(train, "size", 1)


@dataclass(frozen=True)
class Spread:
    """The trainer, in `size` processes of this machine; called as the one of this process."""

    size: int

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
        """As `rasa.training.train.train`; a process that dies is a RunFailed that names it."""
        threads = max(1, cpu_count() // self.size)
        threads = min(threads, config.optimisation.threads or threads)
        optimisation = config.optimisation.model_copy(update={"threads": threads})
        job = Job(config.model_copy(update={"optimisation": optimisation}), directory, cache)
        calls: dict[str, Callable[..., None]] = {"log": log, "resume_from_step": resume_from_step, "notify": notify}
        with tempfile.TemporaryDirectory(prefix="rasa-") as meeting:
            members = [Member(n, self.size, Path(meeting) / "store", job) for n in range(self.size)]
            try:
                found = _followed(members, calls, should_stop)
                for member in members:
                    member.process.join(GRACE)
                return found
            finally:
                for member in members:
                    member.end()


class Member:
    """One of the processes, seen from the one that started them."""

    def __init__(self, number: int, size: int, store: Path, job: Job):
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.name = f"process {number + 1} of {size}"
        # Not a daemon: those may have no children, and loading images may want some.
        self.process = context.Process(target=_member, args=(theirs, number, size, str(store), job))
        self.process.start()
        theirs.close()  # so that its death ends the pipe
        self.left = False

    def death(self) -> Died:
        """What to say of a process that has ended without a word."""
        self.process.join(GRACE)
        code = self.process.exitcode
        how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return Died(
            f"{self.name} died ({how}: killed, or out of memory); the same command goes on from the last checkpoint"
        )

    def end(self) -> None:
        """Have it gone."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _followed(members: list[Member], calls: dict[str, Callable[..., None]], should_stop: Callable[[], bool]) -> Any:
    """The first member's result. Raises KeyboardInterrupt if they were stopped, or the first fault."""
    asked, fault, deadline = False, None, float("inf")
    while True:
        if not asked and should_stop():
            asked = True
            _tell(members[0], STOP)
        waiting = {member.pipe: member for member in members if not member.left}
        for pipe in wait(list(waiting), timeout=POLL):
            member = waiting[pipe]  # type: ignore[index]
            try:
                kind, content = member.pipe.recv()
            except (EOFError, OSError):
                raise member.death() from None
            if kind == CALLED:
                name, arguments = content
                calls[name](*arguments)
                _tell(member, ANSWER)
                continue
            member.left = True
            if kind == FAILED and isinstance(content, RasaError):
                raise content
            if kind == FAILED and fault is None:  # perhaps only what another one's end looks like from there
                fault, deadline = content, time.monotonic() + GRACE
            if member is members[0] and kind in (DONE, STOPPED):
                if kind == STOPPED:
                    raise KeyboardInterrupt
                return content
        if fault is not None and time.monotonic() > deadline:
            raise fault


def _tell(member: Member, word: str) -> None:
    try:
        member.pipe.send(word)
    except OSError:
        return  # it is dead, which the next look at its pipe says


# ---- In the processes ----


class _Caller:
    """The pipe to the process that started this one, which decides when to stop and whose death ends this one."""

    def __init__(self, pipe: Connection):
        self._pipe, self._answers, self._stop = pipe, queue.SimpleQueue[str](), threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def stopped(self) -> bool:
        """Whether the run is to checkpoint and stop."""
        return self._stop.is_set()

    def call(self, name: str) -> Callable[..., None]:
        """A callback there, which is waited for."""

        def there(*arguments: object) -> None:
            self.say(CALLED, (name, arguments))
            self._answers.get()

        return there

    def say(self, kind: str, content: object = None) -> None:
        """Send something."""
        self._pipe.send((kind, content))

    def _listen(self) -> None:
        try:
            while True:
                word = self._pipe.recv()
                if word == STOP:
                    self._stop.set()
                else:
                    self._answers.put(word)
        except (EOFError, OSError):
            os._exit(1)


def _member(pipe: Connection, rank: int, size: int, store: str, job: Job) -> None:
    leave_signals_to_the_parent()
    _die_with_parent()
    caller = _Caller(pipe)
    quiet_libraries()
    # All processes are here, so none needs the net.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    try:
        result = _train(caller, rank, size, store, job)
    except KeyboardInterrupt:
        caller.say(STOPPED)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is told there
        caller.say(FAILED, _portable(error))
    else:
        caller.say(DONE, result)
        return
    os._exit(0)  # the others may be anywhere, so there is no goodbye to wait for


def quiet_libraries() -> None:
    """Before torch is imported: what it says of lost connections, and of unused weights, is no news to a person."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")


def _train(caller: _Caller, rank: int, size: int, store: str, job: Job) -> dict[str, Any]:
    import torch.distributed as dist

    from rasa.training.processes import Processes, joined
    from rasa.training.train import train

    processes = Processes(rank, size, local=rank)
    quiet: Callable[..., None] = lambda *figures: None
    with joined(processes, dist.FileStore(store, size)):
        return train(
            job.config,
            job.directory,
            log=caller.call("log") if processes.first else quiet,
            should_stop=caller.stopped,
            resume_from_step=caller.call("resume_from_step") if processes.first else quiet,
            cache=job.cache,
            notify=caller.call("notify") if processes.first else quiet,
            processes=processes,
        )


def _portable(error: Exception) -> Exception:
    """The error with its traceback as a note, in a form that passes through a pipe."""
    if not isinstance(error, RasaError):
        error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  # an exception of a library may be unable to be sent
        plain = RunFailed(str(error) if isinstance(error, RasaError) else f"{type(error).__name__}: {error}")
        plain.exit_code = error.exit_code if isinstance(error, RasaError) else plain.exit_code
        return plain
    return error


def _die_with_parent() -> None:
    """Ask for that, so that none writes on while the same command already begins again; the pipe does it elsewhere."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
