"""Weights from and to the key names of the released RaSa, ALBEF and TCL files (844 and 849 keys).

Those names are transformers-3 BERT names with `text_encoder.bert.encoder.layer.0-5` the text half and `6-11` the
fusion half, `_m` on the momentum copy's modules, and the queues stored as [width, size]. Nothing is ever left at its
random start in silence: a file that lacks something this model needs is refused, except for what a pre-training file
cannot have (the PRD and RTD heads, the queue's identities), which the report names.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from rasa.config.run import Model as ModelConfig
from rasa.errors import ResourceError
from rasa.model.queue import FeatureQueue
from rasa.model.rasa import Encoders, RaSa
from rasa.weights.clip import NEW, NEW_HEADS, WORDS, check_folder, download, with_mask_word
from rasa.weights.files import read_tensors
from rasa.weights.layouts import recognise

# Ours -> released, applied in order to one parameter name; layer numbers of the fusion half are shifted apart.
RENAMES = [
    (r"^encoders\.vision\.", "visual_encoder."),
    (r"^encoders\.(vision|text)_proj\.", r"\1_proj."),
    (r"^encoders\.text\.embeddings\.norm\.", "text_encoder.bert.embeddings.LayerNorm."),
    (r"^encoders\.text\.embeddings\.", "text_encoder.bert.embeddings."),
    (r"^encoders\.(?:text|fusion)\.layers\.", "text_encoder.bert.encoder.layer."),
    (r"^encoders\.language_head\.bias$", "text_encoder.cls.predictions.bias"),
    (r"^encoders\.language_head\.", "text_encoder.cls.predictions.transform."),
    (r"^heads\.rtd\.", "mrtd_head."),
    (r"^heads\.(itm|prd)\.", r"\1_head."),
    (r"^temperature$", "temp"),
    (r"\.cross_attention\.", ".crossattention."),
    (r"attention\.(query|key|value)\.", r"attention.self.\1."),
    (r"(layer\.\d+)\.intermediate\.", r"\1.intermediate.dense."),
    (r"((?:layer\.\d+|attention)\.output|predictions\.transform)\.norm\.", r"\1.LayerNorm."),
]
MOMENTUM_MODULES = ("visual_encoder", "text_encoder", "vision_proj", "text_proj")
ABSENT_IN_PRETRAINING = ("prd_head.", "mrtd_head.", "idx_queue")
# Keys that repeat or follow from others; written for the released code's sake, ignored on reading.
REDUNDANT = re.compile(
    r"^text_encoder(_m)?\.(bert\.embeddings\.position_ids|cls\.predictions\.decoder\.(weight|bias))$"
)
WORDLESS = (
    "; the file has no masked-language head, as files fine-tuned for retrieval have none: leave weights.mlm and "
    "generator online or momentum out, or give the pre-training file"
)
QUEUES = {"image_queue": "images", "text_queue": "texts", "idx_queue": "identities", "queue_ptr": "pointer"}


def released_name(name: str, text_layers: int, momentum: bool = False) -> str:
    """The released file's key for one of our parameters of `RaSa` (or, with `momentum`, of its momentum encoders)."""
    fusion = name.startswith("encoders.fusion.")
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    if fusion:
        name = re.sub(r"(?<=layer\.)\d+", lambda m: str(int(m[0]) + text_layers), name, count=1)
    if momentum:
        module, rest = name.split(".", 1)
        name = f"{module}_m.{rest}"
    return name


def names(model: RaSa, momentum: Encoders | None) -> dict[str, torch.nn.Parameter]:
    """Every parameter by its released key; on CLIP, where nothing is released, by its own name."""
    if model.encoders.clip:
        own = dict(model.named_parameters())
        return own if momentum is None else own | {f"momentum.{n}": p for n, p in momentum.named_parameters()}
    depth = len(model.encoders.text.layers)
    found = {released_name(n, depth): p for n, p in model.named_parameters()}
    if momentum is not None:
        found |= {released_name(f"encoders.{n}", depth, True): p for n, p in momentum.named_parameters()}
    return found


def to_released(
    model: RaSa, momentum: Encoders | None = None, queue: FeatureQueue | None = None, redundant: bool = True
) -> dict[str, Tensor]:
    """All weights under released keys; tensors share memory with ours.

    `redundant` adds the tied pairs and constant buffers that the released code's strict loading expects.
    """
    state: dict[str, Tensor] = {key: p.detach() for key, p in names(model, momentum).items()}
    for suffix in () if not redundant or model.encoders.clip else ("", "_m") if momentum is not None else ("",):
        bert = f"text_encoder{suffix}.bert.embeddings"
        positions = len(state[f"{bert}.position_embeddings.weight"])
        state[f"{bert}.position_ids"] = torch.arange(positions)[None]
        head = f"text_encoder{suffix}.cls.predictions"
        if f"{head}.bias" in state:
            state[f"{head}.decoder.weight"] = state[f"{bert}.word_embeddings.weight"]
            state[f"{head}.decoder.bias"] = state[f"{head}.bias"]
    if queue is not None:
        state |= {
            "image_queue": queue.images.T,
            "text_queue": queue.texts.T,
            "idx_queue": queue.identities[None],
            "queue_ptr": queue.pointer[None],
        }
    return state


@dataclass
class LoadReport:
    """What a file brought: keys taken, keys this model has no place for, and parts left at their random start."""

    loaded: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    momentum_from_online: bool = False

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        if self.resized:
            parts.append(f"{len(self.resized)} position embeddings resized")
        if self.unused:
            parts.append(f"{len(self.unused)} not needed by this model ({_shorten(self.unused)})")
        if self.momentum_from_online:
            parts.append("momentum model copied from the online one")
        parts.append(f"{len(self.fresh)} at their random start" + (f" ({_shorten(self.fresh)})" if self.fresh else ""))
        return "; ".join(parts)


@torch.no_grad()
def load_released(
    state: Mapping[str, Tensor],
    model: RaSa,
    momentum: Encoders | None = None,
    queue: FeatureQueue | None = None,
    source: str = "checkpoint",
) -> LoadReport:
    """Copy released keys into our modules, in place; dtypes are converted, position embeddings resized.

    A file without momentum weights leaves the momentum encoders equal to the online ones. Raises ResourceError with
    the first differences if a key is missing, unknown, or of another shape; then nothing has been changed.
    """
    report = LoadReport()
    clip = model.encoders.clip
    if clip != is_clip(state):
        raise ResourceError(
            f"{source}: holds {'ALBEF or TCL' if clip else 'CLIP'} weights; set model.backbone and the sizes to "
            f"theirs, e.g. -o model.backbone={'albef' if clip else 'clip'}"
        )
    absent = _may_be_absent(state, clip)
    targets: dict[str, Tensor] = dict(names(model, momentum))
    if momentum is not None and not any(_is_momentum(key) for key in state):
        report.momentum_from_online = True
        targets = {key: p for key, p in targets.items() if not _is_momentum(key)}
    wanted, problems = {}, []
    for key, target in targets.items():
        if key not in state:
            if key.startswith(absent):
                report.fresh.append(key)
            else:
                problems.append(f"{key} is missing")
            continue
        value = state[key]
        if value.is_floating_point() and not torch.isfinite(value).all():
            problems.append(f"{key} holds values that are no finite numbers")
        if key.endswith("pos_embed") and value.shape != target.shape:
            try:
                value = resize_position_embedding(value, model.encoders.vision.patch_embed.grid_size)
            except ResourceError as fault:
                problems.append(f"{key} {fault}")
                continue
            report.resized.append(key)
        if key == WORDS and len(value) + 1 == len(target):
            value = with_mask_word(value)
            report.fresh.append("[MASK] of the word embeddings")
        if value.shape != target.shape:
            remedy = "; set data.tokenizer to the vocabulary of these weights" if "word_embeddings" in key else ""
            problems.append(f"{key} is {list(value.shape)}, this model has {list(target.shape)}{remedy}")
        wanted[key] = value
    known = CLIP_KEY if clip else _known_key()
    problems += [f"{key} is unknown" for key in state if key not in wanted and not known.match(key)]
    if problems:
        hint = "" if any(".cls." in key for key in state) or not any(".cls." in text for text in problems) else WORDLESS
        raise ResourceError(
            f"{source}: does not fit this model in {len(problems)} keys: " + "; ".join(problems[:5]) + hint
        )
    for key, value in wanted.items():
        targets[key].copy_(value)
    if report.momentum_from_online and momentum is not None:
        _copy_online(model.encoders, momentum)
    report.loaded = list(wanted)
    if queue is not None:
        _load_queue(state, queue, report)
    report.unused = [k for k in state if k not in set(report.loaded) and not REDUNDANT.match(k)]
    return report


def _copy_online(online: Encoders, momentum: Encoders) -> None:
    source = dict(online.named_parameters())
    for name, parameter in momentum.named_parameters():
        parameter.copy_(source[name])


CLIP_KEY = re.compile(
    r"^(temperature$|(encoders\.|momentum\.)(vision|text|fusion|language_head|vision_proj|text_proj)\.|"
    r"heads\.(itm|prd|rtd)\.|(image|text|idx)_queue$|queue_ptr$)"
)


def _load_queue(state: Mapping[str, Tensor], queue: FeatureQueue, report: LoadReport) -> None:
    """Features of an equally sized queue; without `idx_queue` they stay nobody's (negatives for everyone)."""
    for key, name in QUEUES.items():
        own: Tensor = getattr(queue, name)
        value = state.get(key)
        value = None if value is None else value.T if key.endswith("t_queue") or key == "image_queue" else value[0]
        if value is None or value.shape != own.shape:
            report.fresh.append(key)
        else:
            own.copy_(value)
            report.loaded.append(key)


def _is_momentum(key: str) -> bool:
    return key.split(".", 1)[0] in {f"{module}_m" for module in MOMENTUM_MODULES} | {"momentum"}


def is_clip(state: Mapping[str, Tensor]) -> bool:
    """Whether these are a CLIP model's weights (under our names, as `recognise` gives them)."""
    return any(key.startswith("encoders.") for key in state)


def _may_be_absent(state: Mapping[str, Tensor], clip: bool) -> tuple[str, ...]:
    """Starts of the keys that a sound file of this kind can lack: they keep their random start, and are named."""
    if not clip:
        return ABSENT_IN_PRETRAINING
    return NEW_HEADS if any(key.startswith("encoders.fusion.") for key in state) else NEW


def _known_key() -> re.Pattern[str]:
    """Keys that a RaSa, ALBEF or TCL file may hold, whether or not this model has that part."""
    layer = r"bert\.encoder\.layer\.\d+\.(attention|crossattention|intermediate|output)\."
    text = rf"text_encoder(_m)?\.(bert\.embeddings\.|{layer}|cls\.predictions\.)"
    return re.compile(
        rf"^(temp$|visual_encoder(_m)?\.|{text}|(vision|text)_proj(_m)?\.|(itm|prd|mrtd)_head\.|"
        r"(image|text|idx)_queue$|queue_ptr$)"
    )


def _shorten(keys: list[str]) -> str:
    named = (key.split(".") for key in keys)
    prefixes = list(dict.fromkeys(".".join(parts[: 2 if parts[0] == "encoders" else 1]) for parts in named))
    return ", ".join(prefixes[:6]) + (", ..." if len(prefixes) > 6 else "")


def resize_position_embedding(embedding: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embeddings [1, 1 + n * n, D] of a square grid brought to `grid` (rows, columns), bicubically.

    The class token's row is kept (released code: vit.py 160-182). Raises ResourceError if it is of no square grid.
    """
    patches = embedding.shape[1] - 1
    side = math.isqrt(patches)
    if side**2 != patches:
        raise ResourceError(
            f"is of {patches} patches, no square, so it cannot be brought to {grid[0]} x {grid[1]}; "
            "set data.image_size and model.patch_size to those of these weights"
        )
    if (side, side) == tuple(grid):
        return embedding
    first, rest = embedding[:, :1], embedding[:, 1:]
    image = rest.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    image = F.interpolate(image, size=tuple(grid), mode="bicubic", align_corners=False)
    return torch.cat([first, image.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def initial_state(model: ModelConfig) -> dict[str, Tensor]:
    """The tensors that `model.weights` names: see `read_state`; for CLIP also a transformers folder or name.

    Raises ResourceError, too, if a folder's config.json says that it is another CLIP than this project has.
    """
    assert model.weights is not None
    path = model.weights if model.weights_name is None else download(model.weights_name)
    if model.backbone == "clip":
        check_folder(model, path)
    return read_state(path)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file or folder under the published key names, on the CPU (rasa/weights/files.py, layouts.py).

    Raises ResourceError if it is missing or damaged, or holds anything but plain dense tensors; nothing in it is run.
    """
    return recognise(read_tensors(path), str(path)).state
