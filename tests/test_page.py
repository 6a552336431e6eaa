"""The page in a browser: nothing is cut, everything is reached by keyboard, prints whole, and is read in the dark."""

import re
import shutil
import subprocess

import pytest

from reports.build import PAGE, write_files
from reports.drawings import drawings
from reports.formats import page_of
from tests.helpers.browser import opened, serious_findings
from tests.helpers.whole_report import FAILED, KILLED, NEVER, TITLE, WHY, whole_report

OPEN = "document.querySelectorAll('details').forEach(each => { each.open = true; })"
OUTSIDE = """[...document.querySelectorAll('main *, footer *')]
.filter(e => !e.closest('.scroll') && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
.map(e => e.outerHTML.slice(0, 99))"""
FOCUS = """(e => (s => [e.tagName, e.textContent.trim().slice(0, 30), s.outlineStyle, parseFloat(s.outlineWidth)])
(getComputedStyle(e)))(document.activeElement)"""
AT_THE_END = """[...document.querySelectorAll('.scroll.many')].map(box => {
box.scrollLeft = 10000;
const name = box.querySelector('tbody th').getBoundingClientRect();
return [box.scrollLeft, Math.abs(name.left - box.getBoundingClientRect().left)] })"""


@pytest.fixture(scope="module")
def report():
    return whole_report()


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_files(report, folder)
    return folder / PAGE


def test_nothing_is_cut_at_any_width_and_nothing_fails(page, report):
    with opened(page) as shown:
        for script in ("0", OPEN):
            shown.evaluate(script)
            for width in (380, 800, 1280):
                shown.resize(width)
                assert shown.overflow() == 0, width
                assert shown.evaluate(OUTSIDE) == []
        shown.resize(380)
        cut = "(box => box.scrollWidth - box.clientWidth)(document.querySelector('main > .scroll'))"
        assert shown.evaluate(cut) == 0, "the main table must be scrolled on a phone"
        assert shown.broken_images() == [] and shown.errors == []
        assert shown.evaluate("document.title") == f"{TITLE} (profile smoke)"  # as text: no script has run
        figures = shown.evaluate(
            "[...document.querySelectorAll('figure svg')].map(f => f.querySelectorAll('text').length)"
        )
        assert len(figures) == len(drawings(report)) == 5 and min(figures) > 10


def test_the_first_column_stays_while_a_wide_table_is_scrolled(page):
    with opened(page, width=380) as shown:
        shown.evaluate(OPEN)
        moved = shown.evaluate(AT_THE_END)
        assert len(moved) >= 4 and all(scrolled > 50 and apart < 1 for scrolled, apart in moved)


def test_print_has_every_column_and_every_section(page, report, tmp_path):
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext (poppler-utils) to read the printed page")
    with opened(page) as shown:
        shown.pdf(tmp_path / "page.pdf")
    told = subprocess.run(["pdftotext", "-raw", tmp_path / "page.pdf", "-"], capture_output=True, text=True, check=True)
    printed = re.sub(r"\s+", "", told.stdout)
    for grid in page_of(report).grids:
        for text in (grid.caption, *(column.heading for column in grid.columns), *grid.said):
            assert re.sub(r"\s+", "", text) in printed, text
    assert re.sub(r"\s+", "", report.notes[0]) in printed


def test_everything_is_reached_by_keyboard_and_the_focus_is_seen(page):
    with opened(page, width=380) as shown:
        places = []
        for _ in range(24):
            shown.press("Tab")
            places.append(shown.evaluate(FOCUS))
        assert all(style != "none" and width >= 2 for tag, _, style, width in places if tag != "BODY"), places
        assert {"A", "DIV", "SUMMARY"} <= {tag for tag, *_ in places}
        assert places[0][1] == "To the results"
        shown.evaluate("document.querySelector('summary').focus()")
        shown.press("Enter")
        assert shown.evaluate("document.querySelector('details').open") is True
        shown.evaluate("document.querySelector('nav a[href=\"#notes\"]').focus()")
        shown.press("Enter")
        shown.wait_for("document.querySelector('#notes').open", 10)


@pytest.mark.parametrize("dark", [False, True])
def test_no_serious_finding_of_accessibility(page, dark):
    with opened(page, dark=dark) as shown:
        shown.evaluate(OPEN)
        assert serious_findings(shown) == []


def test_dark_and_light_differ(page):
    with opened(page) as shown:
        light = shown.screenshot()
        shown.dark(True)
        assert shown.screenshot() != light
        assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"


def test_the_verdict_and_one_small_table_come_first_and_all_else_is_folded(page, report):
    with opened(page) as shown:
        tops = shown.evaluate("[...document.querySelector('main').children].map(e => e.className || e.tagName)")
        assert tops[:3] == ["verdict", "FIGURE", "scroll"] and set(tops[5:]) == {"DETAILS"}
        assert shown.evaluate("document.querySelectorAll('.verdict p:not(.warning)').length") == 3
        assert shown.evaluate("document.querySelectorAll('main > .scroll thead th').length") <= 6
        linked = shown.evaluate(
            "[...document.querySelectorAll('nav a')].map(a => document.querySelector(a.hash) && a.textContent)"
        )
        beside = ["Cost", "Notes", "Where the figures come from"]  # of figures alone; of words alone
        assert len(linked) == len(page_of(report).grids) - 1 + len(beside) and all(linked)
        assert linked[-3:] == beside
        cells = shown.evaluate("[...document.querySelectorAll('main > .scroll tbody tr')].map(r => r.innerText)")
        rows = dict(zip([line.name for line in report.lines], cells, strict=True))
        assert f"failed: {WHY}" in rows[FAILED] and "interrupted" in rows[KILLED] and "never run" in rows[NEVER]
        assert shown.evaluate("document.querySelectorAll('tbody th[scope=row]').length") == shown.evaluate(
            "document.querySelectorAll('tbody tr').length"
        )
        landmarks = shown.evaluate("['header', 'main', 'nav', 'footer'].map(n => document.querySelectorAll(n).length)")
        assert landmarks == [1, 1, 1, 1]
