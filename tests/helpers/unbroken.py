"""A tiny run of all five losses, how it ends when nothing happens to it,
and whether one that was broken ends so, too."""

import hashlib
import json
import shutil
import signal
import time

from tests.helpers.one_row import EVERYTHING, newest, run_directory, without_time, write_suite
from tests.helpers.people import write_people
from tests.helpers.processes import Command, rasa, wait_until

EPOCHS, PEOPLE = 2, 18
STEPS = PEOPLE * 3 * 2 // 8  # per epoch
ENDED = "a run that has ended cannot be killed"


def unbroken(folder):
    """The arguments of the run, which checkpoints every other step, and how it ends: one such run is made."""
    people = write_people(folder / "people", train=PEOPLE, val=24, test=24)
    suite = write_suite(
        folder, people, EVERYTHING, "momentum", checkpoint_steps=2, max_steps_per_epoch=None, epochs=EPOCHS
    )
    # In batches of one image an evaluation takes long enough to be hit.
    arguments = (
        "run",
        "--keep-checkpoints",
        suite,
        "-o",
        f"data.root={people}",
        "-o",
        "data.image_cache_gib=0",
        "-o",
        "evaluation.batch_size=1",
        "-o",
        "evaluation.topk=24",
    )
    rasa(*arguments, folder=folder / "whole")
    return arguments, end_of(folder / "whole")


def end_of(workspace):
    """All that a run leaves, but for its times."""
    directory = run_directory(workspace)
    tensors, state = newest(directory)
    result = json.loads((directory / "result.json").read_text())
    (selected,) = directory.glob("selected/epoch-*")
    return {
        "tensors": {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in tensors.items()},
        "state": {name: state[name] for name in ("identity", "digests", "epoch", "step_in_epoch", "best", "history")},
        "figures": without_time(directory),
        "result": {name: result[name] for name in ("run_id", "test", "selected", "last", "digests")},
        "selected": hashlib.sha256((selected / "tensors.safetensors").read_bytes()).hexdigest(),
        "predictions": hashlib.sha256((directory / "predictions.safetensors").read_bytes()).hexdigest(),
        "left over": sorted(path.name for path in directory.rglob(".*") if not path.name.endswith(".lock")),
    }


def lines(workspace):
    """The figures that the run has told of so far, whole lines only; one that a kill has torn is none."""
    for file in workspace.glob("runs/own/row/*/*/metrics.jsonl"):
        return file.read_bytes().count(b"\n")
    return 0


def groups(workspace):
    return [point["group"] for point in without_time(run_directory(workspace))]


def killed(arguments, workspace, when, delay=0.0, number=signal.SIGKILL):
    """Run the command until `when()`, and a moment longer; then the signal."""
    command = Command(*arguments, folder=workspace)
    assert wait_until(when, command=command), ENDED
    time.sleep(delay)
    command.kill(number)
    ended = command.wait()
    assert number != signal.SIGKILL or ended == -signal.SIGKILL, ENDED
    return ended


def goes_on(arguments, workspace, whole):
    """The same command ends as the unbroken run did."""
    rasa(*arguments, folder=workspace)
    ours = end_of(workspace)
    assert ours == whole, [name for name in whole if ours[name] != whole[name]]
    shutil.rmtree(workspace)
