"""Things that are worn on the body or carried: scarves, glasses, hats, bags, what is in a hand."""

from rasa.data.synthetic.canvas import RGB, Canvas, Colour, Point, mixed, part
from rasa.data.synthetic.looks import Item

# (form, numbers, tone). Forms: box x0 y0 x1 y1 [corner], oval and dome x y rx ry, shape x y x y ...,
# line width x y x y ... Tones: the item's own colour, that darker or paler, or RGB.
Part = tuple[str, tuple[float, ...], str | Colour]
STICK, LIGHT = (60, 50, 44), (238, 238, 234)
# By kind and view, "" for any other view. What is in a hand is relative to that hand.
PARTS: dict[tuple[str, str], tuple[Part, ...]] = {
    ("cap", "front"): (("dome", (0, 6.2, 7.3, 7.4), "own"), ("oval", (0, 6, 6.6, 1.7), "dark")),
    ("cap", "side"): (("dome", (-0.8, 6.2, 7.3, 7.4), "own"), ("box", (4.5, 4.4, 12.4, 6.2, 0.8), "dark")),
    ("cap", "back"): (("dome", (0, 6.2, 7.3, 7.4), "own"), ("oval", (0, 5.2, 2.2, 1.2), "dark")),
    ("beanie", ""): (("dome", (-0.3, 5.5, 7.2, 8.4), "own"), ("box", (-7.6, 3, 7.1, 6.4, 1.2), "dark")),
    ("sun hat", ""): (
        ("dome", (-0.3, 4.8, 6.8, 7.2), "own"),
        ("oval", (-0.3, 5.2, 12.5, 2.2), "own"),
        ("box", (-6.9, 2.4, 6.3, 4.2), "dark"),
    ),
    ("backpack", "front"): (
        ("line", (2.6, -5.6, 17.6, -6.6, 30, -8.6, 39), "own"),
        ("line", (2.6, 5.6, 17.6, 6.6, 30, 8.6, 39), "own"),
        ("line", (0.6, -4.4, 18, -5.2, 30), "dark"),
        ("line", (0.6, 4.4, 18, 5.2, 30), "dark"),
    ),
    ("backpack", "back"): (
        ("box", (-8.6, 19.5, 8.6, 45, 3), "own"),
        ("box", (-6.2, 33, 6.2, 43, 1.5), "dark"),
        ("line", (0.9, -8, 27.5, 8, 27.5), "dark"),
    ),
    ("backpack", "side"): (
        ("box", (-16.4, 20, -4.8, 44.5, 3.2), "own"),
        ("box", (-16.4, 32, -11.6, 42.5, 1.5), "dark"),
        ("line", (2.2, -2, 17.8, 2.2, 24, -3, 36), "dark"),
    ),
    ("shoulder bag", "side"): (
        ("line", (1.5, 0.5, 17.8, -1.5, 39), "own"),
        ("box", (-6.5, 38, 3.5, 47.5, 1.4), "own"),
        ("box", (-6.5, 38, 3.5, 42, 1.2), "dark"),
    ),
    ("shoulder bag", ""): (
        ("line", (1.5, -7.5, 18.4, 9.5, 39), "own"),
        ("box", (6.5, 38, 16.5, 47.5, 1.4), "own"),
        ("box", (6.5, 38, 16.5, 42, 1.2), "dark"),
    ),
    ("tote bag", "side"): (
        ("line", (1.2, -4, 33, -2, 19, 2, 33), "dark"),
        ("shape", (-7, 31.5, 5, 31.5, 4, 47.8, -6, 47.8), "own"),
        ("line", (0.8, -6.6, 33.5, 4.6, 33.5), "dark"),
    ),
    ("tote bag", ""): (
        ("line", (1.2, 11, 33, 10, 19, 17, 33), "dark"),
        ("shape", (8, 31.5, 20, 31.5, 19, 47.8, 9, 47.8), "own"),
        ("line", (0.8, 8.4, 33.5, 19.6, 33.5), "dark"),
    ),
    ("handbag", ""): (
        ("line", (1, -3, 6, -1.6, 1, 1.6, 1, 3, 6), "dark"),
        ("box", (-5.4, 5, 5.4, 13, 1.4), "own"),
        ("box", (-5.4, 5, 5.4, 7.6, 1.2), "dark"),
    ),
    ("phone", ""): (("box", (-1.5, -5, 1.5, 2, 0.5), "own"),),
    ("cup", ""): (
        ("shape", (-2.4, -4.5, 2.4, -4.5, 1.7, 2.5, -1.7, 2.5), "own"),
        ("box", (-2.8, -6, 2.8, -4.2, 0.5), LIGHT),
    ),
    ("bottle", ""): (("box", (-1.9, -5, 1.9, 5, 1), "own"), ("box", (-0.9, -8.4, 0.9, -5), LIGHT)),
    ("book", ""): (
        ("box", (-4.6, -6, 4.6, 4.4), LIGHT),
        ("box", (-4.6, -6, 3.6, 3.6), "own"),
        ("line", (0.9, -2.6, -2.6, 1.6, -2.6), LIGHT),
    ),
    ("folder", ""): (
        ("shape", (-5.6, -3.4, 5.2, -4.4, 5.6, 4, -5.2, 5), "own"),
        ("line", (0.8, -5.2, -1, 5.2, -2), "dark"),
    ),
    ("umbrella", ""): (
        ("line", (0.9, 0, 1, 0, 34), STICK),
        ("shape", (-0.8, 4, 0.8, 4, 2.6, 9, 0.6, 31, -0.6, 31, -2.6, 9), "own"),
        ("line", (0.6, 0, 6, 0, 29), "dark"),
    ),
    ("shopping bag", ""): (
        ("line", (0.8, -3, 6, 0, 1, 3, 6), "dark"),
        ("box", (-5.4, 4.8, 5.4, 18), "own"),
        ("box", (-2.6, 9, 2.6, 12.6), "pale"),
    ),
    ("suitcase", ""): (
        ("line", (0.9, -5, 23, -0.4, 2), STICK),
        ("box", (-11, 23, 1, 49, 1.4), "own"),
        ("line", (0.8, -7, 25, -7, 47), "dark"),
        ("line", (0.8, -3, 25, -3, 47), "dark"),
        ("oval", (-9, 50, 1.6, 1.6), STICK),
        ("oval", (-1, 50, 1.6, 1.6), STICK),
    ),
    ("skateboard", ""): (
        ("box", (-2.2, -20, 2.2, 11, 2.2), "own"),
        ("box", (-4.2, -16.4, -2.2, -13.6, 0.6), LIGHT),
        ("box", (-4.2, 4.6, -2.2, 7.4, 0.6), LIGHT),
    ),
}


def thing(canvas: Canvas, item: Item, view: str, place: Point = (0, 0)) -> None:
    """A hat, a bag or a carried thing."""
    own = RGB[item.colour]
    tones = {"own": own, "dark": mixed(own, (0, 0, 0), 0.35), "pale": mixed(own, (255, 255, 255), 0.6)}
    parts = PARTS[(item.kind, view)] if (item.kind, view) in PARTS else PARTS[(item.kind, "")]
    for form, numbers, tone in parts:
        part(canvas, form, numbers, tones[tone] if isinstance(tone, str) else tone, place)


def scarf(canvas: Canvas, scarf: Item, view: str) -> None:
    colour = RGB[scarf.colour]
    darker = mixed(colour, (0, 0, 0), 0.14)
    if view != "back":
        x = 1.6 if view == "front" else 3.4
        canvas.shape([(x, 17), (x + 4, 17), (x + 4.4, 33), (x + 0.2, 33)], darker)
    canvas.box(-6.2, 14.6, 6.2, 19.4, colour, 2)


def glasses(canvas: Canvas, kind: str, view: str) -> None:
    frame = (18, 18, 22)
    lenses = [(4.8, 1.6)] if view == "side" else [(-2.5, 2.0), (2.5, 2.0)]
    for x, radius in lenses:
        canvas.oval(x, 9, radius, 1.7, frame)
        if kind == "glasses":
            canvas.oval(x, 9, radius * 0.6, 1.0, (206, 222, 230))
    canvas.line([(-1, 8.6), (4.8, 8.6)] if view == "side" else [(-5.2, 8.6), (5.2, 8.6)], 0.8, frame)
