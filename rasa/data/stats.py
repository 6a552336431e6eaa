"""What a data set looks like: numbers per split, and a sheet of pictures with their captions."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rasa.data.table import Dataset, Split
from rasa.data.transforms import open_checked, open_rgb
from rasa.errors import ResourceError

TILE = (96, 192)  # width and height in pixels of a picture on the sheet
TEXT_HEIGHT, MARGIN, MAX_COLUMNS = 40, 6, 16


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
