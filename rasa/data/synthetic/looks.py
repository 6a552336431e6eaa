"""What identities and their images look like: `Person`, `Shot`, and what of them can be seen."""

from dataclasses import dataclass, replace
from typing import Any

from rasa.data.synthetic.values import BARE_BELOW_KNEE, COVERED_HAIR, FITTED, HANGING, HELD_IN_FRONT, NONE, PLACES


@dataclass(frozen=True)
class Item:
    """One thing on a person: a kind, a colour, and for garments a pattern in the colour `accent` and a fit."""

    kind: str
    colour: str
    pattern: str = "plain"
    accent: str = NONE
    fit: str = "regular"


@dataclass(frozen=True)
class Person:
    """An identity as it usually looks. A dress is a top without a lower garment; `outer_usual` is as in `Shot.outer`.

    `spare` is what it wears now and then instead, by slot.
    """

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
    outer_usual: str
    spare: tuple[tuple[str, Item], ...]


@dataclass(frozen=True)
class Shot:
    """One image of an identity: what changes between them.

    `gait` is the phase of the step in [0, 1); `outer` is closed, open, held (over the arm) or off; `cover` is
    the part that `occluder` hides: none, feet, legs or head; `changes` are the slots in which the spare garment is
    worn; `clutter` in [0, 1] is how full the background is.
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
    changes: tuple[str, ...]
    cover: str
    occluder: str
    clutter: float

    @property
    def wears_outer(self) -> bool:
        """Whether the outer garment is on, open or closed."""
        return self.outer in ("closed", "open")


def dressed(person: Person, shot: Shot) -> Person:
    """The person in what it wears in this image."""
    if not shot.changes:
        return person
    changes: dict[str, Any] = {slot: item for slot, item in person.spare if slot in shot.changes}
    return replace(person, **changes)


def attributes(person: Person) -> dict[str, str]:
    """A person as a flat table row; `none` for what there is not."""
    row = {"sex": person.sex, "age": person.age, "build": person.build, "skin": person.skin}
    for slot in ("hair", "top", "outer", "lower", "shoes", "bag", "hat", "scarf", "carried"):
        row |= _columns(slot, getattr(person, slot))
    return row | {"glasses": person.glasses, "outer_usual": person.outer_usual}


def _columns(slot: str, item: Item | None) -> dict[str, str]:
    item = item or Item(NONE, NONE, NONE)
    columns = {slot: item.kind, f"{slot}_colour": item.colour}
    if slot in ("top", "lower"):
        columns |= {f"{slot}_pattern": item.pattern, f"{slot}_accent": item.accent, f"{slot}_fit": item.fit}
    return columns


def seen(person: Person, shot: Shot) -> dict[str, str]:
    """What the image shows, by the names of `attributes`; what is hidden is absent.

    This alone decides it: captions, the table's visibility columns and the renderer all follow.
    Besides always `view` and `place`; `outer_state` (closed, open or held) and `occluder` where there is one.
    """
    person = dressed(person, shot)
    facts = {"sex": person.sex, "age": person.age, "build": person.build, "skin": person.skin}
    facts |= {"view": shot.view, "place": PLACES[shot.camera - 1]}
    shown = {
        "hair": person.hair if _hair_shows(person, shot) else None,
        "top": person.top if _top_shows(person, shot) else None,
        "outer": person.outer if shot.outer != "off" else None,
        "lower": person.lower if _lower_shows(person, shot) else None,
        "shoes": person.shoes if shot.cover in (NONE, "head") else None,
        "bag": person.bag if shot.bag and not _out_of_sight(person.bag, shot) else None,
        "hat": person.hat if shot.hat and shot.cover != "head" else None,
        "scarf": person.scarf if shot.scarf else None,
        "carried": shot.carried if not _out_of_sight(shot.carried, shot) else None,
    }
    for slot, item in shown.items():
        if item is not None:
            facts |= {name: value for name, value in _columns(slot, item).items() if value != NONE}
    if shot.glasses and shot.view != "back" and shot.cover != "head":
        facts["glasses"] = person.glasses
    if "outer" in facts:
        facts["outer_state"] = shot.outer
    if shot.occluder not in (NONE, "frame"):
        facts["occluder"] = shot.occluder
    return _without_hidden_detail(facts, shot)


def _hair_shows(person: Person, shot: Shot) -> bool:
    covered = person.hat is not None and shot.hat and person.hair.kind in COVERED_HAIR
    return shot.cover != "head" and not covered


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
    at_head = shot.cover == "head" and item.kind == "phone"
    return behind or at_head or (shot.cover == "legs" and item.kind in HANGING)


def _without_hidden_detail(facts: dict[str, str], shot: Shot) -> dict[str, str]:
    # A print is on the chest; a dress that ends out of sight is just a top; what is under a jacket has no outline.
    if facts.get("top_pattern") == "print" and (shot.view != "front" or shot.wears_outer):
        del facts["top_accent"]
        facts["top_pattern"] = "plain"
    if facts.get("top") == "dress" and shot.cover == "legs":
        facts["top"] = "top"
    for slot in ("top", "lower"):
        if facts.get(slot) not in FITTED or (slot == "top" and shot.wears_outer):
            facts.pop(f"{slot}_fit", None)
    return facts
