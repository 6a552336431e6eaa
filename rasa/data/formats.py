"""The layouts that can be read: what marks each on disk, how it is published, and how it is evaluated.

Everything that follows from a format alone stands here, so that it needs no field of its own in a config and moves
no run id.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rasa.errors import ResourceError, SpecError

if TYPE_CHECKING:
    from rasa.config import Data

Protocol = Literal["text-to-image", "both-ways", "classes"]


@dataclass(frozen=True)
class Format:
    """`annotations`: files or folders (patterns) of which one marks the format; `defaults`: fields of `data` it sets.

    `protocol`: how it is evaluated (rasa/retrieval/protocols.py). `own_classes`: every image is a class of its own, so
    that there are no weak pairs (A.3). `crops`: training images are cropped at random (A.3).
    """

    annotations: tuple[str, ...]
    protocol: Protocol = "text-to-image"
    own_classes: bool = False
    crops: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)


COARSE: dict[str, Any] = {"protocol": "both-ways", "own_classes": True}
FINE: dict[str, Any] = {"protocol": "classes", "crops": True}
SHORT = {"max_words": 30, "max_tokens": 30}  # Appendix A.3, of CUB and Flowers

FORMATS: dict[str, Format] = {
    "cuhk-pedes": Format(("reid_raw.json",)),
    "icfg-pedes": Format(("ICFG-PEDES.json",)),
    "rstpreid": Format(("data_captions.json",)),
    "flickr30k": Format(("dataset_flickr30k.json",), **COARSE, defaults={"image_folder": "flickr30k-images"}),
    "coco": Format(("dataset_coco.json",), **COARSE, defaults={"image_folder": "."}),
    "cub": Format(("cvpr2016_cub",), **FINE, defaults={"image_folder": "CUB_200_2011/images"} | SHORT),
    "flowers": Format(("cvpr2016_flowers",), **FINE, defaults={"image_folder": "jpg"} | SHORT),
    "table": Format(("captions.csv", "captions.jsonl"), defaults={"image_folder": "."}),
    "imagefolder": Format(
        tuple(f"{folder}metadata.{suffix}" for folder in ("train/", "test/", "") for suffix in ("csv", "jsonl")),
        defaults={"image_folder": "."},
    ),
    "datasets": Format(
        (
            "dataset_dict.json",
            *(f"{folder}{split}-*.parquet" for split in ("train", "test") for folder in ("data/", "")),
        ),
        defaults={"image_folder": "unpacked-images"},
    ),
}


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
    kind = "folder" if folder else "file"
    raise ResourceError(f"{path}: the annotation {kind} of format {data.format} is missing; {remedy}")


def image_folder(data: "Data") -> Path:
    """The folder below which all images lie. Raises ResourceError if it is not there."""
    folder = data_root(data) / data.image_folder
    if not folder.is_dir():
        raise ResourceError(f"{folder}: the image folder is missing; unpack the images there or set data.image_folder")
    return folder
