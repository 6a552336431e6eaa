"""A stand-in for the trainer, whose figures are functions of the step."""

import json
import os
import time

STEPS = 5  # per epoch


def trainer(config, directory, log, should_stop, resume_from_step, cache, notify):
    """Two epochs whose figures are functions of the step, checkpointed after each step in the trainer's layout."""
    with (directory / "calls").open("a") as calls:
        calls.write("trained\n")
    done = [int(path.name[5:]) for path in directory.glob("checkpoints/step-*")]
    step = max(done, default=0)
    resume_from_step(step)
    while step < STEPS * config.optimisation.epochs:
        log("train", step, {"loss": 1 / (step + 1)})
        step += 1
        if step % STEPS == 0:
            log("val", step, {"r1": float(step), "epoch": step // STEPS})
        checkpoint(directory, step)
        if should_stop():
            raise KeyboardInterrupt
        time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
    figures = {"r1": 50.0 + config.seed, "r5": 60.0, "r10": 70.0, "map": 40.0}
    log("test", step, figures)
    cost = {"seconds": 4.0, "steps": step}
    return {"selected": {"epoch": 2, "step": step, "val": {"r1": 10.0}}, "test": figures, "cost": cost}


def checkpoint(directory, step):
    folder = directory / "checkpoints" / f"step-{step:09d}"
    folder.mkdir(parents=True)
    state = {"epoch": step // STEPS, "step_in_epoch": step % STEPS}
    (folder / "state.json").write_text(json.dumps({"state": state}))


def stops_at_step_7(config, directory, log, should_stop, resume_from_step, cache, notify):
    steps = []
    return trainer(
        config,
        directory,
        lambda *figures: steps.append(log(*figures)),
        lambda: len(steps) > 7,
        resume_from_step,
        cache,
        notify,
    )
