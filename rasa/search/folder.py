"""The images of a folder that is indexed: which there are, and the one way in which one is read again."""

import hashlib
import os
from pathlib import Path

from rasa.data.files import list_files, path_fault
from rasa.errors import ResourceError, printable

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def list_images(root: Path) -> tuple[list[str], list[str]]:
    """Relative paths of the images below `root`, sorted, and a line for each that is left out, with the reason.

    Hidden files and folders are not looked at, and links that lead out of `root` are not followed. Raises ResourceError
    if a folder cannot be read.
    """
    if not root.is_dir():
        raise ResourceError(f"{root}: {'is no folder' if root.exists() else 'does not exist'}; give a folder of images")
    paths, notes = [], []
    for folder, folders, names in os.walk(root, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(folder).relative_to(root).as_posix()
        for name in names:
            if name.startswith(".") or not name.lower().endswith(SUFFIXES):
                continue
            path = name if below == "." else f"{below}/{name}"  # a Path of each would take as long as reading it
            if path_fault(path) is None:
                paths.append(path)
            else:
                notes.append(f"{shown(path)}: its name holds characters that no image's name has; rename it")
    listing = list_files(root, paths)
    notes.extend(f"{shown(path)}: leads out of the folder; copy the image into it" for path in listing.outside)
    notes.extend(f"{shown(path)}: leads to no file; remove the link" for path in listing.missing)
    return sorted(listing.sizes), sorted(notes)


def _refuse(error: OSError) -> None:
    raise ResourceError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions") from None


def read_image(root: Path, path: str, digest: str) -> bytes:
    """The content of an indexed image. Raises ResourceError unless it lies in `root` and is what was indexed."""
    real_root, real = os.path.realpath(root), os.path.realpath(root / path)
    try:
        inside = path_fault(path) is None and os.path.commonpath([real_root, real]) == real_root
        content = Path(real).read_bytes() if inside else b""
    except (OSError, ValueError):
        raise ResourceError(f"{shown(path)}: cannot be read any more; index the folder again") from None
    if not inside:
        raise ResourceError(f"{shown(path)}: leads out of the folder; index the folder again")
    if digest_of(content) != digest:
        raise ResourceError(f"{shown(path)}: has changed since it was indexed; index the folder again")
    return content


def digest_of(content: bytes) -> str:
    """What names an image by its content: sha256 in hex."""
    return hashlib.sha256(content).hexdigest()


def shown(path: str) -> str:
    """A file's name as any terminal and any file can hold it."""
    return printable(path.encode("utf-8", "backslashreplace").decode())
