"""Pairs per second of the training loader alone, images decoded at each use against cached ones.

    python benchmarks/loader.py [--images 1300] [--epochs 3] [--json]

Synthetic JPEGs of the shape and weight of CUHK-PEDES' (128 x 384 pixels, about 15 kB), two captions each, resized to
384 x 384. Everything runs in this process, without workers. The loader's own memory is too small for the 1300 images,
as it is for a real data set, so that without a cache each is decoded at each use. The modes take turns, an epoch each;
given are the epochs' median and extremes.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rasa.config.run import Data
from rasa.data import loader
from rasa.data.dataset import Split
from rasa.data.loader import TrainingLoader
from rasa.data.tokenizer import train_tokenizer
from rasa.data.transforms import normalise, two_views

SOURCE, TARGET = (384, 128), (384, 384)  # height, width
VIEWS_REPEATED = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=1300, help="number of JPEGs (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="pairs of a batch (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs measured of each mode (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), arguments.images, arguments.batch_size, arguments.epochs)
    print(json.dumps(figures, indent=1) if arguments.json else table(figures))


def measure(folder: Path, images: int, batch_size: int, epochs: int) -> dict[str, float]:
    """Rates in pairs/s, times in the unit of their name. Raises ValueError if the images would stay in memory."""
    if images * 3 * TARGET[0] * TARGET[1] <= loader.KEPT_BYTES:
        raise ValueError(f"{images} images stay in the loader's memory, so nothing would be decoded twice; take 1300")
    split = write_split(folder / "imgs", images)
    modes = {"decoded": make_loader(split, folder, batch_size, None)}
    tick = time.perf_counter()
    modes["cached"] = make_loader(split, folder, batch_size, folder / "data")
    figures = {"images": float(images), "batch_size": float(batch_size), "build_s": time.perf_counter() - tick}
    tick = time.perf_counter()
    make_loader(split, folder, batch_size, folder / "data")
    figures["open_s"] = time.perf_counter() - tick
    modes["prefetched"] = make_loader(split, folder, batch_size, folder / "data", prefetch=True)

    rates: dict[str, list[float]] = {mode: [] for mode in modes}
    for epoch in range(epochs):
        for mode, loading in modes.items():
            rates[mode].append(pairs_per_second(loading, epoch))
    for mode, values in rates.items():
        figures |= {f"{mode}_pairs_per_s": statistics.median(values)}
        figures |= {f"{mode}_lowest": min(values), f"{mode}_highest": max(values)}
    figures["ratio"] = figures["cached_pairs_per_s"] / figures["decoded_pairs_per_s"]

    batch = next(modes["cached"].epoch(0))
    views: dict[str, Callable[[], object]] = {
        "two_normalised_ms": lambda: [normalise(batch.images, flip) for flip in batch.flip],
        "two_views_ms": lambda: two_views(batch.images, batch.flip),
    }
    turns = [{name: milliseconds(work) for name, work in views.items()} for _ in range(VIEWS_REPEATED)]
    figures |= {name: statistics.median(turn[name] for turn in turns) for name in views}
    return figures


def write_split(folder: Path, images: int) -> Split:
    """A training split of `images` JPEGs, smooth with a little noise as photographs are, two captions each."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    height, width = SOURCE
    for image in range(images):
        coarse = Image.fromarray(draw.integers(0, 256, (24, 8, 3), np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        pixels = np.asarray(coarse).astype(np.int64) + draw.integers(-8, 9, (height, width, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{image}.jpg", quality=90)
    return Split(
        name="train",
        image_files=tuple(f"{image}.jpg" for image in range(images)),
        image_identities=np.arange(images) // 3,
        captions=tuple(f"a person in a red shirt and blue trousers, number {n % 97}" for n in range(2 * images)),
        caption_images=np.arange(2 * images) // 2,
    )


def make_loader(
    split: Split, folder: Path, batch_size: int, cache: Path | None, prefetch: bool = False
) -> TrainingLoader:
    return TrainingLoader(
        split,
        folder / "imgs",
        train_tokenizer(split.captions, 200),
        Data(root=folder, image_size=TARGET),
        positives="probabilistic",
        p_weak=0.1,
        weak_pool="identity",
        weak_label="caption",
        truncate=True,
        batch_size=batch_size,
        max_steps=None,
        seed=0,
        cache=cache,
        prefetch=prefetch,
    )


def pairs_per_second(loading: TrainingLoader, epoch: int) -> float:
    tick = time.perf_counter()
    pairs = sum(len(batch.identity) for batch in loading.epoch(epoch))
    return pairs / (time.perf_counter() - tick)


def milliseconds(work: Callable[[], object]) -> float:
    tick = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - tick)


def table(figures: dict[str, float]) -> str:
    lines = [
        f"{mode:<11}{figures[f'{mode}_pairs_per_s']:>9.0f} pairs/s"
        f"   ({figures[f'{mode}_lowest']:.0f} to {figures[f'{mode}_highest']:.0f})"
        for mode in ("decoded", "cached", "prefetched")
    ]
    lines.append(f"{'ratio':<11}{figures['ratio']:>9.1f} cached to decoded")
    lines.append(f"cache: built in {figures['build_s']:.1f} s, opened in {figures['open_s']:.2f} s")
    lines.append(
        f"views of {figures['batch_size']:.0f} images: {figures['two_normalised_ms']:.1f} ms by two calls of "
        f"normalise, {figures['two_views_ms']:.1f} ms by two_views"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
