"""One batch through the model, whole or in parts whose gradients are added up, for cards on which it does not fit.

A part computes what it would as one or more processes of a data-parallel training, so with `fidelity.ranks` a multiple
of `optimisation.accumulation` the parts give the numbers of the whole batch, but for dropout's draws. Otherwise
contrast and negatives stay inside a part, which the run says of itself. Where several processes train, each takes
consecutive parts.
"""

import math
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import nn

from rasa.config.run import Config
from rasa.draws import Draws
from rasa.errors import SpecError
from rasa.numerics import autocast
from rasa.objectives.language import SpecialIds
from rasa.training.processes import unsynchronised
from rasa.training.step import StepInputs, StepOutput, Teachers


class Parts(NamedTuple):
    """How a batch passes through the model: in `number` parts of `size` pairs, each as `ranks` processes would."""

    number: int
    size: int
    ranks: int
    smaller: bool  # than the shares that the fidelity asks for
    processes: int = 1  # that take the parts, equally many each

    def of(self, process: int) -> list[slice]:
        """The rows of each part that a process takes, in order."""
        each = self.number // self.processes
        starts = range(process * each * self.size, (process + 1) * each * self.size, self.size)
        return [slice(start, start + self.size) for start in starts]

    def __str__(self) -> str:
        shares = self.number * self.ranks
        return str(self.size) if shares == 1 else f"{shares} x {self.size // self.ranks}"

    @property
    def note(self) -> str | None:
        """What a reader of the run must know: accumulated parts that see fewer negatives than their fidelity says."""
        if not self.smaller:
            return None
        return f"batch {self}: the pairs of a part are contrasted and find their negatives in that part alone"


def batch_parts(batch_size: int, ranks: int, accumulation: int, processes: int = 1) -> Parts:
    """Raises SpecError for a batch, of a split smaller than optimisation.batch_size, that cannot be cut so.

    `processes` divides `ranks`. Fewer parts than processes are cut further, at the shares' edges.
    """
    for name, count in (("fidelity.ranks", ranks), ("optimisation.accumulation", accumulation)):
        if batch_size % count:
            raise SpecError(
                f"{name} {count} does not divide the batch of {batch_size}, all pairs of train; set it to 1"
            )
    number = math.lcm(accumulation, processes)
    return Parts(number, batch_size // number, max(1, ranks // number), accumulation > ranks, processes)


def out_of_memory(batch_size: int, ranks: int, accumulation: int, image_size: tuple[int, int]) -> str:
    """What to do, in one line: the next larger number of parts that cuts no share, or a smaller batch or image."""
    larger = range(accumulation + 1, batch_size + 1)
    fitting = (n for n in larger if batch_size % n == 0 and (ranks % n == 0 or n % ranks == 0))
    parts = next(fitting, None)
    remedy = "a smaller optimisation.batch_size or data.image_size"
    if parts is not None:
        remedy = f"-o optimisation.accumulation={parts}"
    where = f"batch {batch_size} in {accumulation} parts at {image_size[0]} x {image_size[1]} pixels"
    return f"out of memory with {where}; try {remedy}"


def forward_backward(
    losses_of: nn.Module,
    teachers: Teachers,
    inputs: StepInputs,
    config: Config,
    parts: Parts,
    alpha: float,
    draws: Draws,
    special: SpecialIds,
    precision: str,
    process: int = 0,
) -> StepOutput:
    """Add the gradients of a process's share of one batch, part by part.

    Returns the share's losses, detached, and momentum features. `losses_of` is a StepLosses, or a replicated one: then
    the last part's backward pass makes the gradients those of the whole batch. `inputs` holds the share's rows.
    """
    fidelity = config.fidelity.model_copy(update={"ranks": parts.ranks})
    device, outputs, mine = inputs.view1.device, [], parts.of(process)
    for rows in mine:
        drawn, batch = draws, inputs
        if parts.number > 1:
            drawn = draws.of_part(rows, parts.number * parts.size)
            batch = inputs.part(slice(rows.start - mine[0].start, rows.stop - mine[0].start))
        with nullcontext() if rows is mine[-1] else unsynchronised(losses_of):
            with autocast(precision, device):
                out: StepOutput = losses_of(teachers, batch, config.objectives, fidelity, alpha, drawn, special)
            total = torch.stack([weight * out.losses[name] for name, weight in config.objectives.weights.items()]).sum()
            (total / len(mine)).backward()
        detached = {name: loss.detach() for name, loss in out.losses.items()}
        outputs.append(out._replace(losses=detached))  # so that no part's graph outlives it
    if len(mine) == 1:
        return outputs[0]
    losses = {name: torch.stack([out.losses[name] for out in outputs]).mean() for name in outputs[0].losses}
    images = [out.image_feature_m for out in outputs if out.image_feature_m is not None]
    texts = [out.text_feature_m for out in outputs if out.text_feature_m is not None]
    return StepOutput(losses, torch.cat(images) if images else None, torch.cat(texts) if texts else None, {})
