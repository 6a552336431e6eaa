"""Several processes that train one run together, one per GPU, by torch.distributed.

Each takes its rows of every batch. Gradients are averaged by DistributedDataParallel while they are made; losses,
momentum features and identities are put together after it, so that all processes go on with the same weights, queues
and figures. The first one alone evaluates, writes and reports.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rasa.errors import ResourceError
from rasa.numerics import pick_device
from rasa.training.step import StepOutput

# The others wait while the first evaluates or builds a cache, however long: who has died is seen at once all the same.
PATIENCE = timedelta(days=30)

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process, `rank`, among `size`; `local` is its number on this machine. Alone, nothing is ever waited for."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether it is the one that evaluates, writes and reports."""
        return self.rank == 0

    def told(self, value: T) -> T:
        """What the first process gives, in all of them."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def agreed(self, flag: bool) -> bool:
        """The same of a flag; no GPU is waited for."""
        if self.size == 1:
            return flag
        said = torch.tensor(flag, dtype=torch.uint8)
        dist.broadcast(said, src=0)
        return bool(said)

    def total(self, number: float) -> float:
        """The sum of a number over the processes."""
        if self.size == 1:
            return number
        found = torch.tensor(number, dtype=torch.float64)
        dist.all_reduce(found)
        return found.item()

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process before the others, who find what it has built."""
        if not self.first:
            self.told(None)
        yield
        if self.first:
            self.told(None)

    def device(self, name: str) -> torch.device:
        """The device of `optimisation.device`, or of several processes this one's GPU. Raises ResourceError."""
        device = pick_device(name)
        if self.size == 1 or device.type != "cuda":
            return device
        if device.index is not None:
            raise ResourceError(
                f"optimisation.device: {name} is one GPU, but {self.size} processes train; give auto, or --devices 1"
            )
        if self.local >= (there := torch.cuda.device_count()):
            raise ResourceError(
                f"--devices {self.size}: {there} GPUs are visible here; give --devices {there}, or "
                "-o optimisation.device=cpu"
            )
        torch.cuda.set_device(self.local)
        return torch.device("cuda", self.local)

    def whole(self, out: StepOutput, identity_B: Tensor) -> tuple[StepOutput, Tensor]:
        """The whole batch's losses, momentum features and identities, from each process's share of it."""
        if self.size == 1:
            return out, identity_B
        losses = torch.stack(list(out.losses.values()))
        dist.all_reduce(losses)
        out = out._replace(losses=dict(zip(out.losses, losses / self.size, strict=True)))
        if out.image_feature_m is not None and out.text_feature_m is not None:
            images, texts = self._gathered(out.image_feature_m), self._gathered(out.text_feature_m)
            out = out._replace(image_feature_m=images, text_feature_m=texts)
        return out, self._gathered(identity_B)

    def _gathered(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in their order."""
        found = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(found, rows.contiguous())
        return torch.cat(found)


ALONE = Processes()


def replicated(losses: nn.Module, processes: Processes) -> nn.Module:
    """A module whose backward pass averages the gradients over the processes; alone, the module itself."""
    if processes.size == 1:
        return losses
    # find_unused_parameters: rows with CL use all that they have, a user's own without it leave the temperature unused.
    # And it fixes the buckets: otherwise they are laid out anew after the first step of each start, gradients are added
    # up in another order there, and a resumed run ends with other last bits than an unbroken one.
    return DistributedDataParallel(losses, find_unused_parameters=True, gradient_as_bucket_view=True)


def unsynchronised(losses: nn.Module) -> AbstractContextManager[None]:
    """Inside, gradients are added up in this process only."""
    return losses.no_sync() if isinstance(losses, DistributedDataParallel) else nullcontext()


@contextmanager
def joined(processes: Processes, store: dist.Store) -> Iterator[None]:
    """Inside, the processes that meet at `store` are one group; all leave it together.

    After a fault this process just goes, since the others may wait for it in any place.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=processes.rank, world_size=processes.size, timeout=PATIENCE)
    yield
    processes.told(None)
    dist.destroy_process_group()
