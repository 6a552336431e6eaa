"""What pages of pictures have in common: small copies of images, and a folder that appears as a whole."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rasa.errors import ResourceError

if TYPE_CHECKING:
    from PIL import Image

IMAGES = "images"
HEIGHT = 192  # pixels of a thumbnail, twice what a page shows
QUALITY = 85


def write_folder(folder: Path, page: str, write: Callable[[Path], None]) -> Path:
    """Let `write` fill an empty folder, which then takes the place of `folder`; returns `page` in it.

    An older one is replaced, but nothing else. Raises ResourceError if the folder cannot be written or holds other
    files.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not (folder / page).is_file() and any(folder.iterdir()):
            raise ResourceError(f"{folder}: holds other files; give an empty folder, or one of an earlier {page}")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            write(made)
            if folder.exists():
                shutil.rmtree(folder)
            made.rename(folder)
    except OSError as error:
        raise ResourceError(f"{folder}: {error.strerror or error}; give a writable --out") from error
    return folder / page


def thumbnail(file: Path) -> "Image.Image":
    """A small copy of the image. Raises ResourceError for one that cannot be read."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as opened:
            small = opened.convert("RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as fault:
        raise ResourceError(f"{file}: cannot be read as an image ({fault}); `rasa data check` names all") from fault
    small.thumbnail((4 * HEIGHT, HEIGHT))
    return small


class Thumbnails:
    """Small copies of images, each made once, under names that are numbers."""

    def __init__(self, folder: Path, image_root: Path, image_files: Sequence[str]):
        self._folder, self._root, self._files = folder, image_root, image_files
        self._sizes: dict[int, dict[str, Any]] = {}

    def of(self, image: int) -> dict[str, Any]:
        """Where the copy lies, from the page, and its size. Raises ResourceError for an image that cannot be read."""
        if image not in self._sizes:
            self._sizes[image] = self._make(image)
        return self._sizes[image]

    def _make(self, image: int) -> dict[str, Any]:
        small, name = thumbnail(self._root / self._files[image]), f"{image:06d}.jpg"
        (self._folder / IMAGES).mkdir(exist_ok=True)
        small.save(self._folder / IMAGES / name, quality=QUALITY)
        return {"path": f"{IMAGES}/{name}", "width": small.width, "height": small.height}
