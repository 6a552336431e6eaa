"""Drop each: a row, and for every objective a row without it. What needs an objective that is left out goes with it."""

from collections.abc import Iterator, Mapping
from typing import Any

# What is lost with an objective, besides its loss.
LOST = {
    "cl": "stage 1 then ranks by features that no loss contrasts",
    "itc": "stage 1 then ranks by features that no loss contrasts",
    "itm": "there is then no head to re-rank by, and stage 1 alone ranks",
}
# Whose words RTD is given by a head that MLM alone trains.
BY_MLM = ("online", "momentum")


def whole(name: str, extends: str, cells: int) -> dict[str, Any]:
    """The row with all objectives, as a suite's file with so many label columns would have it."""
    return {"name": name, "labels": _labels("all objectives", cells), "extends": extends, "versus": None}


def rows(
    suite: str, name: str, weights: Mapping[str, float], generator: str | None, cells: int
) -> Iterator[dict[str, Any]]:
    """For each loss of the row SUITE/NAME the row without it; none for a loss that all others go with."""
    for loss in weights:
        gone = dropped(loss, weights, generator)
        left = {other: weight for other, weight in weights.items() if other not in gone}
        if not left:
            continue
        objectives: dict[str, Any] = {"weights": left}
        if "rtd" in gone:
            objectives["generator"] = None
        yield {
            "name": f"without-{loss}",
            "labels": _labels(f"without {' and '.join(each.upper() for each in gone)}", cells),
            "description": _described(f"{suite}/{name}", gone, generator),
            "extends": f"{suite}/{name}",
            "versus": name,
            "changes": {"objectives": objectives},
        }


def dropped(loss: str, weights: Mapping[str, float], generator: str | None) -> list[str]:
    """The loss, and those that cannot do without it."""
    return [loss, "rtd"] if loss == "mlm" and "rtd" in weights and generator in BY_MLM else [loss]


def _described(row: str, gone: list[str], generator: str | None) -> str:
    """What is lost with a loss besides it; nothing if nothing is."""
    if len(gone) == 1 and gone[0] not in LOST:
        return ""
    text = f"{row} without {gone[0].upper()}"
    if len(gone) > 1:
        text += f", and so without {gone[1].upper()}, whose words the {generator} model's MLM head would propose"
    return text + (f"; {LOST[gone[0]]}" if gone[0] in LOST else "")


def _labels(text: str, cells: int) -> list[str]:
    return [*[""] * (cells - 1), text]
