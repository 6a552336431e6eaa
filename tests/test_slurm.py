"""A real Slurm, if there is one here (docs/scale.md says how one node of Debian's packages is set up): a job that is
queued again while it trains goes on from its checkpoint."""

import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from experiments.executors.choice import starter
from experiments.options import Where
from experiments.outcome import NO_CALLBACKS
from experiments.rundir import read_points
from experiments.runner import execute
from tests.helpers.people import write_people
from tests.helpers.stand_in import trainer
from tests.test_runner import planned, wait_for

ROOT = Path(__file__).parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """A folder that the nodes see, with a data set; jobs can import the stand-in for the trainer."""
    pytest.importorskip("submitit", reason="submitit is not installed; pip install 'rasa-ablations[slurm]'")
    if shutil.which("sinfo") is None:
        pytest.skip("no Slurm here (no sinfo)")
    told = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, check=False)
    if told.returncode:
        pytest.skip(f"no Slurm answers here ({told.stderr.strip()})")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("STEP_SECONDS", "1")
    return write_people(tmp_path / "people", train=4, val=2, test=2, images=1).parent


def numbers():
    """Of the jobs in the queue, as squeue gives them."""
    command = ["squeue", "--noheader", "--array", "--format=%i", "--name=rasa", "--me"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_a_job_that_is_queued_again_goes_on_from_its_checkpoint(shared):
    """By `scontrol requeue`, which is what preemption does: SIGTERM, and later the same job once more."""
    runs, lines = planned(shared / "people", shared, "cl", "itm"), []

    def preempt():
        wait_for(lambda: len(list(shared.glob("runs/*/*/*/*/checkpoints/step-*"))) > 2, 120)
        subprocess.run(["scontrol", "requeue", numbers()[0]], check=True)

    thread = threading.Thread(target=preempt)
    thread.start()
    start = starter(Where(None, executor="slurm", slurm=("cpus-per-task=1", "mem=500")), runs, shared)
    callbacks = NO_CALLBACKS._replace(notify=lines.append)
    outcomes = execute(runs, shared, callbacks=callbacks, train=trainer, start=start)
    thread.join()
    assert [outcome.state for outcome in outcomes] == ["finished", "finished"]
    calls = sorted((run.directory / "calls").read_text() for run in runs)
    assert calls == ["trained\n", "trained\n" * 2]  # one of the two went on
    for run in runs:
        assert [p.step for p in read_points(run.directory) if p.group == "train"] == list(range(10))
    assert sum("goes on" in line for line in lines) == 1
    wait_for(lambda: not numbers())
