"""Rows that a file stands for: grids, chains of `extends`, one objective left out at a time, default comparisons."""

import re
from pathlib import Path

import pytest

from experiments import values
from experiments.spec import chain, load_suite, resolve, row_digest
from experiments.suite import Suite
from experiments.targets import parse_target
from rasa.errors import SpecError
from reports.publish import _write_specs
from studies.space import Parameter

GRID = """
suite: mine
rows:
- {name: m-rtd, extends: table4/m-rtd}
- name: lr
  extends: table4/m-rtd
  grid: {objectives.p_weak: [0.1, 0.3], optimisation.learning_rate: [1e-4, 5e-4]}
"""


def written(folder, text, name="mine.yaml"):
    (folder / name).write_text(text)
    return str(folder / name)


def suite_of(folder, text):
    return load_suite(written(folder, text))


def test_a_grid_is_a_row_for_each_combination_and_computes_what_overrides_would(tmp_path):
    """2 x 2 rows, the last field the fastest; `lr` itself is none of them."""
    suite = suite_of(tmp_path, GRID)
    assert [row.name for row in suite.rows] == [
        "m-rtd",
        "lr-p_weak-0.1-learning_rate-0.0001",
        "lr-p_weak-0.1-learning_rate-0.0005",
        "lr-p_weak-0.3-learning_rate-0.0001",
        "lr-p_weak-0.3-learning_rate-0.0005",
    ]
    for row, (p_weak, rate) in zip(suite.rows[1:], ((0.1, 1e-4), (0.1, 5e-4), (0.3, 1e-4), (0.3, 5e-4)), strict=True):
        typed = [f"objectives.p_weak={p_weak}", f"optimisation.learning_rate={rate}"]
        same = resolve(load_suite("table4"), "m-rtd", "smoke", typed, 0)
        assert row_digest(resolve(suite, row, "smoke", (), 0)) == row_digest(same)


def test_a_grid_may_be_nested_as_the_config_is_and_have_words_and_lists(tmp_path):
    text = """
    suite: mine
    labels: [Group, Setting]
    rows:
    - name: g
      labels: [mine, m-RTD]
      extends: table4/m-rtd
      changes: {optimisation: {epochs: 4}}
      grid: {objectives: {generator: [online, momentum]}, data.image_size: [[48, 24], [96, 48]]}
    """
    suite = suite_of(tmp_path, text)
    assert [row.name for row in suite.rows][:2] == [
        "g-generator-online-image_size-48-24",
        "g-generator-online-image_size-96-48",
    ]
    assert suite.rows[1].labels == ("mine", "m-RTD, generator online, image_size [96, 48]")
    config = resolve(suite, suite.rows[3], "smoke", (), 0)
    assert (config.objectives.generator, config.data.image_size, config.optimisation.epochs) == (
        "momentum",
        (96, 48),
        4,
    )


def test_a_grid_over_one_loss_leaves_the_others_as_they_are(tmp_path):
    """Of the row that is extended, or of the row's own changes; m-RTD's are cl 0.5, itm 1, prd 0.5, mlm 1, rtd 0.5."""
    text = """
    suite: mine
    rows:
    - {name: a, extends: table4/m-rtd, grid: {objectives.weights.prd: [0.2, 0.7]}}
    - {name: b, changes: {objectives: {weights: {cl: 1, itm: 1}}}, grid: {objectives.weights.itm: [2, 3]}}
    """
    suite = suite_of(tmp_path, text)
    found = [resolve(suite, row, "smoke", (), 0).objectives.weights for row in suite.rows]
    assert found[0] == {"cl": 0.5, "itm": 1.0, "prd": 0.2, "mlm": 1.0, "rtd": 0.5}
    assert found[1]["prd"] == 0.7 and found[3] == {"cl": 1.0, "itm": 3.0}


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ("{objectives.p_weak: 0.1}", "rows.g.grid.objectives.p_weak: give a list of values, e.g. [0.1, 0.3]"),
        ("{objectives.p_weak: []}", "rows.g.grid.objectives.p_weak: give a list of values"),
        ("{objectives.p_weak: [0.1, 0.1]}", "rows.g.grid: objectives.p_weak: 0.1 is given twice"),
        (
            "{objectives.weights: [{cl: 1}]}",
            "rows.g.grid: objectives.weights: a value is a number, a word, true, false",
        ),
        ("{data: [1], data.format: [cub]}", "rows.g.grid: data and data.format: one is part of the other"),
        ("{seed: [1, 2]}", "row g-seed-1: seed: a row has no seed of its own; give --seeds"),
        (
            "{objectives.p_weka: [0.1]}",
            "row g-p_weka-0.1: objectives.p_weka: unknown key; did you mean objectives.p_weak",
        ),
        (f"{{objectives.masked_lm: [{'x' * 60}]}}", "letters, 60 at most; give the row a shorter name"),
        (f"{{objectives.p_mask: {list(range(50))}, objectives.alpha: {list(range(50))}}}", "2500 rows; 1000 at most"),
    ],
)
def test_a_grid_that_cannot_be_is_one_line(tmp_path, grid, said):
    file = written(tmp_path, f"suite: mine\nrows:\n- {{name: g, extends: table4/m-rtd, grid: {grid}}}\n")
    with pytest.raises(SpecError) as caught:
        suite = load_suite(file)
        resolve(suite, suite.rows[0], "smoke", (), 0)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_names_tell_fields_apart_by_as_many_of_their_parts_as_it_takes():
    fields = {"optimisation.batch_size": 8, "evaluation.batch_size": 4, "data.root": "/mnt/a/CUHK PEDES/"}
    assert values.short_names(fields) == {
        "optimisation.batch_size": "optimisation.batch_size",
        "evaluation.batch_size": "evaluation.batch_size",
        "data.root": "root",
    }
    assert values.row_name("a", {"data.root": "/mnt/a/CUHK PEDES/", "x.y": None}, 60) == "a-root-CUHK-PEDES-y-null"
    assert values.row_name("a", {"x.learning_rate": 0.1, "x.y": True}, 20) == "a-0.1-true"  # 26 letters in full


SWEEP = """
suite: mine
sweeps:
- {name: g, label: Generator, parameter: objectives.generator, extends: table4/m-rtd, points: POINTS}
"""


def test_a_sweep_over_words_is_the_papers_own_axis(tmp_path):
    suite = suite_of(tmp_path, SWEEP.replace("POINTS", "[fixed, online, momentum]"))
    table4 = load_suite("table4")
    for name in ("fixed", "online", "momentum"):
        own = resolve(suite, f"g-{name}", "smoke", (), 0)
        assert row_digest(own) == row_digest(resolve(table4, f"{name[0]}-rtd", "smoke", (), 0))
    assert suite.labels_of(suite.rows[0]) == {"Row": "Generator fixed"}
    assert [row.name for row in parse_target(f"{suite.file}/g")[1]] == ["g-fixed", "g-online", "g-momentum"]


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ("[fixed, fixed]", "sweeps.g.points: fixed, fixed: a value is given twice"),
        ("[{a: 1}, 2]", "sweeps.0.points.0.a: unknown key"),
        ("[[{}], 2]", "sweeps.0.points.0.value: a value is a number, a word, true, false, null or a list of these"),
        ("[0.2, 0.1]", "sweeps.g.points: [0.2, 0.1] do not rise"),
    ],
)
def test_points_that_cannot_be_are_one_fault(tmp_path, points, said):
    with pytest.raises(SpecError) as caught:
        suite_of(tmp_path, SWEEP.replace("POINTS", points))
    assert said in str(caught.value) and str(caught.value).count("input should") == 0


CHAIN = """
suite: mine
base: {optimisation: {epochs: 5}}
rows:
- {name: a, extends: table4/m-rtd, changes: {objectives: {p_weak: 0.2}, optimisation: {epochs: 6}}}
- {name: b, extends: mine/a, changes: {objectives: {p_mask: 0.4}}, at: {synth: {optimisation: {epochs: 8}}}}
- {name: c, extends: mine/b, changes: {objectives: {p_weak: 0.3}}}
- {name: d, extends: mine/c, changes: {objectives: {alpha: 0.1}}}
"""


def test_extends_goes_as_deep_as_one_likes_and_the_base_is_laid_once(tmp_path):
    """d: alpha its own, p_weak c's, p_mask b's, epochs a's 6 over the base's 5, or b's 8 at synth; the rest m-RTD's."""
    suite = suite_of(tmp_path, CHAIN)
    assert [row.name for _, row in chain(suite, suite.row("d"))] == ["m-rtd", "a", "b", "c", "d"]
    config = resolve(suite, "d", "smoke", (), 0)
    objectives = config.objectives
    assert (objectives.alpha, objectives.p_weak, objectives.p_mask, config.optimisation.epochs) == (0.1, 0.3, 0.4, 6)
    assert objectives.generator == "momentum" and resolve(suite, "d", "synth", (), 0).optimisation.epochs == 8


def test_another_files_base_lies_between_its_rows_and_ours(tmp_path):
    """mine's base (epochs 5) under a's 6; then that of `other` (7) over it, and its row on top of all."""
    mine = written(tmp_path, CHAIN)
    other = f"""
    suite: other
    base: {{optimisation: {{epochs: 7}}}}
    rows:
    - {{name: e, extends: {mine}/d, changes: {{objectives: {{p_weak: 0.5}}}}}}
    - {{name: f, extends: other/e, changes: {{optimisation: {{epochs: 9}}}}}}
    - {{name: g, extends: other/f, changes: {{objectives: {{alpha: 0.2}}}}}}
    """
    suite = load_suite(written(tmp_path, other, "other.yaml"))
    found = [resolve(suite, name, "smoke", (), 0) for name in "efg"]
    assert [(each.optimisation.epochs, each.objectives.p_weak) for each in found] == [(7, 0.5), (9, 0.5), (9, 0.5)]
    assert found[2].objectives.alpha == 0.2 and found[0].objectives.alpha == 0.1


def test_rows_that_extend_each_other_in_a_circle_are_named(tmp_path):
    text = (
        "suite: mine\nrows:\n- {name: a, extends: mine/c}\n- {name: b, extends: mine/a}\n- {name: c, extends: mine/b}\n"
    )
    suite = suite_of(tmp_path, text)
    with pytest.raises(SpecError, match="row a: extends goes in a circle: mine/a -> mine/c -> mine/b -> mine/a"):
        resolve(suite, "a", "smoke", (), 0)
    with pytest.raises(SpecError, match="mine/d -> mine/d"):
        resolve(suite_of(tmp_path, "suite: mine\nrows: [{name: d, extends: mine/d}]"), "d", "smoke", (), 0)


ABLATE = "suite: mine\nablate: table4/{row}\n"
LEFT = {
    "m-rtd": ("cl itm prd mlm rtd", "momentum"),
    "without-cl": ("itm prd mlm rtd", "momentum"),
    "without-itm": ("cl prd mlm rtd", "momentum"),
    "without-prd": ("cl itm mlm rtd", "momentum"),
    "without-mlm": ("cl itm prd", None),  # the momentum model's MLM head would propose RTD's words
    "without-rtd": ("cl itm prd mlm", None),
}


def test_an_ablation_leaves_out_each_objective_and_what_needs_it(tmp_path):
    suite = suite_of(tmp_path, ABLATE.format(row="m-rtd"))
    assert [row.name for row in suite.rows] == [*LEFT]
    whole = resolve(load_suite("table4"), "m-rtd", "smoke", (), 0)
    for name, (losses, generator) in LEFT.items():
        config = resolve(suite, name, "smoke", (), 0)
        weights = {loss: whole.objectives.weights[loss] for loss in losses.split()}
        expected = whole.objectives.model_copy(update={"weights": weights, "generator": generator})
        assert config == whole.model_copy(update={"objectives": expected}), name
    assert row_digest(resolve(suite, "without-rtd", "smoke", (), 0)) == row_digest(
        resolve(load_suite("table4"), "mlm", "smoke", (), 0)
    )
    assert [row.versus for row in suite.rows] == [None] + ["m-rtd"] * 5
    mlm = suite.row("without-mlm")
    assert mlm.labels == ("without MLM and RTD",)
    assert mlm.description == (
        "mine/m-rtd without MLM, and so without RTD, whose words the momentum model's MLM head would propose"
    )


def test_a_fixed_generator_needs_no_mlm(tmp_path):
    suite = suite_of(tmp_path, ABLATE.format(row="f-rtd"))
    objectives = resolve(suite, "without-mlm", "smoke", (), 0).objectives
    assert ("rtd" in objectives.weights, objectives.generator) == (True, "fixed")


def test_an_ablation_of_a_row_of_ones_own_goes_on_from_that(tmp_path):
    text = """
    suite: mine
    base: {optimisation: {epochs: 4}}
    ablate: mine/own
    rows: [{name: own, extends: table4/p-itm, changes: {objectives: {p_weak: 0.2}, optimisation: {epochs: 9}}}]
    sweeps: [{name: e, label: E, parameter: optimisation.epochs, extends: mine/own, points: [1, 2]}]
    """
    suite = suite_of(tmp_path, text)
    assert [row.name for row in suite.rows] == ["own", "without-cl", "without-itm", "e-1", "e-2"]
    config = resolve(suite, "without-itm", "smoke", (), 0)
    assert (config.objectives.weights, config.objectives.p_weak, config.optimisation.epochs) == ({"cl": 0.5}, 0.2, 9)
    assert suite.row("without-cl").versus == "own"


@pytest.mark.parametrize(
    ("ablate", "said"),
    [
        ("table4/cl", "mine.yaml: ablate: table4/cl has one loss alone; ablate a row that states two or more"),
        ("table4/mrtd", "table4.yaml: no row 'mrtd'; did you mean m-rtd"),
        ("table4", "extends: write suite/row (table4)"),
        ("mine/none", "no row 'none'; there is r"),
    ],
)
def test_an_ablation_that_cannot_be(tmp_path, ablate, said):
    with pytest.raises(SpecError) as caught:
        suite_of(tmp_path, f"suite: mine\nablate: {ablate}\nrows: [{{name: r, extends: table4/cl}}]\n")
    assert said in str(caught.value)


def test_suites_that_ablate_each_other_can_be_read(tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    row = "rows: [{name: r, extends: table4/mlm, changes: {objectives: {p_weak: 0.2}}}]\n"
    one.write_text(f"suite: one\nablate: {two}/r\n" + row.replace("name: r", "name: s"))
    two.write_text(f"suite: two\nablate: {one}/s\n" + row)
    assert [row.name for row in load_suite(str(one)).rows] == [
        "s",
        "r",
        *(f"without-{n}" for n in ["cl", "itm", "prd", "mlm"]),
    ]


def versus(folder, rows):
    return [row.versus for row in suite_of(folder, f"suite: mine\nrows:\n{rows}").rows]


def test_a_row_is_compared_with_the_one_that_it_extends(tmp_path):
    """Of this suite, or as this suite has it; `versus: null`: with none; a mere copy: with none."""
    own = "- {name: a}\n- {name: b, extends: mine/a, changes: {objectives: {p_weak: 0.2}}}\n"
    own += "- {name: c, extends: mine/a}\n"
    assert versus(tmp_path, own) == [None, "a", None]
    there = (
        "- {name: m, extends: table4/m-rtd}\n- {name: b, extends: table4/m-rtd, changes: {objectives: {p_weak: 0.2}}}\n"
        "- {name: c, extends: table4/m-rtd, versus: null, changes: {objectives: {p_weak: 0.3}}}\n"
        "- {name: d, extends: table4/m-rtd, versus: b, at: {smoke: {objectives: {p_weak: 0.3}}}}\n"
        "- {name: e, extends: table4/mlm, changes: {objectives: {p_weak: 0.3}}}\n"
    )
    assert versus(tmp_path, there) == [None, "m", None, "b", None]


def test_rows_that_are_compared_with_nothing_by_mistake_are_known(tmp_path):
    change = "changes: {objectives: {p_weak: 0.2}}"
    text = f"""
    suite: mine
    rows:
    - {{name: a, extends: table4/m-rtd, {change}}}
    - {{name: b, extends: table4/mlm, {change}}}
    - {{name: c, extends: mine/b, {change}}}
    - {{name: d, extends: table4/mlm, versus: null, {change}}}
    - {{name: e, {change}}}
    """
    suite = suite_of(tmp_path, text)
    assert [row.name for row in suite.uncompared(suite.rows)] == ["a"]
    assert [suite.uncompared(load_suite(name).rows) for name in ("table4", "sensitivity", "figure4", "table7")] == [
        []
    ] * 4


def test_a_suite_is_the_same_when_it_is_read_from_its_dump(tmp_path):
    suite = suite_of(tmp_path, GRID + "sweeps:\n" + SWEEP.split("sweeps:\n")[1].replace("POINTS", "[fixed, online]"))
    assert len(suite.rows) == 7 and Suite.model_validate(suite.model_dump()).rows == suite.rows


def test_a_published_report_has_every_file_that_its_rows_are_made_of_and_its_ablation_written_out(tmp_path):
    middle = written(tmp_path, "suite: middle\nrows: [{name: r, extends: table4/p-itm}]\n", "middle.yaml")
    mine = written(tmp_path, f"suite: mine\nablate: mine/s\nrows: [{{name: s, extends: {middle}/r}}]\n")
    suite, folder = load_suite(mine), tmp_path / "specs"
    assert _write_specs(suite, "smoke", folder) == "mine.yaml"
    assert sorted(path.stem for path in folder.glob("*.yaml")) == ["middle", "mine", "table4"]
    again = load_suite(str(folder / "mine.yaml"))
    assert again.ablate is None and [row.name for row in again.rows] == ["s", "without-cl", "without-itm"]
    for row in suite.rows:
        assert resolve(again, row.name, "smoke", (), 0) == resolve(suite, row, "smoke", (), 0)
        assert again.row(row.name) == row


def test_a_list_is_a_parameter_of_a_study_with_these_choices():
    assert Parameter.model_validate(["fixed", "online"]) == Parameter(type="categorical", choices=("fixed", "online"))
    with pytest.raises(ValueError, match="needs choices, two or more"):
        Parameter.model_validate(["fixed"])


def test_a_row_says_what_is_lost_besides_its_objective(tmp_path):
    suite = suite_of(tmp_path, ABLATE.format(row="m-rtd"))
    told = {row.name: row.description.partition("; ")[2] for row in suite.rows if row.description}
    assert told == {
        "without-cl": "stage 1 then ranks by features that no loss contrasts",
        "without-itm": "there is then no head to re-rank by, and stage 1 alone ranks",
        "without-mlm": "",
    }


def test_every_file_of_the_documentation_can_be_planned(tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "specs.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    # A block that is no whole file is a row of the one before it.
    whole = [block for block in blocks if "suite:" in block]
    whole[0] += "".join(block for block in blocks if "suite:" not in block)
    suites = [suite_of(tmp_path, block) for block in whole]
    assert [len(suite.rows) for suite in suites] == [3 + 4, 3, 6]
    for suite in suites:
        for row in suite.rows:
            assert resolve(suite, row, suite.profile, (), 0).objectives.weights
    assert [row.versus for row in suites[0].rows] == [None] + ["m-rtd"] * 6
