"""One search under several pruners, on the same points: what each saves, and whether it still finds the best value.

    python -m benchmarks.pruning --trials 24 --jobs 2 [--space FILE] [--profile synth]

The sampler is random, and its draws depend on a trial's number alone. Each study has a workspace of its own, or the
runs that one has finished would be taken by the next. Prints a table; the exit code is 1 if the points differed.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from experiments.resources import ensure_data
from studies.points import Points, point_name
from studies.report import effort
from studies.session import search
from studies.space import Pruner, Sampler, Space, load_space
from studies.trials import tally

PRUNERS = {
    "none": Pruner(name="none"),
    "median": Pruner(name="median", startup_trials=4, warmup_epochs=1),
    "hyperband": Pruner(name="hyperband", reduction_factor=3),
}


def measure(space: Space, profile: str, trials: int, jobs: int, workspace: Path) -> tuple[str, list[str]]:
    """A line of the table, and the names of the points in their order."""
    points = Points(space, profile, (), None, workspace)
    ensure_data([points.row_config], workspace, print)
    began = time.monotonic()
    found = search(points, None, trials, jobs)
    count, cost = tally(found), effort(points, found)
    best = max(trial.values[0] for trial in found if trial.values is not None and trial.state.name == "COMPLETE")
    line = (
        f"{space.pruner.name:<10} {count.complete:>8} {count.pruned:>7} {cost.epochs:>7} {cost.saved:>6.0%} "
        f"{best:>8.2f} {time.monotonic() - began:>8.0f}"
    )
    return line, [point_name(trial.params) for trial in found]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default=str(Path(__file__).with_name("pruning.yaml")))
    parser.add_argument("--profile", default="synth")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    space, folder = load_space(options.space), Path(tempfile.mkdtemp())
    lines, points = [], []
    for name, pruner in PRUNERS.items():
        searched = space.model_copy(update={"pruner": pruner, "sampler": Sampler(name="random")})
        line, names = measure(searched, options.profile, options.trials, options.jobs, folder / name)
        lines.append(line)
        points.append(sorted(names))
    metric = space.objectives[0].metric
    print(f"{'pruner':<10} complete  pruned  epochs  saved {metric:>8} seconds")
    print("\n".join(lines))
    return 0 if all(names == points[0] for names in points) else 1


if __name__ == "__main__":
    sys.exit(main())
