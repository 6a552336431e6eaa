"""Works as jobs of Slurm, one array for a command, submitted by submitit.

A job that Slurm wants back, or whose time is up, checkpoints, is queued again under its number and goes on. Jobs
outlive the command that submitted them unless it is interrupted.
"""

import logging
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click

from experiments.executors.interface import Event, Work
from experiments.executors.remote import Preempted, RemoteWork, Telling, new_folder, told
from experiments.wording import did_you_mean
from rasa.errors import ResourceError

EXTRA = "pip install 'rasa-ablations[slurm]'"
LOOK = 5.0  # seconds between questions to Slurm, which serves many
GONE = 3  # looks in a row at which Slurm knows nothing of a job, and its result has not arrived on the disk either
WARNING = 120  # seconds before its time is up at which a job is told
WEEK = 7 * 24 * 60  # minutes
CLUSTERS = ("slurm", "local", "debug")  # of submitit: the last two are processes of this machine, and this process
CLUSTER = "cluster"
# Options of sbatch that say where and with what a job runs; the others are this program's to say.
OPTIONS = (
    *("account", "begin", "constraint", "cpus-per-gpu", "cpus-per-task", "deadline", "dependency", "exclude"),
    *("exclusive", "gpus-per-node", "gpus-per-task", "gres", "licenses", "mail-type", "mail-user", "mem"),
    *("mem-per-cpu", "mem-per-gpu", "nice", "nodelist", "partition", "priority", "qos", "reservation", "time"),
    *("tmp", "wckey"),
)


def settings_of(given: Sequence[str]) -> dict[str, str]:
    """What `--slurm KEY=VALUE` says, each key once. Raises click.UsageError."""
    found: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        key = key.strip().lstrip("-").replace("_", "-")
        if not equals or not key or not value.strip():
            raise click.UsageError(f"--slurm {text!r}: give KEY=VALUE, e.g. --slurm partition=gpu")
        if key not in (*OPTIONS, CLUSTER):
            raise click.UsageError(
                f"--slurm {key}: no option of sbatch that can be set here{did_you_mean(key, OPTIONS)}"
            )
        if key in found:
            raise click.UsageError(f"--slurm {key}: given twice")
        if key == CLUSTER and value not in CLUSTERS:
            raise click.UsageError(f"--slurm cluster={value}: there is {', '.join(CLUSTERS)}")
        if "\n" in value:
            raise click.UsageError(f"--slurm {key}: a value is one line")
        found[key] = value.strip()
    return found


class Slurm:
    """The executor `slurm`: at most `jobs` works at a time, each with `settings` as sbatch's options."""

    def __init__(self, workspace: Path, jobs: int | None, settings: Mapping[str, str]):
        self._submitit = library()
        self._jobs, self._settings = jobs, {key: value for key, value in settings.items() if key != CLUSTER}
        self._cluster = settings.get(CLUSTER, "slurm")
        self._telling = Telling(new_folder(workspace, "slurm"))
        self._numbers = count()
        self._running: dict[str, Any] = {}  # submitit's jobs by ticket
        self._logs: dict[str, str] = {}
        self._missing: dict[str, int] = {}  # looks at which Slurm knew nothing of one
        self._states: dict[str, str] = {}
        self._look_at = 0.0
        self._withdrawn: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the jobs to Slurm; those of an interrupted command were asked to stop."""

    def submit(self, works: Sequence[Work], alone: bool = False) -> list[str]:
        """As Executor; a job shares its devices with none anyhow. Raises ResourceError if Slurm refuses."""
        tickets = [str(next(self._numbers)) for _ in works]
        remote = [
            RemoteWork(work, self._telling.folder, ticket, self._threads(work))
            for ticket, work in zip(tickets, works, strict=True)
        ]
        try:
            jobs = self._executor(max(work.size for work in works), works).map_array(_call, remote)
        except (RuntimeError, OSError, ValueError) as error:
            raise ResourceError(f"--executor slurm: {_last_line(error)}; see to it, or to --slurm KEY=VALUE") from error
        self._running |= dict(zip(tickets, jobs, strict=True))
        self._logs |= {ticket: str(job.paths.stdout) for ticket, job in self._running.items()}
        return tickets

    def poll(self, seconds: float) -> list[Event]:
        """As Executor."""
        if self._cluster != "debug":  # whose works go on when they are asked for
            time.sleep(seconds)
        looks = self._cluster == "slurm" and bool(self._running) and time.monotonic() >= self._look_at
        if looks:
            self._look_at = time.monotonic() + LOOK
            looks = self._ask()
        events = []
        for ticket, job in list(self._running.items()):
            end = self._end(ticket, job, looks)
            events += self._telling.news([ticket])
            if end is not None:
                del self._running[ticket]
                events.append(end)
        return events

    def cancel(self, tickets: Sequence[str]) -> None:
        """As Executor."""
        self._telling.stop()
        waiting = [ticket for ticket in tickets if ticket in self._running and not self._telling.begun(ticket)]
        self._withdrawn |= set(waiting)
        if self._cluster == "slurm" and waiting:
            numbers = [self._running[ticket].job_id for ticket in waiting]
            _run(["scancel", "--state=PENDING", *numbers])

    def logs(self, ticket: str) -> str:
        """As Executor: what the job printed, Slurm's own words included."""
        return self._logs[ticket]

    def _executor(self, size: int, works: Sequence[Work]) -> Any:
        """submitit's, with what these works need."""
        folder = self._telling.folder / "jobs"
        if self._cluster == "debug":
            return self._submitit.DebugExecutor(folder)
        if self._cluster == "local":
            executor = self._submitit.LocalExecutor(folder)
            executor.update_parameters(timeout_min=WEEK, gpus_per_node=0 if works[0].on_cpu else _gpus_here(size))
            return executor
        executor = self._submitit.SlurmExecutor(folder)
        more: dict[str, Any] = {"requeue": True}
        if size > 1 and not works[0].on_cpu and not {"gpus-per-node", "gpus-per-task", "gres"} & set(self._settings):
            more["gpus-per-node"] = size
        executor.update_parameters(
            job_name="rasa",
            time=None,  # the partition's own, unless --slurm time=... says another
            stderr_to_stdout=True,
            signal_delay_s=WARNING,
            array_parallelism=self._jobs or len(works),
            additional_parameters=more | {key: True if v == "true" else v for key, v in self._settings.items()},
        )
        return executor

    def _threads(self, work: Work) -> int | None:
        """CPU threads of a work: the cores that were asked for; without a word those that its process may use."""
        given = self._settings.get("cpus-per-task", "")
        return max(1, int(given) // work.size) if given.isdecimal() else None

    def _ask(self) -> bool:
        """Note Slurm's word for each job; whether it gave one."""
        numbers = sorted({job.job_id.partition("_")[0] for job in self._running.values()})
        # `squeue` and not `sacct`, which needs a database that not every cluster has.
        command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T", f"--jobs={','.join(numbers)}"]
        text = _run(command)
        if text is None:
            return False
        words = [line.split() for line in text.splitlines()]
        self._states = {each[0]: each[1] for each in words if len(each) == 2}
        return True

    def _end(self, ticket: str, job: Any, looks: bool) -> Event | None:
        """How the work ended, if it has."""
        if self._cluster == "debug":
            return told(ticket, job.result())
        if job.paths.result_pickle.exists():
            if (fault := job.exception()) is not None:
                return Event(ticket, "died", f"its job {job.job_id} failed ({_last_line(fault)})")
            return told(ticket, job.result())
        if self._cluster == "local":
            gone = f"its process {job.job_id} ended without a result (killed, or out of memory)"
            return Event(ticket, "died", gone) if job.done() else None
        state = self._states.get(job.job_id, "UNKNOWN")
        if not looks:
            return None
        if state in ALIVE:
            self._missing[ticket] = 0
            return None
        if ticket in self._withdrawn and not self._telling.begun(ticket):
            return Event(ticket, "withdrawn")
        # A result takes a while to show on a shared disk, and a job that is queued again is in no state for a moment.
        self._missing[ticket] = self._missing.get(ticket, 0) + 1
        if self._missing[ticket] < GONE:
            return None
        why = "out of memory; give --slurm mem=..." if state == "OUT_OF_MEMORY" else state
        return Event(ticket, "died", f"its Slurm job {job.job_id} ended without a result ({why})")


ALIVE = frozenset(
    ("PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD")
    + ("RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT", "PREEMPTED")
)


def library() -> Any:
    """submitit. Raises ResourceError if it is not installed."""
    try:
        submitit = import_module("submitit")
    except ImportError as error:
        raise ResourceError(f"--executor slurm: submitit is not installed; {EXTRA}") from error
    logging.getLogger("submitit").setLevel(logging.ERROR)
    return submitit


def _call(work: RemoteWork) -> Any:
    """In the job."""
    try:
        return work()
    except Preempted as wanted:
        # SIGTERM is Slurm's own end of a job: it has queued it again already, or somebody has cancelled it. The other
        # signal is what we have asked for, before the time is up.
        if wanted.signal != signal.SIGTERM:
            library().JobEnvironment()._requeue(0)
        raise SystemExit(1) from None  # no result is written


def _gpus_here(size: int) -> int:
    from experiments.places import gpus_here

    return min(size, len(gpus_here()))


def _run(command: list[str]) -> str | None:
    """What a command of Slurm prints; None if it does not answer, in which case the next look asks again."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    forgotten = "Invalid job id" in done.stderr  # minutes after a job's end
    return done.stdout if done.returncode == 0 or forgotten else None


def _last_line(fault: BaseException) -> str:
    """The line that says what happened: of a job's traceback the last one that names an exception."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit|Interrupt)\b", line)]
    return (named or lines or [type(fault).__name__])[-1][:200]
