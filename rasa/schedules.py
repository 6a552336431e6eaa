"""What changes with the step: learning rates and the weight of soft targets."""

import math

from rasa.config import Optimisation


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
