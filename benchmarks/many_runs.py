"""How plan, status, sync and report grow with the runs of a workspace. The runs are made up: records without training.

.venv/bin/python -m benchmarks.many_runs FOLDER 1000 3000 10000 --figure docs/figures/many-runs.png

The smallest size is synced, the stores of the others are filled from it (benchmarks/fill_store.py), unless --sync says
otherwise.

Each command runs in a process of its own; wall and processor seconds are printed as JSON lines and kept in FOLDER.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.fill_store import fill
from experiments.environment import environment
from experiments.plan import PlannedRun, plan
from experiments.resources import ensure_data
from experiments.rundir import ABOUT, ENVIRONMENT, METRICS, PREDICTIONS, RESULT, SPEC, write_json, write_text
from experiments.spec import load_suite
from experiments.suite import Suite
from experiments.yaml_io import dump

SMALL = ("train_identities=8", "val_identities=4", "test_identities=8")
OVERRIDES = [f"data.synthetic.{text}" for text in SMALL]
EPOCHS, LOGGED, FIGURES = 5, 10, 12  # validations, logged steps, figures of each: what a run of profile smoke has
COMMANDS = {"sync": 60.0, "plan": 10.0, "status": 10.0, "report": 10.0}  # goals; sync's in ms a run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--sync", action="store_true", help="sync every size, and measure that")
    given = parser.parse_args()
    results = given.folder / "many-runs.jsonl"
    for size in given.sizes:
        workspace = given.folder / str(size)
        make(workspace, size)
        if not given.sync and size > min(given.sizes):
            fill(workspace, given.folder / str(min(given.sizes)))
        synced = (workspace / "mlflow.db").exists()
        for command in (name for name in COMMANDS if name != "sync" or not synced):
            record = {"runs": size, "command": command, **measure(workspace, command, size)}
            print(json.dumps(record), flush=True)
            with results.open("a") as file:
                file.write(json.dumps(record) + "\n")
    if given.figure:
        draw([json.loads(line) for line in results.read_text().splitlines()], given.figure)


def make(workspace: Path, count: int) -> None:
    """`count` finished runs of Table 4's ten rows in `workspace`."""
    if workspace.exists():
        return
    suite = load_suite("table4")
    workspace.mkdir(parents=True)
    ensure_data([run.config for run in _planned(suite, 1, workspace)], workspace, print)
    specs: dict[str, str] = {}
    for run in _planned(suite, count // len(suite.rows), workspace):
        row = run.about.row
        if row not in specs:
            specs[row] = dump(run.config.model_dump(mode="json"))
        _write(run, specs[row])


def _planned(suite: Suite, seeds: int, workspace: Path) -> list[PlannedRun]:
    return plan(suite, suite.rows, "smoke", OVERRIDES, range(seeds), workspace)


def _write(run: PlannedRun, spec: str) -> None:
    from safetensors.numpy import save

    directory, draw = run.directory, random.Random(run.about.run_id)
    assert directory is not None
    directory.mkdir(parents=True)
    seed = run.about.seed
    lines = [f"seed: {seed}\n" if line.startswith("seed:") else line for line in spec.splitlines(keepends=True)]
    write_text(directory / SPEC, "".join(lines), durable=False)
    write_json(directory / ABOUT, run.about.model_dump(mode="json"), durable=False)
    started = f"2026-01-01T{seed // 3600 % 24:02}:{seed // 60 % 60:02}:{seed % 60:02}+00:00"
    write_json(directory / ENVIRONMENT, _environment() | {"started": started}, durable=False)
    write_text(directory / METRICS, "".join(json.dumps(line) + "\n" for line in _points(draw)), durable=False)
    kept = _predictions(draw)
    (directory / PREDICTIONS).write_bytes(save(kept))
    write_json(directory / RESULT, _result(run, 100 * float((kept["first_rank"] == 1).mean()), draw), durable=False)


_environment = cache(environment)


def _points(draw: random.Random) -> list[dict[str, Any]]:
    step, points = 0, []
    for _ in range(EPOCHS):
        for _ in range(LOGGED // EPOCHS):
            points.append(_point("train", step, [f"loss_{number}" for number in range(FIGURES)], draw))
            step += 1
        points.append(_point("val", step, ["r1", "r5", "r10", "map", "stage1_r1", "epoch"], draw))
    return points


def _point(group: str, step: int, names: Sequence[str], draw: random.Random) -> dict[str, Any]:
    return {
        "group": group,
        "step": step,
        "values": {name: draw.random() for name in names},
        "time": 1767225600.0 + step,
    }


def _predictions(draw: random.Random) -> dict[str, Any]:
    import numpy as np

    queries = 8 * 2 * 2
    rank = np.array([draw.choice([1, 1, 2, 5]) for _ in range(queries)], np.int64)
    return {"first_rank": rank, "average_precision": 1.0 / rank, "identity": np.arange(queries) // 4}


def _result(run: PlannedRun, r1: float, draw: random.Random) -> dict[str, Any]:
    about, val = run.about, {"r1": 100 * draw.random(), "epoch": EPOCHS}
    who = {"run_id": about.run_id, "suite": about.suite, "row": about.row, "profile": about.profile, "seed": about.seed}
    return who | {
        "test": {"r1": r1, "r5": 90.0, "r10": 95.0, "map": r1},
        "cost": {"seconds": 10.0, "pairs_per_s": 100.0, "peak_mib": 500.0, "steps": float(LOGGED)},
        "selected": {"epoch": EPOCHS, "step": LOGGED, "val": val},
        "last": {"epoch": EPOCHS, "val": val},
        "digests": {"data": about.data_digest, "row": about.row_digest},
        "sizes": {"test": {"images": 16, "captions": 32, "identities": 8}},
        "finished": "2026-01-02T00:00:00+00:00",
    }


def measure(workspace: Path, command: str, count: int) -> dict[str, float]:
    """Wall and processor seconds of one command, and for sync milliseconds a run."""
    seeds = ["--seeds", ",".join(map(str, range(count // 10)))] if command == "plan" else []
    options = [part for text in OVERRIDES for part in ("-o", text)]
    target = ["table4", "--profile", "smoke", *options] if command in ("plan", "report") else []
    words = [command, *target, *seeds, "--workspace", str(workspace)]
    before, tick = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    program = "import sys; from rasa.commands.cli import main; sys.exit(main(sys.argv[1:]))"
    subprocess.run([sys.executable, "-c", program, *words], check=True, stdout=subprocess.DEVNULL)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - tick
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(wall, 2), "processor_s": round(processor, 2)}


def draw(records: Sequence[dict[str, Any]], file: Path) -> None:
    """Seconds against runs, a panel for each command, with its goal."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from experiments.plot_style import INK, OURS, QUIET, STYLE, save

    with rc_context(STYLE):
        picture = Figure(figsize=(8.0, 2.6), layout="constrained")
        axes = picture.subplots(1, len(COMMANDS))
        for axis, (command, goal) in zip(axes, COMMANDS.items(), strict=True):
            own = sorted((r for r in records if r["command"] == command), key=lambda record: record["runs"])
            runs = [record["runs"] for record in own]
            # Not wall time: that is as much of the machine's other programs.
            seconds = [record["processor_s"] for record in own]
            axis.plot(runs, seconds, marker="o", markersize=3, color=OURS, label="processor")
            axis.plot(runs, [record["wall_s"] for record in own], marker="o", markersize=3, color=QUIET, label="clock")
            limits = [goal / 1000 * number for number in runs] if command == "sync" else [goal] * len(runs)
            axis.plot(runs, limits, color=INK, linestyle=":", label="goal")
            axis.set(title=command, xlabel="runs", ylim=0, xlim=0)
            axis.grid(axis="y")
        axes[0].set_ylabel("seconds")
        axes[0].legend(frameon=False)
        save(picture, file)


if __name__ == "__main__":
    main()
