"""Sensitivity-aware learning on one batch (Eq. 4-6): masked captions, MLM, and the three kinds of RTD.

Shape suffixes: B captions, L tokens, N chosen positions, V vocabulary, D text width.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rasa.data.tokens import Tokens
from rasa.draws import Draws
from rasa.fidelity import Fidelity
from rasa.model.rasa import Encoders, RaSa
from rasa.model.text import ImageKeyValues, Packing, Text
from rasa.objectives import language, replacement
from rasa.objectives.language import MaskDraws, SpecialIds


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

    def online_states(self, objective: str) -> Tensor:
        """Joint states [B, L, D] of the masked text under the online model."""
        return self._states("online", objective, self.model.encoders, self.image_kv)

    def momentum_states(self, objective: str) -> Tensor:
        """The same under the momentum model."""
        assert self.momentum_kv is not None
        with torch.no_grad():
            return self._states("momentum", objective, self.momentum, self.momentum_kv)

    def _states(self, who: str, objective: str, encoders: Encoders, image: ImageKeyValues) -> Tensor:
        kind = self.kind(objective)
        if (who, kind) not in self.passes:
            ids, _ = self.masking(objective)
            padding = self.whole_sequence and who == "online" and objective == "mlm"
            self.passes[who, kind] = self.fuse(f"{kind}, {who}", encoders, ids, image, padding)
        return self.passes[who, kind]

    def fuse(
        self, dropout: str, encoders: Encoders, ids: Tensor, image: ImageKeyValues, padding: bool = False
    ) -> Tensor:
        """Joint states [B, L, D] of the captions with other ids in their place; zero where padded unless `padding`."""
        packing = Packing(self.packing.mask, None) if padding else self.packing
        with self.draws.dropout(dropout):
            states = encoders.encode_text(Text(ids.to(self.device, non_blocking=True), packing))
            return packing.unpack(encoders.fuse(states, packing, image))


def language_loss(text: MaskedText, fidelity: Fidelity, alpha: float, trace: dict[str, Tensor]) -> Tensor:
    """L_mlm (Eq. 4), with the momentum model's soft targets mixed in where the fidelity says so."""
    ids, labels_BL = text.masking("mlm")
    positions = labels_BL.flatten().ne(language.IGNORED).nonzero().squeeze(1)
    labels, positions = labels_BL.flatten()[positions].to(text.device), positions.to(text.device)
    states_BLD = text.online_states("mlm")
    encoders = text.model.encoders
    if text.whole_sequence:
        logits_BLV = encoders.words(states_BLD)
        logits = logits_BLV.flatten(0, 1)[positions]
    else:
        logits = encoders.words(states_BLD.flatten(0, 1)[positions])
    loss = language.hard_loss(logits, labels)
    trace.update(mlm_input_ids=ids, mlm_labels=labels_BL, mlm_logits_selected=logits)
    if fidelity.mlm_soft_targets:
        with torch.no_grad():
            logits_m = text.momentum.words(text.momentum_states("mlm").flatten(0, 1)[positions])
        # released code: the soft term's log-softmax runs over the sequence axis (XB 1427)
        log_p = logits_BLV.log_softmax(1).flatten(0, 1)[positions] if text.whole_sequence else logits.log_softmax(1)
        loss = (1 - alpha) * loss + alpha * language.soft_loss(log_p, logits_m.softmax(1))
        trace["mlm_logits_m_selected"] = logits_m
    return loss


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
            out = self.masked_lm(input_ids=ids.to(text.device), attention_mask=text.packing.mask.long())
            logits = out.logits.flatten(0, 1)[positions]
        elif self.generator == "online":
            logits = text.model.encoders.words(text.online_states("rtd").detach().flatten(0, 1)[positions])
        else:
            logits = text.momentum.words(text.momentum_states("rtd").flatten(0, 1)[positions])
        trace["rtd_generator_logits"] = logits
        if self.choice == "argmax":
            return logits.argmax(1)
        return text.draws.categorical("rtd sampled words", logits.softmax(1))


def replacement_loss(text: MaskedText, words: RtdWords, fidelity: Fidelity, trace: dict[str, Tensor]) -> Tensor:
    """L_rtd (Eq. 5): the caption with the generator's words in place is told from the original, token by token."""
    original = text.tokens.ids
    _, labels_BL = text.masking("rtd")
    allowed = replacement.replaceable(original, text.tokens.mask, text.special, fidelity.mask_separator)
    replaced = allowed if fidelity.rtd_replace == "all" else allowed & (labels_BL != language.IGNORED)
    positions = replaced.flatten().nonzero().squeeze(1).to(text.device)

    new_ids = original.to(text.device, copy=True)
    new_ids.view(-1)[positions] = words.propose(text, positions, trace)
    scored = allowed.to(text.device)
    if fidelity.rtd_ignore == "sampled-special":
        scored = replacement.without_sampled_specials(scored, new_ids, text.special)
    labels = replacement.replacement_labels(original.to(text.device), new_ids, scored)

    states_BLD = text.fuse("rtd", text.model.encoders, new_ids, text.image_kv)
    logits = text.model.heads["rtd"](states_BLD)
    trace.update(
        rtd_input_ids=new_ids,
        rtd_labels=labels,
        rtd_positions=positions,
        fusion_rtd=states_BLD,
        rtd_logits=logits.flatten(0, 1),
    )
    return replacement.detection_loss(logits, labels)
