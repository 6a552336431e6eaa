"""Sensitivity-aware learning on one batch (Eq. 4-6): masked captions, MLM, and the three kinds of RTD.

Shape suffixes: B captions, L tokens, N chosen positions, V vocabulary, D text width, W tokens wanted of a pass.
"""

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
from rasa.objectives.shares import share_of, share_weights


class MaskedText:
    """The masked captions of a step and the passes over them. With shared masking, MLM and RTD use one of each."""

    def __init__(
        self,
        tokens: Tokens,
        fidelity: Fidelity,
        p_mask: float,
        draws: Draws,
        special: SpecialIds,
        model: RaSa,
        momentum: Encoders,
        image_kv: ImageKeyValues,
        momentum_kv: ImageKeyValues | None,
    ):
        self.tokens, self.fidelity, self.p_mask = tokens, fidelity, p_mask
        self.draws, self.special = draws, special
        self.model, self.momentum = model, momentum
        self.image_kv, self.momentum_kv = image_kv, momentum_kv
        self.device = image_kv.keys[0].device
        self.packing = Packing.of(tokens.mask, self.device)
        # The soft term's softmax over the sequence (released code) sees what the model says of padding.
        self.whole_sequence = fidelity.mlm_soft_targets and fidelity.mlm_soft_axis == "sequence"
        self.passes: dict[tuple[str, str], Tensor] = {}
        self.maskings: dict[str, tuple[Tensor, Tensor]] = {}

    def kind(self, objective: str) -> str:
        return "shared" if self.fidelity.shared_masking else objective

    def masking(self, objective: str) -> tuple[Tensor, Tensor]:
        """Masked ids and labels [B, L] on the CPU for "mlm" or "rtd"."""
        kind, shape, f = self.kind(objective), self.tokens.ids.shape, self.fidelity
        if kind in self.maskings:
            return self.maskings[kind]
        rate = self.p_mask
        if kind == "mlm" and f.mlm_mask_rate is not None:
            rate = f.mlm_mask_rate
        vocabulary = self.model.encoders.text.embeddings.word_embeddings.num_embeddings
        raw = MaskDraws(
            self.draws.bernoulli(f"{kind} select", shape, rate),
            self.draws.bernoulli(f"{kind} replace", shape, 0.8),
            self.draws.bernoulli(f"{kind} random", shape, 0.5),
            self.draws.integers(f"{kind} words", shape, vocabulary),
        )
        masked = language.mask_tokens(self.tokens.ids, raw, self.special, f.mask_separator, f.mask_corruption)
        self.maskings[kind] = masked
        return masked

    def positions(self, objective: str) -> Tensor:
        """Flat positions [N] of the chosen tokens in the [B, L] captions, ascending, on the CPU."""
        return self.masking(objective)[1].flatten().ne(language.IGNORED).nonzero().squeeze(1)

    def online_states(self, objective: str) -> Tensor:
        """Joint states of the masked text under the online model: see `whole`."""
        return self._states("online", objective, self.model.encoders, self.image_kv)

    def momentum_states(self, objective: str) -> Tensor:
        """The same under the momentum model."""
        assert self.momentum_kv is not None
        with torch.no_grad():
            return self._states("momentum", objective, self.momentum, self.momentum_kv)

    def generator_states(self, who: str, positions: Tensor) -> Tensor:
        """Of the text masked for RTD, the states of the flat positions [N] under the generator, without gradient.

        The model's own pass where that has the dropout that `fidelity.generator_dropout` asks for, else one more.
        """
        encoders = self.model.encoders if who == "online" else self.momentum
        dropout = self.fidelity.generator_dropout and self.model.training
        with torch.no_grad():
            if encoders.training == dropout:
                return self.chosen(who, "rtd", positions).detach()
            image = self.image_kv if who == "online" else self.momentum_kv
            assert image is not None
            wanted = None if self.whole("rtd") else Wanted.at(self.packing, self.positions("rtd"))
            ids, _ = self.masking("rtd")
            with in_mode(encoders, dropout):
                states = self.fuse("generator", encoders, ids, image, self.packing, wanted)
            return states if wanted is not None else states[self.packing.rows[positions]]

    def whole(self, objective: str) -> bool:
        """Whether passes over this masked text give every token's state [N, D], or only the chosen ones' [W, D].

        A matter of the fidelity alone, so that no pass depends on which other objective is on.
        """
        return self.fidelity.rtd_replace == "all" and self.kind(objective) != "mlm"

    def _states(self, who: str, objective: str, encoders: Encoders, image: ImageKeyValues) -> Tensor:
        kind = self.kind(objective)
        if (who, kind) not in self.passes:
            ids, _ = self.masking(objective)
            if self.padded(who, objective):
                packing, wanted = Packing(self.packing.mask), None
            else:
                packing = self.packing
                wanted = None if self.whole(objective) else Wanted.at(packing, self.positions(objective))
            self.passes[who, kind] = self.fuse(f"{kind}, {who}", encoders, ids, image, packing, wanted)
        return self.passes[who, kind]

    def fuse(
        self,
        dropout: str,
        encoders: Encoders,
        ids: Tensor,
        image: ImageKeyValues,
        packing: Packing,
        wanted: Wanted | None = None,
    ) -> Tensor:
        """Joint states of the captions with other ids in their place, packed [N, D], or the wanted ones alone [W, D]."""
        with self.draws.dropout(dropout):
            states = encoders.encode_text(Text(ids.to(self.device, non_blocking=True), packing))
            return encoders.fuse(states, packing, image, wanted)

    def padded(self, who: str, objective: str) -> bool:
        """Whether a pass computes padding too, [B * L, D]: MLM's, where its softmax over the sequence sees it."""
        return self.whole_sequence and who == "online" and self.kind(objective) == self.kind("mlm")

    def chosen(self, who: str, objective: str, positions: Tensor) -> Tensor:
        """Of the states that a pass gives, those of the flat positions [N], which are all that it gives if not `whole`."""
        states = self.online_states(objective) if who == "online" else self.momentum_states(objective)
        if self.padded(who, objective):
            return states[positions]
        return states[self.packing.rows[positions]] if self.whole(objective) else states

    def weights(self, counted: Tensor, positions: Tensor, dtype: torch.dtype) -> Tensor | None:
        """Weights [N] of terms at flat positions for the mean of the ranks' means; None if there is one rank."""
        ranks = self.fidelity.ranks
        if ranks == 1:
            return None
        share = share_of(self.packing.mask, ranks)[positions // self.packing.mask.shape[1]]
        return share_weights(counted, share, ranks, dtype)


def language_loss(text: MaskedText, fidelity: Fidelity, alpha: float, trace: dict[str, Tensor]) -> Tensor:
    """L_mlm (Eq. 4), with the momentum model's soft targets mixed in where the fidelity says so."""
    ids, labels_BL = text.masking("mlm")
    positions = text.positions("mlm")
    labels = labels_BL.flatten()[positions].to(text.device, non_blocking=True)
    positions = positions.to(text.device, non_blocking=True)
    encoders, like = text.model.encoders, text.model.temperature
    if text.whole_sequence:
        logits_BLV = encoders.words(text.online_states("mlm")).to(like.dtype).unflatten(0, ids.shape)
        logits = logits_BLV.flatten(0, 1)[positions]
    else:
        logits = encoders.words(text.chosen("online", "mlm", positions)).to(like.dtype)
    weights = text.weights(torch.ones_like(labels, dtype=torch.bool), positions, like.dtype)
    loss = language.hard_loss(logits, labels, weights)
    trace.update(mlm_input_ids=ids, mlm_labels=labels_BL, mlm_logits_selected=logits)
    if fidelity.mlm_soft_targets:
        with torch.no_grad():
            logits_m = text.momentum.words(text.chosen("momentum", "mlm", positions)).to(like.dtype)
        if text.whole_sequence:
            log_p = over_sequence(logits_BLV, text.tokens.mask, fidelity.ranks).flatten(0, 1)[positions]
        else:
            log_p = logits.log_softmax(1)
        loss = (1 - alpha) * loss + alpha * language.soft_loss(log_p, logits_m.softmax(1), weights)
        trace["mlm_logits_m_selected"] = logits_m
    return loss


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
    def propose(self, text: MaskedText, positions: Tensor, trace: dict[str, Tensor]) -> Tensor:
        """One word id for each of the flat `positions` [N] of the [B, L] captions."""
        if self.generator == "fixed":
            assert self.masked_lm is not None
            ids, _ = text.masking("rtd")
            out = self.masked_lm(
                input_ids=ids.to(text.device, non_blocking=True), attention_mask=text.packing.mask.long()
            )
            logits = out.logits.flatten(0, 1)[positions]
        elif self.generator == "online":
            logits = text.model.encoders.words(text.generator_states("online", positions))
        else:
            logits = text.momentum.words(text.generator_states("momentum", positions))
        trace["rtd_generator_logits"] = logits
        if self.choice == "argmax":
            return logits.argmax(1)
        words = logits.to(text.model.temperature.dtype).softmax(1)
        return text.draws.categorical("rtd sampled words", words, (text.tokens.ids.shape, positions))


def replacement_loss(text: MaskedText, words: RtdWords, fidelity: Fidelity, trace: dict[str, Tensor]) -> Tensor:
    """L_rtd (Eq. 5): the caption with the generator's words in place is told from the original, token by token."""
    original = text.tokens.ids
    allowed = replacement.replaceable(original, text.tokens.mask, text.special, fidelity.mask_separator)
    positions = allowed.flatten().nonzero().squeeze(1) if fidelity.rtd_replace == "all" else text.positions("rtd")
    positions = positions.to(text.device, non_blocking=True)

    original = original.to(text.device, non_blocking=True)
    new_ids = original.clone()
    new_ids.view(-1)[positions] = words.propose(text, positions, trace)
    scored = allowed.to(text.device, non_blocking=True)
    if fidelity.rtd_ignore == "sampled-special":
        scored = replacement.without_sampled_specials(scored, new_ids, text.special)
    labels_BL = replacement.replacement_labels(original, new_ids, scored)

    states_ND = text.fuse("rtd", text.model.encoders, new_ids, text.image_kv, text.packing)
    logits_N2 = text.model.heads["rtd"](states_ND).to(text.model.temperature.dtype)
    labels_N = text.packing.pack(labels_BL)
    cells = torch.arange(labels_BL.numel(), device=text.device).view_as(labels_BL)
    weights = text.weights(labels_N != language.IGNORED, text.packing.pack(cells), logits_N2.dtype)
    trace.update(
        rtd_input_ids=new_ids,
        rtd_labels=labels_BL,
        rtd_labels_packed=labels_N,
        rtd_positions=positions,
        fusion_rtd=states_ND,
        rtd_logits=logits_N2,
    )
    return replacement.detection_loss(logits_N2, labels_N, weights)
