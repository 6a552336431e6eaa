"""One look for all figures: colours that everyone tells apart, labels as text or formula, letters without boxes."""

from itertools import combinations, pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure

from experiments import plot_style
from experiments.plot_style import ACCENT, INK, OURS, PALETTE, QUIET, STYLE, save, symbol_label
from experiments.spec import load_suite
from reports.style import row_colours, row_marks

SVG = "{http://www.w3.org/2000/svg}"
TO_XYZ = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])  # sRGB, D65
# Machado, Oliveira and Fernandes 2009, severity 1, on linear light: without red, green, blue cones.
BLIND = (
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
)


def _linear(colour):
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def _lab(linear):
    ratio = TO_XYZ @ np.clip(linear, 0, 1) / TO_XYZ.sum(1)
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("colour", [*PALETTE, OURS, ACCENT, QUIET, INK])
def test_contrast_on_white_is_three_or_more(colour):
    assert 1.05 / (TO_XYZ[1] @ _linear(colour) + 0.05) >= 3


def test_the_rows_colours_are_told_apart_in_grey_and_by_the_colour_blind():
    greys = sorted(_lab(_linear(colour))[0] for colour in PALETTE)
    assert min(after - before for before, after in pairwise(greys)) > 4
    for seen in (np.eye(3), *map(np.array, BLIND)):
        places = [_lab(seen @ _linear(colour)) for colour in PALETTE]
        assert min(np.linalg.norm(one - other) for one, other in combinations(places, 2)) > 20


def test_a_row_has_one_colour_whichever_others_there_are():
    every = [row.name for row in load_suite("table4").rows]
    colours, marks = row_colours(every), row_marks(every)
    assert len(set(colours.values())) == len(every) == len(PALETTE)
    for some in (["m-rtd"], ["o-rtd", "mine", "m-rtd"], every[::-1]):
        assert {row: colours[row] for row in some if row in colours}.items() <= row_colours(some).items()
        assert {row: marks[row] for row in some if row in marks}.items() <= row_marks(some).items()
    mine = ["mine", "m-rtd", "yours"]
    assert len(set(row_colours(mine).values())) == 3
    many = [f"row-{number}" for number in range(70)]
    looks = {(row_colours(many)[row], *row_marks(many)[row]) for row in many}
    assert len(looks) == len(many)


@pytest.mark.parametrize(
    ("text", "shown", "formula"),
    [
        ("p^w", "$p^{w}$", True),
        ("lambda_1 (PRD)", r"$\lambda_{1}$ (PRD)", True),
        ("p_weak", "$p_{weak}$", True),
        ("my_own_field", "my_own_field", False),
        ("noise dial", "noise dial", False),
        ("p^w costs $5", "p^w costs $5", False),
    ],
)
def test_symbols_are_formulas_and_all_else_is_text(text, shown, formula):
    with rc_context(STYLE):
        label = Figure().subplots().xaxis.label
        symbol_label(label, text)
    assert (label.get_text(), label.get_parse_math()) == (shown, formula)


def _written(tmp_path, name, text):
    with rc_context(STYLE):
        figure = Figure(figsize=(4, 2))
        figure.text(0.1, 0.5, text)
        save(figure, tmp_path / name)
    return figure, (tmp_path / name).read_bytes()


def test_an_svg_keeps_its_text_and_is_the_same_each_time(tmp_path):
    text = "<script>alert(1)</script> & 40 %"
    _, first = _written(tmp_path, "a.svg", text)
    _, second = _written(tmp_path, "b.svg", text)
    assert first == second
    root = ElementTree.fromstring(first)
    assert [each.text for each in root.iter(f"{SVG}text")] == [text]
    assert not list(root.iter(f"{SVG}script"))
    assert b"sans-serif" in first


def test_letters_that_no_font_has_are_no_boxes(tmp_path, monkeypatch):
    monkeypatch.setattr(plot_style, "OTHER_FONTS", ())
    figure, _ = _written(tmp_path, "a.png", "红 red")
    assert figure.texts[0].get_text() == "[U+7EA2] red"
    _, drawn = _written(tmp_path, "a.svg", "红 red")
    assert "红 red" in drawn.decode()


def test_letters_come_from_another_font_that_has_them(tmp_path):
    installed = {font.name for font in font_manager.fontManager.ttflist}
    others = [font for font in plot_style.OTHER_FONTS if font in installed]
    if not others:
        pytest.skip(f"none of {', '.join(plot_style.OTHER_FONTS)} is installed")
    figure, _ = _written(tmp_path, "a.png", "红 red")  # a box would be a warning, and so an error
    assert figure.texts[0].get_text() == "红 red"
    assert others[0] in figure.texts[0].get_fontfamily()
