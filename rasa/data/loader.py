"""Batches. Shape suffixes: B pairs of a batch, T captions of the split, H and W pixels, L tokens.

A pass goes once through all pairs. Every draw of a pass is made for the whole split at its start, each kind from its
own generator of (seed, kind, pass): the number of workers, the step at which it is entered and the other draws change
nothing. An epoch is a pass, or `max_steps` of its steps: then the next epoch goes on where it ended.
"""

import ctypes
import math
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from rasa.config.formats import FORMATS
from rasa.config.run import Data
from rasa.data.dataset import Split
from rasa.data.image_cache import cached_images
from rasa.data.pairs import draw_captions, has_weak_pairs
from rasa.data.tokenizer import Encoded, Tokenizer, Tokens
from rasa.data.transforms import Crops, ImageFault, decode, enlarged
from rasa.draws import generator

KEPT_BYTES = 512 * 2**20
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
GRACE = 5

Item = TypeVar("Item")


class Batch(NamedTuple):
    """B training pairs. `matched` is the caption drawn for matching and relation, None if nobody asked for it."""

    images: Tensor  # uint8 [B, 3, H, W], as decoded: the two views differ by their flip, and their crop if there is one
    flip: Tensor  # bool [2, B]: whether the first and the second view are mirrored
    annotated: Tokens  # the caption written for the image
    matched: Tokens | None
    weak: Tensor  # bool [B]: whether (image, matched) is a weak pair
    identity: Tensor  # int64 [B]
    crops: Crops | None = None  # where the views are cut out of the images, for formats whose images are cropped


class TrainingLoader:
    """The training pairs of `split`, shuffled anew each pass, in batches of `batch_size`.

    An incomplete last batch is dropped; a split smaller than one batch gives a single short batch of all pairs.
    `positives` None: no caption is drawn for matching. `truncate`: cut captions at data.max_tokens tokens. `cache`: a
    folder in which decoded images may be kept up to data.image_cache_gib; a line about it goes to `notify`, and a
    damaged image raises ImageFault here. `prefetch`: make batches in a background thread, in pinned memory if there is
    a GPU; it pays where the trainer's CPU would wait otherwise. Neither changes a batch. `process` of `processes`: of
    each batch only the rows that fall to one of several processes, whose captions keep the batch's length.
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
        cache: Path | None = None,
        prefetch: bool = False,
        notify: Callable[[str], None] = lambda line: None,
        process: int = 0,
        processes: int = 1,
    ):
        self.split, self.positives, self.seed = split, positives, seed
        self.p_weak, self.weak_pool, self.weak_label = p_weak, weak_pool, weak_label
        self.flip_probability = data.flip_probability
        self.batch_size = min(batch_size, len(split.captions))
        each = self.batch_size // processes
        self._rows = slice(process * each, (process + 1) * each) if processes > 1 else slice(None)
        self.steps_per_pass = len(split.captions) // self.batch_size
        self.steps_per_epoch = min(self.steps_per_pass, max_steps or self.steps_per_pass)
        self._captions = encode_captions(tokenizer, split.captions, data.max_tokens if truncate else None)
        self._caption_images = torch.from_numpy(split.caption_images)
        self._identities = torch.from_numpy(split.caption_identities)
        self._prefetch = prefetch
        self._crop = data.image_size if FORMATS[data.format].crops else None
        self._images = ImageSource(
            split.image_files,
            image_root,
            data.image_size if self._crop is None else enlarged(self._crop),
            data.workers,
            cache=cache,
            cache_gib=data.image_cache_gib,
            notify=notify,
        )

    @property
    def has_weak_pairs(self) -> bool:
        """Whether some caption drawn for matching can make a weak pair."""
        return has_weak_pairs(self.split, self.weak_label)

    @property
    def longest_caption(self) -> int:
        """Tokens of the longest training caption, as it enters the model."""
        return int(self._captions.lengths().max())

    def order(self, number: int) -> Tensor:
        """The captions of pass `number` (from 0) by their numbers in the split, in the order of its batches."""
        return torch.cat(self._order(number))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `epoch` (from 0), from step `start` on. Raises ImageFault at a damaged image."""
        batches = self._batches(epoch, start)
        return ahead(batches, pin=torch.cuda.is_available()) if self._prefetch else batches

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        step, end = epoch * self.steps_per_epoch + start, (epoch + 1) * self.steps_per_epoch
        while step < end:
            number, first = divmod(step, self.steps_per_pass)
            last = min(self.steps_per_pass, first + end - step)
            yield from self._of_pass(number, first, last)
            step += last - first

    def _of_pass(self, number: int, first: int, last: int) -> Iterator[Batch]:
        """The batches of pass `number` (from 0) from step `first` up to `last`."""
        samples = self._order(number)[first:last]
        flips, matched, weak = self._flips(number), *self._pairs(number)
        crops = self._crops(number)
        own = [index[self._rows] for index in samples]
        images = self._images.batches([self._caption_images[index] for index in own])
        for whole, index, decoded in zip(samples, own, images, strict=True):
            yield Batch(
                images=decoded,
                flip=flips[:, index],
                annotated=self._texts(whole),
                matched=None if matched is None else self._texts(matched[whole]),
                weak=weak[index],
                identity=self._identities[index],
                crops=None if crops is None else crops.take(index),
            )

    def _texts(self, captions_B: Tensor) -> Tokens:
        """The own rows of a batch's captions."""
        tokens = self._captions.take(captions_B)
        return Tokens(tokens.ids[self._rows], tokens.mask[self._rows])

    def _order(self, number: int) -> list[Tensor]:
        """Sample indices [B] of each step of a pass."""
        order = torch.randperm(len(self.split.captions), generator=generator(self.seed, "order", number))
        return list(order[: self.steps_per_pass * self.batch_size].split(self.batch_size))

    def _flips(self, number: int) -> Tensor:
        """Whether each sample is mirrored in each view, bool [2, T]."""
        drawn = torch.rand(2, len(self.split.captions), generator=generator(self.seed, "flip", number))
        return drawn < self.flip_probability

    def _crops(self, number: int) -> Crops | None:
        """Where each sample is cropped in each view, uniformly over the room that there is; None without crops."""
        if self._crop is None:
            return None
        room = torch.tensor(enlarged(self._crop)) - torch.tensor(self._crop)
        drawn = torch.rand(2, len(self.split.captions), 2, generator=generator(self.seed, "crop", number))
        return Crops((drawn * (room + 1)).long().clamp_(max=room), *self._crop)

    def _pairs(self, number: int) -> tuple[Tensor | None, Tensor]:
        """The caption drawn for each sample [T], None without matching, and whether the pair is weak [T]."""
        if self.positives is None:
            return None, torch.zeros(len(self.split.captions), dtype=torch.bool)
        draws = generator(self.seed, "captions", number)
        return draw_captions(self.split, self.positives, self.p_weak, self.weak_pool, self.weak_label, draws)


def encode_captions(tokenizer: Tokenizer, captions: Sequence[str], max_length: int | None) -> Encoded:
    """All captions of a split, tokenized once; `.take(index)` pads a batch. Evaluation gives data.max_tokens."""
    return tokenizer.encode_all(captions, max_length)


def image_batches(
    files: Sequence[str],
    image_root: Path,
    size: tuple[int, int],
    batch_size: int,
    workers: int,
    cache: Path | None = None,
    cache_gib: float = math.inf,
    prefetch: bool = False,
    notify: Callable[[str], None] = lambda line: None,
) -> Iterable[Tensor]:
    """`files` in their order, `batch_size` at a time (the last may be short): uint8 [B, 3, H, W], each time anew.

    With `cache` they are decoded here, once, and a damaged one raises ImageFault here; else at each iteration.
    """
    source = ImageSource(files, image_root, size, workers, keep=False, cache=cache, cache_gib=cache_gib, notify=notify)
    return _InOrder(source, list(torch.arange(len(files)).split(batch_size)) if files else [], prefetch)


@dataclass(frozen=True)
class _InOrder:
    source: "ImageSource"
    indices: list[Tensor]
    prefetch: bool

    def __iter__(self) -> Iterator[Tensor]:
        batches = self.source.batches(self.indices)
        return ahead(batches, pin=torch.cuda.is_available()) if self.prefetch else batches


class ImageSource:
    """Decoded images of a split by index: from the cache, or decoded in worker processes, or in this one.

    In this one they stay in memory if they fit and `keep` is set. `cache` is the folder that holds the cache, of at
    most `cache_gib`; it is built here if need be, so a damaged image raises ImageFault here. A line about what is built
    or why it cannot be goes to `notify`.
    """

    def __init__(
        self,
        files: Sequence[str],
        image_root: Path,
        size: tuple[int, int],
        workers: int,
        keep: bool = True,
        cache: Path | None = None,
        cache_gib: float = math.inf,
        notify: Callable[[str], None] = lambda line: None,
    ):
        self.files = _Files(files, image_root, size)
        self.workers = workers
        self._cached = (
            None if cache is None else cached_images(files, image_root, size, cache, cache_gib, workers, notify)
        )
        keep = keep and self._cached is None and len(files) * 3 * size[0] * size[1] <= KEPT_BYTES and workers == 0
        self._kept = torch.empty(len(files), 3, *size, dtype=torch.uint8) if keep else None
        self._present = torch.zeros(len(files), dtype=torch.bool)

    def batches(self, indices: list[Tensor]) -> Iterator[Tensor]:
        """The images `indices[k]` [B], for each k: uint8 [B, 3, H, W], each a copy. Raises ImageFault."""
        if self._cached is None and self.workers and indices:
            return self._from_workers(indices)
        return map(self._in_process, indices)

    def _in_process(self, index: Tensor) -> Tensor:
        if self._cached is not None:
            return torch.from_numpy(self._cached.take(index.numpy(), axis=0))
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
            worker_init_fn=partial(_begin_worker, os.getpid()),
            generator=torch.Generator(),  # its own, or the loader would advance torch's global one
        )
        for batch in loader:
            if isinstance(batch, ImageFault):
                raise batch
            yield batch


def ahead(batches: Iterable[Item], depth: int = 2, pin: bool = False) -> Iterator[Item]:
    """`batches` in their order, up to `depth` of them made ahead by a background thread.

    `pin`: their tensors lie in pinned memory, from which a GPU copies while it computes. What the making of a batch
    raises is raised in that batch's place. The thread ends with this iterator, and no later than the interpreter.
    """
    source, end = iter(batches), object()

    def make() -> Any:
        batch = next(source, end)
        return _pinned(batch) if pin else batch

    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        pending = deque(thread.submit(make) for _ in range(depth))
        try:
            while (batch := pending.popleft().result()) is not end:
                pending.append(thread.submit(make))
                yield batch
        finally:
            thread.shutdown(cancel_futures=True)


def _pinned(value: Any) -> Any:
    """A tensor, or a NamedTuple of such and of others, in pinned memory."""
    if isinstance(value, Tensor):
        return value.pin_memory()
    return type(value)(*map(_pinned, value)) if isinstance(value, tuple) else value


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


def _begin_worker(trainer: int, worker: int) -> None:
    _outlive_the_first_signal()
    _die_with(trainer)


def _die_with(trainer: int) -> None:
    """A worker whose trainer is killed must not outlive it.

    It has inherited the run's lock, and would hold it for seconds. Linux alone can be asked to prevent that (prctl,
    PR_SET_PDEATHSIG); elsewhere torch's own look at the parent ends a worker.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != trainer:  # it died before it could be asked
            os._exit(0)


def _outlive_the_first_signal() -> None:
    """A terminal or a scheduler signals all processes at once, and the trainer still has to finish its step.

    So SIGINT and SIGHUP are the trainer's alone, and SIGTERM ends a worker after GRACE seconds, a second one at once.
    It ends with success, since torch interrupts the trainer when a worker fails.
    """

    def leave_later(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, lambda number, frame: os._exit(0))
        signal.alarm(GRACE)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave_later)
