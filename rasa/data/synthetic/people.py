"""Who is in the benchmark and how an image shows them, drawn by chance from the value tables."""

import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import numpy as np

from rasa.data.synthetic.looks import Item, Person, Shot, attributes, seen
from rasa.data.synthetic.values import (
    BAGS,
    BUILDS,
    CARRIED,
    CHANGES,
    COLOURS,
    COVERS,
    DENIM,
    DEPARTURES,
    FITS,
    FITTED,
    GLASSES,
    HAIR,
    HAIR_COLOURS,
    HATS,
    LEATHER,
    LOWERS,
    NONE,
    OCCLUDERS,
    OLD_HAIR,
    OUTER_STATES,
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
    "usual_shot",
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


class Uniform(Protocol):
    """What gives numbers in [0, 1): a numpy Generator, or a list of them drawn beforehand."""

    def random(self) -> float:
        """The next one."""
        ...


def chance(rng: Uniform, probability: float) -> bool:
    """True with `probability`."""
    return rng.random() < probability


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
    person = Person(
        sex=sex,
        age="elderly" if old else "adult",
        build=pick(rng, BUILDS),
        skin=pick(rng, SKINS),
        hair=hair,
        top=top,
        outer=outer,
        lower=lower,
        shoes=_shoes(rng, sex),
        bag=_optional(rng, BAGS[sex]),
        hat=_optional(rng, HATS),
        scarf=Item("scarf", pick(rng, COLOURS, exclude=(top.colour,))) if chance(rng, 0.15) else None,
        glasses=pick(rng, GLASSES),
        carried=_carried(rng) if chance(rng, 0.6) else None,
        outer_usual="off" if outer is None else "closed" if chance(rng, 0.5) else "open",
        spare=(),
    )
    return replace(person, spare=tuple(_spare(person, rng)))


def _spare(person: Person, rng: np.random.Generator) -> Iterator[tuple[str, Item]]:
    """What the person now and then wears instead of its usual clothes; near-twins have the same."""
    kind, lower = "dress", None
    if person.lower is not None:
        kind, lower = pick(rng, TOPS[person.sex], exclude=("dress",)), _lower(rng, person.sex, person.top.colour)
        yield "lower", lower
    top = _garment(rng, kind, PATTERNS)
    worn = {item.colour for item in (person.outer, person.lower, lower, person.scarf) if item is not None}
    yield "top", replace(top, colour=pick(rng, COLOURS, exclude={*worn, top.accent}))
    yield "shoes", _shoes(rng, person.sex)


def _garment(rng: np.random.Generator, kind: str, patterns: Table) -> Item:
    colour, pattern = pick(rng, COLOURS), pick(rng, patterns)
    accent, fit = pick(rng, COLOURS, exclude=(colour,)), _fit(rng, kind)
    return Item(kind, colour, pattern, NONE if pattern == "plain" else accent, fit)


def _fit(rng: np.random.Generator, kind: str) -> str:
    fit = pick(rng, FITS)
    return fit if kind in FITTED else "regular"


def _optional(rng: np.random.Generator, kinds: Table, exclude: Collection[str] = ()) -> Item | None:
    kind = pick(rng, kinds)
    colour = pick(rng, COLOURS, exclude)  # drawn in any case, so that what follows does not shift
    return None if kind == NONE else Item(kind, colour)


def _lower(rng: np.random.Generator, sex: str, top_colour: str) -> Item:
    kind = pick(rng, LOWERS[sex])
    if kind in ("skirt", "long skirt"):
        return _garment(rng, kind, SKIRT_PATTERNS)
    return Item(kind, pick(rng, _palette("lower", kind), exclude=(top_colour,)), fit=_fit(rng, kind))


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
    """`person` with one or two attributes changed, each in a thing that both of the twins usually show."""
    shown = seen(person, usual_shot(person))
    possible = {name: weight for name, weight in CHANGES.items() if _can_change(shown, *name.split("."))}
    done: list[str] = []
    for _ in range(1 if chance(rng, 0.3) else 2):
        done.append(pick(rng, possible, exclude=done))
        slot, field = done[-1].split(".")
        item: Item = getattr(person, slot)
        new = pick(rng, _alternatives(person, slot, field), exclude=_clashes(person, item, slot, field))
        changed: dict[str, Any] = {slot: replace(item, **{field: new})}
        person = replace(person, **changed)
    return person


def _can_change(shown: Mapping[str, str], slot: str, field: str) -> bool:
    if slot not in shown or (field in ("pattern", "accent") and f"{slot}_accent" not in shown):
        return False
    return not (field == "kind" and shown[slot] == "dress")  # another top would need a lower garment


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


def usual_shot(person: Person) -> Shot:
    """The person from the front as it usually looks, with nothing in the way."""
    return Shot(
        camera=1,
        view="front",
        mirrored=False,
        gait=0.0,
        outer=person.outer_usual,
        bag=person.bag is not None,
        hat=person.hat is not None,
        scarf=person.scarf is not None,
        glasses=person.glasses != NONE,
        carried=person.carried,
        changes=(),
        cover=NONE,
        occluder=NONE,
        clutter=0.0,
    )


def draw_shot(person: Person, seed: int, split: str, index: int, image: int, noise: float = 1.0) -> Shot:
    """Image `image` of identity `index` of `split`. Cameras and views go round, the rest is drawn.

    `noise` is how readily it departs from how the person usually looks (`DEPARTURES`): at 0 all images show
    the same as far as their views allow. The draws are the same at any noise, so that more of it adds departures.
    """
    rng = stream(seed, "shot", split, index, image)
    whole = stream(seed, "tour", split, index)
    cameras = _shuffled(whole, range(1, len(PLACES) + 1))
    views = _shuffled(whole, ("front", "back", "side", "front"))
    departs = _departures(rng, noise)
    outer = pick(rng, OUTER_STATES, exclude=(person.outer_usual,))
    if person.outer is None or not departs["outer"]:
        outer = person.outer_usual
    cover, occluder = pick(rng, COVERS), pick(rng, OCCLUDERS)
    other, empty, pole = _carried(rng), chance(rng, 0.5), chance(rng, 0.12)
    hand_taken = outer == "held" and person.bag is not None and person.bag.kind == "handbag"
    departed = None if empty else other
    if not departs["cover"]:
        cover, occluder = NONE, "pole" if pole else NONE
    return Shot(
        camera=cameras[image % len(cameras)],
        view=views[image % len(views)],
        mirrored=chance(rng, 0.5),
        gait=float(rng.random()),
        clutter=float(rng.random()),
        outer=outer,
        bag=person.bag is not None and not departs["bag"] and not hand_taken,
        hat=person.hat is not None and not departs["hat"],
        scarf=person.scarf is not None and not departs["scarf"],
        glasses=person.glasses != NONE and not departs["glasses"],
        carried=departed if departs["carried"] else person.carried,
        changes=tuple(slot for slot, _ in person.spare if departs[f"new {slot}"]),
        cover=cover,
        occluder="frame" if cover == "head" else occluder,
    )


def _departures(rng: np.random.Generator, noise: float) -> dict[str, bool]:
    """Where an image departs: each share of `DEPARTURES` grows from 0 over its value at noise 1 to its most."""
    return {what: chance(rng, most * (1 - (1 - rate / most) ** noise)) for what, (rate, most) in DEPARTURES.items()}


def _shuffled(rng: np.random.Generator, values: Sequence[Value]) -> list[Value]:
    keys = rng.random(len(values)).tolist()
    return [values[place] for place in sorted(range(len(values)), key=keys.__getitem__)]
