"""One training step's losses: the section that the ablations are about.

`step_losses` is the paper's method from top to bottom. Below it stands one function per objective, in the same order,
each run only if `objectives.weights` names it. State does not change here: the caller updates the momentum model before
and pushes to the queues after.

Shape suffixes: B pairs, M image tokens, L tokens of the longest caption, N packed tokens of all captions, D text width,
E embedding width, V vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rasa.config.fidelity import Fidelity
from rasa.config.run import Objectives
from rasa.data.tokenizer import Tokens
from rasa.draws import Draws
from rasa.model.bert import ImageKeyValues, concatenate
from rasa.model.packing import Packing, Text, Wanted, take_rows
from rasa.model.queue import FeatureQueue
from rasa.model.rasa import Encoders, RaSa
from rasa.numerics import autocast
from rasa.objectives import contrastive, matching
from rasa.objectives.language import SpecialIds
from rasa.objectives.ranks import rank_of, rank_weights
from rasa.training.masking import MaskedText, RtdWords, language_loss, replacement_loss

# Of whose features (image or text) the contrast is, and against whose.
ACROSS, WITHIN = (("i", "t"), ("t", "i")), (("i", "i"), ("t", "t"))
CONTRASTS = {"cl": ACROSS + WITHIN, "itc": ACROSS}


class StepInputs(NamedTuple):
    """A batch on its way into the model. Token ids stay on the CPU, where masks are drawn."""

    view1: Tensor  # [B, 3, height, width], for the online model
    view2: Tensor  # the same images, augmented again, for the momentum model
    annotated: Tokens  # the caption written for the image
    matched: Tokens | None  # the caption drawn for matching; None if no objective asks for it
    weak: Tensor  # [B] bool: (image, matched) is a weak positive pair
    identity: Tensor  # [B]

    def part(self, rows: slice) -> "StepInputs":
        """Some of the pairs. Captions keep the batch's length, on which no number depends."""
        take = lambda tokens: Tokens(tokens.ids[rows], tokens.mask[rows])
        return StepInputs(
            self.view1[rows],
            self.view2[rows],
            take(self.annotated),
            None if self.matched is None else take(self.matched),
            self.weak[rows],
            self.identity[rows],
        )


class Teachers(NamedTuple):
    """The models that are not trained by gradient."""

    momentum: Encoders
    queue: FeatureQueue
    masked_lm: nn.Module | None = None  # the fixed generator of f-RTD


class StepOutput(NamedTuple):
    """What a step gives: losses to be weighted and added up, and what was computed on the way to them."""

    losses: dict[str, Tensor]  # unweighted, by name
    # [B, E] of the momentum model, which the caller pushes to the queues; None: none were made
    image_feature_m: Tensor | None
    text_feature_m: Tensor | None
    trace: dict[str, Tensor]  # intermediate results by name: what detectors are measured by, and tests compare


class Step(NamedTuple):
    """What the objectives of one step read, and what they ask of the encoders."""

    model: RaSa
    teachers: Teachers
    batch: StepInputs
    objectives: Objectives
    fidelity: Fidelity
    alpha: float  # weight of the momentum model's soft targets
    draws: Draws
    special: SpecialIds

    @property
    def device(self) -> torch.device:
        return self.batch.view1.device

    @property
    def mines(self) -> bool:
        """Whether negatives are found by the contrastive logits, be CL on or off."""
        return "itm" in self.objectives.weights and self.fidelity.itm_negatives == "hard"

    @property
    def contrasts(self) -> bool:
        return self.mines or bool(CONTRASTS.keys() & self.objectives.weights.keys())

    @property
    def matches(self) -> bool:
        return "itm" in self.objectives.weights or "prd" in self.objectives.weights

    @property
    def distils(self) -> bool:
        """Whether the momentum model reads masked captions with their images."""
        soft = "mlm" in self.objectives.weights and self.fidelity.mlm_soft_targets
        return soft or self.objectives.generator == "momentum"

    @property
    def contrasted(self) -> Tokens:
        """The captions of the contrast."""
        if self.fidelity.contrastive_text == "matching" and self.batch.matched is not None:
            return self.batch.matched
        return self.batch.annotated


def step_losses(
    model: RaSa,
    teachers: Teachers,
    batch: StepInputs,
    objectives: Objectives,
    fidelity: Fidelity,
    alpha: float,
    draws: Draws,
    special: SpecialIds,
) -> StepOutput:
    """The losses of one batch (Eq. 1-10).

    `alpha` in [0, 1] mixes in the momentum model's soft targets; `draws` has every random outcome of the step. Returns
    one scalar per name in `objectives.weights`.
    """
    step = Step(model, teachers, batch, objectives, fidelity, alpha, draws, special)
    on, online = objectives.weights, model.encoders
    losses: dict[str, Tensor] = {}
    trace: dict[str, Tensor] = {}
    features = None

    # ---- Unimodal encoders (3.1) ----
    image_BMD = online.encode_image(batch.view1)
    image_mBMD = momentum_images(step) if step.contrasts or step.distils else None
    if step.contrasts or step.matches:
        caption = Text.of(step.contrasted, step.device)
        text_ND = encode(online, caption, draws, "text")

    # ---- Contrastive learning (Eq. 7-10) ----
    if step.contrasts:
        assert image_mBMD is not None
        features, text_mBD = projected(step, image_BMD, image_mBMD, text_ND, caption)
        trace |= {"image_embeds": image_BMD, "image_embeds_m": image_mBMD}
        trace |= {"text_embeds": text_ND, "text_embeds_m": text_mBD, **features._asdict()}
        for name, directions in CONTRASTS.items():
            if name in on:
                losses[name], seen = contrastive_loss(step, features, directions)
                trace |= seen

    # ---- Cross-modal encoder: every pass over an image shares its keys and values ----
    image_kv = online.project_image(image_BMD) if online.fusion is not None else None

    # ---- Relation-aware learning: ITM and PRD (Eq. 1-3) ----
    if step.matches:
        assert image_kv is not None
        text_ND, packing = matched_states(step, text_ND, caption)
        with draws.dropout("positives"):
            positive_BD = online.fuse(text_ND, packing, image_kv, Wanted.first(packing))
        trace["fusion_pos"] = positive_BD
        if "itm" in on:
            losses["itm"], seen = itm_loss(step, features, text_ND, packing, image_kv, positive_BD)
            trace |= seen
        if "prd" in on:
            losses["prd"], seen = prd_loss(step, positive_BD)
            trace |= seen

    # ---- Sensitivity-aware learning: MLM and RTD (Eq. 4-6) ----
    if "mlm" in on or "rtd" in on:
        assert image_kv is not None
        masked = masked_text(step, image_kv, image_mBMD)
        if "mlm" in on:
            losses["mlm"], seen = language_loss(masked, alpha)
            trace |= seen
        if "rtd" in on:
            words = RtdWords(objectives.generator, teachers.masked_lm, fidelity.rtd_choice)
            losses["rtd"], seen = replacement_loss(masked, words)
            trace |= seen

    if features is None:
        return StepOutput(losses, None, None, trace)
    return StepOutput(losses, features.image_feat_m, features.text_feat_m, trace)


class StepLosses(nn.Module):
    """`step_losses` as the forward pass of a module, so that whoever wraps it sees a gradient as soon as it is made."""

    def __init__(self, model: RaSa):
        super().__init__()
        self.model = model

    def forward(
        self,
        teachers: Teachers,
        batch: StepInputs,
        objectives: Objectives,
        fidelity: Fidelity,
        alpha: float,
        draws: Draws,
        special: SpecialIds,
    ) -> StepOutput:
        """As `step_losses`, without the trace, in which a wrapper would look for weights that are used."""
        out = step_losses(self.model, teachers, batch, objectives, fidelity, alpha, draws, special)
        return out._replace(trace={})


# ---- Unimodal encoders ----


@torch.no_grad()
def momentum_images(step: Step) -> Tensor:
    """Image tokens [B, M, D] of the momentum model."""
    view = step.batch.view2 if step.fidelity.momentum_view == "second" else step.batch.view1
    return step.teachers.momentum.encode_image(view)


def encode(encoders: Encoders, text: Text, draws: Draws, kind: str, wanted: Wanted | None = None) -> Tensor:
    """Packed text states [N, D], or the wanted ones, with this pass's own dropout draws."""
    with draws.dropout(kind):
        return encoders.encode_text(text, wanted)


class Features(NamedTuple):
    """Unit projections [B, E] of the class tokens, online and momentum."""

    image_feat: Tensor
    text_feat: Tensor
    image_feat_m: Tensor
    text_feat_m: Tensor


def projected(
    step: Step, image_BMD: Tensor, image_mBMD: Tensor, text_ND: Tensor, caption: Text
) -> tuple[Features, Tensor]:
    """The features of both models, and the momentum model's states [B, D] of the captions' first tokens."""
    online, momentum, first = step.model.encoders, step.teachers.momentum, Wanted.first(caption.packing)
    with torch.no_grad():
        text_mBD = encode(momentum, caption, step.draws, "text, momentum", first)
    with autocast("float32", step.device):  # of unit vectors, and of their similarities, every digit counts
        with torch.no_grad():
            features_m = momentum.image_feature(image_mBMD), momentum.text_feature(text_mBD, first.packing)
        features = online.image_feature(image_BMD), online.text_feature(text_ND, caption.packing)
    return Features(*features, *features_m), text_mBD


# ---- Contrastive learning ----


def contrastive_loss(
    step: Step, features: Features, directions: Sequence[tuple[str, str]]
) -> tuple[Tensor, dict[str, Tensor]]:
    """L_cl (Eq. 10) or L_itc (Eq. 8): the mean of the `directions` against momentum keys of the batch and the queue."""
    fidelity, queue, identity_B = step.fidelity, step.teachers.queue, step.batch.identity
    ranks, temperature = fidelity.ranks, step.model.temperature
    image_queue, text_queue, queue_identity = queue.images, queue.texts, queue.identities
    if fidelity.contrastive_keys == "queue":  # the batch has already pushed the oldest entries out
        kept = queue.without_oldest(len(identity_B) // ranks)
        image_queue, text_queue, queue_identity = image_queue[kept], text_queue[kept], queue_identity[kept]
    keys = {"i": (features.image_feat_m, image_queue), "t": (features.text_feat_m, text_queue)}
    queries = {"i": features.image_feat, "t": features.text_feat}
    queries_m = {"i": features.image_feat_m, "t": features.text_feat_m}
    whom = contrastive.key_identities(identity_B, queue_identity, ranks)

    terms, trace = [], {}
    with autocast("float32", step.device):
        hard = None
        if fidelity.contrastive_positives == "identity":
            hard = contrastive.positive_targets(identity_B, whom, features.image_feat.dtype)
        for source, target in directions:
            logits = contrastive.similarities(queries[source], *keys[target], temperature, ranks)
            with torch.no_grad():
                targets = contrastive.own_targets(logits, ranks) if hard is None else hard
                trace["sim_targets"] = targets
                if fidelity.contrastive_soft_targets:
                    logits_m = contrastive.similarities(queries_m[source], *keys[target], temperature, ranks)
                    targets = contrastive.soften(targets, logits_m, step.alpha)
            terms.append(contrastive.info_nce(logits, targets))
            name = f"{source}2{target}"
            trace |= {f"sim_{name}": logits, f"sim_{name}_targets": targets, f"loss_{name}": terms[-1]}
        return torch.stack(terms).mean(), trace


# ---- Relation-aware learning ----


def matched_states(step: Step, text_ND: Tensor, caption: Text) -> tuple[Tensor, Packing]:
    """Packed states [N, D] of the captions drawn for matching, and their packing, from those of the contrast.

    Most are the annotated captions, whose states are shared with the contrast, as the released code shares one
    encoding; only the others pass through the encoder.
    """
    annotated, matched = step.batch.annotated, step.batch.matched
    assert matched is not None
    if matched is step.contrasted:
        return text_ND, caption.packing
    length = min(annotated.ids.shape[1], matched.ids.shape[1])
    lengths_B, lengths_matched_B = annotated.mask.sum(1), matched.mask.sum(1)
    same_B = (annotated.ids[:, :length] == matched.ids[:, :length]).all(1) & (lengths_B == lengths_matched_B)
    packing = Packing.of(matched.mask, step.device)
    if same_B.all():
        return text_ND, packing
    other = Text.of(Tokens(matched.ids[~same_B], matched.mask[~same_B]), step.device)
    states_ND = encode(step.model.encoders, other, step.draws, "exchanged text")
    # Where each caption's states begin in [the contrast's, the exchanged ones'].
    starts_B = lengths_B.cumsum(0) - lengths_B
    starts_B[~same_B] = len(text_ND) + lengths_matched_B[~same_B].cumsum(0) - lengths_matched_B[~same_B]
    rows_N = (starts_B[:, None] + torch.arange(matched.ids.shape[1]))[matched.mask]
    return take_rows(torch.cat([text_ND, states_ND]), rows_N.to(step.device, non_blocking=True)), packing


def itm_loss(
    step: Step,
    features: Features | None,
    text_ND: Tensor,
    packing: Packing,
    image_kv: ImageKeyValues,
    positive_BD: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """L_itm (Eq. 1): each pair against one negative image of its caption and one negative caption of its image."""
    model, ranks, identity_B = step.model, step.fidelity.ranks, step.batch.identity
    with autocast("float32", step.device):
        w_i2t_BB, w_t2i_BB = negative_weights(features if step.mines else None, model.temperature, identity_B, ranks)
    (w_t2i_BB, has_image_B), (w_i2t_BB, has_text_B) = matching.drawable(w_t2i_BB), matching.drawable(w_i2t_BB)
    image_negative_B = step.draws.categorical("negative images", w_t2i_BB)
    text_negative_B = step.draws.categorical("negative texts", w_i2t_BB)
    # Both kinds of negatives in one pass: (negative image, caption) and then (image, negative caption).
    texts_ND, both = joined(text_ND, packing, text_negative_B)
    images = concatenate([image_kv.take(image_negative_B), image_kv])
    with step.draws.dropout("negatives"):
        negative_2BD = model.encoders.fuse(texts_ND, both, images, Wanted.first(both))
    logits_3B2 = in_full(model.heads["itm"](torch.cat([positive_BD, negative_2BD])), model.temperature)
    labels_3B, weights_3B = matching.matching_labels(has_image_B, has_text_B), None
    if ranks > 1:
        share_3B = rank_of(identity_B, ranks).repeat(3)
        weights_3B = rank_weights(labels_3B != matching.IGNORED, share_3B, ranks, logits_3B2.dtype)
    loss = matching.matching_loss(logits_3B2, labels_3B, weights_3B)
    trace = {"fusion_neg": negative_2BD, "itm_logits": logits_3B2, "weights_i2t": w_i2t_BB, "weights_t2i": w_t2i_BB}
    return loss, trace


@torch.no_grad()
def negative_weights(
    features: Features | None, temperature: Tensor, identity_B: Tensor, ranks: int
) -> tuple[Tensor, Tensor]:
    """Probabilities [B, B] of each text as an image's negative (i2t) and of each image as a text's (t2i).

    By the batch's own columns of the contrastive logits; without features (random negatives) all alike.
    """
    if features is None:
        weights_BB = matching.random_negative_weights(identity_B, ranks)
        return weights_BB, weights_BB
    logits_i2t_BB = features.image_feat @ features.text_feat_m.T / temperature
    logits_t2i_BB = features.text_feat @ features.image_feat_m.T / temperature
    i2t_BB, t2i_BB = (matching.negative_weights(logits, identity_B, ranks) for logits in (logits_i2t_BB, logits_t2i_BB))
    return i2t_BB, t2i_BB


def joined(text_ND: Tensor, packing: Packing, chosen_B: Tensor) -> tuple[Tensor, Packing]:
    """The states of all captions and then of the chosen ones, packed, and their packing."""
    cells_BLD = packing.unpack(text_ND)
    mask_2BL = torch.cat([packing.mask, packing.mask[chosen_B]])
    # On a GPU the number of tokens of captions chosen there would have to be waited for: their padding is computed.
    both = Packing.of(mask_2BL, mask_2BL.device) if mask_2BL.device.type == "cpu" else Packing(mask_2BL)
    return both.pack(torch.cat([cells_BLD, cells_BLD[chosen_B]])), both


def prd_loss(step: Step, positive_BD: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """L_prd (Eq. 2): strong positive pairs are told from weak ones."""
    logits_B2 = in_full(step.model.heads["prd"](positive_BD), step.model.temperature)
    return matching.relation_loss(logits_B2, step.batch.weak), {"prd_logits": logits_B2}


def in_full(x: Tensor, like: Tensor) -> Tensor:
    """`x` in the weights' own precision, which losses are computed in whatever the matrix products were."""
    return x.to(like.dtype)


# ---- Sensitivity-aware learning: the losses stand in masking.py ----


def masked_text(step: Step, image_kv: ImageKeyValues, image_mBMD: Tensor | None) -> MaskedText:
    """The batch's annotated captions, ready to be masked and read with their images by both models."""
    momentum, momentum_kv = step.teachers.momentum, None
    if step.distils:
        assert image_mBMD is not None
        with torch.no_grad():
            momentum_kv = momentum.project_image(image_mBMD)
    return MaskedText(
        step.batch.annotated,
        step.fidelity,
        step.objectives.p_mask,
        step.draws,
        step.special,
        step.model,
        momentum,
        image_kv,
        momentum_kv,
    )
