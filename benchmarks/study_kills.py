"""A study whose workers are killed -9 at random: is every trial there once, and does MLflow agree with Optuna?

    python -m benchmarks.study_kills --trials 40 --jobs 4 --kills 12 [--space objective-weights] [--profile smoke]

Prints the figures as JSON; the exit code is 1 if a trial is lost, doubled, or filed otherwise in MLflow.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from experiments import store
from experiments.outcome import Train
from experiments.resources import ensure_data
from studies.points import Points, point_name
from studies.session import search
from studies.space import load_space
from studies.trials import states, tally

STATUSES = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}


def drive(bound: tuple[Any, ...], url: str | None, trials: int, jobs: int, train: Train | None) -> None:
    """In a process of its own: the whole study."""
    search(Points(*bound), url, trials, jobs, train=train)


def under_fire(
    points: Points,
    url: str | None,
    trials: int,
    jobs: int,
    kills: int,
    pause: tuple[float, float],
    train: Train | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Run the study, kill so many workers meanwhile, and say how it stands."""
    bound = (points.space, points.profile, points.overrides, points.seeds, points.workspace)
    process = multiprocessing.get_context("spawn").Process(target=drive, args=(bound, url, trials, jobs, train))
    process.start()
    draw, killed, began = random.Random(seed), 0, time.monotonic()
    while process.is_alive():
        time.sleep(draw.uniform(*pause))
        victims = _workers(process.pid or 0)
        if killed < kills and victims:
            os.kill(draw.choice(victims), signal.SIGKILL)
            killed += 1
    process.join()
    found = search(points, url, trials, 1, train=_nothing_is_left)  # brings MLflow up to date, and trains nothing
    return audit(points, found) | {"killed": killed, "exit": process.exitcode, "seconds": time.monotonic() - began}


def audit(points: Points, found: list[Any]) -> dict[str, Any]:
    """What Optuna has of the study, and in how many trials MLflow says otherwise."""
    of = states(found)
    ended = [trial for trial in found if of[trial.number] in ("complete", "pruned", "failed")]
    return {
        "trials": len(found),
        "numbers_unique": len({trial.number for trial in found}) == len(found),
        "points_unique": len({point_name(trial.params) for trial in ended}) == len(ended),
        **tally(found)._asdict(),
        "reasons": Counter(trial.user_attrs.get("reason") for trial in found if trial.state.name == "FAIL"),
        "mlflow_disagrees": _disagreements(points, found),
    }


def _disagreements(points: Points, found: list[Any]) -> int:
    client, of = store.open_store(store.default_uri(points.workspace)), states(found)
    experiment = client.get_experiment_by_name(points.suite_name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`rasa.kind` = 'trial'", max_results=5000)
    filed = sorted((int(run.data.tags["rasa.trial"]), run.info.status, run.data.tags["rasa.state"]) for run in runs)
    recorded = sorted((trial.number, STATUSES[trial.state.name], of[trial.number]) for trial in found)
    values = {int(run.data.tags["rasa.trial"]): run.data.metrics.get("val/r1") for run in runs}
    wrong = sum(t.state.name == "COMPLETE" and values.get(t.number) != t.values[0] for t in found)
    return wrong + len(set(filed) ^ set(recorded)) + abs(len(filed) - len(recorded))


def _workers(driver: int) -> list[int]:
    """The driver's training processes; not multiprocessing's resource tracker, without which they would leak."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_text()
        except OSError:
            continue  # it has ended
        if parent == driver and "spawn_main" in command:
            found.append(int(folder.name))
    return found


def _nothing_is_left(config: Any, directory: Path, **rest: Any) -> dict[str, Any]:
    raise AssertionError(f"{directory} was to be trained after the study had ended")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="objective-weights")
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--storage")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--pause", type=float, nargs=2, default=(5.0, 20.0), help="least and greatest seconds between")
    options = parser.parse_args()
    workspace = Path(tempfile.mkdtemp())
    points = Points(load_space(options.space), options.profile, (), None, workspace)
    ensure_data([points.row_config], workspace, print)
    figures = under_fire(points, options.storage, options.trials, options.jobs, options.kills, tuple(options.pause))
    print(json.dumps(figures, indent=1))
    ended = figures["complete"] + figures["pruned"] + figures["failed"]
    sound = figures["numbers_unique"] and figures["points_unique"] and not figures["mlflow_disagrees"]
    return 0 if sound and ended == options.trials and figures["exit"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
