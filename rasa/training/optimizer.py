"""AdamW's parameter groups, rates by step, the gradient's norm, and the optimizer's moments as named tensors."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rasa.config.run import Optimisation
from rasa.model.rasa import RaSa


def parameter_groups(model: RaSa, weight_decay: float, decay_all_matrices: bool) -> list[dict[str, Any]]:
    """Four groups: (model | PRD and RTD heads) x (without | with weight decay). Biases and norms have none.

    `decay_all_matrices`: released code: everything that is not a vector decays, so the temperature (a scalar), position
    and class embeddings do (OF 38, 52-54).
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {(h, d): [] for h in (False, True) for d in (False, True)}
    for name, parameter in model.named_parameters():
        special = name == "temperature" or name.endswith(("pos_embed", "cls_token", "position_embeddings.weight"))
        decays = parameter.dim() != 1 and (decay_all_matrices or not special)
        groups[name.startswith(("heads.prd", "heads.rtd")), decays].append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay if decays else 0.0, "heads": heads}
        for (heads, decays), parameters in groups.items()
        if parameters
    ]


def alpha_at(alpha: float, warmup_epochs: int, epoch: int, step_in_epoch: int, steps_per_epoch: int) -> float:
    """Weight of the soft targets: linear from 0 over the first epoch, then constant (released code, RET 45-48)."""
    if epoch < warmup_epochs:
        return alpha * min(1.0, step_in_epoch / steps_per_epoch)
    return alpha


def learning_rates(
    config: Optimisation, late_heads: bool, epoch: int, step_in_epoch: int, steps_per_epoch: int
) -> tuple[float, float]:
    """Rates used at this step by the model and by the PRD and RTD heads.

    `late_heads`: released code: building the scheduler sets every group to the warm-up rate, and the heads' own
    rate arrives after iteration 100 of epoch 0 only (CL 63-65, RET 63-64).
    """
    if late_heads and epoch == 0 and step_in_epoch <= 100:
        return config.warmup_learning_rate, config.warmup_learning_rate
    step = epoch * steps_per_epoch + step_in_epoch
    progress = {
        "cosine-epoch": epoch / config.epochs,
        "cosine-step": step / (config.epochs * steps_per_epoch),
        "constant": 0.0,
    }[config.schedule]
    rates = [
        _cosine(rate, config.min_learning_rate, progress) for rate in (config.learning_rate, config.head_learning_rate)
    ]
    if step < config.warmup_steps:
        start, share = config.warmup_learning_rate, step / config.warmup_steps
        rates = [start + share * (rate - start) for rate in rates]
    return rates[0], rates[1]


def _cosine(base: float, low: float, progress: float) -> float:
    return low + 0.5 * (base - low) * (1 + math.cos(math.pi * progress))


def gradient_norm(model: nn.Module, clip: float | None) -> Tensor:
    """L2 norm of all gradients before clipping to `clip`."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if clip is not None:
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), clip, norm)
    return norm


def moments(model: RaSa, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """The optimizer's state of each parameter that has any, by name."""
    for name, parameter in model.named_parameters():
        for kind, value in optimizer.state.get(parameter, {}).items():
            yield f"optimizer.{kind}.{name}", value


def restore_moments(tensors: dict[str, Tensor], model: RaSa, optimizer: torch.optim.Optimizer) -> None:
    """Put saved `moments` in place; a parameter without any keeps none."""
    for name, parameter in model.named_parameters():
        saved = {
            kind: tensors[f"optimizer.{kind}.{name}"]
            for kind in ("step", "exp_avg", "exp_avg_sq")
            if f"optimizer.{kind}.{name}" in tensors
        }
        if saved:
            optimizer.state[parameter] = {kind: value.to(parameter.device) for kind, value in saved.items()}
