"""`-m key=a,b` on the command line: rows at every combination of values, as a `grid` in a file would have them."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments import values
from experiments.layers import flatten, parse_override
from experiments.suite import LONGEST_NAME, MOST_ROWS, WEIGHTS, Row, Suite
from rasa.errors import SpecError

SIGN = "-m"


def points(several: Sequence[str], overrides: Sequence[str]) -> list[dict[str, Any]]:
    """Every combination of the values of `-m key=a,b`."""
    fields: dict[str, list[Any]] = {}
    for text in several:
        key, equals, given = text.partition("=")
        key = key.strip()
        if not equals or not key or not given.strip():
            raise SpecError(f"{SIGN} {text}: write key=a,b with a dotted key, e.g. {SIGN} objectives.p_weak=0.1,0.3")
        if key == "seed":
            raise SpecError(f"{SIGN} {text}: seeds are given by --seeds, e.g. --seeds 0-4")
        if key in fields:
            raise SpecError(f"{SIGN} {text}: {key} is given twice; write all its values in one {SIGN}")
        fields[key] = [_value(key, each, text) for each in split(given)]
    for text in overrides:
        if (key := text.partition("=")[0].strip()) in fields:
            raise SpecError(f"-o {text}: {key} is what {SIGN} varies; leave one of the two out")
    try:
        found = list(values.product(fields))
        values.nested(found[0])
    except ValueError as fault:
        raise SpecError(f"{SIGN} {fault}") from None
    return found


def _value(key: str, text: str, whole: str) -> Any:
    if not text:
        raise SpecError(f"{SIGN} {whole}: nothing stands between two commas; for no value write null")
    found = flatten(parse_override(f"{key}={text}", SIGN).values)
    if key not in found:
        raise SpecError(f"{SIGN} {whole}: {text}: a value is a number, a word, true, false, null or a list of these")
    return found[key]


def split(text: str) -> list[str]:
    """At its commas, but for those in brackets or quotes: `[96, 48],[48, 24]` is two."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"" and not parts[-1].strip():
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        if letter == "," and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def at_points(suite: Suite, rows: Sequence[Row], combinations: Sequence[Mapping[str, Any]]) -> tuple[Suite, list[Row]]:
    """The suite with these rows at every combination as its last rows, and those rows. Raises SpecError."""
    if (count := len(combinations) * len(rows)) > MOST_ROWS:
        raise SpecError(f"{SIGN}: {len(rows)} rows at {len(combinations)} points are {count}; {MOST_ROWS} at most")
    made = [_at_point(suite, row, point) for row in rows for point in combinations]
    names = [row.name for row in (*suite.rows, *made)]
    if twice := next((name for number, name in enumerate(names) if name in names[:number]), None):
        raise SpecError(
            f"{SIGN}: two rows of {suite.suite} would be called {twice}; write a file in which you name them"
        )
    return suite.model_copy(update={"rows": (*suite.rows, *made)}), made


def _at_point(suite: Suite, row: Row, point: Mapping[str, Any]) -> Row:
    try:
        name = values.row_name(row.name, point, LONGEST_NAME)
    except ValueError as fault:
        raise SpecError(f"{SIGN}: {fault.args[0].partition(';')[0]}; write a file in which you name the rows") from None
    *first, last = suite.labels_of(row).values()
    made = Row(
        name=name,
        labels=(*first, ", ".join(filter(None, (last, values.told(point))))),
        extends=f"{suite.suite}/{row.name}",
        versus=row.name,
        changes=values.nested(point),
        other_weights="kept" if any(field.startswith(WEIGHTS) for field in point) else "off",
    )
    made._source = f"{SIGN}, row {name}"
    return made
