"""A user's own suite of as many rows as are asked for."""

import json

from tests.helpers.people import tiny_config


def write_suite(folder, rows, changes=None):
    """A suite of one epoch whose rows differ in p_weak; `changes` are merged into the rows of that name."""
    config = tiny_config(folder / "unused", {"cl": 0.5, "itm": 1.0, "prd": 0.5})
    config["data"].pop("root")
    config["optimisation"] |= {"epochs": 1, "checkpoint_steps": 2}
    objectives = config.pop("objectives")
    entries = [
        {"name": f"row-{i}", "labels": [str(i)], "changes": {"objectives": objectives | {"p_weak": 0.05 * (i + 1)}}}
        for i in range(rows)
    ]
    for entry in entries:
        entry["changes"] |= (changes or {}).get(entry["name"], {})
    folder.mkdir(parents=True, exist_ok=True)
    spec = {"suite": "own", "title": "A test", "labels": ["Setting"], "base": config, "rows": entries}
    (folder / "own.yaml").write_text(json.dumps(spec))
    return folder / "own.yaml"
