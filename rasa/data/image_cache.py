"""Decoded images on disk: each is decoded once, not once per epoch. Shape suffixes: I images, H and W pixels.

`<folder>/image-cache` holds one file of plain bytes [I, 3, H, W] per split and size. Its name is a digest of the
images' contents, the size and the decoder, so what is there is what is asked for, under whatever paths; nothing but a
whole file ever gets that name. An index per image folder remembers the contents' hashes by size, times and inode, as
git does. The inode's time of change, which no program can set, is among them: only a file that is written again within
a tick of the clock could pass for the old one, so files as fresh as that are hashed each time.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import features

from rasa.data.transforms import DECODING, decode, open_rgb
from rasa.lock import locked

FOLDER, SUFFIX, UNFINISHED = "image-cache", ".u8", ".building-"
GIB = 2**30
MARGIN = GIB  # of disk space left for checkpoints and the like
TICK = 2 * 10**9  # nanoseconds; the coarsest clock of a file system in use
PART = 32  # images in a row on one thread

Images = NDArray[np.uint8]
Result = TypeVar("Result")


class _NotCached(Exception):
    """Why the images cannot be kept, and the remedy."""


def cached_images(
    files: Sequence[str],
    image_root: Path,
    size: tuple[int, int],
    folder: Path,
    limit_gib: float,
    workers: int = 0,
    notify: Callable[[str], None] = lambda line: None,
) -> Images | None:
    """`files` below `image_root`, decoded: uint8 [I, 3, H, W], mapped read-only, built now if it is not there yet.

    None if it cannot be kept, with one line to `notify`: the caches below `folder` would take more than `limit_gib`,
    the disk is full, or it cannot be written; None without a line if the limit is 0. Other caches are left alone.
    Processes that need the same one wait for the one that builds it, on `workers` threads (0: two per CPU, at most
    16). Raises ImageFault for the first damaged image, and keeps nothing then.
    """
    if not files or limit_gib == 0:
        return None
    place, paths, shape = Path(folder) / FOLDER, [Path(image_root) / file for file in files], (len(files), 3, *size)
    threads = workers or min(16, 2 * (os.cpu_count() or 1))  # Pillow holds the interpreter for a part of its work
    try:
        _check_limit(0, shape, limit_gib)  # before anything is read
        signatures = [_signature(path) for path in paths]
        hashes = _content_hashes(files, paths, signatures, _index_file(place, image_root), threads)
        file = place / f"{_key(hashes, size)}{SUFFIX}"
        if not _is_whole(file, shape):
            with locked(place / "lock"):
                if not _is_whole(file, shape):
                    _make_room(file, shape, limit_gib)
                    notify(f"{file}: decoding {len(files)} images, {_gib(shape):.2g} GiB, kept for all later runs")
                    _build(file, paths, signatures, size, threads)
        return np.asarray(np.memmap(file, np.uint8, "r", shape=shape))
    except (_NotCached, OSError) as reason:
        why = str(reason)
        if isinstance(reason, OSError):
            why = f"{reason.strerror or reason}; choose a writable folder with space"
        notify(f"{place}: images are not cached but decoded at each use: {' '.join(why.split())}")
        return None


def _key(hashes: Sequence[str], size: tuple[int, int]) -> str:
    """A digest of all that decides a pixel."""
    decoder = [DECODING, PIL.__version__, features.version("libjpeg_turbo"), features.version("webp")]
    content = json.dumps([decoder, size, hashes])
    return f"{size[0]}x{size[1]}-{hashlib.sha256(content.encode()).hexdigest()[:32]}"


def _is_whole(file: Path, shape: tuple[int, ...]) -> bool:
    return file.is_file() and file.stat().st_size == math.prod(shape)


def _gib(shape: tuple[int, ...]) -> float:
    return math.prod(shape) / GIB


def _check_limit(taken: float, shape: tuple[int, ...], limit_gib: float) -> None:
    if taken + _gib(shape) > limit_gib:
        others = f" beside the {taken:.3g} GiB of other caches there, remove old ones or" if taken else ","
        raise _NotCached(
            f"they would take {_gib(shape):.3g} GiB{others} raise data.image_cache_gib above {limit_gib:g}"
        )


def _make_room(file: Path, shape: tuple[int, ...], limit_gib: float) -> None:
    """Remove what dead builds left, which all are that hold no lock, and see whether there is room for `file`."""
    for leftover in file.parent.glob(f"{UNFINISHED}*"):
        leftover.unlink()
    others = [other for other in file.parent.glob(f"*{SUFFIX}") if other != file]
    _check_limit(sum(other.stat().st_size for other in others) / GIB, shape, limit_gib)
    free = (shutil.disk_usage(file.parent).free - MARGIN) / GIB
    if _gib(shape) > free:
        raise _NotCached(f"they would take {_gib(shape):.3g} GiB, and the disk has {max(free, 0):.3g} GiB to spare")


def _build(
    file: Path, paths: Sequence[Path], signatures: Sequence[list[int]], size: tuple[int, int], threads: int
) -> None:
    """Decode all `paths` into `file`. Raises ImageFault, OSError, or _NotCached if an image changed meanwhile."""
    temporary = file.with_name(f"{UNFINISHED}{os.getpid()}")
    try:
        with open(temporary, "wb", buffering=0) as target:

            def write(image: int) -> None:
                pixels = decode(paths[image], size).numpy().data.cast("B")
                _write_at(target.fileno(), pixels, image * len(pixels))

            _on_threads(write, range(len(paths)), threads)
            os.fsync(target.fileno())
        if [_signature(path) for path in paths] != signatures:
            raise _NotCached("some changed while they were decoded; run again when nothing writes there")
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def _write_at(target: int, content: memoryview, offset: int) -> None:
    while content:  # a nearly full disk takes a part first and refuses the rest
        written = os.pwrite(target, content, offset)
        content, offset = content[written:], offset + written


def _content_hashes(
    files: Sequence[str], paths: Sequence[Path], signatures: Sequence[list[int]], index: Path, threads: int
) -> list[str]:
    """The SHA-256 of each file's bytes, read only where `index` does not know it. Raises ImageFault."""
    known = _read_index(index)
    hashes = [_known_hash(known, name, signature) for name, signature in zip(files, signatures, strict=True)]
    missing = [image for image, content in enumerate(hashes) if content is None]
    if missing:
        now = time.time_ns()
        for image, content in zip(missing, _on_threads(lambda i: _file_hash(paths[i]), missing, threads), strict=True):
            hashes[image] = content
        settled = [image for image in missing if max(signatures[image][1:3]) < now - TICK]
        with suppress(OSError):  # a folder that cannot be written may hold the cache all the same
            _add_to_index(index, {files[image]: [*signatures[image], hashes[image]] for image in settled})
    return [content for content in hashes if content is not None]


def _known_hash(known: dict[str, list[Any]], name: str, signature: list[int]) -> str | None:
    entry = known.get(name)
    return entry[-1] if entry is not None and entry[:-1] == signature else None


def _file_hash(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        open_rgb(path)  # which names the fault as it would without a cache
        raise


def _signature(path: Path) -> list[int]:
    """What differs after a file is written: size, times of content and of inode, inode. Raises ImageFault."""
    try:
        stat = os.stat(path)
    except OSError:
        open_rgb(path)
        raise
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _index_file(place: Path, image_root: Path) -> Path:
    return place / f"{hashlib.sha256(os.path.realpath(image_root).encode()).hexdigest()[:16]}.index"


def _read_index(file: Path) -> dict[str, list[Any]]:
    """Signature and hash by file name; nothing if a byte is not as it was written."""
    try:
        check, _, body = file.read_bytes().partition(b"\n")
    except OSError:
        return {}
    return json.loads(body) if hashlib.sha256(body).hexdigest().encode() == check else {}


def _add_to_index(file: Path, entries: dict[str, list[Any]]) -> None:
    if not entries:
        return
    with locked(file.with_suffix(".lock")):
        body = json.dumps(_read_index(file) | entries).encode()
        temporary = file.with_suffix(".tmp")  # which the next writer overwrites if this one is killed
        temporary.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        os.replace(temporary, file)


def _on_threads(work: Callable[[int], Result], items: Sequence[int], threads: int) -> list[Result]:
    """`work` of each item, in order. The first item's fault of all, or an interrupt, ends it soon."""

    def part(start: int) -> list[Result]:
        return [work(item) for item in items[start : start + PART]]

    with ThreadPoolExecutor(threads) as pool:
        try:
            return [result for results in pool.map(part, range(0, len(items), PART)) for result in results]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
