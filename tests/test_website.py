"""The site: its generated pages, its links, and that what docs/ and the README tell a user to type can be typed."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Literal

import click
import pytest
from pydantic import BaseModel, Field

from experiments import rundir, tracking
from rasa.commands.cli import group
from rasa.config.fidelity import PRESETS
from rasa.config.run import Config
from website import commands, fields, hooks, links, notebooks, readme
from website.api import PACKAGES, modules_of
from website.markdown import outside_code, table

ROOT = Path(__file__).parent.parent
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md"))
README = (ROOT / "README.md").read_text()
RECORDS = (ROOT / "docs/reference/records.md").read_text()
TUTORIALS = [ROOT / "README.md", ROOT / "docs/index.md", *sorted((ROOT / "docs/tutorials").glob("*.md"))]


# ---- commands, from click ----


@click.group()
def tiny():
    """A program."""


@tiny.command(short_help="Cut a cake.")
@click.argument("cake")
@click.option("--pieces", default=8, show_default=True, help="How many | at most.")
@click.option("-f", "--fast", is_flag=True, help="No ceremony.")
@click.option("--whom", required=True, help="For whom.")
@click.option("--secret", hidden=True, help="Not told.")
def cut(cake, pieces, fast, whom, secret):
    """Cut CAKE.

    \b
    as it
      stands
    """


def test_a_command_s_page_has_its_usage_help_and_options_as_click_knows_them():
    page = commands.commands_page(tiny)
    assert "| [`rasa cut`](#rasa-cut) | Cut a cake. |" in page
    assert "## rasa cut {#rasa-cut}" in page and "rasa cut [OPTIONS] CAKE" in page
    assert "```text\nas it\n  stands\n```" in page  # as click leaves it
    assert "| `--pieces INTEGER` | How many \\| at most. | `8` |" in page
    assert "| `-f, --fast` | No ceremony. |  |" in page
    assert "| `--whom TEXT` | For whom. | required |" in page
    assert "secret" not in page and "--help" not in page.split("## rasa cut")[1]


def test_the_page_has_every_command_of_the_program():
    page = commands.commands_page(group)
    for name in group.list_commands(click.Context(group)):
        assert f"## rasa {name} {{#rasa-{name}}}" in page
    assert "### rasa data check {#rasa-data-check}" in page and "| `--jobs " in page


def test_a_command_that_cannot_be_loaded_ends_the_build(monkeypatch):
    broken = click.Command("lost", short_help="(cannot be loaded: ModuleNotFoundError: nowhere)")
    monkeypatch.setitem(tiny.commands, "lost", broken)
    with pytest.raises(RuntimeError, match=r"rasa lost: \(cannot be loaded: ModuleNotFoundError: nowhere\)"):
        commands.commands_page(tiny)


# ---- fields, from pydantic ----


class Inner(BaseModel):
    """What is inside."""

    low: float = Field(0.5, ge=0, lt=1, description="A share.")
    kind: Literal["a", "b"] = Field(description="Which.")


class Outer(BaseModel):
    """The whole."""

    inner: Inner
    many: tuple[Inner, ...] = Field((), description="More.")
    place: Path | None = Field(None, description="Where.", json_schema_extra={"identity": False})
    size: int = Field(default_factory=lambda: 3, description="By another field.")


def test_a_field_has_its_values_default_and_sentence():
    """`low` is in [0, 1), `place` is no part of the run id, `size` follows another field, `kind` a preset."""
    page = fields.fields_page(Outer, {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}}, {"inner": {"kind": ("a", "b")}})
    assert "| `inner.low` | number; >= 0, < 1 | `0.5` | A share. |" in page
    assert "| `inner.kind` | a, b | `a`; `preset: paper`: `b` | Which. |" in page
    assert "| `many` | list of Inner | `[]` | More. |" in page
    assert "| `place`\\* | path or null | `null` | Where. |" in page
    assert "| `size` | whole number | *depends* | By another field. |" in page
    assert "| `b` | `2` | `3` |" in page and "| `a` | `1` | `1` |" not in page  # profiles where they differ
    assert [model.__name__ for model in fields.reachable(Outer)] == ["Outer", "Inner"]


def test_the_page_has_every_field_of_a_run():
    page = hooks.reference()["reference/fields.md"]
    names = [f"{above}.{name}" if above else name for above, m in fields.sections(Config) for name in m.model_fields]
    held = [name for name, _ in fields.sections(Config)]
    missing = [name for name in names if f"| `{name}`" not in page and name not in held]
    assert missing == [] and len(names) > 100
    assert "| `fidelity.mlm_soft_axis` | sequence, vocabulary | `sequence`; `preset: paper`: `vocabulary` |" in page
    assert all(f"`fidelity.{name}`" in page for name in PRESETS)
    assert "| `optimisation.epochs` | `5` | `3` | `6` | `30` |" in page  # smoke, synth, bench, paper


def test_the_api_has_every_module_of_the_method():
    shown = [module for package in PACKAGES for module in modules_of(package)]
    for module in shown:
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module
    method = [path for path in (ROOT / "rasa").glob("*/**/*.py") if path.name != "__init__.py"]
    told = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in method}
    assert {name for name in told - set(shown) if not name.startswith("rasa.commands.")} == set()


# ---- names that are written by hand ----


def test_every_tag_is_explained():
    tags = [value for value in vars(tracking).values() if isinstance(value, str) and value.startswith("rasa.")]
    tags += tracking.NUMERICS.values()
    assert len(tags) > 30 and [tag for tag in tags if f"`{tag}`" not in RECORDS] == []


def test_every_file_of_a_run_is_explained():
    named = re.compile(r"[\w-]+\.(jsonl?|yaml|safetensors|lock|patch)")
    files = [value for value in vars(rundir).values() if isinstance(value, str) and named.fullmatch(value)]
    assert len(files) >= 10 and [name for name in files if f"`{name}`" not in RECORDS] == []


def test_every_metric_of_the_published_runs_is_explained():
    names = set()
    for file in (ROOT / "reports/published").glob("*/records/*/*/metrics.jsonl"):
        for line in file.read_text().splitlines():
            point = json.loads(line)
            names |= {f"{point['group']}/{name}" for name in point["values"]}
    kinds = re.compile(r"(?<=probe/)(colour|garment|accessory)(?=_(?!queries))")
    told = {re.sub(r"stage1_.*", "stage1_...", kinds.sub("KIND", name)) if "probe/" in name else name for name in names}
    assert len(told) > 40 and sorted(name for name in told if f"`{name}`" not in RECORDS) == []


def test_every_exit_code_is_explained():
    from rasa.commands.cli import INTERRUPTED
    from rasa.errors import RasaError
    from reports import conditions  # whose fault has a code of its own

    kinds = [RasaError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    codes = {kind.exit_code for kind in kinds} | {0, click.UsageError.exit_code, INTERRUPTED}
    assert conditions.__name__ and codes >= {0, 1, 2, 3, 4, 5, 130}
    assert [code for code in sorted(codes) if f"\n| {code} | " not in RECORDS] == []


# ---- links ----


def test_links_lead_to_where_the_site_has_their_targets():
    here = {"docs/data.md": "data.md", "CHANGELOG.md": "project/changelog.md"}.get
    text = "[a](../CHANGELOG.md#x) [b](data.md) [c](../rasa/draws.py) [d](https://e.org) [e](#f) ![g [h]](data.md)"
    text += "\n```\n[a](../CHANGELOG.md)\n```"
    moved = links.moved(text, "docs", "", here)
    assert moved.splitlines()[0] == (
        "[a](project/changelog.md#x) [b](data.md) c [d](https://e.org) [e](#f) ![g [h]](data.md)"
    )
    assert moved.splitlines()[2] == "[a](../CHANGELOG.md)"  # a block of code is no prose
    assert links.moved("[a](../../CHANGELOG.md)", "docs/howto", "howto", here) == "[a](../project/changelog.md)"


def test_a_broken_link_is_named_with_its_page(tmp_path):
    (tmp_path / "a").mkdir()
    good = (
        '<h1 id="top">x</h1><a href="a/b.html#here">b</a> <a href="https://e.org/x">e</a> <a href="/index.html">i</a>'
    )
    (tmp_path / "index.html").write_text(good)
    (tmp_path / "a" / "b.html").write_text('<p id="here"></p><a href="../index.html#top">i</a><img src="c.png">')
    assert links.broken(tmp_path) == ["a/b.html: c.png (no such file)"]
    (tmp_path / "a" / "c.png").touch()
    assert links.broken(tmp_path / "a" / "..") == [] and links.main(str(tmp_path)) == 0
    (tmp_path / "index.html").write_text(good + '<a href="a/b.html#there">b</a><a href="../out.html">o</a>')
    faults = ["index.html: a/b.html#there (no such anchor)", "index.html: ../out.html (no such file)"]
    assert links.broken(tmp_path) == faults and links.main(str(tmp_path)) == 1


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda p: p.stem)
def test_links_of_the_pages_lead_somewhere_in_the_checkout(page):
    """On the site the build checks them; this is for who reads them in the checkout. Generated pages are the site's."""
    generated = {"docs/" + name for name in hooks.reference()} | {"docs/notebooks/runs.md"}
    prose = "\n".join(line for is_prose, line in outside_code(page.read_text()) if is_prose)
    for _, _, target in links.LINK.findall(prose):
        path = target.partition("#")[0]
        if not path or "://" in target or target.startswith("mailto:"):
            continue
        there = (page.parent / path).resolve()
        assert there.exists() or there.relative_to(ROOT).as_posix() in generated, target


def test_a_page_that_loads_something_from_elsewhere_is_named(tmp_path):
    page = tmp_path / "index.html"
    page.write_text(
        '<a href="https://e.org">e</a><img src="data:image/png;base64,AA=="><link rel="next" href="//e.org">'
    )
    assert links.broken(tmp_path) == []
    page.write_text('<script src="https://e.org/x.js"></script><link rel="stylesheet" href="//e.org/x.css">')
    where = ["https://e.org/x.js", "//e.org/x.css"]
    assert links.broken(tmp_path) == [f"index.html: {each} (loaded from elsewhere)" for each in where]


def test_the_navigation_takes_folders_whole_and_leaves_no_page_out():
    nav = [{"A": "a.md"}, {"B": ["b.md", {"C": ["c/*.md"]}]}]
    pages = ["a.md", "b.md", "c/1.md", "c/2.md", "new.md"]
    filled = [{"A": "a.md"}, {"B": ["b.md", {"C": ["c/1.md", "c/2.md"]}]}]
    assert hooks.navigation(nav, pages) == [*filled, {"More": ["new.md"]}]
    assert hooks.navigation(nav, pages[:-1]) == filled


def test_tables_survive_bars_and_line_ends():
    assert table(("a", "b"), [["x|y", "one\ntwo"]]) == ["| a | b |", "|---|---|", "| x\\|y | one two |"]


# ---- what a user is told to type ----


def blocks(page):
    """The lines of a page's blocks without a language, or of bash: what may be pasted. Continuations are joined."""
    found, inside = [], None
    for line in page.read_text().replace("\\\n", " ").splitlines():
        text = line.strip()
        if text.startswith("```"):
            inside = None if inside is not None else text.strip("`")
        elif inside in ("", "bash") and text:
            found.append(text)
    return found


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda p: p.stem)
def test_every_option_that_a_page_names_exists(page):
    for line in blocks(page):
        for typed in re.findall(r"^rasa .*", line):
            words = re.split(r"\s{3,}|\s#", typed)[0]  # an explanation stands apart
            check_words(shlex.split(re.sub(r"[\[\]]|\.\.\.", " ", words))[1:], words)


def check_words(words, line):
    command, options = group, {}
    for position, word in enumerate(words):
        if isinstance(command, click.Group) and not word.startswith("-"):
            name = word.split("|")[0]
            assert name in command.list_commands(click.Context(command)), line
            command = command.get_command(click.Context(command), name)
            options = {opt for parameter in command.params for opt in (*parameter.opts, *parameter.secondary_opts)}
        elif re.fullmatch(r"-[a-z]|--[a-z-]+(=.*)?", word) and words[position - 1] != "--":
            assert word.split("=")[0] in options | {"--help"}, line


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda p: p.stem)
def test_what_is_there_to_be_pasted_runs_one_command_a_line(page):
    """No bar, no list of choices, no comment: `rasa status | rasa sync` once ran the system's `sync`."""
    lines = [line for line in blocks(page) if not re.match(r"(image,|shots/|CUHK-PEDES/|ALBEF)", line)]
    assert lines
    for line in lines:
        assert not re.search(r"[|;&<>#`]|\.\.\.", line), line
        assert line.split()[0] in {"rasa", "make", ".", "cd", "export", "pip", "uv", "python3", "mlflow"}, line


def test_the_readme_is_short_and_links_what_it_leaves_out():
    assert README.count("\n") <= 120
    assert README.count("[start:table]") == README.count("[end:table]") == 1
    inside = README.split("[start:table] -->\n")[1].split("\n<!--")[0].splitlines()
    assert inside[0].startswith("| row | seeds | R@1 |") and all(line.startswith("|") for line in inside)
    assert len(inside) == 2 + 11  # the start and ten rows


def test_the_readme_s_table_is_the_published_one():
    """If it is not: `python -m website.readme`, and see whether the sentences above it still hold."""
    assert readme.renewed(README, readme.table_lines()) == README
    with pytest.raises(ValueError, match="must stand there once"):
        readme.renewed("no table", [])


def test_a_line_of_the_readme_s_table(tmp_path):
    """22.685 is 22.7, 0.5296 is 0.5; what is decided is bold, and a row without a step has dashes."""
    heads = ["Setting", "row", "n", "test_r1_mean", "test_r1_sd", "stage1_r1_mean", "test_map_mean", "paper_gain_r1"]
    heads += ["step_r1_mean", "step_r1_low", "step_r1_high", "step_verdict"]
    rows = [
        ["start (no training)", "start", 1, 1.5625, "NA", 1.6375, 1.9952, "NA", "NA", "NA", "NA", "NA"],
        ["the same", '"start, stage 1"', 1, 1.6, "NA", "NA", 2, "NA", "NA", "NA", "NA", "NA"],
        ["CL", "cl", 5, 22.685, 0.5296, 22.685, 14.4257, "NA", "NA", "NA", "NA", "NA"],
        ["ITM", "itm", 5, 18.9, 0.9, 22.9, 14.0, 9.94, -3.735, -5.68, -1.79, "opposite"],
        ["PRD", "prd", 4, 21.0, 0.8, 21.9, 14.3, 1.74, 2.0875, 0.1, 4.1, "undecided"],
    ]
    (tmp_path / "t.csv").write_text("\n".join(",".join(map(str, row)) for row in [heads, *rows]))
    assert readme.table_lines(tmp_path / "t.csv")[2:] == [
        "| start (no training) | - | 1.6 | 1.6 | 2.0 | - | - | - |",
        "| CL | 5 | 22.7 ± 0.5 | 22.7 | 14.4 | - | - | - |",
        "| ITM | 5 | 18.9 ± 0.9 | 22.9 | 14.0 | **-3.7 [-5.7, -1.8]** | +9.94 | opposite |",
        "| PRD | 4 | 21.0 ± 0.8 | 21.9 | 14.3 | +2.1 [+0.1, +4.1] | +1.74 | undecided |",
    ]


def test_the_diff_of_the_worked_example_applies():
    """If it does not: apply it by hand, run the tests it names, and store `git diff -U2` anew."""
    words = ["git", "apply", "--check", "-C1", "docs/howto/add-an-objective.diff"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# ---- notebooks ----


class Cell(dict):
    __getattr__ = dict.__getitem__


def test_a_notebook_becomes_a_page():
    png = {"image/png": "iVBORw0KGgo="}
    frame = {"text/html": '<style>x</style><table border="1" class="dataframe">\n<tr></tr></table>', "text/plain": "f"}
    outputs = [{"data": png}, {"data": frame}, {"text": "said\n"}]
    cells = [Cell(cell_type="markdown", source="# T"), Cell(cell_type="code", source="1", outputs=outputs)]
    text, pictures = notebooks.as_page(Cell(cells=cells), "n")
    assert text.startswith("# T\n\n```python\n1\n```\n") and "```text\nsaid\n```" in text
    assert "<table>\n<tr></tr></table>" in text and "<style>" not in text
    assert pictures == {"n-1.png": b"\x89PNG\r\n\x1a\n"} and "(n-1.png)" in text


def test_a_cell_that_fails_fails_the_build(tmp_path):
    pytest.importorskip("nbclient", reason="the extra docs; `make docs` runs the notebook in any case")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    from nbclient.exceptions import CellExecutionError

    cells = [nbformat.v4.new_code_cell("1 / 0", id="a")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "n.ipynb")
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        notebooks.run(tmp_path / "n.ipynb")
