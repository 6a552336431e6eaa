"""Eight drivers of two hosts on one PostgreSQL, killed at random: nothing is lost, and nothing is there twice.

The hosts have networks and names of their own; they share a disk. Four drivers run a suite, four a study. Trainings are
stand-ins of about a second.
"""

import os
import random
import signal
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from experiments.asking import pages
from experiments.databases import advisory_lock
from experiments.plan import recorded_runs
from experiments.store import open_store, tracking_uri
from studies.points import Points
from studies.session import search
from studies.space import load_space
from studies.storage import open_storage
from studies.trials import states, tally
from tests.helpers import searching, servers, stand_in
from tests.helpers.hosts import hosts
from tests.helpers.many_rows import write_suite
from tests.helpers.people import write_people
from tests.helpers.processes import Command, forked, rasa, wait_until

ROWS, SEEDS, TRIALS, KILLS = 2, 12, 24, 50
STATUSES = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
GRACE = 15.0  # seconds of silence after which a driver of another host is taken for dead


def on(host):
    """In a driver of a suite: at that host, and with the stand-in for the trainer."""
    from rasa.training import train

    host.enter()
    train.train = stand_in.trainer


def slow_trainer(config, directory, log, **rest):
    """A trial of four epochs of a quarter of a second."""

    def logged(group, step, values):
        time.sleep(0.25 if group == "train" else 0)
        log(group, step, values)

    return searching.trainer(config, directory, logged, **rest)


def study_points(file, people, workspace):
    return Points(load_space(str(file)), None, [f"data.root={people}"], None, workspace)


def drive_study(host, file, people, workspace, storage, uri, err):
    os.setsid()
    for number in (1, 2):
        os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), number)
    host.enter()
    search(study_points(file, people, workspace), storage, TRIALS, 1, grace=GRACE, tracking_uri=uri, train=slow_trainer)


def nothing_is_left(config, directory, **rest):
    raise AssertionError(f"{directory} was to be trained after the study had ended")


def victims(process):
    """The driver and the processes that it has started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [process.pid, *map(int, children.read_text().split())]


def under_fire(start, kills, draw):
    """Begin all drivers, kill at random and begin those that died again, until all have ended well; how often each."""
    running, killed = [begin() for begin in start], Counter()
    while any(process.exitcode != 0 for process in running):
        time.sleep(draw.uniform(0.3, 2.0))
        for number, process in enumerate(running):
            if process.exitcode not in (None, 0):
                running[number] = start[number]()
        alive = [process for process in running if process.exitcode is None]
        if alive and killed.total() < kills:
            process = draw.choice(alive)
            try:
                victim = draw.choice(victims(process))
                os.kill(victim, signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
            killed["driver" if victim == process.pid else "worker"] += 1
            if victim == process.pid:
                process.join()
    return killed


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shared", [True, False], ids=["one-workspace", "two-workspaces"])
def test_eight_drivers_of_two_hosts_that_are_killed_lose_and_double_nothing(tmp_path, shared):
    """A workspace for both hosts; or one each, with seeds of its own. The study is one in either case."""
    people = write_people(tmp_path / "people", train=4, val=2, test=2, images=1)
    suite, file = write_suite(tmp_path, ROWS), tmp_path / "toy.yaml"
    searching.write_space(tmp_path)
    with hosts(2) as (address, two), servers.postgres_or_skip(address) as server:
        uri, storage = server.url, server.database("trials")
        places = [tmp_path / "work"] * 2 if shared else [tmp_path / "a", tmp_path / "b"]
        seeds = [f"0-{SEEDS - 1}"] * 2 if shared else [f"0-{SEEDS // 2 - 1}", f"{SEEDS // 2}-{SEEDS - 1}"]
        said = tmp_path / "said"
        said.mkdir()
        commands = []

        def suite_driver(number):
            environment = {"MLFLOW_TRACKING_URI": uri, "STEP_SECONDS": "0.2"}
            words = ("run", suite, "-o", f"data.root={people}", "--seeds", seeds[number])
            before = partial(on, two[number])
            commands.append(Command(*words, folder=places[number], environment=environment, before=before, output=said))
            return commands[-1].process

        def study_driver(number):
            err = said / f"study-{number}"
            return forked(drive_study, two[number], file, people, places[number], storage, uri, err)

        drivers = [partial(kind, number % 2) for kind in (suite_driver, study_driver) for number in range(4)]
        for place in places:
            place.mkdir(exist_ok=True)
        began = time.monotonic()
        killed = under_fire(drivers, KILLS, random.Random(0))
        seconds = time.monotonic() - began
        messages = "\n".join(path.read_text() for path in said.iterdir())
        assert "Traceback" not in messages, messages
        assert killed.total() == KILLS
        for place in dict.fromkeys(places):
            rasa("sync", folder=place, environment={"MLFLOW_TRACKING_URI": uri})
            search(study_points(file, people, place), storage, TRIALS, 1, tracking_uri=uri, train=nothing_is_left)
        client = open_store(tracking_uri(tmp_path, uri))
        found = searching_trials(storage)
        counts = tally(found)._asdict()
        print(f"{killed.total()} killed {dict(killed)}, {seconds:.0f} s, {ROWS * SEEDS} runs, trials {counts}")
        runs = [run for place in dict.fromkeys(places) for run in recorded_runs(place)]
        audit_suite(client, [run for run in runs if run.about.suite == "own"])
        audit_study(client, found)


def audit_suite(client, runs):
    """Runs of the store are the finished directories, each once, with every step once, under one run of each row."""
    experiment = client.get_experiment_by_name("own").experiment_id
    every = list(pages(client, experiment, {}))
    parents = {run.info.run_id: run for run in every if run.data.tags["rasa.kind"] == "row"}
    seeds = [run for run in every if run.data.tags["rasa.kind"] == "seed"]
    wanted = sorted((f"row-{row}", str(seed)) for row in range(ROWS) for seed in range(SEEDS))
    assert sorted((run.about.row, str(run.about.seed)) for run in runs if run.state == "finished") == wanted
    assert sorted((run.data.tags["rasa.row"], run.data.tags["rasa.seed"]) for run in seeds) == wanted
    assert sorted(run.data.tags["rasa.row"] for run in parents.values()) == [f"row-{row}" for row in range(ROWS)]
    assert {run.info.status for run in every} == {"FINISHED"}
    for run in seeds:
        assert parents[run.data.tags["mlflow.parentRunId"]].data.tags["rasa.row"] == run.data.tags["rasa.row"]
        history = client.get_metric_history(run.info.run_id, "train/loss")
        assert sorted(point.step for point in history) == list(range(stand_in.STEPS))
    for run in parents.values():
        assert run.data.metrics["test/r1_n"] == SEEDS
        assert run.data.metrics["test/r1"] == pytest.approx(50 + (SEEDS - 1) / 2)


def searching_trials(storage):
    (study,) = open_storage(storage, Path()).optuna.get_all_studies()
    return open_storage(storage, Path()).optuna.get_all_trials(study._study_id)


def audit_study(client, found):
    """Every trial has a number of its own, none is missing, and the store has each once, as Optuna has it."""
    counts, of = tally(found), states(found)
    assert [trial.number for trial in found] == list(range(len(found)))
    assert counts.complete + counts.pruned + counts.failed == TRIALS and counts.running == counts.waiting == 0
    ended = [str(trial.params) for trial in found if of[trial.number] in ("complete", "pruned", "failed")]
    assert len(set(ended)) == TRIALS
    experiment = client.get_experiment_by_name("study.toy").experiment_id
    every = list(pages(client, experiment, {}))
    (parent,) = [run for run in every if run.data.tags["rasa.kind"] == "study"]
    filed = [run for run in every if run.data.tags["rasa.kind"] == "trial"]
    told = sorted((int(run.data.tags["rasa.trial"]), run.info.status, run.data.tags["rasa.state"]) for run in filed)
    assert told == [(trial.number, STATUSES[trial.state.name], of[trial.number]) for trial in found]
    assert {run.data.tags["mlflow.parentRunId"] for run in filed} == {parent.info.run_id}


def hold(host, url, mark):
    host.enter()
    with advisory_lock(url, "rows"):
        mark.touch()
        time.sleep(600)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_host_that_vanishes_lets_go_of_the_database_lock(tmp_path):
    """Its cable is cut, so that the server hears neither a word nor an end. Two hours is what systems would wait."""
    with hosts(1) as (address, (host,)), servers.postgres_or_skip(address) as server:
        holder = forked(hold, host, server.url, tmp_path / "held")
        wait_until((tmp_path / "held").exists, every=0.05)
        host.unplug()
        began = time.monotonic()
        with advisory_lock(server.url, "rows"):
            waited = time.monotonic() - began
        holder.kill()
        assert 5 < waited < 120, waited
        print(f"free after {waited:.0f} s")
