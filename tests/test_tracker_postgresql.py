"""MLflow's store on a PostgreSQL: many drivers of two workspaces make it and fill it, a crash loses nothing."""

import signal
import socket

import pytest

from experiments.databases import shown, with_driver
from experiments.plan import recorded_runs
from experiments.rundir import read_points
from experiments.store import faults, open_store, parent_lock, tracking_uri
from rasa.errors import ResourceError
from tests.helpers import servers
from tests.helpers.filed import filed
from tests.helpers.many_rows import write_suite
from tests.helpers.people import write_people
from tests.helpers.processes import MANY, Command, forked, fresh_store, rasa, wait_until

pytestmark = pytest.mark.timeout(900)  # whole runs, on machines that may be busy

ROWS = 2
STEPS = 6 * 3 * 2 // 8  # of an epoch


@pytest.fixture
def database():
    with servers.postgres_or_skip() as server:
        yield server


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("tracker") / "people", train=6, val=3, test=3)


@pytest.mark.parametrize("drivers", [4, pytest.param(8, marks=MANY)])
def test_drivers_of_two_workspaces_make_the_tables_and_one_run_of_each_row(people, tmp_path, database, drivers):
    """They begin at once, on a database without tables. Every second one has another workspace and the next seed."""
    suite, environment = write_suite(tmp_path, ROWS), {"MLFLOW_TRACKING_URI": database.url}
    places = [tmp_path / "a", tmp_path / "b"]
    commands = [
        Command(
            "run",
            suite,
            "-o",
            f"data.root={people}",
            "--seeds",
            number % 2,
            folder=places[number % 2],
            environment=environment,
        )
        for number in range(drivers)
    ]
    ended = [command.wait() for command in commands]
    assert ended == [0] * drivers, "\n".join(command.err for command in commands)
    assert not any("Traceback" in command.err for command in commands)
    for place in places:
        assert [run.state for run in recorded_runs(place)] == ["finished"] * ROWS
        rasa("sync", folder=place, environment=environment)
    client = open_store(tracking_uri(tmp_path, database.url))
    runs = client.search_runs([client.get_experiment_by_name("own").experiment_id])
    parents = {run.info.run_id: run for run in runs if run.data.tags["rasa.kind"] == "row"}
    seeds = [run for run in runs if run.data.tags["rasa.kind"] == "seed"]
    assert sorted(run.data.tags["rasa.row"] for run in parents.values()) == ["row-0", "row-1"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    found = sorted((run.data.tags["rasa.row"], run.data.tags["rasa.seed"]) for run in seeds)
    assert found == [(f"row-{row}", str(seed)) for row in range(ROWS) for seed in range(2)]
    for run in seeds:
        assert parents[run.data.tags["mlflow.parentRunId"]].data.tags["rasa.row"] == run.data.tags["rasa.row"]


def test_many_programs_open_a_database_without_tables_at_once(database):
    """Each finds no table, or half of them, unless one makes them all while the others wait."""
    uri = with_driver(database.url)
    programs = [forked(open_store, uri) for _ in range(8)]
    for program in programs:
        program.join()
    assert [program.exitcode for program in programs] == [0] * len(programs)


def test_a_database_that_crashes_on_the_way_has_all_after_sync(people, tmp_path, database):
    """It crashes after a few steps and comes back when the runs have ended. It equals a store that never failed."""
    suite = write_suite(tmp_path, ROWS)
    arguments = ("run", suite, "-o", f"data.root={people}", "-o", "optimisation.epochs=3")
    sqlite = fresh_store(tmp_path / "store")
    rasa(*arguments, folder=tmp_path / "good", environment={"MLFLOW_TRACKING_URI": sqlite})
    workspace, environment = tmp_path / "broken", {"MLFLOW_TRACKING_URI": database.url}
    run = Command(*arguments, folder=workspace, environment=environment)
    assert wait_until(
        lambda: sum(len(read_points(file.parent)) for file in workspace.glob("runs/*/*/*/*/metrics.jsonl")) >= STEPS,
        command=run,
    )
    database.stop(signal.SIGQUIT)
    assert run.wait() == 0, run.err
    assert run.err.count("tracking: ") == 1 and "`rasa sync` delivers later" in run.err
    database.start()
    for _ in range(2):
        rasa("sync", folder=workspace, environment=environment)
        assert filed(tracking_uri(workspace, database.url)) == filed(sqlite)
    rasa("report", suite, *arguments[2:], folder=workspace, environment=environment)


def test_a_password_is_in_no_message(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        uri = tracking_uri(tmp_path, f"postgres://me:secret@127.0.0.1:{taken.getsockname()[1]}/runs")
        messages = []
        for lock in (lambda: open_store(uri), lambda: parent_lock(uri, tmp_path).__enter__()):
            with pytest.raises(ResourceError) as fault:
                lock()
            messages.append(str(fault.value))
    with pytest.raises(ResourceError) as fault:
        tracking_uri(tmp_path, "redis://me:secret@host/0")
    for text in (*messages, str(fault.value)):
        assert "me:***@" in text and "secret" not in text and "\n" not in text


def test_without_the_driver_the_remedy_is_said():
    remedy = r"no psycopg; pip install 'rasa-ablations\[postgresql\]'"
    with pytest.raises(ResourceError, match=remedy), faults("postgresql://host/runs"):
        raise ModuleNotFoundError("no psycopg")


@pytest.mark.parametrize(
    ("given", "opened"),
    [
        ("postgresql://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgres://h/d", "postgresql+psycopg://h/d"),
        ("postgresql+psycopg2://h/d", "postgresql+psycopg2://h/d"),
        ("mysql://h/d", "mysql://h/d"),
        ("sqlite:///f.db", "sqlite:///f.db"),
        ("http://h:5000", "http://h:5000"),
        ("postgres", "postgres"),
    ],
)
def test_the_driver_that_we_bring_is_asked_for(given, opened):
    assert with_driver(given) == opened


def test_addresses_are_shown_without_passwords():
    assert shown("postgresql://u:p%40@h:5432/d") == "postgresql://u:***@h:5432/d"
    assert shown("postgresql://u@h/d") == "postgresql://u@h/d"
    assert shown("https://who:what@server/x") == "https://who:***@server/x"
    assert shown("journal:////x/y") == "journal:////x/y"
