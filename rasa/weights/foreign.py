"""What a file is that was given as weights and cannot be read as such, in words, and what to do about it."""

import re
import zipfile
from pathlib import Path

HEAD = 2**16  # bytes that are looked at
GLOBAL = re.compile(r"(?:GLOBAL|global) ([\w.]+)")
ALONE = "save the weights alone, where you trust the file: torch.save({}, 'weights.pth')"
# How files begin, what such a file is, and the remedy.
BEGINNINGS = (
    (
        rb"version https://git-lfs",
        "a Git LFS pointer in the place of the file",
        "run `git lfs pull` where it came from",
    ),
    (rb"\s*(<!doctype html|<html|<head|<body)", "an HTML page, as a failed download leaves", "download the file again"),
    (rb"\s*<", "an XML or web page", "download the file again"),
    (rb"\x89HDF", "an HDF5 file, as Keras writes", "give weights of PyTorch"),
    (rb"GGUF", "a GGUF file", "give weights of PyTorch"),
    (rb"\x93NUMPY", "a NumPy array", "give a state dict of PyTorch, or a .safetensors file"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!", "a compressed archive", "unpack it and give the file inside"),
    (
        rb"\s*\{\s*\"",
        "a JSON text",
        "give the weights that it belongs to; an index of parts is not read, so join the parts",
    ),
)


def what_it_is(path: Path, fault: BaseException) -> str:
    """What `path` is, with the remedy; `fault` is what its reader said."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head.strip(b"\0"):
        return f"it is empty or nothing but zeros ({path.stat().st_size} bytes); download or copy it again"
    for beginning, what, remedy in BEGINNINGS:
        if re.match(beginning, head, re.IGNORECASE):
            return f"it is {what}; {remedy}"
    if head.startswith(b"PK"):
        return _archive(path) or _pickle(path, fault)
    if path.suffix == ".safetensors" or not head.startswith(b"\x80"):
        return f"it is damaged, cut off, or no checkpoint at all ({_first(fault)}); download or copy it again"
    return _pickle(path, fault)


def _archive(path: Path) -> str:
    """Of a zip: what it is, if not a readable checkpoint of PyTorch."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "it is cut off (an archive without its end); download or copy it again"
    last = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in last:
        loaded = ALONE.format("torch.jit.load(FILE).state_dict()")
        return f"it is a TorchScript program, which is not run; {loaded}"
    if names and all(name.endswith(".npy") for name in names):
        return "it is an archive of NumPy arrays (.npz); give a state dict of PyTorch, or a .safetensors file"
    if "data.pkl" not in last:
        return "it is a zip archive without weights of PyTorch; unpack it and give the file inside"
    return ""


def _pickle(path: Path, fault: BaseException) -> str:
    loaded = "torch.load(FILE, weights_only=False)"
    named = GLOBAL.search(_chain(fault))
    what = named[1] if named else ""
    if _holds(path, b"pytorch-lightning_version"):
        alone = ALONE.format(f"{loaded}['state_dict']")
        return f"it is a Lightning checkpoint with objects of its own{f' ({what})' if what else ''}; {alone}"
    if what.startswith("numpy"):
        alone = ALONE.format(f"{loaded}['model']")
        return f"it holds NumPy values ({what}) beside its tensors, which are not loaded; {alone}"
    if what.startswith(("torch.nn.", "__main__")):
        alone = ALONE.format(f"{loaded}.state_dict()")
        return f"it is a pickled module ({what}), which is code and not run; {alone}"
    if what:
        alone = ALONE.format(f"{loaded}['model']")
        return f"it holds more than plain tensors, a pickled {what}, which is not loaded; {alone}"
    return f"it is damaged, or it holds more than plain tensors ({_first(fault)}); download or copy it again"


def _holds(path: Path, text: bytes) -> bool:
    """Whether the pickle of a checkpoint mentions `text`; of an archive its pickle alone is looked at."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(name) as file:
                return text in file.read(2**24)
    except (zipfile.BadZipFile, StopIteration, OSError, ValueError, NotImplementedError):
        with path.open("rb") as file:
            return text in file.read(2**24)


def _chain(fault: BaseException | None) -> str:
    texts = []
    while fault is not None:
        texts.append(str(fault))
        fault = fault.__cause__ or fault.__context__
    return " ".join(texts)


def _first(fault: BaseException) -> str:
    text = " ".join(str(fault).split())[:100]
    return f"{type(fault).__name__}: {text}" if text else type(fault).__name__
