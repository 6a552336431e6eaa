"""`rasa errors`: R@1 by what a query tells: per row, and as a difference between two rows.

For the built-in benchmark the groups come from its own tables: what the caption names, whether it errs, whether the
person has a near-twin, the caption's length, the camera. For any data set they come from a table `image,column,...` of
the user's. Intervals are over people and seeds, as in the report. Shape suffix: T queries.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.decisions import Queries, interval, step_of
from rasa.data.synthetic.facts import FACTS, read_facts
from rasa.errors import ResourceError
from reports.answers import Asked, asked_of
from reports.compare import Comparison, Run, Side
from reports.formats import Page
from reports.grid import NONE, Column, grid_of

Mask = NDArray[np.bool_]
LENGTHS = ((0, 12), (13, 18), (19, 24), (25, 10_000))  # words of a caption
COLOURS = ((0, 1), (2, 3), (4, 100))  # colours that a caption names
MOST_VALUES = 24  # of a column of the user's; more are names, not a property
FEWEST_PEOPLE = 10  # of a group whose figures are printed
# What a caption may name, by the facts of the benchmark that say so.
NAMED = {
    "bag": ("bag",),
    "hat": ("hat",),
    "shoes": ("shoes",),
    "outer garment": ("outer",),
    "hair": ("hair", "hair_colour"),
    "scarf or glasses": ("scarf", "glasses"),
    "something carried": ("carried",),
}


class Group(NamedTuple):
    """Queries that have something in common."""

    attribute: str
    value: str
    mask_T: Mask


class Reached(NamedTuple):
    """What rows reach on a group's queries; with two rows also the second minus the first. In percent."""

    group: Group
    people: int
    r1: tuple[float, ...]
    difference: float | None
    low: float | None
    high: float | None


def groups_of(asked: Asked, table: Path | None) -> list[Group]:
    """The groups of the user's table, or of the built-in benchmark. Raises ResourceError where there is neither."""
    if table is not None:
        return _of_table(asked, table)
    folder = asked.image_root.parent
    if not (folder / FACTS).is_file():
        raise ResourceError(
            f"{folder}: not the built-in benchmark, so nothing says what its captions tell; give a table with "
            "--attributes FILE.csv whose first column is image"
        )
    return _of_benchmark(asked, folder)


def _of_benchmark(asked: Asked, folder: Path) -> list[Group]:
    facts = read_facts(folder, "test")
    if len(facts.told_TV) != len(asked.texts):
        raise ResourceError(f"{folder / FACTS}: speaks of other captions than were asked; build the benchmark anew")
    names = np.array(facts.names)

    def told_T(*wanted: str) -> NDArray[np.float32]:
        found: NDArray[np.float32] = facts.told_TV[:, np.isin(names, wanted)].sum(1)
        return found

    colours_T = facts.told_TV[:, np.char.endswith(names.astype(str), "_colour")].sum(1)
    found = [
        Group("colours named", _span(low, high), (colours_T >= low) & (colours_T <= high)) for low, high in COLOURS
    ]
    for name, wanted in NAMED.items():
        has_T = told_T(*wanted) > 0
        found += [Group(name, "named", has_T), Group(name, "not named", ~has_T)]
    wrong_T = (facts.told_TV - facts.true_TV).sum(1) > 0
    found += [Group("what is told", "all true", ~wrong_T), Group("what is told", "one thing wrong", wrong_T)]
    twin_T = np.array([identity in asked.twins for identity in asked.identity_T.tolist()])
    found += [Group("near-twin", "has one", twin_T), Group("near-twin", "has none", ~twin_T)]
    words_T = np.array([len(text.split()) for text in asked.texts])
    found += [Group("words", _span(low, high), (words_T >= low) & (words_T <= high)) for low, high in LENGTHS]
    cameras = np.array([asked.image_files[image].split("/")[0] for image in asked.own_image_T.tolist()])
    found += [Group("camera", str(camera), cameras == camera) for camera in np.unique(cameras)]
    return [group for group in found if group.mask_T.any()]


def _span(low: int, high: int) -> str:
    if high >= 100:
        return f"{low} or more"
    return f"{low} to {high}" if low else f"at most {high}"


def _of_table(asked: Asked, table: Path) -> list[Group]:
    """Queries by the values of each column for the image that the caption was written for."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ResourceError(f"{table}: cannot be read ({error}); give a CSV file in UTF-8") from error
    if not rows or next(iter(rows[0])) != "image" or len(rows[0]) < 2:
        raise ResourceError(f"{table}: its first line must name the columns: image, then at least one attribute")
    by_image = {row["image"]: row for row in rows}
    if (asked.own_image_T < 0).any():
        raise ResourceError(f"{table}: here a query is a class of images, and an attribute of one image says nothing")
    own = [by_image.get(asked.image_files[image]) for image in asked.own_image_T.tolist()]
    if (missing := sum(row is None for row in own)) == len(own):
        example = asked.image_files[int(asked.own_image_T[0])]
        raise ResourceError(f"{table}: names none of the test images; they are called e.g. {example}")
    found = []
    for column in list(rows[0])[1:]:
        values_T = np.array(["" if row is None else (row[column] or "").strip() for row in own])
        values = [str(value) for value in np.unique(values_T) if value]
        if len(values) <= MOST_VALUES:
            found += [Group(column, value, values_T == value) for value in values]
    if not found:
        raise ResourceError(f"{table}: no column has at most {MOST_VALUES} values, so none is an attribute")
    if missing:
        found.append(Group("image", "not in the table", np.array([row is None for row in own])))
    return found


def reached(groups: Sequence[Group], sides: Sequence[Side], comparison: Comparison | None) -> list[Reached]:
    """What each row reaches on each group; groups of few people are left out."""
    found = []
    for group in groups:
        identity_T = _queries(sides[0].first).identity_T[group.mask_T]
        if (people := len(np.unique(identity_T))) < FEWEST_PEOPLE:
            continue
        r1 = tuple(
            float(np.mean([100 * (_queries(run).first_rank_T[group.mask_T] == 1).mean() for run in side.runs.values()]))
            for side in sides
        )
        difference = low = high = None
        if comparison is not None:
            difference, low, high = _difference(group, comparison)
        found.append(Reached(group, people, r1, difference, low, high))
    return found


def _difference(group: Group, comparison: Comparison) -> tuple[float, float | None, float | None]:
    """The second minus the first on the group's queries, with the 95 % interval over people and seeds."""
    gains, known = {}, {}
    for old, new in comparison.pairs:
        seed, both = old.about.seed, [_part(_queries(run), group.mask_T) for run in (old, new)]
        rates = [100 * float((each.first_rank_T == 1).mean()) for each in both]
        gains[seed] = rates[1] - rates[0]
        known["a", seed], known["b", seed] = both
    step = step_of("b", "a", None, gains, known)
    low_high = interval(step)
    return (float(np.mean([*gains.values()])), *(low_high or (None, None)))


def _part(queries: Queries, mask_T: Mask) -> Queries:
    return Queries(queries.first_rank_T[mask_T], queries.average_precision_T[mask_T], queries.identity_T[mask_T])


def _queries(run: Run) -> Queries:
    if run.queries is None:
        raise ResourceError(f"{run.directory}: what it found of each query is missing or damaged; run it again")
    return run.queries


def asked_by(side: Side) -> Asked:
    """The test split that a row was asked. Raises ResourceError."""
    return asked_of(side.first.directory, _queries(side.first).identity_T)


def page(sides: Sequence[Side], found: Sequence[Reached], asked: Asked) -> Page:
    """One table: a line per group."""
    columns = [
        Column[Any]("Attribute", lambda line: line.group.attribute, numeric=False),
        Column[Any]("Value", lambda line: line.group.value, numeric=False),
        Column[Any]("Queries", lambda line: str(int(line.group.mask_T.sum()))),
        *(_rate(number, side) for number, side in enumerate(sides)),
    ]
    if len(sides) > 1:
        columns += [
            Column[Any]("Difference", lambda line: f"{line.difference:+.1f}"),
            Column[Any]("95 %", lambda line: NONE if line.low is None else f"[{line.low:+.1f}, {line.high:+.1f}]"),
        ]
    people = len(np.unique(asked.identity_T))
    notes = [
        f"{len(asked.texts)} queries of {people} people. Groups overlap: a query is in one group of each attribute.",
        "Intervals are of one group looked at by itself; among many, some leave out 0 by chance.",
    ]
    names = " and ".join(side.name for side in sides)
    return Page(f"R@1 of {names} by what the query tells", "", [grid_of("R@1, %", columns, found)], notes)


def _rate(number: int, side: Side) -> Column[Any]:
    return Column[Any](side.name, lambda line: f"{line.r1[number]:.1f}")


def document(sides: Sequence[Side], found: Sequence[Reached]) -> list[Mapping[str, Any]]:
    """The same for programs."""
    return [
        {
            "attribute": each.group.attribute,
            "value": each.group.value,
            "queries": int(each.group.mask_T.sum()),
            "people": each.people,
            "r1": dict(zip((side.name for side in sides), each.r1, strict=True)),
            "difference": each.difference,
            "low": each.low,
            "high": each.high,
        }
        for each in found
    ]
