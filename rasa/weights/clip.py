"""Weights of CLIP models: from transformers' `CLIPModel` names to ours, and what a folder's config must say.

No published RaSa file is on CLIP, so there is no layout to follow: what a run on CLIP leaves is under this project's
own parameter names (`encoders.vision...`), and what comes from transformers is brought to them.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from rasa.config.run import Model
from rasa.data.tokenizer import quiet_hub
from rasa.errors import ResourceError
from rasa.model.clip import ACTIVATION, NORM_EPS

TEXT, VISION = "encoders.text", "encoders.vision"
WORDS = f"{TEXT}.embeddings.word_embeddings.weight"
# transformers -> ours, each applied to a whole key; query, key and value of the image layers are joined afterwards.
RENAMES = [
    (r"^vision_model\.embeddings\.class_embedding$", rf"{VISION}.cls_token"),
    (r"^vision_model\.embeddings\.patch_embedding\.", rf"{VISION}.patch_embed.proj."),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", rf"{VISION}.pos_embed"),
    (r"^vision_model\.pre_layrnorm\.", rf"{VISION}.norm_pre."),
    (r"^vision_model\.post_layernorm\.", rf"{VISION}.norm."),
    (r"^vision_model\.encoder\.layers\.", rf"{VISION}.blocks."),
    (r"^visual_projection\.", "encoders.vision_proj."),
    (r"^text_model\.embeddings\.(token|position)_embedding\.", rf"{TEXT}.embeddings.\1_embeddings."),
    (r"\.embeddings\.token_embeddings\.", ".embeddings.word_embeddings."),
    (r"^text_model\.encoder\.layers\.", rf"{TEXT}.layers."),
    (r"^text_model\.final_layer_norm\.", rf"{TEXT}.norm."),
    (r"^text_projection\.", "encoders.text_proj."),
    (r"\.layer_norm([12])\.", r".norm\1."),
    (rf"^({re.escape(VISION)}\.blocks\.\d+)\.self_attn\.out_proj\.", r"\1.attn.proj."),
    (rf"^({re.escape(TEXT)}\.layers\.\d+)\.self_attn\.out_proj\.", r"\1.project."),
    (rf"^({re.escape(TEXT)}\.layers\.\d+)\.self_attn\.q_proj\.", r"\1.query."),
    (rf"^({re.escape(TEXT)}\.layers\.\d+)\.self_attn\.k_proj\.", r"\1.key."),
    (rf"^({re.escape(TEXT)}\.layers\.\d+)\.self_attn\.v_proj\.", r"\1.value."),
    (rf"^({re.escape(TEXT)}\.layers\.\d+)\.mlp\.fc1\.", r"\1.intermediate."),
    (rf"^({re.escape(TEXT)}\.layers\.\d+)\.mlp\.fc2\.", r"\1.output."),
]
QKV = re.compile(rf"^({re.escape(VISION)}\.blocks\.\d+)\.self_attn\.q_proj\.(weight|bias)$")
BUFFERS = re.compile(r"\.embeddings\.position_ids$")
# What CLIP has not, so it starts random in a model of RaSa on CLIP; heads but ITM's are new to a row's weights too.
NEW = ("encoders.fusion.", "encoders.language_head.", "heads.", "idx_queue")
NEW_HEADS = ("heads.prd.", "heads.rtd.", "idx_queue")


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """A `CLIPModel`'s tensors under our names; None for other tensors. Keys without a counterpart keep their name."""
    if "vision_model.embeddings.class_embedding" not in state or "logit_scale" not in state:
        return None
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        if BUFFERS.search(key):
            continue
        for pattern, replacement in RENAMES:
            key = re.sub(pattern, replacement, key)
        named[key] = value
    for key in [key for key in named if QKV.match(key)]:
        parts = [key.replace("q_proj", f"{which}_proj") for which in "qkv"]
        if all(part in named for part in parts):
            joined = torch.cat([named.pop(part) for part in parts])
            named[QKV.sub(r"\1.attn.qkv.\2", key)] = joined
    for key, shape in ((f"{VISION}.cls_token", (1, 1, -1)), (f"{VISION}.pos_embed", None)):
        if key in named:
            named[key] = named[key].reshape(shape) if shape else named[key][None]
    # CLIP multiplies similarities by exp(logit_scale), RaSa divides them by the temperature.
    named["temperature"] = (-named.pop("logit_scale").float()).exp().reshape(())
    return named


def with_mask_word(words: Tensor) -> Tensor:
    """CLIP's word embeddings [V, D] with a row more, for [MASK]: their mean, a word that says nothing in particular."""
    return torch.cat([words, words.float().mean(0, keepdim=True).to(words.dtype)])


def check_folder(model: Model, folder: Path) -> None:
    """Refuse a transformers folder whose config.json says something that its weights do not show and the model has not.

    Raises ResourceError: an activation or norm unlike OpenAI CLIP's, or other numbers of heads than the config's.
    """
    file = folder / "config.json"
    if not file.is_file():
        return
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))
        parts = {"vision": stated.get("vision_config") or {}, "text": stated.get("text_config") or {}}
    except (OSError, ValueError, AttributeError) as fault:
        raise ResourceError(f"{file}: not a model's config ({fault})") from fault
    for part, values in parts.items():
        heads = values.get("num_attention_heads", 12 if part == "vision" else 8)  # what transformers assumes
        ours = getattr(model, f"{part}_heads")
        if heads != ours:
            raise ResourceError(
                f"{file}: {part}_config.num_attention_heads is {heads}, model.{part}_heads {ours}; "
                f"set -o model.{part}_heads={heads}"
            )
        for name, expected in (("hidden_act", ACTIVATION), ("layer_norm_eps", NORM_EPS)):
            if values.get(name, expected) != expected:
                raise ResourceError(
                    f"{file}: {part}_config.{name} is {values[name]}; this project has CLIP with {expected} alone"
                )


def download(name: str) -> Path:
    """The folder of a transformers name on this machine, fetched if it is not there yet. Raises ResourceError."""
    from huggingface_hub import snapshot_download

    quiet_hub()
    try:
        return Path(snapshot_download(name, allow_patterns=["config.json", "model.safetensors", "pytorch_model.bin"]))
    except Exception as fault:  # the hub's exceptions share no base class
        first = (str(fault).strip().splitlines() or [type(fault).__name__])[0]
        raise ResourceError(f"model.weights: {name} cannot be loaded ({first}); give a local folder") from fault
