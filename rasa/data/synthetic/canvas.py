"""The canvas that everything is drawn on, its units, and the colours and patterns."""

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from rasa.data.synthetic.looks import Item, Shot

Colour = tuple[int, int, int]
Point = tuple[float, float]
Shape = list[Point]

RGB: dict[str, Colour] = {
    "black": (26, 26, 30),
    "white": (242, 242, 238),
    "grey": (138, 141, 146),
    "red": (208, 30, 36),
    "dark red": (112, 16, 32),
    "pink": (243, 150, 188),
    "orange": (240, 126, 24),
    "yellow": (247, 216, 50),
    "green": (44, 156, 68),
    "dark green": (22, 74, 44),
    "light blue": (136, 194, 240),
    "blue": (34, 88, 206),
    "dark blue": (22, 32, 88),
    "purple": (124, 52, 156),
    "brown": (112, 70, 38),
    "beige": (216, 192, 150),
}
HAIR_RGB: dict[str, Colour] = {
    "black": (24, 20, 20),
    "brown": (92, 56, 30),
    "blond": (224, 186, 98),
    "red": (170, 66, 24),
    "grey": (150, 150, 152),
    "white": (232, 232, 230),
}
SKIN_RGB: dict[str, Colour] = {
    "pale": (244, 208, 184),
    "tan": (222, 176, 138),
    "brown": (164, 112, 76),
    "dark": (104, 68, 46),
}
TOP_OF_COVER = {"feet": 84.0, "legs": 49.0}  # body units; the latter is where tops end and hands are
END_OF_HEAD = 14.2  # where the frame cuts a head off, above scarves and collars


class Canvas:
    """An image that is drawn on in units: hundredths of the height at first, then body units.

    A body's crown is at y = 0, its soles are at y = 100, x = 0 is its middle and, from the side, it faces x > 0.
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
        """From here on units are body units; a body that the frame cuts is larger, cut at the lower or upper edge."""
        width, height = self.image.size
        size = min(height * 0.88, width * 1.76) * float(0.93 + 0.07 * rng.random()) / 100
        shift, foot = float(rng.random()) - 0.5, height * float(0.935 + 0.03 * rng.random())
        if shot.cover == "head":
            size = min(height * 0.95, width * 1.9) / (100 - END_OF_HEAD)
            foot = (100 - END_OF_HEAD) * size
        elif shot.occluder == "frame":
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
        return colour if self.light == 1.0 else mixed((0, 0, 0), colour, self.light)

    def _box(self, x: float, y: float, rx: float, ry: float) -> tuple[float, float, float, float]:
        (px, py), sx, sy = self.at((x, y)), rx * self.scale, ry * self.scale
        return px - sx, py - sy, px + sx, py + sy


def _segment(start: Point, end: Point, first: float, second: float) -> Shape:
    (x0, y0), (x1, y1) = start, end
    length = math.hypot(x1 - x0, y1 - y0) or 1.0
    nx, ny = (y0 - y1) / length / 2, (x1 - x0) / length / 2
    return [
        (x0 + nx * first, y0 + ny * first),
        (x1 + nx * second, y1 + ny * second),
        (x1 - nx * second, y1 - ny * second),
        (x0 - nx * first, y0 - ny * first),
    ]


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


def part(canvas: Canvas, form: str, numbers: tuple[float, ...], colour: Colour, place: Point) -> None:
    """One simple form, its numbers relative to `place`: see `things.PARTS`."""
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


def mixed(colour: Colour, other: Colour, share: float) -> Colour:
    """`colour` with `share` of `other`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue
