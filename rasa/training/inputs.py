"""What a run trains on and is measured on, read and checked before there is a model; and a batch on its device."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch

from rasa.callbacks import Notify
from rasa.config.fidelity import Fidelity
from rasa.config.run import DETECTORS, Config
from rasa.data.dataset import Dataset
from rasa.data.load import load_dataset
from rasa.data.loader import Batch, TrainingLoader
from rasa.data.tokenizer import Tokenizer, build_tokenizer
from rasa.data.transforms import two_views
from rasa.errors import SpecError
from rasa.evaluation.split import SearchedSplit, searched_splits
from rasa.objectives.language import SpecialIds
from rasa.training.processes import ALONE, Processes
from rasa.training.step import StepInputs


@dataclass(frozen=True)
class Inputs:
    """`held_out`: validation pairs for the detectors' figures, if asked for."""

    dataset: Dataset
    tokenizer: Tokenizer
    special: SpecialIds
    loader: TrainingLoader
    held_out: TrainingLoader | None
    galleries: dict[str, SearchedSplit]


def read_words(config: Config, directory: Path | None, notify: Notify) -> tuple[Dataset, Tokenizer]:
    """The data set, and its tokenizer, which is also saved in `directory`. Raises ResourceError and SpecError."""
    dataset = load_dataset(config.data)
    for note in dict.fromkeys((*dataset.notes, *dataset.tested.notes)):
        notify(note)
    captions = dataset.splits["train"].captions
    tokenizer = build_tokenizer(config.data.tokenizer, captions, config.data.vocabulary_size)
    if directory is not None:
        tokenizer.save(directory / tokenizer.file)
    return dataset, tokenizer


def read_images(
    dataset: Dataset,
    tokenizer: Tokenizer,
    config: Config,
    cache: Path | None,
    prefetch: bool,
    notify: Notify,
    processes: Processes = ALONE,
) -> Inputs:
    """Everything that needs decoded images. Raises ResourceError and SpecError.

    The first run on a data set fills `cache`. Of training batches, the rows that fall to this one of the processes.
    """
    loader = training_pairs(dataset, "train", tokenizer, config, cache, prefetch, notify, processes)
    held_out = None
    if config.evaluation.detectors and set(DETECTORS) & set(config.objectives.weights):
        held_out = training_pairs(dataset, "val", tokenizer, config, cache, prefetch, notify)
    searched = searched_splits(dataset, config, cache, prefetch, notify)
    if "prd" in config.objectives.weights and not loader.has_weak_pairs:
        raise SpecError(
            "weights.prd needs weak pairs, but no identity of train has a caption that would make one; leave prd out"
        )
    if loader.longest_caption > config.model.max_positions:
        raise SpecError(
            f"model.max_positions {config.model.max_positions} is less than the longest training caption, "
            f"{loader.longest_caption} tokens; raise it, or set fidelity.truncate_training_tokens=true"
        )
    special = SpecialIds(tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    return Inputs(dataset, tokenizer, special, loader, held_out, searched)


def training_pairs(
    dataset: Dataset,
    split: str,
    tokenizer: Tokenizer,
    config: Config,
    cache: Path | None,
    prefetch: bool,
    notify: Notify,
    processes: Processes = ALONE,
) -> TrainingLoader:
    """The pairs of `train`; of another split the same kind, for which draws do not depend on the run's seed."""
    fidelity, training = config.fidelity, split == "train"
    return TrainingLoader(
        dataset.splits[split],
        dataset.image_root,
        tokenizer,
        config.data,
        positives=config.objectives.positives if draws_captions(config.objectives.weights, fidelity) else None,
        p_weak=config.objectives.p_weak,
        weak_pool=fidelity.weak_pool,
        weak_label=fidelity.weak_label,
        truncate=fidelity.truncate_training_tokens or not training,
        batch_size=config.optimisation.batch_size,
        max_steps=config.optimisation.max_steps_per_epoch if training else None,
        seed=config.seed if training else 0,
        cache=cache,
        prefetch=prefetch,
        notify=notify,
        process=processes.rank,
        processes=processes.size,
    )


def draws_captions(weights: Collection[str], fidelity: Fidelity) -> bool:
    """Whether a loss looks at the caption drawn for matching: ITM, PRD, and in the released reading CL and ITC too."""
    contrasting = "cl" in weights or "itc" in weights
    return "itm" in weights or "prd" in weights or (contrasting and fidelity.contrastive_text == "matching")


def step_inputs(batch: Batch, device: torch.device) -> StepInputs:
    """The batch on the device, with the two augmented views that share one decoding."""
    view1, view2 = two_views(batch.images.to(device, non_blocking=True), batch.flip, batch.crops)
    return StepInputs(
        view1,
        view2,
        batch.annotated,
        batch.matched,
        batch.weak.to(device, non_blocking=True),
        batch.identity.to(device, non_blocking=True),
    )
