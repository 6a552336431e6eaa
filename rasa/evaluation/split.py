"""One split, searched: its images in batches, its ranking by the protocol of its format, and what is kept of that."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from rasa.callbacks import Notify
from rasa.config.formats import FORMATS
from rasa.config.run import Config
from rasa.data.dataset import Dataset, Split, query_identities
from rasa.data.loader import encode_captions, image_batches
from rasa.data.tokenizer import Tokenizer
from rasa.errors import ResourceError
from rasa.evaluation.protocols import evaluate_by
from rasa.evaluation.rank import Ranking, RankingSettings
from rasa.memory import is_full, memory_explained, no_room
from rasa.model.rasa import RaSa
from rasa.weights.folder import save_tensors


class SearchedSplit(NamedTuple):
    """A split that is searched, and its images in batches, each time they are iterated."""

    split: Split
    images: Iterable[Tensor]


def searched_splits(
    dataset: Dataset, config: Config, cache: Path | None, prefetch: bool, notify: Notify
) -> dict[str, SearchedSplit]:
    """What a run is measured on: `val`, `test` and, where the test is on another data set, the own test as `source`."""
    found = {"val": searched_split(dataset, "val", config, cache, prefetch, notify)}
    found["test"] = searched_split(dataset.tested, "test", config, cache, prefetch, notify)
    if dataset.target is not None:
        found["source"] = searched_split(dataset, "test", config, cache, prefetch, notify)
    return found


def searched_split(
    dataset: Dataset, name: str, config: Config, cache: Path | None, prefetch: bool, notify: Notify
) -> SearchedSplit:
    """The split of that name, to be searched."""
    split = dataset.splits[name]
    images = image_batches(
        split.image_files,
        dataset.image_root,
        config.data.image_size,
        config.evaluation.batch_size,
        config.data.workers,
        cache,
        config.data.image_cache_gib,
        prefetch=prefetch,
        notify=notify,
    )
    return SearchedSplit(split, images)


def evaluate_split(
    model: RaSa, split: Split, gallery: Iterable[Tensor], tokenizer: Tokenizer, config: Config, device: torch.device
) -> Ranking:
    """The split ranked by its format's protocol; `gallery` yields its images in batches each time it is iterated."""
    protocol, settings = FORMATS[config.data.format].protocol, RankingSettings.of(config, device)
    with memory_explained(lambda: retrieval_too_large(split, config)):
        texts = encode_captions(tokenizer, split.captions, config.data.max_tokens)
        return evaluate_by(protocol, model, lambda: gallery, texts, split, settings)


def retrieval_too_large(split: Split, config: Config) -> str:
    """What to do about a search that does not fit into memory, in one line."""
    evaluation, (height, width) = config.evaluation, config.data.image_size
    fitting = {
        "batch_size": max(1, evaluation.batch_size // 4),
        "tokens_per_call": max(config.data.max_tokens, evaluation.tokens_per_call // 4),
        "gallery_mib": max(1, evaluation.gallery_mib // 4),
    }
    options = " ".join(f"-o evaluation.{name}={value}" for name, value in fitting.items())
    return (
        f"out of memory in retrieval on {split.name}: {len(split.captions)} captions, {len(split.image_files)} images "
        f"of {height} x {width} pixels, evaluation.batch_size {evaluation.batch_size}; try {options}"
    )


def save_predictions(directory: Path, ranking: Ranking, split: Split, protocol: str) -> None:
    """`predictions.safetensors`: what was found of each query.

    Per query: whom it describes, its ten best images with both stages' scores, the first right one's rank after each
    stage, the AP. The header names the order of `split`'s images and captions.
    """
    temporary, file = directory / ".predictions.tmp", directory / "predictions.safetensors"
    try:
        identity = torch.tensor(query_identities(protocol, split))
        save_tensors(ranking.predictions() | {"identity": identity}, temporary, split.order())
        temporary.replace(file)
    except (OSError, SafetensorError) as fault:
        why = getattr(fault, "strerror", None) or " ".join(str(fault).split())
        raise ResourceError(no_room(file) if is_full(fault) else f"{file}: could not be written ({why})") from fault
