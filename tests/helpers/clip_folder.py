"""A transformers folder of a tiny random CLIP with its tokenizer, as a user has it of a published one."""

import json
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

# Sizes as config fields of a model on it.
SIZES = {
    "backbone": "clip",
    "patch_size": 16,
    "vision_width": 32,
    "vision_depth": 2,
    "vision_heads": 4,
    "text_width": 24,
    "text_layers": 2,
    "fusion_layers": 1,
    "text_heads": 4,
    "text_mlp_width": 48,
    "max_positions": 40,
    "embed_dim": 12,
    "queue_size": 20,
}
MERGES = [
    ("r", "e"),
    ("re", "d</w>"),
    ("s", "h"),
    ("sh", "i"),
    ("shi", "r"),
    ("shir", "t</w>"),
    ("a", "n"),
    ("an", "d</w>"),
]


def vocabulary() -> dict[str, int]:
    """All bytes, all bytes at a word's end, the merges, start and end, in CLIP's order."""
    letters = sorted(ByteLevel.alphabet())
    assert letters[0] == "!"
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in MERGES)]
    return {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """As published: vocab.json and merges.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary()))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in MERGES))
    return CLIPTokenizer(vocab=vocabulary(), merges=MERGES)


def write_clip(folder: Path, image_size: int = 48, **text) -> CLIPModel:
    """The model of the sizes above with random weights that are all different from their usual start,
    and its tokenizer."""
    write_tokenizer(folder)
    words = vocabulary()
    ids = {"bos_token_id": words["<|startoftext|>"], "eos_token_id": words["<|endoftext|>"], "pad_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = CLIPModel(
            CLIPConfig(
                projection_dim=SIZES["embed_dim"],
                logit_scale_init_value=2.0,
                vision_config={
                    "hidden_size": 32,
                    "intermediate_size": 128,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 4,
                    "image_size": image_size,
                    "patch_size": 16,
                    "projection_dim": 12,
                },
                text_config={
                    "hidden_size": 24,
                    "intermediate_size": 48,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 4,
                    "max_position_embeddings": 40,
                    "vocab_size": len(words),
                    "projection_dim": 12,
                }
                | ids
                | text,
            )
        ).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name != "logit_scale":
                    spread = torch.randn_like(parameter)
                    parameter.copy_(1 + 0.1 * spread if "norm" in name and name.endswith("weight") else 0.2 * spread)
    model.save_pretrained(folder)
    return model
