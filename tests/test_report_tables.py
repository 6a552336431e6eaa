"""The report: arithmetic by hand on a small table, what is absent, the formats, and one real store end to end."""

import csv
import io
import json
import math
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from people import write_people

from experiments import tracking
from experiments.decisions import Queries
from experiments.spec import Suite, load_suite, resolve, row_digest
from experiments.store import DATABASE, SQLITE, open_store
from rasa.data.load import load_dataset
from rasa.errors import ResourceError
from reports.build import at_chance, mixed_code, notes, on_papers_data
from reports.cells import Report, grids, signed
from reports.commands import report as command
from reports.figures import bars, draw, draw_probe
from reports.formats import csv_table, html, latex, markdown
from reports.load import COLUMNS, SuiteRuns, _dataset, choose, measured, row_configs, selection
from reports.tables import Spread, suite_lines, telling_names
from reports.verdict import judge, sentences

PNG = b"\x89PNG\r\n\x1a\n"
# Five rows: a base, a step from it, one with one seed, one that failed, one that was never run.
SUITE = Suite.model_validate(
    {
        "suite": "tiny",
        "title": "Tiny & 100 %",
        "source": "by hand",
        "labels": ["Module", "Setting"],
        "rows": [
            {"name": "base", "labels": ["A", "x_1"], "paper": {"r1": 60.0, "map": 50.0}},
            {"name": "step", "labels": ["B", "y"], "versus": "base", "paper": {"r1": 62.5}},
            {"name": "one", "labels": ["B", "z"], "versus": "step"},
            {"name": "broken", "labels": ["B", "u"], "versus": "base", "paper": {"r1": 59.0}},
            {"name": "absent", "labels": ["B", "v"], "versus": "broken", "paper": {"r1": 61.0}},
        ],
    }
)


def _runs(*runs: tuple[str, int, str, float]):
    """(row, seed, state, R@1) as a tidy table; the other accuracies lie at fixed distances."""
    import pandas as pd

    records = []
    for row, seed, state, r1 in runs:
        record = dict.fromkeys(COLUMNS, "") | {name: math.nan for name in COLUMNS if "/" in name}
        record |= {"row": row, "seed": seed, "state": state, "data_digest": "d"}
        if state == "finished":
            record |= {"test/r1": r1, "test/r5": r1 + 10, "test/r10": r1 + 20, "test/map": r1 - 10}
            record |= {"test/stage1_r1": r1 - 20, "cost/seconds": 90.0, "cost/pairs_per_s": 250.0}
        records.append(record)
    return pd.DataFrame(records, columns=list(COLUMNS))


RUNS = [
    ("base", 0, "finished", 40.0),
    ("base", 1, "finished", 42.0),
    ("base", 2, "finished", 44.0),
    ("step", 0, "finished", 43.0),
    ("step", 1, "finished", 44.0),
    ("step", 2, "failed", 0.0),
    ("one", 1, "finished", 44.0),
    ("broken", 0, "failed", 0.0),
]


def _lines():
    return {line.name: line for line in suite_lines(_runs(*RUNS), SUITE)}


def _report(**changes):
    lines = list(_lines().values())
    given = {"title": SUITE.title, "profile": "smoke", "source": SUITE.source, "comparable": False, "lines": lines}
    given |= {"judged": judge(given["lines"] if "lines" not in changes else changes["lines"], {}, 200)}
    given |= {"metrics": SUITE.metrics, "notes": list(notes(lines, "smoke", False)), "provenance": {"profile": "smoke"}}
    return Report(**(given | changes))


def test_mean_and_spread_by_hand():
    """40, 42, 44: mean 42, squared distances 4 + 0 + 4 over n - 1 = 2, so sd 2."""
    r1 = _lines()["base"].figures["r1"]
    assert (r1.n, r1.mean, r1.sd, r1.values) == (3, 42.0, 2.0, (40.0, 42.0, 44.0))
    one, none = Spread({7: 5.0}), Spread({})
    assert (one.n, one.mean, one.sd) == (1, 5.0, None)
    assert (none.n, none.mean, none.sd, none.values) == (0, None, None, ())


def test_gain_is_paired_by_seed():
    """43 - 40 = 3 and 44 - 42 = 2: mean 2.5, sd sqrt(0.5). Unpaired means would give 43.5 - 42 = 1.5."""
    step = _lines()["step"]
    assert step.gain.values == (3.0, 2.0)
    assert step.gain.mean == 2.5
    assert step.gain.sd == pytest.approx(math.sqrt(0.5))
    assert step.paper_gain == 2.5
    assert _lines()["one"].gain.values == (0.0,)  # seed 1 alone is in both


def test_difference_from_the_paper():
    lines = _lines()
    assert lines["base"].minus_paper("r1") == -18.0
    assert lines["base"].minus_paper("map") == -18.0  # 32 - 50
    assert lines["base"].minus_paper("r5") is None
    assert lines["broken"].minus_paper("r1") is None
    assert lines["one"].paper_gain is None  # no published value
    assert lines["absent"].paper_gain == 2.0


def test_cost_is_in_minutes():
    figures = _lines()["base"].figures
    assert figures["minutes"].mean == 1.5
    assert figures["pairs_per_s"].mean == 250.0
    assert figures["peak_mib"].n == 0  # not recorded, which is not 0


def test_rows_without_a_finished_run_say_why():
    lines = _lines()
    assert [line.state for line in lines.values()] == ["finished", "finished", "finished", "failed", "missing"]
    assert lines["step"].unfinished == {2: "failed"}
    cells = {row[1].text: [cell.text for cell in row] for row in grids(_report())[0].rows}
    assert cells["u"] == ["B", "u", *["failed"] * 5, "x_1", "failed", "-1.00"]
    assert cells["v"] == ["B", "v", *["missing"] * 5, "u", "missing", "+2.00"]
    assert {line.state for line in suite_lines(_runs(), SUITE)} == {"missing"}


def test_cells():
    reached, _, beside, _ = grids(_report())
    assert [cell.text for cell in reached.rows[0]] == [
        *("A", "x_1", "n = 3", "42.0 ± 2.0 [37.0, 47.0]", "52.0 ± 2.0 [47.0, 57.0]", "62.0 ± 2.0 [57.0, 67.0]"),
        *("32.0 ± 2.0 [27.0, 37.0]", "-", "-", "-"),
    ]
    # With one degree of freedom t is 12.706, so 43.5 ± 12.706 * 0.707 / sqrt 2.
    assert [cell.text for cell in reached.rows[1]][2:4] == ["n = 2", "43.5 ± 0.7 [37.1, 49.9]"]
    assert [cell.text for cell in reached.rows[1]][-3:] == ["x_1", "+2.5 ± 0.7", "+2.50"]
    assert [cell.text for cell in reached.rows[2]][2:4] == ["n = 1", "44.0"]
    assert [cell.text for cell in beside.rows[0]][2:] == [
        *("60.00 (-18.0)", "50.00 (-18.0)", "22.0 ± 2.0 [17.0, 27.0]", "1.5", "250", "missing")
    ]
    assert reached.rows[0][3].detail == "40.0  42.0  44.0"


def test_best_of_a_column_as_printed_and_gain_of_fewer_seeds():
    """44.0 is the best mean; 43.96 reads the same and is as good. Published: 62.50."""
    lines = suite_lines(_runs(*RUNS, ("broken", 1, "finished", 43.96)), SUITE)
    reached, _, beside, _ = grids(_report(lines=lines))
    assert [row[3].best for row in reached.rows] == [False, False, True, True, False]
    assert [row[2].best for row in beside.rows] == [False, True, False, False, False]
    lines = suite_lines(_runs(*RUNS, ("one", 5, "finished", 45.0)), SUITE)
    assert grids(_report(lines=lines))[0].rows[2][-2].text == "+0.0 (n = 1)"  # of its two seeds, step has one


@pytest.mark.parametrize(("value", "text"), [(0.04, "+0.0"), (-0.04, "+0.0"), (-0.06, "-0.1"), (9.94, "+9.9")])
def test_signed(value, text):
    assert signed(value) == text


def test_markdown():
    text = markdown(_report())
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table[:7]}) == 1
    assert "42.0 ± 2.0 [37.0, 47.0]" in table[2] and "x\\_1" in table[2]
    assert "**44.0**" in table[4]
    assert "\n- Profile smoke is a test of the program: its figures prove nothing about the method.\n" in text


def test_csv_holds_numbers_at_full_precision():
    records = list(csv.DictReader(io.StringIO(csv_table(_report()))))
    by_row = {record["row"]: record for record in records}
    assert float(by_row["step"]["gain_test_r1_sd"]) == math.sqrt(0.5)
    assert by_row["base"]["test_r1_values"] == "40.0;42.0;44.0"
    assert by_row["one"]["test_r1_sd"] == "NA"
    assert float(by_row["base"]["test_r1_low"]) == pytest.approx(37.032, abs=1e-3)
    assert by_row["one"]["test_r1_low"] == "NA"
    assert (by_row["broken"]["state"], by_row["broken"]["test_r1_mean"]) == ("failed", "NA")
    assert all(value != "" for record in records for value in record.values())


def test_latex_escapes_and_groups():
    text = latex(_report())
    tabular = text[text.index("\\begin") : text.index("\\end")]
    assert r"x\_1" in tabular and r"42.0 $\pm$ 2.0" in tabular and "$-$1.00" in tabular
    assert r"\textbf{44.0}" in tabular
    assert tabular.count(r"\midrule") == 2  # under the head, and between A and B
    assert "% A step has no verdict before 3 seeds" in text


def test_html_stands_alone_and_escapes():
    page = html(_report(title="<b>"), PNG)
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert 'src="data:image/png;base64,iVBOR' in page
    assert "http" not in page
    assert "<strong>44.0</strong>" in page and "40.0  42.0  44.0" in page


def test_notes_on_noise_profile_and_data():
    lines = list(_lines().values())
    said = "\n".join(notes(lines, "smoke", comparable=False))
    assert "one: one seed (n = 1): nothing is known of the spread over trainings." in said
    assert "prove nothing" in said and "not levels" in said
    assert "step: seed 2 failed." in said and "never run with this config on this data: absent." in said
    said = "\n".join(notes(lines[:2], "synth", comparable=True))
    assert "prove nothing" not in said and "not levels" not in said and "n = 1" not in said


@pytest.mark.parametrize(
    ("data", "images", "captions", "expected"),
    [("cuhk-pedes", 3074, 6156, True), ("cuhk-pedes", 3074, 6148, False), ("synthetic", 3074, 6156, False)],
)
def test_levels_are_comparable_on_the_published_split_only(data, images, captions, expected):
    sizes = {"test": {"images": images, "captions": captions, "identities": 1000}}
    assert on_papers_data(SuiteRuns(_runs(*RUNS).assign(data=data), (), sizes)) is expected
    assert not on_papers_data(SuiteRuns(_runs(*RUNS).assign(data=data), (), {}))  # nobody knows


def test_code_versions_are_told_apart_by_digest():
    """Two edits of one commit, both dirty: base's three runs are the oldest, and step and one have the newest code."""
    runs = _runs(*RUNS).assign(git_commit="c0ffee", git_dirty="true", started=range(len(RUNS)))
    assert list(mixed_code(runs.assign(code_digest="aa"))) == []
    assert list(mixed_code(runs.assign(code_digest=["aa"] * 3 + ["bb"] * 3 + ["bb", "cc"]))) == [
        "The runs were made with 2 versions of the code (aa, bb). Not with that of the newest, bb: base."
    ]


def test_rows_at_chance_are_called_that():
    """Chance is 100 / 16 = 6.25; a row at 12.5 is twice that, and has learned something."""
    sizes = {"test": {"identities": 16}}
    low = [("base", 0, "finished", 6.0), ("step", 0, "finished", 12.0)]
    said = "R@1 of all rows is about chance (6.25 for 16 identities): nothing was learned yet, and rows cannot be compared."
    assert list(at_chance(suite_lines(_runs(*low), SUITE), sizes)) == [said]
    assert list(at_chance(suite_lines(_runs(*low, ("one", 0, "finished", 12.5)), SUITE), sizes)) == []
    assert list(at_chance(suite_lines(_runs(*low), SUITE), {})) == []
    assert list(at_chance(suite_lines(_runs(), SUITE), sizes)) == []


def _found(hits, average_precision=None):
    """A run's queries, six of four people (the first two have two each): 1 where the first image is right."""
    hits = np.array(hits)
    average = hits * 0.5 + 0.25 if average_precision is None else np.array(average_precision)
    return Queries(np.where(hits, 1, 3), average, np.array([7, 7, 9, 9, 11, 12]))


def _suite_of(rates, seeds, people=150):
    """Lines and queries of `base` and `step` (and `one`), each with its rate of hits; a query's answer holds for all seeds
    but for a tenth of the queries, which each seed answers anew."""
    draw = np.random.default_rng(0)
    identity = np.repeat(np.arange(people), 2)
    shared = draw.random(2 * people)
    queries, runs = {}, []
    for row, rate in rates.items():
        for seed in range(seeds):
            hits = np.where(draw.random(2 * people) < 0.1, draw.random(2 * people), shared) < rate
            queries[row, seed] = Queries(np.where(hits, 1, 3), hits * 0.5 + 0.25, identity)
            runs.append((row, seed, "finished", 100 * hits.mean()))
    return suite_lines(_runs(*runs), SUITE), queries


def test_one_seed_has_no_verdict():
    """One seed: `step` answers queries 3-6 beside those of `base`: 4 of 6 more. McNemar: 2 / 2^4."""
    lines = suite_lines(_runs(("base", 0, "finished", 100 / 3), ("step", 0, "finished", 100.0)), SUITE)
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
    told = grids(_report(lines=lines, judged=judged))[1]
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
    assert cells[2] == ["u", "x_1", "-1.00", *["missing"] * 9]


def test_a_step_that_is_shown():
    """60 to 80 % of the queries, and 2.5 points published: shown, and the published size lies below the interval."""
    lines, queries = _suite_of({"base": 0.6, "step": 0.8, "one": 0.8}, 5)
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
    told = grids(_report(lines=lines, judged=judged))[1]
    row = dict(zip([column.heading for column in told.columns], [cell.text for cell in told.rows[0]], strict=True))
    assert row["Verdict"] == "shown (published size below)" and row["R@1 [95 %]"].startswith("+18.9 [")
    # The interval beside the verdict is the one of the test that decides, and of no other.
    assert row["R@1 [95 %]"] == f"{signed(step.r1.mean)} [{step.r1.low:+.1f}, {step.r1.high:+.1f}]"


def test_no_headroom_is_said():
    lines, queries = _suite_of({"base": 0.6, "step": 0.8}, 3)
    judged = judge(lines, queries, 200, beats_start={"step": False, "base": True})
    assert judged.steps["step"].verdict == judged.steps["step"].wording == "no headroom"
    assert "No headroom: step. Neither row" in "\n".join(sentences(judged))
    assert judge(lines, queries, 200, beats_start={"step": True}).steps["step"].verdict == "shown"


def test_undecided_says_how_often_it_would_be_shown():
    """2.5 points with 12 queries of 6 people: these runs would hardly ever show it."""
    lines, queries = _suite_of({"base": 0.5, "step": 0.52}, 3, people=6)
    judged = judge(lines, queries, 200)
    step = judged.steps["step"]
    assert step.verdict == "undecided" and step.foresight.power < 0.3
    assert "Undecided says nothing against a step that these runs would seldom show" in "\n".join(sentences(judged))
    told = grids(_report(lines=lines, judged=judged))[1]
    row = dict(zip([column.heading for column in told.columns], [cell.text for cell in told.rows[0]], strict=True))
    assert row["Power"].endswith(" %") and row["Seeds needed"] in ("none", str(step.foresight.seeds_needed))


def test_steps_without_queries_are_over_seeds_and_say_so():
    runs = [
        (row, seed, "finished", r1 + 0.1 * seed) for row, r1 in (("base", 20.0), ("step", 22.0)) for seed in range(3)
    ]
    runs[-1] = ("step", 2, "finished", 22.3)
    judged = judge(suite_lines(_runs(*runs), SUITE), {}, 200)
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
    ranks = judge(suite_lines(_runs(*runs), SUITE), found if known else {}, 300).ranks
    assert (ranks.rows, ranks.tau, ranks.told.opposite) == (3, 1.0, 0)
    assert ranks.over == ("identities and seeds" if known else "seeds")
    assert ranks.told.as_paper >= 2 and ranks.told.high == 1.0
    alone = judge(suite_lines(_runs(*(run for run in runs if run[1] == 0)), SUITE), {}, 300)
    assert alone.ranks == (3, 1.0, None, "")  # one seed each and no queries: nothing that varies
    assert sentences(alone)[-1] == "Order of 3 rows by R@1 against the published one: Kendall's tau 1.00."


def test_average_precision_without_a_right_image_is_not_compared():
    lines = suite_lines(_runs(("base", 0, "finished", 50.0), ("step", 0, "finished", 50.0)), SUITE)
    found = {
        ("base", 0): _found([1, 1, 0, 0, 0, 1], [1, 1, 0, 0, 0, math.nan]),
        ("step", 0): _found([1] * 6, [1] * 5 + [math.nan]),
    }
    step = judge(lines, found, 100).steps["step"]
    assert step.r1.queries == 6 and step.map is None


def test_steps_in_the_formats():
    lines, queries = _suite_of({"base": 0.6, "step": 0.8}, 3)
    report = _report(lines=lines, judged=judge(lines, queries, 200))
    records = {record["row"]: record for record in csv.DictReader(io.StringIO(csv_table(report)))}
    step = report.judged.steps["step"].r1
    assert float(records["step"]["step_r1_mean"]) == step.mean and float(records["step"]["step_r1_low"]) == step.low
    assert (records["step"]["step_verdict"], records["step"]["step_decided_after"]) == ("shown", "3")
    assert (records["step"]["step_seeds"], records["step"]["step_published_size"]) == ("0;1;2", "below")
    assert records["base"]["step_verdict"] == "NA" and records["broken"]["step_r1_p"] == "NA"
    assert all(value != "" for record in records.values() for value in record.values())
    for text in (markdown(report), html(report, PNG), latex(report)):
        assert "What is decided" in text and "over other people and other trainings" in text


def test_selection_gap():
    """Chosen 40; the last checkpoint 38, the best on test 43: 3 were lost by choosing on validation."""
    lines = suite_lines(
        _runs(("base", 0, "finished", 40.0)).assign(
            **{"selected/val_r1": 50.0, "val/r1": 49.0, "last/test_r1": 38.0, "oracle/test_r1": 43.0}
        ),
        SUITE,
    )
    grid = grids(_report(lines=lines))[-1]
    assert [cell.text for cell in grid.rows[0]][2:] == ["50.0", "49.0", "40.0", "38.0", "43.0", "+3.0"]
    assert [cell.text for cell in grid.rows[1]][2:] == ["missing"] * 6
    assert [cell.text for cell in grids(_report())[-1].rows[0]][2:] == [
        *("missing", "missing", "42.0", "missing", "missing", "missing")
    ]


def test_what_a_result_states_of_the_selection():
    """The last checkpoint's test figures need no second evaluation if it is the chosen one."""
    result = {"selected": {"epoch": 3, "val": {"r1": 50.0}}, "last": {"epoch": 4}, "test": {"r1": 40.0}}
    assert selection(result) == {
        "selected/val_r1": 50.0,
        "last/test_r1": pytest.approx(math.nan, nan_ok=True),
        "oracle/test_r1": pytest.approx(math.nan, nan_ok=True),
    }
    assert selection(result | {"last": {"epoch": 3}})["last/test_r1"] == 40.0
    stated = {"last": {"epoch": 4, "test": {"r1": 38.0}}, "test_oracle": {"epoch": 2, "test": {"r1": 43.0}}}
    assert list(selection(result | stated).values()) == [50.0, 38.0, 43.0]
    assert all(math.isnan(value) for value in selection({}).values())


def test_what_the_detectors_learned_and_the_probe_found(tmp_path):
    """Each grid is there if a run was measured, and for the rows that were; the CSV has the same figures."""
    assert [grid.caption for grid in grids(_report())][-1].startswith("Selection")
    figures = {
        "detector/prd_loss": [0.2, 0.25],
        "detector/prd_guess": [0.32, 0.32],
        "detector/prd_base": [10.0, 10.0],
        "detector/prd_recall": [40.0, 50.0],
        "detector/prd_auc": [80.0, 90.0],
        "probe/colour_apart": [70.0, 80.0],
        "probe/colour_stage1_apart": [60.0, 62.0],
        "probe/colour_r1": [50.0, 52.0],
        "probe/colour_r1_exchanged": [20.0, 22.0],
        "probe/colour_rank_factor": [2.0, 4.0],
    }
    runs = _runs(("base", 0, "finished", 40.0), ("base", 1, "finished", 42.0), ("step", 0, "finished", 43.0))
    for name, values in figures.items():
        runs.loc[:1, name] = values
    runs.loc[2, "probe/colour_apart"] = 78.5
    lines = suite_lines(runs, SUITE)
    detectors, probed = grids(_report(lines=lines))[-2:]
    assert [cell.text for (row,) in [detectors.rows] for cell in row][:6] == [
        "x_1",
        "0.225 (0.320)",
        "10.0",
        "45.0",
        "-",
        "85.0",
    ]
    assert [cell.text for cell in probed.rows[0]][:5] == [
        "x_1",
        "75.0 ± 7.1 [11.5, 138.5] (61.0)",
        "-",
        "51.0 to 21.0",
        "3.00",
    ]
    assert [cell.text for cell in probed.rows[1]][:5] == ["y", "78.5", "+8.5", "-", "-"]  # of seed 0, which both have
    record = next(csv.DictReader(io.StringIO(csv_table(_report(lines=lines)))))
    assert float(record["prd_auc_mean"]) == 85 and float(record["colour_r1_exchanged_mean"]) == 21
    assert "garment_apart_mean" not in record
    draw_probe(lines, "sensitivity", tmp_path / "probe.png")
    assert (tmp_path / "probe.png").read_bytes().startswith(PNG)
    assert (
        html(_report(lines=lines), PNG, PNG).count("<img") == 2 and html(_report(lines=lines), PNG).count("<img") == 1
    )
    for text in (markdown(_report(lines=lines)), latex(_report(lines=lines)), html(_report(lines=lines), PNG)):
        assert "0.225 (0.320)" in text and "51.0 to 21.0" in text


def test_what_a_result_states_of_detectors_and_probe():
    result = {"selected": {"val": {"r1": 50.0, "prd_auc": 80.0}}, "sensitivity": {"colour_apart": 70.0, "new": 1.0}}
    assert measured(result) == {"detector/prd_auc": 80.0, "probe/colour_apart": 70.0}
    assert measured({}) == {}


def test_figure_numbers_and_picture(tmp_path):
    numbers = bars(list(_lines().values()))
    assert numbers[0] == ("x_1", "A", 42.0, 2.0, (40.0, 42.0, 44.0), 60.0, "finished")
    assert numbers[2][2:6] == (44.0, None, (44.0,), None)
    assert [(bar.mean, bar.state) for bar in numbers[3:]] == [(None, "failed"), (None, "missing")]
    for number, shown in enumerate((numbers, numbers[2:3], numbers[4:])):  # all; no published value; none of ours
        draw(shown, "ours", "paper", tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").read_bytes().startswith(PNG)


def test_papers_numbers_are_those_of_the_suite():
    """The CSV was typed from the paper, the suite's values by someone else: they must agree."""
    text = (files("reports") / "paper" / "table4.csv").read_text(encoding="utf-8")
    metrics = ("r1", "r5", "r10", "map")
    typed = [
        (record["module"], record["setting"], record["row"], {name: float(record[name]) for name in metrics})
        for record in csv.DictReader(io.StringIO(text))
    ]
    assert typed == [(*row.labels, row.name, row.paper) for row in load_suite("table4").rows]


def test_which_run_of_a_seed_counts():
    """The newest finished one; a later failure hides nothing. Most rows finished decide on the data, then the newest."""
    configs = row_configs(load_suite("table4"), "smoke", [])

    def record(run: str, day: int, state: str = "finished", row: str = "cl", data: str = "new", seed: int = 0):
        started = datetime(2026, 1, day, tzinfo=UTC)
        return {
            "run_id": run,
            "row": row,
            "seed": seed,
            "state": state,
            "started": started,
            "data_digest": data,
            "weights_digest": "",
        }

    records = [
        record("newest", 3),
        record("older", 2),
        record("later failure", 5, "failed"),
        record("only failure", 4, "failed", seed=1),
        record("other data", 1, row="itm", data="old"),
    ]
    chosen, said = choose(records, configs)
    assert {record["run_id"] for record in chosen} == {"newest", "only failure"}
    why = "initial weights none: with others more rows, or newer runs, finished."
    assert said == (f"Left out: runs of itm with data digest old and {why}",)

    records += [record("s-itm", 1, row="s-itm", data="old"), record("p-itm", 1, "failed", row="p-itm", data="old")]
    chosen, said = choose(records, configs)
    assert {record["run_id"] for record in chosen} == {"other data", "s-itm", "p-itm"}
    assert said == (f"Left out: runs of cl with data digest new and {why}",)


def test_paper_profile_needs_no_data_to_be_reported():
    """A run needs data.root; a reader does not, and where the data lies changes no row's identity."""
    suite = load_suite("table4")
    configs = row_configs(suite, "paper", [])
    assert row_digest(configs["cl"]) == row_digest(resolve(suite, "cl", "paper", ["data.root=/data"], 3))


TINY = """
suite: tiny
title: Two rows
labels: [Setting]
base: {optimisation: {epochs: 2}}
rows:
- {name: cl, labels: [CL], changes: {objectives: {weights: {cl: 0.5}}}, paper: {r1: 61.35}}
- {name: itm, labels: [CL + ITM], versus: cl, changes: {objectives: {weights: {cl: 0.5, itm: 1}}}, paper: {r1: 71.29}}
- {name: s, labels: [never run], versus: cl, changes: {objectives: {weights: {cl: 0.5, itm: 2}}}}
"""


def _write_store(workspace: Path, suite: Suite) -> None:
    """Two seeds of `cl`, one of `itm` and a failed one, and a run of another config, as the writer files them."""
    client = open_store(f"{SQLITE}{workspace / DATABASE}")
    (workspace / "result.json").write_text('{"sizes": {"test": {"images": 64, "captions": 128}}}')
    experiment = client.create_experiment(suite.suite, artifact_location=(workspace / "artifacts").as_uri())
    benchmark = resolve(suite, "cl", "smoke", [], 0).data.synthetic.model_dump_json()
    runs = [("cl", 0, "finished", 30.0), ("cl", 1, "finished", 34.0), ("itm", 0, "finished", 41.0)]
    for row, seed, state, r1 in [*runs, ("itm", 1, "failed", 0.0), ("cl", 2, "finished", 99.0)]:
        epochs = "optimisation.epochs=9" if r1 == 99 else "optimisation.epochs=2"
        tags = {
            tracking.KIND: tracking.KIND_SEED,
            tracking.SUITE: suite.suite,
            tracking.ROW: row,
            tracking.PROFILE: "smoke",
            tracking.SEED: str(seed),
            tracking.STATE: state,
            tracking.ROW_DIGEST: row_digest(resolve(suite, row, "smoke", [epochs], seed)),
            tracking.DATA_DIGEST: "d1a7a",
            tracking.GIT_COMMIT: "c0ffee",
            tracking.GIT_DIRTY: "false",
            tracking.DIRECTORY: str(workspace),
            tracking.DATA: "synthetic",
            tracking.BENCHMARK: benchmark,
        }
        run = client.create_run(experiment, tags=tags).info.run_id
        if state == "finished":
            for name, value in {"r1": r1, "r5": r1 + 10, "r10": r1 + 20, "map": r1}.items():
                client.log_metric(run, f"test/{name}", value)


def test_report_of_a_real_store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    _write_store(tmp_path, load_suite(str(file)))
    done = CliRunner().invoke(command, [str(file), "--workspace", str(tmp_path)], catch_exceptions=False)
    folder = tmp_path / "report" / "tiny-smoke"
    assert done.exit_code == 0
    assert done.stderr == f"report: {folder / 'report.html'}\n"
    assert "32.0 ± 2.8" in done.stdout and "+11.0 (n = 1)" not in done.stdout and "+11.0" in done.stdout
    assert "99.0" not in done.stdout
    assert "itm: seed 1 failed." in done.stdout and "never run with this config on this data: s." in done.stdout
    assert "64 images, 128 captions" in done.stdout and "c0ffee" in done.stdout and "d1a7a" in done.stdout
    assert {path.name for path in folder.iterdir()} == {"table.md", "table.csv", "table.tex", "report.html", "r1.png"}
    assert (folder / "table.md").read_text() == done.stdout

    arguments = [str(file), "--workspace", str(tmp_path), "-o", "optimisation.epochs=9", "--format", "csv"]
    done = CliRunner().invoke(command, [*arguments, "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert done.stdout.startswith("Setting,row,state") and "99.0" in done.stdout
    assert (tmp_path / "out" / "report.html").exists()

    done = CliRunner().invoke(command, [str(file), "--workspace", str(tmp_path), "-o", "optimisation.epochs=7"])
    assert isinstance(done.exception, ResourceError)
    assert "no runs of tiny at profile smoke (5 of another config or on other data are there)" in str(done.exception)


def _write_run_on(workspace: Path, suite: Suite, r1: float, tags: dict[str, str], params: dict[str, str]) -> None:
    """A newer finished run of `cl` than _write_store's, as filed with these tags and parameters."""
    client = open_store(f"{SQLITE}{workspace / DATABASE}")
    experiment = client.get_experiment_by_name(suite.suite).experiment_id
    config = resolve(suite, "cl", "smoke", ["optimisation.epochs=2"], 0)
    tags |= {
        tracking.KIND: tracking.KIND_SEED,
        tracking.ROW: "cl",
        tracking.PROFILE: "smoke",
        tracking.SEED: "0",
        tracking.STATE: "finished",
        tracking.ROW_DIGEST: row_digest(config),
    }
    run = client.create_run(experiment, tags=tags).info.run_id
    client.log_metric(run, "test/r1", r1)
    for name, value in params.items():
        client.log_param(run, name, value)


def test_runs_on_other_data_are_in_a_table_of_their_own(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    suite = load_suite(str(file))
    _write_store(tmp_path, suite)
    folder = write_people(tmp_path / "people", train=4, val=2, test=2, images=1)
    data = resolve(suite, "cl", "smoke", [f"data.root={folder}"], 0).data
    on_folder = {tracking.DATA: "cuhk-pedes", tracking.DATA_DIGEST: load_dataset(data).digest}
    _write_run_on(tmp_path, suite, 71.0, on_folder | {tracking.DATA_ROOT: str(folder)}, {})
    gone = {tracking.DATA: "cuhk-pedes", tracking.DATA_ROOT: "/gone", tracking.DATA_DIGEST: "90e"}
    _write_run_on(tmp_path, suite, 72.0, gone, {})
    built_in = {tracking.DATA: "synthetic", tracking.DATA_DIGEST: "d1a7a"}
    asked = data.synthetic.model_dump(mode="json")
    other = built_in | {tracking.BENCHMARK: json.dumps(asked | {"seed": 9})}
    _write_run_on(tmp_path, suite, 73.0, other | {tracking.DATA_DIGEST: "5eed9"}, {})
    _write_run_on(tmp_path, suite, 74.0, {tracking.DATA_DIGEST: "01d"}, {"data.synthetic.seed": "9"})  # before the tags
    _write_run_on(tmp_path, suite, 35.0, built_in | {tracking.BENCHMARK: json.dumps(asked)}, {})

    def reported(*options: str) -> tuple[list[str], str]:
        arguments = [str(file), "--workspace", str(tmp_path), "--out", str(tmp_path / "out"), *options]
        text = CliRunner().invoke(command, arguments, catch_exceptions=False).stdout
        records = csv.DictReader(io.StringIO((tmp_path / "out" / "table.csv").read_text()))
        return [record["test_r1_values"] for record in records], text

    values, text = reported()
    assert values == ["35.0;34.0", "41.0", "NA"]
    assert text.count("Left out: runs of cl with data digest ") == 4
    assert "digest 5eed9 and initial weights none: it is not the data asked for." in text
    assert reported("-o", f"data.root={folder}")[0] == ["71.0", "NA", "NA"]
    assert reported("-o", "data.root=/gone")[0] == ["72.0", "NA", "NA"]
    assert reported("-o", "data.synthetic.seed=9")[0] == ["74.0", "NA", "NA"]


def test_predictions_from_directory_tracker_and_data(tmp_path, monkeypatch):
    """`cl` has its file in its directory, `itm` as an artifact alone; `s` has none, and one that is another run's."""
    from safetensors.numpy import save_file

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    suite = load_suite(str(file))
    folder = write_people(tmp_path / "people", train=4, val=2, test=4, images=1)
    data = resolve(suite, "cl", "smoke", [f"data.root={folder}"], 0).data
    digest = load_dataset(data).digest
    client = open_store(f"{SQLITE}{tmp_path / DATABASE}")
    experiment = client.create_experiment(suite.suite, artifact_location=(tmp_path / "artifacts").as_uri())

    def write(row: str, seed: int, hits: list[int], place: str, reported: float | None = None) -> None:
        directory = tmp_path / "runs" / f"{row}-{seed}"
        directory.mkdir(parents=True)
        config = resolve(suite, row, "smoke", ["optimisation.epochs=2"], seed)
        tags = {
            tracking.KIND: tracking.KIND_SEED,
            tracking.ROW: row,
            tracking.PROFILE: "smoke",
            tracking.SEED: str(seed),
            tracking.STATE: "finished",
            tracking.ROW_DIGEST: row_digest(config),
            tracking.DATA: "cuhk-pedes",
            tracking.DATA_ROOT: str(folder),
            tracking.DATA_DIGEST: digest,
            tracking.DIRECTORY: str(directory),
        }
        run = client.create_run(experiment, tags=tags).info.run_id
        client.log_metric(run, "test/r1", 100 * float(np.mean(hits)) if reported is None else reported)
        if place:
            arrays = {"first_rank": np.where(hits, 1, 2), "average_precision": np.where(hits, 1.0, 0.5)}
            save_file(arrays, directory / "predictions.safetensors")
        (directory / "result.json").write_text('{"selected": {"epoch": 1, "val": {"r1": 31.0}}, "last": {"epoch": 2}}')
        if place == "tracker":
            for name in ("predictions.safetensors", "result.json"):
                client.log_artifact(run, str(directory / name))
                (directory / name).unlink()

    write("cl", 0, [1, 0, 0, 0, 0, 0, 0, 1], "directory")
    write("itm", 0, [1, 1, 1, 1, 1, 1, 1, 1], "tracker")
    write("s", 0, [1, 1, 0, 0, 0, 0, 0, 0], "")
    write("s", 1, [1, 1, 0, 0, 0, 0, 0, 0], "directory", reported=26.0)

    def reported() -> tuple[dict[str, dict[str, str]], str]:
        arguments = [
            str(file),
            "--workspace",
            str(tmp_path),
            "-o",
            f"data.root={folder}",
            "--out",
            str(tmp_path / "out"),
        ]
        text = CliRunner().invoke(command, arguments, catch_exceptions=False).stdout
        records = csv.DictReader(io.StringIO((tmp_path / "out" / "table.csv").read_text()))
        return {record["row"]: record for record in records}, text

    records, text = reported()
    assert float(records["itm"]["step_r1_mean"]) == 75.0
    assert (records["itm"]["step_queries"], records["itm"]["step_identities"]) == ("8", "4")
    assert records["itm"]["step_verdict"] == "too few seeds"
    assert (records["itm"]["val_r1_mean"], records["itm"]["last_r1_mean"]) == ("31.0", "NA")
    assert "Not compared over queries: s (seed 0): predictions.safetensors is missing." in text
    assert (
        "Not compared over queries: s (seed 1): predictions.safetensors gives another R@1 than the run reported."
        in text
    )
    assert "+75.0" in text and "A step has no verdict before 3 seeds" in text

    (folder / "reid_raw.json").unlink()  # whom the queries describe is known from the data alone
    _dataset.cache_clear()
    records, text = reported()
    assert records["itm"]["step_queries"] == "NA"
    assert (
        f"cl (seed 0), itm (seed 0): whom the queries describe is not known here, since the data ({digest}) is not."
        in text
    )


def test_no_store_is_made_by_reading(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = CliRunner().invoke(command, ["table4", "--workspace", str(tmp_path)])
    assert isinstance(done.exception, ResourceError)
    assert "`rasa run table4 --profile smoke`" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_rows_are_called_by_what_tells_them_apart():
    """The settings of Table 4 do; both rows of Table 7 are RaSa, so their domains belong to the name, in tables and pictures."""
    for name, expected in (("table4", ["ITC + IMC", "ITM"]), ("table7", ["C to I, RaSa", "I to C, RaSa"])):
        mine = load_suite(name)
        lines = suite_lines(_runs(*((row.name, 0, "finished", 50.0) for row in mine.rows)), mine)
        assert list(telling_names(lines).values())[:2] == expected
        assert [bar.label for bar in bars(lines)][:2] == expected
