"""The bare body: poses, the outline of the trunk, neck, head and hair."""

import math
from typing import NamedTuple

from rasa.data.synthetic.canvas import HAIR_RGB, Canvas, Colour, Point, Shape, mixed
from rasa.data.synthetic.looks import Item, Person, Shot
from rasa.data.synthetic.things import glasses, scarf, thing
from rasa.data.synthetic.values import NONE

WIDTHS = {"slim": 0.92, "average": 1.08, "stout": 1.3}
FAR = 0.72  # light on a limb behind the body


class Pose(NamedTuple):
    """Joints in body units. Arm 1 has the bag, arm 0 carries things; from the side 1 is the nearer one."""

    legs: tuple[tuple[Point, Point, Point], tuple[Point, Point, Point]]
    arms: tuple[tuple[Point, Point, Point], tuple[Point, Point, Point]]
    width: float
    view: str


def pose(person: Person, shot: Shot, facts: dict[str, str]) -> Pose:
    swing, width = math.sin(2 * math.pi * shot.gait), WIDTHS[person.build]
    side = shot.view == "side"
    carried = _arm_for(shot.carried.kind if shot.carried and "carried" in facts else NONE)
    bagged = "bent" if facts.get("outer_state") == "held" and shot.view != "back" else "hanging"
    leg = _side_leg if side else _leg
    legs = leg(-1, swing, width), leg(1, swing, width)
    arm = _side_arm if side else _arm
    return Pose(legs, (arm(-1, swing, width, carried), arm(1, swing, width, bagged)), width, shot.view)


def _arm_for(carried: str) -> str:
    if carried == "phone":
        return "raised"
    return "bent" if carried in ("cup", "bottle", "book", "folder") else "hanging"


def _leg(sign: int, swing: float, width: float) -> tuple[Point, Point, Point]:
    ankle = (sign * 4.7 * width, 95 - 3 * max(0.0, sign * swing))
    return (sign * 4.3 * width, 50), (sign * 4.9 * width, 72), ankle


def _side_leg(sign: int, swing: float, width: float) -> tuple[Point, Point, Point]:
    forward = sign * swing
    knee = (7.5 * forward + 1.5, 72 - abs(forward))
    return (0.0, 50), knee, (12.5 * forward - 1.5, 95 - 4 * max(0.0, -forward))


def _arm(sign: int, swing: float, width: float, how: str) -> tuple[Point, Point, Point]:
    shoulder = (sign * 9.4 * width, 21.0)
    if how == "bent":
        return shoulder, (sign * 12.4 * width, 34), (sign * 5.0, 36)
    if how == "raised":
        return shoulder, (sign * 14.0 * width, 29), (sign * 8.0, 14)
    return shoulder, (sign * 12.2 * width, 34), (sign * (12.8 * width + 0.8), 47.3 - sign * swing)


def _side_arm(sign: int, swing: float, width: float, how: str) -> tuple[Point, Point, Point]:
    if how == "bent":
        return (0.5, 21), (0.5, 34), (10.5, 35)
    if how == "raised":
        return (0.5, 21), (7.5, 30), (6.5, 14)
    return (0, 21), (-1 - 4.5 * sign * swing, 34), (-8.5 * sign * swing + 0.8, 46.6)


def ground_shadow(canvas: Canvas, pose: Pose) -> None:
    (x, y), reach = canvas.at((0, 99.2)), canvas.scale * 14 * pose.width
    canvas.draw.ellipse((x - reach, y - reach / 7, x + reach, y + reach / 7), fill=(70, 68, 68))


def torso(pose: Pose, sex: str, hem: float, extra: float = 0.0, flare: float = 0.0) -> Shape:
    """The outline of what is worn on the trunk, `extra` units outside the skin."""
    wide = pose.width
    if pose.view == "side":
        depth, chest = 5.6 * wide + extra, (1.0 if sex == "woman" else 0.0)
        return [
            (-2.5, 17.2),
            (3, 17.2),
            (depth + chest, 26),
            (depth, 36),
            (depth + flare, hem),
            (-depth - flare, hem),
            (-depth + 0.6, 36),
            (-depth, 22),
        ]
    shoulder, waist = 10.4 * wide + extra, (7.6 if sex == "woman" else 8.8) * wide + extra
    half = [
        (3.2, 16.8),
        (shoulder - 2.5, 18.2),
        (shoulder, 21),
        (waist, 35),
        (8.9 * wide + extra, 46),
        (8.9 * wide + extra + flare, hem),
    ]
    return [(-x, y) for x, y in reversed(half)] + half


def neck(canvas: Canvas, skin: Colour, view: str) -> None:
    canvas.box(-2.6, 12, 2.6, 19.5, skin, 1)
    if view != "back":
        canvas.shape([(-3.2, 17), (3.2, 17), (0, 21)], skin)


def hair_behind(canvas: Canvas, hair: Item) -> None:
    """From the front: the hair that hangs behind the neck."""
    colour = mixed(HAIR_RGB[hair.colour], (0, 0, 0), 0.15)
    if hair.kind in ("long", "bob"):
        canvas.box(-7, 6, 7, 27 if hair.kind == "long" else 17, colour, 3)


def head(canvas: Canvas, person: Person, facts: dict[str, str], skin: Colour) -> None:
    view = facts["view"]
    hair = person.hair if "hair" in facts else None
    if hair is not None and hair.kind == "bun":
        x, y = (-4.6, 1.6) if view == "side" else (0.0, -0.4)
        canvas.oval(x, y, 3.6, 3.2, HAIR_RGB[hair.colour])
    {"front": _face, "side": _profile, "back": _back_of_head}[view](canvas, hair, skin)
    if "scarf" in facts and person.scarf is not None:  # around long hair too
        scarf(canvas, person.scarf, view)
    if "glasses" in facts:
        glasses(canvas, facts["glasses"], view)
    if "hat" in facts and person.hat is not None:
        thing(canvas, person.hat, view)


def _face(canvas: Canvas, hair: Item | None, skin: Colour) -> None:
    kind, colour = (hair.kind, HAIR_RGB[hair.colour]) if hair else (NONE, skin)
    if kind not in ("balding", NONE):
        _hair_cap(canvas, kind, 0, 7.2, colour)
        if kind == "ponytail":
            canvas.limb(((5.5, 9), (8, 17), (7, 23)), (2.5, 3.6, 1.2), colour)
    elif kind == "balding":
        for sign in (-1, 1):
            canvas.oval(sign * 5.3, 8.2, 1.2, 2.6, colour)
    bald = kind in ("balding", NONE)
    canvas.oval(0, 8.4 if bald else 9.6, 5.4, 7.0 if bald else 6.0, skin)
    if kind in ("long", "bob"):
        for sign in (-1, 1):
            ends = 28 if kind == "long" else 17
            canvas.limb(((sign * 5.2, 5), (sign * 6.2, 13), (sign * 6.6, ends - 1)), (2.6, 3.2, 3.2), colour)
    for sign in (-1, 1):
        canvas.oval(sign * 2.3, 9, 0.75, 0.75, (40, 30, 30))
    canvas.line([(-1.5, 13), (1.5, 13)], 0.7, mixed(skin, (150, 40, 50), 0.6))


def _hair_cap(canvas: Canvas, kind: str, x: float, y: float, colour: Colour) -> None:
    if kind == "curly":
        for turn in range(9):
            angle = math.pi * (0.86 + 1.28 * turn / 8)
            canvas.oval(x + 6.4 * math.cos(angle), y + 6.0 * math.sin(angle), 3.0, 3.0, colour)
    canvas.oval(x, y, 6.8, 7.6, colour)


def _profile(canvas: Canvas, hair: Item | None, skin: Colour) -> None:
    kind, colour = (hair.kind, HAIR_RGB[hair.colour]) if hair else (NONE, skin)
    if kind == "long":
        canvas.limb(((-3.2, 6), (-4.6, 17), (-5, 27)), (7, 6.4, 4.4), colour)
    elif kind == "bob":
        canvas.limb(((-2.4, 6), (-2.6, 14)), (8.5, 8), colour)
    elif kind == "ponytail":
        canvas.limb(((-5.5, 6), (-10, 12), (-9.5, 22)), (3, 4, 1.4), colour)
    canvas.oval(2.2, 9, 4.4, 6.4, skin)
    canvas.shape([(6, 7.6), (8, 10.6), (6, 11)], skin)
    if kind == "balding":
        canvas.oval(0, 7.6, 6.2, 7.2, skin)
        canvas.oval(-4.0, 9.6, 2.2, 3.2, colour)
    elif hair is not None:
        _hair_cap(canvas, kind, -1.4, 6.8, colour)
        canvas.oval(2.9, 10.2, 3.9, 5.2, skin)
    else:
        canvas.oval(-0.8, 7.6, 5.8, 6.8, skin)
    canvas.oval(4.6, 9, 0.75, 0.8, (40, 30, 30))


def _back_of_head(canvas: Canvas, hair: Item | None, skin: Colour) -> None:
    canvas.oval(0, 8.2, 6.0, 7.2, skin)
    if hair is None:
        return
    colour, kind = HAIR_RGB[hair.colour], hair.kind
    if kind == "balding":
        canvas.box(-6, 8, 6, 13, colour, 2)
        return
    _hair_cap(canvas, kind, 0, 7.4, colour)
    if kind in ("long", "bob"):
        canvas.box(-6.9, 7, 6.9, 29 if kind == "long" else 17.5, colour, 2.5)
    elif kind == "ponytail":
        canvas.limb(((0, 6), (0, 15), (0.6, 25)), (3.4, 4.6, 1.6), mixed(colour, (0, 0, 0), 0.3))
        canvas.oval(0, 6, 2, 1.2, (180, 40, 60))
    elif kind == "bun":
        canvas.oval(0, 3.2, 3.4, 3.2, mixed(colour, (0, 0, 0), 0.3))
