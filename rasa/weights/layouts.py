"""Checkpoints of other programs under other key names, mapped to those that this project knows (the published ones).

Only names change here; whether everything is there and of the right shape is for whoever loads or inspects it to say.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from rasa.errors import ResourceError
from rasa.weights.clip import from_transformers

# What data-parallel wrappers and trainers put in front of every key.
PREFIXES = ("module.", "model.", "net.")
OPENAI = "visual.transformer.resblocks."  # what only OpenAI's CLIP files have
COMPILED = "_orig_mod."  # what torch.compile puts in front of a compiled module's keys, wherever that is
# Files fine-tuned for retrieval hold the plain BERT, so without the `bert.` of the masked-language wrapper.
PLAIN_BERT = re.compile(r"^(text_encoder(?:_m)?)\.(embeddings|encoder)\.")
TENSORFLOW_NORM = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # BERT's old names


class Reading(NamedTuple):
    """A state dict under known key names, and in words what was done to get there."""

    state: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def recognise(state: Mapping[str, Tensor], source: str) -> Reading:
    """The tensors under the names of the released RaSa, ALBEF and TCL files, or for CLIP our own, as far as known.

    Raises ResourceError if two keys become one.
    """
    named, notes = dict(state), []
    if any(key.startswith(OPENAI) for key in named):
        raise ResourceError(
            f"{source}: has OpenAI's own names for CLIP ({OPENAI}...); give the same model in transformers' form, "
            "e.g. openai/clip-vit-base-patch16"
        )
    if any(COMPILED in key for key in named):
        named = _renamed(named, lambda key: key.replace(COMPILED, ""), source)
        notes.append(f"`{COMPILED}` removed from keys")
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in named)), None):
        named = {key.removeprefix(prefix): value for key, value in named.items()}
        notes.append(f"prefix `{prefix}` removed from all keys")
    if (clip := from_transformers(named)) is not None:
        return Reading(clip, (*notes, "names of transformers' CLIPModel mapped; logit_scale became the temperature"))
    if any(PLAIN_BERT.match(key) for key in named):
        named = _renamed(named, lambda key: PLAIN_BERT.sub(r"\1.bert.\2.", key), source)
        notes.append("`bert.` added to the text keys: a file fine-tuned for retrieval")
        if named.pop("idx_queue", None) is not None:
            # They number the images of the data set of that fine-tuning, and would be taken for people of this one.
            notes.append("idx_queue left out: it numbers another data set's images")
    for old, new in TENSORFLOW_NORM.items():
        if any(key.endswith(old) for key in named):
            named = _renamed(named, lambda key, old=old, new=new: key.replace(old, new), source)
            notes.append(f"`{old}` renamed to `{new}`")
    return Reading(named, tuple(notes))


def _renamed(state, rename, source):  # type: ignore[no-untyped-def]
    renamed = {}
    for key, value in state.items():
        if (name := rename(key)) in renamed or (name != key and name in state):
            raise ResourceError(f"{source}: {key} and another key both mean {name}; the file mixes two layouts")
        renamed[name] = value
    return renamed
