"""What rows would take on devices that are not here: hours, cost, memory and communication.

Compute is the FLOPs of a step, counted on torch's meta device, against a share of the device's peak. That share is
assumed and told, or measured where finished runs of the same model on such a device are recorded. Memory is that of the
step without its device (experiments/footprint.py).
"""

import heapq
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from experiments.footprint import Captions, Footprint, footprint
from experiments.hardware import FRAGMENTED, LEAST_STEP, LINK_UTILISATION, RESERVED_GIB, UTILISATION, Device, kind_of
from experiments.plan import recorded_runs
from experiments.rundir import RESULT, read_result
from experiments.workload import BERT_WIDTH, BERT_WORDS, TOKENS, SizesOfSplits, Work, work_of
from rasa.config.run import Config
from rasa.training.accumulation import Parts

GIB = 2**30
BYTES = 4  # of a gradient
SIZES = ("_width", "_depth", "_layers", "patch_size")  # ends of the fields that say how large a model is


class Speed(NamedTuple):
    """Share of a device's peak that training reaches, and from how many finished runs that is known; 0: assumed."""

    share: float
    runs: int = 0
    pairs_per_s: float | None = None  # of one device, the runs' median


class Step(NamedTuple):
    """A row's step, counted: FLOPs of the whole batch, and how memory grows with the pairs of a pass."""

    flops: float
    base: float  # bytes of a pass without pairs
    per_pair: float
    input: float  # bytes of a pair's images, both views
    trained: int
    gathered: float  # bytes of features and identities a pair

    def peak(self, pairs: int, passes: int) -> float:
        """Bytes alive at the most on a device that takes `pairs` pairs in `passes` parts."""
        part = pairs // passes
        kept = (BYTES * self.trained + (pairs - part) * self.input) if passes > 1 else 0
        return self.base + self.per_pair * part + kept

    def needed(self, pairs: int, passes: int) -> float:
        """GiB of a device's memory, with what is reserved and lost to fragments."""
        return self.peak(pairs, passes) / GIB * (1 + FRAGMENTED) + RESERVED_GIB


class Times(NamedTuple):
    """Seconds of one run on its devices."""

    computing: float
    talking: float
    evaluating: float

    @property
    def total(self) -> float:
        return sum(self)


class Layout(NamedTuple):
    """How runs take up the devices: so many of them a run, in so many accumulated parts."""

    devices: int
    accumulation: int | None  # the least that fits; None: none does
    needed: float  # GiB of a device for the largest row


class Forecast(NamedTuple):
    """All of it, by row."""

    steps: dict[str, Step]
    works: dict[str, Work]
    speeds: dict[str, Speed]
    configs: dict[str, Config]
    runs: tuple[str, ...]  # the row of each run that is to be made, in order
    device: Device
    at_hand: int  # devices

    @property
    def largest(self) -> str:
        """The row that takes the most memory."""
        batch = lambda row: self.configs[row].optimisation.batch_size
        return max(self.steps, key=lambda row: self.steps[row].peak(batch(row), 1))

    def layouts(self) -> list[Layout]:
        """One for each number of devices that may share a run."""
        config = self.configs[self.largest]
        ranks = config.fidelity.ranks
        return [self._layout(n) for n in range(1, min(ranks, self.at_hand) + 1) if ranks % n == 0]

    def _layout(self, devices: int) -> Layout:
        config, step = self.configs[self.largest], self.steps[self.largest]
        tried = [(a, step.needed(*shared(config, devices, a))) for a in accumulations(config)]
        fitting = [(a, needed) for a, needed in tried if needed <= self.device.memory]
        return Layout(devices, *(fitting[0] if fitting else (None, tried[-1][1])))

    def times(self, row: str, devices: int) -> Times:
        """Of a run of `row` on so many devices."""
        config, step, work, speed = self.configs[row], self.steps[row], self.works[row], self.speeds[row]
        precision = computed_in(config, self.device)
        rate = 1e12 * self.device.tflops[precision] * speed.share
        evaluated = self.device.precision(config.evaluation.precision)
        evaluation = work.evaluation / (1e12 * self.device.tflops[evaluated] * UTILISATION[evaluated])
        flops = work.steps * step.flops
        sent = exchanged(step, config.optimisation.batch_size, devices)
        talking = work.steps * sent / (1e9 * self.device.link * LINK_UTILISATION)
        return Times(max(flops / rate / devices, work.steps * LEAST_STEP), talking, evaluation)

    def wall(self, layout: Layout) -> float:
        """Seconds until the last run has ended: each begins, in order, where devices are free first."""
        free = [0.0] * (self.at_hand // layout.devices)
        for row in self.runs:
            heapq.heappush(free, heapq.heappop(free) + self.times(row, layout.devices).total)
        return max(free)


def computed_in(config: Config, device: Device) -> str:
    """The precision of a run's matrix products on that device."""
    asked = config.optimisation.precision
    return device.precision("bf16" if asked == "auto" else asked)


def forecast(
    configs: Mapping[str, Config],
    sizes: Mapping[str, SizesOfSplits],
    runs: Sequence[str],
    device: Device,
    kind: str,
    count: int,
    workspace: Path,
) -> Forecast:
    """Of runs of these rows. Rows that compute alike are counted once."""
    steps: dict[str, Step] = {}
    counted: dict[str, Step] = {}
    for row, config in configs.items():
        key = _key(config)
        if key not in counted:
            counted[key] = counted_step(config, computed_in(config, device))
        steps[row] = counted[key]
    measured = list(_measured(workspace, kind))
    speeds = {row: _speed(config, device, measured) for row, config in configs.items()}
    works = {row: work_of(config, sizes[row]) for row, config in configs.items()}
    return Forecast(steps, works, speeds, dict(configs), tuple(runs), device, count)


def counted_step(config: Config, precision: str) -> Step:
    """A step of `config` on torch's meta device, at its batch and at a quarter of it."""
    batch, ranks = config.optimisation.batch_size, config.fidelity.ranks
    vocabulary = BERT_WORDS if config.model.text_width >= BERT_WIDTH else config.data.vocabulary_size
    longest = config.data.max_tokens
    captions = Captions(min(TOKENS, longest), longest)
    whole = footprint(config, vocabulary, captions, batch, 1, ranks, precision)
    fewer = max(2, batch // 4)
    part = footprint(config, vocabulary, captions, fewer, 1, 1, precision)
    return step_of(whole, batch, part, fewer, config.data.image_size)


def step_of(whole: Footprint, batch: int, part: Footprint, fewer: int, image_size: tuple[int, int]) -> Step:
    """A straight line through two footprints."""
    per_pair = (whole.peak - part.peak) / (batch - fewer)
    pixels = 2 * 3 * image_size[0] * image_size[1] * BYTES
    base = whole.peak - batch * per_pair
    return Step(whole.flops, base, per_pair, pixels, whole.trained, whole.gathered / batch)


def accumulations(config: Config) -> list[int]:
    """Numbers of parts that cut no share of the batch and leave a part at least two pairs, the least first."""
    batch, ranks = config.optimisation.batch_size, config.fidelity.ranks
    least = config.optimisation.accumulation
    return [a for a in range(least, batch // 2 + 1) if batch % a == 0 and (ranks % a == 0 or a % ranks == 0)]


def shared(config: Config, devices: int, accumulation: int) -> tuple[int, int]:
    """Pairs of a device, and the passes in which it takes them."""
    batch, number = config.optimisation.batch_size, math.lcm(accumulation, devices)
    parts = Parts(number, batch // number, 1, smaller=False, processes=devices)
    passes = len(parts.of(0))
    return passes * parts.size, passes


def exchanged(step: Step, batch: int, devices: int) -> float:
    """Bytes that a device sends in a step: its ring's share of the gradients, and its pairs' features to the others."""
    return (devices - 1) / devices * (2 * BYTES * step.trained + batch * step.gathered)


def _key(config: Config) -> str:
    objectives, optimisation = config.objectives, config.optimisation
    decides = [optimisation.batch_size, optimisation.precision, config.data.image_size, config.data.max_tokens]
    losses = [sorted(objectives.weights), objectives.generator, objectives.positives == "annotated", objectives.p_mask]
    sections = config.model_dump(mode="json", include={"model", "fidelity"})
    return json.dumps([decides, losses, sections], sort_keys=True)


class _Measured(NamedTuple):
    model: dict[str, Any]  # its identity's section
    image_size: list[int]
    precision: str
    rate: float  # FLOP/s of one device
    pairs_per_s: float


def _measured(workspace: Path, kind: str) -> Iterator[_Measured]:
    """Speeds of finished runs on that kind of device."""
    for run in recorded_runs(workspace):
        if run.state not in ("finished", "stale") or run.about.untrained:
            continue
        result = read_result(run.directory / RESULT) or {}
        cost, numerics, identity = (result.get("cost") or {}), (result.get("numerics") or {}), run.about.identity
        if kind_of(str(numerics.get("device", ""))) != kind or not cost.get("flops_per_step"):
            continue
        devices, batch = int(numerics.get("processes", 1)), identity["optimisation"]["batch_size"]
        pairs = float(cost["pairs_per_s"]) / devices
        rate = pairs * float(cost["flops_per_step"]) / batch
        yield _Measured(identity["model"], identity["data"]["image_size"], numerics.get("precision", ""), rate, pairs)


def _speed(config: Config, device: Device, measured: Sequence[_Measured]) -> Speed:
    """As runs of the same model, image size and precision had it, else as is assumed."""
    precision = computed_in(config, device)
    sizes = lambda model: {name: value for name, value in model.items() if name.endswith(SIZES)}
    own = sizes(config.model.model_dump(mode="json"))
    like = [
        each
        for each in measured
        if each.precision == precision and sizes(each.model) == own and tuple(each.image_size) == config.data.image_size
    ]
    if not like:
        return Speed(UTILISATION[precision])
    share = median(each.rate for each in like) / (1e12 * device.tflops[precision])
    return Speed(share, len(like), median(each.pairs_per_s for each in like))
