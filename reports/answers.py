"""What runs answered each query of their test split: which images came first, and how sure each stage was of them.

Shape suffixes: T queries, J the best images that a run keeps of each, N gallery images.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.evidence import tensors_in
from experiments.plan import located
from experiments.rundir import PREDICTIONS, RESTORED, RESULT, read_about, read_config, read_result, workspace_of
from rasa.config.formats import FORMATS
from rasa.data.dataset import Split, query_identities
from rasa.errors import ResourceError
from rasa.weights.notes import read_notes

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
KEPT = ("best", "similarity", "first_rank", "stage1_first_rank", "identity")
SHOWN_CAPTIONS = 3  # of a class, all of whose captions are one query


@dataclass(frozen=True)
class Answers:
    """One run's. Ranks count from 1; `match_TJ` is -inf where stage 2 did not look, and None for a run without it."""

    name: str
    directory: Path
    best_TJ: Ints  # gallery indices, best first
    similarity_TJ: Floats
    match_TJ: Floats | None
    first_rank_T: Ints
    stage1_first_rank_T: Ints

    @property
    def right_T(self) -> NDArray[np.bool_]:
        """Whether the first image is right (R@1)."""
        return self.first_rank_T == 1


@dataclass(frozen=True)
class Asked:
    """The test split that runs have in common, as people read it."""

    image_root: Path
    image_files: tuple[str, ...]
    image_identity_N: Ints
    texts: tuple[str, ...]  # of each query
    identity_T: Ints
    own_image_T: Ints  # for which the caption was written; -1 where a query is a class
    twins: dict[int, int]  # who looks nearly alike, where the data set says so


def read_answers(directories: Sequence[Path]) -> tuple[Asked, list[Answers]]:
    """The test split and each run's answers. Raises ResourceError if one has none, or is of other images or queries."""
    found, order = [], None
    for directory in directories:
        answers, own_order, identity_T = _answers(directory)
        if order is None:
            order = own_order
            asked = asked_of(directory, identity_T, own_order)
        elif own_order != order:
            raise ResourceError(
                f"{directory}: was tested on other images or captions than {directories[0]}; show runs of one data set"
            )
        found.append(answers)
    return asked, found


def _answers(directory: Path) -> tuple[Answers, dict[str, str], Ints]:
    about, file = read_about(directory), directory / PREDICTIONS
    if (directory / RESTORED).exists():
        raise ResourceError(
            f"{directory}: restored from a published report, which keeps the ranks and no images; run it again in "
            "another --workspace"
        )
    if read_result(directory / RESULT) is None:
        raise ResourceError(f"{directory}: has not finished, and answers are kept at its end; `rasa run` goes on")
    arrays = tensors_in(file)
    if missing := [name for name in KEPT if name not in arrays]:
        raise ResourceError(f"{file}: lacks {', '.join(missing)}, as runs of older versions do; run it again")
    order = read_notes(file)
    answers = Answers(
        name=about.row if about.untrained else f"{about.row} seed {about.seed}",
        directory=directory,
        best_TJ=arrays["best"],
        similarity_TJ=arrays["similarity"],
        match_TJ=arrays.get("match"),
        first_rank_T=arrays["first_rank"],
        stage1_first_rank_T=arrays["stage1_first_rank"],
    )
    return answers, order, arrays["identity"]


def asked_of(directory: Path, identity_T: Ints, order: dict[str, str] | None = None) -> Asked:
    """The test split of a run that was asked for these identities. Raises ResourceError if its data is another now.

    `order`: what the run's own file says of the order of images and captions; without it the identities must do.
    """
    from rasa.data.load import load_dataset

    config = located(read_config(directory), workspace_of(directory))
    dataset = load_dataset(config.data).tested
    split = dataset.splits["test"]
    layout = config.data.target.format if config.data.target is not None else config.data.format
    expected = query_identities(FORMATS[layout].protocol, split)
    if (order is not None and split.order() != order) or not np.array_equal(expected, identity_T):
        raise ResourceError(
            f"{directory}: was tested on other images or captions than lie in {dataset.image_root}; give the folder "
            "back its files"
        )
    if FORMATS[layout].protocol == "classes":
        texts, own_image_T = _of_classes(split, identity_T), np.full(len(identity_T), -1)
    else:
        texts, own_image_T = split.captions, np.asarray(split.caption_images)
    identity_N = np.asarray(split.image_identities)
    root = dataset.image_root
    return Asked(root, split.image_files, identity_N, texts, identity_T, own_image_T, _twins(root.parent))


def _of_classes(split: Split, identity_T: Ints) -> tuple[str, ...]:
    """Some captions of each class."""
    texts = []
    for identity in identity_T.tolist():
        own = [split.captions[number] for number in np.flatnonzero(split.caption_identities == identity)]
        more = f" (and {len(own) - SHOWN_CAPTIONS} more)" if len(own) > SHOWN_CAPTIONS else ""
        texts.append(" / ".join(own[:SHOWN_CAPTIONS]) + more)
    return tuple(texts)


def _twins(folder: Path) -> dict[int, int]:
    """Near-twins by the built-in benchmark's table; none where there is no such table.

    Identities of a data set are numbered within it as its annotations have them.
    """
    from rasa.data.synthetic.write import ABOUT, TABLE

    file = folder / TABLE
    if not file.is_file() or not (folder / ABOUT).is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as handle:
        rows = csv.DictReader(handle)
        return {int(row["id"]): int(row["twin"]) for row in rows if row["twin"]}


def as_json(answers: Sequence[Answers], asked: Asked, queries: Sequence[int]) -> str:
    """These queries and what each run answered, for programs."""
    listed = []
    for query in queries:
        runs = [
            {
                "run": each.name,
                "first_rank": int(each.first_rank_T[query]),
                "best": [asked.image_files[image] for image in each.best_TJ[query].tolist()],
            }
            for each in answers
        ]
        listed.append({"query": query, "text": asked.texts[query], "runs": runs})
    return json.dumps(listed, indent=1, ensure_ascii=False)
