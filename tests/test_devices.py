"""`rasa run --devices N`: the same run, from one process or from several, also if one of them is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rasa.commands.cli import main
from tests.helpers.one_row import EVERYTHING, run_directory, write_suite
from tests.helpers.people import write_people
from tests.helpers.processes import Command, rasa, wait_until
from tests.helpers.unbroken import end_of, lines

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """The arguments of a run of two shares, each of which is a part of its own, with dropout."""
    folder = tmp_path_factory.mktemp("devices")
    people = write_people(folder / "people")
    file = write_suite(folder, people, EVERYTHING, "momentum", checkpoint_steps=2, max_steps_per_epoch=None, epochs=2)
    options = ("fidelity.ranks=2", "optimisation.accumulation=2", "data.image_cache_gib=0", f"data.root={people}")
    return "run", "--keep-checkpoints", file, *(word for option in options for word in ("-o", option))


def members(command):
    """Ids of the processes that train, in their order."""
    folder = Path(f"/proc/{command.process.pid}/task/{command.process.pid}/children")
    children = folder.read_text().split() if folder.exists() else []
    return [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


def numbers(workspace):
    """How a run ended, less the record of the number of its processes."""
    ended = end_of(workspace)
    del ended["left over"]
    return ended


@pytest.mark.timeout(900)
def test_two_processes_end_as_one_does_to_the_last_bit(suite, tmp_path):
    """The same run id, figures, weights, queues, moments and predictions, and the record says how many there were.

    To the last bit, since the sum of two gradients has one order, and halves are exact.
    """
    rasa(*suite, folder=tmp_path / "one")
    rasa(*suite, "--devices", 2, folder=tmp_path / "two")
    one, two = numbers(tmp_path / "one"), numbers(tmp_path / "two")
    assert one == two, [name for name in one if one[name] != two[name]]
    results = [json.loads((run_directory(tmp_path / n) / "result.json").read_text()) for n in ("one", "two")]
    assert [result["numerics"]["processes"] for result in results] == [1, 2]
    assert [result["numerics"]["batch"] for result in results] == ["2 x 4", "2 x 4"]
    assert all(results[0]["cost"][name] == results[1]["cost"][name] for name in ("steps", "flops_per_step"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("who", [0, 1])
def test_a_process_killed_in_an_epoch_ends_the_command_and_it_goes_on_to_the_same_end(suite, tmp_path, who):
    arguments = (*suite, "--devices", 2)
    rasa(*arguments, folder=tmp_path / "whole")
    command = Command(*arguments, folder=tmp_path / "broken")
    assert wait_until(lambda: lines(tmp_path / "broken") == 4, command=command)  # beyond a checkpoint
    processes = members(command)
    assert len(processes) == 2
    os.kill(processes[who], signal.SIGKILL)
    assert command.wait() == 1
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes), seconds=30)
    told = [line for line in command.err.splitlines() if not line.startswith(("tracking: ", "own/row seed 0: "))]
    (line,) = told
    assert line.startswith(f"rasa: own/row seed 0: process {who + 1} of 2 died (SIGKILL: killed, or out of memory);")
    (checkpoint, *_) = sorted(run_directory(tmp_path / "broken").glob("checkpoints/step-*"), reverse=True)
    assert checkpoint.name > "step-000000000" and not (run_directory(tmp_path / "broken") / "result.json").exists()
    # With another number it is one line; with the same it goes on.
    refused = rasa(*suite, folder=tmp_path / "broken", code=5)
    assert "made with --devices 2, not 1; go on with --devices 2, or remove its folder `checkpoints`" in refused.err
    rasa(*arguments, folder=tmp_path / "broken")
    assert numbers(tmp_path / "broken") == numbers(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_first_interrupt_checkpoints_and_a_killed_command_leaves_no_process(suite, tmp_path):
    arguments = (*suite, "--devices", 2, "-o", "optimisation.checkpoint_steps=1000")
    rasa(*arguments, folder=tmp_path / "whole")
    command = Command(*arguments, folder=tmp_path / "broken")
    assert wait_until(lambda: lines(tmp_path / "broken") == 3, command=command)
    command.kill(signal.SIGINT)
    assert command.wait() == 130
    assert list(run_directory(tmp_path / "broken").glob("checkpoints/step-*"))
    command = Command(*arguments, folder=tmp_path / "broken")
    assert wait_until(lambda: lines(tmp_path / "broken") >= 7, command=command)
    processes = members(command)
    assert len(processes) == 2
    command.kill(signal.SIGKILL)
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes), seconds=10)
    rasa(*arguments, folder=tmp_path / "broken")
    assert numbers(tmp_path / "broken") == numbers(tmp_path / "whole")


def test_a_number_that_does_not_divide_the_shares_is_one_line(suite, tmp_path, capsys):
    words = [str(word) for word in suite] + ["--workspace", str(tmp_path), "--tracking-uri", "http://127.0.0.1:1"]
    assert main([*words, "--devices", "3"]) == 3
    said = capsys.readouterr().err
    assert "--devices 3 does not divide fidelity.ranks 2" in said and "give --devices 2, or" in said
    assert "-o fidelity.ranks=3" in said and "Traceback" not in said
    assert not list(tmp_path.glob("runs/own/*/*/*"))


def test_a_fault_of_one_process_is_told_as_it_was(tmp_path, monkeypatch):
    """An error of the input passes as it is; another one waits for its cause, and keeps where it happened."""
    from experiments import devices
    from rasa.errors import ResourceError, RunFailed

    monkeypatch.setattr(devices, "GRACE", 0.3)
    pipes = [FakeMember(), FakeMember()]
    lost = devices._portable(RuntimeError("Connection closed by peer"))
    pipes[1].says((devices.FAILED, lost))
    pipes[0].says((devices.FAILED, devices._portable(ResourceError("disk full"))))
    with pytest.raises(ResourceError, match="disk full"):
        devices._followed(pipes, {}, lambda: False)
    pipes = [FakeMember(), FakeMember()]
    pipes[1].says((devices.FAILED, lost))
    pipes[0].theirs.close()
    with pytest.raises(RunFailed, match="it died"):
        devices._followed(pipes, {}, lambda: False)
    pipes = [FakeMember(), FakeMember()]
    pipes[1].says((devices.FAILED, lost))
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="closed by peer"):
        devices._followed(pipes, {}, lambda: False)
    assert time.monotonic() - began >= 0.3


def test_a_fault_under_torchrun_is_the_other_process_s_own_words(monkeypatch):
    """Or that it is gone, if it could say none; what is this process's own stays."""
    from torch.distributed import HashStore

    from experiments import torchrun
    from rasa.errors import ResourceError, RunFailed
    from rasa.training.processes import Processes

    monkeypatch.setattr(torchrun, "GRACE", 0.2)
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:545] Connection reset by peer")
    store = HashStore()
    leader = torchrun.Leader(Processes(0, 2), store)
    own, bug = ResourceError("disk full"), RuntimeError("shapes differ")
    assert leader._cause(own) is own and leader._cause(bug) is bug
    gone = leader._cause(lost)
    assert type(gone) is RunFailed and "is gone (killed, or out of memory); the same command goes on" in str(gone)
    store.compare_set(torchrun.FAULT, "", "process 2 of 2: a.png: damaged")
    assert str(leader._cause(lost)) == "process 2 of 2: a.png: damaged"


class FakeMember:
    """A member that says what it is made to say."""

    def __init__(self):
        from multiprocessing import Pipe

        self.pipe, self.theirs = Pipe()
        self.left = False

    def says(self, message):
        self.theirs.send(message)

    def death(self):
        from rasa.errors import RunFailed

        return RunFailed("it died")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_torchrun_starts_the_same_run(suite, tmp_path):
    """Two processes of torchrun, of which the second follows: the numbers of one process, and an end of both."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "rasa"]
    words = [*map(str, suite), "--tracking-uri", "http://127.0.0.1:1"]
    settings = os.environ | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "PYTHONPATH": str(ROOT)}

    def started(*more, folder):
        command = [*launcher, *words, "--workspace", str(folder), *more]
        return subprocess.run(command, capture_output=True, text=True, env=settings, timeout=900, check=False)

    rasa(*suite, folder=tmp_path / "one")
    done = started(folder=tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two")
    result = json.loads((run_directory(tmp_path / "two") / "result.json").read_text())
    assert result["numerics"]["processes"] == 2
    again = started(folder=tmp_path / "two")  # nothing is left to do, and all end
    assert again.returncode == 0 and "finished" in again.stdout
    wrong = started("--devices", "3", folder=tmp_path / "three")
    assert wrong.returncode != 0 and "torchrun has started 2 processes; leave --devices out" in wrong.stderr
