"""The words that a run's generator exchanged, as they are kept in its directory: `replaced.json`.

Reports read it, so torch is not imported here.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rasa.errors import ResourceError

FILE = "replaced.json"
KEPT = 24  # captions, of which a run keeps the words
FORMAT = 1


@dataclass(frozen=True)
class Caption:
    """A caption with the generator's words in it. All tuples but `masked` have an entry for each word piece."""

    caption: int  # its number in the split
    image: str  # the file that it was written for
    pieces: tuple[str, ...]  # as written, without special tokens
    new: tuple[str, ...]  # as the detector reads them
    masked: tuple[int, ...]  # places at which the generator spoke
    same: tuple[int, ...]  # of these, the ones whose new word a table of synonyms calls the same
    probability: tuple[float | None, ...]  # that a piece was replaced; None where the detector is not asked

    @property
    def replaced(self) -> tuple[int, ...]:
        """Places at which another word stands than was written."""
        return tuple(place for place in self.masked if self.pieces[place] != self.new[place])


@dataclass(frozen=True)
class Replaced:
    """What one run did with the words of some captions of a split."""

    split: str
    epoch: int
    generator: str
    draw: int  # the seed that chose captions and masks
    captions: tuple[Caption, ...]

    def text(self) -> str:
        """As JSON, a caption a line."""
        head = {name: value for name, value in asdict(self).items() if name != "captions"} | {"format": FORMAT}
        lines = ",\n".join(json.dumps(asdict(caption), ensure_ascii=False) for caption in self.captions)
        return f'{json.dumps(head)[:-1]}, "captions": [\n{lines}\n]}}\n'


def save_replaced(words: Replaced, path: Path) -> None:
    """Write `path` as a whole. Raises ResourceError if the disk refuses."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(words.text(), encoding="utf-8")
        temporary.replace(path)
    except OSError as fault:
        from rasa.memory import is_full, no_room  # imports torch

        raise ResourceError(no_room(path) if is_full(fault) else f"{path}: {fault.strerror or fault}") from fault


def read_replaced(path: Path) -> Replaced | None:
    """What a run kept; None if it kept nothing, or the file is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.pop("format") != FORMAT:
            return None
        captions = tuple(_caption(each) for each in found.pop("captions"))
        return Replaced(**found, captions=captions)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _caption(values: Mapping[str, Any]) -> Caption:
    """Raises TypeError and ValueError for one whose parts do not fit each other."""
    parts: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    made = Caption(**parts)
    if not len(made.pieces) == len(made.new) == len(made.probability) or not set(made.same) <= set(made.masked):
        raise ValueError(f"caption {made.caption}: its parts are of different lengths")
    if not set(made.masked) <= set(range(len(made.pieces))) or not all(
        isinstance(value, str) for value in (made.image, *made.pieces, *made.new)
    ):
        raise ValueError(f"caption {made.caption}: no words")
    if not all(value is None or 0 <= value <= 1 for value in made.probability):
        raise ValueError(f"caption {made.caption}: no probabilities")
    return made
