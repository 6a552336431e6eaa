"""FLOPs of one training step and of re-ranking, from sizes alone: 1 MAC = 2 FLOP, matrix products only.

What a path costs is stated here independently of the code that runs it, so that `torch.utils.flop_counter` can be held
against it. Shape names: M image tokens, L padded and T real text tokens, D widths, V vocabulary.
"""

from dataclasses import dataclass, fields

from rasa.config.run import Config

TRAINED = 3  # forward passes; a backward pass costs two


def linear(rows: float, inputs: int, outputs: int) -> float:
    """FLOPs of a matrix product [rows, inputs] @ [inputs, outputs]."""
    return 2 * rows * inputs * outputs


def attention(queries: float, keys: float, width: int) -> float:
    """FLOPs of scores and mixing for all heads."""
    return 4 * queries * keys * width


@dataclass(frozen=True)
class Sizes:
    """What the cost depends on."""

    patches: int
    patch_values: int
    vision_width: int
    vision_depth: int
    width: int
    mlp: int
    text_layers: int
    fusion_layers: int
    embed: int
    vocabulary: int
    queue: int

    @classmethod
    def of(cls, config: Config, vocabulary: int) -> "Sizes":
        """The sizes of a model."""
        model, (height, width) = config.model, config.data.image_size
        return cls(
            patches=height * width // model.patch_size**2,
            patch_values=3 * model.patch_size**2,
            vision_width=model.vision_width,
            vision_depth=model.vision_depth,
            width=model.text_width,
            mlp=model.text_mlp_width,
            text_layers=model.text_layers,
            fusion_layers=model.fusion_layers,
            embed=model.embed_dim,
            vocabulary=vocabulary,
            queue=model.queue_size,
        )

    def image(self) -> float:
        """The image encoder on one image."""
        m, d = self.patches + 1, self.vision_width
        layer = linear(m, d, 4 * d) + linear(m, d, 8 * d) + attention(m, m, d)
        return linear(self.patches, self.patch_values, d) + self.vision_depth * layer

    def text(self, rows: float, span: float, wanted: float | None = None) -> float:
        """The text encoder: `rows` computed tokens, each in a rectangle of `span`; `wanted` ones in the last layer."""
        d = self.width
        layer = linear(rows, d, 4 * d) + attention(span, span, d) + linear(rows, d, 2 * self.mlp)
        if wanted is None:
            return self.text_layers * layer
        last = linear(rows, d, 2 * d) + linear(wanted, d, 2 * d) + attention(wanted, span, d)
        return (self.text_layers - 1) * layer + last + linear(wanted, d, 2 * self.mlp)

    def project(self) -> float:
        """Keys and values of one image for all fusion layers."""
        return self.fusion_layers * linear(self.patches + 1, self.vision_width, 2 * self.width)

    def fuse(self, rows: float, span: float, wanted: float | None = None) -> float:
        """One pass through the fusion encoder, without the image's projection."""
        d, m = self.width, self.patches + 1
        layer = (
            linear(rows, d, 6 * d) + attention(span, span, d) + attention(span, m, d) + linear(rows, d, 2 * self.mlp)
        )
        if wanted is None:
            return self.fusion_layers * layer
        last = linear(rows, d, 2 * d) + linear(wanted, d, 4 * d) + attention(wanted, span + m, d)
        return (self.fusion_layers - 1) * layer + last + linear(wanted, d, 2 * self.mlp)

    def words(self, rows: float) -> float:
        """The masked-language head on `rows` tokens."""
        return linear(rows, self.width, self.width + self.vocabulary)

    def similarities(self, batch: int) -> float:
        """One feature against the batch's and the queue's keys."""
        return linear(1, self.embed, batch + self.queue)


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
