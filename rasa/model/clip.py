"""CLIP's two towers (Radford et al. 2021) behind the interfaces of the other encoders; docs/decisions/0010 argues them.

A caption's cells are ordered as everywhere here: first the token whose state stands for the whole, then the words, then
the token that closes the row. CLIP reads <start> words <end>, causally, and its whole is at <end>; so the first cell
holds <end>, the last one <start>, and the tower reads the cells in `reading_order`. Shape suffixes: B texts, L cells of
the longest, W wanted cells of the text with most, N packed tokens, D text width.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rasa.model.packing import Packing, Wanted, take_rows

NORM_EPS = 1e-5
ACTIVATION = "quick_gelu"
# Where CLIP's ViT differs from ALBEF's: no bias in the patch embedding, a norm before the layers, quick GELU. Its last
# norm, which CLIP applies to the class token alone, is applied to all: the fusion block attends to them.
VISION: dict[str, Any] = {
    "pre_norm": True,
    "norm_layer": partial(nn.LayerNorm, eps=NORM_EPS),
    "act_layer": ACTIVATION,
}


def reading_order(mask_BL: Tensor) -> Tensor:
    """The position [B, L] at which CLIP reads each cell.

    The first cell is read last, the last one first, words at their own place. Cells beyond a text come after it.
    """
    place = torch.arange(mask_BL.shape[1], device=mask_BL.device).expand_as(mask_BL)
    last = mask_BL.sum(1, keepdim=True) - 1
    return torch.where(place == 0, last, torch.where(place == last, 0, place))


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x), OpenAI's approximation of GELU."""
    return x * torch.sigmoid(1.702 * x)


class ClipEmbeddings(nn.Module):
    """Word + position embeddings; no norm, no dropout."""

    def __init__(self, vocabulary: int, positions: int, width: int):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, width)
        self.position_embeddings = nn.Embedding(positions, width)

    def forward(self, ids_BL: Tensor, order_BL: Tensor, packing: Packing) -> Tensor:
        return self.word_embeddings(packing.pack(ids_BL)) + self.position_embeddings(packing.pack(order_BL))


class ClipTextLayer(nn.Module):
    """Causal self-attention and feed-forward, each after its norm and beside a residual."""

    def __init__(self, width: int, heads: int, mlp_width: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.intermediate = nn.Linear(width, mlp_width)
        self.output = nn.Linear(mlp_width, width)

    def forward(self, hidden_ND: Tensor, packing: Packing, seen_BLL: Tensor, wanted: Wanted | None = None) -> Tensor:
        """[N, D], or the wanted tokens' states alone [W, D].

        `seen` [B, L or W, L] says which cells a cell may attend to.
        """
        normed = self.norm1(hidden_ND)
        asking, rows = (normed, packing) if wanted is None else (take_rows(normed, wanted.rows), wanted.packing)
        keys, values = (self._heads(packing.unpack(part(normed))) for part in (self.key, self.value))
        queries = self._heads(rows.unpack(self.query(asking)))
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen_BLL[:, None])
        residual = hidden_ND if wanted is None else take_rows(hidden_ND, wanted.rows)
        hidden = residual + self.project(rows.pack(mixed.transpose(1, 2).flatten(2)))
        return hidden + self.output(quick_gelu(self.intermediate(self.norm2(hidden))))

    def _heads(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, heads, L, D / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class ClipTextEncoder(nn.Module):
    """Token ids [B, L] to packed token states [N, D]; a text's first is that of its end-of-text token, t_cls."""

    def __init__(self, vocabulary: int, positions: int, width: int, depth: int, heads: int, mlp_width: int):
        super().__init__()
        self.embeddings = ClipEmbeddings(vocabulary, positions, width)
        self.layers = nn.ModuleList(ClipTextLayer(width, heads, mlp_width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, ids_BL: Tensor, packing: Packing, wanted: Wanted | None = None) -> Tensor:
        """[N, D], or the wanted tokens' states alone [W, D]: the last layer computes no others."""
        order_BL = reading_order(packing.mask)
        seen_BLL = packing.mask[:, None] & (order_BL[:, None] <= order_BL[..., None])
        hidden_ND = self.embeddings(ids_BL, order_BL, packing)
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            if wanted is None or i < last:
                hidden_ND = layer(hidden_ND, packing, seen_BLL)
            else:
                asking_BW = wanted.packing.unpack(packing.pack(order_BL)[wanted.rows])
                seen_BWL = packing.mask[:, None] & (order_BL[:, None] <= asking_BW[..., None])
                hidden_ND = layer(hidden_ND, packing, seen_BWL, wanted)
        return self.norm(hidden_ND)
