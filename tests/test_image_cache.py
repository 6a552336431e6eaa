"""Decoded images on disk: what is taken for a cache, who builds it, and what refuses it."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rasa.data import image_cache
from rasa.data.image_cache import GIB, cached_images
from rasa.data.transforms import ImageFault, decode

COUNT, SIZE = 40, (16, 8)  # more images than one thread takes at once
BYTES = COUNT * 3 * 16 * 8
FILES = [f"cam{image % 2}/{image}.png" for image in range(COUNT)]

# Another process that builds the cache: `slow` runs before each decoding, with the image's path as `path`.
BUILDER = """
import sys, time
from pathlib import Path
from rasa.data import image_cache
from rasa.data.transforms import decode
root, folder, log = map(Path, sys.argv[1:4])
def logged(path, size):
    with log.open("a") as file:
        file.write(path.name + "\\n")
    {slow}
    return decode(path, size)
image_cache.decode = logged
files = sys.argv[4].split(",")
(folder / "ready").mkdir(parents=True, exist_ok=True)
(folder / "ready" / sys.argv[5]).touch()
while not (folder / "go").exists():
    time.sleep(0.001)
images = image_cache.cached_images(files, root, (16, 8), folder, 1)
print(images.sum())
"""


@pytest.fixture
def root(tmp_path):
    """Forty images of noise in two folders."""
    draw = np.random.default_rng(0)
    for file in FILES:
        (tmp_path / "imgs" / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (20, 12, 3), np.uint8)).save(tmp_path / "imgs" / file)
    return tmp_path / "imgs"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def said():
    return []


@pytest.fixture
def decoded(monkeypatch):
    """Names of the images that this process decodes for a cache."""
    return count_calls(monkeypatch, "decode")


@pytest.fixture
def hashed(monkeypatch):
    """Names of the images whose bytes this process reads for a key, however fresh they are."""
    monkeypatch.setattr(image_cache, "TICK", 0)
    return count_calls(monkeypatch, "_file_hash")


def count_calls(monkeypatch, function):
    names, genuine = [], getattr(image_cache, function)

    def counting(path, *rest):
        names.append(path.name)
        return genuine(path, *rest)

    monkeypatch.setattr(image_cache, function, counting)
    return names


def cached(root, folder, files=FILES, size=SIZE, limit_gib=1.0, notify=lambda line: None):
    return cached_images(files, root, size, folder, limit_gib, 2, notify)


def caches(folder):
    return sorted((folder / "image-cache").glob("*.u8"))


def expected(root, files=FILES, size=SIZE):
    return np.stack([decode(root / file, size).numpy() for file in files])


def start_builder(root, folder, slow, name):
    command = [sys.executable, "-c", BUILDER.format(slow=slow), root, folder, folder / "log", ",".join(FILES), name]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)


def wait_until(condition):
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until, "the other process did not get there"
        time.sleep(0.005)


def test_cache_holds_what_decode_gives_and_cannot_be_written(root, folder, decoded, said):
    images = cached(root, folder, notify=said.append)
    assert images.shape == (COUNT, 3, *SIZE) and images.dtype == np.uint8 and not images.flags.writeable
    assert np.array_equal(images, expected(root))
    assert sorted(decoded) == sorted(Path(file).name for file in FILES)
    assert len(said) == 1 and "decoding 40 images" in said[0]
    assert np.array_equal(cached(root, folder, notify=said.append), images)
    assert len(decoded) == COUNT and len(said) == 1


def test_equal_content_under_other_paths_shares_a_cache(root, folder, tmp_path, decoded):
    images = cached(root, folder)
    names = [f"{image}-renamed.png" for image in range(COUNT)]
    (tmp_path / "moved").mkdir()
    for file, name in zip(FILES, names, strict=True):
        shutil.copy(root / file, tmp_path / "moved" / name)
    assert np.array_equal(cached(tmp_path / "moved", folder, names), images)
    assert len(caches(folder)) == 1 and len(decoded) == COUNT


def test_another_size_order_or_decoder_has_another_cache(root, folder, monkeypatch):
    cached(root, folder)
    assert np.array_equal(cached(root, folder, size=(8, 16)), expected(root, size=(8, 16)))
    assert np.array_equal(cached(root, folder, FILES[::-1]), expected(root, FILES[::-1]))
    monkeypatch.setattr(image_cache, "DECODING", 0)
    cached(root, folder)
    assert len(caches(folder)) == 4


def test_contents_are_read_once(root, folder, hashed):
    cached(root, folder)
    assert len(hashed) == COUNT
    cached(root, folder)
    cached(root, folder, size=(8, 16))
    assert len(hashed) == COUNT
    cached(root, folder, FILES[:3])  # another split of the same folder
    assert len(hashed) == COUNT


def test_touched_image_is_read_again_and_is_the_same(root, folder, hashed):
    cached(root, folder)
    os.utime(root / FILES[7], (1, 1))
    hashed.clear()
    cached(root, folder)
    assert hashed == ["7.png"] and len(caches(folder)) == 1


def test_changed_image_of_the_same_size_and_time_is_noticed(root, folder, hashed):
    """Both images have the same number of bytes, and the time of content is put back: the inode's own tells."""
    Image.new("RGB", (20, 12), (9, 9, 9)).save(root / FILES[3], format="BMP")
    before = os.stat(root / FILES[3])
    cached(root, folder)
    time.sleep(0.02)  # ten ticks of the clock that stamps files
    with open(root / FILES[3], "r+b") as file:
        file.seek(-60, os.SEEK_END)
        file.write(b"\xff" * 60)
    os.utime(root / FILES[3], ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(root / FILES[3])
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    hashed.clear()
    assert np.array_equal(cached(root, folder), expected(root))
    assert hashed == ["3.png"] and len(caches(folder)) == 2  # the old one is left alone


def test_fresh_image_is_not_trusted_to_its_times(root, folder, monkeypatch):
    """The fixture wrote them within the last moments; an hour's tick makes that certain."""
    monkeypatch.setattr(image_cache, "TICK", 3600 * 10**9)
    read = count_calls(monkeypatch, "_file_hash")
    cached(root, folder)
    cached(root, folder)
    assert len(read) == 2 * COUNT


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        lambda content: b"\xff\xfe",
    ],
    ids=["empty", "half", "one bit", "not text"],
)
def test_damaged_index_costs_reading_again(root, folder, hashed, decoded, damage):
    images = cached(root, folder)
    (index,) = (folder / "image-cache").glob("*.index")
    index.write_bytes(damage(index.read_bytes()))
    assert np.array_equal(cached(root, folder), images)
    assert (len(hashed), len(decoded)) == (2 * COUNT, COUNT)
    cached(root, folder)
    assert len(hashed) == 2 * COUNT


def test_two_processes_that_start_at_once_decode_once(root, folder):
    folder.mkdir()
    builders = [start_builder(root, folder, "time.sleep(0.02)", name) for name in ("a", "b")]
    wait_until(lambda: len(list(folder.glob("ready/*"))) == 2)
    (folder / "go").touch()
    sums = {int(builder.communicate(timeout=120)[0]) for builder in builders}
    assert sums == {int(expected(root).sum())}
    assert sorted((folder / "log").read_text().split()) == sorted(Path(file).name for file in FILES)
    assert len(caches(folder)) == 1


def test_killed_build_leaves_nothing_that_is_taken_for_a_cache(root, folder, decoded):
    folder.mkdir()
    (folder / "go").touch()
    builder = start_builder(root, folder, "time.sleep(60 if path.name == '20.png' else 0)", "a")
    wait_until(lambda: (folder / "log").exists() and "20.png" in (folder / "log").read_text())
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    assert caches(folder) == [] and len(list((folder / "image-cache").glob(".building-*"))) == 1
    assert np.array_equal(cached(root, folder), expected(root))
    assert len(decoded) == COUNT
    assert list((folder / "image-cache").glob(".building-*")) == []


@pytest.mark.parametrize("size", [0, BYTES - 1, BYTES + 1])
def test_file_of_another_size_is_built_again(root, folder, decoded, size):
    cached(root, folder)
    (file,) = caches(folder)
    os.truncate(file, size)
    assert np.array_equal(cached(root, folder), expected(root))
    assert len(decoded) == 2 * COUNT and file.stat().st_size == BYTES


def test_limit_refuses_in_one_line_before_anything_is_read(root, folder, hashed, said):
    assert cached(root, folder, limit_gib=BYTES / GIB / 2, notify=said.append) is None
    assert len(said) == 1 and "\n" not in said[0]
    assert "not cached but decoded at each use" in said[0] and "raise data.image_cache_gib above" in said[0]
    assert hashed == [] and not folder.exists()


def test_limit_holds_for_all_caches_of_the_folder_together(root, folder, said):
    limit = 1.5 * BYTES / GIB
    images = cached(root, folder, limit_gib=limit)
    assert cached(root, folder, FILES[::-1], limit_gib=limit, notify=said.append) is None
    assert len(said) == 1 and "beside the" in said[0] and "remove old ones or raise data.image_cache_gib" in said[0]
    assert np.array_equal(cached(root, folder, limit_gib=limit, notify=said.append), images)  # what is there is used
    assert len(said) == 1 and len(caches(folder)) == 1


def test_limit_of_zero_is_a_wish_and_no_line(root, folder, said):
    assert cached(root, folder, limit_gib=0, notify=said.append) is None
    assert cached(root, folder, [], notify=said.append) is None
    assert said == [] and not folder.exists()


def test_full_disk_is_refused_before_and_during_the_build(root, folder, said, decoded, monkeypatch):
    usage = shutil.disk_usage(root)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=image_cache.MARGIN + BYTES - 1))
        assert cached(root, folder, notify=said.append) is None
    assert len(said) == 1 and "GiB to spare" in said[0] and decoded == []

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    assert cached(root, folder, notify=said.append) is None
    assert len(said) == 3 and "No space left on device" in said[-1]  # the second tells of the beginning
    assert list((folder / "image-cache").glob("*.u8")) + list((folder / "image-cache").glob(".building-*")) == []


def test_write_in_pieces_is_completed(root, folder, monkeypatch):
    genuine = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, content, offset: genuine(file, content[:100], offset))
    assert np.array_equal(cached(root, folder), expected(root))


def test_folder_that_cannot_be_made_is_refused(root, folder, said):
    folder.write_text("a file")
    assert cached(root, folder, notify=said.append) is None
    assert len(said) == 1 and "choose a writable folder" in said[0]


@pytest.mark.parametrize("content", [b"", b"<html>", None], ids=["empty", "foreign", "missing"])
def test_first_damaged_image_is_named_as_without_a_cache(root, folder, content):
    for image in (39, 12, 25):
        (root / FILES[image]).unlink()
        if content is not None:
            (root / FILES[image]).write_bytes(content)
    with pytest.raises(ImageFault) as without:
        decode(root / FILES[12], SIZE)
    for _ in range(2):
        with pytest.raises(ImageFault) as fault:
            cached(root, folder)
        assert str(fault.value) == str(without.value) and fault.value.kind == without.value.kind
        assert caches(folder) == [] and list((folder / "image-cache").glob(".building-*")) == []


def test_image_that_changes_during_the_build_is_not_kept(root, folder, said, monkeypatch):
    def meddling(path, size):
        os.utime(root / FILES[0])
        return decode(path, size)

    monkeypatch.setattr(image_cache, "decode", meddling)
    assert cached(root, folder, notify=said.append) is None
    assert "some changed while they were decoded" in said[-1] and caches(folder) == []
