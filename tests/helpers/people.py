"""A small folder in CUHK-PEDES layout: people of coloured blocks, real PNG and JPEG files,
captions that name the colours."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 60, 200),
    "white": (235, 235, 235),
    "black": (25, 25, 25),
    "yellow": (220, 200, 50),
    "purple": (140, 50, 160),
    "grey": (130, 130, 130),
}


def write_people(root: Path, train=12, val=4, test=4, images=3, seed=0) -> Path:
    """`root` with reid_raw.json and imgs/; every identity has its own two colours, every image its own bag or none."""
    draw = np.random.default_rng(seed)
    names = list(COLOURS)
    pairs = [(a, b) for a in names for b in names if a != b]
    records = []
    for identity, split in enumerate(["train"] * train + ["val"] * val + ["test"] * test, start=1):
        shirt, trousers = pairs[identity % len(pairs)]
        for image in range(images):
            bag = names[int(draw.integers(len(names)))] if image else None
            file = f"cam{image}/{identity:04d}_{image}.{'jpg' if image % 2 else 'png'}"
            _draw(root / "imgs" / file, COLOURS[shirt], COLOURS[trousers], COLOURS[bag] if bag else None, draw)
            carried = f"carrying a {bag} bag" if bag else "walking with free hands"
            captions = [
                f"A person in a {shirt} shirt and {trousers} trousers, {carried}.",
                f"The pedestrian wears {trousers} trousers, a {shirt} top and is {carried}!",
            ]
            records.append(
                {
                    "split": split,
                    "captions": captions,
                    "file_path": file,
                    "processed_tokens": [c.lower().split() for c in captions],
                    "id": identity,
                }
            )
    (root / "reid_raw.json").write_text(json.dumps(records))
    return root


def _draw(path, shirt, trousers, bag, draw):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((64, 32, 3), 180, dtype=np.uint8)
    pixels[16:38, 8:24], pixels[38:62, 10:22], pixels[4:16, 12:20] = shirt, trousers, (230, 190, 160)
    if bag:
        pixels[26:40, 24:31] = bag
    noise = draw.integers(0, 12, pixels.shape, dtype=np.uint8)
    Image.fromarray(np.clip(pixels.astype(int) + noise, 0, 255).astype(np.uint8)).save(path)


def tiny_config(root: Path, losses=None, generator=None, **changes) -> dict:
    """A config dict of seconds for `write_people`; `changes` are sections merged on top."""
    losses = losses or {"cl": 0.5, "itm": 1.0, "prd": 0.5, "mlm": 1.0, "rtd": 0.5}
    base = {
        "data": {"root": str(root), "image_size": (32, 16), "tokenizer": "captions", "max_tokens": 24},
        "model": {
            "patch_size": 8,
            "vision_width": 16,
            "vision_depth": 1,
            "vision_heads": 2,
            "text_width": 16,
            "text_layers": 1,
            "fusion_layers": 1,
            "text_heads": 2,
            "text_mlp_width": 32,
            "max_positions": 32,
            "embed_dim": 8,
            "queue_size": 20,
            "temperature_range": (0.01, 0.5),
        },
        "objectives": {
            "weights": losses,
            "positives": "probabilistic" if "itm" in losses else "annotated",
            "generator": generator or ("momentum" if "rtd" in losses else None),
        },
        "optimisation": {
            "epochs": 2,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "head_learning_rate": 1e-3,
            "schedule": "cosine-step",
            "threads": 1,
            "device": "cpu",
        },
        "evaluation": {"topk": 6},
        "fidelity": {"preset": "paper"},
    }
    for section, values in changes.items():
        base[section] = base[section] | values if isinstance(values, dict) else values
    return base
