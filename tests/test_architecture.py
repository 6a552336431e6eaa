"""docs/architecture.md names files that exist, and every module of the method."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "architecture.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:rasa|experiments|studies|reports|tests)/[\w/.-]*)`", TEXT)))


def test_every_file_that_is_named_exists():
    assert len(NAMED) > 80 and [name for name in NAMED if not (ROOT / name).exists()] == []


def test_every_module_of_the_method_is_named():
    folders = tuple(name for name in NAMED if name.endswith("/"))
    modules = [str(path.relative_to(ROOT)) for path in (ROOT / "rasa").rglob("*.py") if path.name != "__init__.py"]
    missing = [name for name in modules if name not in NAMED and not name.startswith(folders)]
    assert len(modules) > 70 and missing == []


def test_the_walks_name_their_files_in_order_of_the_imports():
    walks = TEXT.split("## Three walks")[1].split("## Where")[0].split("\n\n")
    long = [walk for walk in walks if walk.strip().startswith("**")]
    assert len(long) == 3 and all(len(set(re.findall(r"`[\w/]+\.py`", walk))) >= 7 for walk in long)
