"""What a data set is once it is read. Shape suffixes: I images, T captions of one split."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Images, captions and whom they show. A training sample is one caption with its image, so T samples.

    `image_files` are relative to the image folder, `captions` are cleaned, `caption_images` [T] points into the
    images, identities are the published labels.
    """

    name: str
    image_files: tuple[str, ...]
    image_identities: IntArray
    captions: tuple[str, ...]
    caption_images: IntArray

    @cached_property
    def caption_identities(self) -> IntArray:
        """Whom each caption describes [T]."""
        return self.image_identities[self.caption_images]

    def order(self) -> dict[str, str]:
        """SHA-256 of the images' files and of the captions, a line each, in order: what numbers of either mean."""
        lines = {"images": self.image_files, "captions": self.captions}
        return {name: sha256("\n".join(of).encode()).hexdigest() for name, of in lines.items()}

    @cached_property
    def caption_texts(self) -> IntArray:
        """A number per distinct caption string [T]: two captions read the same iff their numbers are equal."""
        numbers: dict[str, int] = {}
        each = (numbers.setdefault(caption, len(numbers)) for caption in self.captions)
        return np.fromiter(each, np.int64, len(self.captions))


def query_identities(protocol: str, split: Split) -> IntArray:
    """Whom each query of the ranking describes: each caption's identity, or under `classes` the classes."""
    return np.unique(split.image_identities) if protocol == "classes" else split.caption_identities


@dataclass(frozen=True, eq=False)
class Dataset:
    """The splits `train`, `val` and `test` of one data set.

    `notes` are sentences that a report must repeat (e.g. how a missing validation split was taken); `digest`
    names the content that was read. `target`: the data set whose test split a run is tested on instead of its own.
    """

    name: str
    image_root: Path
    splits: dict[str, Split]
    notes: tuple[str, ...]
    digest: str
    target: "Dataset | None" = None

    @property
    def tested(self) -> "Dataset":
        """The data set whose test split a run is tested on."""
        return self.target or self

    def sizes(self) -> dict[str, dict[str, int]]:
        """Images, captions and identities of what a run trains, selects and is tested on."""
        return {
            name: {
                "images": len(split.image_files),
                "captions": len(split.captions),
                "identities": len(np.unique(split.image_identities)),
            }
            for name, split in {**self.splits, "test": self.tested.splits["test"]}.items()
        }
