"""What a checkpoint file is: its layout, sizes, and whether it fills a model of those sizes completely."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rasa.config.run import Config
from rasa.errors import ResourceError
from rasa.model.momentum import momentum_copy
from rasa.model.queue import FeatureQueue
from rasa.model.rasa import HEADS, Encoders, RaSa
from rasa.weights.released import REDUNDANT, is_clip, names, to_released

HINTS = {
    "text_encoder.embeddings.": (
        "; the text keys lack `bert.`: a file fine-tuned for retrieval; `rasa checkpoint convert` maps them"
    ),
    "model.encoders.": (
        "; this is one of this project's exact training checkpoints: its weights are in the run's selected/"
    ),
}


OTHER = "another layout"
# What online weights of one row may lack: heads of losses that are off, and the queues.
OPTIONAL = (
    "itm_head.",
    "prd_head.",
    "mrtd_head.",
    "text_encoder.cls.",
    "image_queue",
    "text_queue",
    "idx_queue",
    "queue_ptr",
    "heads.",
    "encoders.language_head.",
)


@dataclass(frozen=True)
class Inspection:
    """`layout` in plain words, the sizes read off the shapes, and the differences to a full model of those sizes."""

    layout: str
    keys: int
    sizes: dict[str, Any]
    trainable: int
    parameters: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    other_shape: tuple[str, ...]

    @property
    def known(self) -> bool:
        """Whether what is missing makes it one of the layouts that can be loaded."""
        return self.layout != OTHER

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.other_shape)


def sizes_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Model sizes as config fields, from the shapes of released keys. Raises ResourceError if the trunk is absent."""
    if is_clip(state):
        return _clip_sizes(state)

    def shape(key: str) -> torch.Size:
        if key not in state:
            hint = next((text for start, text in HINTS.items() if any(k.startswith(start) for k in state)), "")
            raise ResourceError(f"not a RaSa, ALBEF, TCL or CLIP checkpoint: {key} is missing{hint}")
        return state[key].shape

    def count(pattern: str) -> int:
        return len({m[1] for key in state if (m := re.match(pattern, key))})

    layers = count(r"text_encoder\.bert\.encoder\.layer\.(\d+)\.")
    fusion = count(r"text_encoder\.bert\.encoder\.layer\.(\d+)\.crossattention\.")
    vocabulary, text_width = shape("text_encoder.bert.embeddings.word_embeddings.weight")
    patches = shape("visual_encoder.pos_embed")[1] - 1
    patch = shape("visual_encoder.patch_embed.proj.weight")[-1]
    return {
        "image_side": _side(patches, patch),
        "image_patches": patches,
        "patch_size": patch,
        "vision_width": shape("visual_encoder.cls_token")[-1],
        "vision_depth": count(r"visual_encoder\.blocks\.(\d+)\."),
        "text_width": text_width,
        "text_layers": layers - fusion,
        "fusion_layers": fusion,
        "text_mlp_width": shape("text_encoder.bert.encoder.layer.0.intermediate.dense.weight")[0],
        "max_positions": shape("text_encoder.bert.embeddings.position_embeddings.weight")[0],
        "vocabulary": vocabulary,
        "embed_dim": shape("vision_proj.weight")[0],
        "queue_size": state["image_queue"].shape[1] if "image_queue" in state else None,
    }


def _side(patches: int, patch: int) -> int | None:
    """Pixels a side of a square image of so many patches; None: it is not square."""
    side = math.isqrt(patches)
    return side * patch if side * side == patches else None


def _clip_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    def shape(key: str) -> torch.Size:
        if f"encoders.{key}" not in state:
            raise ResourceError(f"not CLIP weights: encoders.{key} is missing")
        return state[f"encoders.{key}"].shape

    def count(part: str) -> int:
        return len({m[1] for key in state if (m := re.match(rf"encoders\.{part}\.(\d+)\.", key))})

    patches = shape("vision.pos_embed")[1] - 1
    patch = shape("vision.patch_embed.proj.weight")[-1]
    vocabulary, text_width = shape("text.embeddings.word_embeddings.weight")
    return {
        "backbone": "clip",
        "image_side": _side(patches, patch),
        "image_patches": patches,
        "patch_size": patch,
        "vision_width": shape("vision.cls_token")[-1],
        "vision_depth": count(r"vision\.blocks"),
        "text_width": text_width,
        "text_layers": count(r"text\.layers"),
        "fusion_layers": count(r"fusion\.layers"),
        "text_mlp_width": shape("text.layers.0.intermediate.weight")[0],
        "max_positions": shape("text.embeddings.position_embeddings.weight")[0],
        "vocabulary": vocabulary,
        "embed_dim": shape("vision_proj.weight")[0],
        "queue_size": state["image_queue"].shape[1] if "image_queue" in state else None,
    }


def inspect(state: Mapping[str, Tensor]) -> Inspection:
    """Hold a state dict against the full model (all heads, momentum, queues) of its own sizes, on no device."""
    sizes = sizes_of(state)
    try:
        with torch.device("meta"):
            model, momentum, queue = _full_model(sizes)
    except ValueError as fault:
        raise ResourceError(f"the shapes do not make a model: {sizes}") from fault
    expected = to_released(model, momentum, queue)
    missing = [key for key in expected if key not in state and not REDUNDANT.match(key)]
    pretraining = {"idx_queue", *(f"{head}_head.{part}" for head in ("prd", "mrtd") for part in ("weight", "bias"))}
    momentum_keys = {key for key in expected if key.split(".", 1)[0].endswith("_m") or key.startswith("momentum.")}
    word_heads = {key for key in expected if ".cls.predictions." in key and not REDUNDANT.match(key)}
    layout = OTHER
    if not missing:
        layout = "RaSa training checkpoint (online, momentum, heads, queues)"
    elif set(missing) == pretraining:
        layout = "ALBEF or TCL pre-training checkpoint"
    elif word_heads and word_heads <= set(missing) <= pretraining | word_heads:
        layout = "ALBEF or TCL checkpoint fine-tuned for retrieval"
    elif all(key in momentum_keys or key.startswith(OPTIONAL) for key in missing):
        layout = "online RaSa weights"
        if model.encoders.clip:
            layout = f"{layout} on CLIP" if sizes["fusion_layers"] else "CLIP's two towers"
    return Inspection(
        layout=layout,
        keys=len(state),
        sizes=sizes,
        trainable=sum(p.numel() for p in model.parameters()),
        parameters=sum(p.numel() for p in names(model, momentum).values()),
        missing=tuple(missing),
        unexpected=tuple(key for key in state if key not in expected and not REDUNDANT.match(key)),
        other_shape=tuple(
            f"{key} {list(state[key].shape)} instead of {list(value.shape)}"
            for key, value in expected.items()
            if key in state and state[key].shape != value.shape
        ),
    )


def _full_model(sizes: dict[str, Any]) -> tuple[RaSa, Encoders, FeatureQueue]:
    fields = {k: v for k, v in sizes.items() if not k.startswith("image_") and k != "vocabulary"}
    fields["fusion_layers"] = max(1, sizes["fusion_layers"])  # weights of a row without fusion: none of its layers
    # Head counts leave no trace in the shapes; 1 divides every width.
    fields |= {"vision_heads": 1, "text_heads": 1, "queue_size": sizes["queue_size"] or 1}
    config = Config.model_validate(
        {
            "model": fields,
            "data": {
                "root": ".",
                "image_size": (sizes["patch_size"], sizes["patch_size"] * sizes["image_patches"]),  # any with so many
                "max_tokens": min(50, sizes["max_positions"]),
            },
            "objectives": {"weights": {"cl": 1.0}},
        }
    )
    fusion = sizes["fusion_layers"] > 0
    encoders = Encoders(config.model, config.data.image_size, sizes["vocabulary"], 0, fusion=fusion, language=fusion)
    model = RaSa(encoders, HEADS if fusion else (), config.model.text_width, 0.07)
    return model, momentum_copy(encoders, fusion, fusion), FeatureQueue(config.model.queue_size, config.model.embed_dim)
