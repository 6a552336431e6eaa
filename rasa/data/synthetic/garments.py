"""Garments and the limbs in them: legs and shoes, sleeves, tops, outer garments."""

import math
from itertools import pairwise
from typing import NamedTuple

from rasa.data.synthetic.body import FAR, Pose, torso
from rasa.data.synthetic.canvas import RGB, Canvas, Colour, Point, Shape, mixed
from rasa.data.synthetic.looks import Item

LEG_WIDTHS = {
    "jeans": (9.0, 7.2, 6.4),
    "trousers": (9.0, 7.0, 6.0),
    "sweatpants": (9.2, 7.6, 6.0),
    "leggings": (7.6, 5.6, 4.0),
}
FIT_OF_LEGS = {"regular": (1.0, 1.0, 1.0), "loose": (1.1, 1.36, 1.5), "tight": (0.9, 0.82, 0.72)}  # hip, knee, ankle
FIT_OF_TRUNK = {"regular": 0.0, "loose": 1.5, "tight": -1.0}  # body units outside the usual outline
FIT_OF_SLEEVES = {"regular": 1.0, "loose": 1.35, "tight": 0.82}


def legs(canvas: Canvas, pose: Pose, lower: Item | None, shoes: Item | None, skin: Colour) -> None:
    wide = pose.width
    for leg in pose.legs:
        hip, knee, ankle = leg
        canvas.light = FAR if pose.view == "side" and leg is pose.legs[0] else 1.0
        canvas.limb(leg, (6.8 * wide, 5.2 * wide, 3.8), skin)
        _foot(canvas, ankle, shoes, skin, pose)
        if lower is not None and lower.kind in LEG_WIDTHS:
            fit = zip(LEG_WIDTHS[lower.kind], FIT_OF_LEGS[lower.fit], strict=True)
            hips, knees, ankles = (width * factor for width, factor in fit)
            canvas.limb(leg, (hips * wide, knees * wide, ankles), lower)
            _leg_details(canvas, pose, leg, lower)
        elif lower is not None and lower.kind == "shorts":
            at_hip, at_knee, _ = FIT_OF_LEGS[lower.fit]
            canvas.limb((hip, (knee[0], knee[1] - 4)), (9.6 * at_hip * wide, 9 * at_knee * wide), lower)
        if shoes is not None and shoes.kind == "boots":
            canvas.limb((ankle, (ankle[0] + (knee[0] - ankle[0]) * 0.45, ankle[1] - 10)), (6, 6.6), shoes)
        if pose.view != "side":
            inner = [(0.2 * x if at == 0 else x * 0.55, y) for at, (x, y) in enumerate(leg)]
            canvas.shade(inner + [(x * 0.85, y) for x, y in reversed(leg)], 195)
    canvas.light = 1.0
    if lower is not None:
        _hips(canvas, pose, lower)


def _leg_details(canvas: Canvas, pose: Pose, leg: tuple[Point, Point, Point], lower: Item) -> None:
    hip, knee, ankle = leg
    colour = RGB[lower.colour]
    if lower.kind == "jeans":  # faded thighs and turn-ups
        lighter = mixed(colour, (255, 255, 255), 0.3)
        canvas.line([(hip[0], 56), (knee[0], knee[1] - 1)], 2.2, lighter)
        canvas.line([(ankle[0] - 2.8, ankle[1]), (ankle[0] + 2.8, ankle[1])], 1.6, lighter)
    elif lower.kind == "sweatpants":  # a stripe down the outside
        out = 0 if pose.view == "side" else 3.2 * pose.width * math.copysign(1, hip[0])
        stripe = (245, 245, 245) if lower.colour != "white" else (40, 40, 44)
        down = [(hip[0] + out, 50.0), (knee[0] + out * 0.85, knee[1]), (ankle[0] + out * 0.7, ankle[1])]
        canvas.line(down, 1.5, stripe)
    elif lower.kind == "trousers":  # a pressed crease
        canvas.line([(hip[0], 54), knee, ankle], 0.8, mixed(colour, (0, 0, 0), 0.4))


def _hips(canvas: Canvas, pose: Pose, lower: Item) -> None:
    side = pose.view == "side"
    hips = (6.2 if side else 8.8) * pose.width
    if lower.kind in ("skirt", "long skirt"):
        hem, flare = (70, 3.4) if lower.kind == "skirt" else (90, 7.0 if side else 4.2)
        canvas.cloth([(-hips, 46), (hips, 46), (hips + flare, hem), (-hips - flare, hem)], lower)
        for x in (-0.5, 0.45):
            canvas.crease([(x * hips, 54), (x * (hips + flare), hem)], 150, 1.2)
    else:
        canvas.cloth([(-hips, 46), (hips, 46), (hips, 52), (-hips, 52)], lower)


def _foot(canvas: Canvas, ankle: Point, shoes: Item | None, skin: Colour, pose: Pose) -> None:
    (x, y), colour = ankle, RGB[shoes.colour] if shoes else skin
    kind = shoes.kind if shoes else "bare"
    if pose.view == "side":
        back, front, sole = x - 2.8, x + (6.0 if kind != "boots" else 5.2), y + 4.8
    else:
        back, front, sole = x - 3.3, x + 3.3, y + (5.0 if pose.view == "front" else 4.2)
    if kind == "sandals":
        canvas.box(back, y + 1, front, sole, skin, 1.6)
        canvas.box(back, y + 0.4, front, y + 2.6, colour, 0.6)
        canvas.box(back, sole - 1.1, front, sole, colour, 0.4)
        return
    canvas.box(back, y - (0.4 if kind != "heels" else -1.4), front, sole, colour, 1.6)
    if kind == "sneakers":
        rubber = (246, 246, 244) if shoes and shoes.colour != "white" else (120, 122, 128)
        canvas.box(back, sole - 1.4, front, sole + 0.2, rubber, 0.6)
    elif kind == "heels":
        canvas.box(back, y + 2, back + 1.4, sole + 1.0, colour)
        canvas.box(x - 1.6, y + 0.2, x + 1.8, y + 2.2, skin)


class Sleeves(NamedTuple):
    """What covers one arm."""

    outer: Item | None
    top: Item | None
    skin: Colour
    joints: tuple[Point, Point, Point]


def arm_with_sleeve(canvas: Canvas, arm: Sleeves) -> None:
    shoulder, elbow, hand = arm.joints
    canvas.limb(arm.joints, (4.4, 3.8, 3.2), arm.skin)
    cloth = arm.outer if arm.outer is not None and arm.outer.kind != "vest" else arm.top
    fit = FIT_OF_SLEEVES[cloth.fit] if cloth is not None and arm.outer is None else 1.0
    if cloth is not None and cloth.kind in ("t-shirt", "polo shirt", "dress"):
        end = (shoulder[0] + (elbow[0] - shoulder[0]) * 0.7, shoulder[1] + (elbow[1] - shoulder[1]) * 0.7)
        canvas.limb((shoulder, end), (5.6, 5.8 * fit), cloth)
    elif cloth is not None and cloth.kind != "tank top":
        wide = fit * {"puffer jacket": 7.0, "coat": 6.2, "blouse": 6.4, "hoodie": 6.2}.get(cloth.kind, 5.6)
        wrist = (elbow[0] + (hand[0] - elbow[0]) * 0.82, elbow[1] + (hand[1] - elbow[1]) * 0.82)
        canvas.limb((shoulder, elbow, wrist), (5.8, wide, wide * 0.84), cloth)
        if cloth.kind == "puffer jacket":
            _quilt(canvas, [shoulder, elbow, wrist])
    canvas.oval(*hand, 1.9, 2.1, arm.skin)
    canvas.crease([(shoulder[0] * 0.8, shoulder[1] + 4), (elbow[0] * 0.82, elbow[1]), hand], 130, 1.0)


def _quilt(canvas: Canvas, joints: list[Point]) -> None:
    for (x0, y0), (x1, y1) in pairwise(joints):
        for share in (0.3, 0.7):
            x, y = x0 + (x1 - x0) * share, y0 + (y1 - y0) * share
            canvas.crease([(x - 3, y), (x + 3, y)], 140, 0.8)


def top(canvas: Canvas, pose: Pose, top: Item, sex: str, marked: bool, covered: bool) -> None:
    """`marked` with its print; `covered` under an outer garment, which hides how it fits."""
    dress = top.kind == "dress"
    hem, flare = (71.0, 4.2) if dress else (50.5, 1.8 if top.kind == "blouse" else 0.0)
    loose = 0.0 if covered else FIT_OF_TRUNK[top.fit]
    canvas.cloth(torso(pose, sex, hem + max(0.0, 2 * loose), loose, flare), top)
    darker = mixed(RGB[top.colour], (0, 0, 0), 0.35)
    half = (5.4 if pose.view == "side" else 7.9) * pose.width
    _folds(canvas, pose, hem)
    if dress:
        canvas.box(-half, 37, half, 38.8, darker)
    if top.kind == "sweater":
        canvas.box(-half - 0.8, 47.6, half + 0.8, 50.5, darker)
        canvas.box(-3.6, 15.8, 3.6, 18, darker, 0.8)
    if pose.view == "front":
        _front_of_top(canvas, top, darker, marked)


def _front_of_top(canvas: Canvas, top: Item, darker: Colour, marked: bool) -> None:
    colour, kind = RGB[top.colour], top.kind
    if kind in ("shirt", "polo shirt", "blouse"):
        collar, placket = mixed(colour, (255, 255, 255), 0.35), 50 if kind == "shirt" else 27
        for sign in (-1, 1):
            canvas.shape([(0, 21.5), (sign * 1.6, 16.4), (sign * 5, 17.4), (sign * 3.6, 21.5)], collar)
        canvas.line([(0, 21), (0, placket)], 0.9, darker)
        for y in range(24, placket, 5):
            canvas.oval(0, y, 0.7, 0.7, collar)
    if marked:
        canvas.oval(0, 30, 5.0, 4.8, RGB[top.accent])
        canvas.shape([(0, 26.6), (2.6, 32.6), (-2.6, 32.6)], colour)


def _folds(canvas: Canvas, pose: Pose, hem: float) -> None:
    """A body is round: one flank and the small of the back lie in shadow."""
    wide = (5.6 if pose.view == "side" else 9.4) * pose.width
    canvas.shade([(-wide, 21), (-wide * 0.62, 22), (-wide * 0.55, hem), (-wide - 0.4, hem)], 200)
    canvas.shade([(wide, 24), (wide * 0.82, 24), (wide * 0.76, hem), (wide, hem)], 226)


def outer(canvas: Canvas, pose: Pose, outer: Item, sex: str, is_open: bool) -> None:
    hem = 69.0 if outer.kind == "coat" else 51.5
    outline = torso(pose, sex, hem, 1.1, 1.6 if outer.kind == "coat" else 0.0)
    if is_open:
        outline = _opened(outline, pose)
    for side in [outline[: len(outline) // 2], outline[len(outline) // 2 :]] if is_open else [outline]:
        canvas.cloth(side, outer)
    _folds(canvas, pose, hem)
    colour = RGB[outer.colour]
    edge = mixed(colour, (0, 0, 0) if sum(colour) > 200 else (255, 255, 255), 0.4)
    if pose.view == "front":
        _front_of_outer(canvas, outer, edge, hem, is_open)
    if outer.kind in ("puffer jacket", "vest"):
        half = (5.8 if pose.view == "side" else 8.6) * pose.width
        gap = half * 0.55 if is_open else 0
        for y in range(24, 50, 6):
            canvas.crease([(-half, y), (-gap, y)], 135, 0.9)
            canvas.crease([(gap, y), (half, y)], 135, 0.9)
    if outer.kind == "hoodie":
        if pose.view == "side":
            canvas.oval(-3.5, 18.5, 4.2, 3.4, edge)
        else:
            canvas.oval(0, 18, 6.8, 3.2, edge)
            canvas.oval(0, 17.4, 4.6, 2.0, mixed(colour, (0, 0, 0), 0.5))


def _opened(outline: Shape, pose: Pose) -> Shape:
    """The outline cut into two panels, one after the other, which leave a strip in front free."""
    if pose.view == "side":  # the strip is the body's front edge: one panel, and an empty one at the back
        panel = [(min(x, 1.0 * pose.width), y) for x, y in outline]
        return panel + [(-1.0, 30.0)] * len(panel)
    half, gap = len(outline) // 2, 4.2 * pose.width
    (_, hem), inner = outline[0], [(gap, 30.0), (3.0, 17.0)]
    return [*outline[:half], (-3.0, 17.0), (-gap, 30.0), (-gap, hem), (gap, hem), *inner, *outline[half:]]


def _front_of_outer(canvas: Canvas, outer: Item, edge: Colour, hem: float, is_open: bool) -> None:
    gap = 4.2 if is_open else 0.0
    if outer.kind in ("blazer", "coat"):
        for sign in (-1, 1):
            lapel = [(1.5, 16.6), (6.0, 18.0), (gap + 3.6, 27.0), (gap, 34.0)]
            canvas.shape([(sign * x, y) for x, y in lapel], edge)
    elif outer.kind in ("jacket", "puffer jacket", "vest"):
        canvas.box(-4.2, 15.4, -gap * 0.7, 18.2, edge, 0.8)
        canvas.box(gap * 0.7, 15.4, 4.2, 18.2, edge, 0.8)
    if is_open:
        return
    if outer.kind in ("blazer", "coat"):
        for y in range(36, int(hem), 8):
            canvas.oval(0, y, 0.9, 0.9, edge)
    else:
        canvas.line([(0, 18), (0, hem)], 0.9, edge)
    if outer.kind in ("jacket", "hoodie"):
        for sign in (-1, 1):
            canvas.line([(sign * 5.2, 40), (sign * 7, 45)], 0.9, edge)


def held(canvas: Canvas, outer: Item, pose: Pose) -> None:
    """An outer garment over the forearm of arm 1."""
    (_, elbow, hand) = pose.arms[1]
    x0, x1 = (hand[0] - 0.5, elbow[0] + 2.6) if pose.view != "side" else (elbow[0] - 1.2, hand[0] + 0.6)
    if pose.view == "back":
        x0, x1 = elbow[0] - 2.5, elbow[0] + 4.5
    y = 33.6
    canvas.cloth([(x0, y), (x1, y), (x1 + 1, y + 21), (x0 - 0.5, y + 23)], outer)
    canvas.crease([((x0 + x1) / 2, y + 3), ((x0 + x1) / 2 + 0.6, y + 21)], 120, 1.2)
    canvas.shade([(x0, y + 16), (x1, y + 14), (x1 + 1, y + 21), (x0 - 0.5, y + 23)], 205)
