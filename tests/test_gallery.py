"""Queries by rule: masks by hand, a page of real runs, hostile captions, and what is refused."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from rasa.commands.cli import main
from reports.answers import Answers, Asked
from reports.commands import report
from reports.picks import RULES, pick
from tests.helpers.browser import holds_up
from tests.helpers.many_rows import write_suite
from tests.helpers.people import write_people

HOSTILE = "<script>alert(1)</script> & <b>bold</b>"
INF = float("inf")


def answers(name, first_rank, stage1=None, best=None, match=True):
    ranks = np.array(first_rank)
    best = np.zeros((len(ranks), 2), dtype=np.int64) if best is None else np.array(best)
    scores = np.zeros(best.shape, dtype=np.float32)
    stage1 = ranks if stage1 is None else np.array(stage1)
    return Answers(name, None, best, scores, scores if match else None, ranks, stage1)


def asked(identity=(0, 0, 1, 1), gallery=(0, 1, 2), twins=None):
    texts, own = tuple(f"text {i}" for i in range(len(identity))), np.zeros(len(identity), dtype=np.int64)
    return Asked(None, ("a", "b", "c"), np.array(gallery), texts, np.array(identity), own, twins or {})


def mask(rule, *runs, of=None):
    found = RULES[rule].mask_T(runs, of or asked())
    return None if found is None else found.tolist()


def test_masks_of_two_runs_by_hand():
    old, new = answers("old", [1, 2, 3, 1]), answers("new", [1, 1, 2, 5])
    assert mask("fixed", old, new) == [False, True, False, False]
    assert mask("broken", old, new) == [False, False, False, True]
    assert mask("wrong", old, new) == [False, False, True, False]
    assert mask("random", old, new) == [True] * 4
    assert mask("fixed", old) is None and mask("broken", old) is None


def test_masks_of_the_second_stage_by_hand():
    run = answers("run", [1, 1, 2, 4], stage1=[1, 3, 1, 2])
    assert mask("stage-2-fixed", run) == [False, True, False, False]
    assert mask("stage-2-broken", run) == [False, False, True, False]
    assert mask("stage-2-fixed", answers("cl", [1, 2, 3, 4], match=False)) is None


def test_a_near_twin_is_one_whom_the_table_names():
    of = asked(identity=(0, 0, 1, 2), gallery=(0, 1, 2), twins={0: 1, 1: 0})
    run = answers(
        "run", [1, 2, 2, 1], best=[[0, 1], [1, 0], [2, 1], [2, 0]]
    )  # themselves, the twin, another, themselves
    assert mask("near-twin", run, of=of) == [False, True, False, False]
    assert mask("near-twin", run) is None


def test_what_is_shown_is_drawn_by_the_seed_and_stays():
    """A larger mask, or more queries asked for, keep the ones that were shown."""
    size = 200
    of = asked(identity=(0,) * size)
    some = answers("some", np.where(np.arange(size) % 2 == 0, 1, 2))
    few, without = pick(["wrong"], [some], of, 5, seed=0)
    many, _ = pick(["wrong"], [some], of, 20, seed=0)
    other, _ = pick(["wrong"], [some], of, 5, seed=1)
    assert without == [] and few[0].total == size // 2 and set(few[0].queries) < set(many[0].queries)
    assert few[0].queries != other[0].queries and few[0].queries == tuple(sorted(few[0].queries))
    assert all(query % 2 for query in many[0].queries)
    larger, _ = pick(["wrong"], [answers("all", np.full(size, 2))], of, 20, seed=0)
    assert len(set(larger[0].queries) & set(many[0].queries)) >= 8  # the same order, half of it skipped before


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Two rows of a few people, one caption of which is HTML."""
    folder = tmp_path_factory.mktemp("gallery")
    people = write_people(folder / "people", train=6, val=3, test=4)
    records = json.loads((people / "reid_raw.json").read_text())
    next(record for record in records if record["split"] == "test")["captions"][0] = HOSTILE
    (people / "reid_raw.json").write_text(json.dumps(records))
    suite = write_suite(folder, 2)
    assert run("run", suite, "-o", f"data.root={people}", "--workspace", folder) == 0
    return folder


def run(*arguments):
    return main([str(argument) for argument in arguments])


class Page(HTMLParser):
    """Images and headings of a page; tags that no gallery has."""

    def __init__(self, text):
        super().__init__()
        self.images, self.headings, self.foreign, self._in = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes))
        if tag in ("script", "b"):
            self.foreign.append(tag)
        self._in = tag

    def handle_data(self, data):
        if self._in == "h3" and data.strip():
            self.headings.append(data)

    def handle_endtag(self, tag):
        self._in = None


def test_a_page_of_two_rows(workspace, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(workspace)
    out = tmp_path / "page"
    assert run("gallery", "own/row-0", "own/row-1", "--number", 100, "--out", out) == 0
    captured = capsys.readouterr()
    listed = dict(re.findall(r"^([\w-]+): (\d+) of 24 queries", captured.out, re.MULTILINE))
    assert listed.keys() == RULES.keys() - {"near-twin"} and listed["random"] == "24"  # 4 people, 3 images, 2 captions
    page = Page((out / "gallery.html").read_text())
    assert page.foreign == [] and HOSTILE.lower().split()[0][1:7] in "".join(page.headings)
    shown = sum(int(count) for count in listed.values())
    assert len(page.images) == shown * (1 + 2 * 10)
    assert all((out / image["src"]).is_file() and image["alt"] for image in page.images)
    kept = json.loads((out / "gallery.json").read_text())
    assert [entry["query"] for entry in kept] == list(range(24))
    directories = sorted((workspace / "runs" / "own").glob("row-*/*/seed-0-*"))
    for directory, number in zip(directories, (0, 1), strict=True):
        predictions = load_file(directory / "predictions.safetensors")
        assert [entry["runs"][number]["first_rank"] for entry in kept] == predictions["first_rank"].tolist()


def test_the_page_in_a_browser(workspace, tmp_path):
    """Nothing fails, nothing overflows, all images load, a caption's markup is text, and it is read in the dark."""
    (directory,) = (workspace / "runs" / "own").glob("row-0/*/seed-0-*")
    assert run("gallery", directory, "--number", 24, "--out", tmp_path / "page") == 0
    holds_up(tmp_path / "page" / "gallery.html", "script")  # captions are cleaned when they are read


def test_the_first_right_image_is_framed_where_its_rank_says(workspace, tmp_path):
    (directory,) = (workspace / "runs" / "own").glob("row-0/*/seed-0-*")
    assert run("gallery", directory, "--rule", "random", "--number", 24, "--out", tmp_path / "page") == 0
    text = (tmp_path / "page" / "gallery.html").read_text()
    ranks = load_file(directory / "predictions.safetensors")["first_rank"].tolist()
    lists = re.findall(r"<ol>(.*?)</ol>", text, re.DOTALL)
    assert len(lists) == 24
    for rank, listed in zip(ranks, lists, strict=True):
        kinds = re.findall(r'<li class="(\w+)">', listed)
        assert len(kinds) == 10 and kinds.index("right") + 1 == rank


def test_a_report_shows_queries_by_rule(workspace, tmp_path, capsys, monkeypatch):
    """One query of each rule, with the answers of the first row and of the best, which of two is the second."""
    monkeypatch.chdir(workspace)
    suite = next(workspace.glob("*.yaml"))
    assert run("report", suite, "-o", f"data.root={workspace / 'people'}", "--out", tmp_path / "report") == 0
    assert "the page shows no queries" not in capsys.readouterr().err
    text = (tmp_path / "report" / "report.html").read_text()
    section = text[text.index('<details id="queries">') : text.index('<details id="notes"')]
    page, counts = Page(section), [int(each) for each in re.findall(r"</strong>: (\d+) of 24 queries", section)]
    assert len(counts) == len(RULES) - 1 and page.foreign == []  # near-twin needs the built-in benchmark
    assert len(page.headings) == sum(count > 0 for count in counts)
    assert len(page.images) == len(page.headings) * (1 + 2 * 10)
    assert all(image["src"].startswith("data:image/jpeg;base64,") and image["alt"] for image in page.images)
    assert section.count("row-0 seed 0:") == section.count("row-1 seed 0:") == len(page.headings)


def test_a_report_with_queries_is_made_without_torch(workspace, tmp_path):
    """Data, ranks and names are read by what imports in a moment: torch, torchvision and scipy.stats take seconds."""
    suite = next(workspace.glob("*.yaml"))
    given = ["report", suite.name, "-o", f"data.root={workspace / 'people'}", "--out", str(tmp_path / "report")]
    code = (
        f"import sys; from rasa.commands.cli import main; assert main({given}) == 0; "
        "print([name for name in ('torch', 'torchvision', 'timm', 'scipy.stats') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=workspace, capture_output=True, text=True, check=True)
    assert "the page shows no queries" not in done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_report_ends_with_the_path_of_its_page(workspace, tmp_path, monkeypatch):
    """Of both streams together, as a terminal shows them: `make demo` promises it."""
    monkeypatch.chdir(workspace)
    given = (next(workspace.glob("*.yaml")), "-o", f"data.root={workspace / 'people'}", "--out", tmp_path / "report")
    done = CliRunner().invoke(report, [str(each) for each in given])
    assert done.exit_code == 0 and done.output.splitlines()[-1] == f"report: {tmp_path / 'report' / 'report.html'}"


def test_a_report_without_images_says_why_it_shows_no_queries(workspace, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(workspace)
    people, away = workspace / "people", workspace / "away"
    (people / "imgs").rename(away)
    try:
        code = run("report", next(workspace.glob("*.yaml")), "-o", f"data.root={people}", "--out", tmp_path / "report")
    finally:
        away.rename(people / "imgs")
    said = capsys.readouterr().err
    assert code == 0 and "the page shows no queries: " in said and str(people / "imgs") in said
    assert '<details id="queries">' not in (tmp_path / "report" / "report.html").read_text()


def test_wrong_alone_and_one_run_by_its_id(workspace, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(workspace)
    (directory,) = (workspace / "runs" / "own").glob("row-0/*/seed-0-*")
    identity = directory.name.removeprefix("seed-0-")
    assert run("gallery", identity, "--wrong", "--out", tmp_path / "page") == 0
    wrong = int((load_file(directory / "predictions.safetensors")["first_rank"] != 1).sum())
    assert capsys.readouterr().out == f"wrong: {wrong} of 24 queries, wrong by every run that is shown\n"


@pytest.mark.parametrize(
    "arguments, code, text",
    [
        (("own/row-0", "--rule", "fixd"), 2, "--rule: no rule 'fixd'; did you mean fixed"),
        (("own/row-0", "--rule", "fixed"), 2, "fixed cannot be asked of own/row-0: fixed and broken compare two runs"),
        (("own/row-9",), 5, "own/row-9: has not been run in"),
        (("own/row-0", "--seed", "3"), 5, "own/row-0: seed 3 has not finished; finished are 0"),
        (("own/row-0", "--profile", "synth"), 5, "own/row-0: has not been run at the profile synth"),
        (("nothing",), 5, "nothing: no run's directory, id or name"),
    ],
)
def test_what_is_not_there_is_one_line(workspace, tmp_path, capsys, monkeypatch, arguments, code, text):
    monkeypatch.chdir(workspace)
    assert run("gallery", *arguments, "--out", tmp_path / "page") == code
    told = capsys.readouterr().err
    assert text in told and "Traceback" not in told and not (tmp_path / "page").exists()


def test_answers_of_other_images_or_an_older_version_are_refused(workspace, tmp_path, capsys):
    (directory,) = (workspace / "runs" / "own").glob("row-0/*/seed-0-*")
    copy = tmp_path / "runs" / "own" / "row-0" / "smoke" / directory.name
    shutil.copytree(directory, copy)
    file = copy / "predictions.safetensors"
    arrays = load_file(file)
    save_file(arrays, file, {"notes": json.dumps({"images": "0", "captions": "0"})})
    assert run("gallery", copy, "--out", tmp_path / "page") == 5
    assert "was tested on other images or captions than lie in" in capsys.readouterr().err
    save_file({name: value for name, value in arrays.items() if name != "similarity"}, file)
    assert run("gallery", copy, "--out", tmp_path / "page") == 5
    assert "lacks similarity, as runs of older versions do; run it again" in capsys.readouterr().err
    (copy / "restored.json").write_text("{}")
    assert run("gallery", copy, "--out", tmp_path / "page") == 5
    assert "restored from a published report, which keeps the ranks and no images" in capsys.readouterr().err


def test_a_folder_with_other_files_is_left_alone(workspace, tmp_path, capsys):
    (directory,) = (workspace / "runs" / "own").glob("row-0/*/seed-0-*")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    assert run("gallery", directory, "--out", tmp_path / "thesis") == 5
    assert "holds other files; give an empty folder" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]
