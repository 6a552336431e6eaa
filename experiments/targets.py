"""What a command is asked to do: rows of suites, by name, by pattern, several at once, and each at several values.

`table4`, `table4/m-rtd`, `figure4/p-weak` (a sweep), `table4/*rtd`, `table[1-3]/rasa`, `my.yaml`, `my.yaml/no-*`.
"""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from experiments.multirun import SIGN, at_points, points
from experiments.spec import FILE, load_suite, suite_names
from experiments.suite import Row, Suite
from experiments.wording import did_you_mean
from rasa.errors import SpecError


class Target(NamedTuple):
    """Rows of one suite, in its order. `texts` are the names, and the `-m`, by which they were asked for."""

    suite: Suite
    rows: list[Row]
    texts: tuple[str, ...]

    @property
    def shown(self) -> Suite:
        """The suite as a report has it: these rows, and those that they are compared with."""
        part = self.suite.part(self.rows, self.texts)
        # With -m the suite itself is none that its name alone would mean.
        whole = len(part.rows) == len(self.suite.rows) and SIGN not in self.texts
        return self.suite if whole else part


def is_pattern(text: str) -> bool:
    """Whether it may mean several names."""
    return any(sign in text for sign in "*?[")


def parse_target(target: str) -> tuple[Suite, list[Row]]:
    """The suite and those of its rows that a name or a pattern of rows means. Raises SpecError."""
    name, row = _parts(target)
    suite = load_suite(name)
    return suite, list(suite.rows) if row is None else _rows(suite, row)


def parse_targets(texts: Sequence[str], several: Sequence[str] = (), overrides: Sequence[str] = ()) -> list[Target]:
    """All rows that these names and patterns mean, by suite, in the order in which suites are named first.

    With `several` (`-m key=a,b`) instead the rows that each of them is at every combination of the values, which are
    then the last rows of their suite; `overrides` (`-o`) may not set the same fields. Raises SpecError.
    """
    found: dict[str, Target] = {}
    for text in texts:
        for suite, rows in _found(text):
            before = found.get(suite.suite, Target(suite, [], ()))
            if before.suite.file != suite.file:
                raise SpecError(f"{before.suite.file} and {suite.file} are both called {suite.suite}; rename one")
            found[suite.suite] = _in_order(suite, (*before.rows, *rows), (*before.texts, text))
    if not several:
        return [*found.values()]
    combinations = points(several, overrides)
    given = tuple(part for text in several for part in (SIGN, text))
    return [Target(*at_points(*target[:2], combinations), (*target.texts, *given)) for target in found.values()]


def asked_again(suite: Suite, texts: Sequence[str]) -> Target:
    """The rows of a suite, wherever it was read from, that these names and patterns meant. Raises SpecError."""
    named = [_parts(text)[1] for text in texts]
    rows = [row for name in named for row in (suite.rows if name is None else _rows(suite, name))]
    return _in_order(suite, rows, tuple(texts))


def _in_order(suite: Suite, rows: Sequence[Row], texts: tuple[str, ...]) -> Target:
    """These rows, each once, as the suite has them."""
    chosen = {row.name for row in rows}
    return Target(suite, [row for row in suite.rows if row.name in chosen], texts)


def notes(target: Target) -> Iterator[str]:
    """What a person should know of these rows before they are run, or when they are shown, a sentence each."""
    if alone := target.suite.uncompared(target.rows):
        names, extended = ", ".join(row.name for row in alone), alone[0].extends or ""
        yield (
            f"{names}: compared with no row, since {extended} is none of {target.suite.suite}; for gains and verdicts "
            f"add it as a row, {{name: {extended.rpartition('/')[2]}, extends: {extended}}}"
        )


def _parts(target: str) -> tuple[str, str | None]:
    """The suite's name and what is said of its rows."""
    if matched := FILE.fullmatch(target):
        return matched["file"], matched["row"]
    name, slash, row = target.partition("/")
    return name, row if slash else None


def _found(target: str) -> Iterator[tuple[Suite, list[Row]]]:
    name, row = _parts(target)
    if FILE.fullmatch(name) or not is_pattern(name):
        yield parse_target(target)
        return
    named = [load_suite(each) for each in suite_names() if fnmatchcase(each, name)]
    if not named:
        raise SpecError(f"{target}: no suite is called like that; there is {', '.join(suite_names())}")
    chosen = [(suite, list(suite.rows) if row is None else matching(suite, row)) for suite in named]
    if not any(rows for _, rows in chosen):
        raise SpecError(f"{target}: no row of {', '.join(suite.suite for suite in named)} is called like that")
    yield from ((suite, rows) for suite, rows in chosen if rows)


def _rows(suite: Suite, text: str) -> list[Row]:
    found = matching(suite, text)
    if found or not is_pattern(text):
        return found or [suite.row(text)]  # which says that there is none
    raise SpecError(f"{suite.file}: no row is called like {text!r}{did_you_mean('', [row.name for row in suite.rows])}")


def matching(suite: Suite, text: str) -> list[Row]:
    """The rows that a row's name, a sweep's name or a pattern of either means, in the suite's order."""
    swept = {name for sweep in suite.sweeps if fnmatchcase(sweep.name, text) for name in sweep.row_names.values()}
    return [row for row in suite.rows if row.name in swept or fnmatchcase(row.name, text)]
