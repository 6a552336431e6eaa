"""What run ids are made from, kept as a file: `python -m tests.freeze_ids` renews it.

A digest that moves makes every finished run of its row a new one. Renew the file when that is meant, and say so in the
changelog; rows that are new are added by it.
"""

import json
from pathlib import Path

from experiments.spec import load_suite, profile_names, resolve, row_digest, suite_names

FILE = Path(__file__).parent / "golden" / "row_digests.json"
GIVEN = ("data.root=DATA", "data.target.root=OTHER")  # what a user has to give at full size


def digests():
    """By `suite/row`, its `row_digest` at each profile and the row that it is compared with."""
    found = {}
    for suite in map(load_suite, suite_names()):
        for row in suite.rows:
            at = {name: row_digest(resolve(suite, row, name, given(suite, name), 0)) for name in profile_names()}
            found[f"{suite.suite}/{row.name}"] = at | {"versus": row.versus}
    return found


def given(suite, profile):
    """The `-o` that this suite needs at a profile."""
    return GIVEN[: 1 + (suite.suite == "table7")] if profile == "paper" else ()


if __name__ == "__main__":
    lines = (f" {json.dumps(name)}: {json.dumps(values)}" for name, values in digests().items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(FILE)
