"""What runs cost is compared on one kind of device alone: a minute of a GPU is no minute of a processor."""

from collections import Counter
from typing import TYPE_CHECKING

from reports.tables import FINISHED

if TYPE_CHECKING:
    import pandas as pd

COSTS = ("cost/seconds", "cost/pairs_per_s", "cost/peak_mib")  # that depend on the device; FLOPs do not


def costs_of_one_device(runs: "pd.DataFrame") -> tuple["pd.DataFrame", list[str]]:
    """The runs with the costs of one device alone, and a sentence on what was left out; all if they share a device.

    It is the device on which most finished runs of the table trained, of equals the first by name. `runs`: the tidy
    table (reports/load.py).
    """
    finished = runs[runs["state"] == FINISHED]
    counts = Counter(str(name) for name in finished["device"])
    if len(counts) < 2:
        return runs, []
    kept = min(counts, key=lambda name: (-counts[name], name))
    others = finished[finished["device"] != kept]
    costs = runs.copy()
    costs.loc[others.index, list(COSTS)] = float("nan")
    whose = []
    for name in sorted(counts.keys() - {kept}):
        seeds = sorted({int(seed) for seed in others[others["device"] == name]["seed"]})
        many = "runs" if counts[name] > 1 else "run"
        whose.append(f"{name} ({counts[name]} {many}, seed{'s'[: len(seeds) > 1]} {', '.join(map(str, seeds))})")
    note = f"Minutes, pairs/s and memory are those of the {counts[kept]} runs on {kept}"
    return costs, [f"{note}; left out of them, and of nothing else: {'; '.join(whose)}."]
