"""What a data set looks like: numbers per split, distributions, and a sheet of pictures with their captions."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rasa.data.dataset import Dataset, Split
from rasa.data.synthetic.facts import frequencies, lost_by_weak_captions, read_facts, shares_lost
from rasa.data.synthetic.oracle import upper_bound
from rasa.data.transforms import open_checked, open_rgb
from rasa.errors import ResourceError

TILE = (96, 192)  # width and height in pixels of a picture on the sheet
TEXT_HEIGHT, MARGIN, MAX_COLUMNS = 40, 6, 16
PANEL, BAR, PANEL_COLUMNS = 290, 14, 4  # pixels of a panel's width and of a bar's height on the figure
FACTS_OF_FIGURE = (
    "hair",
    "hair_colour",
    "top",
    "top_colour",
    "top_pattern",
    "top_fit",
    "outer",
    "outer_colour",
    "outer_state",
    "lower",
    "lower_colour",
    "lower_fit",
    "shoes",
    "bag",
    "hat",
    "carried",
    "glasses",
    "build",
    "view",
    "place",
    "occluder",
)


def stats(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Per split: counts, words per caption, images and captions per identity, image sizes (pixels, from the headers).

    `{"mean", "min", "max"}` for what varies. Raises ImageFault for an image whose header cannot be read.
    """
    return {name: _of_split(split, dataset.image_root) for name, split in dataset.splits.items()}


def _of_split(split: Split, image_root: Path) -> dict[str, Any]:
    sizes = np.array([_size(image_root / file) for file in split.image_files]).reshape(-1, 2)
    return {
        "identities": len(np.unique(split.image_identities)),
        "images": len(split.image_files),
        "captions": len(split.captions),
        "words_per_caption": _spread([len(caption.split()) for caption in split.captions]),
        "images_per_identity": _spread(np.unique(split.image_identities, return_counts=True)[1]),
        "captions_per_identity": _spread(np.unique(split.caption_identities, return_counts=True)[1]),
        "image_height": _spread(sizes[:, 1]),
        "image_width": _spread(sizes[:, 0]),
    }


def _size(path: Path) -> tuple[int, int]:
    with open_checked(path) as image:
        return image.size


def _spread(values: Any) -> dict[str, float]:
    listed = np.asarray(values)
    return {"mean": round(float(listed.mean()), 2), "min": int(listed.min()), "max": int(listed.max())}


def benchmark_stats(root: Path, split: str = "test") -> dict[str, Any]:
    """Of the built-in benchmark in `root`: what only its true attributes tell, in percent or as in `stats`.

    `upper_bound` is the recall of `oracle.upper_bound`, `weak_captions_lose` are the shares of `facts.shares_lost`.
    """
    facts = read_facts(root, split)
    return {
        "split": split,
        "upper_bound": upper_bound(facts),
        "weak_captions_lose": shares_lost(facts),
        "mistaken": round(100 * (1 - float(facts.true_TV.sum() / facts.told_TV.sum())), 2),
        "told_per_caption": _spread(facts.told_TV.sum(1)),
        "visible_per_image": _spread(facts.visible_IV.sum(1)),
        "attributes": frequencies(facts),
    }


def distributions(dataset: Dataset, root: Path | None = None, split: str = "test") -> dict[str, dict[str, float]]:
    """By title: labels and their percent. With the folder `root` of the built-in benchmark also of its facts."""
    found = {"words per caption": _shares([len(caption.split()) for caption in dataset.splits[split].captions])}
    if root is None:
        return found
    facts = read_facts(root, split)
    found["facts told per caption"] = _shares(facts.told_TV.sum(1))
    found["facts visible per image"] = _shares(facts.visible_IV.sum(1))
    tenths = np.minimum((10 * lost_by_weak_captions(facts) + 1e-4).astype(int), 9)
    if len(tenths):
        found["lost by weak captions"] = {
            f"{10 * tenth} to {10 * tenth + 10} %": 100 * float((tenths == tenth).mean()) for tenth in range(10)
        }
    shown = frequencies(facts)
    return found | {f"{name.replace('_', ' ')} (of images)": shown[name] for name in FACTS_OF_FIGURE if name in shown}


def _shares(values: Any) -> dict[str, float]:
    each, counts = np.unique(np.asarray(values).astype(int), return_counts=True)
    return {str(value): 100 * count / counts.sum() for value, count in zip(each.tolist(), counts.tolist(), strict=True)}


def figure(panels: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Write a PNG of `distributions`, a bar for each label. Raises ResourceError if `path` cannot be written."""
    bottoms = [MARGIN] * PANEL_COLUMNS
    places = []
    for bars in panels.values():  # each panel where there is room first
        column = bottoms.index(min(bottoms))
        places.append((MARGIN + column * PANEL, bottoms[column]))
        bottoms[column] += (len(bars) + 3) * BAR
    sheet = Image.new("RGB", (PANEL_COLUMNS * PANEL + MARGIN, max(bottoms)), "white")
    draw = ImageDraw.Draw(sheet)
    for (title, bars), place in zip(panels.items(), places, strict=True):
        _draw_panel(draw, place, title, bars)
    save_sheet(sheet, path)


def _draw_panel(draw: ImageDraw.ImageDraw, place: tuple[int, int], title: str, bars: Mapping[str, float]) -> None:
    (x, y), font, longest = place, ImageFont.load_default(10), max(bars.values())
    draw.text((x, y), title, fill="black", font=ImageFont.load_default(12))
    for row, (label, share) in enumerate(bars.items()):
        top, left = y + 18 + row * BAR, x + 84
        draw.text((left - 6, top), label, fill="black", font=font, anchor="ra")
        end = left + round(150 * share / longest)
        draw.rectangle((left, top + 1, end, top + BAR - 4), fill=(70, 110, 170))
        draw.text((end + 4, top), f"{share:.1f}", fill=(90, 90, 90), font=font)


def contact_sheet(dataset: Dataset, path: Path, rows: int = 8, split: str = "train") -> None:
    """Write a PNG with the first `rows` identities of `split`: a row of all their images (at most 16), the first
    image's first caption below. Raises ImageFault for a damaged image, ResourceError if `path` cannot be written.
    """
    chosen = dataset.splits[split]
    identities = list(dict.fromkeys(chosen.image_identities.tolist()))[:rows]
    members = [np.flatnonzero(chosen.image_identities == identity)[:MAX_COLUMNS] for identity in identities]
    columns = max(3, *(len(images) for images in members))  # three tiles are wide enough for the caption
    sheet = Image.new("RGB", (columns * (TILE[0] + MARGIN) + MARGIN, len(members) * _row_height()), "white")
    for row, images in enumerate(members):
        _draw_row(sheet, row * _row_height(), images.tolist(), chosen, dataset.image_root)
    save_sheet(sheet, path)


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a PNG. Raises ResourceError if that is impossible."""
    try:
        sheet.save(path, "PNG")
    except OSError as error:
        raise ResourceError(
            f"{path}: the sheet cannot be written ({error.strerror or error}); give a writable file"
        ) from None


def _row_height() -> int:
    return MARGIN + TILE[1] + TEXT_HEIGHT


def _draw_row(sheet: Image.Image, top: int, images: list[int], split: Split, image_root: Path) -> None:
    for column, image in enumerate(images):
        tile = open_rgb(image_root / split.image_files[image]).resize(TILE)
        sheet.paste(tile, (MARGIN + column * (TILE[0] + MARGIN), top + MARGIN))
    captions = np.flatnonzero(split.caption_images == images[0])
    text = f"{split.image_identities[images[0]]}: {split.captions[captions[0]]}"
    lines = textwrap.wrap(text, sheet.width // 6, max_lines=3, placeholder=" ...")  # letters are about 6 pixels wide
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    draw.multiline_text((MARGIN, top + MARGIN + TILE[1] + 2), "\n".join(lines), fill="black", font=font, spacing=1)
