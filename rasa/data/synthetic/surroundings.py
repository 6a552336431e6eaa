"""What is not the person: cameras, backgrounds, occluders, and how a picture is photographed."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from rasa.data.synthetic.canvas import Canvas, Colour, mixed, part
from rasa.data.synthetic.people import chance


class Camera(NamedTuple):
    """How a camera sees: RGB gain, blur radius in pixels at height 96, noise as a deviation of 0 to 255, and the share
    of the image's height and width that it resolves."""

    gain: tuple[float, float, float]
    blur: float
    noise: float
    resolution: float
    slope: float = 0.24  # between the most and the least by which light falls off over the width


CAMERAS = {
    "street": Camera((1.0, 1.0, 1.0), 0.35, 4.0, 1.0),
    "park": Camera((1.03, 1.04, 0.92), 0.4, 5.0, 0.85),
    "hall": Camera((1.06, 0.98, 0.86), 0.3, 6.0, 1.0),
    "plaza": Camera((0.97, 1.03, 1.1), 0.4, 4.0, 0.65),
    "shop": Camera((1.08, 1.05, 1.02), 0.4, 7.0, 0.75),
    "underpass": Camera((0.86, 0.88, 0.97), 0.4, 8.0, 0.9),
}


def in_the_evening(camera: Camera) -> Camera:
    """The same camera under lamps: warm and dim light from one side, a longer exposure, more noise."""
    red, green, blue = camera.gain
    return Camera((0.78 * red, 0.6 * green, 0.44 * blue), 1.3 * camera.blur, 1.8 * camera.noise, camera.resolution, 0.7)


class Scene(NamedTuple):
    """A background: wall and floor colours, where they meet (share of the height), and what stands about."""

    wall: Colour
    floor: Colour
    horizon: float
    clutter: tuple[str, ...]


SCENES = {
    "street": Scene((168, 160, 150), (112, 112, 116), 0.46, ("window", "passer-by", "pole", "bin")),
    "park": Scene((176, 204, 222), (118, 148, 92), 0.4, ("tree", "bush", "passer-by", "bench")),
    "hall": Scene((214, 202, 178), (158, 146, 130), 0.55, ("door", "passer-by", "plant", "poster")),
    "plaza": Scene((190, 206, 224), (182, 176, 168), 0.38, ("window", "tree", "passer-by", "pole")),
    "shop": Scene((128, 104, 96), (190, 184, 176), 0.58, ("window", "passer-by", "door", "bin")),
    "underpass": Scene((118, 120, 116), (92, 92, 94), 0.52, ("poster", "passer-by", "pole", "bin")),
}

# The web's: for each place of the benchmark one that it does not have, taken with a camera that it does not have.
WEB_SCENES = {
    "street": Scene((148, 208, 236), (232, 208, 152), 0.34, ("bush", "bench", "passer-by", "tree")),  # a beach
    "park": Scene((92, 60, 84), (70, 48, 60), 0.62, ("poster", "plant", "door", "window")),  # a stage
    "hall": Scene((236, 236, 232), (206, 182, 150), 0.66, ("window", "plant", "door", "poster")),  # a living room
    "plaza": Scene((72, 112, 70), (104, 92, 66), 0.3, ("tree", "tree", "bush", "passer-by")),  # a forest
    "shop": Scene((150, 172, 158), (84, 108, 150), 0.5, ("poster", "passer-by", "bin", "door")),  # a sports hall
    "underpass": Scene((224, 190, 176), (150, 78, 66), 0.44, ("window", "door", "pole", "plant")),  # an old town
}
WEB_CAMERAS = {
    "street": Camera((1.12, 1.06, 0.94), 0.2, 2.0, 1.0, 0.1),
    "park": Camera((1.1, 0.86, 1.04), 0.5, 6.0, 1.0, 0.6),
    "hall": Camera((1.05, 1.03, 1.0), 0.25, 2.0, 1.0, 0.3),
    "plaza": Camera((0.9, 1.04, 0.88), 0.3, 3.0, 1.0, 0.4),
    "shop": Camera((0.92, 1.02, 1.12), 0.5, 5.0, 0.8, 0.15),
    "underpass": Camera((1.1, 0.98, 0.9), 0.25, 3.0, 0.9, 0.3),
}


# What stands about, in hundredths of the image's height from the foot of the wall at (0, 0). Clothes are of a drawn
# colour, and passers-by are near or far.
CLOTHES: tuple[Colour, ...] = (
    (66, 68, 80),
    (128, 116, 112),
    (150, 60, 60),
    (60, 90, 140),
    (80, 120, 84),
    (196, 176, 120),
    (210, 208, 204),
    (96, 72, 110),
)
CLUTTER: dict[str, tuple[tuple[str, tuple[float, ...], Colour | str], ...]] = {
    "window": (
        ("box", (-7, -32, 7, -12), (226, 226, 220)),
        ("box", (-6, -31, 6, -13), (96, 120, 142)),
        ("box", (-0.4, -31, 0.4, -13), (226, 226, 220)),
    ),
    "door": (("box", (-6, -31, 6, 1), (120, 88, 62)), ("oval", (4, -14, 0.8, 0.8), (220, 200, 120))),
    "pole": (("box", (-0.8, -56, 0.8, 16), (84, 86, 90)),),
    "bin": (("box", (-3.2, -3, 3.2, 9), (60, 92, 74)), ("box", (-3.8, -4, 3.8, -2), (44, 66, 54))),
    "tree": (
        ("box", (-1.2, -20, 1.2, 8), (92, 70, 50)),
        ("oval", (0, -24, 9, 11), (76, 118, 62)),
        ("oval", (-5, -18, 6, 7), (88, 132, 70)),
    ),
    "bush": (("oval", (0, 0, 8, 5), (70, 110, 58)), ("oval", (6, 1, 6, 4), (84, 124, 66))),
    "bench": (
        ("box", (-9, 3, 9, 5), (126, 92, 60)),
        ("box", (-7.7, 4, -6.3, 10), (70, 70, 72)),
        ("box", (6.3, 4, 7.7, 10), (70, 70, 72)),
    ),
    "poster": (("box", (-5, -31, 5, -17), (206, 186, 120)), ("box", (-3.6, -29, 3.6, -23), (150, 84, 76))),
    "plant": (("box", (-2.6, -2, 2.6, 6), (150, 96, 70)), ("oval", (0, -6, 5, 6), (74, 124, 72))),
    "passer-by": (
        ("box", (-1.9, 6, -0.1, 18), "trousers"),
        ("box", (0.1, 6, 1.9, 18), "trousers"),
        ("box", (-2.8, -4, 2.8, 8), "jacket"),
        ("oval", (0, -6.4, 1.7, 2), (196, 160, 136)),
        ("dome", (0, -7, 1.8, 1.8), (70, 54, 46)),
    ),
}


def background(canvas: Canvas, scene: Scene, clutter: float, rng: np.random.Generator) -> None:
    half, horizon = canvas.half_width, 100 * scene.horizon + 4 * float(rng.random())
    canvas.box(-half, 0, half, horizon, scene.wall)
    canvas.box(-half, horizon, half, 101, scene.floor)
    joint = mixed(scene.floor, (255, 255, 255), 0.14)
    for depth in (0.06, 0.2, 0.45, 0.8):
        y = horizon + (100 - horizon) * depth
        canvas.line([(-half, y), (half, y)], 0.5, joint)
    canvas.line([(-half, horizon), (half, horizon)], 0.9, mixed(scene.floor, (0, 0, 0), 0.25))
    for kind in scene.clutter[: 1 + int(clutter * len(scene.clutter))]:
        x, tint, *dice = (float(number) for number in rng.random(5))
        clothes = {
            name: CLOTHES[int(roll * len(CLOTHES))] for name, roll in zip(("jacket", "trousers"), dice, strict=False)
        }
        near = 1 + 1.2 * dice[2] if kind == "passer-by" else 1.0
        for form, numbers, tone in CLUTTER[kind]:
            colour = clothes[tone] if isinstance(tone, str) else tone
            farther = mixed(mixed(colour, scene.wall, 0.3), (0, 0, 0), 0.25 * tint)  # paler than the person
            part(canvas, form, tuple(near * number for number in numbers), farther, ((2 * x - 1) * half, horizon))


def occluder(canvas: Canvas, kind: str, top: float, rng: np.random.Generator) -> None:
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
    elif kind == "pole":  # before an arm at most: it hides nothing whole
        x = 8.5 if chance(rng, 0.5) else -8.5
        canvas.box(x - 1.1, -60, x + 1.1, bottom, (74, 78, 84))
        canvas.box(x - 0.9, -60, x - 0.3, bottom, (126, 130, 134))
    elif kind == "car":
        paint = CAR_PAINTS[int(float(rng.random()) * len(CAR_PAINTS))]
        end = -22 + 8 * float(rng.random())
        canvas.box(-reach, top, reach, bottom, paint)
        canvas.box(-reach, top + 1.6, reach, top + 3.2, mixed(paint, (255, 255, 255), 0.5))
        canvas.line([(end + 26, top + 4), (end + 26, top + 34)], 0.8, mixed(paint, (0, 0, 0), 0.5))
        canvas.box(end + 28, top + 9, end + 33, top + 10.6, mixed(paint, (0, 0, 0), 0.6), 0.6)
        canvas.oval(end, top + 34, 10, 11, (24, 24, 26))
        canvas.oval(end, top + 34, 5, 5.6, (170, 172, 176))
        canvas.box(-reach, top + 34 + 8, reach, bottom, (70, 70, 72))


CAR_PAINTS = ((176, 178, 184), (60, 66, 84), (150, 40, 40), (226, 226, 224))


def photograph(image: Image.Image, camera: Camera, rng: np.random.Generator) -> Image.Image:
    """The camera's resolution, blur, colour cast and noise, and the exposure and the light's side of the moment."""
    width, height = image.size
    if camera.resolution < 1:
        coarse = max(1, round(width * camera.resolution)), max(1, round(height * camera.resolution))
        image = image.resize(coarse, Image.Resampling.BOX).resize((width, height), Image.Resampling.BILINEAR)
    image = image.filter(ImageFilter.GaussianBlur(camera.blur * height / 96))
    exposure, slope = 0.9 + 0.2 * float(rng.random()), camera.slope * (float(rng.random()) - 0.5)
    light = exposure * (1 + slope * np.linspace(-1, 1, width, dtype=np.float32))
    pixels = np.asarray(image, dtype=np.float32) * np.asarray(camera.gain, dtype=np.float32) * light[:, None]
    grain = rng.random((height, width, 3), dtype=np.float32) - np.float32(0.5)
    pixels += grain * np.float32(camera.noise * math.sqrt(12))  # a uniform draw's deviation is 1 / sqrt(12)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
