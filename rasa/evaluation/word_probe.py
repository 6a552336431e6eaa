"""The sensitivity probe: one word of a query is exchanged for a wrong one; how far do the true images fall?

The paper claims that RTD makes the representation sensitive to such words (3.3); this measures it. Kinds of words:
colours, garments, accessories, each exchanged for another of the same sort (a garment of the upper body for another one
of it). Which queries, which word and what it becomes do not depend on model or seed, so that rows answer the same
questions.
Shape suffixes: Q exchanged queries, N gallery images, K candidates.
"""

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from rasa.config.run import Config
from rasa.data.captions import clean_caption
from rasa.data.dataset import Split
from rasa.data.synthetic.vocabulary import COLOUR_WORDS, NOUNS, Words
from rasa.data.tokenizer import Tokenizer
from rasa.draws import derive, generator
from rasa.evaluation.index import top_k
from rasa.evaluation.rank import EncodedGallery, encode_gallery, encode_queries, measure, retrieval_mode
from rasa.evaluation.rerank import rerank
from rasa.model.rasa import RaSa

KINDS = ("colour", "garment", "accessory")
SORTS: dict[str, tuple[Words, ...]] = {
    "colour": (COLOUR_WORDS,),
    "garment": tuple(NOUNS[slot] for slot in ("top", "outer", "lower", "shoes")),
    "accessory": tuple(NOUNS[slot] for slot in ("bag", "hat", "glasses", "carried")),
}
OF_HAIR = r"(?!\s(?:hair|ponytail|bun|bob|curls)\b)"  # a hair colour is not one of these colours


class Exchanged(NamedTuple):
    """EncodedQueries of a split by index, and what each reads with one word exchanged."""

    queries: Tensor
    captions: tuple[str, ...]


class Answer(NamedTuple):
    """Of each query: the score of the image it was written for, and the rank of the first true image, from 1."""

    own_Q: Tensor
    rank_Q: Tensor


def exchanged(captions: Sequence[str], kind: str, number: int) -> Exchanged:
    """At most `number` of the (cleaned) captions that have a word of that kind, drawn without regard to their order."""
    found: dict[int, str] = {}
    for query in torch.randperm(len(captions), generator=generator(0, "probe", kind)).tolist():
        if len(found) == number:
            break
        other = exchange(captions[query], kind, random.Random(derive(0, "probe", kind, query)))
        if other is not None:
            found[query] = other
    queries = sorted(found)
    return Exchanged(torch.tensor(queries, dtype=torch.int64), tuple(found[query] for query in queries))


def exchange(caption: str, kind: str, drawn: random.Random) -> str | None:
    """The caption with one word (or fixed phrase) of that kind made wrong; None if it has none.

    The new word means something else than any word of its sort in the caption.
    """
    places = exchangeable(caption, kind)
    if not places:
        return None
    place = drawn.choice(places)
    return exchanged_at(caption, place, drawn.choice(place.others)) if place.others else None


class Place(NamedTuple):
    """A word (or fixed phrase) of a caption: where it stands, and wrong ones of its sort."""

    start: int
    stop: int
    others: tuple[str, ...]


def exchangeable(caption: str, kind: str) -> list[Place]:
    """Where the (cleaned) caption has a word of that kind, from left to right."""
    pattern, meanings, usual = _lexicon(kind)
    matches = list(pattern.finditer(caption))
    present = {meanings[match[0]] for match in matches}
    return [Place(match.start(), match.end(), _others(meanings[match[0]][0], present, usual)) for match in matches]


def _others(sort: int, present: AbstractSet[tuple[int, str]], usual: Mapping[tuple[int, str], str]) -> tuple[str, ...]:
    return tuple(word for (of, value), word in usual.items() if of == sort and (of, value) not in present)


def exchanged_at(caption: str, place: Place, word: str) -> str:
    """The caption with another word there, and the article that it needs."""
    before = re.sub(r"\ban?\s$", "an " if word[0] in "aeiou" else "a ", caption[: place.start])
    return before + word + caption[place.stop :]


@cache
def _lexicon(kind: str) -> tuple[re.Pattern[str], dict[str, tuple[int, str]], dict[tuple[int, str], str]]:
    """A pattern of all phrases, what each means as (sort, value), and the usual word of each meaning."""
    meanings: dict[str, tuple[int, str]] = {}
    usual: dict[tuple[int, str], str] = {}
    for sort, words in enumerate(SORTS[kind]):
        for value, names in words.items():
            phrases = [clean_caption(name, 10) for name in names]
            usual[sort, value] = phrases[0]
            for phrase in phrases:
                meanings.setdefault(phrase, (sort, value))
    longest_first = "|".join(re.escape(phrase) for phrase in sorted(meanings, key=len, reverse=True))
    return re.compile(rf"\b(?:{longest_first})\b" + (OF_HAIR if kind == "colour" else "")), meanings, usual


@torch.inference_mode()
def sensitivity_figures(
    model: RaSa,
    images: Callable[[], Iterable[Tensor]],
    split: Split,
    tokenizer: Tokenizer,
    config: Config,
    device: torch.device,
) -> dict[str, float]:
    """`falls` of each kind, for at most evaluation.sensitivity queries of it; names like `colour_apart`."""
    evaluation = config.evaluation
    figures: dict[str, float] = {}
    with retrieval_mode(model, device):
        gallery = encode_gallery(
            model, images, len(split.image_files), evaluation.gallery_mib, evaluation.precision, device
        )
        for kind in KINDS:
            probed = exchanged(split.captions, kind, evaluation.sensitivity)
            if not len(probed.queries):
                continue
            written = tuple(split.captions[query] for query in probed.queries.tolist())
            before, after = (
                _answers(model, gallery, split, probed.queries, captions, tokenizer, config, device)
                for captions in (written, probed.captions)
            )
            figures[f"{kind}_queries"] = float(len(written))
            for stage in before:
                fallen = falls(before[stage], after[stage])
                figures |= {f"{kind}_{stage}{name}": value for name, value in fallen.items()}
    return figures


def falls(before: Answer, after: Answer) -> dict[str, float]:
    """What an exchanged word does. Shares in percent.

    `apart`: how often the image that a caption was written for scores higher with it than with the exchanged one (50 if
    the word is not seen at all; ties half). `effect`: mean fall of that score over the standard deviation of the falls.
    `r1`, `r1_exchanged`: queries that rank a true image first. `rank_factor`: by what the rank of the first true image
    is multiplied, as a geometric mean.
    """
    fall = (before.own_Q - after.own_Q).double()
    spread = float(fall.std()) if len(fall) > 1 else 0.0
    figures = {
        "apart": 100 * float((fall > 0).double().mean() + (fall == 0).double().mean() / 2),
        "r1": 100 * float((before.rank_Q == 1).double().mean()),
        "r1_exchanged": 100 * float((after.rank_Q == 1).double().mean()),
        "rank_factor": float((after.rank_Q.double().log() - before.rank_Q.double().log()).mean().exp()),
    }
    return figures | ({"effect": float(fall.mean()) / spread} if spread else {})


def _answers(
    model: RaSa,
    gallery: EncodedGallery,
    split: Split,
    queries: Tensor,
    captions: Sequence[str],
    tokenizer: Tokenizer,
    config: Config,
    device: torch.device,
) -> dict[str, Answer]:
    """By the final score under "", and by stage 1 alone under "stage1_" where that is something else."""
    evaluation, fidelity = config.evaluation, config.fidelity
    encoded = tokenizer.encode_all(captions, config.data.max_tokens)
    texts = encode_queries(model, encoded, evaluation.batch_size, evaluation.precision, device)
    own_Q1 = torch.as_tensor(split.caption_images)[queries].to(device)[:, None]
    _, candidates_QK = top_k(texts.features_TE, gallery.features_NE, evaluation.topk)
    scores_QK = match_Q = None
    if texts.packed is not None:
        both = torch.cat([candidates_QK, own_Q1], 1)
        scores = rerank(
            model,
            gallery.tokens(),
            texts.packed,
            both,
            fidelity.ranking_score,
            evaluation.tokens_per_call,
            evaluation.precision,
        )
        scores_QK, match_Q = scores[:, :-1], scores[:, -1]
    identities = torch.as_tensor(split.image_identities), torch.as_tensor(split.caption_identities)[queries]
    final, stage1, *_ = measure(
        texts.features_TE,
        gallery.features_NE,
        candidates_QK,
        scores_QK,
        fidelity.beyond_topk,
        identities[0].to(device),
        identities[1].to(device),
    )
    similar_Q = (texts.features_TE * gallery.features_NE[own_Q1.squeeze(1)]).sum(1)
    answers = {"": Answer(similar_Q if match_Q is None else match_Q, final.first_rank_T)}
    return answers if match_Q is None else answers | {"stage1_": Answer(similar_Q, stage1.first_rank_T)}
