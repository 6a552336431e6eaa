"""FAULTS 1-5 by the real thing: SIGKILL from outside, at random times, and what comes of the same command then.

An unbroken run is the measure: weights, momentum model, queues, moments, history, every figure, the selected weights
and the predictions of a run that was killed and gone on with must equal its own to the bit.
"""

import random
import re
import shutil
import signal
import time

import pytest

from experiments.plan import recorded_runs
from tests.helpers.one_row import newest, run_directory
from tests.helpers.processes import MANY, Command, fresh_store, rasa, wait_until
from tests.helpers.unbroken import ENDED, EPOCHS, STEPS, end_of, goes_on, groups, killed, lines, unbroken

pytestmark = pytest.mark.timeout(900)  # whole runs, on machines that may be busy


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The command, and how it ends unbroken."""
    return unbroken(tmp_path_factory.mktemp("kills"))


@pytest.mark.parametrize(
    ("times", "workers"),
    [(2, 0), (1, 2), pytest.param(20, 0, marks=MANY), pytest.param(20, 2, marks=MANY)],
)
def test_a_kill_at_any_step_changes_no_bit(job, tmp_path, times, workers):
    """At a random line of the figures and up to 20 ms later: in a step, in a checkpoint, in validation.

    Two loader workers decode the images, and the whole run had none: order, captions and weak pairs must not move.
    """
    arguments, whole = job
    draw = random.Random()
    for attempt in range(times):
        at, delay = draw.randrange(1, EPOCHS * (STEPS + 1) - 2), draw.uniform(0, 0.02)
        workspace = tmp_path / f"{attempt}-line-{at}"
        command = (*arguments, "-o", f"data.workers={workers}")
        killed(command, workspace, lambda at=at, workspace=workspace: lines(workspace) >= at, delay)
        assert not (run_directory(workspace) / "result.json").exists(), ENDED
        goes_on(command, workspace, whole)


@pytest.mark.parametrize("wanted", [2, pytest.param(10, marks=MANY)])
def test_a_kill_while_a_checkpoint_is_written_leaves_the_old_one_or_the_new_one(job, tmp_path, wanted):
    """Aimed at the folder in which a checkpoint is made; a kill counts if that, or a set aside one, was left behind."""
    arguments, whole = job
    draw, hits = random.Random(), 0
    for attempt in range(wanted * 8):
        workspace, at = tmp_path / str(attempt), draw.randrange(2, EPOCHS * STEPS - 1)

        def writing(workspace=workspace, at=at):
            return lines(workspace) >= at and bool(halves(workspace))

        command = Command(*arguments, folder=workspace)
        assert wait_until(writing, every=0, command=command), ENDED
        time.sleep(draw.choice((0, 0, 0.0005, 0.001)))
        command.kill()
        assert command.wait() == -signal.SIGKILL
        if halves(workspace):
            hits += 1
            goes_on(arguments, workspace, whole)
        else:
            shutil.rmtree(workspace)
        if hits == wanted:
            return
    pytest.fail(f"only {hits} of {wanted * 8} kills fell into a checkpoint")


def halves(workspace):
    """What a checkpoint that is being written, or put in another's place, looks like."""
    return [path for name in ("tmp", "old") for path in workspace.glob(f"runs/own/row/*/*/checkpoints/.step-*.{name}")]


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=MANY)])
@pytest.mark.parametrize("where", ["validation", "test"])
def test_a_kill_in_an_evaluation_changes_no_figure(job, tmp_path, where, times):
    """After the last step of an epoch, or the last checkpoint, and before the evaluation's figures are told."""
    arguments, whole = job
    draw, before = random.Random(), {"validation": STEPS, "test": EPOCHS * (STEPS + 1)}[where]
    for attempt in range(times):
        workspace = tmp_path / str(attempt)
        done = f"runs/own/row/*/*/checkpoints/step-{EPOCHS * STEPS:09d}"

        def begun(workspace=workspace, done=done):
            return lines(workspace) >= before and (where == "validation" or any(workspace.glob(done)))

        killed(arguments, workspace, begun, draw.uniform(0, 0.03))
        told = groups(workspace)
        assert told.count("val") == {"validation": 0, "test": EPOCHS}[where] and "test" not in told, "missed it"
        goes_on(arguments, workspace, whole)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 2)])
def test_the_first_signal_finishes_the_step_and_checkpoints_it(job, tmp_path, number, workers):
    """Exit 130; the newest checkpoint is of the last step that was told of, and the same command goes on from it."""
    arguments, whole = job
    command = (*arguments, "-o", f"data.workers={workers}")
    assert killed(command, tmp_path, lambda: lines(tmp_path) >= 4, number=number) == 130
    (record,) = recorded_runs(tmp_path)
    assert record.state == "interrupted" and "will be resumed" in record.reason
    saved = newest(run_directory(tmp_path))[1]
    assert saved["epoch"] * STEPS + saved["step_in_epoch"] == len([g for g in groups(tmp_path) if g == "train"])
    goes_on(command, tmp_path, whole)


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=MANY)])
def test_a_report_that_is_killed_is_made_again_from_the_same_runs(job, tmp_path, times):
    """Nothing of the run is touched, and the page, the tables and the figures are those of an unbroken report."""
    arguments, whole = job
    given = {"folder": tmp_path, "environment": {"MLFLOW_TRACKING_URI": fresh_store(tmp_path)}}
    rasa(*arguments, **given)
    draw, report, made = random.Random(), ("report", *arguments[2:]), tmp_path / "report"
    began = time.monotonic()
    rasa(*report, **given)
    length, unbroken = time.monotonic() - began, contents(made)
    assert {"report.html", "table.md", "table.csv"} <= {path.rpartition("/")[2] for path in unbroken}
    caught = 0
    for _ in range(times):
        shutil.rmtree(made)
        command = Command(*report, **given)
        time.sleep(draw.uniform(0.2, 0.8) * length)
        if command.alive:
            command.kill()
        caught += command.wait() == -signal.SIGKILL
        rasa(*report, **given)
        again = contents(made)
        assert again.keys() == unbroken.keys()
        assert [name for name in again if name.endswith((".md", ".csv")) and again[name] != unbroken[name]] == []
    assert caught, "every report had ended before it could be killed"
    assert end_of(tmp_path) == whole


MADE = re.compile(rb"made: \d{4}-\d\d-\d\d \d\d:\d\d UTC")


def contents(folder):
    """Every file, without the minute at which it was made."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): MADE.sub(b"", path.read_bytes()) for path in files}
