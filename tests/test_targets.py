"""What a command is asked to do: patterns, several names, ranges of seeds, `-m`; and what a report of a part shows."""

import json

import pytest

from experiments.finding import runs_named
from experiments.multirun import split
from experiments.plan import plan
from experiments.spec import load_suite, resolve, row_digest
from experiments.targets import Target, notes, parse_target, parse_targets
from rasa.commands.cli import main
from rasa.errors import SpecError
from reports.build import of_suite
from reports.load import command_line
from reports.variants import folder_name
from tests.test_finding import put

RTD = ["f-rtd", "o-rtd", "m-rtd"]


def rows(*texts, several=(), overrides=()):
    return {
        target.suite.suite: [row.name for row in target.rows] for target in parse_targets(texts, several, overrides)
    }


def test_patterns_and_several_names_are_rows_in_their_suites_order_each_once():
    assert rows("table4/*rtd", "table4/itm") == {"table4": ["itm", *RTD]}
    assert rows("table4/m-rtd", "table4/*rtd") == {"table4": RTD}
    assert rows("table[1-3]/rasa", "table4/cl") == {**{f"table{n}": ["rasa"] for n in (1, 2, 3)}, "table4": ["cl"]}
    assert list(rows("*/m-rtd")) == ["sensitivity", "table4"]
    assert rows("figure4/p-[wm]*") == rows("figure4/p-weak", "figure4/p-mask")
    assert len(rows("figure4/p-weak", "figure4/lambda?-0.1")["figure4"]) == 5 + 3
    assert [row.name for row in parse_target("table4/?-itm")[1]] == ["s-itm", "p-itm"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("table4/x*", "table4.yaml: no row is called like 'x*'; there is cl, itm, s-itm"),
        ("tabl?/x", "tabl?/x: no suite is called like that; there is fidelity, figure4"),
        (
            "table?/x",
            "table?/x: no row of table1, table2, table3, table4, table5, table6, table7, table8 is called like",
        ),
        ("table4/m-rdt", "table4.yaml: no row 'm-rdt'; did you mean m-rtd"),
    ],
)
def test_what_fits_nothing_is_one_line(text, said):
    with pytest.raises(SpecError) as caught:
        parse_targets([text])
    assert str(caught.value).startswith(said)


def test_two_files_of_one_name_are_not_mixed(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text("suite: mine\nrows: [{name: r, extends: table4/cl}]\n")
    with pytest.raises(SpecError, match=r"a.yaml and .*b.yaml are both called mine; rename one"):
        parse_targets([str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")])
    assert rows(str(tmp_path / "a.yaml") + "/r*") == {"mine": ["r"]}


def test_each_row_at_every_value_computes_what_overrides_would():
    """2 rows x 2 x 2 points, compared with the rows that they are points of, after the suite's own ten."""
    given = ["objectives.p_mask=0.1,0.4", "optimisation.learning_rate=1e-4,5e-4"]
    (target,) = parse_targets(["table4/[om]-rtd"], given)
    assert [row.name for row in target.rows][::3] == [
        "o-rtd-p_mask-0.1-learning_rate-0.0001",
        "o-rtd-p_mask-0.4-learning_rate-0.0005",
        "m-rtd-p_mask-0.4-learning_rate-0.0001",
    ]
    assert target.suite.rows[:10] == load_suite("table4").rows and target.suite.rows[10:] == tuple(target.rows)
    assert [row.versus for row in target.rows] == ["o-rtd"] * 4 + ["m-rtd"] * 4
    assert target.rows[5].labels == ("++SA", "MLM + m-RTD, p_mask 0.1, learning_rate 0.0005")
    for row, mask, rate in zip(target.rows[4:], (0.1, 0.1, 0.4, 0.4), (1e-4, 5e-4) * 2, strict=True):
        typed = [f"objectives.p_mask={mask}", f"optimisation.learning_rate={rate}"]
        same = resolve(load_suite("table4"), "m-rtd", "synth", typed, 0)
        assert row_digest(resolve(target.suite, row, "synth", (), 0)) == row_digest(same)


def test_words_paths_lists_and_single_losses_may_be_varied():
    (target,) = parse_targets(
        ["table4/m-rtd"], ["objectives.generator=fixed,online", "data.image_size=[64, 32],[96,48]"]
    )
    found = [resolve(target.suite, row, "smoke", (), 0) for row in target.rows]
    assert [(each.objectives.generator, each.data.image_size[0]) for each in found][1:3] == [
        ("fixed", 96),
        ("online", 64),
    ]
    (target,) = parse_targets(["table4/m-rtd"], ["objectives.weights.prd=0.2,0.7"])
    assert resolve(target.suite, target.rows[1], "smoke", (), 0).objectives.weights == {
        "cl": 0.5, "itm": 1.0, "prd": 0.7, "mlm": 1.0, "rtd": 0.5,
    }  # fmt: skip
    (target,) = parse_targets(["table4/cl"], ["data.root=/a/first,/b/second"])
    assert [row.name for row in target.rows] == ["cl-root-first", "cl-root-second"]
    assert split("'a,b',[1, 2],{c: 3, d: 4}, e") == ["'a,b'", "[1, 2]", "{c: 3, d: 4}", "e"]


@pytest.mark.parametrize(
    ("several", "said"),
    [
        (["objectives.p_weak"], "-m objectives.p_weak: write key=a,b with a dotted key"),
        (["objectives.p_weak="], "-m objectives.p_weak=: write key=a,b with a dotted key"),
        (["objectives.p_weak=0.1,,0.2"], "-m objectives.p_weak=0.1,,0.2: nothing stands between two commas"),
        (["objectives.p_weak=0.1,0.1"], "-m objectives.p_weak: 0.1 is given twice"),
        (["objectives.p_weak=0.1", "objectives.p_weak=0.2"], "objectives.p_weak is given twice; write all its values"),
        (["objectives.weights={cl: 1},{cl: 2}"], "{cl: 1}: a value is a number, a word, true, false, null or a list"),
        (["data=1", "data.format=cub"], "-m data and data.format: one is part of the other"),
        (["seed=0,1"], "-m seed=0,1: seeds are given by --seeds, e.g. --seeds 0-4"),
        (["data.root=/a/x,/b/x"], "-m: two rows of table4 would be called cl-root-x"),
        ([f"objectives.masked_lm={'x' * 60}"], "letters, 60 at most; write a file in which you name the rows"),
        (
            ["objectives.p_weka=0.1"],
            "-m, row cl-p_weka-0.1: objectives.p_weka: unknown key; did you mean objectives.p_weak",
        ),
        (["objectives.p_mask=5"], "-m, row cl-p_mask-5: objectives.p_mask: input should be less than 1 (5"),
        (["optimisation.epochs=1,[2"], "-m optimisation.epochs:1: expected"),
    ],
)
def test_values_that_cannot_be_are_one_line(several, said):
    with pytest.raises(SpecError) as caught:
        (target,) = parse_targets(["table4/cl"], several)
        resolve(target.suite, target.rows[0], "smoke", (), 0)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_field_is_either_set_or_varied():
    with pytest.raises(SpecError, match=r"-o objectives.p_weak=0.2: objectives.p_weak is what -m varies"):
        rows("table4/cl", several=["objectives.p_weak=0.1"], overrides=["objectives.p_weak=0.2"])


def shown(capsys, *words):
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_plan_of_two_suites_goes_seed_by_seed_over_both(tmp_path, capsys):
    words = ["plan", "table4/cl", "figure4/p-weak-0.1", "--seeds", "0-1,7", "--workspace", str(tmp_path), "--json"]
    code, out, _ = shown(capsys, *words)
    found = [(each["suite"], each["seed"]) for each in json.loads(out)]
    assert code == 0 and found == [(suite, seed) for seed in (0, 1, 7) for suite in ("table4", "figure4")]


@pytest.mark.parametrize(
    ("seeds", "said"),
    [("4-0", "the range 4-0 is empty; write 0-4"), ("0-1000", "more than 1000 seeds"), ("-1", "numbers from 0 on"),
     ("0,x", "whole numbers from 0 on"), ("0-", "whole numbers"), ("", "whole numbers")],
)  # fmt: skip
def test_seeds_that_cannot_be(tmp_path, capsys, seeds, said):
    code, _, err = shown(capsys, "plan", "table4/cl", f"--seeds={seeds}", "--workspace", str(tmp_path))
    assert code == 2 and said in err


def test_steps_of_one_suite_at_a_time_are_decided(tmp_path, capsys):
    words = ["plan", "table4", "table1", "--until", "decided", "--workspace", str(tmp_path)]
    code, _, err = shown(capsys, *words)
    assert code == 2 and "judges the steps of one suite at a time; these are of table4, table1" in err


UNCOMPARED = "suite: mine\nrows: [{name: r, extends: table4/m-rtd, changes: {objectives: {p_weak: 0.2}}}]\n"


def test_rows_that_nothing_is_compared_with_are_told_of(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(UNCOMPARED)
    code, out, err = shown(capsys, "plan", str(tmp_path / "mine.yaml"), "--workspace", str(tmp_path))
    said = (
        "r: compared with no row, since table4/m-rtd is none of mine; for gains and verdicts add it as a row, "
        "{name: m-rtd, extends: table4/m-rtd}"
    )
    assert code == 0 and err == f"note: {said}\n" and "mine/r seed 0" in out
    suite = load_suite(str(tmp_path / "mine.yaml"))
    assert list(of_suite(suite)) == [said]
    # What is advised is what helps.
    (tmp_path / "mine.yaml").write_text(UNCOMPARED.replace("[{", "[{name: m-rtd, extends: table4/m-rtd}, {"))
    suite = load_suite(str(tmp_path / "mine.yaml"))
    assert suite.row("r").versus == "m-rtd" and list(notes(Target(suite, list(suite.rows), ()))) == []


def test_runs_are_found_by_patterns_of_rows_and_suites(tmp_path):
    """Also rows of -m, which no file has; a pattern that fits rows of the file but no run finds nothing."""
    found = {
        (suite, row): put(tmp_path, row, f"seed-0-{number:x}aaa0000aaaa", suite=suite)
        for number, (suite, row) in enumerate(
            [("table4", "cl"), ("table4", "m-rtd"), ("table4", "m-rtd-p_mask-0.1"), ("table1", "rasa"), ("own", "r")]
        )
    }
    assert runs_named("table4/*rtd*", tmp_path) == [found["table4", "m-rtd"], found["table4", "m-rtd-p_mask-0.1"]]
    assert runs_named("table4/m-rtd-p_mask-*", tmp_path) == [found["table4", "m-rtd-p_mask-0.1"]]
    assert runs_named("table[1-3]/*", tmp_path) == runs_named("table1", tmp_path) == [found["table1", "rasa"]]
    assert runs_named("*", tmp_path) == [found[key] for key in sorted(found)]
    assert runs_named("table4/?-itm", tmp_path) == []
    with pytest.raises(SpecError, match="table4.yaml: no row is called like 'x"):
        runs_named("table4/x*", tmp_path)
    with pytest.raises(SpecError, match="no suite is called like that; there is"):
        runs_named("x*/r", tmp_path)


def test_a_part_of_a_suite_is_what_was_asked_for_and_what_that_is_compared_with():
    """o- and m-RTD: f-RTD comes with them, and is compared with nothing, since MLM is not shown."""
    (target,) = parse_targets(["table4/[om]-rtd"])
    part = target.shown
    assert [(row.name, row.versus) for row in part.rows] == [("f-rtd", None), ("o-rtd", "f-rtd"), ("m-rtd", "o-rtd")]
    assert next(of_suite(part)).startswith("3 of the 10 rows of table4 are shown")
    assert command_line("report", part, "synth", ()) == "rasa report 'table4/[om]-rtd' --profile synth"
    assert folder_name(part, "synth", ()).startswith("table4-synth-f-rtd_o-rtd_m-rtd-")
    (whole,) = parse_targets(["table4/*"])
    assert whole.shown is whole.suite and folder_name(whole.shown, "synth", ()) == "table4-synth"
    (all_but_one,) = parse_targets(["table1/rasa"])  # which is compared with the other
    assert all_but_one.shown is all_but_one.suite
    (swept,) = parse_targets(["figure4/p-weak"])
    assert [sweep.name for sweep in swept.shown.sweeps] == ["p-weak"]
    (several,) = parse_targets(["table4/cl"], ["objectives.p_weak=0.1,0.2"])
    assert [row.name for row in several.shown.rows] == ["cl", "cl-p_weak-0.1", "cl-p_weak-0.2"]
    assert command_line("run", several.shown, "smoke", ()).startswith(
        "rasa run table4/cl -m objectives.p_weak=0.1,0.2 "
    )


def test_a_point_of_m_has_the_run_id_of_its_overrides(tmp_path):
    from experiments.resources import ensure_data

    (target,) = parse_targets(["table4/cl"], ["objectives.p_mask=0.2"])
    ensure_data([resolve(target.suite, target.rows[0], "smoke", (), 0)], tmp_path, print)
    (point,) = plan(target.suite, target.rows, "smoke", (), [0], tmp_path)
    table4 = load_suite("table4")
    (typed,) = plan(table4, [table4.row("cl")], "smoke", ["objectives.p_mask=0.2"], [0], tmp_path)
    assert point.about.run_id == typed.about.run_id != "" and point.about.row == "cl-p_mask-0.2"
