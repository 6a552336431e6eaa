"""Batches. Shape suffixes: B pairs of a batch, T captions of the split, H and W pixels, L tokens.

Every draw of an epoch is made for the whole split at its start, each kind from its own generator of (seed, kind,
epoch): the number of workers, the step at which an epoch is entered and the other draws change nothing.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from rasa.config import Data
from rasa.data.pairs import draw_captions
from rasa.data.table import Split
from rasa.data.tokens import Encoded, Tokenizer, Tokens
from rasa.data.transforms import ImageFault, decode
from rasa.draws import generator

CACHE_BYTES = 512 * 2**20
GRACE = 5


class Batch(NamedTuple):
    """B training pairs. `matched` is the caption drawn for matching and relation, None if nobody asked for it."""

    images: Tensor  # uint8 [B, 3, H, W], as decoded: the two views differ by their flip alone
    flip: Tensor  # bool [2, B]: whether the first and the second view are mirrored
    annotated: Tokens  # the caption written for the image
    matched: Tokens | None
    weak: Tensor  # bool [B]: whether (image, matched) is a weak pair
    identity: Tensor  # int64 [B]


class TrainingLoader:
    """The training pairs of `split`, shuffled anew each epoch, in batches of `batch_size`.

    An incomplete last batch is dropped; a split smaller than one batch gives a single short batch of all pairs.
    `positives` None: no caption is drawn for matching. `truncate`: cut captions at data.max_tokens tokens.
    """

    def __init__(
        self,
        split: Split,
        image_root: Path,
        tokenizer: Tokenizer,
        data: Data,
        positives: str | None,
        p_weak: float,
        weak_pool: str,
        weak_label: str,
        truncate: bool,
        batch_size: int,
        max_steps: int | None,
        seed: int,
    ):
        self.split, self.positives, self.seed = split, positives, seed
        self.p_weak, self.weak_pool, self.weak_label = p_weak, weak_pool, weak_label
        self.flip_probability = data.flip_probability
        self.batch_size = min(batch_size, len(split.captions))
        steps = len(split.captions) // self.batch_size
        self.steps_per_epoch = steps if max_steps is None else min(steps, max_steps)
        self._captions = encode_captions(tokenizer, split.captions, data.max_tokens if truncate else None)
        self._caption_images = torch.from_numpy(split.caption_images)
        self._identities = torch.from_numpy(split.caption_identities)
        self._images = ImageSource(split.image_files, image_root, data.image_size, data.workers)

    @property
    def longest_caption(self) -> int:
        """Tokens of the longest training caption, as it enters the model."""
        return int(self._captions.lengths().max())

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `epoch` (from 0), from step `start` on. Raises ImageFault at a damaged image."""
        samples = self._order(epoch)[start:]
        flips, matched, weak = self._flips(epoch), *self._pairs(epoch)
        images = self._images.batches([self._caption_images[index] for index in samples])
        for index, decoded in zip(samples, images, strict=True):
            yield Batch(
                images=decoded,
                flip=flips[:, index],
                annotated=self._captions.take(index),
                matched=None if matched is None else self._captions.take(matched[index]),
                weak=weak[index],
                identity=self._identities[index],
            )

    def _order(self, epoch: int) -> list[Tensor]:
        """Sample indices [B] of each step."""
        order = torch.randperm(len(self.split.captions), generator=generator(self.seed, "order", epoch))
        return list(order[: self.steps_per_epoch * self.batch_size].split(self.batch_size))

    def _flips(self, epoch: int) -> Tensor:
        """Whether each sample is mirrored in each view, bool [2, T]."""
        drawn = torch.rand(2, len(self.split.captions), generator=generator(self.seed, "flip", epoch))
        return drawn < self.flip_probability

    def _pairs(self, epoch: int) -> tuple[Tensor | None, Tensor]:
        """The caption drawn for each sample [T], None without matching, and whether the pair is weak [T]."""
        if self.positives is None:
            return None, torch.zeros(len(self.split.captions), dtype=torch.bool)
        draws = generator(self.seed, "captions", epoch)
        return draw_captions(self.split, self.positives, self.p_weak, self.weak_pool, self.weak_label, draws)


def encode_captions(tokenizer: Tokenizer, captions: Sequence[str], max_length: int | None) -> Encoded:
    """All captions of a split, tokenized once; `.take(index)` pads a batch. Evaluation gives data.max_tokens."""
    return tokenizer.encode_all(captions, max_length)


def image_batches(
    files: Sequence[str], image_root: Path, size: tuple[int, int], batch_size: int, workers: int
) -> Iterator[Tensor]:
    """`files` in their order, `batch_size` at a time (the last may be short): uint8 [B, 3, H, W]."""
    source = ImageSource(files, image_root, size, workers, keep=False)
    starts = range(0, len(files), batch_size)
    return source.batches([torch.arange(at, min(at + batch_size, len(files))) for at in starts])


class ImageSource:
    """Decoded images of a split by index, from worker processes, or from memory if they fit and there are none."""

    def __init__(self, files: Sequence[str], image_root: Path, size: tuple[int, int], workers: int, keep: bool = True):
        self.files = _Files(files, image_root, size)
        self.workers = workers
        fits = len(files) * 3 * size[0] * size[1] <= CACHE_BYTES
        self._kept = torch.empty(len(files), 3, *size, dtype=torch.uint8) if keep and fits and workers == 0 else None
        self._present = torch.zeros(len(files), dtype=torch.bool)

    def batches(self, indices: list[Tensor]) -> Iterator[Tensor]:
        """The images `indices[k]` [B], for each k: uint8 [B, 3, H, W]. Raises ImageFault."""
        if self.workers and indices:
            return self._from_workers(indices)
        return map(self._in_process, indices)

    def _in_process(self, index: Tensor) -> Tensor:
        if self._kept is None:
            return torch.stack([self.files[image] for image in index.tolist()])
        for missing in index[~self._present[index]].unique().tolist():
            self._kept[missing] = self.files[missing]
            self._present[missing] = True
        return self._kept[index]

    def _from_workers(self, indices: list[Tensor]) -> Iterator[Tensor]:
        loader = DataLoader(
            self.files,
            batch_sampler=[index.tolist() for index in indices],
            num_workers=self.workers,
            collate_fn=_collate,
            worker_init_fn=_outlive_the_first_signal,
            generator=torch.Generator(),  # its own, or the loader would advance torch's global one
        )
        for batch in loader:
            if isinstance(batch, ImageFault):
                raise batch
            yield batch


class _Files(TorchDataset[Tensor]):
    """Image files decoded on demand. A fault raised inside a worker would arrive as a traceback, so see `_collate`."""

    def __init__(self, files: Sequence[str], image_root: Path, size: tuple[int, int]):
        self.files, self.image_root, self.size = files, Path(image_root), size

    def __getitem__(self, index: int) -> Tensor:
        return decode(self.image_root / self.files[index], self.size)

    def __getitems__(self, indices: list[int]) -> list[Tensor] | ImageFault:
        try:
            return [self[index] for index in indices]
        except ImageFault as fault:
            return fault


def _collate(images: list[Tensor] | ImageFault) -> Tensor | ImageFault:
    return images if isinstance(images, ImageFault) else torch.stack(images)


def _outlive_the_first_signal(worker: int) -> None:
    """A terminal or a scheduler signals all processes at once, and the trainer still has to finish its step.

    So SIGINT is the trainer's alone, and SIGTERM ends a worker after GRACE seconds, a second one at once. It ends
    with success, since torch interrupts the trainer when a worker fails.
    """

    def leave_later(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, lambda number, frame: os._exit(0))
        signal.alarm(GRACE)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave_later)
