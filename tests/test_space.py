"""Spaces: the named ones go with their rows, and every fault is one line that names file, field, value and remedy."""

import json
import subprocess
import sys

import pytest

from experiments.layers import flatten
from rasa.commands.cli import main
from rasa.errors import SpecError
from studies.points import Points, point_name
from studies.samplers import make_pruner, make_sampler
from studies.space import Pruner, Sampler, load_space, space_names
from tests.helpers.light_start import LIGHT
from tests.helpers.searching import SPACE, points, write_space

PRD, RATE = "objectives.weights.prd", "optimisation.learning_rate"


@pytest.mark.parametrize("name", space_names())
def test_every_named_space_goes_with_its_row_at_every_profile(name, tmp_path):
    space = load_space(name)
    for profile in ("smoke", "synth"):
        bound = Points(space, profile, (), None, tmp_path)
        assert bound.name == f"{name}/{profile}"
    assert space.title and space.study == name
    assert all(parameter.distribution() for parameter in space.parameters.values())


def test_the_paper_s_weights_are_the_first_point_of_objective_weights(tmp_path):
    point = Points(load_space("objective-weights"), None, (), None, tmp_path).row_point()
    assert list(point.values()) == [0.5, 0.5, 1.0, 0.5]


def faults(tmp_path, **changes):
    with pytest.raises(SpecError) as fault:
        points(tmp_path, **changes)
    text = str(fault.value)
    assert "\n" not in text and "toy.yaml" in text
    return text


def parameter(name=PRD, **values):
    return {"parameters": {name: values}}


CASES = [
    (parameter("objectives.weights.prt", low=0, high=1), "parameters.objectives.weights.prt: no such config field"),
    (parameter("objectives.p_waek", low=0.1, high=1), "did you mean objectives.p_weak?"),
    (parameter("seed", low=0, high=3, type="int"), "parameters.seed: no such config field"),
    (parameter("optimisation.threads", low=1, high=3, type="int"), "is no value that a trial could compute otherwise"),
    (parameter(low=1, high=1), f"parameters.{PRD}: the range from low 1 to high 1 is empty; give low < high"),
    (parameter(low=2, high=1), "the range from low 2 to high 1 is empty"),
    (parameter(low=0.1, high=1, step=0.4), "step 0.4 does not divide the range from 0.1 to 1"),
    (parameter(low=0, high=1, log=True), "log needs low > 0 and no step"),
    (parameter(low=1), "a parameter of type float needs low and high"),
    (parameter(RATE, type="int", low=0.5, high=2), "must be whole numbers"),
    (parameter("objectives.generator", type="categorical", choices=["online"]), "two or more"),
    (parameter("objectives.generator", type="categorical", choices=["online", "online"]), "names a value twice"),
    (
        parameter("objectives.generator", type="categorical", choices=["online", "nobody"]),
        'the value "nobody" cannot be',
    ),
    (parameter("objectives.p_weak", low=0.0, high=0.5), "the value 0.0 cannot be"),
    ({"objectives": [{"metric": "test/r1"}]}, "test/r1 is of the test split, which no search may see; use val/r1"),
    ({"objectives": [{"metric": "val/r2"}]}, "objectives.0.metric: no such metric; did you mean val/r"),
    ({"constraints": [{"name": "a", "sum": {"x": 1}, "at_most": 1}]}, "x is no parameter of this space"),
    ({"constraints": [{"name": "a", "at_most": 1}]}, "give sum (of parameters) or metric"),
    ({"constraints": [{"name": "a", "metric": "test/r1", "at_most": 1}]}, "of the test split"),
    ({"pruner": {"name": "median"}, "objectives": [{}, {"metric": "cost/seconds"}]}, "compares one objective"),
    ({"pruner": {"name": "median"}, "objectives": [{"metric": "cost/seconds"}]}, "needs a metric of validation"),
    ({"pruner": {"name": "wilcoxon"}, "seeds": [0, 1, 2]}, "no trial would be stopped early; give 5 seeds or more"),
    ({"row": "m-rtd"}, "row: write suite/row (m-rtd)"),
    ({"start_at": [{PRD: 0.5}]}, f"start_at.0 must give every parameter: {PRD}, {RATE}"),
    ({"start_at": [{PRD: 5.0, RATE: 1e-3}]}, "is not in the space"),
    ({"parameters": {}}, "must name one at least"),
    ({"objectives": []}, "objectives one to three"),
    ({"smapler": {"name": "gp"}}, "smapler: unknown key; did you mean sampler?"),
    ({"study": "relation"}, "study: relation is a built-in study; give yours another name"),
]


@pytest.mark.parametrize(("changes", "text"), CASES, ids=[text[:40] for _, text in CASES])
def test_one_line_says_what_is_wrong_with_a_space(tmp_path, changes, text):
    assert text in faults(tmp_path, **changes)


def test_a_row_or_a_space_that_is_nowhere(tmp_path):
    with pytest.raises(SpecError, match="no row 'm-rdt'.*did you mean m-rtd"):
        points(tmp_path, row="table4/m-rdt")
    with pytest.raises(
        SpecError, match=r"no space 'objective-weight' \(a file ends in .yaml\); did you mean objective-weights"
    ):
        load_space("objective-weight")


def test_fewer_seeds_than_a_pruner_needs_are_refused_on_the_command_line_too(tmp_path):
    space = {"pruner": {"name": "wilcoxon"}, "seeds": [0, 1, 2, 3, 4]}
    points(tmp_path, **space)
    with pytest.raises(SpecError, match="toy.yaml: pruner wilcoxon with 2 seeds"):
        points(tmp_path, given=[0, 1], **space)


def test_a_point_s_run_is_the_row_with_its_values(tmp_path):
    bound = points(tmp_path, given=[3])
    (run,) = bound.runs({PRD: 0.25, RATE: 2e-4})
    assert run.config.objectives.weights == {"cl": 0.5, "itm": 1, "prd": 0.25, "mlm": 1, "rtd": 0.5}
    assert (run.config.optimisation.learning_rate, run.config.optimisation.epochs, run.config.seed) == (2e-4, 4, 3)
    assert (run.about.suite, run.about.row) == ("study.toy", point_name({PRD: 0.25, RATE: 2e-4}))


def test_the_identity_ignores_the_budget_and_the_sampler_but_no_part_of_the_space(tmp_path):
    own = points(tmp_path).identity()
    assert points(tmp_path, trials=99, sampler={"name": "random"}, title="Other").identity() == own
    wider = {PRD: {"low": 0.1, "high": 3.0}, RATE: SPACE["parameters"][RATE]}
    for change in (
        {"parameters": wider},
        {"base": {"optimisation": {"epochs": 3}}},
        {"row": "table4/o-rtd"},
        {"objectives": [{"metric": "val/r5"}]},
    ):
        assert points(tmp_path, **change).identity() != own
    assert points(tmp_path, given=[0, 1]).identity() != own


def test_constraints_bound_a_sum_of_parameters(tmp_path):
    bound = points(tmp_path, constraints=[{"name": "little", "sum": {PRD: 2, RATE: 1}, "at_most": 1}])
    assert bound.broken({PRD: 0.25, RATE: 0.25}) == {"little": -0.25}
    assert bound.broken({PRD: 0.5, RATE: 0.25}) == {"little": 0.25}


def test_a_space_counts_its_points():
    assert load_space("relation").size == 10 * 10 * 10
    assert load_space("objective-weights").size is None


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "random"])
def test_a_sampler_draws_by_the_number_of_the_trial_alone(name):
    import optuna

    if name == "cmaes":
        pytest.importorskip("cmaes")
    space = load_space("optimiser")
    distributions = {key: p.distribution() for key, p in space.parameters.items()}

    def draws(restart):
        """Eight points; the sampler is made anew for each, and the study, too, where `restart` says so."""
        storage, found = optuna.storages.InMemoryStorage(), []
        optuna.create_study(storage=storage, study_name="s", direction="maximize")
        for number in range(8):
            sampler = make_sampler(Sampler(name=name, startup_trials=4), number)
            if number in (0, *restart):
                study = optuna.load_study(study_name="s", storage=storage)
            study.sampler = sampler
            trial = study.ask(distributions)
            found.append(dict(trial.params))
            study.tell(trial, -abs(trial.params["model.momentum"] - 0.95))
        return found

    unbroken = draws(())
    assert draws((3, 6)) == unbroken
    assert len({point_name(point) for point in unbroken}) == 8


def test_pruners_are_optuna_s():
    names = {
        name: type(make_pruner(Pruner(name=name), 5, 1)).__name__
        for name in ("none", "median", "hyperband", "wilcoxon")
    }
    assert names == {
        "none": "NopPruner",
        "median": "MedianPruner",
        "hyperband": "HyperbandPruner",
        "wilcoxon": "WilcoxonPruner",
    }


def test_list_says_what_each_space_searches(capsys):
    assert main(["study", "list"]) == 0
    shown = capsys.readouterr().out
    for name in space_names():
        assert name in shown
    assert main(["study", "list", "--json"]) == 0
    (first, *_) = json.loads(capsys.readouterr().out)
    assert first["parameters"] == list(load_space("objective-weights").parameters)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["run", "nowhere"], 3, "no space 'nowhere'"),
        (["run", "relation", "--trials", "0"], 2, "--trials"),
        (
            ["run", "relation", "--storage", "mongodb://h/db"],
            5,
            "use journal:///FILE, sqlite:///FILE.db or postgresql://",
        ),
        (["status", "--follow"], 2, "name its space"),
        (["status", "relation"], 3, "no study relation/smoke in"),
    ],
)
def test_bad_arguments_end_with_a_line_and_a_code(tmp_path, capsys, arguments, code, text):
    root = [] if arguments[0] == "status" else ["-o", f"data.root={points(tmp_path).row_config.data.root}"]
    assert main(["study", *arguments, *root, "--workspace", str(tmp_path)]) == code
    assert text in capsys.readouterr().err


def test_the_file_may_be_anywhere_and_anything_but_damaged(tmp_path):
    assert load_space(write_space(tmp_path)).parameters.keys() == SPACE["parameters"].keys()
    (tmp_path / "bad.yaml").write_text("study: [")
    with pytest.raises(SpecError, match="bad.yaml:"):
        load_space(str(tmp_path / "bad.yaml"))
    with pytest.raises(SpecError, match="cannot be read"):
        load_space(str(tmp_path / "none.yaml"))


def test_an_exported_point_is_a_suite_s_row(tmp_path):
    bound = points(tmp_path)
    content = bound.as_suite({PRD: 0.25, RATE: 2e-4}, "best-toy", "trial-7", "Best")
    (row,) = content["rows"]
    assert row["extends"] == "table4/m-rtd"
    assert flatten(row["changes"])["objectives.weights.itm"] == 1  # a row states all its losses
    assert row["changes"]["optimisation"] == {"epochs": 4, "learning_rate": 2e-4}


def test_help_of_studies_loads_nothing_heavy():
    for arguments in (["study", "--help"], ["study", "run", "--help"]):
        done = subprocess.run([sys.executable, "-c", LIGHT, *arguments], capture_output=True, text=True, check=True)
        assert done.stderr == "[]\n"
