"""Sweeps: expansion into rows, the shared default point, where the best value lies, and the picture."""

import math

import numpy as np
import pytest

from experiments.spec import load_suite, resolve, row_digest
from experiments.suite import Suite
from experiments.targets import parse_target
from rasa.errors import SpecError
from reports.load import COLUMNS, Queries
from reports.sweeps import curves, draw, grid, sentences
from reports.tables import suite_lines
from tests.helpers.drawings import kept
from tests.helpers.tiny_report import PNG

SWEEP = {
    "name": "p",
    "label": "p^w",
    "parameter": "objectives.p_weak",
    "extends": "table4/m-rtd",
    "points": [0.1, 0.2, 0.3],
    "paper_best": 0.1,
}


def suite(**changes):
    return Suite.model_validate({"suite": "mine", "labels": ["A", "B"], "sweeps": [SWEEP | changes]})


def runs(*found):
    import pandas as pd

    records = []
    for row, seed, r1 in found:
        record = dict.fromkeys(COLUMNS, "") | {name: math.nan for name in COLUMNS if "/" in name}
        records.append(record | {"row": row, "seed": seed, "state": "finished", "test/r1": r1})
    return pd.DataFrame(records, columns=list(COLUMNS))


def test_a_sweep_is_rows_that_differ_in_one_field():
    figure4 = load_suite("figure4")
    assert len(figure4.rows) == 25
    _, rows = parse_target("figure4/lambda2")
    assert [row.name for row in rows] == [f"lambda2-{value}" for value in (0.1, 0.3, 0.5, 0.7, 1.0)]
    weights = [resolve(figure4, row, "smoke", (), 0).objectives.weights for row in rows]
    assert [each["rtd"] for each in weights] == [0.1, 0.3, 0.5, 0.7, 1.0]
    assert all(each.keys() == {"cl", "itm", "prd", "mlm", "rtd"} and each["prd"] == 0.5 for each in weights)
    assert [row.name for row in parse_target("figure4/lambda2-0.5")[1]] == ["lambda2-0.5"]


def test_all_sweeps_share_the_papers_point_and_without_weak_pairs_there_is_no_prd():
    figure4, table4 = load_suite("figure4"), load_suite("table4")
    default = row_digest(resolve(table4, "m-rtd", "synth", (), 0))
    for sweep in figure4.sweeps:
        best = sweep.row_names[sweep.paper_best]
        assert row_digest(resolve(figure4, best, "synth", (), 0)) == default
    none = resolve(figure4, "p-weak-0.0", "synth", (), 0).objectives
    assert (none.p_weak, none.positives, "prd" in none.weights) == (0.0, "annotated", False)


def test_noise_compares_rows_at_one_value_of_the_dial():
    noise = load_suite("noise")
    row = noise.row("p-itm-prd-2.0")
    assert row.versus == "p-itm-2.0" and resolve(noise, row, "synth", (), 0).data.synthetic.noise == 2.0
    assert grid(curves(noise, suite_lines(runs(("itm-0.0", 0, 50.0), ("itm-1.0", 0, 60.0)), noise), {})) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"points": [0.2, 0.1]}, "do not rise"),
        ({"points": [0.1, 0.1]}, "do not rise"),
        ({"points": [0.2, 0.3]}, "paper_best: 0.1 is none of the points"),
        ({"points": [0.1]}, "at least 2 items"),
    ],
)
def test_bad_sweeps(changes, said):
    with pytest.raises(ValueError, match=said):
        suite(**changes)


def test_a_suite_without_rows_or_sweeps(tmp_path):
    (tmp_path / "empty.yaml").write_text("suite: empty\n")
    with pytest.raises(SpecError, match="needs at least one row, or a sweep"):
        parse_target(str(tmp_path / "empty.yaml"))


def test_where_the_best_value_lies():
    """0.2 answers 40 of 60 identities, 0.1 as many but others, 0.3 only 10: the last is out, 0.1 and 0.2 stay."""
    mine = suite()
    hits = {0.1: [1] * 40 + [0] * 20, 0.2: [0] * 19 + [1] * 41, 0.3: [1] * 10 + [0] * 50}
    found = {(f"p-{value}", seed): _spread(each) for value, each in hits.items() for seed in (0, 1)}
    lines = suite_lines(
        runs(*((row, seed, 100 * (q.first_rank_T == 1).mean()) for (row, seed), q in found.items())), mine
    )
    (curve,) = curves(mine, lines, found, 2000)
    assert curve.top == (0.2,) and curve.candidates == (0.1, 0.2)
    assert sum(curve.best.values()) == pytest.approx(1) and curve.best[0.3] == 0
    assert curve.over == "queries and 2 seeds"
    (said,) = sentences([curve])
    assert said.endswith("the paper's best is 0.1: it agrees within the uncertainty.")
    table = grid([curve])
    assert [cell.text for cell in table.rows[0]][:3] == ["p^w", "0.1", "0.2"]
    far = {key: _spread([1] * 60 if key[0] == "p-0.3" else [0] * 60) for key in found}
    (curve,) = curves(mine, lines, far, 500)
    assert curve.candidates == (0.3,) and next(iter(sentences([curve]))).endswith("it does not agree.")
    alone = {key: each for key, each in far.items() if key[1] == 0}
    (curve,) = curves(mine, lines, alone, 500)
    assert curve.over == "queries"
    assert next(iter(sentences([curve]))).endswith("it does not agree with this one seed; of others nothing is known.")


def test_equal_values_share_what_is_best():
    """Three values that answer the same queries: none is out, none is first, and the paper's may be right."""
    mine = suite()
    same = _spread([1] * 30 + [0] * 30)
    found = {(f"p-{value}", seed): same for value in (0.1, 0.2, 0.3) for seed in (0, 1)}
    lines = suite_lines(runs(*((row, seed, 50.0) for row, seed in found)), mine)
    (curve,) = curves(mine, lines, found, 500)
    assert curve.best == pytest.approx({0.1: 1 / 3, 0.2: 1 / 3, 0.3: 1 / 3})
    assert curve.top == curve.candidates == (0.1, 0.2, 0.3)
    (said,) = sentences([curve])
    assert "R@1 is best at 0.1 and 0.2 and 0.3; " in said and "it may agree, as may every other value" in said


def test_what_cannot_be_told_is_said():
    mine = suite()
    lines = suite_lines(runs(("p-0.1", 0, 50.0), ("p-0.2", 0, 51.0)), mine)
    (curve,) = curves(mine, lines, {})
    assert list(sentences([curve])) == [
        (
            "p^w (p): R@1 is best at 0.2; the paper's best is 0.1: "
            "no uncertainty is known, since the runs' queries are not."
        )
    ]
    (curve,) = curves(mine, suite_lines(runs(("p-0.2", 0, 50.0), ("p-0.3", 0, 51.0)), mine), {})
    assert next(iter(sentences([curve]))).endswith("that value has no finished run.")
    assert list(sentences(curves(mine, suite_lines(runs(), mine), {}))) == []


def test_panels(tmp_path):
    """All five panels, one of them without any run, and a panel that four sweeps share."""
    for name in ("figure4", "noise"):
        loaded = load_suite(name)
        rows = [row.name for row in loaded.rows if not row.name.startswith("lambda3")]
        lines = suite_lines(runs(*((row, seed, 50.0 + seed) for row in rows for seed in (0, 1))), loaded)
        draw(curves(loaded, lines, {}), "title", tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)


def test_seeds_are_drawn_anew_and_their_distance_from_the_mean_is_stretched():
    """Of ten queries 0.2 answers ten, 0.1 nine with seed 0 and one with seed 1;
    identities are alike, so only seeds vary.

    0.2 leads by 10 and 90 points, 50 on average. Seed 0 twice, in a quarter of the resamples: 50 - sqrt(2) * 40 = -6.6.
    """
    mine = suite(points=[0.1, 0.2])
    hits = {("p-0.1", 0): 9, ("p-0.1", 1): 1, ("p-0.2", 0): 10, ("p-0.2", 1): 10}
    identities = np.repeat(np.arange(8), 10)
    found = {
        key: Queries(np.tile(np.where(np.arange(10) < each, 1, 2), 8), np.ones(80), identities)
        for key, each in hits.items()
    }
    (curve,) = curves(mine, suite_lines(runs(*((*key, 10.0 * each) for key, each in hits.items())), mine), found, 4000)
    assert curve.best[0.1] == pytest.approx(0.25, abs=0.03)  # four standard errors of 4000 draws


SEEN = {0.1: (50.0, 52.0), 0.2: (60.0, 62.0), 0.3: (54.0, 56.0)}  # by value, then seed
WIDTH = 12.706  # t(0.975, 1) * sqrt(2) / sqrt(2), of two seeds that lie 2 apart


def test_a_panel_shows_means_their_intervals_single_seeds_and_the_papers_best(tmp_path, monkeypatch):
    figures, mine = kept(monkeypatch), suite(axis="an axis")
    measured = [(f"p-{value}", seed, each[seed]) for value, each in SEEN.items() for seed in (0, 1)]
    draw(curves(mine, suite_lines(runs(*measured), mine), {}), "title", tmp_path / "panel.png")
    (axis,) = figures["panel"].axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("an axis", "Test R@1 (%)")
    upright, joined, single = _lines(axis)
    assert upright == [0.1]
    assert joined == [[(0.1, 51.0), (0.2, 61.0), (0.3, 55.0)]]
    assert sorted(single) == [(value, each) for value, both in SEEN.items() for each in both]
    (band,) = axis.collections
    edges = band.get_paths()[0].vertices
    for value, (low, high) in SEEN.items():
        heights = edges[edges[:, 0] == value, 1]
        assert (min(heights), max(heights)) == pytest.approx((low + 1 - WIDTH, high - 1 + WIDTH), abs=1e-3)


def test_words_stand_in_their_order_and_no_line_joins_them(tmp_path, monkeypatch):
    """online and momentum in one sweep, momentum and fixed in another of the same panel: places 0, 1 and 1, 2."""
    figures = kept(monkeypatch)
    both = [SWEEP | {"parameter": "objectives.generator", "paper_best": None} for _ in range(2)]
    both[0] |= {"points": ["online", "momentum"], "paper_best": "momentum"}
    both[1] |= {"name": "q", "points": ["momentum", "fixed"]}
    mine = Suite.model_validate({"suite": "mine", "labels": ["A", "B"], "sweeps": both})
    measured = [(row, seed, r1 + seed) for row, r1 in (("p-online", 50.0), ("p-momentum", 60.0)) for seed in (0, 2)]
    found = curves(mine, suite_lines(runs(*measured), mine), {})
    assert found[0].top == ("momentum",)
    assert "R@1 is best at momentum; the paper's best is momentum" in next(iter(sentences(found)))
    draw(found, "title", tmp_path / "words.png")
    (axis,) = figures["words"].axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["online", "momentum", "fixed"]
    upright, joined, single = _lines(axis)
    assert (upright, joined) == ([1.0], [])
    shift = 0.012 * 2 / 2  # of the first of two curves, to the left
    assert sorted((round(x + shift, 6), y) for x, y in single if y in (50.0, 62.0)) == [(0.0, 50.0), (1.0, 62.0)]


def test_curves_that_share_a_panel_have_their_intervals_at_their_own_points(tmp_path, monkeypatch):
    figures, loaded = kept(monkeypatch), load_suite("noise")
    measured = [(row.name, seed, 50.0 + 2 * seed) for row in loaded.rows for seed in (0, 1)]
    draw(curves(loaded, suite_lines(runs(*measured), loaded), {}), "title", tmp_path / "noise.png")
    (axis,) = figures["noise"].axes
    upright, joined, single = _lines(axis)
    assert upright == []  # the paper has no such sweep
    assert len(joined) == len(axis.collections) == len(loaded.sweeps)
    places = [x for curve in joined for x, _ in curve]
    assert len(set(places)) == len(places), "one curve hides another"
    assert sorted(single) == sorted((x, height) for x in places for height in (50.0, 52.0))
    for curve, bars in zip(joined, axis.collections, strict=True):
        ends = np.array(bars.get_segments())
        assert ends[:, 0] == pytest.approx(np.array([(x, mean - WIDTH) for x, mean in curve]), abs=1e-3)
        assert ends[:, 1] == pytest.approx(np.array([(x, mean + WIDTH) for x, mean in curve]), abs=1e-3)


def _lines(axis):
    """Places of lines from bottom to top, points of lines that join means, points that stand alone."""
    upright, joined, single = [], [], []
    for line in axis.lines:
        points = list(zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True))
        if line.get_linestyle() == "None":
            single += points
        elif line.get_transform() == axis.get_xaxis_transform():
            upright.append(points[0][0])
        else:
            joined.append(points)
    return upright, joined, single


def _spread(hits):
    return Queries(np.where(hits, 1, 2), np.array(hits, float), np.arange(len(hits)))
