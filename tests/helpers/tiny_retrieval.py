"""Texts, images and models for retrieval, all small and random; and stage 2 in its plainest form."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F

from rasa.data.tokenizer import Encoded, Tokens
from rasa.evaluation.rank import RankingSettings, evaluate
from rasa.evaluation.rerank import PackedTexts
from rasa.model.packing import Text
from rasa.model.rasa import build_model
from tests.helpers.tiny_model import tiny

CPU = torch.device("cpu")


def seeded(number):
    return torch.Generator().manual_seed(number)


def encode(model, texts, images, tokens, length, width, dtype=torch.float32):
    """Random texts of 3 to `length` tokens and random image tokens: (text states, their packing, image tokens)."""
    lengths = torch.randint(3, length + 1, (texts,), generator=seeded(6))
    ids = torch.randint(5, 50, (texts, length), generator=seeded(7))
    text = Text.of(Tokens(ids, torch.arange(length) < lengths[:, None]), "cpu")
    image_tokens = torch.randn(images, tokens, width, generator=seeded(8)).to(dtype)
    with torch.no_grad():
        return model.encoders.encode_text(text), text.packing, image_tokens


def few_pairs():
    """A tiny model in double precision with 9 texts, 7 images and 4 candidates per text; image 6 is nobody's."""
    model = build_model(tiny(), 50).double().eval()
    states, packing, image_tokens = encode(model, 9, 7, 5, 12, 32, torch.float64)
    candidates = torch.rand(9, 6, generator=seeded(9)).topk(4).indices
    texts = PackedTexts([(model.encoders.fusion.attend(states, packing), packing)])
    return SimpleNamespace(
        model=model, states=states, packing=packing, tokens=image_tokens, candidates=candidates, texts=texts
    )


def query_major(model, states, packing, image_tokens, candidates):
    """Match logits [T, K], text by text: its states beside each of its candidates' tokens, all layers for all tokens.

    Keys and values are projected for every pair anew, texts are padded to the longest, nothing is shared.
    """
    fusion, head = model.encoders.fusion, model.heads["itm"]
    rectangle = torch.zeros(*packing.mask.shape, states.shape[1], dtype=states.dtype)
    rectangle[packing.mask] = states

    def attention(part, queries, source, mask=None):
        heads = (
            x.unflatten(-1, (part.heads, -1)).transpose(1, 2)
            for x in (part.query(queries), part.key(source), part.value(source))
        )
        q, k, v = heads
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], float("-inf"))
        return output(part.output, (scores.softmax(-1) @ v).transpose(1, 2).flatten(2), queries)

    def output(part, hidden, residual):
        return part.norm(part.dense(hidden) + residual)

    rows = []
    for text, images in enumerate(candidates):
        hidden = rectangle[text].expand(len(images), -1, -1)
        mask = packing.mask[text].expand(len(images), -1)
        for layer in fusion.layers:
            hidden = attention(layer.attention, hidden, hidden, mask)
            hidden = attention(layer.cross_attention, hidden, image_tokens[images])
            hidden = output(layer.output, F.gelu(layer.intermediate(hidden)), hidden)
        rows.append(head(hidden[:, 0])[:, 1])
    return torch.stack(rows)


def random_split():
    """30 captions, 20 random images of 48 x 32 pixels, 8 identities, in batches of 6."""
    lengths = torch.randint(3, 12, (30,), generator=seeded(11))
    offsets = F.pad(lengths.cumsum(0), (1, 0))
    texts = Encoded(torch.randint(5, 50, (int(offsets[-1]),), generator=seeded(12)), offsets, 0)
    images = torch.randint(0, 256, (20, 3, 48, 32), generator=seeded(13), dtype=torch.uint8)
    identities = torch.arange(20) % 8, torch.arange(30) % 8
    return images, texts, *identities


def sharp_model():
    """A tiny model that tells random pixels apart."""
    model = build_model(tiny(), 50)
    model.encoders.vision.patch_embed.proj.weight.data.mul_(4)  # so that random pixels differ after two layers
    return model


def run(model, split, images=None, gallery_mib=100, precision="float32", tokens_per_call=50, topk=6):
    pixels, texts, gallery_identity, text_identity = split
    images = images or (lambda: pixels.split(6))
    settings = RankingSettings(topk, "logit", "stage1", 7, tokens_per_call, gallery_mib, precision, CPU)
    return evaluate(model, images, texts, gallery_identity, text_identity, settings)
