"""What `rasa report` does for each suite: read its runs, write all files, say where they are."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from experiments.databases import shown
from experiments.store import tracking_uri
from experiments.suite import Suite
from rasa.errors import ResourceError
from reports.build import PAGE, build, write_files
from reports.filing import log_report
from reports.queries import answered
from reports.tables import Line
from reports.variants import folder_name


class Printed(NamedTuple):
    """How reports are made and where they are written. `margin` and `most` as reports/build.py has them."""

    overrides: Sequence[str]
    margin: float
    most: int
    log: bool  # whether pages are filed in MLflow, too
    workspace: Path
    tracking_uri: str | None
    out: Path | None
    several: bool  # whether `out` has a folder for each suite


def printed(
    suite: Suite, profile: str | None, how: Printed, say: Callable[[str], None]
) -> tuple[dict[str, str], Sequence[Line]]:
    """The report's texts by format, and its rows; `say` is told where its files are.

    Raises SpecError and ResourceError.
    """
    profile, uri = profile or suite.profile, tracking_uri(how.workspace, how.tracking_uri)
    built = build(suite, profile, how.overrides, uri, how.margin, how.most, how.workspace)
    name = folder_name(suite, profile, how.overrides)
    folder = (how.out / name if how.several else how.out) if how.out else how.workspace / "report" / name
    queries = None
    try:
        queries = answered(built, suite.suite, profile)
    except ResourceError as without:
        say(f"the page shows no queries: {without}")
    try:
        texts, written = write_files(built, folder, queries), f"report: {folder / PAGE}"
    except ResourceError as refused:  # a workspace on a disk that is only read has its table all the same
        if how.out is not None:
            raise
        with TemporaryDirectory() as scratch:
            texts, written = write_files(built, Path(scratch), queries), f"report: printed only; {refused}"
    say(written)
    if how.log:
        run = log_report(suite, profile, how.overrides, built, uri, how.workspace, queries)
        say(f"logged to {shown(uri)}: {run}")
    return texts, built.lines
