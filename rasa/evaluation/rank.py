"""Retrieval of one split: every caption searches all images of the split (paper 4.1).

Neither the similarities [T, N] nor, in a large gallery, the images' tokens are ever held as a whole. Shape suffixes: T
texts, N gallery images, M image tokens, E embedding width, K candidates.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rasa.config.run import Config
from rasa.data.tokenizer import Encoded
from rasa.data.transforms import normalise
from rasa.draws import in_mode
from rasa.evaluation.index import top_k
from rasa.evaluation.metrics import Retrieval, final_order, query_figures, stage1_order, summary
from rasa.evaluation.rerank import PackedTexts, rerank
from rasa.model.packing import Text
from rasa.model.rasa import RaSa
from rasa.numerics import autocast, float32_products

CELLS = 2**22  # texts x images ranked at once; about 70 bytes each


class Ranking(NamedTuple):
    """The evaluation and what it rests on: each text's best images, and stage 1's figures beside the final ones."""

    final: Retrieval
    stage1: Retrieval
    best_TJ: Tensor  # gallery indices of the first J = min(10, N) images
    similarity_TJ: Tensor  # stage 1's, of these
    scores_TK: Tensor | None  # stage 2's, in the order of candidates_TK; None without an ITM head
    candidates_TK: Tensor

    def figures(self) -> dict[str, float]:
        """The final figures by name, and stage 1's under names like stage1_r1; in percent."""
        return self.final.metrics | {f"stage1_{name}": value for name, value in self.stage1.metrics.items()}

    def predictions(self) -> dict[str, Tensor]:
        """What is kept of each query, by name; `match` is -inf where stage 2 did not look."""
        kept = {
            "best": self.best_TJ,
            "similarity": self.similarity_TJ,
            "first_rank": self.final.first_rank_T,
            "average_precision": self.final.average_precision_T,
            "stage1_first_rank": self.stage1.first_rank_T,
        }
        if self.scores_TK is not None:
            kept["match"] = self._match_TJ(self.scores_TK)
        return {name: value.cpu().clone() for name, value in kept.items()}

    def _match_TJ(self, scores_TK: Tensor) -> Tensor:
        """Stage 2's scores of the best images."""
        same_TJK = self.best_TJ[:, :, None] == self.candidates_TK[:, None, :]
        scores_TJ = scores_TK.gather(1, same_TJK.int().argmax(2))
        return scores_TJ.masked_fill(~same_TJK.any(2), -math.inf)


class RankingSettings(NamedTuple):
    """What the two stages need beside model and data.

    The gallery's tokens [N, M, width] are kept for stage 2 if they take at most `gallery_mib`; else the images are read
    and encoded a second time, batch by batch, which changes no number. `precision` "bf16": the encoders' matrix
    products are in bfloat16; features, similarities and scores stay float32.
    """

    topk: int  # candidates that stage 2 scores
    ranking_score: str  # logit or probability
    beyond: str  # how the images behind the candidates are ordered: stage1, tied
    batch_size: int
    tokens_per_call: int
    gallery_mib: int
    precision: str
    device: torch.device

    @classmethod
    def of(cls, config: Config, device: torch.device) -> "RankingSettings":
        """As a run's config says."""
        evaluation, fidelity = config.evaluation, config.fidelity
        return cls(
            topk=evaluation.topk,
            ranking_score=fidelity.ranking_score,
            beyond=fidelity.beyond_topk,
            batch_size=evaluation.batch_size,
            tokens_per_call=evaluation.tokens_per_call,
            gallery_mib=evaluation.gallery_mib,
            precision=evaluation.precision,
            device=device,
        )


@torch.inference_mode()
def evaluate(
    model: RaSa,
    images: Callable[[], Iterable[Tensor]],
    texts: Encoded,
    gallery_identity: Tensor,
    text_identity: Tensor,
    settings: RankingSettings,
) -> Ranking:
    """Rank the gallery for every text and measure it; the model is left in the mode it came in.

    `images` yields the gallery's uint8 images [b, 3, height, width] in order, each time it is called. A model without
    an ITM head (row CL) ranks by stage 1 alone. Raises ValueError if `images` does not yield one image per gallery
    identity.
    """
    device, precision = settings.device, settings.precision
    with retrieval_mode(model, device):
        gallery = encode_gallery(model, images, len(gallery_identity), settings.gallery_mib, precision, device)
        queries = encode_queries(model, texts, settings.batch_size, precision, device)
        _, candidates_TK = top_k(queries.features_TE, gallery.features_NE, settings.topk)
        scores_TK = None
        if queries.packed is not None:
            score, tokens = settings.ranking_score, settings.tokens_per_call
            scores_TK = rerank(model, gallery.tokens(), queries.packed, candidates_TK, score, tokens, precision)
        identities = gallery_identity.to(device), text_identity.to(device)
        features = queries.features_TE, gallery.features_NE
        measured = measure(*features, candidates_TK, scores_TK, settings.beyond, *identities)
    return Ranking(*measured, scores_TK, candidates_TK)


class EncodedGallery(NamedTuple):
    """Encoded images: projected class tokens, and all tokens [b, M, width] in batches for each reading by stage 2."""

    features_NE: Tensor
    tokens: Callable[[], Iterable[Tensor]]


class EncodedQueries(NamedTuple):
    """Encoded texts: projected class tokens, and their states for stage 2 (None without an ITM head)."""

    features_TE: Tensor
    packed: PackedTexts | None


def encode_gallery(
    model: RaSa,
    images: Callable[[], Iterable[Tensor]],
    size: int,
    gallery_mib: int,
    precision: str,
    device: torch.device,
) -> EncodedGallery:
    """The images' features and, see `evaluate`, their tokens. Raises ValueError if there are not `size` images."""
    encoders = model.encoders

    def image_tokens() -> Iterator[Tensor]:
        for batch in images():
            yield encode_images(model, batch, precision, device)

    keep, kept, features = "itm" in model.heads, [], []
    for tokens in image_tokens():
        features.append(encoders.image_feature(tokens))
        keep = keep and size * tokens[0].nbytes <= gallery_mib * 2**20
        if keep:
            kept.append(tokens)
    features_NE = torch.cat(features)
    if len(features_NE) != size:
        raise ValueError(f"{len(features_NE)} images, but the gallery has {size} identities")
    return EncodedGallery(features_NE, (lambda: kept) if keep else image_tokens)


def encode_images(model: RaSa, images: Tensor, precision: str, device: torch.device) -> Tensor:
    """Tokens [B, M, width] of uint8 images [B, 3, height, width], none of them mirrored."""
    pixels = normalise(images.to(device, non_blocking=True), torch.zeros(len(images), dtype=torch.bool))
    with autocast(precision, device):
        return model.encoders.encode_image(pixels)


def encode_queries(
    model: RaSa, texts: Encoded, batch_size: int, precision: str, device: torch.device
) -> EncodedQueries:
    """The texts' features and, for stage 2, their states after the first fusion self-attention."""
    encoders, packed, features = model.encoders, [], []
    for rows in torch.arange(len(texts.lengths())).split(batch_size):
        text = Text.of(texts.take(rows), device)
        with autocast(precision, device):
            states = encoders.encode_text(text)
            if encoders.fusion is not None and "itm" in model.heads:
                packed.append((encoders.fusion.attend(states, text.packing), text.packing))
        features.append(encoders.text_feature(states, text.packing))
    return EncodedQueries(torch.cat(features), PackedTexts(packed) if packed else None)


@contextmanager
def retrieval_mode(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Without dropout, in float32 unless said otherwise inside."""
    with in_mode(model, training=False), float32_products("float32"), autocast("float32", device):
        yield


def measure(
    text_features_TE: Tensor,
    image_features_NE: Tensor,
    candidates_TK: Tensor,
    scores_TK: Tensor | None,
    beyond: str,
    gallery_identity_N: Tensor,
    text_identity_T: Tensor,
    cells: int = CELLS,
) -> tuple[Retrieval, Retrieval, Tensor, Tensor]:
    """Final figures, stage 1's figures, the first min(10, N) images of each text and their similarities.

    As `evaluate_order` of the whole matrix's `stage1_order` and `final_order`, but for at most `cells` similarities at
    a time (or two texts). `candidates_TK` are the first K of stage 1's order. Without `scores_TK` stage 1 is final.
    """
    size, k = candidates_TK.shape
    # Never one text alone: torch sums a single row in another order.
    parts = max(1, min(size // 2, math.ceil(size * len(image_features_NE) / cells)))
    figures: list[tuple[Tensor, ...]] = []
    for rows in torch.arange(size, device=candidates_TK.device).tensor_split(parts):
        candidates, identity = candidates_TK[rows], text_identity_T[rows]
        similarity = text_features_TE[rows] @ image_features_NE.T
        # The candidates lead whatever the last bit of this product, which may differ from that of `top_k`'s.
        rest = stage1_order(similarity.scatter(1, candidates, math.inf))[:, k:]
        order = torch.cat([candidates, rest], 1)
        first = final = query_figures(order, gallery_identity_N, identity)
        if scores_TK is not None:
            order = final_order(order, scores_TK[rows], beyond)
            final = query_figures(order, gallery_identity_N, identity)
        best = order[:, :10].clone()
        figures.append((*final, *first, best, similarity.gather(1, best)))
    final_rank, final_ap, rank, ap, best_TJ, similarity_TJ = (torch.cat(part) for part in zip(*figures, strict=True))
    return summary(final_rank, final_ap), summary(rank, ap), best_TJ, similarity_TJ
