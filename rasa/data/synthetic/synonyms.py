"""Which exchanged word leaves the meaning of a caption: by the built-in benchmark's own names for each value.

Two names of one value that differ in one word piece make a pair: "sweater" and "pullover", "padded jacket" and "down
jacket". A word counts only where its whole name stands in the caption, so that `dark` for `black` is the same of hair
and another thing of a coat. Verbs are left out: what one does with a thing depends on it.
"""

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

from rasa.data.synthetic.vocabulary import (
    ADJECTIVES,
    COLOUR_WORDS,
    FIT_ADJECTIVES,
    HAIR_COLOUR_WORDS,
    HAIR_PHRASES,
    NOUNS,
    OCCLUDERS,
    PATTERN_ADJECTIVES,
    PATTERN_NOUNS,
    PEOPLE,
    PLACES,
    PRINT_NOUNS,
    VIEWS,
)
from rasa.data.tokenizer import Tokenizer

Pieces = tuple[str, ...]


class _Name(NamedTuple):
    """A name as word pieces, and the place in it that may take another one."""

    pieces: Pieces
    place: int


def names_of_one_value() -> Iterator[tuple[str, ...]]:
    """The names of each value; those of hair together with its colour."""
    for words in (COLOUR_WORDS, *NOUNS.values(), PATTERN_ADJECTIVES, PATTERN_NOUNS, FIT_ADJECTIVES, PEOPLE, ADJECTIVES):
        yield from words.values()
    for words in (VIEWS, OCCLUDERS, PLACES):
        yield from words.values()
    yield PRINT_NOUNS
    for phrases in HAIR_PHRASES.values():
        for colours in HAIR_COLOUR_WORDS.values():
            yield tuple(phrase.format(colour) for phrase in phrases for colour in colours)


class Synonyms:
    """The pairs as the word pieces of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer):
        self._pairs: dict[tuple[str, str], list[_Name]] = {}
        for names in names_of_one_value():
            encoded = [tuple(tokenizer.decode_tokens(ids)[1:-1]) for ids in _ids(tokenizer, names)]
            for one, other in permutations(dict.fromkeys(encoded), 2):
                differing = [place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]]
                if len(one) == len(other) and len(differing) == 1:
                    place = differing[0]
                    self._pairs.setdefault((one[place], other[place]), []).append(_Name(one, place))

    def same(self, pieces: Sequence[str], place: int, new: str) -> bool:
        """Whether the caption means the same with `new` in that place, all else as it was."""
        for name in self._pairs.get((pieces[place], new), ()):
            first = place - name.place
            if first >= 0 and tuple(pieces[first : first + len(name.pieces)]) == name.pieces:
                return True
        return False


def _ids(tokenizer: Tokenizer, names: Sequence[str]) -> list[list[int]]:
    tokens = tokenizer.encode(list(names))
    return [ids[mask].tolist() for ids, mask in zip(tokens.ids, tokens.mask, strict=True)]
