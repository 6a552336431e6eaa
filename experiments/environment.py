"""On what a run ran: versions, machine, and the code it was made with."""

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import rasa
from experiments.machine import machine
from experiments.uncommitted import NONE, Changes, uncommitted

COMMAND_LINE = "commands"  # the package that changes how a command is typed, not what a run computes


def environment(threads: int | None = None) -> dict[str, Any]:
    """What `environment.json` holds, as plain JSON types. `threads`: that the run will have, if that is settled."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.node(),
        "cpus": cpu_count(),
        **machine(threads),
        **code_version(),
        **changes().described(),
        "code": code_hashes(),
    }


def cpu_count() -> int:
    """CPUs that this process may use, which in a container are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def code_version() -> dict[str, Any]:
    """The version, and the commit and the dirty state of a checkout (None for an installed wheel)."""
    root = checkout()
    commit = dirty = None
    if root is not None:
        commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
        dirty = bool(_git(root, "status", "--porcelain"))
    return {"version": rasa.__version__, "git_commit": commit or None, "git_dirty": dirty}


@cache
def checkout() -> Path | None:
    """The root of the checkout that this code is; None for an installed wheel."""
    root = Path(rasa.__file__).resolve().parents[1]
    # A wheel inside a virtual environment inside some repository is not that repository's code.
    return root if _git(root, "rev-parse", "--show-toplevel") == str(root) else None


def changes() -> Changes:
    """What the checkout holds beside its commit; nothing of a wheel."""
    root = checkout()
    return uncommitted(root) if root is not None and code_version()["git_dirty"] else NONE


@cache
def code_hashes() -> Mapping[str, str]:
    """Of the code that runs, as `hashes_of`."""
    return hashes_of(Path(rasa.__file__).resolve().parent)


def hashes_of(package: Path) -> dict[str, str]:
    """SHA-256 of each Python file of the method, by its path, e.g. `rasa/objectives/matching.py`."""
    files = sorted(path for path in package.rglob("*.py") if path.relative_to(package).parts[0] != COMMAND_LINE)
    return {
        path.relative_to(package.parent).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def changed_files(recorded: Mapping[str, Any], current: Mapping[str, str]) -> list[str]:
    """Files of the method that are not as they were when `recorded` was written."""
    if recorded == current:  # of nearly all runs of a workspace
        return []
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
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
