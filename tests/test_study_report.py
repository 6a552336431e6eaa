"""Reports of studies: re-runs on fresh seeds, figures, numbers, and a spec file that `rasa run` takes."""

import json

import numpy as np
import optuna
import pytest

from experiments.plan import plan
from experiments.runner import execute
from experiments.targets import parse_target
from rasa.commands.cli import main
from rasa.errors import ResourceError, SpecError
from studies.figures import Dot, best_so_far, draw_all, front
from studies.liveness import Watcher
from studies.reading import study_of
from studies.report import effort, export, numbers, page, write
from studies.rerun import FRESH, Spread, best_trials, chosen, fresh_seeds, rerun, winners
from studies.space import load_space
from studies.storage import open_storage
from studies.study import Measured, SharedStudy
from tests.helpers.drawings import kept
from tests.helpers.searching import EPOCHS, people, points, quality, searched, trainer, write_space

PRD, RATE = "objectives.weights.prd", "optimisation.learning_rate"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A study of seven trials whose two best, and the row, were re-run on three fresh seeds."""
    folder = tmp_path_factory.mktemp("report")
    trials = searched(folder, 7, jobs=2, objectives=[{"metric": "val/r1"}, {"metric": "cost/seconds"}])
    bound = points(folder, objectives=[{"metric": "val/r1"}, {"metric": "cost/seconds"}])
    rerun(bound, chosen(bound, trials, 2), 3, train=trainer)
    return folder


@pytest.fixture
def bound(workspace):
    return points(workspace, objectives=[{"metric": "val/r1"}, {"metric": "cost/seconds"}])


@pytest.fixture
def found(workspace, bound):
    return study_of(open_storage(None, workspace), bound)


def test_an_interval_is_student_s():
    """1, 2, 3: mean 2, standard deviation 1, t(0.975, 2) = 4.303, so 4.303 / sqrt(3) = 2.484."""
    assert (Spread((1.0, 2.0, 3.0)).mean, Spread((1.0,)).half_width, Spread(()).mean) == (2.0, None, None)
    assert Spread((1.0, 2.0, 3.0)).half_width == pytest.approx(2.484, abs=1e-3)


def test_the_front_has_what_no_other_beats_in_both():
    dots = [
        Dot(n, r1, {}, False, cost) for n, (r1, cost) in enumerate([(50, 10), (60, 20), (55, 30), (60, 25), (40, 5)])
    ]
    assert [dot.number for dot in front(dots, ("maximize", "minimize"))] == [4, 0, 1]


def test_pruned_trials_are_never_the_best_so_far():
    dots = [Dot(0, 9, {}, True), Dot(1, 3, {}, False), Dot(2, 8, {}, True), Dot(3, 5, {}, False), Dot(4, 4, {}, False)]
    assert best_so_far(dots, maximize=True) == [3, 3, 3, 5, 5]
    assert best_so_far(dots, maximize=False) == [3, 3, 3, 3, 3]


def test_the_best_trials_are_trained_again_on_seeds_that_the_search_has_not_seen(bound, found):
    trials = found.trials
    two = best_trials(bound.space, trials, 2)
    assert [t.values[0] for t in two] == sorted((t.values[0] for t in trials), reverse=True)[:2]
    known = winners(bound, chosen(bound, trials, 2))
    assert fresh_seeds(bound, 3) == [FRESH, FRESH + 1, FRESH + 2]
    assert {winner.trial for winner in known} == {0, *(t.number for t in two)}
    for winner in known:  # the stand-in gives a tenth of a point per seed: fresh seeds are better by just that
        assert winner.validation.mean == pytest.approx(winner.searched + (FRESH + 1) / 10)
        assert winner.curse == pytest.approx(-(FRESH + 1) / 10)
        assert winner.test.mean == pytest.approx(winner.validation.mean - 5)
        assert winner.row == (winner.trial == 0)


def test_seeds_of_the_search_are_not_fresh(workspace):
    assert fresh_seeds(points(workspace, given=[FRESH]), 2) == [FRESH + 1, FRESH + 2]


def test_the_page_the_numbers_and_the_figures(bound, found, tmp_path):
    known = winners(bound, chosen(bound, found.trials, 2))
    text = write(bound, found, known, tmp_path)
    assert "(the row as it is)" in text and "Winner's curse: the best trial loses -100.10 on fresh seeds" in text
    assert "Pareto front, val/r1 against cost/seconds" in text
    assert {path.name for path in tmp_path.glob("*.png")} == {
        f"{name}.png" for name in ("history", "importances", "slices", "contour", "pareto")
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.glob("*.png"))
    stored = json.loads((tmp_path / "study.json").read_text())
    assert stored == json.loads(json.dumps(numbers(bound, found, known)))
    assert stored["epochs"] == {"trained": 7 * EPOCHS, "without_pruner": 7 * EPOCHS, "saved": 0.0}
    assert sum(stored["importances"].values()) == pytest.approx(1)


def test_without_a_re_run_the_page_says_so(bound, found):
    without = [winner._replace(validation=Spread(()), test=Spread(())) for winner in winners(bound, found.trials[:2])]
    assert "No re-run yet" in page(bound, found, without)


def test_a_report_that_cannot_be_written_is_a_line(bound, found, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="give another --out"):
        write(bound, found, [], tmp_path / "file")


def test_the_exported_trial_is_a_row_that_rasa_run_takes(workspace, bound, found, tmp_path):
    best = best_trials(bound.space, found.trials, 1)[0]
    assert export(bound, found.trials, None, tmp_path / "best.yaml") == best.number
    suite, rows = parse_target(str(tmp_path / "best.yaml"))
    (run,) = plan(suite, rows, suite.profile, bound.overrides, [0], workspace)
    assert run.config.objectives.weights["prd"] == best.params[PRD]
    assert run.config.optimisation.learning_rate == best.params[RATE]
    (trial_run,) = bound.runs(best.params, [0])
    assert run.about.run_id == trial_run.about.run_id  # the very same computation
    assert execute([run], workspace, train=trainer)[0].state == "finished"
    with pytest.raises(ResourceError, match="--trial 99: no complete trial of toy/smoke; there is 0, 1, 2, 3, 4, 5, 6"):
        export(bound, found.trials, 99, tmp_path / "best.yaml")


def test_a_study_without_a_complete_trial_has_no_report(bound):
    with pytest.raises(SpecError, match="the study has no complete trial; `rasa study run` with more --trials goes on"):
        best_trials(bound.space, [], 3)


def test_the_commands(workspace, tmp_path, capsys):
    space = write_space(workspace, objectives=[{"metric": "val/r1"}, {"metric": "cost/seconds"}])
    root = ["-o", f"data.root={workspace}/people", "--workspace", str(workspace)]
    assert main(["study", "report", space, *root, "--out", str(tmp_path), "--export", str(tmp_path / "b.yaml")]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("# toy/smoke") and f"report: {tmp_path}/study.md" in shown.err
    assert (tmp_path / "b.yaml").exists()
    assert main(["study", "report", space, *root, "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["complete"] == 7
    assert main(["study", "export", space, str(tmp_path / "c.yaml"), "--trial", "3", *root]) == 0
    assert "name: trial-3" in (tmp_path / "c.yaml").read_text()
    assert main(["study", "status", "--workspace", str(workspace)]) == 0
    assert "toy/smoke" in capsys.readouterr().out
    assert main(["study", "status", space, *root]) == 0
    assert "toy/smoke: 7 complete" in capsys.readouterr().out


def test_status_has_a_line_per_trial(bound, found, capsys):
    from studies.reading import rows_of

    rows = rows_of(bound.space, found.trials)
    assert [row["state"] for row in rows] == ["complete"] * 7
    assert rows[0]["point"] == {PRD: 0.5, RATE: 5e-3}


def test_effort_is_of_what_was_trained_here(bound, found):
    cost = effort(bound, found.trials)
    assert (cost.epochs, cost.seconds, cost.saved) == (7 * EPOCHS, 14.0, 0.0)


BOTH = [{"metric": "val/r1"}, {"metric": "cost/seconds"}]
# prd, learning rate, val/r1, cost/seconds: trials 1, 2 and 4 are the front.
TOLD = [(0.2, 1e-4, 50, 310), (0.4, 1e-2, 60, 200), (0.8, 1e-3, 70, 300), (1.6, 1e-4, 55, 400), (0.3, 1e-3, 40, 100)]


def test_the_contour_has_each_trial_at_its_parameters_and_the_first_objective_as_its_height(tmp_path, monkeypatch):
    figures = kept(monkeypatch)
    space, trials = told(tmp_path)
    draw_all(space, trials, {PRD: 0.7, RATE: 0.3}, tmp_path)
    axis, bar = figures["contour"].axes
    assert (axis.get_xlabel(), axis.get_ylabel(), bar.get_ylabel()) == (PRD, f"log10 {RATE}", "val/r1")
    field, marks = axis.collections
    assert (field.zmin, field.zmax) == (40, 70)
    places = np.array([(prd, np.log10(rate)) for prd, rate, _, _ in TOLD])
    assert np.asarray(marks.get_offsets()) == pytest.approx(places)
    assert axis.dataLim.min == pytest.approx(places.min(0))  # of field and marks together
    assert axis.dataLim.max == pytest.approx(places.max(0))


def test_the_pareto_figure_has_the_second_objective_across_the_first_one_up_and_names_the_front(tmp_path, monkeypatch):
    figures = kept(monkeypatch)
    space, trials = told(tmp_path)
    draw_all(space, trials, {}, tmp_path)
    (axis,) = figures["pareto"].axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("cost/seconds", "val/r1")
    (every,), (best,) = axis.collections, axis.lines
    assert np.asarray(every.get_offsets()) == pytest.approx(
        np.array([(seconds, r1) for _, _, r1, seconds in TOLD], float)
    )
    assert best.get_xydata().tolist() == [[100, 40], [200, 60], [300, 70]]
    assert {text.get_text(): text.xy for text in axis.texts} == {"4": (100, 40), "1": (200, 60), "2": (300, 70)}


def told(tmp_path):
    """The space, and the trials of TOLD."""
    space = load_space(write_space(tmp_path, objectives=BOTH))
    study = optuna.create_study(directions=["maximize", "minimize"])
    ranges = {name: parameter.distribution() for name, parameter in space.parameters.items()}
    for prd, rate, r1, seconds in TOLD:
        study.add_trial(optuna.create_trial(params={PRD: prd, RATE: rate}, distributions=ranges, values=[r1, seconds]))
    return space, study.trials


def test_a_trial_that_exceeds_a_bound_is_never_among_the_best(tmp_path):
    space = load_space(write_space(tmp_path, constraints=[{"name": "small", "metric": "cost/peak_mib", "at_most": 60}]))
    study = optuna.create_study(direction="maximize")
    for value, excess in ((90.0, 0.5), (70.0, -1.0), (80.0, 0.0)):
        trial = study.ask({name: parameter.distribution() for name, parameter in space.parameters.items()})
        trial.set_constraint("small", excess)
        study.tell(trial, value)
    assert [trial.number for trial in best_trials(space, study.trials, 3)] == [2, 1]
    with pytest.raises(SpecError):
        best_trials(space, study.trials[:1], 3)


def overturned(config, *rest, **more):
    """The stand-in, by which the worst points are the best ones on fresh seeds: the value is turned by a seed."""
    return trainer(config.model_copy(update={"seed": -20 * quality(config)}), *rest, **more)


def test_the_winner_of_the_re_run_is_exported_and_not_that_of_the_search(tmp_path, capsys):
    bound, file, storage = points(tmp_path), tmp_path / "best.yaml", open_storage(None, tmp_path)
    shared = SharedStudy(bound, storage, "me", Watcher(tmp_path), print)
    for _ in range(3):  # trained by nobody, but told as the stand-in would have it
        trial = shared.next(3)
        shared.complete(trial, Measured([[quality(bound.runs(trial.params)[0].config)]], {}, 1.0, EPOCHS))
    rerun(bound, chosen(bound, shared.trials(), 2), 2, train=overturned)
    command = ["study", "report", write_space(tmp_path), "-o", f"data.root={people(tmp_path)}", "--workspace", tmp_path]
    command += ["--top", "2", "--rerun", "2", "--export", file, "--json"]  # all re-runs are there
    assert main([str(part) for part in command]) == 0
    winner, *others = json.loads(capsys.readouterr().out)["winners"]
    assert winner["searched"] < others[0]["searched"]
    (row,) = parse_target(str(file))[1]
    assert row.name == f"trial-{winner['trial']}"
