"""One file in two places: a second name of it where both lie on one disk, else a copy.

Weights and predictions never change once they are written, so a run's folder, the artifacts of the store beside it and
a run that was copied may share them. Whoever writes such a file anew writes it beside and renames: the other names keep
what they had (rasa/weights/folder.py, rasa/evaluation/split.py).
"""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.rundir import PREDICTIONS
from rasa.training.words import FILE as REPLACED

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

WHOLE = ".safetensors"  # ends the names of files that are written once and as a whole


def shareable(file: Path) -> bool:
    """Whether nothing ever writes into that file again."""
    return file.name in (PREDICTIONS, REPLACED) or file.suffix == WHOLE


def place(source: Path, target: Path) -> None:
    """Have `target` hold what `source` holds, in place of what is there. Raises OSError."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        try:
            if not shareable(source):
                raise OSError
            os.link(source, temporary)
        except OSError:  # of another disk, or of one that knows no second names
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)  # does nothing if both are names of one file: then the temporary one is left
    finally:
        temporary.unlink(missing_ok=True)


def place_folder(source: Path, target: Path) -> None:
    """The same of all files below a folder. Raises OSError."""
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        there = target / file.relative_to(source)
        there.parent.mkdir(parents=True, exist_ok=True)
        place(file, there)


def send(store: "ArtifactRepository", source: Path, below: str = "") -> None:
    """A file, or all files of a folder, among a run's artifacts, under `below`."""
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    if isinstance(store, LocalArtifactRepository):
        folder = Path(store.artifact_dir) / below
        folder.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            place_folder(source, folder)
        else:
            place(source, folder / source.name)
    elif source.is_dir():
        store.log_artifacts(str(source), below)
    else:
        store.log_artifact(str(source), below or None)
