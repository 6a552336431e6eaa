"""Everything that is wrong or odd about a data set: what reading would refuse with one fault at a time, and more."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rasa.config.run import Data
from rasa.data.annotated import Source, assemble, listing_faults, missing_splits
from rasa.data.captions import clean_caption
from rasa.data.dataset import Dataset
from rasa.data.files import first, list_files
from rasa.data.load import read_source
from rasa.data.tokenizer import build_tokenizer
from rasa.data.transforms import ImageFault, conversion, open_checked, open_rgb
from rasa.errors import RasaError

UNLIMITED = 2**31  # words
CHUNK = 64  # images per task: enough to hide the cost of handing one over


@dataclass(frozen=True)
class Problem:
    """One line about a data set. `refused`: reading or training would stop at it; else it is only worth knowing."""

    kind: str
    message: str
    count: int
    refused: bool


def check(
    data: Data, workers: int | None = None, on_progress: Callable[[int, int], Any] | None = None
) -> list[Problem]:
    """All problems of the data set at `data.root`, every image decoded, by `workers` processes (None: one per CPU).

    `on_progress(done, total)` counts images. Captions are measured with `data.tokenizer`; if that cannot be loaded,
    the list says so. Raises nothing for faults of the files: they are what it lists.
    """
    try:
        source = read_source(data)
        listing = list_files(source.image_root, source.paths)
    except RasaError as error:
        return [Problem("annotations", str(error), 1, True)]
    problems = [Problem("record", fault, 1, True) for fault in (*source.faults, *missing_splits(source))]
    problems += [Problem("missing", fault, 1, True) for fault in listing_faults(source, listing)]
    there = [source.image_root / listing.on_disk(path) for path in listing.sizes]
    unreadable = bool(problems)
    problems += _image_problems(source.image_root, there, workers, on_progress)
    return problems if unreadable else [*problems, *_reading_problems(data, source)]


def _reading_problems(data: Data, source: Source) -> Iterator[Problem]:
    """What shows only once the records make up splits."""
    try:
        dataset = assemble(source, data)
    except RasaError as error:
        yield Problem("splits", str(error), 1, True)
        return
    yield from _caption_notes(dataset, data, list(source.captions()))


def _image_problems(
    root: Path, paths: Sequence[Path], workers: int | None, on_progress: Callable[[int, int], Any] | None
) -> list[Problem]:
    faults: dict[str, list[str]] = {}
    converted: dict[str, list[str]] = {}
    for path, (fault, change) in zip(paths, _survey_all(paths, workers, on_progress), strict=True):
        if fault is not None:
            faults.setdefault(fault.kind, []).append(str(path.relative_to(root)))
        elif change is not None:
            converted.setdefault(change, []).append(str(path.relative_to(root)))
    remedy = "replace them or remove their records"
    return [
        Problem(kind, f"{root}: {kind} images: {len(names)} ({first(names)}); {remedy}", len(names), True)
        for kind, names in sorted(faults.items())
    ] + [
        Problem(
            "converted", f"{root}: {kind} images, which are converted: {len(names)} ({first(names)})", len(names), False
        )
        for kind, names in sorted(converted.items())
    ]


def _survey_all(
    paths: Sequence[Path], workers: int | None, on_progress: Callable[[int, int], Any] | None
) -> Iterator[tuple[ImageFault | None, str | None]]:
    workers = workers or len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(min(workers, len(paths) // CHUNK + 1)) as pool:
        for done, result in enumerate(pool.map(_survey, paths, chunksize=CHUNK), 1):
            if on_progress is not None:
                on_progress(done, len(paths))
            yield result


def _survey(path: Path) -> tuple[ImageFault | None, str | None]:
    """Why training would refuse the image, or else what is converted in it."""
    try:
        with open_checked(path) as image:
            change = conversion(image)
        open_rgb(path)
        return None, change
    except ImageFault as fault:
        return fault, None


def _caption_notes(dataset: Dataset, data: Data, raw: Sequence[str]) -> Iterator[Problem]:
    captions = [caption for split in dataset.splits.values() for caption in split.captions]
    try:
        tokenizer = build_tokenizer(data.tokenizer, dataset.splits["train"].captions, data.vocabulary_size)
    except RasaError as error:
        yield Problem("tokenizer", str(error), 1, False)
        long = 0
    else:
        long = int((tokenizer.encode_all(captions).lengths() > data.max_tokens).sum())
    cut = sum(clean_caption(caption, data.max_words) != clean_caption(caption, UNLIMITED) for caption in raw)
    counts = Counter(identity for split in dataset.splits.values() for identity in split.caption_identities.tolist())
    for kind, text, count in (
        ("tokens", f"captions over data.max_tokens {data.max_tokens} tokens, which evaluation cuts", long),
        ("words", f"captions over data.max_words {data.max_words} words, which are cut", cut),
        (
            "non-ascii",
            "captions with letters beyond ASCII, which a vocabulary may not know",
            sum(not caption.isascii() for caption in captions),
        ),
        ("one-caption", "identities with one caption, so without a weak pair", sum(n == 1 for n in counts.values())),
    ):
        if count:
            yield Problem(kind, f"{data.root}: {text}: {count}", count, False)
    for note in dataset.notes:
        yield Problem("note", f"{data.root}: {note}", 1, False)
