"""Paths that come from an annotation file: which may be opened at all, and which files are there."""

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rasa.errors import ResourceError

SHOWN = 10
# JSON can spell half a surrogate pair, which is no letter and part of no file name.
HALF_PAIR = re.compile("[\ud800-\udfff]")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Listing:
    """What lies under a folder: sizes in bytes by relative path, paths that are missing, paths that lead outside.

    `respelt`: the path on the disk of those that are written otherwise there.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    respelt: dict[str, str] = field(default_factory=dict)

    def on_disk(self, path: str) -> str:
        """The path by which an image is opened."""
        return self.respelt.get(path, path)


def path_fault(path: Any) -> str | None:
    """Why an annotated path must not be opened, by its text alone, with the remedy; None if it may."""
    if not isinstance(path, str) or not path:
        return f"is {path!r}; give the image's path below the image folder"
    shown = path.encode("utf-8", "backslashreplace").decode()[:80]
    if CONTROL.search(path) or HALF_PAIR.search(path):
        return f"{shown!r} holds a character that no image's name has; write the path again"
    if path[0] in "/\\" or path[1:2] == ":":
        return f"{shown!r} is absolute; make it relative to the image folder"
    if ".." in path.replace("\\", "/").split("/"):
        return f"{shown!r} climbs with '..'; make it relative to the image folder"
    return None


def list_files(root: Path, paths: Iterable[str]) -> Listing:
    """Look up `paths` (relative, without '..') below `root`, one directory scan per folder.

    A scan tells names and links without a stat per file; the one stat per file that is left is for the size.
    `root` itself may be a link, since the user puts it there; what leads out of it from inside is `outside`.
    Raises ResourceError for a folder that cannot be read.
    """
    folders: dict[str, list[str]] = {}
    for path in dict.fromkeys(paths):
        folders.setdefault(path.rpartition("/")[0], []).append(path)
    listing, real_root = Listing(), os.path.realpath(root)
    for folder, members in folders.items():
        _list_folder(real_root, folder, {path: path for path in members}, listing)
    _respell(real_root, listing)
    return listing


def _respell(real_root: str, listing: Listing) -> None:
    """Find what is missing under another spelling: backslashes, letter case, composed or decomposed letters.

    Files that were packed on one system and unpacked on another differ so. A spelling that fits two files is none.
    """
    missing, listing.missing[:] = list(listing.missing), []
    folders: dict[str, dict[str, str | None]] = {}  # by folder: names on the disk by their plain form
    found: dict[str, dict[str, str]] = {}
    for path in missing:
        if (spelt := _spelt(real_root, path, folders)) is None:
            listing.missing.append(path)
        else:
            found.setdefault(spelt.rpartition("/")[0], {})[path] = spelt
    for folder, members in found.items():
        _list_folder(real_root, folder, members, listing)


def _spelt(real_root: str, path: str, folders: dict[str, dict[str, str | None]]) -> str | None:
    """`path` as the disk spells it; None if there is no such file, or two."""
    at = ""
    for part in filter(None, path.replace("\\", "/").split("/")):
        if at not in folders:
            folders[at] = {}
            for name in _entries(os.path.join(real_root, at)):
                key = _plain(name)
                folders[at][key] = None if key in folders[at] else name
        real = os.path.join(real_root, at, part)
        name = part if os.path.lexists(real) else folders[at].get(_plain(part))
        if name is None:
            return None
        at = f"{at}/{name}" if at else name
    return at


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _list_folder(real_root: str, folder: str, members: Mapping[str, str], listing: Listing) -> None:
    """`members`: the paths as they are annotated, and as the disk spells them."""
    real = os.path.realpath(os.path.join(real_root, folder))
    if not _inside(real, real_root):
        listing.outside.extend(members)
        return
    entries = _entries(real)
    for path, spelt in members.items():
        entry = entries.get(spelt.rpartition("/")[2])
        if entry is not None and entry.is_symlink() and not _inside(os.path.realpath(entry.path), real_root):
            listing.outside.append(path)
        elif entry is None or not entry.is_file():
            listing.missing.append(path)
        else:
            listing.sizes[path] = entry.stat().st_size
            if spelt != path:
                listing.respelt[path] = spelt


def _entries(folder: str) -> dict[str, os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return {}  # the caller counts everything in it as missing
    except OSError as error:
        raise ResourceError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from None


def _inside(real: str, real_root: str) -> bool:
    return real == real_root or real.startswith(real_root.rstrip(os.sep) + os.sep)


def first(names: list[str]) -> str:
    """The first ten of `names`, e.g. 'a.jpg, b.jpg, ...'."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
