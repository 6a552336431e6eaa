"""AdamW's parameter groups, the gradient's norm, and the optimizer's moments as named tensors."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

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
