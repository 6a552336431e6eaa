"""What the built-in profiles resolve to, kept as a file: `python -m tests.freeze_profiles` renews it.

Renew it when a profile or a default is meant to change, and read the difference before it is committed.
"""

import json
from pathlib import Path

from experiments.spec import load_suite, resolve

FILE = Path(__file__).parent / "golden" / "profiles.json"
PROFILES = ("smoke", "synth", "bench", "paper")


def resolved():
    """Table 4's last row at each profile, all fields, as plain JSON types."""
    suite = load_suite("table4")
    return {name: resolve(suite, "m-rtd", name, given(name), seed=0).model_dump(mode="json") for name in PROFILES}


def given(profile):
    """What a user has to give."""
    return ["data.root=DATA", "model.weights=ALBEF.pth"] if profile == "paper" else []


def flat(values, prefix=""):
    """Dotted names and values; a mapping of losses counts by its losses."""
    found = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps(resolved(), indent=1) + "\n")
    print(FILE)
