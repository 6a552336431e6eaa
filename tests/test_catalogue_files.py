"""FAULTS 8, 15, 19 and 21 by the real thing: files that declare too much under a bound on memory, and large folders."""

import hashlib
import json
import os
import struct
import time
import zlib

import pytest
import torch

from rasa.config.run import Data
from rasa.data.load import load_dataset
from rasa.errors import ResourceError
from rasa.weights.folder import load_checkpoint, newest_checkpoint
from tests.helpers.checkpoints import saved
from tests.helpers.one_row import EVERYTHING, newest, run_directory, write_suite
from tests.helpers.people import write_people
from tests.helpers.processes import rasa

pytestmark = pytest.mark.timeout(900)  # whole runs, on machines that may be busy


def png_header(width, height):
    """A PNG that declares so many pixels and holds hardly any."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100000 100000\n%%EndComments\nshowpage\n%%EOF\n"
FITS = b"".join(
    card.ljust(80)
    for card in (b"SIMPLE  = T", b"BITPIX  = 8", b"NAXIS   = 2", b"NAXIS1  = 90000", b"NAXIS2  = 90000", b"END")
).ljust(2880)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bomb.png", png_header(60_000, 60_000)),
        ("wide.png", png_header(8_000, 7_999)),
        ("eps.jpg", POSTSCRIPT),
        ("fits.jpg", FITS),
    ],
    ids=["bomb", "just under the limit", "EPS", "FITS"],
)
def test_an_image_that_is_a_bomb_or_no_image_is_refused_in_bounded_memory(tmp_path, name, content):
    """With 700 MiB more than the libraries take, where 60,000 x 60,000 pixels would be 10 GiB.

    8,000 x 7,999 are fewer pixels than the limit, so it is decoded, and the file ends before they do.
    """
    people = write_people(tmp_path / "people", train=6, val=3, test=3)
    records = json.loads((people / "reid_raw.json").read_text())
    records[0]["file_path"] = name
    (people / "reid_raw.json").write_text(json.dumps(records))
    (people / "imgs" / name).write_bytes(content)
    options = ("-o", f"data.root={people}", "-o", "data.image_size=[32,16]")
    command = rasa("run", "table4/cl", *options, folder=tmp_path / "workspace", code=5, more_mib=700)
    told = [line for line in command.err.splitlines() if name in line]
    assert len(told) == 1 and "memory" not in told[0]
    checked = rasa("data", "check", people, folder=tmp_path / "workspace", code=5, more_mib=700)
    assert name in checked.out + checked.err


def test_three_missing_images_among_40_000_are_found_in_seconds(tmp_path):
    """Before any image is opened: the count and the names. Links to one file stand for the images."""
    people = write_people(tmp_path, train=1, val=1, test=1, images=1)
    (record, *others) = json.loads((people / "reid_raw.json").read_text())
    image, folder = people / "imgs" / record["file_path"], people / "imgs" / "many"
    folder.mkdir()
    for number in range(40_000):
        os.link(image, folder / f"{number}.png")
    records = [record | {"file_path": f"many/{number}.png", "id": 10 + number // 4} for number in range(40_000)]
    (people / "reid_raw.json").write_text(json.dumps(records + others))
    for number in (7, 20_000, 39_999):
        (folder / f"{number}.png").unlink()
    began = time.process_time()
    with pytest.raises(ResourceError, match="3 of 40002 annotated images are missing") as fault:
        load_dataset(Data(root=people))
    assert time.process_time() - began < 20
    assert all(f"many/{number}.png" in str(fault.value) for number in (7, 20_000, 39_999))


def rewrite(folder, **changes):
    """Change fields of a checkpoint's record and give it a fitting hash again:
    a file of another program, not a damaged one."""
    body = json.loads((folder / "state.json").read_text()) | changes
    body.pop("sha256")
    body = {name: value for name, value in body.items() if value is not None}
    body["sha256"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    (folder / "state.json").write_text(json.dumps(body))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "checkpoint format 2 is not 1"),
        ({"format": "1"}, "checkpoint format '1' is not 1"),
        ({"format": None}, "checkpoint format None is not 1"),
        ({"format": True}, "checkpoint format True is not 1"),
        ({"tensors_sha256": None}, "its hash does not match its content"),
        ({"state": None}, "its record lacks the state"),
    ],
)
def test_a_checkpoint_of_another_format_is_refused_with_its_number(tmp_path, changes, message):
    saved(tmp_path, 1)
    rewrite(saved(tmp_path, 2), **changes)
    with pytest.raises(ResourceError, match=message) as fault:
        load_checkpoint(tmp_path / "step-000000002")
    assert "\n" not in str(fault.value)
    _, state, problems = newest_checkpoint(tmp_path)
    assert state["step"] == 1 and len(problems) == 1


def test_the_same_seed_twice_is_100_steps_to_the_bit_and_another_seed_is_not(tmp_path):
    """Loader workers, too, change no bit of 104 steps."""
    people = write_people(tmp_path / "people", train=70, val=3, test=3, images=2)
    suite = write_suite(tmp_path, people, EVERYTHING, "momentum", epochs=3)
    ends = []
    for name, workers, seed in (("one", 0, 0), ("two", 2, 0), ("three", 0, 1)):
        rasa(
            "run",
            "--keep-checkpoints",
            suite,
            "-o",
            f"data.root={people}",
            "-o",
            f"data.workers={workers}",
            "-o",
            "data.image_cache_gib=0",
            "--seeds",
            seed,
            folder=tmp_path / name,
        )
        if seed:
            (directory,) = (tmp_path / name / "runs").glob("own/row/*/seed-1-*")
        else:
            directory = run_directory(tmp_path / name)
        ends.append(newest(directory)[0])
    first, second, third = ends
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not any(
        torch.equal(value, third[name]) for name, value in first.items() if name.startswith("model.") and value.ndim > 1
    )
