"""What mkdocs calls while it builds the site (mkdocs.yml): generated pages, the navigation, links."""

import posixpath
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # mkdocs loads this file by its path

from website import api, commands, fields, links, notebooks

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ALL = re.compile(r"(.*/)\*\.md")
# Files of the repository that the site has under another name.
BESIDE = {"CHANGELOG.md": "project/changelog.md", "CONTRIBUTING.md": "project/contributing.md"}
PUBLISHED, SHOWN = "reports/published", ("*.md", "*.svg", "report.html")
OTHERS = "More"  # where pages stand that the navigation names nowhere


def on_config(config: "MkDocsConfig") -> "MkDocsConfig":
    """Fill in the navigation: `folder/*.md` is every page of the folder; pages that are named nowhere come last."""
    docs = Path(config.docs_dir)
    here = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    config.nav = navigation(config.nav or [], sorted(here))
    return config


def navigation(nav: list[Any], pages: list[str]) -> list[Any]:
    """`nav` with its patterns written out, and with the pages that it names nowhere in a last section."""
    named = set(_named(nav))
    filled = _filled(nav, pages)
    patterns = {found[1] for name in named if (found := ALL.fullmatch(name))}
    left = [page for page in pages if page not in named and not any(page.startswith(each) for each in patterns)]
    return [*filled, {OTHERS: left}] if left else filled


def _named(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    inside = nav.values() if isinstance(nav, dict) else nav
    return [name for each in inside for name in _named(each)]


def _filled(nav: list[Any], pages: list[str]) -> list[Any]:
    filled: list[Any] = []
    for entry in nav:
        found = ALL.fullmatch(entry) if isinstance(entry, str) else None
        if found:
            filled += [page for page in pages if page.startswith(found[1])]
        elif isinstance(entry, dict):
            filled.append(
                {name: _filled(each, pages) if isinstance(each, list) else each for name, each in entry.items()}
            )
        else:
            filled.append(entry)
    return filled


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the pages that are made of the program, and those files of the repository that pages link to."""
    from mkdocs.structure.files import File, InclusionLevel

    for name, text in reference().items():
        files.append(File.generated(config, name, content=text))
    for notebook in sorted(Path(config.docs_dir).rglob("*.ipynb")):
        place = notebook.relative_to(config.docs_dir).with_suffix(".md").as_posix()
        text, pictures = notebooks.as_page(notebooks.run(notebook), notebook.stem)
        files.append(File.generated(config, place, content=text))
        for name, picture in pictures.items():
            files.append(File.generated(config, posixpath.join(posixpath.dirname(place), name), content=picture))
    for source, name in beside().items():
        level = InclusionLevel.NOT_IN_NAV if name.startswith("published/") else InclusionLevel.UNDEFINED
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source), inclusion=level))
    return files


def reference() -> dict[str, str]:
    """The generated pages by their place in the site."""
    from experiments.layers import flatten
    from experiments.spec import Profile, Suite, load_suite, resolve
    from rasa.commands.cli import group
    from rasa.config.fidelity import PRESETS
    from rasa.config.run import Config
    from studies.space import Space

    profiles = {}
    for name in ("smoke", "synth", "bench", "paper"):
        given = ["data.root=."] if name == "paper" else []
        values = flatten(resolve(load_suite("table4"), "m-rtd", name, given, seed=0).model_dump(mode="json"))
        profiles[name] = {field: value for field, value in values.items() if field != "data.root"}
    specs: dict[str, type[BaseModel]] = {"A suite": Suite, "A profile": Profile, "A space": Space}
    return {
        "reference/commands.md": commands.commands_page(group),
        "reference/fields.md": fields.fields_page(Config, profiles, {"fidelity": PRESETS}),
        "reference/spec-files.md": fields.specs_page(specs),
        "reference/api/index.md": api.index_page(),
        **{api.page_name(package): api.api_page(package) for package in api.PACKAGES},
    }


def beside() -> dict[str, str]:
    """Files outside docs/ that the site has, each with its place in it."""
    found = dict(BESIDE)
    for pattern in SHOWN:
        for path in sorted((ROOT / PUBLISHED).glob(f"*/{pattern}")):
            source = path.relative_to(ROOT).as_posix()
            found[source] = source.removeprefix("reports/")
    return found


def place(source: str) -> str | None:
    """Where in the site a file of the repository is; None if it is not there."""
    if source in (known := beside()):
        return known[source]
    return source.removeprefix("docs/") if source.startswith("docs/") else None


def on_page_markdown(markdown: str, page: "Page", config: "MkDocsConfig", files: "Files") -> str:
    """Links between files of the repository lead to the site's pages."""
    shown = page.file.src_uri
    sources = {name: source for source, name in beside().items()}
    lies = sources.get(shown, f"docs/{shown}")
    return links.moved(markdown, posixpath.dirname(lies), posixpath.dirname(shown), place)
