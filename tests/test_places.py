"""Which run goes on which device: by hand, on lists of devices that are made up; and real processes on a CPU."""

import os
import re

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments import capacity
from experiments.capacity import available_mib, fitting, peaks_of
from experiments.executors.choice import starter
from experiments.executors.local import Local
from experiments.options import Where
from experiments.outcome import NO_CALLBACKS
from experiments.places import Held, Places, Want, assign, environment_of, places, visible_gpus
from experiments.rundir import RESULT, read_json
from experiments.runner import execute
from rasa.commands.cli import main
from rasa.errors import OutOfMemory
from tests.helpers.one_row import write_suite
from tests.helpers.people import write_people
from tests.helpers.processes import rasa
from tests.helpers.stand_in import trainer
from tests.test_runner import planned

UUIDS = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-1b2c3d4e-0000-1111-2222-333344445555"
MIGS = "MIG-41b36db8-c5f5-5f3d-9d7e-1a2b3c4d5e6f", "MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0"


@pytest.mark.parametrize(
    ("visible", "count", "found"),
    [
        (None, 0, ()),
        (None, 2, ("0", "1")),
        ("", 0, ()),
        ("2,5", 2, ("2", "5")),
        (" 5 , 2 ", 2, ("5", "2")),
        ("0,-1,1", 1, ("0",)),  # CUDA reads to the first that is none
        ("0,7", 1, ("0",)),  # of a machine with one GPU
        (",".join(UUIDS), 2, UUIDS),
        (",".join(MIGS), 1, MIGS),  # CUDA shows a process one of them at a time
        (MIGS[0], 0, ()),  # and none where there is no driver
    ],
)
def test_the_gpus_are_those_that_cuda_lets_this_process_see(visible, count, found):
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert visible_gpus(environment, lambda: count) == found


@pytest.mark.parametrize(
    ("jobs", "per_device", "size", "gpus", "expected"),
    [
        (None, None, 1, "abcd", Places(tuple("abcd"), 1, 4)),  # one run on each
        (None, 2, 1, "abcd", Places(tuple("abcd"), 2, 8)),
        (2, 2, 1, "abcd", Places(("a",), 2, 2)),  # two on one; the others are left to others
        (4, 2, 1, "abcd", Places(("a", "b"), 2, 4)),
        (9, 2, 1, "abcd", Places(tuple("abcd"), 2, 8)),  # no more than there are places
        (2, None, 1, "abcd", Places(tuple("abcd"), 1, 2)),  # spread
        (6, None, 1, "abcd", Places(tuple("abcd"), 2, 6)),  # as few as possible share one
        (None, None, 4, "abcd", Places(tuple("abcd"), 1, 1)),
        (None, None, 2, "abcde", Places(tuple("abcde"), 1, 2)),
        (3, 1, 2, "abcd", Places(tuple("abcd"), 1, 2)),
    ],
)
def test_how_many_runs_share_how_many_gpus(jobs, per_device, size, gpus, expected):
    assert places(jobs, per_device, size, {"auto"}, tuple(gpus), 8) == expected


def test_without_gpus_the_cpu_is_the_one_device():
    assert places(3, None, 1, {"auto"}, (), 8) == Places(("cpu",), 3, 3)
    assert places(None, None, 1, {"auto"}, (), 8) == Places(("cpu",), 8, 8, measured=True)
    assert places(None, None, 2, {"cpu"}, ("a", "b"), 8) == Places(("cpu",), 4, 4, measured=True)
    assert places(2, None, 1, {"cuda:1"}, ("a", "b"), 8) == Places(("cpu",), 2, 2)  # named by hand: no word of ours
    assert environment_of(("cpu",)) == {}
    assert environment_of(UUIDS) == {"CUDA_VISIBLE_DEVICES": ",".join(UUIDS)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((2, 2, 1, {"auto"}, (), 8), "--per-device 2: no GPU is visible here (CUDA_VISIBLE_DEVICES); --jobs says how"),
        ((2, 2, 1, {"cpu"}, ("a",), 8), "--per-device 2: optimisation.device is cpu; --jobs says"),
        ((2, None, 4, {"auto"}, ("a", "b"), 8), "--devices 4: 2 visible here (a, b)"),
        ((None, None, 2, {"auto"}, MIGS, 8), "--devices 2: parts of a GPU (MIG) train no run together"),
        ((None, None, 1, {"cuda:1"}, ("a",), 8), "--jobs auto: optimisation.device cuda:1 says already where"),
        ((2, 2, 1, {"auto", "cuda:0"}, ("a",), 8), "--per-device 2: optimisation.device cuda:0 says already where"),
    ],
)
def test_options_that_fit_no_device_are_refused(arguments, said):
    with pytest.raises(click.UsageError, match=re.escape(said)):
        places(*arguments)


def test_the_least_taken_device_is_next():
    """a has two runs, b one, c none: c is next, then b, the first of those with one, then c; then all have two."""
    held = [Held(("a",)), Held(("a",)), Held(("b",))]
    assert assign("abc", 2, held, [Want()] * 4) == [("c",), ("b",), ("c",), None]
    assert assign("abcd", 1, [Held(("b",))], [Want(2), Want(2), Want(1)]) == [("a", "c"), None, ("d",)]


def test_a_run_that_is_to_be_alone_gets_a_device_kept_clear_for_it():
    one, alone = Want(), Want(alone=True)
    assert assign("ab", 2, [Held(("a",))], [alone, one, one]) == [("b",), ("a",), None]
    # Both are taken: the less taken one, b, takes nothing more until it is clear; a still does.
    held = [Held(("a",)), Held(("a",)), Held(("b",))]
    assert assign("ab", 3, held, [alone, one, one]) == [None, ("a",), None]
    assert assign("ab", 3, held[:2], [alone]) == [("b",)]
    assert assign("ab", 2, [Held(("b",), alone=True)], [one, one, one]) == [("a",), ("a",), None]


@given(
    per_device=st.integers(1, 3),
    wanted=st.lists(st.builds(Want, st.integers(1, 3), st.booleans()), max_size=12),
)
def test_no_device_has_too_many_and_none_that_is_alone_has_company(per_device, wanted):
    found = assign("abcd", per_device, (), wanted)
    for device in "abcd":
        on = [want for want, devices in zip(wanted, found, strict=True) if devices is not None and device in devices]
        assert len(on) <= (1 if any(want.alone for want in on) else per_device)
    assert all(len(set(d)) == w.size for w, d in zip(wanted, found, strict=True) if d is not None)


def test_how_many_runs_a_cpu_has_room_for():
    """1,000 MiB each with a quarter more: 5,000 MiB hold four; eight cores would hold eight."""
    assert fitting(8, 5000, []) is None
    assert fitting(8, 5000, [600, 1000]) == 4
    assert fitting(2, 5000, [1000]) == 2
    assert fitting(8, 900, [1000]) == 1  # it has run, so it runs
    assert fitting(8, None, [1000]) == 8


def test_memory_is_that_of_the_machine_or_of_the_container_whichever_is_less(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:   4194304 kB\n")
    monkeypatch.setattr(capacity, "MEMINFO", tmp_path / "meminfo")
    names = ("memory.max", "memory.current", "inactive_file")
    monkeypatch.setattr(capacity, "CGROUPS", ((tmp_path, *names),))
    assert available_mib() == 4096
    (tmp_path / "memory.max").write_text("max\n")
    assert available_mib() == 4096
    (tmp_path / "memory.max").write_text(str(2048 * 2**20))
    (tmp_path / "memory.current").write_text(str(1024 * 2**20))
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {24 * 2**20}\n")
    assert available_mib() == 1048  # cached files give way
    monkeypatch.setattr(capacity, "CGROUPS", ())
    (tmp_path / "meminfo").unlink()
    assert available_mib() is None


@pytest.fixture
def people(tmp_path):
    return write_people(tmp_path / "people", train=4, val=2, test=2, images=1)


def tells_its_devices(config, directory, **rest):
    (directory / "devices").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
    return trainer(config, directory, **rest)


def test_each_process_finds_its_devices_in_its_environment(people, tmp_path):
    """The GPUs are made up, the processes are real: with one run per device each of two devices is some run's."""
    runs, lines = planned(people, tmp_path, "cl", "itm", "s-itm", "p-itm"), []
    outcomes = execute(
        runs,
        tmp_path,
        callbacks=NO_CALLBACKS._replace(notify=lines.append),
        train=tells_its_devices,
        start=lambda runs: Local(Places(UUIDS, 1, 2)),
    )
    assert [outcome.state for outcome in outcomes] == ["finished"] * 4
    told = [(run.directory / "devices").read_text() for run in runs]
    assert set(told) == set(UUIDS)
    assert sorted(lines) == sorted(f"{r.about.name}: on GPU {t}" for r, t in zip(runs, told, strict=True))


def takes_200_mib(config, directory, **rest):
    result = trainer(config, directory, **rest)
    return result | {"cost": result["cost"] | {"peak_mib": 200.0}}


def test_a_cpu_s_first_run_says_how_many_go_on_beside_each_other(people, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.capacity.available_mib", lambda: 600.0)  # two of 250 MiB
    monkeypatch.setattr("experiments.executors.choice.cpu_count", lambda: 4)
    monkeypatch.setenv("STEP_SECONDS", "0.02")
    runs, open_runs, most = planned(people, tmp_path, "cl", "itm", "s-itm", "p-itm", "mlm"), set(), []

    def begins(run):
        open_runs.add(run.about.name)
        most.append(len(open_runs))

    callbacks = NO_CALLBACKS._replace(on_start=begins, on_end=lambda outcome: open_runs.discard(outcome.about.name))
    execute(runs, tmp_path, callbacks=callbacks, train=takes_200_mib, start=starter(Where(jobs=None), runs, tmp_path))
    assert most[0] == 1 and max(most) == 2
    assert peaks_of(runs) == [200.0] * 5


def test_a_checkpoint_s_peak_counts_until_there_is_a_result(people, tmp_path):
    (run,) = planned(people, tmp_path, "cl")
    folder = run.directory / "checkpoints" / "step-000000005"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text('{"state": {"epoch": 1, "peak_mib": 310.5}}')
    assert peaks_of([run]) == [310.5]


def has_too_little_memory(config, directory, **rest):
    """On a shared device there is too little memory after the seventh step, for everyone but CL."""
    log, alone = rest.pop("log"), (directory / "checkpoints").exists()

    def starved(group, step, values):
        log(group, step, values)
        if step == 7 and not alone and "itm" in config.objectives.weights:
            raise OutOfMemory("out of memory with batch 8")

    return trainer(config, directory, log=starved, **rest)


def test_a_run_without_memory_beside_others_goes_on_alone_and_says_so(people, tmp_path, monkeypatch):
    monkeypatch.setenv("STEP_SECONDS", "0.1")
    runs, lines = planned(people, tmp_path, "cl", "itm"), []
    callbacks = NO_CALLBACKS._replace(notify=lines.append)
    outcomes = execute(runs, tmp_path, jobs=2, callbacks=callbacks, train=has_too_little_memory)
    assert [outcome.state for outcome in outcomes] == ["finished", "finished"]
    moved = [line for line in lines if "out of memory" in line]
    line = "it goes on from its last checkpoint with its device for itself (out of memory with batch 8)"
    assert moved == [f"table4/itm seed 0: out of memory beside other runs; {line}"]
    assert (runs[1].directory / "calls").read_text() == "trained\n" * 2
    assert not (runs[1].directory / "failure.json").exists()


def never_has_enough_memory(config, directory, **rest):
    (directory / "calls").open("a").write(f"{config.seed}\n")
    rest["log"]("train", 0, {"loss": 1.0})
    raise OutOfMemory("out of memory with batch 8")


def test_a_run_that_has_too_little_memory_alone_fails_after_two_tries(people, tmp_path):
    """Two runs at a time, none of which ever fits: each is tried at most beside the other, and alone, and no more."""
    runs = planned(people, tmp_path, "cl", "itm", "s-itm", "p-itm")
    outcomes = execute(runs, tmp_path, jobs=2, train=never_has_enough_memory)
    assert [outcome.state for outcome in outcomes] == ["failed"] * 4
    assert all(len((run.directory / "calls").read_text().splitlines()) <= 2 for run in runs)
    assert read_json(runs[0].directory / "failure.json")["type"] == "OutOfMemory"
    assert not (runs[0].directory / RESULT).exists()


def test_a_run_alone_on_its_device_is_not_moved(people, tmp_path):
    runs, lines = planned(people, tmp_path, "cl", "itm"), []
    callbacks = NO_CALLBACKS._replace(notify=lines.append)
    start = lambda runs: Local(Places(("0", "1"), 1, 2))
    outcomes = execute(runs, tmp_path, callbacks=callbacks, train=never_has_enough_memory, start=start)
    assert [outcome.state for outcome in outcomes] == ["failed"] * 2
    assert [(run.directory / "calls").read_text() for run in runs] == ["0\n", "0\n"]
    assert not any("goes on" in line for line in lines)


def test_a_real_suite_on_a_cpu_with_as_many_runs_at_a_time_as_fit(people, tmp_path):
    """The trainer itself: three seeds end, each with its peak on record, and a second command finds all done."""
    suite = write_suite(tmp_path, people, {"cl": 0.5}, None, max_steps_per_epoch=2, epochs=1)
    arguments = ("run", suite, "--seeds", "0,1,2", "--jobs", "auto", "-o", f"data.root={people}")
    command = rasa(*arguments, folder=tmp_path / "work")
    assert command.out.count("finished, R@1") == 3
    results = [read_json(path) for path in (tmp_path / "work/runs/own/row").glob(f"*/seed-*/{RESULT}")]
    assert len(results) == 3 and all(result["cost"]["peak_mib"] > 50 for result in results)
    again = rasa(*arguments, folder=tmp_path / "work")
    assert "started" not in again.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--jobs", "0"], "'0': give a whole number of 1 or more, or auto"),
        (["--jobs", "many"], "'many': give a whole number of 1 or more, or auto"),
        (["--per-device", "2"], "--per-device 2: no GPU is visible here"),
        (["--per-device", "0", "--jobs", "2"], "--per-device"),
    ],
)
def test_bad_options_end_the_command_before_a_run_exists(people, tmp_path, capsys, monkeypatch, options, said):
    monkeypatch.setattr("experiments.executors.choice.gpus_here", lambda: ())
    arguments = ["run", "table4/cl", "--workspace", str(tmp_path / "work"), "-o", f"data.root={people}", *options]
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "work").glob("runs/*"))
