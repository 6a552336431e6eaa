"""What a step of each row computes, and which run ids there are, kept as a file:
`python -m tests.freeze_numbers` renews it.

Renew it when a number or an id is meant to change. To show that moving code changed none on this machine, to the
last bit:

    python -m tests.freeze_numbers --bits before.json     # then move code
    python -m tests.freeze_numbers --bits after.json
    cmp before.json after.json
"""

import json
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import torch

from experiments.spec import identity_of, load_suite, resolve, suite_names
from experiments.spec import short_digest as digest
from tests.helpers.people import tiny_config, write_people
from tests.helpers.recipe import in_double, training

FILE = Path(__file__).parent / "golden" / "numbers.json"
PRESETS = ("paper", "released")
STEPS = 2


def rows():
    """Table 4's rows by name with their own `objectives`."""
    suite = load_suite("table4")
    chosen = {row.name: resolve(suite, row.name, "smoke", [], seed=0).objectives for row in suite.rows}
    return {name: objectives.model_dump(mode="json") for name, objectives in chosen.items()}


def stepped(folder, objectives, preset, double):
    """(run, what it logged) after two steps on the people in `folder`."""
    config = tiny_config(
        folder / "people",
        objectives=objectives | {"p_weak": 0.5},  # so that a weak pair is among the few
        fidelity={"preset": preset},
        optimisation={"max_steps_per_epoch": STEPS, "accumulation": 1},
    )
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        run, log = training(config | {"seed": 5}, Path(directory))
        if double:
            in_double(run)
        for i, batch in enumerate(run.inputs.loader.epoch(0)):
            run.progress.epoch, run.progress.step_in_epoch = 0, i
            run._train_step(batch)
    return run, log.of("train")


def tensors(run):
    """Weights, gradients of the last step, momentum weights and queues, by name."""
    found = dict(run.model.named_parameters())
    found |= {f"{name}.grad": p.grad for name, p in found.items() if p.grad is not None}
    if run.teachers is not None:
        found |= {f"momentum.{name}": p for name, p in run.teachers.momentum.named_parameters()}
        found |= {f"queue.{name}": buffer for name, buffer in run.teachers.queue.named_buffers()}
    return {name: tensor.detach() for name, tensor in found.items()}


def steps(folder):
    """Per row and preset, in double precision: all that two steps log, and the tensors' sums of squares."""
    found = {}
    for name, objectives in rows().items():
        for preset in PRESETS:
            run, logged = stepped(folder, objectives, preset, double=True)
            squares = {key: float(value.double().square().sum()) for key, value in tensors(run).items()}
            found[f"{name}/{preset}"] = {"logged": logged, "squares": sum(squares.values()), "tensors": len(squares)}
    return found


def ids():
    """The digest of every row of every suite at the profiles that need nothing from the user."""
    found = {}
    for name in suite_names():
        suite = load_suite(name)
        for row in suite.rows:
            for profile in ("smoke", "synth"):
                config = resolve(suite, row.name, profile, [], seed=0)
                found[f"{name}/{row.name}/{profile}"] = digest(identity_of(config))
    return found


def bits(folder):
    """SHA-256 of all that steps in single precision compute, and of a whole smoke run's selected weights."""
    found = {"ids": ids()}
    for name, objectives in rows().items():
        for preset in PRESETS:
            run, logged = stepped(folder, objectives, preset, double=False)
            body = sha256(json.dumps(logged).encode())
            for key, value in sorted(tensors(run).items()):
                body.update(key.encode())
                body.update(value.contiguous().numpy().tobytes())
            found[f"{name}/{preset}"] = body.hexdigest()
    rasa, workspace = Path(sys.executable).with_name("rasa"), folder / "workspace"
    subprocess.run([rasa, "run", "table4/m-rtd", "--profile", "smoke", "--workspace", workspace], check=True)
    (run,) = (workspace / "runs" / "table4" / "m-rtd" / "smoke").iterdir()
    (weights,) = (run / "selected").glob("*/tensors.safetensors")
    result = json.loads((run / "result.json").read_text())
    return found | {"smoke": [run.name, sha256(weights.read_bytes()).hexdigest(), result["test"]]}


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_people(Path(folder) / "people")
        if sys.argv[1:2] == ["--bits"]:
            file, content = Path(sys.argv[2]), bits(Path(folder))
        else:
            file, content = FILE, {"ids": ids(), "steps": steps(Path(folder))}
    file.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    print(file)


if __name__ == "__main__":
    main()
