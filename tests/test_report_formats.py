"""What a report is in Markdown, LaTeX and JSON: nothing in a label is markup, lines and tables fit."""

import json
import math
import re
import shutil
import subprocess

import pytest

from reports.build import LATEX, write_files
from reports.cells import grids
from reports.document import Document, document, json_text, schema_text
from reports.formats import latex_files, markdown, page_of
from reports.grid import Column, Grid, grid_of
from reports.markdown import escaped
from reports.pages import Page
from reports.tables import Spread, suite_lines
from reports.tex import latex, tex
from reports.words import absent, possible, spread
from tests.helpers.tiny_report import SUITE, picture, tidy, tiny_lines, tiny_report
from tests.helpers.whole_report import FAILED, WHY, whole_report


@pytest.fixture(scope="module")
def report():
    return whole_report()


# Markdown


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("$x$ and $y$", r"\$x\$ and \$y\$"),
        ("# no heading", r"\# no heading"),
        ("a_b *c* `d` ~e~ f|g", r"a\_b \*c\* \`d\` \~e\~ f\|g"),
        ("<b>&lt;", "&lt;b&gt;&amp;lt;"),
        ("[x](http://y) ![z](w) [^1]", r"[x\](http://y) \![z\](w) \[^1]"),
        ("42.0 ± 2.0 [37.0, 47.0]", "42.0 ± 2.0 [37.0, 47.0]"),
        ("back\\slash", r"back\\slash"),
        (r"\[^", r"\\\[^"),
        ("a\nb", "a b"),
    ],
)
def test_text_is_no_markup(text, written):
    assert escaped(text) == written


def test_lines_are_short_and_a_wide_table_keeps_its_names_in_each_part(report):
    text = markdown(report, [])
    assert max(map(len, text.splitlines())) < 200
    assert text.startswith("### &lt;script&gt;alert(1)&lt;/script&gt; & \\$x\\$ \\# \\_y\\_")
    (wide,) = [grid for grid in grids(report) if grid.heading == "Sensitivity"]
    parts = [part.split("\n\n")[0] for part in text.split("Sensitivity: ")[1].split("\n\n| ")[1:]]
    heads = [[cell.strip() for cell in part.splitlines()[0].strip("| ").split("|")] for part in parts]
    heads = heads[: next(n for n in range(len(heads)) if sum(len(each) - 1 for each in heads[: n + 1]) >= 12) + 1]
    assert len(heads) > 1 and {each[0] for each in heads} == {wide.columns[0].heading}
    assert [each for part in heads for each in part[1:]] == [escaped(column.heading) for column in wide.columns[1:]]


def test_a_wrapped_line_begins_no_list():
    note = " ".join(["words"] * 30) + " p-ITM + PRD and 1. or - this " + " ".join(["more"] * 40)
    for shift in range(40):
        text = markdown(Page("t", "", [], [f"{'x' * shift} {note}"]))
        assert not re.search(r"^ +([-+]|\d+[.)]) ", text, re.MULTILINE), text


def test_pictures_stand_where_they_belong_as_files(tmp_path):
    top, beside, own = (
        picture(tmp_path, f"[{name}]", section) for name, section in zip("abc", ("", "Test split", "Own"), strict=True)
    )
    text = markdown(tiny_report(), [own, beside, top])
    places = [text.index(rf"![\[{name}\]](picture.svg)") for name in "abc"]
    assert places[0] < text.index("Results on the test") < places[1] < text.index("Test split, in percent:") < places[2]


# LaTeX


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("50 % & $5 #1 {x} ~ ^ \\", r"50 \% \& \$5 \#1 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{}"),
        ('a < b > c | "d"', r"a \textless{} b \textgreater{} c \textbar{} ''d''"),
        ("-3.5 to -1, s-ITM, [-1, 2]", r"$-$3.5 to $-$1, s-ITM, [$-$1, 2]"),
        ("红 λ é ±", r"[U+7EA2] $\lambda$ é $\pm$"),
    ],
)
def test_latex_is_escaped(text, written):
    assert tex(text) == written


def test_one_table_a_file_with_caption_and_label_and_what_its_fonts_lack_is_said():
    page = Page("红 tables", "", [_grid("first"), _grid("second", "红")])
    found = latex_files(page)
    assert list(found) == ["01-first.tex", "02-second.tex"]
    for name, text in found.items():
        assert text.count(r"\begin{tabular}") == 1 and rf"\label{{tab:tables:{name[:-4]}}}" in text
        assert r"\caption{" in text and r"\toprule" in text
    assert "lack 红: written as numbers" in found["02-second.tex"] and "lack" not in found["01-first.tex"]
    assert all(text.partition("\n")[2].strip() in latex(page) for text in found.values())


def _grid(caption: str, label: str = "[x]") -> Grid:
    columns = [Column("A", lambda line: line[0], numeric=False), Column("B", lambda line: line[1])]
    return grid_of(caption, columns, [(label, "1"), ("*", "2")])


def test_latex_compiles_and_no_box_is_overfull(report, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex (texlive-latex-base and -recommended)")
    write_files(report, tmp_path)
    (tmp_path / LATEX / "99-odd.tex").write_text(
        latex_files(Page("odd", "", [_grid("odd", "[红] <b> | é")]))["01-odd.tex"]
    )
    inputs = [rf"\input{{{LATEX}/{file.name}}}" for file in sorted((tmp_path / LATEX).glob("*.tex"))]
    assert len(inputs) == len(page_of(report).grids) + 1
    head = r"\documentclass[twocolumn]{article}\usepackage{booktabs}\usepackage{graphicx}\begin{document}"
    (tmp_path / "t.tex").write_text("\n".join([head, *inputs, r"\clearpage\end{document}"]))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    log = (tmp_path / "t.log").read_text(errors="replace")
    assert done.returncode == 0, log[-2000:]
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \((.*?)pt too wide\)", log)]
    assert not [points for points in wide if points > 2], wide


# JSON


def test_the_document_has_everything_of_the_page_and_follows_its_schema(report, tmp_path):
    write_files(report, tmp_path)
    text = (tmp_path / "report.json").read_text()
    found = Document.model_validate_json(text)
    page = page_of(report)
    assert [table.caption for table in found.tables] == [grid.caption for grid in page.grids]
    assert [[cell.text for row in table.rows for cell in row] for table in found.tables] == [
        [cell.text for row in grid.rows for cell in row] for grid in page.grids
    ]
    assert (found.verdict, found.warnings, found.notes) == (list(page.verdict), list(page.above), list(page.notes))
    assert all((tmp_path / figure.file).is_file() for figure in found.figures) and len(found.figures) == 5
    rows = {row.name: row for row in found.rows}
    assert rows[FAILED].state == "failed" and rows[FAILED].reasons == {0: WHY}
    line = next(each for each in report.lines if each.name == "s-itm")
    assert rows["s-itm"].figures["r1"].by_seed == line.figures["r1"].by_seed
    step = report.judged.steps["s-itm"]
    assert rows["s-itm"].step.mean == step.r1.mean and rows["s-itm"].step.p_holm == step.r1.p_holm
    schema = json.loads((tmp_path / json.loads(text)["$schema"]).read_text())
    _follows(json.loads(text), schema, schema["$defs"])
    with pytest.raises(AssertionError):
        _follows(json.loads(text) | {"more": 1}, schema, schema["$defs"])


def _follows(value, schema, defs):
    """Whether a value follows a schema, as far as these schemas go: pydantic is what wrote it, so it is no judge."""
    if "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        assert any(_does(value, each, defs) for each in schema["anyOf"]), value
        return
    kinds = {"object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "boolean": bool}
    kinds["null"] = type(None)
    assert isinstance(value, kinds[schema["type"]]), (value, schema)
    assert not (isinstance(value, bool) and schema["type"] in ("number", "integer"))
    if isinstance(value, list):
        for each in value:
            _follows(each, schema["items"], defs)
    if isinstance(value, dict):
        assert set(schema.get("required", [])) <= set(value)
        for name, each in value.items():
            known = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            assert known, f"{name} is not in the schema"
            _follows(each, known, defs)


def _does(value, schema, defs):
    try:
        _follows(value, schema, defs)
    except AssertionError:
        return False
    return True


def test_what_is_no_number_is_null_and_the_same_each_time():
    lines = suite_lines(tidy(("base", 0, "finished", math.inf)), SUITE)
    found = document(tiny_report(lines=lines)).rows[0].figures["r1"]
    assert (found.n, found.mean, found.by_seed) == (1, None, {})
    assert "Infinity" not in json_text(tiny_report(lines=lines))
    assert document(tiny_report()) == document(tiny_report()) and schema_text() == schema_text()


# Words


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.5, 1.5), "1.0 ± 0.7"),
        ((99.0, 99.9), "99.5 ± 0.6"),
        ((50.0, 50.2), "50.1 ± 0.1 [48.8, 51.4]"),
        ((3.0,), "3.0"),
    ],
)
def test_intervals_that_cannot_be_are_not_printed(values, text):
    figure = Spread(dict(enumerate(values)))
    assert spread(figure) == text and (possible(figure) is None) is ("[" not in text)


def test_what_was_not_asked_for_is_not_missing():
    line = tiny_lines()["base"]
    assert [absent(line, name) for name in ("oracle_r1", "last_r1", "map")] == ["not asked", "not asked", "missing"]
    assert absent(tiny_lines()["absent"], "oracle_r1") == "never run"
