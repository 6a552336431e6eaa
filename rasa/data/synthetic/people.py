"""Who is in the benchmark and how an image shows them, drawn by chance from the value tables."""

import zlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from rasa.data.synthetic.looks import Item, Person, Shot, attributes, seen
from rasa.data.synthetic.values import (
    BAGS,
    BUILDS,
    CARRIED,
    CHANGES,
    COLOURS,
    DENIM,
    GLASSES,
    HAIR,
    HAIR_COLOURS,
    HATS,
    LEATHER,
    LOWERS,
    NONE,
    OLD_HAIR,
    OUTERS,
    PATTERNS,
    PLACES,
    SHOES,
    SKINS,
    SKIRT_PATTERNS,
    SPLITS,
    TOPS,
    Table,
)

__all__ = [
    "Item",
    "Person",
    "Shot",
    "attributes",
    "chance",
    "draw_person",
    "draw_shot",
    "is_twin",
    "pick",
    "seen",
    "stream",
]

Value = TypeVar("Value")


def stream(seed: int, kind: str, split: str, *place: int) -> np.random.Generator:
    """The draws of one kind at one place: (identity,), (identity, image) or (identity, image, caption).

    Each place has a stream of its own, so that a person never depends on how many others there are.
    """
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
