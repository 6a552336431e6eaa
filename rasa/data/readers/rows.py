"""Tables of captions, one row per caption or per image, whatever file they come from: to the rows of a `Source`.

Rows that name the same image are one image with several captions. Labels that are not all whole numbers are numbered in
the order in which they first appear.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rasa.data.annotated import LARGEST_IDENTITY, SPLITS, Identities, Row, Source, caption_fault, short
from rasa.data.files import path_fault
from rasa.errors import ResourceError

DIGITS = len(str(LARGEST_IDENTITY))


class Columns(NamedTuple):
    """Names that a column may have, in the order in which they are looked for. `identity` may be missing."""

    image: tuple[str, ...]
    caption: tuple[str, ...]
    identity: tuple[str, ...]
    split: tuple[str, ...]

    def describe(self) -> str:
        """What a message says is expected."""
        image, caption, identity, split = (" or ".join(names) for names in self)
        return f"expected columns {image}; {caption}; {split}; and {identity}, unless every image is a class of its own"


OWN = Columns(("image",), ("caption", "captions"), ("identity",), ("split",))
PUBLIC = Columns(("file_name", "image"), ("text", "caption", "captions"), ("identity", "label"), ("split",))
# How folders and columns of others name the three splits.
SPLIT_NAMES = dict.fromkeys(("train", "training"), "train")
SPLIT_NAMES |= dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val") | {"test": "test", "testing": "test"}


class Line(NamedTuple):
    """One row of a table: the place that messages name, its values by column, and its split if the file tells that."""

    place: str
    values: Mapping[str, Any]
    split: str | None = None
    folder: str = ""  # to which its image's path is relative, below the image folder


class _Image(NamedTuple):
    place: str
    captions: list[str]
    label: Any
    split: str


def source_of(
    file: Path, image_root: Path, lines: Iterable[Line], columns: Columns, max_words: int, content: bytes
) -> Source:
    """The images that `lines` describe, with the faults of all lines. Raises ResourceError if a column is missing."""
    source = Source(file, image_root, [], {}, [], content, unit="row", remedy="give it some")
    images: dict[str, _Image] = {}
    named: dict[str, str | None] = {}
    for line in lines:
        named = named or _names(file, line, columns)
        for fault in _take(images, source, line, named, max_words):
            source.faults.append(f"{file}: {line.place}: {fault}")
    _fill(source, images, named)
    return source


def _names(file: Path, line: Line, columns: Columns) -> dict[str, str | None]:
    """Which of the table's columns is which."""
    names = {
        role: next((name for name in names if name in line.values), None) for role, names in columns._asdict().items()
    }
    needed = ["image", "caption"] + ["split"] * (line.split is None)
    if missing := [role for role in needed if names[role] is None]:
        found = ", ".join(map(short, line.values)) or "none"
        raise ResourceError(f"{file}: has no column for the {missing[0]}, found {found}; {columns.describe()}")
    return names


def _take(
    images: dict[str, _Image], source: Source, line: Line, named: dict[str, str | None], max_words: int
) -> Iterator[str]:
    """Put the line's captions to its image; yields what is wrong with the line instead."""
    values: dict[str, Any] = {role: line.values.get(name) if name else None for role, name in named.items()}
    path, split = values["image"], line.split or values["split"]
    if fault := path_fault(path):
        yield f"{named['image']} {fault}"
        return
    path = f"{line.folder}/{path}" if line.folder else path
    source.paths.setdefault(path, line.place)
    found = list(_faults_of(values, split, named, max_words))
    yield from found
    if found:
        return
    captions = values["caption"] if isinstance(values["caption"], list) else [values["caption"]]
    image = images.setdefault(path, _Image(line.place, [], values["identity"], SPLIT_NAMES[split]))
    if (image.label, image.split) != (values["identity"], SPLIT_NAMES[split]):
        yield (
            f"image {path} has identity {short(values['identity'])} and split {split}, but {image.place} says "
            f"{short(image.label)} and {image.split}; give each image one of each"
        )
        return
    image.captions.extend(captions)


def _faults_of(values: dict[str, Any], split: Any, named: dict[str, str | None], max_words: int) -> Iterator[str]:
    if not isinstance(split, str) or split not in SPLIT_NAMES:
        yield f"{named['split']} is {short(split)}; it must be one of {', '.join(SPLITS)}"
    given = values["caption"]
    for place, caption in enumerate(given if isinstance(given, list) and given else [given]):
        if fault := caption_fault(caption, max_words):
            yield f"{named['caption']}{f'[{place}]' if isinstance(given, list) and given else ''} {fault}"
    label = values["identity"]
    if named["identity"] is not None and (type(label) not in (int, str) or label == ""):
        yield f"{named['identity']} is {short(label)}; give a whole number or a name"


def _fill(source: Source, images: dict[str, _Image], named: dict[str, str | None]) -> None:
    """Rows for `images`, their labels as numbers."""
    if named and named["identity"] is None:
        numbers: dict[Any, int] = {}
        source.notes.append("there is no column identity: every image is a class of its own, without weak pairs")
    else:
        numbers = _numbered([image.label for image in images.values()], source)
    identities = Identities()
    for place, (path, image) in enumerate(images.items()):
        whom = numbers[image.label] if numbers else place
        if fault := identities.fault(whom, image.split, image.place, image.label):
            source.faults.append(f"{source.file}: {image.place}: {fault}")
        source.rows.append(Row(path, image.captions, whom, image.split))


def _numbered(labels: list[Any], source: Source) -> dict[Any, int]:
    """A number for each label: the one it states, if all state one, else its place among the labels.

    `07` states none, since it and `7` would become one.
    """
    distinct = dict.fromkeys(labels)
    plain = (
        text.isdecimal() and len(text) <= DIGITS and text == str(int(text)) and int(text) <= LARGEST_IDENTITY
        for text in map(str, distinct)
    )
    if all(plain):
        return {label: int(label) for label in distinct}
    source.notes.append(f"identities are names: {len(distinct)} of them are numbered in the order of the table")
    return {label: number for number, label in enumerate(distinct)}
