"""Paper or released code: every difference between the two that changes a number, as one named field.

The paper's text and the authors' released code differ in some forty places. Each field below is one of them;
its description gives what the code does, with its line (MPS = models/model_person_search.py, XB =
models/xbert.py, RET = Retrieval.py, DS = dataset/ps_dataset.py, OF = optim/optim_factory.py, CL =
scheduler/cosine_lr.py), and what the text says. `preset: released` is what produced the published numbers;
`preset: paper` is the text's reading, where the text is silent the plainest one. docs/decisions/0002 argues each.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Field: (released code, the paper's text). A field that is equal in both is one on which the paper is silent.
PRESETS: dict[str, tuple[Any, Any]] = {
    "mlm_mask_rate": (0.15, None),
    "shared_masking": (False, True),
    "mask_corruption": ("bert", "mask"),
    "mask_separator": (True, False),
    "mlm_soft_targets": (True, False),
    "mlm_soft_axis": ("sequence", "vocabulary"),
    "rtd_replace": ("all", "masked"),
    "rtd_choice": ("sample", "sample"),
    "rtd_ignore": ("sampled-special", "padding"),
    "contrastive_soft_targets": (True, False),
    "contrastive_positives": ("identity", "identity"),
    "contrastive_keys": ("batch-and-queue", "queue"),
    "contrastive_text": ("matching", "annotated"),
    "weak_pool": ("identity", "other-images"),
    "weak_label": ("caption", "image"),
    "itm_negatives": ("hard", "hard"),
    "ema_timing": ("before", "before"),
    "momentum_view": ("second", "second"),
    "momentum_dropout": (True, False),
    "generator_dropout": (True, False),
    "decay_temperature_and_positions": (True, False),
    "queue_from_weights": (True, False),
    "head_rate_from": ("iteration-101", "start"),
    "truncate_training_tokens": (False, True),
    "ranks": (1, 1),
    "ranking_score": ("logit", "probability"),
    "beyond_topk": ("tied", "stage1"),
}


class Fidelity(BaseModel):
    """Which reading of RaSa is run. A field that is not given takes its preset's value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: Literal["released", "paper"] = Field("released", description="Where fields that are not named come from.")

    mlm_mask_rate: float | None = Field(
        gt=0,
        lt=1,
        description="Share of tokens that MLM masks; null: objectives.p_mask. Code 0.15 (MPS 156); A.2: p_mask.",
    )
    shared_masking: bool = Field(
        description="MLM and RTD share one masked text (3.2); the code masks the caption twice (MPS 157, 180)."
    )
    mask_corruption: Literal["bert", "mask"] = Field(
        description="bert: of the chosen tokens 80 % [MASK], 10 % random, 10 % kept (MPS 246-253); mask: all [MASK]."
    )
    mask_separator: bool = Field(description="[SEP] may be masked, replaced and scored (MPS 242-243, 267-268).")
    mlm_soft_targets: bool = Field(
        description="Mix alpha of the momentum model's word distribution into the target (MPS 158-175); Eq. 4: one-hot."
    )
    mlm_soft_axis: Literal["sequence", "vocabulary"] = Field(
        description="Axis of the soft term's log-softmax: the code takes the sequence (XB 1427), a known mistake."
    )
    rtd_replace: Literal["all", "masked"] = Field(
        description="Positions that take the generator's word: every one (MPS 189-190) or the masked ones (Figure 3)."
    )
    rtd_choice: Literal["sample", "argmax"] = Field(
        description="The generator's word is sampled at temperature 1 (MPS 262) or its most probable one; text silent."
    )
    rtd_ignore: Literal["sampled-special", "padding"] = Field(
        description="Unscored positions: where [PAD] or [CLS] was sampled (MPS 267-268), or padding and [CLS] only."
    )
    contrastive_soft_targets: bool = Field(
        description="Mix alpha of the momentum similarities into the targets (MPS 82-90); Eq. 7 has none."
    )
    contrastive_positives: Literal["identity", "own"] = Field(
        description=(
            "Positive keys: all of the identity, sharing the mass (MPS 67-70), or the sample's own (Eq. 7 literally)."
        )
    )
    contrastive_keys: Literal["batch-and-queue", "queue"] = Field(
        description="Denominator: batch + queue (MPS 75, 80), or the queue with the batch already pushed (Eq. 7)."
    )
    contrastive_text: Literal["matching", "annotated"] = Field(
        description="Caption for CL: the one drawn for matching, so sometimes weak (MPS 62-65), or the annotated one."
    )
    weak_pool: Literal["identity", "other-images"] = Field(
        description="A weak caption is drawn from all of the identity's, own included (DS 41-49), or other images'."
    )
    weak_label: Literal["caption", "image"] = Field(
        description=(
            "A pair is weak if the caption's text differs (DS 34-49), or if it was annotated on another image (Sec. 1)."
        )
    )
    itm_negatives: Literal["hard", "random"] = Field(
        description="Negatives are drawn by contrastive similarity (MPS 115-132) or uniformly; text silent."
    )
    ema_timing: Literal["before", "after"] = Field(
        description="The momentum model is updated before its forward pass (MPS 72) or after the step; text silent."
    )
    momentum_view: Literal["second", "same"] = Field(
        description="The momentum model sees a second augmented view (MPS 73; DS 56-57) or the online one; text silent."
    )
    momentum_dropout: bool = Field(
        description="Dropout stays active in the momentum model (model.train()); text silent."
    )
    generator_dropout: bool = Field(
        description=(
            "Dropout stays active in the generator of RTD, alike in the online and the momentum model (model.train()); "
            "text silent."
        )
    )
    decay_temperature_and_positions: bool = Field(
        description="Weight decay also on the temperature, position and class embeddings (OF 38, 52-54); text silent."
    )
    queue_from_weights: bool = Field(
        description="Queues start from a pre-training checkpoint's (RET 227-245), labelled as nobody's; text silent."
    )
    head_rate_from: Literal["iteration-101", "start"] = Field(
        description=(
            "When the PRD and RTD heads get their own learning rate: late (CL 63-65, RET 63-64) or at once (A.2)."
        )
    )
    truncate_training_tokens: bool = Field(
        description="Cut training captions at max_tokens tokens (A.2), or only at max_words words (RET 43-44)."
    )
    ranks: int = Field(
        ge=1,
        description=(
            "Processes of the released training that one batch stands for: contrast, negatives and means stay inside "
            "each share (4 x 13 in the paper profile; RET 43, MPS 115-132)."
        ),
    )
    ranking_score: Literal["logit", "probability"] = Field(
        description=(
            "Stage 2 ranks by the raw match logit (RET 129) or by the matching probability (3.2), told by its "
            "log-odds: the same order, and no two far ones are both 1."
        )
    )
    beyond_topk: Literal["stage1", "tied"] = Field(
        description="Images after the top k keep stage 1's order, or tie (-100 each, RET 111) in gallery order."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if isinstance(given, str):
            given = {"preset": given}
        if isinstance(given, dict) and given.get("preset", "released") in ("released", "paper"):
            column = 0 if given.get("preset", "released") == "released" else 1
            return {name: values[column] for name, values in PRESETS.items()} | given
        return given
