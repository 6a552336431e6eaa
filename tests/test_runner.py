"""Planning and execution, with a stand-in for the trainer: states, reasons, locks, failures, interrupts, workers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.environment import changed_files, code_hashes
from experiments.estimates import AT_LEAST
from experiments.outcome import NO_CALLBACKS, raise_for
from experiments.plan import plan, planned_again, recorded_runs
from experiments.resources import ensure_data
from experiments.rundir import ENVIRONMENT, FAILURE, LOCK, METRICS, RESULT, SPEC, read_json, read_points
from experiments.runner import execute
from experiments.spec import load_suite
from experiments.targets import parse_target
from rasa.errors import ResourceError, RunFailed, SuiteFailed
from rasa.lock import Lock
from tests.helpers.people import write_people
from tests.helpers.stand_in import stops_at_step_7, trainer


def fails_on_s_itm(config, directory, **rest):
    if config.objectives.weights.keys() == {"cl", "itm"} and config.objectives.positives == "annotated":
        raise RunFailed("loss is nan at epoch 1, step 3")
    return trainer(config, directory, **rest)


def dies_on_s_itm(config, directory, **rest):
    if config.objectives.weights.keys() == {"cl", "itm"} and config.objectives.positives == "annotated":
        os.kill(os.getpid(), signal.SIGKILL)
    return trainer(config, directory, **rest)


def has_a_bug(config, directory, **rest):
    raise ZeroDivisionError("division by zero")


@pytest.fixture
def people(tmp_path):
    return write_people(tmp_path / "people", train=4, val=2, test=2, images=1)


def planned(people, workspace, *rows, seeds=(0,), overrides=()):
    suite = load_suite("table4")
    chosen = [suite.row(name) for name in rows] or list(suite.rows)
    return plan(suite, chosen, "smoke", [f"data.root={people}", "optimisation.epochs=2", *overrides], seeds, workspace)


def test_a_run_leaves_its_records(people, tmp_path):
    (run,) = planned(people, tmp_path, "m-rtd")
    assert (run.state, run.reason) == ("new", "never run")
    assert run.directory == tmp_path / f"runs/table4/m-rtd/smoke/seed-0-{run.about.run_id}"
    (outcome,) = execute([run], tmp_path, train=trainer)
    assert (outcome.state, outcome.r1, outcome.seconds) == ("finished", 50.0, 4.0)
    result = read_json(run.directory / RESULT)
    assert result["run_id"] == run.about.run_id
    assert result["digests"]["data"] == run.about.data_digest
    assert result["started"] <= result["finished"]
    environment = read_json(run.directory / ENVIRONMENT)
    assert environment["code"] == code_hashes()
    assert "rasa/objectives/matching.py" in environment["code"]
    assert "root: " + str(people) in (run.directory / SPEC).read_text()
    assert [point.step for point in read_points(run.directory) if point.group == "train"] == list(range(10))


def test_a_finished_run_is_not_run_again(people, tmp_path):
    execute(planned(people, tmp_path, "cl"), tmp_path, train=trainer)
    (again,) = planned(people, tmp_path, "cl")
    assert again.state == "finished"
    assert execute([again], tmp_path, train=has_a_bug)[0].state == "finished"


def test_the_run_id_is_the_computation_s(people, tmp_path):
    def run_id(*overrides, seed=0):
        return planned(people, tmp_path, "cl", seeds=[seed], overrides=overrides)[0].about.run_id

    assert len(run_id()) == 12
    assert run_id() == run_id("optimisation.threads=1", "data.workers=2")
    assert len({run_id(), run_id(seed=1), run_id("optimisation.epochs=3")}) == 3
    moved = people.rename(tmp_path / "elsewhere")
    assert planned(moved, tmp_path, "cl")[0].about.run_id == planned(moved, tmp_path / "other", "cl")[0].about.run_id


def test_why_a_run_is_new(people, tmp_path):
    execute(planned(people, tmp_path, "cl"), tmp_path, train=trainer)
    (longer,) = planned(people, tmp_path, "cl", overrides=["optimisation.epochs=3"])
    assert (longer.state, longer.reason) == ("new", "an earlier run differs in optimisation.epochs (2 -> 3)")
    records = json.loads((people / "reid_raw.json").read_text())
    records[0]["captions"][0] += " again"
    (people / "reid_raw.json").write_text(json.dumps(records))
    (changed,) = planned(people, tmp_path, "cl")
    assert (changed.state, changed.reason) == ("new", "an earlier run has another data digest")


def test_other_initial_weights_are_another_run(people, tmp_path):
    weights = tmp_path / "weights.pth"
    ids = []
    for content in (b"one", b"two"):
        weights.write_bytes(content)
        os.utime(weights, ns=(len(ids), len(ids)))  # a clock too coarse to tell the two writes apart
        ids.append(planned(people, tmp_path, "cl", overrides=[f"model.weights={weights}"])[0].about)
    assert ids[0].run_id != ids[1].run_id
    assert ids[0].row_digest == ids[1].row_digest
    weights.unlink()
    with pytest.raises(ResourceError, match="model.weights: .*weights.pth: No such file"):
        planned(people, tmp_path, "cl", overrides=[f"model.weights={weights}"])


def test_another_vocabulary_in_the_same_file_is_another_run(people, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "person"]
    Path("one.txt").write_text("\n".join(words))
    (run,) = planned(people, tmp_path, "cl", overrides=["data.tokenizer=one.txt"])
    assert run.config.data.tokenizer == str(tmp_path / "one.txt")
    execute([run], tmp_path, train=trainer)
    Path("one.txt").rename("two.txt")
    assert planned(people, tmp_path, "cl", overrides=["data.tokenizer=two.txt"])[0].state == "finished"
    Path("one.txt").write_text("\n".join([*words, "coat"]))
    (other,) = planned(people, tmp_path, "cl", overrides=["data.tokenizer=one.txt"])
    assert other.state == "new" and "differs in data.tokenizer (sha256:" in other.reason


def test_a_damaged_record_holds_up_no_other_run(people, tmp_path, capsys):
    execute(planned(people, tmp_path, "cl", "itm"), tmp_path, train=trainer)
    (run,) = planned(people, tmp_path, "cl")
    (run.directory / "run.json").write_text("{")
    assert [found.about.row for found in recorded_runs(tmp_path)] == ["itm"]
    (longer,) = planned(people, tmp_path, "cl", overrides=["optimisation.epochs=3"])
    assert (longer.state, longer.reason) == ("new", "never run")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and len(set(lines)) == 1
    assert f"skipped: {run.directory}/run.json: cannot be read; move the folder away (Invalid JSON: EOF" in lines[0]


def test_seeds_first_so_that_a_stopped_suite_has_whole_tables(people, tmp_path):
    runs = planned(people, tmp_path, "cl", "itm", seeds=[0, 1])
    assert [(run.about.row, run.about.seed) for run in runs] == [("cl", 0), ("itm", 0), ("cl", 1), ("itm", 1)]


def test_a_plan_builds_no_data(tmp_path):
    suite, rows = parse_target("table4/cl")
    (run,) = plan(suite, rows, "smoke", (), [0], tmp_path)
    assert (run.state, run.reason, run.directory) == ("new", "the built-in benchmark is not built yet", None)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ResourceError, match="not built yet"):
        execute([run], tmp_path, train=trainer)


def test_the_built_in_benchmark_is_built_once_and_then_known_to_the_plan(tmp_path):
    suite, rows = parse_target("table4/cl")
    sizes = ["data.synthetic.train_identities=4", "data.synthetic.val_identities=2", "data.synthetic.test_identities=2"]
    lines, counts = [], []
    for _ in range(2):
        ensure_data([run.config for run in plan(suite, rows, "smoke", sizes, [0], tmp_path)], tmp_path, lines.append)
        counts.append(len(lines))
    assert lines[0] == f"building the built-in benchmark in {tmp_path / 'data'}"
    assert counts[0] == counts[1]
    (run,) = plan(suite, rows, "smoke", sizes, [0], tmp_path)
    assert (run.reason, bool(run.about.run_id)) == ("never run", True)


def test_missing_data_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ResourceError, match="nowhere"):
        planned(tmp_path / "nowhere", tmp_path, "cl")
    assert list(tmp_path.iterdir()) == []


def test_estimates_are_measured_or_else_the_suite_s(people, tmp_path):
    assert planned(people, tmp_path, "cl")[0].seconds == AT_LEAST  # a few images
    execute(planned(people, tmp_path, "cl"), tmp_path, train=trainer)
    assert [run.seconds for run in planned(people, tmp_path, "cl", "itm", seeds=[1])] == [4.0, 4.0]
    (file,) = tmp_path.glob(f"runs/*/cl/*/*/{RESULT}")
    result = read_json(file)
    file.write_text(json.dumps(result | {"cost": result["cost"] | {"looks_seconds": 2.0}}))
    assert [run.seconds for run in planned(people, tmp_path, "cl", seeds=[1])] == [6.0]  # the looks take time, too


def test_a_change_of_code_makes_a_run_stale_and_keeps_it(people, tmp_path):
    execute(planned(people, tmp_path, "cl"), tmp_path, train=trainer)
    (run,) = planned(people, tmp_path, "cl")
    environment = read_json(run.directory / ENVIRONMENT)
    environment["code"]["rasa/objectives/contrastive.py"] = "0" * 64
    (run.directory / ENVIRONMENT).write_text(json.dumps(environment))
    (stale,) = planned(people, tmp_path, "cl")
    assert (stale.state, stale.reason) == ("stale", "finished, but rasa/objectives/contrastive.py changed since")
    assert execute([stale], tmp_path, train=has_a_bug)[0].state == "stale"
    (again,) = execute([stale], tmp_path, rerun_stale=True, train=trainer)
    assert (again.state, again.directory) == ("finished", run.directory)
    assert read_json(run.directory.with_name(f"{run.directory.name}.stale-1") / RESULT)["test"]["r1"] == 50.0
    assert [found.state for found in recorded_runs(tmp_path)] == ["finished"]


def test_the_command_line_s_files_make_nothing_stale():
    assert not {"rasa/commands/cli.py", "rasa/commands/data.py"} & set(code_hashes())
    assert changed_files({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}) == ["b", "c"]


def test_a_failed_row_is_recorded_and_the_others_go_on(people, tmp_path):
    runs = planned(people, tmp_path, "itm", "s-itm", "p-itm")
    outcomes = execute(runs, tmp_path, train=fails_on_s_itm)
    assert [outcome.state for outcome in outcomes] == ["finished", "failed", "finished"]
    failure = read_json(runs[1].directory / FAILURE)
    assert (failure["type"], failure["message"]) == ("RunFailed", "loss is nan at epoch 1, step 3")
    assert "fails_on_s_itm" in failure["traceback"]
    with pytest.raises(SuiteFailed, match="1 of 3 runs failed: table4/s-itm seed 0"):
        raise_for(outcomes)
    assert planned(people, tmp_path, "s-itm")[0].reason == "loss is nan at epoch 1, step 3"


def test_a_single_failed_run_keeps_its_own_message(people, tmp_path):
    outcomes = execute(planned(people, tmp_path, "s-itm"), tmp_path, train=fails_on_s_itm)
    with pytest.raises(RunFailed, match="table4/s-itm seed 0: loss is nan"):
        raise_for(outcomes)


def misses_an_image(config, directory, **rest):
    raise ResourceError("cam0/0001_0.png: damaged; replace it")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_single_failed_run_keeps_its_exit_code_and_several_share_one(people, tmp_path, jobs):
    with pytest.raises(RunFailed, match="table4/cl seed 0: cam0/0001_0.png: damaged") as alone:
        raise_for(execute(planned(people, tmp_path, "cl"), tmp_path, jobs=jobs, train=misses_an_image))
    assert alone.value.exit_code == 5
    with pytest.raises(SuiteFailed) as several:
        raise_for(execute(planned(people, tmp_path, "cl", "itm"), tmp_path, jobs=jobs, train=misses_an_image))
    assert several.value.exit_code == 4


def test_a_bug_is_recorded_with_its_traceback(people, tmp_path):
    (outcome,) = execute(planned(people, tmp_path, "cl"), tmp_path, train=has_a_bug)
    assert outcome.message == "ZeroDivisionError: division by zero"
    assert "has_a_bug" in read_json(outcome.directory / FAILURE)["traceback"]


def test_retry_runs_what_failed_from_its_own_spec(people, tmp_path):
    runs = planned(people, tmp_path, "s-itm", "cl", overrides=["optimisation.epochs=3"])
    execute(runs, tmp_path, train=fails_on_s_itm)
    failed = [planned_again(run, tmp_path) for run in recorded_runs(tmp_path, "table4") if run.state == "failed"]
    assert [run.config.optimisation.epochs for run in failed] == [3]
    (outcome,) = execute(failed, tmp_path, train=trainer)
    assert outcome.state == "finished"
    assert not (outcome.directory / FAILURE).exists()


def test_a_resumed_run_has_each_step_once(people, tmp_path):
    (run,) = planned(people, tmp_path, "cl")
    (outcome,) = execute([run], tmp_path, train=stops_at_step_7)
    assert outcome.state == "interrupted"
    with pytest.raises(KeyboardInterrupt):
        raise_for([outcome])
    (again,) = planned(people, tmp_path, "cl")
    assert (again.state, again.reason) == ("interrupted", "checkpoint at epoch 2 step 2; will be resumed")
    # As after kill -9: a step beyond the checkpoint was reported, and the next line was torn.
    with (run.directory / METRICS).open("a") as file:
        file.write(json.dumps({"group": "train", "step": 7, "values": {"loss": 9.0}, "time": 0.0}) + '\n{"group": "tr')
    execute([again], tmp_path, train=trainer)
    points = read_points(run.directory)
    assert [point.step for point in points if point.group == "train"] == list(range(10))
    assert [point.step for point in points if point.group == "val"] == [5, 10]
    assert {point.values["loss"] for point in points if point.group == "train"} == {1 / n for n in range(1, 11)}


def test_a_locked_run_is_left_to_the_process_that_holds_it(people, tmp_path):
    (run,) = planned(people, tmp_path, "cl")
    execute([run], tmp_path, train=stops_at_step_7)
    with Lock(run.directory / LOCK) as lock:
        assert lock.acquired
        assert planned(people, tmp_path, "cl")[0].state == "running"
        (outcome,) = execute([run], tmp_path, train=trainer)
    assert (outcome.state, outcome.message) == ("running", "in another process")
    raise_for([outcome])


def test_a_read_only_workspace_is_refused(people, tmp_path):
    workspace = tmp_path / "a file"
    workspace.touch()
    with pytest.raises(ResourceError, match="give a writable --workspace"):
        execute([], workspace)


@pytest.mark.parametrize("jobs", [1, 2])
def test_who_watches_hears_every_figure_once(people, tmp_path, jobs):
    on_metrics, ended = [], []
    callbacks = NO_CALLBACKS._replace(
        on_metrics=lambda about, *figures: on_metrics.append((about.row, *figures[:2])), on_end=ended.append
    )
    execute(planned(people, tmp_path, "cl", "itm"), tmp_path, jobs=jobs, callbacks=callbacks, train=trainer)
    steps = [("train", step) for step in range(10)] + [("val", 5), ("val", 10), ("test", 10)]
    assert sorted(on_metrics) == sorted((row, *point) for row in ("cl", "itm") for point in steps)
    assert sorted(outcome.about.row for outcome in ended) == ["cl", "itm"]


def test_a_worker_that_is_killed_fails_its_run_alone(people, tmp_path):
    runs = planned(people, tmp_path, "s-itm", "itm", "p-itm", "cl")
    outcomes = execute(runs, tmp_path, jobs=2, train=dies_on_s_itm)
    assert [outcome.state for outcome in outcomes] == ["failed", "finished", "finished", "finished"]
    assert "its process died" in read_json(runs[0].directory / FAILURE)["message"]
    (again,) = execute(planned(people, tmp_path, "s-itm"), tmp_path, train=trainer)
    assert again.state == "finished"


def drive(workspace, people, jobs):
    """A driver in a process of its own."""
    outcomes = execute(planned(Path(people), Path(workspace)), Path(workspace), jobs=int(jobs), train=trainer)
    print(json.dumps([outcome.state for outcome in outcomes]))
    try:
        raise_for(outcomes)
    except KeyboardInterrupt:
        sys.exit(130)


def started_driver(workspace, people, jobs, step_seconds):
    code = "import sys, tests.test_runner; tests.test_runner.drive(*sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-c", code, workspace, people, str(jobs)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "STEP_SECONDS": str(step_seconds)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(("jobs", "number"), [(1, signal.SIGTERM), (2, signal.SIGINT)])
def test_the_first_signal_checkpoints_and_the_same_command_goes_on(people, tmp_path, jobs, number):
    driver = started_driver(tmp_path, people, jobs, 0.2)
    wait_for(lambda: len(list(tmp_path.glob("runs/*/*/*/*/checkpoints/step-*"))) >= jobs)
    if number == signal.SIGINT:
        os.killpg(driver.pid, number)  # as a terminal does: the workers hear it too
    else:
        driver.send_signal(number)
    states = json.loads(driver.communicate(timeout=60)[0])
    assert driver.returncode == 130
    assert set(states) == {"interrupted", "new"}  # the rest was not reached
    begun = [run for run in recorded_runs(tmp_path) if "will be resumed" in run.reason]
    assert len(begun) == jobs
    outcomes = execute(planned(people, tmp_path), tmp_path, train=trainer)
    assert {outcome.state for outcome in outcomes} == {"finished"}


def test_the_second_signal_ends_at_once(people, tmp_path):
    driver = started_driver(tmp_path, people, 2, 30)
    wait_for(lambda: len(list(tmp_path.glob("runs/*/*/*/*/metrics.jsonl"))) >= 2)
    driver.send_signal(signal.SIGINT)
    time.sleep(1)
    driver.send_signal(signal.SIGINT)
    driver.communicate(timeout=10)
    assert driver.returncode == 130
    wait_for(lambda: all(run.state != "running" for run in recorded_runs(tmp_path)), 10)


def test_workers_of_a_driver_that_is_killed_checkpoint_and_end(people, tmp_path):
    driver = started_driver(tmp_path, people, 2, 0.2)
    wait_for(lambda: len(list(tmp_path.glob("runs/*/*/*/*/checkpoints/step-*"))) >= 2)
    driver.kill()
    driver.communicate(timeout=10)
    wait_for(lambda: {run.state for run in recorded_runs(tmp_path)} == {"interrupted"}, 30)
    outcomes = execute(planned(people, tmp_path), tmp_path, train=trainer)
    assert {outcome.state for outcome in outcomes} == {"finished"}


def test_two_drivers_train_every_row_once(people, tmp_path):
    drivers = [started_driver(tmp_path, people, 1, 0.01) for _ in range(2)]
    states = [json.loads(driver.communicate(timeout=120)[0]) for driver in drivers]
    assert all(set(each) <= {"finished", "running"} for each in states)
    calls = [path.read_text() for path in tmp_path.glob("runs/*/*/*/*/calls")]
    assert calls == ["trained\n"] * 10


MINE = """suite: mine
rows:
- {name: same, extends: table4/cl}
- {name: other, extends: table4/cl, changes: {optimisation: {epochs: 3}}}
"""


def test_a_run_that_another_suite_has_finished_is_copied(people, tmp_path):
    (original,) = planned(people, tmp_path, "cl")
    execute([original], tmp_path, train=trainer)
    (tmp_path / "mine.yaml").write_text(MINE)
    suite, rows = parse_target(str(tmp_path / "mine.yaml"))
    options = [f"data.root={people}", "optimisation.epochs=2"]
    same, other = plan(suite, rows, "smoke", options[:1], [0], tmp_path)
    assert same.reason == other.reason == "never run"  # of five epochs and of three
    same, _ = plan(suite, rows, "smoke", options, [0], tmp_path)
    assert (same.state, same.seconds) == ("new", 0.0)
    assert same.reason == "as the finished table4/cl seed 0, which will be copied"
    (outcome,) = execute([same], tmp_path, train=has_a_bug)
    assert (outcome.state, outcome.r1) == ("finished", 50.0)
    result, trained = read_json(same.directory / RESULT), read_json(original.directory / RESULT)
    assert result["copied_from"] == "table4/cl" and (result["suite"], result["row"]) == ("mine", "same")
    assert {**result, **{k: trained[k] for k in ("suite", "row")}} == {**trained, "copied_from": "table4/cl"}
    assert read_points(same.directory) == read_points(original.directory)
    assert read_json(same.directory / "run.json")["suite"] == "mine"
    assert plan(suite, rows[:1], "smoke", options, [0], tmp_path)[0].state == "finished"


def test_a_stale_or_unfinished_run_is_not_copied(people, tmp_path):
    (original,) = planned(people, tmp_path, "cl")
    execute([original], tmp_path, train=trainer)
    environment = read_json(original.directory / ENVIRONMENT)
    environment["code"] = {**environment["code"], "rasa/training/step.py": "0" * 12}
    (original.directory / ENVIRONMENT).write_text(json.dumps(environment))
    (tmp_path / "mine.yaml").write_text(MINE)
    suite, rows = parse_target(str(tmp_path / "mine.yaml"))
    (same,) = plan(suite, rows[:1], "smoke", [f"data.root={people}", "optimisation.epochs=2"], [0], tmp_path)
    assert same.reason == "never run"
    execute([same], tmp_path, train=trainer)
    assert (same.directory / "calls").exists()
