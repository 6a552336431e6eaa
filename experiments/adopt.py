"""A run that another suite has finished already is copied, not run again.

Both have the same config, data, initial weights and seed. So a row that two suites share (the default point of a sweep,
a row of Table 4) costs its training once.
"""

from pathlib import Path
from typing import Any

from experiments.plan import PlannedRun, twin
from experiments.rundir import (
    CHANGES,
    ENVIRONMENT,
    METRICS,
    PREDICTIONS,
    RESTORED,
    RESULT,
    SELECTED,
    SPEC,
    read_about,
    read_result,
)
from experiments.sharing import place, place_folder
from rasa.training.words import FILE as REPLACED

COPIED_FROM = "copied_from"  # in result.json: suite/row of the run that was trained
_FILES = (SPEC, ENVIRONMENT, CHANGES, METRICS, PREDICTIONS, REPLACED, RESTORED, "vocab.txt")


def copied(run: PlannedRun) -> dict[str, Any] | None:
    """The content of a finished twin's result.json; None without one.

    All else that the twin holds then lies in the run's directory. Checkpoints to go on from stay where they are: a
    finished run needs none.
    """
    assert run.directory is not None
    source = twin(run.directory)
    result = read_result(source / RESULT) if source else None
    if source is None or result is None:
        return None
    for name in _FILES:
        if (source / name).exists():
            place(source / name, run.directory / name)
    if (source / SELECTED).is_dir():
        place_folder(source / SELECTED, run.directory / SELECTED)
    who = {"suite": run.about.suite, "row": run.about.row, "profile": run.about.profile}
    return result | who | {COPIED_FROM: result.get(COPIED_FROM) or _name(source)}


def _name(directory: Path) -> str:
    about = read_about(directory)
    return f"{about.suite}/{about.row}"
