"""Reader of CUB and Flowers with the captions of Reed et al. (CVPR 2016; Appendix A.3 of the paper).

`cvpr2016_cub` and `cvpr2016_flowers`, as their archives unpack, hold trainclasses.txt, valclasses.txt and
testclasses.txt, a class name per line (100/50/50 and 62/20/20), and text_c10/CLASS/IMAGE.txt with ten captions, one per
line. The images come from their own authors: CUB_200_2011/images/CLASS/IMAGE.jpg, and jpg/IMAGE.jpg without a folder
per class. A class's label is the number in its name (`001.Black_footed_Albatross`, `class_00001`).
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rasa.config.run import Data
from rasa.data.annotated import Row, Source, caption_faults
from rasa.data.files import path_fault
from rasa.data.locate import annotation_path, image_folder
from rasa.errors import ResourceError

SPLITS = ("train", "val", "test")
TEXTS = "text_c10"
USUAL = 10  # captions per image
FOLDER_PER_CLASS = {"cub": True, "flowers": False}


def read(data: Data) -> Source:
    """What the folder of captions says. Raises ResourceError where there is nothing to go through."""
    folder = annotation_path(data, folder=True)
    image_root = image_folder(data)
    if not (folder / TEXTS).is_dir():
        raise ResourceError(f"{folder}: has no folder {TEXTS}; {_expected(folder)}")
    source = Source(folder, image_root, [], {}, [], b"", needs=SPLITS, unit="image")
    content = bytearray()
    classes = _classes(source, content)
    for name, (split, place) in classes.items():
        _read_class(source, content, name, split, place, data)
    if other := sum(len(row.captions) != USUAL for row in source.rows):
        source.notes.append(f"{other} images have not {USUAL} captions; all are kept")
    return replace(source, content=bytes(content))


def _classes(source: Source, content: bytearray) -> dict[str, tuple[str, str]]:
    """Class names, each with its split and the place that says so. Raises ResourceError if a list is missing."""
    classes: dict[str, tuple[str, str]] = {}
    labels: dict[int, str] = {}
    for split in SPLITS:
        file = source.file / f"{split}classes.txt"
        for number, line in enumerate(_read(file, content).split("\n"), 1):
            name, place = line.strip(), f"{file.name} line {number}"
            if not name:
                continue
            fault = _class_fault(name, split, classes, labels)
            if fault is None:
                classes[name], labels[_label(name)] = (split, place), name
            else:
                source.faults.append(f"{source.file}: {place}: {fault}")
    return classes


def _class_fault(name: str, split: str, classes: dict[str, tuple[str, str]], labels: dict[int, str]) -> str | None:
    if fault := path_fault(name):
        return f"class {fault}"
    if "/" in name or "\\" in name:
        return f"class {name!r} names a folder in a folder; expected one class name per line"
    if name in classes:
        before, where = classes[name]
        return f"class {name} is in {split}, but {where} has it in {before}; give each class one split"
    if not re.search(r"\d", name):
        return f"class {name!r} has no number; expected names such as 001.Black_footed_Albatross or class_00001"
    if _label(name) in labels:
        return f"class {name} has the number of {labels[_label(name)]}; number the classes anew"
    return None


def _label(name: str) -> int:
    """The first number in a class's name, of at most 18 digits."""
    found = re.search(r"\d{1,18}", name)
    assert found is not None
    return int(found[0])


def _read_class(source: Source, content: bytearray, name: str, split: str, place: str, data: Data) -> None:
    folder = source.file / TEXTS / name
    files = sorted(folder.glob("*.txt"))
    if not files:
        state = "holds no .txt" if folder.is_dir() else "does not exist"
        source.faults.append(f"{source.file}: {place}: {TEXTS}/{name} {state}; {_expected(source.file)}")
    for file in files:
        image = f"{name}/{file.stem}.jpg" if FOLDER_PER_CLASS[data.format] else f"{file.stem}.jpg"
        about = f"{TEXTS}/{name}/{file.name}"
        if fault := path_fault(image):
            source.faults.append(f"{source.file}: {about}: image {fault}")
            continue
        captions = [line.strip() for line in _read(file, content).split("\n") if line.strip()]
        found = list(_faults_of(image, about, captions, source, data))
        source.faults.extend(f"{source.file}: {about}: {fault}" for fault in found)
        source.paths.setdefault(image, about)
        if not found:
            source.rows.append(Row(image, captions, _label(name), split))


def _faults_of(image: str, about: str, captions: list[str], source: Source, data: Data) -> Iterator[str]:
    if before := source.paths.get(image):
        yield f"its image {image} is also that of {before}; give each image one file of captions"
    yield from caption_faults(captions, data.max_words)


def _read(file: Path, content: bytearray) -> str:
    """The file's text; a few published captions hold bytes that are no letters. Raises ResourceError."""
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        raise ResourceError(f"{file}: is missing; {_expected(file.parent)}") from None
    except OSError as error:
        raise ResourceError(f"{file}: cannot be read ({error.strerror}); check its permissions") from None
    content.extend(f"{file.parent.name}/{file.name}\0{len(raw)}\0".encode("utf-8", "surrogateescape") + raw)
    return raw.decode("utf-8", "replace")


def _expected(folder: Path) -> str:
    lists = ", ".join(f"{split}classes.txt" for split in SPLITS)
    return f"expected {folder.name} as Reed et al. publish it: {lists} and {TEXTS}/CLASS/IMAGE.txt"
