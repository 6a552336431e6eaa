"""How training computes: device, precision of matrix products, and the guard against what is no number."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from rasa.errors import Diverged, ResourceError


def resolve_precision(precision: str, device: torch.device) -> str:
    """float32, tf32 or bf16; `auto` is bf16 on a GPU and float32 elsewhere."""
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" else "float32"


def resolve_compile(compiled: bool | str, device: torch.device) -> bool:
    """`auto` compiles on a GPU; on a CPU, where matrix products dominate, it gained 4 % (docs/performance.md)."""
    return device.type == "cuda" if compiled == "auto" else bool(compiled)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Inside, matrix products run in bf16 if `precision` says so, else in their inputs' precision.

    What holds outside does not matter.
    """
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Inside, float32 products and convolutions round their inputs to TF32 (GPUs) if `precision` is tf32, else not."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


class FiniteGuard:
    """Notes the first step whose losses or gradient are no numbers, without a word from the device at each step.

    The flag that `note` returns goes to the optimizer as `found_inf`: from that step on no update is applied. `check`
    asks the device, and must be called before anything is kept.
    """

    def __init__(self, device: torch.device):
        self._bad = torch.zeros((), dtype=torch.bool, device=device)
        self._noted: list[tuple[int, int, dict[str, Tensor], Tensor]] = []

    def note(self, epoch: int, step_in_epoch: int, values: dict[str, Tensor]) -> Tensor:
        """1.0 if these or any earlier values are not finite, else 0.0; on the device."""
        values = {name: value.detach() for name, value in values.items()}
        finite = torch.stack([value.isfinite() for value in values.values()])
        self._bad = self._bad | ~finite.all()
        self._noted.append((epoch, step_in_epoch, values, finite))
        return self._bad.float()

    def check(self) -> None:
        """Raise Diverged, naming step and loss, if a noted value was not finite."""
        noted, self._noted = self._noted, []
        if not noted:
            return
        for (epoch, step, values, _), finite in zip(noted, torch.stack([f for *_, f in noted]).tolist(), strict=True):
            if not all(finite):
                name = list(values)[finite.index(False)]
                raise Diverged(
                    f"{name} is {values[name].item()} at epoch {epoch + 1}, step {step + 1}; the step was not "
                    "applied; try a lower optimisation.learning_rate or optimisation.clip_norm=1"
                )


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU if there is one. Raises ResourceError for a device this machine lacks."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as fault:
        raise ResourceError(f"optimisation.device: {name} is not available here; use auto or cpu") from fault
    return device


def device_name(device: torch.device) -> str:
    """What a reader of a figure needs to know of the device: the GPU's name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
