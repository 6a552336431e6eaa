"""Readers of CUHK-PEDES, ICFG-PEDES and RSTPReid, from the annotation files as their authors publish them.

A file is a JSON list of records, one per image; a record's number in a message is its place in that list, counted
from 0. Everything that can be wrong is a one-line fault from `faults`: reading refuses with the first, `check`
lists them all.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rasa.config import Data
from rasa.data.files import HALF_PAIR, Listing, first, list_files, path_fault
from rasa.data.table import Dataset, IntArray, Split
from rasa.data.tokens import clean_caption
from rasa.draws import generator
from rasa.errors import ResourceError, SpecError

SPLITS = ("train", "val", "test")
LARGEST_IDENTITY = 2**63 - 1  # labels become int64; negative ones would collide with the queues' "nobody"


@dataclass(frozen=True)
class Layout:
    """How one data set is published."""

    annotations: str
    path_field: str
    restarts: bool = False  # whether each split may number its identities from 0


LAYOUTS = {
    "cuhk-pedes": Layout("reid_raw.json", "file_path"),
    "icfg-pedes": Layout("ICFG-PEDES.json", "file_path", restarts=True),
    "rstpreid": Layout("data_captions.json", "img_path"),
}


@dataclass(frozen=True)
class Annotations:
    """An annotation file's records, unchecked, and where they and their images lie."""

    file: Path
    content: bytes
    records: list[Any]
    image_root: Path
    layout: Layout


def read_pedes(data: Data, seed: int = 0) -> Dataset:
    """The data set at `data.root`, in the layout `data.format`, with its images known to be there but not decoded.

    `seed` decides nothing: a validation split that has to be taken from train is the same for all seeds.
    `digest` covers the annotation file's bytes and the sorted (path, size in bytes) of the images: a changed
    caption, label, image list or re-encoded image changes it, at the cost of a stat instead of reading gigabytes.

    Raises ResourceError for the first fault of the files, SpecError for one of the fields `data.*`.
    """
    annotations = read_annotations(data)
    for fault in record_faults(annotations, data.max_words):
        raise ResourceError(fault)
    listing = list_annotated(annotations)
    for fault in listing_faults(annotations, listing):
        raise ResourceError(fault)
    splits, notes = _splits(annotations, data)
    return Dataset(data.format, annotations.image_root, splits, tuple(notes), _digest(annotations, listing))


def read_annotations(data: Data) -> Annotations:
    """The records of `data`'s annotation file. Raises ResourceError where there is nothing to go through."""
    layout, root = LAYOUTS[data.format], _root(data)
    file, image_root = _annotation_file(root, data, layout), root / data.image_folder
    if not image_root.is_dir():
        raise ResourceError(
            f"{image_root}: the image folder is missing; unpack the images there or set data.image_folder"
        )
    try:
        content = file.read_bytes()
        records = json.loads(content)
    except OSError as error:
        raise ResourceError(f"{file}: cannot be read ({error.strerror}); check its permissions") from None
    except (ValueError, RecursionError) as error:
        raise ResourceError(f"{file}: not JSON ({_one_line(error)}); download the annotation file again") from None
    if not isinstance(records, list):
        raise ResourceError(f"{file}: holds a {type(records).__name__} and not a list of records; {_expected(layout)}")
    return Annotations(file, content, records, image_root, layout)


def detect_format(root: Path) -> str | None:
    """The format whose annotation file lies in `root`; None if none does."""
    return next((name for name, layout in LAYOUTS.items() if (root / layout.annotations).is_file()), None)


def record_faults(annotations: Annotations, max_words: int) -> Iterator[str]:
    """What is wrong with the records themselves, each as one line that names the record and the remedy."""
    where: dict[int, tuple[str, int]] = {}
    seen: Counter[str] = Counter()
    restarts = _restarts(annotations)
    for number, record in enumerate(annotations.records):
        found = list(_faults_of(record, annotations.layout, max_words))
        yield from (f"{annotations.file}: record {number}: {fault}" for fault in found)
        if found:
            continue
        seen[record["split"]] += 1
        split, first = where.setdefault(record["id"], (record["split"], number))
        if split != record["split"] and not restarts:
            yield (
                f"{annotations.file}: record {number}: identity {record['id']} is in {record['split']}, but record "
                f"{first} has it in {split}; give each identity one split"
            )
    for split in ("train", "test"):
        if not seen[split]:
            yield f"{annotations.file}: no usable record has split {split}; use the complete published file"


def _faults_of(record: Any, layout: Layout, max_words: int) -> Iterator[str]:
    """The faults of one record, without its place."""
    if not isinstance(record, dict):
        yield f"is a {type(record).__name__}, not an object; {_expected(layout)}"
        return
    missing = [field for field in ("split", "captions", layout.path_field, "id") if field not in record]
    if missing:
        yield f"has no field {missing[0]}; {_expected(layout)}"
        return
    if record["split"] not in SPLITS:
        yield f"split is {_short(record['split'])}; it must be one of {', '.join(SPLITS)}"
    if fault := path_fault(record[layout.path_field]):
        yield f"{layout.path_field} {fault}"
    identity = record["id"]
    if type(identity) is not int or not 0 <= identity <= LARGEST_IDENTITY:
        yield f"id is {_short(identity)}; it must be a whole number, 0 or more"
    yield from _caption_faults(record["captions"], max_words)


def _caption_faults(captions: Any, max_words: int) -> Iterator[str]:
    if not isinstance(captions, list) or not captions:
        yield f"captions is {_short(captions)}; give at least one caption, as a list, or remove the record"
        return
    for place, caption in enumerate(captions):
        if not isinstance(caption, str):
            yield f"captions[{place}] is {_short(caption)}, not a text; write the caption or remove it"
        elif HALF_PAIR.search(caption):
            yield f"captions[{place}] holds half of a surrogate pair, which is no letter; write it again"
        elif not clean_caption(caption, max_words).strip():
            yield f"captions[{place}] is {_short(caption)}, of which cleaning leaves nothing; write it or remove it"


def list_annotated(annotations: Annotations) -> Listing:
    """Which of the annotated images are there; records whose path must not be opened are left out."""
    return list_files(annotations.image_root, _paths(annotations))


def listing_faults(annotations: Annotations, listing: Listing) -> Iterator[str]:
    """Images that a link leads out of the image folder, a line each, and those that are missing, in one line."""
    numbers = _paths(annotations)
    for path in listing.outside:
        yield (
            f"{annotations.file}: record {numbers[path]}: {path} is a link out of {annotations.image_root}; "
            "put the image itself there"
        )
    if listing.missing:
        yield (
            f"{annotations.image_root}: {len(listing.missing)} of {len(numbers)} annotated images are missing: "
            f"{first(listing.missing)}; unpack all images there"
        )


def _splits(annotations: Annotations, data: Data) -> tuple[dict[str, Split], list[str]]:
    """Records without faults as splits, and notes on what had to be decided."""
    records, notes = annotations.records, []
    splits = [record["split"] for record in records]
    identities = np.array([record["id"] for record in records], np.int64)
    if _restarts(annotations):
        test = np.array([split == "test" for split in splits])
        shift = int(identities[~test].max()) + 1
        identities = identities + shift * test
        notes.append(f"train and test both number their identities from 0; {shift} was added to those of test")
    if "val" not in splits:
        held = _held_out(annotations, identities[[split == "train" for split in splits]], data.val_identities)
        splits = [
            "val" if identity in held else split for identity, split in zip(identities.tolist(), splits, strict=True)
        ]
        notes.append(f"there is no validation split; {len(held)} training identities, drawn with seed 0, are held out")
    return {name: _split(name, annotations, splits, identities, data.max_words) for name in SPLITS}, notes


def _held_out(annotations: Annotations, training: IntArray, count: int) -> set[int]:
    labels = np.unique(training)
    if len(labels) - count < 2:
        remedy = f"set data.val_identities to at most {len(labels) - 2}" if len(labels) > 2 else "annotate more people"
        raise SpecError(
            f"data.val_identities {count} leaves fewer than 2 of the {len(labels)} training identities of "
            f"{annotations.file}, which has no validation split; {remedy}"
        )
    # The seed is 0 and not the run's: seeds of one row must train and select on the same people, or their spread
    # would measure the choice of people too, and paired tests between rows would compare different selections.
    order = torch.randperm(len(labels), generator=generator(0, "validation identities")).numpy()
    return set(labels[order[:count]].tolist())


def _split(name: str, annotations: Annotations, splits: list[str], identities: IntArray, max_words: int) -> Split:
    own = [number for number, split in enumerate(splits) if split == name]
    captions = [annotations.records[number]["captions"] for number in own]
    return Split(
        name=name,
        image_files=tuple(annotations.records[number][annotations.layout.path_field] for number in own),
        image_identities=identities[own],
        captions=tuple(clean_caption(caption, max_words) for image in captions for caption in image),
        caption_images=np.repeat(np.arange(len(own)), [len(image) for image in captions]),
    )


def _restarts(annotations: Annotations) -> bool:
    """Whether a layout that may number each split's identities from 0 does so: 0, 1, 2, ... in train and in test.

    ICFG-PEDES merges and numbers anew the people of MSMT17. Equal numbers then are different people; any other
    overlap is a leak and stays a fault.
    """
    if not annotations.layout.restarts:
        return False
    labels: dict[str, set[int]] = {"train": set(), "test": set()}
    for record in annotations.records:
        if isinstance(record, dict) and record.get("split") in SPLITS and type(record.get("id")) is int:
            labels.setdefault(record["split"], set()).add(record["id"])
    return "val" not in labels and all(own and own == set(range(len(own))) for own in labels.values())


def _digest(annotations: Annotations, listing: Listing) -> str:
    digest = hashlib.sha256(annotations.content)
    digest.update(json.dumps(sorted(listing.sizes.items())).encode())
    return digest.hexdigest()[:16]


def _paths(annotations: Annotations) -> dict[str, int]:
    """Image paths that may be opened, each with the number of its first record."""
    numbers: dict[str, int] = {}
    for number, record in enumerate(annotations.records):
        path = record.get(annotations.layout.path_field) if isinstance(record, dict) else None
        if isinstance(path, str) and path_fault(path) is None:
            numbers.setdefault(path, number)
    return numbers


def _root(data: Data) -> Path:
    if data.root is None:
        raise SpecError("data.root is not set; give the data set's folder, e.g. -o data.root=DIR")
    root = Path(data.root)
    if not root.is_dir():
        state = "is not a folder" if root.exists() else "does not exist"
        wanted = data.annotations or LAYOUTS[data.format].annotations
        raise ResourceError(f"{root}: {state}; set data.root to the folder that holds {wanted}")
    return root


def _annotation_file(root: Path, data: Data, layout: Layout) -> Path:
    file = root / (data.annotations or layout.annotations)
    if file.is_file():
        return file
    other = detect_format(root)
    remedy = "put it there or set data.annotations"
    if other is not None and other != data.format:
        remedy = f"but there is {LAYOUTS[other].annotations}, which looks like {other}: set data.format to {other}"
    raise ResourceError(f"{file}: the annotation file of format {data.format} is missing; {remedy}")


def _expected(layout: Layout) -> str:
    return (
        f"expected {layout.annotations} as published: a list of records with split, captions, {layout.path_field}, id"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
