"""`rasa report --fail-if`: the grammar against Python's own, figures by hand, and every way not to pass for a pass."""

import json
import operator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rasa.commands.cli import main
from rasa.errors import ResourceError, SpecError
from reports.conditions import NAMES, OPERATORS, Comparison, Group, Holds, check, check_names, parse
from reports.tables import suite_lines
from tests.helpers.many_rows import write_suite
from tests.helpers.people import write_people
from tests.helpers.tiny_report import SUITE, tidy, tiny_lines

# By hand, R@1: base is the mean of 40, 42 and 44, step that of 43 and 44, one has 44 with one seed. step gains
# 43 - 40 = 3 and 44 - 42 = 2 over base.
LINES = {"tiny": [*tiny_lines().values()]}
FIGURES = {"base.r1": 42.0, "step.r1": 43.5, "one.r1": 44.0, "step.gain": 2.5, "base.n": 3, "absent.n": 0}


def holds(*texts):
    """Whether one of the conditions holds, and what is said then."""
    try:
        check([parse(text) for text in texts], LINES)
    except Holds as told:
        return str(told)
    return ""


def condition():
    """Texts of the grammar, with and without blanks and brackets."""
    number = st.sampled_from(["0", "2.5", "42", "42.0", "+43.5", "-1", "4.4e1"])
    test = st.builds(
        lambda figure, blank, sign, value: f"{figure}{blank}{sign}{blank}{value}",
        st.sampled_from([*FIGURES]),
        st.sampled_from(["", " ", "  "]),
        st.sampled_from([*OPERATORS]),
        number,
    )
    joined = lambda part: st.builds(
        lambda first, word, second, inside: f"({first} {word} {second})" if inside else f"{first} {word} {second}",
        part,
        st.sampled_from(["and", "or"]),
        part,
        st.booleans(),
    )
    return st.recursive(test, joined, max_leaves=6)


@given(condition())
@settings(max_examples=300, deadline=None)
def test_it_means_what_python_means_by_the_same_text(text):
    """`and` binds tighter than `or`, brackets first: evaluated by Python with the figures put in."""
    told = text
    for name, value in FIGURES.items():
        told = told.replace(name, f"({value})")
    assert bool(holds(text)) == bool(eval(told))


def test_each_operator_by_hand():
    for sign, below, same, above in [
        ("<", True, False, False),
        ("<=", True, True, False),
        (">", False, False, True),
        (">=", False, True, True),
        ("==", False, True, False),
        ("!=", True, False, True),
    ]:
        found = [bool(holds(f"base.r1 {sign} {number}")) for number in (43, 42, 41)]
        assert found == [below, same, above], sign
    assert [*OPERATORS] == ["<", "<=", ">", ">=", "==", "!="] and OPERATORS["<"] is operator.lt


def test_what_is_said_names_the_figures_that_make_it_so():
    assert holds("base.r1 < 60") == "--fail-if 'base.r1 < 60' holds: base.r1 is 42.00 (mean of 3 seeds)"
    assert holds("one.r1 > 43 and base.n<4").endswith("holds: one.r1 is 44.00, base.n is 3")
    # The part that is not true is not blamed.
    assert holds("base.r1 > 60 or step.gain < 3").endswith("holds: step.gain is 2.50 (mean of 2 seeds)")
    # A figure that rounds to the number is told in full.
    assert "base.r1 is 42.00" in holds("base.r1 > 41.999")
    lines = suite_lines(tidy(("base", 0, "finished", 59.999)), SUITE)
    with pytest.raises(Holds, match=r"base.r1 is 59.999$"):
        check([parse("base.r1 < 60.00")], {"tiny": lines})


def test_of_several_conditions_all_that_hold_are_told():
    said = holds("base.r1 < 60", "step.r1 > 99", "one.n == 1")
    assert said == "--fail-if 'base.r1 < 60' holds: base.r1 is 42.00 (mean of 3 seeds); 'one.n == 1' holds: one.n is 1"
    assert Holds.exit_code == 6


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("broken.r1 < 60", "broken.r1 is not known: failed"),
        ("absent.r1 < 60", "absent.r1 is not known: never run"),
        ("base.gain < 1", "base.gain is not known: it goes on from no other row"),
        ("broken.gain < 1", "broken.gain is not known: failed"),
        ("base.peak_mib > 1", "base.peak_mib is not known: its finished runs have no such figure"),
        # Also where the answer would not depend on it.
        ("base.r1 < 60 or absent.r1 < 60", "absent.r1 is not known"),
        ("base.r1 > 60 and absent.r1 < 60", "absent.r1 is not known"),
    ],
)
def test_a_figure_that_is_not_there_is_a_fault_and_no_pass(text, why):
    with pytest.raises(ResourceError, match=why):
        check([parse(text)], LINES)


def test_a_suite_without_runs_is_a_fault():
    with pytest.raises(ResourceError, match="base.r1 is not known: its suite has no runs here"):
        check([parse("base.r1 < 60")], {})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("bsae.r1 < 60", "no row 'bsae'; did you mean base?"),
        ("base.r2 < 60", "no figure 'r2'; did you mean"),
        ("base.frobnicated < 60", "no figure 'frobnicated'; there is r1, r5, r10, map, gain, n"),
        ("other/base.r1 < 60", "no suite 'other' in this report; there is tiny"),
        ("base.r1 < 60 or bsae.r1 < 60", "no row 'bsae'"),
    ],
)
def test_what_no_row_or_figure_is_called_is_refused_before_the_report(text, why):
    with pytest.raises(SpecError, match=why):
        check_names([parse(text)], [SUITE])


def test_a_row_of_two_suites_needs_its_suite():
    twin = SUITE.model_copy(update={"suite": "twin"})
    with pytest.raises(SpecError, match="base.r1 may be tiny/base.r1 or twin/base.r1; write which"):
        check_names([parse("base.r1 < 60")], [SUITE, twin])
    check_names([parse("twin/base.r1 < 60")], [SUITE, twin])
    lines = {"tiny": LINES["tiny"][1:], "twin": LINES["tiny"][:1]}
    with pytest.raises(Holds, match="twin/base.r1 is 42.00"):
        check([parse("twin/base.r1 < 60")], lines)
    with pytest.raises(ResourceError, match="tiny/base.r1 is not known"):
        check([parse("tiny/base.r1 < 60")], lines)


def test_names_with_dots_and_hyphens_are_split_at_the_last_dot():
    tree = parse("figure4/p-weak-0.1.stage1_r1>=1.5").tree
    assert tree == Comparison("figure4", "p-weak-0.1", "stage1_r1", ">=", 1.5)
    assert isinstance(parse("a.r1<1 and b.r1<2 or c.r1<3").tree, Group)
    assert {"r1", "map", "minutes", "gain", "n"} <= {*NAMES}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "at 'the end'"),
        ("base.r1", "at 'the end': an operator"),
        ("base.r1 <", "at 'the end': a number"),
        ("base.r1 < sixty", "at 'sixty'"),
        ("base.r1 << 60", "at '<': a number"),
        ("base.r1 = 60", "at '= 60'"),
        ("60 > base.r1", "at '60': ROW.FIGURE"),
        ("base < 60", "at 'base < 60'"),
        ("base.r1 < 60 and", "at 'the end': ROW.FIGURE"),
        ("base.r1 < 60 base.r1 > 1", "at 'base.r1': and, or, or the end"),
        ("(base.r1 < 60", "at 'the end': a closing bracket"),
        ("base.r1 < 60)", r"at '\)'"),
        ("base.r1 < 60 AND base.n > 1", "at 'AND base.n > 1'"),
        ("base.r1 < 1e400000000000000000000x", "at '1e4"),
        ("__import__('os').system('x')", "at "),
        ("base.__class__ < 1", "at 'base.__class__ < 1'"),
    ],
)
def test_what_is_no_condition_says_where(text, where):
    with pytest.raises(ValueError, match=where):
        parse(text)


@given(st.text(alphabet="abr1.<>=!&|()and or 0629-/_'\"", max_size=40))
@settings(max_examples=500, deadline=None)
def test_any_text_is_a_condition_or_a_fault_in_words(text):
    try:
        parse(text)
    except ValueError as fault:
        assert repr(text) in str(fault)


def test_from_end_to_end_with_the_exit_codes(tmp_path, capsys):
    """A suite of two rows of which one has run: 0, 6, and the faults 2, 3 and 5; the report is printed all the same."""
    people = write_people(tmp_path / "people", train=6, val=3, test=4)
    suite = write_suite(tmp_path, 2)
    options = ["-o", f"data.root={people}", "--workspace", str(tmp_path)]
    assert main(["run", f"{suite}/row-0", *options]) == 0
    capsys.readouterr()

    def code(*conditions):
        given = [part for text in conditions for part in ("--fail-if", text)]
        return main(["report", str(suite), *options, "--format", "json", *given])

    assert code("row-0.r1 < 0", "row-0.n != 1") == 0
    assert not capsys.readouterr().err.count("--fail-if")
    assert code("row-0.r1 < 0", "row-0.r1 >= 0") == 6
    printed = capsys.readouterr()
    assert json.loads(printed.out) and "rasa: --fail-if 'row-0.r1 >= 0' holds: row-0.r1 is" in printed.err
    assert code("row-1.r1 < 1") == 5 and "row-1.r1 is not known: never run" in capsys.readouterr().err
    assert code("row-2.r1 < 1") == 3 and "no row 'row-2'" in capsys.readouterr().err
    assert code("row-0.r1 < ") == 2 and "a number was expected" in capsys.readouterr().err
    assert main(["report", "table4", "--published", "--fail-if", "cl.r1 < 1"]) == 2
