"""Stage 2: the match score of candidate pairs by the cross-modal encoder.

Image-major: the top-k lists are inverted to image -> texts. An image's keys and values are projected once and never
gathered: all its texts, packed without padding, attend to it in one rectangle. The first self-attention of the fusion
encoder does not see the image, so it runs once per text. Shape suffixes: T texts, K candidates, P pairs, N packed
tokens.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from rasa.model.rasa import RaSa
from rasa.model.text import Packing


class PackedTexts:
    """All texts' states after the first fusion self-attention, without padding, to be taken by text."""

    def __init__(self, parts: list[tuple[Tensor, Packing]]):
        """From consecutive batches of texts: packed states [N, D] and their packing."""
        self.states = torch.cat([states for states, _ in parts])
        self.lengths = torch.cat([packing.mask.sum(1) for _, packing in parts])
        self.starts = self.lengths.cumsum(0) - self.lengths

    def take(self, texts_P: Tensor) -> tuple[Tensor, Packing]:
        """Packed states [N, D] of the texts in the given order, which may name one twice."""
        lengths, starts = self.lengths[texts_P], self.starts[texts_P]
        cell = torch.arange(int(lengths.max()), device=lengths.device)
        mask = cell < lengths[:, None]
        index = mask.flatten().nonzero().squeeze(1)
        return self.states[(starts[:, None] + cell).flatten()[index]], Packing(mask, index)


@torch.inference_mode()
def rerank(
    model: RaSa,
    image_tokens: Tensor,
    texts: PackedTexts,
    candidates_TK: Tensor,
    ranking_score: str = "logit",
    pairs_per_call: int = 512,
) -> Tensor:
    """Scores [T, K] of each text with its candidate images.

    `image_tokens` [images, M, vision width] are the image encoder's outputs. `ranking_score` "logit": the raw match
    logit (released code, RET 129); "probability": after the softmax.
    """
    fusion = model.encoders.fusion
    assert fusion is not None
    T, K = candidates_TK.shape
    image_P, pair_P = candidates_TK.flatten().sort(stable=True)
    counts = torch.bincount(image_P, minlength=len(image_tokens)).tolist()
    scores_P = torch.empty(T * K, device=image_P.device, dtype=texts.states.dtype)
    for images, first, sizes in blocks(counts, pairs_per_call):
        kv = fusion.project_image(image_tokens[images].to(texts.states.device))
        pairs = pair_P[first : first + sum(sizes)]
        states, packing = texts.take(pairs // K)
        logits = model.heads["itm"](fusion.match(states, packing, kv, sizes))
        scores_P[pairs] = logits[:, 1] if ranking_score == "logit" else logits.softmax(1)[:, 1]
    return scores_P.view(T, K)


def blocks(counts: list[int], pairs_per_call: int) -> Iterator[tuple[list[int], int, list[int]]]:
    """(images, their first pair, pairs of each) of at most `pairs_per_call` pairs; an image with more has its own.

    `counts` are the pairs of each image; pairs are numbered image by image.
    """
    images: list[int] = []
    sizes: list[int] = []
    first = 0
    for image, count in enumerate(counts):
        if not count:
            continue
        if sizes and sum(sizes) + count > pairs_per_call:
            yield images, first, sizes
            first += sum(sizes)
            images, sizes = [], []
        images.append(image)
        sizes.append(count)
    if sizes:
        yield images, first, sizes
