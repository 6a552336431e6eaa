"""Small folders in the three published layouts of person search, with the published field names."""

import json

from PIL import Image

from rasa.config.run import Data

FILES = {"cuhk-pedes": "reid_raw.json", "icfg-pedes": "ICFG-PEDES.json", "rstpreid": "data_captions.json"}


def record(layout, split, identity, image, captions):
    """One record as the authors publish it."""
    if layout == "rstpreid":
        return {"id": identity, "img_path": image, "captions": captions, "split": split}
    tokens = [caption.split() for caption in captions]
    return {"split": split, "captions": captions, "file_path": image, "processed_tokens": tokens, "id": identity}


def people(layout):
    """Two training identities with three images, two for validation where the layout has it, one for test."""
    folder = {"cuhk-pedes": "CUHK01/", "icfg-pedes": "train/0000/", "rstpreid": ""}[layout]
    records = [
        record(layout, "train", 1, f"{folder}a.jpg", ["A man, in red.", "Man with a bag"]),
        record(layout, "train", 2, f"{folder}b.jpg", ["A woman in blue."]),
        record(layout, "train", 1, f"{folder}c.jpg", ["The man in RED!", "a red T-shirt"]),
        record(layout, "test", 4, f"{folder}e.jpg", ["A boy / a child"]),
    ]
    if layout != "icfg-pedes":
        records.append(record(layout, "val", 3, f"{folder}d.jpg", ["A girl", "Yellow dress"]))
        return records
    return records + [record(layout, "train", identity, f"{folder}{identity}.jpg", ["Someone"]) for identity in (5, 6)]


def write(root, layout, records, images=None):
    """A data set folder; `images` None: one small picture for every annotated path."""
    root.mkdir(exist_ok=True)
    (root / FILES[layout]).write_text(json.dumps(records), encoding="utf-8")
    (root / "imgs").mkdir(exist_ok=True)
    paths = [r.get("file_path") or r.get("img_path") for r in records if isinstance(r, dict)]
    for path in paths if images is None else images:
        (root / "imgs" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 32), "red").save(root / "imgs" / path)
    return Data(format=layout, root=root, val_identities=1)
