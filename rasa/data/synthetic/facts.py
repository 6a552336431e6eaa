"""What each image shows and each caption tells, as it lies beside the data, and as rows of ones and zeros.

Shape suffixes: I images, T captions, V values, each a name with a value, e.g. hat_colour red.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rasa.errors import ResourceError

FACTS = "facts.json"
OF_THE_SHOT = ("view", "place", "occluder")  # facts that say nothing of the person
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


class Facts(NamedTuple):
    """One split. `true_TV` is `told_TV` without mistakes; `names` are the facts that the values belong to [V]."""

    visible_IV: FloatArray
    told_TV: FloatArray
    true_TV: FloatArray
    image_identity_I: IntArray
    caption_image_T: IntArray
    names: tuple[str, ...]
    values: tuple[str, ...]

    @property
    def caption_identity_T(self) -> IntArray:
        """Whom each caption describes."""
        return self.image_identity_I[self.caption_image_T]


def read_facts(root: Path, split: str) -> Facts:
    """The facts of `split` of the benchmark in `root`, images and captions in the order of its annotations.

    Raises ResourceError if the file of facts is missing or damaged.
    """
    try:
        listed = json.loads((root / FACTS).read_text(encoding="utf-8"))
        return _facts([record for record in listed if record["split"] == split])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ResourceError(f"{root / FACTS}: missing or damaged; build the benchmark anew") from None


def _facts(records: Sequence[Mapping[str, Any]]) -> Facts:
    numbers: dict[tuple[str, str], int] = {}
    visible = [_numbered(record["visible"], numbers) for record in records]
    captions = [(image, caption) for image, record in enumerate(records) for caption in record["captions"]]
    told = [_numbered(caption["told"], numbers) for _, caption in captions]
    mistaken = [
        _numbered({name: caption["told"][name] for name in caption["mistaken"]}, numbers) for _, caption in captions
    ]
    told_TV = _rows(told, len(numbers))
    return Facts(
        _rows(visible, len(numbers)),
        told_TV,
        told_TV - _rows(mistaken, len(numbers)),
        np.array([record["id"] for record in records], np.int64),
        np.array([image for image, _ in captions], np.int64),
        tuple(name for name, _ in numbers),
        tuple(value for _, value in numbers),
    )


def _numbered(facts: Mapping[str, str], numbers: dict[tuple[str, str], int]) -> list[int]:
    return [numbers.setdefault(fact, len(numbers)) for fact in facts.items()]


def _rows(ones: Sequence[Sequence[int]], width: int) -> FloatArray:
    rows = np.zeros((len(ones), width), np.float32)
    rows[np.repeat(np.arange(len(ones)), [len(row) for row in ones]), [one for row in ones for one in row]] = 1
    return rows


def lost_by_weak_captions(facts: Facts) -> FloatArray:
    """Of what a caption tells truly of the person, the share that another image of the person does not show.

    One value for each caption with each other image of its identity.
    """
    of_person = np.array([name not in OF_THE_SHOT for name in facts.names], np.float32)
    told_TV = facts.true_TV * of_person
    same_TI = facts.caption_identity_T[:, None] == facts.image_identity_I
    same_TI[np.arange(len(told_TV)), facts.caption_image_T] = False
    texts, images = same_TI.nonzero()
    held = np.einsum("pv,pv->p", told_TV[texts], facts.visible_IV[images])
    lost: FloatArray = 1 - held / np.maximum(told_TV.sum(1)[texts], 1)
    return lost


def shares_lost(facts: Facts) -> dict[str, float]:
    """Percent of weak captions that lose a fifth, a third, half of what they tell, and the mean loss."""
    lost = lost_by_weak_captions(facts)
    if not len(lost):
        return {}
    limits = {"fifth": 1 / 5, "third": 1 / 3, "half": 1 / 2}
    shares = {name: round(100 * float((lost >= limit - 1e-6).mean()), 1) for name, limit in limits.items()}
    return shares | {"mean": round(100 * float(lost.mean()), 1)}


def frequencies(facts: Facts) -> dict[str, dict[str, float]]:
    """By fact: percent of the images that show each value, the most frequent first."""
    found: dict[str, dict[str, float]] = {}
    shown = (100 * facts.visible_IV.mean(0)).tolist()
    for name, value, share in sorted(zip(facts.names, facts.values, shown, strict=True), key=lambda each: -each[2]):
        found.setdefault(name, {})[value] = round(share, 1)
    return found
