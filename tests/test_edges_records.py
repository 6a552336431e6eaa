"""Records that are damaged, of other types, private, or of a run that was killed; variants that must stay apart."""

import json
import os
import signal
import stat

import pytest

from experiments import store
from experiments.outcome import NO_CALLBACKS, raise_for
from experiments.plan import plan, recorded_runs
from experiments.rundir import METRICS, RESULT, MetricsLog, read_json, read_points, read_result, write_json
from experiments.runner import execute
from experiments.spec import load_suite
from experiments.stop import Stop
from experiments.uploader import Tracker
from rasa.commands.cli import main
from rasa.weights.folder import save_checkpoint, save_tensors
from rasa.weights.notes import read_notes
from reports.load import load_runs
from reports.variants import folder_name, variant
from tests.helpers.people import write_people
from tests.helpers.stand_in import STEPS, stops_at_step_7, trainer
from tests.helpers.tracked import planned as tracked_plan


@pytest.fixture
def people(tmp_path):
    return write_people(tmp_path / "people", train=4, val=2, test=2, images=1)


def planned(people, workspace, *rows, seeds=(0,), overrides=()):
    suite = load_suite("table4")
    options = [f"data.root={people}", "optimisation.epochs=2", *overrides]
    return plan(suite, [suite.row(name) for name in rows], "smoke", options, seeds, workspace)


TAILS = [
    b"\0\0\0\0\0\n",
    b"\0" * 4096,
    b'{"group": "train", "st',
    b"[]\n",
    b'{"group": 1, "step": 0, "values": {}, "time": 0}\n',
    b'{"group": "train", "step": 0, "values": {"loss": "x"}, "time": 0}\n',
    b"\xff\xfe\n",
    b"[" * 99999 + b"\n",
]


@pytest.mark.parametrize("tail", TAILS)
def test_a_damaged_tail_is_cut_when_the_run_goes_on_and_said(people, tmp_path, tail):
    (run,) = planned(people, tmp_path, "cl")
    execute([run], tmp_path, train=stops_at_step_7)
    with (run.directory / METRICS).open("ab") as file:
        file.write(tail)
    lines = []
    (outcome,) = execute(
        planned(people, tmp_path, "cl"), tmp_path, callbacks=NO_CALLBACKS._replace(notify=lines.append), train=trainer
    )
    assert outcome.state == "finished"
    assert [point.step for point in read_points(run.directory) if point.group == "train"] == list(range(2 * STEPS))
    assert bool([line for line in lines if "damaged line" in line]) == tail.endswith(b"\n")


WRONG = [
    {"test": [1]},
    {"test": {"r1": "50"}},
    {"cost": {"seconds": None}},
    {"selected": 3},
    {"selected": {"val": []}},
    {"sizes": "many"},
    {"digests": 0},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_result_of_wrong_types_is_made_again_and_stops_no_command(people, tmp_path, wrong, capsys):
    runs = planned(people, tmp_path, "cl", "itm")
    execute(runs, tmp_path, train=trainer)
    whole = read_json(runs[0].directory / RESULT)
    write_json(runs[0].directory / RESULT, whole | wrong)
    again = planned(people, tmp_path, "cl", "itm")
    assert [run.state for run in again] == ["interrupted", "finished"]
    assert again[0].reason.startswith("result.json is damaged and will be made again")
    assert [run.state for run in recorded_runs(tmp_path)] == ["interrupted", "finished"]
    execute(again, tmp_path, train=trainer)
    assert read_result(runs[0].directory / RESULT)["test"] == whole["test"]


def test_an_epoch_s_figures_are_on_the_disk_before_the_run_goes_on(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(handle))
    log = MetricsLog(tmp_path)
    log.append("train", 0, {"loss": 1.0})
    assert not synced
    log.append("val", 1, {"r1": 1.0})
    assert len(synced) == 1


def test_notes_of_older_runs_are_read(tmp_path):
    """Version 0.1.0 wrote each note by itself, in an order of chance; now they are one text."""
    import torch
    from safetensors.torch import save_file

    notes, values = {"images": "a1", "captions": "b2"}, {"a": torch.zeros(2)}
    save_file(values, tmp_path / "old", notes)
    save_tensors(values, tmp_path / "new", notes)
    save_tensors(values, tmp_path / "none")
    assert read_notes(tmp_path / "old") == read_notes(tmp_path / "new") == notes
    assert read_notes(tmp_path / "none") == {}


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_all_files_of_a_run_have_the_permissions_that_the_umask_leaves(tmp_path, mask):
    import torch

    before = os.umask(mask)
    try:
        save_checkpoint(tmp_path / "step-1", {"a": torch.zeros(2)}, {})
        save_tensors({"a": torch.zeros(2)}, tmp_path / "predictions.safetensors")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {0o666 & ~mask}


def test_rows_that_were_not_reached_are_not_called_interrupted(people, tmp_path):
    def stopped_in_the_first(config, directory, **rest):
        os.kill(os.getpid(), signal.SIGINT)
        assert rest["should_stop"]()
        raise KeyboardInterrupt

    runs = planned(people, tmp_path, "cl", "itm", "m-rtd")
    outcomes = execute(runs, tmp_path, train=stopped_in_the_first)
    assert [outcome.state for outcome in outcomes] == ["interrupted", "new", "new"]
    assert "not reached" in outcomes[2].message
    with pytest.raises(KeyboardInterrupt):
        raise_for(outcomes)
    with pytest.raises(KeyboardInterrupt):  # stopped just between two runs
        raise_for([outcomes[1]])


def test_a_closed_terminal_stops_with_a_checkpoint_and_nohup_goes_on():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup themselves
    try:
        with Stop(lambda: None) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.asked
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Stop(lambda: None) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_background_job_hears_sigint_though_its_shell_has_it_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop(lambda: None) as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.asked
    finally:
        signal.signal(signal.SIGINT, before)


def test_status_and_report_say_the_same_of_a_run_that_was_killed(tmp_path):
    uri = store.default_uri(tmp_path)
    tracker = Tracker(uri, tmp_path, print)
    (run,) = tracked_plan(tmp_path, "cl")

    def killed(config, directory, log, **rest):
        log("train", 0, {"loss": 1.0})  # delivers
        raise SystemExit  # as far as records go, what kill -9 leaves: no end is noted

    with pytest.raises(SystemExit):
        execute([run], tmp_path, callbacks=NO_CALLBACKS._replace(deliver=tracker.deliver), train=killed)
    assert [run.state for run in recorded_runs(tmp_path)] == ["interrupted"]
    options = [f"data.root={tmp_path / 'people'}", "optimisation.epochs=2"]
    table = load_runs(load_suite("table4"), "smoke", options, uri, tmp_path).runs
    assert list(table["state"]) == ["interrupted"]


def test_a_variant_made_with_o_is_told_apart_everywhere(people, tmp_path, capsys):
    given = [f"data.root={people}", "optimisation.weight_decay=0.5"]
    suite = load_suite("table4")
    runs = plan(suite, [suite.row("cl")], "smoke", given, [0], tmp_path)
    assert runs[0].about.variant == "optimisation.weight_decay=0.5"
    execute(runs, tmp_path, train=trainer)
    assert main(["status", "--workspace", str(tmp_path)]) == 0
    assert "optimisation.weight_decay=0.5" in capsys.readouterr().out
    assert variant(suite, "smoke", given) == "optimisation.weight_decay=0.5"
    names = [
        folder_name(suite, "smoke", options)
        for options in ([], given[:1], given, [*given[:1], "optimisation.epochs=2"])
    ]
    assert names[0] == "table4-smoke" and len(set(names)) == 4 and "weight_decay=0.5" in names[2]
    assert folder_name(suite, "smoke", given[::-1]) == names[2]
    assert folder_name(suite, "paper", ["data.root=/data/CUHK-PEDES"]) == "table4-paper"


def test_a_moved_workspace_s_failed_run_is_retried_on_the_data_beside_it(tmp_path):
    from experiments.plan import planned_again

    old = tmp_path / "old"
    people = write_people(old / "people", train=4, val=2, test=2, images=1)

    def fails(config, directory, **rest):
        raise ZeroDivisionError

    execute(planned(people, old, "cl"), old, train=fails)
    new = old.rename(tmp_path / "new")
    (run,) = [planned_again(run, new) for run in recorded_runs(new)]
    assert (run.state, run.config.data.root) == ("failed", new / "people")


def test_a_plan_reads_what_was_measured_once_for_all_seeds(people, tmp_path, monkeypatch):
    from experiments import estimates

    execute(planned(people, tmp_path, "cl", seeds=range(4)), tmp_path, train=trainer)
    read, seconds_of = [], estimates.seconds_of
    monkeypatch.setattr(estimates, "seconds_of", lambda result: read.append(result) or seconds_of(result))
    runs = planned(people, tmp_path, "cl", seeds=range(40))
    assert {run.seconds for run in runs} == {4.0}
    assert len(read) == 4
    assert json.loads((runs[0].directory / RESULT).read_text())["seed"] == 0
