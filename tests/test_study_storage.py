"""Storages of studies: torn journals, many processes, a real PostgreSQL server,
one driver for sqlite, nobody at home."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rasa.errors import ResourceError
from studies.journal import REMOVED, Journal, repair
from studies.storage import TRIALS, open_storage
from tests.helpers import servers

PROCESSES, EACH = int(os.environ.get("STUDY_PROCESSES", "4")), int(os.environ.get("STUDY_TRIALS", "8"))


@pytest.fixture(scope="module")
def server():
    with servers.postgres_or_skip() as running:
        yield running.url


@pytest.fixture(params=["journal", "sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("server")
    return f"{request.param}:///{tmp_path}/a wörkspace/{request.param}.file"


def study(storage, name="s"):
    import optuna

    return optuna.create_study(study_name=name, storage=storage.optuna, load_if_exists=True)


def journal_of(tmp_path, trials):
    """A journal that holds so many finished trials."""
    storage = open_storage(f"journal:///{tmp_path}/journal.log", tmp_path)
    for number in range(trials):
        study(storage).tell(study(storage).ask(), float(number))
    return tmp_path / "journal.log"


def values(tmp_path):
    storage = open_storage(f"journal:///{tmp_path}/journal.log", tmp_path)
    return [trial.value for trial in study(storage).trials]


@pytest.mark.parametrize("kept", range(1, 40, 6))
def test_a_journal_with_a_torn_last_line_opens_and_loses_no_finished_trial(tmp_path, kept):
    path = journal_of(tmp_path, 3)
    torn = b'{"op_code":4,"worker_id":"0b1c-139","study_id":0,"datetime_start":"2026-01-01"}\n'[:kept]
    with path.open("ab") as file:
        file.write(torn)
    assert values(tmp_path) == [0.0, 1.0, 2.0]
    assert path.with_name(path.name + REMOVED).read_bytes() == torn + b"\n"
    assert path.read_bytes().endswith(b"}\n")


def test_a_writer_that_is_open_goes_on_after_another_one_s_torn_line(tmp_path):
    storage = open_storage(f"journal:///{tmp_path}/journal.log", tmp_path)
    running = study(storage).ask()
    with (tmp_path / "journal.log").open("ab") as file:
        file.write(b'{"op_code":6,"tri')
    study(storage).tell(running, 5.0)
    assert values(tmp_path) == [5.0]


def test_a_torn_line_to_which_a_record_was_appended_is_blanked_in_place(tmp_path):
    path = journal_of(tmp_path, 2)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    reader = open_storage(f"journal:///{path}", tmp_path)
    torn = lines[0][:20]
    with path.open("ab") as file:  # as Optuna's own writer does, which does not look at what it appends to
        file.write(torn + lines[-1])
    size = path.stat().st_size
    assert values(tmp_path) == [0.0, 1.0]
    assert path.read_bytes()[:size] == b"".join([*lines[:-1], b" " * len(torn), lines[-1]])
    assert [trial.value for trial in study(reader).trials] == [0.0, 1.0]


def test_a_whole_journal_is_left_as_it_is(tmp_path):
    path = journal_of(tmp_path, 2)
    before = path.read_bytes()
    assert repair(path) == 0
    Journal(path)
    assert path.read_bytes() == before
    assert not path.with_name(path.name + REMOVED).exists()


def test_a_journal_that_is_none_is_named_with_the_line(tmp_path):
    path = journal_of(tmp_path, 2)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"not a record\n" + b"".join(lines[1:]))
    with pytest.raises(ResourceError, match="journal.log: line 2 is no record; restore the journal"):
        open_storage(f"journal:///{path}", tmp_path)
    storage = open_storage(f"journal:///{tmp_path}/nothing.log", tmp_path, reading=True)
    assert storage.optuna.get_all_studies() == [] and not (tmp_path / "nothing.log").exists()


@pytest.mark.parametrize("content", [b"notes without an end", b"two\nlines\n", b"SQLite format 3\0", b"{}"])
@pytest.mark.parametrize("reading", [True, False])
def test_a_file_of_something_else_is_not_touched(tmp_path, content, reading):
    (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(ResourceError, match="notes.txt: is no journal of studies; give another file"):
        open_storage(f"journal:///{tmp_path}/notes.txt", tmp_path, reading=reading)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("notes.txt", content)]


def test_a_reader_repairs_nothing_and_says_what_is_torn(tmp_path):
    path = journal_of(tmp_path, 2)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines)[:-3])
    before = path.read_bytes()
    storage = open_storage(f"journal:///{path}", tmp_path, reading=True)
    assert len(storage.optuna.get_all_studies()) == 1 and path.read_bytes() == before
    path.write_bytes(lines[0] + lines[1][:9] + b"".join(lines[2:]))
    with pytest.raises(ResourceError, match="a line is no record"):
        open_storage(f"journal:///{path}", tmp_path, reading=True)


def work(url, trials):
    """Open the storage, fresh or not, and add so many trials, as a driver asks for them."""
    storage = open_storage(url, Path())
    with storage.exclusive(TRIALS):
        own = study(storage)
    for _ in range(int(trials)):
        with storage.exclusive(TRIALS):
            trial = own.ask()
            x = trial.suggest_float("x", -1, 1)
        trial.report(x, 0)
        trial.set_user_attr("beat", 1)
        own.tell(trial, x * x)


def many(url, processes, trials):
    code = "import sys, tests.test_study_storage as t; t.work(*sys.argv[1:])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, url, str(trials)]
    started = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(processes)]
    return [process.communicate(timeout=1200)[1] for process in started]


@pytest.mark.parametrize("url", ["journal", "postgresql"], indirect=True)
@pytest.mark.timeout(1300)
def test_many_processes_that_begin_at_once_lose_no_trial(url):
    assert many(url, PROCESSES, EACH) == [""] * PROCESSES
    trials = study(open_storage(url, Path())).trials
    assert sorted(trial.number for trial in trials) == list(range(PROCESSES * EACH))
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert len({trial.params["x"] for trial in trials}) == PROCESSES * EACH


def test_a_killed_holder_leaves_the_lock_to_the_next(url):
    code = """if True:
        import os, signal, sys
        from pathlib import Path
        from studies.storage import TRIALS, open_storage
        with open_storage(sys.argv[1], Path()).exclusive(TRIALS):
            os.kill(os.getpid(), signal.SIGKILL)
        """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code, url], env=environment, check=False).returncode == -9
    storage = open_storage(url, Path())
    with storage.exclusive(TRIALS):
        assert study(storage, "next").ask().number == 0


def test_sqlite_serves_one_driver(tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    message = "studies.db: another `rasa study run` has it, and sqlite serves one"
    with open_storage(url, tmp_path).driving():
        second = open_storage(url, tmp_path).driving()
        with pytest.raises(ResourceError, match=message):
            second.__enter__()
    with open_storage(url, tmp_path).driving():
        pass


def test_a_storage_that_does_not_answer_is_one_line_without_its_password(tmp_path):
    pytest.importorskip("psycopg")
    with socket.socket() as taken:  # nobody listens at it
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://me:secret@127.0.0.1:{taken.getsockname()[1]}/studies"
        with pytest.raises(ResourceError) as fault:
            open_storage(url, tmp_path)
    text = str(fault.value)
    assert text.startswith("--storage: postgresql://me:***@127.0.0.1:") and "refused" in text
    assert "secret" not in text and "\n" not in text and fault.value.exit_code == 5


def test_a_server_that_goes_away_is_a_line_too(tmp_path):
    with servers.postgres_or_skip() as running:
        url = running.url
        storage = open_storage(url, tmp_path)
    with pytest.raises(ResourceError, match="refused.*the same command goes on once it answers"):
        storage.exclusive(TRIALS).__enter__()


@pytest.mark.parametrize("url", ["", "file.db", "mysql://h/db", "journal:///", "sqlite:///", "redis://h"])
def test_what_is_no_storage_is_refused_with_the_forms(tmp_path, url):
    if not url:
        assert open_storage(None, tmp_path).shown == f"journal:///{tmp_path}/studies/journal.log"
        return
    with pytest.raises(ResourceError, match="is no storage of studies; use journal:///FILE"):
        open_storage(url, tmp_path)


def test_a_folder_that_cannot_be_written_is_a_line(tmp_path):
    (tmp_path / "file").write_text("")
    for scheme in ("journal", "sqlite"):
        with pytest.raises(ResourceError, match="Not a directory|File exists"):
            open_storage(f"{scheme}:///{tmp_path}/file/studies", tmp_path)


def test_the_default_journal_is_json_lines(tmp_path):
    journal_of(tmp_path, 1)
    assert all(json.loads(line)["op_code"] >= 0 for line in (tmp_path / "journal.log").read_text().splitlines())
