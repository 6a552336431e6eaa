"""Stage 2: the match score of candidate pairs by the cross-modal encoder.

Image-major: the top-k lists are inverted, each image's keys and values are projected once, and its texts run through
the fusion encoder together. Shape suffixes: T texts, K candidates, P pairs, L text tokens.
"""

from itertools import pairwise

import torch
from torch import Tensor

from rasa.model.rasa import RaSa

IMAGES_PER_BLOCK = 64


@torch.inference_mode()
def rerank(
    model: RaSa,
    image_tokens: Tensor,
    states: Tensor,
    mask: Tensor,
    candidates_TK: Tensor,
    ranking_score: str = "logit",
    pairs_per_call: int = 512,
) -> Tensor:
    """Scores [T, K] of each text with its candidate images.

    `image_tokens` [N, M, vision width], `states` [T, L, text width] and `mask` [T, L] are the unimodal encoders'
    outputs. `ranking_score` "logit": the raw match logit (released code, RET 129); "probability": after the softmax.
    """
    T, K = candidates_TK.shape
    images_P, by_image = candidates_TK.flatten().sort(stable=True)
    lengths_T = mask.sum(1)
    scores_P = torch.empty(T * K, device=states.device, dtype=states.dtype)
    bounds = torch.searchsorted(
        images_P, torch.arange(0, len(image_tokens) + IMAGES_PER_BLOCK, IMAGES_PER_BLOCK, device=images_P.device)
    ).tolist()
    for block, (start, end) in enumerate(pairwise(bounds)):
        if start == end:
            continue
        first = block * IMAGES_PER_BLOCK
        image_kv = model.encoders.project_image(image_tokens[first : first + IMAGES_PER_BLOCK].to(states.device))
        pairs = by_image[start:end]
        # Texts of similar length share a call, so that little padding is computed.
        pairs = pairs[lengths_T[pairs // K].sort(stable=True).indices]
        for chunk in pairs.split(pairs_per_call):
            texts = chunk // K
            length = int(lengths_T[texts].max())
            image = image_kv.take(candidates_TK.flatten()[chunk] - first)
            joint = model.encoders.fuse(states[texts, :length], mask[texts, :length], image)
            logits = model.heads["itm"](joint[:, 0])
            scores_P[chunk] = logits[:, 1] if ranking_score == "logit" else logits.softmax(1)[:, 1]
    return scores_P.view(T, K)
