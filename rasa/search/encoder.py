"""The weights that an index was made with: loaded, and named by what they compute, not by where they lie."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rasa.callbacks import Notify
from rasa.config.run import Config, Objectives
from rasa.data.tokenizer import Tokenizer, build_tokenizer
from rasa.data.transforms import DECODING
from rasa.errors import ResourceError
from rasa.evaluation.checkpoint import model_of
from rasa.model.rasa import RaSa
from rasa.numerics import pick_device
from rasa.weights.released import initial_state

STAGES = {"cl": 1.0, "itm": 1.0}  # what retrieval needs of the objectives


class Encoder(NamedTuple):
    """A model in evaluation, its vocabulary and its config."""

    model: RaSa
    tokenizer: Tokenizer
    config: Config
    device: torch.device
    digest: str  # of the weights

    @property
    def reranks(self) -> bool:
        """Whether there is a second stage."""
        return "itm" in self.model.heads

    def identity(self) -> dict[str, Any]:
        """What decides an image's encoding; an index with other values is another model's."""
        return {
            "weights_sha256": self.digest,
            "image_size": list(self.config.data.image_size),
            "tokenizer": self.tokenizer.digest,
            "precision": self.config.evaluation.precision,
            "reranks": self.reranks,
            "decoding": DECODING,
        }


def load_encoder(config: Config, notify: Notify = lambda line: None) -> Encoder:
    """The weights and the vocabulary that `config` names, on its device. Raises ResourceError if they do not fit."""
    if config.data.tokenizer == "captions":
        raise ResourceError(
            f"{config.model.weights}: does not tell its vocabulary; give the one that it was trained with, e.g. -o "
            "data.tokenizer=vocab.txt"
        )
    weights = {name: weight for name, weight in STAGES.items() if name == "cl" or name in config.objectives.weights}
    config = config.model_copy(update={"objectives": Objectives(weights=weights)})
    if config.optimisation.threads:
        torch.set_num_threads(config.optimisation.threads)
    device, state = pick_device(config.optimisation.device), initial_state(config.model)
    tokenizer = build_tokenizer(config.data.tokenizer, (), config.data.vocabulary_size)
    model = model_of(config, state, tokenizer, device, notify).eval()
    return Encoder(model, tokenizer, config, device, state_digest(state))


def state_digest(state: Mapping[str, Tensor]) -> str:
    """sha256 of names, types, shapes and values: the same for the same weights in another file."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()
