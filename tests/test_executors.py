"""Executors beyond this machine's own: what they are told, what they do with a run, and bad options in one line.

submitit's `debug` and `local` are real; of Slurm itself only its commands are played here, as scripts that write down
what they are given (a real one is in tests/test_slurm.py, Ray in tests/test_ray.py).
"""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest

from experiments.dispatch import RunWork
from experiments.executors import on_slurm, remote
from experiments.executors.choice import starter
from experiments.executors.interface import Event, Fault
from experiments.executors.on_slurm import settings_of
from experiments.executors.remote import Preempted, RemoteWork, Telling, Withdrawn, new_folder
from experiments.options import Where
from experiments.outcome import NO_CALLBACKS, Outcome
from experiments.rundir import FAILURE, LOCK, RESULT, read_json, read_points
from experiments.runner import execute
from rasa.commands.cli import main
from rasa.errors import ResourceError
from tests.helpers.people import write_people
from tests.helpers.stand_in import trainer
from tests.test_runner import planned, wait_for

ROOT = Path(__file__).parent.parent
MISSING = "submitit is not installed; pip install 'rasa-ablations[slurm]'"


@pytest.fixture
def people(tmp_path):
    return write_people(tmp_path / "people", train=4, val=2, test=2, images=1)


@pytest.fixture
def importable(monkeypatch):
    """The stand-in for the trainer can be imported by processes that others start."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


# ---- Options ----


def test_sbatch_s_options_are_given_by_their_names():
    given = ("partition=gpu", "--time=8:00:00", "cpus_per_task = 4", "constraint=a=b")
    expected = {"partition": "gpu", "time": "8:00:00", "cpus-per-task": "4", "constraint": "a=b"}
    assert settings_of(given) == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["partition"], "--slurm 'partition': give KEY=VALUE, e.g. --slurm partition=gpu"),
        (["=gpu"], "--slurm '=gpu': give KEY=VALUE"),
        (["partition="], "--slurm 'partition=': give KEY=VALUE"),
        (["partion=gpu"], "--slurm partion: no option of sbatch that can be set here; did you mean partition or"),
        (["array=0-3"], "--slurm array: no option of sbatch that can be set here"),
        (["mem=1G", "mem=2G"], "--slurm mem: given twice"),
        (["cluster=moon"], "--slurm cluster=moon: there is slurm, local, debug"),
        (["comment=a\nrm -rf /"], "--slurm comment: no option of sbatch"),
        (["account=a\n#SBATCH --wrap=x"], "--slurm account: a value is one line"),
    ],
)
def test_what_is_no_option_of_sbatch_is_one_line(given, said):
    with pytest.raises(click.UsageError, match=re.escape(said)):
        settings_of(given)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--executor", "slrum"], 2, "'slrum' is not one of 'local', 'ray', 'slurm'"),
        (["--slurm", "partition=gpu"], 2, "--slurm partition=gpu needs --executor slurm"),
        (["--ray-address", "auto"], 2, "--ray-address auto needs --executor ray"),
        (["--executor", "slurm", "--per-device", "2"], 2, "--per-device 2: a job of Slurm has its GPUs for itself"),
        (["--executor", "slurm", "--slurm", "partition"], 2, "--slurm 'partition': give KEY=VALUE"),
    ],
)
def test_bad_options_are_one_line_before_a_run_exists(people, tmp_path, capsys, options, code, said):
    where = ["--workspace", str(tmp_path / "work"), "-o", f"data.root={people}"]
    assert main(["run", "table4/cl", *where, *options]) == code
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "work").glob("runs/table4"))


@pytest.mark.parametrize(
    ("executor", "module", "said"),
    [
        ("ray", "ray", "rasa: --executor ray: Ray is not installed; pip install 'rasa-ablations[ray]'"),
        ("slurm", "submitit", "rasa: --executor slurm: submitit is not installed; pip install 'rasa-ablations[slurm]'"),
    ],
)
def test_an_engine_that_is_not_installed_is_one_line_with_the_command(
    people, tmp_path, capsys, monkeypatch, executor, module, said
):
    monkeypatch.setitem(sys.modules, module, None)  # as Python has it for a module that cannot be found
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    where = ["--workspace", str(tmp_path / "work"), "-o", f"data.root={people}"]
    assert main(["run", "table4/cl", *where, "--executor", executor]) == 5
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert not list((tmp_path / "work").glob("runs/table4"))


def test_a_study_elsewhere_says_how_many_workers(tmp_path, capsys):
    assert main(["study", "run", "objective-weights", "--workspace", str(tmp_path), "--executor", "slurm"]) == 2
    assert "--executor slurm: say how many workers the study has, e.g. --jobs 8" in capsys.readouterr().err


# ---- A work in another process, by the files that tell of it ----


class Counted:
    """A work that says what it was given."""

    name, size, on_cpu = "counted", 1, True

    def __init__(self, act=None):
        self.act = act

    def __call__(self, notify, should_stop, threads, attempt):
        notify(f"attempt {attempt}, {threads} threads")
        return self.act(should_stop) if self.act else attempt


def test_each_attempt_is_noted_and_told_once(tmp_path):
    work = RemoteWork(Counted(), new_folder(tmp_path, "test"), "7", threads=3)
    telling = Telling(work.folder)
    assert telling.news(["7"]) == [] and not telling.begun("7")
    assert (work(), work()) == (1, 2)
    host = os.uname().nodename
    assert telling.news(["7"]) == [
        Event("7", "began", host),
        Event("7", "began", host),
        Event("7", "said", "attempt 1, 3 threads"),
        Event("7", "said", "attempt 2, 3 threads"),
    ]
    assert telling.news(["7"]) == [] and telling.begun("7")
    with (work.folder / "7.log").open("a") as log:
        log.write("half a li")
    assert telling.news(["7"]) == []  # it is being written


def test_what_has_not_begun_when_all_are_to_stop_never_does(tmp_path):
    work = RemoteWork(Counted(), new_folder(tmp_path, "test"), "0")
    Telling(work.folder).stop()
    assert isinstance(work(), Withdrawn)
    assert not (work.folder / "0.begun").exists()


def test_what_goes_on_hears_that_all_are_to_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "LOOK", 0.0)
    folder = new_folder(tmp_path, "test")

    def act(should_stop):
        before = should_stop()
        Telling(folder).stop()
        return before, should_stop()

    assert RemoteWork(Counted(act), folder, "0")() == (False, True)


def outcome(state):
    return Outcome(None, Path(), state)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_machine_that_is_wanted_back_stops_the_work_and_has_it_begun_again(tmp_path, number):
    def act(should_stop):
        os.kill(os.getpid(), number)
        assert should_stop()
        return outcome("interrupted")

    before = signal.getsignal(number)
    with pytest.raises(Preempted) as wanted:
        RemoteWork(Counted(act), new_folder(tmp_path, "test"), "0")()
    assert wanted.value.signal == number and signal.getsignal(number) == before


def test_a_work_that_ended_all_the_same_is_not_begun_again(tmp_path):
    def act(should_stop):
        os.kill(os.getpid(), signal.SIGTERM)
        return outcome("finished")

    assert RemoteWork(Counted(act), new_folder(tmp_path, "test"), "0")().state == "finished"


def test_a_node_that_does_not_share_the_disk_says_so(tmp_path):
    fault = RemoteWork(Counted(), tmp_path / "nowhere", "0")()
    assert fault == Fault(
        f"{os.uname().nodename} does not see {tmp_path / 'nowhere'}; it must lie on a disk that all nodes share", 5
    )


HOLDS = """
import sys, time
from pathlib import Path
from rasa.lock import Lock
with Lock(Path(sys.argv[1])):
    Path(sys.argv[1]).with_name("held").touch()
    time.sleep(4)
"""


def test_a_second_attempt_waits_for_the_lock_of_the_first(people, tmp_path):
    """A machine that is lost holds a run's lock for a while; a first attempt leaves the run to whoever has it."""
    (run,) = planned(people, tmp_path, "cl")
    run.directory.mkdir(parents=True)
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, run.directory / LOCK], cwd=ROOT)
    wait_for((run.directory / "held").exists)
    assert RunWork(run, trainer)(print, lambda: False, attempt=1).state == "running"
    assert RunWork(run, trainer)(print, lambda: True, attempt=2).state == "running"  # it is to stop
    assert holder.poll() is None
    assert RunWork(run, trainer)(print, lambda: False, attempt=2).state == "finished"
    assert holder.wait() == 0


# ---- submitit, in this process and in others ----


def run_by(workspace, *settings, runs, train=trainer, jobs=None, callbacks=NO_CALLBACKS):
    start = starter(Where(jobs, executor="slurm", slurm=settings), runs, workspace)
    return execute(runs, workspace, callbacks=callbacks, train=train, start=start)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves its log files open
def test_submitit_s_debug_executor_runs_all_here(people, tmp_path):
    pytest.importorskip("submitit", reason=MISSING)
    runs, ended = planned(people, tmp_path, "cl", "itm"), []
    callbacks = NO_CALLBACKS._replace(on_end=lambda outcome: ended.append(outcome.about.name))
    outcomes = run_by(tmp_path, "cluster=debug", runs=runs, callbacks=callbacks)
    assert [outcome.state for outcome in outcomes] == ["finished", "finished"]
    assert ended == ["table4/cl seed 0", "table4/itm seed 0"]
    assert {outcome.state for outcome in run_by(tmp_path, "cluster=debug", runs=runs)} == {"finished"}
    assert [(run.directory / "calls").read_text() for run in runs] == ["trained\n"] * 2


def is_killed_once(config, directory, **rest):
    """At the third step of the first try: ends without a word."""
    log, first = rest.pop("log"), not (directory / "checkpoints").exists()

    def deadly(group, step, values):
        log(group, step, values)
        if first and step == 3 and "itm" in config.objectives.weights:
            os.kill(os.getpid(), signal.SIGKILL)

    return trainer(config, directory, log=deadly, **rest)


def is_preempted_once(config, directory, **rest):
    """At the third step of the first try: as a scheduler does shortly before the time is up."""
    log, first = rest.pop("log"), not (directory / "checkpoints").exists()

    def preempted(group, step, values):
        log(group, step, values)
        if first and step == 3:
            os.kill(os.getpid(), signal.SIGUSR2)

    return trainer(config, directory, log=preempted, **rest)


@pytest.mark.usefixtures("importable")
def test_a_preempted_job_is_queued_again_and_goes_on_from_its_checkpoint(people, tmp_path):
    pytest.importorskip("submitit", reason=MISSING)
    runs, lines = planned(people, tmp_path, "cl"), []
    callbacks = NO_CALLBACKS._replace(notify=lines.append)
    (ended,) = run_by(tmp_path, "cluster=local", runs=runs, train=is_preempted_once, callbacks=callbacks)
    assert ended.state == "finished"
    assert (runs[0].directory / "calls").read_text() == "trained\n" * 2
    assert [p.step for p in read_points(runs[0].directory) if p.group == "train"] == list(range(10))
    host = os.uname().nodename
    assert lines == [f"table4/cl seed 0: on {host}", f"table4/cl seed 0: goes on ({host})"]


@pytest.mark.usefixtures("importable")
def test_a_job_that_is_killed_fails_its_run_alone_and_names_its_log(people, tmp_path):
    pytest.importorskip("submitit", reason=MISSING)
    runs = planned(people, tmp_path, "cl", "itm")
    outcomes = run_by(tmp_path, "cluster=local", runs=runs, train=is_killed_once)
    assert [outcome.state for outcome in outcomes] == ["finished", "failed"]
    said = read_json(runs[1].directory / FAILURE)["message"]
    log = re.search(r"its process \d+ ended without a result .* its log: (\S+)", said).group(1)
    assert Path(log).is_file()
    assert not (runs[1].directory / RESULT).exists()
    (again,) = run_by(tmp_path, "cluster=local", runs=planned(people, tmp_path, "itm"), train=is_killed_once)
    assert again.state == "finished"
    assert [p.step for p in read_points(runs[1].directory) if p.group == "train"] == list(range(10))


@pytest.mark.usefixtures("importable")
def test_an_interrupt_has_jobs_checkpoint(people, tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason=MISSING)
    monkeypatch.setenv("STEP_SECONDS", "0.3")
    runs = planned(people, tmp_path, "cl")

    def interrupt():
        wait_for(lambda: list(tmp_path.glob("runs/*/*/*/*/checkpoints/step-*")))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    (ended,) = run_by(tmp_path, "cluster=local", runs=runs)
    thread.join()
    assert ended.state == "interrupted"
    monkeypatch.setenv("STEP_SECONDS", "0")
    (ended,) = run_by(tmp_path, "cluster=local", runs=planned(people, tmp_path, "cl"))
    assert ended.state == "finished" and len(read_points(runs[0].directory)) == 13


# ---- Slurm's commands, played ----

COMMANDS = {
    "srun": "exit 1",
    "sbatch": 'cp "$1" "$PLAYED/submitted-$$"; echo "Submitted batch job 41"',
    "squeue": 'cat "$PLAYED/queue"',
    "scancel": 'echo "$@" >> "$PLAYED/cancelled"',
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder in which lies what sbatch was given, and what squeue is to say."""
    pytest.importorskip("submitit", reason=MISSING)
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in COMMANDS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    (folder / "queue").write_text("")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PLAYED", str(folder))
    monkeypatch.setattr(on_slurm, "LOOK", 0.0)
    return folder


class OnGpus(Counted):
    size, on_cpu = 4, False


def test_the_runs_of_a_command_are_one_array_with_the_user_s_options(slurm, tmp_path):
    with on_slurm.Slurm(tmp_path, 2, {"partition": "gpu", "exclusive": "true"}) as executor:
        assert executor.submit([OnGpus(), OnGpus(), OnGpus()]) == ["0", "1", "2"]
    (file,) = slurm.glob("submitted-*")
    lines = set(file.read_text().splitlines())
    options = ("array=0-2%2", "partition=gpu", "gpus-per-node=4", "job-name=rasa", "signal=USR2@120")
    assert {f"#SBATCH --{option}" for option in options} <= lines
    assert {"#SBATCH --requeue", "#SBATCH --exclusive"} <= lines
    assert not any("--time" in line for line in lines)


def test_of_a_job_slurm_s_word_counts_until_there_is_a_result(slurm, tmp_path):
    """Waiting, running, queued again: it goes on. Ended, three times in a row, and no result: it died, and of what."""
    with on_slurm.Slurm(tmp_path, None, {}) as executor:
        executor.submit([Counted(), Counted()])
        for states in ("41_0 PENDING\n41_1 RUNNING\n", "", "41_0 REQUEUED\n41_1 COMPLETING\n", "", ""):
            (slurm / "queue").write_text(states)
            assert executor.poll(0) == []
        (slurm / "queue").write_text("41_0 OUT_OF_MEMORY\n41_1 RUNNING\n")
        (died,) = executor.poll(0)
        why = "its Slurm job 41_0 ended without a result (out of memory; give --slurm mem=...)"
        assert died == Event("0", "died", why)


def test_a_controller_that_does_not_answer_ends_no_job(slurm, tmp_path):
    with on_slurm.Slurm(tmp_path, None, {}) as executor:
        executor.submit([Counted()])
        (slurm / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2; exit 1\n")
        assert [executor.poll(0) for _ in range(5)] == [[]] * 5
        (slurm / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id' >&2; exit 1\n")
        assert [len(executor.poll(0)) for _ in range(3)] == [0, 0, 1]


def test_what_waits_in_the_queue_is_withdrawn_by_an_interrupt(slurm, tmp_path):
    with on_slurm.Slurm(tmp_path, None, {}) as executor:
        executor.submit([Counted(), Counted()])
        (executor._telling.folder / "1.begun").write_text("node 12 now\n")
        (slurm / "queue").write_text("41_1 RUNNING\n")
        executor.cancel(["0", "1"])
        assert (slurm / "cancelled").read_text() == "--state=PENDING 41_0\n"
        events = executor.poll(0)
    assert Event("0", "withdrawn") in events and Event("1", "began", "node") in events and len(events) == 2


def test_what_sbatch_refuses_is_one_line(slurm, tmp_path):
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpu' >&2; exit 1\n")
    with on_slurm.Slurm(tmp_path, None, {"partition": "gpu"}) as executor, pytest.raises(ResourceError) as refused:
        executor.submit([Counted()])
    assert str(refused.value).startswith("--executor slurm: ") and "invalid partition specified: gpu" in str(
        refused.value
    )


def test_without_slurm_there_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("submitit", reason=MISSING)
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        on_slurm.Slurm(tmp_path, None, {}) as executor,
        pytest.raises(ResourceError, match="are you indeed on a slurm"),
    ):
        executor.submit([Counted()])
