"""The text encoder and the cross-modal (fusion) encoder: BERT layers, the fusion ones with text-guided cross-attention.

Shape suffixes: B texts, L text tokens, M image tokens, D text width, H heads, E = D / H.

Post-norm layers with exact GELU and LayerNorm eps 1e-12, as in BERT. The keys and values of the cross-attention
depend on the image alone, so they are projected once per image (`FusionEncoder.project_image`) and enter every
pass over that image ready made: positives, negatives, MLM, RTD and re-ranking share them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    """The images of all parts, in order."""
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
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        return self.norm(self.dropout(self.dense(hidden)) + residual)


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

    def forward(self, hidden_BLD: Tensor, keys: Tensor, values: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        mixed = F.scaled_dot_product_attention(
            self.split(self.query(hidden_BLD)),
            keys,
            values,
            attn_mask=None if mask_BL is None else mask_BL[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.output(mixed.transpose(1, 2).flatten(2), hidden_BLD)


class TextLayer(nn.Module):
    """Self-attention and feed-forward."""

    def __init__(self, width: int, heads: int, mlp_width: int, dropout: float):
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.intermediate = nn.Linear(width, mlp_width)
        self.output = AttentionOutput(width, mlp_width, dropout)

    def forward(self, hidden_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        hidden_BLD = self.attention(hidden_BLD, *self.attention.project(hidden_BLD), mask_BL)
        return self.feed_forward(hidden_BLD)

    def feed_forward(self, hidden_BLD: Tensor) -> Tensor:
        return self.output(F.gelu(self.intermediate(hidden_BLD)), hidden_BLD)


class FusionLayer(TextLayer):
    """Self-attention, cross-attention with the text as query and the image as key and value, feed-forward."""

    def __init__(self, width: int, heads: int, mlp_width: int, dropout: float, image_width: int):
        super().__init__(width, heads, mlp_width, dropout)
        self.cross_attention = Attention(width, heads, dropout, key_width=image_width)

    def fuse(self, hidden_BLD: Tensor, mask_BL: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        hidden_BLD = self.attention(hidden_BLD, *self.attention.project(hidden_BLD), mask_BL)
        return self.feed_forward(self.cross_attention(hidden_BLD, keys, values))


class TextEmbeddings(nn.Module):
    """Word + position + segment (always the first) embeddings, norm, dropout."""

    def __init__(self, vocabulary: int, positions: int, width: int, dropout: float, pad_id: int):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, width, padding_idx=pad_id)
        self.position_embeddings = nn.Embedding(positions, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids_BL: Tensor) -> Tensor:
        positions_LD = self.position_embeddings.weight[: ids_BL.shape[1]]
        hidden = self.word_embeddings(ids_BL) + self.token_type_embeddings.weight[0] + positions_LD
        return self.dropout(self.norm(hidden))


class TextEncoder(nn.Module):
    """Token ids and their mask (true: a real token) to token states [B, L, D]; the first is t_cls."""

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

    def forward(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        hidden = self.embeddings(ids_BL)
        for layer in self.layers:
            hidden = layer(hidden, mask_BL)
        return hidden


class FusionEncoder(nn.Module):
    """Text states and an image's keys and values to joint states [B, L, D]; the first is f_cls."""

    def __init__(self, width: int, depth: int, heads: int, mlp_width: int, dropout: float, image_width: int):
        super().__init__()
        self.layers = nn.ModuleList(FusionLayer(width, heads, mlp_width, dropout, image_width) for _ in range(depth))

    def project_image(self, tokens: Tensor) -> ImageKeyValues:
        """Keys and values of image tokens [B, M, image width] for every layer."""
        pairs = [layer.cross_attention.project(tokens) for layer in self.layers]  # type: ignore[operator,union-attr]
        return ImageKeyValues(tuple(k for k, _ in pairs), tuple(v for _, v in pairs))

    def forward(self, hidden_BLD: Tensor, mask_BL: Tensor, image: ImageKeyValues) -> Tensor:
        for layer, keys, values in zip(self.layers, image.keys, image.values, strict=True):
            hidden_BLD = layer.fuse(hidden_BLD, mask_BL, keys, values)  # type: ignore[operator]
        return hidden_BLD


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
