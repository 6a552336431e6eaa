"""A suite's report from its runs: the table, what must be said under it, where it comes from, and the files."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.rundir import write_text
from experiments.spec import Suite, load_profile
from rasa.errors import ResourceError
from reports import formats
from reports.cells import Report
from reports.figures import bars, draw
from reports.load import SuiteRuns, command_line, load_runs, row_configs
from reports.tables import FINISHED, Line, suite_lines

if TYPE_CHECKING:
    import pandas as pd

PAGE, FIGURE = "report.html", "r1.png"
FILES = {"md": "table.md", "csv": "table.csv", "latex": "table.tex", "html": PAGE}
PAPER_DATA = "CUHK-PEDES"
SHORT = 10  # characters of a commit


def build(suite: Suite, profile: str, overrides: Sequence[str], uri: str) -> Report:
    """Read the suite's runs and make its report. Raises SpecError and ResourceError."""
    loaded = load_runs(suite, profile, overrides, uri)
    lines = suite_lines(loaded.runs, suite)
    name = load_profile(profile).profile
    comparable = _on_papers_data(suite, profile, overrides)
    return Report(
        title=f"{suite.title or suite.suite} (profile {name})",
        profile=name,
        source=suite.source,
        comparable=comparable,
        metrics=suite.metrics,
        lines=lines,
        notes=(*notes(lines, name, comparable), *loaded.notes, *_mixed_code(loaded.runs)),
        provenance=provenance(loaded, lines, name, command_line("report", suite, profile, overrides)),
    )


def write_files(report: Report, folder: Path) -> dict[str, str]:
    """Write the report in every format into `folder`; returns the texts by format. Raises ResourceError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paper = f"paper: {PAPER_DATA}" + ("" if report.comparable else " (other data)")
        draw(bars(report.lines), f"ours: {report.profile} ({_seeds(report.lines)})", paper, folder / FIGURE)
        texts = {
            "md": formats.markdown(report),
            "csv": formats.csv_table(report),
            "latex": formats.latex(report),
            "html": formats.html(report, (folder / FIGURE).read_bytes()),
        }
        for kind, file in FILES.items():
            write_text(folder / file, texts[kind])
    except OSError as error:
        raise ResourceError(f"{folder}: {error.strerror or error}; give a writable --out") from error
    return texts


def notes(lines: Sequence[Line], profile: str, comparable: bool) -> Iterator[str]:
    """What a reader must know to judge the table, a sentence each."""
    if profile == "smoke":
        yield "Profile smoke is a test of the program: its figures prove nothing about the method."
    single = [line.name for line in lines if line.n == 1]
    if single:
        whose = "All rows that ran have" if all(line.n < 2 for line in lines) else f"{', '.join(single)}:"
        yield f"{whose} one seed (n = 1): differences between rows can not be told from noise."
    if any(line.n > 1 for line in lines):
        yield "±: sample standard deviation over seeds."
    if any(line.versus for line in lines):
        yield "Gain: the row's R@1 minus that of the row named before it, paired by seed, mean over the seeds of both."
    if any(line.paper for line in lines) and not comparable:
        yield (
            f"The paper's values are of {PAPER_DATA}, ours are not: compare signs and order of the steps, not levels."
        )
    yield from _unfinished(lines)


def provenance(loaded: SuiteRuns, lines: Sequence[Line], profile: str, command: str) -> dict[str, str]:
    """Where the figures come from, for the footer."""
    runs = loaded.runs[loaded.runs["state"] == FINISHED]
    test = loaded.sizes.get("test", {})
    return {
        "profile": profile,
        "seeds": _seeds(lines),
        "data digest": ", ".join(sorted(set(runs["data_digest"]))) or "none",
        "test split": ", ".join(f"{number} {what}" for what, number in test.items()) or "size not known here",
        "git commit": ", ".join(_commits(runs)) or "none",
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
    }


def _unfinished(lines: Sequence[Line]) -> Iterator[str]:
    for line in lines:
        parts = [f"seed {seed} {state}" for seed, state in sorted(line.unfinished.items())]
        if parts:
            yield f"{line.name}: {', '.join(parts)}."
    absent = [line.name for line in lines if not line.n and not line.unfinished]
    if absent:
        yield f"Missing, since never run with this config: {', '.join(absent)}."


def _mixed_code(runs: "pd.DataFrame") -> Iterator[str]:
    commits = _commits(runs[runs["state"] == FINISHED])
    if len(commits) > 1:
        yield f"The runs were made with {len(commits)} versions of the code: {', '.join(commits)}."


def _commits(runs: "pd.DataFrame") -> list[str]:
    pairs = sorted(set(zip(runs["git_commit"], runs["git_dirty"], strict=True)))
    return [commit[:SHORT] + " with changes" * (dirty == "true") for commit, dirty in pairs if commit]


def _seeds(lines: Sequence[Line]) -> str:
    """`n = 3`, or `n = 0 to 3` if the rows differ."""
    counts = [line.n for line in lines]
    low, high = min(counts), max(counts)
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def _on_papers_data(suite: Suite, profile: str, overrides: Sequence[str]) -> bool:
    datas = [config.data for config in row_configs(suite, profile, overrides).values()]
    return all(data.synthetic is None and data.format == "cuhk-pedes" for data in datas)
