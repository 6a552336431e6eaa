"""Readers of the published layouts, on small folders written with the published field names."""

import os

import numpy as np
import pytest
from PIL import Image

from rasa.config.run import Data
from rasa.data.load import load_dataset
from rasa.data.locate import detect_format
from rasa.errors import ResourceError, SpecError
from tests.helpers.pedes_folder import FILES, people, record, write


def refusal(data, error=ResourceError):
    with pytest.raises(error) as caught:
        load_dataset(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("layout", ["cuhk-pedes", "rstpreid"])
def test_published_layouts(tmp_path, layout):
    dataset = load_dataset(write(tmp_path / "data", layout, people(layout)))
    folder = "CUHK01/" if layout == "cuhk-pedes" else ""
    train = dataset.splits["train"]
    assert train.image_files == (f"{folder}a.jpg", f"{folder}b.jpg", f"{folder}c.jpg")
    assert train.image_identities.tolist() == [1, 2, 1]
    assert train.captions == ("a man in red", "man with a bag", "a woman in blue", "the man in red", "a red t shirt")
    assert train.caption_images.tolist() == [0, 0, 1, 2, 2]
    assert train.caption_identities.tolist() == [1, 1, 2, 1, 1]
    assert train.image_identities.dtype == train.caption_images.dtype == np.int64
    assert dataset.splits["val"].captions == ("a girl", "yellow dress")
    assert dataset.splits["test"].captions == ("a boy a child",)
    assert dataset.notes == () and dataset.name == layout
    assert dataset.image_root == tmp_path / "data" / "imgs"


def test_equal_captions_have_equal_numbers(tmp_path):
    records = people("cuhk-pedes")
    records[1]["captions"] = ["a man -- IN red"]
    train = load_dataset(write(tmp_path, "cuhk-pedes", records)).splits["train"]
    assert train.captions[2] == train.captions[0]
    assert train.caption_texts.tolist() == [0, 1, 0, 2, 3]


def test_validation_identities_are_held_out_where_there_is_no_validation_split(tmp_path):
    data = write(tmp_path, "icfg-pedes", people("icfg-pedes"))
    dataset = load_dataset(data.model_copy(update={"val_identities": 2}))
    splits = dataset.splits
    held = set(splits["val"].image_identities.tolist())
    assert len(held) == 2 and held <= {1, 2, 5, 6}
    assert set(splits["train"].image_identities.tolist()) == {1, 2, 5, 6} - held
    assert splits["test"].image_identities.tolist() == [4]
    assert dataset.notes == ("there is no validation split; 2 training identities, drawn with seed 0, are held out",)


@pytest.mark.parametrize("count", [3, 200])
def test_hold_out_that_leaves_too_few_is_refused(tmp_path, count):
    data = write(tmp_path, "icfg-pedes", people("icfg-pedes")).model_copy(update={"val_identities": count})
    message = refusal(data, SpecError)
    assert message.startswith(f"data.val_identities {count} leaves fewer than 2 of the 4 training identities of ")
    assert message.endswith("set data.val_identities to at most 2")


def test_icfg_identities_that_restart_in_test_are_told_apart(tmp_path):
    """Train 0, 1, 2 and test 0, 1: other people, so test's are numbered on from 3."""
    records = [record("icfg-pedes", "train", identity, f"{identity}.jpg", ["One"]) for identity in (0, 1, 2)]
    records += [record("icfg-pedes", "test", identity, f"t{identity}.jpg", ["Two"]) for identity in (0, 1)]
    dataset = load_dataset(write(tmp_path, "icfg-pedes", records))
    assert dataset.splits["test"].image_identities.tolist() == [3, 4]
    assert dataset.notes[0] == "train and test both number their identities from 0; 3 was added to those of test"


def test_digest_follows_the_content(tmp_path):
    data = write(tmp_path, "cuhk-pedes", people("cuhk-pedes"))
    digest = load_dataset(data).digest
    assert len(digest) == 16 and load_dataset(data).digest == digest
    Image.new("RGB", (160, 320)).save(tmp_path / "imgs" / "CUHK01" / "a.jpg")
    changed = load_dataset(data).digest
    assert changed != digest
    records = people("cuhk-pedes")
    records[0]["captions"][0] = "A man, in rad."
    write(tmp_path, "cuhk-pedes", records, images=[])
    assert load_dataset(data).digest not in (digest, changed)


def test_path_with_spaces_and_letters_beyond_ascii(tmp_path):
    records = people("cuhk-pedes")
    records[0]["file_path"] = "größe 1/ä b.jpg"
    records[0]["captions"] = ["Ein Mann 😀"]
    train = load_dataset(write(tmp_path / "mit Leerzeichen ü", "cuhk-pedes", records)).splits["train"]
    assert train.image_files[0] == "größe 1/ä b.jpg" and train.captions[0] == "ein mann 😀"


def test_one_image_in_two_records_stays_two_images(tmp_path):
    """ICFG-PEDES has such a pair; both records keep their place."""
    records = people("cuhk-pedes")
    records[2]["file_path"] = records[0]["file_path"]
    train = load_dataset(write(tmp_path, "cuhk-pedes", records)).splits["train"]
    assert train.image_files[0] == train.image_files[2] and train.caption_images.tolist() == [0, 0, 1, 2, 2]


@pytest.mark.parametrize("layout", list(FILES))
def test_format_is_told_by_the_annotation_file(tmp_path, layout):
    assert detect_format(tmp_path) is None
    write(tmp_path, layout, people(layout))
    assert detect_format(tmp_path) == layout


def test_annotation_file_and_image_folder_may_be_named(tmp_path):
    data = write(tmp_path, "cuhk-pedes", people("cuhk-pedes"))
    (tmp_path / FILES["cuhk-pedes"]).rename(tmp_path / "mine.json")
    (tmp_path / "imgs").rename(tmp_path / "pictures")
    data = data.model_copy(update={"annotations": "mine.json", "image_folder": "pictures"})
    assert len(load_dataset(data).splits["train"].captions) == 5


def test_image_folder_may_be_a_link_that_the_user_laid(tmp_path):
    data = write(tmp_path / "data", "cuhk-pedes", people("cuhk-pedes"))
    (tmp_path / "data" / "imgs").rename(tmp_path / "disk")
    (tmp_path / "data" / "imgs").symlink_to(tmp_path / "disk")
    assert len(load_dataset(data).splits["train"].image_files) == 3


def test_root_is_refused(tmp_path):
    data = Data(format="cuhk-pedes", root=tmp_path / "none")
    wanted = "set data.root to the folder that holds reid_raw.json"
    assert refusal(data) == f"{tmp_path / 'none'}: does not exist; {wanted}"
    (tmp_path / "none").write_text("")
    assert refusal(data) == f"{tmp_path / 'none'}: is not a folder; {wanted}"
    assert "-o data.root=DIR" in refusal(Data.model_construct(format="cuhk-pedes", root=None), SpecError)


def test_annotation_file_is_missing(tmp_path):
    data = Data(format="icfg-pedes", root=tmp_path)
    start = f"{tmp_path / 'ICFG-PEDES.json'}: the annotation file of format icfg-pedes is missing; "
    assert refusal(data) == start + "put it there or set data.annotations"
    write(tmp_path, "rstpreid", people("rstpreid"))
    assert refusal(data) == (
        start + "but there is data_captions.json, which looks like rstpreid: set data.format to rstpreid"
    )


def test_image_folder_is_missing(tmp_path):
    (tmp_path / "reid_raw.json").write_text("[]")
    message = refusal(Data(format="cuhk-pedes", root=tmp_path))
    assert (
        message == f"{tmp_path / 'imgs'}: the image folder is missing; unpack the images there or set data.image_folder"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON (Expecting value: line 1 column 1 (char 0)); download the annotation file again"),
        ('[{"split": "tr', "not JSON (Unterminated string"),
        (b"\xff\x00\xff", "not JSON ("),
        ("[" * 100_000, "not JSON ("),
        ("{}", "holds a dict and not a list of records; expected reid_raw.json as published"),
    ],
    ids=["empty", "cut", "binary", "deep", "object"],
)
def test_annotation_file_is_no_list(tmp_path, content, message):
    data = write(tmp_path, "cuhk-pedes", people("cuhk-pedes"))
    (tmp_path / "reid_raw.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refusal(data).startswith(f"{tmp_path / 'reid_raw.json'}: {message}")


PLACE = "make it relative to the image folder"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("split", "eval", "split is 'eval'; it must be one of train, val, test"),
        ("split", ["train"], "split is ['train']; it must be one of train, val, test"),
        ("file_path", "/etc/passwd", f"file_path '/etc/passwd' is absolute; {PLACE}"),
        ("file_path", "C:\\a.jpg", f"file_path 'C:\\\\a.jpg' is absolute; {PLACE}"),
        ("file_path", "CUHK01/../../a.jpg", f"file_path 'CUHK01/../../a.jpg' climbs with '..'; {PLACE}"),
        ("file_path", "..\\a.jpg", f"file_path '..\\\\a.jpg' climbs with '..'; {PLACE}"),
        (
            "file_path",
            "a\0.jpg",
            "file_path 'a\\x00.jpg' holds a character that no image's name has; write the path again",
        ),
        ("file_path", "a\ud800.jpg", "file_path 'a\\\\ud800.jpg' holds a character that no image's name has"),
        ("file_path", "a\n.jpg", "file_path 'a\\n.jpg' holds a character that no image's name has"),
        ("file_path", "", "file_path is ''; give the image's path below the image folder"),
        ("file_path", 7, "file_path is 7; give the image's path below the image folder"),
        ("id", "7", "id is '7'; it must be a whole number, 0 or more"),
        ("id", -1, "id is -1; it must be a whole number, 0 or more"),
        ("id", True, "id is True; it must be a whole number, 0 or more"),
        ("id", 2**63, "id is 9223372036854775808; it must be a whole number, 0 or more"),
        ("captions", [], "captions is []; give at least one caption, as a list, or remove the record"),
        ("captions", "a man", "captions is 'a man'; give at least one caption, as a list, or remove the record"),
        ("captions", ["a man", None], "captions[1] is None, not a text; write the caption or remove it"),
        (
            "captions",
            [" - .,!"],
            "captions[0] is ' - .,!', of which cleaning leaves nothing; write it or remove it",
        ),
        ("captions", ["\n"], "captions[0] is '\\n', of which cleaning leaves nothing; write it or remove it"),
        ("captions", ["a \ud83d"], "captions[0] holds half of a surrogate pair, which is no letter; write it again"),
    ],
)
def test_record_is_refused(tmp_path, field, value, message):
    records = people("cuhk-pedes")
    records[2] = records[2] | {field: value}
    data = write(tmp_path, "cuhk-pedes", records, images=[])
    assert refusal(data).startswith(f"{tmp_path / 'reid_raw.json'}: record 2: {message}")


@pytest.mark.parametrize("field", ["split", "captions", "file_path", "id"])
def test_record_without_a_field_is_refused(tmp_path, field):
    records = people("cuhk-pedes")
    del records[1][field]
    message = refusal(write(tmp_path, "cuhk-pedes", records, images=[]))
    assert message.startswith(
        f"{tmp_path / 'reid_raw.json'}: record 1: has no field {field}; expected reid_raw.json as "
    )


def test_record_that_is_no_object_is_refused(tmp_path):
    message = refusal(write(tmp_path, "cuhk-pedes", [*people("cuhk-pedes"), [1]], images=[]))
    assert f"{tmp_path / 'reid_raw.json'}: record 5: is a list, not an object; expected reid_raw.json" in message


@pytest.mark.parametrize("layout", ["cuhk-pedes", "icfg-pedes"])
def test_identity_in_two_splits_is_refused(tmp_path, layout):
    records = people(layout)
    records[3]["id"] = 1
    assert refusal(write(tmp_path, layout, records)) == (
        f"{tmp_path / FILES[layout]}: record 3: identity 1 is in test, but record 0 has it in train; "
        "give each identity one split"
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_split_without_a_record_is_refused(tmp_path, split):
    records = [entry for entry in people("cuhk-pedes") if entry["split"] != split]
    message = refusal(write(tmp_path, "cuhk-pedes", records))
    assert (
        message == f"{tmp_path / 'reid_raw.json'}: no usable record has split {split}; use the complete published file"
    )


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_link_out_of_the_image_folder_is_refused(tmp_path, kind):
    data = write(tmp_path / "data", "cuhk-pedes", people("cuhk-pedes"))
    images = tmp_path / "data" / "imgs"
    if kind == "file":
        (images / "CUHK01" / "c.jpg").rename(tmp_path / "c.jpg")
        (images / "CUHK01" / "c.jpg").symlink_to(tmp_path / "c.jpg")
    else:
        (images / "CUHK01").rename(tmp_path / "CUHK01")
        (images / "CUHK01").symlink_to(tmp_path / "CUHK01")
    number, name = (2, "c") if kind == "file" else (0, "a")
    assert refusal(data) == (
        f"{tmp_path / 'data' / 'reid_raw.json'}: record {number}: CUHK01/{name}.jpg is a link out of {images}; "
        "put the image itself there"
    )


def test_link_inside_the_image_folder_is_read(tmp_path):
    data = write(tmp_path, "cuhk-pedes", people("cuhk-pedes"))
    (tmp_path / "imgs" / "CUHK01" / "c.jpg").unlink()
    (tmp_path / "imgs" / "CUHK01" / "c.jpg").symlink_to("a.jpg")
    assert len(load_dataset(data).splits["train"].image_files) == 3


def test_missing_images_are_counted_and_the_first_ten_named(tmp_path):
    records = people("cuhk-pedes")
    records += [record("cuhk-pedes", "train", 9, f"cam_a/{number:02}.jpg", ["One"]) for number in range(12)]
    data = write(tmp_path, "cuhk-pedes", records, images=[entry["file_path"] for entry in records[:5]])
    names = ", ".join(f"cam_a/{number:02}.jpg" for number in range(10))
    assert refusal(data) == (
        f"{tmp_path / 'imgs'}: 12 of 17 annotated images are missing: {names}, ...; unpack all images there"
    )


def test_folder_in_place_of_an_image_and_dead_link_are_missing(tmp_path):
    data = write(tmp_path, "cuhk-pedes", people("cuhk-pedes"))
    for name in ("a", "b"):
        (tmp_path / "imgs" / "CUHK01" / f"{name}.jpg").unlink()
    (tmp_path / "imgs" / "CUHK01" / "a.jpg").mkdir()
    (tmp_path / "imgs" / "CUHK01" / "b.jpg").symlink_to("gone.jpg")
    assert "2 of 5 annotated images are missing: CUHK01/a.jpg, CUHK01/b.jpg;" in refusal(data)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_folder_that_cannot_be_listed_is_refused(tmp_path):
    data = write(tmp_path, "cuhk-pedes", people("cuhk-pedes"))
    (tmp_path / "imgs" / "CUHK01").chmod(0)
    message = refusal(data)
    (tmp_path / "imgs" / "CUHK01").chmod(0o755)
    assert message.endswith("CUHK01: cannot be listed (Permission denied); check its permissions")


@pytest.mark.parametrize("annotations", [None, "caption_all.json", "reid_raw.json"])
def test_captions_without_splits_are_known_by_name_and_by_content(tmp_path, annotations):
    """The commonest question about CUHK-PEDES: `caption_all.json` is there, the file with the splits is not."""
    records = [{"id": 1, "file_path": "CUHK01/a.jpg", "captions": ["A man"]} for _ in range(3)]
    data = write(tmp_path, "cuhk-pedes", records).model_copy(update={"annotations": annotations})
    if annotations != "reid_raw.json":
        (tmp_path / "reid_raw.json").rename(tmp_path / "caption_all.json")
    message = refusal(data)
    where = annotations or "reid_raw.json"
    assert message.startswith(f"{tmp_path / where}: ") and message.count("record ") == 0
    assert "without their splits" in message and "take reid_raw.json" in message


def test_one_record_without_a_split_is_a_fault_of_that_record(tmp_path):
    records = people("cuhk-pedes")
    del records[2]["split"]
    assert "record 2: has no field split" in refusal(write(tmp_path, "cuhk-pedes", records))


def test_icfg_pedes_by_the_name_in_its_authors_readme(tmp_path):
    data = write(tmp_path, "icfg-pedes", people("icfg-pedes"))
    (tmp_path / "ICFG-PEDES.json").rename(tmp_path / "ICFG_PEDES.json")
    assert detect_format(tmp_path) == "icfg-pedes"
    assert load_dataset(data).splits["test"].image_identities.tolist() == [4]
