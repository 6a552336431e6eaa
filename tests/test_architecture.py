"""docs/architecture.md names files that exist, and every module of the method."""

import re
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOMS = ("rasa", "experiments", "studies", "reports")
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


def test_no_module_needs_one_that_needs_it():
    graph = grimp.build_graph(
        "rasa", "experiments", "studies", "reports", exclude_type_checking_imports=True, cache_dir=None
    )
    needs = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert len(needs) > 150
    tuple(TopologicalSorter(needs).static_order())  # raises CycleError, which names the circle


def test_file_locks_are_not_unix_alone():
    """fcntl is imported in one place, where it may be missing."""
    with_it = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "import fcntl" in path.read_text()]
    assert with_it == [ROOT / "rasa" / "lock.py"]
    assert "try:\n    import fcntl\nexcept ImportError" in with_it[0].read_text()
