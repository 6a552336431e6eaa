"""On what a run ran: versions, machine, and the code it was made with."""

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import rasa

PACKAGES = ("torch", "torchvision", "timm", "transformers", "safetensors", "numpy", "Pillow", "pydantic", "mlflow")
COMMAND_LINE = "commands"  # the package that changes how a command is typed, not what a run computes


def environment() -> dict[str, Any]:
    """What `environment.json` holds, as plain JSON types."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.node(),
        "cpus": cpu_count(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "packages": {name: installed_version(name) for name in PACKAGES},
        **code_version(),
        "code": code_hashes(),
    }


def cpu_count() -> int:
    """CPUs that this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def installed_version(package: str) -> str | None:
    """The installed version of a distribution, without importing it; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def code_version() -> dict[str, Any]:
    """The version, and the commit and the dirty state of a checkout (None for an installed wheel)."""
    root = Path(rasa.__file__).resolve().parents[1]
    commit = dirty = None
    # A wheel inside a virtual environment inside some repository is not that repository's code.
    if _git(root, "rev-parse", "--show-toplevel") == str(root):
        commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
        dirty = bool(_git(root, "status", "--porcelain"))
    return {"version": rasa.__version__, "git_commit": commit or None, "git_dirty": dirty}


@cache
def code_hashes() -> Mapping[str, str]:
    """SHA-256 of each Python file of the method, by its path, e.g. `rasa/objectives/matching.py`."""
    package = Path(rasa.__file__).resolve().parent
    files = sorted(path for path in package.rglob("*.py") if path.relative_to(package).parts[0] != COMMAND_LINE)
    return {
        path.relative_to(package.parent).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def changed_files(recorded: Mapping[str, Any], current: Mapping[str, str]) -> list[str]:
    """Files of the method that are not as they were when `recorded` was written."""
    return sorted(name for name in {*recorded, *current} if recorded.get(name) != current.get(name))


def code_digest(hashes: Mapping[str, Any]) -> str:
    """12 hex digits for all files together."""
    text = "".join(f"{name} {digest}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def file_digest(path: Path, size: int, changed_ns: int) -> str:
    """16 hex digits of a file's SHA-256. Size and time of change are given so that the cache notices a new file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def content_digest(path: Path) -> str:
    """16 hex digits of a file's content, or of a folder's names and contents, hidden ones left out. Raises OSError."""
    if not path.is_dir():
        status = path.stat()
        return file_digest(path, status.st_size, status.st_mtime_ns)
    names = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
    shown = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    text = "".join(f"{name.as_posix()} {content_digest(path / name)}\n" for name in shown)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _git(folder: Path, *arguments: str) -> str:
    """What git prints; nothing if git is missing or the folder is not its business."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
