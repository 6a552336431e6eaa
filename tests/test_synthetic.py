"""The built-in benchmark: its layout, what must not depend on its size, pictures and captions that agree."""

import csv
import json
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image, ImageChops
from pydantic import ValidationError

from rasa.data.synthetic import VERSION, BenchmarkParams, people, render, write_benchmark
from rasa.data.synthetic import describe as grammar

SMALL = BenchmarkParams(train_identities=8, val_identities=2, test_identities=3)
VIEWS = ("front", "back", "side")


def build(root, **changes):
    write_benchmark(root, SMALL.model_copy(update=changes))
    return root


def tree(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def records(root):
    return json.loads((root / "reid_raw.json").read_text())


def rows(root):
    with open(root / "attributes.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def by_place(root):
    """Per (split, place in the split, image): the image's bytes and its captions."""
    found, firsts = {}, {}
    for record in records(root):
        first = firsts.setdefault(record["split"], record["id"])
        image = int(Path(record["file_path"]).stem.split("_")[1])
        content = (root / "imgs" / record["file_path"]).read_bytes()
        found[record["split"], record["id"] - first, image] = (content, record["captions"])
    return found


def shots(count, images=4, twin_share=0.3):
    """(person, shot, seen, place) of the first `count` training people of seed 0."""
    for index in range(count):
        person = people.draw_person(0, "train", index, twin_share)
        for image in range(images):
            shot = people.draw_shot(person, 0, "train", index, image)
            yield person, shot, people.seen(person, shot), (index, image)


def captions(seen, place, count=2):
    streams = [people.stream(0, "caption", "train", *place, each) for each in range(count)]
    return [grammar.describe(seen, rng) for rng in streams]


def picture(person, shot, height=96, width=48):
    return render.render(person, shot, people.stream(0, "pixels", "train", 0, 0), height, width)


def same(first, second):
    return ImageChops.difference(first, second).getbbox() is None


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return build(tmp_path_factory.mktemp("synthetic") / "small")


def test_equal_parameters_give_equal_bytes(small, tmp_path):
    assert tree(build(tmp_path / "again")) == tree(small)


def test_another_seed_gives_other_people(small, tmp_path):
    other = by_place(build(tmp_path / "other", seed=1))
    assert other.keys() == by_place(small).keys()
    assert not any(other[place] == content for place, content in by_place(small).items())


@pytest.mark.parametrize("field", ["train_identities", "test_identities", "images_per_identity"])
def test_enlarging_leaves_the_earlier_people_as_they_are(small, tmp_path, field):
    larger = {field: getattr(SMALL, field) + 3}
    before, after = by_place(small), by_place(build(tmp_path / "larger", **larger))
    assert len(after) > len(before)
    assert {place: after[place] for place in before} == before


def test_layout(small):
    listed = records(small)
    assert len(listed) == 13 * 4
    assert [*listed[0]] == ["split", "captions", "file_path", "processed_tokens", "id"]
    assert {record["file_path"] for record in listed} == {
        str(path.relative_to(small / "imgs")) for path in (small / "imgs").rglob("*.png")
    }
    assert all(re.fullmatch(r"cam[1-6]/\d{4}_[0-3]\.png", record["file_path"]) for record in listed)
    for record in listed:
        assert len(record["captions"]) == 2
        assert record["processed_tokens"] == [grammar.words(caption) for caption in record["captions"]]
        with Image.open(small / "imgs" / record["file_path"]) as image:
            assert (image.size, image.mode, image.format) == ((48, 96), "RGB", "PNG")


def test_identities_count_from_one_and_belong_to_one_split(small):
    splits = {}
    for record in records(small):
        splits.setdefault(record["split"], set()).add(record["id"])
    assert splits == {"train": set(range(1, 9)), "val": {9, 10}, "test": {11, 12, 13}}


def test_an_identity_is_seen_by_several_cameras(small):
    cameras = {}
    for record in records(small):
        cameras.setdefault(record["id"], set()).add(record["file_path"].split("/")[0])
    assert all(len(seen_by) == 4 for seen_by in cameras.values())


def test_table_has_a_row_per_image_and_says_what_is_visible(small):
    table = rows(small)
    assert [(row["file_path"], int(row["id"]), row["split"]) for row in table] == [
        (record["file_path"], record["id"], record["split"]) for record in records(small)
    ]
    for row, (person, shot, seen, _) in zip(table[: 8 * 4], shots(8), strict=True):
        assert {name: row[name] for name in people.attributes(person)} == people.attributes(person)
        assert (int(row["camera"]), row["view"], row["cover"]) == (shot.camera, shot.view, shot.cover)
        flags = {name.removesuffix("_visible"): row[name] for name in row if name.endswith("_visible")}
        visible = {slot for slot, flag in flags.items() if flag == "1"}
        assert set(flags.values()) <= {"0", "1"} and len(flags) == 11
        assert visible - {"print"} == flags.keys() & seen.keys()
        assert ("print" in visible) == (seen.get("top_pattern") == "print")


def test_about_file_says_what_was_built(small):
    about = json.loads((small / "synthetic.json").read_text())
    assert about["version"] == VERSION
    assert BenchmarkParams.model_validate(about["params"]) == SMALL
    assert about["counts"]["test"] == {"identities": 3, "images": 12, "captions": 24}


@pytest.mark.parametrize("size", [(96, 48), (17, 31), (120, 120), (64, 160), (200, 32)])
def test_any_image_size(size):
    for person, shot, _, _ in shots(3):
        image = picture(person, shot, *size)
        assert image.size == size[::-1]
        assert len(image.getcolors(size[0] * size[1])) > 100  # not blank


def recoloured(person, shot, slot):
    """The two with one thing in a far colour."""
    item = shot.carried if slot == "carried" else getattr(person, slot)
    if item is None:
        return None
    changed = replace(item, colour="black" if item.colour == "white" else "white")
    if slot == "carried":
        return person, replace(shot, carried=changed)
    return replace(person, **{slot: changed}), shot


@pytest.mark.parametrize("slot", ["hair", "top", "outer", "lower", "shoes", "bag", "hat", "scarf", "carried"])
def test_a_thing_is_drawn_exactly_where_it_is_listed_as_seen(slot):
    outcomes = set()
    for person, shot, seen, _ in shots(24):
        changed = recoloured(person, shot, slot)
        if changed is not None:
            assert same(picture(person, shot), picture(*changed)) == (slot not in seen), (person, shot)
            outcomes.add(slot in seen)
    assert outcomes == {True, False}  # both cases came up


def test_a_pattern_is_drawn_exactly_where_it_is_listed_as_seen():
    outcomes = set()
    for person, shot, seen, _ in shots(40):
        if person.top.pattern != "plain":
            far = "black" if person.top.accent == "white" else "white"
            changed = replace(person, top=replace(person.top, accent=far))
            alike = same(picture(person, shot), picture(changed, shot))
            assert alike == ("top_accent" not in seen), (person, shot)
            outcomes.add((person.top.pattern == "print", "top_accent" in seen))
    assert len(outcomes) == 4


@pytest.mark.parametrize(
    ("kind", "outer", "view", "shown"),
    [
        ("skirt", "closed", "front", False),
        ("skirt", "open", "back", False),
        ("skirt", "open", "front", True),
        ("skirt", "off", "back", True),
        ("jeans", "closed", "front", True),
        ("long skirt", "closed", "side", True),
    ],
)
def test_a_coat_hides_what_is_no_longer_than_itself(kind, outer, view, shown):
    person = people.draw_person(0, "train", 2, 0.3)
    person = replace(person, outer=people.Item("coat", "blue"), lower=people.Item(kind, "red"))
    shot = replace(people.draw_shot(person, 0, "train", 2, 0), outer=outer, view=view, cover="none", gait=0.0)
    assert ("lower" in people.seen(person, shot)) == shown
    assert same(picture(person, shot), picture(*recoloured(person, shot, "lower"))) == (not shown)


@pytest.mark.parametrize("occluder", ["car", "hedge", "wall"])
def test_an_occluder_stands_before_the_legs(occluder):
    person = replace(people.draw_person(0, "train", 2, 0.3), skin="pale")
    shot = replace(people.draw_shot(person, 0, "train", 2, 0), view="front", cover="legs", occluder=occluder)
    dark = picture(replace(person, skin="dark"), shot)
    box = ImageChops.difference(picture(person, shot), dark).getbbox()
    assert box is not None and box[3] < 57  # the hip is at about row 50, the knee at 68


def test_a_mirrored_shot_faces_the_other_way():
    person, shot, *_ = next(shots(1))
    facing = replace(shot, view="side", mirrored=False)
    assert not same(picture(person, facing), picture(person, replace(facing, mirrored=True)))


def test_what_is_put_away_or_covered_is_not_seen():
    for _, shot, seen, _ in shots(40):
        away = {slot for slot in ("bag", "hat", "scarf", "glasses") if not getattr(shot, slot)}
        away |= {"outer"} if shot.outer == "off" else set()
        away |= {"shoes"} if shot.cover != "none" else set()
        away |= {"lower"} if shot.cover == "legs" else set()
        away |= {"carried"} if shot.carried is None else set()
        assert not away & seen.keys()


def test_views_and_sunglasses_are_drawn():
    person = replace(people.draw_person(0, "train", 0, 0.3), glasses="sunglasses")
    shot = people.draw_shot(person, 0, "train", 0, 0)
    shot = replace(shot, cover="none", occluder="none", glasses=True, hat=False)
    images = {view: picture(person, replace(shot, view=view)) for view in VIEWS}
    assert not any(same(images[first], images[second]) for first, second in combinations(VIEWS, 2))
    bare = {view: picture(person, replace(shot, view=view, glasses=False)) for view in VIEWS}
    assert [same(images[view], bare[view]) for view in VIEWS] == [False, True, False]


GENERIC = {"bag": ("bag",), "lower": ("trousers", "pants", "jeans", "skirt"), "shoes": ("shoes", "boots"),
           "hat": ("hat", "cap"), "glasses": ("glasses",), "outer": ("jacket", "coat")}  # fmt: skip


def found(text, phrases):
    return [phrase for phrase in phrases if re.search(rf"\b{re.escape(phrase)}\b", text)]


def test_captions_name_only_what_is_seen():
    hidden = set()
    nouns = {slot: sum(kinds.values(), start=()) for slot, kinds in grammar.NOUNS.items()}
    for _, _, seen, place in shots(40):
        for caption in captions(seen, place):
            assert set(caption.facts) <= seen.keys()
            text = caption.text.lower()
            shown = [name for slot, names in nouns.items() if slot in seen for name in names]
            for name in sorted(shown, key=len, reverse=True):  # "dress shoes" are no dress
                text = re.sub(rf"\b{re.escape(name)}\b", "", text)
            for slot in nouns.keys() - seen.keys():
                assert not found(text, [*nouns[slot], *GENERIC.get(slot, ())]), (slot, caption.text)
                hidden.add(slot)
            if seen.get("top_pattern") != "print":
                assert not found(text, grammar.PRINT_NOUNS), caption.text
    assert hidden == grammar.NOUNS.keys()


def test_captions_tell_colours_and_kinds_truly():
    for _, _, seen, place in shots(40):
        for caption in captions(seen, place):
            text = caption.text.lower()
            for fact in caption.facts:
                if fact in grammar.NOUNS:
                    assert found(text, grammar.NOUNS[fact][seen[fact]]), (fact, caption.text)
                elif fact.endswith(("_colour", "_accent")):
                    words = grammar.HAIR_COLOUR_WORDS if fact == "hair_colour" else grammar.COLOUR_WORDS
                    assert found(text, words[seen[fact]]), (fact, caption.text)


def test_captions_have_15_to_25_words():
    told = [caption for *_, seen, place in shots(150) for caption in captions(seen, place)]
    lengths = [len(grammar.words(caption.text)) for caption in told]
    assert min(lengths) >= 15 and max(lengths) <= 25
    assert 19 < sum(lengths) / len(lengths) < 21


def test_captions_are_sentences_without_sides():
    for *_, seen, place in shots(40):
        for caption in captions(seen, place):
            assert re.fullmatch(r"[A-Z][A-Za-z ,.-]*[a-z]\.", caption.text), caption.text
            assert not re.search(r"  | ,| \.|,\.|\ba [aeiou]|\ban [^aeiou]", caption.text), caption.text
            assert not found(caption.text.lower(), ["left", "right", "none"]), caption.text


def test_captions_differ_between_images_annotators_and_seeds():
    texts = [caption.text for *_, seen, place in shots(40) for caption in captions(seen, place)]
    assert len(set(texts)) > 0.99 * len(texts)


def test_images_of_an_identity_disagree():
    """Weak pairs are worth their name: of what a caption tells, another image often lacks a fifth or more."""
    lost = []
    everyone = list(shots(40))
    for (_, _, seen, place), (_, _, other, other_place) in combinations(everyone, 2):
        if place[0] == other_place[0]:
            for caption in captions(seen, place, 1):
                facts = [fact for fact in caption.facts if fact not in ("view", "place", "occluder")]
                lost.append(sum(other.get(fact) != seen[fact] for fact in facts) / len(facts))
    assert 0.35 < sum(share >= 0.2 for share in lost) / len(lost) < 0.75


def differing(first, second):
    one, other = people.attributes(first), people.attributes(second)
    return [name for name in one if one[name] != other[name]]


def test_twins_differ_in_one_or_two_attributes():
    counts = []
    for index in range(0, 240, 2):
        pair = [people.draw_person(0, "train", place, 0.3) for place in (index, index + 1)]
        counts.append((people.is_twin(index, 0.3), len(differing(*pair))))
    assert {count for twin, count in counts if twin} == {1, 2}
    assert min(count for twin, count in counts if not twin) > 5


@pytest.mark.parametrize(("share", "twins"), [(0.0, 0), (0.25, 50), (0.3, 60), (1.0, 200)])
def test_twin_share_is_exact_and_moves_nobody_else(share, twins):
    assert sum(people.is_twin(index, share) for index in range(200)) == twins
    for index in range(0, 20, 2):
        assert people.draw_person(0, "test", index, share) == people.draw_person(0, "test", index, 0.3)


def test_splits_hold_different_people(small):
    names = people.attributes(people.draw_person(0, "train", 0, 0.3)).keys()
    splits = {}
    for row in rows(small):
        splits.setdefault(row["split"], set()).add(tuple(row[name] for name in names))
    assert not any(first & second for first, second in combinations(splits.values(), 2))


def test_twins_are_named_in_the_table(small):
    twins = {int(row["id"]): row["twin"] for row in rows(small)}
    assert {number: twin for number, twin in twins.items() if twin} == {7: "8", 8: "7"}


def test_every_value_has_a_name_and_a_drawing():
    assert people.COLOURS.keys() == grammar.COLOUR_WORDS.keys() == render.RGB.keys()
    hair = {*people.HAIR_COLOURS, *people.OLD_HAIR}
    assert hair == grammar.HAIR_COLOUR_WORDS.keys() == render.HAIR_RGB.keys()
    assert set(people.PLACES) == render.CAMERAS.keys() == render.SCENES.keys() == grammar.PLACES.keys()
    both = {"top": people.TOPS, "lower": people.LOWERS, "shoes": people.SHOES, "bag": people.BAGS}
    kinds = {slot: table["woman"].keys() | table["man"].keys() for slot, table in both.items()}
    kinds |= {"outer": {*people.OUTERS}, "hat": {*people.HATS}, "carried": {*people.CARRIED}}
    for slot, values in kinds.items():
        assert values - {"none"} == grammar.NOUNS[slot].keys() - {"top"}
    for kind in (kinds["bag"] | kinds["hat"] | kinds["carried"]) - {"none"}:
        assert all((kind, view) in render.PARTS or (kind, "") in render.PARTS for view in VIEWS), kind


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    for root in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt"):
        with pytest.raises(FileExistsError, match=f"{re.escape(str(root))}: .*remove it or choose another"):
            write_benchmark(root, SMALL, lambda done, total: pytest.fail("refused too late"))
    assert tree(tmp_path) == {"mine/thesis.txt": b"precious"}


def test_an_empty_folder_is_used(small, tmp_path):
    (tmp_path / "empty").mkdir()
    assert tree(build(tmp_path / "empty")) == tree(small)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_an_interrupted_build_leaves_nothing(tmp_path):
    def stop(done, total):
        assert total == 52
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_benchmark(tmp_path / "half", SMALL, stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_images(tmp_path):
    seen = []
    write_benchmark(tmp_path / "b", SMALL, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 52) for done in range(1, 53)]


@pytest.mark.parametrize(
    "fault", [{"train_identities": 0}, {"twin_share": 1.1}, {"image_width": 8}, {"seed": -1}, {"images": 4}]
)
def test_impossible_parameters_are_refused(fault):
    with pytest.raises(ValidationError, match=next(iter(fault))):
        BenchmarkParams.model_validate(fault)
