"""What the common start is pre-trained on: coarse captions, and people photographed as on the web."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from rasa.config.benchmark import VERSION, BenchmarkParams
from rasa.data.synthetic.alt_texts import FEWEST_WORDS, MOST_WORDS, alt_text
from rasa.data.synthetic.describe import Draws, words
from rasa.data.synthetic.looks import seen
from rasa.data.synthetic.people import draw_person, draw_shot, stream
from rasa.data.synthetic.write import captions_of, write_benchmark

BASIC = {"black", "white", "grey", "red", "pink", "orange", "yellow", "green", "blue", "purple", "brown", "blond"}
PEOPLE = BenchmarkParams(seed=4, train_identities=6, val_identities=1, test_identities=1)


def shown(identity, image=0):
    person = draw_person(0, "train", identity, 0.3)
    return seen(person, draw_shot(person, 0, "train", identity, image))


def coarse(number):
    return [(facts := shown(k), alt_text(facts, stream(0, "caption", "train", k))) for k in range(number)]


def test_captions_are_short_and_start_with_a_capital():
    lengths = [len(caption.text.split()) for _, caption in coarse(400)]
    assert FEWEST_WORDS <= min(lengths) < 6 and max(lengths) == MOST_WORDS
    assert all(caption.text[0].isupper() for _, caption in coarse(50))


def test_they_tell_one_or_two_things_truly():
    """A thing is told by its kind, its colour, or both; hair by its colour. Every fact told is one that is seen."""
    things = []
    for facts, caption in coarse(400):
        assert set(caption.facts) <= set(facts)
        slots = {name.removesuffix("_colour") for name in caption.facts} - {"sex", "age"}
        things.append(len(slots))
        told = {facts[name].split()[-1] for name in caption.facts if name.endswith("_colour")}
        said = {"brown" if colour == "beige" else colour for colour in told}
        assert said <= set(words(caption.text)), (caption, facts)
    assert set(things) == {1, 2}


def test_only_basic_colours_and_generic_nouns():
    text = {word for _, caption in coarse(400) for word in words(caption.text)}
    assert not text & {
        "navy",
        "maroon",
        "burgundy",
        "light",
        "dark",
        "beige",
        "cream",
        "violet",
        "t-shirt",
        "blouse",
        "sneakers",
        "tote",
        "striped",
        "loose",
    }
    assert text >= {"red", "blue", "brown", "shirt", "jacket", "pants", "shoes", "bag", "hat"} and len(text) < 80


def test_captions_need_no_pictures_and_are_those_of_the_benchmark(tmp_path):
    for kind in ("coarse", "detailed"):
        params = PEOPLE.model_copy(update={"captions": kind})
        write_benchmark(tmp_path / kind, params)
        records = json.loads((tmp_path / kind / "reid_raw.json").read_text())
        train = [caption for record in records if record["split"] == "train" for caption in record["captions"]]
        assert list(captions_of(params, "train")) == train
    longest = max(
        len(words(caption)) for caption in captions_of(PEOPLE.model_copy(update={"captions": "coarse"}), "val")
    )
    assert longest <= MOST_WORDS < min(len(words(caption)) for caption in captions_of(PEOPLE, "val"))


def test_the_web_has_the_same_people_at_other_places(tmp_path):
    """Same words and attributes; pixels of other scenes, whose mean colour differs by more than the noise."""
    for domain in ("day", "web"):
        write_benchmark(tmp_path / domain, PEOPLE.model_copy(update={"domain": domain}))
    day, web = tmp_path / "day", tmp_path / "web"
    for name in ("reid_raw.json", "attributes.csv"):
        assert (day / name).read_bytes() == (web / name).read_bytes()
    pictures = [path.relative_to(day) for path in sorted(day.glob("imgs/*/*.png"))]
    means = [[np.asarray(Image.open(root / path)).mean((0, 1)) for root in (day, web)] for path in pictures]
    assert np.mean([np.abs(one - other).max() > 15 for one, other in means]) > 0.8


@pytest.mark.parametrize("young", [{}, {"domain": "evening"}, {"domain": "web", "captions": "coarse"}])
def test_folders_of_older_benchmarks_keep_their_names(young):
    """A field at its default does not enter the name, so that what was built before there was such a field is found."""
    params = PEOPLE.model_copy(update=young)
    told = {
        name: value
        for name, value in params.model_dump(mode="json").items()
        if name not in ("domain", "captions") or name in young
    }
    digest = hashlib.sha256(json.dumps([VERSION, told], sort_keys=True).encode()).hexdigest()[:16]
    assert params.folder() == f"synthetic-{digest}"


def test_draws_suffice_whatever_they_are():
    """The longest way through the grammar: an old person, two things, all colours told, the last frame."""
    for value in (0.0, 0.5, 0.999):
        alt_text(shown(3), _Constant(value))
    assert Draws([0.5]).random() == 0.5


class _Constant:
    def __init__(self, value):
        self.value = value

    def random(self, size):
        return np.full(size, self.value)
