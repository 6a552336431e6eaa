"""A suite's report from its runs: the table, what must be said under it, where it comes from, and the files."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments import targets
from experiments.boundaries import MOST
from experiments.rundir import write_text
from experiments.spec import load_profile
from experiments.statistics import RESAMPLES
from experiments.steps import MARGIN
from experiments.suite import Suite
from experiments.tracking import SYNTHETIC
from rasa.errors import ResourceError
from reports import formats, learning, replaced_figure, sweeps
from reports.cells import Report
from reports.devices import costs_of_one_device
from reports.document import SCHEMA
from reports.drawings import Drawing, drawings
from reports.layout import as_published, competitors
from reports.load import SuiteRuns, command_line, load_runs
from reports.pages import Picture
from reports.published import TEST_SPLITS, load_published
from reports.starts import beats_start, headroom, on_starts, over_start, start_lines
from reports.summary import at_chance
from reports.tables import FINISHED, Line, seeds_of, suite_lines, telling_names
from reports.variants import variant
from reports.verdict import SHARE, judge

if TYPE_CHECKING:
    import pandas as pd

PAGE, LATEX = "report.html", "latex"
FILES = {"md": "table.md", "csv": "table.csv", "latex": "table.tex", "html": PAGE, "json": "report.json"}
PAPER_DATA = "CUHK-PEDES"  # of a suite that names no table of the paper
MADE = "%Y-%m-%d %H:%M UTC"  # when a report was made
SHORT = 10  # characters of a commit
_CODE = ("code_digest", "git_commit", "git_dirty")


class How(NamedTuple):
    """With what a report was made, and when; `margin` and `most` as its steps are judged (reports/verdict.py)."""

    command: str
    made: str
    margin: float
    most: int
    resamples: int = RESAMPLES
    variant: str = ""  # what -o changed


def build(
    suite: Suite,
    profile: str,
    overrides: Sequence[str],
    uri: str,
    margin: float = MARGIN,
    most: int = MOST,
    workspace: Path = Path(),
) -> Report:
    """Read the suite's runs and make its report; its steps are judged by this margin, with looks up to `most` seeds.

    Raises SpecError and ResourceError.
    """
    loaded = load_runs(suite, profile, overrides, uri, workspace)
    return assemble(suite, load_profile(profile).profile, loaded, how_made(suite, profile, overrides, margin, most))


def how_made(suite: Suite, profile: str, overrides: Sequence[str], margin: float, most: int) -> How:
    """How a report is made now, and the command that makes it."""
    given = [f"--margin {margin:g}"] * (margin != MARGIN) + [f"--max-seeds {most}"] * (most != MOST)
    command = " ".join([command_line("report", suite, profile, overrides), *given])
    made, differing = datetime.now(UTC).strftime(MADE), variant(suite, profile, overrides)
    return How(command, made, margin, most, variant=differing)


def assemble(suite: Suite, name: str, loaded: SuiteRuns, how: How) -> Report:
    """The report of these runs at the profile of that name. It depends on nothing but the arguments."""
    runs, of_costs = costs_of_one_device(loaded.runs)
    lines = suite_lines(runs, suite)
    table = load_published(suite.published) if suite.published else None
    datasets = table.datasets if table else (PAPER_DATA,)
    comparable = on_papers_data(loaded, datasets)
    paper_data = " and ".join(datasets)
    starts = start_lines(loaded.starts, suite)
    gains = over_start(lines, loaded.starts, loaded.stage1, loaded.queries)
    untrained = {row: gain.untrained for row, gain in gains.items()}
    swept = sweeps.curves(suite, lines, loaded.queries, how.resamples, untrained)
    where_best = sweeps.grid(swept)
    said = (*of_suite(suite), *notes(lines, name, comparable, paper_data))
    identities = loaded.sizes.get("test", {}).get("identities", 0)
    chance = 100 / identities if identities else None
    return Report(
        title=f"{suite.title or suite.suite} (profile {name}{'; ' + how.variant if how.variant else ''})",
        profile=name,
        source=suite.source,
        comparable=comparable,
        metrics=suite.metrics,
        lines=lines,
        judged=judge(lines, loaded.queries, how.resamples, how.most, how.margin, beats_start(gains)),
        notes=(
            *said,
            *on_starts(loaded.starts, gains, loaded.stage1),
            *loaded.notes,
            *mixed_code(loaded.runs),
            *of_costs,
        ),
        provenance=provenance(loaded, lines, name, how.command, how.made),
        others=(where_best,) if where_best else (),
        curves=swept,
        paper_data=paper_data,
        # In the paper's table rows that were not asked for would stand among those of others.
        published=[as_published(table, lines, comparable, starts)] if table and not suite.asked else [],
        competitors=list(competitors(table, lines)) if table and not suite.asked else [],
        starts=starts,
        over_start=gains,
        above=(*headroom(gains), *at_chance(lines, chance)),
        chance=chance,
        directories=_directories(loaded.runs),
        **_on_the_way(suite, lines, loaded),
    )


def _directories(runs: "pd.DataFrame") -> dict[str, dict[int, str]]:
    found: dict[str, dict[int, str]] = {}
    finished = runs[(runs["state"] == FINISHED) & (runs["directory"] != "")]
    for row, seed, directory in zip(finished["row"], finished["seed"], finished["directory"], strict=True):
        found.setdefault(str(row), {})[int(seed)] = str(directory)
    return found


def _on_the_way(suite: Suite, lines: Sequence[Line], loaded: SuiteRuns) -> dict[str, Any]:
    """What was recorded over the epochs, and the words of RTD."""
    rows, guessed = [row.name for row in suite.rows], loaded.sizes.get("val", {}).get("identities", 0)
    chances = {"r1": 100 / guessed} if guessed else {}
    return {
        "learning": learning.panels(loaded.points, rows, learning.LEARNING, chances),
        "generators": learning.panels(loaded.points, rows, learning.GENERATOR, learning.GUESSED),
        "words": replaced_figure.shown(loaded.replaced, telling_names(lines)),
    }


def write_files(report: Report, folder: Path, answered: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Write the report in every format into `folder`; returns the texts by format. Raises ResourceError.

    `answered`: the queries that its page shows (reports/queries.py).
    """
    try:
        (folder / LATEX).mkdir(parents=True, exist_ok=True)
        pictures = draw_figures(report, folder)
        texts = {
            "md": formats.markdown(report, pictures),
            "csv": formats.csv_table(report),
            "latex": formats.latex(report),
            "html": formats.html(report, pictures, answered=answered),
            "json": formats.json_text(report, pictures),
        }
        for kind, file in FILES.items():
            write_text(folder / file, texts[kind])
        texts["md"] = formats.markdown(report)  # a terminal has no use for pictures
        write_text(folder / SCHEMA, formats.schema_text())
        for name, text in formats.latex_files(report).items():
            write_text(folder / LATEX / name, text)
    except OSError as error:
        raise ResourceError(f"{folder}: {error.strerror or error}; give a writable --out") from error
    return texts


def draw_figures(report: Report, folder: Path) -> list[Picture]:
    """Draw what the report has to show into `folder`, as SVG files."""
    return [_drawn(drawing, folder) for drawing in drawings(report)]


def _drawn(drawing: Drawing, folder: Path) -> Picture:
    drawing.draw(folder / drawing.file)
    return Picture(folder / drawing.file, drawing.words, drawing.caption, drawing.section)


def of_suite(suite: Suite) -> Iterator[str]:
    """What a reader must know of which rows there are, a sentence each."""
    if suite.asked:
        yield (
            f"{len(suite.rows)} of the {suite.of} rows of {suite.suite} are shown: those that were asked for, and what "
            "they are compared with. Corrections for several comparisons are over the steps shown."
        )
    yield from targets.notes(targets.Target(suite, list(suite.rows), ()))


def notes(lines: Sequence[Line], profile: str, comparable: bool, paper_data: str = PAPER_DATA) -> Iterator[str]:
    """What a reader must know to judge the table, a sentence each."""
    if profile == "smoke":
        yield "Profile smoke is a test of the program: its figures prove nothing about the method."
    single = [line.name for line in lines if line.n == 1]
    if single:
        whose = "All rows that ran have" if all(line.n < 2 for line in lines) else f"{', '.join(single)}:"
        yield f"{whose} one seed (n = 1): nothing is known of the spread over trainings."
    if any(line.n > 1 for line in lines):
        yield (
            f"±: sample standard deviation over seeds; in brackets: {SHARE} % t-interval of the mean, left out where "
            "it would reach below 0 or above 100."
        )
    if any(line.versus for line in lines):
        yield "Gain: the row's R@1 minus that of the row named before it, paired by seed, mean over the seeds of both."
    if any(line.paper for line in lines) and not comparable:
        yield (
            f"The paper's values are of {paper_data}, ours are not: compare signs and order of the steps, not levels."
        )
    yield from _unfinished(lines)


def provenance(loaded: SuiteRuns, lines: Sequence[Line], profile: str, command: str, made: str) -> dict[str, str]:
    """Where the figures come from, for the footer."""
    runs = loaded.runs[loaded.runs["state"] == FINISHED]
    test = loaded.sizes.get("test", {})
    return {
        "profile": profile,
        "seeds": seeds_of(lines),
        "data digest": ", ".join(sorted(set(runs["data_digest"]))) or "none",
        "test split": ", ".join(f"{number} {what}" for what, number in test.items()) or "size not known here",
        "git commit": ", ".join(_commits(runs)) or "none",
        "code digest": ", ".join(sorted(set(runs["code_digest"]) - {""})) or "none",
        "devices": ", ".join(sorted(set(runs["device"]))) or "none",
        "made": made,
        "command": command,
    }


def _unfinished(lines: Sequence[Line]) -> Iterator[str]:
    for line in lines:
        reasons = {seed: f" ({why})" for seed, why in line.reasons.items()}
        parts = [f"seed {seed} {state}{reasons.get(seed, '')}" for seed, state in sorted(line.unfinished.items())]
        if parts:
            yield f"{line.name}: {', '.join(parts)}."
    absent = [line.name for line in lines if not line.n and not line.unfinished]
    if absent:
        yield f"Never run with this config on this data: {', '.join(absent)}."


def mixed_code(runs: "pd.DataFrame") -> Iterator[str]:
    """A sentence if the rows were not all made with the code of the newest run: which ones, and with what."""
    finished = runs[runs["state"] == FINISHED].sort_values("started")
    versions = [
        digest or f"{commit} {dirty}"  # a tracker's record may lack the digest
        for digest, commit, dirty in zip(*(finished[name] for name in _CODE), strict=True)
    ]
    if len(set(versions)) > 1:
        others = [row for row, version in zip(finished["row"], versions, strict=True) if version != versions[-1]]
        yield (
            f"The runs were made with {len(set(versions))} versions of the code ({', '.join(sorted(set(versions)))}). "
            f"Not with that of the newest, {versions[-1]}: {', '.join(dict.fromkeys(others))}."
        )


def _commits(runs: "pd.DataFrame") -> list[str]:
    pairs = sorted(set(zip(runs["git_commit"], runs["git_dirty"], strict=True)))
    return [commit[:SHORT] + " with changes" * (dirty == "true") for commit, dirty in pairs if commit]


def on_papers_data(loaded: SuiteRuns, datasets: Sequence[str] = (PAPER_DATA,)) -> bool:
    """Whether the runs were tested on a split of one of these data sets' published sizes, not on the built-in one."""
    test = loaded.sizes.get("test", {})
    sizes = [TEST_SPLITS[dataset] for dataset in datasets]
    return SYNTHETIC not in set(loaded.runs["data"]) and any(size.items() <= test.items() for size in sizes)
