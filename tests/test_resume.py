"""`rasa resume`: a killed run goes on with nothing but its id, as it was configured when it began."""

import json
import signal

import pytest

from rasa.commands.cli import main
from tests.helpers.many_rows import write_suite
from tests.helpers.people import write_people
from tests.helpers.processes import Command, wait_until


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture
def killed(tmp_path):
    """(directory) of a run with two overrides that SIGKILL has ended after a checkpoint."""
    people = write_people(tmp_path / "people", train=6, val=3, test=3)
    options = ("-o", f"data.root={people}", "-o", "optimisation.epochs=12")
    command = Command("run", write_suite(tmp_path, 1), *options, folder=tmp_path)
    assert wait_until(lambda: list(tmp_path.glob("runs/own/*/*/*/checkpoints/step-*")), command=command)
    command.kill(signal.SIGKILL)
    command.wait()
    (directory,) = tmp_path.glob("runs/own/*/*/seed-0-*")
    assert not (directory / "result.json").exists()
    return directory


def test_a_killed_run_goes_on_by_its_id(killed, tmp_path, capsys):
    (tmp_path / "own.yaml").unlink()  # neither the suite's file nor its options are needed
    identity = killed.name.removeprefix("seed-0-")
    assert run("resume", identity, "--workspace", tmp_path) == 0
    result = json.loads((killed / "result.json").read_text())
    assert result["last"]["epoch"] == 12 and result["run_id"] == identity
    steps = [json.loads(line)["step"] for line in (killed / "metrics.jsonl").read_text().splitlines()]
    assert len([line for line in steps if line == 0]) == 1  # it did not begin anew
    capsys.readouterr()
    assert run("resume", killed) == 5  # from elsewhere: the workspace must be named
    assert f"lies in the workspace {tmp_path}; give --workspace {tmp_path}" in capsys.readouterr().err
    assert run("resume", killed, "--workspace", tmp_path) == 0
    assert "finished" in capsys.readouterr().out


def test_what_is_no_run_is_one_line(tmp_path, capsys):
    assert run("resume", "0123456789ab", "--workspace", tmp_path) == 5
    assert "0123456789ab: no run's directory, id or name; `rasa status` lists them" in capsys.readouterr().err


def test_all_of_a_row_and_a_path_go_on_and_each_run_once(killed, tmp_path, capsys):
    """By the row, the run's name, a folder in it and the beginning of its id, at once: the one run goes on once."""
    names = ["own/row-0", "own/row-0 seed 0", killed / "checkpoints", killed.name.removeprefix("seed-0-")[:6]]
    assert run("resume", *names, "--workspace", tmp_path, "--json") == 0
    (outcome,) = json.loads(capsys.readouterr().out)
    assert (outcome["state"], outcome["directory"]) == ("finished", str(killed))
    assert run("status", "own/row-0", "--workspace", tmp_path, "--json") == 0
    assert [each["run_id"] for each in json.loads(capsys.readouterr().out)] == [killed.name.removeprefix("seed-0-")]
    assert run("retry", killed, "--workspace", tmp_path) == 0
    assert f"no failed runs of {killed} in" in capsys.readouterr().err
    assert run("show", killed.name, "--workspace", tmp_path) == 0
    assert "epochs: 12" in capsys.readouterr().out


def test_what_was_never_run_cannot_be_resumed(tmp_path, capsys):
    assert run("resume", "table4/cl", "--workspace", tmp_path) == 5
    assert "table4/cl: no run's directory, id or name" in capsys.readouterr().err
