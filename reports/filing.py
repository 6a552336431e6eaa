"""A report or a gallery filed in MLflow, for those who look there: pages that need no file beside them."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiments.notes import shortened
from experiments.pages import Of, log_pages
from experiments.rundir import read_about
from experiments.spec import load_profile
from experiments.suite import Suite
from reports.build import write_files
from reports.cells import Report
from reports.gallery import DATA, PAGE
from reports.thumbnails import IMAGES
from reports.variants import folder_name, variant

REPORT, GALLERY = "report", "gallery"  # folders of artifacts
SOURCE = re.compile(rf'src="({IMAGES}/[^"]+\.jpg)"')  # a quote in a caption is escaped, so that this is none


def log_report(
    suite: Suite,
    profile: str,
    overrides: Sequence[str],
    built: Report,
    uri: str,
    workspace: Path,
    answered: Mapping[str, Any] | None = None,
) -> str:
    """All files of a report, with its table as the note above them; the id of the run that has them.

    `answered`: the queries that its page shows. Raises StoreFault.
    """
    whose = Of(
        suite.suite,
        load_profile(profile).profile,
        folder_name(suite, profile, overrides),
        variant(suite, profile, overrides),
    )
    with TemporaryDirectory() as scratch:
        texts = write_files(built, Path(scratch), answered)
        note = shortened(texts["md"], f"The rest is among the artifacts, in {REPORT}/.")
        return log_pages(uri, workspace, whose, Path(scratch), REPORT, note)


def log_gallery(page: Path, name: str, directories: Iterable[Path], uri: str, workspace: Path) -> list[str]:
    """A gallery of these runs, with its images in the page, for each suite and profile that they are of; the runs' ids.

    Raises StoreFault.
    """
    abouts = [read_about(directory) for directory in directories]
    whose = dict.fromkeys(Of(about.suite, about.profile, f"{about.suite}-{about.profile}") for about in abouts)
    with TemporaryDirectory() as scratch:
        (Path(scratch) / PAGE).write_text(_whole(page), encoding="utf-8")
        (Path(scratch) / DATA).write_bytes((page.parent / DATA).read_bytes())
        return [log_pages(uri, workspace, of, Path(scratch), f"{GALLERY}/{name}") for of in whose]


def _whole(page: Path) -> str:
    """The page with its images in it: MLflow shows a page, but not what lies beside it."""

    def embedded(source: "re.Match[str]") -> str:
        image = base64.b64encode((page.parent / source[1]).read_bytes()).decode("ascii")
        return f'src="data:image/jpeg;base64,{image}"'

    return SOURCE.sub(embedded, page.read_text(encoding="utf-8"))
