"""FLOPs of a training step, counted by torch on a step of the run itself: 1 multiply-add = 2 FLOP.

Matrix products, convolutions and attention, forward and backward, of every model that takes part. What is done element
by element, the optimizer and the momentum update are not counted, here as in the literature.
"""

from typing import TYPE_CHECKING

import torch

from rasa.config.run import Config
from rasa.draws import Draws
from rasa.model.rasa import RaSa
from rasa.numerics import float32_products
from rasa.objectives.language import SpecialIds
from rasa.training.accumulation import Parts, forward_backward
from rasa.training.step import StepInputs, StepLosses, Teachers

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode


def counter() -> "FlopCounterMode":
    """torch's counter, taught the CPU's fused attention, which it takes for nothing."""
    from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

    def forward(query, key, value, *args, out_shape=None, **kwargs):  # type: ignore[no-untyped-def]
        return sdpa_flop_count(query, key, value)

    def backward(gradient, query, key, value, *args, out_shape=None, **kwargs):  # type: ignore[no-untyped-def]
        return sdpa_backward_flop_count(gradient, query, key, value)

    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    fused_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    return FlopCounterMode(display=False, custom_mapping={fused: forward, fused_backward: backward})


def step_flops(
    model: RaSa,
    teachers: Teachers,
    inputs: StepInputs,
    config: Config,
    parts: Parts,
    draws: Draws,
    special: SpecialIds,
    precision: str,
    process: int = 0,
) -> float:
    """FLOPs of the losses and gradients of this batch, or of a process's share of it.

    The model is as before afterwards, without gradients. In a pass of its own: the counter does not look into compiled
    layers, and must not keep the step from using them.
    """
    losses_of, alpha = StepLosses(model), config.objectives.alpha
    with torch.compiler.set_stance("force_eager"), float32_products(precision), counter() as counted:
        forward_backward(losses_of, teachers, inputs, config, parts, alpha, draws, special, precision, process)
    model.zero_grad(set_to_none=True)
    return float(counted.get_total_flops())
