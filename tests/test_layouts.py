"""What is refused of Karpathy's files, Reed's folders, tables, imagefolders and saved data sets, each in one line."""

import builtins
import json
import shutil

import numpy as np
import pytest

from rasa.config.run import Data
from rasa.data.check import check
from rasa.data.load import load_dataset
from rasa.data.locate import detect_format
from rasa.data.stats import stats
from rasa.errors import ResourceError
from tests.helpers.dataset_folders import (
    karpathy,
    picture,
    table,
    write_finegrained,
    write_icfg,
    write_imagefolder,
    write_karpathy,
    write_rows,
    write_saved,
    write_table,
)
from tests.helpers.pedes_folder import record, write


def section(root, name, **changes):
    return Data(format=name, root=root, tokenizer="captions", val_identities=1, **changes)


def refusal(root, name, **changes):
    with pytest.raises(ResourceError) as caught:
        load_dataset(section(root, name, **changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Flickr30K and COCO


def test_karpathy_by_hand(tmp_path):
    write_karpathy(tmp_path, "coco")
    dataset = load_dataset(section(tmp_path, "coco"))
    train = dataset.splits["train"]
    assert train.image_files[:3] == (
        "val2014/COCO_val2014_000000000000.jpg",
        "val2014/COCO_val2014_000000000001.jpg",
        "train2014/COCO_train2014_000000000002.jpg",
    )
    assert train.image_identities.tolist() == list(range(10)) and dataset.image_root == tmp_path
    assert train.captions[:6] == (
        "thing 0 is red",
        "here is thing 0 in red",
        "a red thing thing 0",
        "red thing 0",
        "this is thing 0 which is red",
        "thing 1 is green",
    )
    assert train.caption_images[:7].tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert dataset.notes == ("restval counts as train: 2 images",)


def test_more_than_five_sentences_are_kept_and_said(tmp_path):
    document = karpathy("flickr30k")
    document["images"][9]["sentences"].append({"raw": "One more", "tokens": ["one", "more"]})
    dataset = load_dataset(section(write_karpathy(tmp_path, "flickr30k", document), "flickr30k"))
    assert len(dataset.splits["val"].captions) == 21
    assert dataset.notes == ("1 images have not 5 sentences but 5 to 6; all are kept",)


def test_other_json_is_told_by_what_it_holds(tmp_path):
    write_karpathy(tmp_path, "flickr30k")
    file = tmp_path / "dataset_flickr30k.json"
    expected = (
        "expected Karpathy's dataset_flickr30k.json: an object with images, a list of records with filename, imgid, "
        "split, sentences"
    )
    file.write_text("[1, 2]")
    assert refusal(tmp_path, "flickr30k") == f"{file}: holds a list; {expected}"
    file.write_text('{"info": {}, "annotations": []}')
    assert refusal(tmp_path, "flickr30k") == f"{file}: holds an object with 'info', 'annotations'; {expected}"
    file.write_text("{")
    assert refusal(tmp_path, "flickr30k").startswith(f"{file}: not JSON (")
    file.write_text(json.dumps(karpathy("coco")))
    assert refusal(tmp_path, "flickr30k") == (
        f"{file}: is the split file of 'coco' and not of flickr30k; set data.format to coco"
    )


def test_another_data_set_lies_there(tmp_path):
    write_karpathy(tmp_path, "coco")
    assert refusal(tmp_path, "flickr30k") == (
        f"{tmp_path / 'dataset_flickr30k.json'}: the annotation file of format flickr30k is missing; but there is "
        "dataset_coco.json, which looks like coco: set data.format to coco"
    )
    assert refusal(tmp_path, "cub") == (
        f"{tmp_path / 'cvpr2016_cub'}: the annotation folder of format cub is missing; but there is "
        "dataset_coco.json, which looks like coco: set data.format to coco"
    )


def test_wrong_image_root(tmp_path):
    write_karpathy(tmp_path, "flickr30k")
    assert refusal(tmp_path, "flickr30k", image_folder="imgs") == (
        f"{tmp_path / 'imgs'}: the image folder is missing; unpack the images there or set data.image_folder"
    )
    (tmp_path / "flickr30k-images").rename(tmp_path / "inner")
    (tmp_path / "flickr30k-images").mkdir()
    (tmp_path / "inner").rename(tmp_path / "flickr30k-images" / "flickr30k-images")
    names = ", ".join(f"{1000 + number}.jpg" for number in range(10))
    assert refusal(tmp_path, "flickr30k") == (
        f"{tmp_path / 'flickr30k-images'}: 16 of 16 annotated images are missing: {names}, ...; unpack all images there"
    )


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_split_that_no_record_has(tmp_path, split):
    document = karpathy("flickr30k")
    document["images"] = [image for image in document["images"] if image["split"] != split]
    file = write_karpathy(tmp_path, "flickr30k", document) / "dataset_flickr30k.json"
    assert refusal(tmp_path, "flickr30k") == (
        f"{file}: no usable record has split {split}; use the complete published file"
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("split", "dev", "split is 'dev'; it must be one of train, restval, val, test"),
        ("split", [], "split is []; it must be one of"),
        ("filename", "../a.jpg", "filename '../a.jpg' climbs with '..'; make it relative to the image folder"),
        ("filename", 7, "filename is 7; give the image's path below the image folder"),
        ("filepath", "..", "filepath/filename '../1002.jpg' climbs with '..'"),
        ("imgid", "2", "imgid is '2'; it must be a whole number, 0 or more"),
        ("imgid", 1, "imgid 1 is also that of record 1; number the images anew"),
        ("sentences", [], "sentences is []; give at least one sentence, as a list, or remove the record"),
        (
            "sentences",
            ["a man"],
            "sentences[0] has no field raw; expected Karpathy's dataset_flickr30k.json: an object",
        ),
        ("sentences", [{"raw": "..."}], "sentences[0].raw is '...', of which cleaning leaves nothing"),
        (
            "sentences",
            [{"raw": "a"}, {"raw": None}],
            "sentences[1].raw is None, not a text; write the caption or remove",
        ),
    ],
)
def test_karpathy_record_is_refused(tmp_path, field, value, message):
    root = write_karpathy(tmp_path, "flickr30k")
    document = karpathy("flickr30k")
    document["images"][2][field] = value
    (root / "dataset_flickr30k.json").write_text(json.dumps(document))
    assert refusal(root, "flickr30k").startswith(f"{root / 'dataset_flickr30k.json'}: record 2: {message}")


@pytest.mark.parametrize("field", ["filename", "imgid", "split", "sentences"])
def test_karpathy_record_without_a_field(tmp_path, field):
    root, document = write_karpathy(tmp_path, "coco"), karpathy("coco")
    del document["images"][1][field]
    document["images"][3] = "x"
    (root / "dataset_coco.json").write_text(json.dumps(document))
    messages = [problem.message for problem in check(section(root, "coco")) if problem.kind == "record"]
    assert messages[0].startswith(f"{root / 'dataset_coco.json'}: record 1: has no field {field}; expected Karpathy's ")
    assert ": record 3: is a str, not an object; expected Karpathy's dataset_coco.json" in messages[1]


# CUB and Flowers


@pytest.mark.parametrize(("name", "first"), [("cub", "001.Red_Bird/Red_Bird_0000_796100"), ("flowers", "image_00000")])
def test_reeds_layout_by_hand(tmp_path, name, first):
    """Four classes of three images with ten captions: 12 images and 120 captions to train;
    labels are the names' numbers."""
    dataset = load_dataset(section(write_finegrained(tmp_path / "root", name), name))
    train = dataset.splits["train"]
    assert train.image_files[0] == f"{first}.jpg" and train.captions[0].endswith(" is red")
    assert train.image_identities.tolist() == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    assert dataset.splits["val"].image_identities.tolist() == [5] * 3 + [6] * 3
    assert dataset.splits["test"].caption_identities.tolist() == [7] * 30 + [8] * 30
    assert dataset.notes == ()
    measured = stats(dataset)["train"]
    assert measured["captions_per_identity"] == {"mean": 30, "min": 30, "max": 30}


def test_captions_of_another_number_are_said_and_their_bytes_read(tmp_path):
    root = write_finegrained(tmp_path / "root", "flowers", captions=9)
    text = root / "cvpr2016_flowers" / "text_c10" / "class_00001" / "image_00000.txt"
    text.write_bytes(b"a red \xff flower\r\n\n  and one more \n")
    dataset = load_dataset(section(root, "flowers"))
    assert dataset.splits["train"].captions[:3] == ("a red \ufffd flower", "and one more", "a flower is red")
    assert dataset.notes == ("24 images have not 10 captions; all are kept",)


def test_digest_of_a_folder_follows_captions_and_splits(tmp_path):
    root = write_finegrained(tmp_path / "root", "cub")
    folder = root / "cvpr2016_cub"
    digests = [load_dataset(section(root, "cub")).digest for _ in range(2)]
    text = folder / "text_c10" / "001.Red_Bird" / "Red_Bird_0000_796100.txt"
    text.write_text(text.read_text().replace("bird", "bard"))
    digests.append(load_dataset(section(root, "cub")).digest)
    (folder / "trainclasses.txt").write_text("001.Red_Bird\n002.Green_Bird\n003.Blue_Bird\n")
    (folder / "valclasses.txt").write_text("004.White_Bird\n005.Black_Bird\n006.Yellow_Bird\n")
    digests.append(load_dataset(section(root, "cub")).digest)
    assert digests[0] == digests[1] and len(set(digests)) == 3


EXPECTED = (
    "expected cvpr2016_cub as Reed et al. publish it: trainclasses.txt, valclasses.txt, testclasses.txt and "
    "text_c10/CLASS/IMAGE.txt"
)


def test_reeds_folder_lacks_a_part(tmp_path):
    root = write_finegrained(tmp_path / "root", "cub")
    folder = root / "cvpr2016_cub"
    (folder / "valclasses.txt").rename(folder / "val.txt")
    assert refusal(root, "cub") == f"{folder / 'valclasses.txt'}: is missing; {EXPECTED}"
    (folder / "text_c10").rename(folder / "text")
    assert refusal(root, "cub") == f"{folder}: has no folder text_c10; {EXPECTED}"
    (root / "CUB_200_2011" / "images").rename(root / "images")
    assert refusal(root, "cub").startswith(f"{root / 'CUB_200_2011' / 'images'}: the image folder is missing; ")
    (folder / "text").rename(folder / "text_c10")
    (folder / "val.txt").rename(folder / "valclasses.txt")
    assert len(load_dataset(section(root, "cub", image_folder="images")).splits["val"].captions) == 60


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../001.Red_Bird", "class '../001.Red_Bird' climbs with '..'; make it relative"),
        ("a/001.Red_Bird", "class 'a/001.Red_Bird' names a folder in a folder; expected one class name per line"),
        (
            "001.Red_Bird",
            "class 001.Red_Bird is in test, but trainclasses.txt line 1 has it in train; give each class one",
        ),
        (
            "Red_Bird",
            "class 'Red_Bird' has no number; expected names such as 001.Black_footed_Albatross or class_00001",
        ),
        ("1.Reddish_Bird", "class 1.Reddish_Bird has the number of 001.Red_Bird; number the classes anew"),
        ("099.No_Bird", f"text_c10/099.No_Bird does not exist; {EXPECTED}"),
    ],
)
def test_class_is_refused(tmp_path, line, message):
    root = write_finegrained(tmp_path / "root", "cub")
    file = root / "cvpr2016_cub" / "testclasses.txt"
    file.write_text(file.read_text() + f"\n{line}\n")
    assert refusal(root, "cub").startswith(f"{root / 'cvpr2016_cub'}: testclasses.txt line 4: {message}")


def test_captions_that_are_nothing_and_images_that_are_missing(tmp_path):
    root = write_finegrained(tmp_path / "root", "flowers")
    texts = root / "cvpr2016_flowers" / "text_c10"
    (texts / "class_00001" / "image_00001.txt").write_text("\n \n")
    (texts / "class_00002" / "image_00000.txt").write_text("a flower\n...\n")
    (root / "jpg" / "image_00032.jpg").unlink()
    messages = [problem.message for problem in check(section(root, "flowers")) if problem.refused]
    assert messages[0].startswith(f"{root / 'cvpr2016_flowers'}: text_c10/class_00001/image_00001.txt: captions is []")
    assert "class_00002/image_00000.txt: its image image_00000.jpg is also that of text_c10/class_00001" in messages[1]
    assert "class_00002/image_00000.txt: captions[1] is '...', of which cleaning leaves nothing" in messages[2]
    assert messages[3].startswith(f"{root / 'jpg'}: 1 of 24 annotated images are missing: image_00032.jpg")


def test_a_split_without_classes(tmp_path):
    root = write_finegrained(tmp_path / "root", "cub")
    (root / "cvpr2016_cub" / "valclasses.txt").write_text("\n")
    assert refusal(root, "cub") == (
        f"{root / 'cvpr2016_cub'}: no usable image has split val; use the complete published file"
    )


# The user's own table


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_own_table_by_hand(tmp_path, suffix):
    dataset = load_dataset(section(write_table(tmp_path, suffix), "table"))
    train = dataset.splits["train"]
    assert train.image_files[:2] == ("shots/0_0.png", "shots/0_1.png")
    assert train.captions[:3] == ("a square is red", "here is a square in red", "a square is red")
    assert train.caption_images[:5].tolist() == [0, 0, 1, 1, 2] and train.image_identities[:3].tolist() == [0, 0, 1]
    assert dataset.notes == ("identities are names: 10 of them are numbered in the order of the table",)


def test_labels_that_are_numbers_stay_and_captions_may_be_a_list(tmp_path):
    rows = [
        {"image": f"shots/{n}.png", "captions": ["One", "Two"], "identity": 40 + n // 2, "split": split}
        for n, split in enumerate(["train"] * 4 + ["test"] * 2 + ["validation"] * 2)
    ]
    dataset = load_dataset(section(write_table(tmp_path, ".jsonl", rows), "table"))
    assert dataset.splits["train"].image_identities.tolist() == [40, 40, 41, 41]
    assert dataset.splits["val"].caption_identities.tolist() == [43] * 4 and dataset.notes == ()


def test_labels_with_leading_zeros_are_names(tmp_path):
    """07 and 7 are two people, numbered 0 and 1 and not both 7."""
    rows = [
        {"image": f"shots/{n}.png", "caption": "One", "identity": label, "split": split}
        for n, (label, split) in enumerate([("07", "train"), ("7", "train"), ("8", "test"), ("9", "val")])
    ]
    dataset = load_dataset(section(write_table(tmp_path, rows=rows), "table"))
    assert dataset.splits["train"].image_identities.tolist() == [0, 1]


def test_without_identities_every_image_is_a_class(tmp_path):
    rows = [{name: row[name] for name in ("image", "caption", "split")} for row in table()]
    dataset = load_dataset(section(write_table(tmp_path, rows=rows), "table"))
    assert dataset.splits["train"].image_identities.tolist() == list(range(12))
    assert dataset.notes == ("there is no column identity: every image is a class of its own, without weak pairs",)


def test_without_validation_people_are_held_out(tmp_path):
    rows = [row for row in table() if row["split"] != "val"]
    dataset = load_dataset(section(write_table(tmp_path, rows=rows), "table"))
    assert len(np.unique(dataset.splits["train"].image_identities)) == 5
    assert dataset.notes[1] == "there is no validation split; 1 training identities, drawn with seed 0, are held out"


def test_table_may_have_another_name_and_a_byte_order_mark(tmp_path):
    write_table(tmp_path)
    (tmp_path / "captions.csv").rename(tmp_path / "mine.csv")
    (tmp_path / "mine.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "mine.csv").read_bytes())
    assert len(load_dataset(section(tmp_path, "table", annotations="mine.csv")).splits["train"].captions) == 24


COLUMNS = "expected columns image; caption or captions; split; and identity, unless every image is a class of its own"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize(("column", "role"), [("image", "image"), ("caption", "caption"), ("split", "split")])
def test_column_is_missing(tmp_path, column, role, suffix):
    rows = [{("other" if name == column else name): value for name, value in row.items()} for row in table()]
    write_rows(tmp_path / f"captions{suffix}", rows)
    found = ", ".join(repr("other" if name == column else name) for name in ("image", "caption", "identity", "split"))
    assert refusal(tmp_path, "table") == (
        f"{tmp_path / f'captions{suffix}'}: has no column for the {role}, found {found}; {COLUMNS}"
    )


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("image", "/etc/passwd", "image '/etc/passwd' is absolute; make it relative to the image folder"),
        ("image", "a/../../b.png", "image 'a/../../b.png' climbs with '..'"),
        ("image", None, "image is None; give the image's path below the image folder"),
        ("caption", "", "caption is '', of which cleaning leaves nothing; write it or remove it"),
        ("caption", 3, "caption is 3, not a text; write the caption or remove it"),
        ("caption", ["a", "-"], "caption[1] is '-', of which cleaning leaves nothing"),
        ("caption", [], "caption is [], not a text"),
        ("split", "holdout", "split is 'holdout'; it must be one of train, val, test"),
        ("split", "test", "image shots/0_1.png has identity 'p0' and split test, but line 3 says 'p0' and train; give"),
        ("identity", "p9", "image shots/0_1.png has identity 'p9' and split train, but line 3 says 'p0' and train"),
        ("identity", None, "identity is None; give a whole number or a name"),
        ("identity", 1.5, "identity is 1.5; give a whole number or a name"),
    ],
)
def test_row_is_refused(tmp_path, column, value, message):
    rows = table()
    rows[3][column] = value  # the second caption of the second image
    write_table(tmp_path, ".jsonl", rows)
    assert refusal(tmp_path, "table").startswith(f"{tmp_path / 'captions.jsonl'}: line 4: {message}")


def test_identity_in_two_splits(tmp_path):
    rows = table()
    for row in rows[-2:]:
        row["identity"] = "p0"
    write_table(tmp_path, rows=rows)
    assert refusal(tmp_path, "table") == (
        f"{tmp_path / 'captions.csv'}: line 40: identity p0 is in test, but line 2 has it in train; give each "
        "identity one split"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("captions.csv", b"", "is empty; "),
        ("captions.csv", b"image,caption,identity,split\n", "no usable row has split train; "),
        (
            "captions.csv",
            b"image,caption,identity,split\na.png,one, two,1,train\n",
            "line 2 has not the 4 fields of the",
        ),
        (
            "captions.csv",
            b"image,caption,identity,split\na.png,one\n",
            "line 2 has not the 4 fields of the header; quote",
        ),
        ("captions.csv", b'image,caption\n"a.png', "is not CSV after line 1 (unexpected end of data); quote"),
        ("captions.csv", b"image,caption\n\xff", "is not UTF-8 (byte 14); save it as UTF-8"),
        ("captions.jsonl", b'{"image": "a', "line 1 is not JSON (Unterminated string"),
        ("captions.jsonl", b"\n[1]\n", "line 2 is a list, not an object; expected columns image"),
        ("captions.jsonl", b"[" * 100_000, "line 1 is not JSON ("),
    ],
)
def test_file_is_no_table(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path, "table").startswith(f"{tmp_path / name}: {message}")


def test_table_of_another_kind(tmp_path):
    (tmp_path / "captions.xlsx").write_bytes(b"PK")
    assert refusal(tmp_path, "table", annotations="captions.xlsx") == (
        f"{tmp_path / 'captions.xlsx'}: is neither .csv nor .jsonl; give a CSV file with a header, or JSON lines"
    )


def test_link_out_of_the_folder_is_refused(tmp_path):
    root = write_table(tmp_path / "data")
    (root / "shots" / "1_0.png").rename(tmp_path / "outside.png")
    (root / "shots" / "1_0.png").symlink_to(tmp_path / "outside.png")
    assert refusal(root, "table") == (
        f"{root / 'captions.csv'}: line 6: shots/1_0.png is a link out of {root}; put the image itself there"
    )


# Hugging Face: imagefolder


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_imagefolder_by_hand(tmp_path, suffix):
    dataset = load_dataset(section(write_imagefolder(tmp_path, suffix), "imagefolder"))
    assert dataset.splits["train"].image_files[:3] == ("train/0/0.png", "train/0/1.png", "train/1/0.png")
    assert dataset.splits["val"].image_files[0] == "validation/6/0.png" and dataset.splits["val"].name == "val"
    assert dataset.splits["test"].image_identities.tolist() == [8, 8, 9, 9] and dataset.notes == ()


def test_one_metadata_file_for_all_with_a_column_split(tmp_path):
    rows = [
        {"file_name": f"{n}.png", "caption": "A man", "split": split, "identity": n // 2}
        for n, split in enumerate(["train"] * 4 + ["valid"] * 2 + ["test"] * 2)
    ]
    for n in range(8):
        picture(tmp_path / f"{n}.png", "red")
    write_rows(tmp_path / "metadata.csv", rows)
    assert detect_format(tmp_path) == "imagefolder"
    dataset = load_dataset(section(tmp_path, "imagefolder"))
    assert dataset.splits["train"].image_files == ("0.png", "1.png", "2.png", "3.png")
    write_rows(tmp_path / "metadata.csv", [{"file_name": "0.png", "text": "A man"}])
    assert refusal(tmp_path, "imagefolder") == (
        f"{tmp_path / 'metadata.csv'}: has no column for the split, found 'file_name', 'text'; expected columns "
        "file_name or image; text or caption or captions; split; and identity or label, unless every image is a class "
        "of its own"
    )


def test_imagefolder_faults_name_their_file(tmp_path):
    root = write_imagefolder(tmp_path)
    file = root / "test" / "metadata.jsonl"
    file.write_text(file.read_text().replace('"8/0.png"', '"../train/0/0.png"'))
    assert refusal(root, "imagefolder").startswith(
        f"{root}: test/metadata.jsonl line 1: file_name '../train/0/0.png' climbs with '..'"
    )
    shutil.rmtree(root / "test")
    assert refusal(root, "imagefolder") == f"{root}: no usable row has split test; give it some"


# Hugging Face: saved data sets


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_saved_data_set_by_hand(tmp_path, kind):
    """Twelve training images in 24 rows: those that hold the same bytes are one image with two captions."""
    root = write_saved(tmp_path, kind)
    assert detect_format(root) == "datasets"
    dataset = load_dataset(section(root, "datasets"))
    train = dataset.splits["train"]
    assert (len(train.image_files), len(train.captions)) == (12, 24)
    assert train.image_identities.tolist() == [n // 2 for n in range(12)]
    assert train.captions[:2] == ("a square is red", "here is a square in red")
    for number in (0, 5):
        name = f"{number // 2}_{number % 2}.png"
        assert (dataset.image_root / train.image_files[number]).read_bytes() == (root / "pictures" / name).read_bytes()
    assert not list(dataset.image_root.glob(".*"))
    again = load_dataset(section(root, "datasets"))
    assert again.digest == dataset.digest and again.splits["train"].image_files == train.image_files


def test_saved_data_set_with_paths_alone(tmp_path):
    root = write_saved(tmp_path, held=False)
    dataset = load_dataset(section(root, "datasets", image_folder="pictures"))
    assert dataset.splits["train"].image_files[:2] == ("0_0.png", "0_1.png")
    assert not (root / "unpacked-images").exists()


def test_pyarrow_is_not_installed(tmp_path, monkeypatch):
    root, real = write_saved(tmp_path), builtins.__import__

    def without(name, *arguments, **keywords):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    assert refusal(root, "datasets") == (
        f"{root / 'train' / 'data-00000-of-00001.arrow'}: Arrow and parquet files need pyarrow; run: pip install "
        "pyarrow, or export the data set as an imagefolder"
    )


def test_saved_data_set_is_refused(tmp_path):
    root = write_saved(tmp_path)
    file = root / "test" / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes()[:300])
    assert refusal(root, "datasets").startswith(f"{file}: cannot be read (")
    (root / "test" / "state.json").write_text('{"_data_files": [{"filename": "../../x.arrow"}]}')
    assert refusal(root, "datasets") == f"{root / 'test' / 'state.json'}: lists no data files; save the data set again"
    (root / "dataset_dict.json").write_text('{"splits": ["train", "test", "../x"]}')
    assert "split '../x' is none of train, " in refusal(root, "datasets")
    (root / "dataset_dict.json").write_text('{"splits": ["train", "unlabelled"]}')
    assert "split 'unlabelled' is none of train, training, val, " in refusal(root, "datasets")
    (root / "dataset_dict.json").write_text("[]")
    assert refusal(root, "datasets") == f"{root / 'dataset_dict.json'}: has no list splits; save the data set again"


def test_images_cannot_be_unpacked(tmp_path):
    root = write_saved(tmp_path)
    (root / "unpacked-images").write_text("in the way")
    assert refusal(root, "datasets") == (
        f"{root / 'unpacked-images'}: images cannot be unpacked there (File exists); set data.image_folder to a "
        "writable folder"
    )


# The same image twice, and test splits alone


@pytest.mark.parametrize("again", ["CUHK01/a.jpg", "./CUHK01/a.jpg", "CUHK01//a.jpg"])
def test_an_image_in_two_splits_or_of_two_people_is_said(tmp_path, again):
    """Not refused, since published files cannot be changed; but every run and `rasa data check` say it."""
    records = [
        record("cuhk-pedes", "train", 1, "CUHK01/a.jpg", ["a man in red"]),
        record("cuhk-pedes", "train", 2, "CUHK01/b.jpg", ["a woman in blue"]),
        record("cuhk-pedes", "val", 3, "CUHK01/c.jpg", ["a girl"]),
        record("cuhk-pedes", "test", 4, "CUHK01/d.jpg", ["a boy"]),
    ]
    data = write(tmp_path, "cuhk-pedes", records).model_copy(update={"tokenizer": "captions"})  # no network
    assert load_dataset(data).notes == ()
    for split, whom, note in (
        ("test", 5, f"images listed in two splits, so that test is not unseen: 1 ({again})"),
        ("train", 6, f"images listed under two identities: 1 ({again})"),
    ):
        write(tmp_path, "cuhk-pedes", [*records, record("cuhk-pedes", split, whom, again, ["a man"])])
        assert load_dataset(data).notes == (note,)
        assert note in [problem.message.partition(": ")[2] for problem in check(data)]


def test_of_test_alone_no_other_image_is_asked_for(tmp_path):
    """And while all are there the digest is the whole data set's."""
    root = write_icfg(tmp_path)
    data = section(root, "icfg-pedes")
    whole = load_dataset(data)
    alone = load_dataset(data, test_only=True)
    assert set(alone.splits) == {"test"} and alone.digest == whole.digest
    for split in ("train", "test"):
        image = root / "imgs" / whole.splits[split].image_files[0]
        image.unlink()
        assert "of 36 annotated images are missing" in refusal(root, "icfg-pedes")
        if split == "train":
            assert load_dataset(data, test_only=True).splits["test"].image_files == whole.splits["test"].image_files
        else:
            with pytest.raises(ResourceError, match="1 of 36 annotated images are missing"):
                load_dataset(data, test_only=True)


@pytest.mark.parametrize("kind", ["parquet", "imagefolder"])
def test_hugging_face_folders_with_a_test_split_alone(tmp_path, kind):
    root = write_saved(tmp_path, "parquet") if kind == "parquet" else write_imagefolder(tmp_path)
    for split in ("train", "validation"):
        for path in [*root.glob(f"data/{split}-*"), *root.glob(f"{split}/metadata*")]:
            path.unlink()
    name = "datasets" if kind == "parquet" else kind
    assert detect_format(root) == name
    assert len(load_dataset(section(root, name), test_only=True).splits["test"].image_files) == 4
    assert "no usable row has split train; give it some" in refusal(root, name)


def test_values_of_kinds_that_break_a_reader_are_one_line(tmp_path):
    document = karpathy("coco") | {"dataset": ["coco"]}
    file = write_karpathy(tmp_path / "coco", "coco", document) / "dataset_coco.json"
    assert refusal(tmp_path / "coco", "coco").startswith(f"{file}: is the split file of ['coco'] and not of coco; ")
    rows = table()
    for row in rows:
        row["identity"] = "7" * 5000 if row["identity"] == "p0" else row["identity"].strip("p")
    write_table(tmp_path / "table", rows=rows)
    dataset = load_dataset(section(tmp_path / "table", "table"))
    assert any("identities are names" in note for note in dataset.notes), "it is too long for a number"
