"""Links: from the repository's places to the site's, and a check of the built pages."""

import os
import posixpath
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from website.markdown import outside_code

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")


def moved(text: str, lies_in: str, shown_in: str, place: Callable[[str], str | None]) -> str:
    """A page whose links lead to where the site has their targets.

    `lies_in`, `shown_in`: the page's folder in the repository and in the site. `place`: from a file of the repository
    to that of the site, None for one that the site has not: such a link becomes its text alone. Blocks of code and
    addresses elsewhere stay as they are.
    """

    def one(found: re.Match[str]) -> str:
        mark, label, target = found.groups()
        path, anchor_mark, anchor = target.partition("#")
        if urlsplit(target).scheme or not path:
            return found.group()
        there = place(posixpath.normpath(posixpath.join(lies_in, path)))
        if there is None:
            return label
        return f"{mark}[{label}]({posixpath.relpath(there, shown_in or '.')}{anchor_mark}{anchor})"

    return "\n".join(LINK.sub(one, line) if prose else line for prose, line in outside_code(text))


class _Page(HTMLParser):
    """Where a page's links lead, and what in it can be linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.loaded: list[str] = []  # by the browser, without being asked
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if value is None:
                continue
            if name in ("href", "src"):
                self.targets.append(value)
                if name == "src" or (
                    tag == "link" and dict(attributes).get("rel") in ("stylesheet", "preload", "icon")
                ):
                    self.loaded.append(value)
            elif name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)


def broken(site: Path) -> list[str]:
    """Every link of the built pages in `site` that leads to no file or to no anchor in it, `PAGE: TARGET (why)`.

    Addresses with a scheme or a host are elsewhere: links to them are not looked at, and to load anything from there
    (a script, a style, a picture) is a fault. `/` is `site`.
    """
    site = site.resolve()
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    faults = []
    for path, page in pages.items():
        for target in dict.fromkeys(page.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                if target in page.loaded and parts.scheme != "data":
                    faults.append(f"{path.relative_to(site)}: {target} (loaded from elsewhere)")
                continue
            start = site if parts.path.startswith("/") else path.parent
            there = Path(os.path.normpath(start / unquote(parts.path).lstrip("/"))) if parts.path else path
            there = there / "index.html" if there.is_dir() else there
            why = ""
            if not there.is_file() or not there.is_relative_to(site):
                why = "no such file"
            elif parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].anchors | {"__top"}:
                why = "no such anchor"
            if why:
                faults.append(f"{path.relative_to(site)}: {target} ({why})")
    return faults


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def main(site: str) -> int:
    """Print the broken links of the built site, and give the number of faults as an exit code of 0 or 1."""
    faults = broken(Path(site))
    for fault in faults:
        print(fault)
    print(f"{site}: {len(faults)} broken links in {len(list(Path(site).rglob('*.html')))} pages")
    return min(len(faults), 1)


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1]))
