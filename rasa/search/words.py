"""A query's words: which are read, which the vocabulary lacks, and wrong words to put in their place.

What is said of a word beside an image is compared with what is said of wrong ones in its place (the words are those of
rasa/evaluation/word_probe.py).
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

from rasa.data.tokenizer import Tokenizer, clean_caption
from rasa.draws import derive
from rasa.evaluation.word_probe import KINDS, Place, exchangeable, exchanged_at

LONGEST_QUERY = 1000  # characters; more is refused before anything is computed
WRONG = 6  # wrong words tried for each that the probe knows


class Read(NamedTuple):
    """A query as the model reads it."""

    text: str
    words: tuple[str, ...]
    unread: tuple[str, ...]  # words behind the longest caption that the model takes
    unknown: frozenset[int]  # words that the vocabulary lacks, or can only spell


class Said(NamedTuple):
    """A query and where in it the word stands that is asked about."""

    text: str
    start: int
    stop: int


class Probed(NamedTuple):
    """A word, or several that mean one thing, in its query and queries with a wrong one instead."""

    words: tuple[int, ...]
    own: Said
    wrong: tuple[Said, ...]


def read_query(query: str, tokenizer: Tokenizer, max_words: int, max_tokens: int) -> Read:
    """The query cleaned as captions are, cut at the words and tokens that the model reads."""
    cleaned = clean_caption(query, len(query) + 1).split()
    words = cleaned[:max_words]
    lengths = [len(_pieces(word, tokenizer)) for word in words]
    room, kept = max_tokens - 2, 0  # less [CLS] and [SEP]
    while kept < len(words) and room >= lengths[kept]:
        room, kept = room - lengths[kept], kept + 1
    words = words[:kept]
    unknown = {place for place, word in enumerate(words) if _is_unknown(word, tokenizer)}
    return Read(" ".join(words), tuple(words), tuple(cleaned[kept:]), frozenset(unknown))


def _is_unknown(word: str, tokenizer: Tokenizer) -> bool:
    """Whether the vocabulary has no piece of a word, or can only spell it."""
    pieces = _pieces(word, tokenizer)
    spelt = [piece.removeprefix("##") for piece in tokenizer.decode_tokens(pieces)]
    return set(pieces) <= {tokenizer.unk_id} or (len(pieces) > 1 and all(len(piece) == 1 for piece in spelt))


def _pieces(word: str, tokenizer: Tokenizer) -> list[int]:
    pieces: list[int] = tokenizer.encode([word]).ids[0, 1:-1].tolist()
    return pieces


def probed_words(text: str) -> list[Probed]:
    """Colours, garments and accessories of a query in their order, each with WRONG queries (or fewer) that lie."""
    found = []
    for kind in KINDS:
        for place in exchangeable(text, kind):
            drawn = random.Random(derive(0, "search", text, place.start))
            others = drawn.sample(place.others, min(WRONG, len(place.others)))
            first = text[: place.start].count(" ")
            words = tuple(range(first, first + text[place.start : place.stop].count(" ") + 1))
            own = Said(text, place.start, place.stop)
            found.append(Probed(words, own, tuple(said_at(text, place, word) for word in others)))
    return sorted(found)


def said_at(text: str, place: Place, word: str) -> Said:
    """The query with another word there; what stands before it may change, too: its article."""
    asked = exchanged_at(text, place, word)
    stop = len(asked) - len(text[place.stop :])
    return Said(asked, stop - len(word), stop)


def without_each(words: Sequence[str]) -> list[str]:
    """The query without each of its words."""
    return [" ".join([*words[:place], *words[place + 1 :]]) for place in range(len(words))]
