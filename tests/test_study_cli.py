"""`rasa study` as it is given on the command line, with real training at its smallest, and what a terminal shows."""

import json
import re
import sys
import time
from io import StringIO
from types import SimpleNamespace

import optuna
import pytest
from rich.console import Console

from experiments import store
from experiments.plan import recorded_runs
from rasa.commands.cli import main
from studies.liveness import BEAT, DRIVER, Watcher
from studies.rerun import FRESH
from studies.screen import Screen
from studies.space import load_space
from studies.storage import open_storage
from studies.study import Measured, SharedStudy
from studies.trials import tally
from tests.helpers.searching import fresh_store, people, points, write_space

RATE = "optimisation.learning_rate"
# The row's own rate lies in the space, but is not queued: --start-from has it.
SPACE = {
    "study": "tiny",
    "row": "table4/cl",
    "profile": "synth",
    "start_at_row": False,
    "trials": 1,
    "parameters": {RATE: {"low": 1e-3, "high": 1e-2, "log": True}},
}
SIZES = {
    "optimisation.epochs": 1,
    "optimisation.max_steps_per_epoch": 1,
    "optimisation.batch_size": 8,
    "data.synthetic.train_identities": 12,
    "data.synthetic.val_identities": 3,
    "data.synthetic.test_identities": 4,
    "data.synthetic.images_per_identity": 2,
}


def rasa(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A workspace with a run of the row and a study of two trials, both made by commands; the space; their options."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / store.DATABASE).write_bytes(fresh_store())
    space = folder / "tiny.yaml"
    space.write_text(json.dumps(SPACE))
    options = ["--profile", "smoke", "--workspace", folder]
    options += [part for name, value in SIZES.items() for part in ("-o", f"{name}={value}")]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert rasa("run", "table4/cl", *options) == 0
        assert rasa("study", "run", space, *options, "--trials", 2, "--jobs", 2, "--start-from", "table4") == 0
        yield folder, space, options


@pytest.fixture
def trials(tiny):
    storage = open_storage(None, tiny[0]).optuna
    return optuna.load_study(study_name="tiny/smoke", storage=storage).trials


def test_the_number_of_trials_is_the_command_s_and_finished_runs_come_on_top(trials):
    assert tally(trials)._asdict() | {"complete": 2, "imported": 1} == tally(trials)._asdict()
    row, *others = trials
    assert (row.user_attrs["imported"], row.params) == ("table4/cl", {RATE: 5e-3})
    assert all(1e-3 <= trial.params[RATE] <= 1e-2 for trial in others)
    assert all(0 <= trial.value <= 100 for trial in trials)


def test_two_jobs_are_two_trials_at_once(trials):
    own = [trial for trial in trials if "imported" not in trial.user_attrs]
    assert max(trial.datetime_start for trial in own) < min(trial.datetime_complete for trial in own)


def test_status_of_one_study_and_of_all(tiny, trials, capsys):
    folder, space, options = tiny
    assert rasa("study", "status", space, *options, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["study"] == "tiny/smoke" and found["counts"]["complete"] == 2
    assert [(row["values"], row["point"]) for row in found["trials"]] == [(t.values, t.params) for t in trials]
    assert rasa("study", "status", "--workspace", folder, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["study"], row["complete"], row["imported"]) == ("tiny/smoke", 2, 1)


def test_what_reads_a_study_needs_its_name_alone(tiny, trials, capsys, monkeypatch, tmp_path):
    """By its space's file, its name, with its profile: all that `study run` was given is in the study's record."""
    folder, space, options = tiny
    where = ["--workspace", folder]
    told = []
    for named in ([space, *options], [space, *where], ["tiny", *where], ["tiny/smoke", *where]):
        assert rasa("study", "report", *named, "--json", "--out", tmp_path / "page") == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0]["study"] == "tiny/smoke" and told.count(told[0]) == len(told)
    assert rasa("study", "status", "tiny", *where, "--json") == 0
    assert json.loads(capsys.readouterr().out)["counts"]["complete"] == 2
    assert rasa("study", "export", "tiny", tmp_path / "best.yaml", *where) == 0
    assert "batch_size: 8" in (tmp_path / "best.yaml").read_text() or "suite:" in (tmp_path / "best.yaml").read_text()
    capsys.readouterr()
    # Other options than its own are refused, as ever.
    assert rasa("study", "report", "tiny", *where, "-o", "optimisation.epochs=7") == 3
    assert "has another space: config.optimisation.epochs (1 -> 7)" in capsys.readouterr().err
    assert rasa("study", "report", "tiny", *where, "--profile", "synth") == 3
    assert rasa("study", "report", "tniy", *where) == 3
    assert "no space 'tniy', and no study in journal:" in (said := capsys.readouterr().err)
    assert "did you mean tiny" in said


def test_a_report_trains_the_best_trial_again_on_a_fresh_seed(tiny, trials, capsys):
    folder, space, options = tiny
    command = ["study", "report", space, *options, "--top", 1, "--json"]
    assert rasa(*command) == 0
    before = json.loads(capsys.readouterr().out)["winners"]
    assert [winner["rerun"] for winner in before] == [[]] * len(before)
    assert rasa(*command, "--rerun", 1, "--out", folder / "page", "--export", folder / "winner.yaml") == 0
    after = json.loads(capsys.readouterr().out)["winners"]
    assert max(winner["searched"] for winner in after) == max(trial.value for trial in trials)
    fresh = [run for run in recorded_runs(folder, "best-tiny") if run.about.seed >= FRESH]
    assert [run.state for run in fresh] == ["finished"] * len(after)
    assert [len(winner["rerun"]) for winner in after] == [1] * len(after)
    assert (folder / "page" / "study.json").exists() and (folder / "winner.yaml").exists()


def test_an_exported_trial_is_run_and_is_the_trial_s_own_computation(tiny, trials):
    folder, space, options = tiny
    file = folder / "mine.yaml"
    assert rasa("study", "export", space, file, *options, "--trial", 2) == 0
    assert rasa("run", file, "--seeds", "0,1", "--workspace", folder) == 0  # profile and sizes are in the file
    first, second = sorted(
        (run for run in recorded_runs(folder, "best-tiny") if run.about.row == "trial-2"), key=lambda r: r.about.seed
    )
    assert (first.state, second.state) == ("finished", "finished")
    searched = {run.about.run_id: run for run in recorded_runs(folder, "study.tiny")}
    assert first.about.run_id in searched and second.about.run_id not in searched
    result = json.loads((first.directory / "result.json").read_text())
    assert result["selected"]["val"]["r1"] == trials[2].value


@pytest.fixture
def terminal(monkeypatch):
    """What rich takes for one, without colours and wide."""
    for name, value in {"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "160"}.items():
        monkeypatch.setenv(name, value)


def last_frame(written: str) -> str:
    """The bars as they stand at last: what follows the last line that was erased."""
    return written.rpartition("\x1b[2K")[2]


def test_the_screen_has_a_bar_for_each_running_trial_and_one_for_all(tmp_path, terminal):
    space = load_space(write_space(tmp_path))
    study = optuna.create_study(direction="maximize")
    asked = [study.ask({name: p.distribution() for name, p in space.parameters.items()}) for _ in range(4)]
    study.tell(asked[0], 50.0)
    study.tell(asked[1], state=optuna.trial.TrialState.PRUNED)
    asked[2].set_user_attr(DRIVER, "box-1234abcd.77.a")
    asked[2].set_user_attr(BEAT, {"count": 1, "seed": 1, "seeds": 2, "epoch": 2, "epochs": 4, "value": 43.2})
    begun = study.trials
    study.tell(asked[2], 60.0)
    assert frames(space, begun) == [
        ("trials", "2/5", "1 complete, 1 pruned, 2 running"),
        ("trial 2 on box", "6/8", "last 43.20"),  # a whole seed of 4 epochs, and 2 of the next
        ("trial 3 on ?", "0/0", ""),  # not heard of yet
    ]
    assert frames(space, begun, study.trials) == [
        ("trials", "3/5", "2 complete, 1 pruned, 1 running"),
        ("trial 3 on ?", "0/0", ""),
    ]


def frames(space, *shown):
    """Each bar's text, number and note on a terminal, after these states of a study of 5 were shown one by one."""
    written = StringIO()
    with Screen(space, Console(file=written)) as screen:
        for trials in shown:
            screen.show(trials, 5)
    return re.findall(r"^(.+?) [━╸╺ ]+ (\d+/\d+) *(.*?) *$", last_frame(written.getvalue()), re.MULTILINE)


def test_without_a_terminal_the_screen_has_lines_and_no_bars(tmp_path):
    space, written = load_space(write_space(tmp_path)), StringIO()
    study = optuna.create_study()
    trial = study.ask({name: p.distribution() for name, p in space.parameters.items()})
    with Screen(space, Console(file=written, force_terminal=False, width=160)) as screen:
        screen.began(trial, [])
        screen.show(study.trials, 5)
        screen.ended(trial, screen.values([[42.1], [44.3]]))
    began, ended = written.getvalue().splitlines()
    assert began.startswith("trial 0: started") and ended == "trial 0: complete, val/r1 43.20 (42.10, 44.30)"


def test_following_shows_a_trial_go_on_and_ends_with_the_study(tmp_path, terminal, monkeypatch, capsys):
    """Between the looks of the one that follows, the driver of a trial goes on, as soon as its last word is seen."""
    data, seen = people(tmp_path), sys.stderr
    theirs = SharedStudy(points(tmp_path), open_storage(None, tmp_path), "far-12345678.1.a", Watcher(tmp_path), print)
    trial = theirs.next(1)

    def beat(epoch):
        theirs.beat(trial, {"count": epoch, "seed": 0, "seeds": 1, "epoch": epoch, "epochs": 4, "value": 10.0 * epoch})

    steps = [
        ("trial 0 on far", lambda: beat(1)),
        ("last 10.00", lambda: beat(3)),
        ("last 30.00", lambda: theirs.complete(trial, Measured([[50.0]], {}, 1.0, 4))),
    ]

    def pause(seconds):
        awaited, go_on = steps.pop(0)  # fails, rather than waits, if it is followed for longer
        wait_for(lambda: awaited in seen.getvalue())
        go_on()

    monkeypatch.setattr("studies.commands.time", SimpleNamespace(sleep=pause))
    assert (
        rasa("study", "status", write_space(tmp_path), "-o", f"data.root={data}", "--workspace", tmp_path, "--follow")
        == 0
    )
    assert steps == []
    shown = capsys.readouterr()
    assert "trial 0" not in last_frame(shown.err) and "1/1" in last_frame(shown.err)
    assert "50.00" in shown.out


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within half a minute")
