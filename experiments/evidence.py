"""What the finished runs of a suite show of its steps, read from their directories."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from experiments.decisions import Queries, Step, step_of
from experiments.plan import PlannedRun
from experiments.rundir import PREDICTIONS, RESULT, read_result
from experiments.suite import Suite

SAME = 1e-6  # percent points; R@1 is a count of queries over their number
SETTLED = ("finished", "stale")
R1 = Mapping[tuple[str, int], float]  # test R@1 by row and seed


def steps_of_runs(suite: Suite, planned: Iterable[PlannedRun]) -> list[Step]:
    """The steps between rows of these runs, over the seeds that both have finished; a step without any is there too."""
    rows, r1, found = set(), dict[tuple[str, int], float](), dict[tuple[str, int], Queries]()
    for run in planned:
        rows.add(run.about.row)
        if run.directory is None or run.state not in SETTLED:
            continue
        reached = (read_result(run.directory / RESULT) or {}).get("test", {}).get("r1")
        if reached is None:
            continue
        key = run.about.row, run.about.seed
        r1[key] = float(reached)
        if (queries := queries_in(run.directory / PREDICTIONS, r1[key])) is not None:
            found[key] = queries
    return list(_steps(suite, rows, r1, found))


def queries_in(path: Path, r1: float) -> Queries | None:
    """What a run found of each query; None if its file is not there, names no identities or belongs to another R@1."""
    tensors = tensors_in(path)
    parts = [tensors.get(name) for name in ("first_rank", "average_precision", "identity")]
    rank, precision, identity = parts
    if rank is None or precision is None or identity is None or abs(100 * (rank == 1).mean() - r1) > SAME:
        return None
    return Queries(rank, precision, identity)


def tensors_in(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays in a file; none if there is no such file, or none that was written to its end."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError):
        return {}


def _steps(suite: Suite, rows: set[str], r1: R1, found: Mapping[tuple[str, int], Queries]) -> Iterator[Step]:
    for row in suite.rows:
        if row.name not in rows or row.versus not in rows or row.versus is None:
            continue
        seeds = {seed for name, seed in r1 if name == row.name and (row.versus, seed) in r1}
        gains = {seed: r1[row.name, seed] - r1[row.versus, seed] for seed in sorted(seeds)}
        new, old = ((suite.row(name).paper or {}).get("r1") for name in (row.name, row.versus))
        published = None if new is None or old is None else new - old
        yield step_of(row.name, row.versus, published, gains, found)
