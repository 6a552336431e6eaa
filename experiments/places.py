"""Which GPUs there are, and which run takes which: pure functions of what is visible and what is taken."""

import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import click

VISIBLE = "CUDA_VISIBLE_DEVICES"
MIG = "MIG-"
NAME = re.compile(r"\d+|GPU-[0-9A-Za-z-]+|MIG-[0-9A-Za-z/-]+")  # an index, a GPU's UUID, a part of a GPU
DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # Linux has one of these if torch may find a GPU
CPU = "cpu"  # the one device of a machine, or a command, without GPUs


class Places(NamedTuple):
    """Devices for the runs of one command on this machine."""

    devices: tuple[str, ...]  # GPUs as CUDA_VISIBLE_DEVICES names them, or the CPU
    per_device: int  # runs that share one at most
    jobs: int  # runs at a time at most
    measured: bool = False  # fewer at a time, if the memory that the first run took says so

    @property
    def on_gpus(self) -> bool:
        """Whether runs are given GPUs; else they see what this process sees."""
        return self.devices != (CPU,)


class Want(NamedTuple):
    """What a run asks for."""

    size: int = 1  # devices
    alone: bool = False  # no other run on them


class Held(NamedTuple):
    """What a run has."""

    devices: tuple[str, ...]
    alone: bool = False


def visible_gpus(environment: Mapping[str, str], count: Callable[[], int]) -> tuple[str, ...]:
    """The GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them; `count` is how many CUDA finds.

    CUDA reads the names up to the first that is none, e.g. -1. Of several MIG instances it shows a process only the
    first, so there the names count.
    """
    there = count()
    given = environment.get(VISIBLE)
    if there == 0 or given is None:
        return tuple(str(number) for number in range(there))
    names = tuple(takewhile(NAME.fullmatch, (name.strip() for name in given.split(","))))
    return names if names and all(name.startswith(MIG) for name in names) else names[:there]


def gpus_here() -> tuple[str, ...]:
    """The GPUs of this process; torch, which takes seconds to import, is asked only where there may be some."""
    if sys.platform == "linux" and not any(Path(driver).exists() for driver in DRIVERS):
        return ()
    import torch

    return visible_gpus(os.environ, torch.cuda.device_count)


def environment_of(devices: Sequence[str]) -> dict[str, str]:
    """What a process on these devices is to find in its environment."""
    return {} if tuple(devices) == (CPU,) else {VISIBLE: ",".join(devices)}


def places(
    jobs: int | None,
    per_device: int | None,
    size: int,
    configured: Collection[str],
    gpus: Sequence[str],
    cores: int,
) -> Places:
    """Devices for runs of `size` devices each; `jobs` None is as many at a time as there is room for.

    `configured` are the runs' `optimisation.device`. Raises click.UsageError.
    """
    named = sorted(device for device in configured if ":" in device)
    if named and (jobs is None or per_device is not None):
        option = "--jobs auto" if jobs is None else f"--per-device {per_device}"
        raise click.UsageError(
            f"{option}: optimisation.device {named[0]} says already where its run goes; use optimisation.device=auto"
        )
    if named or not gpus or set(configured) == {CPU}:
        if per_device is not None:
            why = "optimisation.device is cpu" if gpus else f"no GPU is visible here ({VISIBLE})"
            raise click.UsageError(f"--per-device {per_device}: {why}; --jobs says how many runs share the CPU")
        room = max(1, cores // size) if jobs is None else jobs
        return Places((CPU,), room, room, measured=jobs is None)
    if size > len(gpus):
        raise click.UsageError(f"--devices {size}: {len(gpus)} visible here ({', '.join(gpus)})")
    if size > 1 and any(gpu.startswith(MIG) for gpu in gpus):
        raise click.UsageError(f"--devices {size}: parts of a GPU (MIG) train no run together; leave --devices out")
    if jobs is None:
        per_device = per_device or 1
        return Places(tuple(gpus), per_device, len(gpus) // size * per_device)
    if per_device is None:
        return Places(tuple(gpus), math.ceil(jobs / (len(gpus) // size)), jobs)
    used = min(len(gpus) // size, math.ceil(jobs / per_device)) * size
    return Places(tuple(gpus[:used]), per_device, min(jobs, used // size * per_device))


def assign(
    devices: Sequence[str], per_device: int, held: Sequence[Held], wanted: Sequence[Want]
) -> list[tuple[str, ...] | None]:
    """The devices that each of these, first come first served, gets now; None for one that has to wait.

    The least taken ones go first. For a run that wants to be alone and has to wait, the least taken are kept clear:
    nothing that comes after it is put there.
    """
    load = Counter(device for each in held for device in each.devices)
    closed = {device for each in held if each.alone for device in each.devices}
    found: list[tuple[str, ...] | None] = []
    for want in wanted:
        open_ = sorted((device for device in devices if device not in closed), key=lambda device: load[device])
        most = 1 if want.alone else per_device
        chosen = [device for device in open_ if load[device] < most][: want.size]
        if len(chosen) == want.size:
            load.update(chosen)
            found.append(tuple(sorted(chosen, key=list(devices).index)))
            closed |= set(chosen) if want.alone else set()
        else:
            found.append(None)
            closed |= set(open_[: want.size]) if want.alone else set()
    return found
