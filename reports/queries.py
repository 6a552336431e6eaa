"""Some queries with the images that a report's rows found for them (Figure 5 of the paper): a section of its page."""

import base64
import io
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.rundir import PREDICTIONS, RESTORED
from rasa.errors import ResourceError
from reports.answers import read_answers
from reports.cells import Report
from reports.gallery import contents
from reports.picks import RULES, pick
from reports.thumbnails import QUALITY, thumbnail

HEADING = "Queries and the images found"
OF_EACH_RULE = 1  # query: `rasa gallery` shows more


def answered(report: Report, suite: str, profile: str) -> dict[str, Any]:
    """What the section shows: by each rule a query with the answers of the table's first row and of its best.

    `suite` and `profile`: as they are typed. The images are part of it, so that the page needs no file beside it.
    Raises ResourceError if no run keeps its images here, or if the data is not as it was.
    """
    rows, seed = _chosen(report)
    asked, answers = read_answers([Path(report.directories[row][seed]) for row in rows])
    picked, _ = pick([*RULES], answers, asked, OF_EACH_RULE, seed=0)
    command = ["rasa", "gallery", *(f"{suite}/{row}" for row in rows), "--profile", profile, f"--seed={seed}"]
    shown = contents(picked, answers, asked, _within(asked.image_root, asked.image_files))
    return {"heading": HEADING, "command": shlex.join(command), **shown}


def _chosen(report: Report) -> tuple[list[str], int]:
    """The first row that kept what it found, the best that did so with the same seed, and the lowest such seed."""
    keeping = {
        line.name: {seed for seed, folder in report.directories.get(line.name, {}).items() if _keeps(Path(folder))}
        for line in report.lines
    }
    ranked = [line for line in report.lines if keeping[line.name]]
    if not ranked:
        raise ResourceError("no run of it keeps its images on this machine")
    first = ranked[0].name
    others = [line for line in ranked[1:] if keeping[line.name] & keeping[first]]
    best = max(others, key=lambda line: line.figures["r1"].mean or 0.0, default=None)
    rows = [first] if best is None else [first, best.name]
    return rows, min(set.intersection(*(keeping[row] for row in rows)))


def _keeps(directory: Path) -> bool:
    """Whether the run's directory has the images that it found; one that was restored has ranks alone."""
    return (directory / PREDICTIONS).is_file() and not (directory / RESTORED).exists()


def _within(root: Path, files: tuple[str, ...]) -> Callable[[int], dict[str, Any]]:
    """Copies of gallery images as addresses that hold the image itself."""
    made: dict[int, dict[str, Any]] = {}

    def copy(image: int) -> dict[str, Any]:
        if image not in made:
            small, stream = thumbnail(root / files[image]), io.BytesIO()
            small.save(stream, "jpeg", quality=QUALITY)
            path = f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
            made[image] = {"path": path, "width": small.width, "height": small.height}
        return made[image]

    return copy
