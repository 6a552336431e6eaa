"""Honest mistakes of annotators: a neighbouring value told in place of what the image shows."""

from collections.abc import Mapping

import numpy as np

from rasa.data.synthetic.values import NONE

Confusions = Mapping[str, tuple[str, ...]]  # a value and what it is taken for
COLOURS: Confusions = {
    "black": ("dark blue", "dark green", "grey"),
    "white": ("beige", "grey"),
    "grey": ("black", "beige", "light blue"),
    "red": ("orange", "dark red", "pink"),
    "dark red": ("brown", "red", "purple"),
    "pink": ("red", "purple", "beige"),
    "orange": ("red", "yellow", "brown"),
    "yellow": ("orange", "beige"),
    "green": ("dark green", "blue"),
    "dark green": ("black", "green", "grey"),
    "light blue": ("blue", "grey", "white"),
    "blue": ("dark blue", "light blue", "purple"),
    "dark blue": ("black", "blue", "purple"),
    "purple": ("dark blue", "pink", "dark red"),
    "brown": ("dark red", "black", "beige"),
    "beige": ("white", "yellow", "brown"),
}
HAIR_COLOURS: Confusions = {
    "black": ("brown",),
    "brown": ("black", "red", "blond"),
    "blond": ("brown", "white"),
    "red": ("brown", "blond"),
    "grey": ("white", "blond"),
    "white": ("grey", "blond"),
}
PATTERNS: Confusions = {"stripes": ("checks",), "checks": ("stripes", "dots"), "dots": ("checks",)}
# The facts that can be mistaken, in the order of their draws.
CONFUSIONS: Mapping[str, Confusions] = {
    "hair": {
        "long": ("ponytail", "curly"),
        "short": ("balding", "bob"),
        "ponytail": ("long", "bun"),
        "bun": ("short",),
        "bob": ("short", "curly"),
        "curly": ("bob",),
        "balding": ("short",),
    },
    "hair_colour": HAIR_COLOURS,
    "top": {
        "t-shirt": ("polo shirt", "tank top"),
        "shirt": ("blouse", "polo shirt", "sweater"),
        "sweater": ("shirt",),
        "polo shirt": ("t-shirt", "shirt"),
        "tank top": ("t-shirt",),
        "blouse": ("shirt", "sweater"),
    },
    "top_colour": COLOURS,
    "top_pattern": PATTERNS,
    "top_accent": COLOURS,
    "outer": {
        "jacket": ("coat", "hoodie", "blazer"),
        "puffer jacket": ("vest", "jacket"),
        "coat": ("jacket", "blazer"),
        "hoodie": ("jacket",),
        "vest": ("puffer jacket",),
        "blazer": ("jacket", "coat"),
    },
    "outer_colour": COLOURS,
    "lower": {
        "jeans": ("trousers", "leggings"),
        "trousers": ("jeans", "sweatpants"),
        "shorts": ("skirt",),
        "sweatpants": ("trousers", "leggings"),
        "leggings": ("jeans", "trousers"),
        "skirt": ("shorts",),
    },
    "lower_colour": COLOURS,
    "lower_pattern": PATTERNS,
    "lower_accent": COLOURS,
    "shoes": {
        "sneakers": ("leather shoes",),
        "boots": ("leather shoes",),
        "sandals": ("heels",),
        "heels": ("sandals", "leather shoes"),
        "leather shoes": ("sneakers", "boots"),
    },
    "shoes_colour": COLOURS,
    "bag": {"shoulder bag": ("handbag", "tote bag"), "handbag": ("shoulder bag",), "tote bag": ("shoulder bag",)},
    "bag_colour": COLOURS,
    "hat": {"cap": ("beanie",), "beanie": ("cap",), "sun hat": ("cap",)},
    "hat_colour": COLOURS,
    "scarf_colour": COLOURS,
    "carried": {"cup": ("bottle",), "bottle": ("cup",), "book": ("folder",), "folder": ("book",)},
    "carried_colour": COLOURS,
}


def mistaken(seen: Mapping[str, str], rng: np.random.Generator, probability: float) -> dict[str, str]:
    """What is `seen` as an annotator takes it: each value of `CONFUSIONS` for a neighbour with `probability`.

    The draws are the same at any probability, so that a higher one adds mistakes.
    """
    taken = dict(seen)
    for (name, table), (roll, which) in zip(CONFUSIONS.items(), rng.random((len(CONFUSIONS), 2)).tolist(), strict=True):
        if roll < probability:
            others = [value for value in table.get(seen.get(name, NONE), ()) if value not in _second(taken, name)]
            if others:
                taken[name] = others[int(which * len(others))]
    return taken


def _second(taken: Mapping[str, str], name: str) -> tuple[str, ...]:
    """The other colour of a pattern, which a colour cannot be taken for."""
    slot, _, field = name.partition("_")
    other = {"colour": "accent", "accent": "colour"}.get(field)
    return () if other is None else (taken.get(f"{slot}_{other}", NONE),)
