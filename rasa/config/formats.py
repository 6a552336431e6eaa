"""The layouts that can be read: what marks each on disk, how it is published, and how it is evaluated.

Everything that follows from a format alone stands here, so that it needs no field of its own in a config and moves
no run id.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Protocol = Literal["text-to-image", "both-ways", "classes"]


@dataclass(frozen=True)
class Format:
    """`reader`: the module of rasa/data/readers/ whose `read` takes it; `annotations`: files or folders (patterns) of
    which one marks it; `defaults`: fields of `data` that it sets.

    `protocol`: how it is evaluated (rasa/evaluation/protocols.py). `own_classes`: every image is a class of its own, so
    that there are no weak pairs (A.3). `crops`: training images are cropped at random (A.3).
    """

    reader: str
    annotations: tuple[str, ...]
    protocol: Protocol = "text-to-image"
    own_classes: bool = False
    crops: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)


COARSE: dict[str, Any] = {"protocol": "both-ways", "own_classes": True}
FINE: dict[str, Any] = {"protocol": "classes", "crops": True}
SHORT = {"max_words": 30, "max_tokens": 30}  # Appendix A.3, of CUB and Flowers

FORMATS: dict[str, Format] = {
    "cuhk-pedes": Format("pedes", ("reid_raw.json",)),
    "icfg-pedes": Format("pedes", ("ICFG-PEDES.json", "ICFG_PEDES.json")),  # its authors' README has the second
    "rstpreid": Format("pedes", ("data_captions.json",)),
    "flickr30k": Format(
        "karpathy", ("dataset_flickr30k.json",), **COARSE, defaults={"image_folder": "flickr30k-images"}
    ),
    "coco": Format("karpathy", ("dataset_coco.json",), **COARSE, defaults={"image_folder": "."}),
    "cub": Format("reed", ("cvpr2016_cub",), **FINE, defaults={"image_folder": "CUB_200_2011/images"} | SHORT),
    "flowers": Format("reed", ("cvpr2016_flowers",), **FINE, defaults={"image_folder": "jpg"} | SHORT),
    "table": Format("own_folder", ("captions.csv", "captions.jsonl"), defaults={"image_folder": "."}),
    "imagefolder": Format(
        "own_folder",
        tuple(f"{folder}metadata.{suffix}" for folder in ("train/", "test/", "") for suffix in ("csv", "jsonl")),
        defaults={"image_folder": "."},
    ),
    "datasets": Format(
        "arrow",
        (
            "dataset_dict.json",
            *(f"{folder}{split}-*.parquet" for split in ("train", "test") for folder in ("data/", "")),
        ),
        defaults={"image_folder": "unpacked-images"},
    ),
}
