"""Captions from a grammar: what an image shows, told by annotators of several habits in about 20 words."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rasa.data.synthetic.people import chance
from rasa.data.synthetic.values import NONE
from rasa.data.synthetic.vocabulary import (
    ADJECTIVES,
    CARRYING,
    COLOUR_WORDS,
    FIT_ADJECTIVES,
    HAIR_COLOUR_WORDS,
    HAIR_PHRASES,
    HELD_GARMENT,
    MENTIONED,
    NOUNS,
    OCCLUDERS,
    PATTERN_ADJECTIVES,
    PATTERN_NOUNS,
    PEOPLE,
    PLACES,
    PLURALS,
    PRINT_NOUNS,
    VIEWS,
)

FEWEST_WORDS, MOST_WORDS = 15, 25
SLOTS = (
    "hair",
    "glasses",
    "hat",
    "scarf",
    "outer",
    "top",
    "lower",
    "shoes",
    "bag",
    "carried",
    "held",
    "occluder",
    "view",
    "place",
)
DRAWS = 16  # numbers for each slot, more than any phrase needs
TARGETS = (18, 19, 20, 21, 22, 23)


class Caption(NamedTuple):
    """A caption and the names in `seen` whose values it tells."""

    text: str
    facts: tuple[str, ...]


class Phrase(NamedTuple):
    """A piece of a caption, as above."""

    text: str
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Parts:
    """What an annotator is going to say, in pieces that the styles put together."""

    person: str
    she: str
    hair: str
    worn: list[str]
    doing: list[str]


def words(caption: str) -> list[str]:
    """The lower-case words of a caption, e.g. ["a", "t-shirt"]; punctuation is dropped."""
    return re.findall(r"[a-z]+(?:-[a-z]+)*", caption.lower())


class Draws:
    """Uniform numbers drawn beforehand, read one after the other."""

    def __init__(self, numbers: Iterable[float]):
        self._numbers = iter(numbers)

    def random(self) -> float:
        """The next one."""
        return next(self._numbers)


def describe(seen: Mapping[str, str], rng: np.random.Generator) -> Caption:
    """A caption of what is `seen`, in 15 to 25 words and as near to a drawn 18 to 23 as the things allow.

    Nothing but `seen` goes in, so that a caption cannot tell what its image hides. Each slot has draws of its own:
    an annotator's style, and its words for what stays in sight, do not depend on what else is seen.
    """
    drawn = dict(zip(("habits", "style", "person", *SLOTS), rng.random((3 + len(SLOTS), DRAWS)).tolist(), strict=True))
    her = "her" if seen["sex"] == "woman" else "his"
    person, phrases = _person(seen, Draws(drawn["person"])), dict(_phrases(seen, her, drawn))
    order = _order(list(phrases), drawn)
    habits = Draws(drawn["habits"])
    style = STYLES[int(habits.random() * len(STYLES))]
    head_to_toe = chance(habits, 0.7)
    target = TARGETS[int(habits.random() * len(TARGETS))]
    best = Caption("", ())
    for told in (style, _wordy):  # the second where there is little to see
        kept: list[str] = []
        for slot in order:
            chosen = [each for each in phrases if each in (*kept, slot)] if head_to_toe else [*kept, slot]
            text = told(_parts(person.text, her, phrases, chosen), Draws(drawn["style"]))
            if _length(text) > MOST_WORDS:
                continue
            kept.append(slot)
            if abs(_length(text) - target) < abs(_length(best.text) - target):
                facts = tuple(name for slot in chosen for name in phrases[slot].facts)
                best = Caption(text, (*person.facts, *facts))
        if _length(best.text) >= FEWEST_WORDS:
            break
    return best


def _length(text: str) -> int:
    return len(words(text))


def _order(slots: list[str], drawn: Mapping[str, list[float]]) -> list[str]:
    """The things as they come to mind: the outermost garment, what is worth a mention, what else there is."""
    first = "outer" if "outer" in slots else "top"
    keys = {slot: drawn[slot][-1] + (drawn[slot][-2] >= MENTIONED.get(slot, 1.0)) for slot in slots}
    return sorted(slots, key=lambda slot: -1.0 if slot == first else keys[slot])


def _parts(person: str, her: str, phrases: Mapping[str, Phrase], chosen: Sequence[str]) -> Parts:
    worn = [slot for slot in chosen if slot in WORN]
    doing = [slot for slot in chosen if slot not in WORN and slot != "hair"]
    return Parts(
        person,
        "she" if her == "her" else "he",
        phrases["hair"].text if "hair" in chosen else "",
        [phrases[slot].text for slot in worn],
        [phrases[slot].text for slot in doing],
    )


def _pick(rng: Draws, options: Sequence[str]) -> str:
    """One of `options`, the first ones more often."""
    return options[int(float(rng.random()) ** 1.6 * len(options))]


def _person(seen: Mapping[str, str], rng: Draws) -> Phrase:
    """Without an article, e.g. "slim woman"."""
    noun = _pick(rng, PEOPLE[seen["sex"]])
    for name in ("age", "build"):
        if seen[name] in ADJECTIVES and chance(rng, 0.5):
            return Phrase(f"{_pick(rng, ADJECTIVES[seen[name]])} {noun}", ("sex", name))
    return Phrase(noun, ("sex",))


def _phrases(seen: Mapping[str, str], her: str, drawn: Mapping[str, list[float]]) -> Iterator[tuple[str, Phrase]]:
    """Everything that could be said, by slot and from head to toe."""
    if "hair" in seen:
        rng = Draws(drawn["hair"])
        colour = _pick(rng, HAIR_COLOUR_WORDS[seen["hair_colour"]])
        yield "hair", Phrase(_pick(rng, HAIR_PHRASES[seen["hair"]]).format(colour), ("hair", "hair_colour"))
    if "glasses" in seen:
        yield "glasses", Phrase(_pick(Draws(drawn["glasses"]), NOUNS["glasses"][seen["glasses"]]), ("glasses",))
    held = seen.get("outer_state") == "held"
    for slot in ("hat", "scarf", "outer", "top", "lower", "shoes"):
        if slot in seen and not (slot == "outer" and held):
            yield slot, _garment(slot, seen, Draws(drawn[slot]))
    for slot in ("bag", "carried"):
        if slot in seen:
            yield slot, _held(slot, CARRYING[seen[slot]], seen, her, Draws(drawn[slot]))
    if held:
        thing = _held("outer", HELD_GARMENT, seen, her, Draws(drawn["held"]))
        yield "held", Phrase(thing.text, (*thing.facts, "outer_state"))
    for slot, phrases in (("occluder", OCCLUDERS), ("view", VIEWS), ("place", PLACES)):
        if slot in seen:
            yield slot, Phrase(_pick(Draws(drawn[slot]), phrases[seen[slot]]), (slot,))


def _held(slot: str, ways: Sequence[str], seen: Mapping[str, str], her: str, rng: Draws) -> Phrase:
    thing = _garment(slot, seen, rng)
    return Phrase(_pick(rng, ways).format(thing.text, her=her), thing.facts)


def _garment(slot: str, seen: Mapping[str, str], rng: Draws) -> Phrase:
    """A noun phrase with its article, e.g. "an open red jacket", "a pair of blue jeans"."""
    noun, facts = _pick(rng, NOUNS[slot][seen[slot]]), [slot]
    accent, fit = seen.get(f"{slot}_accent"), seen.get(f"{slot}_fit", NONE)
    if fit in FIT_ADJECTIVES and chance(rng, 0.7):
        noun = f"{_pick(rng, FIT_ADJECTIVES[fit])} {noun}"
        facts.append(f"{slot}_fit")
    colour = _pick(rng, COLOUR_WORDS[seen[f"{slot}_colour"]])
    if accent is not None and chance(rng, 0.8):
        noun = _patterned(colour, noun, seen[f"{slot}_pattern"], _pick(rng, COLOUR_WORDS[accent]), rng)
        facts += [f"{slot}_colour", f"{slot}_pattern", f"{slot}_accent"]
    elif chance(rng, 0.95):
        noun = f"{colour} {noun}"
        facts.append(f"{slot}_colour")
    if slot == "outer" and seen["outer_state"] == "open" and chance(rng, 0.5):
        noun = f"open {noun}"
        facts.append("outer_state")
    if slot in PLURALS and "skirt" not in seen[slot]:
        return Phrase(f"a pair of {noun}" if chance(rng, 0.15) else noun, tuple(facts))
    return Phrase(_a(noun), tuple(facts))


def _patterned(colour: str, noun: str, pattern: str, accent: str, rng: Draws) -> str:
    if pattern == "print":
        where = " on the front" if chance(rng, 0.4) else ""
        return f"{colour} {noun} with {_a(f'{accent} {_pick(rng, PRINT_NOUNS)}')}{where}"
    if chance(rng, 0.4):
        return f"{colour} and {accent} {_pick(rng, PATTERN_ADJECTIVES[pattern])} {noun}"
    return f"{colour} {noun} with {accent} {_pick(rng, PATTERN_NOUNS[pattern])}"


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _listed(items: Sequence[str], rng: Draws) -> str:
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])}{',' if len(items) > 2 and chance(rng, 0.4) else ''} and {items[-1]}"


# Styles: how one annotator puts the parts together


def _plain(parts: Parts, rng: Draws) -> str:
    """A woman with long hair is wearing ... . She is carrying ... ."""
    verb = _pick(rng, ("is wearing", "wears", "is dressed in", "has on"))
    return _sentences(_a(parts.person), f" {verb} {_listed(parts.worn, rng)}.", parts, rng)


def _definite(parts: Parts, rng: Draws) -> str:
    """The woman has long hair and wears ... ."""
    verb = _pick(rng, ("wears", "is wearing", "is dressed in", "is clothed in"))
    return _sentences(f"the {parts.person}", f" {verb} {_listed(parts.worn, rng)}.", parts, rng)


def _sentences(person: str, worn: str, parts: Parts, rng: Draws) -> str:
    doing = _doing(parts, rng)
    if parts.hair and chance(rng, 0.4):
        return _capital(f"{person} with {parts.hair}{worn}") + _told(parts.she, [doing])
    if parts.hair and chance(rng, 0.3):
        return _capital(f"{person} has {parts.hair} and{worn}") + _told(parts.she, [doing])
    return _capital(f"{person}{worn}") + _told(parts.she, [f"has {parts.hair}" if parts.hair else "", doing])


def _doing(parts: Parts, rng: Draws) -> str:
    return f"is {_listed(parts.doing, rng)}" if parts.doing else ""


def _told(she: str, clauses: Sequence[str]) -> str:
    told = " and ".join(clause for clause in clauses if clause)
    return f" {she.capitalize()} {told}." if told else ""


def _label(parts: Parts, rng: Draws) -> str:
    """Woman, long hair, black jacket, blue jeans, carrying ... ."""
    things = [re.sub("^(an?|a pair of) ", "", text) for text in (parts.hair, *parts.worn) if text]
    return _capital(", ".join([parts.person, *things, *parts.doing])) + "."


def _dressed(parts: Parts, rng: Draws) -> str:
    """A woman in a black jacket and blue jeans, carrying ..., with long hair."""
    hair = [f"with {parts.hair}"] if parts.hair else []
    clothes = _pick(rng, ("in", "wearing", "dressed in"))
    tail = parts.doing + hair if chance(rng, 0.5) else hair + parts.doing
    return _capital(", ".join([f"{_a(parts.person)} {clothes} {_listed(parts.worn, rng)}", *tail])) + "."


def _wearing(parts: Parts, rng: Draws) -> str:
    """Wearing a black jacket and blue jeans, the woman has long hair and is carrying ... ."""
    opening = _pick(rng, ("wearing", "dressed in", "in"))
    worn, hair = _listed(parts.worn, rng), f"has {parts.hair}" if parts.hair else ""
    told = " and ".join(clause for clause in (hair, _doing(parts, rng)) if clause)
    return _capital(f"{opening} {worn}, the {parts.person} {told or 'is walking along'}.")


def _shown(parts: Parts, rng: Draws) -> str:
    """There is a woman with long hair who wears ... . She is carrying ... ."""
    opening = _pick(rng, ("there is", "the picture shows", "this is", "you can see"))
    hair = f" with {parts.hair}" if parts.hair else ""
    verb = _pick(rng, ("who wears", "who is wearing", "wearing"))
    shown = f"{opening} {_a(parts.person)}{hair} {verb} {_listed(parts.worn, rng)}."
    return _capital(shown) + _told(parts.she, [_doing(parts, rng)])


def _active(parts: Parts, rng: Draws) -> str:
    """The woman carrying ... wears ... and has long hair."""
    doing = f" {_listed(parts.doing, rng)}" if parts.doing else ""
    hair = f" and has {parts.hair}" if parts.hair else ""
    article = _pick(rng, ("the", "this", "that"))
    verb = _pick(rng, ("wears", "has on"))
    return _capital(f"{article} {parts.person}{doing} {verb} {_listed(parts.worn, rng)}{hair}.")


def _wordy(parts: Parts, rng: Draws) -> str:
    """In this picture there is a woman who has long hair. She is wearing ... and is ... ."""
    hair = f" who has {parts.hair}" if parts.hair else ""
    told = _told(parts.she, [f"is wearing {_listed(parts.worn, rng)}", _doing(parts, rng)])
    return f"In this picture there is {_a(parts.person)}{hair}.{told}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


STYLES: tuple[Callable[[Parts, Draws], str], ...] = (
    _plain,
    _plain,
    _definite,
    _label,
    _dressed,
    _wearing,
    _shown,
    _active,
)
WORN = ("glasses", "hat", "scarf", "outer", "top", "lower", "shoes")
