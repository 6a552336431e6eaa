"""What a run computes, from its config and sizes alone, and the time that is estimated from it."""

import json

import pytest

from benchmarks.flops import fast_step
from experiments.estimates import AT_LEAST, Measured
from experiments.footprint import Captions, footprint
from experiments.plan import plan
from experiments.rundir import RESULT, read_json
from experiments.runner import execute
from experiments.spec import load_suite, resolve
from experiments.workload import (
    PUBLISHED,
    Model,
    Work,
    benchmark_sizes,
    expected_sizes,
    pair_flops,
    recorded_work,
    stages_of,
    start_flops,
    work_of,
)
from rasa.config.benchmark import BenchmarkParams
from tests.helpers.people import write_people
from tests.helpers.stand_in import trainer

PAPER = ["data.root=."]
SIZES = {name: {"images": 10 * n, "captions": 20 * n} for name, n in (("train", 100), ("val", 3), ("test", 5))}


def config(row="m-rtd", profile="paper", options=PAPER):
    suite = load_suite("table4")
    return resolve(suite, suite.row(row), profile, options, 0)


def test_steps_and_pairs_by_hand():
    """2,000 captions in batches of 52: 38 steps a pass, 30 passes; with at most 10 a pass, 300 steps of 52."""
    whole, short = (
        work_of(config(), SIZES),
        work_of(config(options=[*PAPER, "optimisation.max_steps_per_epoch=10"]), SIZES),
    )
    assert (whole.steps, whole.pairs) == (1140, 1140 * 52)
    assert (short.steps, short.pairs) == (300, 300 * 52)
    assert whole.training / short.training == pytest.approx(3.8) and whole.evaluation == short.evaluation


def test_a_data_set_smaller_than_a_batch_is_one_batch():
    few = {**SIZES, "train": {"images": 5, "captions": 10}}
    assert work_of(config(), few)[:2] == (30, 300)


def test_evaluation_by_hand():
    """Validation 30 times, test once; row CL ranks by stage 1, so nothing is paired."""
    size, cl = Model.of(config("cl")), config("cl")
    split = lambda n: 10 * n * size.image() + 20 * n * size.text(29, 29) + 200 * n * n * 2 * 256
    assert work_of(cl, SIZES).evaluation == pytest.approx(30 * split(3) + split(5))
    assert start_flops(cl, SIZES) == pytest.approx(split(3) + split(5))
    # 60 and 100 captions with all 30 and 50 images, which are fewer than 128
    paired = (30 * 60 * 30 + 100 * 50) * size.fuse(29, 29, 1) + (30 * 30 + 50) * size.project()
    assert work_of(config("itm"), SIZES).evaluation == pytest.approx(30 * split(3) + split(5) + paired)
    gap = work_of(config("cl", options=[*PAPER, "evaluation.selection_gap=true"]), SIZES)
    assert gap.evaluation == pytest.approx(30 * (split(3) + split(5)) + split(5))


def test_detectors_cost_what_the_heads_of_prd_and_rtd_are_asked():
    """Of all 60 validation captions after each of 30 epochs, forward passes alone; a row without such a head none.

    PRD's: the image, the text, its keys and values, one fusion that only [CLS] leaves.
    """
    asked = [*PAPER, "evaluation.detectors=true"]
    extra = {
        row: work_of(config(row, options=asked), SIZES).evaluation - work_of(config(row), SIZES).evaluation
        for row in ("cl", "itm", "itm-prd", "m-rtd")
    }
    size = Model.of(config("itm-prd"))
    prd = size.image() + size.text(29, 50) + size.project() + size.fuse(29, 50, 1)
    assert extra["cl"] == extra["itm"] == 0
    assert extra["itm-prd"] == pytest.approx(30 * 60 * prd)
    assert extra["m-rtd"] > 2 * extra["itm-prd"]


def test_putting_images_in_order_takes_time_and_has_no_flops():
    """Of CL: 60 captions and 30 images after each epoch, 100 and 50 at the end; FLOPs of a plan do not hold it."""
    cl = config("cl")
    _, _, _, validation, _, end = stages_of(cl, SIZES)
    assert validation + end == pytest.approx(start_flops(cl, SIZES) + 1500 * (60 * 30 + 100 * 50))


@pytest.mark.parametrize("preset", ["released", "paper"])
def test_m_rtd_is_the_benchmark_s_own_model(preset):
    """Two statements of one cost: benchmarks/flops.py, written for m-RTD, and the one for any row."""
    run = config(options=[*PAPER, f"fidelity={preset}"])
    masked = run.fidelity.mlm_mask_rate or run.objectives.p_mask
    expected = fast_step(Model.of(run), 52, 29, 50, masked, preset == "paper").total()
    assert pair_flops(run, 52) == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("row", ["cl", "s-itm", "itm-prd", "mlm", "f-rtd", "o-rtd", "m-rtd"])
def test_every_row_costs_what_torch_counts(row, preset):
    """At full width, two layers of each kind, on torch's meta device, within 5 %.

    A GPU pads the chosen captions, which this does not count.
    """
    shallow = [f"model.{part}=2" for part in ("vision_depth", "text_layers", "fusion_layers")]
    run = config(row, options=[*PAPER, f"fidelity={preset}", "fidelity.ranks=1", *shallow])
    counted = footprint(run, 30522, Captions(29, 50), 52, 1, 1, "float32").flops / 52
    assert pair_flops(run, 52) == pytest.approx(counted, rel=0.05)


def test_what_is_built_or_published_is_known_beforehand():
    params = BenchmarkParams(train_identities=3, val_identities=2, test_identities=1)
    assert benchmark_sizes(params)["train"] == {"images": 12, "captions": 24}
    assert expected_sizes(config(profile="smoke", options=[]).data)["test"] == {"images": 128, "captions": 256}
    assert expected_sizes(config().data) == PUBLISHED["cuhk-pedes"]
    assert expected_sizes(config(options=[*PAPER, "data.format=table"]).data) is None


def test_a_record_tells_what_was_computed_or_nothing():
    run = config(options=[*PAPER, "data.image_size=[192,192]"])
    assert recorded_work(run.identity(), SIZES) == work_of(run, SIZES)
    assert recorded_work(run.identity(), {}) is None and recorded_work({}, SIZES) is None
    assert recorded_work(run.identity() | {"later": 1}, SIZES) is None


def test_seconds_are_scaled_by_work():
    half = Measured(10.0, Work(1, 1, 30.0, 10.0))
    assert half.scaled(Work(2, 2, 60.0, 20.0)) == 20.0 and half.scaled(None) == 10.0
    assert Measured(10.0, None).scaled(Work(1, 1, 1.0, 1.0)) == 10.0


def planned(root, workspace, *options, row="cl", profile="smoke"):
    suite = load_suite("table4")
    (run,) = plan(suite, [suite.row(row)], profile, [f"data.root={root}", *options], [1], workspace)
    return run


def test_the_paper_s_hours_are_not_said_of_a_few_images(tmp_path):
    """240 minutes are of 30 x 1,310 steps and 31 rankings. 20 images are one step an epoch; nothing is below 5 s."""
    people = write_people(tmp_path / "people", train=10, val=2, test=4, images=2)
    few = planned(people, tmp_path, "model.weights=null", row="m-rtd", profile="paper")
    assert AT_LEAST <= few.seconds < 60
    smaller = planned(people, tmp_path, "data.image_size=[192,192]", row="m-rtd", profile="paper")
    assert smaller.seconds < few.seconds or few.seconds == AT_LEAST
    suite = load_suite("table4")
    whole = work_of(config("m-rtd"), PUBLISHED["cuhk-pedes"])
    assert Measured(240 * 60, whole).scaled(whole) == suite.expected_minutes["paper"] * 60


def test_what_was_measured_is_scaled_to_other_epochs_and_rows(tmp_path):
    """The stand-in takes 4 s. Its record with sizes says of what, so three times the epochs take nearly three times."""
    people = write_people(tmp_path / "people", train=10, val=2, test=4, images=2)
    suite = load_suite("table4")
    options = [f"data.root={people}", "optimisation.epochs=2"]
    (run,) = plan(suite, [suite.row("cl")], "smoke", options, [0], tmp_path)
    execute([run], tmp_path, train=trainer)
    (file,) = tmp_path.glob(f"runs/*/cl/*/*/{RESULT}")
    from rasa.data.load import load_dataset

    sizes = load_dataset(run.config.data).sizes()
    file.write_text(json.dumps(read_json(file) | {"sizes": sizes}))
    again = planned(people, tmp_path, "optimisation.epochs=2")
    assert again.seconds == pytest.approx(4.0)
    longer = planned(people, tmp_path, "optimisation.epochs=6")
    works = [work_of(each.config, sizes) for each in (again, longer)]
    assert longer.seconds == pytest.approx(4.0 * works[1].total / works[0].total) and 8 < longer.seconds < 12
    assert planned(people, tmp_path, "optimisation.epochs=2", row="mlm").seconds > 4.5
