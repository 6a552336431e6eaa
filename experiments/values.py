"""Values that rows are made of, by dotted config field: their texts, the names of rows, every combination.

A value is what YAML can say of one field: a number, a word, true, false, null, or a list of these.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NO_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def checked(value: Any) -> Any:
    """The value. Raises ValueError if a config field cannot have it."""
    if isinstance(value, list) and all(_is_plain(each) for each in value):
        return value
    if not _is_plain(value):
        raise ValueError("a value is a number, a word, true, false, null or a list of these")
    return value


def is_number(value: Any) -> bool:
    """Whether it has an order and distances; true and false have none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def text(value: Any) -> str:
    """As tables show it: a word as it is, any other value as YAML reads it."""
    if isinstance(value, str) or is_number(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def name_part(value: Any) -> str:
    """As names of rows have it: `0.1`, `momentum`, `96-48`; of a path its last part."""
    return NO_NAME.sub("-", text(value).rstrip("/").rpartition("/")[2]).strip("-") or "none"


def product(fields: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Every combination of the fields' values, the last field the fastest. Raises ValueError for one that is no value,
    or is given twice.
    """
    for field, given in fields.items():
        try:
            seen = [text(checked(value)) for value in given]
        except ValueError as fault:
            raise ValueError(f"{field}: {fault}") from None
        if twice := next((each for number, each in enumerate(seen) if each in seen[:number]), None):
            raise ValueError(f"{field}: {twice} is given twice")
    for combination in itertools.product(*fields.values()):
        yield dict(zip(fields, combination, strict=True))


def row_name(stem: str, point: Mapping[str, Any], longest: int) -> str:
    """`STEM-p_weak-0.1-learning_rate-0.0001`; where that is too long the values alone. Raises ValueError."""
    short = short_names(point)
    full = "-".join([stem, *(f"{short[field]}-{name_part(value)}" for field, value in point.items())])
    if len(full) <= longest:
        return full
    name = "-".join([stem, *(name_part(value) for value in point.values())])
    if len(name) > longest:
        raise ValueError(f"the name {name} has {len(name)} letters, {longest} at most; give the row a shorter name")
    return name


def told(point: Mapping[str, Any]) -> str:
    """`p_weak 0.1, learning_rate 0.0001`."""
    short = short_names(point)
    return ", ".join(f"{short[field]} {text(value)}" for field, value in point.items())


def short_names(fields: Mapping[str, Any]) -> dict[str, str]:
    """By dotted field its last part, or as many of its last parts as tell it from the others."""
    found = {}
    for field in fields:
        parts = field.split(".")
        counts = range(1, len(parts) + 1)
        own = (".".join(parts[-count:]) for count in counts)
        alone = (short for short in own if sum(f".{other}".endswith(f".{short}") for other in fields) == 1)
        found[field] = next(alone, field)
    return found


def nested(point: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as a config has them: `{"a.b": 1}` is `{"a": {"b": 1}}`. Raises ValueError for one inside another."""
    found: dict[str, Any] = {}
    for field, value in point.items():
        *sections, last = field.split(".")
        if other := next((name for name in point if name.startswith(f"{field}.")), None):
            raise ValueError(f"{field} and {other}: one is part of the other; leave one of them out")
        inner = found
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return found


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
