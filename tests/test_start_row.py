"""The start is a row: evaluated once from end to end, planned, recorded, tracked, and the first line of every table."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from experiments import store, tracking
from experiments.outcome import NO_CALLBACKS, raise_for
from experiments.plan import data_reader, plan, planned_again, recorded_runs
from experiments.rundir import FAILURE, METRICS, PREDICTIONS, RESULT, read_json, read_points
from experiments.runner import execute
from experiments.spec import load_suite
from experiments.start import plan_starts, without_headroom
from experiments.uploader import Tracker, sync
from rasa.commands.cli import main
from rasa.config.run import Config
from rasa.data.load import load_dataset
from rasa.data.tokenizer import train_tokenizer
from rasa.errors import RunFailed, SpecError, SuiteFailed
from rasa.evaluation.checkpoint import evaluate_start
from rasa.model.rasa import build_model
from rasa.weights.folder import save_checkpoint
from rasa.weights.released import to_released
from reports.build import build
from reports.formats import csv_table, html, latex, markdown
from reports.load import Queries, Start
from reports.starts import NO_HEADROOM, OverStart, beats_start, headroom, over_start, start_lines
from reports.tables import FIGURES, Line, Spread
from tests.helpers.people import tiny_config, write_people
from tests.helpers.searching import fresh_store

CL = {"objectives": {"weights": {"cl": 0.5}, "positives": "annotated"}}
ITM = {"objectives": {"weights": {"cl": 0.5, "itm": 1.0}, "positives": "annotated"}}
SIZES = {"train": 4, "val": 4, "test": 6, "images": 2}
HEADS = ["-o", "model.vision_heads=2", "-o", "model.text_heads=2"]


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def write_start(folder: Path, root: Path, losses=None, seed=0) -> Path:
    """Random weights of the tiny model in a checkpoint folder, and beside it their vocabulary."""
    config = Config.model_validate(tiny_config(root, losses or {"cl": 0.5, "itm": 1.0}) | {"seed": seed})
    tokenizer = train_tokenizer(load_dataset(config.data).splits["train"].captions, 2000)
    model = build_model(config, tokenizer.vocabulary_size, tokenizer.pad_id)
    save_checkpoint(folder, to_released(model, redundant=False), {})
    tokenizer.save(folder.parent / "vocab.txt")
    return folder


def write_suite(workspace: Path, name="own", rows=None, **sections) -> str:
    """A suite of CL and ITM, or of `rows`, from the weights in the workspace."""
    base = tiny_config(workspace / "people", {"cl": 0.5, "itm": 1.0})
    base["data"] |= {"tokenizer": str(workspace / "vocab.txt")}
    base["model"] |= {"weights": str(workspace / "weights")}
    base["optimisation"] |= {"epochs": 1, "max_steps_per_epoch": 2}
    for section in ("data", "objectives"):
        values = base.pop(section)
        base |= {} if section == "objectives" else {section: {k: v for k, v in values.items() if k != "root"}}
    base = base | {section: base[section] | values for section, values in sections.items()}
    rows = rows or [{"name": "cl", "changes": CL}, {"name": "itm", "versus": "cl", "changes": ITM}]
    file = workspace / f"{name}.yaml"
    file.write_text(
        json.dumps(
            {
                "suite": name,
                "title": "A test",
                "labels": ["Module", "Setting"],
                "base": base,
                "rows": [row | {"labels": ["M", row["name"].upper()]} for row in rows],
            }
        )
    )
    return str(file)


@pytest.fixture
def workspace(tmp_path):
    write_people(tmp_path / "people", **SIZES)
    write_start(tmp_path / "weights", tmp_path / "people")
    return tmp_path


def planned(workspace: Path, file: str, seeds=(0,), overrides=()):
    """The starts and the runs."""
    suite, read = load_suite(file), data_reader()
    given = [f"data.root={workspace / 'people'}", *overrides]
    starts = plan_starts(suite, suite.rows, "smoke", given, workspace, read)
    return starts, plan(suite, suite.rows, "smoke", given, seeds, workspace, read)


def trainer(config, directory, log, should_stop, resume_from_step, cache, notify):
    """Stands in for training: CL answers the first query of each person, ITM both; validation is 40 and 60."""
    itm = "itm" in config.objectives.weights
    identity = np.repeat(np.arange(9, 15), 4)  # six people, two images each, two captions each
    hits = np.ones(24, bool) if itm else np.arange(24) % 2 == 0
    figures = {"first_rank": np.where(hits, 1, 2), "average_precision": np.where(hits, 1.0, 0.5)}
    save_file(figures | {"identity": identity}, directory / PREDICTIONS)
    test = {name: 100.0 * hits.mean() for name in ("r1", "r5", "r10", "map", "stage1_r1")}
    log("test", 1, test)
    validation = {"r1": 60.0 if itm else 40.0, "stage1_r1": 30.0}
    return {
        "test": test,
        "selected": {"epoch": 1, "step": 1, "val": validation},
        "last": {"epoch": 1},
        "cost": {"seconds": 1.0, "steps": 1},
    }


def fill_store(workspace: Path) -> None:
    """An empty store, whose tables take seconds to make."""
    (workspace / store.DATABASE).write_bytes(fresh_store())


def tracked(workspace: Path):
    """A watch that files what happens in the workspace's store."""
    fill_store(workspace)
    tracker = Tracker(store.default_uri(workspace), workspace, print)
    assert tracker.open()
    return NO_CALLBACKS._replace(deliver=tracker.deliver)


def reported(workspace: Path, file: str):
    return build(load_suite(file), "smoke", [f"data.root={workspace / 'people'}"], store.default_uri(workspace))


def runs_of(workspace: Path, suite: str, kind: str):
    client = store.open_store(store.default_uri(workspace))
    experiment = client.get_experiment_by_name(suite).experiment_id
    return client.search_runs([experiment], f"tags.`{tracking.KIND}` = '{kind}'")


def test_from_end_to_end(workspace, capsys):
    """Two rows, two seeds, two workers: one evaluation, whose figures are those of `rasa evaluate`; then it is kept."""
    file = write_suite(workspace)
    fill_store(workspace)
    command = [file, "--seeds", "0,1", "-o", f"data.root={workspace / 'people'}", "--workspace", str(workspace)]
    assert main(["plan", *command]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("own/start                    new: never run") and lines[-1].startswith("5 of 5 to run")

    assert main(["run", *command, "--jobs", "2"]) == 0
    out, err = capsys.readouterr()
    assert err.count("own/start: evaluating, no training") == 1 and len(out.splitlines()) == 5
    (directory,) = workspace.glob("runs/own/start/smoke/seed-0-*")
    result, predictions = read_json(directory / RESULT), load_file(directory / PREDICTIONS)
    files = {path.name for path in directory.iterdir() if not path.name.startswith(".")}
    assert files >= {"spec.yaml", "run.json", "environment.json", METRICS, RESULT, PREDICTIONS}
    other = next(workspace.glob(f"runs/own/itm/smoke/seed-0-*/{PREDICTIONS}"))
    assert {name: value.shape for name, value in predictions.items()} == {
        name: value.shape for name, value in load_file(other).items()
    }
    alone = [
        "evaluate",
        str(workspace / "weights"),
        "--data",
        str(workspace / "people"),
        *HEADS,
        "--json",
        "-o",
        f"data.tokenizer={workspace / 'vocab.txt'}",
        "-o",
        "data.max_tokens=24",
        "-o",
        "evaluation.topk=6",
        "-o",
        "data.image_size=[32, 16]",
        "-o",
        "fidelity=paper",
    ]
    for split, figures in (("test", result["test"]), ("val", result["selected"]["val"])):
        assert main([*alone, "--split", split]) == 0
        found = json.loads(capsys.readouterr().out)["metrics"]
        assert found == {name: value for name, value in figures.items() if name != "epoch"}
    assert 100 * (predictions["first_rank"] == 1).mean() == pytest.approx(result["test"]["r1"])
    assert 100 * (predictions["stage1_first_rank"] == 1).mean() == pytest.approx(result["test"]["stage1_r1"])

    (run,) = runs_of(workspace, "own", "start")
    assert len(runs_of(workspace, "own", "seed")) == 4 and len(runs_of(workspace, "own", "row")) == 2
    assert (run.info.run_name, run.info.status, run.data.tags["rasa.state"]) == ("start", "FINISHED", "finished")
    assert "mlflow.parentRunId" not in run.data.tags and run.data.tags["rasa.row"] == "start"
    for name in ("r1", "map", "stage1_r1", "stage1_map"):
        assert run.data.metrics[f"test/{name}"] == result["test"][name]
        assert run.data.metrics[f"val/{name}"] == result["selected"]["val"][name]
    assert run.data.params["evaluation.topk"] == "6"

    written = (directory / RESULT).read_bytes()
    assert main(["run", *command]) == 0
    assert "evaluating" not in capsys.readouterr().err and (directory / RESULT).read_bytes() == written
    assert main(["plan", *command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told[0]["row"], told[0]["state"], len(told)) == ("start", "finished", 5)
    assert main(["status", "--workspace", str(workspace)]) == 0
    shown = capsys.readouterr().out.splitlines()[1].split()
    assert shown[:4] == ["own/start", "smoke", result["run_id"], "finished"]
    assert shown[4:7] == [f"{result['selected']['val']['r1']:.2f}", f"{result['test']['r1']:.2f}", "-"]  # no epochs
    assert sync(workspace, store.default_uri(workspace), print) == (5, 0, 5)
    assert len(runs_of(workspace, "own", "start")) == 1

    assert main(["report", *command[:1], *command[3:]]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in table[2:6]] == [
        "start (no training)",
        "start (no training), stage 1",
        "CL",
        "ITM",
    ]
    assert table[2].split("|")[2].strip() == "-"  # no seeds, and so no spread
    assert f"{result['test']['r1']:.1f}" in table[2] and f"{result['test']['stage1_r1']:.1f}" in table[3]
    assert "±" not in table[2] + table[3]


def test_its_id_is_of_what_ranks(workspace):
    """Nothing of training is in it; weights, vocabulary, data and retrieval are."""
    file = write_suite(workspace)

    def run_id(*overrides: str) -> str:
        ((start,), _) = planned(workspace, file, overrides=overrides)
        return start.about.run_id

    same = run_id()
    for override in (
        "optimisation.epochs=3",
        "optimisation.learning_rate=0.5",
        "model.queue_size=7",
        "model.momentum=0.1",
        "fidelity.ema_timing=after",
        "objectives.p_mask=0.2",
        "evaluation.selection_gap=true",
        "evaluation.batch_size=3",
        "data.flip_probability=0.1",
        "optimisation.threads=2",
    ):
        assert run_id(override) == same, override
    others = {
        run_id(override)
        for override in (
            "evaluation.topk=5",
            "evaluation.precision=bf16",
            "evaluation.sensitivity=3",
            "fidelity.ranking_score=logit",
            "fidelity.beyond_topk=tied",
            "data.image_size=[16, 16]",
            "data.max_tokens=20",
            "data.max_words=9",
            "model.text_heads=1",
        )
    }
    assert len(others | {same}) == 10
    write_start(workspace / "weights", workspace / "people", seed=1)
    assert run_id() not in others | {same}


def test_another_topk_is_another_start_and_says_so(workspace):
    file = write_suite(workspace)
    (starts, _) = planned(workspace, file)
    execute(starts, workspace)
    ((again,), _) = planned(workspace, file)
    assert again.state == "finished"
    ((other,), _) = planned(workspace, file, overrides=["evaluation.topk=3"])
    assert (other.state, other.reason) == ("new", "an earlier run differs in evaluation.topk (6 -> 3)")
    assert other.seconds == pytest.approx(read_json(again.directory / RESULT)["cost"]["seconds"])


def test_two_suites_share_it(workspace):
    """The second copies what the first has, whatever its rows learn."""
    first = write_suite(workspace)
    execute(planned(workspace, first)[0], workspace)
    second = write_suite(workspace, "two", [{"name": "p", "changes": ITM}], optimisation={"epochs": 5})
    ((start,), _) = planned(workspace, second)
    assert (start.state, start.reason, start.seconds) == ("new", "as the finished own/start, which will be copied", 0.0)
    (outcome,) = execute([start], workspace, callbacks=tracked(workspace))
    result = read_json(start.directory / RESULT)
    assert outcome.state == "finished" and result["copied_from"] == "own/start" and result["suite"] == "two"
    assert (start.directory / PREDICTIONS).read_bytes() == next(
        workspace.glob(f"runs/own/start/*/*/{PREDICTIONS}")
    ).read_bytes()
    (run,) = runs_of(workspace, "two", "start")
    assert run.data.tags["rasa.copied_from"] == "own/start"


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.test_start_row import planned, execute, NO_CALLBACKS
def on_metrics(about, group, step, values):
    if group == "test":
        os.kill(os.getpid(), signal.SIGKILL)
workspace = Path(sys.argv[2])
callbacks = NO_CALLBACKS._replace(on_metrics=on_metrics)
execute(planned(workspace, str(workspace / "own.yaml"))[0], workspace, callbacks=callbacks)
"""


def test_killed_in_between_it_is_done_again(workspace):
    """Nothing is resumed: each figure is reported once, and the result is that of an evaluation that was not killed."""
    file = write_suite(workspace)
    arguments = [sys.executable, "-c", KILLED, str(Path(__file__).parents[1]), str(workspace)]
    assert subprocess.run(arguments, check=False).returncode == -9
    ((start,), _) = planned(workspace, file)
    assert start.state == "interrupted" and not (start.directory / RESULT).exists()
    assert {point.group for point in read_points(start.directory)} == {"val", "test"}
    (outcome,) = execute([start], workspace)
    assert outcome.state == "finished"
    assert [point.group for point in read_points(start.directory)] == ["val", "test", "cost"]


def test_told_to_stop_it_stops(workspace):
    ((start,), _) = planned(workspace, write_suite(workspace))
    with pytest.raises(KeyboardInterrupt):
        evaluate_start(start.config, workspace, lambda *figures: None, should_stop=lambda: True)


def test_its_failure_says_why_and_stops_no_row(workspace):
    """Weights of another vocabulary; beside a single run that alone is to blame, the suite's exit code is not asked."""
    (workspace / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nperson\n")
    file = write_suite(workspace)
    starts, runs = planned(workspace, file)
    outcomes = execute([*starts, *runs], workspace, train=trainer)
    assert [outcome.state for outcome in outcomes] == ["failed", "finished", "finished"]
    assert "give the vocabulary that it was trained with" in read_json(starts[0].directory / FAILURE)["message"]
    with pytest.raises(SuiteFailed, match="1 of 3 runs failed: own/start;"):
        raise_for(outcomes)
    with pytest.raises(RunFailed, match="own/start: data.tokenizer: ") as alone:
        raise_for(outcomes[:2])
    assert alone.value.exit_code == 5
    (found,) = [run for run in recorded_runs(workspace, "own") if run.state == "failed"]
    write_start(workspace / "weights", workspace / "people")  # which writes the vocabulary, too
    assert execute([planned_again(found, workspace)], workspace)[0].state == "finished"


def test_a_row_of_that_name_is_refused(workspace):
    with pytest.raises(
        SpecError, match="rows: start is the line of the weights before training; name the row otherwise"
    ):
        load_suite(write_suite(workspace, rows=[{"name": "start", "changes": CL}]))


@pytest.mark.parametrize(
    ("suite", "profile", "variants"),
    [
        ("table4", "smoke", []),
        ("table4", "synth", [""]),
        ("table8", "synth", [""]),  # CLIP's rows start at random
        ("noise", "synth", [f"synthetic.noise {noise}" for noise in (0.0, 0.5, 1.0, 2.0)]),
        (
            "table7",
            "synth",
            [
                f"synthetic.domain {one}, target.synthetic.domain {two}"
                for one, two in (("day", "evening"), ("evening", "day"))
            ],
        ),
    ],
)
def test_one_for_each_that_the_rows_use(tmp_path, suite, profile, variants):
    """Data that is not built yet is told apart by its parameters."""
    loaded = load_suite(suite)
    starts = plan_starts(loaded, loaded.rows, profile, [], tmp_path)
    assert [start.about.variant for start in starts] == variants
    assert {(start.state, start.directory) for start in starts} <= {("new", None)}
    one = plan_starts(loaded, loaded.rows[-1:], profile, [], tmp_path)  # named as among all
    assert [start.about.variant for start in one] == variants[-1:]
    assert all(start.seconds and start.seconds < 60 * loaded.expected_minutes[profile] for start in starts)


def test_weights_without_an_itm_head_rank_by_stage_1(workspace):
    """One line says so; the row that re-ranks is compared with it, since there is nothing else."""
    write_start(workspace / "weights", workspace / "people", {"cl": 0.5})
    file = write_suite(workspace)
    starts, runs = planned(workspace, file)
    execute([*starts, *runs], workspace, callbacks=tracked(workspace), train=trainer)
    result = read_json(starts[0].directory / RESULT)
    assert result["reranked"] is False and result["test"]["r1"] == result["test"]["stage1_r1"]
    report = reported(workspace, file)
    assert [line.labels["Setting"] for line in report.starts] == ["start (no training), stage 1"]
    assert {gain.versus for gain in report.over_start.values()} == {"start, stage 1"}
    assert "No ITM head is in the weights that cl, itm start from" in " ".join(report.notes)


def test_the_table_begins_with_it_and_says_what_was_gained(workspace):
    """CL reaches 50 and ITM 100 in both seeds, so their gains are 50 minus the start's stage 1
    and 100 minus its R@1."""
    file = write_suite(workspace)
    starts, runs = planned(workspace, file, seeds=[0, 1])
    execute([*starts, *runs], workspace, callbacks=tracked(workspace), train=trainer)
    result = read_json(starts[0].directory / RESULT)
    report = reported(workspace, file)
    gains = report.over_start
    assert gains["cl"].value == pytest.approx(50 - result["test"]["stage1_r1"])
    assert gains["itm"].value == pytest.approx(100 - result["test"]["r1"])
    assert gains["itm"].beats and not report.above
    records = list(csv.DictReader(io.StringIO(csv_table(report))))
    assert [(record["row"], record["state"], record["start"]) for record in records] == [
        ("start", "untrained", "NA"),
        ("start, stage 1", "untrained", "NA"),
        ("cl", "finished", "start, stage 1"),
        ("itm", "finished", "start"),
    ]
    assert float(records[1]["test_map_mean"]) == result["test"]["stage1_map"]
    assert float(records[1]["val_r1_mean"]) == result["selected"]["val"]["stage1_r1"]
    assert float(records[0]["val_r1_mean"]) == result["selected"]["val"]["r1"]
    assert records[3]["beats_start"] == "true" and float(records[3]["over_start_r1"]) == gains["itm"].value
    for text in (markdown(report), latex(report), html(report)):
        table = text[text.index("Results on the test split") :]
        assert table.index("start (no training)") < table.index("start (no training), stage 1") < table.index("ITM")
    assert "compared with the start's stage 1: cl." in markdown(report)


def test_no_row_above_its_start_is_no_headroom(workspace):
    """A start that answers as ITM does, and by stage 1 as CL: the gains are 0, which is said above every table."""
    file = write_suite(workspace)
    starts, runs = planned(workspace, file)
    execute(starts, workspace)
    (start,) = starts
    kept, result = load_file(start.directory / PREDICTIONS), read_json(start.directory / RESULT)
    kept |= {"first_rank": np.full(24, 1), "stage1_first_rank": np.where(np.arange(24) % 2, 2, 1)}
    save_file(kept, start.directory / PREDICTIONS)
    result["test"] |= {"r1": 100.0, "stage1_r1": 50.0}
    (start.directory / RESULT).write_text(json.dumps(result))
    lines = [json.loads(line) for line in (start.directory / METRICS).read_text().splitlines()]
    for line in lines:
        line["values"] |= {"r1": 100.0, "stage1_r1": 50.0} if line["group"] == "test" else {}
    (start.directory / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    starts, runs = planned(workspace, file)
    execute([*starts, *runs], workspace, callbacks=tracked(workspace), train=trainer)
    report = reported(workspace, file)
    assert {row: (gain.value, gain.low, gain.high) for row, gain in report.over_start.items()} == {
        "cl": (0.0, 0.0, 0.0),
        "itm": (0.0, 0.0, 0.0),
    }
    above = markdown(report).partition("Results on the test split")[0]
    assert f"**{NO_HEADROOM}**" in " ".join(above.split())
    assert f'<p class="warning">{NO_HEADROOM}</p>' in html(report) and f"% {NO_HEADROOM}" in latex(report)


def test_rows_whose_start_was_not_evaluated_say_so(workspace):
    file = write_suite(workspace)
    _, runs = planned(workspace, file)
    execute(runs, workspace, callbacks=tracked(workspace), train=trainer)
    report = reported(workspace, file)
    assert not report.starts and not report.over_start
    assert any(
        "The weights that cl, itm started from were not evaluated: start them with `rasa run" in note
        for note in report.notes
    )


def test_plan_warns_of_a_start_near_the_best_row(workspace, capsys):
    """ITM reaches 60 on validation: 54 is nine tenths of it.

    CL's 40 counts only before a re-ranking row has finished.
    """
    file = write_suite(workspace)
    starts, runs = planned(workspace, file)
    execute([*starts, *runs], workspace, train=trainer)

    def warned(r1: float, stage1: float, of=runs) -> list[str]:
        result = read_json(starts[0].directory / RESULT)
        result["selected"]["val"] |= {"r1": r1, "stage1_r1": stage1}
        (starts[0].directory / RESULT).write_text(json.dumps(result))
        return list(without_headroom(starts, of))

    assert warned(54.0, 50.0) == []
    assert warned(54.5, 0.0) == [
        (
            "own/start reaches 54.5 R@1 on validation with no training, the best finished row (itm) 60.0: there is "
            "little headroom in which rows could differ"
        )
    ]
    assert warned(99.0, 36.0, runs[:1]) == []
    assert "the best finished row (cl) 40.0" in warned(0.0, 36.5, runs[:1])[0]
    assert warned(99.0, 99.0, []) == []
    warned(59.0, 0.0)
    command = [file, "-o", f"data.root={workspace / 'people'}", "--workspace", str(workspace)]
    assert main(["plan", *command]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("warning: own/start reaches 59.0") and "warning" not in out


def test_on_another_data_set_and_with_the_probe(tmp_path):
    """As a run's test: the target is searched, the own test split is the source, and single words are exchanged."""
    home, away = (write_people(tmp_path / name, **SIZES, seed=seed) for name, seed in (("home", 0), ("away", 7)))
    write_start(tmp_path / "weights", home)
    values = tiny_config(
        home,
        {"cl": 0.5},
        evaluation={"sensitivity": 5},
        model={"weights": str(tmp_path / "weights")},
        data={"tokenizer": str(tmp_path / "vocab.txt"), "target": {"root": str(away)}},
    )
    points = []
    found = evaluate_start(Config.model_validate(values), tmp_path, lambda *point: points.append(point))
    assert [(group, step) for group, step, _ in points] == [
        ("val", 0),
        ("test", 0),
        ("source", 0),
        ("probe", 0),
        ("cost", 0),
    ]
    alone = tiny_config(
        home, {"cl": 0.5}, model={"weights": str(tmp_path / "weights")}, data={"tokenizer": str(tmp_path / "vocab.txt")}
    )
    assert evaluate_start(Config.model_validate(alone), tmp_path, lambda *point: None)["test"] == found["source"]
    assert found["test"] != found["source"] and found["reranked"] and found["sensitivity"]["colour_queries"] == 5


IDENTITY = np.array([7, 7, 9, 9, 11, 12])


def _start(first, stage1, reranked=True, rows=("cl", "itm")):
    """A start that finds its first right images at these ranks."""
    figures = {
        f"test/{name}": 100 * float(np.mean(np.array(ranks) == 1))
        for name, ranks in (("r1", first), ("stage1_r1", stage1))
    }
    return Start("", rows, reranked, figures, Queries(np.array(first), np.ones(6), IDENTITY), np.array(stage1))


def _row(name, *answers, versus=None):
    """A row whose seeds answer these queries, and what is known of them."""
    figures = {figure: Spread({}) for figure in FIGURES}
    figures["r1"] = Spread({seed: 100 * float(np.mean(hits)) for seed, hits in enumerate(answers)})
    line = Line(name, {"S": name}, "finished", {}, figures, {}, versus, Spread({}), None)
    known = {(name, seed): Queries(np.where(hits, 1, 2), np.ones(6), IDENTITY) for seed, hits in enumerate(answers)}
    return line, known


def test_gains_by_hand():
    """Six queries of four people. The start answers 1 and 2 (33.3), by stage 1 the first alone (16.7).

    CL answers 1 to 3: 50 - 16.7 = 33.3, like with like. ITM answers all: 66.7. Person 7 gains 0, 9 200, 11 and 12 100,
    so the rests are -133.3, 66.7, 33.3, 33.3, their squares 24444 in all, times 4 / 3 / 36: 905, and 3.182 times its
    root is 95.7. A row of seeds 4/6 and 6/6 gains 33.3 and 66.7: mean 50, sd 23.6, and with one degree of freedom t is
    12.706, so over seeds alone it is 50 ± 12.706 * 16.7 = ± 211.8, which contains 0.
    """
    start = _start([1, 1, 2, 2, 2, 2], [1, 2, 2, 2, 2, 2], rows=("cl", "itm", "two"))
    rows = [_row("cl", [1, 1, 1, 0, 0, 0]), _row("itm", [1] * 6), _row("two", [1, 1, 1, 1, 0, 0], [1] * 6)]
    lines, known = [line for line, _ in rows], {key: value for _, each in rows for key, value in each.items()}
    stage1 = {"cl": True, "itm": False, "two": False}
    gains = over_start(lines, [start], stage1, known)
    assert (gains["cl"].versus, gains["itm"].versus) == ("start, stage 1", "start")
    assert gains["cl"].value == pytest.approx(100 / 3) and gains["itm"].value == pytest.approx(200 / 3)
    assert gains["itm"].low == pytest.approx(200 / 3 - 95.7, abs=0.1)
    assert gains["two"].value == pytest.approx(50)
    assert gains["two"].low <= 50 - 211.7 and gains["two"].high >= 50 + 211.7
    assert beats_start(gains) == {"cl": gains["cl"].low > 0, "itm": False, "two": False}
    assert headroom(gains) == [NO_HEADROOM]  # four people are too few to tell even 66.7 points

    alone = over_start(lines, [_start([1] * 6, [1, 2, 2, 2, 2, 2], rows=("itm", "two"))], stage1, known)
    assert alone["itm"][1:] == (100.0, 0.0, 1, 0.0, 0.0) and alone.keys() == {"itm", "two"}
    assert headroom(alone) == [NO_HEADROOM] and headroom({}) == []
    bare = over_start(lines, [_start([1, 1, 2, 2, 2, 2], [1, 2, 2, 2, 2, 2], False, ("itm",))], stage1, known)
    assert bare["itm"].versus == "start, stage 1" and bare["itm"].value == pytest.approx(500 / 6)


def test_a_gain_without_the_queries_needs_seeds():
    """Of one seed without ranks nothing is known, so no headroom is not said either; of three, the interval over seeds.

    50, 60, 70 minus 33.3: mean 26.7, sd 10, t 4.303 with two degrees of freedom: ± 24.8.
    """
    start = _start([1, 1, 2, 2, 2, 2], [2] * 6, rows=("one", "three"))
    figures = [_row("one", [1] * 6)[0], _row("three", [1] * 6)[0]]
    figures[1].figures["r1"] = Spread({0: 50.0, 1: 60.0, 2: 70.0})  # type: ignore[index]
    gains = over_start(figures, [start], {"one": False, "three": False}, {})
    assert (gains["one"].low, gains["one"].beats) == (None, None)
    assert gains["three"].low == pytest.approx(80 / 3 - 24.84, abs=0.01) and gains["three"].beats
    assert headroom(gains) == []  # one row that is known to beat its start is headroom
    assert headroom(gains | {"below": OverStart("start", 50.0, -9.0, 3, -12.0, -6.0)}) == []  # whatever others do
    assert headroom({"one": gains["one"]}) == []
    assert headroom({"one": gains["one"], "other": OverStart("start", 50.0, 1.0, 3, -1.0, 3.0)}) == [NO_HEADROOM]


def test_lines_of_several_starts_are_told_apart():
    suite = load_suite("noise")
    starts = [_start([1] * 6, [1] * 6), _start([1] * 6, [1] * 6)]
    starts = [
        Start(f"synthetic.noise {noise}", *list(start.__dict__.values())[1:])
        for noise, start in zip((0.0, 0.5), starts, strict=True)
    ]
    lines = start_lines(starts, suite)
    assert [line.labels["Noise"] for line in lines] == [
        "start (no training), synthetic.noise 0.0",
        "start (no training), stage 1, synthetic.noise 0.0",
        "start (no training), synthetic.noise 0.5",
        "start (no training), stage 1, synthetic.noise 0.5",
    ]
    assert len({line.name for line in lines}) == 4
