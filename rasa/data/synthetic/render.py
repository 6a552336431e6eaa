"""Pictures of people, drawn with Pillow at three times the size and scaled down: the order of drawing."""

import numpy as np
from PIL import Image

from rasa.data.synthetic import body, garments, surroundings, things
from rasa.data.synthetic.canvas import HAIR_RGB, RGB, SKIN_RGB, TOP_OF_COVER, Canvas
from rasa.data.synthetic.looks import Person, Shot, dressed, seen
from rasa.data.synthetic.surroundings import CAMERAS, SCENES
from rasa.data.synthetic.things import PARTS
from rasa.data.synthetic.values import NONE, PLACES

__all__ = ["CAMERAS", "HAIR_RGB", "PARTS", "RGB", "SCENES", "render"]

SUPERSAMPLING = 3


def render(
    person: Person, shot: Shot, rng: np.random.Generator, height: int, width: int, domain: str = "day"
) -> Image.Image:
    """The image of `person` in `shot`: RGB, `width` x `height` pixels. `rng` draws surroundings and noise.

    What stands before the person is drawn from a generator of its own, so that it leaves light and noise as they are.
    """
    place, web = PLACES[shot.camera - 1], domain == "web"
    scene = (surroundings.WEB_SCENES if web else SCENES)[place]
    canvas = Canvas(width * SUPERSAMPLING, height * SUPERSAMPLING)
    surroundings.background(canvas, scene, shot.clutter, rng)
    canvas.place_body(shot, rng)
    before = np.random.Generator(np.random.PCG64(int(rng.random() * 2**53)))
    _body(canvas, person, shot)
    canvas.finish_shading()
    if shot.occluder not in (NONE, "frame"):
        surroundings.occluder(canvas, shot.occluder, TOP_OF_COVER.get(shot.cover, 0.0), before)
    camera = (surroundings.WEB_CAMERAS if web else CAMERAS)[place]
    if domain == "evening":
        camera = surroundings.in_the_evening(camera)
    return surroundings.photograph(canvas.image.reduce(SUPERSAMPLING), camera, rng)


def _body(canvas: Canvas, person: Person, shot: Shot) -> None:
    """Everything that belongs to the person and that `seen` lists, from back to front."""
    facts, person = seen(person, shot), dressed(person, shot)
    pose, skin = body.pose(person, shot, facts), SKIN_RGB[person.skin]
    outer = person.outer if shot.wears_outer else None
    top = person.top if "top" in facts else None
    bag = person.bag if "bag" in facts else None
    body.ground_shadow(canvas, pose)
    if "hair" in facts and shot.view == "front":
        body.hair_behind(canvas, person.hair)
    lower, shoes = (person.lower if "lower" in facts else None), (person.shoes if "shoes" in facts else None)
    garments.legs(canvas, pose, lower, shoes, skin)
    arms = [garments.Sleeves(outer, top, skin, joints) for joints in pose.arms]
    if shot.view == "side":
        canvas.light = body.FAR
        garments.arm_with_sleeve(canvas, arms[0])
        canvas.light = 1.0
    body.neck(canvas, skin, shot.view)
    if top is not None:
        garments.top(canvas, pose, top, person.sex, top.pattern == "print" and "top_accent" in facts, outer is not None)
    if outer is not None:
        garments.outer(canvas, pose, outer, person.sex, shot.outer == "open" and shot.view != "back")
    if bag is not None and bag.kind == "backpack":
        things.thing(canvas, bag, shot.view)
    for arm in arms[1:] if shot.view == "side" else arms:
        garments.arm_with_sleeve(canvas, arm)
    body.head(canvas, person, facts, skin)
    if bag is not None and bag.kind != "backpack":
        things.thing(canvas, bag, shot.view, pose.arms[1][2] if bag.kind == "handbag" else (0, 0))
    if shot.outer == "held" and person.outer is not None:
        garments.held(canvas, person.outer, pose)
    if shot.carried is not None and "carried" in facts:
        things.thing(canvas, shot.carried, shot.view, pose.arms[0][2])
