"""What may stand where a command wants a row, a profile, a config field or a run; asked at each TAB.

Only click up here. A fault (a file that is being edited) gives no candidates: a prompt is no place for messages.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

Items = list[CompletionItem[str]]
Completer = Callable[[click.Context, click.Parameter, str], Items]
RUNS = "runs"  # as experiments/rundir.py has it, whose import takes three times as long as all else here
HEX = re.compile(r"[0-9a-f]{2,12}")  # of an id; with fewer digits typed there may be thousands


def quietly(complete: Completer) -> Completer:
    """The same, with no candidates where it meets a fault."""

    @wraps(complete)
    def completed(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
        from rasa.errors import RasaError

        try:
            return complete(context, parameter, incomplete)
        except (RasaError, OSError):
            return []

    return completed


@quietly
def targets(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Suites, then the rows and sweeps of the one that is begun; files of one's own."""
    known, suite = _built_in("specs"), incomplete.rpartition("/")[0]
    if suite in known or suite.endswith((".yaml", ".yml")):
        return beginning(incomplete, _rows(suite))
    names = [name for name in known if name.startswith(incomplete)]
    # A suite that is spelt out may be meant as a whole, or go on with a row.
    rows = _rows(names[0]) if len(names) == 1 else []
    return [*beginning(incomplete, [*names, *rows]), file(incomplete)]


@quietly
def profiles(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Profiles, by name and by file."""
    return [*beginning(incomplete, _built_in("specs/profiles")), file(incomplete)]


@quietly
def overrides(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Config fields as `key=`, and for the value the words that a field may hold."""
    from experiments.wording import field_paths
    from rasa.config.run import Config

    key, given, _ = incomplete.partition("=")
    if given:
        return beginning(incomplete, [f"{key}={word}" for word in _words(key)])
    every = list(field_paths(Config))
    sections = {path.rpartition(".")[0] for path in every}
    fields = [path for path in every if path not in sections and path != "seed"]
    return beginning(incomplete, [f"{field}=" for field in (*fields, "fidelity")])


@quietly
def fields(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Config fields and sections."""
    from experiments.wording import field_paths
    from rasa.config.run import Config

    return beginning(incomplete, [path for path in field_paths(Config) if path != "seed"])


@quietly
def runs(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """What was run in the workspace: suites and rows, ids once they are begun; folders."""
    folder = Path(context.params.get("workspace") or ".") / RUNS
    names = [path for path in sorted(folder.glob("*/*/")) if not path.parent.name.startswith(".")]
    rows = [f"{path.parent.name}/{path.name}" for path in names]
    ids = {}
    if HEX.fullmatch(incomplete):
        for path in sorted(folder.glob(f"*/*/*/seed-*-{incomplete}*")):
            suite, row, profile, name = path.parts[-4:]
            _, seed, identity = name.split("-", 2)
            ids[identity] = f"{suite}/{row} seed {seed} at {profile}"
    found = [CompletionItem(identity, help=told) for identity, told in ids.items() if "." not in identity]
    return [*beginning(incomplete, [*_suites_of(rows), *rows]), *found, file(incomplete)]


@quietly
def weights(context: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Runs, the start that ships, and files."""
    return [*beginning(incomplete, ["start"]), *runs(context, parameter, incomplete)]


def _built_in(folder: str) -> list[str]:
    """Names of the files there, by a look at the folder: what reads them takes three times as long to import."""
    from importlib.resources import files

    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in (files("experiments") / folder).iterdir()
        if entry.name.endswith(".yaml")
    )


def _rows(suite: str) -> list[str]:
    """`suite/row` of a suite or a file: its rows, and its sweeps. Raises SpecError."""
    from experiments.spec import load_suite

    loaded = load_suite(suite)
    names = [*(sweep.name for sweep in loaded.sweeps), *(row.name for row in loaded.rows)]
    return [f"{suite}/{name}" for name in names]


def _suites_of(rows: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(row.partition("/")[0] for row in rows))


def _words(key: str) -> Iterator[str]:
    """What a field may hold, where that is one of some words."""
    from typing import get_args

    from experiments.layers import is_words, kinds_of
    from rasa.config.fidelity import Fidelity

    kinds: list[Any] = kinds_of(key.split("."))
    if kinds == [Fidelity]:
        kinds = kinds_of(["fidelity", "preset"])
    for kind in kinds:
        if is_words(kind):
            yield from get_args(kind)
        elif kind is bool:
            yield from ("true", "false")
        elif kind is type(None):
            yield "null"


def file(incomplete: str) -> CompletionItem[str]:
    """Has the shell complete files, too."""
    return CompletionItem(incomplete, type="file")


def beginning(incomplete: str, names: Iterable[str]) -> Items:
    """Those of the names that begin so."""
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
