"""A run that has ended, opened again as it was after its last epoch: to ask it, not to train it on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from rasa.callbacks import Notify
from rasa.config.run import Config
from rasa.data.load import load_dataset
from rasa.data.loader import TrainingLoader
from rasa.data.tokenizer import Tokenizer, tokenizer_from_vocabulary, vocabulary_file
from rasa.errors import ResourceError
from rasa.model.rasa import RaSa
from rasa.numerics import pick_device
from rasa.training.inputs import training_pairs
from rasa.training.masked_lm import build_masked_lm
from rasa.training.replaced import replaced_words
from rasa.training.state import Progress, restore_models, untrained
from rasa.training.step import Teachers
from rasa.training.words import KEPT, Replaced
from rasa.weights.folder import load_checkpoint
from rasa.weights.released import load_released


class Reopened(NamedTuple):
    """The models of a run and its held-out pairs."""

    model: RaSa
    teachers: Teachers
    pairs: TrainingLoader
    tokenizer: Tokenizer
    device: torch.device
    config: Config
    epoch: int

    def replaced_words(self, draw: int, number: int = KEPT) -> Replaced:
        """What its generator and detector do with captions that the seed `draw` chooses."""
        return replaced_words(
            self.model, self.teachers, self.pairs, self.device, self.config, self.tokenizer, self.epoch, draw, number
        )


def reopen(
    config: Config, directory: Path, cache: Path, digests: Mapping[str, str], notify: Notify = lambda line: None
) -> Reopened:
    """The run in `directory` with its newest checkpoint, or with its selected weights where that is all it has kept.

    Nothing is written there. `cache` holds decoded images; `digests` are of the data and the vocabulary with which the
    run was trained. Raises ResourceError if these are others now, or if a model that RTD needs was not kept.
    """
    found = vocabulary_file(directory)
    if found is None:
        raise ResourceError(f"{directory}: its vocabulary is gone; run it again in another --workspace")
    tokenizer, dataset = tokenizer_from_vocabulary(found), load_dataset(config.data)
    if (digests.get("data"), digests.get("tokenizer")) != (dataset.digest, tokenizer.digest):
        raise ResourceError(
            f"{directory}: was trained on other data or words than are in {dataset.image_root}; give the folder back "
            "its files"
        )
    device = pick_device(config.optimisation.device)
    model, momentum, queue = untrained(config, tokenizer, device)
    masked_lm = None
    if config.objectives.generator == "fixed":
        captions: Sequence[str] = dataset.splits["train"].captions
        masked_lm = build_masked_lm(config.objectives.masked_lm, tokenizer, captions, cache).to(device)
    teachers = Teachers(momentum, queue, masked_lm)
    epoch = _load(directory, config, model, teachers)
    pairs = training_pairs(dataset, "val", tokenizer, config, cache, False, notify)
    return Reopened(model, teachers, pairs, tokenizer, device, config, epoch)


def _load(directory: Path, config: Config, model: RaSa, teachers: Teachers) -> int:
    """Put the run's weights in place; the epoch after which they were so."""
    checkpoints = directory / "checkpoints"
    if any(checkpoints.glob("step-*")):
        tensors, progress = _newest(checkpoints)
        restore_models(tensors, model, teachers)
        return progress.epoch
    selected = max((directory / "selected").glob("epoch-*"), default=None)
    if selected is None or config.objectives.generator == "momentum":
        what = "no weights" if selected is None else "its selected weights alone, and not the momentum model"
        raise ResourceError(
            f"{directory}: has kept {what}, so it cannot be asked; run it with evaluation.detectors=true, which keeps "
            "its words, or with --keep-checkpoints"
        )
    weights, state = load_checkpoint(selected)
    load_released(weights, model, source=str(selected))
    return int(state["epoch"])


def _newest(folder: Path) -> tuple[dict[str, torch.Tensor], Progress]:
    """The newest checkpoint that can be read. Unlike a run that goes on, it repairs nothing."""
    problems = []
    for candidate in sorted((path for path in folder.glob("step-*") if path.is_dir()), reverse=True):
        try:
            tensors, state = load_checkpoint(candidate)
            return tensors, Progress.model_validate(state)
        except (ResourceError, ValueError) as fault:  # pydantic's ValidationError is a ValueError
            problems.append(" ".join(str(fault).split()))
    why = f" ({'; '.join(problems)})" if problems else ""
    raise ResourceError(f"{folder}: no checkpoint that can be read{why}; run it again in another --workspace")
