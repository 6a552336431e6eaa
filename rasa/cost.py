"""What a run costs: wall time and peak memory."""

import ctypes
import gc
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Clock:
    """Seconds of a run over all its processes, without what is not at its cost."""

    def __init__(self) -> None:
        self._started, self.before = time.monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """Wall time so far that counts."""
        return self.before + time.monotonic() - self._started

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What happens inside does not count."""
        tick = time.monotonic()
        yield
        self._started += time.monotonic() - tick


def reset_peak(device: torch.device) -> None:
    """Start a new measurement of the peak, so that one run's figure does not hold an earlier run's of this process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif RESET.exists():
        gc.collect()
        if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
            libc.malloc_trim(0)  # or memory that an earlier run freed still counts as resident
        try:
            RESET.write_text("5")
        except OSError:
            return  # a container without the right: the peak is then the process's so far


def peak_mib(device: torch.device) -> float:
    """MiB: allocated at most on the GPU, or the process's largest resident size on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
