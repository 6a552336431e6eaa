"""What a report's `-o key=value` change of its suite: said in its title, and in the name of its folder.

So a report of a variant never takes the place of the suite's own.
"""

import re
from collections.abc import Sequence

from experiments.plan import variant_of
from experiments.spec import Suite, load_profile, resolve, short_digest
from rasa.errors import SpecError

ROOTS = ("data.root=", "data.target.root=")
LONGEST = 60  # letters of a folder's name that tell what differs


def variant(suite: Suite, profile: str, overrides: Sequence[str]) -> str:
    """In what the rows differ from the suite's own, e.g. `optimisation.epochs=3`; nothing if in nothing."""
    if not overrides:
        return ""
    told: dict[str, None] = {}
    for row in suite.rows:
        try:
            told |= dict.fromkeys(variant_of(suite, row, profile, overrides).split(", "))
        except SpecError:  # a profile that leaves the data to the user is no fault of a report
            continue
    return ", ".join(filter(None, told))


def folder_name(suite: Suite, profile: str, overrides: Sequence[str]) -> str:
    """`SUITE-PROFILE`, and for a variant what differs and a digest of it."""
    plain, told = f"{suite.suite}-{load_profile(profile).profile}", variant(suite, profile, overrides)
    roots = [text for text in overrides if text.startswith(ROOTS)] if _has_data(suite, profile) else []
    if not told and not roots:
        return plain
    shown = re.sub(r"[^A-Za-z0-9.=-]+", "_", ",".join(text.rpartition(".")[2] for text in told.split(", ")))
    return f"{plain}-{shown[:LONGEST].strip('_.')}-{short_digest([told, roots])[:6]}".replace("--", "-")


def _has_data(suite: Suite, profile: str) -> bool:
    """Whether the suite says itself on which data it runs; then another folder is a variant, too."""
    try:
        resolve(suite, suite.rows[0], profile, (), 0)
    except SpecError:
        return False
    return True
