"""Runs until decided, with a stand-in for the trainer that writes what a run finds of every query."""

import json
import time

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from experiments.evidence import queries_in
from experiments.plan import data_reader, plan
from experiments.run_commands import run as run_command
from experiments.rundir import ABOUT, LOCK, RESULT, write_json
from experiments.runner import execute
from experiments.spec import load_suite, read_spec
from experiments.state_commands import plan as plan_command
from experiments.suite import Suite
from experiments.until import fitting, look, rows_of_steps, seen_before, standing, until_decided, words
from rasa.errors import RunFailed, SpecError
from rasa.lock import Lock
from tests.helpers.people import write_people

TINY = """
suite: tiny
title: Four rows
labels: [Setting]
base: {optimisation: {epochs: 1}}
rows:
- {name: cl, labels: [CL], changes: {objectives: {weights: {cl: 0.5}}}, paper: {r1: 60}}
- {name: large, labels: [large], versus: cl, changes: {objectives: {weights: {cl: 0.6}}}, paper: {r1: 90}}
- {name: same, labels: [same], versus: large, changes: {objectives: {weights: {cl: 0.7}}}, paper: {r1: 95}}
- {name: noisy, labels: [noisy], versus: same, changes: {objectives: {weights: {cl: 0.8}}}, paper: {r1: 99}}
"""
LEVELS = {0.5: 0.4, 0.6: 0.7, 0.7: 0.7, 0.8: 0.7}
PEOPLE = np.arange(4000) // 2


def trainer(config, directory, log, should_stop, resume_from_step, cache, notify):
    """Hits of 4,000 queries: the rows `large` and `same` answer the same ones, `noisy` swings with the seed."""
    weight = config.objectives.weights["cl"]
    swing = {0: -0.1, 1: 0.1, 2: 0.0}[config.seed % 3] if weight == 0.8 else 0.0
    own = np.random.default_rng(config.seed + 1).normal(0, 0.002)  # of the seed, in all rows
    shared = np.random.default_rng(0).random(4000)
    hits = shared < LEVELS[weight] + swing + own
    jitter = np.random.default_rng([config.seed, int(100 * weight)]).integers(4000, size=12)
    hits[jitter] = True
    arrays = {"first_rank": np.where(hits, 1, 3), "average_precision": hits.astype(float), "identity": PEOPLE}
    save_file(arrays, directory / "predictions.safetensors")
    return {"test": {"r1": 100 * float(hits.mean())}, "cost": {"seconds": 2.0}}


def fails_on_a_seed(config, directory, **rest):
    if config.seed == 1 and config.objectives.weights["cl"] == 0.6:
        raise RunFailed("loss is nan")
    return trainer(config, directory, **rest)


@pytest.fixture
def suite(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    return read_spec(Suite, file, str(file))


@pytest.fixture
def overrides(tmp_path):
    return [f"data.root={write_people(tmp_path / 'people', train=4, val=2, test=2, images=1)}"]


def driver(suite, overrides, workspace, most=8, margin=1.0, trains=trainer, done=None):
    """The two functions that the loop takes, and a list of what was executed."""
    read, rows, done = data_reader(), rows_of_steps(suite, suite.rows), [] if done is None else done

    def now(tried):
        return look(suite, plan(suite, rows, "smoke", overrides, range(most), workspace, read), most, margin, tried)

    def bring(runs, seconds):
        outcomes = execute(runs, workspace, train=trains, seconds=seconds)
        done.extend((run.about.row, run.about.seed) for run in runs)
        return outcomes

    return now, bring, done


def test_seeds_are_added_to_undecided_rows_alone(suite, overrides, tmp_path):
    """30 points and none are decided by the third seed; `noisy` never is, and takes `same`,
    which it goes on from, along."""
    said = []
    now, bring, done = driver(suite, overrides, tmp_path)
    ended = until_decided(now, bring, said.append)
    verdicts = {row: (each.verdict, each.n, each.after) for row, each in ended.look.decisions.items()}
    assert verdicts == {"large": ("shown", 3, 3), "same": ("equivalent", 3, 3), "noisy": ("undecided", 8, None)}
    assert sorted(done) == sorted(
        [(row, seed) for row in ("cl", "large", "same", "noisy") for seed in range(3)]
        + [(row, seed) for row in ("same", "noisy") for seed in range(3, 8)]
    )
    assert said == [
        "0 of 3 steps decided; next look after 3 seeds: 12 runs of 4 rows",
        "2 of 3 steps decided; next look after 5 seeds: 4 runs of 2 rows",
        "2 of 3 steps decided; next look after 8 seeds: 6 runs of 2 rows",
        "2 of 3 steps decided",
    ]
    assert (ended.stopped, len(ended.outcomes)) == (False, 22)
    assert ended.reason == "no runs are left for noisy: all seeds are used, or theirs failed"
    again, never, _ = driver(suite, overrides, tmp_path)
    assert until_decided(again, never, said.append).outcomes == []  # what is finished counts
    shown = words(ended.look.decisions["large"])
    assert shown.startswith("large - cl: shown, +") and shown.endswith("3 seeds, published +30.00 inside")


def test_all_decided_ends_at_once(suite, overrides, tmp_path):
    few = suite.model_copy(update={"rows": suite.rows[:3]})
    now, bring, done = driver(few, overrides, tmp_path)
    ended = until_decided(now, bring, lambda line: None)
    assert (ended.reason, len(done), ended.look.open) == ("every step is decided", 9, [])


def test_a_failed_seed_is_not_tried_for_ever(suite, overrides, tmp_path):
    """Seed 1 of `large` fails: its steps have two seeds at the first look, and get their third at the second."""
    few = suite.model_copy(update={"rows": suite.rows[:3]})
    now, bring, done = driver(few, overrides, tmp_path, trains=fails_on_a_seed)
    ended = until_decided(now, bring, lambda line: None)
    assert done.count(("large", 1)) == 1
    assert {row: (each.verdict, each.seeds) for row, each in ended.look.decisions.items()} == {
        "large": ("shown", (0, 2, 3, 4)),
        "same": ("equivalent", (0, 2, 3, 4)),
    }
    assert [outcome.state for outcome in ended.outcomes].count("failed") == 1


def test_budget(suite, overrides, tmp_path):
    """Runs take 2 s each by their measured cost: of seeds of four rows two fit in 17 s, and nothing in no time."""
    rows = suite.rows
    execute(plan(suite, rows, "smoke", overrides, [0], tmp_path), tmp_path, train=trainer)
    runs = [run for run in plan(suite, rows, "smoke", overrides, range(5), tmp_path) if run.state == "new"]
    assert [run.seconds for run in runs] == [2.0] * 16
    assert len(fitting(runs, 1, 17.0)) == 8 and len(fitting(runs, 2, 17.0)) == 16 and fitting(runs, 1, 7.9) == []
    assert len(fitting(runs, 1, None)) == 16 and fitting(runs, 1, -1.0) == []
    now, bring, done = driver(suite, overrides, tmp_path)
    ended = until_decided(now, bring, lambda line: None, budget=7.0)
    assert (
        done == [] and ended.reason == "the budget is spent; the same command goes on from here with large, same, noisy"
    )
    assert not ended.stopped


def test_time_that_is_up_stops_a_run(suite, overrides, tmp_path):
    """The trainer waits until it is asked to stop; then the run is interrupted, and no person has stopped it."""

    def waits(config, directory, should_stop, **rest):
        began = time.monotonic()
        while not should_stop() and time.monotonic() - began < 20:
            time.sleep(0.01)
        raise KeyboardInterrupt

    now, bring, done = driver(suite, overrides, tmp_path, trains=waits)
    ended = until_decided(now, bring, lambda line: None, budget=6.0)
    states = [(outcome.state, outcome.reached) for outcome in ended.outcomes]
    assert len(done) == 12 and states == [("interrupted", True)] + 11 * [("new", False)]
    assert ended.reason.startswith("the budget is spent") and not ended.stopped


def test_runs_of_another_process_are_waited_for(suite, overrides, tmp_path):
    """One run of the first look is locked: the others are brought to their end, and no seeds beyond the look begun."""
    rows = suite.rows
    (busy,) = plan(suite, [suite.row("same")], "smoke", overrides, [2], tmp_path)
    busy.directory.mkdir(parents=True)
    write_json(busy.directory / ABOUT, busy.about.model_dump(mode="json"))
    now, bring, done = driver(suite, overrides, tmp_path)
    with Lock(busy.directory / LOCK):
        ended = until_decided(now, bring, lambda line: None)
    assert len(done) == 3 * len(rows) - 1 and max(seed for _, seed in done) == 2
    assert ended.reason.startswith("runs going on in another process: 1;")


def test_a_person_who_stops_it_has_stopped_it(suite, overrides, tmp_path):
    def interrupted(config, directory, **rest):
        raise KeyboardInterrupt

    now, bring, _ = driver(suite, overrides, tmp_path, trains=interrupted)
    ended = until_decided(now, bring, lambda line: None)
    assert (ended.reason, ended.stopped) == ("stopped", True)


def test_rows_of_steps(suite):
    assert [row.name for row in rows_of_steps(suite, [suite.row("noisy")])] == ["same", "noisy"]
    assert len(rows_of_steps(load_suite("table4"), load_suite("table4").rows)) == 10
    with pytest.raises(SpecError, match="nothing to decide: no row of cl names"):
        rows_of_steps(suite, [suite.row("cl")])


def test_predictions_of_another_run_do_not_count(tmp_path):
    file = tmp_path / "predictions.safetensors"
    arrays = {"first_rank": np.array([1, 2]), "average_precision": np.array([1.0, 0.5]), "identity": np.array([3, 4])}
    save_file(arrays, file)
    assert queries_in(file, 50.0).identity_T.tolist() == [3, 4]
    assert queries_in(file, 51.0) is None and queries_in(tmp_path / "none", 50.0) is None
    save_file({name: arrays[name] for name in ("first_rank", "average_precision")}, file)
    assert queries_in(file, 50.0) is None
    file.write_bytes(file.read_bytes()[:20])
    assert queries_in(file, 50.0) is None


def _asked(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


def test_plan_shows_the_next_look(suite, overrides, tmp_path):
    target = ("--workspace", tmp_path, "-o", overrides[0])
    done = _asked(plan_command, tmp_path / "tiny.yaml", *target, "--until", "decided")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1].startswith("0 of 3 steps decided; next look after 3 seeds: 12 runs of 4 rows")
    assert "next look" not in _asked(plan_command, tmp_path / "tiny.yaml", *target).stdout  # no look has been possible
    runs = plan(suite, suite.rows, "smoke", overrides, range(3), tmp_path)
    assert not seen_before(runs, tmp_path)
    execute(runs, tmp_path, train=trainer)
    assert seen_before(runs, tmp_path) and (runs[0].directory / RESULT).exists()
    lines = _asked(plan_command, tmp_path / "tiny.yaml", *target, "--seeds", "0,1,2").stdout.splitlines()
    assert lines[-2] == "all 12 finished"
    assert lines[-1].startswith("2 of 3 steps decided; next look after 5 seeds: 4 runs of 2 rows (rasa plan ")
    lines = _asked(plan_command, tmp_path / "tiny.yaml", *target, "--until", "decided", "--jobs", 2).stdout.splitlines()
    assert lines[0].startswith("large - cl: shown") and "same seed 3" in lines[3]
    assert lines[-1] == "2 of 3 steps decided; next look after 5 seeds: 4 runs of 2 rows, about 4 s"
    read = json.loads(_asked(plan_command, tmp_path / "tiny.yaml", *target, "--until", "decided", "--json").stdout)
    assert [step["verdict"] for step in read["steps"]] == ["shown", "equivalent", "undecided"]
    assert (read["next_look"], len(read["runs"]), read["steps"][0]["decided"]) == (5, 4, True)
    narrow = _asked(plan_command, tmp_path / "tiny.yaml", *target, "--until", "decided", "--margin", "0.01").stdout
    assert narrow.splitlines()[-1].startswith("1 of 3 steps decided")
    assert standing(look(suite, runs, 3, 1.0)).startswith("0 of 3")  # as planned before they ran


@pytest.mark.parametrize(
    ("command", "options", "said"),
    [
        (run_command, ["--until", "decided", "--seeds", "0,1"], "--seeds and --until decided do not go together"),
        (run_command, ["--until", "decided", "--rerun-stale"], "--rerun-stale and --until decided do not go together"),
        (run_command, ["--budget", "8h"], "--budget needs --until decided"),
        (run_command, ["--max-seeds", "5"], "--max-seeds needs --until decided"),
        (plan_command, ["--margin", "2"], "--margin needs --until decided"),
        (run_command, ["--until", "decided", "--budget", "soon"], "'soon': give hours, minutes or seconds"),
        (run_command, ["--until", "decided", "--max-seeds", "2"], "Invalid value for '--max-seeds'"),
    ],
)
def test_options_that_do_not_go_together(command, options, said, tmp_path):
    done = _asked(command, "table4", "--workspace", tmp_path, *options)
    assert done.exit_code == 2 and said in done.stderr
    assert [*tmp_path.iterdir()] == []
