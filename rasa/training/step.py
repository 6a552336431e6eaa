"""One training step's losses: the section that the ablations are about.

One block per objective, run only if `objectives.weights` names it. Shape suffixes: B pairs, L tokens of the longest caption, N packed tokens of all, D text width.
State does not change here: the caller updates the momentum model before and pushes to the queues after.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rasa.config.fidelity import Fidelity
from rasa.config.run import Objectives
from rasa.data.tokenizer import Tokens
from rasa.draws import Draws
from rasa.model.bert import concatenate
from rasa.model.packing import Packing, Text, Wanted, take_rows
from rasa.model.queue import FeatureQueue
from rasa.model.rasa import Encoders, RaSa
from rasa.numerics import autocast
from rasa.objectives import contrastive, matching
from rasa.objectives.language import SpecialIds
from rasa.objectives.shares import share_of, share_weights
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


class StepOutput(NamedTuple):
    """Unweighted losses by name, and the momentum features that the caller pushes to the queues (None: none made)."""

    losses: dict[str, Tensor]
    image_feature_m: Tensor | None
    text_feature_m: Tensor | None


class Teachers(NamedTuple):
    """The models that are not trained by gradient."""

    momentum: Encoders
    queue: FeatureQueue
    masked_lm: nn.Module | None = None  # the fixed generator of f-RTD


def step_losses(
    model: RaSa,
    teachers: Teachers,
    batch: StepInputs,
    objectives: Objectives,
    fidelity: Fidelity,
    alpha: float,
    draws: Draws,
    special: SpecialIds,
    trace: dict[str, Tensor] | None = None,
) -> StepOutput:
    """The losses of one batch (Eq. 1-10). `trace`, if given, receives the intermediate results by name."""
    on, online, momentum = objectives.weights, model.encoders, teachers.momentum
    trace = {} if trace is None else trace
    losses: dict[str, Tensor] = {}
    device, ranks = batch.view1.device, fidelity.ranks

    # Who needs what.
    mining = "itm" in on and fidelity.itm_negatives == "hard"  # by the contrastive logits, whether or not CL is on
    contrasting = "cl" in on or "itc" in on or mining
    fusing_pairs = "itm" in on or "prd" in on
    distilling = ("mlm" in on and fidelity.mlm_soft_targets) or objectives.generator == "momentum"

    # Unimodal encoders, online and momentum.
    contrasted = batch.annotated
    if fidelity.contrastive_text == "matching" and batch.matched is not None:
        contrasted = batch.matched
    image = online.encode_image(batch.view1)
    if contrasting or distilling:
        with torch.no_grad():
            image_m = momentum.encode_image(batch.view2 if fidelity.momentum_view == "second" else batch.view1)
        trace["image_embeds_m"] = image_m
    if contrasting or fusing_pairs:
        caption = Text.of(contrasted, device)
        text = encode(online, caption, draws, "text")
    features = None
    if contrasting:
        first = Wanted.first(caption.packing)
        with torch.no_grad():
            text_m = encode(momentum, caption, draws, "text, momentum", first)
        with autocast("float32", device):  # of unit vectors, and of their similarities, every digit counts
            with torch.no_grad():
                features_m = momentum.image_feature(image_m), momentum.text_feature(text_m, first.packing)
            features = Features(online.image_feature(image), online.text_feature(text, caption.packing), *features_m)
        trace.update(image_embeds=image, text_embeds=text, text_embeds_m=text_m, **features._asdict())

    for name, directions in CONTRASTS.items():
        if name in on:
            assert features is not None
            with autocast("float32", device):
                losses[name] = contrastive_loss(
                    features, directions, model.temperature, teachers.queue, batch.identity, fidelity, alpha, trace
                )

    # Every pass through the cross-modal encoder shares the image's keys and values.
    image_kv = online.project_image(image) if online.fusion is not None else None

    if fusing_pairs:
        assert batch.matched is not None and image_kv is not None
        packing = caption.packing
        if batch.matched is not contrasted:
            text, packing = matched_states(online, text, batch.annotated, batch.matched, draws, device)
        with draws.dropout("positives"):
            positive_BD = online.fuse(text, packing, image_kv, Wanted.first(packing))
        trace["fusion_pos"] = positive_BD

        if "itm" in on:
            with autocast("float32", device):
                mined = features if mining else None
                w_i2t, w_t2i = negative_weights(mined, model.temperature, batch.identity, ranks)
            (w_t2i, has_image), (w_i2t, has_text) = matching.drawable(w_t2i), matching.drawable(w_i2t)
            image_negative = draws.categorical("negative images", w_t2i)
            text_negative = draws.categorical("negative texts", w_i2t)
            texts, both = joined(text, packing, text_negative)
            images = concatenate([image_kv.take(image_negative), image_kv])
            with draws.dropout("negatives"):
                negative_2BD = online.fuse(texts, both, images, Wanted.first(both))
            logits = in_full(model.heads["itm"](torch.cat([positive_BD, negative_2BD])), model.temperature)
            labels, weights = matching.matching_labels(has_image, has_text), None
            if ranks > 1:
                share = share_of(batch.identity, ranks).repeat(3)
                weights = share_weights(labels != matching.IGNORED, share, ranks, logits.dtype)
            losses["itm"] = matching.matching_loss(logits, labels, weights)
            trace.update(fusion_neg=negative_2BD, itm_logits=logits, weights_i2t=w_i2t, weights_t2i=w_t2i)

        if "prd" in on:
            logits = in_full(model.heads["prd"](positive_BD), model.temperature)
            losses["prd"] = matching.relation_loss(logits, batch.weak)
            trace["prd_logits"] = logits

    if "mlm" in on or "rtd" in on:
        assert image_kv is not None
        kv_m = None
        if distilling:
            with torch.no_grad():
                kv_m = momentum.project_image(image_m)
        masked = MaskedText(
            batch.annotated, fidelity, objectives.p_mask, draws, special, model, momentum, image_kv, kv_m
        )

        if "mlm" in on:
            losses["mlm"] = language_loss(masked, fidelity, alpha, trace)

        if "rtd" in on:
            words = RtdWords(objectives.generator, teachers.masked_lm, fidelity.rtd_choice)
            losses["rtd"] = replacement_loss(masked, words, fidelity, trace)

    if features is None:
        return StepOutput(losses, None, None)
    return StepOutput(losses, features.image_feat_m, features.text_feat_m)


class Features(NamedTuple):
    """Unit projections [B, E] of the class tokens, online and momentum."""

    image_feat: Tensor
    text_feat: Tensor
    image_feat_m: Tensor
    text_feat_m: Tensor


def in_full(x: Tensor, like: Tensor) -> Tensor:
    """`x` in the weights' own precision, which losses are computed in whatever the matrix products were."""
    return x.to(like.dtype)


def encode(encoders: Encoders, text: Text, draws: Draws, kind: str, wanted: Wanted | None = None) -> Tensor:
    """Packed text states [N, D], or the wanted ones, with this pass's own dropout draws."""
    with draws.dropout(kind):
        return encoders.encode_text(text, wanted)


def matched_states(
    online: Encoders, text: Tensor, annotated: Tokens, matched: Tokens, draws: Draws, device: torch.device
) -> tuple[Tensor, Packing]:
    """Packed states [N, D] of the matched captions, and their packing.

    Most are the annotated ones, whose states are given and shared with the contrast, as the released code shares one
    encoding; only the others pass through the encoder.
    """
    length = min(annotated.ids.shape[1], matched.ids.shape[1])
    lengths, lengths_matched = annotated.mask.sum(1), matched.mask.sum(1)
    same = (annotated.ids[:, :length] == matched.ids[:, :length]).all(1) & (lengths == lengths_matched)
    packing = Packing.of(matched.mask, device)
    if same.all():
        return text, packing
    other = Text.of(Tokens(matched.ids[~same], matched.mask[~same]), device)
    states = encode(online, other, draws, "exchanged text")
    starts = lengths.cumsum(0) - lengths
    starts[~same] = len(text) + lengths_matched[~same].cumsum(0) - lengths_matched[~same]
    rows = (starts[:, None] + torch.arange(matched.ids.shape[1]))[matched.mask]
    return take_rows(torch.cat([text, states]), rows.to(device, non_blocking=True)), packing


def joined(text: Tensor, packing: Packing, chosen_B: Tensor) -> tuple[Tensor, Packing]:
    """The states of all captions and then of the chosen ones, packed, and their packing."""
    cells_BLD = packing.unpack(text)
    mask = torch.cat([packing.mask, packing.mask[chosen_B]])
    # On a GPU the number of tokens of captions chosen there would have to be waited for: their padding is computed.
    both = Packing.of(mask, mask.device) if mask.device.type == "cpu" else Packing(mask)
    return both.pack(torch.cat([cells_BLD, cells_BLD[chosen_B]])), both


def contrastive_loss(
    features: Features,
    directions: Sequence[tuple[str, str]],
    temperature: Tensor,
    queue: FeatureQueue,
    identity: Tensor,
    fidelity: Fidelity,
    alpha: float,
    trace: dict[str, Tensor],
) -> Tensor:
    """L_cl (Eq. 10) or L_itc (Eq. 8): the mean of the `directions` against momentum keys of the batch and the queue."""
    ranks = fidelity.ranks
    image_queue, text_queue, queue_identity = queue.images, queue.texts, queue.identities
    if fidelity.contrastive_keys == "queue":  # the batch has already pushed the oldest entries out
        kept = queue.without_oldest(len(identity) // ranks)
        image_queue, text_queue, queue_identity = image_queue[kept], text_queue[kept], queue_identity[kept]
    keys = {"i": (features.image_feat_m, image_queue), "t": (features.text_feat_m, text_queue)}
    queries = {"i": features.image_feat, "t": features.text_feat}
    queries_m = {"i": features.image_feat_m, "t": features.text_feat_m}
    whom = contrastive.key_identities(identity, queue_identity, ranks)

    hard = None
    if fidelity.contrastive_positives == "identity":
        hard = contrastive.positive_targets(identity, whom, features.image_feat.dtype)

    terms = []
    for source, target in directions:
        logits = contrastive.similarities(queries[source], *keys[target], temperature, ranks)
        with torch.no_grad():
            targets = contrastive.own_targets(logits, ranks) if hard is None else hard
            trace["sim_targets"] = targets
            if fidelity.contrastive_soft_targets:
                logits_m = contrastive.similarities(queries_m[source], *keys[target], temperature, ranks)
                targets = contrastive.soften(targets, logits_m, alpha)
        terms.append(contrastive.info_nce(logits, targets))
        name = f"{source}2{target}"
        trace.update({f"sim_{name}": logits, f"sim_{name}_targets": targets, f"loss_{name}": terms[-1]})
    return torch.stack(terms).mean()


@torch.no_grad()
def negative_weights(
    features: Features | None, temperature: Tensor, identity: Tensor, ranks: int
) -> tuple[Tensor, Tensor]:
    """Probabilities [B, B] of each text as an image's negative (i2t) and of each image as a text's (t2i).

    By the batch's own columns of the contrastive logits; without features (random negatives) all alike.
    """
    if features is None:
        weights = matching.random_negative_weights(identity, ranks)
        return weights, weights
    logits_i2t = features.image_feat @ features.text_feat_m.T / temperature
    logits_t2i = features.text_feat @ features.image_feat_m.T / temperature
    i2t, t2i = (matching.negative_weights(logits, identity, ranks) for logits in (logits_i2t, logits_t2i))
    return i2t, t2i
