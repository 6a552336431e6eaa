"""The paper's tables: every one against counts, sums and lines typed here from the paper's text;
the reader; the layout."""

import csv
import io
import json
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

from experiments.spec import load_suite, suite_names
from experiments.suite import PaperTable, Suite
from rasa.errors import ResourceError, SpecError
from reports.build import on_papers_data
from reports.cells import Report, grids
from reports.commands import report as command
from reports.formats import csv_table, html, latex, markdown
from reports.layout import as_published, competitors
from reports.load import SuiteRuns
from reports.published import Entry, load_published, parse, published_names
from reports.tables import suite_lines
from reports.verdict import judge
from tests.helpers.tiny_report import tidy

PEOPLE = ("r1", "r5", "r10", "map")
# By table and data set: how many lines it has, and how many figures and which sum each of its columns.
SUMS = [
    (
        "table1",
        "CUHK-PEDES",
        17,
        {"r1": (17, "1011.52"), "r5": (16, "1291.53"), "r10": (17, "1447.28"), "map": (4, "244.74")},
    ),
    (
        "table2",
        "ICFG-PEDES",
        12,
        {"r1": (12, "630.34"), "r5": (12, "846.35"), "r10": (12, "930.21"), "map": (3, "93.67")},
    ),
    (
        "table3",
        "RSTPReid",
        10,
        {"r1": (10, "481.53"), "r5": (10, "711.03"), "r10": (10, "796.04"), "map": (3, "130.85")},
    ),
    (
        "table4",
        "CUHK-PEDES",
        10,
        {"r1": (10, "728.41"), "r5": (10, "880.88"), "r10": (10, "924.73"), "map": (10, "675.07")},
    ),
    (
        "table5",
        "Flickr30K",
        8,
        {
            "tr_r1": (7, "649.90"),
            "tr_r5": (7, "695.00"),
            "tr_r10": (7, "698.50"),
            "r1": (7, "573.04"),
            "r5": (7, "672.90"),
            "r10": (7, "686.10"),
        },
    ),
    (
        "table5",
        "COCO",
        8,
        {
            "tr_r1": (7, "524.88"),
            "tr_r5": (7, "648.70"),
            "tr_r10": (7, "674.18"),
            "r1": (7, "411.24"),
            "r5": (7, "582.04"),
            "r10": (7, "628.89"),
        },
    ),
    ("table6", "CUB", 13, {"tr_r1": (13, "766.7"), "ap50": (13, "747.1")}),
    ("table6", "Flowers", 13, {"tr_r1": (13, "869.5"), "ap50": (13, "862.9")}),
    ("table7", "ICFG-PEDES", 6, {"r1": (6, "170.11"), "r5": (6, "274.88"), "r10": (6, "326.91")}),
    ("table7", "CUHK-PEDES", 6, {"r1": (6, "129.40"), "r5": (6, "225.34"), "r10": (6, "275.47")}),
    (
        "table8",
        "CUHK-PEDES",
        19,
        {"r1": (19, "1106.21"), "r5": (18, "1432.56"), "r10": (19, "1605.67"), "map": (6, "333.19")},
    ),
]


@pytest.mark.parametrize(("name", "dataset", "lines", "columns"), SUMS)
def test_counts_and_sums_of_every_column(name, dataset, lines, columns):
    table = load_published(name)
    entries = [entry for entry in table.entries if entry.dataset == dataset]
    assert len(entries) == lines
    assert table.metrics == tuple(columns)
    for metric, (count, total) in columns.items():
        printed = [entry.printed[metric] for entry in entries if metric in entry.printed]
        assert (len(printed), sum(map(Decimal, printed))) == (count, Decimal(total)), metric


def test_the_sums_above_are_of_all_that_there_is():
    assert {name for name, *_ in SUMS} == set(published_names()) == set(PaperTable.__args__)
    counts = {name: sum(lines for other, _, lines, _ in SUMS if other == name) for name in published_names()}
    assert counts == {name: len(load_published(name).entries) for name in published_names()}
    shipped = {entry.name for entry in (files("reports") / "paper").iterdir() if entry.name.endswith(".csv")}
    assert shipped == {f"{name}.csv" for name in published_names()}


# Lines as the paper prints them, from each end and the middle of each table, with every kind of gap.
# Every line of the paper, taken from its text by a program and not from reports/paper;
# a system's lines of one table joined.
PAPER = json.loads((Path(__file__).parent / "golden" / "facts" / "paper_tables.json").read_text())["lines"]


@pytest.mark.parametrize("name", PAPER)
def test_every_line_is_as_the_paper_prints_it(name):
    """All 400 figures, in the order of the paper's lines, with their digits."""
    table = load_published(name)
    ours = dict[str, list[str]]()
    for entry in table.entries:
        cells = ours.setdefault(entry.labels.get("method") or entry.labels["setting"], [])
        cells += [entry.printed.get(metric, "-") for metric in table.metrics]
    assert {system: " ".join(cells) for system, cells in ours.items()} == PAPER[name]
    assert list(ours) == list(PAPER[name])


def test_the_paper_s_lines_are_all_there():
    figures = [cell for lines in PAPER.values() for line in lines.values() for cell in line.split() if cell != "-"]
    assert list(PAPER) == published_names() and len(figures) == 400


def _method(table: str, method: str) -> Entry:
    return next(entry for entry in load_published(table).entries if entry.labels["method"] == method)


@pytest.mark.parametrize(
    ("table", "better", "worse", "metric", "lead"),
    [
        ("table1", "RaSa (Ours)", "CFine", "r1", 6.94),  # abstract
        ("table2", "RaSa (Ours)", "CFine", "r1", 4.45),
        ("table3", "RaSa (Ours)", "C2A2", "r1", 15.35),  # and not over CFine, as 4.3 says
        ("table6", "RaSa (Ours)", "iVAD", "tr_r1", 14.0),  # A.3
        ("table6", "RaSa (Ours)", "iVAD", "ap50", 12.0),
    ],
)
def test_leads_that_the_text_states(table, better, worse, metric, lead):
    difference = _method(table, better).values[metric] - _method(table, worse).values[metric]
    assert difference == pytest.approx(lead, abs=1e-9)


def test_groups_references_and_repeated_lines():
    groups = {name: [entry.labels.get("group") for entry in load_published(name).entries] for name in published_names()}
    assert groups["table1"] == ["w/o VLP"] * 12 + ["w/ VLP"] * 5
    assert groups["table2"] == ["w/o VLP"] * 8 + ["w/ VLP"] * 4
    assert groups["table3"] == ["w/o VLP"] * 6 + ["w/ VLP"] * 4
    assert groups["table7"] == ["C to I"] * 6 + ["I to C"] * 6
    assert groups["table8"] == ["w/o VLP"] * 12 + ["w/ VLP"] * 7
    assert load_published("table1").entries[:15] == load_published("table8").entries[:15]  # printed twice, and alike
    ours, last = load_published("table1").entries[-1], load_published("table4").entries[-1]
    assert ours.values == last.values
    for name in published_names():
        for entry in load_published(name).entries:
            if "reference" in entry.labels:  # every competitor has one; the paper's own systems have none
                assert bool(entry.labels["reference"]) != entry.labels["method"].startswith("RaSa"), entry


def test_what_the_paper_contradicts_is_said():
    assert "over CFine it is 16.35" in _method("table3", "CFine").comment
    assert 66.90 - 50.55 == pytest.approx(16.35)
    assert _method("table3", "C2A2").comment == ""


@pytest.mark.parametrize("name", [name for name in suite_names() if load_suite(name).published])
def test_a_suites_values_are_those_of_its_table(name):
    """The suite's file was typed by someone else than the table's: they must agree, row by row."""
    suite = load_suite(name)
    table = load_published(suite.published)
    published = {entry.row: dict(entry.values) for entry in table.entries if entry.row}
    assert published == {row.name: row.paper for row in suite.rows}
    assert suite.source == table.source


def test_table4s_labels_are_the_suites():
    typed = [tuple(entry.labels.values()) for entry in load_published("table4").entries]
    assert typed == [row.labels for row in load_suite("table4").rows]


HEAD = "method,dataset,row,r1,map,comment\n"
BAD = [
    ("", "the columns must be labels, dataset, row, figures, comment, each once"),
    ("method,row,dataset,r1,comment\n", "the columns must be"),
    ("dataset,row,r1,comment\n", "the columns must be"),
    ("method,dataset,row,comment\n", "the columns must be"),
    ("method,dataset,row,r1,r1,comment\n", "the columns must be"),
    ("method,dataset,row,r2,comment\n", "no figure 'r2'; did you mean "),
    (HEAD, "no line under the headings"),
    (HEAD + "A,COCO,,1.0,\n", "line 2: 5 cells under 6 headings"),
    (HEAD + "A,COCO,,1.0,,,\n", "line 2: 7 cells under 6 headings"),
    (HEAD + "A,COCO,,1.0,,\nB,CUHK,,1.0,,\n", "line 3: dataset: no data set 'CUHK'; did you mean CUHK-PEDES"),
    (HEAD + "A,COCO,,-,,\n", "line 2: r1: '-' is not a percentage"),
    (HEAD + "A,COCO,,nan,,\n", "line 2: r1: 'nan' is not a percentage"),
    (HEAD + "A,COCO,,1e1,,\n", "line 2: r1: '1e1' is not a percentage"),
    (HEAD + "A,COCO,,-1.0,,\n", "line 2: r1: '-1.0' is not a percentage"),
    (HEAD + "A,COCO,,1.0,100.01,\n", "line 2: map: '100.01' is not a percentage"),
    (HEAD + "A,COCO,, 1.0,,\n", "line 2: r1: ' 1.0' has a space at an end"),
    (HEAD + "A,COCO,,1.0,,\nA,COCO,,2.0,,\n", "the line COCO, A is there twice"),
    (HEAD + "A,COCO,x,1.0,,\nB,COCO,x,2.0,,\n", "the row x is there twice"),
    (HEAD + 'A,COCO,,1.0,,"\n', "no CSV (unexpected end of data)"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_bad_table_is_refused_with_its_place(text, message):
    with pytest.raises(SpecError) as caught:
        parse(text, "table1", "mine.csv")
    assert message in str(caught.value) and str(caught.value).startswith("mine.csv")
    assert "\n" not in str(caught.value)


def test_an_unknown_table_gets_the_nearest_names():
    with pytest.raises(SpecError, match="the paper has no table 'tabel4'; did you mean"):
        load_published("tabel4")


# Table 5's bold figures, as the paper has them: method and columns, TR then IR, Flickr30K then COCO.
BOLD = {"ALIGN": {1, 2}, "BLIP": {0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11}, "ALBEF(backbone)": {1}, "RaSa (Ours)": {1, 2}}


def test_table5_is_one_line_per_system_with_the_papers_bold():
    grid = as_published(load_published("table5"))
    assert [column.heading for column in grid.columns][:4] == [
        "Method",
        "Reference",
        "Flickr30K TR R@1",
        "Flickr30K TR R@5",
    ]
    assert [column.heading for column in grid.columns][11:] == ["COCO IR R@1", "COCO IR R@5", "COCO IR R@10"]
    assert len(grid.columns) == 14 and len(grid.rows) == 8
    bold = {row[0].text: {place for place, cell in enumerate(row[2:]) if cell.best} for row in grid.rows}
    assert {method: places for method, places in bold.items() if places} == BOLD
    assert grid.rows[6][2].text == "95.50" and grid.rows[2][2].text == "-"
    assert [sentence for sentence in grid.said if "footnote 2" in sentence] == list(grid.said)  # once, not per data set


@pytest.mark.parametrize(
    ("name", "best"), [("table1", 16), ("table2", 11), ("table3", 9), ("table6", 12), ("table8", 18)]
)
def test_rasa_is_bold_throughout_as_printed(name, best):
    grid = as_published(load_published(name))
    assert {number for number, row in enumerate(grid.rows) for cell in row if cell.best} == {best}
    assert sum(cell.best for cell in grid.rows[best]) == 4


def test_table7_has_a_best_for_each_direction():
    grid = as_published(load_published("table7"))
    assert [number for number, row in enumerate(grid.rows) if row[3].best] == [5, 11]
    assert [cell.text for cell in grid.rows[5]] == ["C to I", "RaSa (Ours)", "", "50.59", "67.46", "74.09"]


SUITE = Suite.model_validate(
    {
        "suite": "mine",
        "published": "table1",
        "labels": ["Group", "Method"],
        "rows": [
            {"name": "rasa", "labels": ["w/ VLP", "RaSa"], "paper": {"r1": 76.51}},
            {"name": "albef", "labels": ["w/ VLP", "ALBEF"], "paper": {"r1": 60.28}},
            {"name": "new", "labels": ["w/ VLP", "A new one"]},
        ],
    }
)
RUNS = [("rasa", 0, "finished", 76.0), ("rasa", 1, "finished", 78.0), ("new", 0, "finished", 76.0)]


def _lines(*more):
    return suite_lines(tidy(*RUNS, *more), SUITE)


def test_ours_stand_under_the_papers_lines():
    """76 and 78: mean 77, sd 1.41; with one degree of freedom the interval is 77 ± 12.706 * 1."""
    grid = as_published(load_published("table1"), _lines(("albef", 0, "failed", 0.0)))
    assert [column.heading for column in grid.columns] == [
        "Group",
        "Method",
        "Reference",
        "By",
        "Seeds",
        "R@1",
        "R@5",
        "R@10",
        "mAP",
    ]
    assert len(grid.rows) == 17 + 3
    texts = [[cell.text for cell in row] for row in grid.rows]
    assert texts[15][3:6] == ["published", "-", "60.28"]
    assert texts[16] == ["w/ VLP", "ALBEF(backbone)", "", "ours", "failed", *["failed"] * 4]
    assert texts[18][:6] == ["w/ VLP", "RaSa (Ours)", "", "ours", "n = 2", "77.0 ± 1.4 [64.3, 89.7]"]
    assert texts[19][:6] == ["", "A new one", "", "ours", "n = 1", "76.0"]
    assert grid.rows[18][5].detail == "76.0  78.0" and grid.rows[19][5].detail == ""


def test_ours_are_never_bold_since_no_verdict_is_possible():
    """Ours reach 77.0 where 76.51 is published, and 86 to 88 where 90.29 is."""
    table = load_published("table1")
    for comparable, why in ((False, "measured on other data"), (True, "come without a spread")):
        grid = as_published(table, _lines(), comparable)
        for place in (5, 6):
            assert [number for number, row in enumerate(grid.rows) if row[place].best] == [17]
        assert "do not compete" in grid.said[0] and why in grid.said[0]


def test_rows_of_no_line_of_a_table_of_several_data_sets_are_named():
    grid = as_published(load_published("table7"), _lines())
    assert len(grid.rows) == 12
    assert "No lines of the paper's table, which is of several data sets: rasa, albef, new." in grid.said


def test_one_system_on_two_data_sets_has_the_seeds_of_each():
    suite = Suite.model_validate({"suite": "m", "rows": [{"name": "rasa-cub"}, {"name": "rasa-flowers"}]})
    runs = tidy(("rasa-cub", 0, "finished", 80.0)).assign(**{"test/tr_r1": 81.5, "test/ap50": 70.0})
    grid = as_published(load_published("table6"), suite_lines(runs, suite))
    assert [cell.text for cell in grid.rows[-1]][:4] == ["RaSa (Ours)", "", "ours", "CUB: n = 1; Flowers: never run"]
    assert [cell.text for cell in grid.rows[-1]][4:] == ["81.5", "70.0", "never run", "never run"]
    assert [column.heading for column in grid.columns][4:6] == ["CUB TR R@1", "CUB IR AP@50"]


def _report():
    table, lines = load_published("table1"), _lines()
    return Report(
        title="t",
        profile="smoke",
        source="",
        comparable=False,
        metrics=SUITE.metrics,
        lines=lines,
        judged=judge(lines, {}, 100),
        notes=(),
        provenance={},
        published=[as_published(table, lines)],
        competitors=list(competitors(table, lines)),
    )


def test_all_formats_have_the_papers_table():
    report = _report()
    assert grids(report)[1].caption.startswith("As published, with ours: Comparison with other methods on CUHK-PEDES")
    for text in (markdown(report), html(report), latex(report)):
        for found in ("GNA-RNN", "Li et al., 2017b", "53.64", "A new one", "published"):
            assert found in text, found
    assert "**76.51**" in markdown(report) and "<strong>76.51</strong>" in html(report)
    assert r"\textbf{76.51}" in latex(report)
    records = list(csv.DictReader(io.StringIO(csv_table(report))))
    assert [record["state"] for record in records] == ["finished", "never run", "finished"] + ["published"] * 15
    by_method = {record["Method"]: record for record in records}
    assert (by_method["CFine"]["paper_r1"], by_method["CFine"]["paper_map"]) == ("69.57", "NA")
    assert (by_method["CFine"]["Reference"], by_method["CFine"]["row"]) == ("Yan et al., 2022", "NA")
    assert by_method["RaSa"]["paper_r1"] == "76.51" and "RaSa (Ours)" not in by_method
    assert all(value != "" for record in records for value in record.values())


@pytest.mark.parametrize(
    ("datasets", "images", "captions", "expected"),
    [
        (("ICFG-PEDES",), 19848, 19848, True),
        (("RSTPReid",), 1000, 2000, True),
        (("RSTPReid",), 1000, 1000, False),
        (("CUHK-PEDES", "ICFG-PEDES"), 19848, 19848, True),
        (("CUHK-PEDES",), 19848, 19848, False),
    ],
)
def test_the_papers_data_are_those_of_the_suites_table(datasets, images, captions, expected):
    sizes = {"test": {"images": images, "captions": captions, "identities": 9}}
    assert on_papers_data(SuiteRuns(tidy(*RUNS).assign(data="icfg-pedes"), (), sizes), datasets) is expected


def _printed(*arguments: str):
    return CliRunner().invoke(command, [*arguments, "--published"])


def test_the_papers_table_alone_needs_no_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = _printed("table6")
    assert done.exit_code == 0 and "| iVAD " in done.stdout and "| **84.5**" in " ".join(done.stdout.split())
    assert "By" not in done.stdout.split("|")
    records = list(csv.DictReader(io.StringIO(_printed("table8", "--format", "csv").stdout)))
    assert len(records) == 19 and records[0]["paper_r5"] == "NA" and float(records[16]["paper_r1"]) == 57.60
    assert records[16]["row"] == "rasa-clip" and records[0]["row"] == "NA"
    page = _printed("table5", "--format", "html").stdout
    assert "<strong>100.00</strong>" in page and "<img" not in page and "http" not in page
    assert r"\textbf{76.51}" in _printed("table4", "--format", "latex").stdout
    assert list(tmp_path.iterdir()) == []


def test_the_table_of_a_users_suite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("suite: my\npublished: table2\nrows: [{name: r}]\n")
    assert "| SRCF " in _printed("my.yaml").stdout
    (tmp_path / "my.yaml").write_text("suite: my\nrows: [{name: r}]\n")
    fault = _printed("my.yaml").exception
    assert isinstance(fault, SpecError) and str(fault).startswith("my.yaml: published is not set")
    (tmp_path / "my.yaml").write_text("suite: my\npublished: table9\nrows: [{name: r}]\n")
    assert "my.yaml: published: input should be 'table1', 'table2'" in str(_printed("my.yaml").exception)
    assert "no suite or table of the paper 'tabel5' (a file ends in .yaml); did you mean table5" in str(
        _printed("tabel5").exception
    )


@pytest.mark.parametrize("option", [["--profile", "smoke"], ["-o", "optimisation.epochs=3"], ["--out", "here"]])
def test_options_of_runs_are_refused_beside_published(option):
    done = _printed("table1", *option)
    assert (
        done.exit_code == 2
        and "give no --profile, -o, -m, --out, --margin, --max-seeds, --log or --fail-if with it" in done.stderr
    )


def test_a_table_without_a_suite_is_still_printed_alone(monkeypatch):
    monkeypatch.setattr("experiments.spec.suite_names", lambda: ["table4"])
    fault = CliRunner().invoke(command, ["table7"]).exception
    assert isinstance(fault, SpecError) and "`rasa report table7 --published`" in str(fault)
    assert "| LGUR " in _printed("table7").stdout


def test_without_runs_the_report_still_says_that_there_are_none(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = CliRunner().invoke(command, ["table4", "--workspace", str(tmp_path)])
    assert isinstance(done.exception, ResourceError) and done.exception.exit_code == 5


def test_the_readme_shows_no_result_that_cannot_be_verified():
    """Its Table 4 is withdrawn until there is a published report whose digits `rasa verify` recomputes."""
    root = Path(__file__).parent.parent
    published = (root / "reports/published/table4-synth/manifest.json").exists()
    assert published != ("## Table 4 on the built-in benchmark: withdrawn" in (root / "README.md").read_text())
