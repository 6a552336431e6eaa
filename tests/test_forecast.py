"""Hours, cost, memory and communication on devices that are not here, by hand."""

import json

import pytest

from experiments.footprint import Footprint
from experiments.forecast import Forecast, Speed, Step, accumulations, exchanged, forecast, shared, step_of
from experiments.forecast_text import as_json, lines, shortest
from experiments.hardware import DEVICES, UTILISATION, Device, device_of, kind_of
from experiments.plan import plan
from experiments.rundir import RESULT, read_json
from experiments.runner import execute
from experiments.spec import load_suite, resolve
from experiments.workload import Work
from rasa.commands.cli import main
from rasa.errors import SpecError
from tests.helpers.people import write_people
from tests.helpers.stand_in import trainer

GIB = 2**30
ONE = Device("one", 10, {"float32": 1.0}, 1.0, "made up", ("One",))  # 1 TFLOP/s, 10 GB, 1 GB/s


def config(*options, row="m-rtd", profile="paper"):
    suite = load_suite("table4")
    return resolve(suite, suite.row(row), profile, ["data.root=.", *options], 0)


def made_up(count, runs=("a",), batch=8, ranks=4, per_pair=1.0, share=0.5):
    """3 GiB and 1 GiB a pair; a step of 1 TFLOP; 100 steps, and evaluation of 54 TFLOP."""
    step = Step(1e12, 3 * GIB, per_pair * GIB, 0.0, 10**6, 100.0)
    own = config(f"optimisation.batch_size={batch}", f"fidelity.ranks={ranks}")
    work = Work(100, 100 * batch, 0.0, 54e12)
    rows = set(runs)
    return Forecast(
        dict.fromkeys(rows, step),
        dict.fromkeys(rows, work),
        dict.fromkeys(rows, Speed(share)),
        dict.fromkeys(rows, own),
        tuple(runs),
        ONE,
        count,
    )


def test_seconds_of_a_run_by_hand():
    """100 TFLOP at half of 1 TFLOP/s: 200 s, on two devices 100 s; evaluation on one: 54 / 0.54 = 100 s.

    Two devices exchange half of twice 4 MB and of 8 x 100 bytes in each step, at 0.7 GB/s.
    """
    found = made_up(2)
    assert found.times("a", 1) == pytest.approx((200.0, 0.0, 100.0))
    assert found.times("a", 2) == pytest.approx((100.0, 100 * (4e6 + 400) / 0.7e9, 100.0))
    assert exchanged(found.steps["a"], 8, 4) == 6e6 + 600


def test_memory_by_hand():
    """A line through 5 GiB at 2 pairs and 11 GiB at 8: 3 + 1 a pair. Two parts keep the gradients of the first."""
    whole, part = (Footprint(1.0, peak * GIB, GIB, GIB // 4, 80) for peak in (11, 5))
    step = step_of(whole, 8, part, 2, (16, 16))
    images = 2 * 3 * 16 * 16 * 4
    assert step.peak(8, 1) / GIB == pytest.approx(11) and step.peak(4, 1) / GIB == pytest.approx(7)
    assert step.peak(8, 2) == pytest.approx(7 * GIB + GIB + 4 * images)
    assert step.needed(8, 1) == pytest.approx(11 * 1.08 + 1.5)
    assert step.gathered == 10


def test_parts_of_a_batch_on_several_devices():
    """Of 52 pairs in 4 shares: parts cut no share; a device takes consecutive parts."""
    own = config()
    assert accumulations(own) == [1, 2, 4]
    assert [shared(own, *how) for how in ((1, 1), (1, 4), (2, 1), (2, 4), (4, 1), (4, 2))] == [
        (52, 1),
        (52, 4),
        (26, 1),
        (26, 2),
        (13, 1),
        (13, 1),
    ]


def test_the_least_accumulation_that_fits_is_taken():
    """8 pairs need 11 x 1.08 + 1.5 GiB, more than 10; 2 x 4 need 7 GiB, gradients and 1.5: 9.1."""
    layouts = made_up(4).layouts()
    assert [(each.devices, each.accumulation) for each in layouts] == [(1, 2), (2, 1), (4, 1)]
    none = made_up(1, per_pair=20.0)
    assert none.layouts()[0].accumulation is None and shortest(none) is None
    assert any(line.startswith("no layout fits 10 GB") for line in lines(none, None, "data"))


def test_runs_take_the_device_that_is_free_first():
    """Three runs of 300 s: on two devices one after another on one of them, 600 s; together on both three times 200."""
    found = made_up(2, runs=("a", "a", "a"))
    alone, both = found.layouts()
    assert found.wall(alone) == pytest.approx(600.0)
    assert found.wall(both) == pytest.approx(3 * sum(found.times("a", 2)))
    assert shortest(found) == alone
    told = as_json(found, 1.5, "data")
    assert told["layouts"][0]["cost"] == pytest.approx(1.5 * 2 * 600 / 3600)
    text = "\n".join(lines(found, 1.5, "data"))
    assert "0.50" in text and "3 runs on 2 x one (10 GB), data" in text and "made up" in text


def test_kinds_are_known_by_name():
    assert kind_of("NVIDIA H100 80GB HBM3") == "h100" and kind_of("NVIDIA A100-SXM4-40GB") == "a100-40"
    assert kind_of("NVIDIA GeForce RTX 4090") == "4090" and kind_of("cpu") is None
    assert kind_of("Tesla V100-SXM2-32GB") == "v100"
    assert all(device.source and device.tflops["float32"] > 0 for device in DEVICES.values())
    with pytest.raises(SpecError, match=r"no kind 'h10'; did you mean h100"):
        device_of("h10")
    assert DEVICES["v100"].precision("bf16") == "float32"


def test_measured_runs_of_the_same_model_on_the_same_kind_replace_what_is_assumed(tmp_path):
    """One device: 50 pairs/s of 2e12 / 32 FLOP. Another model's or another kind's run says nothing."""
    people = write_people(tmp_path / "people", train=4, val=2, test=2, images=1)
    suite = load_suite("table4")
    (run,) = plan(suite, [suite.row("cl")], "smoke", [f"data.root={people}", "optimisation.epochs=2"], [0], tmp_path)
    execute([run], tmp_path, train=trainer)
    (file,) = tmp_path.glob(f"runs/*/cl/*/*/{RESULT}")

    def speed(name="NVIDIA H100 80GB HBM3", options=(), processes=1):
        numerics = {"precision": "float32", "device": name, "processes": processes}
        cost = {"seconds": 1.0, "pairs_per_s": 50.0 * processes, "flops_per_step": 2e12}
        file.write_text(json.dumps(read_json(file) | {"numerics": numerics, "cost": cost}))
        own = config(*options, row="cl", profile="smoke")
        sizes = {name: {"images": 9, "captions": 90} for name in ("train", "val", "test")}
        return forecast({"cl": own}, {"cl": sizes}, ["cl"], DEVICES["h100"], "h100", 1, tmp_path).speeds["cl"]

    known = Speed(pytest.approx(50 * 2e12 / 32 / 67e12), 1, 50.0)
    assert speed() == known and speed(processes=2) == known
    assert speed("NVIDIA A100-SXM4-80GB") == speed(options=["model.vision_depth=2"]) == Speed(UTILISATION["float32"])


def test_the_command_says_hours_cost_memory_and_what_is_assumed(tmp_path, capsys):
    options = [
        "--profile",
        "paper",
        "-o",
        "model.vision_depth=1",
        "-o",
        "model.text_layers=1",
        "--workspace",
        str(tmp_path),
    ]
    words = ["plan", "table4/cl", *options, "--devices", "2", "--device-kind", "a100-80", "--price-per-hour", "2"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "1 run on 2 x A100 80 GB" in text and "68,126/6,158/6,156 captions of train/val/test, as published" in text
    assert "cost" in text and "assumed, no finished run" in text and "datasheet" in text and "in 24 GB" in text
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [layout["devices"] for layout in told["layouts"]] == [1, 2]
    assert told["rows"]["cl"]["steps"] == 30 * (68126 // 52)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--devices", "2"], "need --device-kind"),
        (["--device-kind", "h1000"], "did you mean h100"),
        (["--device-kind", "h100", "--until", "decided"], "do not go together"),
    ],
)
def test_what_does_not_go_together_is_refused(options, said, capsys):
    assert main(["plan", "table4/cl", "--profile", "paper", *options]) in (2, 3)
    assert said in capsys.readouterr().err
