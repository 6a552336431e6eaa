"""A page as HTML that needs no file beside it: figures are part of it as SVG, and their text stays text."""

import re
from collections.abc import Mapping, Sequence
from html import unescape
from itertools import count
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from reports.cells import Report
from reports.pages import Page, Picture, page_of, sections
from reports.templating import environment

if TYPE_CHECKING:
    from markupsafe import Markup

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
# What a figure is made of. Anything else in a file is left out, scripts among it.
DRAWN = {"svg", "g", "defs", "path", "use", "text", "tspan", "rect", "clipPath", "image", "line", "circle", "polygon"}
WIDE = 7  # columns from which a table is set smaller in print


PART = re.compile(r"[-+\d.]+ ± [\d.]+|\[[-+\d.]+, [-+\d.]+\]|^n = \d+$")
UNTOLD = re.compile(r"<(svg|style|script)\b.*?</\1>", re.DOTALL)
TAG = re.compile(r"<[^>]*>")


def html(
    report: Report | Page,
    pictures: Sequence[Picture] = (),
    drawn: bool = True,
    answered: Mapping[str, Any] | None = None,
) -> str:
    """The page: the verdict, figures and table that come first, and all else in sections that open.

    With `drawn` false the figures' places are empty, and their files need not be there. `answered`: some queries with
    the images found for them (reports/queries.py).
    """
    templates = environment()
    templates.filters["together"] = _together
    page, numbers = page_of(report), count(1)
    figures = {each.file: inline(each, f"f{next(numbers)}-") if drawn else "" for each in pictures}
    return (
        templates.get_template("report.html").render(
            page=page,
            top=[each for each in pictures if not each.section],
            figures=figures,
            sections=sections(page, pictures),
            wide=WIDE,
            answered=answered,
        )
        + "\n"
    )


def told(page: str) -> str:
    """What a page says, a line for each cell and sentence: without its figures, its style and its markup."""
    body = UNTOLD.sub("", page)
    lines = (unescape(TAG.sub(" ", line)) for line in body.splitlines())
    return "".join(f"{' '.join(line.split())}\n" for line in lines if line.strip())


def _together(text: str) -> "Markup":
    """The text with its parts kept on one line each: a mean with its deviation, both ends of an interval."""
    from markupsafe import Markup, escape

    def kept(found: re.Match[str]) -> str:
        return f'<span class="{"interval" if found[0].startswith("[") else "mean"}">{found[0]}</span>'

    return Markup(PART.sub(kept, str(escape(text))))


def inline(picture: Picture, prefix: str) -> "Markup":
    """The figure as an element of a page. Its names get the prefix, so that several figures do not share any."""
    from markupsafe import Markup

    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.parse(picture.file).getroot()
    _clean(root, prefix)
    box = root.get("viewBox", "0 0 1 1").split()
    root.attrib = {"viewBox": " ".join(box), "role": "img", "aria-label": picture.words}
    # 96 pixels are 72 points: as large as it was drawn, where there is room.
    root.attrib["style"] = f"max-width: {float(box[2]) * 4 / 3:.0f}px"
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt"}  # what matplotlib's style sheet says of all
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _clean(element: Any, prefix: str) -> None:
    for child in list(element):
        if not isinstance(child.tag, str) or child.tag.removeprefix(f"{{{SVG}}}") not in DRAWN:
            element.remove(child)
        else:
            _clean(child, prefix)
    for name, value in list(element.attrib.items()):
        if name == "id":
            element.set(name, prefix + value)
        elif name in ("href", f"{{{XLINK}}}href"):
            if value.startswith("#"):
                element.set(name, f"#{prefix}{value[1:]}")
            elif not value.startswith("data:image/png;base64,"):
                del element.attrib[name]
        elif name.startswith("on"):
            del element.attrib[name]
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{prefix}"))
