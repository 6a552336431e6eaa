"""Which exchanged word leaves a caption's meaning: names of one value, where the whole name stands."""

import pytest

from rasa.data.synthetic.synonyms import Synonyms, names_of_one_value
from rasa.data.tokenizer import Tokenizer, tokenizer_from_vocabulary
from rasa.weights import start


@pytest.fixture(scope="module")
def synonyms():
    return Synonyms(tokenizer_from_vocabulary(start.VOCABULARY))


@pytest.mark.parametrize(
    ("caption", "word", "new", "same"),
    [
        ("a grey sweater", "sweater", "pullover", True),
        ("a grey pullover", "pullover", "jumper", True),
        ("a grey sweater", "sweater", "jacket", False),  # another thing
        ("a grey sweater", "grey", "gray", True),
        ("a grey sweater", "grey", "black", False),  # another value
        ("with long black hair", "black", "dark", True),
        ("with a black coat", "black", "dark", False),  # of hair alone
        ("long black hair", "long", "short", False),
        ("a padded jacket", "padded", "down", True),
        ("a padded bag", "padded", "down", False),  # its name is not there
        ("walking down", "down", "padded", False),
        ("in light blue", "light", "pale", True),
        ("a light bag", "light", "pale", False),
        ("the lady", "lady", "woman", True),
        ("the lady", "lady", "man", False),
        ("a sweater", "sweater", "sweater", False),  # no exchange
    ],
)
def test_same_is_another_name_of_the_same_value(synonyms, caption, word, new, same):
    pieces = caption.split()
    assert synonyms.same(pieces, pieces.index(word), new) is same


def test_it_looks_at_the_place_that_was_exchanged(synonyms):
    """The second of two equal words, of which only one has its name around it."""
    pieces = ["a", "dark", "coat", "and", "long", "dark", "hair"]
    assert not synonyms.same(pieces, 1, "black") and synonyms.same(pieces, 5, "black")


def test_names_in_several_pieces_count_as_a_whole():
    """A vocabulary that splits pull ##over: names of two pieces differ from those of one in more than one."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "pull", "##over", "jumper", "sweater", "lady", "woman"]
    synonyms = Synonyms(Tokenizer({word: number for number, word in enumerate(words)}, "by hand"))
    assert synonyms.same(["jumper"], 0, "sweater") and not synonyms.same(["pull", "##over"], 1, "jumper")


def test_a_value_has_no_name_twice():
    assert all(len(set(names)) == len(names) for names in names_of_one_value())
