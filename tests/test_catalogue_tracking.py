"""FAULTS 23, 24 and 26 by the real thing: MLflow's server killed, hung, emptied; a locked store; who listens where.

The measure is the store of the same runs whose tracker never failed: metric by metric, each run once.
"""

import signal
import sqlite3
import time

import pytest

from experiments.rundir import read_points
from tests.helpers.filed import filed
from tests.helpers.many_rows import write_suite
from tests.helpers.people import write_people
from tests.helpers.processes import MANY, Command, fresh_store, rasa, wait_until
from tests.helpers.servers import Mlflow, listening

pytestmark = pytest.mark.timeout(900)  # whole runs, on machines that may be busy

ROWS, EPOCHS = 2, 4
STEPS = EPOCHS * (6 * 3 * 2 // 8)  # of a row
QUICK = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}  # of the client: how long it waits for a server that says nothing


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("tracking") / "people", train=6, val=3, test=3)


@pytest.mark.parametrize("command", [False, pytest.param(True, marks=MANY)])
def test_what_a_server_lost_and_missed_is_there_after_sync_even_from_elsewhere(people, tmp_path, command):
    """The server is killed after the first third of a suite, stays away, and comes back empty;
    the workspace is renamed.

    No line but one tells of it, the runs end, and after `rasa sync` the store equals that of runs with a server.
    """
    suite, options = write_suite(tmp_path, ROWS), of(people)
    with Mlflow(tmp_path / "good-server", command) as server:
        rasa("run", suite, *options, folder=tmp_path / "good", environment={"MLFLOW_TRACKING_URI": server.uri})
        expected = filed(server.uri)
    assert [len(part) for part in expected] == [ROWS, ROWS]
    assert expected[1][0][4]["train/loss"] and expected[1][0][2] == ("FINISHED", "finished")

    workspace = tmp_path / "broken"
    with Mlflow(tmp_path / "server", command) as server:
        given = {"environment": {"MLFLOW_TRACKING_URI": server.uri} | QUICK}
        run = Command("run", suite, *options, folder=workspace, **given)
        assert wait_until(lambda: told(workspace) >= ROWS * STEPS // 3, command=run)
        server.kill()
        assert run.wait() == 0, run.err
        assert run.err.count("tracking: ") == 1 and "`rasa sync` delivers later" in run.err
        server.empty()
        server.start()
        moved = workspace.rename(tmp_path / "moved to a new pläce")
        for _ in range(2):
            rasa("sync", folder=moved, **given)
            assert filed(server.uri) == expected
        rasa("report", suite, *options, folder=moved, **given)


def of(people, epochs=EPOCHS):
    return "-o", f"data.root={people}", "-o", f"optimisation.epochs={epochs}"


def told(workspace):
    return sum(len(read_points(file.parent)) for file in workspace.glob("runs/*/*/*/*/metrics.jsonl"))


def test_a_server_that_hangs_holds_up_no_run(people, tmp_path):
    """Stopped by SIGSTOP, it takes connections and says nothing. Continued, it gets all."""
    suite = write_suite(tmp_path, 1)
    with Mlflow(tmp_path / "server") as server:
        assert listening(server.session) == {f"127.0.0.1:{server.port}"}
        given = {"folder": tmp_path / "workspace", "environment": {"MLFLOW_TRACKING_URI": server.uri} | QUICK}
        command = Command("run", suite, *of(people), **given)
        assert wait_until(lambda: told(given["folder"]) >= 1, command=command)
        server.kill(signal.SIGSTOP)
        assert command.wait() == 0 and "tracking: " in command.err
        server.kill(signal.SIGCONT)
        rasa("sync", **given)
        rows, seeds = filed(server.uri)
        assert rows == ["row-0"] and [len(seed[4]["train/loss"]) for seed in seeds] == [STEPS]


@pytest.mark.parametrize("seconds", [3, pytest.param(30, marks=MANY)])
def test_a_sqlite_store_that_another_program_has_locked_loses_nothing(people, tmp_path, seconds):
    """Locked from the first step on, until the run has ended and so many seconds longer,
    while `rasa sync` waits or refuses."""
    suite, workspace = write_suite(tmp_path, 1), tmp_path / "workspace"
    uri = fresh_store(tmp_path / "store")
    given = {"folder": workspace, "environment": {"MLFLOW_TRACKING_URI": uri}}
    command = Command("run", suite, *of(people), **given)
    assert wait_until(lambda: told(workspace) >= 1, command=command)
    holder = sqlite3.connect(tmp_path / "store" / "mlflow.db", isolation_level=None, timeout=60)
    holder.execute("BEGIN EXCLUSIVE")
    assert command.wait() == 0 and "Traceback" not in command.err
    sync = Command("sync", **given)
    time.sleep(seconds)
    holder.execute("ROLLBACK")
    holder.close()
    assert sync.wait() in (0, 5) and "Traceback" not in sync.err and len(sync.err.strip().splitlines()) <= 2
    rasa("sync", **given)
    rows, seeds = filed(uri)
    assert rows == ["row-0"] and [len(seed[4]["train/loss"]) for seed in seeds] == [STEPS]


def test_nothing_that_a_run_starts_listens_to_other_machines(people, tmp_path):
    """Looked for while it runs, with workers that load images and workers that train."""
    arguments = (
        "run",
        write_suite(tmp_path, 2),
        *of(people, 30),
        "-o",
        "data.workers=2",
        "-o",
        "data.image_cache_gib=0",
    )
    store = fresh_store(tmp_path / "store")
    command = Command(*arguments, folder=tmp_path / "workspace", environment={"MLFLOW_TRACKING_URI": store})
    seen = set()
    assert wait_until(lambda: told(tmp_path / "workspace") >= 1, command=command)
    for _ in range(20):
        seen |= listening(command.process.pid)
        time.sleep(0.05)
    assert command.alive
    command.kill(signal.SIGTERM)
    assert command.wait() == 130
    assert {address for address in seen if not address.startswith(("127.0.0.1:", "::1:"))} == set()
