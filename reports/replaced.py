"""The words that the generators of runs put in place of others, and what their detectors make of them, run by run.

Side by side on the same captions with the same masks (Figures 1b and 3 of the paper), as a page.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.plan import DATA, located
from experiments.rundir import RESTORED, RESULT, About, read_about, read_config, read_result, workspace_of
from rasa.callbacks import Notify
from rasa.data.dataset import Dataset
from rasa.errors import ResourceError
from rasa.training.words import FILE, KEPT, Caption, Replaced, read_replaced
from reports.templating import environment
from reports.thumbnails import Thumbnails, write_folder

PAGE, JSON = "replaced.html", "replaced.json"
KINDS = {"fixed": "f-RTD: a fixed language model", "online": "o-RTD: the online model"}
KINDS |= {"momentum": "m-RTD: the momentum model"}
PAPER, FULL = (255, 255, 255), (242, 140, 40)  # a word that is surely as written, and one surely replaced
BEND = 0.5  # of the scale: a detector that is seldom sure differs below 30 %, and there the colours have to
FIGURES = ("rtd_base", "rtd_entropy", "rtd_synonyms", "rtd_auc")


@dataclass(frozen=True)
class Told:
    """One run's words; `figures` are those of its last validation, as far as it recorded them."""

    name: str
    words: Replaced
    figures: dict[str, float]

    @property
    def kind(self) -> str:
        """Who proposes the words."""
        return KINDS.get(self.words.generator, self.words.generator)


def told_by(directories: Sequence[Path], draw: int, number: int, notify: Notify) -> list[Told]:
    """What each run did with the same captions. Raises ResourceError for a run without a generator or of other data.

    A run is asked anew, with its last checkpoint, unless it has kept the answer.
    """
    found = [_told(directory, draw, number, notify) for directory in directories]
    for each, directory in zip(found, directories, strict=True):
        if [asked(caption) for caption in each.words.captions] != [asked(c) for c in found[0].words.captions]:
            raise ResourceError(
                f"{directory}: was asked about other captions or masks than {directories[0]}; show runs of one data "
                "set and one objectives.p_mask"
            )
    return found


def asked(caption: Caption) -> tuple[int, tuple[str, ...], tuple[int, ...]]:
    """What a run was asked, and no answer of it."""
    return caption.caption, caption.pieces, caption.masked


def first(words: Replaced, number: int) -> Replaced:
    """The first `number` captions: which those are is decided by the draw."""
    return Replaced(**{**vars(words), "captions": words.captions[:number]})


def figures_of(result: dict[str, Any]) -> dict[str, float]:
    """The generator's and the detector's figures of the last epoch, of those that a result has."""
    last = result.get("last", {}).get("val", {})
    return {name: float(last[name]) for name in FIGURES if isinstance(last.get(name), int | float)}


def label(about: About) -> str:
    """A run as a page names it."""
    return f"{about.row} seed {about.seed}"


def _told(directory: Path, draw: int, number: int, notify: Notify) -> Told:
    about, result = read_about(directory), read_result(directory / RESULT)
    if result is None:
        raise ResourceError(f"{directory}: has not finished, so its detector still learns; `rasa run` goes on")
    config = read_config(directory)
    if config.objectives.generator is None:
        raise ResourceError(f"{directory}: its objectives have no RTD, so no word is replaced; name a row with RTD")
    kept = read_replaced(directory / FILE) if draw == 0 and number <= KEPT else None
    if kept is None:
        kept = ask(directory, draw, notify, number)
    return Told(label(about), first(kept, number), figures_of(result))


def ask(directory: Path, draw: int, notify: Notify, number: int = KEPT) -> Replaced:
    """What the run does with captions that the seed `draw` chooses. Raises ResourceError if it cannot be asked."""
    from rasa.training.reopened import reopen

    if (directory / RESTORED).exists():
        raise ResourceError(
            f"{directory}: restored from a published report, which keeps no weights; run it again in another "
            "--workspace"
        )
    workspace, digests = workspace_of(directory), (read_result(directory / RESULT) or {}).get("digests", {})
    notify(f"{directory}: its weights are asked")
    opened = reopen(located(read_config(directory), workspace), directory, workspace / DATA, digests, notify)
    return opened.replaced_words(draw, number)


def write_page(folder: Path, told: Sequence[Told], dataset: Dataset, command: str) -> Path:
    """`replaced.html`, its thumbnails and `replaced.json` in `folder`, all or nothing. Returns the page.

    Raises ResourceError if an image cannot be read, or is not of `dataset`, or the folder cannot be written.
    """
    split = dataset.splits[told[0].words.split]
    for caption in told[0].words.captions:
        known = 0 <= caption.caption < len(split.captions)
        if not known or split.image_files[split.caption_images[caption.caption]] != caption.image:
            raise ResourceError(
                f"{dataset.image_root}: caption {caption.caption} of {split.name} belongs to another image than "
                f"{caption.image}; give the folder back its files"
            )
    return write_folder(folder, PAGE, lambda made: _write(made, told, dataset.image_root, command))


def _write(folder: Path, told: Sequence[Told], image_root: Path, command: str) -> None:
    words = told[0].words
    thumbnails = Thumbnails(folder, image_root, [caption.image for caption in words.captions])
    captions = [
        {
            "number": caption.caption,
            "text": " ".join(map(readable, caption.pieces)),
            "image": thumbnails.of(place),
            "runs": [{"name": each.name, "words": _words(each.words.captions[place])} for each in told],
        }
        for place, caption in enumerate(words.captions)
    ]
    page = (
        environment()
        .get_template("replaced.html")
        .render(
            told=told,
            split=words.split,
            draw=words.draw,
            captions=captions,
            command=command,
            scale=[(share, colour_of(share / 100)) for share in (0, 5, 10, 20, 30, 50, 75, 100)],
            rows=[(each, shares(each.words)) for each in told],
        )
    )
    (folder / PAGE).write_text(page + "\n", encoding="utf-8")
    listed = [{"run": each.name, "figures": each.figures, **asdict(each.words)} for each in told]
    (folder / JSON).write_text(json.dumps(listed, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _words(caption: Caption) -> list[dict[str, Any]]:
    """Each word as the page shows it."""
    replaced, found = set(caption.replaced), []
    for place, (old, new, probability) in enumerate(zip(caption.pieces, caption.new, caption.probability, strict=True)):
        kind = "same" if place in caption.same else "replaced" if place in replaced else "kept"
        found.append(
            {
                "old": readable(old),
                "new": readable(new),
                "kind": kind if place in caption.masked else "given",
                "percent": None if probability is None else round(100 * probability),
                "colour": colour_of(probability or 0.0),
            }
        )
    return found


def shares(words: Replaced) -> dict[str, float | None]:
    """Of the captions shown: mean probability of replaced words, and of the others, in percent."""
    by_kind: dict[bool, list[float]] = {True: [], False: []}
    for caption in words.captions:
        for place, probability in enumerate(caption.probability):
            if probability is not None:
                by_kind[place in caption.replaced].append(probability)
    return {
        name: 100 * sum(values) / len(values) if values else None
        for name, values in (("replaced", by_kind[True]), ("others", by_kind[False]))
    }


def colour_of(probability: float) -> str:
    """The colour of a word that was replaced with this probability, from white to orange; dark text is read on all."""
    share = min(1.0, max(0.0, probability)) ** BEND
    mixed = (round(low + share * (high - low)) for low, high in zip(PAPER, FULL, strict=True))
    return "#" + "".join(f"{part:02X}" for part in mixed)


def readable(piece: str) -> str:
    """A word piece without the marks of its tokenizer."""
    return piece.removeprefix("##").removesuffix("</w>") or piece
