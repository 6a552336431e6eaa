"""A page of queries with the images that runs found for them (Figure 5 of the paper), chosen by rule."""

import math
import shutil
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from rasa.errors import ResourceError
from reports.answers import Answers, Asked, as_json
from reports.picks import Picked

PAGE, DATA, IMAGES = "gallery.html", "gallery.json", "images"
HEIGHT = 192  # pixels of a thumbnail, twice what a page shows
QUALITY = 85


def write_gallery(
    folder: Path, title: str, picked: Sequence[Picked], answers: Sequence[Answers], asked: Asked, command: str
) -> Path:
    """`gallery.html`, its thumbnails and `gallery.json` in `folder`, all or nothing; an older gallery is replaced.

    Returns the page. Raises ResourceError if an image cannot be read or the folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not (folder / PAGE).is_file() and any(folder.iterdir()):
            raise ResourceError(f"{folder}: holds other files; give an empty folder, or that of a gallery")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            made = Path(scratch) / "gallery"
            _write(made, title, picked, answers, asked, command)
            if folder.exists():
                shutil.rmtree(folder)
            made.rename(folder)
    except OSError as error:
        raise ResourceError(f"{folder}: {error.strerror or error}; give a writable --out") from error
    return folder / PAGE


def _write(
    folder: Path, title: str, picked: Sequence[Picked], answers: Sequence[Answers], asked: Asked, command: str
) -> None:
    from jinja2 import Environment, StrictUndefined

    (folder / IMAGES).mkdir(parents=True)
    thumbnails = _Thumbnails(folder / IMAGES, asked)
    sections = [
        {
            "name": rule.name,
            "sentence": rule.sentence,
            "count": rule.total,
            "share": 100 * rule.total / max(1, len(asked.texts)),
            "queries": [_query(query, answers, asked, thumbnails) for query in rule.queries],
        }
        for rule in picked
    ]
    template = (files("reports") / "templates" / "gallery.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(template).render(
        title=title,
        sections=sections,
        command=command,
        queries=len(asked.texts),
        images=len(asked.image_files),
        runs=[{"name": each.name, "r1": 100 * float(each.right_T.mean())} for each in answers],
    )
    (folder / PAGE).write_text(page + "\n", encoding="utf-8")
    shown = sorted({query for rule in picked for query in rule.queries})
    (folder / DATA).write_text(as_json(answers, asked, shown) + "\n", encoding="utf-8")


def _query(query: int, answers: Sequence[Answers], asked: Asked, thumbnails: "_Thumbnails") -> dict[str, Any]:
    own = int(asked.own_image_T[query])
    return {
        "number": query,
        "text": asked.texts[query],
        "own": None if own < 0 else thumbnails.of(own),
        "runs": [_row(query, each, asked, thumbnails) for each in answers],
    }


def _row(query: int, answers: Answers, asked: Asked, thumbnails: "_Thumbnails") -> dict[str, Any]:
    identity, twin = int(asked.identity_T[query]), asked.twins.get(int(asked.identity_T[query]))
    found = []
    for place, image in enumerate(answers.best_TJ[query].tolist()):
        whose, match = int(asked.image_identity_N[image]), answers.match_TJ
        score = f"similarity {answers.similarity_TJ[query, place]:.3f}"
        if match is not None and math.isfinite(match[query, place]):
            score += f", match {match[query, place]:.2f}"
        kind = "right" if whose == identity else "twin" if whose == twin else "wrong"
        found.append(
            {"place": place + 1, "kind": kind, "file": asked.image_files[image], "source": thumbnails.of(image)}
            | {"score": score}
        )
    return {"name": answers.name, "first": int(answers.first_rank_T[query]), "found": found}


class _Thumbnails:
    """Small copies of gallery images, each made once, under names that are numbers."""

    def __init__(self, folder: Path, asked: Asked):
        self._folder, self._asked = folder, asked
        self._sizes: dict[int, dict[str, Any]] = {}

    def of(self, image: int) -> dict[str, Any]:
        """Where the copy lies, from the page, and its size. Raises ResourceError for an image that cannot be read."""
        if image not in self._sizes:
            self._sizes[image] = self._make(image)
        return self._sizes[image]

    def _make(self, image: int) -> dict[str, Any]:
        from PIL import Image, UnidentifiedImageError

        file = self._asked.image_root / self._asked.image_files[image]
        name = f"{image:06d}.jpg"
        try:
            with Image.open(file) as opened:
                small = opened.convert("RGB")
                small.thumbnail((4 * HEIGHT, HEIGHT))
                small.save(self._folder / name, quality=QUALITY)
                width, height = small.size
        except (UnidentifiedImageError, Image.DecompressionBombError, FileNotFoundError) as fault:
            raise ResourceError(f"{file}: cannot be read as an image ({fault}); `rasa data check` names all") from fault
        return {"path": f"{IMAGES}/{name}", "width": width, "height": height}
