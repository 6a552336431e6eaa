"""Sensitivity-aware learning on one batch (Eq. 4-6): masked captions, MLM, and the three kinds of RTD.

Shape suffixes: B captions, L tokens of the longest, N packed tokens of all, P chosen positions, V vocabulary, D text
width. A flat position is a cell of the [B, L] rectangle, counted row by row.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rasa.config.fidelity import Fidelity
from rasa.data.tokenizer import Tokens
from rasa.draws import Draws, in_mode
from rasa.model.bert import ImageKeyValues
from rasa.model.packing import Packing, Text, Wanted
from rasa.model.rasa import Encoders, RaSa
from rasa.objectives import language, replacement
from rasa.objectives.language import MaskDraws, SpecialIds
from rasa.objectives.ranks import rank_of, rank_weights


class Masking(NamedTuple):
    """Captions with some tokens masked, on the CPU. `purpose` names its draws: mlm, rtd or, for both, shared."""

    purpose: str
    ids_BL: Tensor
    labels_BL: Tensor  # the original words at the chosen positions, IGNORED elsewhere
    positions_P: Tensor  # the chosen ones, flat, ascending


class States(NamedTuple):
    """Joint states of one pass: of all tokens that `packing` packs, or with None of a masking's chosen ones alone."""

    states: Tensor
    packing: Packing | None

    def at(self, positions_P: Tensor) -> Tensor:
        """[P, D] at the flat positions, which must be the chosen ones where there are no others."""
        return self.states if self.packing is None else self.states[self.packing.rows[positions_P]]


@dataclass(frozen=True)
class MaskedText:
    """The masked captions of a step and the passes over them, each made once, when it is first asked for.

    With shared masking (the released code) MLM and RTD have one masking, and so one pass of each model.
    """

    tokens: Tokens
    fidelity: Fidelity
    p_mask: float
    draws: Draws
    special: SpecialIds
    model: RaSa
    momentum: Encoders
    image_kv: ImageKeyValues
    momentum_kv: ImageKeyValues | None

    @cached_property
    def device(self) -> torch.device:
        return self.image_kv.keys[0].device

    @cached_property
    def packing(self) -> Packing:
        """Of the captions without their padding."""
        return Packing.of(self.tokens.mask, self.device)

    # ---- Maskings ----

    @cached_property
    def for_mlm(self) -> Masking:
        if self.fidelity.shared_masking:
            return self._masked("shared", self.p_mask)
        rate = self.fidelity.mlm_mask_rate
        return self._masked("mlm", self.p_mask if rate is None else rate)

    @cached_property
    def for_rtd(self) -> Masking:
        return self.for_mlm if self.fidelity.shared_masking else self._masked("rtd", self.p_mask)

    def _masked(self, purpose: str, rate: float) -> Masking:
        shape, draws = self.tokens.ids.shape, self.draws
        vocabulary = self.model.encoders.text.embeddings.word_embeddings.num_embeddings
        # BERT's 80 : 10 : 10 of the chosen tokens: [MASK], a random word, as it was.
        drawn = MaskDraws(
            draws.bernoulli(f"{purpose} select", shape, rate),
            draws.bernoulli(f"{purpose} replace", shape, 0.8),
            draws.bernoulli(f"{purpose} random", shape, 0.5),
            draws.integers(f"{purpose} words", shape, vocabulary),
        )
        ids_BL, labels_BL = language.mask_tokens(
            self.tokens.ids, drawn, self.special, self.fidelity.mask_separator, self.fidelity.mask_corruption
        )
        # On the CPU: a GPU would have to say how many there are.
        positions_P = labels_BL.flatten().ne(language.IGNORED).nonzero().squeeze(1)
        return Masking(purpose, ids_BL, labels_BL, positions_P)

    # ---- Passes. Which tokens' states a pass gives is a matter of the fidelity alone, so that no pass depends on which
    # ---- other objective is on.

    @cached_property
    def online_for_mlm(self) -> States:
        # released code: the soft term's softmax over the sequence sees what the model says of padding
        padding = self.over_sequence
        return self._pass("online", self.for_mlm, self.model.encoders, self.image_kv, padding)

    @cached_property
    def online_for_rtd(self) -> States:
        if self.fidelity.shared_masking:
            return self.online_for_mlm
        return self._pass("online", self.for_rtd, self.model.encoders, self.image_kv)

    @cached_property
    def momentum_for_mlm(self) -> States:
        assert self.momentum_kv is not None
        with torch.no_grad():
            return self._pass("momentum", self.for_mlm, self.momentum, self.momentum_kv)

    @cached_property
    def momentum_for_rtd(self) -> States:
        if self.fidelity.shared_masking:
            return self.momentum_for_mlm
        assert self.momentum_kv is not None
        with torch.no_grad():
            return self._pass("momentum", self.for_rtd, self.momentum, self.momentum_kv)

    @property
    def over_sequence(self) -> bool:
        """Whether MLM's soft term takes its softmax over the sequence."""
        return self.fidelity.mlm_soft_targets and self.fidelity.mlm_soft_axis == "sequence"

    def _pass(
        self, who: str, masking: Masking, encoders: Encoders, image: ImageKeyValues, padding: bool = False
    ) -> States:
        draws = f"{masking.purpose}, {who}"
        if padding:
            packing = Packing(self.packing.mask)
            return States(self.fuse(draws, encoders, masking.ids_BL, image, packing), packing)
        return self._states(draws, masking, encoders, image)

    def _states(self, draws: str, masking: Masking, encoders: Encoders, image: ImageKeyValues) -> States:
        """Every token's where RTD may replace every token, else the chosen ones' alone."""
        if self.fidelity.rtd_replace == "all" and masking.purpose != "mlm":
            return States(self.fuse(draws, encoders, masking.ids_BL, image, self.packing), self.packing)
        wanted = Wanted.at(self.packing, masking.positions_P)
        return States(self.fuse(draws, encoders, masking.ids_BL, image, self.packing, wanted), None)

    @torch.no_grad()
    def of_generator(self, momentum: bool) -> States:
        """Of the captions masked for RTD, the states under the generator, without gradient.

        The model's own pass where that has the dropout that `fidelity.generator_dropout` asks for, else one more.
        """
        encoders = self.momentum if momentum else self.model.encoders
        dropout = self.fidelity.generator_dropout and self.model.training
        if encoders.training == dropout:
            states = self.momentum_for_rtd if momentum else self.online_for_rtd
            return states._replace(states=states.states.detach())
        image = self.momentum_kv if momentum else self.image_kv
        assert image is not None
        with in_mode(encoders, dropout):
            return self._states("generator", self.for_rtd, encoders, image)

    def fuse(
        self,
        draws: str,
        encoders: Encoders,
        ids_BL: Tensor,
        image: ImageKeyValues,
        packing: Packing,
        wanted: Wanted | None = None,
    ) -> Tensor:
        """Joint states of the captions with other ids in their place, packed [N, D], or the wanted ones alone [P, D].

        `draws` names the pass's dropout stream.
        """
        with self.draws.dropout(draws):
            states_ND = encoders.encode_text(Text(ids_BL.to(self.device, non_blocking=True), packing))
            return encoders.fuse(states_ND, packing, image, wanted)

    def weights(self, counted_P: Tensor, positions_P: Tensor, dtype: torch.dtype) -> Tensor | None:
        """Weights [P] of terms at flat positions for the mean of the ranks' means; None if there is one rank."""
        ranks = self.fidelity.ranks
        if ranks == 1:
            return None
        # A flat position's caption is its row of the rectangle.
        share_P = rank_of(self.packing.mask, ranks)[positions_P // self.packing.mask.shape[1]]
        return rank_weights(counted_P, share_P, ranks, dtype)


def language_loss(text: MaskedText, alpha: float) -> tuple[Tensor, dict[str, Tensor]]:
    """L_mlm (Eq. 4), with the momentum model's soft targets mixed in by `alpha` where the fidelity says so."""
    masking, encoders, like = text.for_mlm, text.model.encoders, text.model.temperature
    labels_P = masking.labels_BL.flatten()[masking.positions_P].to(text.device, non_blocking=True)
    positions_P = masking.positions_P.to(text.device, non_blocking=True)
    if text.over_sequence:
        logits_BLV = encoders.words(text.online_for_mlm.states).to(like.dtype).unflatten(0, masking.ids_BL.shape)
        logits_PV = logits_BLV.flatten(0, 1)[positions_P]
    else:
        logits_PV = encoders.words(text.online_for_mlm.at(positions_P)).to(like.dtype)
    weights_P = text.weights(torch.ones_like(labels_P, dtype=torch.bool), positions_P, like.dtype)
    loss = language.hard_loss(logits_PV, labels_P, weights_P)
    trace = {"mlm_input_ids": masking.ids_BL, "mlm_labels": masking.labels_BL, "mlm_logits_selected": logits_PV}
    if text.fidelity.mlm_soft_targets:
        with torch.no_grad():
            logits_mPV = text.momentum.words(text.momentum_for_mlm.at(positions_P)).to(like.dtype)
        if text.over_sequence:
            log_p_BLV = over_sequence(logits_BLV, text.tokens.mask, text.fidelity.ranks)
            log_p_PV = log_p_BLV.flatten(0, 1)[positions_P]
        else:
            log_p_PV = logits_PV.log_softmax(1)
        # ALBEF's distillation: a share alpha of the target is what the momentum model says at the same positions.
        loss = (1 - alpha) * loss + alpha * language.soft_loss(log_p_PV, logits_mPV.softmax(1), weights_P)
        trace["mlm_logits_m_selected"] = logits_mPV
    return loss, trace


def over_sequence(logits_BLV: Tensor, mask_BL: Tensor, ranks: int) -> Tensor:
    """Log-softmax of word logits over the sequence axis, each share of the batch padded to its own longest caption.

    `mask` lies on the CPU, and may be wider than its captions.
    """
    # released code: the soft term's log-softmax runs over the sequence axis (XB 1427)
    longest = mask_BL.sum(1).unflatten(0, (ranks, -1)).amax(1).repeat_interleave(len(mask_BL) // ranks)
    beyond = torch.arange(mask_BL.shape[1]) >= longest[:, None]
    if beyond.any():
        logits_BLV = logits_BLV.masked_fill(beyond[..., None].to(logits_BLV.device, non_blocking=True), -torch.inf)
    return logits_BLV.log_softmax(1)


class RtdWords(NamedTuple):
    """Who proposes the replaced words, and how one is taken from its distribution."""

    generator: str | None
    masked_lm: nn.Module | None
    choice: str

    @torch.no_grad()
    def propose(self, text: MaskedText, positions_P: Tensor) -> tuple[Tensor, Tensor]:
        """One word id [P] for each of the flat positions of the [B, L] captions, and the generator's logits [P, V]."""
        if self.generator == "fixed":
            assert self.masked_lm is not None
            ids_BL = text.for_rtd.ids_BL.to(text.device, non_blocking=True)
            out = self.masked_lm(input_ids=ids_BL, attention_mask=text.packing.mask.long())
            logits_PV = out.logits.flatten(0, 1)[positions_P]
        else:
            momentum = self.generator != "online"
            encoders = text.momentum if momentum else text.model.encoders
            logits_PV = encoders.words(text.of_generator(momentum).at(positions_P))
        if self.choice == "argmax":
            return logits_PV.argmax(1), logits_PV
        words_PV = logits_PV.to(text.model.temperature.dtype).softmax(1)
        drawn_P = text.draws.categorical("rtd sampled words", words_PV, (text.tokens.ids.shape, positions_P))
        return drawn_P, logits_PV


def replacement_loss(text: MaskedText, words: RtdWords) -> tuple[Tensor, dict[str, Tensor]]:
    """L_rtd (Eq. 5): the caption with the generator's words in place is told from the original, token by token."""
    fidelity, original_BL = text.fidelity, text.tokens.ids
    allowed_BL = replacement.replaceable(original_BL, text.tokens.mask, text.special, fidelity.mask_separator)
    # Figure 3 replaces the masked words; the released code lets the generator speak at every token (MPS 189-190).
    everywhere = fidelity.rtd_replace == "all"
    positions_P = allowed_BL.flatten().nonzero().squeeze(1) if everywhere else text.for_rtd.positions_P
    positions_P = positions_P.to(text.device, non_blocking=True)

    original_BL = original_BL.to(text.device, non_blocking=True)
    new_ids_BL = original_BL.clone()
    # The replaced caption is made without gradient: the generator is not trained by being found out.
    new_ids_BL.view(-1)[positions_P], generator_logits_PV = words.propose(text, positions_P)
    scored_BL = allowed_BL.to(text.device, non_blocking=True)
    if fidelity.rtd_ignore == "sampled-special":
        scored_BL = replacement.without_sampled_specials(scored_BL, new_ids_BL, text.special)
    labels_BL = replacement.replacement_labels(original_BL, new_ids_BL, scored_BL)

    # All tokens are judged, not the replaced ones alone.
    states_ND = text.fuse("rtd", text.model.encoders, new_ids_BL, text.image_kv, text.packing)
    logits_N2 = text.model.heads["rtd"](states_ND).to(text.model.temperature.dtype)
    labels_N = text.packing.pack(labels_BL)
    cells_BL = torch.arange(labels_BL.numel(), device=text.device).view_as(labels_BL)
    weights_N = text.weights(labels_N != language.IGNORED, text.packing.pack(cells_BL), logits_N2.dtype)
    trace = {
        "rtd_generator_logits": generator_logits_PV,
        "rtd_input_ids": new_ids_BL,
        "rtd_labels": labels_BL,
        "rtd_labels_packed": labels_N,
        "rtd_positions": positions_P,
        "fusion_rtd": states_ND,
        "rtd_logits": logits_N2,
    }
    return replacement.detection_loss(logits_N2, labels_N, weights_N), trace
