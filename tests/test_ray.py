"""Ray itself, on this machine: a run's end, its GPUs and cores, what is cancelled, a node that is killed (slow)."""

import os
import secrets
import signal
import threading
from pathlib import Path

import pytest

from experiments.dispatch import RunWork
from experiments.executors.choice import starter
from experiments.executors.interface import Event
from experiments.options import Where
from experiments.outcome import NO_CALLBACKS
from experiments.rundir import read_points
from experiments.runner import execute
from rasa.errors import ResourceError
from tests.helpers.people import write_people
from tests.helpers.stand_in import trainer
from tests.test_runner import planned, wait_for

# Ray reads it when it is imported: the token of a cluster that nobody else joins.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}

ray = pytest.importorskip("ray", reason="Ray is not installed; pip install 'rasa-ablations[ray]'")

from experiments.executors.on_ray import Ray

ROOT = Path(__file__).parent.parent
# Ray's own: files and sockets that it leaves to the garbage collector, and its words about itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def people(tmp_path):
    return write_people(tmp_path / "people", train=4, val=2, test=2, images=1)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two cores and two GPUs, which are but numbers to Ray; its address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        from ray.cluster_utils import Cluster

        running = Cluster()
        running.add_node(num_cpus=2, num_gpus=2, object_store_memory=80_000_000)
        yield running.address
        running.shutdown()


class Asks:
    """A work that says what it was given."""

    name = "asks"

    def __init__(self, size=1, on_cpu=False):
        self.size, self.on_cpu = size, on_cpu

    def __call__(self, notify, should_stop, threads, attempt):
        return os.environ.get("CUDA_VISIBLE_DEVICES", ""), threads


def ended(executor, tickets):
    found = {}
    while len(found) < len(tickets):
        for event in executor.poll(0.5):
            if event.kind in ("ended", "died", "withdrawn"):
                found[event.ticket] = event
    return [found[ticket] for ticket in tickets]


def test_what_is_submitted_first_begins_first(cluster, tmp_path):
    """Five works that take the whole cluster, one after another: as a plan has them, whole seeds first."""
    with Ray(tmp_path, cluster, None, None) as executor:
        tickets, order = executor.submit([Asks(2) for _ in range(5)]), []
        while len(order) < 5:
            order += [event.ticket for event in executor.poll(0.5) if event.kind == "ended"]
    assert order == tickets


def test_gpus_and_cores_are_ray_s_resources(cluster, tmp_path):
    """Of two GPUs: two, one, a half of one (not if it is to be alone), none. Of two cores: one per GPU."""
    with Ray(tmp_path, cluster, None, 2) as executor:
        works = [Asks(2), Asks(1), Asks(1, on_cpu=True)]
        both, half, none = ended(executor, executor.submit(works))
        (alone,) = ended(executor, executor.submit([Asks(1)], alone=True))
        with pytest.raises(ResourceError, match="--devices 4: no node of the Ray cluster has more than 2 GPUs"):
            executor.submit([Asks(4)])
    assert sorted(both.content[0].split(",")) == ["0", "1"] and not both.shared
    assert half.content[0] in ("0", "1") and half.shared
    assert alone.content[0] in ("0", "1") and not alone.shared
    assert [event.content[1] for event in (both, half, none)] == [1, 1, 1]


def goes(cluster, workspace, runs, train=trainer, jobs=None, callbacks=NO_CALLBACKS):
    start = starter(Where(jobs, executor="ray", ray_address=cluster), runs, workspace)
    return execute(runs, workspace, callbacks=callbacks, train=train, start=start)


def is_killed_once(config, directory, **rest):
    """At the third step of the first try: ends without a word."""
    log, first = rest.pop("log"), not (directory / "checkpoints").exists()

    def deadly(group, step, values):
        log(group, step, values)
        if first and step == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    return trainer(config, directory, log=deadly, **rest)


def test_a_run_whose_process_is_lost_is_begun_again_by_ray_and_goes_on(cluster, people, tmp_path, capfd):
    runs, lines = planned(people, tmp_path, "cl"), []
    callbacks = NO_CALLBACKS._replace(notify=lines.append)
    (outcome,) = goes(cluster, tmp_path, runs, is_killed_once, callbacks=callbacks)
    assert outcome.state == "finished"
    assert (runs[0].directory / "calls").read_text() == "trained\n" * 2
    assert [p.step for p in read_points(runs[0].directory) if p.group == "train"] == list(range(10))
    host = os.uname().nodename
    assert lines == [f"table4/cl seed 0: on {host}", f"table4/cl seed 0: goes on ({host})"]
    assert capfd.readouterr().out == ""  # stdout is data, and Ray would tell there of the loss


@pytest.mark.slow
def test_an_interrupt_checkpoints_what_goes_on_and_withdraws_the_rest(cluster, people, tmp_path, monkeypatch):
    runs = planned(people, tmp_path, "cl", "itm", "s-itm")

    def interrupt():
        wait_for(lambda: list(tmp_path.glob("runs/*/*/*/*/checkpoints/step-*")), 120)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    outcomes = goes(cluster, tmp_path, runs, slowly, jobs=1)
    thread.join()
    assert [outcome.state for outcome in outcomes] == ["interrupted", "new", "new"]
    assert not runs[1].directory.exists()


def slowly(config, directory, **rest):
    os.environ["STEP_SECONDS"] = "0.5"
    return trainer(config, directory, **rest)


@pytest.mark.slow
def test_what_waits_for_a_full_cluster_is_cancelled_there(cluster, people, tmp_path):
    """Each takes both GPUs, so Ray has the second wait; after `cancel` it never begins."""
    runs = planned(people, tmp_path, "cl")
    with Ray(tmp_path, cluster, None, None) as executor:
        first, second = executor.submit([RunWork(runs[0], Two(slowly)), Asks(2)])
        events = []
        while Event(first, "began", os.uname().nodename) not in events:
            events += executor.poll(0.5)
        executor.cancel([first, second])
        assert [event.kind for event in ended(executor, [first, second])] == ["ended", "withdrawn"]
        assert not executor._telling.begun(second)


class Two:
    """A trainer that says that it has two processes."""

    size = 2

    def __init__(self, train):
        self.train = train

    def __call__(self, *arguments, **named):
        return self.train(*arguments, **named)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:6379", "6379", "host:many", ":6379"])
def test_a_cluster_that_is_not_there_is_one_line(tmp_path, address):
    with pytest.raises(ResourceError, match="--ray-address: .*give HOST:PORT, auto or local") as refused:
        Ray(tmp_path, address, None, None)
    assert address in str(refused.value) and "\n" not in str(refused.value)
    assert not ray.is_initialized()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_node_that_is_killed_loses_no_run_and_doubles_none(tmp_path):
    from benchmarks.ray_nodes import run_and_kill

    found = run_and_kill(tmp_path, ["table4", "--profile", "smoke"], after=2)
    assert found["exit"] == 0 and found["killed_at"] is not None
    assert (found["runs"], found["done"], found["not_once"]) == (10, 10, [])
    assert found["begun"].get(2) == 1  # the one at which the node was
