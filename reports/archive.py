"""A published report as one zip file: the same folder gives the same bytes, and no file from elsewhere is trusted.

What a zip says of itself is looked at before anything is unpacked: names that lead out of the folder, links, names that
are there twice, and more than a report can hold are refused.
"""

import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments.rundir import write_bytes
from rasa.errors import ResourceError

SUFFIX = ".zip"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip can tell
MODE = (stat.S_IFREG | 0o644) << 16
PACKED = (".xz",)  # what another compression would make larger
LEVEL = 9
UNIX = 3  # the system that a zip says it was made on, whichever it was
PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # of a path: no "..", no drive, nothing hidden
DEEPEST, LONGEST = 8, 240  # folders; letters of a name
MOST_FILES, MOST_BYTES = 20_000, 2**29  # unpacked; Table 4 with five seeds at the paper's size has some 10 MB
ENCRYPTED = 1  # a bit of an entry's flags


def pack(folder: Path, file: Path) -> int:
    """Write all files of `folder` into the zip `file`, replacing one that is there; its bytes.

    Raises ResourceError if that cannot be written.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    try:
        with TemporaryDirectory(prefix=f".{file.name}-", dir=file.absolute().parent) as place:
            made = Path(place) / file.name
            with zipfile.ZipFile(made, "w") as archive:
                for name in names:
                    entry = zipfile.ZipInfo(name, EPOCH)
                    entry.create_system, entry.external_attr = UNIX, MODE
                    entry.compress_type = zipfile.ZIP_STORED if name.endswith(PACKED) else zipfile.ZIP_DEFLATED
                    archive.writestr(entry, (folder / name).read_bytes(), compresslevel=LEVEL)
            size = made.stat().st_size
            write_bytes(file, made.read_bytes())
    except OSError as error:
        raise ResourceError(f"{file}: {error.strerror or error}; give a file that can be written") from error
    return size


@contextmanager
def opened(place: Path) -> Iterator[Path]:
    """The folder of a published report: `place` itself, or what the zip there holds, for as long as it is needed.

    Raises ResourceError, one line, for a zip that is damaged or could do harm, before any of it is unpacked.
    """
    if place.is_dir() or place.suffix.lower() != SUFFIX:
        yield place
        return
    with TemporaryDirectory(prefix="rasa-bundle-") as scratch:
        folder = Path(scratch)
        _unpack(place, folder)
        yield folder


def _unpack(file: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if fault := _harm(entries):
                raise ResourceError(f"{file}: {fault}; it is no bundle of `rasa bundle`, so nothing of it was unpacked")
            for entry in entries:
                if entry.is_dir():
                    continue
                path = folder / entry.filename
                path.parent.mkdir(parents=True, exist_ok=True)
                # No more than the entry declares is read, and that was counted.
                with archive.open(entry) as source, path.open("xb") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, struct.error) as error:
        raise ResourceError(f"{file}: a damaged zip ({' '.join(str(error).split())[:160]}); take it again") from error
    except OSError as error:
        raise ResourceError(f"{file}: {error.strerror or error}; give a bundle that can be read") from error


def _harm(entries: list[zipfile.ZipInfo]) -> str:
    """What of a zip's entries could do harm, or is nothing that `pack` writes; nothing if all is well."""
    if len(entries) > MOST_FILES:
        return f"{len(entries)} files, and {MOST_FILES} are the most"
    if (size := sum(entry.file_size for entry in entries)) > MOST_BYTES:
        return f"unpacks to {size / 2**20:,.0f} MiB, and {MOST_BYTES / 2**20:,.0f} are the most"
    seen: set[str] = set()
    for entry in entries:
        shown, kind = repr(entry.orig_filename)[:80], stat.S_IFMT(entry.external_attr >> 16)
        if not _plain(entry.orig_filename.removesuffix("/")):
            return f"the name {shown} does not stay in its folder, or is none that a report has"
        if kind not in (0, stat.S_IFDIR if entry.is_dir() else stat.S_IFREG):
            return f"{shown} is a link or a device"
        if entry.flag_bits & ENCRYPTED:
            return f"{shown} is encrypted"
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return f"{shown} is compressed in a way that is not read here"
        if entry.filename in seen:
            return f"{shown} is there twice"
        seen.add(entry.filename)
    return ""


def _plain(name: str) -> bool:
    parts = name.split("/")
    return len(name) <= LONGEST and len(parts) <= DEEPEST and all(PART.fullmatch(part) for part in parts)
