"""Reader of data sets that Hugging Face `datasets` saved: `save_to_disk` folders (Arrow) and parquet files.

Arrow files are read with pyarrow, which `datasets` itself and MLflow bring; `datasets` is not needed. Images that the
files hold are unpacked once, each under a digest of its bytes, into `data.image_folder`, so that they can be listed,
checked and cached as any others; rows that hold the same image become one image with several captions.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rasa.config.run import Data
from rasa.data.annotated import Source, one_line, read_json
from rasa.data.locate import annotation_path, data_root
from rasa.data.readers.rows import PUBLIC, SPLIT_NAMES, Line, source_of
from rasa.errors import ResourceError

ROWS_AT_ONCE = 64
STARTS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"BM": ".bmp", b"RIFF": ".webp"}


def read(data: Data) -> Source:
    """What the saved data set says. Raises ResourceError where there is nothing to go through.

    Also if pyarrow is not installed, or if images cannot be unpacked.
    """
    root = data_root(data)
    files = _data_files(data, root)
    unpacked = root / data.image_folder
    content = hashlib.sha256()

    def lines() -> Iterator[Line]:
        for file, split in files:
            for number, values in enumerate(_rows(file)):
                line = {name: _plain(value, unpacked) for name, value in values.items() if _relevant(name)}
                content.update(json.dumps([split, line], sort_keys=True, default=str).encode())
                yield Line(f"{file.relative_to(root)} row {number}", line, split)

    source = source_of(root, unpacked, lines(), PUBLIC, data.max_words, b"")
    return replace(source, content=content.digest())


def _data_files(data: Data, root: Path) -> list[tuple[Path, str]]:
    """The files of each split. Raises ResourceError for a split whose name says none of the three."""
    if (root / "dataset_dict.json").is_file():
        _, document = read_json(root / "dataset_dict.json")
        names = document.get("splits") if isinstance(document, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ResourceError(f"{root / 'dataset_dict.json'}: has no list splits; save the data set again")
        splits = {name: _split(root / "dataset_dict.json", name) for name in names}  # only known names become paths
        return [(file, split) for name, split in splits.items() for file in _arrow_files(root / name)]
    first = annotation_path(data)
    files = sorted(first.parent.glob("*.parquet"))
    return [(file, _split(file.parent, file.name.split("-")[0].removesuffix(".parquet"))) for file in files]


def _split(where: Path, name: str) -> str:
    if name not in SPLIT_NAMES:
        raise ResourceError(f"{where}: split {name!r} is none of {', '.join(SPLIT_NAMES)}; rename it")
    return SPLIT_NAMES[name]


def _arrow_files(folder: Path) -> list[Path]:
    """The Arrow files that a split's state.json lists, in its order."""
    _, state = read_json(folder / "state.json")
    listed = state.get("_data_files") if isinstance(state, dict) else None
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in listed or ()]
    if not names or not all(isinstance(name, str) and name and Path(name).name == name for name in names):
        raise ResourceError(f"{folder / 'state.json'}: lists no data files; save the data set again")
    return [folder / str(name) for name in names]


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of an Arrow stream or of a parquet file, a few in memory at a time."""
    try:
        import pyarrow
        from pyarrow import ipc, parquet
    except ImportError:
        raise ResourceError(
            f"{file}: Arrow and parquet files need pyarrow; run: pip install pyarrow, or export the data set as an "
            "imagefolder"
        ) from None
    try:
        if file.suffix == ".parquet":
            with parquet.ParquetFile(file) as table:
                for batch in table.iter_batches(ROWS_AT_ONCE):
                    yield from batch.to_pylist()
        else:
            with pyarrow.memory_map(str(file)) as stream, ipc.open_stream(stream) as reader:
                for batch in reader:
                    for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                        yield from batch.slice(start, ROWS_AT_ONCE).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise ResourceError(f"{file}: cannot be read ({one_line(error)}); save the data set again") from None


def _relevant(name: str) -> bool:
    return any(name in names for names in PUBLIC)


def _plain(value: Any, unpacked: Path) -> Any:
    """A cell as a table has it: an image that is held becomes the path of its unpacked file."""
    if not isinstance(value, dict) or not {"bytes", "path"} <= set(value):
        return value
    return value["path"] if value["bytes"] is None else _unpack(value["bytes"], unpacked)


def _unpack(image: bytes, folder: Path) -> str:
    """The name of the file in `folder` that holds `image`, written whole or not at all, if it is not there yet."""
    suffix = next((suffix for start, suffix in STARTS.items() if image.startswith(start)), ".image")
    name = hashlib.sha256(image).hexdigest()[:32] + suffix
    file = folder / name
    if not (file.is_file() and file.stat().st_size == len(image)):
        temporary = folder / f".{name}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(image)
            temporary.replace(file)
        except OSError as error:
            raise ResourceError(
                f"{folder}: images cannot be unpacked there ({error.strerror}); set data.image_folder to a writable "
                "folder"
            ) from None
    return name
