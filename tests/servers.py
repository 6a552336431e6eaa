"""A PostgreSQL server for tests, on 127.0.0.1 only, with its files in a temporary folder."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

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


@contextmanager
def postgres():
    """The URL of a running server's empty database; the server ends with the context. Raises NotStarted."""
    binaries, identity = programs(), _servant() if os.geteuid() == 0 else None  # the server refuses to be root
    # No folder of pytest's: those are closed to others than root, and their paths too long for a socket's name.
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:
        options = {"cwd": folder, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        if identity:
            os.chown(folder, *identity)
            options |= {"user": identity[0], "group": identity[1], "extra_groups": []}
        data = Path(folder) / "data"
        command = [binaries / "initdb", "-D", data, "-U", USER, "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
        made = subprocess.run(command, check=False, **options)
        if made.returncode:
            raise NotStarted(f"initdb: {' '.join(made.stdout.split())[-200:]}")
        port = _free_port()
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
             "-c", f"unix_socket_directories={folder}", "-c", "shared_buffers=16MB"],
            **options | {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL},
        )  # fmt: skip
        try:
            _wait_for(port, server)
            yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # fast: it does not wait for its clients
            server.wait(60)


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
