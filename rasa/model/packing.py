"""Captions as packed token states: padding is computed nowhere but inside the attention kernel, which wants rectangles.

Shape suffixes: B texts, L text tokens of the longest, N packed tokens of all texts, W tokens wanted of a last layer.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rasa.data.tokenizer import Tokens


@dataclass(frozen=True)
class Packing:
    """Which cells of a [B, L] rectangle of tokens are computed, and which may be attended to.

    `index` [N] lists the computed cells, those of the mask, row by row; None: all cells are computed, in which case
    packing copies nothing.
    """

    mask: Tensor  # [B, L] bool: a real token, so a key
    index: Tensor | None = None

    @classmethod
    def of(cls, mask: Tensor, device: torch.device | str, padding: bool = False) -> "Packing":
        """The packing of a mask that lies on the CPU. `padding`: compute the padded cells too."""
        if padding or bool(mask.all()):
            return cls(mask.to(device, non_blocking=True))
        index = mask.flatten().nonzero().squeeze(1)
        return cls(mask.to(device, non_blocking=True), index.to(device, non_blocking=True))

    @cached_property
    def rows(self) -> Tensor:
        """The packed row of each cell [B * L]; of a cell that is not computed some other's."""
        if self.index is None:
            return torch.arange(self.mask.numel(), device=self.mask.device)
        return (self.mask.flatten().cumsum(0) - 1).clamp_(min=0)

    def first(self) -> Tensor:
        """Packed rows [B] of the texts' first tokens."""
        return self.rows[:: self.mask.shape[1]]

    def pack(self, cells: Tensor) -> Tensor:
        """[B, L, ...] -> [N, ...]."""
        flat = cells.flatten(0, 1)
        return flat if self.index is None else _Pack.apply(flat, self.index)

    def unpack(self, packed: Tensor) -> Tensor:
        """[N, ...] -> [B, L, ...]; cells that are not computed hold some other token's values."""
        if self.index is not None:
            packed = _Unpack.apply(packed, self.index, self.rows)
        return packed.unflatten(0, self.mask.shape)


@dataclass(frozen=True)
class Wanted:
    """The tokens whose states a last layer is asked for: it computes queries and all that follows for them alone."""

    rows: Tensor  # [W] their packed rows, ascending
    packing: Packing  # of their own [B, W of the text with most] rectangle

    @classmethod
    def first(cls, packing: Packing) -> "Wanted":
        """Every text's first token."""
        return cls(packing.first(), Packing(packing.mask[:, :1]))

    @classmethod
    def at(cls, packing: Packing, cells: Tensor) -> "Wanted":
        """The tokens at the flat cells [W] (ascending, on the CPU) of the rectangle."""
        size, length = packing.mask.shape
        counts = torch.bincount(cells // length, minlength=size)
        mask = torch.arange(max(1, int(counts.max())))[None] < counts[:, None]
        device = packing.mask.device
        return cls(packing.rows[cells.to(device, non_blocking=True)], Packing.of(mask, device))


# Gathers whose gradient is known to be no accumulation, because no computed row repeats.
class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, flat, index):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(index)
        ctx.size = len(flat)
        return flat.index_select(0, index)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (index,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.size, *gradient.shape[1:]).index_copy_(0, index, gradient), None


class _Unpack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, packed, index, rows):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(index)
        return packed.index_select(0, rows)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (index,) = ctx.saved_tensors
        return gradient.index_select(0, index), None, None


def take_rows(packed: Tensor, rows: Tensor) -> Tensor:
    """packed[rows] of rows that name none twice."""
    return _Pack.apply(packed, rows)


@dataclass(frozen=True)
class Text:
    """Captions on their way through the encoders: token ids [B, L] and their packing, on the device."""

    ids: Tensor
    packing: Packing

    @classmethod
    def of(cls, tokens: Tokens, device: torch.device | str, padding: bool = False) -> "Text":
        """From tokens that lie on the CPU."""
        return cls(tokens.ids.to(device, non_blocking=True), Packing.of(tokens.mask, device, padding))
