"""A checkpoint of two tensors."""

import torch

from rasa.weights.folder import save_checkpoint

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3, dtype=torch.int64)}


def saved(folder, step, **state):
    save_checkpoint(folder / f"step-{step:09d}", TENSORS, {"step": step} | state)
    return folder / f"step-{step:09d}"
