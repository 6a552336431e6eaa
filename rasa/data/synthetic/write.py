"""The benchmark on disk, laid out as CUHK-PEDES is published, with a table of what each image shows."""

import csv
import errno
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rasa.config.benchmark import VERSION, BenchmarkParams
from rasa.data.synthetic.alt_texts import alt_text
from rasa.data.synthetic.describe import describe, words
from rasa.data.synthetic.facts import FACTS
from rasa.data.synthetic.looks import Person, Shot, attributes, seen
from rasa.data.synthetic.mistakes import mistaken
from rasa.data.synthetic.people import draw_person, draw_shot, is_twin, stream
from rasa.data.synthetic.render import render
from rasa.data.synthetic.values import NONE

ANNOTATIONS, IMAGES, TABLE, ABOUT = "reid_raw.json", "imgs", "attributes.csv", "synthetic.json"
SLOTS = ("hair", "top", "outer", "lower", "shoes", "bag", "hat", "scarf", "glasses", "carried")

Progress = Callable[[int, int], None]


class Identity(NamedTuple):
    """A person's place: `place` counts within the split from 0, `id` over all splits from 1."""

    id: int
    split: str
    place: int


class Sample(NamedTuple):
    """One image: `image` counts the person's images, `path` is relative to the image folder."""

    who: Identity
    image: int
    person: Person
    shot: Shot
    path: str


def write_benchmark(root: Path, params: BenchmarkParams, on_progress: Progress | None = None) -> None:
    """Write `reid_raw.json`, `imgs/`, `attributes.csv`, `facts.json` and `synthetic.json` to `root`, all or nothing.

    `on_progress(done, total)` counts images. An identity's look, images and captions depend only on the seed,
    its split and its index there, so that more people in a split leave those before them as they are.

    Raises FileExistsError if `root` is there and not an empty directory, OSError if it cannot be written.
    """
    root = Path(root).resolve()
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise _exists(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as aside:
        built = Path(aside) / root.name
        _build(built, params, on_progress)
        try:
            built.replace(root)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):  # someone was faster
                raise _exists(root) from None
            raise


def _exists(root: Path) -> FileExistsError:
    return FileExistsError(f"{root}: exists and is not an empty directory; remove it or choose another")


def _build(folder: Path, params: BenchmarkParams, on_progress: Progress | None) -> None:
    people = list(_people(params))
    total = len(people) * params.images_per_identity
    folder.mkdir()
    records: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    facts: list[dict[str, Any]] = []
    for who in people:
        person = draw_person(params.seed, who.split, who.place, params.twin_share)
        for image in range(params.images_per_identity):
            shot = draw_shot(person, params.seed, who.split, who.place, image, params.noise)
            sample = Sample(who, image, person, shot, f"cam{shot.camera}/{who.id:04d}_{image}.png")
            _save_image(folder / IMAGES / sample.path, sample, params)
            record, told = _record(sample, params)
            records.append(record)
            facts.append(told)
            rows.append(_row(sample, params))
            if on_progress is not None:
                on_progress(len(records), total)
    (folder / ANNOTATIONS).write_text(json.dumps(records), encoding="utf-8")
    (folder / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    _write_table(folder / TABLE, rows)
    about = {"version": VERSION, "params": params.model_dump(mode="json"), "counts": _counts(params)}
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def captions_of(params: BenchmarkParams, split: str) -> Iterator[str]:
    """The captions of `split`, without rendering an image."""
    for who in _people(params):
        if who.split != split:
            continue
        person = draw_person(params.seed, who.split, who.place, params.twin_share)
        for image in range(params.images_per_identity):
            shot = draw_shot(person, params.seed, who.split, who.place, image, params.noise)
            yield from _record(Sample(who, image, person, shot, ""), params)[0]["captions"]


def _sizes(params: BenchmarkParams) -> dict[str, int]:
    return {"train": params.train_identities, "val": params.val_identities, "test": params.test_identities}


def _people(params: BenchmarkParams) -> Iterator[Identity]:
    number = 0
    for split, size in _sizes(params).items():
        for index in range(size):
            number += 1
            yield Identity(number, split, index)


def _counts(params: BenchmarkParams) -> dict[str, dict[str, int]]:
    return {
        split: {
            "identities": size,
            "images": size * params.images_per_identity,
            "captions": size * params.images_per_identity * params.captions_per_image,
        }
        for split, size in _sizes(params).items()
    }


def _save_image(file: Path, sample: Sample, params: BenchmarkParams) -> None:
    who, person, shot = sample.who, sample.person, sample.shot
    rng = stream(params.seed, "pixels", who.split, who.place, sample.image)
    picture = render(person, shot, rng, params.image_height, params.image_width, params.domain)
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file, "PNG", compress_level=3)  # noise hardly compresses


def _record(sample: Sample, params: BenchmarkParams) -> tuple[dict[str, Any], dict[str, Any]]:
    """The image's annotations, and what it shows and its captions tell."""
    who, facts = sample.who, seen(sample.person, sample.shot)
    place = (who.split, who.place, sample.image)
    captions, told = [], []
    for each in range(params.captions_per_image):
        taken = mistaken(facts, stream(params.seed, "mistake", *place, each), params.mistakes)
        telling = describe if params.captions == "detailed" else alt_text
        caption = telling(taken, stream(params.seed, "caption", *place, each))
        captions.append(caption.text)
        wrong = [name for name in caption.facts if taken[name] != facts[name]]
        told.append({"told": {name: taken[name] for name in caption.facts}, "mistaken": wrong})
    common = {"split": who.split, "file_path": sample.path, "id": who.id}
    record = {
        "split": who.split,
        "captions": captions,
        "file_path": sample.path,
        "processed_tokens": [words(caption) for caption in captions],
        "id": who.id,
    }
    return record, {**common, "visible": facts, "captions": told}


def _row(sample: Sample, params: BenchmarkParams) -> dict[str, Any]:
    """The image in the table: the person's attributes, the shot's state, per thing whether it can be seen."""
    who, shot, facts = sample.who, sample.shot, seen(sample.person, sample.shot)
    hand = shot.carried
    return {
        "file_path": sample.path,
        "id": who.id,
        "split": who.split,
        "camera": shot.camera,
        "twin": _twin(who, params),
        **attributes(sample.person),
        "view": shot.view,
        "outer_state": shot.outer,
        **_changed(sample.person, shot),
        "cover": shot.cover,
        "occluder": shot.occluder,
        "in_hand": hand.kind if hand else NONE,
        "in_hand_colour": hand.colour if hand else NONE,
        **{f"{slot}_visible": int(slot in facts) for slot in SLOTS},
        "print_visible": int(facts.get("top_pattern") == "print"),
    }


def _changed(person: Person, shot: Shot) -> dict[str, str]:
    """What the person wears instead of the usual garment, by slot; `none` where it wears that."""
    changes = {slot: f"{item.colour} {item.kind}" for slot, item in person.spare if slot in shot.changes}
    return {f"{slot}_changed": changes.get(slot, NONE) for slot in ("top", "lower", "shoes")}


def _twin(who: Identity, params: BenchmarkParams) -> int | str:
    """The id of the person's near-twin, an empty text without one. Twins are neighbours, 2k and 2k + 1."""
    step = -1 if who.place % 2 else 1
    there = who.place + step < _sizes(params)[who.split]
    return who.id + step if there and is_twin(who.place, params.twin_share) else ""


def _write_table(file: Path, rows: list[dict[str, Any]]) -> None:
    with open(file, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
