"""Where a data set's files lie in the folder that a user gave: its annotations, images, or what is there instead."""

from pathlib import Path
from typing import TYPE_CHECKING

from rasa.config.formats import FORMATS, Format
from rasa.errors import ResourceError, SpecError

if TYPE_CHECKING:
    from rasa.config.run import Data

WITHOUT_SPLITS = "caption_all.json"  # that CUHK-PEDES is also handed out with
ASK_FOR_SPLITS = (
    "CUHK-PEDES's captions without their splits, so nobody can tell train from test; "
    "take reid_raw.json, which holds both and is part of the same data set (docs/get-the-data.md)"
)


def detect_format(root: Path) -> str | None:
    """The format whose annotations lie in `root`; None if none does."""
    return next((name for name, format in FORMATS.items() if _mark(root, format) is not None), None)


def has_annotations(root: Path, format: str) -> bool:
    """Whether the published annotations of that format lie in `root`."""
    return _mark(root, FORMATS[format]) is not None


def _mark(root: Path, format: Format) -> Path | None:
    return next((path for name in format.annotations for path in sorted(root.glob(name))), None)


def data_root(data: "Data") -> Path:
    """The data set's folder. Raises SpecError if none is given, ResourceError if it is none."""
    if data.root is None:
        raise SpecError("data.root is not set; give the data set's folder, e.g. -o data.root=DIR")
    root = Path(data.root)
    if not root.is_dir():
        state = "is not a folder" if root.exists() else "does not exist"
        wanted = data.annotations or " or ".join(FORMATS[data.format].annotations)
        raise ResourceError(f"{root}: {state}; set data.root to the folder that holds {wanted}")
    return root


def annotation_path(data: "Data", folder: bool = False) -> Path:
    """The annotation file (`folder`: folder) of the data set. Raises ResourceError, naming what lies there instead."""
    root, format = data_root(data), FORMATS[data.format]
    path = root / data.annotations if data.annotations else _mark(root, format) or root / format.annotations[0]
    if path.is_dir() if folder else path.is_file():
        return path
    remedy, other = "put it there or set data.annotations", detect_format(root)
    if other is not None and other != data.format:
        found = _mark(root, FORMATS[other])
        assert found is not None
        remedy = f"but there is {found.relative_to(root)}, which looks like {other}: set data.format to {other}"
    elif data.format == "cuhk-pedes" and (root / WITHOUT_SPLITS).is_file():
        remedy = f"{WITHOUT_SPLITS} is there, but it has {ASK_FOR_SPLITS}"
    kind = "folder" if folder else "file"
    raise ResourceError(f"{path}: the annotation {kind} of format {data.format} is missing; {remedy}")


def image_folder(data: "Data") -> Path:
    """The folder below which all images lie. Raises ResourceError if it is not there."""
    folder = data_root(data) / data.image_folder
    if not folder.is_dir():
        raise ResourceError(f"{folder}: the image folder is missing; unpack the images there or set data.image_folder")
    return folder
