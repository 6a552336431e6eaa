"""`rasa report --fail-if`: conditions on a report's figures, for a CI that is to notice when a row gets worse.

    condition = all { "or" all }                all = test { "and" test }
    test      = figure operator number | "(" condition ")"
    figure    = [SUITE "/"] ROW "." NAME        operator = < <= > >= == !=

A figure is a row's mean over its finished seeds, as in the tables. One that does not exist is a fault and never passes
for a condition that does not hold. The text is parsed here: nothing in it is run.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from experiments.suite import Suite
from experiments.wording import did_you_mean
from rasa.errors import RasaError, ResourceError, SpecError
from reports.tables import FIGURES, Line

NAME = r"[A-Za-z0-9][\w.-]*"
TOKEN = re.compile(
    rf"\s*(?:(?P<figure>(?:{NAME}/)?{NAME}\.[a-z]\w*)|(?P<operator><=|>=|==|!=|<|>)"
    r"|(?P<number>[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![\w.])|(?P<word>(?:and|or)\b)|(?P<bracket>[()]))"
)
OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
EXPECTED = {"figure": "ROW.FIGURE", "operator": "an operator", "number": "a number"}  # of a test, in this order
OTHERS = ("gain", "n")  # in R@1 over the row that it goes on from; finished seeds
NAMES = (*FIGURES, *OTHERS)


class Holds(RasaError):
    """A condition of --fail-if that holds: exit 6, which no fault has."""

    exit_code = 6


class Comparison(NamedTuple):
    """A figure against a number."""

    suite: str  # empty: the one that has the row
    row: str
    name: str
    sign: str
    number: float

    @property
    def figure(self) -> str:
        """As it was written."""
        return f"{self.suite}/{self.row}.{self.name}" if self.suite else f"{self.row}.{self.name}"


class Group(NamedTuple):
    """Conditions of which one must hold, or all."""

    every: bool
    parts: tuple["Comparison | Group", ...]


class Condition(NamedTuple):
    """What was given, and what it means."""

    text: str
    tree: Comparison | Group


def parse(text: str) -> Condition:
    """The condition. Raises ValueError, which says where it is none."""
    tokens = [*_tokens(text), ("end", "")]
    tree, rest = _any(tokens, text)
    if rest[0][0] != "end":
        raise ValueError(f"{text!r}: at {rest[0][1]!r}: and, or, or the end was expected")
    return Condition(text, tree)


def check_names(conditions: Iterable[Condition], suites: Sequence[Suite]) -> None:
    """Refuse rows and figures that none of these suites has. Raises SpecError with the nearest names."""
    rows = {suite.suite: [row.name for row in suite.rows] for suite in suites}
    for condition in conditions:
        for test in _tests(condition.tree):
            if test.suite and test.suite not in rows:
                raise _wrong(condition, f"no suite {test.suite!r} in this report{did_you_mean(test.suite, rows)}")
            found = [name for name in ([test.suite] if test.suite else rows) if test.row in rows[name]]
            if not found:
                every = [row for name in ([test.suite] if test.suite else rows) for row in rows[name]]
                raise _wrong(condition, f"no row {test.row!r}{did_you_mean(test.row, every)}")
            if len(found) > 1:
                several = " or ".join(f"{name}/{test.row}.{test.name}" for name in found)
                raise _wrong(condition, f"{test.figure} may be {several}; write which")
            if test.name not in NAMES:
                near = did_you_mean(test.name, NAMES) or f"; there is {', '.join(['r1', 'r5', 'r10', 'map', *OTHERS])}"
                raise _wrong(condition, f"no figure {test.name!r}{near}")


def check(conditions: Iterable[Condition], lines: Mapping[str, Sequence[Line]]) -> None:
    """Raise Holds if one of the conditions does, with the figures that make it so; `lines` are those of each suite.

    Raises ResourceError if a figure is not known, also one that would not change the answer.
    """
    by_name = {(suite, line.name): line for suite, of_suite in lines.items() for line in of_suite}
    told = []
    for condition in conditions:
        values = {test: _value(condition, test, by_name) for test in _tests(condition.tree)}
        if _true(condition.tree, values):
            true = {test.figure: test for test in values if _true(test, values)}
            figures = [f"{name} is {_shown(values[test], test, by_name)}" for name, test in true.items()]
            told.append(f"{condition.text!r} holds: {', '.join(figures)}")
    if told:
        raise Holds(f"--fail-if {'; '.join(told)}")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while text[at:].strip():
        matched = TOKEN.match(text, at)
        if matched is None or matched.lastgroup is None:
            raise ValueError(
                f"{text!r}: at {text[at:].strip()!r}: write ROW.FIGURE, an operator and a number, e.g. 'm-rtd.r1 < 60'"
            )
        yield matched.lastgroup, matched[matched.lastgroup]
        at = matched.end()


Tokens = Sequence[tuple[str, str]]


def _any(tokens: Tokens, text: str) -> tuple[Comparison | Group, Tokens]:
    return _series(tokens, text, "or", lambda rest: _series(rest, text, "and", lambda last: _single(last, text)))


def _series(
    tokens: Tokens, text: str, word: str, part: Callable[[Tokens], tuple[Comparison | Group, Tokens]]
) -> tuple[Comparison | Group, Tokens]:
    first, tokens = part(tokens)
    parts = [first]
    while tokens[0] == ("word", word):
        more, tokens = part(tokens[1:])
        parts.append(more)
    return (first if len(parts) == 1 else Group(word == "and", tuple(parts))), tokens


def _single(tokens: Tokens, text: str) -> tuple[Comparison | Group, Tokens]:
    if tokens[0] == ("bracket", "("):
        inner, rest = _any(tokens[1:], text)
        if rest[0] != ("bracket", ")"):
            raise ValueError(f"{text!r}: at {rest[0][1] or 'the end'!r}: a closing bracket was expected")
        return inner, rest[1:]
    for at, (kind, what) in enumerate(EXPECTED.items()):
        found, written = tokens[at] if at < len(tokens) else tokens[-1]
        if found != kind:
            raise ValueError(f"{text!r}: at {written or 'the end'!r}: {what} was expected, as in 'm-rtd.r1 < 60'")
    (_, figure), (_, sign), (_, number) = tokens[:3]
    of_row, _, name = figure.rpartition(".")
    suite, _, row = of_row.rpartition("/")
    return Comparison(suite, row, name, sign, float(number)), tokens[3:]


def _tests(tree: Comparison | Group) -> Iterator[Comparison]:
    if isinstance(tree, Comparison):
        yield tree
    else:
        for part in tree.parts:
            yield from _tests(part)


def _true(tree: Comparison | Group, values: Mapping[Comparison, float]) -> bool:
    if isinstance(tree, Comparison):
        return OPERATORS[tree.sign](values[tree], tree.number)
    return (all if tree.every else any)(_true(part, values) for part in tree.parts)


Lines = Mapping[tuple[str, str], Line]


def _line(test: Comparison, lines: Lines) -> Line | None:
    return next((line for (suite, row), line in lines.items() if row == test.row and test.suite in ("", suite)), None)


def _value(condition: Condition, test: Comparison, lines: Lines) -> float:
    line = _line(test, lines)
    if line is None:
        raise ResourceError(f"--fail-if {condition.text!r}: {test.figure} is not known: its suite has no runs here")
    if test.name == "n":
        return float(line.n)
    value = line.gain.mean if test.name == "gain" else line.figures[test.name].mean
    if value is None or not math.isfinite(value):
        why = line.why if line.n == 0 else "its finished runs have no such figure"
        if test.name == "gain" and line.n:
            why = f"it shares no finished seed with {line.versus}" if line.versus else "it goes on from no other row"
        raise ResourceError(f"--fail-if {condition.text!r}: {test.figure} is not known: {why}")
    return value


def _shown(value: float, test: Comparison, lines: Lines) -> str:
    """With two digits, or as many as tell it from the number; of how many seeds it is the mean."""
    line = _line(test, lines)
    if test.name == "n" or line is None:
        return f"{value:g}"
    rounded = f"{value:.2f}"
    text = repr(value) if float(rounded) == test.number != value else rounded
    n = line.gain.n if test.name == "gain" else line.figures[test.name].n
    return f"{text} (mean of {n} seeds)" if n > 1 else text


def _wrong(condition: Condition, what: str) -> SpecError:
    return SpecError(f"--fail-if {condition.text!r}: {what}")
