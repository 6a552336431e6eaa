"""Coarse captions, as alternative texts on the web are: one or two facts in 4 to 9 words, basic colours, generic nouns.

They are what the common start is pre-trained on (`BenchmarkParams.captions: coarse`): ALBEF's web captions name what is
there ("a man in a blue shirt") and leave out what tells one person from the next.
"""

from collections.abc import Mapping

import numpy as np

from rasa.data.synthetic.describe import Caption, Draws
from rasa.data.synthetic.people import chance

FEWEST_WORDS, MOST_WORDS = 4, 9
DRAWS = 24  # more numbers than any caption needs
# The eleven basic colour terms (Berlin and Kay 1969) as far as they are met.
BASIC_COLOURS: Mapping[str, str] = {
    "dark red": "red",
    "dark green": "green",
    "light blue": "blue",
    "dark blue": "blue",
    "beige": "brown",
}
GENERIC: Mapping[str, str] = {
    "t-shirt": "shirt",
    "polo shirt": "shirt",
    "tank top": "top",
    "blouse": "top",
    "puffer jacket": "jacket",
    "blazer": "jacket",
    "trousers": "pants",
    "sweatpants": "pants",
    "leggings": "pants",
    "long skirt": "skirt",
    "sneakers": "shoes",
    "sandals": "shoes",
    "heels": "shoes",
    "leather shoes": "shoes",
    "shoulder bag": "bag",
    "handbag": "bag",
    "tote bag": "bag",
    "cap": "hat",
    "beanie": "hat",
    "sun hat": "hat",
    "folder": "book",
    "shopping bag": "bag",
}
PLURAL = ("jeans", "pants", "shorts", "shoes", "boots", "glasses", "sunglasses")
# How readily an author thinks of a thing; a picture's subject and its clothes come first.
SALIENCE: Mapping[str, float] = {
    "top": 3,
    "outer": 3,
    "lower": 2,
    "bag": 1,
    "carried": 1,
    "hat": 1,
    "hair": 1,
    "shoes": 0.5,
    "scarf": 0.5,
    "glasses": 0.5,
}
NAMED_COLOUR = 0.9  # share of the things whose colour is told
ALONE = 0.15  # share of the captions that tell of one thing only
FRAMES = ("{}", "{}", "{}", "photo of {}", "picture of {}", "{} outdoors", "{} standing")


def alt_text(seen: Mapping[str, str], rng: np.random.Generator) -> Caption:
    """One or two of the things that are `seen`, in 4 to 9 words; with the names in `seen` that it tells."""
    draws = Draws(rng.random(DRAWS).tolist())
    person = ("woman", "lady", "girl") if seen["sex"] == "woman" else ("man", "guy", "man")
    noun, told = person[int(draws.random() ** 2 * len(person))], ["sex"]
    if seen["age"] == "elderly" and chance(draws, 0.5):
        noun, told = f"old {noun}", [*told, "age"]
    things = [slot for slot in SALIENCE if slot in seen]
    start, phrases = f"{_article(noun)} {noun}", list[str]()
    text = start
    for _ in range(1 if chance(draws, ALONE) else 2):
        if not things:
            break
        slot = _drawn(things, draws)
        things.remove(slot)
        phrase, facts = _thing(slot, seen, draws)
        phrases.append(f"{_link(slot, seen, draws)} {phrase}")
        longer = f"{start} {_joined(phrases)}"
        if len(longer.split()) <= MOST_WORDS:
            text, told = longer, [*told, *facts]
    framed = FRAMES[int(draws.random() * len(FRAMES))].format(text)
    text = framed if len(framed.split()) <= MOST_WORDS else text
    return Caption(text[0].upper() + text[1:], tuple(told))


def _drawn(things: list[str], draws: Draws) -> str:
    point = draws.random() * sum(SALIENCE[slot] for slot in things)
    for slot in things:
        point -= SALIENCE[slot]
        if point < 0:
            return slot
    return things[-1]


def _thing(slot: str, seen: Mapping[str, str], draws: Draws) -> tuple[str, list[str]]:
    colour, named = seen.get(f"{slot}_colour"), chance(draws, NAMED_COLOUR)
    if slot == "hair":
        colour = BASIC_COLOURS.get(seen["hair_colour"], seen["hair_colour"])
        return f"{colour} hair", ["hair_colour"]
    noun = GENERIC.get(seen[slot], seen[slot])
    if colour is None or not named:
        return noun if noun in PLURAL else f"{_article(noun)} {noun}", [slot]
    colour = BASIC_COLOURS.get(colour, colour)
    return f"{colour} {noun}" if noun in PLURAL else f"{_article(colour)} {colour} {noun}", [slot, f"{slot}_colour"]


def _link(slot: str, seen: Mapping[str, str], draws: Draws) -> str:
    if slot in ("hair", "bag", "carried", "glasses") or (slot == "outer" and seen["outer_state"] == "held"):
        return "with"
    return ("in", "wearing", "in")[int(draws.random() * 3)]


def _joined(phrases: list[str]) -> str:
    """Two things after the same word share it: "in a red shirt and blue jeans"."""
    if len(phrases) == 2 and phrases[0].split()[0] == phrases[1].split()[0]:
        return f"{phrases[0]} and {phrases[1].split(' ', 1)[1]}"
    return " ".join(phrases)


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
