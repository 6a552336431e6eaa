"""`rasa` command lines in processes of their own that begin in milliseconds: forked from one that has imported all.

What happens to them is real: signals from outside, limits of the system, folders that are not there. The server that
forks has computed nothing and has one thread, so a fork of it is as good as a fresh start.
"""

import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import pytest

AWAY = "http://127.0.0.1:1"  # no tracker; to be refused takes no time
IMPORTED = [
    "rasa.training.train",
    "rasa.data.load",
    "experiments.run_commands",
    "experiments.runner",
    "experiments.plan",
    "experiments.uploader",
    "experiments.progress",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "reports.build",
    "reports.commands",
    "pytest",
]
MIB = 2**20
MANY = (pytest.mark.slow, pytest.mark.timeout(3600))  # of a parameter: so many faults, for `make reliability`

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(IMPORTED)


def forked(target, *arguments):
    """A process that calls `target`, a module's function."""
    process = _context.Process(target=target, args=arguments)
    with _one_thread():
        process.start()
    return process


class Command:
    """A running `rasa ARGUMENTS`, in `folder`, whose output goes to files there, or in `output`.

    `more_mib` bounds what it may map beyond the libraries; `before` is called in it first.
    """

    def __init__(self, *arguments, folder, environment=None, more_mib=None, before=None, output=None):
        folder.mkdir(parents=True, exist_ok=True)
        self._files = [(output or folder) / f".{name}-{time.monotonic_ns()}" for name in ("out", "err")]
        settings = {"MLFLOW_TRACKING_URI": AWAY, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"} | (environment or {})
        words = [str(argument) for argument in arguments]
        self.process = forked(_run, words, folder, self._files, settings, more_mib, before)

    def kill(self, number=signal.SIGKILL):
        """Send a signal, from outside."""
        os.kill(self.process.pid, number)

    def wait(self, seconds=240):
        """The exit code, once it has ended; minus the signal that ended it."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"still running after {seconds} s: {self.out}\n{self.err}")
        return self.process.exitcode

    @property
    def alive(self):
        """Whether it still runs."""
        return self.process.is_alive()

    @property
    def out(self):
        """Its standard output so far."""
        return self._files[0].read_text(encoding="utf-8") if self._files[0].exists() else ""

    @property
    def err(self):
        """Its standard error so far."""
        return self._files[1].read_text(encoding="utf-8") if self._files[1].exists() else ""


def rasa(*arguments, folder, code=0, **settings):
    """Run a command to its end and return it; it must end with `code`, and never with a traceback."""
    command = Command(*arguments, folder=folder, **settings)
    ended = command.wait()
    assert ended == code, f"rasa {' '.join(map(str, arguments))}: {ended}\n{command.out}\n{command.err}"
    assert "Traceback" not in command.err
    return command


def _run(arguments, folder, files, settings, more_mib, before):
    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # the platform's own, as a shell's `rasa` has it
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    os.environ.update(settings)
    os.chdir(folder)
    if before:
        before()
    if more_mib is not None:
        limit_memory(more_mib)
    from rasa.commands.cli import main

    sys.exit(main(arguments))


def limit_memory(more_mib):
    """This process may map so many MiB beyond what it has mapped."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more_mib * MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def fresh_store(folder):
    """The address of an empty sqlite store in `folder`. Its tables take seconds to make, so they are made once."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(_empty_store(), folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"


@cache
def _empty_store():
    from experiments.store import open_store

    folder = Path(tempfile.mkdtemp(prefix="empty-store-"))
    open_store(f"sqlite:///{folder / 'mlflow.db'}")
    return folder / "mlflow.db"


class _one_thread:
    """Held while the server may be started: its libraries then start no threads of their own."""

    NAMES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

    def __enter__(self):
        self._before = {name: os.environ.get(name) for name in self.NAMES}
        os.environ.update(dict.fromkeys(self.NAMES, "1"))

    def __exit__(self, *fault):
        for name, value in self._before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def wait_until(condition, seconds=120, every=0.001, command=None):
    """Wait for `condition`, or for the end of `command`; whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        if command is not None and not command.alive:
            return bool(condition())
        time.sleep(every)
    return True
