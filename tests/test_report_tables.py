"""The report's tables and pictures: arithmetic by hand on a small suite, what is absent, the formats, the notes."""

import csv
import io
import math
import re
from importlib.resources import files

import pytest

from experiments.machine import device_of
from experiments.spec import load_suite
from reports import forest
from reports.build import mixed_code, notes, on_papers_data
from reports.cells import grids, signed
from reports.devices import costs_of_one_device
from reports.figures import bars, describe_probe, draw, draw_probe
from reports.formats import csv_table, html, json_text, latex, markdown, page_of
from reports.load import SuiteRuns
from reports.summary import at_chance
from reports.tables import Spread, suite_lines, telling_names
from reports.verdict import judge
from tests.helpers.tiny_report import PNG, RUNS, SUITE, picture, suite_of, tidy, tiny_lines, tiny_report


def test_mean_and_spread_by_hand():
    """40, 42, 44: mean 42, squared distances 4 + 0 + 4 over n - 1 = 2, so sd 2."""
    r1 = tiny_lines()["base"].figures["r1"]
    assert (r1.n, r1.mean, r1.sd, r1.values) == (3, 42.0, 2.0, (40.0, 42.0, 44.0))
    one, none = Spread({7: 5.0}), Spread({})
    assert (one.n, one.mean, one.sd) == (1, 5.0, None)
    assert (none.n, none.mean, none.sd, none.values) == (0, None, None, ())


def test_gain_is_paired_by_seed():
    """43 - 40 = 3 and 44 - 42 = 2: mean 2.5, sd sqrt(0.5). Unpaired means would give 43.5 - 42 = 1.5."""
    step = tiny_lines()["step"]
    assert step.gain.values == (3.0, 2.0)
    assert step.gain.mean == 2.5
    assert step.gain.sd == pytest.approx(math.sqrt(0.5))
    assert step.paper_gain == 2.5
    assert tiny_lines()["one"].gain.values == (0.0,)  # seed 1 alone is in both


def test_difference_from_the_paper():
    lines = tiny_lines()
    assert lines["base"].minus_paper("r1") == -18.0
    assert lines["base"].minus_paper("map") == -18.0  # 32 - 50
    assert lines["base"].minus_paper("r5") is None
    assert lines["broken"].minus_paper("r1") is None
    assert lines["one"].paper_gain is None  # no published value
    assert lines["absent"].paper_gain == 2.0


def test_cost_is_in_minutes():
    figures = tiny_lines()["base"].figures
    assert figures["minutes"].mean == 1.5
    assert figures["pairs_per_s"].mean == 250.0
    assert figures["peak_mib"].n == 0  # not recorded, which is not 0


def test_costs_are_of_one_kind_of_device():
    """Two runs of 60 s and 120 s on a CPU and one of 6 s on a GPU: 1.5 minutes, and R@1 is still the mean of three."""
    runs = tidy(*RUNS)
    runs["device"] = "cpu"
    runs.loc[[0, 1, 2], "cost/seconds"] = [60.0, 120.0, 6.0]
    assert costs_of_one_device(runs) == (runs, [])
    runs.loc[2, "device"] = "NVIDIA H200"
    costs, said = costs_of_one_device(runs)
    figures = {line.name: line.figures for line in suite_lines(costs, SUITE)}["base"]
    assert (figures["minutes"].mean, figures["minutes"].n, figures["r1"].n) == (1.5, 2, 3)
    assert runs.loc[2, "cost/seconds"] == 6.0  # the table itself is as it was
    assert len(said) == 1 and said[0].endswith("those of the 5 runs on cpu; left out of them, and of nothing else: "
                                               "NVIDIA H200 (1 run, seed 2).")  # fmt: skip
    runs["device"] = "NVIDIA H200"
    assert costs_of_one_device(runs)[1] == []


def test_where_a_run_trained():
    """What its result says; else the first GPU of its machine; else a CPU."""
    gpus = {"gpus": ["NVIDIA H200", "NVIDIA A100"]}
    assert device_of({"numerics": {"device": "cpu"}}, lambda: gpus) == "cpu"
    assert device_of({"numerics": {"device": "cpu"}}, lambda: pytest.fail("fetched for nothing")) == "cpu"
    assert device_of({"numerics": {"precision": "float32"}}, lambda: gpus) == "NVIDIA H200"
    assert device_of({}, dict) == device_of({}, lambda: {"gpus": []}) == "cpu"


def test_rows_without_a_finished_run_say_why():
    lines = tiny_lines()
    assert [line.state for line in lines.values()] == ["finished", "finished", "finished", "failed", "never run"]
    assert lines["step"].unfinished == {2: "failed"}
    cells = {row[1].text: [cell.text for cell in row] for row in grids(tiny_report())[0].rows}
    assert cells["u"] == ["B", "u", *["failed"] * 5, "x_1", "failed", "-1.00"]
    assert cells["v"] == ["B", "v", *["never run"] * 5, "u", "never run", "+2.00"]
    assert {line.state for line in suite_lines(tidy(), SUITE)} == {"never run"}


def test_cells():
    reached, _, beside, _ = grids(tiny_report())
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


def test_nothing_undecided_is_bold_and_a_gain_of_fewer_seeds_says_so():
    """44.0 is the best mean, of one seed: no verdict allows to call it that."""
    assert not any(cell.best for grid in page_of(tiny_report()).grids for row in grid.rows for cell in row)
    lines, queries = suite_of({"base": 0.6, "step": 0.8}, 3)
    shown = page_of(tiny_report(lines=lines, judged=judge(lines, queries, 200)))
    bold = [
        (grid.heading, row[grid.header].text, cell.text)
        for grid in shown.grids
        for row in grid.rows
        for cell in row
        if cell.best
    ]
    assert {(heading, row) for heading, row, _ in bold} == {
        ("Results on the test split", "y"),
        ("What is decided", "y"),
    }
    assert all(text.startswith("+") and "[" in text for _, _, text in bold)
    lines = suite_lines(tidy(*RUNS, ("one", 5, "finished", 45.0)), SUITE)
    assert grids(tiny_report(lines=lines))[0].rows[2][-2].text == "+0.0 (n = 1)"  # of its two seeds, step has one


@pytest.mark.parametrize(("value", "text"), [(0.04, "+0.0"), (-0.04, "+0.0"), (-0.06, "-0.1"), (9.94, "+9.9")])
def test_signed(value, text):
    assert signed(value) == text


def test_markdown():
    text = markdown(tiny_report())
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table[:7]}) == 1
    assert "42.0 ± 2.0 " in table[2] and "x\\_1" in table[2]
    assert "42.0 ± 2.0 [37.0, 47.0]" in text
    assert "\n- Profile smoke is a test of the program: its figures prove nothing about the method.\n" in text


def test_csv_holds_numbers_at_full_precision():
    records = list(csv.DictReader(io.StringIO(csv_table(tiny_report()))))
    by_row = {record["row"]: record for record in records}
    assert float(by_row["step"]["gain_test_r1_sd"]) == math.sqrt(0.5)
    assert by_row["base"]["test_r1_values"] == "40.0;42.0;44.0"
    assert by_row["one"]["test_r1_sd"] == "NA"
    assert float(by_row["base"]["test_r1_low"]) == pytest.approx(37.032, abs=1e-3)
    assert by_row["one"]["test_r1_low"] == "NA"
    assert (by_row["broken"]["state"], by_row["broken"]["test_r1_mean"]) == ("failed", "NA")
    assert all(value != "" for record in records for value in record.values())


def test_latex_escapes_and_groups():
    text = latex(tiny_report())
    second = text.index("\\begin{tabular}", text.index("\\end{tabular}"))
    tabular = text[second : text.index("\\end{tabular}", second)]
    assert r"x\_1" in tabular and r"42.0 $\pm$ 2.0" in tabular and "$-$1.00" in tabular
    assert tabular.count(r"\midrule") == 2  # under the head, and between A and B
    assert "% A step has no verdict before 3 seeds" in text


def test_html_stands_alone_and_escapes(tmp_path):
    page = html(tiny_report(title="<b>"), [picture(tmp_path, 'Ten "rows" < eleven')])
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert 'role="img" aria-label="Ten &quot;rows&quot; &lt; eleven"' in page and "<text>drawn</text>" in page
    assert 'id="f1-clip"' in page and 'clip-path="url(#f1-clip)"' in page
    for bad in ("<script>alert", "onload", "javascript", "<metadata", "foreignObject"):
        assert bad not in page
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}  # a name, nothing is fetched
    assert "40.0  42.0  44.0" in page


def test_notes_on_noise_profile_and_data():
    lines = list(tiny_lines().values())
    said = "\n".join(notes(lines, "smoke", comparable=False))
    assert "one: one seed (n = 1): nothing is known of the spread over trainings." in said
    assert "prove nothing" in said and "not levels" in said
    assert "step: seed 2 failed." in said and "Never run with this config on this data: absent." in said
    said = "\n".join(notes(lines[:2], "synth", comparable=True))
    assert "prove nothing" not in said and "not levels" not in said and "n = 1" not in said


@pytest.mark.parametrize(
    ("data", "images", "captions", "expected"),
    [("cuhk-pedes", 3074, 6156, True), ("cuhk-pedes", 3074, 6148, False), ("synthetic", 3074, 6156, False)],
)
def test_levels_are_comparable_on_the_published_split_only(data, images, captions, expected):
    sizes = {"test": {"images": images, "captions": captions, "identities": 1000}}
    assert on_papers_data(SuiteRuns(tidy(*RUNS).assign(data=data), (), sizes)) is expected
    assert not on_papers_data(SuiteRuns(tidy(*RUNS).assign(data=data), (), {}))  # nobody knows


def test_code_versions_are_told_apart_by_digest():
    """Two edits of one commit, both dirty: base's three runs are the oldest, and step and one have the newest code."""
    runs = tidy(*RUNS).assign(git_commit="c0ffee", git_dirty="true", started=range(len(RUNS)))
    assert list(mixed_code(runs.assign(code_digest="aa"))) == []
    assert list(mixed_code(runs.assign(code_digest=["aa"] * 3 + ["bb"] * 3 + ["bb", "cc"]))) == [
        "The runs were made with 2 versions of the code (aa, bb). Not with that of the newest, bb: base."
    ]


def test_rows_at_chance_are_called_that():
    """Chance is 6.25; a row at 12.5 is twice that, and has learned something."""
    low = [("base", 0, "finished", 6.0), ("step", 0, "finished", 12.0)]
    said = "R@1 of all rows is about chance (6.25): nothing was learned there, and rows cannot be compared."
    assert list(at_chance(suite_lines(tidy(*low), SUITE), 6.25)) == [said]
    (some,) = at_chance(suite_lines(tidy(*low, ("one", 0, "finished", 12.5)), SUITE), 6.25)
    assert some.startswith("R@1 of base, step is about chance (6.25): ")
    assert list(at_chance(suite_lines(tidy(*low), SUITE), None)) == []
    assert list(at_chance(suite_lines(tidy(), SUITE), 6.25)) == []


def test_selection_gap():
    """Chosen 40; the last checkpoint 38, the best on test 43: 3 were lost by choosing on validation."""
    lines = suite_lines(
        tidy(("base", 0, "finished", 40.0)).assign(
            **{"selected/val_r1": 50.0, "val_last/r1": 49.0, "last/test_r1": 38.0, "oracle/test_r1": 43.0}
        ),
        SUITE,
    )
    grid = grids(tiny_report(lines=lines))[-1]
    assert [cell.text for cell in grid.rows[0]][2:] == ["50.0", "49.0", "40.0", "38.0", "43.0", "+3.0"]
    assert [cell.text for cell in grid.rows[1]][2:] == ["never run"] * 6
    assert [cell.text for cell in grids(tiny_report())[-1].rows[0]][2:] == [
        *("missing", "missing", "42.0", "not asked", "not asked", "not asked")
    ]


def test_what_the_detectors_learned_and_the_probe_found(tmp_path):
    """Each grid is there if a run was measured, and for the rows that were; the CSV has the same figures."""
    assert [grid.caption for grid in grids(tiny_report())][-1].startswith("Selection")
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
    runs = tidy(("base", 0, "finished", 40.0), ("base", 1, "finished", 42.0), ("step", 0, "finished", 43.0))
    for name, values in figures.items():
        runs.loc[:1, name] = values
    runs.loc[2, "probe/colour_apart"] = 78.5
    lines = suite_lines(runs, SUITE)
    detectors, probed = grids(tiny_report(lines=lines))[-2:]
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
        "75.0 ± 7.1 (61.0)",
        "-",
        "51.0 to 21.0",
        "3.00",
    ]
    assert [cell.text for cell in probed.rows[1]][:5] == ["y", "78.5", "+8.5", "-", "-"]  # of seed 0, which both have
    record = next(csv.DictReader(io.StringIO(csv_table(tiny_report(lines=lines)))))
    assert float(record["prd_auc_mean"]) == 85 and float(record["colour_r1_exchanged_mean"]) == 21
    assert "garment_apart_mean" not in record
    draw_probe(lines, "sensitivity", tmp_path / "probe.png")
    assert (tmp_path / "probe.png").read_bytes().startswith(PNG)
    assert "75" in describe_probe(lines) and "x_1: colour 75" in describe_probe(lines)
    one = picture(tmp_path)
    assert [html(tiny_report(lines=lines), [one] * number).count("<svg") for number in (1, 2)] == [1, 2]
    for text in (
        markdown(tiny_report(lines=lines)),
        latex(tiny_report(lines=lines)),
        html(tiny_report(lines=lines)),
        json_text(tiny_report(lines=lines)),
    ):
        assert "0.225 (0.320)" in text and "51.0 to 21.0" in text


def test_figure_numbers_and_picture(tmp_path):
    numbers = bars(list(tiny_lines().values()))
    assert numbers[0] == ("x_1", "base", 42.0, 2.0, (40.0, 42.0, 44.0), 60.0, "finished")
    assert numbers[2][2:6] == (44.0, None, (44.0,), None)
    assert [(bar.mean, bar.state) for bar in numbers[3:]] == [(None, "failed"), (None, "never run")]
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


def test_rows_are_called_by_what_tells_them_apart():
    """The settings of Table 4 do; both rows of Table 7 are RaSa, so their domains belong to the name,
    in tables and pictures."""
    for name, expected in (("table4", ["ITC + IMC", "ITM"]), ("table7", ["C to I, RaSa", "I to C, RaSa"])):
        mine = load_suite(name)
        lines = suite_lines(tidy(*((row.name, 0, "finished", 50.0) for row in mine.rows)), mine)
        assert list(telling_names(lines).values())[:2] == expected
        assert [bar.label for bar in bars(lines)][:2] == expected


def test_the_step_plot_by_hand(tmp_path):
    """Means, intervals, published gains and what could be seen are the report's; a step without runs says so."""
    lines, queries = suite_of({"base": 0.6, "step": 0.8}, 3)
    judged = judge(lines, queries, 200)
    figure = {gain.label: gain for gain in forest.gains(lines, judged)}
    assert len(figure) == len(judged.steps) and all(" from " in label for label in figure)
    (shown,) = [gain for gain in figure.values() if gain.mean is not None]
    step = judged.steps["step"]
    assert shown[1:5] == (step.r1.mean, step.r1.low, step.r1.high, step.r1.published)
    assert shown.could_see == step.foresight.could_see and shown.words == step.wording
    others = [gain for gain in figure.values() if gain.mean is None]
    assert {gain.words for gain in others} == {"never run"}
    text = forest.describe(list(figure.values()))
    assert f"{step.r1.mean:+.1f} [{step.r1.low:+.1f}, {step.r1.high:+.1f}], published" in text and "never run" in text
    forest.draw(list(figure.values()), "ours", tmp_path / "steps.png")
    assert (tmp_path / "steps.png").read_bytes().startswith(PNG)
