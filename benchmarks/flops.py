"""FLOPs of one training step and of re-ranking, from sizes alone: 1 MAC = 2 FLOP, matrix products only.

What a path costs is stated here independently of the code that runs it, so that `torch.utils.flop_counter` can be held
against it. Shape names: M image tokens, L padded and T real text tokens, D widths, V vocabulary.
"""

from dataclasses import dataclass, fields

from experiments.workload import TRAINED
from experiments.workload import Model as Sizes


@dataclass(frozen=True)
class Cost:
    """FLOPs of one training pair, by part."""

    encode: float
    momentum: float
    text: float
    fusion: float
    heads: float

    def total(self) -> float:
        """The sum over parts."""
        return sum(getattr(self, field.name) for field in fields(self))


def plain_step(size: Sizes, batch: int, padded: float) -> Cost:
    """m-RTD as the released code computes it: all captions padded, five fusion passes each with its own projection.

    The contrast's and the matching's text is one (released fidelity), online and momentum.
    """
    fused = size.project() + size.fuse(padded, padded)
    return Cost(
        encode=TRAINED * size.image(),
        momentum=size.image() + 3 * size.text(padded, padded) + 2 * fused + 2 * size.words(padded),
        text=TRAINED * 3 * size.text(padded, padded),
        fusion=TRAINED * 5 * fused,
        heads=TRAINED * size.words(padded) + (4 * 2 + 4) * size.similarities(batch),
    )


def fast_step(size: Sizes, batch: int, real: float, padded: float, mlm: float, paper: bool) -> Cost:
    """m-RTD as this project computes it: projections once, [CLS] alone where only it is used, words where masked.

    `real` tokens of a caption are computed, `padded` is the rectangle that attention sees, `mlm` the share of masked
    words. Released fidelity: the online MLM pass keeps its padding and its whole head, for the softmax over the
    sequence; every position takes the generator's word. Paper fidelity: one masked text, words at masked tokens only.
    """
    text, cls = size.text(real, padded), size.text(real, padded, 1)
    positives = 3 * size.fuse(real, padded, 1)
    masked = real * mlm
    if paper:
        language = size.fuse(real, padded, masked)
        momentum = size.image() + cls + text + size.project() + size.fuse(real, padded, masked) + 2 * size.words(masked)
        online_text, words = 3 * text, size.words(masked)
    else:
        language = size.fuse(padded, padded)
        momentum = size.image() + cls + 2 * text + size.project()
        momentum += (
            size.fuse(real, padded, masked) + size.fuse(real, padded) + size.words(masked) + size.words(real - 1)
        )
        online_text, words = 2 * text + size.text(padded, padded), size.words(padded)
    return Cost(
        encode=TRAINED * size.image(),
        momentum=momentum,
        text=TRAINED * online_text,
        fusion=TRAINED * (size.project() + positives + language + size.fuse(real, padded)),
        heads=TRAINED * words + (4 * 2 + 4) * size.similarities(batch),
    )
