"""Strong and weak pairs (paper 3.2, p-ITM; released code: dataset/ps_dataset.py 34-49). Shape suffix: T captions.

A sample is a caption with its image. What is drawn here is the caption that matching and relation detection see
in place of the sample's own; the image always stays.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rasa.data.dataset import IntArray, Split


def draw_captions(
    split: Split, positives: str, p_weak: float, weak_pool: str, weak_label: str, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """For every caption of `split` at once: the caption drawn for it, int64 [T], and whether it makes a weak pair [T].

    `positives`: `annotated` the own caption; `uniform` any caption of the identity, own included; `probabilistic`
    with probability `p_weak` a caption of the pool, else the own one.
    `weak_pool`: `identity` is all captions of the identity, own included (so the share of weak pairs stays below
    p_weak); `other-images` those written for its other images, and where there are none the own one.
    `weak_label`: `caption` calls a pair weak if the two captions, as cleaned, read differently; `image` if the drawn
    one was written for another image.

    The same two uniform numbers per sample are used whatever the arguments, so that rows differ in nothing else.
    Raises ValueError for any other name.
    """
    gate, pick = torch.rand(2, len(split.captions), dtype=torch.float64, generator=generator).numpy()
    own = np.arange(len(split.captions))
    if positives == "annotated":
        drawn = own
    elif positives == "uniform":
        drawn = _of_identity(split, pick)
    elif positives == "probabilistic":
        drawn = np.where(gate < p_weak, _from_pool(split, weak_pool, pick), own)
    else:
        raise ValueError(f"positives {positives!r} is none of annotated, uniform, probabilistic")
    return torch.from_numpy(drawn), torch.from_numpy(_weak(split, weak_label, drawn))


def has_weak_pairs(split: Split, weak_label: str) -> bool:
    """Whether some identity has two captions that read differently, or under `image` two of different images."""
    what = split.caption_images if weak_label == "image" else split.caption_texts
    kinds = np.unique(np.stack([split.caption_identities, what]), axis=1)
    return kinds.shape[1] > len(np.unique(split.caption_identities))


def _from_pool(split: Split, weak_pool: str, pick: NDArray[np.float64]) -> IntArray:
    if weak_pool == "identity":
        return _of_identity(split, pick)
    if weak_pool == "other-images":
        return _of_other_images(split, pick)
    raise ValueError(f"weak_pool {weak_pool!r} is none of identity, other-images")


def _weak(split: Split, weak_label: str, drawn: IntArray) -> NDArray[np.bool_]:
    if weak_label == "caption":
        return split.caption_texts[drawn] != split.caption_texts
    if weak_label == "image":
        return split.caption_images[drawn] != split.caption_images
    raise ValueError(f"weak_label {weak_label!r} is none of caption, image")


def _of_identity(split: Split, pick: NDArray[np.float64]) -> IntArray:
    """A caption of the same identity, by `pick` [T] in [0, 1)."""
    order = np.argsort(split.caption_identities, kind="stable")
    start, count = _groups(split.caption_identities[order])
    drawn = np.empty_like(order)
    drawn[order] = order[start + _index(pick[order], count)]
    return drawn


def _of_other_images(split: Split, pick: NDArray[np.float64]) -> IntArray:
    """A caption of the same identity but another image, by `pick` [T] in [0, 1); the own one if there is none."""
    order = np.lexsort((split.caption_images, split.caption_identities))
    start, count = _groups(split.caption_identities[order])
    image_start, image_count = _groups(split.caption_images[order])
    others = count - image_count
    # The image's own captions lie side by side inside the identity's: number the others as if they were not there.
    place = start + _index(pick[order], others)
    place += np.where(place >= image_start, image_count, 0)
    drawn = np.empty_like(order)
    drawn[order] = np.where(others > 0, order[np.minimum(place, len(order) - 1)], order)
    return drawn


def _groups(ordered: IntArray) -> tuple[IntArray, IntArray]:
    """For each entry of `ordered`, in which equal values lie side by side: where its group starts, and its size."""
    _, first, group, count = np.unique(ordered, return_index=True, return_inverse=True, return_counts=True)
    return first[group], count[group]


def _index(pick: NDArray[np.float64], count: IntArray) -> IntArray:
    """Uniform in 0 ... count - 1."""
    return np.minimum((pick * count).astype(np.int64), np.maximum(count - 1, 0))
