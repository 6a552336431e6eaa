"""A report of Table 4 with everything that a page can have: every table and figure, and rows that did not finish."""

import numpy as np

from experiments.decisions import Queries
from experiments.spec import load_suite
from reports.build import How, assemble
from reports.load import SuiteRuns
from reports.tables import KINDS
from tests.helpers.tiny_report import tidy

WHY = "cl is nan at epoch 1, step 3"
TITLE = "<script>alert(1)</script> & $x$ # _y_"
FAILED, KILLED, NEVER = "f-rtd", "o-rtd", "m-rtd"
PEOPLE = 100


def whole_report():
    """Three seeds of seven rows; of the other three one failed, one was interrupted, one never ran."""
    suite = load_suite("table4").model_copy(update={"title": TITLE})
    rows = [row.name for row in suite.rows if row.name not in (FAILED, KILLED, NEVER)]
    draw, identity = np.random.default_rng(0), np.repeat(np.arange(PEOPLE), 2)
    shared, queries, runs = draw.random(2 * PEOPLE), {}, []
    for place, row in enumerate(rows):
        for seed in range(3):
            hits = np.where(draw.random(2 * PEOPLE) < 0.05, draw.random(2 * PEOPLE), shared) < 0.4 + 0.06 * place
            queries[row, seed] = Queries(np.where(hits, 1, 3), hits * 0.5 + 0.25, identity)
            runs.append((row, seed, "finished", 100 * hits.mean()))
    table = tidy(*runs, (FAILED, 0, "failed", 0.0), (KILLED, 0, "interrupted", 0.0))
    table.loc[table["row"] == FAILED, "reason"] = WHY
    done = table["state"] == "finished"
    for kind in KINDS:
        table.loc[done, [f"probe/{kind}_apart", f"probe/{kind}_stage1_apart"]] = [75.0, 70.0]
        table.loc[done, [f"probe/{kind}_r1", f"probe/{kind}_r1_exchanged", f"probe/{kind}_rank_factor"]] = [50, 20, 2.5]
    for head in ("prd", "rtd"):
        for name, value in {"loss": 0.2, "guess": 0.3, "base": 10, "recall": 40, "precision": 70, "auc": 85}.items():
            table.loc[done, f"detector/{head}_{name}"] = value
    table = table.assign(started=range(len(table)), suite="table4", data="synthetic")
    sizes = {"test": {"images": 2 * PEOPLE, "captions": 2 * PEOPLE, "identities": PEOPLE}}
    how = How("rasa report table4", "now", 0.5, 5, 200)
    return assemble(suite, "smoke", SuiteRuns(table, (), sizes, queries), how)
