"""Pictures of people, drawn with Pillow at three times the size and scaled down.

A body is measured in body units: its crown is at y = 0, its soles are at y = 100, x = 0 is its middle and,
from the side, it faces x > 0. Of a person's things only those that `seen` lists are drawn.
"""

import math
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from rasa.data.synthetic.people import NONE, PLACES, Item, Person, Shot, seen

SUPERSAMPLING = 3
Colour = tuple[int, int, int]
Point = tuple[float, float]
Shape = list[Point]

RGB: dict[str, Colour] = {
    "black": (26, 26, 30), "white": (242, 242, 238), "grey": (138, 141, 146), "red": (208, 30, 36),
    "dark red": (112, 16, 32), "pink": (243, 150, 188), "orange": (240, 126, 24), "yellow": (247, 216, 50),
    "green": (44, 156, 68), "dark green": (22, 74, 44), "light blue": (136, 194, 240), "blue": (34, 88, 206),
    "dark blue": (22, 32, 88), "purple": (124, 52, 156), "brown": (112, 70, 38), "beige": (216, 192, 150),
}  # fmt: skip
HAIR_RGB: dict[str, Colour] = {
    "black": (24, 20, 20), "brown": (92, 56, 30), "blond": (224, 186, 98), "red": (170, 66, 24),
    "grey": (150, 150, 152), "white": (232, 232, 230),
}  # fmt: skip
SKIN_RGB: dict[str, Colour] = {
    "pale": (244, 208, 184), "tan": (222, 176, 138), "brown": (164, 112, 76), "dark": (104, 68, 46)
}  # fmt: skip
WIDTHS = {"slim": 0.92, "average": 1.08, "stout": 1.3}
TOP_OF_COVER = {"feet": 84.0, "legs": 49.0}  # body units; the latter is where tops end and hands are


class Camera(NamedTuple):
    """How a camera sees: RGB gain, blur radius in pixels at height 96, noise as a deviation of 0 to 255."""

    gain: tuple[float, float, float]
    blur: float
    noise: float


CAMERAS = {
    "street": Camera((1.0, 1.0, 1.0), 0.35, 4.0),
    "park": Camera((1.03, 1.04, 0.92), 0.45, 5.0),
    "hall": Camera((1.06, 0.98, 0.86), 0.3, 6.0),
    "plaza": Camera((0.97, 1.03, 1.1), 0.6, 4.0),
    "shop": Camera((1.08, 1.05, 1.02), 0.5, 7.0),
    "underpass": Camera((0.86, 0.88, 0.97), 0.4, 8.0),
}


class Scene(NamedTuple):
    """A background: wall and floor colours, where they meet (share of the height), and what stands about."""

    wall: Colour
    floor: Colour
    horizon: float
    clutter: tuple[str, ...]


SCENES = {
    "street": Scene((168, 160, 150), (112, 112, 116), 0.46, ("window", "pole", "bin", "passer-by")),
    "park": Scene((176, 204, 222), (118, 148, 92), 0.4, ("tree", "bush", "bench", "tree")),
    "hall": Scene((214, 202, 178), (158, 146, 130), 0.55, ("door", "poster", "plant", "passer-by")),
    "plaza": Scene((190, 206, 224), (182, 176, 168), 0.38, ("window", "tree", "passer-by", "pole")),
    "shop": Scene((128, 104, 96), (190, 184, 176), 0.58, ("window", "poster", "door", "bin")),
    "underpass": Scene((118, 120, 116), (92, 92, 94), 0.52, ("poster", "pole", "passer-by", "bin")),
}


class Pose(NamedTuple):
    """Joints in body units. Arm 1 has the bag, arm 0 carries things; from the side 1 is the nearer one."""

    legs: tuple[tuple[Point, Point, Point], tuple[Point, Point, Point]]
    arms: tuple[tuple[Point, Point, Point], tuple[Point, Point, Point]]
    width: float
    view: str


def render(person: Person, shot: Shot, rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """The image of `person` in `shot`: RGB, `width` x `height` pixels. `rng` draws surroundings and noise."""
    place = PLACES[shot.camera - 1]
    canvas = Canvas(width * SUPERSAMPLING, height * SUPERSAMPLING)
    _background(canvas, SCENES[place], shot.clutter, rng)
    canvas.place_body(shot, rng)
    _body(canvas, person, shot)
    canvas.finish_shading()
    if shot.cover != NONE:
        _occluder(canvas, shot.occluder, TOP_OF_COVER[shot.cover], rng)
    return _photograph(canvas.image.reduce(SUPERSAMPLING), CAMERAS[place], rng)


class Canvas:
    """An image that is drawn on in units: hundredths of the height at first, then body units.

    Shadows and folds are collected in a layer of their own and multiplied in, so that they fall on patterns.
    """

    def __init__(self, width: int, height: int):
        self.image = Image.new("RGB", (width, height))
        self.draw = ImageDraw.Draw(self.image)
        self.shading = Image.new("L", (width, height), 255)
        self.shade_draw = ImageDraw.Draw(self.shading)
        self.scale, self.middle, self.top, self.facing = height / 100, width / 2, 0.0, 1.0
        self.half_width = width / 2 / self.scale
        self.light = 1.0  # on whatever is drawn next

    def place_body(self, shot: Shot, rng: np.random.Generator) -> None:
        """From here on units are body units; a body that the frame cuts is larger, cut at the lower edge."""
        width, height = self.image.size
        size = min(height * 0.88, width * 1.76) * float(0.93 + 0.07 * rng.random()) / 100
        shift, foot = float(rng.random()) - 0.5, height * float(0.935 + 0.03 * rng.random())
        if shot.occluder == "frame":
            size *= 1.1 if shot.cover == "feet" else 1.45
            foot = height + (100 - TOP_OF_COVER[shot.cover]) * size
        self.scale, self.middle, self.top = size, width / 2 + shift * width * 0.08, foot - 100 * size
        self.facing = -1.0 if shot.mirrored else 1.0

    def at(self, point: Point) -> Point:
        """A point in units as pixels."""
        return self.middle + self.facing * self.scale * point[0], self.top + self.scale * point[1]

    def shape(self, points: Shape, colour: Colour) -> None:
        """A filled polygon."""
        self.draw.polygon([self.at(point) for point in points], fill=self._lit(colour))

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """A filled ellipse around (x, y) with radii rx and ry."""
        self.draw.ellipse(self._box(x, y, rx, ry), fill=self._lit(colour))

    def dome(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """The upper half of an ellipse."""
        self.draw.chord(self._box(x, y, rx, ry), 180, 360, fill=self._lit(colour))

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, radius: float = 0) -> None:
        """A rectangle with rounded corners."""
        (left, top), (right, bottom) = self.at((x0, y0)), self.at((x1, y1))
        corners = (min(left, right), top, max(left, right), bottom)
        self.draw.rounded_rectangle(corners, radius * self.scale, fill=self._lit(colour))

    def line(self, points: Shape, width: float, colour: Colour) -> None:
        """A polyline `width` units wide, at least one pixel."""
        pixels = max(1, round(width * self.scale))
        path = [self.at(point) for point in points]
        self.draw.line(path, fill=self._lit(colour), width=pixels, joint="curve")

    def limb(self, joints: tuple[Point, ...], widths: tuple[float, ...], item: Item | Colour) -> None:
        """Tapered segments from joint to joint, `widths` units across, in a cloth or a plain colour."""
        colour = RGB[item.colour] if isinstance(item, Item) else item
        for (x, y), width in zip(joints, widths, strict=True):
            self.oval(x, y, width / 2, width / 2, colour)
        pairs = zip(joints, joints[1:], widths, widths[1:], strict=False)
        segments = [_segment(start, end, first, second) for start, end, first, second in pairs]
        for segment in segments:
            self.cloth(segment, item) if isinstance(item, Item) else self.shape(segment, colour)

    def cloth(self, points: Shape, item: Item) -> None:
        """A polygon in the item's colour and pattern; a print is not part of the cloth."""
        self.shape(points, RGB[item.colour])
        if item.pattern in PATTERN_PERIODS:
            mask = Image.new("L", self.image.size)
            ImageDraw.Draw(mask).polygon([self.at(point) for point in points], fill=255)
            mask = ImageChops.multiply(mask, _pattern(item.pattern, self.image.size, round(self.scale, 1)))
            self.image.paste(self._lit(RGB[item.accent]), mask=mask)

    def shade(self, points: Shape, light: int = 205) -> None:
        """Darken a polygon to `light` / 255 when the body is finished."""
        self.shade_draw.polygon([self.at(point) for point in points], fill=light)

    def crease(self, points: Shape, light: int = 175, width: float = 0.6) -> None:
        """A thin fold or edge."""
        pixels = max(1, round(width * self.scale))
        self.shade_draw.line([self.at(point) for point in points], fill=light, width=pixels)

    def finish_shading(self) -> None:
        """Multiply the shadows into the picture, with soft edges."""
        shading = self.shading.filter(ImageFilter.BoxBlur(0.7 * self.scale))
        self.image.paste(ImageChops.multiply(self.image, Image.merge("RGB", (shading,) * 3)))

    def _lit(self, colour: Colour) -> Colour:
        return colour if self.light == 1.0 else _mixed((0, 0, 0), colour, self.light)

    def _box(self, x: float, y: float, rx: float, ry: float) -> tuple[float, float, float, float]:
        (px, py), sx, sy = self.at((x, y)), rx * self.scale, ry * self.scale
        return px - sx, py - sy, px + sx, py + sy


def _segment(start: Point, end: Point, first: float, second: float) -> Shape:
    (x0, y0), (x1, y1) = start, end
    length = math.hypot(x1 - x0, y1 - y0) or 1.0
    nx, ny = (y0 - y1) / length / 2, (x1 - x0) / length / 2
    return [(x0 + nx * first, y0 + ny * first), (x1 + nx * second, y1 + ny * second),
            (x1 - nx * second, y1 - ny * second), (x0 - nx * first, y0 - ny * first)]  # fmt: skip


PATTERN_PERIODS = {"stripes": 5.4, "checks": 6.6, "dots": 5.4}  # body units; 4 to 6 pixels at height 96


@lru_cache(maxsize=64)
def _pattern(kind: str, size: tuple[int, int], scale: float) -> Image.Image:
    """Where a pattern's second colour is, over a whole canvas."""
    step = PATTERN_PERIODS[kind] * scale
    y, x = np.mgrid[: size[1], : size[0]] % step
    if kind == "stripes":
        inked = y < step * 0.46
    elif kind == "checks":
        inked = (y < step * 0.3) | (x < step * 0.3)
    else:
        inked = (x - step / 2) ** 2 + (y - step / 2) ** 2 < (step * 0.3) ** 2
    return Image.fromarray(inked.astype(np.uint8) * 255)


# The body


def _pose(person: Person, shot: Shot, facts: dict[str, str]) -> Pose:
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


def _body(canvas: Canvas, person: Person, shot: Shot) -> None:
    """Everything that belongs to the person, from back to front."""
    facts = seen(person, shot)
    pose, skin = _pose(person, shot, facts), SKIN_RGB[person.skin]
    outer = person.outer if shot.wears_outer else None
    top = person.top if "top" in facts else None
    bag = person.bag if "bag" in facts else None
    _ground_shadow(canvas, pose)
    if "hair" in facts and shot.view == "front":
        _hair_behind(canvas, person.hair)
    lower, shoes = (person.lower if "lower" in facts else None), (person.shoes if "shoes" in facts else None)
    _legs(canvas, pose, lower, shoes, skin)
    arms = [_Sleeves(outer, top, skin, joints) for joints in pose.arms]
    if shot.view == "side":
        canvas.light = FAR
        _arm_with_sleeve(canvas, arms[0])
        canvas.light = 1.0
    _neck(canvas, skin, shot.view)
    if top is not None:
        _top(canvas, pose, top, person.sex, top.pattern == "print" and "top_accent" in facts)
    if outer is not None:
        _outer(canvas, pose, outer, person.sex, shot.outer == "open" and shot.view != "back")
    if bag is not None and bag.kind == "backpack":
        _thing(canvas, bag, shot.view)
    for arm in arms[1:] if shot.view == "side" else arms:
        _arm_with_sleeve(canvas, arm)
    _head(canvas, person, facts, skin)
    if bag is not None and bag.kind != "backpack":
        _thing(canvas, bag, shot.view, pose.arms[1][2] if bag.kind == "handbag" else (0, 0))
    if shot.outer == "held" and person.outer is not None:
        _held(canvas, person.outer, pose)
    if shot.carried is not None and "carried" in facts:
        _thing(canvas, shot.carried, shot.view, pose.arms[0][2])


def _ground_shadow(canvas: Canvas, pose: Pose) -> None:
    (x, y), reach = canvas.at((0, 99.2)), canvas.scale * 14 * pose.width
    canvas.draw.ellipse((x - reach, y - reach / 7, x + reach, y + reach / 7), fill=(70, 68, 68))


LEG_WIDTHS = {"jeans": (9.0, 7.2, 6.4), "trousers": (9.0, 7.0, 6.0), "sweatpants": (9.2, 7.6, 6.0),
              "leggings": (7.6, 5.6, 4.0)}  # fmt: skip
FAR = 0.72  # light on a limb behind the body


def _legs(canvas: Canvas, pose: Pose, lower: Item | None, shoes: Item | None, skin: Colour) -> None:
    wide = pose.width
    for leg in pose.legs:
        hip, knee, ankle = leg
        canvas.light = FAR if pose.view == "side" and leg is pose.legs[0] else 1.0
        canvas.limb(leg, (6.8 * wide, 5.2 * wide, 3.8), skin)
        _foot(canvas, ankle, shoes, skin, pose)
        if lower is not None and lower.kind in LEG_WIDTHS:
            hips, knees, ankles = LEG_WIDTHS[lower.kind]
            canvas.limb(leg, (hips * wide, knees * wide, ankles), lower)
            _leg_details(canvas, pose, leg, lower)
        elif lower is not None and lower.kind == "shorts":
            canvas.limb((hip, (knee[0], knee[1] - 4)), (9.6 * wide, 9 * wide), lower)
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
        lighter = _mixed(colour, (255, 255, 255), 0.3)
        canvas.line([(hip[0], 56), (knee[0], knee[1] - 1)], 2.2, lighter)
        canvas.line([(ankle[0] - 2.8, ankle[1]), (ankle[0] + 2.8, ankle[1])], 1.6, lighter)
    elif lower.kind == "sweatpants":  # a stripe down the outside
        out = 0 if pose.view == "side" else 3.2 * pose.width * math.copysign(1, hip[0])
        stripe = (245, 245, 245) if lower.colour != "white" else (40, 40, 44)
        down = [(hip[0] + out, 50.0), (knee[0] + out * 0.85, knee[1]), (ankle[0] + out * 0.7, ankle[1])]
        canvas.line(down, 1.5, stripe)
    elif lower.kind == "trousers":  # a pressed crease
        canvas.line([(hip[0], 54), knee, ankle], 0.8, _mixed(colour, (0, 0, 0), 0.4))


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


class _Sleeves(NamedTuple):
    """What covers one arm."""

    outer: Item | None
    top: Item | None
    skin: Colour
    joints: tuple[Point, Point, Point]


def _arm_with_sleeve(canvas: Canvas, arm: _Sleeves) -> None:
    shoulder, elbow, hand = arm.joints
    canvas.limb(arm.joints, (4.4, 3.8, 3.2), arm.skin)
    cloth = arm.outer if arm.outer is not None and arm.outer.kind != "vest" else arm.top
    if cloth is not None and cloth.kind in ("t-shirt", "polo shirt", "dress"):
        end = (shoulder[0] + (elbow[0] - shoulder[0]) * 0.7, shoulder[1] + (elbow[1] - shoulder[1]) * 0.7)
        canvas.limb((shoulder, end), (5.6, 5.8), cloth)
    elif cloth is not None and cloth.kind != "tank top":
        wide = {"puffer jacket": 7.0, "coat": 6.2, "blouse": 6.4, "hoodie": 6.2}.get(cloth.kind, 5.6)
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


def _torso(pose: Pose, sex: str, hem: float, extra: float = 0.0, flare: float = 0.0) -> Shape:
    """The outline of what is worn on the trunk, `extra` units outside the skin."""
    wide = pose.width
    if pose.view == "side":
        depth, chest = 5.6 * wide + extra, (1.0 if sex == "woman" else 0.0)
        return [(-2.5, 17.2), (3, 17.2), (depth + chest, 26), (depth, 36), (depth + flare, hem),
                (-depth - flare, hem), (-depth + 0.6, 36), (-depth, 22)]  # fmt: skip
    shoulder, waist = 10.4 * wide + extra, (7.6 if sex == "woman" else 8.8) * wide + extra
    half = [(3.2, 16.8), (shoulder - 2.5, 18.2), (shoulder, 21), (waist, 35), (8.9 * wide + extra, 46),
            (8.9 * wide + extra + flare, hem)]  # fmt: skip
    return [(-x, y) for x, y in reversed(half)] + half


def _neck(canvas: Canvas, skin: Colour, view: str) -> None:
    canvas.box(-2.6, 12, 2.6, 19.5, skin, 1)
    if view != "back":
        canvas.shape([(-3.2, 17), (3.2, 17), (0, 21)], skin)


def _top(canvas: Canvas, pose: Pose, top: Item, sex: str, marked: bool) -> None:
    dress = top.kind == "dress"
    hem, flare = (71.0, 4.2) if dress else (50.5, 1.8 if top.kind == "blouse" else 0.0)
    canvas.cloth(_torso(pose, sex, hem, flare=flare), top)
    darker = _mixed(RGB[top.colour], (0, 0, 0), 0.35)
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
        collar, placket = _mixed(colour, (255, 255, 255), 0.35), 50 if kind == "shirt" else 27
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


def _outer(canvas: Canvas, pose: Pose, outer: Item, sex: str, is_open: bool) -> None:
    hem = 69.0 if outer.kind == "coat" else 51.5
    outline = _torso(pose, sex, hem, 1.1, 1.6 if outer.kind == "coat" else 0.0)
    if is_open:
        outline = _opened(outline, pose)
    for side in [outline[: len(outline) // 2], outline[len(outline) // 2 :]] if is_open else [outline]:
        canvas.cloth(side, outer)
    _folds(canvas, pose, hem)
    colour = RGB[outer.colour]
    edge = _mixed(colour, (0, 0, 0) if sum(colour) > 200 else (255, 255, 255), 0.4)
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
            canvas.oval(0, 17.4, 4.6, 2.0, _mixed(colour, (0, 0, 0), 0.5))


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


def _hair_behind(canvas: Canvas, hair: Item) -> None:
    """From the front: the hair that hangs behind the neck."""
    colour = _mixed(HAIR_RGB[hair.colour], (0, 0, 0), 0.15)
    if hair.kind in ("long", "bob"):
        canvas.box(-7, 6, 7, 27 if hair.kind == "long" else 17, colour, 3)


def _head(canvas: Canvas, person: Person, facts: dict[str, str], skin: Colour) -> None:
    view = facts["view"]
    hair = person.hair if "hair" in facts else None
    if hair is not None and hair.kind == "bun":
        x, y = (-4.6, 1.6) if view == "side" else (0.0, -0.4)
        canvas.oval(x, y, 3.6, 3.2, HAIR_RGB[hair.colour])
    {"front": _face, "side": _profile, "back": _back_of_head}[view](canvas, hair, skin)
    if "scarf" in facts and person.scarf is not None:  # around long hair too
        _scarf(canvas, person.scarf, view)
    if "glasses" in facts:
        _glasses(canvas, facts["glasses"], view)
    if "hat" in facts and person.hat is not None:
        _thing(canvas, person.hat, view)


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
    canvas.line([(-1.5, 13), (1.5, 13)], 0.7, _mixed(skin, (150, 40, 50), 0.6))


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
        canvas.limb(((0, 6), (0, 15), (0.6, 25)), (3.4, 4.6, 1.6), _mixed(colour, (0, 0, 0), 0.3))
        canvas.oval(0, 6, 2, 1.2, (180, 40, 60))
    elif kind == "bun":
        canvas.oval(0, 3.2, 3.4, 3.2, _mixed(colour, (0, 0, 0), 0.3))


def _scarf(canvas: Canvas, scarf: Item, view: str) -> None:
    colour = RGB[scarf.colour]
    darker = _mixed(colour, (0, 0, 0), 0.14)
    if view != "back":
        x = 1.6 if view == "front" else 3.4
        canvas.shape([(x, 17), (x + 4, 17), (x + 4.4, 33), (x + 0.2, 33)], darker)
    canvas.box(-6.2, 14.6, 6.2, 19.4, colour, 2)


def _glasses(canvas: Canvas, kind: str, view: str) -> None:
    frame = (18, 18, 22)
    lenses = [(4.8, 1.6)] if view == "side" else [(-2.5, 2.0), (2.5, 2.0)]
    for x, radius in lenses:
        canvas.oval(x, 9, radius, 1.7, frame)
        if kind == "glasses":
            canvas.oval(x, 9, radius * 0.6, 1.0, (206, 222, 230))
    canvas.line([(-1, 8.6), (4.8, 8.6)] if view == "side" else [(-5.2, 8.6), (5.2, 8.6)], 0.8, frame)


# Things that are worn on the body or carried, as parts

# (form, numbers, tone). Forms: box x0 y0 x1 y1 [corner], oval and dome x y rx ry, shape x y x y ...,
# line width x y x y ... Tones: the item's own colour, that darker or paler, or RGB.
Part = tuple[str, tuple[float, ...], str | Colour]
STICK, LIGHT = (60, 50, 44), (238, 238, 234)
# By kind and view, "" for any other view. What is in a hand is relative to that hand.
# fmt: off
PARTS: dict[tuple[str, str], tuple[Part, ...]] = {
    ("cap", "front"): (("dome", (0, 6.2, 7.3, 7.4), "own"), ("oval", (0, 6, 6.6, 1.7), "dark")),
    ("cap", "side"): (("dome", (-0.8, 6.2, 7.3, 7.4), "own"), ("box", (4.5, 4.4, 12.4, 6.2, 0.8), "dark")),
    ("cap", "back"): (("dome", (0, 6.2, 7.3, 7.4), "own"), ("oval", (0, 5.2, 2.2, 1.2), "dark")),
    ("beanie", ""): (("dome", (-0.3, 5.5, 7.2, 8.4), "own"), ("box", (-7.6, 3, 7.1, 6.4, 1.2), "dark")),
    ("sun hat", ""): (("dome", (-0.3, 4.8, 6.8, 7.2), "own"), ("oval", (-0.3, 5.2, 12.5, 2.2), "own"),
                      ("box", (-6.9, 2.4, 6.3, 4.2), "dark")),
    ("backpack", "front"): (("line", (2.6, -5.6, 17.6, -6.6, 30, -8.6, 39), "own"),
                            ("line", (2.6, 5.6, 17.6, 6.6, 30, 8.6, 39), "own"),
                            ("line", (0.6, -4.4, 18, -5.2, 30), "dark"),
                            ("line", (0.6, 4.4, 18, 5.2, 30), "dark")),
    ("backpack", "back"): (("box", (-8.6, 19.5, 8.6, 45, 3), "own"),
                           ("box", (-6.2, 33, 6.2, 43, 1.5), "dark"),
                           ("line", (0.9, -8, 27.5, 8, 27.5), "dark")),
    ("backpack", "side"): (("box", (-16.4, 20, -4.8, 44.5, 3.2), "own"),
                           ("box", (-16.4, 32, -11.6, 42.5, 1.5), "dark"),
                           ("line", (2.2, -2, 17.8, 2.2, 24, -3, 36), "dark")),
    ("shoulder bag", "side"): (("line", (1.5, 0.5, 17.8, -1.5, 39), "own"),
                               ("box", (-6.5, 38, 3.5, 47.5, 1.4), "own"),
                               ("box", (-6.5, 38, 3.5, 42, 1.2), "dark")),
    ("shoulder bag", ""): (("line", (1.5, -7.5, 18.4, 9.5, 39), "own"),
                           ("box", (6.5, 38, 16.5, 47.5, 1.4), "own"),
                           ("box", (6.5, 38, 16.5, 42, 1.2), "dark")),
    ("tote bag", "side"): (("line", (1.2, -4, 33, -2, 19, 2, 33), "dark"),
                           ("shape", (-7, 31.5, 5, 31.5, 4, 47.8, -6, 47.8), "own"),
                           ("line", (0.8, -6.6, 33.5, 4.6, 33.5), "dark")),
    ("tote bag", ""): (("line", (1.2, 11, 33, 10, 19, 17, 33), "dark"),
                       ("shape", (8, 31.5, 20, 31.5, 19, 47.8, 9, 47.8), "own"),
                       ("line", (0.8, 8.4, 33.5, 19.6, 33.5), "dark")),
    ("handbag", ""): (("line", (1, -3, 6, -1.6, 1, 1.6, 1, 3, 6), "dark"),
                      ("box", (-5.4, 5, 5.4, 13, 1.4), "own"),
                      ("box", (-5.4, 5, 5.4, 7.6, 1.2), "dark")),
    ("phone", ""): (("box", (-1.5, -5, 1.5, 2, 0.5), "own"),),
    ("cup", ""): (("shape", (-2.4, -4.5, 2.4, -4.5, 1.7, 2.5, -1.7, 2.5), "own"),
                  ("box", (-2.8, -6, 2.8, -4.2, 0.5), LIGHT)),
    ("bottle", ""): (("box", (-1.9, -5, 1.9, 5, 1), "own"), ("box", (-0.9, -8.4, 0.9, -5), LIGHT)),
    ("book", ""): (("box", (-4.6, -6, 4.6, 4.4), LIGHT), ("box", (-4.6, -6, 3.6, 3.6), "own"),
                   ("line", (0.9, -2.6, -2.6, 1.6, -2.6), LIGHT)),
    ("folder", ""): (("shape", (-5.6, -3.4, 5.2, -4.4, 5.6, 4, -5.2, 5), "own"),
                     ("line", (0.8, -5.2, -1, 5.2, -2), "dark")),
    ("umbrella", ""): (("line", (0.9, 0, 1, 0, 34), STICK),
                       ("shape", (-0.8, 4, 0.8, 4, 2.6, 9, 0.6, 31, -0.6, 31, -2.6, 9), "own"),
                       ("line", (0.6, 0, 6, 0, 29), "dark")),
    ("shopping bag", ""): (("line", (0.8, -3, 6, 0, 1, 3, 6), "dark"), ("box", (-5.4, 4.8, 5.4, 18), "own"),
                           ("box", (-2.6, 9, 2.6, 12.6), "pale")),
    ("suitcase", ""): (("line", (0.9, -5, 23, -0.4, 2), STICK), ("box", (-11, 23, 1, 49, 1.4), "own"),
                       ("line", (0.8, -7, 25, -7, 47), "dark"), ("line", (0.8, -3, 25, -3, 47), "dark"),
                       ("oval", (-9, 50, 1.6, 1.6), STICK), ("oval", (-1, 50, 1.6, 1.6), STICK)),
    ("skateboard", ""): (("box", (-2.2, -20, 2.2, 11, 2.2), "own"),
                         ("box", (-4.2, -16.4, -2.2, -13.6, 0.6), LIGHT),
                         ("box", (-4.2, 4.6, -2.2, 7.4, 0.6), LIGHT)),
}
# fmt: on


def _thing(canvas: Canvas, item: Item, view: str, place: Point = (0, 0)) -> None:
    """A hat, a bag or a carried thing."""
    own = RGB[item.colour]
    tones = {"own": own, "dark": _mixed(own, (0, 0, 0), 0.35), "pale": _mixed(own, (255, 255, 255), 0.6)}
    parts = PARTS[(item.kind, view)] if (item.kind, view) in PARTS else PARTS[(item.kind, "")]
    for form, numbers, tone in parts:
        _part(canvas, form, numbers, tones[tone] if isinstance(tone, str) else tone, place)


def _part(canvas: Canvas, form: str, numbers: tuple[float, ...], colour: Colour, place: Point) -> None:
    (x, y), width = place, 0.0
    if form == "line":
        width, *numbers_left = numbers
        numbers = tuple(numbers_left)
    if form in ("line", "shape"):
        points = [(x + dx, y + dy) for dx, dy in zip(numbers[::2], numbers[1::2], strict=True)]
        canvas.line(points, width, colour) if form == "line" else canvas.shape(points, colour)
    elif form == "box":
        left, top, right, bottom, *corner = numbers
        canvas.box(x + left, y + top, x + right, y + bottom, colour, corner[0] if corner else 0)
    else:
        dx, dy, rx, ry = numbers
        (canvas.dome if form == "dome" else canvas.oval)(x + dx, y + dy, rx, ry, colour)


def _held(canvas: Canvas, outer: Item, pose: Pose) -> None:
    """An outer garment over the forearm of arm 1."""
    (_, elbow, hand) = pose.arms[1]
    x0, x1 = (hand[0] - 0.5, elbow[0] + 2.6) if pose.view != "side" else (elbow[0] - 1.2, hand[0] + 0.6)
    if pose.view == "back":
        x0, x1 = elbow[0] - 2.5, elbow[0] + 4.5
    y = 33.6
    canvas.cloth([(x0, y), (x1, y), (x1 + 1, y + 21), (x0 - 0.5, y + 23)], outer)
    canvas.crease([((x0 + x1) / 2, y + 3), ((x0 + x1) / 2 + 0.6, y + 21)], 120, 1.2)
    canvas.shade([(x0, y + 16), (x1, y + 14), (x1 + 1, y + 21), (x0 - 0.5, y + 23)], 205)


# Surroundings

# What stands about, in hundredths of the image's height from the foot of the wall at (0, 0).
# fmt: off
CLUTTER: dict[str, tuple[tuple[str, tuple[float, ...], Colour], ...]] = {
    "window": (("box", (-7, -32, 7, -12), (226, 226, 220)), ("box", (-6, -31, 6, -13), (96, 120, 142)),
               ("box", (-0.4, -31, 0.4, -13), (226, 226, 220))),
    "door": (("box", (-6, -31, 6, 1), (120, 88, 62)), ("oval", (4, -14, 0.8, 0.8), (220, 200, 120))),
    "pole": (("box", (-0.8, -56, 0.8, 16), (84, 86, 90)),),
    "bin": (("box", (-3.2, -3, 3.2, 9), (60, 92, 74)), ("box", (-3.8, -4, 3.8, -2), (44, 66, 54))),
    "tree": (("box", (-1.2, -20, 1.2, 8), (92, 70, 50)), ("oval", (0, -24, 9, 11), (76, 118, 62)),
             ("oval", (-5, -18, 6, 7), (88, 132, 70))),
    "bush": (("oval", (0, 0, 8, 5), (70, 110, 58)), ("oval", (6, 1, 6, 4), (84, 124, 66))),
    "bench": (("box", (-9, 3, 9, 5), (126, 92, 60)), ("box", (-7.7, 4, -6.3, 10), (70, 70, 72)),
              ("box", (6.3, 4, 7.7, 10), (70, 70, 72))),
    "poster": (("box", (-5, -31, 5, -17), (206, 186, 120)), ("box", (-3.6, -29, 3.6, -23), (150, 84, 76))),
    "plant": (("box", (-2.6, -2, 2.6, 6), (150, 96, 70)), ("oval", (0, -6, 5, 6), (74, 124, 72))),
    "passer-by": (("box", (-1.9, 6, -0.1, 18), (66, 68, 80)), ("box", (0.1, 6, 1.9, 18), (66, 68, 80)),
                  ("box", (-2.8, -4, 2.8, 8), (128, 116, 112)), ("oval", (0, -6.4, 1.7, 2), (196, 160, 136))),
}
# fmt: on


def _background(canvas: Canvas, scene: Scene, clutter: float, rng: np.random.Generator) -> None:
    half, horizon = canvas.half_width, 100 * scene.horizon + 4 * float(rng.random())
    canvas.box(-half, 0, half, horizon, scene.wall)
    canvas.box(-half, horizon, half, 101, scene.floor)
    joint = _mixed(scene.floor, (255, 255, 255), 0.14)
    for depth in (0.06, 0.2, 0.45, 0.8):
        y = horizon + (100 - horizon) * depth
        canvas.line([(-half, y), (half, y)], 0.5, joint)
    canvas.line([(-half, horizon), (half, horizon)], 0.9, _mixed(scene.floor, (0, 0, 0), 0.25))
    for kind in scene.clutter[: 1 + int(clutter * len(scene.clutter))]:
        x, tint = (2 * float(rng.random()) - 1) * half, 0.25 * float(rng.random())
        for form, numbers, colour in CLUTTER[kind]:
            farther = _mixed(_mixed(colour, scene.wall, 0.3), (0, 0, 0), tint)  # paler than the person
            _part(canvas, form, numbers, farther, (x, horizon))


def _occluder(canvas: Canvas, kind: str, top: float, rng: np.random.Generator) -> None:
    """What stands in front of the body from `top` down; the frame's edge needs no drawing."""
    reach, bottom = canvas.half_width * 3, 150.0
    if kind == "hedge":
        canvas.box(-reach, top, reach, bottom, (44, 84, 40))
        for _ in range(60):
            x, y = (2 * float(rng.random()) - 1) * 34, top + float(rng.random()) ** 1.5 * 50
            green = 70 + int(60 * float(rng.random()))
            canvas.oval(x, y, 2.6, 2.0, (green // 2 + 10, green + 24, green // 2))
    elif kind == "wall":
        canvas.box(-reach, top, reach, bottom, (156, 112, 92))
        canvas.box(-reach, top, reach, top + 3, (196, 190, 180))
        for row in range(12):
            y = top + 3 + 5 * row
            canvas.line([(-reach, y), (reach, y)], 0.7, (196, 178, 164))
            for column in range(-6, 7):
                x = column * 9 + (row % 2) * 4.5
                canvas.line([(x, y), (x, y + 5)], 0.7, (196, 178, 164))
    elif kind == "car":
        paint = CAR_PAINTS[int(float(rng.random()) * len(CAR_PAINTS))]
        end = -22 + 8 * float(rng.random())
        canvas.box(-reach, top, reach, bottom, paint)
        canvas.box(-reach, top + 1.6, reach, top + 3.2, _mixed(paint, (255, 255, 255), 0.5))
        canvas.line([(end + 26, top + 4), (end + 26, top + 34)], 0.8, _mixed(paint, (0, 0, 0), 0.5))
        canvas.box(end + 28, top + 9, end + 33, top + 10.6, _mixed(paint, (0, 0, 0), 0.6), 0.6)
        canvas.oval(end, top + 34, 10, 11, (24, 24, 26))
        canvas.oval(end, top + 34, 5, 5.6, (170, 172, 176))
        canvas.box(-reach, top + 34 + 8, reach, bottom, (70, 70, 72))


CAR_PAINTS = ((176, 178, 184), (60, 66, 84), (150, 40, 40), (226, 226, 224))


def _photograph(image: Image.Image, camera: Camera, rng: np.random.Generator) -> Image.Image:
    """The camera's blur, colour cast and noise, and the exposure and the light's side of the moment."""
    width, height = image.size
    image = image.filter(ImageFilter.GaussianBlur(camera.blur * height / 96))
    exposure, slope = 0.9 + 0.2 * float(rng.random()), 0.24 * (float(rng.random()) - 0.5)
    light = exposure * (1 + slope * np.linspace(-1, 1, width, dtype=np.float32))
    pixels = np.asarray(image, dtype=np.float32) * np.asarray(camera.gain, dtype=np.float32) * light[:, None]
    grain = rng.random((height, width, 3), dtype=np.float32) - np.float32(0.5)
    pixels += grain * np.float32(camera.noise * math.sqrt(12))  # a uniform draw's deviation is 1 / sqrt(12)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _mixed(colour: Colour, other: Colour, share: float) -> Colour:
    """`colour` with `share` of `other`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue
