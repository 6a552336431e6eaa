"""What a checkout holds beside its commit, as one patch: `git apply` on that commit gives the sources back.

Uncommitted changes of all tracked files, and the untracked files that can be sources: whatever lies in the packages,
and code and settings at the top. Runs, data and notes elsewhere are not looked at. Large files and names that promise a
secret are left out, and said to be.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

PACKAGES = ("rasa", "experiments", "studies", "reports", "benchmarks")
TOP = (".py", ".yaml", ".yml", ".toml", ".cfg")
PRIVATE = re.compile(r"secret|credential|password|token", re.IGNORECASE)  # of no Python source: tokenizer.py is one
LARGEST, WHOLE = 2**20, 8 * 2**20  # bytes of a file, and of all that is kept
TOO_LARGE, TOO_MUCH, SECRET = "larger than 1 MiB", "more than 8 MiB in all", "its name promises a secret"
SECONDS = 20.0  # that git may take
PLAIN = ("--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--src-prefix=a/")
DIFF = ("diff", *PLAIN, "--dst-prefix=b/", "-U3")  # whatever the user has set for own eyes


class Changes(NamedTuple):
    """A patch, the files that it changes or adds, and why others are not in it."""

    patch: bytes
    files: tuple[str, ...]
    left_out: dict[str, str]

    def described(self) -> dict[str, Any]:
        """What `environment.json` says of them; nothing of a checkout that is as committed."""
        if not self.files and not self.left_out:
            return {}
        own = {"sha256": hashlib.sha256(self.patch).hexdigest(), "files": list(self.files)}
        return {"changes": own | ({"left_out": self.left_out} if self.left_out else {})}


NONE = Changes(b"", (), {})


@cache
def uncommitted(root: Path) -> Changes:
    """Of the checkout in `root`, as it was when this process first asked: later edits are not of the code that runs."""
    tracked, untracked = _names(root, "diff", "HEAD", "--name-only", "--no-renames", "-z"), _sources(root)
    if tracked is None or untracked is None:
        return Changes(b"", (), {".": "git did not answer"})
    left_out = {name: why for name in (*tracked, *untracked) if (why := _refused(root / name, name in untracked))}
    parts: list[bytes] = []
    kept: list[str] = []
    size = 0
    for names, part in _parts(
        root, [n for n in tracked if n not in left_out], [n for n in untracked if n not in left_out]
    ):
        if part is None or size + len(part) > WHOLE:
            left_out |= dict.fromkeys(names, "git did not answer" if part is None else TOO_MUCH)
            continue
        size += len(part)
        parts.append(part)
        kept += names
    return Changes(b"".join(parts), tuple(sorted(kept)), dict(sorted(left_out.items())))


def _parts(
    root: Path, tracked: Sequence[str], untracked: Sequence[str]
) -> Iterator[tuple[Sequence[str], bytes | None]]:
    """Files and their patch: of the tracked ones at once unless that is too large."""
    if tracked:
        # As names, not patterns, and through the input: a command line has an end.
        whole = _git(root, *DIFF, "HEAD", "--", *tracked, literal=True) if len(tracked) < 500 else None
        if whole is not None and len(whole) <= WHOLE:
            yield tracked, whole
        else:
            # What is run comes first, so that it is what fits.
            for name in sorted(tracked, key=lambda name: (not name.startswith(PACKAGES), name)):
                yield [name], _git(root, *DIFF, "HEAD", "--", name, literal=True)
    for name in untracked:
        yield [name], _git(root, *DIFF, "--no-index", "--", os.devnull, name, differs=True)


def _sources(root: Path) -> list[str] | None:
    folders = [name for name in PACKAGES if (root / name).is_dir()]
    top = [f":(glob)*{suffix}" for suffix in TOP]
    return _names(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *folders, *top)


def _refused(file: Path, untracked: bool) -> str:
    """Why a file is not kept; nothing if it is."""
    if untracked and (file.name.startswith(".") or (file.suffix != ".py" and PRIVATE.search(file.name))):
        return SECRET
    try:
        return TOO_LARGE if file.lstat().st_size > LARGEST else ""
    except OSError:  # deleted, which is a change, too
        return ""


def _names(root: Path, *arguments: str) -> list[str] | None:
    out = _git(root, *arguments)
    return None if out is None else [os.fsdecode(name) for name in out.split(b"\0") if name]


def _git(root: Path, *arguments: str, literal: bool = False, differs: bool = False) -> bytes | None:
    """What git prints; None if it fails. `differs`: its exit code says, as diff's does, that something was found."""
    pathspecs = ["--literal-pathspecs"] if literal else []
    command = ["git", "--no-optional-locks", *pathspecs, "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode in ((0, 1) if differs else (0,)) else None
