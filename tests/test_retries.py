"""Retries for runs that died, --fail-fast, and what a worker prints: real kills of real processes, with a stand-in."""

import json
import os
import signal
import sys
import warnings

import pytest

from experiments.outcome import NO_CALLBACKS, Died, OnFault, raise_for
from experiments.plan import plan, state_of
from experiments.rundir import FAILURE, RESULT, read_attempts, read_json, read_points
from experiments.runner import execute
from experiments.spec import load_suite
from experiments.worker_log import WORKER_LOG, output_kept
from rasa.errors import Diverged, OutOfMemory, ResourceError, RunFailed, SuiteFailed
from tests.helpers.people import write_people
from tests.helpers.processes import rasa
from tests.helpers.stand_in import trainer


@pytest.fixture
def people(tmp_path):
    return write_people(tmp_path / "people", train=4, val=2, test=2, images=1)


def planned(people, workspace, *rows, seeds=(0,)):
    suite = load_suite("table4")
    given = [f"data.root={people}", "optimisation.epochs=2"]
    return plan(suite, [suite.row(row) for row in rows], "smoke", given, seeds, workspace)


def tries(directory):
    """How often a trainer of this file has begun."""
    path = directory / "tries"
    with path.open("a") as file:
        file.write("x")
    return len(path.read_text())


def killed_twice(config, directory, log, **rest):
    """Killed after step 7 of its first attempt and after step 8 of its second."""
    number = tries(directory)

    def logged(group, step, values):
        log(group, step, values)
        if group == "train" and step == 6 + number and number < 3:
            print(f"attempt {number} prints, and dies")
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    return trainer(config, directory, log=logged, **rest)


def always_killed(config, directory, **rest):
    tries(directory)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_run_goes_on_from_its_checkpoint_until_the_attempts_are_used(people, tmp_path, jobs):
    runs, lines = planned(people, tmp_path, "cl", "itm"), []
    callbacks = NO_CALLBACKS._replace(notify=lines.append)
    options = {"jobs": jobs, "callbacks": callbacks, "on_fault": OnFault(retries=2)}
    outcomes = execute(runs[:1], tmp_path, train=killed_twice, **options)
    assert [outcome.state for outcome in outcomes] == ["finished"]
    (directory,) = [run.directory for run in runs[:1]]
    assert (directory / "tries").read_text() == "xxx"
    # Each step once: it went on from the checkpoint of the attempt before.
    assert [point.step for point in read_points(directory) if point.group == "train"] == list(range(10))
    died = [line for line in lines if "died" in line]
    assert [line[-25:] for line in died] == ["; attempt 2 of 3 follows", "; attempt 3 of 3 follows"] or [
        line.rpartition("; ")[2] for line in died
    ] == ["attempt 2 of 3 follows", "attempt 3 of 3 follows"]
    assert all("its process died (SIGKILL: killed, or out of memory)" in line for line in died)
    assert [attempt["type"] for attempt in read_attempts(directory)] == ["Died", "Died"]
    assert all(attempt["time"] and "traceback" not in attempt for attempt in read_attempts(directory))
    assert not (directory / FAILURE).exists() and state_of(directory)[0] == "finished"


def test_more_deaths_than_retries_fail_the_run_alone_with_its_attempts_on_record(people, tmp_path):
    runs = planned(people, tmp_path, "cl", "itm")

    outcomes = execute(runs, tmp_path, jobs=2, train=dies_on_cl, on_fault=OnFault(retries=1))
    assert [outcome.state for outcome in outcomes] == ["failed", "finished"]
    assert (runs[0].directory / "tries").read_text() == "xx" and outcomes[0].died
    assert len(read_attempts(runs[0].directory)) == 2 and read_json(runs[0].directory / FAILURE)["type"] == "Died"
    with pytest.raises(SuiteFailed, match="1 of 2 runs failed: table4/cl seed 0"):
        raise_for(outcomes)


def dies_on_cl(config, directory, **rest):
    if "itm" not in config.objectives.weights:
        return always_killed(config, directory, **rest)
    return trainer(config, directory, **rest)


def has_no_memory(config, directory, **rest):
    """CL in the trainer's own words, ITM in the system's, torch's and those of a run in several processes."""
    number = tries(directory)
    if "itm" in config.objectives.weights:
        told = [
            OSError(12, "Cannot allocate memory"),
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
            Died("process 2 of 2 died (SIGKILL: killed, or out of memory)"),
        ]
    else:
        told = [OutOfMemory("out of memory with batch 8")]
    if number <= len(told):
        raise told[number - 1]
    return trainer(config, directory, **rest)


def test_a_want_of_memory_is_tried_again_however_it_is_said(people, tmp_path):
    outcomes = execute(planned(people, tmp_path, "cl", "itm"), tmp_path, train=has_no_memory, on_fault=OnFault(3))
    assert [outcome.state for outcome in outcomes] == ["finished", "finished"]
    kinds = [[attempt["type"] for attempt in read_attempts(outcome.directory)] for outcome in outcomes]
    assert kinds == [["OutOfMemory"], ["ResourceError", "RuntimeError", "Died"]]


FAULTS = [
    Diverged("loss is nan at epoch 1, step 3"),
    ResourceError("cam0/0001_0.png: damaged; replace it"),
    RunFailed("there is no training pair"),
    ZeroDivisionError("division by zero"),
]


def fails_by_itself(config, directory, **rest):
    tries(directory)
    raise FAULTS[config.seed]


def test_what_would_fail_again_is_not_tried_again(people, tmp_path):
    """A loss that is no number, a file of the user's, a fault of the run's own, a bug: one for each seed."""
    runs = planned(people, tmp_path, "cl", seeds=range(len(FAULTS)))
    for run, outcome in zip(runs, execute(runs, tmp_path, train=fails_by_itself, on_fault=OnFault(3)), strict=True):
        assert outcome.state == "failed" and not outcome.died
        assert (run.directory / "tries").read_text() == "x" and len(read_attempts(run.directory)) == 1


def test_attempts_of_later_commands_are_counted_on(people, tmp_path):
    for attempt in (1, 2):
        (run,) = planned(people, tmp_path, "cl")
        execute([run], tmp_path, train=fails_by_itself)
        assert len(read_attempts(run.directory)) == attempt
    with (run.directory / "attempts.jsonl").open("a") as file:
        file.write('{"type": "torn')
    assert len(read_attempts(run.directory)) == 2


def test_a_stop_is_no_death(people, tmp_path):
    """A run that is asked to stop while its attempts are not used up is not tried again."""
    (run,) = planned(people, tmp_path, "cl")
    (outcome,) = execute([run], tmp_path, train=always_killed, seconds=0, on_fault=OnFault(retries=5))
    assert outcome.state in ("new", "interrupted") and not read_attempts(run.directory)


# ---- --fail-fast ----


def slow_but_for_s_itm(config, directory, **rest):
    if config.objectives.weights.keys() == {"cl", "itm"} and config.objectives.positives == "annotated":
        raise RunFailed("loss is nan at epoch 1, step 3")
    os.environ["STEP_SECONDS"] = "0.5"
    return trainer(config, directory, **rest)


def test_fail_fast_begins_nothing_after_a_failure_and_without_it_all_go_on(people, tmp_path):
    rows = ("itm", "s-itm", "p-itm", "cl")
    runs, lines = planned(people, tmp_path, *rows), []
    callbacks = NO_CALLBACKS._replace(notify=lines.append)
    outcomes = execute(runs, tmp_path, train=fails_on_s_itm, callbacks=callbacks, on_fault=OnFault(fail_fast=True))
    assert [outcome.state for outcome in outcomes] == ["finished", "failed", "new", "new"]
    assert lines.count("stopping the other runs after a checkpoint (--fail-fast)") == 1
    with pytest.raises(
        SuiteFailed, match="1 of 4 runs failed: table4/s-itm seed 0, and so 2 were stopped or not begun"
    ):
        raise_for(outcomes, fail_fast=True)
    again = execute(planned(people, tmp_path, *rows), tmp_path, train=fails_on_s_itm)
    assert [outcome.state for outcome in again] == ["finished", "failed", "finished", "finished"]


def fails_on_s_itm(config, directory, **rest):
    if config.objectives.weights.keys() == {"cl", "itm"} and config.objectives.positives == "annotated":
        raise RunFailed("loss is nan at epoch 1, step 3")
    return trainer(config, directory, **rest)


def test_fail_fast_has_the_runs_beside_it_checkpoint_and_stop(people, tmp_path):
    runs = planned(people, tmp_path, "itm", "s-itm", "p-itm")
    outcomes = execute(runs, tmp_path, jobs=2, train=slow_but_for_s_itm, on_fault=OnFault(fail_fast=True))
    assert [outcome.state for outcome in outcomes] == ["interrupted", "failed", "new"]
    assert "will be resumed" in state_of(runs[0].directory)[1]


def test_a_failure_that_is_retried_does_not_stop_the_others(people, tmp_path):
    runs = planned(people, tmp_path, "cl", "itm")
    fault = OnFault(retries=2, fail_fast=True)
    outcomes = execute(runs, tmp_path, jobs=2, train=killed_twice, on_fault=fault)
    assert [outcome.state for outcome in outcomes] == ["finished", "finished"]


# ---- worker.log ----


def test_the_output_of_all_attempts_is_in_the_runs_log_and_named_in_its_failure(people, tmp_path):
    (run,) = planned(people, tmp_path, "cl")
    (outcome,) = execute([run], tmp_path, train=killed_twice, on_fault=OnFault(retries=1))
    log = run.directory / WORKER_LOG
    assert outcome.state == "failed" and f"; its output: {log}" in outcome.message
    lines = log.read_text().splitlines()
    begun = [line for line in lines if line.startswith("--- ")]
    assert len(begun) == 2 and all("process" in line for line in begun)
    assert [line for line in lines if line not in begun] == ["attempt 1 prints, and dies", "attempt 2 prints, and dies"]


def prints_and_warns(config, directory, **rest):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    warnings.warn("a warning", stacklevel=1)
    os.system("echo from a child")
    return trainer(config, directory, **rest)


def crashes(config, directory, **rest):
    signal.raise_signal(signal.SIGSEGV)


def test_all_ways_to_print_end_in_the_log_and_a_quiet_run_has_none(people, tmp_path, capfd):
    loud, quiet = planned(people, tmp_path, "cl", "itm")
    execute([loud], tmp_path, jobs=2, train=prints_and_warns)
    execute([quiet], tmp_path, jobs=2, train=trainer)
    text = (loud.directory / WORKER_LOG).read_text()
    assert all(words in text for words in ("to stdout", "to stderr", "UserWarning: a warning", "from a child"))
    assert not (quiet.directory / WORKER_LOG).exists()
    assert "to stdout" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_a_crash_in_a_library_leaves_the_place_in_our_code(people, tmp_path):
    (run,) = planned(people, tmp_path, "cl")
    (outcome,) = execute([run], tmp_path, jobs=2, train=crashes)
    assert "its process died (SIGSEGV" in outcome.message and WORKER_LOG in outcome.message
    text = (run.directory / WORKER_LOG).read_text()
    assert "Fatal Python error: Segmentation fault" in text and 'test_retries.py", line' in text


def test_afterwards_a_process_prints_where_it_did_before(tmp_path, capfd):
    with output_kept(tmp_path):
        os.write(1, b"inside\n")
    os.write(1, b"outside\n")
    assert capfd.readouterr().out == "outside\n" and "inside" in (tmp_path / WORKER_LOG).read_text()
    with output_kept(tmp_path / "missing"):
        os.write(1, b"nowhere to keep it\n")
    assert capfd.readouterr().out == "nowhere to keep it\n"


# ---- the commands ----


@pytest.mark.slow
def test_the_command_tries_again_and_says_how_often_it_failed(people, tmp_path, monkeypatch):
    """The trainer itself, of whose process the system takes all memory but a little at the first attempt alone."""
    folder = tmp_path / "work"
    arguments = ("run", "table4/cl", "--profile", "smoke", "-o", f"data.root={people}", "-o", "optimisation.epochs=1")
    told = rasa(*arguments, "--retries", "1", folder=folder, before=kill_first_worker)
    assert "its process died (SIGKILL" in told.err and "attempt 2 of 2 follows" in told.err
    assert "finished, R@1" in told.out
    (run,) = json.loads(rasa("status", "--json", folder=folder).out)
    assert (run["state"], run["failed_attempts"]) == ("finished", 1)
    assert read_json(next(folder.glob(f"runs/*/*/*/*/{RESULT}")))["run_id"] == run["run_id"]


def kill_first_worker():
    """In the command's process: the first worker that it starts is killed once its run has begun."""
    import threading
    import time
    from multiprocessing import active_children
    from pathlib import Path

    def kill():
        while not list(Path().glob("runs/*/*/*/*/spec.yaml")):
            time.sleep(0.02)
        for child in active_children():
            child.kill()

    threading.Thread(target=kill, daemon=True).start()
