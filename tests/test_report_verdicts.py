"""What the report decides of steps and of the order of rows, and how it says so."""

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest

from experiments.decisions import Queries
from reports.cells import grids, signed
from reports.formats import csv_table, html, latex, markdown
from reports.summary import summary
from reports.tables import suite_lines
from reports.verdict import judge, sentences
from tests.helpers.tiny_report import SUITE, suite_of, tidy, tiny_report


def _found(hits, average_precision=None):
    """A run's queries, six of four people (the first two have two each): 1 where the first image is right."""
    hits = np.array(hits)
    average = hits * 0.5 + 0.25 if average_precision is None else np.array(average_precision)
    return Queries(np.where(hits, 1, 3), average, np.array([7, 7, 9, 9, 11, 12]))


def test_one_seed_has_no_verdict():
    """One seed: `step` answers queries 3-6 beside those of `base`: 4 of 6 more. McNemar: 2 / 2^4."""
    lines = suite_lines(tidy(("base", 0, "finished", 100 / 3), ("step", 0, "finished", 100.0)), SUITE)
    found = {("base", 0): _found([1, 1, 0, 0, 0, 0]), ("step", 0): _found([1] * 6)}
    judged = judge(lines, found)
    step = judged.steps["step"]
    assert (step.r1.mean, step.map.mean) == (pytest.approx(400 / 6), pytest.approx(200 / 6))
    assert (step.r1.low, step.r1.p, step.map.low, step.foresight.power) == (None, None, None, None)
    assert (step.r1.queries, step.r1.identities, step.mcnemar[0]) == (6, 4, (4, 0, 0.125))
    assert [judged.steps[name].verdict for name in ("step", "one", "broken", "absent")] == ["too few seeds", "", "", ""]
    assert sentences(judged) == [
        ("Steps: 1 too few seeds; 3 missing. The published steps come without a spread and are taken as they stand."),
        "A step has no verdict before 3 seeds of both rows: one training says nothing of another.",
    ]
    told = grids(tiny_report(lines=lines, judged=judged))[1]
    assert [column.heading for column in told.columns][3:] == [
        *(
            "Seeds",
            "R@1 [95 %]",
            "p (Holm)",
            "p, equivalent (Holm)",
            "mAP [95 %]",
            "Verdict",
            "Could see",
            "Power",
            "Seeds needed",
        )
    ]
    cells = [[cell.text for cell in row] for row in told.rows]
    assert cells[0] == ["y", "x_1", "+2.50", "n = 1", "+66.7", "-", "-", "+33.3", "too few seeds", "-", "-", "-"]
    assert cells[2] == ["u", "x_1", "-1.00", *["never run"] * 9]


def test_a_step_that_is_shown():
    """60 to 80 % of the queries, and 2.5 points published: shown, and the published size lies below the interval."""
    lines, queries = suite_of({"base": 0.6, "step": 0.8, "one": 0.8}, 5)
    judged = judge(lines, queries, 200)
    step, one = judged.steps["step"], judged.steps["one"]
    assert step.r1.low > 10 and step.r1.high < 30 and step.r1.p_holm < 0.001
    assert (step.verdict, step.wording) == ("shown", "shown (published size below)")
    assert one.verdict in ("undecided", "equivalent") and one.r1.size is None
    assert step.map.low > 5 and step.map.mean == pytest.approx(step.r1.mean / 2)
    assert step.mcnemar.keys() == {0, 1, 2, 3, 4} and max(test.p for test in step.mcnemar.values()) < 0.001
    said = "\n".join(sentences(judged))
    assert "Steps: 1 shown; 1 " in said and "150 identities, each with all its queries (300 in all)" in said
    assert "within 1 points of R@1" in said and "looks after 3, 5, 8, 12 seeds" in said
    told = grids(tiny_report(lines=lines, judged=judged))[1]
    row = dict(zip([column.heading for column in told.columns], [cell.text for cell in told.rows[0]], strict=True))
    assert row["Verdict"] == "shown (published size below)" and row["R@1 [95 %]"].startswith("+18.9 [")
    # The interval beside the verdict is the one of the test that decides, and of no other.
    assert row["R@1 [95 %]"] == f"{signed(step.r1.mean)} [{step.r1.low:+.1f}, {step.r1.high:+.1f}]"


def test_no_headroom_is_said():
    lines, queries = suite_of({"base": 0.6, "step": 0.8}, 3)
    judged = judge(lines, queries, 200, beats_start={"step": False, "base": True})
    assert judged.steps["step"].verdict == judged.steps["step"].wording == "no headroom"
    assert "No headroom: step. Neither row" in "\n".join(sentences(judged))
    assert judge(lines, queries, 200, beats_start={"step": True}).steps["step"].verdict == "shown"


def test_undecided_says_how_often_it_would_be_shown():
    """2.5 points with 12 queries of 6 people: these runs would hardly ever show it."""
    lines, queries = suite_of({"base": 0.5, "step": 0.52}, 3, people=6)
    judged = judge(lines, queries, 200)
    step = judged.steps["step"]
    assert step.verdict == "undecided" and step.foresight.power < 0.3
    assert "Undecided says nothing against a step that these runs would seldom show" in "\n".join(sentences(judged))
    told = grids(tiny_report(lines=lines, judged=judged))[1]
    row = dict(zip([column.heading for column in told.columns], [cell.text for cell in told.rows[0]], strict=True))
    assert row["Power"].endswith(" %") and row["Seeds needed"] in ("none", str(step.foresight.seeds_needed))


def test_steps_without_queries_are_over_seeds_and_say_so():
    runs = [
        (row, seed, "finished", r1 + 0.1 * seed) for row, r1 in (("base", 20.0), ("step", 22.0)) for seed in range(3)
    ]
    runs[-1] = ("step", 2, "finished", 22.3)
    judged = judge(suite_lines(tidy(*runs), SUITE), {}, 200)
    step = judged.steps["step"]
    assert step.map is None and step.mcnemar == {} and step.r1.queries == 0
    assert (step.verdict, step.r1.size) == ("shown", "above")
    assert "Over seeds alone, for these very queries, since the runs' own are not known: step." in sentences(judged)


@pytest.mark.parametrize("known", [True, False])
def test_order_of_rows(known):
    """Published 60, 62.5, 59: ours 20, 80, 10 stand so too. With queries known these vary, too."""
    levels = {"base": 20.0, "step": 80.0, "broken": 10.0}
    runs = [(row, seed, "finished", r1 + seed) for row, r1 in levels.items() for seed in (0, 1)]
    draw = np.random.default_rng(0)
    hits = {(row, seed): draw.random(300) < r1 / 100 for row, seed, _, r1 in runs}
    found = {run: Queries(np.where(hit, 1, 2), hit.astype(float), np.arange(300) // 2) for run, hit in hits.items()}
    ranks = judge(suite_lines(tidy(*runs), SUITE), found if known else {}, 300).ranks
    assert (ranks.rows, ranks.tau, ranks.told.opposite) == (3, 1.0, 0)
    assert ranks.over == ("identities and seeds" if known else "seeds")
    assert ranks.told.as_paper >= 2 and ranks.told.high == 1.0
    alone = judge(suite_lines(tidy(*(run for run in runs if run[1] == 0)), SUITE), {}, 300)
    assert alone.ranks == (3, 1.0, None, "")  # one seed each and no queries: nothing that varies
    assert sentences(alone)[-1] == "Order of 3 rows by R@1 against the published one: Kendall's tau 1.00."


def test_average_precision_without_a_right_image_is_not_compared():
    lines = suite_lines(tidy(("base", 0, "finished", 50.0), ("step", 0, "finished", 50.0)), SUITE)
    found = {
        ("base", 0): _found([1, 1, 0, 0, 0, 1], [1, 1, 0, 0, 0, math.nan]),
        ("step", 0): _found([1] * 6, [1] * 5 + [math.nan]),
    }
    step = judge(lines, found, 100).steps["step"]
    assert step.r1.queries == 6 and step.map is None


def test_steps_in_the_formats():
    lines, queries = suite_of({"base": 0.6, "step": 0.8}, 3)
    report = tiny_report(lines=lines, judged=judge(lines, queries, 200))
    records = {record["row"]: record for record in csv.DictReader(io.StringIO(csv_table(report)))}
    step = report.judged.steps["step"].r1
    assert float(records["step"]["step_r1_mean"]) == step.mean and float(records["step"]["step_r1_low"]) == step.low
    assert (records["step"]["step_verdict"], records["step"]["step_decided_after"]) == ("shown", "3")
    assert (records["step"]["step_seeds"], records["step"]["step_published_size"]) == ("0;1;2", "below")
    assert records["base"]["step_verdict"] == "NA" and records["broken"]["step_r1_p"] == "NA"
    assert all(value != "" for record in records.values() for value in record.values())
    for text in (markdown(report), html(report), latex(report)):
        assert "What is decided" in text and "over other people and other trainings" in text


def test_a_step_without_a_published_one_counts_as_decided():
    """Of two steps one is higher, which is a verdict, and one undecided; a name with a comma stands apart."""
    lines, queries = suite_of({"base": 0.2, "step": 0.6, "one": 0.6}, seeds=5)
    lines = [replace(line, paper={}, paper_gain=None) for line in lines if line.n]
    report = tiny_report(lines=lines, judged=judge(lines, queries, 200), metrics=("r1",))
    assert {row: step.verdict for row, step in report.judged.steps.items()} == {"step": "higher", "one": "undecided"}
    assert summary(report)[0] == "1 of the 2 steps is decided; higher: y; undecided: z."
    named = [replace(line, labels={"Module": line.labels["Module"], "Setting": "A, 0.5"}) for line in lines]
    assert "higher: B, A, 0.5; undecided: " in summary(replace(report, lines=named))[0]
