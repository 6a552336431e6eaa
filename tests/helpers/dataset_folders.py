"""Small folders in the published layout of every data set but CUHK-PEDES:
field names, file names and folders as released."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.people import COLOURS

NAMES = list(COLOURS)


def picture(path: Path, colour, seed=0, size=(32, 24)) -> None:
    """A coloured square on grey, with a little noise so that no two files are equal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*size, 3), 180, np.uint8)
    pixels[6:-6, 6:-6] = COLOURS[colour]
    noise = np.random.default_rng(seed).integers(0, 12, pixels.shape)
    Image.fromarray((pixels.astype(int) + noise).clip(0, 255).astype(np.uint8)).save(path)


def sentences(colour, count, what="a square"):
    ways = [
        "{0} is {1}.",
        "here is {0} in {1}",
        "a {1} thing, {0}",
        "{1}! {0}",
        "this is {0}, which is {1}",
        "{0} of {1}",
        "one sees {0}; it is {1}",
        "{0} ({1})",
        "look at {0}: {1}",
        "nothing but {0}, {1}",
    ]
    return [way.format(what, colour) for way in ways[:count]]


def write_icfg(root: Path, train=8, test=4, images=3) -> Path:
    """ICFG-PEDES.json and imgs/train, imgs/test: one caption an image, no validation split,
    labels from 0 in each part."""
    records = []
    for split, people in (("train", train), ("test", test)):
        for person in range(people):
            for image in range(images):
                file = f"{split}/{person:04d}/{person:04d}_00{image}_01_0303morning_0008_0_ex.jpg"
                picture(root / "imgs" / file, NAMES[person % 8], seed=len(records))
                caption = sentences(NAMES[person % 8], 3)[image % 3]
                records.append(
                    {
                        "split": split,
                        "captions": [caption],
                        "file_path": file,
                        "processed_tokens": [caption.split()],
                        "id": person,
                    }
                )
    (root / "ICFG-PEDES.json").write_text(json.dumps(records))
    return root


def write_rstp(root: Path, train=6, val=2, test=2) -> Path:
    """data_captions.json and imgs/: five images of each person from different cameras, two captions each."""
    records = []
    for person, split in enumerate(["train"] * train + ["val"] * val + ["test"] * test):
        for camera in range(5):
            file = f"{person:04d}_c{camera + 1}_{camera:04d}.jpg"
            picture(root / "imgs" / file, NAMES[person % 8], seed=len(records))
            captions = sentences(NAMES[person % 8], 2)
            records.append({"id": person, "img_path": file, "captions": captions, "split": split})
    (root / "data_captions.json").write_text(json.dumps(records))
    return root


def karpathy(name: str, splits=("train",) * 8 + ("val",) * 4 + ("test",) * 4, filepath=None):
    """The document of Karpathy's split file: five sentences an image, every image a class of its own."""
    images, sentence = [], 0
    for number, split in enumerate(splits):
        ids = list(range(sentence, sentence + 5))
        sentence += 5
        colour = NAMES[number % 8]
        record = {
            "sentids": ids,
            "imgid": number,
            "sentences": [
                {"tokens": text.lower().split(), "raw": text, "imgid": number, "sentid": ident}
                for ident, text in zip(ids, sentences(colour, 5, f"thing {number}"), strict=True)
            ],
            "split": split,
            "filename": f"{1000 + number}.jpg",
        }
        if name == "coco":
            folder = "train2014" if split == "train" else "val2014"
            record |= {"filepath": folder, "filename": f"COCO_{folder}_{number:012d}.jpg", "cocoid": 391895 + number}
        images.append(record)
    return {"images": images, "dataset": name}


def write_karpathy(root: Path, name: str, document=None) -> Path:
    """dataset_flickr30k.json and flickr30k-images/, or dataset_coco.json, train2014/ and val2014/."""
    if document is None:
        splits = ("train",) * 8 + ("val",) * 4 + ("test",) * 4
        document = karpathy(name, splits if name == "flickr30k" else ("restval",) * 2 + splits)
    images = root / "flickr30k-images" if name == "flickr30k" else root
    for record in document["images"]:
        picture(images / record.get("filepath", "") / record["filename"], NAMES[record["imgid"] % 8], record["imgid"])
    (root / f"dataset_{name}.json").write_text(json.dumps(document))
    return root


def write_finegrained(root: Path, name: str, classes=((0, 1, 2, 3), (4, 5), (6, 7)), images=3, captions=10) -> Path:
    """cvpr2016_cub or cvpr2016_flowers as Reed et al. publish them, and the images as their own authors do."""
    folder = root / f"cvpr2016_{name}"
    folder.mkdir(parents=True)
    for split, numbers in zip(("train", "val", "test"), classes, strict=True):
        names = [f"{n + 1:03d}.{NAMES[n].title()}_Bird" if name == "cub" else f"class_{n + 1:05d}" for n in numbers]
        (folder / f"{split}classes.txt").write_text("".join(f"{name}\n" for name in names))
        for number, label in zip(numbers, names, strict=True):
            for image in range(images):
                stem = f"{NAMES[number].title()}_Bird_{image:04d}_{796100 + number}"
                stem = stem if name == "cub" else f"image_{10 * number + image:05d}"
                texts = folder / "text_c10" / label
                texts.mkdir(parents=True, exist_ok=True)
                what = "a bird" if name == "cub" else "a flower"
                lines = sentences(NAMES[number], captions, what)
                (texts / f"{stem}.txt").write_text("".join(f"{line}\n" for line in lines))
                file = f"CUB_200_2011/images/{label}/{stem}.jpg" if name == "cub" else f"jpg/{stem}.jpg"
                picture(root / file, NAMES[number], seed=10 * number + image)
    return root


def table(train=6, val=2, test=2, images=2):
    """Rows of the user's own table: two captions an image, so an image is named twice."""
    rows = []
    for person, split in enumerate(["train"] * train + ["val"] * val + ["test"] * test):
        for image in range(images):
            for caption in sentences(NAMES[person % 8], 2):
                rows.append(
                    {
                        "image": f"shots/{person}_{image}.png",
                        "caption": caption,
                        "identity": f"p{person}",
                        "split": split,
                    }
                )
    return rows


def write_table(root: Path, suffix=".csv", rows=None) -> Path:
    """captions.csv or captions.jsonl, and the images that it names."""
    rows = table() if rows is None else rows
    for row in rows:
        if isinstance(row.get("image"), str) and row["image"].startswith("shots/"):
            picture(root / row["image"], NAMES[len(row["image"]) % 8])
    write_rows(root / f"captions{suffix}", rows)
    return root


def write_rows(file: Path, rows) -> None:
    """A CSV file with a header, or JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", newline="", encoding="utf-8") as out:
        if file.suffix == ".csv":
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            out.writelines(json.dumps(row) + "\n" for row in rows)


def write_imagefolder(root: Path, suffix=".jsonl", folders=("train", "validation", "test")) -> Path:
    """A Hugging Face imagefolder: metadata beside the images of each split, with file_name and text."""
    person = 0
    for folder, people in zip(folders, (6, 2, 2), strict=True):
        rows = []
        for _ in range(people):
            for image in range(2):
                file = f"{person}/{image}.png"
                picture(root / folder / file, NAMES[person % 8], seed=2 * person + image)
                rows.append({"file_name": file, "text": sentences(NAMES[person % 8], 2)[image], "label": person})
            person += 1
        write_rows(root / folder / f"metadata{suffix}", rows)
    return root


def write_saved(root: Path, kind="arrow", held=True) -> Path:
    """What `DatasetDict.save_to_disk` writes (Arrow streams), or a repository's data/*.parquet;
    images inside or by path."""
    import io

    import pyarrow
    from pyarrow import ipc, parquet

    root.mkdir(parents=True, exist_ok=True)
    person = 0
    for split, people in (("train", 6), ("validation", 2), ("test", 2)):
        rows = []
        for _ in range(people):
            for image in range(2):
                name = f"{person}_{image}.png"
                picture(root / "pictures" / name, NAMES[person % 8], seed=2 * person + image)
                content = io.BytesIO((root / "pictures" / name).read_bytes()).getvalue() if held else None
                for text in sentences(NAMES[person % 8], 2):
                    rows.append({"image": {"bytes": content, "path": name}, "text": text, "label": person})
            person += 1
        found = pyarrow.Table.from_pylist(rows)
        if kind == "parquet":
            (root / "data").mkdir(exist_ok=True)
            parquet.write_table(found, root / "data" / f"{split}-00000-of-00001.parquet")
            continue
        (root / split).mkdir()
        name = "data-00000-of-00001.arrow"
        with ipc.new_stream(str(root / split / name), found.schema) as out:
            out.write_table(found, max_chunksize=5)
        state = {"_data_files": [{"filename": name}], "_fingerprint": "0", "_format_type": None, "_split": split}
        (root / split / "state.json").write_text(json.dumps(state))
        (root / split / "dataset_info.json").write_text(json.dumps({"features": {"image": {"_type": "Image"}}}))
    if kind == "arrow":
        (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation", "test"]}))
    return root
