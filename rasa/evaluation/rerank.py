"""Stage 2: the match score of candidate pairs by the cross-modal encoder.

Image-major: the top-k lists are inverted to image -> texts. An image's keys and values are projected once and never
gathered: all its texts, packed without padding, attend to it in one rectangle. The first self-attention of the fusion
encoder does not see the image, so it runs once per text. Images may come batch by batch, so that a gallery needs no
more memory than one of its batches. The plan of all calls is made on the CPU: a GPU is waited for at the start, for the
candidates and the texts' lengths, and for no image. Shape suffixes: T texts, K candidates, P pairs ordered by image, L
text tokens, N packed tokens, M image tokens, D text width.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rasa.model.bert import FusionEncoder, ImageKeyValues
from rasa.model.packing import Packing, Wanted
from rasa.model.rasa import RaSa
from rasa.numerics import autocast

IMAGES_PER_CALL = 16  # bounds their keys and values, at ALBEF's size 21 MB each, where an image has few texts


class PackedTexts:
    """All texts' states after the first fusion self-attention, without padding, to be taken by text."""

    def __init__(self, parts: list[tuple[Tensor, Packing]]):
        """From consecutive batches of texts: packed states [N, D] and their packing."""
        self.states = torch.cat([states for states, _ in parts])
        self.lengths = torch.cat([packing.mask.sum(1) for _, packing in parts]).cpu()
        self.starts = self.lengths.cumsum(0) - self.lengths

    def take(self, texts_P: Tensor) -> tuple[Tensor, Packing]:
        """Packed states [N, D] of the texts at indices on the CPU, in their order, which may name one twice."""
        cell = torch.arange(int(self.lengths[texts_P].max()))
        mask_PL = cell < self.lengths[texts_P, None]
        place_N = (self.starts[texts_P, None] + cell)[mask_PL].to(self.states.device, non_blocking=True)
        return self.states.index_select(0, place_N), Packing.of(mask_PL, self.states.device)


@torch.inference_mode()
def rerank(
    model: RaSa,
    gallery: Iterable[Tensor],
    texts: PackedTexts,
    candidates_TK: Tensor,
    ranking_score: str = "logit",
    tokens_per_call: int = 8192,
    precision: str = "float32",
) -> Tensor:
    """Scores [T, K] of each text with its candidate images: `pair_scores` of these pairs."""
    text_P = torch.arange(len(candidates_TK)).repeat_interleave(candidates_TK.shape[1])
    image_P = candidates_TK.flatten().cpu()
    scores_P = pair_scores(model, gallery, texts, text_P, image_P, ranking_score, tokens_per_call, precision)
    return scores_P.view(candidates_TK.shape)


@torch.inference_mode()
def pair_scores(
    model: RaSa,
    gallery: Iterable[Tensor],
    texts: PackedTexts,
    text_P: Tensor,
    image_P: Tensor,
    ranking_score: str = "logit",
    tokens_per_call: int = 8192,
    precision: str = "float32",
) -> Tensor:
    """Scores [P] of pairs of a text and an image, whose indices lie on the CPU; float32 or wider.

    `ranking_score` "logit": the raw match logit (released code, RET 129); "probability": by the probability of
    a match, as its log-odds. The other
    arguments and what is raised are those of `pair_states`.
    """
    device = texts.states.device
    scores_P = torch.empty(len(text_P), device=device, dtype=torch.promote_types(texts.states.dtype, torch.float32))
    for pairs, f_cls in pair_states(model, gallery, texts, text_P, image_P, tokens_per_call, precision):
        scores_P[pairs.to(device, non_blocking=True)] = match_scores(model, f_cls.to(scores_P.dtype), ranking_score)
    return scores_P


def match_scores(model: RaSa, f_cls_PD: Tensor, ranking_score: str) -> Tensor:
    """What the ITM head says of joint states [P, D]: the match logit, or the log-odds of a match [P].

    The log-odds order as the probability does. The probability itself is 1 in float32 from odds of e^17 on.
    """
    logits = model.heads["itm"](f_cls_PD)
    return logits[:, 1] if ranking_score == "logit" else logits[:, 1] - logits[:, 0]


def pair_states(
    model: RaSa,
    gallery: Iterable[Tensor],
    texts: PackedTexts,
    text_P: Tensor,
    image_P: Tensor,
    tokens_per_call: int = 8192,
    precision: str = "float32",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Joint states f_cls [p, D] of the pairs at some positions [p] on the CPU; every pair once, ordered by image.

    `gallery` yields the image encoder's outputs [b, M, vision width] in gallery order and is read once. A call of the
    cross-modal encoder has at most `tokens_per_call` text tokens, or one text. Raises ValueError if the gallery ends
    before an image of a pair.
    """
    fusion, device = model.encoders.fusion, texts.states.device
    assert fusion is not None
    image_P, pair_P = image_P.sort(stable=True)
    text_P = text_P[pair_P]
    total = F.pad(texts.lengths[text_P].cumsum(0), (1, 0))  # [P + 1]: text tokens before each pair
    first = done = 0
    for tokens in gallery:
        border = torch.searchsorted(image_P, torch.arange(first, first + len(tokens) + 1)).tolist()  # first pairs
        for images in blocks(total[border].diff().tolist(), tokens_per_call):
            chosen = torch.tensor(images).to(device, non_blocking=True)
            with autocast(precision, device):
                image = fusion.project_image(tokens.to(device).index_select(0, chosen))
            inner = [border[i] for i in images[1:]]
            for start, stop in pieces(total, border[images[0]], border[images[-1] + 1], tokens_per_call):
                cuts = torch.tensor([start, *inner, stop])
                attended, packing = texts.take(text_P[start:stop])
                with autocast(precision, device):
                    f_cls = match(fusion, attended, packing, image, cuts.diff().tolist(), total[cuts].diff().tolist())
                yield pair_P[start:stop], f_cls
        first, done = first + len(tokens), border[-1]
    if done < len(image_P):
        raise ValueError(f"the gallery ended after {first} images, but image {int(image_P[-1])} is a candidate")


def match(
    fusion: FusionEncoder,
    attended_ND: Tensor,
    packing: Packing,
    image: ImageKeyValues,
    texts: Sequence[int],
    tokens: Sequence[int],
) -> Tensor:
    """f_cls [B, D] of many texts with few images: the next texts[g] texts, of tokens[g] tokens, belong to image g.

    The same function as `fusion` with the first tokens wanted, of texts whose first self-attention is done.
    """
    hidden, last, first = attended_ND, len(fusion.layers) - 1, Wanted.first(packing)
    for i, (layer, keys, values) in enumerate(zip(fusion.layers, image.keys, image.values, strict=True)):
        rows = texts if i == last else tokens
        if i:
            hidden = layer.attention.over_text(hidden, packing, first if i == last else None)
        elif i == last:
            hidden = hidden[first.rows]
        hidden = layer.feed_forward(layer.cross_attention.over_images(hidden, keys, values, rows))
    return hidden


def blocks(tokens: list[int], tokens_per_call: int) -> Iterator[list[int]]:
    """The images whose keys and values are projected together, those without texts left out.

    `tokens` are the text tokens of each image's pairs. A block has at most `tokens_per_call` of them, which is one
    call, or one image with more.
    """
    images: list[int] = []
    inside = 0
    for image, count in enumerate(tokens):
        if not count:
            continue
        if images and (inside + count > tokens_per_call or len(images) == IMAGES_PER_CALL):
            yield images
            images, inside = [], 0
        images.append(image)
        inside += count
    if images:
        yield images


def pieces(total: Tensor, start: int, stop: int, tokens_per_call: int) -> Iterator[tuple[int, int]]:
    """Ranges that split pairs `start` to `stop` into calls; `total` [P + 1] are the tokens before each pair."""
    while start < stop:
        fitting = int(torch.searchsorted(total, total[start] + tokens_per_call, right=True)) - 1
        end = min(max(fitting, start + 1), stop)
        yield start, end
        start = end
