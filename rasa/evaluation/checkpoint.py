"""Weights from anywhere on a data set from anywhere: two-stage retrieval of one split, without training."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from rasa.callbacks import Log, Notify
from rasa.config.formats import FORMATS
from rasa.config.run import Config, Objectives
from rasa.cost import Clock, peak_mib, reset_peak
from rasa.data.dataset import Dataset, query_identities
from rasa.data.load import load_dataset
from rasa.data.tokenizer import Tokenizer, build_tokenizer
from rasa.errors import ResourceError
from rasa.evaluation.rank import Ranking
from rasa.evaluation.split import SearchedSplit, evaluate_split, save_predictions, searched_split, searched_splits
from rasa.evaluation.word_probe import sensitivity_figures
from rasa.model.rasa import RaSa, build_model
from rasa.numerics import pick_device
from rasa.weights.folder import save_tensors
from rasa.weights.inspect import sizes_of
from rasa.weights.released import initial_state, load_released

HEADS = {384: 6, 512: 8, 768: 12, 1024: 16}  # by width, of the published ViT and BERT sizes; shapes do not tell them
LONGEST = 50  # tokens, of the formats' captions
NOT_FIELDS = ("image_side", "image_patches", "vocabulary", "queue_size")


class Evaluated(NamedTuple):
    """How the weights rank a split; `identity_T` is whom each of its queries describes."""

    ranking: Ranking
    dataset: Dataset
    split: str
    identity_T: Tensor

    def save(self, file: Path) -> None:
        """What a run keeps of each query, and stage 2's candidates and scores. Raises ResourceError."""
        kept = self.ranking.predictions() | {"identity": self.identity_T.clone()}
        kept["candidates"] = self.ranking.candidates_TK.cpu().clone()
        if self.ranking.scores_TK is not None:
            kept["scores"] = self.ranking.scores_TK.cpu().clone()
        try:
            save_tensors(kept, file, self.dataset.splits[self.split].order())
        except (OSError, SafetensorError) as fault:  # safetensors reports a full or missing disk as its own error
            raise ResourceError(
                f"{file}: the predictions could not be written ({fault}); give another place"
            ) from fault


def has_matching_head(state: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint can re-rank: whether it has an ITM head."""
    return bool({"itm_head.weight", "heads.itm.weight"} & state.keys())


def config_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Config values that a checkpoint's shapes tell; what they do not tell is left out (head counts of unusual widths).

    Objectives are those that retrieval needs: without an ITM head ranking is by stage 1 alone. Raises ResourceError if
    it is no checkpoint of a known layout.
    """
    sizes = sizes_of(state)
    model = {name: value for name, value in sizes.items() if name not in NOT_FIELDS}
    model |= {
        f"{part}_heads": HEADS[width] for part in ("vision", "text") if (width := sizes[f"{part}_width"]) in HEADS
    }
    reranks = has_matching_head(state) and sizes["fusion_layers"] > 0
    model["fusion_layers"] = max(1, sizes["fusion_layers"])
    values: dict[str, Any] = {
        # Else as the data set's format has it.
        "data": {"max_tokens": sizes["max_positions"]} if sizes["max_positions"] < LONGEST else {},
        "model": model,
        "objectives": {"weights": {"cl": 1, "itm": 1} if reranks else {"cl": 1}},
    }
    if sizes["image_side"] is not None:
        values["data"]["image_size"] = [sizes["image_side"]] * 2
    return values


def evaluate_weights(config: Config, split: str, notify: Notify = lambda line: None) -> Evaluated:
    """Load `config.model.weights` into the model of `config` and rank one split of its data.

    Raises ResourceError if data, vocabulary or weights do not fit, with nothing left at a random start.
    """
    held = load_weights(config, initial_state(config.model), notify, test_only=split == "test")
    searched = searched_split(held.dataset, split, config, None, held.device.type == "cuda", notify)
    whom = torch.as_tensor(query_identities(FORMATS[config.data.format].protocol, searched.split))
    return Evaluated(held.rank(searched), held.dataset, split, whom)


def evaluate_start(
    config: Config,
    directory: Path,
    log: Log,
    should_stop: Callable[[], bool] = lambda: False,
    resume_from_step: Callable[[int], None] = lambda step: None,
    cache: Path | None = None,
    notify: Notify = lambda line: None,
) -> dict[str, Any]:
    """What `config.model.weights` reach before any training, measured as a run's selected weights are.

    Takes and gives what `rasa.training.train.train` does, so that it can be executed and recorded as a run is; it
    leaves `predictions.safetensors` in `directory`. Weights with an ITM head are re-ranked whatever the objectives of
    `config`; those without are ranked by stage 1 alone, and then `reranked` is false in what is returned. Raises as
    `evaluate_weights` does, and KeyboardInterrupt if told to stop.
    """
    clock = Clock()
    resume_from_step(-1)  # it is short, so there is no going on: what an earlier try has reported is reported again
    state = initial_state(config.model)
    reranked = has_matching_head(state)
    objectives = Objectives(weights={"cl": 1.0, "itm": 1.0} if reranked else {"cl": 1.0})
    held = load_weights(config.model_copy(update={"objectives": objectives}), state, notify)
    reset_peak(held.device)
    with clock.stopped():  # images are decoded once for all runs
        searched = searched_splits(held.dataset, config, cache, held.device.type == "cuda", notify)
    found: dict[str, dict[str, float]] = {}
    for name, each in searched.items():
        if should_stop():
            raise KeyboardInterrupt
        ranking = held.rank(each)
        found[name] = ranking.figures()
        log(name, 0, found[name] | ({"epoch": 0} if name == "val" else {}))
        if name == "test":
            save_predictions(directory, ranking, each.split, FORMATS[config.data.format].protocol)
    if config.evaluation.sensitivity:
        found["sensitivity"] = held.probe(searched["test"])
        log("probe", 0, found["sensitivity"])
    parameters = float(sum(parameter.numel() for parameter in held.model.parameters()))
    cost = {"seconds": clock.seconds, "peak_mib": peak_mib(held.device), "steps": 0.0, "parameters": parameters}
    log("cost", 0, cost)
    return {
        "reranked": reranked,
        "selected": {"epoch": 0, "step": 0, "val": found.pop("val") | {"epoch": 0}},
        **found,
        "cost": cost,
        "digests": {"data": held.dataset.digest, "tokenizer": held.tokenizer.digest},
        "sizes": held.dataset.sizes(),
    }


class Loaded(NamedTuple):
    """Weights in the model of `config`, and the data that they are to rank."""

    model: RaSa
    dataset: Dataset
    tokenizer: Tokenizer
    config: Config
    device: torch.device

    def rank(self, searched: SearchedSplit) -> Ranking:
        """The split as these weights rank it."""
        return evaluate_split(self.model, searched.split, searched.images, self.tokenizer, self.config, self.device)

    def probe(self, searched: SearchedSplit) -> dict[str, float]:
        """The sensitivity probe's figures (rasa/evaluation/word_probe.py)."""
        return sensitivity_figures(
            self.model, lambda: searched.images, searched.split, self.tokenizer, self.config, self.device
        )


def load_weights(config: Config, state: Mapping[str, Tensor], notify: Notify, test_only: bool = False) -> Loaded:
    """`state`, the tensors of `config.model.weights`, in the model of `config`. They must fill it. Raises as above."""
    device = pick_device(config.optimisation.device)
    if config.optimisation.threads:
        torch.set_num_threads(config.optimisation.threads)
    from_captions = config.data.tokenizer == "captions"
    dataset = load_dataset(config.data, test_only=test_only and not from_captions)
    for note in dict.fromkeys((*dataset.notes, *dataset.tested.notes)):
        notify(note)
    captions = dataset.splits["train"].captions if from_captions else ()
    tokenizer = build_tokenizer(config.data.tokenizer, captions, config.data.vocabulary_size)
    model = model_of(config, state, tokenizer, device, notify)
    return Loaded(model, dataset, tokenizer, config, device)


def model_of(
    config: Config, state: Mapping[str, Tensor], tokenizer: Tokenizer, device: torch.device, notify: Notify
) -> RaSa:
    """The model of `config`, filled by `state`. Raises ResourceError if state or vocabulary do not fit."""
    words = sizes_of(state)["vocabulary"]
    bare_clip = config.model.backbone == "clip" and words + 1 == tokenizer.vocabulary_size  # without [MASK]
    if words != tokenizer.vocabulary_size and not bare_clip:
        raise ResourceError(
            f"data.tokenizer: {config.data.tokenizer} has {tokenizer.vocabulary_size} words, {config.model.weights} "
            f"has {words}; give the vocabulary that it was trained with, e.g. -o data.tokenizer=vocab.txt"
        )
    model = build_model(config, tokenizer.vocabulary_size, tokenizer.pad_id, device)
    report = load_released(state, model, source=str(config.model.weights))
    lacking = [part for part in report.fresh if not part.startswith("[MASK]")]  # retrieval reads no such word
    if lacking:
        raise ResourceError(
            f"{config.model.weights}: lacks {', '.join(lacking[:5])}; to rank by what it has, give "
            "-o 'objectives.weights={cl: 1}'"
        )
    notify(f"{config.model.weights}: {report}")
    if "itm" not in config.objectives.weights:
        notify(f"{config.model.weights}: ranked by similarity alone (stage 1), without an ITM head")
    return model
