"""Annotated images as a layout's reader hands them over, and the one way from there to a `Dataset`.

Every layout has a reader that returns a `Source`: what it could read, and a line for each thing that is wrong with it.
Reading a data set refuses with the first line, `rasa data check` lists them all.
"""

import glob
import hashlib
import json
import posixpath
import unicodedata
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rasa.config.run import Data
from rasa.data.captions import clean_caption
from rasa.data.dataset import Dataset, IntArray, Split
from rasa.data.files import HALF_PAIR, Listing, first, list_files
from rasa.errors import ResourceError, SpecError

SPLITS = ("train", "val", "test")
BLANK = (
    "\u115f\u1160\u2800\u3164\uffa0"  # letters by their class, and nothing to be seen: Hangul fillers, empty braille
)
LARGEST_IDENTITY = 2**63 - 1  # labels become int64; negative ones would collide with the queues' "nobody"


class Row(NamedTuple):
    """One image without a fault: its path below the image folder, its captions as written, whom it shows, its split."""

    image: str
    captions: Sequence[str]
    identity: int
    split: str


@dataclass(frozen=True)
class Source:
    """`file` is what messages name. `paths`: images that may be opened, each with the place that names it first.

    `content` is what the digest covers beside the images; `notes` are sentences for the report. `needs`: splits that
    the layout must have (a validation split not among them can be held out), of `unit`s; `remedy` if it lacks one.
    """

    file: Path
    image_root: Path
    rows: list[Row]
    paths: dict[str, str]
    faults: list[str]
    content: bytes
    notes: list[str] = field(default_factory=list)
    needs: tuple[str, ...] = ("train", "test")
    unit: str = "record"
    remedy: str = "use the complete published file"

    def captions(self) -> Iterator[str]:
        """All captions as written."""
        return (caption for row in self.rows for caption in row.captions)


def assemble(source: Source, data: Data, test_only: bool = False) -> Dataset:
    """The data set of `source`, with its images known to be there but not decoded; `test_only`: its test split alone.

    `digest` covers the annotations' bytes and the sorted (path, size in bytes) of the images: a changed caption, label,
    image list or re-encoded image changes it, at the cost of a stat instead of reading gigabytes.

    Raises ResourceError for the first fault of the files, SpecError for one of the fields `data.*`.
    """
    for fault in (*source.faults, *missing_splits(source, test_only)):
        raise ResourceError(fault)
    listing = list_files(source.image_root, source.paths)
    wanted = {row.image for row in source.rows if row.split == "test"} if test_only else None
    for fault in listing_faults(source, listing, wanted):
        raise ResourceError(fault)
    notes = [f"{source.file}: {note}" for note in respelt_notes(listing)]
    source.rows[:] = [row._replace(image=listing.on_disk(row.image)) for row in source.rows]
    splits, more = _splits(source, data, test_only)
    notes += more
    return Dataset(data.format, source.image_root, splits, tuple(notes), _digest(source, listing))


def listing_faults(source: Source, listing: Listing, wanted: Container[str] | None = None) -> Iterator[str]:
    """Images that a link leads out of the image folder, a line each, and those that are missing, in one line.

    Where only some images are `wanted`, of these alone.
    """
    outside, missing = (
        [p for p in paths if wanted is None or p in wanted] for paths in (listing.outside, listing.missing)
    )
    for path in outside:
        yield (
            f"{source.file}: {source.paths[path]}: {path} is a link out of {source.image_root}; "
            "put the image itself there"
        )
    if missing:
        yield (
            f"{source.image_root}: {len(missing)} of {len(source.paths)} annotated images are missing: "
            f"{first(missing)}; {_other_ending(source.image_root, missing[0]) or 'unpack all images there'}"
        )


def _other_ending(root: Path, path: str) -> str:
    """A remedy where the file is there under another ending; else nothing."""
    wanted = root / path.replace("\\", "/")
    others = sorted(file.name for file in wanted.parent.glob(f"{glob.escape(wanted.stem)}.*")) if wanted.stem else []
    return f"{path} is there as {others[0]}: write the names as they are on the disk" if others else ""


def respelt_notes(listing: Listing) -> Iterator[str]:
    """A sentence if images are spelt otherwise on the disk than in the annotations."""
    if listing.respelt:
        path, spelt = next(iter(listing.respelt.items()))
        count = len(listing.respelt)
        yield (
            f"{count} image{'s are' if count > 1 else ' is'} spelt otherwise on the disk, and read: {path} is {spelt} "
            "there"
        )


def _listed_twice(rows: Sequence[Row]) -> Iterator[str]:
    """A sentence if images are in two splits, and one if they show two identities, however their paths are written."""
    seen = dict[str, Row]()
    splits, people = dict[str, None](), dict[str, None]()
    for row in rows:
        before = seen.setdefault(posixpath.normpath(row.image), row)
        if before.split != row.split:
            splits[row.image] = None
        elif before.identity != row.identity:
            people[row.image] = None
    for images, fault in ((splits, "in two splits, so that test is not unseen"), (people, "under two identities")):
        if images:
            yield f"images listed {fault}: {len(images)} ({first(list(images))})"


def caption_faults(captions: Any, max_words: int, name: str = "captions") -> Iterator[str]:
    """What is wrong with an image's captions, a line each, without its place."""
    if not isinstance(captions, list) or not captions:
        yield f"{name} is {short(captions)}; give at least one caption, as a list, or remove the record"
        return
    for place, caption in enumerate(captions):
        if fault := caption_fault(caption, max_words):
            yield f"{name}[{place}] {fault}"


def caption_fault(caption: Any, max_words: int) -> str | None:
    """Why a value is no caption; None if it is one."""
    if not isinstance(caption, str):
        return f"is {short(caption)}, not a text; write the caption or remove it"
    if HALF_PAIR.search(caption):
        return "holds half of a surrogate pair, which is no letter; write it again"
    if not visible(clean_caption(caption, max_words)):
        return f"is {short(caption)}, of which cleaning leaves nothing; write it or remove it"
    return None


def visible(text: str) -> bool:
    """Whether a text has a letter, digit or sign that can be seen.

    Zero-width characters, spaces and marks alone are none.
    """
    return any(unicodedata.category(letter)[0] in "LNPS" and letter not in BLANK for letter in text)


class Identities:
    """The split in which each identity was met first: no identity may be in two."""

    def __init__(self) -> None:
        self._where: dict[int, tuple[str, str]] = {}

    def fault(self, identity: int, split: str, place: str, shown: Any = None) -> str | None:
        """Why `identity` cannot be in `split`; None if it can. `shown`: how the file writes it."""
        before, where = self._where.setdefault(identity, (split, place))
        if before == split:
            return None
        shown = identity if shown is None else shown
        return f"identity {shown} is in {split}, but {where} has it in {before}; give each identity one split"


def missing_splits(source: Source, test_only: bool = False) -> Iterator[str]:
    """A line for each split that is needed and that no usable row has; none where faults have left no row at all."""
    seen = {row.split for row in source.rows}
    for split in ("test",) if test_only else source.needs:
        if split not in seen and (seen or not source.faults):
            yield f"{source.file}: no usable {source.unit} has split {split}; {source.remedy}"


def read_json(file: Path) -> tuple[bytes, Any]:
    """The bytes of an annotation file and what they say. Raises ResourceError."""
    try:
        content = file.read_bytes()
        return content, json.loads(content)
    except OSError as error:
        raise ResourceError(f"{file}: cannot be read ({error.strerror}); check its permissions") from None
    except (ValueError, RecursionError) as error:
        raise ResourceError(f"{file}: not JSON ({one_line(error)}); download the annotation file again") from None


def _splits(source: Source, data: Data, test_only: bool) -> tuple[dict[str, Split], list[str]]:
    """Rows as splits, and notes on what had to be decided."""
    notes, names = [*source.notes, *_listed_twice(source.rows)], [row.split for row in source.rows]
    identities = np.array([row.identity for row in source.rows], np.int64)
    if "val" not in names and not test_only:
        training = identities[[name == "train" for name in names]]
        held = held_out(source.file, training, data.val_identities)
        names = ["val" if whom in held else name for whom, name in zip(identities.tolist(), names, strict=True)]
        notes.append(f"there is no validation split; {len(held)} training identities, drawn with seed 0, are held out")
    wanted = ("test",) if test_only else SPLITS
    return {name: _split(name, source, names, identities, data.max_words) for name in wanted}, notes


def held_out(file: Path, training: IntArray, count: int) -> set[int]:
    """`count` of the training identities, the same for every run. Raises SpecError if too few would be left."""
    labels = np.unique(training)
    if len(labels) - count < 2:
        remedy = f"set data.val_identities to at most {len(labels) - 2}" if len(labels) > 2 else "annotate more people"
        raise SpecError(
            f"data.val_identities {count} leaves fewer than 2 of the {len(labels)} training identities of "
            f"{file}, which has no validation split; {remedy}"
        )
    import torch  # here: a report reads data sets, too, and most have a validation split

    from rasa.draws import generator

    # The seed is 0 and not the run's: seeds of one row must train and select on the same people, or their spread
    # would measure the choice of people too, and paired tests between rows would compare different selections.
    order = torch.randperm(len(labels), generator=generator(0, "validation identities")).numpy()
    return set(labels[order[:count]].tolist())


def _split(name: str, source: Source, names: list[str], identities: IntArray, max_words: int) -> Split:
    own = [number for number, split in enumerate(names) if split == name]
    rows = [source.rows[number] for number in own]
    return Split(
        name=name,
        image_files=tuple(row.image for row in rows),
        image_identities=identities[own],
        captions=tuple(clean_caption(caption, max_words) for row in rows for caption in row.captions),
        caption_images=np.repeat(np.arange(len(own)), [len(row.captions) for row in rows]),
    )


def _digest(source: Source, listing: Listing) -> str:
    digest = hashlib.sha256(source.content)
    digest.update(json.dumps(sorted(listing.sizes.items())).encode())
    return digest.hexdigest()[:16]


def short(value: Any) -> str:
    """`value` as a message shows it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def one_line(error: Exception) -> str:
    """The error's text without line breaks."""
    return " ".join(str(error).split())
