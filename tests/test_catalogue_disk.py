"""FAULTS 11 and 12 by the real thing: a disk that is full while a checkpoint is written, and one that is read-only."""

import time

import pytest

from rasa.weights.folder import newest_checkpoint
from tests.helpers.mounts import disk, full, read_only
from tests.helpers.one_row import newest, run_directory
from tests.helpers.processes import Command, rasa, wait_until
from tests.helpers.unbroken import goes_on, lines, unbroken

pytestmark = pytest.mark.timeout(900)  # whole runs, on machines that may be busy


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The command, and how it ends unbroken."""
    return unbroken(tmp_path_factory.mktemp("disk"))


def test_a_full_disk_costs_a_line_and_no_checkpoint(job, tmp_path):
    """The disk is filled in the middle of the run. One line names a file and the remedy; what was there stays whole and
    no half file takes room. With space again, the same command ends as if nothing had been."""
    arguments, whole = job
    (tmp_path / "output").mkdir()
    with disk(tmp_path / "disk", 24) as folder:
        workspace = folder / "workspace"
        command = Command(*arguments, folder=workspace, output=tmp_path / "output")
        assert wait_until(lambda: lines(workspace) >= 4, command=command)
        with full(folder):
            ended = command.wait()
            assert ended == 5, command.err
            told = [line for line in command.err.splitlines() if "space" in line.lower()]
            assert told and "Traceback" not in command.err
            assert "runs/own/row" in told[-1] and "free" in told[-1].lower()
            directory = run_directory(workspace)
            tensors, state, problems = newest_checkpoint(directory / "checkpoints")
            assert tensors and not problems and state["step_in_epoch"] % 2 == 0
            assert not [path.name for path in directory.rglob(".*") if path.name.endswith((".tmp", ".old"))]
        assert newest(directory)[1] == state
        goes_on(arguments, workspace, whole)


def test_a_full_disk_at_the_start_is_said_before_training(job, tmp_path):
    arguments, _ = job
    (tmp_path / "output").mkdir()
    with disk(tmp_path / "disk", 1) as folder, full(folder):
        began = time.monotonic()
        command = rasa(*arguments, folder=folder, output=tmp_path / "output", code=5)
        assert len(command.err.strip().splitlines()) <= 2 and "runs" in command.err and "pace" in command.err
        assert time.monotonic() - began < 60
        assert not list(folder.glob("runs/*/*/*/*/checkpoints/*"))


def test_a_read_only_disk_is_refused_and_its_results_are_still_read(job, tmp_path):
    arguments, _ = job
    (tmp_path / "output").mkdir()
    with disk(tmp_path / "disk", 24) as folder:
        rasa(*arguments, folder=folder, output=tmp_path / "output")
        before = sorted(str(path) for path in folder.rglob("*"))
        read_only(folder)
        other = rasa(*arguments, "--seeds", "1", folder=folder, output=tmp_path / "output", code=5)
        assert len(other.err.strip().splitlines()) == 1 and "writable" in other.err and "runs" in other.err
        status = rasa("status", folder=folder, output=tmp_path / "output")
        assert "finished" in status.out
        assert sorted(str(path) for path in folder.rglob("*")) == before
