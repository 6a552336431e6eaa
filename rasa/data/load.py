"""From a typed `data` section to a data set on disk, the built-in benchmark included."""

import hashlib
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from rasa.config.benchmark import BenchmarkParams
from rasa.config.formats import FORMATS
from rasa.config.run import Data, Target
from rasa.data.annotated import Source, assemble
from rasa.data.dataset import Dataset
from rasa.data.locate import has_annotations
from rasa.data.synthetic.write import ABOUT, IMAGES, write_benchmark
from rasa.errors import ResourceError, SpecError
from rasa.lock import locked

OF_TARGET = re.compile(rf"\bdata\.(?=({'|'.join(Target.model_fields)})\b)")


def load_dataset(data: Data, test_only: bool = False) -> Dataset:
    """The data set at `data.root`. Raises ResourceError or SpecError, in one line, for whatever is wrong with it.

    For the built-in benchmark give the folder of `ensure_builtin` as `data.root`; its name is `synthetic`. Of the data
    set `data.target`, of which the test split alone is read, faults name the fields there; the digest covers both.
    `test_only`: the same of `data` itself.
    """
    builtin = data.root is not None and (data.root / ABOUT).is_file()
    own = data.root is None or data.annotations is not None or has_annotations(data.root, data.format)
    source = _stand_in(data) if builtin and not own else read_source(data)
    dataset = assemble(source, data, test_only)
    if builtin:
        dataset = replace(dataset, name="synthetic")
    if data.target is None:
        return dataset
    try:
        target = load_dataset(data.of_target(), test_only=True)
    except (ResourceError, SpecError) as fault:
        raise type(fault)(OF_TARGET.sub("data.target.", str(fault))) from None
    both = hashlib.sha256(f"{dataset.digest} {target.digest}".encode()).hexdigest()[:16]
    return replace(dataset, digest=both, target=target)


def read_source(data: Data) -> Source:
    """What the reader of the format finds. Raises ResourceError or SpecError."""
    source: Source = import_module(f"rasa.data.readers.{FORMATS[data.format].reader}").read(data)
    return source


def _stand_in(data: Data) -> Source:
    """The built-in benchmark under another format: its files are CUHK-PEDES's, its classes the format's."""
    source = read_source(data.model_copy(update={"format": "cuhk-pedes", "annotations": None, "image_folder": IMAGES}))
    if FORMATS[data.format].own_classes:
        source = replace(source, rows=[row._replace(identity=number) for number, row in enumerate(source.rows)])
    return source


def ensure_builtin(
    params: BenchmarkParams, folder: Path, on_progress: Callable[[int, int], None] | None = None
) -> Path:
    """The folder below `folder` that holds the built-in benchmark of `params`, built now if it is not there yet.

    Its name carries a digest of the benchmark's version and parameters, so what is there is what is asked for.
    Processes that need the same one wait for the one that builds it. Raises ResourceError if `folder` cannot be
    written.
    """
    root = Path(folder) / params.folder()
    if root.is_dir():
        return root
    try:
        with locked(root.with_suffix(".lock")):
            if not root.is_dir():
                for leftover in root.parent.glob(f".{root.name}-*"):  # where a build that was killed wrote
                    shutil.rmtree(leftover)
                write_benchmark(root, params, on_progress)
    except OSError as error:
        raise ResourceError(
            f"{root}: the built-in benchmark cannot be written ({error.strerror or error}); choose a writable folder"
        ) from None
    return root
