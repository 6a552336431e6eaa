"""Captions with the words that each row's generator put into them, as a figure (Figures 1b and 3 of the paper).

Which captions is decided by the seed that chose them: the first ones. A word's colour and the number under it are the
probability, by the row's detector, that it was replaced.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from experiments.plot_style import FONT, INK, STYLE, save
from rasa.training.words import Caption, Replaced
from reports.replaced import KINDS, asked, colour_of, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CAPTIONS, ROWS = 2, 5  # at most
WIDTH = 8.6  # inches; all lengths below are points, 72 to the inch
SIZE, SMALL, PAD, GAP, WORD, LINE = 9.0, 6.5, 3.0, 3.0, 29.0, 33.0
HEADING, LABEL, LEGEND = 18.0, 15.0, 40.0
MARGIN = 6.0
FRAME = "#C9C9CF"


class Shown(NamedTuple):
    """The words of one row."""

    label: str
    captions: tuple[Caption, ...]


def shown(words: Mapping[tuple[str, int], Replaced], names: Mapping[str, str]) -> list[Shown]:
    """Each row's lowest seed that kept its words; of rows that were asked otherwise than the first one, none."""
    found: list[Shown] = []
    for row, name in names.items():
        seeds = sorted(seed for of, seed in words if of == row)
        if not seeds or len(found) == ROWS:
            continue
        captions = words[row, seeds[0]].captions[:CAPTIONS]
        if captions and (not found or list(map(asked, captions)) == list(map(asked, found[0].captions))):
            kind = KINDS.get(words[row, seeds[0]].generator, "")
            found.append(Shown(f"{name}, seed {seeds[0]} ({kind.partition(': ')[2]})", captions))
    return found


def describe(figure: Sequence[Shown]) -> str:
    """The replaced words, for whoever does not see them."""
    told = []
    for place, caption in enumerate(figure[0].captions):
        told.append(f"Caption: {' '.join(map(readable, caption.pieces))}.")
        for row in figure:
            changed = row.captions[place]
            words = [_told(changed, at) for at in changed.replaced]
            told.append(f"{row.label} replaced {', '.join(words) or 'no word'}.")
    return " ".join(["Captions with replaced words, and the detector's probability that each was replaced.", *told])


def _told(caption: Caption, place: int) -> str:
    probability = caption.probability[place]
    seen = "" if probability is None else f" ({100 * probability:.0f} %)"
    return f"{readable(caption.pieces[place])} by {readable(caption.new[place])}{seen}"


class _Box(NamedTuple):
    """A word in the place that it has, in points from the upper left corner of its line of words."""

    caption: Caption
    place: int
    x: float
    y: float
    width: float


def draw(figure: Sequence[Shown], path: Path) -> None:
    """Write the picture to `path`."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    laid = [[list(_laid(row.captions[place])) for row in figure] for place in range(len(figure[0].captions))]
    heights = [[LABEL + boxes[-1].y + LINE for boxes in rows] for rows in laid]
    height = 2 * MARGIN + LEGEND + sum(HEADING + sum(rows) for rows in heights)
    with rc_context(STYLE):
        picture = Figure(figsize=(WIDTH, height / 72))
        axis = picture.add_axes((0, 0, 1, 1))
        axis.set_xlim(0, 72 * WIDTH)
        axis.set_ylim(height, 0)
        axis.set_axis_off()
        y = MARGIN + _draw_legend(axis)
        for place, (rows, tall) in enumerate(zip(laid, heights, strict=True)):
            caption = figure[0].captions[place]
            axis.text(MARGIN, y + 12, f"Caption {caption.caption} of the validation split", weight="bold")
            y += HEADING
            for row, boxes, taken in zip(figure, rows, tall, strict=True):
                axis.text(MARGIN, y + 10, row.label, fontsize=8)
                for box in boxes:
                    _draw_word(axis, box, y + LABEL)
                y += taken
        save(picture, path)


def _laid(caption: Caption) -> Iterator[_Box]:
    """Words beside each other, in as many lines as they need."""
    x = y = 0.0
    for place, new in enumerate(caption.new):
        texts = [new, caption.pieces[place]] if _replaced(caption, place) else [new]
        width = max(16.0, 2 * PAD + max(_width(readable(text)) for text in texts))
        if x and x + width > 72 * WIDTH - 2 * MARGIN:
            x, y = 0.0, y + LINE
        yield _Box(caption, place, x, y, width)
        x += width + GAP


def _replaced(caption: Caption, place: int) -> bool:
    return place in caption.replaced


def _width(text: str) -> float:
    """Points that a bold word takes."""
    from matplotlib import font_manager

    font = font_manager.get_font(font_manager.findfont(font_manager.FontProperties(family=FONT, weight="bold")))
    font.set_size(SIZE, 72)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        font.set_text(text, 0.0)
    return float(font.get_width_height()[0]) / 64


def _draw_word(axis: "Axes", box: _Box, top: float) -> None:
    from matplotlib.patches import Rectangle

    caption, place = box.caption, box.place
    x, y, middle = MARGIN + box.x, top + box.y, MARGIN + box.x + box.width / 2
    probability, replaced = caption.probability[place], _replaced(caption, place)
    axis.add_patch(
        Rectangle(
            (x, y),
            box.width,
            WORD,
            facecolor=colour_of(probability or 0.0),
            edgecolor=INK if replaced else FRAME,
            linewidth=1.3 if replaced else 0.6,
        )
    )
    if place in caption.masked and not replaced:
        axis.plot([x, x + box.width], [y + WORD, y + WORD], color=INK, linewidth=1.2, linestyle=(0, (2, 1.5)))
    new = readable(caption.new[place])
    axis.text(middle, y + 10, new, ha="center", fontsize=SIZE, weight="bold" if replaced else "normal")
    if replaced:
        old = readable(caption.pieces[place])
        axis.text(middle, y + 18.5, old, ha="center", fontsize=SMALL)
        half = _width(old) * SMALL / SIZE / 2
        axis.plot([middle - half, middle + half], [y + 16.2, y + 16.2], color=INK, linewidth=0.7)
        if place in caption.same:
            axis.text(x + box.width - 1.5, y + 7, "≈", ha="right", fontsize=SMALL)
    if probability is not None:
        axis.text(middle, y + 26.5, f"{100 * probability:.0f}", ha="center", fontsize=SMALL)


def _draw_legend(axis: "Axes") -> float:
    """What frames, colours and numbers mean; returns its height."""
    from matplotlib.patches import Rectangle

    x = MARGIN
    axis.text(x, MARGIN + 9, "Number and colour: probability, by the detector, that a word was replaced, %", fontsize=8)
    for share in (0, 5, 10, 20, 30, 50, 75, 100):
        box = Rectangle((x, MARGIN + 14), 24, 14, facecolor=colour_of(share / 100), edgecolor=FRAME, linewidth=0.6)
        axis.add_patch(box)
        axis.text(x + 12, MARGIN + 24, str(share), ha="center", fontsize=SMALL)
        x += 24
    words = "thick frame: replaced (crossed out: as written); ≈: means the same; dashed: masked, found again"
    axis.text(x + 8, MARGIN + 24, words, fontsize=7.5)
    return LEGEND
