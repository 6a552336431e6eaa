"""What MLflow shows above an experiment and a row: Markdown in which all that comes from outside is text."""

import hashlib
import html
import re
from collections.abc import Iterable, Mapping

from experiments.rundir import About
from experiments.tracking import NOTE, NOTED, VAL, VAL_LAST

SIGNS = re.compile(r"([\\`*_{}\[\]()#+.!|~$-])")  # what Markdown gives a meaning
LONGEST = 7000  # letters of a run's note; MLflow cuts a run's tag at 8,000


def as_text(text: str) -> str:
    """Markdown that shows `text` as it is, on one line: no HTML, no link, no heading, no formula."""
    return SIGNS.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def described(note: str) -> dict[str, str]:
    """The tags of a note, by which a later one can tell whether it is still ours."""
    return {NOTE: note, NOTED: _digest(note)}


def renewed(wanted: Mapping[str, str], had: Mapping[str, str]) -> Mapping[str, str]:
    """The tags to set: `wanted`, if nothing is there or an older note of ours; else none, since a person wrote it."""
    there = had.get(NOTE, "")
    ours = not there or had.get(NOTED) == _digest(there)
    return wanted if ours and wanted.get(NOTE) != there else {}


def of_suite(about: About, built_in: bool) -> dict[str, str]:
    """The note of a suite's experiment: what is in it, and the commands. `built_in`: the suite's name is enough.

    It is the same for all runs of the suite, or each would write it anew.
    """
    target = about.suite if built_in else "FILE.yaml"
    commands = [
        (f"rasa run {target} --profile PROFILE --seeds 0,1,2", "train; what is finished is skipped"),
        (f"rasa report {target} --profile PROFILE --log", "the table and its page, filed here as well"),
        (f"rasa gallery {about.suite}/ROW --profile PROFILE --log", "queries with what was found, likewise"),
        ("rasa sync", "deliver what was trained while this store was away"),
    ]
    return described("\n".join([*_of_suite(about), *_code(commands)]))


def _of_suite(about: About) -> Iterable[str]:
    if about.title:
        yield f"**{as_text(about.title)}**\n"
    yield "One run for each row, with its seeds as child runs.\n"
    yield "- A row has the mean over its finished seeds as `NAME`, their standard deviation as `NAME_sd`, and `NAME_n`."
    yield f"- `{VAL}/...` is of the epoch that validation chose, `{VAL_LAST}/...` of every epoch, and so of the last."
    yield "- `test/...` was measured once, on the chosen epoch.\n"


def _code(commands: Iterable[tuple[str, str]]) -> Iterable[str]:
    yield "```"
    yield from (f"{command}  # {why}" for command, why in commands)
    yield "```"


def of_row(about: About) -> str:
    """The note of a row's run: its cells in the table, and what was published of it."""
    lines = [f"- {as_text(heading)}: {as_text(cell)}" for heading, cell in about.labels.items() if cell]
    if about.paper:
        figures = ", ".join(f"{as_text(name)} {value:g}" for name, value in about.paper.items())
        lines.append(f"- Published: {figures}")
    if about.versus:
        lines.append(f"- A step further than: {as_text(about.versus)}")
    return "\n".join(lines)


def shortened(note: str, rest: str) -> str:
    """The leading paragraphs of a note that MLflow can hold; where the rest is, if there is one."""
    if len(note) <= LONGEST:
        return note
    kept: list[str] = []
    for paragraph in note.split("\n\n"):
        if sum(map(len, kept)) + 2 * len(kept) + len(paragraph) > LONGEST - len(rest) - 2:
            break
        kept.append(paragraph)
    while kept and kept[-1].endswith(":"):  # the heading of what does not fit
        kept.pop()
    return "\n\n".join([*kept, rest])


def _digest(note: str) -> str:
    return hashlib.sha256(note.encode()).hexdigest()[:12]
