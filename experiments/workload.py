"""How much a run has to compute, from its config and its data's sizes alone: FLOPs of training and of evaluation.

1 multiply-add = 2 FLOP, matrix products only. It is stated here independently of the code that runs it, so that
`torch.utils.flop_counter` can be held against it, and needs no torch, so that a plan is quick. Shape names: M image
tokens, L padded and T real text tokens, D widths, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from rasa.config.benchmark import BenchmarkParams
from rasa.config.formats import FORMATS
from rasa.config.run import DETECTORS, FUSION_LOSSES, Config, Data

KINDS = 3  # of words that the sensitivity probe exchanges
TRAINED = 3  # forward passes; a backward pass costs two
ORDERED = 1500  # FLOPs in the time of one image's place in a query's order: 0.15 us of a core that does 10 GFLOP/s
# Captions of 23 words on average (RaSa, A.1), in WordPiece tokens with [CLS] and [SEP].
TOKENS = 29
BERT_WORDS, BERT_WIDTH = 30522, 768
SizesOfSplits = Mapping[str, Mapping[str, int]]


def _split(images: int, captions: int) -> dict[str, int]:
    return {"images": images, "captions": captions}


# RaSa, Appendix A.1; of ICFG-PEDES without what data.val_identities takes from train; Karpathy's splits of the others.
PUBLISHED: dict[str, SizesOfSplits] = {
    "cuhk-pedes": {"train": _split(34054, 68126), "val": _split(3078, 6158), "test": _split(3074, 6156)},
    "icfg-pedes": {"train": _split(32438, 32438), "val": _split(2236, 2236), "test": _split(19848, 19848)},
    "rstpreid": {"train": _split(18505, 37010), "val": _split(1000, 2000), "test": _split(1000, 2000)},
    "flickr30k": {"train": _split(29000, 145000), "val": _split(1014, 5070), "test": _split(1000, 5000)},
    "coco": {"train": _split(113287, 566747), "val": _split(5000, 25010), "test": _split(5000, 25010)},
}


class Work(NamedTuple):
    """Of one run, over all its steps and evaluations."""

    steps: int
    pairs: int
    training: float  # FLOPs
    evaluation: float

    @property
    def total(self) -> float:
        return self.training + self.evaluation


def work_of(config: Config, sizes: SizesOfSplits) -> Work:
    """Of a run on data of these sizes (images and captions of train, val and test)."""
    optimisation, evaluation = config.optimisation, config.evaluation
    captions = sizes["train"]["captions"]
    batch = min(optimisation.batch_size, captions)
    per_pass = captions // batch
    steps = optimisation.epochs * min(per_pass, optimisation.max_steps_per_epoch or per_pass)
    pair, model = pair_flops(config, batch), Model.of(config)
    val, test = (_ranking(config, model, sizes[name]) for name in ("val", "test"))
    looks = optimisation.epochs * (val + (test if evaluation.selection_gap else 0)) + test
    looks += optimisation.epochs * _detecting(config, sizes)
    return Work(steps, steps * batch, steps * batch * pair, looks)


def expected_sizes(data: Data) -> SizesOfSplits | None:
    """Of a data set that is not there: of the built-in benchmark as it will be, else as published; None if unknown."""
    if data.root is None and data.synthetic is not None:
        return benchmark_sizes(data.synthetic)
    return PUBLISHED.get(data.format)


def benchmark_sizes(params: BenchmarkParams) -> SizesOfSplits:
    """Of the built-in benchmark."""
    people = {"train": params.train_identities, "val": params.val_identities, "test": params.test_identities}
    images = {name: number * params.images_per_identity for name, number in people.items()}
    return {name: _split(number, number * params.captions_per_image) for name, number in images.items()}


def recorded_config(identity: Mapping[str, Any]) -> Config | None:
    """The config of a run that was recorded with this identity, as far as that tells; None if it is of no use here."""
    try:
        data = {**identity["data"], "root": "."}
        if data.get("target"):
            data["target"] = {**data["target"], "root": "."}
        return Config.model_validate({**identity, "data": data})
    except (ValidationError, KeyError, TypeError):  # of another version, of a start, or damaged
        return None


def recorded_work(identity: Mapping[str, Any], sizes: Any) -> Work | None:
    """Of a run that was recorded with this identity and these sizes; None if the record does not tell."""
    config = recorded_config(identity)
    try:
        return None if config is None else work_of(config, sizes)
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def stages_of(config: Config, sizes: SizesOfSplits) -> tuple[int, int, float, float, float, float]:
    """Steps and epochs; FLOPs of a step, of a validation, of the look after it, and of all after the training."""
    model, work, evaluation = Model.of(config), work_of(config, sizes), config.evaluation
    step = work.training / work.steps
    val, test = (_ranked(config, model, sizes[name]) for name in ("val", "test"))
    look = test if evaluation.selection_gap else 0.0
    val += _detecting(config, sizes)
    end = test
    if evaluation.sensitivity:
        # Three kinds of words, each query as it was written and with one exchanged (rasa/evaluation/word_probe.py).
        asked = KINDS * 2 * min(evaluation.sensitivity, sizes["test"]["captions"])
        end += _ranked(config, model, {"images": sizes["test"]["images"], "captions": asked})
    return work.steps, config.optimisation.epochs, step, val, look, end


def _ranked(config: Config, model: "Model", split: Mapping[str, int]) -> float:
    """FLOPs of ranking a split, and what putting each query's images in order takes instead of some."""
    return _ranking(config, model, split) + ORDERED * split["images"] * split["captions"]


def _detecting(config: Config, sizes: SizesOfSplits) -> float:
    """FLOPs of what the heads of PRD and RTD are asked after each epoch, of the row's validation pairs."""
    asked = {name: weight for name, weight in config.objectives.weights.items() if name in DETECTORS}
    if not asked or not config.evaluation.detectors:
        return 0.0
    alone = config.model_copy(update={"objectives": config.objectives.model_copy(update={"weights": asked})})
    return sizes["val"]["captions"] * pair_flops(alone, config.optimisation.batch_size, trained=1)


def start_flops(config: Config, sizes: SizesOfSplits) -> float:
    """FLOPs of ranking validation and test once, re-ranked where the config matches pairs."""
    return sum(_ranking(config, Model.of(config), sizes[name]) for name in ("val", "test"))


# ---- One training pair ----


def linear(rows: float, inputs: int, outputs: int) -> float:
    """FLOPs of a matrix product [rows, inputs] @ [inputs, outputs]."""
    return 2 * rows * inputs * outputs


def attention(queries: float, keys: float, width: int) -> float:
    """FLOPs of scores and mixing for all heads."""
    return 4 * queries * keys * width


@dataclass(frozen=True)
class Model:
    """The sizes on which the cost depends."""

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
    def of(cls, config: Config, vocabulary: int | None = None) -> "Model":
        """The sizes of a model; its vocabulary is BERT's at BERT's width, else as large as it may be."""
        model, (height, width) = config.model, config.data.image_size
        words = BERT_WORDS if model.text_width >= BERT_WIDTH else config.data.vocabulary_size
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
            vocabulary=vocabulary or words,
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


def pair_flops(
    config: Config, batch: int, captions: tuple[float, float] | None = None, trained: int = TRAINED
) -> float:
    """FLOPs of one pair in a training step of `batch`; `captions`: tokens on average, and of the batch's longest.

    `trained`: forward passes that count for one of what is trained; 1 without backward passes.

    As rasa/training/step.py takes its passes, in its order. What a share of the captions alone costs (those that are
    exchanged for matching) is left out.
    """
    size, on, fidelity = Model.of(config), config.objectives.weights, config.fidelity
    generator = config.objectives.generator
    longest = config.data.max_tokens
    real, span = captions or (min(TOKENS, longest), longest)
    rate = fidelity.mlm_mask_rate if fidelity.mlm_mask_rate is not None else config.objectives.p_mask
    matches, soft = "itm" in on or "prd" in on, "mlm" in on and fidelity.mlm_soft_targets
    contrasts = ("itm" in on and fidelity.itm_negatives == "hard") or "cl" in on or "itc" in on
    distils = soft or generator == "momentum"
    everywhere, shared = fidelity.rtd_replace == "all", fidelity.shared_masking

    total = trained * size.image()
    if contrasts or distils:
        total += size.image()
    if contrasts or matches:
        total += trained * size.text(real, span)
    if contrasts:
        total += size.text(real, span, 1)
        directions = 4 if "cl" in on else 2 if "itc" in on else 0
        total += directions * (trained + fidelity.contrastive_soft_targets) * size.similarities(batch)
    if any(name in on for name in FUSION_LOSSES):
        total += trained * size.project()
    passes = int(matches) + 2 * int("itm" in on)
    total += trained * passes * size.fuse(real, span, 1)

    chosen = real * rate
    states = real if everywhere else chosen  # of whose tokens a pass over captions masked for both is asked
    read = size.text(real, span) + size.fuse(real, span, None if everywhere and (shared or "mlm" not in on) else chosen)
    if distils:
        total += size.project()
    if "mlm" in on:
        if soft and fidelity.mlm_soft_axis == "sequence":
            total += trained * (size.text(span, span) + size.fuse(span, span) + size.words(span))
        else:
            total += trained * (read + size.words(chosen))
        if soft:
            total += read + size.words(chosen)
    if "rtd" in on:
        total += trained * (size.text(real, span) + size.fuse(real, span))
        if generator == "fixed":
            total += _distilbert(size, span)
        else:
            total += size.words(states)
            own = (
                fidelity.generator_dropout
                if generator == "online"
                else (fidelity.generator_dropout == fidelity.momentum_dropout)
            )
            reused = shared and own and (soft if generator == "momentum" else "mlm" in on)
            total += 0 if reused else read
    return total


def _distilbert(size: Model, span: float) -> float:
    """f-RTD's generator, distilbert-base, on padded captions; the small one of a narrow model is not counted."""
    bert = Model(0, 0, 0, 0, BERT_WIDTH, 3072, 6, 0, 0, size.vocabulary, 0)
    return bert.text(span, span) + bert.words(span) if size.width >= BERT_WIDTH else 0.0


def _ranking(config: Config, model: Model, split: Mapping[str, int]) -> float:
    """FLOPs of ranking a split: encoded once, and re-ranked where the row matches pairs."""
    images, captions = split["images"], split["captions"]
    real = min(TOKENS, config.data.max_tokens)
    found = images * model.image() + captions * model.text(real, real) + captions * images * 2 * model.embed
    if "itm" not in config.objectives.weights:
        return found
    candidates = min(config.evaluation.topk, images)
    both = 2 if FORMATS[config.data.format].protocol == "both-ways" else 1  # images ask for texts, too
    pairs = captions * candidates + (both - 1) * images * min(config.evaluation.topk, captions)
    return found + both * images * model.project() + pairs * model.fuse(real, real, 1)
