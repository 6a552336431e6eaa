"""Who is in the benchmark and how an image shows them: drawn attributes, and what of them can be seen.

A `Person` is an identity, a `Shot` one of its images. `seen` alone decides what a shot shows: captions, the
table's visibility columns and the renderer all follow it. Every draw comes from a stream of its own, named by
its kind and place, so that a person never depends on how many others there are.
"""

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

Value = TypeVar("Value")

SPLITS = ("train", "val", "test")
PLACES = ("street", "park", "hall", "plaza", "shop", "underpass")  # one camera in each, numbered from 1
NONE = "none"

# Value tables: what there is, and how often (relative weights).
Table = Mapping[str, float]
COLOURS: Table = {
    "black": 3, "white": 3, "grey": 2.5, "red": 2, "dark red": 1, "pink": 1.3, "orange": 1.2, "yellow": 1.3,
    "green": 1.5, "dark green": 1, "light blue": 1.5, "blue": 2, "dark blue": 1.5, "purple": 1.2,
    "brown": 1.2, "beige": 1.2,
}  # fmt: skip
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
OUTERS: Table = {NONE: 9, "jacket": 4, "puffer jacket": 2, "coat": 3, "hoodie": 3, "vest": 2, "blazer": 2}
PATTERNS: Table = {"plain": 6, "stripes": 2, "checks": 2, "dots": 1, "print": 2}
SKIRT_PATTERNS: Table = {"plain": 4, "stripes": 1, "checks": 1, "dots": 1}
BAGS: Mapping[str, Table] = {
    "woman": {NONE: 3, "backpack": 3, "shoulder bag": 3, "handbag": 3, "tote bag": 2},
    "man": {NONE: 4, "backpack": 5, "shoulder bag": 3, "tote bag": 1},
}
HATS: Table = {NONE: 7, "cap": 3, "beanie": 2, "sun hat": 1}
GLASSES: Table = {NONE: 7, "glasses": 2, "sunglasses": 1.5}
CARRIED: Table = {
    "phone": 2, "cup": 2, "bottle": 2, "book": 2, "folder": 1.5, "umbrella": 2, "shopping bag": 3,
    "suitcase": 1.5, "skateboard": 1,
}  # fmt: skip
HELD_IN_FRONT = ("phone", "cup", "bottle", "book", "folder")  # the body hides these from behind
HANGING = ("umbrella", "shopping bag", "suitcase", "handbag")  # from the hand down, so hidden with the legs
COVERED_HAIR = ("short", "balding", "bun")  # under any hat
BARE_BELOW_KNEE = ("skirt", "shorts")  # no longer than a coat


@dataclass(frozen=True)
class Item:
    """One thing on a person: a kind, a colour, and for garments a pattern in the colour `accent`."""

    kind: str
    colour: str
    pattern: str = "plain"
    accent: str = NONE


@dataclass(frozen=True)
class Person:
    """What stays the same in all images of an identity. A dress is a top without a lower garment."""

    sex: str
    age: str
    build: str
    skin: str
    hair: Item
    top: Item
    outer: Item | None
    lower: Item | None
    shoes: Item
    bag: Item | None
    hat: Item | None
    scarf: Item | None
    glasses: str
    carried: Item | None


@dataclass(frozen=True)
class Shot:
    """What changes between the images of an identity.

    `gait` is the phase of the step in [0, 1); `outer` is closed, open, held (over the arm) or off; `cover` is
    the part that `occluder` hides: none, feet or legs; `clutter` in [0, 1] is how full the background is.
    """

    camera: int
    view: str
    mirrored: bool
    gait: float
    outer: str
    bag: bool
    hat: bool
    scarf: bool
    glasses: bool
    carried: Item | None
    cover: str
    occluder: str
    clutter: float

    @property
    def wears_outer(self) -> bool:
        """Whether the outer garment is on, open or closed."""
        return self.outer in ("closed", "open")


def stream(seed: int, kind: str, split: str, *place: int) -> np.random.Generator:
    """The draws of one kind at one place: (identity,), (identity, image) or (identity, image, caption)."""
    if len(place) > 3:
        raise ValueError(f"a place has at most three indices, not {len(place)}")
    # A fixed length, because a SeedSequence does not tell trailing zeros from nothing.
    padding = [0] * (3 - len(place))
    words = [seed, zlib.crc32(kind.encode()), SPLITS.index(split), len(place), *place, *padding]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def pick(rng: np.random.Generator, table: Table, exclude: Collection[str] = ()) -> str:
    """One key of `table` outside `exclude`, by weight. Raises ValueError if none is left."""
    options = [(value, weight) for value, weight in table.items() if value not in exclude]
    if not options:
        raise ValueError(f"nothing is left of {', '.join(table)}")
    # By inversion of one uniform number: numpy may change its `choice` between versions, `random` it keeps.
    point = rng.random() * sum(weight for _, weight in options)
    for value, weight in options:
        point -= weight
        if point < 0:
            return value
    return options[-1][0]


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with `probability`."""
    return float(rng.random()) < probability


def is_twin(index: int, twin_share: float) -> bool:
    """Whether identity `index` of a split is one of two near-twins (2k, 2k + 1).

    The pairs are spread evenly instead of drawn, so that a split of any size has its share of them.
    """
    pair = index // 2
    return int((pair + 1) * twin_share) > int(pair * twin_share)


def draw_person(seed: int, split: str, index: int, twin_share: float) -> Person:
    """Identity `index` of `split`: a fresh person or, if the second of two twins, the first one altered."""
    if index % 2 and is_twin(index, twin_share):
        first = _fresh_person(stream(seed, "person", split, index - 1))
        return _altered(first, stream(seed, "twin", split, index))
    return _fresh_person(stream(seed, "person", split, index))


def _fresh_person(rng: np.random.Generator) -> Person:
    sex = "woman" if chance(rng, 0.5) else "man"
    old = chance(rng, 0.12)
    hair = Item(pick(rng, HAIR[sex]), pick(rng, OLD_HAIR if old else HAIR_COLOURS))
    top = _garment(rng, pick(rng, TOPS[sex]), PATTERNS)
    outer = _optional(rng, OUTERS, exclude=(top.colour,))  # or an open jacket and its shirt look like one
    lower = None if top.kind == "dress" else _lower(rng, sex, top.colour)
    return Person(
        sex=sex, age="elderly" if old else "adult", build=pick(rng, BUILDS), skin=pick(rng, SKINS), hair=hair,
        top=top, outer=outer, lower=lower, shoes=_shoes(rng, sex), bag=_optional(rng, BAGS[sex]),
        hat=_optional(rng, HATS),
        scarf=Item("scarf", pick(rng, COLOURS, exclude=(top.colour,))) if chance(rng, 0.15) else None,
        glasses=pick(rng, GLASSES), carried=_carried(rng) if chance(rng, 0.6) else None,
    )  # fmt: skip


def _garment(rng: np.random.Generator, kind: str, patterns: Table) -> Item:
    colour, pattern = pick(rng, COLOURS), pick(rng, patterns)
    accent = NONE if pattern == "plain" else pick(rng, COLOURS, exclude=(colour,))
    return Item(kind, colour, pattern, accent)


def _optional(rng: np.random.Generator, kinds: Table, exclude: Collection[str] = ()) -> Item | None:
    kind = pick(rng, kinds)
    colour = pick(rng, COLOURS, exclude)  # drawn in any case, so that what follows does not shift
    return None if kind == NONE else Item(kind, colour)


def _lower(rng: np.random.Generator, sex: str, top_colour: str) -> Item:
    kind = pick(rng, LOWERS[sex])
    if kind in ("skirt", "long skirt"):
        return _garment(rng, kind, SKIRT_PATTERNS)
    return Item(kind, pick(rng, _palette("lower", kind), exclude=(top_colour,)))


def _shoes(rng: np.random.Generator, sex: str) -> Item:
    kind = pick(rng, SHOES[sex])
    return Item(kind, pick(rng, _palette("shoes", kind)))


def _carried(rng: np.random.Generator) -> Item:
    return Item(pick(rng, CARRIED), pick(rng, COLOURS))


def _palette(slot: str, kind: str) -> Table:
    if kind == "jeans":
        return DENIM
    return LEATHER if slot == "shoes" and kind != "sneakers" else COLOURS


CHANGES: Table = {
    "top.colour": 2, "outer.colour": 2, "lower.colour": 2, "shoes.colour": 2, "bag.colour": 2,
    "hat.colour": 2, "scarf.colour": 2, "hair.colour": 2, "top.kind": 1, "outer.kind": 1,
    "lower.kind": 1, "bag.kind": 1, "hat.kind": 1, "hair.kind": 1, "top.pattern": 2, "top.accent": 1,
}  # fmt: skip


def _altered(person: Person, rng: np.random.Generator) -> Person:
    """`person` with one or two attributes changed, each in a thing that both of the twins have."""
    possible = {name: weight for name, weight in CHANGES.items() if _can_change(person, *name.split("."))}
    done: list[str] = []
    for _ in range(1 if chance(rng, 0.5) else 2):
        done.append(pick(rng, possible, exclude=done))
        slot, field = done[-1].split(".")
        item: Item = getattr(person, slot)
        new = pick(rng, _alternatives(person, slot, field), exclude=_clashes(person, item, slot, field))
        changed: dict[str, Any] = {slot: replace(item, **{field: new})}
        person = replace(person, **changed)
    return person


def _can_change(person: Person, slot: str, field: str) -> bool:
    item = getattr(person, slot)
    if item is None or (field in ("pattern", "accent") and item.pattern == "plain"):
        return False
    return not (field == "kind" and item.kind == "dress")  # another top would need a lower garment


def _alternatives(person: Person, slot: str, field: str) -> Table:
    if field == "kind":
        by_sex = {"top": TOPS, "lower": LOWERS, "bag": BAGS, "hair": HAIR}
        return by_sex[slot][person.sex] if slot in by_sex else {"outer": OUTERS, "hat": HATS}[slot]
    if field == "pattern":
        return PATTERNS
    if slot == "hair":
        return OLD_HAIR if person.age == "elderly" else HAIR_COLOURS
    return _palette(slot, getattr(person, slot).kind)


def _clashes(person: Person, item: Item, slot: str, field: str) -> set[str]:
    """Values that would change nothing, or make something that cannot be told or worn."""
    if field in ("kind", "pattern"):
        return {getattr(item, field), NONE, "plain", "dress"}
    top, worn = (person.top,), (person.outer, person.lower, person.scarf)
    neighbours = {"top": worn, "outer": top, "lower": top, "scarf": top}.get(slot, ())
    return {item.colour, item.accent} | {other.colour for other in neighbours if other is not None}


def draw_shot(person: Person, seed: int, split: str, index: int, image: int) -> Shot:
    """Image `image` of identity `index` of `split`. Cameras and views go round, the rest is drawn."""
    rng = stream(seed, "shot", split, index, image)
    whole = stream(seed, "tour", split, index)
    cameras = _shuffled(whole, range(1, len(PLACES) + 1))
    views = _shuffled(whole, ("front", "back", "side", "front"))
    outer = pick(rng, {"closed": 4, "open": 3.5, "held": 1, "off": 1.5}) if person.outer else "off"
    cover = pick(rng, {NONE: 6.5, "feet": 1.5, "legs": 2})
    occluder = pick(rng, {"car": 1, "hedge": 1, "wall": 1, "frame": 1.5})
    hand_taken = outer == "held" and person.bag is not None and person.bag.kind == "handbag"
    bag = person.bag is not None and chance(rng, 0.6) and not hand_taken
    own, other, carries = person.carried, _carried(rng), rng.random()
    return Shot(
        camera=cameras[image % len(cameras)], view=views[image % len(views)], mirrored=chance(rng, 0.5),
        gait=float(rng.random()), outer=outer, bag=bag,
        hat=person.hat is not None and chance(rng, 0.6),
        scarf=person.scarf is not None and chance(rng, 0.7),
        glasses=person.glasses != NONE and chance(rng, 0.8),
        carried=own if carries < 0.35 else other if carries < 0.6 else None,
        cover=cover, occluder=NONE if cover == NONE else occluder, clutter=float(rng.random()),
    )  # fmt: skip


def _shuffled(rng: np.random.Generator, values: Sequence[Value]) -> list[Value]:
    keys = rng.random(len(values)).tolist()
    return [values[place] for place in sorted(range(len(values)), key=keys.__getitem__)]


def attributes(person: Person) -> dict[str, str]:
    """A person as a flat table row; `none` for what there is not."""
    row = {"sex": person.sex, "age": person.age, "build": person.build, "skin": person.skin}
    for slot in ("hair", "top", "outer", "lower", "shoes", "bag", "hat", "scarf", "carried"):
        row |= _columns(slot, getattr(person, slot))
    return row | {"glasses": person.glasses}


def _columns(slot: str, item: Item | None) -> dict[str, str]:
    item = item or Item(NONE, NONE, NONE)
    columns = {slot: item.kind, f"{slot}_colour": item.colour}
    if slot in ("top", "lower"):
        columns |= {f"{slot}_pattern": item.pattern, f"{slot}_accent": item.accent}
    return columns


def seen(person: Person, shot: Shot) -> dict[str, str]:
    """What the image shows, by the names of `attributes`; what is hidden is absent.

    Besides always `view` and `place`; `outer_state` (closed, open or held) and `occluder` where there is one.
    """
    facts = {"sex": person.sex, "age": person.age, "build": person.build, "skin": person.skin}
    facts |= {"view": shot.view, "place": PLACES[shot.camera - 1]}
    shown = {
        "hair": person.hair if not (person.hat and shot.hat and person.hair.kind in COVERED_HAIR) else None,
        "top": person.top if _top_shows(person, shot) else None,
        "outer": person.outer if shot.outer != "off" else None,
        "lower": person.lower if _lower_shows(person, shot) else None,
        "shoes": person.shoes if shot.cover == NONE else None,
        "bag": person.bag if shot.bag and not _out_of_sight(person.bag, shot) else None,
        "hat": person.hat if shot.hat else None,
        "scarf": person.scarf if shot.scarf else None,
        "carried": shot.carried if not _out_of_sight(shot.carried, shot) else None,
    }
    for slot, item in shown.items():
        if item is not None:
            facts |= {name: value for name, value in _columns(slot, item).items() if value != NONE}
    if shot.glasses and shot.view != "back":
        facts["glasses"] = person.glasses
    if "outer" in facts:
        facts["outer_state"] = shot.outer
    if shot.occluder not in (NONE, "frame"):
        facts["occluder"] = shot.occluder
    return _without_hidden_detail(facts, shot)


def _top_shows(person: Person, shot: Shot) -> bool:
    if person.outer is None or not shot.wears_outer:
        return True
    if shot.outer == "open" and shot.view != "back":
        return True
    sleeves = person.outer.kind == "vest" and person.top.kind != "tank top"
    return sleeves or (person.top.kind == "dress" and person.outer.kind != "coat" and shot.cover != "legs")


def _lower_shows(person: Person, shot: Shot) -> bool:
    if person.lower is None or shot.cover == "legs":
        return False
    coat = person.outer is not None and person.outer.kind == "coat"
    closed = shot.outer == "closed" or (shot.outer == "open" and shot.view == "back")
    return not (coat and closed and person.lower.kind in BARE_BELOW_KNEE)


def _out_of_sight(item: Item | None, shot: Shot) -> bool:
    if item is None:
        return True
    behind = shot.view == "back" and item.kind in HELD_IN_FRONT
    return behind or (shot.cover == "legs" and item.kind in HANGING)


def _without_hidden_detail(facts: dict[str, str], shot: Shot) -> dict[str, str]:
    # A print is on the chest; a dress that ends out of sight is just a top.
    if facts.get("top_pattern") == "print" and (shot.view != "front" or shot.wears_outer):
        del facts["top_accent"]
        facts["top_pattern"] = "plain"
    if facts.get("top") == "dress" and shot.cover == "legs":
        facts["top"] = "top"
    return facts
