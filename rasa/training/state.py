"""Where a run stands: all that a resumed run needs, as plain values and as named tensors."""

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from rasa.config.run import Config
from rasa.data.tokenizer import Tokenizer
from rasa.errors import ResourceError
from rasa.evaluation.protocols import selection_key
from rasa.model.momentum import momentum_copy
from rasa.model.queue import FeatureQueue
from rasa.model.rasa import Encoders, RaSa, build_model
from rasa.training.optimizer import moments, restore_moments
from rasa.training.step import Teachers


def untrained(config: Config, tokenizer: Tokenizer, device: torch.device) -> tuple[RaSa, Encoders, FeatureQueue]:
    """The online model, its momentum copy with what the objectives ask of it, and the queues, at first weights."""
    model = build_model(config, tokenizer.vocabulary_size, tokenizer.pad_id, device)
    soft = "mlm" in config.objectives.weights and config.fidelity.mlm_soft_targets
    asked = soft or config.objectives.generator == "momentum"
    momentum = momentum_copy(model.encoders, fusion=asked, language=asked)
    return model, momentum, FeatureQueue(config.model.queue_size, config.model.embed_dim, config.seed).to(device)


class Progress(BaseModel):
    """Where a run stands; with the tensors, all that a resumed run needs. Draws are functions of seed and step."""

    identity: dict[str, Any]
    digests: dict[str, str]
    processes: int = 1  # that train; dropout's draws and the order of sums depend on it
    epoch: int = 0
    step_in_epoch: int = 0
    best_epoch: int | None = None
    best: tuple[float, float] = (float("-inf"), float("-inf"))
    history: list[dict[str, float]] = []
    tested: list[dict[str, float]] = []  # of every epoch, if the selection gap is asked for
    seconds: float = 0.0
    looks_seconds: float = 0.0  # of evaluations that training does not need; not among `seconds`
    train_seconds: float = 0.0
    pairs: int = 0
    flops_per_step: float | None = None  # of the first step; None until it was counted
    peak_mib: float = 0.0


def selection(progress: Progress, epochs: int, steps_per_epoch: int) -> dict[str, Any]:
    """The checkpoint that validation chose, the last one, and the best on test if every epoch was tested."""
    assert progress.best_epoch is not None
    epoch, step = progress.best_epoch, progress.best_epoch * steps_per_epoch
    found: dict[str, Any] = {
        "selected": {"epoch": epoch, "step": step, "val": progress.history[epoch - 1]},
        "last": {"epoch": epochs, "val": progress.history[-1]},
    }
    if progress.tested:
        best = max(progress.tested, key=lambda figures: selection_key(figures)[0])
        found["last"]["test"] = _figures(progress.tested[-1])
        found["test_oracle"] = {"epoch": int(best["epoch"]), "test": _figures(best)}
    return found


def _figures(of_epoch: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in of_epoch.items() if name != "epoch"}


def computation(config: Config, precision: str, compiled: bool) -> dict[str, Any]:
    """The config as far as a checkpoint depends on it, with `auto` settled.

    Places of files are left out, since their contents count.
    """
    identity = config.identity()
    del identity["data"]["tokenizer"], identity["objectives"]["masked_lm"]
    identity["optimisation"] |= {"precision": precision, "compile": compiled}
    return identity


def training_tensors(model: RaSa, teachers: Teachers, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything that has a tensor's shape: online, momentum, queues, optimizer moments."""
    return {**model_tensors(model, teachers), **dict(moments(model, optimizer))}


def model_tensors(model: RaSa, teachers: Teachers) -> dict[str, Tensor]:
    """The same without the optimizer's."""
    tensors: dict[str, Tensor] = {f"model.{name}": p for name, p in model.named_parameters()}
    tensors |= {f"momentum.{name}": p for name, p in teachers.momentum.named_parameters()}
    return tensors | {f"queue.{name}": b for name, b in teachers.queue.named_buffers()}


def check_resumable(saved: Progress, now: Progress, directory: Path) -> None:
    """Refuse to go on from another run's checkpoint, or with another number of processes. Raises ResourceError."""
    if (saved.identity, saved.digests) != (now.identity, now.digests):
        raise ResourceError(f"{directory}: its checkpoint belongs to another config or to other data; remove it")
    if saved.processes != now.processes:
        raise ResourceError(
            f"{directory}: its checkpoint was made with --devices {saved.processes}, not {now.processes}; go on with "
            f"--devices {saved.processes}, or remove its folder `checkpoints` to begin anew"
        )


def restore(tensors: dict[str, Tensor], model: RaSa, teachers: Teachers, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's tensors in place. Raises ResourceError if they are another model's."""
    restore_models(tensors, model, teachers)
    restore_moments(tensors, model, optimizer)


@torch.no_grad()
def restore_models(tensors: dict[str, Tensor], model: RaSa, teachers: Teachers) -> None:
    """The same without the optimizer's."""
    own = model_tensors(model, teachers)
    differing = sorted(set(own) ^ {name for name in tensors if not name.startswith("optimizer.")})
    if differing:
        raise ResourceError(f"the checkpoint has other tensors than the model: {', '.join(differing[:5])}")
    for name, target in own.items():
        target.copy_(tensors[name])
