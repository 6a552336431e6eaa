"""Studies, with a stand-in for the trainer: killed workers and drivers, resuming, pruning,
seeds, MLflow's agreement."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import store
from experiments.plan import plan, recorded_runs
from experiments.rundir import RUNS
from experiments.runner import execute
from experiments.spec import load_suite
from experiments.uploader import sync
from rasa.errors import ResourceError, RunFailed, SpecError
from studies.liveness import BEAT, DRIVER, DRIVERS, DriverLock, Watcher, machine
from studies.points import point_name
from studies.session import search
from studies.storage import open_storage
from studies.study import SharedStudy
from studies.trials import states, tally
from tests.helpers import searching
from tests.helpers.searching import EPOCHS, epochs_trained, killed_once, people, points, searched, trainer, write_space

PRD, RATE = "objectives.weights.prd", "optimisation.learning_rate"


def points_of(trials):
    of = states(trials)
    return [point_name(trial.params) for trial in trials if of[trial.number] in ("complete", "pruned", "failed")]


def filed(workspace):
    """MLflow's trials of the workspace's only study, and the study's own run."""
    client = store.open_store(store.default_uri(workspace))
    (experiment,) = [e for e in client.search_experiments() if e.name.startswith("study.")]
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    (parent,) = [run for run in runs if run.data.tags["rasa.kind"] == "study"]
    return {int(run.data.tags["rasa.trial"]): run for run in runs if run.data.tags["rasa.kind"] == "trial"}, parent


def assert_mlflow_agrees(workspace, trials):
    runs, parent = filed(workspace)
    of = states(trials)
    assert sorted(runs) == [trial.number for trial in trials]
    statuses = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
    for trial in trials:
        run = runs[trial.number]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.status == statuses[trial.state.name]
        assert run.data.tags["rasa.state"] == of[trial.number]
        assert run.data.params == {name: str(value) for name, value in trial.params.items()}
        if trial.state.name == "COMPLETE":
            assert run.data.metrics["val/r1"] == trial.value
    assert parent.info.status == "FINISHED"


def test_a_study_finds_better_points_and_mlflow_has_every_trial(tmp_path):
    trials = searched(tmp_path, 8, jobs=2)
    assert tally(trials)._asdict() | {"complete": 8} == tally(trials)._asdict()
    first = trials[0]
    assert first.params == {PRD: 0.5, RATE: 5e-3}  # the row as it is
    assert first.value == pytest.approx(100 - 12 * 0.69897, abs=1e-3)
    assert (first.user_attrs["seconds"], first.user_attrs["epochs"]) == (2.0, EPOCHS)
    assert_mlflow_agrees(tmp_path, trials)
    assert len(set(points_of(trials))) == 8
    assert sync(tmp_path, store.default_uri(tmp_path), print) == (0, 0, 0)  # filed by the study, not once more as runs


def test_nothing_of_the_test_split_is_in_the_storage(tmp_path):
    searched(tmp_path, 2)
    kept = (tmp_path / "studies" / "journal.log").read_text()
    assert "val" in kept and "test" not in kept.replace(str(tmp_path), "")  # the data's folder is on record


@pytest.mark.parametrize("scheme", ["journal", "sqlite"])
def test_trials_whose_processes_are_killed_go_on_from_their_checkpoints(tmp_path, scheme):
    trials = searched(tmp_path, 5, f"{scheme}:///{tmp_path}/s.file", jobs=2, train=killed_once)
    counts = tally(trials)
    assert (counts.complete, counts.retried, counts.failed, len(trials)) == (5, 5, 0, 10)
    assert epochs_trained(tmp_path) == 5 * EPOCHS  # none was trained twice
    again = {trial.user_attrs["retry_of"]: trial for trial in trials if "retry_of" in trial.user_attrs}
    assert sorted(again) == [trial.number for trial in trials if trial.state.name == "FAIL"]
    assert all(trials[number].params == trial.params for number, trial in again.items())
    assert_mlflow_agrees(tmp_path, trials)


def test_a_trial_that_always_dies_is_given_up(tmp_path):
    trials = searched(tmp_path, 1, train=searching.always_killed)
    assert (tally(trials).failed, tally(trials).retried) == (1, 3)
    assert trials[-1].user_attrs["reason"] == "its process died (killed, or out of memory), 4 times"


def fails(config, directory, **rest):
    raise RunFailed("loss is nan")


def test_trials_that_all_fail_end_the_study_with_their_reason(tmp_path):
    with pytest.raises(RunFailed, match="5 trials in a row failed, the last one so: loss is nan"):
        searched(tmp_path, 40, train=fails)
    assert len(list((tmp_path / RUNS).glob("*/*/*/*/failure.json"))) == 5


def fails_if_heavy(config, directory, **rest):
    if config.objectives.weights["prd"] > 1:
        raise RunFailed("loss is nan")
    return trainer(config, directory, **rest)


def test_a_trial_that_fails_by_itself_counts_and_is_not_tried_again(tmp_path):
    trials = searched(tmp_path, 6, train=fails_if_heavy)
    counts = tally(trials)
    assert counts.failed > 0 and counts.complete + counts.failed == 6 and counts.retried == 0
    assert {t.params[PRD] > 1 for t in trials if t.state.name == "FAIL"} == {True}
    assert_mlflow_agrees(tmp_path, trials)


def test_a_resumed_study_goes_on_as_the_unbroken_one_and_repeats_no_point(tmp_path):
    for name in ("unbroken", "resumed"):
        (tmp_path / name).mkdir()
    whole = searched(tmp_path / "unbroken", 7, sampler={"name": "tpe", "startup_trials": 4})
    for total in (2, 5, 7):
        parts = searched(tmp_path / "resumed", total, sampler={"name": "tpe", "startup_trials": 4})
    assert [trial.params for trial in parts] == [trial.params for trial in whole]
    assert len(set(points_of(parts))) == 7


def test_the_same_command_again_does_nothing(tmp_path):
    searched(tmp_path, 3)
    before = epochs_trained(tmp_path)
    assert len(searched(tmp_path, 3, train=fails)) == 3
    assert epochs_trained(tmp_path) == before


STEPPED = {
    "parameters": {PRD: {"low": 0.1, "high": 0.3, "step": 0.1}, RATE: {"type": "categorical", "choices": [1e-4, 1e-3]}}
}


def test_a_small_space_is_searched_through_without_repeats_and_then_is_at_its_end(tmp_path, capsys):
    trials = searched(tmp_path, 30, jobs=2, **STEPPED)
    assert tally(trials).complete == 6
    assert len(set(points_of(trials))) == 6
    assert "no point is left, or none is found, that has not been tried" in capsys.readouterr().err
    assert all(t.user_attrs["skipped"].startswith("repeats trial") for t in trials if t.state.name == "FAIL")
    assert_mlflow_agrees(tmp_path, trials)


def test_points_outside_the_constraints_are_never_trained(tmp_path):
    rule = {"name": "light", "sum": {PRD: 1}, "at_most": 0.6}
    trials = searched(tmp_path, 6, constraints=[rule])
    complete = [trial for trial in trials if trial.state.name == "COMPLETE"]
    assert len(complete) == 6 and all(trial.params[PRD] <= 0.6 for trial in complete)
    assert len(list((tmp_path / RUNS).glob("*/*/*/*/calls"))) == 6
    outside = [trial for trial in trials if trial.params[PRD] > 0.6]
    assert outside and {trial.user_attrs["skipped"] for trial in outside} == {"outside light"}


def test_a_bound_on_a_cost_is_told_to_the_sampler(tmp_path):
    (trial,) = searched(tmp_path, 1, constraints=[{"name": "small", "metric": "cost/peak_mib", "at_most": 60}])
    assert trial.constraints == {"small": 40.0}


def test_seeds_are_averaged_and_kept(tmp_path):
    trials = searched(tmp_path, 2, given=[0, 1, 4])
    assert [len(trial.user_attrs["values_by_seed"]) for trial in trials] == [3, 3]
    first = [value for (value,) in trials[0].user_attrs["values_by_seed"]]
    assert first == pytest.approx([first[0], first[0] + 0.1, first[0] + 0.4])
    assert trials[0].value == pytest.approx(sum(first) / 3)
    assert sorted(trials[0].intermediate_values) == list(range(1, 3 * EPOCHS + 1))


def test_two_objectives_have_a_pareto_front(tmp_path):
    import optuna

    trials = searched(tmp_path, 5, objectives=[{"metric": "val/r1"}, {"metric": "cost/seconds"}])
    assert all(len(trial.values) == 2 and trial.values[1] == 2.0 for trial in trials)
    study = optuna.load_study(study_name="toy/smoke", storage=open_storage(None, tmp_path).optuna)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert {trial.number for trial in study.best_trials} == {max(trials, key=lambda t: t.values[0]).number}


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_pruning_saves_epochs_and_loses_nothing_of_the_best(tmp_path, pruner):
    """The stand-in's curves do not cross, so what a pruner stops is truly worse:
    the best stays, and epochs are saved."""
    sampler = {"name": "random"}  # so that both studies try the same points
    for name in ("all", "pruned"):
        (tmp_path / name).mkdir()
    every = searched(tmp_path / "all", 12, sampler=sampler)
    some = searched(tmp_path / "pruned", 12, sampler=sampler, pruner={"name": pruner, "startup_trials": 4})
    assert [trial.params for trial in some] == [trial.params for trial in every]
    assert tally(some).pruned > 0 and tally(some).complete + tally(some).pruned == 12
    best = max(trial.value for trial in every)
    assert max(trial.value for trial in some if trial.state.name == "COMPLETE") == best
    assert epochs_trained(tmp_path / "pruned") == sum(t.user_attrs["epochs"] for t in some)
    assert epochs_trained(tmp_path / "pruned") < 0.9 * epochs_trained(tmp_path / "all") == 0.9 * 12 * EPOCHS
    assert_mlflow_agrees(tmp_path / "pruned", some)


def test_wilcoxon_stops_a_trial_between_seeds(tmp_path):
    trials = searched(
        tmp_path,
        4,
        given=range(7),
        pruner={"name": "wilcoxon"},
        sampler={"name": "random"},
        base={"optimisation": {"epochs": 1}},
        seeds=list(range(7)),
    )
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert pruned and all(4 <= len(trial.intermediate_values) < 7 for trial in pruned)
    assert all(trial.user_attrs["epochs"] == len(trial.intermediate_values) for trial in pruned)


def test_another_space_under_the_same_name_is_refused_and_a_new_name_is_not(tmp_path):
    searched(tmp_path, 1)
    wider = searching.SPACE["parameters"] | {PRD: {"low": 0.1, "high": 3.0}}
    with pytest.raises(SpecError) as fault:
        searched(tmp_path, 2, parameters=wider)
    text = str(fault.value)
    assert "the study toy/smoke in journal:///" in text
    assert f"space.parameters.{PRD}.high (2.0 -> 3.0); take it back, or give --name for a new study" in text
    assert len(searched(tmp_path, 2, parameters=wider, name="toy-wide")) == 2
    with pytest.raises(SpecError, match=r"seeds \(\[0\] -> \[0, 1\]\)"):
        searched(tmp_path, 2, given=[0, 1])


def test_a_run_that_another_suite_has_finished_is_not_trained_again(tmp_path):
    suite = load_suite("table4")
    overrides = [f"data.root={people(tmp_path)}", f"optimisation.epochs={EPOCHS}"]
    execute(plan(suite, [suite.row("m-rtd")], "smoke", overrides, [0], tmp_path), tmp_path, train=trainer)
    (trial,) = searched(tmp_path, 1, train=fails)
    assert trial.state.name == "COMPLETE" and trial.value == pytest.approx(91.612, abs=1e-3)
    assert sorted(trial.intermediate_values) == [1, 2, 3, 4]


def test_finished_rows_of_a_sweep_are_trials_that_cost_nothing(tmp_path):
    rows = [
        {
            "name": f"w{weight}",
            "extends": "table4/m-rtd",
            "changes": {"objectives": {"weights": {"cl": 0.5, "itm": 1, "prd": weight, "mlm": 1, "rtd": 0.5}}},
        }
        for weight in (0.2, 0.4, 5)
    ]
    file = tmp_path / "sweep.yaml"
    file.write_text(json.dumps({"suite": "sweep", "rows": rows}))
    suite = load_suite(str(file))
    overrides = [f"data.root={people(tmp_path)}", f"optimisation.epochs={EPOCHS}"]
    execute(plan(suite, suite.rows, "smoke", overrides, [0, 1], tmp_path), tmp_path, train=trainer)
    other = [*overrides, "optimisation.batch_size=16"]
    execute(plan(suite, suite.rows[:1], "smoke", other, [0], tmp_path), tmp_path, train=trainer)
    trials = searched(tmp_path, 2, given=[0, 1], start_from=["sweep"])
    assert (tally(trials).imported, tally(trials).complete) == (2, 2)
    imported = {t.user_attrs["imported"]: t for t in trials if "imported" in t.user_attrs}
    assert sorted(imported) == ["sweep/w0.2", "sweep/w0.4"]  # 5 lies outside, and the batch of 16 is another recipe
    assert imported["sweep/w0.2"].params == {PRD: 0.2, RATE: 5e-3}
    assert len(imported["sweep/w0.2"].user_attrs["values_by_seed"]) == 2
    assert len(searched(tmp_path, 2, given=[0, 1], start_from=["sweep"])) == len(trials)


def drive(workspace, total, jobs, url=""):
    """A driver in a process of its own, whose trials pause for a while in each epoch."""
    found = search(points(Path(workspace)), url or None, int(total), int(jobs), train=slowly, grace=600)
    print(json.dumps(tally(found)._asdict()))


def slowly(config, directory, log, **rest):
    import time

    def logged(group, step, values):
        log(group, step, values)
        time.sleep(float(os.environ.get("EPOCH_SECONDS", "0")) if group == "val" else 0)

    return trainer(config, directory, logged, **rest)


def started_driver(workspace, total, jobs, seconds, url=""):
    people(workspace)
    write_space(workspace)
    code = "import sys, tests.test_study; tests.test_study.drive(*sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-c", code, workspace, str(total), str(jobs), url],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "EPOCH_SECONDS": str(seconds)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition):
    import time

    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within a minute")


def checkpoints(workspace):
    return list(workspace.glob("runs/*/*/*/*/checkpoints/step-*"))


def test_a_driver_that_is_killed_leaves_its_trials_to_the_next(tmp_path):
    driver = started_driver(tmp_path, 4, 2, 0.5)
    wait_for(lambda: len(checkpoints(tmp_path)) >= 3)
    driver.kill()
    driver.communicate(timeout=60)
    trials = searched(tmp_path, 4, jobs=2)
    counts = tally(trials)
    assert (counts.complete, counts.retried, counts.running, counts.waiting) == (4, 2, 0, 0)
    reasons = {trial.user_attrs["reason"] for trial in trials if trial.state.name == "FAIL"}
    assert reasons == {"its driver died"}
    assert epochs_trained(tmp_path) <= 4 * EPOCHS + 2  # an epoch that was under way in each of the two at most
    assert len(set(points_of(trials))) == 4
    assert_mlflow_agrees(tmp_path, trials)


def test_an_interrupted_study_checkpoints_and_the_same_command_goes_on(tmp_path):
    driver = started_driver(tmp_path, 4, 2, 0.5)
    wait_for(lambda: len(checkpoints(tmp_path)) >= 3)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: the workers hear it too
    out, error = driver.communicate(timeout=60)
    assert driver.returncode != 0 and "KeyboardInterrupt" in error and out == ""
    trials = searched(tmp_path, 4, jobs=2)
    assert tally(trials).complete == 4
    stopped = [trial for trial in trials if trial.state.name == "FAIL"]
    assert len(stopped) == 2 and {trial.user_attrs["reason"] for trial in stopped} == {"interrupted"}
    assert {trial.user_attrs["deaths"] for trial in trials if "retry_of" in trial.user_attrs} == {0}
    assert epochs_trained(tmp_path) == 4 * EPOCHS


def test_two_drivers_share_a_study_and_no_trial_is_there_twice(tmp_path):
    people(tmp_path)
    drivers = [started_driver(tmp_path, 8, 1, 0.1) for _ in range(2)]
    for driver in drivers:
        out, error = driver.communicate(timeout=120)
        assert driver.returncode == 0, error
        assert json.loads(out)["complete"] == 8
    trials = searched(tmp_path, 8, train=fails)
    assert len(trials) == 8 and len(set(points_of(trials))) == 8
    assert len({trial.user_attrs[DRIVER] for trial in trials}) == 2
    assert_mlflow_agrees(tmp_path, trials)


def shared(workspace, name="me", grace=60.0, clock=lambda: 0.0):
    storage = open_storage(None, workspace)
    return SharedStudy(points(workspace), storage, name, Watcher(workspace, grace, clock), print)


def test_a_silent_trial_of_another_machine_is_taken_over_after_the_grace_period_and_no_sooner(tmp_path):
    now = [0.0]
    far, near = shared(tmp_path, "far-away.1.a"), shared(tmp_path, "me", 60.0, lambda: now[0])
    theirs = far.next(1)
    assert near.next(1) is None
    far.beat(theirs, {"count": 1})
    for now[0] in (50.0, 100.0):  # a beat between the looks
        assert near.next(1) is None
    now[0] = 111.0
    mine = near.next(1)
    assert (mine.number, mine.params) == (1, theirs.params)
    assert states(near.trials()) == {0: "retried", 1: "running"}


def test_a_driver_that_was_taken_for_dead_is_told_so_and_changes_nothing(tmp_path):
    from optuna.exceptions import UpdateFinishedTrialError

    now = [0.0]
    far, near = shared(tmp_path, "far-away.1.a"), shared(tmp_path, "me", 60.0, lambda: now[0])
    theirs = far.next(1)
    assert near.next(1) is None
    now[0] = 61.0
    assert near.next(1).number == 1
    for change in (
        lambda: far.beat(theirs, {"count": 2}),
        lambda: far.prune(theirs, 1),
        lambda: far.again(theirs, "interrupted", died=False),
    ):
        with pytest.raises(UpdateFinishedTrialError):
            change()
    assert len(near.trials()) == 2


def test_a_trial_that_was_cut_off_before_it_had_a_point_costs_no_budget(tmp_path):
    now = [0.0]
    own = shared(tmp_path, "me", 60.0, lambda: now[0])
    first = own.next(3)
    own.study.ask()  # by a process that died before it had named the parameters
    assert own.next(2) is None
    now[0] = 61.0
    second = own.next(2)
    assert (first.number, second.number) == (0, 2)
    assert states(own.trials()) == {0: "running", 1: "skipped", 2: "running"}


def test_on_this_machine_a_driver_s_lock_says_at_once_whether_it_lives(tmp_path):
    class Trial:
        number = 0

        def __init__(self, driver):
            self.user_attrs = {DRIVER: driver, BEAT: None}

    watcher = Watcher(tmp_path, 60.0, lambda: 0.0)
    with DriverLock(tmp_path) as driver:
        assert driver.name.startswith(f"{machine()}.{os.getpid()}.")
        assert watcher.dead([Trial(driver.name)], "me") == []
    assert list((tmp_path / DRIVERS).iterdir()) == []
    killed = f"{machine()}.1.abc"
    (tmp_path / DRIVERS / f"{killed}.lock").touch()
    assert len(watcher.dead([Trial(killed)], "me")) == 1


def test_a_tracker_that_is_away_costs_a_line_and_gets_everything_later(tmp_path, capsys):
    trials = search(points(tmp_path), None, 2, 1, tracking_uri="http://127.0.0.1:9", train=trainer)
    assert tally(trials).complete == 2
    assert capsys.readouterr().err.count("tracking: http://127.0.0.1:9") == 1
    assert_mlflow_agrees(tmp_path, searched(tmp_path, 2, train=fails))


def test_missing_data_is_refused_before_there_is_a_study(tmp_path):
    bound = points(tmp_path)
    bound.overrides = (f"data.root={tmp_path}/nowhere",)
    with pytest.raises(ResourceError, match="nowhere"):
        search(bound, None, 1, 1, train=trainer)
    assert not (tmp_path / "studies").exists()


def test_a_study_s_runs_are_listed_as_runs(tmp_path):
    searched(tmp_path, 2)
    found = recorded_runs(tmp_path, "study.toy")
    assert [run.state for run in found] == ["finished"] * 2
