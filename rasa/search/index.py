"""The index of a folder of images: features by content, made once, brought up to date by what has changed.

It lies in `.rasa/index` inside the folder as a checkpoint does (rasa/weights/folder.py): tensors in safetensors, the
record in JSON, both hashed, replaced by one rename. Shape suffixes: N images, E embedding width, M image tokens.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor

from rasa.callbacks import Notify
from rasa.config.run import Config
from rasa.data.transforms import ImageFault, decode
from rasa.errors import ResourceError
from rasa.evaluation.rank import encode_images, retrieval_mode
from rasa.lock import Lock
from rasa.search.encoder import Encoder
from rasa.search.folder import digest_of, list_images, shown
from rasa.weights.folder import load_checkpoint, save_checkpoint

STORE, INDEX, LOCK = ".rasa", "index", "index.lock"
KIND = "images searched by sentences"
SAVED_EVERY = 300.0  # seconds; an index that is interrupted goes on from there
DECODERS, PART, AHEAD = 2, 16, 16  # threads that read; images that one reads in a row; parts ahead of the encoder


class Index(NamedTuple):
    """Which images are indexed, by path and content, and how they are encoded."""

    files: tuple[str, ...]
    digests: tuple[str, ...]
    features_NE: Tensor
    tokens_NMD: Tensor | None  # what stage 2 reads; None without one, or if they are too many to keep
    config: Config
    identity: dict[str, Any]  # of the encoder
    skipped: tuple[str, ...]  # a line for each image that could not be read
    complete: bool  # false: its making was interrupted


class Changes(NamedTuple):
    """What bringing an index up to date did."""

    encoded: int
    kept: int
    removed: int


Read = tuple[str, str | None, Tensor | None, str | None]  # path, digest, pixels if not known yet, fault


def index_folder(root: Path) -> Path:
    """Where the index of a folder lies."""
    return root / STORE / INDEX


def read_index(root: Path) -> Index | None:
    """The index of a folder; None if it has none. Raises ResourceError if it is damaged or of another version."""
    folder = index_folder(root)
    if not folder.exists():
        return None
    tensors, state = load_checkpoint(folder)
    try:
        if state["kind"] != KIND:
            raise ValueError(f"kind {state['kind']!r}")
        files, digests = zip(*state["files"], strict=True) if state["files"] else ((), ())
        if len(tensors["features"]) != len(files):
            raise ValueError("as many features as files are needed")
        config = Config.model_validate(state["config"])
        found = state["identity"], tuple(state["skipped"]), state["complete"]
    except (KeyError, TypeError, ValueError, ValidationError) as fault:
        why = " ".join(str(fault).split())[:200]
        raise ResourceError(f"{folder}: no index that this version reads ({why}); remove it and index again") from None
    return Index(files, digests, tensors["features"], tensors.get("tokens"), config, *found)


def update_index(
    root: Path,
    encoder: Encoder,
    anew: bool = False,
    notify: Notify = lambda line: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Index, Changes]:
    """Bring the index of `root` up to date, encoding only contents that it has not; all of them if `anew`.

    It is written atomically, at the end and now and then before. Raises ResourceError for a folder that cannot be read
    or written, or without any image, and for an index of other weights.
    """
    paths, notes = list_images(root)
    if not paths:
        raise ResourceError(f"{root}: holds no images (JPEG, PNG, BMP, WEBP); give a folder that does")
    try:
        (root / STORE).mkdir(exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{root}: {error.strerror}; its index lies in it, so make it writable") from None
    with Lock(root / STORE / LOCK) as lock:
        if not lock.acquired:
            raise ResourceError(f"{root}: is being indexed by another process; wait for it")
        old = None if anew else read_index(root)
        if old is not None:
            refuse_other(root, old, encoder)
        building = _Building(root, encoder, old, paths, notes, on_progress)
        try:
            building.run()
        except KeyboardInterrupt:
            if building.encoded:
                building.save(complete=False)
            raise
        index = building.save(complete=True)
    for note in index.skipped:
        notify(f"left out: {note}")
    before = set(old.digests) if old is not None else set()
    kept = sum(digest in before for digest in index.digests)
    return index, Changes(building.encoded, kept, len(before - set(index.digests)))


def refuse_other(root: Path, index: Index, encoder: Encoder) -> None:
    """Raises ResourceError if an index was not made with these weights, naming what differs and the remedy."""
    own = encoder.identity()
    differing = [name for name, value in own.items() if index.identity.get(name) != value]
    if differing:
        name = differing[0]
        made, given = (str(values.get(name))[:16] for values in (index.identity, own))
        raise ResourceError(
            f"{root}: was indexed with {index.config.model.weights} ({name} {made}), this is "
            f"{encoder.config.model.weights} ({given}); give --with {index.config.model.weights}, or index with --anew"
        )


class _Building:
    """An index in the making: known contents and new ones, in the order in which they came."""

    def __init__(
        self,
        root: Path,
        encoder: Encoder,
        old: Index | None,
        paths: list[str],
        notes: list[str],
        on_progress: Callable[[int, int], None],
    ):
        self.root, self.encoder, self.paths, self.on_progress = root, encoder, paths, on_progress
        self.encoded, self.skipped, self.files, self._old = 0, notes, list[tuple[str, str]](), old
        self._features = [] if old is None else [old.features_NE]
        self._tokens: list[Tensor] | None = []
        if old is not None:
            self._tokens = None if old.tokens_NMD is None else [old.tokens_NMD]
        self._row = {} if old is None else {digest: row for row, digest in enumerate(old.digests)}
        self._next = 0 if old is None else len(old.digests)
        self._saved = time.monotonic()

    def run(self) -> None:
        """Read every image, encode those that are new."""
        known, size = frozenset(self._row), self.encoder.config.data.image_size
        read = _read_ahead(partial(_read, self.root, size, known), self.paths)
        batch: dict[str, Tensor] = {}
        with torch.inference_mode(), retrieval_mode(self.encoder.model, self.encoder.device):
            for done, (path, digest, pixels, fault) in enumerate(read, 1):
                if digest is None:
                    self.skipped.append(f"{shown(path)}: {fault}")
                else:
                    self.files.append((path, digest))
                    if pixels is not None and digest not in self._row:
                        batch.setdefault(digest, pixels)
                if len(batch) == self.encoder.config.evaluation.batch_size:
                    self._encode(batch)
                    batch = {}
                self.on_progress(done, len(self.paths))
            if batch:
                self._encode(batch)
        if not self.files:
            raise ResourceError(f"{self.root}: none of its images can be read: {'; '.join(self.skipped[:3])}")

    def _encode(self, batch: dict[str, Tensor]) -> None:
        encoder, images = self.encoder, torch.stack(list(batch.values()))
        tokens = encode_images(encoder.model, images, encoder.config.evaluation.precision, encoder.device)
        self._features.append(encoder.model.encoders.image_feature(tokens).cpu())
        if not encoder.reranks or len(self.paths) * tokens[0].nbytes > self._room():
            self._tokens = None
        elif self._tokens is not None:
            self._tokens.append(tokens.cpu())
        self._row |= {digest: self._next + place for place, digest in enumerate(batch)}
        self._next += len(batch)
        self.encoded += len(batch)
        if time.monotonic() - self._saved > SAVED_EVERY:
            self.save(complete=False)

    def _room(self) -> int:
        """Bytes that the tokens of all images may take."""
        return self.encoder.config.evaluation.gallery_mib * 2**20

    def save(self, complete: bool) -> Index:
        """Write what there is; if not `complete`, also what the old index has of images that were not reached."""
        files = [(path, digest) for path, digest in self.files if digest in self._row]
        old = self._old
        if old is not None and not complete:
            reached = {path for path, _ in self.files}
            files += [pair for pair in zip(old.files, old.digests, strict=True) if pair[0] not in reached]
        elif (
            old is not None
            and old.complete
            and (files, self.skipped)
            == (
                list(zip(old.files, old.digests, strict=True)),
                list(old.skipped),
            )
        ):
            return old  # nothing has changed
        rows = [self._row[digest] for _, digest in files]
        tensors = {"features": _in_order(self._features, rows)}
        if self._tokens:
            tensors["tokens"] = _in_order(self._tokens, rows)
        config = self.encoder.config.model_copy(
            update={"data": self.encoder.config.data.model_copy(update={"root": Path(), "synthetic": None})}
        )
        state = {
            "kind": KIND,
            "identity": self.encoder.identity(),
            "config": config.model_dump(mode="json"),
            "files": files,
            "skipped": self.skipped,
            "complete": complete,
        }
        save_checkpoint(index_folder(self.root), tensors, state, indent=None)
        self._saved = time.monotonic()
        names, digests = zip(*files, strict=True)
        return Index(
            names,
            digests,
            tensors["features"],
            tensors.get("tokens"),
            config,
            self.encoder.identity(),
            tuple(self.skipped),
            complete,
        )


def _in_order(parts: list[Tensor], rows: list[int]) -> Tensor:
    """The rows of the parts together, in that order; a first build has them in it already."""
    whole = torch.cat(parts)
    return whole if rows == list(range(len(whole))) else whole[rows]


def _read(root: Path, size: tuple[int, int], known: frozenset[str], path: str) -> Read:
    """One file, read once: what is hashed is what is decoded."""
    file = os.path.join(root, path)
    try:
        with open(file, "rb") as opened:
            content = opened.read()
        digest = digest_of(content)
        return path, digest, None if digest in known else decode(Path(file), size, content), None
    except ImageFault as fault:
        return path, None, None, f"{fault.kind}; replace or remove it"
    except OSError as error:
        return path, None, None, f"{error.strerror or error}; make it readable"


def _read_ahead(read: Callable[[str], Read], paths: Sequence[str]) -> Iterator[Read]:
    """`read` of each path in order, by threads, at most AHEAD parts of PART paths before they are asked for.

    A part at a time, since handing over costs both threads as much as hashing an image does.
    """
    pending: deque[Future[list[Read]]] = deque()
    with ThreadPoolExecutor(DECODERS, thread_name_prefix="read") as threads:
        try:
            for start in range(0, len(paths), PART):
                pending.append(threads.submit(lambda part: [read(path) for path in part], paths[start : start + PART]))
                if len(pending) >= AHEAD:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)
