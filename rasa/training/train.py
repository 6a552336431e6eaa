"""One run, top to bottom: data, model, optimizer, resume, epochs, validation, test.

The trainer reports numbers through a plain callable and keeps what it needs to go on in its directory:
`checkpoints/step-*` (exact, see rasa/weights/folder.py), `selected/epoch-*` (the best weights under released key
names), `vocab.txt`, and at the end `predictions.safetensors` and, if asked for, `replaced.json`.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rasa.callbacks import Log, Notify
from rasa.config.formats import FORMATS
from rasa.config.run import Config
from rasa.cost import Clock, peak_mib, reset_peak
from rasa.data.loader import Batch, TrainingLoader
from rasa.draws import Draws
from rasa.evaluation.protocols import selection_key
from rasa.evaluation.rank import Ranking
from rasa.evaluation.split import evaluate_split, save_predictions
from rasa.evaluation.word_probe import sensitivity_figures
from rasa.memory import check_room, memory_explained
from rasa.model.momentum import ema_update
from rasa.numerics import FiniteGuard, device_name, float32_products, resolve_compile, resolve_precision
from rasa.training.accumulation import batch_parts, forward_backward, out_of_memory
from rasa.training.detectors import detector_figures
from rasa.training.flops import step_flops
from rasa.training.inputs import read_images, read_words, step_inputs
from rasa.training.models import build_models
from rasa.training.optimizer import alpha_at, gradient_norm, learning_rates, parameter_groups
from rasa.training.processes import ALONE, Processes, replicated
from rasa.training.replaced import replaced_words
from rasa.training.state import (
    Progress,
    check_resumable,
    computation,
    model_tensors,
    restore,
    selection,
    training_tensors,
)
from rasa.training.step import StepInputs, StepLosses, StepOutput
from rasa.training.words import FILE, save_replaced
from rasa.weights.folder import load_checkpoint, newest_checkpoint, prune, save_checkpoint, size_of
from rasa.weights.released import load_released, to_released

CHECKPOINTS_KEPT = 2


def train(
    config: Config,
    directory: Path,
    log: Log,
    should_stop: Callable[[], bool] = lambda: False,
    resume_from_step: Callable[[int], None] = lambda step: None,
    cache: Path | None = None,
    notify: Notify = lambda line: None,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Train, select by validation, test once. Returns the run's figures as plain JSON types.

    `log(group, step, values)` receives every figure, `resume_from_step` once the step from which this process goes
    on, `notify` a line for a person. With `should_stop` true the step is finished, a checkpoint written, and
    KeyboardInterrupt raised. Raises RunFailed, ResourceError or SpecError with one line. Of several `processes` each
    calls this; the first writes, reports and returns the figures, and asks `should_stop`.
    """
    run = Training(config, directory, log, notify, cache, processes)
    resume_from_step(run.resume())
    run.check_room()
    while run.progress.epoch < config.optimisation.epochs:
        run.train_epoch(should_stop)
        run.validate()
    return run.test() if processes.first else {}


class Training:
    """The state of one run: what it reads, its models and optimizer, and how far it is. Each step is a method."""

    def __init__(
        self,
        config: Config,
        directory: Path,
        log: Log,
        notify: Notify,
        cache: Path | None,
        processes: Processes = ALONE,
    ):
        self.clock = Clock()
        self.config, self.directory, self.log, self.notify = config, directory, log, notify
        self.processes, self.device = processes, processes.device(config.optimisation.device)
        if config.optimisation.threads:
            torch.set_num_threads(config.optimisation.threads)
        reset_peak(self.device)
        self.precision = resolve_precision(config.optimisation.precision, self.device)
        self.compiled = resolve_compile(config.optimisation.compile, self.device)

        with processes.in_turn():
            dataset, tokenizer = read_words(config, directory if processes.first else None, notify)
            with self.clock.stopped():  # images are decoded once for all runs, so not at this run's cost
                prefetch = self.device.type == "cuda"
                self.inputs = read_images(dataset, tokenizer, config, cache, prefetch, notify, processes)
            pairs, accumulation = self.inputs.loader.batch_size, config.optimisation.accumulation
            self.parts = batch_parts(pairs, config.fidelity.ranks, accumulation, processes.size)
            if self.parts.note:
                notify(self.parts.note)
            self.model, self.teachers = build_models(
                config, self.inputs, self.device, self.compiled, cache or directory / "cache", notify, self.clock
            )
        self.step_losses = replicated(StepLosses(self.model), processes)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(
                self.model, config.optimisation.weight_decay, config.fidelity.decay_temperature_and_positions
            ),
            fused=True,
        )
        self.guard = FiniteGuard(self.device)
        self.progress = Progress(
            identity=computation(config, self.precision, self.compiled),
            digests={"data": dataset.digest, "tokenizer": tokenizer.digest},
            processes=processes.size,
        )

    @property
    def step(self) -> int:
        """Optimizer steps taken."""
        return self.progress.epoch * self.inputs.loader.steps_per_epoch + self.progress.step_in_epoch

    def resume(self) -> int:
        """Go on from the newest checkpoint that can be read, if there is one; returns the step at which that is."""
        with self.processes.in_turn():  # the first one may have to put an old one back
            found = newest_checkpoint(self.directory / "checkpoints")
        if found:
            tensors, saved, problems = found
            for problem in problems:
                self.notify(f"{problem}; going on from the one before")
            restored = Progress.model_validate(saved)
            check_resumable(restored, self.progress, self.directory)
            self.progress = restored
            restore(tensors, self.model, self.teachers, self.optimizer)
            self.clock.before = restored.seconds
        return self.step

    def check_room(self) -> None:
        """Refuse to train what could not be kept. Raises ResourceError if the next checkpoint does not fit on disk."""
        trainable = sum(p.numel() * p.element_size() for p in self.model.parameters())
        # Two moments per weight, and the selected weights beside them.
        needed = size_of(model_tensors(self.model, self.teachers)) + 3 * trainable
        check_room(self.directory / "checkpoints", needed)

    def train_epoch(self, should_stop: Callable[[], bool]) -> None:
        """The rest of the epoch. Raises KeyboardInterrupt after a checkpoint if told to stop."""
        progress, every = self.progress, self.config.optimisation.checkpoint_steps
        tick = time.monotonic()
        for batch in self.inputs.loader.epoch(progress.epoch, start=progress.step_in_epoch):
            if progress.flops_per_step is None:
                self._count_flops(batch)
                tick = time.monotonic()
            self._train_step(batch)
            progress.step_in_epoch += 1
            progress.pairs += self.inputs.loader.batch_size
            tock = time.monotonic()
            progress.train_seconds += tock - tick
            tick = tock
            if self.processes.agreed(should_stop()):
                self.checkpoint()
                raise KeyboardInterrupt
            if every and progress.step_in_epoch % every == 0:
                self.checkpoint()
                tick = time.monotonic()
        self.guard.check()

    def _count_flops(self, batch: Batch) -> None:
        """What the step on this batch costs, in a pass that changes nothing."""
        config, inputs, draws = self.config, step_inputs(batch, self.device), Draws(self.config.seed, self.step)
        with self._look(), memory_explained(self._batch_too_large):
            own = step_flops(
                self.model,
                self.teachers,
                inputs,
                config,
                self.parts,
                draws,
                self.inputs.special,
                self.precision,
                self.processes.rank,
            )
        self.progress.flops_per_step = self.processes.total(own)

    def _train_step(self, batch: Batch) -> None:
        with memory_explained(self._batch_too_large):
            self._update(step_inputs(batch, self.device), Draws(self.config.seed, self.step))

    def _update(self, inputs: StepInputs, draws: Draws) -> None:
        """One step's rates, losses, gradients and changes of state, in the order of the released code."""
        config, epoch, i = self.config, self.progress.epoch, self.progress.step_in_epoch
        fidelity, optimisation, momentum = config.fidelity, config.optimisation, self.teachers.momentum
        steps_per_epoch = self.inputs.loader.steps_per_epoch
        rates = learning_rates(optimisation, fidelity.head_rate_from == "iteration-101", epoch, i, steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rates[1] if group["heads"] else rates[0]
        alpha = alpha_at(config.objectives.alpha, config.objectives.alpha_warmup_epochs, epoch, i, steps_per_epoch)
        # As the released code does inside its forward pass (MPS 72).
        if fidelity.ema_timing == "before":
            ema_update(momentum, self.model.encoders, config.model.momentum)
        self.optimizer.zero_grad(set_to_none=True)
        with float32_products(self.precision):
            out = forward_backward(
                self.step_losses,
                self.teachers,
                inputs,
                config,
                self.parts,
                alpha,
                draws,
                self.inputs.special,
                self.precision,
                self.processes.rank,
            )
        out, identity_B = self.processes.whole(out, inputs.identity)
        norm = gradient_norm(self.model, optimisation.clip_norm)
        # As a gradient scaler would: the fused kernel applies nothing where this is 1.
        self.optimizer.found_inf = self.guard.note(epoch, i, {**out.losses, "gradient norm": norm})  # type: ignore[attr-defined]
        if self.device.type == "cpu":
            self.guard.check()
        self.optimizer.step()
        # As ALBEF's pre-training does; the released code has no clamp, and the field is null there.
        if config.model.temperature_range:
            with torch.no_grad():
                self.model.temperature.clamp_(*config.model.temperature_range)
        if out.image_feature_m is not None and out.text_feature_m is not None:
            self.teachers.queue.push(out.image_feature_m, out.text_feature_m, identity_B)
        if fidelity.ema_timing == "after":
            ema_update(momentum, self.model.encoders, config.model.momentum)
        log_every = max(10 if self.device.type == "cuda" else 1, steps_per_epoch // 100)  # a GPU is waited for at each
        if i % log_every == 0:
            self.guard.check()
            self._log_step(out, norm, rates, alpha)

    def _batch_too_large(self) -> str:
        config, pairs = self.config, self.inputs.loader.batch_size
        return out_of_memory(pairs, config.fidelity.ranks, self.parts.number, config.data.image_size)

    def _log_step(self, out: StepOutput, norm: Tensor, rates: tuple[float, float], alpha: float) -> None:
        scalars = {f"loss_{name}": value for name, value in out.losses.items()}
        scalars |= {"gradient_norm": norm, "temperature": self.model.temperature.detach()}
        figures = dict(zip(scalars, torch.stack(list(scalars.values())).tolist(), strict=True))  # one wait for all
        weights = self.config.objectives.weights
        total = sum(weight * figures[f"loss_{name}"] for name, weight in weights.items())
        figures |= {"loss": total, "learning_rate": rates[0], "head_learning_rate": rates[1], "alpha": alpha}
        self.log("train", self.step, figures)

    def validate(self) -> None:
        """Measure the epoch on validation, keep the weights if they are the best so far, move to the next epoch."""
        if self.processes.first:
            self._validate()
        self.progress = self.processes.told(self.progress)

    def _validate(self) -> None:
        config, inputs, progress = self.config, self.inputs, self.progress
        step, epoch = self.step, progress.epoch + 1
        figures = self._ranking("val").figures()
        if inputs.held_out is not None:
            figures |= self._detect(inputs.held_out, epoch)
        self.log("val", step, figures | {"epoch": epoch})
        progress.history.append({"epoch": epoch, **figures})
        if config.evaluation.selection_gap:
            with self._look():
                tested = self._ranking("test").final.metrics
            progress.tested.append({"epoch": epoch, **tested})
        key = selection_key(figures)
        progress.epoch, progress.step_in_epoch = epoch, 0
        selected = self.directory / "selected"
        if key > progress.best:
            progress.best, progress.best_epoch = key, epoch
            save_checkpoint(_of_epoch(selected, epoch), to_released(self.model, redundant=False), progress.history[-1])
        self.checkpoint()
        for old in selected.glob("epoch-*"):
            if progress.best_epoch is None or old != _of_epoch(selected, progress.best_epoch):
                shutil.rmtree(old)

    def _detect(self, held_out: TrainingLoader, epoch: int) -> dict[str, float]:
        """What the detectors make of held-out pairs; of the last epoch also the words themselves are kept."""
        config, tokenizer = self.config, self.inputs.tokenizer
        if epoch == config.optimisation.epochs and config.objectives.generator is not None:
            words = replaced_words(self.model, self.teachers, held_out, self.device, config, tokenizer, epoch)
            save_replaced(words, self.directory / FILE)
        pairs = (step_inputs(batch, self.device) for batch in held_out.epoch(0))
        objectives, fidelity, special = config.objectives, config.fidelity, self.inputs.special
        return detector_figures(self.model, self.teachers, pairs, objectives, fidelity, special, tokenizer)

    def checkpoint(self) -> None:
        """Keep all that a resumed run needs. Raises RunFailed if a loss or gradient since the last was no number."""
        self.guard.check()
        if not self.processes.first:
            return
        self.progress.seconds = self.clock.seconds
        self.progress.peak_mib = max(self.progress.peak_mib, peak_mib(self.device))
        folder = self.directory / "checkpoints"
        tensors = training_tensors(self.model, self.teachers, self.optimizer)
        save_checkpoint(folder / f"step-{self.step:09d}", tensors, self.progress.model_dump())
        prune(folder, CHECKPOINTS_KEPT)

    def test(self) -> dict[str, Any]:
        """Test once, on the selected weights; returns the run's figures."""
        config, inputs, progress, step = self.config, self.inputs, self.progress, self.step
        assert progress.best_epoch is not None
        selected = self.directory / "selected"
        weights, _ = load_checkpoint(_of_epoch(selected, progress.best_epoch))
        load_released(weights, self.model, source=str(selected))
        ranking, (tested, images) = self._ranking("test"), inputs.galleries["test"]
        found: dict[str, Any] = {"test": ranking.figures()}
        self.log("test", step, found["test"])
        if "source" in inputs.galleries:
            with self._look():
                found["source"] = self._ranking("source").figures()
            self.log("source", step, found["source"])
        if config.evaluation.sensitivity:
            with self._look():
                found["sensitivity"] = sensitivity_figures(
                    self.model, lambda: images, tested, inputs.tokenizer, config, self.device
                )
            self.log("probe", step, found["sensitivity"])
        protocol = FORMATS[config.data.format].protocol
        save_predictions(self.directory, ranking, tested, protocol)
        found["cost"] = self._cost()
        self.log("cost", step, found["cost"])
        chosen = selection(progress, config.optimisation.epochs, inputs.loader.steps_per_epoch)
        return found | chosen | self._facts()

    def _cost(self) -> dict[str, float]:
        per_step = self.progress.flops_per_step
        flops = {} if per_step is None else {"flops_per_step": per_step, "flops": per_step * self.step}
        return {
            "seconds": self.clock.seconds,
            "looks_seconds": self.progress.looks_seconds,
            "pairs_per_s": self.progress.pairs / self.progress.train_seconds,
            "peak_mib": max(self.progress.peak_mib, peak_mib(self.device)),
            "steps": float(self.step),
            "parameters": float(sum(p.numel() for p in self.model.parameters())),
            **flops,
        }

    def _facts(self) -> dict[str, Any]:
        """How it was computed, and on what."""
        return {
            "numerics": {
                "precision": self.precision,
                "compiled": self.compiled,
                "batch": str(self.parts),
                "processes": self.processes.size,
                "device": device_name(self.device),
            },
            "digests": self.progress.digests,
            "sizes": self.inputs.dataset.sizes(),
        }

    def _ranking(self, name: str) -> Ranking:
        """`val`, `test` or `source` ranked by the model as it is."""
        split, images = self.inputs.galleries[name]
        return evaluate_split(self.model, split, images, self.inputs.tokenizer, self.config, self.device)

    @contextmanager
    def _look(self) -> Iterator[None]:
        """An evaluation that training does not need: timed beside the run's own seconds."""
        tick = time.monotonic()
        with self.clock.stopped():
            yield
        self.progress.looks_seconds += time.monotonic() - tick


def _of_epoch(selected: Path, epoch: int) -> Path:
    return selected / f"epoch-{epoch:04d}"
