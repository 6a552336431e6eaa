"""FAULTS 6, 9, 10, 11 by the real thing: rows that diverge, run out of memory or meet a damaged image; drivers killed.

Another row's fault, a kill or a second driver must not move a digit of a row.
"""

import csv
import json
import random
import shutil
import signal
import time

import pytest

from experiments.plan import recorded_runs
from experiments.rundir import FAILURE, RESULT, read_json, read_points
from experiments.store import open_store
from tests.helpers.many_rows import write_suite
from tests.helpers.people import write_people
from tests.helpers.processes import Command, fresh_store, rasa, wait_until

pytestmark = pytest.mark.timeout(900)  # whole runs, on machines that may be busy

ROWS = 10
TIMES = ("minutes", "pairs_per_s", "peak_mib")
BAD = {
    "row-2": {"optimisation": {"learning_rate": 1e30, "head_learning_rate": 1e30}},
    # Its first feature map takes 8 x 256 x 256 x 64 x 4 bytes = 134 MB for each encoder,
    # over 1 GB at 64 images a batch.
    "row-5": {"data": {"image_size": [512, 512]}, "model": {"patch_size": 1}, "optimisation": {"batch_size": 64}},
}
MEMORY_MIB = 700


def table(folder):
    """The report's rows by name, as text."""
    (made,) = folder.glob("report/*/table.csv")
    with made.open(newline="") as file:
        return {
            line["row"]: {k: v for k, v in line.items() if not k.startswith(TIMES)} for line in csv.DictReader(file)
        }


def reported(suite, people, workspace, store):
    """The rows of the report that is made now."""
    given = {"folder": workspace, "environment": {"MLFLOW_TRACKING_URI": store}}
    rasa("sync", **given)
    rasa("report", suite, "-o", f"data.root={people}", **given)
    return table(workspace)


def test_bad_rows_and_a_driver_killed_twice_leave_the_other_rows_as_they_would_be(tmp_path):
    """Ten rows: one diverges, one runs out of memory, one has a damaged image; the driver is killed twice on the way.

    The unbroken suite has the same ten rows and no fault. Afterwards the seven sound rows of both reports are equal in
    every cell but the times, the three others show as failed with no figure, and no finished row was trained again.
    """
    people = write_people(tmp_path / "people", train=14, val=6, test=6)
    damaged = shutil.copytree(people, tmp_path / "damaged")
    image = sorted((damaged / "imgs").rglob("*.png"))[5]
    image.write_bytes(image.read_bytes()[:-40])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    rasa(
        "run",
        write_suite(tmp_path / "good", ROWS),
        "-o",
        f"data.root={people}",
        folder=whole,
        environment={"MLFLOW_TRACKING_URI": fresh_store(whole)},
    )
    expected = reported(tmp_path / "good" / "own.yaml", people, whole, f"sqlite:///{whole / 'mlflow.db'}")
    assert {line["state"] for line in expected.values()} == {"finished"}

    bad = BAD | {"row-7": {"data": {"root": str(damaged)}}}
    suite, store = write_suite(tmp_path / "bad", ROWS, bad), fresh_store(broken)
    # The data's folder is the base's here, not an override, so that one row can have another.
    spec = json.loads(suite.read_text())
    spec["base"]["data"]["root"] = str(people)
    suite.write_text(json.dumps(spec))
    given = {"folder": broken, "environment": {"MLFLOW_TRACKING_URI": store}, "more_mib": MEMORY_MIB}
    finished = {}
    for wanted in (2, 5):
        driver = Command("run", suite, **given)
        assert wait_until(lambda wanted=wanted: len(results(broken)) >= wanted, command=driver), driver.err
        time.sleep(random.uniform(0, 0.3))
        driver.kill()
        assert driver.wait() == -signal.SIGKILL
        finished |= {path: path.stat().st_mtime_ns for path in results(broken)}
    rasa("run", suite, code=4, **given)
    states = {run.about.row: run.state for run in recorded_runs(broken)}
    assert [row for row, state in states.items() if state == "failed"] == ["row-2", "row-5", "row-7"]
    rasa("retry", suite, code=4, **given)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "a finished row was trained again"
    messages = {path.parents[2].name: read_json(path)["message"] for path in broken.glob(f"runs/own/*/*/*/{FAILURE}")}
    assert "is nan" in messages["row-2"] or "is inf" in messages["row-2"]
    assert str(image.relative_to(damaged / "imgs")) in messages["row-7"]
    assert "batch 64" in messages["row-5"] and "512 x 512" in messages["row-5"] and "-o " in messages["row-5"]

    unbounded = {name: value for name, value in given.items() if name != "more_mib"}
    rasa("sync", **unbounded)
    rasa("report", suite, **unbounded)
    found = table(broken)
    sound = [row for row in expected if row not in bad]
    assert len(sound) == 7 and {row: found[row] for row in sound} == {row: expected[row] for row in sound}
    for row in bad:
        assert found[row]["state"] == "failed"
        assert {found[row][f"test_{figure}_mean"] for figure in ("r1", "r5", "r10", "map")} == {"NA"}


def results(workspace):
    return list(workspace.glob(f"runs/own/*/*/*/{RESULT}"))


@pytest.mark.parametrize("drivers", [8])
def test_eight_drivers_at_once_train_every_run_once_and_file_it_once(tmp_path, drivers):
    """They all find a workspace without runs and without a store, and share both."""
    people = write_people(tmp_path / "people", train=6, val=3, test=3)
    suite, workspace = write_suite(tmp_path, 3), tmp_path / "a workspace"
    uri = f"sqlite:///{workspace / 'mlflow.db'}"
    given = {"folder": workspace, "environment": {"MLFLOW_TRACKING_URI": uri}}
    commands = [Command("run", suite, "-o", f"data.root={people}", **given) for _ in range(drivers)]
    ended = [command.wait() for command in commands]
    assert ended == [0] * drivers, "\n".join(command.err for command in commands)
    assert not any("Traceback" in command.err for command in commands)
    runs = recorded_runs(workspace)
    assert [(run.about.row, run.state) for run in runs] == [(f"row-{i}", "finished") for i in range(3)]
    for run in runs:
        told = [(point.group, point.step) for point in read_points(run.directory)]
        assert len(told) == len(set(told)) and [group for group, _ in told].count("test") == 1
    rasa("sync", **given)
    client = open_store(uri)
    filed = client.search_runs([client.get_experiment_by_name("own").experiment_id])
    tags = sorted((run.data.tags["rasa.kind"], run.data.tags["rasa.row"]) for run in filed)
    assert tags == [(kind, f"row-{i}") for kind in ("row", "seed") for i in range(3)]
    for run in filed:
        if run.data.tags["rasa.kind"] == "seed":
            steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
            assert sorted(steps) == list(range(6 * 3 * 2 // 8)) and run.info.status == "FINISHED"


def test_a_lock_that_a_killed_run_left_is_taken_over_at_once(tmp_path):
    people = write_people(tmp_path / "people", train=6, val=3, test=3)
    arguments = ("run", write_suite(tmp_path, 1), "-o", f"data.root={people}", "-o", "optimisation.epochs=40")
    first = Command(*arguments, folder=tmp_path)
    assert wait_until(lambda: list(tmp_path.glob("runs/own/*/*/*/checkpoints/step-*")), command=first)
    second = rasa(*arguments, folder=tmp_path)
    assert "running" in second.out and "in another process" in second.out
    first.kill()
    assert first.wait() == -signal.SIGKILL
    (lock,) = tmp_path.glob("runs/own/*/*/*/run.lock")
    assert lock.exists()
    third = Command(*arguments, folder=tmp_path)
    told = len(read_points(lock.parent))
    assert wait_until(lambda: len(read_points(lock.parent)) > told, seconds=60, command=third)
    third.kill(signal.SIGTERM)
    assert third.wait() == 130
