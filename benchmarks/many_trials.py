"""Seconds of a scheduling decision against the trials that a study has: 10,000, with failures and preemptions.

    .venv/bin/python -m benchmarks.many_trials FOLDER 100 1000 3000 10000 --figure docs/figures/many-trials.png

Nothing is trained. Between the sizes trials are written to the storage as they would stand after a search; at each size
decisions are made by the study itself: the next point is drawn, checked and given out, and its end is noted. One in
ten fails, one in ten is pruned, one in ten loses its driver and is found and given out again.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.resources import ensure_data
from studies.liveness import DRIVERS, Watcher, machine
from studies.points import Points, point_name
from studies.space import Sampler, load_space
from studies.storage import open_storage
from studies.study import Measured, SharedStudy
from studies.trials import EPOCHS, POINT, REASON, SECONDS, SEEDS, VALUES, tally

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

SMALL = ("train_identities=8", "val_identities=4", "test_identities=8")
DECISIONS = 10  # at each size
GOAL = 1.0  # processor seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sizes", type=int, nargs="+")
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe"])
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    records = []
    for sampler in given.samplers:
        for record in grown(given.folder / sampler, sampler, sorted(given.sizes)):
            print(json.dumps(record), flush=True)
            records.append(record)
    given.folder.mkdir(parents=True, exist_ok=True)
    (given.folder / "many-trials.json").write_text(json.dumps(records, indent=1))
    if given.figure:
        draw(records, given.figure)


def grown(workspace: Path, sampler: str, sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """A study that grows from size to size; what decisions took at each."""
    space = load_space("objective-weights")
    space = space.model_copy(update={"sampler": Sampler.model_validate({"name": sampler})})
    options = [f"data.synthetic.{text}" for text in SMALL]
    points = Points(space, "smoke", options, [0], workspace)
    workspace.mkdir(parents=True, exist_ok=True)
    ensure_data([points.row_config], workspace, lambda line: None)
    storage = open_storage(None, workspace)
    ours, lost = f"{machine()}.1.ours", f"{machine()}.1.lost"
    (workspace / DRIVERS).mkdir(parents=True, exist_ok=True)
    (workspace / DRIVERS / f"{lost}.lock").touch()  # which nobody holds: its driver is dead
    mine, theirs = (SharedStudy(points, storage, name, Watcher(workspace), lambda line: None) for name in (ours, lost))
    draw_ = random.Random(0)
    for size in sizes:
        mine.study.add_trials(made_up(mine, size - len(mine.trials()), draw_))
        walls, processor = zip(*(decision(mine, theirs, number, draw_) for number in range(DECISIONS)), strict=True)
        counts = tally(mine.trials())._asdict()
        yield {
            "trials": size,
            "sampler": sampler,
            "wall_s": round(sum(walls) / DECISIONS, 3),
            "processor_s": round(sum(processor) / DECISIONS, 3),
            "counts": counts,
        }


def made_up(shared: SharedStudy, count: int, draw: random.Random) -> "list[FrozenTrial]":
    """Ended trials as a search leaves them."""
    import optuna

    states, found = optuna.trial.TrialState, []
    for _ in range(max(0, count)):
        point = {}
        for name, distribution in shared._distributions.items():
            uniform = optuna.samplers.RandomSampler(seed=draw.getrandbits(32))
            point[name] = uniform.sample_independent(shared.study, None, name, distribution)  # type: ignore[arg-type]
        kind = draw.random()
        state = states.FAIL if kind < 0.1 else states.PRUNED if kind < 0.2 else states.COMPLETE
        value = 100 * draw.random()
        said: dict[str, Any] = {POINT: point_name(point), SEEDS: [0], EPOCHS: 5}
        said |= {REASON: "loss is nan"} if state == states.FAIL else {VALUES: [[value]], SECONDS: 20.0}
        reported = {} if state == states.FAIL else {epoch: value for epoch in range(1, 6)}
        found.append(
            optuna.create_trial(
                state=state,
                value=value if state == states.COMPLETE else None,
                params=point,
                distributions=shared._distributions,
                user_attrs=said,
                intermediate_values=reported,
            )
        )
    return found


def decision(mine: SharedStudy, theirs: SharedStudy, number: int, draw: random.Random) -> tuple[float, float]:
    """Wall and processor seconds of giving out a trial and noting its end."""
    if number == 1:
        theirs.next(10**9)  # given out by a driver that is dead by now: the next decision finds it
    wall, processor = time.monotonic(), time.process_time()
    trial = mine.next(10**9)
    assert trial is not None
    if number == 2:
        mine.again(trial, "its process died", died=True)
    elif number == 3:
        mine.fail(trial, "loss is nan", 1)
    elif number == 4:
        mine.prune(trial, 2)
    else:
        value = 100 * draw.random()
        metric = mine.points.space.objectives[0].metric
        mine.complete(trial, Measured([[value]], {metric: value}, 20.0, 5))
    return time.monotonic() - wall, time.process_time() - processor


def draw(records: Sequence[dict[str, Any]], file: Path) -> None:
    """Seconds of a decision against trials, a line for each sampler."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from experiments.plot_style import INK, PALETTE, STYLE, save

    with rc_context(STYLE):
        picture = Figure(figsize=(4.5, 3.0), layout="constrained")
        axis = picture.subplots()
        for sampler, colour in zip(dict.fromkeys(record["sampler"] for record in records), PALETTE, strict=False):
            own = [record for record in records if record["sampler"] == sampler]
            trials = [record["trials"] for record in own]
            axis.plot(trials, [r["processor_s"] for r in own], marker="o", markersize=3, color=colour, label=sampler)
            axis.plot(trials, [r["wall_s"] for r in own], marker="o", markersize=3, color=colour, linestyle="--")
        axis.axhline(GOAL, color=INK, linestyle=":", label="goal")
        axis.set(xlabel="trials of the study", ylabel="seconds a decision (dashed: clock)", xlim=0, ylim=0)
        axis.legend(frameon=False)
        save(picture, file)


if __name__ == "__main__":
    main()
