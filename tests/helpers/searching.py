"""A space, a workspace and stand-ins for the trainer, for tests of studies: seconds become milliseconds."""

import json
import os
import signal
import tempfile
from functools import cache
from pathlib import Path

from experiments import store
from studies.points import Points
from studies.session import search
from studies.space import load_space
from tests.helpers.people import write_people

EPOCHS = 4
SPACE = {
    "study": "toy",
    "row": "table4/m-rtd",
    "base": {"optimisation": {"epochs": EPOCHS}},
    "parameters": {
        "objectives.weights.prd": {"low": 0.1, "high": 2.0},
        "optimisation.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
    },
}


def quality(config):
    """Best at prd 0.5 and a learning rate of 1e-3; between 0 and 100."""
    from math import log10

    prd, rate = config.objectives.weights["prd"], config.optimisation.learning_rate
    return 100 - 20 * abs(prd - 0.5) - 12 * abs(log10(rate) + 3)


def trainer(config, directory, log, should_stop, resume_from_step, cache, notify):
    """An epoch per step, a checkpoint after each; the value rises to the point's quality, by which pruners can go."""
    with (directory / "calls").open("a") as calls:
        calls.write(f"{os.getpid()}\n")
    done = [int(path.name[5:]) for path in directory.glob("checkpoints/step-*")]
    step, epochs = max(done, default=0), config.optimisation.epochs
    resume_from_step(step)
    best = quality(config) + config.seed / 10
    while step < epochs:
        log("train", step, {"loss": 1.0})
        step += 1
        with (directory / "epochs").open("a") as trained:
            trained.write(f"{step}\n")
        figures = {"r1": best * (0.5 + 0.5 * step / epochs), "r5": best, "epoch": step}
        log("val", step, figures)  # where a trial that is pruned ends
        folder = directory / "checkpoints" / f"step-{step:09d}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps({"state": {"epoch": step, "step_in_epoch": 0}}))
        if should_stop():
            raise KeyboardInterrupt
    test = {"r1": best - 5}
    log("test", step, test)
    return {
        "selected": {"epoch": epochs, "step": step, "val": {"r1": best, "r5": best}},
        "test": test,
        "last": {"epoch": epochs},
        "cost": {"seconds": 2.0 + 0 * step, "steps": step, "peak_mib": 100.0},
    }


def killed_once(config, directory, log, **rest):
    """Each run's process is killed, with no warning, after its second epoch's checkpoint; then it goes on."""
    if (directory / "checkpoints" / "step-000000002").exists() and not (directory / "killed").exists():
        (directory / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)

    def logged(group, step, values):
        log(group, step, values)
        if group == "train" and step == 2 and not (directory / "killed").exists():
            (directory / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return trainer(config, directory, logged, **rest)


def always_killed(config, directory, **rest):
    os.kill(os.getpid(), signal.SIGKILL)


@cache
def fresh_store() -> bytes:
    """An empty MLflow store, whose tables take seconds to make."""
    with tempfile.TemporaryDirectory() as folder:
        store.open_store(store.default_uri(Path(folder)))
        return (Path(folder) / store.DATABASE).read_bytes()


def people(workspace: Path) -> Path:
    """A data set, and beside it a tracker's store, as a workspace has them after a first run."""
    folder = workspace / "people"
    if not folder.exists():
        write_people(folder, train=4, val=2, test=2, images=1)
        (workspace / store.DATABASE).write_bytes(fresh_store())
    return folder


def write_space(workspace: Path, **changes) -> str:
    """A file that holds SPACE with other top-level keys, as JSON, which is YAML."""
    file = workspace / "toy.yaml"
    file.write_text(json.dumps(SPACE | changes))
    return str(file)


# `given`: seeds on the command line. `changes`: top-level keys of the space's file.
def points(workspace: Path, given=None, name=None, **changes) -> Points:
    overrides = [f"data.root={people(workspace)}"]
    return Points(load_space(write_space(workspace, **changes)), None, overrides, given, workspace, name)


def searched(
    workspace: Path, total: int, url=None, jobs=1, train=trainer, given=None, name=None, start_from=(), **changes
):
    """The trials of a study after a whole `rasa study run`."""
    return search(points(workspace, given, name, **changes), url, total, jobs, start_from, train=train)


def epochs_trained(workspace: Path) -> int:
    return sum(len(file.read_text().split()) for file in workspace.glob("runs/*/*/*/*/epochs"))
