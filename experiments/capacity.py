"""How many runs at a time a CPU has room for: by its cores, and by the memory that runs have taken so far.

The records hold it: `cost.peak_mib` of a result, `peak_mib` of a checkpoint, which a run writes after each epoch.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from experiments.estimates import MEASURED
from experiments.plan import PlannedRun
from experiments.rundir import RESULT, read_json, read_result

MARGIN = 1.25  # a run's memory over what a run before it took
MEMINFO = Path("/proc/meminfo")
# A container's limit and use, and what of its use is cached files that give way: of version 2 and of version 1.
CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
MIB = 2**20


def fitting(cores: int, available_mib: float | None, peaks: Sequence[float]) -> int | None:
    """Runs at a time: as many as fit, at most one per core, at least one; None while nothing was measured."""
    if not peaks:
        return None
    if available_mib is None:
        return cores
    return max(1, min(cores, int(available_mib / (MARGIN * max(peaks)))))


def room(runs: Sequence[PlannedRun], cores: int, processes: int) -> Callable[[], int | None]:
    """How many of these runs, of so many processes each, may go on at a time, asked whenever one could begin."""
    available = available_mib()  # before any of them has begun
    earlier = [peak * processes for peak in _of_results(runs)]

    def now() -> int | None:
        return fitting(cores, available, [*earlier, *(peak * processes for peak in peaks_of(runs))])

    return now


def peaks_of(runs: Iterable[PlannedRun]) -> list[float]:
    """MiB that these runs have taken, by their results or last checkpoints; none of a run that has neither."""
    peaks = [_peak(run.directory) for run in runs if run.directory is not None]
    return [peak for peak in peaks if peak]


def available_mib() -> float | None:
    """MiB that may still be taken, by the machine and by the container; None where the system does not say."""
    known = []
    if (free := _fields(MEMINFO).get("MemAvailable")) is not None:
        known.append(free / 1024)
    for folder, limit, used, cached in CGROUPS:
        most = _number(folder / limit)
        if most is not None and most < 2**60:  # version 1 writes a huge number for none
            taken = (_number(folder / used) or 0) - _fields(folder / "memory.stat").get(cached, 0)
            known.append((most - taken) / MIB)
    return min(known) if known else None


def _fields(path: Path) -> dict[str, int]:
    """Lines of a name and a number, as the kernel writes them; nothing of a file that is not there."""
    try:
        words = [line.replace(":", " ").split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdecimal()}


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or `max`
        return None


def _of_results(runs: Iterable[PlannedRun]) -> list[float]:
    """Of the same rows at the same profile, whatever the seed."""
    folders = {run.directory.parent for run in runs if run.directory is not None}
    results = [path for folder in folders for path in sorted(folder.glob(f"seed-*/{RESULT}"))[-MEASURED:]]
    return [peak for path in results if (peak := _peak(path.parent))]


def _peak(directory: Path) -> float | None:
    found = (read_result(directory / RESULT) or {}).get("cost", {}).get("peak_mib")
    if found is None:
        for folder in sorted((directory / "checkpoints").glob("step-*"), reverse=True):
            state = (read_json(folder / "state.json") or {}).get("state")
            if isinstance(state, dict):
                found = state.get("peak_mib")
                break
    return float(found) if isinstance(found, int | float) else None
