"""Servers for tests, for this machine's own networks only: PostgreSQL in a temporary folder, and MLflow's own."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.helpers import processes

USER = "studies"


def programs() -> Path | None:
    """The folder of initdb and postgres; None where there is no server."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


def why_not() -> str:
    """Why no server can be started here; nothing if one can."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "the driver psycopg is not installed"
    if programs() is None:
        return "no PostgreSQL server is installed (initdb, postgres)"
    return (
        "" if os.geteuid() or _servant() else "PostgreSQL does not run as root, and there is no user postgres or nobody"
    )


class NotStarted(Exception):
    """The server does not start here; the text says why."""


class Postgres:
    """A PostgreSQL server with an empty database at `url`, which can be stopped and started again.

    `address`: of this machine in a network whose other hosts are to be served, too. Raises NotStarted.
    """

    def __init__(self, address="127.0.0.1"):
        self._binaries, self.port, self._address = programs(), _free_port(), address
        self._identity = _servant() if os.geteuid() == 0 else None  # the server refuses to be root
        self.url = f"postgresql://{USER}@{address}:{self.port}/postgres"

    def __enter__(self):
        with ExitStack() as stack:
            # No folder of pytest's: those are closed to others than root, and their paths too long for a socket's name.
            folder = tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True)
            self._folder = Path(stack.enter_context(folder))
            if self._identity:
                os.chown(self._folder, *self._identity)
            data = self._folder / "data"
            words = [self._binaries / "initdb", "-D", data, "-U", USER, "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
            made = subprocess.run(
                words, check=False, text=True, **self._options(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            )
            if made.returncode:
                raise NotStarted(f"initdb: {' '.join(made.stdout.split())[-200:]}")
            with (data / "pg_hba.conf").open("a") as file:
                file.write(f"host all all {self._address}/24 trust\n")
            self.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *fault):
        self.stop()
        self._stack.close()

    def database(self, name):
        """The address of another database, which is made."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"create database {name}")
        return f"{self.url.removesuffix('postgres')}{name}"

    def start(self):
        """Start it, over what its folder holds, and wait until it answers."""
        settings = (
            f"listen_addresses={','.join(sorted({'127.0.0.1', self._address}))}",
            "fsync=off",
            f"unix_socket_directories={self._folder}",
            "shared_buffers=16MB",
        )
        words = [self._binaries / "postgres", "-D", self._folder / "data", "-p", str(self.port)]
        words += [word for setting in settings for word in ("-c", setting)]
        quiet = self._options(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._server = subprocess.Popen(words, **quiet)
        _wait_for(self.port, self._server)

    def stop(self, number=signal.SIGINT):
        """End it: with SIGINT at once and in order, without waiting for its clients; with SIGQUIT as in a crash."""
        if self._server.poll() is None:
            self._server.send_signal(number)
        self._server.wait(60)

    def _options(self, **streams):
        options = {"cwd": self._folder, **streams}
        if self._identity:
            options |= {"user": self._identity[0], "group": self._identity[1], "extra_groups": []}
        return options


@contextmanager
def postgres_or_skip(address="127.0.0.1"):
    """A running Postgres, served at `address`, too; the test is skipped, with the reason, where there can be none."""
    if reason := why_not():
        pytest.skip(reason)
    with ExitStack() as stack:
        try:
            server = stack.enter_context(Postgres(address))
        except NotStarted as reason:
            pytest.skip(str(reason))
        yield server


def _wait_for(port, server):
    import psycopg

    for _ in range(600):
        if server.poll() is not None:
            raise NotStarted(f"postgres ended at once, with code {server.returncode}")
        try:
            psycopg.connect(host="127.0.0.1", port=port, user=USER, dbname="postgres", connect_timeout=1).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise NotStarted("postgres does not answer within a minute")


def _servant():
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)[2:4]
        except KeyError:
            continue
    return None


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Mlflow:
    """MLflow's tracking server over a sqlite file and a folder of artifacts, at one address from first to last.

    It can be killed, started again and emptied in between. `command`: as `mlflow server` starts it, with all that
    stands around the application; else the application alone, in a fork that is there in a second.
    """

    def __init__(self, folder, command=False):
        self.folder, self._command, self.port = folder, command, _free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *fault):
        self.kill()

    def start(self):
        """Start it, over what its folder holds, and wait until it answers."""
        if not (self.folder / "mlflow.db").exists():
            processes.fresh_store(self.folder)
        database, artifacts = f"sqlite:///{self.folder / 'mlflow.db'}", str(self.folder / "artifacts")
        if self._command:
            words = [
                sys.executable,
                "-m",
                "mlflow",
                "server",
                "--backend-store-uri",
                database,
                "--artifacts-destination",
                artifacts,
                "--host",
                "127.0.0.1",
                "--port",
                str(self.port),
                "--workers",
                "1",
            ]
            self._process = subprocess.Popen(
                words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
        else:
            self._process = processes.forked(_serve_mlflow, database, artifacts, self.port)
        processes.wait_until(self._answers, seconds=280, every=0.05)

    def kill(self, number=signal.SIGKILL):
        """Send a signal to it and whatever it has started."""
        if self._process is None:
            return
        os.killpg(self._process.pid, number)
        if number == signal.SIGKILL:
            (self._process.wait if self._command else self._process.join)()
            self._process = None

    @property
    def session(self):
        """Of its processes."""
        return self._process.pid

    def empty(self):
        """Take away all that it knows; it must have been killed."""
        shutil.rmtree(self.folder)

    def _answers(self):
        try:
            with urlopen(f"{self.uri}/health", timeout=1) as answer:
                return answer.status == 200
        except (URLError, OSError):
            return False


def _serve_mlflow(database, artifacts, port):
    os.setsid()
    for number in (1, 2):  # it writes a line for each request
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    os.environ |= {
        "_MLFLOW_SERVER_FILE_STORE": database,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts,
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    from mlflow.server import app
    from mlflow.server.constants import BACKEND_STORE_URI_ENV_VAR
    from werkzeug.serving import make_server

    assert os.environ[BACKEND_STORE_URI_ENV_VAR] == database
    make_server("127.0.0.1", port, app, threaded=True).serve_forever()


def listening(session):
    """The addresses on which the processes of a session accept connections, e.g. `127.0.0.1:5000`."""
    sockets = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(process.name)) != session:
                continue
            for handle in (process / "fd").iterdir():
                target = os.readlink(handle)
                if target.startswith("socket:["):
                    sockets.add(target[8:-1])
        except (ProcessLookupError, FileNotFoundError):
            continue
    return {
        _address(line) for name in ("tcp", "tcp6") for line in _table(name) if line[3] == "0A" and line[9] in sockets
    }


def _table(name):
    file = Path("/proc/net") / name
    return [line.split() for line in file.read_text().splitlines()[1:]] if file.exists() else []


def _address(line):
    """Of a line of /proc/net/tcp: the kernel writes each four bytes of an address in the machine's order."""
    host, port = line[1].split(":")
    data = b"".join(bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8))
    return f"{socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)}:{int(port, 16)}"
