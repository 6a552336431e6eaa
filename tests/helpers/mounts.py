"""Disks of a few MiB, in memory, that can really be full or read-only.

Skipped, with the reason, where none may be mounted.
"""

import os
import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def disk(folder, mib):
    """`folder` as a disk of its own of so many MiB, until the context ends."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def read_only(folder):
    """Let nobody write to the disk at `folder` any more."""
    _mount("-o", "remount,ro", str(folder))


@contextmanager
def full(folder):
    """The disk at `folder` filled to its last byte."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    assert not _free(folder)
    yield
    ballast.unlink()


def _free(folder):
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _mount(*arguments):
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no program mount")
    if done.returncode:
        pytest.skip(f"mounting is refused here: {done.stderr.strip()}")
