"""A report of a suite of five rows, made from runs that are given by their R@1 alone."""

import math

import numpy as np

from experiments.decisions import Queries
from experiments.suite import Suite
from reports.build import notes
from reports.cells import Report
from reports.load import COLUMNS
from reports.pages import Picture
from reports.tables import suite_lines
from reports.verdict import judge

PNG = b"\x89PNG\r\n\x1a\n"


# A figure with all that a page must not take over from a file.
DRAWN = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 72 36"
onload="alert(1)"><metadata>m</metadata><script>alert(1)</script><defs><clipPath id="clip"><rect/></clipPath></defs>
<use xlink:href="https://example.org/x"/><use xlink:href="javascript:alert(1)"/><foreignObject><p/></foreignObject>
<g clip-path="url(#clip)" onclick="alert(1)"><text>drawn</text></g></svg>"""


def picture(folder, text="A picture", section=""):
    """An SVG file and the same in words, as `html` takes them."""
    file = folder / "picture.svg"
    file.write_text(DRAWN)
    return Picture(file, text, "A caption", section)


# Five rows: a base, a step from it, one with one seed, one that failed, one that was never run.
SUITE = Suite.model_validate(
    {
        "suite": "tiny",
        "title": "Tiny & 100 %",
        "source": "by hand",
        "labels": ["Module", "Setting"],
        "rows": [
            {"name": "base", "labels": ["A", "x_1"], "paper": {"r1": 60.0, "map": 50.0}},
            {"name": "step", "labels": ["B", "y"], "versus": "base", "paper": {"r1": 62.5}},
            {"name": "one", "labels": ["B", "z"], "versus": "step"},
            {"name": "broken", "labels": ["B", "u"], "versus": "base", "paper": {"r1": 59.0}},
            {"name": "absent", "labels": ["B", "v"], "versus": "broken", "paper": {"r1": 61.0}},
        ],
    }
)
RUNS = [
    ("base", 0, "finished", 40.0),
    ("base", 1, "finished", 42.0),
    ("base", 2, "finished", 44.0),
    ("step", 0, "finished", 43.0),
    ("step", 1, "finished", 44.0),
    ("step", 2, "failed", 0.0),
    ("one", 1, "finished", 44.0),
    ("broken", 0, "failed", 0.0),
]


def tidy(*runs: tuple[str, int, str, float]):
    """(row, seed, state, R@1) as a tidy table; the other accuracies lie at fixed distances."""
    import pandas as pd

    records = []
    for row, seed, state, r1 in runs:
        record = dict.fromkeys(COLUMNS, "") | {name: math.nan for name in COLUMNS if "/" in name}
        record |= {"row": row, "seed": seed, "state": state, "data_digest": "d"}
        if state == "finished":
            record |= {"test/r1": r1, "test/r5": r1 + 10, "test/r10": r1 + 20, "test/map": r1 - 10}
            record |= {"test/stage1_r1": r1 - 20, "cost/seconds": 90.0, "cost/pairs_per_s": 250.0}
        records.append(record)
    return pd.DataFrame(records, columns=list(COLUMNS))


def tiny_lines():
    return {line.name: line for line in suite_lines(tidy(*RUNS), SUITE)}


def tiny_report(**changes):
    lines = list(tiny_lines().values())
    given = {"title": SUITE.title, "profile": "smoke", "source": SUITE.source, "comparable": False, "lines": lines}
    given |= {"judged": judge(given["lines"] if "lines" not in changes else changes["lines"], {}, 200)}
    given |= {"metrics": SUITE.metrics, "notes": list(notes(lines, "smoke", False)), "provenance": {"profile": "smoke"}}
    return Report(**(given | changes))


def suite_of(rates, seeds, people=150):
    """Lines and queries of `base` and `step` (and `one`), each with its rate of hits; a query's answer holds for all
    seeds but for a tenth of the queries, which each seed answers anew."""
    draw = np.random.default_rng(0)
    identity = np.repeat(np.arange(people), 2)
    shared = draw.random(2 * people)
    queries, runs = {}, []
    for row, rate in rates.items():
        for seed in range(seeds):
            hits = np.where(draw.random(2 * people) < 0.1, draw.random(2 * people), shared) < rate
            queries[row, seed] = Queries(np.where(hits, 1, 3), hits * 0.5 + 0.25, identity)
            runs.append((row, seed, "finished", 100 * hits.mean()))
    return suite_lines(tidy(*runs), SUITE), queries
