"""What a report's `-o key=value` change of its suite: said in its title, and in the name of its folder.

So a report of a variant never takes the place of the suite's own.
"""

import re
from collections.abc import Sequence
from contextlib import suppress

from experiments.plan import changes_of
from experiments.spec import load_profile, resolve, short_digest
from experiments.suite import Suite
from rasa.errors import SpecError

ROOTS = ("data.root=", "data.target.root=")
LONGEST = 60  # letters of a folder's name that tell what differs


def variant(suite: Suite, profile: str, overrides: Sequence[str]) -> str:
    """In what the rows differ from the suite's own, e.g. `optimisation.epochs=3`; nothing if in nothing."""
    return ", ".join(f"{key}={value}" for key, value in _changes(suite, profile, overrides).items())


def folder_name(suite: Suite, profile: str, overrides: Sequence[str]) -> str:
    """`SUITE-PROFILE`, for a part of the suite its rows, for a variant what differs, and a digest of these."""
    plain, changes = f"{suite.suite}-{load_profile(profile).profile}", _changes(suite, profile, overrides)
    roots = [text for text in overrides if text.startswith(ROOTS)] if _has_data(suite, profile) else []
    rows = [row.name for row in suite.rows] if suite.asked else []
    if not changes and not roots and not rows:
        return plain
    changed = ",".join([*rows, *(f"{key.rpartition('.')[2]}={value}" for key, value in changes.items())])
    shown = re.sub(r"[^A-Za-z0-9.=-]+", "_", changed)[:LONGEST].strip("_.")
    differs = [changes, roots, rows] if rows else [changes, roots]
    return "-".join(filter(None, (plain, shown, short_digest(differs)[:6])))


def _changes(suite: Suite, profile: str, overrides: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for row in suite.rows if overrides else ():
        with suppress(SpecError):  # a profile that leaves the data to the user is no fault of a report
            found = changes_of(suite, row, profile, overrides) | found
    return found


def _has_data(suite: Suite, profile: str) -> bool:
    """Whether the suite says itself on which data it runs; then another folder is a variant, too."""
    try:
        resolve(suite, suite.rows[0], profile, (), 0)
    except SpecError:
        return False
    return True
