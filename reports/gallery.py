"""A page of queries with the images that runs found for them (Figure 5 of the paper), chosen by rule."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reports.answers import Answers, Asked, as_json
from reports.picks import Picked
from reports.templating import environment
from reports.thumbnails import Thumbnails, write_folder

PAGE, DATA = "gallery.html", "gallery.json"
Copy = Callable[[int], dict[str, Any]]  # a gallery image's thumbnail: path, width, height


def write_gallery(
    folder: Path, title: str, picked: Sequence[Picked], answers: Sequence[Answers], asked: Asked, command: str
) -> Path:
    """`gallery.html`, its thumbnails and `gallery.json` in `folder`, all or nothing; an older gallery is replaced.

    Returns the page. Raises ResourceError if an image cannot be read or the folder cannot be written.
    """
    return write_folder(folder, PAGE, lambda made: _write(made, title, picked, answers, asked, command))


def _write(
    folder: Path, title: str, picked: Sequence[Picked], answers: Sequence[Answers], asked: Asked, command: str
) -> None:
    shown = contents(picked, answers, asked, Thumbnails(folder, asked.image_root, asked.image_files).of)
    page = environment().get_template("gallery.html").render(title=title, command=command, **shown)
    (folder / PAGE).write_text(page + "\n", encoding="utf-8")
    numbers = sorted({query for rule in picked for query in rule.queries})
    (folder / DATA).write_text(as_json(answers, asked, numbers) + "\n", encoding="utf-8")


def contents(picked: Sequence[Picked], answers: Sequence[Answers], asked: Asked, copy: Copy) -> dict[str, Any]:
    """What a template shows of these rules' queries. `copy` gives a gallery image's small copy."""
    sections = [
        {
            "name": rule.name,
            "sentence": rule.sentence,
            "count": rule.total,
            "share": 100 * rule.total / max(1, len(asked.texts)),
            "queries": [_query(query, answers, asked, copy) for query in rule.queries],
        }
        for rule in picked
    ]
    return {
        "sections": sections,
        "queries": len(asked.texts),
        "images": len(asked.image_files),
        "runs": [{"name": each.name, "r1": 100 * float(each.right_T.mean())} for each in answers],
    }


def _query(query: int, answers: Sequence[Answers], asked: Asked, copy: Copy) -> dict[str, Any]:
    own = int(asked.own_image_T[query])
    return {
        "number": query,
        "text": asked.texts[query],
        "own": None if own < 0 else copy(own),
        "runs": [_row(query, each, asked, copy) for each in answers],
    }


def _row(query: int, answers: Answers, asked: Asked, copy: Copy) -> dict[str, Any]:
    identity, twin = int(asked.identity_T[query]), asked.twins.get(int(asked.identity_T[query]))
    found = []
    for place, image in enumerate(answers.best_TJ[query].tolist()):
        whose, match = int(asked.image_identity_N[image]), answers.match_TJ
        score = f"similarity {answers.similarity_TJ[query, place]:.3f}"
        if match is not None and math.isfinite(match[query, place]):
            score += f", match {match[query, place]:.2f}"
        kind = "right" if whose == identity else "twin" if whose == twin else "wrong"
        found.append(
            {"place": place + 1, "kind": kind, "file": asked.image_files[image], "source": copy(image)}
            | {"score": score}
        )
    return {"name": answers.name, "first": int(answers.first_rank_T[query]), "found": found}
