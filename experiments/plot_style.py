"""How figures look, in every room that draws: colours, letters, lines. Numbers come first; drawing only draws."""

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

# Ten colours, all with a contrast of 3 or more on white. Sorted by lightness (L*) they are 4.4 apart, so that grey
# tells them from each other. Any two differ by 20 or more in L*a*b*, also without red, green or blue cones.
# Neighbours in this order are far apart in lightness.
PALETTE = (
    "#173059",
    "#59694A",
    "#5716B1",
    "#7660FD",
    "#85349F",
    "#A09057",
    "#47353D",
    "#057A86",
    "#7E3C08",
    "#D86302",
)
OURS, ACCENT = "#0072B2", "#C44E00"  # one thing alone, and what stands out from it
QUIET = "#767676"  # marks that matter less, still with a contrast of 4.5
BAND = "#DDDDDD"  # an area behind marks
INK = "#222222"
DPI = 150
FONT = "DejaVu Sans"  # comes with matplotlib, so the picture is the same everywhere
# Where a letter is not in it, the first of these that is installed and has it.
OTHER_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("WenQuanYi Micro Hei", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB", "Hiragino Sans"),
    *("Malgun Gothic", "Apple SD Gothic Neo", "Arial Unicode MS"),
)
STYLE: Any = {
    "font.family": FONT,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "text.color": INK,
    "text.parse_math": False,  # a label is text, also with two dollar signs
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,  # ticks are plain numbers: no offset and no power of ten above the axis
    "axes.formatter.limits": (-6, 7),
    "grid.color": "#E6E6E6",
    "svg.fonttype": "none",  # text stays text: found, selected, read aloud
    "svg.hashsalt": "rasa",  # the same names inside the file each time
}
GREEK = r"alpha|beta|gamma|delta|epsilon|lambda|mu|sigma|tau|theta"
SYMBOL = re.compile(rf"(?:(?P<greek>{GREEK})|(?P<letter>[A-Za-z]))(?P<mark>[_^])(?P<index>[A-Za-z0-9]+)(?= |$)")


def symbol_label(artist: "Artist", text: str) -> None:
    """Give a text or an axis label this text, its symbols as formulas: `p^w`, `lambda_1 (PRD)`."""
    found = SYMBOL.match(text)
    if found is None or "$" in text:
        artist.set(text=text)
        return
    letter = rf"\{found['greek']}" if found["greek"] else found["letter"]
    artist.set(text=f"${letter}{found['mark']}{{{found['index']}}}${text[found.end() :]}", parse_math=True)


def save(figure: "Figure", path: Path) -> None:
    """Write the figure as PNG or SVG, by the file's ending, the same bytes each time.

    Letters that the font lacks come from another that is installed. Where none has them, an SVG keeps them, since the
    reader's machine may have one; a PNG has their numbers instead, and no boxes.
    """
    vector = path.suffix == ".svg"
    _find_letters(figure, keep=vector)
    with warnings.catch_warnings():
        if vector:
            warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        figure.savefig(path, dpi=DPI, metadata={"Date": None} if vector else {"Software": None})
    if vector:
        drawn = path.read_text(encoding="utf-8")
        # Of the same widths, or narrower, where a reader's machine has no DejaVu.
        drawn = re.sub(rf"((?:px|family:) '{FONT}'(?:, '[^']*')*)", r"\1, Verdana, sans-serif", drawn)
        path.write_text(drawn, encoding="utf-8")


def _find_letters(figure: "Figure", keep: bool) -> None:
    from matplotlib.text import Text

    own = _letters(FONT)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        missing = {ord(letter) for letter in text.get_text() if not letter.isspace()} - own
        if not missing:
            continue
        others = {family: _letters(family) for family in OTHER_FONTS}
        needed = [family for family, letters in others.items() if letters & missing]
        text.set_fontfamily([FONT, *needed])
        lost = missing.difference(*(others[family] for family in needed))
        if lost and not keep:
            text.set_text(text.get_text().translate({code: f"[U+{code:04X}]" for code in lost}))


def _letters(family: str) -> set[int]:
    """Code points that a font has; none if it is not installed."""
    from matplotlib import font_manager

    if family not in {font.name for font in font_manager.fontManager.ttflist}:
        return set()
    return set(font_manager.get_font(font_manager.findfont(family)).get_charmap())
