"""One RaSa training step and its re-ranking as the released code is built: slow, obvious, independent of rasa's own.

An independent second implementation, against which the fast one is proved (tests/test_plain.py) and timed. It computes
with rasa's parameters, so that gradients compare by name, but calls none of its forward functions; the image encoder
is timm's. Captions are padded rectangles, masks are added to attention scores, every use has a text pass or a
cross-modal pass of its own that projects the image anew in every layer, every token passes through every layer, and
words are predicted at every position. `fidelity.ranks` processes are simulated literally: one after the other, losses
averaged, as DistributedDataParallel averages gradients.

Shape suffixes: B pairs of a share of the batch, L text tokens of its longest caption, M image tokens, D text width, E
embedding width, K contrastive keys, V vocabulary, C candidates.
"""

import copy
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rasa.config.fidelity import Fidelity
from rasa.config.run import Objectives
from rasa.data.tokenizer import Tokens
from rasa.draws import Draws
from rasa.model.bert import TextEncoder
from rasa.model.queue import FeatureQueue
from rasa.model.rasa import Encoders, RaSa
from rasa.objectives.language import SpecialIds
from rasa.training.step import StepInputs, Teachers

PUSHED = ("image_feature_m", "text_feature_m")
IGNORED = -100
TEXTS_PER_CALL = 256  # RET 82


# The encoders. `dropout` is 0 for a pass without it.


def linear(layer: Any, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


def dropped(x: Tensor, dropout: float) -> Tensor:
    return F.dropout(x, dropout) if dropout else x


def sublayer_output(part: Any, x: Tensor, residual: Tensor, dropout: float) -> Tensor:
    """Output projection, dropout, residual, norm."""
    return norm(part.norm, dropped(linear(part.dense, x), dropout) + residual)


def attention(part: Any, hidden_BLD: Tensor, source: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    """[B, L, D]: softmax(q k^T / sqrt(d) + bias) v of queries from `hidden`, keys and values from `source`."""
    q, k, v = (
        linear(layer, x).unflatten(-1, (part.heads, -1)).transpose(1, 2)
        for layer, x in ((part.query, hidden_BLD), (part.key, source), (part.value, source))
    )
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if bias is not None:
        scores = scores + bias
    weights = dropped(scores.softmax(-1), dropout)
    return sublayer_output(part.output, (weights @ v).transpose(1, 2).flatten(2), hidden_BLD, dropout)


def feed_forward(layer: Any, hidden_BLD: Tensor, dropout: float) -> Tensor:
    return sublayer_output(layer.output, F.gelu(linear(layer.intermediate, hidden_BLD)), hidden_BLD, dropout)


def additive(mask_BL: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where there is a token, -10000 where there is padding; [B, 1, 1, L]."""
    return (1 - mask_BL[:, None, None, :].to(dtype)) * -10000.0


def text_states(encoders: Encoders, text: Tokens, dropout: float) -> Tensor:
    """[B, L, D] of the text encoder."""
    assert isinstance(encoders.text, TextEncoder)  # the released structure is ALBEF's
    words = encoders.text.embeddings
    embedded = F.embedding(text.ids, words.word_embeddings.weight, words.word_embeddings.padding_idx)
    embedded = embedded + words.position_embeddings.weight[: text.ids.shape[1]] + words.token_type_embeddings.weight[0]
    hidden = dropped(norm(words.norm, embedded), dropout)
    bias = additive(text.mask, hidden.dtype)
    for layer in encoders.text.layers:
        hidden = feed_forward(layer, attention(layer.attention, hidden, hidden, bias, dropout), dropout)
    return hidden


def fuse(encoders: Encoders, hidden_BLD: Tensor, mask_BL: Tensor, image_BM: Tensor, dropout: float) -> Tensor:
    """[B, L, D] of the cross-modal encoder: text b with the image tokens of image b; [:, 0] is f_cls."""
    assert encoders.fusion is not None
    bias = additive(mask_BL, hidden_BLD.dtype)
    for layer in encoders.fusion.layers:
        hidden_BLD = attention(layer.attention, hidden_BLD, hidden_BLD, bias, dropout)
        hidden_BLD = attention(layer.cross_attention, hidden_BLD, image_BM, None, dropout)
        hidden_BLD = feed_forward(layer, hidden_BLD, dropout)
    return hidden_BLD


def joint_states(encoders: Encoders, text: Tokens, image_BM: Tensor, dropout: float) -> Tensor:
    """[B, L, D] of both encoders one after the other."""
    return fuse(encoders, text_states(encoders, text, dropout), text.mask, image_BM, dropout)


def word_logits(encoders: Encoders, states_BLD: Tensor) -> Tensor:
    """[B, L, V]; the decoder is the word embedding matrix."""
    head = encoders.language_head
    assert head is not None
    transformed = norm(head.norm, F.gelu(linear(head.dense, states_BLD)))
    return F.linear(transformed, encoders.text.embeddings.word_embeddings.weight, head.bias)


def feature(projection: nn.Linear, tokens: Tensor) -> Tensor:
    """Unit projection [B, E] of the class token."""
    return F.normalize(linear(projection, tokens[:, 0]), dim=1)


# The step.


def plain_step(
    model: RaSa,
    teachers: Teachers,
    batch: StepInputs,
    objectives: Objectives,
    fidelity: Fidelity,
    alpha: float,
    draws: Draws,
    special: SpecialIds,
    dropout: float = 0.0,
) -> dict[str, Tensor]:
    """Unweighted losses by name, and under the names `PUSHED` the features [batch, E] for the queues if any were made.

    The batch is split into `fidelity.ranks` consecutive shares, which must be equal.
    """
    whole, size = len(batch.identity), len(batch.identity) // fidelity.ranks
    assert whole == size * fidelity.ranks
    shares = []
    for start in range(0, whole, size):
        share = Share(draws, slice(start, start + size), batch.annotated.ids.shape, batch.view1.device)
        masker = Masker(share, fidelity, special, len(model.encoders.text.embeddings.word_embeddings.weight))
        shares.append(share_step(model, teachers, batch, objectives, fidelity, alpha, share, masker, dropout))
    results = {name: [out[name] for out in shares] for name in shares[0]}
    return {name: torch.cat(v) if name in PUSHED else torch.stack(v).mean() for name, v in results.items()}


class Share(NamedTuple):
    """Some consecutive rows of the batch, and their part of the draws, all of which are made for the whole batch."""

    draws: Draws
    rows: slice
    whole: torch.Size  # [batch, L of the longest caption of all]
    device: torch.device

    def tokens(self, all_tokens: Tokens) -> Tokens:
        """The share's captions on the device, padded to its own longest, as each process pads its own."""
        length = int(all_tokens.mask[self.rows].sum(1).max())
        return Tokens(*(x[self.rows, :length].to(self.device) for x in all_tokens))

    def bernoulli(self, kind: str, p: float, length: int) -> Tensor:
        return self.draws.bernoulli(kind, self.whole, p)[self.rows, :length].to(self.device)

    def integers(self, kind: str, high: int, length: int) -> Tensor:
        return self.draws.integers(kind, self.whole, high)[self.rows, :length].to(self.device)

    def negatives(self, kind: str, weights_BB: Tensor) -> list[int]:
        """One of the share's rows for each, with probability proportional to its row of weights, not all zero."""
        weights = weights_BB.new_ones(self.whole[0], self.whole[0])
        weights[self.rows] = 0
        weights[self.rows, self.rows] = weights_BB
        return [int(index) - self.rows.start for index in self.draws.categorical(kind, weights)[self.rows]]

    def words(self, kind: str, probabilities_BLV: Tensor, where_BL: Tensor) -> Tensor:
        """A word for each cell of `where`, row by row."""
        row, column = where_BL.nonzero(as_tuple=True)
        cells = (row + self.rows.start) * self.whole[1] + column
        return self.draws.categorical(kind, probabilities_BLV[where_BL], (self.whole, cells))


def share_step(
    model: RaSa,
    teachers: Teachers,
    batch: StepInputs,
    objectives: Objectives,
    fidelity: Fidelity,
    alpha: float,
    share: Share,
    masker: "Masker",
    dropout: float,
) -> dict[str, Tensor]:
    """What one process of the released training computes of its share of the batch (MPS 48-207)."""
    on, online, momentum, rows = objectives.weights, model.encoders, teachers.momentum, share.rows
    dropout_m = dropout if fidelity.momentum_dropout else 0.0
    dropout_g = dropout if fidelity.generator_dropout else 0.0
    annotated, identity = share.tokens(batch.annotated), batch.identity[rows]
    matched = None if batch.matched is None else share.tokens(batch.matched)
    contrasted = matched if fidelity.contrastive_text == "matching" and matched is not None else annotated
    out: dict[str, Tensor] = {}

    mining = "itm" in on and fidelity.itm_negatives == "hard"
    contrasting = "cl" in on or "itc" in on or mining
    soft_words = "mlm" in on and fidelity.mlm_soft_targets

    image = online.vision.forward_features(batch.view1[rows])
    if contrasting or soft_words or objectives.generator == "momentum":
        view = batch.view2 if fidelity.momentum_view == "second" else batch.view1
        with torch.no_grad():
            image_m = momentum.vision.forward_features(view[rows])

    if contrasting:
        text = text_states(online, contrasted, dropout)
        i, t = feature(online.vision_proj, image), feature(online.text_proj, text)
        with torch.no_grad():
            text_m = text_states(momentum, contrasted, dropout_m)
            i_m, t_m = feature(momentum.vision_proj, image_m), feature(momentum.text_proj, text_m)
        out["image_feature_m"], out["text_feature_m"] = i_m, t_m

    for name in on.keys() & {"cl", "itc"}:
        within = name == "cl"
        out[name] = contrastive(
            (i, t), (i_m, t_m), model.temperature, teachers.queue, identity, fidelity, alpha, within
        )

    if "itm" in on or "prd" in on:
        assert matched is not None
        if not contrasting or contrasted is not matched:
            text = text_states(online, matched, dropout)
        positive_BD = fuse(online, text, matched.mask, image, dropout)[:, 0]

    if "itm" in on:
        assert matched is not None
        other_BB = identity[:, None] != identity[None, :]
        weights_i2t = weights_t2i = torch.ones_like(other_BB, dtype=image.dtype)
        if mining:
            with torch.no_grad():
                weights_i2t = (i @ t_m.T / model.temperature).softmax(1)
                weights_t2i = (t @ i_m.T / model.temperature).softmax(1)
        # A pair of which the share has no negative is left out; that it draws one all the same harms nobody.
        alone_B = ~other_BB.any(1)
        drawable_BB = other_BB | alone_B[:, None]
        image_negatives = share.negatives("negative images", weights_t2i * drawable_BB)
        text_negatives = share.negatives("negative texts", weights_i2t * drawable_BB)
        negative_image = torch.stack([image[j] for j in image_negatives])
        negative_text = torch.stack([text[j] for j in text_negatives])
        negative_mask = torch.stack([matched.mask[j] for j in text_negatives])
        image_swapped_BD = fuse(online, text, matched.mask, negative_image, dropout)[:, 0]
        text_swapped_BD = fuse(online, negative_text, negative_mask, image, dropout)[:, 0]
        logits = linear(model.heads["itm"], torch.cat([positive_BD, image_swapped_BD, text_swapped_BD]))
        negative_labels = torch.zeros_like(identity).masked_fill(alone_B, IGNORED)
        labels = torch.cat([torch.ones_like(identity), negative_labels, negative_labels])
        out["itm"] = F.cross_entropy(logits, labels, ignore_index=IGNORED)

    if "prd" in on:
        out["prd"] = F.cross_entropy(linear(model.heads["prd"], positive_BD), batch.weak[rows].long())

    if "mlm" in on:
        kind = "shared" if fidelity.shared_masking else "mlm"
        given_rate = None if fidelity.shared_masking else fidelity.mlm_mask_rate
        rate = objectives.p_mask if given_rate is None else given_rate
        masked, labels_BL = masker.mask(annotated, kind, rate)
        logits_BLV = word_logits(online, joint_states(online, masked, image, dropout))
        hard = scored_mean(F.cross_entropy(logits_BLV.transpose(1, 2), labels_BL, reduction="none"), labels_BL)
        out["mlm"] = hard
        if soft_words:
            with torch.no_grad():
                soft_BLV = word_logits(momentum, joint_states(momentum, masked, image_m, dropout_m)).softmax(-1)
            # released code: dim 1 is the sequence (XB 1427)
            log_p = logits_BLV.log_softmax(1 if fidelity.mlm_soft_axis == "sequence" else 2)
            out["mlm"] = (1 - alpha) * hard + alpha * scored_mean(-(log_p * soft_BLV).sum(-1), labels_BL)

    if "rtd" in on:
        kind = "shared" if fidelity.shared_masking else "rtd"
        masked, labels_BL = masker.mask(annotated, kind, objectives.p_mask)
        with torch.no_grad():
            if objectives.generator == "fixed":
                assert teachers.masked_lm is not None
                proposed = teachers.masked_lm(input_ids=masked.ids, attention_mask=masked.mask.long()).logits
            elif objectives.generator == "online":
                proposed = word_logits(online, joint_states(online, masked, image, dropout_g))
            else:
                proposed = word_logits(momentum, joint_states(momentum, masked, image_m, dropout_g))
        replaced, labels_BL = masker.replace(annotated, proposed, labels_BL != IGNORED)
        logits = linear(model.heads["rtd"], joint_states(online, replaced, image, dropout))
        out["rtd"] = scored_mean(F.cross_entropy(logits.transpose(1, 2), labels_BL, reduction="none"), labels_BL)

    return out


def contrastive(
    features: tuple[Tensor, Tensor],
    features_m: tuple[Tensor, Tensor],
    temperature: Tensor,
    queue: FeatureQueue,
    identity_B: Tensor,
    fidelity: Fidelity,
    alpha: float,
    within: bool,
) -> Tensor:
    """L_cl: image and text against image and text, each a mean over rows of a dense cross-entropy (MPS 62-103).

    Unless `within` a modality too, L_itc: image against text and text against image.
    """
    size = len(identity_B)
    if fidelity.contrastive_keys == "queue":
        queue = copy.deepcopy(queue)
        own = (int(queue.pointer) + torch.arange(size)) % len(queue.identities)  # where the batch comes to lie
        assert size <= len(queue.identities), "the batch must fit into the queue to be found there"
        plain_push(queue, *features_m, identity_B)
        keys, whose_K = (queue.images.clone(), queue.texts.clone()), queue.identities
    else:
        own = torch.arange(size)
        images, texts = features_m
        keys = torch.cat([images, queue.images.clone()]), torch.cat([texts, queue.texts.clone()])
        whose_K = torch.cat([identity_B, queue.identities])

    positive_BK = (identity_B[:, None] == whose_K[None, :]).to(temperature.dtype)
    if fidelity.contrastive_positives == "own":
        positive_BK = torch.zeros_like(positive_BK)
        positive_BK[torch.arange(size), own] = 1
    hard_BK = positive_BK / positive_BK.sum(1, keepdim=True)

    terms = []
    for queries, queries_m in zip(features, features_m, strict=True):
        for keys_KE in keys:
            targets = hard_BK
            if fidelity.contrastive_soft_targets:
                with torch.no_grad():
                    targets = alpha * (queries_m @ keys_KE.T / temperature).softmax(1) + (1 - alpha) * hard_BK
            logits = queries @ keys_KE.T / temperature
            terms.append(-(logits.log_softmax(1) * targets).sum(1).mean())
    return (terms[0] + terms[1] + terms[2] + terms[3]) / 4 if within else (terms[1] + terms[2]) / 2


def scored_mean(values_BL: Tensor, labels_BL: Tensor) -> Tensor:
    """Mean over the positions that have a label; 0 if none has."""
    scored = labels_BL != IGNORED
    return (values_BL * scored).sum() / scored.sum().clamp(min=1)


class Masker(NamedTuple):
    """Masks and replaces words of a share's captions."""

    share: Share
    fidelity: Fidelity
    special: SpecialIds
    vocabulary: int

    def exempt(self, text: Tokens) -> Tensor:
        """Cells [B, L] that are neither masked nor replaced nor scored: padding, [CLS], and [SEP] if so read."""
        cells = ~text.mask | (text.ids == self.special.cls)
        return cells if self.fidelity.mask_separator else cells | (text.ids == self.special.sep)

    def mask(self, text: Tokens, kind: str, rate: float) -> tuple[Tokens, Tensor]:
        """The masked text and its labels [B, L], the original word at chosen cells (MPS 240-257)."""
        length = text.ids.shape[1]
        chosen = self.share.bernoulli(f"{kind} select", rate, length) & ~self.exempt(text)
        ids, labels, to_mask = text.ids.clone(), text.ids.clone(), chosen
        labels[~chosen] = IGNORED
        if self.fidelity.mask_corruption == "bert":
            to_mask = chosen & self.share.bernoulli(f"{kind} replace", 0.8, length)
            to_random = chosen & ~to_mask & self.share.bernoulli(f"{kind} random", 0.5, length)
            ids[to_random] = self.share.integers(f"{kind} words", self.vocabulary, length)[to_random]
        ids[to_mask] = self.special.mask
        return Tokens(ids, text.mask), labels

    def replace(self, text: Tokens, logits_BLV: Tensor, masked_BL: Tensor) -> tuple[Tokens, Tensor]:
        """The text with proposed words in place and its labels [B, L], 1 = another word (MPS 259-269)."""
        where = ~self.exempt(text) if self.fidelity.rtd_replace == "all" else masked_BL
        words_BLV, best_BL, ids = logits_BLV.softmax(-1), logits_BLV.argmax(-1), text.ids.clone()
        sampling = self.fidelity.rtd_choice == "sample"
        ids[where] = self.share.words("rtd sampled words", words_BLV, where) if sampling else best_BL[where]
        labels = (ids != text.ids).long()
        labels[self.exempt(text)] = IGNORED
        if self.fidelity.rtd_ignore == "sampled-special":
            # released code: the rule looks at the word that is there now (MPS 267-268)
            labels[(ids == self.special.pad) | (ids == self.special.cls)] = IGNORED
        return Tokens(ids, text.mask), labels


# What else a training step does, and retrieval.


@torch.no_grad()
def plain_ema(momentum: nn.Module, online: nn.Module, m: float) -> None:
    """theta_hat <- m theta_hat + (1 - m) theta, tensor by tensor (MPS 209-213)."""
    source = dict(online.named_parameters())
    for name, parameter in momentum.named_parameters():
        parameter.copy_(parameter * m + source[name] * (1 - m))


@torch.no_grad()
def plain_push(queue: FeatureQueue, images: Tensor, texts: Tensor, identities: Tensor) -> None:
    """Overwrite the oldest entries, slice by slice up to the end of the ring and on from its start (MPS 215-236)."""
    size, pointer, done = len(queue.identities), int(queue.pointer), 0
    while done < len(identities):
        count = min(size - pointer, len(identities) - done)
        for buffer, new in ((queue.images, images), (queue.texts, texts), (queue.identities, identities)):
            buffer[pointer : pointer + count] = new[done : done + count]
        pointer, done = (pointer + count) % size, done + count
    queue.pointer.fill_(pointer)


@torch.no_grad()
def plain_rerank(
    model: RaSa, image_tokens: Tensor, ids: Tensor, mask: Tensor, candidates_TC: Tensor, ranking_score: str = "logit"
) -> Tensor:
    """Scores [T, C] of each text with its candidates, query by query (RET 111-129).

    `image_tokens` [images, M, vision width] may lie elsewhere than the model and are then moved query by query.
    """
    device = model.temperature.device
    rectangles = zip(ids.split(TEXTS_PER_CALL), mask.split(TEXTS_PER_CALL), strict=True)
    states = [text_states(model.encoders, Tokens(i.to(device), m.to(device)), 0.0) for i, m in rectangles]
    rows = []
    for text_LD, mask_L, chosen_C in zip(torch.cat(states), mask.to(device), candidates_TC, strict=True):
        image_CM = image_tokens[chosen_C.to(image_tokens.device)].to(device)
        text_CLD, mask_CL = text_LD.repeat(len(image_CM), 1, 1), mask_L.repeat(len(image_CM), 1)
        logits = linear(model.heads["itm"], fuse(model.encoders, text_CLD, mask_CL, image_CM, 0.0)[:, 0])
        rows.append(logits[:, 1] if ranking_score == "logit" else logits.softmax(1)[:, 1].logit())
    return torch.stack(rows)
