"""The recorded reference set: where it lies, and a model built and loaded from it.

Every size, token id, rate and learning rate comes from the set's own facts.json, so another recorded set of the same
file names is checked by RASA_GOLDEN_DIR=DIR with no change of code.
"""

import json
import math
import os
from pathlib import Path

import torch
from safetensors.torch import load_file

from rasa.config.fidelity import Fidelity
from rasa.config.run import Config
from rasa.data.tokenizer import Tokens
from rasa.model.momentum import momentum_copy
from rasa.model.queue import FeatureQueue
from rasa.model.rasa import build_model
from rasa.objectives.language import SpecialIds
from rasa.training.step import StepInputs, Teachers
from rasa.weights.released import load_released

FOLDER = Path(os.environ.get("RASA_GOLDEN_DIR") or Path(__file__).parents[1] / "golden")
FACTS = json.loads((FOLDER / "facts.json").read_text())
SIZES, TEXT, IDS = FACTS["config"], FACTS["config"]["text"], FACTS["config"]["special_token_ids"]
SPECIAL = SpecialIds(IDS["pad"], IDS["cls"], IDS["sep"], IDS["mask"])
LOSSES = {"cl": "loss_cl", "itm": "loss_pitm", "mlm": "loss_mlm", "prd": "loss_prd", "rtd": "loss_mrtd"}


# What the model and torch's AdamW fix: a set recorded with anything else would have to be refused.
assert SIZES.get("mlp_ratio", 4) == 4, "timm's feed-forward layers are four times as wide"
assert (
    tuple(SIZES["optimizer"].get("betas", (0.9, 0.999))) == (0.9, 0.999) and SIZES["optimizer"].get("eps", 1e-8) == 1e-8
)


def tensors(name: str) -> dict[str, torch.Tensor]:
    return load_file(FOLDER / f"{name}.safetensors")


def config(**fidelity) -> Config:
    optimizer = SIZES["optimizer"]
    return Config.model_validate(
        {
            "data": {"root": ".", "image_size": (SIZES["image_res"],) * 2, "max_tokens": 3},
            "model": {
                "patch_size": SIZES["patch_size"],
                "vision_width": SIZES["vision_width"],
                "vision_depth": SIZES["vision_depth"],
                "vision_heads": SIZES["vision_heads"],
                "text_width": TEXT["hidden_size"],
                "text_layers": TEXT["fusion_layer"],
                "fusion_layers": TEXT["num_hidden_layers"] - TEXT["fusion_layer"],
                "text_heads": TEXT["num_attention_heads"],
                "text_mlp_width": TEXT["intermediate_size"],
                "max_positions": TEXT["max_position_embeddings"],
                "dropout": TEXT["hidden_dropout_prob"],
                "embed_dim": SIZES["embed_dim"],
                "queue_size": SIZES["queue_size"],
                "momentum": SIZES["momentum"],
                "temperature": SIZES["temp"],
            },
            "objectives": {
                "weights": {ours: SIZES["loss_weights"][theirs] for ours, theirs in LOSSES.items()},
                "positives": "probabilistic",
                "p_mask": SIZES["mrtd_mask_probability"],
                "generator": "momentum",
            },
            "optimisation": {
                "learning_rate": optimizer["lr"],
                "head_learning_rate": optimizer["lr_custm"],
                "weight_decay": optimizer["weight_decay"],
            },
            "fidelity": {"preset": "released", "mlm_mask_rate": SIZES["mlm_probability"]} | fidelity,
        }
    )


def models(dtype: torch.dtype = torch.float64):
    """(RaSa, Teachers, LoadReport) with the recorded state; dropout is zero in the set."""
    settings = config()
    model = build_model(settings, TEXT["vocab_size"], IDS["pad"])
    momentum = momentum_copy(model.encoders, fusion=True, language=True)
    queue = FeatureQueue(SIZES["queue_size"], SIZES["embed_dim"])
    report = load_released(tensors("state_before"), model, momentum, queue)
    return model.to(dtype), Teachers(momentum.to(dtype), queue.to(dtype)), report


def step_inputs(step: int, dtype: torch.dtype = torch.float64) -> StepInputs:
    given = tensors("inputs")
    get = lambda name: given[f"step{step}.{name}"]
    return StepInputs(
        view1=get("image1").to(dtype),
        view2=get("image2").to(dtype),
        annotated=Tokens(get("text1.input_ids"), get("text1.attention_mask").bool()),
        matched=Tokens(get("text2.input_ids"), get("text2.attention_mask").bool()),
        weak=get("replace").bool(),
        identity=get("idx"),
    )


class RecordedDraws:
    """Hands out a step's recorded outcomes where `rasa.draws.Draws` would draw."""

    def __init__(self, step: int):
        prefix = f"step{step}."
        self.drawn = {k.removeprefix(prefix): v for k, v in tensors("draws").items() if k.startswith(prefix)}
        batch = step_inputs(step)
        self.real = batch.annotated.mask & (batch.annotated.ids != SPECIAL.cls)

    def bernoulli(self, kind, shape, p):
        objective, what = kind.split()
        name = {"select": "select", "replace": "replace80", "random": "random50"}[what]
        return self._shaped(f"{objective}_bern_{name}", shape)

    def integers(self, kind, shape, high):
        return self._shaped(f"{kind.split()[0]}_random_words", shape)

    def categorical(self, kind, weights, cells=None):
        assert torch.isfinite(weights).all() and (weights.sum(-1) > 0).all()
        if kind == "rtd sampled words":
            chosen = self.real & self.drawn["rtd_bern_select"]
            positions = self.real if len(weights) == self.real.sum() else chosen
            return self.drawn["rtd_pred_raw"][positions]
        return self.drawn[{"negative images": "image_neg_idx", "negative texts": "text_neg_idx"}[kind]]

    def dropout(self, kind):
        import contextlib

        return contextlib.nullcontext()

    def _shaped(self, name, shape):
        assert self.drawn[name].shape == shape
        return self.drawn[name]


def checksum(tensor: torch.Tensor) -> dict[str, float]:
    """The set's `checksum_formula`, in double precision."""
    flat = tensor.detach().double().flatten()
    weights = torch.sin(0.37 * torch.arange(len(flat), dtype=torch.float64) + 1)
    return {
        "sum": flat.sum().item(),
        "abs_sum": flat.abs().sum().item(),
        "l2": math.sqrt((flat * flat).sum().item()),
        "wdot": (flat * weights).sum().item(),
    }


__all__ = [
    "FACTS",
    "FOLDER",
    "IDS",
    "LOSSES",
    "SIZES",
    "SPECIAL",
    "Fidelity",
    "RecordedDraws",
    "checksum",
    "config",
    "models",
    "step_inputs",
    "tensors",
]
