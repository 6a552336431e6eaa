"""One training step, plain against fast, side by side in one process: speed, time by part, FLOPs, memory, agreement.

The plain side (benchmarks/plain.py) is the released structure, the fast side what a step of `rasa.training.train`
computes once its inputs are on the device. One process unless `-o fidelity.ranks=4` asks for shares, which the plain
side takes one by one. Both start from equal weights and take the same batches with the same draws, in turn, so that a
machine's mood hits both.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch

from benchmarks import plain
from benchmarks.clock import Clock
from benchmarks.flops import Sizes, fast_step
from benchmarks.flops import plain_step as plain_flops
from benchmarks.scene import SIZES, SPECIAL, Scene, batch_of, config_of, scene
from rasa.config.run import Config
from rasa.cost import peak_mib, reset_peak
from rasa.draws import Draws
from rasa.errors import SpecError
from rasa.model.momentum import ema_update
from rasa.model.rasa import compile_layers
from rasa.numerics import FiniteGuard, device_name, float32_products
from rasa.training.accumulation import batch_parts, forward_backward
from rasa.training.flops import counter
from rasa.training.optimizer import gradient_norm, parameter_groups
from rasa.training.step import StepInputs, StepLosses

PARTS = ("encode", "momentum", "text", "fusion", "heads", "optimizer")
METHODS = {
    "encode_image": "encode",
    "image_feature": "heads",
    "text_feature": "heads",
    "encode_text": "text",
    "project_image": "fusion",
    "fuse": "fusion",
    "words": "heads",
}
STEPS_OF_A_ROW = 1310 * 30  # CUHK-PEDES in batches of 52, 30 epochs
PLAIN_FUNCTIONS = {"text_states": "text", "fuse": "fusion", "word_logits": "heads"}


class Variant(NamedTuple):
    """One way to compute a step."""

    path: str  # plain or fast
    precision: str
    compiled: bool = False

    def __str__(self) -> str:
        return f"{self.path} {self.precision}{' compiled' if self.compiled else ''}"


class Side:
    """A variant with its own copy of the models, ready to step."""

    def __init__(self, variant: Variant, config: Config, vocabulary: int, device: torch.device):
        self.variant, self.config, self.device = variant, config, device
        self.scene: Scene = scene(config, vocabulary, device)
        groups = parameter_groups(self.scene.model, config.optimisation.weight_decay, True)
        for group in groups:
            group.pop("heads")
        self.guard = FiniteGuard(device)
        fast = variant.path == "fast"
        self.optimizer = torch.optim.AdamW(groups, lr=1e-5, foreach=False if not fast else None, fused=fast or None)

    def compile(self) -> None:
        """Compile the layers that training compiles; the steps that follow warm them up."""
        compile_layers(self.scene.model.encoders)
        compile_layers(self.scene.teachers.momentum)

    def losses(self, batch: StepInputs, step: int) -> dict[str, torch.Tensor]:
        """Forward and backward; gradients are left in the model."""
        config, (model, teachers) = self.config, self.scene
        self.optimizer.zero_grad(set_to_none=True)
        if self.variant.path == "fast":
            parts = batch_parts(len(batch.identity), config.fidelity.ranks, 1)
            out = forward_backward(
                StepLosses(model),
                teachers,
                batch,
                config,
                parts,
                0.4,
                Draws(config.seed, step),
                SPECIAL,
                self.variant.precision,
            )
            assert out.image_feature_m is not None and out.text_feature_m is not None
            self.features = [out.image_feature_m, out.text_feature_m]
            return out.losses
        draws, on = Draws(config.seed, step), config.objectives.weights
        losses = plain.plain_step(
            model, teachers, batch, config.objectives, config.fidelity, 0.4, draws, SPECIAL, config.model.dropout
        )
        torch.stack([weight * losses[name] for name, weight in on.items()]).sum().backward()
        self.features = [losses[name] for name in plain.PUSHED]
        return {name: losses[name].detach() for name in on}

    def step(self, batch: StepInputs, step: int, clock: Clock | None = None) -> dict[str, torch.Tensor]:
        """A whole training step."""
        config, (model, teachers) = self.config, self.scene
        fast, m = self.variant.path == "fast", config.model.momentum
        with float32_products(self.variant.precision):
            in_part(
                clock,
                "momentum",
                lambda: (ema_update if fast else plain.plain_ema)(teachers.momentum, model.encoders, m),
            )
            losses = self.losses(batch, step)
            if fast:
                norm = gradient_norm(model, None)
                self.optimizer.found_inf = self.guard.note(0, step, {**losses, "gradient norm": norm})  # type: ignore[attr-defined]
            in_part(clock, "optimizer", self.optimizer.step)
            push: Callable[..., None] = teachers.queue.push if fast else partial(plain.plain_push, teachers.queue)
            in_part(clock, "optimizer", lambda: push(*self.features, batch.identity))
        return losses

    def timed_by_part(self, batch: StepInputs, step: int) -> dict[str, float]:
        """Seconds by part of one step; marks wait for the device, so the whole takes longer than a step does."""
        clock = Clock(self.device)
        online, momentum = self.scene.model.encoders, self.scene.teachers.momentum
        if self.variant.path == "fast":
            kept = [(owner, name) for owner in (online, momentum) for name in METHODS]
            for owner, name in kept:
                part = METHODS[name] if owner is online else "momentum"
                object.__setattr__(owner, name, clock.wrap(getattr(owner, name), part))
            undo: Callable[[], None] = partial(restore, kept)
        else:
            undo = self._wrap_plain(clock)
        try:
            clock.switch("heads")  # what is in no encoder: losses, negatives, queues
            self.step(batch, step, clock)
            clock.switch("heads")
        finally:
            undo()
        return {part: clock.seconds[part] for part in PARTS}

    def _wrap_plain(self, clock: Clock) -> Callable[[], None]:
        momentum = self.scene.teachers.momentum
        before = {name: getattr(plain, name) for name in PLAIN_FUNCTIONS}
        for name, part in PLAIN_FUNCTIONS.items():
            online, other = clock.wrap(before[name], part), clock.wrap(before[name], "momentum")
            setattr(
                plain,
                name,
                lambda encoders, *rest, a=online, b=other: (b if encoders is momentum else a)(encoders, *rest),
            )
        visions = [(self.scene.model.encoders.vision, "encode"), (momentum.vision, "momentum")]
        for vision, part in visions:
            object.__setattr__(vision, "forward_features", clock.wrap(vision.forward_features, part))

        def undo() -> None:
            for name, function in before.items():
                setattr(plain, name, function)
            for vision, _ in visions:
                object.__delattr__(vision, "forward_features")

        return undo


def restore(wrapped: list[tuple[Any, str]]) -> None:
    """Take the wrappers off again."""
    for owner, name in wrapped:
        object.__delattr__(owner, name)


def in_part(clock: Clock | None, part: str, function: Callable[[], Any]) -> None:
    """Call `function`, its time counted as `part` if there is a clock."""
    if clock is None:
        function()
        return
    with clock.timing(part):
        function()


def variants(device: torch.device, precision: str | None) -> list[Variant]:
    """Plain and fast in float32, and what the device has beyond.

    `precision` is the fast side's; it is compared with plain float32.
    """
    if precision is not None:
        return [Variant("plain", "float32"), Variant("fast", precision)]
    if device.type == "cuda":
        return [
            Variant("plain", "float32"),
            Variant("plain", "tf32"),
            Variant("fast", "tf32"),
            Variant("fast", "bf16"),
            Variant("fast", "bf16", compiled=True),
        ]
    return [Variant("plain", "float32"), Variant("fast", "float32")]


def seconds_of(function: Callable[[], Any], device: torch.device, repeats: int = 1) -> float:
    """Wall time of a call; on a GPU that of `repeats` in a row, between two events of its own, over their number."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(repeats):
                function()
            end.record()
            end.synchronize()
        return start.elapsed_time(end) / 1e3 / repeats
    tick = time.perf_counter()
    function()
    return time.perf_counter() - tick


def measured_peak(device: torch.device, precision: str) -> float:
    """FLOP/s of a large square matrix product, the most that this device gives."""
    size = 8192 if device.type == "cuda" else 2048
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(size, size, device=device, dtype=dtype)
    with float32_products(precision):
        for _ in range(2):
            a @ a
        best = min(seconds_of(lambda: a @ a, device) for _ in range(5))
    return 2 * size**3 / best


def disagreement(config: Config, size: str, batch: int, device: torch.device) -> tuple[float, float]:
    """Largest difference of a loss, and of a gradient relative to its tensor's largest, without dropout in float32."""
    quiet = config.model_copy(update={"model": config.model.model_copy(update={"dropout": 0.0})})
    sides = [Side(Variant(path, "float32"), quiet, SIZES[size][1], device) for path in ("plain", "fast")]
    pairs = batch_of(size, quiet, 1, batch, device)
    a, b = (side.losses(pairs, 0) for side in sides)
    loss = max((a[name] - b[name]).abs().item() for name in a)
    named = [side.scene.model.named_parameters() for side in sides]
    gradients = [{name: p.grad for name, p in each if p.grad is not None} for each in named]
    # An attention key's bias has no true gradient, only rounding.
    names = [n for n in gradients[0] if not n.endswith(("key.bias", "qkv.bias"))]
    scale = {n: gradients[0][n].abs().max().clamp(min=1e-8) for n in names}
    return loss, max(((gradients[0][n] - gradients[1][n]).abs().max() / scale[n]).item() for n in names)


def side_by_side(
    together: list[Variant], size: str, config: Config, vocabulary: int, batch: int, steps: int, device: torch.device
) -> list[dict[str, Any]]:
    """Figures of variants whose steps are taken in turn."""
    found, sides = [], []
    for variant in together:
        reset_peak(device)
        before = peak_mib(device)
        side = Side(variant, config, vocabulary, device)
        pairs = batch_of(size, config, 0, batch, device)
        with counter() as counted:
            side.step(pairs, 0)
        if variant.compiled:
            side.compile()
        for warm_up in range(1, 4 if device.type == "cuda" else 2):
            side.step(pairs, warm_up)
        found.append(
            {
                "variant": str(variant),
                "peak_mib": peak_mib(device) - before,
                "gflop_per_pair": counted.get_total_flops() / batch / 1e9,
            }
        )
        sides.append(side)
    peaks = [measured_peak(device, side.variant.precision) for side in sides]
    times: list[list[float]] = [[] for _ in sides]
    for i in range(steps):
        pairs = batch_of(size, config, i, batch, device)
        for side, taken in zip(sides, times, strict=True):
            taken.append(seconds_of(partial(side.step, pairs, 4 + i), device, repeats=5))
    for side, figures, taken, peak in zip(sides, found, times, peaks, strict=True):
        parts = [side.timed_by_part(batch_of(size, config, i, batch, device), 99) for i in range(min(3, steps))]
        seconds = statistics.median(taken)
        figures |= {
            "pairs_per_s": batch / seconds,
            "ms_per_step": 1e3 * seconds,
            "ms_min": 1e3 * min(taken),
            "parts_ms": {part: 1e3 * statistics.median(p[part] for p in parts) for part in PARTS},
            "peak_matrix_gflops": max(peak, measured_peak(device, side.variant.precision)) / 1e9,
        }
    return found


def compare(
    size: str,
    row: str,
    device: torch.device,
    precision: str | None,
    batch: int | None,
    steps: int,
    overrides: list[str],
) -> dict[str, Any]:
    """All figures as plain JSON types; `ratio` is the last variant against the first."""
    config = config_of(size, row, overrides)
    _, vocabulary, _, longest, full = SIZES[size]
    batch = batch or full
    if config.objectives.generator == "fixed":
        raise SpecError(f"{row}: its DistilBERT is not part of the benchmark; take another row, e.g. table4/m-rtd")
    if config.optimisation.accumulation > 1 or batch % config.fidelity.ranks:
        raise SpecError(
            f"batch {batch}: fidelity.ranks {config.fidelity.ranks} must divide it, and it is not benchmarked in "
            "parts; leave optimisation.accumulation at 1"
        )
    few = batch if batch <= 8 else max(8 // config.fidelity.ranks, 2) * config.fidelity.ranks
    loss_difference, gradient_difference = disagreement(config, size, few, device)

    sizes = Sizes.of(config, vocabulary)
    tokens = batch_of(size, config, 0, batch, device).annotated.mask.sum(1).double().mean().item()
    plain_gflop = plain_flops(sizes, batch, longest).total() / 1e9
    asked = variants(device, precision)
    # A CPU's speed drifts, so there the sides take turns; a GPU's memory would not hold them all at once.
    turns = [[variant] for variant in asked] if device.type == "cuda" else [asked]
    found: list[dict[str, Any]] = []
    for together in turns:
        found += side_by_side(together, size, config, vocabulary, batch, steps, device)
    for figures in found:
        per_peak = figures["pairs_per_s"] / figures["peak_matrix_gflops"]
        figures["utilisation"] = figures["gflop_per_pair"] * per_peak
        figures["utilisation_on_plain_flops"] = plain_gflop * per_peak
        figures["hours_a_row"] = figures["ms_per_step"] * STEPS_OF_A_ROW / 3.6e6 if size == "paper" else None
    first, last = found[0], found[-1]
    masked = config.objectives.p_mask if config.fidelity.mlm_mask_rate is None else config.fidelity.mlm_mask_rate
    paper = config.fidelity.shared_masking
    return {
        "benchmark": "train",
        "size": size,
        "row": row,
        "device": device_name(device),
        "batch": batch,
        "steps": steps,
        "threads": torch.get_num_threads(),
        "tokens_mean": tokens,
        "tokens_padded": longest,
        "fidelity": config.fidelity.preset,
        "ranks": config.fidelity.ranks,
        "plain_pairs_per_s": first["pairs_per_s"],
        "fast_pairs_per_s": last["pairs_per_s"],
        "ratio": last["pairs_per_s"] / first["pairs_per_s"],
        "fusion_ratio": first["parts_ms"]["fusion"] / max(last["parts_ms"]["fusion"], 1e-9),
        "max_abs_difference": loss_difference,
        "max_gradient_difference": gradient_difference,
        "model_gflop_per_pair": {
            "plain": plain_gflop,
            "fast": fast_step(sizes, batch, tokens, longest, masked, paper).total() / 1e9,
        }
        if row == "table4/m-rtd"
        else None,
        "variants": found,
    }
