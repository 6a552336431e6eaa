"""Studies in odd hands: other options than they were begun with, spaces without points, faults that end a driver."""

import json
import time

import pytest

from experiments.plan import plan
from experiments.runner import execute
from experiments.spec import load_suite
from rasa.commands.cli import main
from rasa.errors import RunFailed, SpecError
from studies.liveness import DriverLock
from studies.report import importances, page
from studies.rerun import Winner, best_trials, winners
from studies.trials import tally
from tests.helpers.searching import EPOCHS, people, points, searched, trainer, write_space

PRD, RATE = "objectives.weights.prd", "optimisation.learning_rate"
TWO = [{"metric": "val/r1"}, {"metric": "cost/seconds"}]


def command(workspace, *arguments):
    """The exit code of `rasa study ...` on the workspace's space."""
    root = f"data.root={people(workspace)}"
    name, *rest = arguments
    return main(["study", name, str(workspace / "toy.yaml"), *rest, "--workspace", str(workspace), "-o", root])


@pytest.mark.parametrize("way", ["maximize", "minimize"])
@pytest.mark.parametrize("objectives", [1, 2])
def test_importances_are_of_the_end_that_is_searched_for(way, objectives):
    """x alone decides the high values, y alone the low ones; so which one matters depends on the direction."""
    import optuna
    from optuna.distributions import FloatDistribution

    study = optuna.create_study(directions=[way, "minimize"][:objectives])
    ranges = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
    for number in range(225):
        x, y = number % 15 / 15, number // 15 / 15
        values = [10 * max(x - 0.7, 0) - 10 * max(y - 0.7, 0), 1.0][:objectives]
        study.add_trial(optuna.create_trial(params={"x": x, "y": y}, distributions=ranges, values=values))
    found = importances(study)
    assert (found["x"] > 0.8) if way == "maximize" else (found["y"] > 0.8)


def test_a_report_is_of_the_study_that_was_run(tmp_path, capsys):
    """Other overrides or parameters than its own are one line; seeds that are not given are the study's."""
    searched(tmp_path, 4, given=[0, 1, 2])
    assert command(tmp_path, "report") == 0
    assert "seeds 0, 1, 2;" in (text := capsys.readouterr().out) and "saved 0% of 48" in text
    assert command(tmp_path, "status") == 0
    for verb, *more in (
        ("report", "--export", str(tmp_path / "best.yaml")),
        ("export", str(tmp_path / "best.yaml")),
        ("status",),
    ):
        assert command(tmp_path, verb, *more, "-o", "optimisation.epochs=9") == 3
        assert "another space: config.optimisation.epochs (4 -> 9)" in capsys.readouterr().err
    assert command(tmp_path, "report", "--seeds", "0") == 3
    assert "another space: seeds ([0, 1, 2] -> [0])" in capsys.readouterr().err
    assert not (tmp_path / "best.yaml").exists()
    write_space(tmp_path, parameters={PRD: {"low": 0.1, "high": 2.0}})
    assert command(tmp_path, "report") == 3 and "has another space: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a b", "../x", "A/b", "", "-x", "x" * 61])
def test_a_name_that_cannot_be_a_folder_is_one_line(tmp_path, name):
    with pytest.raises(SpecError, match="--name .*: use letters, digits, dots, hyphens and underscores, 60 at most"):
        points(tmp_path, name=name)


def test_cmaes_with_two_objectives_is_refused(tmp_path):
    with pytest.raises(SpecError, match="sampler cmaes searches for one objective; take tpe, gp or random"):
        points(tmp_path, objectives=TWO, sampler={"name": "cmaes"})


def test_a_bound_on_a_figure_of_validation_is_kept_to(tmp_path):
    constraints = [{"name": "not-too-good", "metric": "val/r5", "at_most": 60}]
    trials = searched(tmp_path, 8, constraints=constraints)
    over = [trial for trial in trials if trial.constraints["not-too-good"] > 0]
    assert over and len(over) < len(trials) and tally(trials).complete == 8
    best = best_trials(points(tmp_path, constraints=constraints).space, trials, 8)
    assert {trial.number for trial in best} == {trial.number for trial in trials} - {trial.number for trial in over}


def test_a_bound_that_no_complete_trial_keeps_is_said(tmp_path):
    constraints = [{"name": "cheap", "metric": "cost/seconds", "at_most": 1}]
    trials = searched(tmp_path, 2, constraints=constraints)
    with pytest.raises(SpecError, match="no complete trial that keeps the constraints; `rasa study run` with more"):
        best_trials(points(tmp_path, constraints=constraints).space, trials, 1)


def test_a_figure_that_no_run_has_fails_the_trial_by_its_name(tmp_path):
    with pytest.raises(RunFailed, match="5 trials in a row failed, the last one so: its result has no val/map"):
        searched(tmp_path, 8, constraints=[{"name": "fine", "metric": "val/map", "at_most": 60}])


def test_a_finite_space_is_searched_to_its_last_point(tmp_path):
    parameters = {
        PRD: {"low": 0.1, "high": 2.0, "step": 0.1},
        "objectives.alpha": {"type": "categorical", "choices": [0.2, 0.4]},
    }
    trials = searched(tmp_path, 40, parameters=parameters, sampler={"name": "random"}, jobs=2)
    assert tally(trials).complete == 40
    done = {tuple(trial.params.values()) for trial in trials if trial.state.name == "COMPLETE"}
    assert len(done) == 40


def test_a_space_without_a_point_that_fits_is_an_error(tmp_path):
    with pytest.raises(SpecError, match=r"no point of \d+ could be trained: outside nothing"):
        searched(tmp_path, 3, constraints=[{"name": "nothing", "sum": {PRD: 1}, "at_most": 0.01}])


def slow_or_failing(config, directory, log, **rest):
    """The first point, the row's, takes its time; every other one fails."""
    if config.objectives.weights["prd"] != 0.5:
        raise RunFailed("no luck")
    time.sleep(0.3)

    def logged(group, step, values):
        time.sleep(1.5)
        log(group, step, values)

    return trainer(config, directory, logged, **rest)


def test_a_fault_that_ends_a_driver_gives_its_living_trials_back(tmp_path):
    """They are queued at once, from their checkpoints, and it counts as no death."""
    with pytest.raises(RunFailed, match="5 trials in a row failed"):
        searched(tmp_path, 9, jobs=2, train=slow_or_failing)
    began = time.monotonic()
    trials = searched(tmp_path, 9)
    assert time.monotonic() - began < 60, "nobody was waited for"
    given_back = next(trial for trial in trials if trial.user_attrs.get("reason") == "its driver ended")
    again = next(trial for trial in trials if trial.user_attrs.get("retry_of") == given_back.number)
    assert again.state.name == "COMPLETE" and again.user_attrs["deaths"] == 0
    assert not tally(trials).running and not tally(trials).waiting


def test_status_says_whose_driver_is_gone_and_follow_ends_then(tmp_path, capsys, monkeypatch):
    """As a kill -9 leaves it: a running trial, and a lock that nobody holds."""
    from studies.storage import open_storage
    from studies.study import SharedStudy

    monkeypatch.setattr("studies.commands.FOLLOW_SECONDS", 0.05)
    bound, driver = points(tmp_path), DriverLock(tmp_path)
    shared = SharedStudy(bound, open_storage(None, tmp_path), driver.name, None, print)
    shared._watcher = type("Nobody", (), {"dead": lambda *_: []})()
    with driver:
        assert shared.next(3) is not None
        assert command(tmp_path, "status") == 0
        assert "its driver is gone" not in capsys.readouterr().out
    (tmp_path / "studies" / "drivers" / f"{driver.name}.lock").touch()
    assert command(tmp_path, "status", "--follow") == 0
    printed = capsys.readouterr()
    assert "no driver is at it; `rasa study run` goes on with it" in printed.err
    assert "its driver is gone, `rasa study run` goes on with it" in printed.out


def _started(workspace, changes):
    """The trials of a study that `--start-from` alone has filled."""
    from studies.storage import open_storage
    from studies.study import SharedStudy

    shared = SharedStudy(points(workspace, [0, 1], **changes), open_storage(None, workspace), "driver", None, print)
    shared.start_from("sweep")
    trials = shared.trials()
    shared.study._storage.delete_study(shared.study._study_id)
    return trials


def test_start_from_takes_points_with_all_seeds_and_suites_that_there_are(tmp_path, capsys):
    rows = [
        {
            "name": f"w{weight}",
            "extends": "table4/m-rtd",
            "changes": {"objectives": {"weights": {"cl": 0.5, "itm": 1, "prd": weight, "mlm": 1, "rtd": 0.5}}},
        }
        for weight in (0.2, 0.4)
    ]
    (tmp_path / "sweep.yaml").write_text(json.dumps({"suite": "sweep", "rows": rows}))
    suite = load_suite(str(tmp_path / "sweep.yaml"))
    overrides = [f"data.root={people(tmp_path)}", f"optimisation.epochs={EPOCHS}"]
    execute(plan(suite, suite.rows, "smoke", overrides, [0], tmp_path), tmp_path, train=trainer)
    execute(plan(suite, suite.rows[:1], "smoke", overrides, [1], tmp_path), tmp_path, train=trainer)
    trials = searched(tmp_path, 1, given=[0, 1], start_from=["sweep"])
    assert [trial.params[PRD] for trial in trials if "imported" in trial.user_attrs] == [0.2]
    assert "1 points of sweep were not trained with all seeds, 0, 1" in capsys.readouterr().err
    for constraint in ({"sum": {PRD: 1}, "at_most": 0.1}, {"metric": "cost/seconds", "at_most": 1}):
        bound = {"constraints": [{"name": "tight", **constraint}], "start_at_row": False, "study": "other"}
        with pytest.raises(SpecError, match="no complete trial"):
            best_trials(points(tmp_path, [0, 1], **bound).space, _started(tmp_path, bound), 1)
    with pytest.raises(SpecError, match=r"--start-from nonsense: .* has no run of it; of sweep"):
        searched(tmp_path, 1, given=[0, 1], start_from=["nonsense"])


def test_the_curse_counts_against_the_direction_and_is_the_best_trial_s(tmp_path):
    """Cost 2 in the search and 3 on fresh seeds: too hopeful by 1. And a row that wins alone is spoken of, too."""
    from studies.report import _curse
    from studies.rerun import Spread

    fresh = Spread((2.5, 3.5))
    one, two = (Winner(number, {}, value, fresh, Spread(()), False, 1) for number, value in ((1, 2.0), (2, 2.9)))
    assert one.curse == pytest.approx(1.0)
    assert "the best trial loses 1.00 on fresh seeds, the 2 re-run ones 0.55" in _curse([two, one])[0]
    row = Winner(0, {}, 70.0, Spread((68.0, 69.0)), Spread(()), True)
    assert "the best trial loses 1.50" in _curse([row])[0]


def test_export_without_a_new_re_run_takes_the_winner_of_the_one_there_is(tmp_path, capsys):
    """The table shows the re-run's order, so the file is its first line's."""
    from studies.rerun import chosen, rerun

    trials = searched(tmp_path, 6)
    bound = points(tmp_path)
    best = chosen(bound, trials, 2)
    for place, trial in enumerate(best):  # on fresh seeds the search's second is better

        def other(config, directory, log, place=place, **rest):
            result = trainer(config, directory, log, **rest)
            result["selected"]["val"]["r1"] = 50.0 + place
            return result

        rerun(bound, [trial], 2, train=other)
    first = winners(bound, best)[0].trial
    assert first != best[0].number
    assert command(tmp_path, "report", "--top", "2", "--export", str(tmp_path / "best.yaml")) == 0
    assert f"name: trial-{first}" in (tmp_path / "best.yaml").read_text()
    assert page.__doc__ and f"trial {first}: " in capsys.readouterr().err
