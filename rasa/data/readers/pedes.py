"""Readers of CUHK-PEDES, ICFG-PEDES and RSTPReid, from the annotation files as their authors publish them.

A file is a JSON list of records, one per image; a record's number in a message is its place in that list, counted
from 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rasa.config.run import Data
from rasa.data.annotated import (
    LARGEST_IDENTITY,
    SPLITS,
    Identities,
    Row,
    Source,
    caption_faults,
    read_json,
    short,
)
from rasa.data.files import path_fault
from rasa.data.locate import ASK_FOR_SPLITS, annotation_path, image_folder
from rasa.errors import ResourceError


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


def read(data: Data) -> Source:
    """What `data`'s annotation file says. Raises ResourceError where there is nothing to go through."""
    file = annotation_path(data)
    image_root = image_folder(data)
    layout = LAYOUTS[data.format]
    content, records = read_json(file)
    if data.format == "cuhk-pedes" and _without_splits(records):
        raise ResourceError(f"{file}: has {ASK_FOR_SPLITS}")
    if not isinstance(records, list):
        raise ResourceError(f"{file}: holds a {type(records).__name__} and not a list of records; {_expected(layout)}")
    source = Source(file, image_root, [], _paths(records, layout), [], content)
    _fill(source, records, layout, data.max_words)
    return source


def _without_splits(records: Any) -> bool:
    """Whether it is the list of captions that knows of no splits, under whatever name: one line instead of 40,206."""
    if not isinstance(records, list) or not records:
        return False
    return all(isinstance(each, dict) and "captions" in each and "split" not in each for each in records)


def _fill(source: Source, records: list[Any], layout: Layout, max_words: int) -> None:
    """Rows for the records without a fault; for the others a line that names the record and the remedy."""
    shift = _shift(records) if layout.restarts else 0
    identities = Identities()
    for number, record in enumerate(records):
        found = list(_faults_of(record, layout, max_words))
        source.faults.extend(f"{source.file}: record {number}: {fault}" for fault in found)
        if found:
            continue
        split, whom = record["split"], record["id"]
        if shift and split == "test":
            whom += shift
        if fault := identities.fault(whom, split, f"record {number}"):
            source.faults.append(f"{source.file}: record {number}: {fault}")
        source.rows.append(Row(record[layout.path_field], record["captions"], whom, split))
    if shift:
        source.notes.append(f"train and test both number their identities from 0; {shift} was added to those of test")


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
        yield f"split is {short(record['split'])}; it must be one of {', '.join(SPLITS)}"
    if fault := path_fault(record[layout.path_field]):
        yield f"{layout.path_field} {fault}"
    identity = record["id"]
    if type(identity) is not int or not 0 <= identity <= LARGEST_IDENTITY:
        yield f"id is {short(identity)}; it must be a whole number, 0 or more"
    yield from caption_faults(record["captions"], max_words)


def _shift(records: list[Any]) -> int:
    """What to add to test's identities where both splits number theirs 0, 1, 2, ...; 0 where they do not.

    ICFG-PEDES merges and numbers anew the people of MSMT17. Equal numbers then are different people; any other
    overlap is a leak and stays a fault.
    """
    labels: dict[str, set[int]] = {"train": set(), "test": set()}
    for record in records:
        if isinstance(record, dict) and record.get("split") in SPLITS and type(record.get("id")) is int:
            labels.setdefault(record["split"], set()).add(record["id"])
    restarts = "val" not in labels and all(own and own == set(range(len(own))) for own in labels.values())
    return len(labels["train"]) if restarts else 0


def _paths(records: list[Any], layout: Layout) -> dict[str, str]:
    """Image paths that may be opened, each with its first record."""
    paths: dict[str, str] = {}
    for number, record in enumerate(records):
        path = record.get(layout.path_field) if isinstance(record, dict) else None
        if isinstance(path, str) and path_fault(path) is None:
            paths.setdefault(path, f"record {number}")
    return paths


def _expected(layout: Layout) -> str:
    return (
        f"expected {layout.annotations} as published: a list of records with split, captions, {layout.path_field}, id"
    )
