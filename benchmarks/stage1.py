"""Stage 1 at scale: exact top-k of random unit features in a memory map, checked, timed, and drawn.

Features are unit vectors rounded to multiples of 2^-8, so that every inner product, in whatever order it is summed, is
exact in float32: a whole number of units of 2^-16, and less than 2^24 of them. So the check against a full sort needs
no tolerance, and many scores are equal, so that their order is checked too.

    .venv/bin/python benchmarks/stage1.py --images 1000000 --queries 1000 --width 256 --k 128 \\
        --plot docs/figures/stage1.png
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.plot_style import ACCENT, OURS, QUIET, STYLE, save
from rasa.evaluation.index import top_k
from rasa.evaluation.metrics import stage1_order
from reports.figures import WIDTH

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
GRID = 2**8
WRITTEN_AT_ONCE = 10_000
CHECKED = 20  # queries whose scores with the whole gallery are sorted


class Point(NamedTuple):
    """One search. `peak_mib` is the process's so far; `file_mib` of it are pages of files, the map's among them."""

    images: int
    seconds: float
    queries_per_s: float
    peak_mib: float
    file_mib: float
    checked_queries: int
    tied_pairs: int  # neighbours of equal score among the checked queries' best


def main() -> None:
    arguments = parser().parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    sizes = sorted({size for size in SIZES if size < arguments.images} | {arguments.images})
    queries = unit_features(arguments.queries, arguments.width, seed=1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        gallery = write(Path(folder) / "gallery.f32", arguments.images, arguments.width)
        points = []
        for size in sizes:
            points.append(search(queries, gallery, size, arguments.k))
            if not arguments.json:
                print(line(points[-1]), flush=True)
    if arguments.json:
        settings = {name: getattr(arguments, name) for name in ("queries", "width", "k")}
        threads = {"threads": torch.get_num_threads(), "torch": torch.__version__}
        print(json.dumps(settings | threads | {"points": [point._asdict() for point in points]}))
    if arguments.plot:
        title = (
            f"The {arguments.k} best images of {arguments.queries:,} queries, exact, features of width "
            f"{arguments.width}"
        )
        draw(points, arguments.queries, title, arguments.plot)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description="Exact top-k over galleries up to a million images.")
    found.add_argument("--images", type=int, default=1_000_000, help="images of the largest gallery")
    found.add_argument("--queries", type=int, default=1000)
    found.add_argument("--width", type=int, default=256, help="of a feature")
    found.add_argument("--k", type=int, default=128)
    found.add_argument("--threads", type=int, help="of torch; else its choice")
    found.add_argument("--folder", type=Path, help="for the memory map, 4 bytes x images x width; else the system's")
    found.add_argument("--json", action="store_true", help="print one JSON object")
    found.add_argument("--plot", type=Path, help="write the picture there")
    return found


def unit_features(size: int, width: int, seed: int) -> Tensor:
    """Random directions [size, width] on the grid."""
    features = torch.randn(size, width, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.normalize(features, dim=1) * GRID).round() / GRID


def write(path: Path, images: int, width: int) -> np.memmap:
    """The gallery on disk, block b from seed 1000 + b; a smaller gallery is the beginning of a larger one."""
    with path.open("wb") as file:
        for at in range(0, images, WRITTEN_AT_ONCE):
            block = unit_features(WRITTEN_AT_ONCE, width, 1000 + at // WRITTEN_AT_ONCE)
            block[: images - at].numpy().tofile(file)
    return np.memmap(path, np.float32, "r", shape=(images, width))


def search(queries: Tensor, gallery: np.ndarray, size: int, k: int) -> Point:
    """Time one search of the first `size` images, then check some of its queries."""
    started = time.perf_counter()
    scores, indices = top_k(queries, gallery[:size], k)
    seconds = time.perf_counter() - started
    memory = peak_mib(), resident_mib("RssFile")
    rows = torch.arange(0, len(queries), max(1, len(queries) // CHECKED))[:CHECKED]
    check(queries[rows], gallery[:size], scores[rows], indices[rows])
    tied = int((scores[rows].diff(dim=1) == 0).sum())
    return Point(size, seconds, len(queries) / seconds, *memory, len(rows), tied)


def check(queries: Tensor, gallery: np.ndarray, scores: Tensor, indices: Tensor) -> None:
    """Exit unless scores and indices are those of a full stable sort, bit for bit, and the scores without error."""
    parts = []
    for block in blocks(gallery):
        part = queries @ block.T
        if not torch.equal(part[:2].double(), queries[:2].double() @ block.double().T):
            raise SystemExit("an inner product is not exact")
        parts.append(part)
    similarity = torch.cat(parts, 1)
    order = stage1_order(similarity)[:, : indices.shape[1]]
    if not (torch.equal(indices, order) and torch.equal(scores, similarity.gather(1, order))):
        raise SystemExit(f"the best of {len(gallery):,} images are not those of a full sort")


def blocks(gallery: np.ndarray) -> Iterator[Tensor]:
    for at in range(0, len(gallery), WRITTEN_AT_ONCE):
        yield torch.from_numpy(np.array(gallery[at : at + WRITTEN_AT_ONCE]))


def peak_mib() -> float:
    """The most resident memory that this process ever had."""
    return resident_mib("VmHWM")


def resident_mib(name: str) -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(entry.split()[1]) for entry in status if entry.startswith(name + ":")) / 1024


def line(point: Point) -> str:
    return (
        f"{point.images:>9,} images  {point.seconds:7.2f} s  {point.queries_per_s:8.0f} queries/s  peak "
        f"{point.peak_mib:5.0f} MiB  equal to a full sort: {point.checked_queries} of {point.checked_queries} checked "
        f"queries, {point.tied_pairs} ties among their best"
    )


def draw(points: list[Point], queries: int, title: str, path: Path) -> None:
    """Seconds and peak memory by gallery size."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    images = [point.images for point in points]
    with rc_context(STYLE):
        picture = Figure(figsize=(WIDTH, 3.6), layout="constrained")
        time_axis, memory_axis = picture.subplots(1, 2)
        picture.suptitle(title, fontsize=10)
        seconds = [point.seconds for point in points]
        time_axis.plot(images, seconds, color=OURS, marker="o", linewidth=1.5)
        for x, y in zip(images, seconds, strict=True):
            time_axis.annotate(f"{y:.3g}", (x, y), xytext=(-4, 5), textcoords="offset points", ha="right")
        time_axis.set_yscale("log")
        time_axis.set_yticks([0.01, 0.1, 1, 10, 100], ["0.01", "0.1", "1", "10", "100"])
        time_axis.set_ylim(min(seconds) / 2, max(seconds) * 2)
        time_axis.set_title("time", loc="left", weight="bold")
        time_axis.set_ylabel("seconds")
        curves = (
            ("this search", [point.peak_mib for point in points], OURS, "o", "-"),
            ("without pages of files", [point.peak_mib - point.file_mib for point in points], QUIET, "o", "-"),
            ("all scores at once", [4 * queries * size / 2**20 for size in images], ACCENT, "", "--"),
        )
        for label, values, colour, marker, style in curves:
            memory_axis.plot(images, values, style, label=label, color=colour, marker=marker, linewidth=1.5)
        memory_axis.set_ylim(0, 1.15 * max(values[-1] for _, values, *_ in curves))
        memory_axis.set_title("peak resident memory", loc="left", weight="bold")
        memory_axis.set_ylabel("MiB")
        memory_axis.legend(frameon=False, loc="upper left")
        for axis in (time_axis, memory_axis):
            axis.set_xscale("log")
            axis.set_xlabel("images in the gallery")
            axis.set_xticks(images, [f"{size // 1000}k" if size < 10**6 else f"{size / 10**6:g}M" for size in images])
            axis.minorticks_off()
            axis.margins(x=0.2)
            axis.grid()
        save(picture, path)


if __name__ == "__main__":
    main()
