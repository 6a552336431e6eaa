"""A user's own suite of one row: its file, and what its run leaves."""

import json
from pathlib import Path

from rasa.weights.folder import load_checkpoint
from tests.helpers.people import tiny_config

EVERYTHING = {"cl": 0.5, "itm": 1.0, "prd": 0.5, "mlm": 1.0, "rtd": 0.5}


def write_suite(folder: Path, root: Path, losses: dict, generator: str | None, **optimisation) -> Path:
    """A user's own suite file of one row, with the sizes of `people.tiny_config` (JSON is YAML)."""
    config = tiny_config(root, losses, generator)
    config["data"].pop("root")
    config["optimisation"] |= optimisation
    spec = {
        "suite": "own",
        "title": "A test",
        "labels": ["Setting"],
        "base": config,
        "rows": [{"name": "row", "labels": ["one"], "changes": {"objectives": config.pop("objectives")}}],
    }
    (folder / "own.yaml").write_text(json.dumps(spec))
    return folder / "own.yaml"


def run_directory(workspace: Path) -> Path:
    (found,) = (workspace / "runs").glob("own/row/*/seed-0-*")
    return found


def newest(directory: Path):
    return load_checkpoint(max((directory / "checkpoints").glob("step-*")))


def without_time(directory: Path) -> list[dict]:
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "time"} for line in lines if line["group"] != "cost"]
