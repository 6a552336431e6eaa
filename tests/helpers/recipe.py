"""The product's own training, driven step by step, and the same recipe written a second time, slowly and by itself.

`PlainTraining` shares no line with `rasa.training.train`: rates, soft-target weight, decay, AdamW, clipping, clamp,
queue and EMA are written out here, and the losses are those of benchmarks/plain.py. What both are given are the initial
weights, the batches of the loader and the named draws of (seed, step).
"""

import copy
import math

import torch

from benchmarks.plain import PUSHED, plain_ema, plain_push, plain_step
from rasa.config.run import Config
from rasa.data.transforms import MEAN, STD
from rasa.draws import Draws
from rasa.training.processes import ALONE, replicated
from rasa.training.step import StepInputs, StepLosses
from rasa.training.train import Training

BETAS, EPSILON = (0.9, 0.999), 1e-8  # torch's AdamW, which the released code uses as it is (OF 78)


class Rows(list):
    """What a run reports, as (group, step, values)."""

    def __call__(self, group, step, values):
        self.append((group, step, values))

    def of(self, group):
        return [values for g, _, values in self if g == group]


def training(config, directory, cache=None, processes=ALONE):
    """(the run, its log) as `rasa.training.train.train` makes them, at its first step."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = Rows()
    config = config if isinstance(config, Config) else Config.model_validate(config)
    return Training(config, directory, rows, lambda line: None, cache, processes), rows


def in_double(run):
    """The same run in double precision: weights, queues, and images where they enter the encoder."""
    run.teachers.queue.double()
    doubled(run.model.encoders, run.teachers.momentum)
    run.model.double()
    run.step_losses = replicated(StepLosses(run.model), run.processes)
    return run


def doubled(*encoders):
    """Encoders that compute in double precision, also of float32 images."""
    for each in encoders:
        each.double().vision.patch_embed.register_forward_pre_hook(lambda module, given: (given[0].double(),))


def views(batch):
    """The two views [B, 3, H, W] of a batch, image by image (DI 8-19)."""
    found = []
    for mirrored in batch.flip:
        images = [image.flip(-1) if flip else image for image, flip in zip(batch.images, mirrored, strict=True)]
        pixels = torch.stack(images).float() / 255
        found.append(((pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]).double())
    return found


def plain_rates(config, epoch, i, steps):
    """Rates of the model and of the PRD and RTD heads (A.2; RET 63-64; CL 63-65)."""
    o = config.optimisation
    if config.fidelity.head_rate_from == "iteration-101" and epoch == 0 and i <= 100:
        return [o.warmup_learning_rate] * 2
    done = {"cosine-epoch": epoch / o.epochs, "cosine-step": (epoch * steps + i) / (o.epochs * steps), "constant": 0}
    falling = (1 + math.cos(math.pi * done[o.schedule])) / 2
    rates = [o.min_learning_rate + falling * (r - o.min_learning_rate) for r in (o.learning_rate, o.head_learning_rate)]
    if (at := epoch * steps + i) < o.warmup_steps:
        rates = [o.warmup_learning_rate + (r - o.warmup_learning_rate) * at / o.warmup_steps for r in rates]
    return rates


class PlainAdamW:
    """Loshchilov and Hutter 2019, Algorithm 2, parameter by parameter."""

    def __init__(self, model, weight_decay, decay_all_matrices):
        self.model, self.weight_decay, self.decay_all_matrices = model, weight_decay, decay_all_matrices
        self.first = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        self.second = copy.deepcopy(self.first)
        self.updates = 0

    def norm(self):
        """L2 norm of all gradients together."""
        return math.sqrt(sum(p.grad.square().sum().item() for p in self.model.parameters()))

    @torch.no_grad()
    def step(self, rate, head_rate, clip):
        """One update; gradients are scaled down if their norm is above `clip`."""
        self.updates += 1
        scale = 1 if clip is None else min(1, clip / (self.norm() + 1e-6))
        for name, p in self.model.named_parameters():
            own = head_rate if name.split(".")[:2] in (["heads", "prd"], ["heads", "rtd"]) else rate
            if self._decays(name, p):
                p.mul_(1 - own * self.weight_decay)
            gradient, first, second = p.grad * scale, self.first[name], self.second[name]
            first.mul_(BETAS[0]).add_((1 - BETAS[0]) * gradient)
            second.mul_(BETAS[1]).add_((1 - BETAS[1]) * gradient**2)
            mean, square = first / (1 - BETAS[0] ** self.updates), second / (1 - BETAS[1] ** self.updates)
            p.sub_(own * mean / (square.sqrt() + EPSILON))

    def _decays(self, name, parameter):
        """Released: all but vectors (OF 38). Else temperature, class token and positions are spared too."""
        if parameter.dim() == 1:
            return False
        spared = ("temperature", "cls_token", "pos_embed", "position_embeddings.weight")
        return self.decay_all_matrices or not name.endswith(spared)


def clamp(temperature, low, high):
    """The temperature brought back between the bounds."""
    with torch.no_grad():
        temperature.fill_(min(max(temperature.item(), low), high))


class PlainTraining:
    """The recipe of one run, from the weights that `run` has now on."""

    def __init__(self, run):
        self.config = run.config
        self.model, self.teachers = copy.deepcopy((run.model, run.teachers))
        self.special, self.steps = run.inputs.special, run.inputs.loader.steps_per_epoch
        decay_all = self.config.fidelity.decay_temperature_and_positions
        self.optimizer = PlainAdamW(self.model, self.config.optimisation.weight_decay, decay_all)

    def step(self, batch, epoch, i):
        """One step; the figures that a run logs of it."""
        config, objectives, encoders = self.config, self.config.objectives, self.model.encoders
        fidelity, momentum = config.fidelity, config.model.momentum
        rising = i / self.steps if epoch < objectives.alpha_warmup_epochs else 1
        alpha = objectives.alpha * rising
        if fidelity.ema_timing == "before":
            plain_ema(self.teachers.momentum, encoders, momentum)
        inputs = StepInputs(*views(batch), batch.annotated, batch.matched, batch.weak, batch.identity)
        draws = Draws(config.seed, epoch * self.steps + i)
        out = plain_step(self.model, self.teachers, inputs, objectives, fidelity, alpha, draws, self.special)
        self.model.zero_grad(set_to_none=True)
        total = sum(weight * out[name] for name, weight in objectives.weights.items())
        total.backward()
        norm, rates = self.optimizer.norm(), plain_rates(config, epoch, i, self.steps)
        self.optimizer.step(*rates, config.optimisation.clip_norm)
        if config.model.temperature_range is not None:
            clamp(self.model.temperature, *config.model.temperature_range)
        plain_push(self.teachers.queue, *(out[name] for name in PUSHED), batch.identity)
        if fidelity.ema_timing == "after":
            plain_ema(self.teachers.momentum, encoders, momentum)
        figures = {f"loss_{name}": out[name].item() for name in objectives.weights} | {"loss": total.item()}
        figures |= {"learning_rate": rates[0], "head_learning_rate": rates[1], "alpha": alpha, "gradient_norm": norm}
        return figures | {"temperature": self.model.temperature.item()}
