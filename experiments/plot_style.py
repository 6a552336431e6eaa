"""How figures look, in every room that draws: colours, letters, lines. Numbers come first; drawing only draws."""

from typing import Any

# Okabe and Ito's colours, told apart by colour-blind readers too; dark enough for white paper.
PALETTE = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#0072B2", "#D55E00")
INK = "#222222"
DPI = 150
STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the picture is the same everywhere
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
    "grid.color": "#E6E6E6",
}
