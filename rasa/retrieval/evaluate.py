"""Retrieval of one split: every caption searches all images of the split (paper 4.1)."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from rasa.data.tokens import Encoded
from rasa.data.transforms import normalise
from rasa.model.rasa import RaSa
from rasa.model.text import Text
from rasa.retrieval.metrics import Retrieval, evaluate_order, final_order, stage1_order
from rasa.retrieval.rerank import PackedTexts, rerank


class Ranking(NamedTuple):
    """The evaluation and what it rests on: the best images of each text, and stage 1's figures beside the final ones."""

    final: Retrieval
    stage1: Retrieval
    best_TJ: Tensor  # gallery indices of the first J = min(10, N) images
    scores_TK: Tensor | None  # stage 2's, in the order of candidates_TK; None without an ITM head
    candidates_TK: Tensor

    def predictions(self) -> dict[str, Tensor]:
        """What is kept of each query, by name."""
        kept = {
            "best": self.best_TJ,
            "first_rank": self.final.first_rank_T,
            "average_precision": self.final.average_precision_T,
            "stage1_first_rank": self.stage1.first_rank_T,
        }
        return {name: value.cpu().clone() for name, value in kept.items()}


@torch.inference_mode()
def evaluate(
    model: RaSa,
    image_batches: Iterable[Tensor],
    texts: Encoded,
    gallery_identity: Tensor,
    text_identity: Tensor,
    topk: int,
    ranking_score: str,
    beyond: str,
    batch_size: int,
    pairs_per_call: int,
    device: torch.device,
) -> Ranking:
    """Rank the gallery for every text and measure it; the model is left in the mode it came in.

    `image_batches` yields uint8 images [b, 3, height, width] in gallery order. A model without an ITM head (row CL)
    ranks by stage 1 alone.
    """
    was_training = model.training
    model.eval()
    encoders = model.encoders
    tokens, image_features = [], []
    for images in image_batches:
        images = images.to(device)
        encoded = encoders.encode_image(normalise(images, torch.zeros(len(images), dtype=torch.bool, device=device)))
        tokens.append(encoded)
        image_features.append(encoders.image_feature(encoded))
    packed, text_features = [], []
    for rows in torch.arange(len(texts.lengths())).split(batch_size):
        text = Text.of(texts.take(rows), device)
        states = encoders.encode_text(text)
        text_features.append(encoders.text_feature(states, text.packing))
        if encoders.fusion is not None:
            packed.append((encoders.fusion.attend(states, text.packing), text.packing))

    order = stage1_order(torch.cat(text_features) @ torch.cat(image_features).T)
    identities = gallery_identity.to(device), text_identity.to(device)
    stage1 = evaluate_order(order, *identities)
    candidates, scores, final = order[:, : min(topk, order.shape[1])], None, stage1
    if "itm" in model.heads:
        scores = rerank(model, torch.cat(tokens), PackedTexts(packed), candidates, ranking_score, pairs_per_call)
        order = final_order(order, scores, beyond)
        final = evaluate_order(order, *identities)
    model.train(was_training)
    return Ranking(final, stage1, order[:, :10], scores, candidates)
