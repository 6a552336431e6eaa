"""Several processes in one group, over gloo, and what twenty steps of training leave in each."""

import traceback

import torch
import torch.distributed as dist

from rasa.config.run import Config
from rasa.training.processes import Processes, joined
from rasa.training.state import training_tensors
from tests.helpers.processes import forked
from tests.helpers.recipe import in_double, training

EPOCHS, PAIRS = 5, 16  # of 4 steps each


def together(size, folder, work, *arguments):
    """What `work(processes, *arguments)` returns in each of `size` processes of one group, in their order."""
    folder.mkdir(parents=True)
    started = [forked(_one, size, rank, folder, work, arguments) for rank in range(size)]
    for process in started:
        process.join(1200)
    codes = [process.exitcode for process in started]
    assert codes == [0] * size, (codes, [file.read_text() for file in folder.glob("*.fault")])
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]


def _one(size, rank, folder, work, arguments):
    torch.set_num_threads(1)
    processes = Processes(rank, size, rank)
    try:
        with joined(processes, dist.FileStore(str(folder / "store"), size)):
            torch.save(work(processes, *arguments), folder / f"{rank}.pt")
    except BaseException:
        (folder / f"{rank}.fault").write_text(traceback.format_exc())
        raise


def trained_until(processes, config, directory, step):
    """Go on from the checkpoint, if there is one, to a step of the first epoch; another checkpoint, and the tensors."""
    run, _ = training(Config.model_validate(config), directory, directory.parent / "cache", processes)
    run.resume()
    for batch in run.inputs.loader.epoch(0, start=run.progress.step_in_epoch):
        run._train_step(batch)
        run.progress.step_in_epoch += 1
        if run.progress.step_in_epoch == step:
            break
    run.checkpoint()
    return {name: tensor.clone() for name, tensor in training_tensors(run.model, run.teachers, run.optimizer).items()}


def trajectories(processes, configs, folder):
    """The trajectory of each config, by its name."""
    return {
        name: trajectory(processes, config, folder / f"{name}-{processes.rank}") for name, config in configs.items()
    }


def trajectory(processes, config, directory):
    """All that a run logs of its training, in double precision, and its tensors at the end."""
    run, log = training(Config.model_validate(config), directory, directory.parent / "cache", processes)
    in_double(run)
    for epoch in range(config["optimisation"]["epochs"]):
        for i, batch in enumerate(run.inputs.loader.epoch(epoch)):
            run.progress.epoch, run.progress.step_in_epoch = epoch, i
            run._train_step(batch)
    named = dict(run.model.named_parameters())
    tensors = {f"weight {name}": p.detach() for name, p in named.items()}
    tensors |= {f"gradient {name}": p.grad for name, p in named.items() if p.grad is not None}
    tensors |= {f"momentum {name}": p for name, p in run.teachers.momentum.named_parameters()}
    tensors |= {f"queue {name}": buffer for name, buffer in run.teachers.queue.named_buffers()}
    return {"logged": log.of("train"), "tensors": tensors}


def differences(ours, theirs, bound=1e-10):
    """Names of what differs by more than `bound`: steps' figures, relative to 1, and tensors."""
    found = [] if len(ours["logged"]) == len(theirs["logged"]) else ["steps"]
    for step, (a, b) in enumerate(zip(ours["logged"], theirs["logged"], strict=False)):
        found += [f"step {step} {key}" for key in a.keys() | b.keys() if not _near(a.get(key), b.get(key), bound)]
    a, b = ours["tensors"], theirs["tensors"]
    found += sorted(a.keys() ^ b.keys())
    return found + [name for name in a.keys() & b.keys() if (a[name] - b[name]).abs().max() > bound]


def _near(a, b, bound):
    return a is not None and b is not None and abs(a - b) <= bound * max(1, abs(a))
