"""Readers of the user's own folder: a table `captions.csv` or `captions.jsonl`, or a Hugging Face imagefolder.

docs/data.md describes both layouts. What a row means is in rasa/data/readers/rows.py.
"""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from rasa.config.run import Data
from rasa.data.annotated import Source, one_line
from rasa.data.locate import annotation_path, data_root, image_folder
from rasa.data.readers.rows import OWN, PUBLIC, SPLIT_NAMES, Line, source_of
from rasa.errors import ResourceError

METADATA = ("metadata.csv", "metadata.jsonl")
SUFFIXES = (".csv", ".jsonl")


def read(data: Data) -> Source:
    """What the table, or the metadata files of an imagefolder, say.

    Raises ResourceError where there is nothing to go through.
    """
    return _imagefolder(data) if data.format == "imagefolder" else _table(data)


def _table(data: Data) -> Source:
    """What the table says, its images below `data.image_folder`.

    Raises ResourceError where there is nothing to go through.
    """
    file = annotation_path(data)
    image_root = image_folder(data)
    content = _bytes(file)
    return source_of(file, image_root, _lines(file, content), OWN, data.max_words, content)


def _imagefolder(data: Data) -> Source:
    """What the metadata files of a Hugging Face imagefolder say: one per split's folder, or one with a column split.

    `file_name` is relative to the metadata file's folder. Raises ResourceError where there is nothing to go through.
    """
    root, image_root = data_root(data), image_folder(data)
    files = {} if data.annotations else dict(_split_files(root))
    if not files:
        file = annotation_path(data)
        content = _bytes(file)
        folder = file.parent.relative_to(root).as_posix()
        lines = _lines(file, content, folder="" if folder == "." else folder)
        return source_of(file, image_root, lines, PUBLIC, data.max_words, content)
    contents = {file: _bytes(file) for file in files}
    content = b"".join(f"{file.parent.name}/{file.name}\0".encode() + text for file, text in contents.items())

    def lines_of_all() -> Iterator[Line]:
        for file, text in contents.items():
            yield from _lines(file, text, files[file], file.parent.name, f"{file.parent.name}/{file.name} ")

    return source_of(root, image_root, lines_of_all(), PUBLIC, data.max_words, content)


def _split_files(root: Path) -> Iterator[tuple[Path, str]]:
    """The metadata file of each folder that is named as a split, and the split."""
    for folder, split in SPLIT_NAMES.items():
        for name in METADATA:
            if (root / folder / name).is_file():
                yield root / folder / name, split
                break


def _lines(file: Path, content: bytes, split: str | None = None, folder: str = "", prefix: str = "") -> Iterator[Line]:
    """The rows of a CSV file with a header, or of a JSONL file. Raises ResourceError for what is neither."""
    if file.suffix not in SUFFIXES:
        raise ResourceError(
            f"{file}: is neither {' nor '.join(SUFFIXES)}; give a CSV file with a header, or JSON lines"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ResourceError(f"{file}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    if not text.strip():
        raise ResourceError(f"{file}: is empty; {OWN.describe()}")
    for place, values in _csv(file, text) if file.suffix == ".csv" else _jsonl(file, text):
        yield Line(prefix + place, values, split, folder)


def _csv(file: Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for values in reader:
            if None in values or None in values.values():
                raise ResourceError(
                    f"{file}: line {reader.line_num} has not the {len(reader.fieldnames or ())} fields of the header; "
                    "quote captions that hold a comma"
                )
            yield f"line {reader.line_num}", values
    except csv.Error as error:
        raise ResourceError(
            f"{file}: is not CSV after line {reader.line_num} ({one_line(error)}); quote the next one anew"
        ) from None


def _jsonl(file: Path, text: str) -> Iterator[tuple[str, dict[str, object]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ResourceError(f"{file}: line {number} is not JSON ({one_line(error)}); write it anew") from None
        if not isinstance(values, dict):
            raise ResourceError(f"{file}: line {number} is a {type(values).__name__}, not an object; {OWN.describe()}")
        yield f"line {number}", values


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ResourceError(f"{file}: cannot be read ({error.strerror}); check its permissions") from None
