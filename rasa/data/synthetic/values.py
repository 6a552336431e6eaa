"""Value tables: what there is among people and things, and how often."""

from collections.abc import Mapping

SPLITS = ("train", "val", "test")
PLACES = ("street", "park", "hall", "plaza", "shop", "underpass")  # one camera in each, numbered from 1
NONE = "none"

Table = Mapping[str, float]  # values and their relative weights
COLOURS: Table = {
    "black": 3,
    "white": 3,
    "grey": 2.5,
    "red": 2,
    "dark red": 1,
    "pink": 1.3,
    "orange": 1.2,
    "yellow": 1.3,
    "green": 1.5,
    "dark green": 1,
    "light blue": 1.5,
    "blue": 2,
    "dark blue": 1.5,
    "purple": 1.2,
    "brown": 1.2,
    "beige": 1.2,
}
DENIM: Table = {"blue": 3, "dark blue": 3, "light blue": 2, "black": 2, "grey": 1, "white": 0.5}
LEATHER: Table = {"black": 4, "brown": 3, "beige": 1, "grey": 1, "dark red": 1, "white": 1}
HAIR_COLOURS: Table = {"black": 4, "brown": 4, "blond": 2.5, "red": 1}
OLD_HAIR: Table = {"grey": 1, "white": 1}
BUILDS: Table = {"average": 6, "slim": 2, "stout": 2}
SKINS: Table = {"pale": 4, "tan": 3, "brown": 2, "dark": 2}
HAIR: Mapping[str, Table] = {
    "woman": {"long": 4, "ponytail": 3, "bun": 2, "bob": 3, "curly": 1.5, "short": 1},
    "man": {"short": 7, "curly": 2, "balding": 2, "long": 1},
}
TOPS: Mapping[str, Table] = {
    "woman": {"t-shirt": 4, "blouse": 2, "sweater": 3, "tank top": 2, "shirt": 2, "dress": 3},
    "man": {"t-shirt": 5, "shirt": 4, "sweater": 3, "polo shirt": 3, "tank top": 1},
}
LOWERS: Mapping[str, Table] = {
    "woman": {"jeans": 4, "trousers": 2, "leggings": 2, "skirt": 3, "long skirt": 2, "shorts": 2},
    "man": {"jeans": 5, "trousers": 4, "shorts": 3, "sweatpants": 2.5},
}
SHOES: Mapping[str, Table] = {
    "woman": {"sneakers": 4, "boots": 3, "sandals": 2, "heels": 2},
    "man": {"sneakers": 5, "boots": 2, "sandals": 1, "leather shoes": 3},
}
OUTERS: Table = {NONE: 5, "jacket": 4, "puffer jacket": 2, "coat": 3, "hoodie": 3, "vest": 2, "blazer": 2}
PATTERNS: Table = {"plain": 6, "stripes": 2, "checks": 2, "dots": 1, "print": 2}
FITS: Table = {"regular": 6, "loose": 2, "tight": 1.5}
FITTED = ("t-shirt", "shirt", "sweater", "polo shirt", "jeans", "trousers", "shorts", "sweatpants")  # others have one
SKIRT_PATTERNS: Table = {"plain": 4, "stripes": 1, "checks": 1, "dots": 1}
BAGS: Mapping[str, Table] = {
    "woman": {NONE: 3, "backpack": 3, "shoulder bag": 3, "handbag": 3, "tote bag": 2},
    "man": {NONE: 4, "backpack": 5, "shoulder bag": 3, "tote bag": 1},
}
HATS: Table = {NONE: 7, "cap": 3, "beanie": 2, "sun hat": 1}
GLASSES: Table = {NONE: 7, "glasses": 2, "sunglasses": 1.5}
CARRIED: Table = {
    "phone": 2,
    "cup": 2,
    "bottle": 2,
    "book": 2,
    "folder": 1.5,
    "umbrella": 2,
    "shopping bag": 3,
    "suitcase": 1.5,
    "skateboard": 1,
}
# How an image departs from how its person usually looks: the share of images at noise 1, and under any noise. What
# has two states differs most between images if half of them depart.
DEPARTURES: Mapping[str, tuple[float, float]] = {
    "outer": (0.5, 0.8),
    "bag": (0.35, 0.5),
    "hat": (0.35, 0.5),
    "scarf": (0.35, 0.5),
    "glasses": (0.3, 0.5),
    "carried": (0.6, 0.8),
    "cover": (0.5, 0.75),
    "new top": (0.2, 0.5),
    "new lower": (0.2, 0.5),
    "new shoes": (0.2, 0.5),
}
OUTER_STATES: Table = {"closed": 2, "open": 2, "held": 1.5, "off": 3}
COVERS: Table = {"feet": 1, "legs": 3, "head": 2}
OCCLUDERS: Table = {"car": 1, "hedge": 1, "wall": 1, "frame": 1.5}
HELD_IN_FRONT = ("phone", "cup", "bottle", "book", "folder")  # the body hides these from behind
HANGING = ("umbrella", "shopping bag", "suitcase", "handbag")  # from the hand down, so hidden with the legs
COVERED_HAIR = ("short", "balding", "bun")  # under any hat
BARE_BELOW_KNEE = ("skirt", "shorts")  # no longer than a coat
# What sets the second of two near-twins apart.
CHANGES: Table = {
    "top.colour": 4,
    "outer.colour": 4,
    "lower.colour": 4,
    "shoes.colour": 2,
    "bag.colour": 2,
    "hat.colour": 2,
    "scarf.colour": 2,
    "hair.colour": 2,
    "top.kind": 1,
    "outer.kind": 1,
    "lower.kind": 1,
    "bag.kind": 1,
    "hat.kind": 1,
    "hair.kind": 1,
    "top.pattern": 2,
    "top.accent": 1,
}
