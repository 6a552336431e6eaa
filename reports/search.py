"""What a search found, as a table, as JSON and as a page; nothing in them is taken for markup."""

import base64
import json
from collections.abc import Callable, Sequence
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from rasa.data.transforms import open_rgb
from rasa.errors import ResourceError
from rasa.search.engine import Engine, Found
from rasa.search.folder import read_image, shown
from rasa.search.words import LONGEST_QUERY
from reports.templating import environment

if TYPE_CHECKING:
    from rich.table import Table

HEIGHT, QUALITY = 384, 85  # pixels of a picture on the page, at most; its JPEG quality
EXAMPLE = "A woman in a red coat with a white bag."
STEPS = 4  # shades of a word's relevance, each way


def picture(engine: Engine, number: int) -> bytes:
    """An indexed image as a JPEG of at most HEIGHT pixels, made anew: nothing of the file but its pixels.

    Raises ResourceError if the file is not what was indexed, or cannot be read.
    """
    file = engine.index.files[number]
    content = read_image(engine.root, file, engine.index.digests[number])
    try:
        small = open_rgb(engine.root / file, content)
    except ResourceError as fault:
        raise ResourceError(f"{shown(file)}: cannot be read as an image; index the folder again") from fault
    small.thumbnail((2 * HEIGHT, HEIGHT))
    made = BytesIO()
    small.save(made, "JPEG", quality=QUALITY)
    return made.getvalue()


def table(found: Found) -> "Table":
    """The matches as a table for a terminal."""
    from rich.table import Table
    from rich.text import Text

    made = Table("", "image", "similarity", "rank by it")
    if reranked := any(match.match is not None for match in found.matches):
        made.add_column("match")
    for place, match in enumerate(found.matches, 1):
        cells: list[str | Text] = [
            str(place),
            Text(shown(match.file)),
            f"{match.similarity:.3f}",
            str(match.stage1_place),
        ]
        made.add_row(*cells, *([_score(match.match)] if reranked else []))
    return made


def _score(match: float | None) -> str:
    return "-" if match is None else f"{match:.2f}"


def remarks(found: Found) -> list[str]:
    """What the words of a query want said, a sentence each."""
    read, told = found.read, []
    if read.unread:
        told.append(f"Only the first {len(read.words)} words are read; not read: {' '.join(read.unread[:20])}")
    if read.unknown:
        told.append(f"Not in the vocabulary of these weights: {_words(found, read.unknown)}")
    return told


def _words(found: Found, places: Sequence[int] | frozenset[int]) -> str:
    return ", ".join(dict.fromkeys(found.read.words[place] for place in sorted(places)))


def document(found: Found) -> dict[str, Any]:
    """What --json prints."""
    return {
        "read": found.read.text,
        "unread": list(found.read.unread),
        "unknown": [found.read.words[place] for place in sorted(found.read.unknown)],
        "matches": [match._asdict() for match in found.matches],
    }


def marked_words(found: Found) -> list[dict[str, Any]]:
    """The query's words with what is to be said of each."""
    unknown = found.read.unknown
    return [
        {"text": word, "kind": "unknown" if place in unknown else ""} for place, word in enumerate(found.read.words)
    ]


def weighed_words(engine: Engine, found: Found, place: int) -> list[dict[str, Any]]:
    """Of one image: each word with what the score loses without it, and a shade from -STEPS to STEPS."""
    relevance = engine.relevance(found, place)
    most = max((abs(value) for value in relevance), default=0) or 1.0
    return [
        {"text": word, "value": value, "shade": round(STEPS * value / most)}
        for word, value in zip(found.read.words, relevance, strict=True)
    ]


def link(query: str, opened: int | None = None, anchor: str = "") -> str:
    """The address of a query's page, with one of its results opened."""
    values = {"q": query} | ({"open": str(opened)} if opened else {})
    return "/?" + urlencode(values) + (f"#{anchor}" if anchor else "")


def result_views(found: Found, source: Callable[[int], str]) -> list[dict[str, Any]]:
    """The matches as the template wants them; `source` gives the address of an image's picture."""
    return [
        {
            "place": place,
            "file": shown(match.file),
            "source": source(match.number),
            "similarity": f"{match.similarity:.3f}",
            "stage1_place": match.stage1_place,
            "match": None if match.match is None else f"{match.match:.2f}",
        }
        for place, match in enumerate(found.matches, 1)
    ]


def render(**values: Any) -> str:
    """The page of the template, every value escaped. What is not given is not shown."""
    templates = environment()
    templates.globals |= {"link": link, "example": EXAMPLE, "longest": LONGEST_QUERY}
    usual: dict[str, Any] = {
        "query": "",
        "style": None,
        "results": [],
        "words": [],
        "remarks": [],
        "message": None,
        "opened": None,
        "recent": [],
        "notes": [],
        "seconds": None,
    }
    return templates.get_template("search.html").render(usual | values)


def stylesheet() -> str:
    """The page's style."""
    return (files("reports") / "templates" / "search.css").read_text(encoding="utf-8")


def write_page(file: Path, query: str, engine: Engine, found: Found) -> None:
    """The matches as one file, pictures embedded, each with its words. Raises ResourceError if it cannot be written."""

    def embedded(number: int) -> str:
        return "data:image/jpeg;base64," + base64.b64encode(picture(engine, number)).decode()

    results = result_views(found, embedded)
    for place, result in enumerate(results):
        result["words"] = weighed_words(engine, found, place)
    text = render(
        query=query,
        style=stylesheet(),
        results=results,
        words=marked_words(found),
        remarks=remarks(found),
        images=len(engine.index.files),
    )
    try:
        temporary = file.with_name(f".{file.name}.tmp")
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        raise ResourceError(f"{file}: cannot be written ({error.strerror}); give a writable --page") from error


def as_json(found: Found) -> str:
    """`document` as text."""
    return json.dumps(document(found), indent=1)
