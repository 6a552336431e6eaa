"""A PostgreSQL server for tests, on 127.0.0.1 only, with its files in a folder of the test's own."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
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


@contextmanager
def postgres(folder: Path):
    """The URL of a running server's empty database; the server ends with the context."""
    binaries, identity = programs(), _servant() if os.geteuid() == 0 else None
    data = folder / "data"
    folder.mkdir(parents=True, exist_ok=True)
    if identity:  # the server refuses to be root
        os.chown(folder, *identity)
        for parent in folder.parents[:-1]:
            if parent.stat().st_uid == 0 and parent != Path("/tmp"):
                parent.chmod(parent.stat().st_mode | 0o011)
    options = {"user": identity[0], "group": identity[1], "extra_groups": []} if identity else {}
    options |= {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [binaries / "initdb", "-D", data, "-U", USER, "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
    subprocess.run(command, check=True, **options)
    port = _free_port()
    server = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
         "-c", f"unix_socket_directories={folder}", "-c", "shared_buffers=16MB"], **options,
    )  # fmt: skip
    try:
        _wait_for(port, server)
        yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # fast: it does not wait for its clients
        server.wait(30)


def _wait_for(port, server):
    import time

    import psycopg

    for _ in range(300):
        assert server.poll() is None, "the server has ended"
        try:
            psycopg.connect(host="127.0.0.1", port=port, user=USER, dbname="postgres", connect_timeout=1).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


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
