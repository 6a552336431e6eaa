"""From the options of a command to the executor of its runs."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from experiments.capacity import room
from experiments.environment import cpu_count
from experiments.executors.interface import Executor
from experiments.executors.local import Local
from experiments.options import Where
from experiments.places import Places, Want, assign, environment_of, gpus_here, places
from experiments.plan import PlannedRun

MANY = 10**6


def starter(
    where: Where, runs: Sequence[PlannedRun], workspace: Path, apart: bool = False
) -> Callable[[Sequence[PlannedRun]], Executor] | None:
    """What makes the executor of these runs; None if they go on in this process, one after another.

    `apart`: in processes of their own in any case, which may die without this one.

    Raises click.UsageError for options that do not fit the machine, or the runs.
    """
    if (engine := elsewhere(where, workspace)) is not None:
        return lambda runs: engine()
    if (where.jobs == 1 and where.per_device is None and not apart) or not runs:
        return None
    size = where.devices or 1
    found = places_here(where, {run.config.optimisation.device for run in runs})
    found = found._replace(jobs=min(found.jobs, len(runs)))
    if not found.measured:
        return lambda runs: Local(found)
    return lambda runs: Local(found, room(runs, max(1, cpu_count() // size), size))


def elsewhere(where: Where, workspace: Path) -> Callable[[], Executor] | None:
    """What makes an executor that is not this machine's own; None for `local`. Raises click.UsageError, ResourceError.

    The executor itself raises ResourceError when it is made.
    """
    if where.executor == "ray":
        from experiments.executors.on_ray import Ray

        return lambda: Ray(workspace, where.ray_address, where.jobs, where.per_device)
    if where.executor == "slurm":
        from experiments.executors.on_slurm import Slurm, library, settings_of

        settings = settings_of(where.slurm)
        library()
        return lambda: Slurm(workspace, where.jobs, settings)
    return None


def places_here(where: Where, configured: Collection[str]) -> Places:
    """Devices of this machine for runs whose `optimisation.device` is one of these. Raises click.UsageError."""
    return places(where.jobs, where.per_device, where.devices or 1, configured, gpus_here(), cpu_count())


def environments(where: Where, configured: str) -> list[dict[str, str]]:
    """What each of as many processes as may go on at a time is to find in its environment."""
    found = places_here(where, {configured})
    wanted = [Want(where.devices or 1 if found.on_gpus else 1)] * found.jobs
    each = assign(found.devices, found.per_device, (), wanted)
    return [environment_of(devices) for devices in each if devices is not None]


def at_a_time(where: Where) -> int:
    """Runs at a time, for an estimate of how long they take; a cluster has room for all."""
    if where.executor != "local":
        return where.jobs or MANY
    return where.jobs or max(1, (len(gpus_here()) or cpu_count()) // (where.devices or 1)) * (where.per_device or 1)
