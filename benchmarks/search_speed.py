"""Indexing and answering by gallery size: both beside the encoder's own speed, in one go, drawn.

Seconds are given three ways: by the clock; by the clock less the time for which the calling thread was ready to run and
had no core (Linux counts it); and as processor time of all threads. Where other programs keep the machine busy the
clock says what they leave. The second is what would remain with a core for each thread, or somewhat more, since the
threads that read wait for cores as well. The third is the work itself, which no number of cores makes less.

A gallery is copies of rendered people that differ in one pixel, so that every file has a content of its own. Indexing
(reading, hashing, decoding, encoding, writing) is compared with encoding decoded images alone, in turns. A query is
timed with everything that the page does: both stages, and the probe of each word.

    .venv/bin/python -m benchmarks.search_speed start --plot docs/figures/search.png
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from experiments.evaluate import config_of_weights
from experiments.plot_style import DPI, STYLE
from rasa.config.run import Config
from rasa.data.tokenizer import build_tokenizer
from rasa.data.transforms import decode
from rasa.evaluation.rank import encode_images, retrieval_mode
from rasa.model.rasa import build_model
from rasa.search.encoder import Encoder, load_encoder
from rasa.search.engine import Engine
from rasa.search.index import update_index
from reports.figures import WIDTH

SIZES = (300, 1_000, 3_000, 10_000)
QUERIES = (
    "A woman in a red coat with a white bag.",
    "A man wearing a green t-shirt, blue jeans and black boots; he carries a pink umbrella.",
    "The pedestrian has short black hair, grey trousers, white shoes and a dark blue backpack.",
    "She wears a long purple skirt, a yellow blouse and a beige hat, and holds a red phone.",
)
TURNS = 3
BLUE, ORANGE, GREY = "#0072B2", "#C44E00", "#767676"


class Seconds(NamedTuple):
    """By the clock, without waiting for a core, and processor time."""

    clock: float
    unhindered: float
    processor: float

    def times(self, factor: float) -> "Seconds":
        """As many times as long."""
        return Seconds(*(value * factor for value in self))


class Point(NamedTuple):
    """One size of a gallery. Of turns the medians."""

    images: int
    indexed: Seconds
    encoder: Seconds  # for as many images
    ratio: Seconds  # of indexing to the encoder
    again: Seconds  # nothing has changed
    query: Seconds
    slowest: Seconds


def main() -> None:
    arguments = parser().parse_args()
    torch.set_num_threads(arguments.threads)
    points, overrides = [], (f"optimisation.threads={arguments.threads}", *arguments.override)
    config = config_of_weights(arguments.weights, overrides)
    encoder = random_encoder(config) if arguments.random else load_encoder(config)
    with tempfile.TemporaryDirectory() as scratch:
        for size in [size for size in SIZES if size <= arguments.images]:
            root = write_gallery(Path(scratch) / str(size), size)
            points.append(measure(encoder, root, size))
            print(line(points[-1]), flush=True)
    settings = {"weights": str(arguments.weights), "overrides": overrides, "torch": torch.__version__}
    print(json.dumps(settings | {"points": [named(point) for point in points]}))
    if arguments.plot:
        draw(points, arguments.plot)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description="Cost of an index and of a query by gallery size.")
    found.add_argument("weights", type=Path, help="a run, a checkpoint, or start")
    found.add_argument("--images", type=int, default=10_000, help="of the largest gallery")
    found.add_argument("--threads", type=int, default=1, help="of torch; two more read and decode")
    found.add_argument("--random", action="store_true", help="random weights, of whatever sizes -o gives")
    found.add_argument("-o", "--override", action="append", default=[], help="e.g. data.image_size=[192,96]")
    found.add_argument("--plot", type=Path, help="write the picture there")
    return found


def write_gallery(root: Path, size: int) -> Path:
    """`size` images of rendered people, no two of equal content."""
    from rasa.config.benchmark import BenchmarkParams
    from rasa.data.synthetic.write import write_benchmark

    few = BenchmarkParams(train_identities=8, val_identities=2, test_identities=40)
    with tempfile.TemporaryDirectory() as scratch:
        write_benchmark(Path(scratch) / "people", few, lambda done, total: None)
        people = [np.asarray(Image.open(file)) for file in sorted((Path(scratch) / "people").rglob("*.png"))]
    root.mkdir(parents=True)
    for number in range(size):
        pixels = people[number % len(people)].copy()
        pixels[0, 0] = number % 251, number // 251 % 251, 7
        Image.fromarray(pixels).save(root / f"{number:06d}.png")
    return root


def linked(images: Path, files: Sequence[str], root: Path) -> Path:
    """A folder with those of the images alone."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(images / file, root / file)
        except OSError:
            (root / file).write_bytes((images / file).read_bytes())
    return root


def engine_of(weights: Path, root: Path, threads: int = 1) -> Engine:
    """The folder, indexed with the weights."""
    encoder = load_encoder(config_of_weights(weights, (f"optimisation.threads={threads}",)))
    return Engine(root, update_index(root, encoder)[0], encoder)


def random_encoder(config: Config) -> Encoder:
    """A model of the config's sizes: what encoding costs does not depend on the weights."""
    tokenizer = build_tokenizer(config.data.tokenizer, (), config.data.vocabulary_size)
    model = build_model(config, tokenizer.vocabulary_size, tokenizer.pad_id)
    return Encoder(model.eval(), tokenizer, config, torch.device("cpu"), "random")


def measure(encoder: Encoder, root: Path, size: int) -> Point:
    """Index and encoder in turns, medians; then the same folder again, and queries."""
    files = sorted(root.glob("*.png"))[:1000]
    images = torch.stack([decode(file, encoder.config.data.image_size) for file in files])
    indexing, encoding = [], []
    for _ in range(TURNS):
        indexing.append(timed(lambda: update_index(root, encoder, anew=True)))
        encoding.append(timed(lambda: _encode(encoder, images)).times(size / len(images)))
    ratios = [
        Seconds(*(index / alone for index, alone in zip(one, two, strict=True)))
        for one, two in zip(indexing, encoding, strict=True)
    ]
    again = timed(lambda: update_index(root, encoder))
    engine = Engine(root, update_index(root, encoder)[0], encoder)
    answers = [timed(partial(engine.search, query, 30)) for query in QUERIES * TURNS]
    slowest = Seconds(*(max(each) for each in zip(*answers, strict=True)))
    return Point(size, medians(indexing), medians(encoding), medians(ratios), again, medians(answers), slowest)


def _encode(encoder: Encoder, images: torch.Tensor) -> None:
    with torch.inference_mode(), retrieval_mode(encoder.model, encoder.device):
        for batch in images.split(encoder.config.evaluation.batch_size):
            encode_images(encoder.model, batch, encoder.config.evaluation.precision, encoder.device)


def timed(run: Callable[[], object]) -> Seconds:
    """What a call takes."""
    clock, waited, processor = time.perf_counter(), waited_for_a_core(), time.process_time()
    run()
    clock = time.perf_counter() - clock
    return Seconds(clock, clock - (waited_for_a_core() - waited), time.process_time() - processor)


def waited_for_a_core() -> float:
    """Seconds for which this thread was ready to run and had no core; 0 where the system does not count them."""
    try:
        return int(Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text().split()[1]) / 1e9
    except FileNotFoundError:
        return 0.0


def medians(each: Sequence[Seconds]) -> Seconds:
    """Of each of the three."""
    return Seconds(*(statistics.median(values) for values in zip(*each, strict=True)))


def named(point: Point) -> dict[str, Any]:
    """The figures by name, as JSON has them."""
    return {name: value if name == "images" else value._asdict() for name, value in point._asdict().items()}


def line(point: Point) -> str:
    """The figures of one size: by the clock, without waiting for a core, processor time."""
    figures = zip(point._fields[1:], point[1:], strict=True)
    told = [f"{name} {each.clock:.3g} / {each.unhindered:.3g} / {each.processor:.3g}" for name, each in figures]
    return "  ".join([f"{point.images:>7,} images", *told])


def draw(points: Sequence[Point], path: Path) -> None:
    """Processor seconds of indexing and of a query by gallery size."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    images = [point.images for point in points]
    with rc_context(STYLE):
        picture = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        left, right = picture.subplots(1, 2)
        for label, values, mark, colour in (
            ("index, from nothing", [point.indexed for point in points], "o-", BLUE),
            ("the encoder alone", [point.encoder for point in points], "s--", ORANGE),
            ("index, nothing new", [point.again for point in points], "^-", GREY),
        ):
            left.plot(images, [each.processor for each in values], mark, color=colour, label=label)
        left.set_title("indexing", loc="left", weight="bold")
        left.set_yscale("log")
        left.legend(frameon=False)
        right.plot(images, [point.query.processor for point in points], "o-", color=BLUE, label="median")
        right.plot(images, [point.slowest.processor for point in points], "^:", color=BLUE, label="slowest of 12")
        right.axhline(2, color=ORANGE, linestyle="--", label="goal: 2 s")
        right.set_title("one query", loc="left", weight="bold")
        right.set_ylim(0, 2.2)
        right.legend(frameon=False)
        for axis in (left, right):
            axis.set_xscale("log")
            axis.set_xlabel("images in the folder")
            axis.set_ylabel("processor seconds")
            axis.set_xticks(images, [f"{size:,}" for size in images])
            axis.minorticks_off()
            axis.grid()
        left.set_yticks(*_plain_ticks(left.get_ylim()))
        picture.savefig(path, dpi=DPI)


def _plain_ticks(limits: tuple[float, float]) -> tuple[list[float], list[str]]:
    ticks = [10.0**power for power in range(-3, 5) if limits[0] <= 10.0**power <= limits[1]]
    return ticks, [f"{tick:g}" for tick in ticks]


if __name__ == "__main__":
    main()
