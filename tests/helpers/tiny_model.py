"""The config of a model that has every part of the full one, in a few thousand weights."""

from rasa.config.run import Config

TINY = {
    "patch_size": 16,
    "vision_width": 32,
    "vision_depth": 2,
    "vision_heads": 4,
    "text_width": 24,
    "text_layers": 2,
    "fusion_layers": 2,
    "text_heads": 4,
    "text_mlp_width": 48,
    "max_positions": 20,
    "embed_dim": 12,
    "queue_size": 10,
    "dropout": 0.0,
}
ALL = {"cl": 0.5, "itm": 1.0, "prd": 0.5, "mlm": 1.0, "rtd": 0.5}


def tiny(weights=None, generator="momentum", seed=0, **model) -> Config:
    weights = ALL if weights is None else weights
    return Config.model_validate(
        {
            "seed": seed,
            "data": {"root": ".", "image_size": (48, 32), "max_tokens": 16},
            "model": TINY | model,
            "objectives": {
                "weights": weights,
                "positives": "probabilistic",
                "generator": generator if "rtd" in weights else None,
            },
        }
    )
