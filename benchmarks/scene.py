"""What both sides of a benchmark are given: a config of a named size, models with equal weights, random pairs."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from experiments.spec import resolve
from experiments.targets import parse_target
from rasa.config.run import Config
from rasa.data.tokenizer import Tokens
from rasa.model.momentum import momentum_copy
from rasa.model.queue import FeatureQueue
from rasa.model.rasa import RaSa, build_model
from rasa.objectives.language import SpecialIds
from rasa.training.step import StepInputs, Teachers

# Size: the profile that it takes its model from, its vocabulary, shortest and longest caption in tokens, batch.
SIZES = {"tiny": ("smoke", 300, 10, 20, 16), "synth": ("synth", 500, 15, 29, 64), "paper": ("paper", 30522, 15, 40, 52)}
SPECIAL = SpecialIds(pad=0, cls=1, sep=2, mask=3)


class Scene(NamedTuple):
    """One side's own copy of everything that a step changes."""

    model: RaSa
    teachers: Teachers


def config_of(size: str, row: str, overrides: Sequence[str] = ()) -> Config:
    """The row of a suite (table4/m-rtd) at a size of `SIZES`."""
    suite, rows = parse_target(row)
    return resolve(suite, rows[0], SIZES[size][0], ["data.root=.", "fidelity.ranks=1", *overrides], seed=0)


def scene(config: Config, vocabulary: int, device: torch.device) -> Scene:
    """Models with weights that depend on the config alone. f-RTD's masked LM is not part of a benchmark."""
    model = build_model(config, vocabulary, SPECIAL.pad, device)
    momentum = momentum_copy(model.encoders, fusion=model.encoders.fusion is not None, language=True)
    queue = FeatureQueue(config.model.queue_size, config.model.embed_dim).to(device)
    model.train()
    momentum.train(config.fidelity.momentum_dropout)
    return Scene(model, Teachers(momentum, queue))


def captions(seed: int, count: int, vocabulary: int, shortest: int, longest: int) -> Tokens:
    """Random captions; the longest has `longest` tokens."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(shortest, longest + 1, (count,), generator=draw)
    lengths[0] = longest
    ids = torch.randint(10, vocabulary, (count, longest), generator=draw)
    mask = torch.arange(longest)[None] < lengths[:, None]
    ids[:, 0] = SPECIAL.cls
    ids[torch.arange(count), lengths - 1] = SPECIAL.sep
    return Tokens(ids.masked_fill(~mask, SPECIAL.pad), mask)


def batch_of(size: str, config: Config, seed: int, count: int, device: torch.device) -> StepInputs:
    """Random pairs; a tenth have another caption, as p-ITM draws them."""
    _, vocabulary, shortest, longest, _ = SIZES[size]
    view = torch.randn(count, 3, *config.data.image_size, generator=torch.Generator().manual_seed(seed)).to(device)
    own, other = (captions(s, count, vocabulary, shortest, longest) for s in (seed, seed + 10_000))
    weak = torch.arange(count) % 10 == 9
    matched = Tokens(*(torch.where(weak[:, None], b, a) for a, b in zip(own, other, strict=True)))
    identity = torch.randint(0, 10 * count, (count,), generator=torch.Generator().manual_seed(seed))
    return StepInputs(view, view.flip(3), own, matched, weak.to(device), identity.to(device))
