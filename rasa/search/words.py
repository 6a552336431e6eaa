"""A query's words: which are read, and which the vocabulary lacks."""

from collections.abc import Sequence
from typing import NamedTuple

from rasa.data.captions import clean_caption
from rasa.data.tokenizer import Tokenizer

LONGEST_QUERY = 1000  # characters; more is refused before anything is computed


class Read(NamedTuple):
    """A query as the model reads it."""

    text: str
    words: tuple[str, ...]
    unread: tuple[str, ...]  # words behind the longest caption that the model takes
    unknown: frozenset[int]  # words that the vocabulary lacks, or can only spell


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


def without_each(words: Sequence[str]) -> list[str]:
    """The query without each of its words."""
    return [" ".join([*words[:place], *words[place + 1 :]]) for place in range(len(words))]
