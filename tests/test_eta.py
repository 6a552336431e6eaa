"""When a run will have ended: on a simulated clock, and of a real one."""

import io
import json
import os
import time

import pytest
from rich.console import Console

from experiments.eta import Shape, remaining, shape_of
from experiments.plan import plan
from experiments.progress import Display
from experiments.reached import reached
from experiments.rundir import (
    ABOUT,
    ENVIRONMENT,
    LOCK,
    METRICS,
    RESTORED,
    RESULT,
    Point,
    read_about,
    read_points,
    to_line,
    write_json,
)
from experiments.runner import execute
from experiments.spec import load_suite, resolve
from experiments.workload import benchmark_sizes, stages_of
from rasa.commands.cli import main
from rasa.config.benchmark import BenchmarkParams
from rasa.lock import Lock
from tests.helpers.people import write_people
from tests.helpers.stand_in import trainer

# 5 epochs of 40 steps; a validation has the FLOPs of 10 steps, a look at the test of 30, the end of 35.
SHAPE = Shape(200, 5, 1.0, 10.0, 30.0, 35.0)
STEP, START = 2.0, 1000.0


def story(every=4, look=False, pause=0.0, slower=1.0):
    """The figures of a run of SHAPE, and when it has ended: 2 s a FLOP of training, `slower` times that of evaluation.

    A step reports every so many steps; a pause comes in the middle of the second epoch.
    """
    now, points = START, []
    for step in range(SHAPE.steps):
        now += STEP + (pause if step == 60 else 0)
        if step % every == 0:
            points.append(Point("train", step, {"loss": 1.0}, now))
        if (step + 1) % SHAPE.per_epoch == 0:
            now += STEP * slower * SHAPE.validation
            points.append(Point("val", step + 1, {"r1": 1.0, "epoch": (step + 1) // SHAPE.per_epoch}, now))
            now += STEP * slower * SHAPE.look if look else 1.0  # a checkpoint takes a second
    return points, now + STEP * slower * SHAPE.end


@pytest.mark.parametrize("slower", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("look", [False, True])
@pytest.mark.parametrize("every", [1, 4, 7])
def test_from_the_first_epoch_on_the_end_is_known_within_15_percent(every, look, slower):
    shape = SHAPE if look else SHAPE._replace(look=0.0)
    points, ended = story(every, look, slower=slower)
    first = next(number for number, point in enumerate(points) if point.group == "val")
    for number in range(first, len(points)):
        left = ended - points[number].time
        assert remaining(points[: number + 1], shape, points[number].time) == pytest.approx(left, rel=0.15), number


def test_by_hand():
    """After an epoch: 160 steps of 2 s, 4 validations of 20 s, and the end, 35 FLOPs at 2 s: 470 s. Later is less."""
    shape = SHAPE._replace(look=0.0)
    points, _ = story()
    first = [point for point in points if point.step <= 40][:11]
    assert first[-1].group == "val"
    assert remaining(first, shape, first[-1].time) == pytest.approx(320 + 80 + 70)
    assert remaining(first, shape, first[-1].time + 100) == pytest.approx(370)
    assert remaining(first, shape, first[-1].time + 10_000) == 0.0
    # In the first epoch nothing is known of evaluation but its FLOPs: 36 more steps, 5 validations and the end.
    assert remaining(first[:2], shape, first[1].time) == pytest.approx(2 * (200 - 5) + 5 * 20 + 70)
    assert remaining(first[:1], shape, first[0].time) is None and remaining([], shape, 0.0) is None


def test_a_pause_is_no_step():
    points, ended = story(pause=5000.0)
    before_last = [point for point in points if point.step <= 120]
    left = ended - before_last[-1].time
    assert remaining(before_last, SHAPE._replace(look=0.0), before_last[-1].time) == pytest.approx(left, rel=0.05)


def test_after_the_test_little_is_left():
    points, ended = story()
    tested = [*points, Point("test", 200, {"r1": 1.0}, ended)]
    assert remaining(tested, SHAPE._replace(look=0.0), ended) < 10


def test_stages_by_hand():
    """smoke: 1,920 captions in batches of 32, at most 30 steps an epoch, 5 epochs; the probe asks each query twice."""
    suite = load_suite("table4")
    sizes = benchmark_sizes(BenchmarkParams(train_identities=240, val_identities=16, test_identities=32))
    usual, gap, probe = (
        stages_of(resolve(suite, suite.row("m-rtd"), "smoke", options, 0), sizes)
        for options in ([], ["evaluation.selection_gap=true"], ["evaluation.sensitivity=1000"])
    )
    assert usual[:2] == (150, 5) and usual[4] == 0.0
    assert gap[4] == usual[5] and gap[:4] == usual[:4]
    assert 6 < probe[5] / usual[5] < 7  # three kinds of 256 queries, twice, with the gallery encoded once more


@pytest.fixture
def running(tmp_path):
    """A run of the stand-in as it was after its first epoch, its lock held, on data of which the sizes are recorded."""
    people = write_people(tmp_path / "people", train=10, val=2, test=4, images=2)
    suite = load_suite("table4")
    options = [f"data.root={people}", "optimisation.epochs=4", "optimisation.max_steps_per_epoch=5"]
    options += ["optimisation.batch_size=4"]
    (run,) = plan(suite, [suite.row("cl")], "smoke", options, [0], tmp_path)
    execute([run], tmp_path, train=trainer)
    (run.directory / RESULT).unlink()
    assert read_about(run.directory).data_sizes["train"]["captions"] >= 20
    now = time.time()
    points = [Point("train", step, {"loss": 1.0}, now - 60 + 10 * step) for step in range(5)]
    points.append(Point("val", 5, {"r1": 1.0, "epoch": 1}, now))
    (run.directory / METRICS).write_text("".join(map(to_line, points)))
    with Lock(run.directory / LOCK) as lock:
        assert lock.acquired
        yield run


def test_status_says_what_is_left_of_a_run_that_goes_on(running, tmp_path, capsys):
    """15 steps of 10 s and three validations of 20 s, and the test."""
    assert main(["status", "--workspace", str(tmp_path), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    shape = shape_of(running.about)
    expected = 15 * 10 + 3 * 20 + 20 * shape.end / shape.validation
    assert told["state"] == "running" and told["remaining_seconds"] == pytest.approx(expected, abs=10)
    assert main(["status", "--workspace", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "LEFT" in text and "about 4 min" in text


def test_status_says_nothing_of_an_interrupted_run_or_without_sizes(running, tmp_path, capsys):
    about = json.loads((running.directory / ABOUT).read_text())
    write_json(running.directory / ABOUT, about | {"data_sizes": {}})
    assert reached(running.directory, read_about(running.directory), running=True).left is None
    write_json(running.directory / ABOUT, about | {"identity": {}})
    assert reached(running.directory, read_about(running.directory), running=True).left is None
    write_json(running.directory / ABOUT, about)
    os.rename(running.directory / LOCK, running.directory / "kept.lock")
    assert main(["status", "--workspace", str(tmp_path), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["state"] == "interrupted" and told["remaining_seconds"] is None


def test_the_bar_and_the_line_of_an_epoch_say_what_is_left(running):
    now = [0.0]
    screen = io.StringIO()
    (running.directory / METRICS).unlink()
    with Display(1, Console(file=screen, width=200, highlight=False), lambda: now[0]) as display:
        display.on_start(running)
        for step in range(5):
            now[0] += 10
            display.on_metrics(running.about, "train", step, {"loss": 1.0})
        now[0] += 20
        display.on_metrics(running.about, "val", 5, {"r1": 1.0, "epoch": 1})
    assert "epoch 1 val R@1 1.00, about 4 min left" in screen.getvalue()


def seed_one(running, tmp_path, end, **changed):
    """Another seed of the row that is finished: steps of 1 s, a validation of 4 s, and `end` seconds after it."""
    suite = load_suite("table4")
    given = [f"data.root={tmp_path / 'people'}", "optimisation.epochs=4", "optimisation.max_steps_per_epoch=5"]
    given += ["optimisation.batch_size=4", *(f"{name}={value}" for name, value in changed.items())]
    (run,) = plan(suite, [suite.row("cl")], "smoke", given, [1], tmp_path)
    execute([run], tmp_path, train=trainer)
    points = [Point("train", step, {"loss": 1.0}, float(step)) for step in range(20)]
    points.append(Point("val", 20, {"r1": 1.0, "epoch": 4}, 23.0))
    points += [Point("test", 20, {"r1": 1.0}, 24.0), Point("cost", 20, {"seconds": 1.0}, 23.0 + end)]
    (run.directory / METRICS).write_text("".join(map(to_line, points)))
    assert run.directory.parent == running.directory.parent
    return run.directory


def test_the_end_takes_as_many_validations_as_it_took_another_seed(running, tmp_path):
    """12 s after a validation of 4: three validations of 20 s, where the FLOPs alone say something else."""
    assert shape_of(running.about, running.directory) == shape_of(running.about)
    other = seed_one(running, tmp_path, end=12.0)
    shape = shape_of(running.about, running.directory)
    assert shape == shape_of(running.about)._replace(end=pytest.approx(3 * shape.validation))
    about = read_about(running.directory)
    assert reached(running.directory, about, running=True).left == pytest.approx(15 * 10 + 3 * 20 + 60, abs=10)
    write_json(other / ENVIRONMENT, {"gpus": ["a GPU"]})
    assert shape_of(running.about, running.directory) == shape_of(running.about)
    write_json(other / ENVIRONMENT, {"gpus": []})
    assert shape_of(running.about, running.directory) == shape
    (other / RESTORED).touch()  # of another machine
    assert shape_of(running.about, running.directory) == shape_of(running.about)
    (other / RESTORED).unlink()
    (other / ABOUT).write_text("{")
    assert shape_of(running.about, running.directory) == shape_of(running.about)


def test_a_seed_of_another_config_tells_nothing_of_the_end(running, tmp_path):
    seed_one(running, tmp_path, end=12.0, **{"evaluation.topk": 3})
    assert shape_of(running.about, running.directory) == shape_of(running.about)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_run_ends_when_it_was_said_after_its_first_epoch(tmp_path):
    """At `smoke`, within a third of the whole run's time: other programs come and go on the machine (docs/LOG.md)."""
    words = ["-o", "optimisation.epochs=8", "-o", "evaluation.sensitivity=50", "--workspace", str(tmp_path)]
    assert main(["run", "table4/m-rtd", *words]) == 0
    (directory,) = [path.parent for path in tmp_path.glob(f"runs/table4/m-rtd/*/*/{RESULT}")]
    points, shape = read_points(directory), shape_of(read_about(directory))
    first = next(number for number, point in enumerate(points) if point.group == "val")
    said, ended = remaining(points[: first + 1], shape, points[first].time), points[-1].time
    left, whole = ended - points[first].time, ended - points[0].time
    print(f"after epoch 1: {said:.1f} s left; it took {left:.1f} s of {whole:.1f} s")
    assert abs(said - left) < max(whole / 3, 3)
