"""The typed, frozen description of one run. Code receives values from here, never the tree; YAML only fills it.

A field marked `identity=False` changes where or how fast a run happens but not what it computes: it does not
enter the run id. Contradictions raise here, with the value and the fix in the message.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rasa.config.benchmark import BenchmarkParams
from rasa.config.fidelity import Fidelity
from rasa.config.formats import FORMATS

LOSSES = ("cl", "itc", "itm", "prd", "mlm", "rtd")
FUSION_LOSSES = ("itm", "prd", "mlm", "rtd")
DETECTORS = ("prd", "rtd")  # whose heads detect something: weak pairs, replaced words
NOT_IDENTITY: dict[str, Any] = {"identity": False}
IF_GIVEN: dict[str, Any] = {"identity": "if given"}  # null leaves the run id as it was before there was such a field
if TYPE_CHECKING:
    DataFormat = str
else:
    DataFormat = Literal[tuple(FORMATS)]


def _by_backbone(albef: int, clip: int) -> Callable[[dict[str, Any]], int]:
    """A size's default: ALBEF's, or that of CLIP ViT-B/16 (Radford et al. 2021).

    The latter has one block as cross-modal encoder (A.4).
    """
    return lambda given: clip if given.get("backbone") == "clip" else albef


class Section(BaseModel):
    """Frozen, and no key beyond the declared ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def by_format(field: str, usual: Any) -> Callable[[dict[str, Any]], Any]:
    """A default that the format's publication, or the paper's use of it, may fix."""
    return lambda validated: FORMATS[validated["format"]].defaults.get(field, usual)


class Target(Section):
    """Another data set, of which the test split alone is read (Table 7's target domain)."""

    format: DataFormat = Field("cuhk-pedes", description="Layout of its files, as data.format.")
    root: Path | None = Field(
        None, description="Its folder; null: the built-in benchmark.", json_schema_extra=NOT_IDENTITY
    )
    annotations: str | None = Field(None, description="Its annotation file; null: the published name of the format.")
    image_folder: str = Field(
        default_factory=by_format("image_folder", "imgs"), description="Its image folder inside root."
    )
    synthetic: dict[str, Any] | None = Field(
        None,
        description=(
            "In what the built-in benchmark differs from data.synthetic, e.g. {domain: evening}, if root is null."
        ),
    )


class Data(Section):
    """Which captioned people are read, and how a caption and an image become tensors."""

    format: DataFormat = Field(
        "cuhk-pedes",
        description="Layout of the files on disk, which also says how the data set is evaluated (docs/data.md).",
    )
    root: Path | None = Field(
        None,
        description="Folder with the annotation file and the images; null: the built-in benchmark.",
        json_schema_extra=NOT_IDENTITY,
    )
    annotations: str | None = Field(
        None, description="Annotation file inside root; null: the published name of the format."
    )
    image_folder: str = Field(
        default_factory=by_format("image_folder", "imgs"),
        description="Folder of the images inside root; where it is not given, the published one of the format.",
    )
    synthetic: BenchmarkParams | None = Field(
        None,
        description="The built-in benchmark's size and seed, used when root is null.",
        json_schema_extra=NOT_IDENTITY,
    )
    image_size: tuple[int, int] = Field(
        (384, 384), description="Height and width in pixels to which images are squashed."
    )
    flip_probability: float = Field(0.5, ge=0, le=1, description="Probability of a horizontal flip, per view.")
    max_words: int = Field(
        default_factory=by_format("max_words", 50),
        ge=1,
        description="Captions are cut after this many words; 50 (A.2), of CUB and Flowers 30 (A.3) if not given.",
    )
    max_tokens: int = Field(
        default_factory=by_format("max_tokens", 50),
        ge=3,
        description=(
            "Captions are cut at this many tokens, [CLS] and [SEP] included; 50, of CUB and Flowers 30 if not given."
        ),
    )
    tokenizer: str = Field(
        "bert-base-uncased",
        description=(
            "A WordPiece vocabulary file, a transformers name or folder, `captions`: made from the training captions, "
            "or `start`: of the start that ships with this."
        ),
    )
    vocabulary_size: int = Field(
        2000, ge=32, description="Largest vocabulary when the tokenizer is trained on captions."
    )
    val_identities: int = Field(
        200, ge=1, description="Identities held out of train where the layout has no validation split."
    )
    workers: int = Field(
        0, ge=0, description="Processes that decode images; 0: in the training process.", json_schema_extra=NOT_IDENTITY
    )
    image_cache_gib: float = Field(
        32,
        ge=0,
        description="Disk space that the cache of decoded and resized images may take; 0: decode every time.",
        json_schema_extra=NOT_IDENTITY,
    )
    target: Target | None = Field(
        None,
        description="Test on this data set's test split instead, and report the own one as the source's (Table 7).",
        json_schema_extra=IF_GIVEN,
    )

    def of_target(self) -> "Data":
        """This section with the target's files, everything else as it is. `target` must be given."""
        assert self.target is not None
        files, synthetic = dict(self.target), None
        if self.synthetic is not None and self.target.synthetic is not None:
            synthetic = BenchmarkParams.model_validate(self.synthetic.model_dump() | self.target.synthetic)
        return self.model_copy(update={**files, "synthetic": synthetic, "target": None})

    @model_validator(mode="after")
    def _target_is_there(self) -> "Data":
        if self.target is None:
            return self
        try:
            target = self.of_target()
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(["target", "synthetic", *map(str, fault["loc"])])
            raise ValueError(f"{where}: {fault['msg']} ({fault['input']!r})") from None
        if target.root is None and target.synthetic is None:
            raise ValueError("target.root is not set; give that data set's folder, e.g. -o data.target.root=DIR")
        ours, theirs = (FORMATS[name].protocol for name in (self.format, target.format))
        if ours != theirs:
            raise ValueError(
                f"target.format {target.format} is evaluated by {theirs}, format {self.format} by {ours}; "
                "take two data sets that are evaluated alike"
            )
        return self


class Model(Section):
    """Backbone and sizes of the encoders (paper 3.1, A.4).

    The defaults are ALBEF's, under `backbone: clip` those of CLIP ViT-B/16.
    """

    backbone: Literal["albef", "tcl", "clip"] = Field(
        "albef",
        description=(
            "Architecture: albef and tcl share one; clip is CLIP's towers under a cross-modal encoder that starts "
            "random (A.4)."
        ),
    )
    patch_size: int = Field(16, ge=1, description="Side of a square image patch in pixels.")
    vision_width: int = Field(768, ge=1, description="Width of the image encoder.")
    vision_depth: int = Field(12, ge=1, description="Layers of the image encoder.")
    vision_heads: int = Field(12, ge=1, description="Attention heads of the image encoder.")
    text_width: int = Field(
        default_factory=_by_backbone(768, 512), ge=1, description="Width of the text and the cross-modal encoder."
    )
    text_layers: int = Field(default_factory=_by_backbone(6, 12), ge=1, description="Layers of the text encoder.")
    fusion_layers: int = Field(
        default_factory=_by_backbone(6, 1), ge=1, description="Layers of the cross-modal encoder."
    )
    text_heads: int = Field(
        default_factory=_by_backbone(12, 8),
        ge=1,
        description="Attention heads of the text and the cross-modal encoder.",
    )
    text_mlp_width: int = Field(
        default_factory=_by_backbone(3072, 2048), ge=1, description="Hidden width of their feed-forward layers."
    )
    max_positions: int = Field(
        default_factory=_by_backbone(512, 77), ge=3, description="Length of the text position table in tokens."
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout in the text and the cross-modal encoder.")
    embed_dim: int = Field(default_factory=_by_backbone(256, 512), ge=1, description="Width of the projected features.")
    queue_size: int = Field(65536, ge=1, description="Features that each queue holds (R).")
    momentum: float = Field(0.995, ge=0, le=1, description="Momentum coefficient m of the EMA.")
    temperature: float = Field(0.07, gt=0, description="Initial value of the learnable temperature.")
    temperature_range: tuple[float, float] | None = Field(
        None,
        description="Bounds to which the temperature is clamped after each step; null: none, as in the released code.",
    )
    weights: Path | None = Field(
        None,
        description=(
            "Initial weights (ALBEF.pth, a released RaSa file, a folder or transformers name of CLIP, one of ours, or "
            "`start`, which ships with this); null: random."
        ),
        json_schema_extra=NOT_IDENTITY,
    )

    @property
    def weights_name(self) -> str | None:
        """The transformers name that `weights` is (CLIP only); None for a path."""
        path = self.weights
        if self.backbone != "clip" or path is None or path.is_absolute() or path.exists() or len(path.parts) > 2:
            return None
        return None if path.parts[0].startswith((".", "~")) or path.suffix else path.as_posix()

    @model_validator(mode="after")
    def _heads_divide_widths(self) -> "Model":
        if self.temperature_range and not 0 < self.temperature_range[0] < self.temperature_range[1]:
            raise ValueError(f"temperature_range {list(self.temperature_range)} is not [low, high] with 0 < low < high")
        for width, heads in (("vision_width", "vision_heads"), ("text_width", "text_heads")):
            if getattr(self, width) % getattr(self, heads):
                raise ValueError(f"{width} {getattr(self, width)} is not a multiple of {heads} {getattr(self, heads)}")
        return self


class Objectives(Section):
    """What is learned. A loss that `weights` does not name is off: not computed, and its head is not built."""

    weights: dict[Literal["cl", "itc", "itm", "prd", "mlm", "rtd"], float] = Field(
        description=(
            "Loss weights by name: cl is lambda_3, prd lambda_1, rtd lambda_2 (Eq. 3, 6, 11); itc is cl without IMC "
            "(Eq. 8)."
        )
    )
    positives: Literal["annotated", "uniform", "probabilistic"] = Field(
        "annotated",
        description=(
            "Captions for ITM and PRD: the annotated one (s-ITM), any of the identity (ITM), or weak with p_weak "
            "(p-ITM)."
        ),
    )
    p_weak: float = Field(0.1, ge=0, le=1, description="Probability p^w of a weak caption under `probabilistic`.")
    p_mask: float = Field(
        0.3, gt=0, lt=1, description="Share p^m of tokens masked for the replacement (and for MLM in the paper)."
    )
    generator: Literal["fixed", "online", "momentum"] | None = Field(
        None,
        description="Who proposes the replaced words: a frozen text-only DistilBERT, the online or the momentum model.",
    )
    masked_lm: str = Field(
        "captions",
        description=(
            "DistilBERT for the fixed generator: a transformers name or folder, or `captions`: trained on the training "
            "captions."
        ),
    )
    alpha: float = Field(0.4, ge=0, le=1, description="Weight of the momentum model's soft targets.")
    alpha_warmup_epochs: int = Field(1, ge=0, le=1, description="Epochs over which alpha rises linearly from 0.")

    @model_validator(mode="after")
    def _consistent(self) -> "Objectives":
        if not self.weights:
            raise ValueError("weights names no loss; give at least one of " + ", ".join(LOSSES))
        for name, weight in self.weights.items():
            if weight <= 0:
                raise ValueError(
                    f"weights.{name} is {weight}; leave the loss out instead of giving it no positive weight"
                )
        if {"cl", "itc"} <= self.weights.keys():
            raise ValueError(
                "weights names cl and itc, but cl is the mean of itc and imc (Eq. 10); leave one of them out"
            )
        if "prd" in self.weights and (
            self.positives == "annotated" or (self.positives == "probabilistic" and not 0 < self.p_weak < 1)
        ):
            raise ValueError(
                f"weights.prd needs positives of both kinds, but positives is {self.positives} with p_weak "
                f"{self.p_weak}; set positives: uniform, or positives: probabilistic with 0 < p_weak < 1"
            )
        if ("rtd" in self.weights) != (self.generator is not None):
            raise ValueError(
                "weights.rtd needs a generator; set generator: fixed, online or momentum"
                if "rtd" in self.weights
                else f"generator is {self.generator}, but weights has no rtd; add weights.rtd or remove generator"
            )
        return self


class Optimisation(Section):
    """AdamW and its schedule (Appendix A.2)."""

    epochs: int = Field(30, ge=1, description="Passes over the training pairs.")
    batch_size: int = Field(52, ge=1, description="Image-text pairs per step.")
    max_steps_per_epoch: int | None = Field(
        None,
        ge=1,
        description=(
            "End an epoch, and so validate, after this many steps; the next one goes on where it ended. null: all "
            "pairs."
        ),
    )
    learning_rate: float = Field(1e-5, gt=0, description="Of all weights but the PRD and RTD heads.")
    head_learning_rate: float = Field(1e-4, gt=0, description="Of the PRD and RTD heads.")
    min_learning_rate: float = Field(1e-6, ge=0, description="Where the cosine schedule ends.")
    warmup_learning_rate: float = Field(
        1e-5, ge=0, description="Rate of all groups until head_rate_from (released), or of the first warm-up step."
    )
    warmup_steps: int = Field(0, ge=0, description="Steps of linear warm-up from warmup_learning_rate; 0 in the paper.")
    schedule: Literal["cosine-epoch", "cosine-step", "constant"] = Field(
        "cosine-epoch", description="Decay of the rates: once an epoch (released code), at each step, or none."
    )
    weight_decay: float = Field(0.02, ge=0, description="AdamW's decoupled decay; not on biases and norms.")
    clip_norm: float | None = Field(None, gt=0, description="Bound on the gradient norm; null: none.")
    checkpoint_steps: int | None = Field(
        None, ge=1, description="Also checkpoint every so many steps inside an epoch.", json_schema_extra=NOT_IDENTITY
    )
    accumulation: int = Field(
        1,
        ge=1,
        description=(
            "Parts in which a batch passes through the model, gradients added up, for small memories. With "
            "fidelity.ranks a multiple of it only dropout's draws change; else a part sees only its own negatives."
        ),
    )
    precision: Literal["auto", "float32", "tf32", "bf16"] = Field(
        "float32",
        description=(
            "Of matrix products in training: tf32 rounds their inputs (GPU), bf16 is autocast; auto: bf16 on a GPU, "
            "else float32."
        ),
    )
    compile: bool | Literal["auto"] = Field(
        False,
        description=(
            "Compile the image encoder's layers with torch.compile; auto: on a GPU. Rounds differently, so it is part "
            "of what is computed."
        ),
    )
    device: str = Field(
        "auto", description="`auto`: a GPU if there is one; else `cpu`, `cuda:1`, ...", json_schema_extra=NOT_IDENTITY
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads; null: torch's choice.", json_schema_extra=NOT_IDENTITY
    )


class Evaluation(Section):
    """Two-stage retrieval (3.2, Inference)."""

    topk: int = Field(128, ge=1, description="Candidates per text that stage 2 re-ranks; at most the gallery.")
    batch_size: int = Field(64, ge=1, description="Images or texts per encoder call.", json_schema_extra=NOT_IDENTITY)
    tokens_per_call: int = Field(
        8192, ge=1, description="Text tokens per cross-modal call in stage 2.", json_schema_extra=NOT_IDENTITY
    )
    gallery_mib: int = Field(
        8192,
        ge=1,
        description=(
            "Memory for the gallery's image tokens between the stages; a larger gallery is encoded again, part by part."
        ),
        json_schema_extra=NOT_IDENTITY,
    )
    selection_gap: bool = Field(
        False,
        description=(
            "Also test every epoch's weights, so that reports show what choosing by test would have given; selection "
            "never sees it."
        ),
    )
    detectors: bool = Field(
        False,
        description=(
            "Also measure after each epoch what the PRD and RTD heads make of validation pairs: loss against guessing, "
            "recall, precision, AUC."
        ),
    )
    sensitivity: int = Field(
        0,
        ge=0,
        description=(
            "Test queries, of each kind, in which one colour, garment or accessory word is exchanged to see how far "
            "the true images fall; 0: none."
        ),
    )
    precision: Literal["float32", "bf16"] = Field(
        "float32",
        description="Of matrix products in retrieval; bf16 moves match scores by about a tenth of their spread.",
    )


class Config(Section):
    """One run."""

    seed: int = Field(0, ge=0, description="From which every generator of random draws is derived.")
    data: Data = Data()
    model: Model = Model()
    objectives: Objectives
    optimisation: Optimisation = Optimisation()
    evaluation: Evaluation = Evaluation()
    fidelity: Fidelity = Fidelity(preset="released")  # type: ignore[call-arg]  # the preset fills the rest

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        for side, name in zip(self.data.image_size, ("height", "width"), strict=True):
            if side < 1 or side % self.model.patch_size:
                raise ValueError(
                    f"data.image_size: {name} {side} is not a multiple of model.patch_size {self.model.patch_size}"
                )
        if self.data.max_tokens > self.model.max_positions:
            raise ValueError(
                f"data.max_tokens {self.data.max_tokens} exceeds model.max_positions {self.model.max_positions}"
            )
        batch, ranks, parts = self.optimisation.batch_size, self.fidelity.ranks, self.optimisation.accumulation
        for name, count in (("fidelity.ranks", ranks), ("optimisation.accumulation", parts)):
            if batch % count:
                raise ValueError(f"optimisation.batch_size {batch} is not a multiple of {name} {count}")
        if ranks % parts and parts % ranks:
            raise ValueError(
                f"optimisation.accumulation {parts} would cut the shares of fidelity.ranks {ranks}; "
                "make one a multiple of the other"
            )
        relations = "prd" in self.objectives.weights or self.objectives.positives == "probabilistic"
        if FORMATS[self.data.format].own_classes and relations:
            raise ValueError(
                f"data.format {self.data.format}: every image is a class of its own, so there are no weak pairs and RA "
                "does not apply (A.3); leave weights.prd out and set objectives.positives: annotated"
            )
        if self.data.root is None and self.data.synthetic is None:
            raise ValueError("data.root is not set; give the data set's folder, e.g. -o data.root=DIR")
        return self

    def identity(self) -> dict[str, Any]:
        """The fields that decide what is computed, as plain JSON types."""
        return _identity(self)


def _identity(section: BaseModel) -> dict[str, Any]:
    out: dict[str, Any] = {}
    plain = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        extra = field.json_schema_extra
        value = getattr(section, name)
        counts = extra.get("identity", True) if isinstance(extra, dict) else True
        if counts is False or (counts == "if given" and value is None):
            continue
        out[name] = _identity(value) if isinstance(value, BaseModel) else plain[name]
    return out
