"""A contact sheet of near-twins: can the described person be told from the one who differs in a thing or two?"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from rasa.data.stats import MARGIN, TILE, save_sheet
from rasa.data.synthetic.facts import FACTS
from rasa.data.synthetic.write import ANNOTATIONS, IMAGES, TABLE
from rasa.data.transforms import open_rgb

PICTURES, GAP = 4, 24  # of each twin, and pixels between the two
TEXT = 46  # pixels below the pictures: the caption and the answer


def twin_sheet(root: Path, path: Path, rows: int = 8, split: str = "test") -> bool:
    """Write a PNG with the first `rows` pairs of near-twins of `split`, each with a caption of one of them.

    The answer, and what sets the two apart, stands below in grey. False, and no file, if there are no twins.
    Raises ImageFault for a damaged image, ResourceError if `path` cannot be written.
    """
    people = _people(root, split)
    pairs = [(one, int(them[0]["twin"])) for one, them in people.items() if them[0]["twin"]]
    pairs = [(one, other) for one, other in pairs if one < other][:rows]
    if not pairs:
        return False
    width, height = 2 * (PICTURES * (TILE[0] + MARGIN) + MARGIN) + GAP, TILE[1] + TEXT + 2 * MARGIN
    sheet = Image.new("RGB", (width, height * len(pairs)), "white")
    for row, pair in enumerate(pairs):
        shown = people[pair[0]], people[pair[1]]
        for side, images in enumerate(shown):
            left = MARGIN + side * (width // 2 + GAP // 2)
            for column, image in enumerate(images[:PICTURES]):
                tile = open_rgb(root / IMAGES / image["file_path"]).resize(TILE, Image.Resampling.LANCZOS)
                sheet.paste(tile, (left + column * (TILE[0] + MARGIN), row * height + MARGIN))
        _write(sheet, row * height + MARGIN + TILE[1] + 2, *_question(shown, row % 2))
    save_sheet(sheet, path)
    return True


def _people(root: Path, split: str) -> dict[int, list[dict[str, Any]]]:
    """By identity: its images, each with its row of the table, `captions` and what they tell as `told`."""
    with open(root / TABLE, newline="", encoding="utf-8") as handle:
        table = list(csv.DictReader(handle))
    records, facts = (json.loads((root / name).read_text(encoding="utf-8")) for name in (ANNOTATIONS, FACTS))
    people: dict[int, list[dict[str, Any]]] = {}
    for row, record, told in zip(table, records, facts, strict=True):
        if record["split"] == split:
            image = row | {"captions": record["captions"], "told": told["captions"], "visible": told["visible"]}
            people.setdefault(record["id"], []).append(image)
    return people


def _question(shown: Sequence[Sequence[Mapping[str, Any]]], first: int) -> tuple[str, str]:
    """A caption that tells what sets the two apart, of twin `first` if there is one, and the answer."""
    different = _different(shown[0][0], shown[1][0])
    for side in (first, 1 - first):
        for place, image in enumerate(shown[side][:PICTURES]):
            for caption, told in zip(image["captions"], image["told"], strict=True):
                telling = set(told["told"]) & set(different) - set(told["mistaken"])
                if any(told["told"][name] == image[name] for name in telling):
                    return caption, _answer(shown, side, place, different)
    return shown[first][0]["captions"][0], _answer(shown, first, 0, different) + " (the caption does not tell)"


def _different(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    columns = list(one)  # the usual attributes stand between these two
    names = columns[columns.index("twin") + 1 : columns.index("view")]
    return [name for name in names if one[name] != other[name]]


def _answer(shown: Sequence[Sequence[Mapping[str, Any]]], side: int, place: int, different: Sequence[str]) -> str:
    left, right = shown[0][0], shown[1][0]
    apart = ", ".join(f"{name.replace('_', ' ')} {left[name]} / {right[name]}" for name in different)
    where = ("left", "right")[side]
    return f"answer: {where}, picture {place + 1}; identities {left['id']} / {right['id']} differ in {apart}"


def _write(sheet: Image.Image, top: int, caption: str, answer: str) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, top), caption, fill="black", font=ImageFont.load_default(13))
    draw.text((MARGIN, top + 20), answer, fill=(140, 140, 140), font=ImageFont.load_default(10))
