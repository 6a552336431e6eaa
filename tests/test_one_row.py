"""Two hosts that deliver to one `mlflow server` at once, which has no lock for them: each row is there once.

Both look for a row's run before either makes it: a barrier in front of the request that makes one forces that. After it
every request waits a random moment.
"""

import multiprocessing
import os
import random
import signal
import time

import pytest

from experiments.asking import pages
from experiments.outcome import NO_CALLBACKS
from experiments.plan import plan
from experiments.rows import chosen
from experiments.runner import execute
from experiments.spec import load_suite
from experiments.store import open_store
from experiments.tracking import MERGED
from experiments.uploader import Tracker, sync
from tests.helpers import servers
from tests.helpers.many_rows import write_suite
from tests.helpers.people import write_people
from tests.helpers.processes import MANY, forked
from tests.helpers.stand_in import trainer

pytestmark = pytest.mark.timeout(900)


class Racing:
    """MLflow's client, whose `create_run` of a row, and `create_experiment`, wait for the other host's.

    `requests_left`: after so many requests from that row on the process is killed.
    """

    def __init__(self, client, barrier, seed, requests_left=None):
        self._client, self._barrier, self._draw = client, barrier, random.Random(seed)
        self._left, self._counts = requests_left, False

    def __getattr__(self, name):
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def request(*arguments, **named):
            if name == "create_experiment" or (name == "create_run" and arguments[2].get("rasa.kind") == "row"):
                self._barrier.wait(300)
                self._counts = name == "create_run"
            if self._counts and self._left is not None:
                if not self._left:
                    os.kill(os.getpid(), signal.SIGKILL)
                self._left -= 1
            time.sleep(self._draw.uniform(0, 0.01))
            return found(*arguments, **named)

        return request


def deliver(uri, workspace, directories, barrier, seed, requests_left):
    lines = []
    client = Racing(open_store(uri), barrier, seed, requests_left)
    tracker = Tracker(uri, workspace, lines.append, client=client)
    for directory in directories:
        tracker.deliver(directory)
    assert not lines, lines


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("rows") / "people", train=4, val=2, test=2, images=1)


@pytest.fixture
def server(tmp_path):
    with servers.Mlflow(tmp_path / "server") as running:
        yield running


def trained(folder, people, rows):
    """Two workspaces that have each another seed of the same rows: the folders of their runs, by workspace."""
    suite = load_suite(str(write_suite(folder, rows)))
    found = {}
    for seed in range(2):
        workspace = folder / f"host-{seed}"
        runs = plan(suite, suite.rows, suite.profile, [f"data.root={people}"], [seed], workspace)
        execute(runs, workspace, callbacks=NO_CALLBACKS, train=trainer)
        found[workspace] = [run.directory for run in runs]
    return found


def race(uri, found, requests_left=(None, None)):
    barrier = multiprocessing.get_context("forkserver").Barrier(2)
    hosts = [
        forked(deliver, uri, workspace, directories, barrier, number, requests_left[number])
        for number, (workspace, directories) in enumerate(found.items())
    ]
    for host in hosts:
        host.join(300)
    return [host.exitcode for host in hosts]


def assert_each_row_is_there_once(uri, rows, made_twice):
    client = open_store(uri)
    experiment = client.get_experiment_by_name("own").experiment_id
    every = list(pages(client, experiment, {}, deleted=True))
    of_rows = [run for run in every if run.data.tags["rasa.kind"] == "row"]
    active = {run.info.run_id: run for run in of_rows if run.info.lifecycle_stage == "active"}
    seeds = [run for run in every if run.data.tags["rasa.kind"] == "seed"]
    assert sorted(run.data.tags["rasa.row"] for run in active.values()) == sorted(f"row-{i}" for i in range(rows))
    assert [run.info.lifecycle_stage for run in seeds] == ["active"] * 2 * rows
    assert len(of_rows) == rows + made_twice
    found = sorted(
        (active[run.data.tags["mlflow.parentRunId"]].data.tags["rasa.row"], run.data.tags["rasa.seed"]) for run in seeds
    )
    assert found == sorted((f"row-{i}", str(seed)) for i in range(rows) for seed in range(2))
    for run in active.values():  # the stand-in's R@1 is 50 and 51
        assert (run.info.status, run.data.metrics["test/r1"], run.data.metrics["test/r1_n"]) == ("FINISHED", 50.5, 2.0)
    assert all(run.data.tags[MERGED] in active for run in of_rows if run.info.run_id not in active)


@pytest.mark.parametrize("rows", [3, pytest.param(12, marks=MANY), pytest.param(100, marks=MANY)])
def test_a_row_that_two_hosts_make_at_once_is_there_once(people, tmp_path, server, rows):
    """Each makes its own run of every row. One of the two stays, with both seeds under it and their mean."""
    found = trained(tmp_path, people, rows)
    assert race(server.uri, found) == [0, 0]
    assert_each_row_is_there_once(server.uri, rows, made_twice=rows)
    for workspace in found:
        assert sync(workspace, server.uri, print) == (rows, 0, rows)
    assert_each_row_is_there_once(server.uri, rows, made_twice=rows)


@pytest.mark.parametrize("requests", [1, 2, 3, 4, 5, 7, 9])
def test_a_host_that_is_killed_while_it_merges_leaves_nothing_behind(people, tmp_path, server, requests):
    """It is killed at so many requests after both have made the row. The next sync of both hosts mends the rest."""
    found = trained(tmp_path, people, 1)
    ended = race(server.uri, found, (requests, None))
    assert ended[0] == -signal.SIGKILL and ended[1] in (0, 1)
    for workspace in (*found, *found):
        sync(workspace, server.uri, print)
    assert_each_row_is_there_once(server.uri, 1, made_twice=1)


def test_a_row_that_a_person_deleted_takes_nothing_back(people, tmp_path, server):
    """Of two runs of a row one gives way; that a person deletes the other one is not undone, and neither returns."""
    found = trained(tmp_path, people, 1)
    race(server.uri, found)
    client = open_store(server.uri)
    experiment = client.get_experiment_by_name("own").experiment_id
    (row,) = pages(client, experiment, {"rasa.kind": "row"})
    client.delete_run(row.info.run_id)
    for workspace in found:
        sync(workspace, server.uri, print)
    assert not list(pages(client, experiment, {"rasa.kind": "row"}))
    kept, others = chosen(pages(client, experiment, {"rasa.kind": "row"}, deleted=True))
    assert kept is None and [run.data.tags[MERGED] for run in others] == [row.info.run_id]
