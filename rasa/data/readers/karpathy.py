"""Reader of Flickr30K and COCO from Karpathy's split files (Appendix A.3; Karpathy and Fei-Fei, 2015).

A file is an object with `images`, one record per image: filename (COCO: filepath, its folder, too), imgid, split, and
the sentences, about five, each with its text as `raw`. COCO's split `restval`, what is left of val2014, counts as
train, as in all published results. Every image is a class of its own, whose label is its imgid.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rasa.config.formats import FORMATS
from rasa.config.run import Data
from rasa.data.annotated import LARGEST_IDENTITY, Row, Source, caption_fault, read_json, short
from rasa.data.files import path_fault
from rasa.data.locate import annotation_path, image_folder
from rasa.errors import ResourceError

SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}
FIELDS = ("filename", "imgid", "split", "sentences")
USUAL = 5  # sentences per image


def read(data: Data) -> Source:
    """What `data`'s split file says. Raises ResourceError where there is nothing to go through."""
    file = annotation_path(data)
    image_root = image_folder(data)
    content, document = read_json(file)
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list):
        found = f"an object with {', '.join(map(short, document)) or 'nothing'}" if isinstance(document, dict) else None
        raise ResourceError(f"{file}: holds {found or 'a ' + type(document).__name__}; {_expected(data.format)}")
    named = document.get("dataset", data.format)
    if named != data.format:
        known = f"set data.format to {named}" if named in list(FORMATS) else _expected(data.format)
        raise ResourceError(f"{file}: is the split file of {short(named)} and not of {data.format}; {known}")
    source = Source(file, image_root, [], _paths(images), [], content, needs=("train", "val", "test"))
    _fill(source, images, data)
    return source


def _fill(source: Source, images: list[Any], data: Data) -> None:
    """Rows for the images without a fault; for the others a line that names the record and the remedy."""
    labels: dict[int, int] = {}
    for number, image in enumerate(images):
        found = list(_faults_of(image, data))
        if not found and labels.setdefault(image["imgid"], number) != number:
            found.append(
                f"imgid {image['imgid']} is also that of record {labels[image['imgid']]}; number the images anew"
            )
        source.faults.extend(f"{source.file}: record {number}: {fault}" for fault in found)
        if not found:
            captions = [sentence["raw"] for sentence in image["sentences"]]
            source.rows.append(Row(_path(image), captions, image["imgid"], SPLITS[image["split"]]))
    source.notes.extend(_notes(source, images))


def _notes(source: Source, images: list[Any]) -> Iterator[str]:
    rest = sum(isinstance(image, dict) and image.get("split") == "restval" for image in images)
    if rest:
        yield f"restval counts as train: {rest} images"
    counts = Counter(len(row.captions) for row in source.rows)
    if other := len(source.rows) - counts[USUAL]:
        most = max(counts)
        yield f"{other} images have not {USUAL} sentences but {min(counts)} to {most}; all are kept"


def _faults_of(image: Any, data: Data) -> Iterator[str]:
    """The faults of one record, without its place."""
    if not isinstance(image, dict):
        yield f"is a {type(image).__name__}, not an object; {_expected(data.format)}"
        return
    if missing := [field for field in FIELDS if field not in image]:
        yield f"has no field {missing[0]}; {_expected(data.format)}"
        return
    if not isinstance(image["split"], str) or image["split"] not in SPLITS:
        yield f"split is {short(image['split'])}; it must be one of {', '.join(SPLITS)}"
    if fault := path_fault(_path(image)):
        yield f"{'filepath/' if 'filepath' in image else ''}filename {fault}"
    label = image["imgid"]
    if type(label) is not int or not 0 <= label <= LARGEST_IDENTITY:
        yield f"imgid is {short(label)}; it must be a whole number, 0 or more"
    sentences = image["sentences"]
    if not isinstance(sentences, list) or not sentences:
        yield f"sentences is {short(sentences)}; give at least one sentence, as a list, or remove the record"
        return
    for place, sentence in enumerate(sentences):
        if not isinstance(sentence, dict) or "raw" not in sentence:
            yield f"sentences[{place}] has no field raw; {_expected(data.format)}"
        elif fault := caption_fault(sentence["raw"], data.max_words):
            yield f"sentences[{place}].raw {fault}"


def _path(image: dict[str, Any]) -> Any:
    """The image's path below the image folder: COCO has a folder per year and part, Flickr30K has one for all."""
    folder, name = image.get("filepath"), image["filename"]
    return f"{folder}/{name}" if isinstance(folder, str) and folder and isinstance(name, str) and name else name


def _paths(images: list[Any]) -> dict[str, str]:
    """Image paths that may be opened, each with its first record."""
    paths: dict[str, str] = {}
    for number, image in enumerate(images):
        path = _path(image) if isinstance(image, dict) and "filename" in image else None
        if isinstance(path, str) and path_fault(path) is None:
            paths.setdefault(path, f"record {number}")
    return paths


def _expected(format: str) -> str:
    name = FORMATS[format].annotations[0]
    return f"expected Karpathy's {name}: an object with images, a list of records with {', '.join(FIELDS)}"
