"""Files of random values with every published key of ALBEF, TCL and RaSa, their widths scaled down."""

import json
from pathlib import Path

import torch

from rasa.config.run import Config
from rasa.model.momentum import momentum_copy
from rasa.model.queue import FeatureQueue
from rasa.model.rasa import build_model
from rasa.weights.released import load_released
from tests.helpers.tiny_model import ALL

FACTS = Path(__file__).parents[1] / "golden" / "facts"
PRETRAINING = json.loads((FACTS / "checkpoint_keys.json").read_text())["pretraining_keys"]
RASA = json.loads((FACTS / "full_size_model.json").read_text())["state_dict_keys"]
# Width 768 becomes 12 (one head), its multiples alike; depth, number of keys, patches and the two grids stay.
SCALED = {768: 12, 2304: 36, 3072: 48, 30522: 60, 65536: 16, 256: 8, 512: 20}
SMALL = {
    "vision_width": 12,
    "vision_heads": 1,
    "text_width": 12,
    "text_heads": 1,
    "text_mlp_width": 48,
    "max_positions": 20,
    "embed_dim": 8,
    "queue_size": 16,
    "dropout": 0.0,
}
VOCABULARY = 60


def random_state(shapes: dict[str, list[int]], seed: int = 0) -> dict[str, torch.Tensor]:
    """Random values under all keys; tied pairs equal, whole numbers where the published files have them."""
    draw = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        small = [SCALED.get(size, size) for size in shape]
        if key == "idx_queue":
            state[key] = torch.randint(100, small, generator=draw)
        elif key == "queue_ptr":
            state[key] = torch.tensor([4])
        elif key.endswith("position_ids"):
            state[key] = torch.arange(small[1])[None]
        else:
            state[key] = torch.randn(small, generator=draw)
    for suffix in ("", "_m"):
        words = f"text_encoder{suffix}.bert.embeddings.word_embeddings.weight"
        head = f"text_encoder{suffix}.cls.predictions"
        state[f"{head}.decoder.weight"], state[f"{head}.decoder.bias"] = state[words], state[f"{head}.bias"]
    return state


def retrieval_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """As ALBEF's fine-tuning for retrieval writes it: plain BERT without a word head, image numbers in the queue."""
    plain = {
        key.replace(".bert.", ".", 1): value
        for key, value in random_state(PRETRAINING, seed).items()
        if ".cls." not in key
    }
    return plain | {"idx_queue": torch.randint(29_000, (1, 16), generator=torch.Generator().manual_seed(seed))}


def wrapped(state: dict[str, torch.Tensor]) -> dict:
    """As the released training code saves: beside the weights the optimizer's moments, its schedule and the config."""
    moments = {0: {"step": 7, "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3)}}
    optimizer = {"state": moments, "param_groups": [{"lr": 1e-5, "params": [0]}]}
    config = {"image_res": 384, "bert_config": "configs/config_bert.json", "optimizer": {"opt": "adamW", "lr": 1e-5}}
    return {
        "model": state,
        "optimizer": optimizer,
        "lr_scheduler": {"t_initial": 30},
        "config": config,
        "epoch": 29,
        "best": 76.5,
        "best_epoch": 28,
    }


def small_config(weights: dict[str, float], generator: str | None = None, image: int = 384, **sections) -> Config:
    """A run's config with the sizes of `random_state`."""
    return Config.model_validate(
        {
            "data": {"root": ".", "image_size": (image, image), "max_tokens": 16},
            "model": SMALL,
            "objectives": {
                "weights": weights,
                "positives": "probabilistic" if "prd" in weights else "annotated",
                "generator": generator if "rtd" in weights else None,
            },
        }
        | sections
    )


def load(state, weights=None, generator="momentum", image=384, momentum=True):
    """(model, momentum, queue, report) after loading into a model of another seed's random start."""
    model = build_model(small_config(weights or ALL, generator, image), VOCABULARY)
    copy = momentum_copy(model.encoders, True, True) if momentum else None
    queue = FeatureQueue(16, 8)
    return model, copy, queue, load_released(state, model, copy, queue, "file.pth")
