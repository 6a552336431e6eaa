"""Weights from anywhere on a data set from anywhere: two-stage retrieval of one split, without training."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from rasa.config import Config
from rasa.data.formats import FORMATS
from rasa.data.load import load_dataset
from rasa.data.table import Dataset
from rasa.data.tokens import build_tokenizer
from rasa.errors import ResourceError
from rasa.inputs import gallery
from rasa.model.checkpoints import initial_state, load_released
from rasa.model.inspect import sizes_of
from rasa.model.rasa import build_model
from rasa.retrieval.evaluate import Ranking
from rasa.retrieval.protocols import query_identities
from rasa.train import evaluate_split, pick_device

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
            save_file(kept, file)
        except (OSError, RuntimeError) as fault:  # safetensors reports a full or missing disk as its own error
            raise ResourceError(
                f"{file}: the predictions could not be written ({fault}); give another place"
            ) from fault


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
    reranks = bool({"itm_head.weight", "heads.itm.weight"} & state.keys()) and sizes["fusion_layers"] > 0
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


def evaluate_weights(config: Config, split: str, say: Callable[[str], None] = lambda line: None) -> Evaluated:
    """Load `config.model.weights` into the model of `config` and rank one split of its data.

    Raises ResourceError if data, vocabulary or weights do not fit, with nothing left at a random start.
    """
    assert config.model.weights is not None
    device = pick_device(config.optimisation.device)
    if config.optimisation.threads:
        torch.set_num_threads(config.optimisation.threads)
    state = initial_state(config.model)
    from_captions = config.data.tokenizer == "captions"
    dataset = load_dataset(config.data, test_only=split == "test" and not from_captions)
    for note in dataset.notes:
        say(note)
    captions = dataset.splits["train"].captions if from_captions else ()
    tokenizer = build_tokenizer(config.data.tokenizer, captions, config.data.vocabulary_size)
    words = sizes_of(state)["vocabulary"]
    bare_clip = config.model.backbone == "clip" and words + 1 == tokenizer.vocabulary_size  # without [MASK]
    if words != tokenizer.vocabulary_size and not bare_clip:
        raise ResourceError(
            f"data.tokenizer: {config.data.tokenizer} has {tokenizer.vocabulary_size} words, {config.model.weights} has "
            f"{words}; give the vocabulary that it was trained with, e.g. -o data.tokenizer=vocab.txt"
        )
    model = build_model(config, tokenizer.vocabulary_size, tokenizer.pad_id, device)
    report = load_released(state, model, source=str(config.model.weights))
    lacking = [part for part in report.fresh if not part.startswith("[MASK]")]  # retrieval reads no such word
    if lacking:
        raise ResourceError(
            f"{config.model.weights}: lacks {', '.join(lacking[:5])}; to rank by what it has, give "
            "-o 'objectives.weights={cl: 1}'"
        )
    say(f"{config.model.weights}: {report}")
    if "itm" not in config.objectives.weights:
        say(f"{config.model.weights}: ranked by similarity alone (stage 1), without an ITM head")
    chosen, images = gallery(dataset, split, config, None, device.type == "cuda", say)
    ranking = evaluate_split(model, chosen, images, tokenizer, config, device)
    return Evaluated(ranking, dataset, split, query_identities(FORMATS[config.data.format].protocol, chosen))
