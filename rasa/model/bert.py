"""The text encoder and the cross-modal (fusion) encoder: BERT layers, the fusion ones with text-guided cross-attention.

Shape suffixes: B texts, L text tokens of the longest, N packed tokens of all texts, M image tokens, D text width, H
heads, E = D / H.

Post-norm layers with exact GELU and LayerNorm eps 1e-12, as in BERT. Two things keep the cost at what the mathematics
asks for. The keys and values of the cross-attention depend on the image alone, so they are projected once per image
(`FusionEncoder.project_image`) and enter every pass over that image ready made. And token states are packed: padding
is computed nowhere but inside the attention kernel, which wants rectangles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rasa.draws import dropout
from rasa.model.packing import Packing, Wanted, take_rows

NORM_EPS = 1e-12


@dataclass(frozen=True)
class ImageKeyValues:
    """An image batch's cross-attention keys and values, one [B, H, M, E] pair per fusion layer."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    def take(self, rows: Tensor) -> "ImageKeyValues":
        """The same for the images at the indices `rows`."""
        return ImageKeyValues(tuple(k[rows] for k in self.keys), tuple(v[rows] for v in self.values))


def concatenate(parts: list[ImageKeyValues]) -> ImageKeyValues:
    """The images of all parts, in order.

    Where some are taken as they are, this is cheaper than a gather of all, whose gradient adds up.
    """
    return ImageKeyValues(
        tuple(torch.cat(layer) for layer in zip(*(p.keys for p in parts), strict=True)),
        tuple(torch.cat(layer) for layer in zip(*(p.values for p in parts), strict=True)),
    )


class AttentionOutput(nn.Module):
    """Output projection, dropout, residual, norm."""

    def __init__(self, width: int, inner: int, dropout: float):
        super().__init__()
        self.dense = nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.dropout = dropout

    def forward(self, hidden_ND: Tensor, residual_ND: Tensor) -> Tensor:
        hidden_ND = self.dense(hidden_ND)
        if self.training:
            hidden_ND = dropout(hidden_ND, self.dropout)
        return self.norm(hidden_ND + residual_ND)


class Attention(nn.Module):
    """Multi-head attention of text states over themselves or over ready-made keys and values."""

    def __init__(self, width: int, heads: int, dropout: float, key_width: int | None = None):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(key_width or width, width)
        self.value = nn.Linear(key_width or width, width)
        self.output = AttentionOutput(width, width, dropout)

    def split(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, H, L, E]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def project(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H, M, E] of `source` [B, M, key width]."""
        return self.split(self.key(source)), self.split(self.value(source))

    def mix(self, queries: Tensor, keys: Tensor, values: Tensor, mask_BL: Tensor | None) -> Tensor:
        """softmax(QK / sqrt(E)) V of [B, H, *, E] tensors, as [B, *, D]; dropout on the weights in training."""
        # [B, 1, 1, L]: the same keys for all heads and queries
        mask = None if mask_BL is None else mask_BL[:, None, None, :]
        p = self.dropout if self.training else 0.0
        if p and queries.device.type == "cpu":  # no fused kernel there has dropout
            mixed = _mix_with_dropout(queries, keys, values, mask, p)
        else:
            mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=p)
        return mixed.transpose(1, 2).flatten(2)

    def over_text(self, hidden_ND: Tensor, packing: Packing, wanted: Wanted | None = None) -> Tensor:
        """Self-attention: [N, D], or of the wanted tokens alone [W, D]."""
        if wanted is None:
            # One product for all three: the states are read once.  [N, D] -> 3 x [B, H, L, E]
            q, k, v = (self.split(x) for x in _project(hidden_ND, packing, self.query, self.key, self.value))
            return self.output(packing.pack(self.mix(q, k, v, packing.mask)), hidden_ND)
        # Every token is a key, but only the wanted ones ask.
        asking_WD = take_rows(hidden_ND, wanted.rows)
        k, v = (self.split(x) for x in _project(hidden_ND, packing, self.key, self.value))
        q = self.split(wanted.packing.unpack(self.query(asking_WD)))
        return self.output(wanted.packing.pack(self.mix(q, k, v, packing.mask)), asking_WD)

    def over_image(self, hidden_ND: Tensor, keys: Tensor, values: Tensor, packing: Packing) -> Tensor:
        """Cross-attention [N, D] of text b to image b."""
        q = self.split(packing.unpack(self.query(hidden_ND)))  # [B, H, L, E]
        # No mask: an image has no padding.
        return self.output(packing.pack(self.mix(q, keys, values, None)), hidden_ND)

    def over_images(self, hidden_ND: Tensor, keys: Tensor, values: Tensor, rows: Sequence[int]) -> Tensor:
        """Cross-attention [N, D] of the next rows[g] token rows to image g: all texts of an image in one rectangle."""
        parts = [
            self.mix(self.split(q[None]), k[None], v[None], None)[0]
            for q, k, v in zip(self.query(hidden_ND).split(list(rows)), keys, values, strict=True)
        ]
        return self.output(torch.cat(parts), hidden_ND)


def _project(hidden_ND: Tensor, packing: Packing, *maps: nn.Linear) -> tuple[Tensor, ...]:
    """Several linear maps of the same states in one product, each [B, L, D]."""
    weight, bias = (torch.cat([getattr(m, name) for m in maps]) for name in ("weight", "bias"))
    return packing.unpack(F.linear(hidden_ND, weight, bias)).chunk(len(maps), dim=-1)


def _mix_with_dropout(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, p: float) -> Tensor:
    """The same as the fused kernel, [B, H, *, E]; scale and mask enter the first product."""
    shape = queries.shape
    # [B, H, *, E] -> [BH, *, E]: bmm knows one batch axis.
    queries, keys, values = ((x.flatten(0, 1)) for x in (queries * shape[-1] ** -0.5, keys, values))
    if mask is None:
        scores = torch.bmm(queries, keys.mT)
    else:
        # The least finite number, as BERT has it: a row that is all padding stays a number.
        bias = torch.zeros_like(mask, dtype=queries.dtype).masked_fill_(~mask, torch.finfo(queries.dtype).min)
        bias = bias.expand(-1, shape[1], -1, -1).flatten(0, 1)
        scores = torch.baddbmm(bias, queries, keys.mT)
    return torch.bmm(dropout(scores.softmax(-1), p), values).unflatten(0, shape[:2])


class TextLayer(nn.Module):
    """Self-attention and feed-forward."""

    def __init__(self, width: int, heads: int, mlp_width: int, dropout: float):
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.intermediate = nn.Linear(width, mlp_width)
        self.output = AttentionOutput(width, mlp_width, dropout)

    def forward(self, hidden_ND: Tensor, packing: Packing, wanted: Wanted | None = None) -> Tensor:
        return self.feed_forward(self.attention.over_text(hidden_ND, packing, wanted))

    def feed_forward(self, hidden_ND: Tensor) -> Tensor:
        return self.output(F.gelu(self.intermediate(hidden_ND)), hidden_ND)


class FusionLayer(TextLayer):
    """Self-attention, cross-attention with the text as query and the image as key and value, feed-forward."""

    def __init__(self, width: int, heads: int, mlp_width: int, dropout: float, image_width: int):
        super().__init__(width, heads, mlp_width, dropout)
        self.cross_attention = Attention(width, heads, dropout, key_width=image_width)

    def fuse(
        self, hidden_ND: Tensor, packing: Packing, keys: Tensor, values: Tensor, wanted: Wanted | None = None
    ) -> Tensor:
        """[N, D], or the wanted tokens' states alone [W, D]."""
        hidden_ND = self.attention.over_text(hidden_ND, packing, wanted)
        # From here on a token meets the image alone, so tokens that nobody wants are gone.
        asking = packing if wanted is None else wanted.packing
        return self.feed_forward(self.cross_attention.over_image(hidden_ND, keys, values, asking))


class TextEmbeddings(nn.Module):
    """Word + position + segment (always the first) embeddings, norm, dropout."""

    def __init__(self, vocabulary: int, positions: int, width: int, dropout: float, pad_id: int):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, width, padding_idx=pad_id)
        self.position_embeddings = nn.Embedding(positions, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.dropout = dropout

    def forward(self, ids_BL: Tensor, packing: Packing) -> Tensor:
        positions_BL = torch.arange(ids_BL.shape[1], device=ids_BL.device).expand_as(ids_BL)
        # Packed before the look-up, so that padding is not even looked up.
        hidden_ND = self.word_embeddings(packing.pack(ids_BL)) + self.position_embeddings(packing.pack(positions_BL))
        hidden_ND = self.norm(hidden_ND + self.token_type_embeddings.weight[0])
        return dropout(hidden_ND, self.dropout) if self.training else hidden_ND


class TextEncoder(nn.Module):
    """Token ids [B, L] to packed token states [N, D]; a text's first is t_cls."""

    def __init__(
        self,
        vocabulary: int,
        positions: int,
        width: int,
        depth: int,
        heads: int,
        mlp_width: int,
        dropout: float,
        pad_id: int,
    ):
        super().__init__()
        self.embeddings = TextEmbeddings(vocabulary, positions, width, dropout, pad_id)
        self.layers = nn.ModuleList(TextLayer(width, heads, mlp_width, dropout) for _ in range(depth))

    def forward(self, ids_BL: Tensor, packing: Packing, wanted: Wanted | None = None) -> Tensor:
        """[N, D], or the wanted tokens' states alone [W, D]: the last layer computes no others."""
        hidden_ND = self.embeddings(ids_BL, packing)
        last = len(self.layers) - 1  # the layers before it need every token as a key
        for i, layer in enumerate(self.layers):
            hidden_ND = layer(hidden_ND, packing, wanted if i == last else None)
        return hidden_ND


class FusionEncoder(nn.Module):
    """Packed text states and the images' keys and values to joint states; a text's first is f_cls."""

    def __init__(self, width: int, depth: int, heads: int, mlp_width: int, dropout: float, image_width: int):
        super().__init__()
        layers = [FusionLayer(width, heads, mlp_width, dropout, image_width) for _ in range(depth)]
        self.layers: Sequence[FusionLayer] = nn.ModuleList(layers)  # type: ignore[assignment]

    def project_image(self, tokens: Tensor) -> ImageKeyValues:
        """Keys and values of image tokens [B, M, image width] for every layer."""
        pairs = [layer.cross_attention.project(tokens) for layer in self.layers]
        return ImageKeyValues(tuple(k for k, _ in pairs), tuple(v for _, v in pairs))

    def forward(
        self, hidden_ND: Tensor, packing: Packing, image: ImageKeyValues, wanted: Wanted | None = None
    ) -> Tensor:
        """Joint states [N, D], or of the wanted tokens alone [W, D]: the last layer computes no others."""
        if wanted is not None and not len(wanted.rows):
            return hidden_ND[:0]
        last = len(self.layers) - 1
        for i, (layer, keys, values) in enumerate(zip(self.layers, image.keys, image.values, strict=True)):
            hidden_ND = layer.fuse(hidden_ND, packing, keys, values, wanted if i == last else None)
        return hidden_ND

    def attend(self, hidden_ND: Tensor, packing: Packing) -> Tensor:
        """The first layer's self-attention [N, D], which does not see the image: once per text in re-ranking."""
        return self.layers[0].attention.over_text(hidden_ND, packing)


class LanguageHead(nn.Module):
    """BERT's masked-language head; the decoder is the word embedding matrix, passed in because it is tied."""

    def __init__(self, width: int, vocabulary: int):
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, hidden: Tensor, word_embeddings: Tensor) -> Tensor:
        """Logits [..., vocabulary] of states [..., D]."""
        return F.linear(self.norm(F.gelu(self.dense(hidden))), word_embeddings, self.bias)
