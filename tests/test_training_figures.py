"""Learning curves, cost and waterfall: their numbers by hand, what is not known, and that they get into the report."""

import math
from dataclasses import replace

import pytest

from experiments.curves import averaged
from experiments.rundir import Point
from rasa.training.words import Caption, Replaced
from reports import costs, learning, replaced_figure, waterfall
from reports.cells import grids
from reports.drawings import drawings
from reports.formats import csv_table
from reports.learning import GENERATOR, LEARNING, Quantity
from reports.tables import Spread
from tests.helpers.tiny_report import tiny_lines, tiny_report

R1, CL = Quantity("val", "r1", "R@1"), Quantity("train", "loss_cl", "loss of CL")
PER_EPOCH = 24  # steps


def run(losses, r1, **val):
    """A run whose step s has the loss losses(s), validated after each epoch."""
    points = []
    for epoch, value in enumerate(r1, start=1):
        for step in range(PER_EPOCH * (epoch - 1), PER_EPOCH * epoch):
            points.append(Point("train", step, {"loss_cl": losses(step)}, 0.0))
        points.append(Point("val", PER_EPOCH * epoch, {"r1": value, "epoch": epoch, **val}, 0.0))
    return points


def test_validation_by_hand():
    """Two seeds at 10 and 14, then 20 and 26; a third was cut off after one epoch, at 15."""
    points = {("a", 0): run(float, [10, 20]), ("a", 1): run(float, [14, 26]), ("a", 2): run(float, [15])}
    points["b", 0] = run(float, [1, 2])
    (panel,) = learning.panels(points, ["b", "a", "none"], [R1], {"r1": 0.5})
    assert [curve.row for curve in panel.curves] == ["b", "a"] and panel.chance == 0.5
    curve = panel.curves[1]
    assert curve.epochs == (1, 2) and curve.mean == pytest.approx((13, 23)) and curve.seeds == 3
    assert curve.sd == pytest.approx((math.sqrt(7), math.sqrt(18)))
    assert panel.curves[0].sd == (None, None)


def test_losses_are_averaged_over_windows():
    """Two epochs have twelve windows each: of 24 steps the first two are at 1/24 of the epoch, with their mean."""
    (panel,) = learning.panels({("a", 0): run(float, [1, 2])}, ["a"], [CL])
    (curve,) = panel.curves
    assert curve.epochs[:2] == (0.5 / 12, 1.5 / 12) and len(curve.epochs) == 24
    assert curve.mean[:2] == (0.5, 2.5) and curve.mean[-1] == 46.5


@pytest.mark.parametrize(("epochs", "windows"), [(1, 24), (2, 24), (3, 24), (30, 30)])
def test_averaging_twice_is_averaging_once(epochs, windows):
    """So a published record shows what the run showed; each window ends at its last step."""
    points = [*run(lambda step: step % 7 / 3, range(epochs)), Point("test", PER_EPOCH * epochs, {"r1": 3.0}, 0.0)]
    once = list(averaged(points))
    assert list(averaged(once)) == once
    assert sum(point.group == "train" for point in once) == windows
    assert [point for point in once if point.group != "train"] == [p for p in points if p.group != "train"]
    of_epochs = PER_EPOCH * epochs // windows
    assert [point.step for point in once if point.group == "train"][:2] == [of_epochs - 1, 2 * of_epochs - 1]
    assert learning.panels({("a", 0): once}, ["a"], [R1, CL]) == learning.panels({("a", 0): points}, ["a"], [R1, CL])


def test_what_is_no_number_or_not_there_is_left_out():
    points = {("a", 0): run(lambda step: math.nan if step == 2 else 1.0, [1, math.nan, 3])}
    (r1, losses) = learning.panels(points, ["a"], [R1, CL])
    assert r1.curves[0].epochs == (1, 3) and losses.curves[0].mean == (1.0,) * 24
    assert learning.panels(points, ["a"], GENERATOR) == []
    assert learning.panels({("a", 0): []}, ["a"], [R1, CL]) == []
    assert learning.panels({}, ["a"], LEARNING) == []


def test_one_step_of_an_epoch_is_no_learning_curve():
    """As older published records have it: R@1 stays, the losses of single steps are not shown."""
    points = [point for point in run(float, [1, 2]) if point.group == "val" or point.step % PER_EPOCH == PER_EPOCH - 1]
    assert [panel.title for panel in learning.panels({("a", 0): points}, ["a"], [R1, CL])] == ["R@1"]


def test_curves_in_words_and_drawn(tmp_path):
    points = {(row, seed): run(lambda s: 9 / (s + 1), [10 + seed, 30]) for row in ("a", "b") for seed in (0, 1)}
    panels = learning.panels(points, ["a", "b"], LEARNING, {"r1": 5.0})
    told = learning.describe(panels, {"a": "Row A", "b": "Row B"})
    assert "validation R@1, % at the end, chance 5: Row A 30 (mean of 2 seeds), Row B 30" in told
    learning.draw(panels, {"a": "Row A", "b": "Row $B$"}, "ours", tmp_path / "curves.svg")
    drawn = (tmp_path / "curves.svg").read_text()
    assert "Row A" in drawn and "Row $B$" in drawn and "chance" in drawn and "standard deviation" in drawn


# ---- Waterfall ----


def test_stairs_by_hand():
    """step 43 and 44 from base 40, 42, 44, on the seeds of both: +2.5. What failed or never ran has no stair."""
    stairs = {stair.row: stair for stair in waterfall.steps(list(tiny_lines().values()))}
    assert (stairs["base"].begins, stairs["base"].ends, stairs["base"].gain) == (None, 42.0, None)
    assert (stairs["step"].begins, stairs["step"].ends) == (pytest.approx(41.0), 43.5)
    assert stairs["step"].gain == pytest.approx(2.5)
    assert stairs["broken"].ends is None and str(stairs["broken"]) == "u: failed"
    published = {stair.row: stair for stair in waterfall.steps(list(tiny_lines().values()), paper=True)}
    assert (published["step"].begins, published["step"].gain) == (60.0, 2.5)
    assert (published["broken"].gain, published["one"].ends) == (-1.0, None)


def test_a_loss_is_a_step_down_and_no_gain_has_no_sign_of_one():
    lines = tiny_lines()
    lines["step"] = replace(lines["step"], gain=Spread({0: -0.04, 1: -0.02}))
    stair = waterfall.steps(list(lines.values()))[1]
    assert stair.begins == pytest.approx(43.53) and str(stair) == "y 43.5 (+0.0)"


def test_both_panels_have_one_scale(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(waterfall, "save", lambda figure, path: seen.update(figure=figure))
    waterfall.draw(list(tiny_lines().values()), "ours", "paper", tmp_path / "w.svg", chance=0.5)
    widths = [axis.get_xlim()[1] - axis.get_xlim()[0] for axis in seen["figure"].axes]
    assert len(widths) == 2 and widths[0] == pytest.approx(widths[1])
    assert all(axis.get_xlim()[0] > 0.5 for axis in seen["figure"].axes)


# ---- Cost ----


def with_flops(*rows):
    lines = tiny_lines()
    for row in rows:
        figures = dict(lines[row].figures) | {"tflop": Spread({0: 12.0, 1: 12.5}), "gflop_per_step": Spread({0: 3.0})}
        lines[row] = replace(lines[row], figures=figures)
    return list(lines.values())


def test_cost_by_hand():
    minutes, tflop = costs.panels(with_flops("step"))
    base = minutes.dots[0]
    assert (base.row, base.cost, base.r1, base.seeds) == ("base", 1.5, 42.0, ((1.5, 40.0), (1.5, 42.0), (1.5, 44.0)))
    assert [(dot.row, dot.cost, dot.r1) for dot in tflop.dots] == [("step", 12.25, 43.5)]
    assert tflop.without == ("base", "one")  # what failed has no cost to be missed
    told = costs.describe([minutes, tflop], with_flops("step"))
    assert "y 12.2 for R@1 43.5; not recorded: x_1, z" in told


def test_runs_without_flops_have_a_dash_and_a_table_of_such_runs_no_column():
    def cells(lines):
        grid = next(
            grid for grid in grids(tiny_report(lines=lines)) if any(c.heading == "Minutes" for c in grid.columns)
        )
        headings = [column.heading for column in grid.columns]
        return headings, [dict(zip(headings, [cell.text for cell in row], strict=True)) for row in grid.rows]

    headings, rows = cells(with_flops("step"))
    assert [row["TFLOP"] for row in rows[:3]] == ["-", "12.2", "-"] and rows[1]["GFLOP a step"] == "3.0"
    headings, _ = cells(with_flops())
    assert "TFLOP" not in headings
    assert "tflop" in csv_table(tiny_report(lines=with_flops("step"))).splitlines()[0]
    assert "tflop" not in csv_table(tiny_report(lines=with_flops())).splitlines()[0]


# ---- The report ----


def test_the_report_has_each_figure_once_and_in_words(tmp_path):
    points = {("base", 0): run(lambda s: 9 / (s + 1), [10, 30], rtd_auc=70.0)}
    caption = Caption(0, "a.png", ("a", "b"), ("a", "c"), (1,), (), (0.25, 0.5))
    words = {("base", 0): Replaced("val", 3, "momentum", 0, (caption,))}
    report = tiny_report(
        lines=with_flops("step"),
        learning=learning.panels(points, ["base"], LEARNING),
        generators=learning.panels(points, ["base"], GENERATOR),
        words=replaced_figure.shown(words, {"base": "x_1"}),
    )
    found = drawings(report)
    ours = ["waterfall.svg", "learning.svg", "cost.svg", "generator.svg", "words.svg"]
    assert [each.file for each in found if each.file in ours] == ours
    assert len({each.words for each in found}) == len({each.caption for each in found}) == len(found)
    for each in found:
        each.draw(tmp_path / each.file)
        assert (tmp_path / each.file).stat().st_size > 1000


def test_a_report_of_older_runs_has_what_they_have():
    """No points, no words, no FLOPs: the steps and the costs alone."""
    found = [each.file for each in drawings(tiny_report())]
    assert {"waterfall.svg", "cost.svg"} <= set(found) and not {"learning.svg", "generator.svg", "words.svg"} & set(
        found
    )
