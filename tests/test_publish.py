"""Published reports: what is kept of a query, the folder, the check of every digit, and going on from the runs in it.

Rows are "trained" by a stand-in that draws a ranking; the weights that they start from are evaluated for real.
"""

import csv
import io
import json
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file
from scipy.stats import norm

from experiments import predictions
from experiments.evaluate import evaluate
from experiments.plan import plan
from experiments.records import PACKED, read_record, read_run
from experiments.rundir import ENVIRONMENT, METRICS, PREDICTIONS, RESULT, find_runs, read_json
from experiments.runner import execute
from experiments.spec import load_suite
from experiments.start import plan_starts
from experiments.state_commands import plan as plan_command
from experiments.state_commands import status
from experiments.store import default_uri
from experiments.uploader import sync
from rasa.data.load import load_dataset
from rasa.errors import RasaError, ResourceError, RunFailed
from reports.commands import publish, report, restore, verify
from reports.publication import MANIFEST, RECORDS, digests
from reports.verify import differing_lines, differing_records
from tests.helpers.people import write_people

TINY = """
suite: tiny
title: Three rows
labels: [Setting]
profile: synth
rows:
- {name: cl, labels: [CL], changes: {objectives: {weights: {cl: 0.5}}}, paper: {r1: 61.35}}
- {name: itm, labels: [CL + ITM], versus: cl, changes: {objectives: {weights: {cl: 0.5, itm: 1}}}, paper: {r1: 71.29}}
- {name: s, labels: [s-ITM], versus: itm, changes: {objectives: {weights: {cl: 0.5, itm: 2}}}, paper: {r1: 74.0}}
"""
QUERIES = 48  # of 24 people


def draws(config, directory, log, should_stop, resume_from_step, cache, notify):
    """A ranking in which each query's two right images have ranks by chance, better for the later rows."""
    resume_from_step(0)
    skill = sum(config.objectives.weights.values())
    draw = np.random.default_rng([config.seed, int(10 * skill)])
    first_T = draw.geometric(0.15 * skill, QUERIES)
    second_T = first_T + draw.geometric(0.05 * skill, QUERIES)
    stage1_T = first_T + draw.integers(0, 3, QUERIES)
    arrays = {
        "best": np.zeros((QUERIES, 10), np.int64),
        "identity": load_dataset(config.data).splits["test"].caption_identities,
        "first_rank": first_T,
        "average_precision": (1 / first_T + 2 / second_T) / 2,
        "stage1_first_rank": stage1_T,
    }
    save_file(arrays, directory / PREDICTIONS)
    found = {
        f"{name}r{k}": 100 * float((ranks <= k).mean())
        for name, ranks in (("", first_T), ("stage1_", stage1_T))
        for k in (1, 5, 10)
    }
    found["map"] = 100 * float(arrays["average_precision"].mean())
    for step in range(20):
        log("train", step, {"loss": 1 / (step + 1)})
        if step % 10 == 9:
            log("val", step + 1, {"r1": 20.0 + step, "epoch": step // 10 + 1})
    log("test", 20, found)
    chosen = {"epoch": 2, "step": 20, "val": {"r1": 39.0, "epoch": 2}}
    sizes = {"test": {"images": 24, "captions": QUERIES, "identities": 24}}
    cost = {"seconds": 4.0 + config.seed / 7, "steps": 20.0}
    return {"selected": chosen, "last": {"epoch": 2, "val": chosen["val"]}, "test": found, "cost": cost, "sizes": sizes}


def run(place: Path, workspace: Path, seeds=(0, 1, 2), rows=("cl", "itm", "s")) -> None:
    """Start and rows, and the tracker's records of them."""
    suite = load_suite(str(place / "tiny.yaml"))
    options = "synth", [f"data.root={place / 'people'}"]
    starts = plan_starts(suite, suite.rows, *options, workspace)
    execute(
        [*starts, *plan(suite, [suite.row(row) for row in rows], *options, seeds, workspace)], workspace, train=draws
    )
    sync(workspace, default_uri(workspace.resolve()), print)


def invoke(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workspace of nine runs and a start, and their published report."""
    place = tmp_path_factory.mktemp("published")
    (place / "tiny.yaml").write_text(TINY)
    write_people(place / "people", train=4, val=2, test=24, images=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        run(place, place / "ws")
        done = invoke(publish, *target(place, place / "ws", place / "out"))
    assert done.exit_code == 0, done.output
    return place


def target(place, workspace, folder):
    return place / "tiny.yaml", folder, "-o", f"data.root={place / 'people'}", "--workspace", workspace


@pytest.fixture
def folder(place, tmp_path):
    return Path(shutil.copytree(place / "out", tmp_path / "out"))


def sign(folder: Path) -> None:
    """Give the manifest the digests of the files as they are now: what is left to find is what the records say."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"files": digests(folder)}))


def test_average_precisions_keep_their_sum():
    """0.0006 three times: sums 0.6, 1.2, 1.8 thousandths, rounded 1, 1, 2, so 1, 0 and 1 thousandths."""
    assert predictions.in_steps(np.array([0.0006] * 3)).tolist() == [1, 0, 1]
    draw = np.random.default_rng(0)
    values = draw.random(5000)
    values[::7] = np.nan
    steps = predictions.in_steps(values)
    assert (steps[::7] == predictions.UNKNOWN).all() and np.isnan(predictions.from_steps(steps)[::7]).all()
    known = np.isfinite(values)
    assert abs(np.cumsum(steps[known]) / 1000 - np.cumsum(values[known])).max() < 0.5001e-3
    assert np.array_equal(predictions.in_steps(predictions.from_steps(steps)), steps)


def test_what_is_kept_of_queries_is_small_and_whole():
    """8,000 queries of 1,000 people with four right images each among 4,000,
    found to R@1 57 and mAP 31: under 18.5 kB."""
    draw = np.random.default_rng(0)
    beyond = 4000 * norm.sf(draw.normal(2.6, 1.1, (8000, 4)))  # how many wrong images score higher
    right_T4 = np.sort(1 + draw.poisson(beyond), axis=1) + np.arange(4)
    arrays = {
        "identity": np.repeat(np.arange(7000, 8000), 8),
        "first_rank": right_T4[:, 0],
        "average_precision": (np.arange(1, 5) / right_T4).mean(1),
        "best": np.zeros((8000, 10)),
        "stage1_first_rank": right_T4[:, 0] + draw.geometric(0.4, 8000) - 1,
    }
    assert 40 < predictions.figures(arrays)["r1"] < 60
    packed = predictions.pack(arrays)
    assert len(packed) < 18_500
    found = predictions.unpack(packed, "here")
    assert set(found) == set(arrays) - {"best"}
    for name in ("identity", "first_rank", "stage1_first_rank"):
        assert np.array_equal(found[name], arrays[name])
    assert abs(found["average_precision"] - arrays["average_precision"]).max() < 1.001e-3
    mean = 100 * arrays["average_precision"].mean()
    assert abs(predictions.figures(found)["map"] - mean) < predictions.tolerance("map", 8000) < 7e-6
    with pytest.raises(ResourceError, match="here: damaged"):
        predictions.unpack(packed[:-40], "here")


def test_a_published_report_is_complete_and_verified(place):
    folder = place / "out"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {
        "table.md",
        "table.csv",
        "seeds.csv",
        "r1.svg",
        "report.html",
        MANIFEST,
        "specs/tiny.yaml",
        "specs/profiles/synth.yaml",
    } < files
    assert len(list(folder.glob(f"{RECORDS}/*/*/{PACKED}"))) == 10  # nine runs and the start
    assert len(list(folder.glob(f"{RECORDS}/shared/spec-*"))) == 4  # a row's seeds share theirs
    assert len(list(folder.glob(f"{RECORDS}/shared/environment-*"))) == 1
    done = invoke(verify, folder)
    assert (done.exit_code, done.output) == (0, f"{folder}: 9 runs; every digit as printed\n")
    printed = invoke(report, *target(place, place / "ws", "x")[:1], *target(place, place / "ws", "x")[2:]).stdout
    table = (folder / "table.md").read_text()
    picture = r"!\[(?:[^]\\]|\\.)+\]\((\w+\.svg)\)\n\n"
    pictures = re.findall(picture, table)
    assert {"steps.svg", "r1.svg", "waterfall.svg", "learning.svg", "cost.svg"} <= set(pictures)
    assert all((folder / name).is_file() for name in pictures)
    table = re.sub(picture, "", table)
    made = [" ".join(text.split()).partition("; made: ")[0] for text in (printed, table)]
    assert made[0] == made[1] and "CL + ITM" in made[0]


def test_nothing_published_names_a_place_or_a_machine(place):
    import platform

    for path in (place / "out").rglob("*"):
        if path.is_file() and path.suffix not in (".xz",):
            text = path.read_text()
            # The command says which data was asked for.
            text = "" if path.name in ("table.md", "report.html", MANIFEST) else text
            assert str(place) not in text and f'"{platform.node()}"' not in text, path


def test_seeds_csv_has_every_run(place):
    records = list(csv.DictReader(io.StringIO((place / "out" / "seeds.csv").read_text())))
    assert [(record["row"], record["seed"]) for record in records if record["seed"] != "NA"] == [
        (row, str(seed)) for row in ("cl", "itm", "s") for seed in (0, 1, 2)
    ]
    (directory,) = (place / "ws").glob("runs/tiny/itm/synth/seed-1-*")
    (record,) = [each for each in records if (each["row"], each["seed"]) == ("itm", "1")]
    assert float(record["r1"]) == read_json(directory / RESULT)["test"]["r1"]


def spots(text: str) -> list[int]:
    return [at for at, character in enumerate(text) if character.isdigit()]


def other_digit(text: str, at: int) -> str:
    return text[:at] + str((int(text[at]) + 5) % 10) + text[at + 1 :]


@pytest.mark.parametrize("name", ["table.md", "table.csv", "seeds.csv"])
def test_any_changed_digit_is_found(folder, name):
    """By the digest, and, from the records alone, where it stands: sampled digits of the cells, not of running text."""
    whole = (folder / name).read_text()
    draw = random.Random(name)
    inside = [at for at in spots(whole) if name != "table.md" or whole[whole.rfind("\n", 0, at) + 1] == "|"]
    # The last digits of numbers at full precision are the machine's (reports/verify.py), so the leading ones are drawn.
    leading = [at for at in inside if not whole[at - 1].isdigit() or whole[at - 2] in ",;|. "]
    for at in draw.sample(leading, 3):
        (folder / name).write_text(other_digit(whole, at))
        done = invoke(verify, folder)
        assert done.exit_code == 1 and f"{folder}/{name}: changed since it was published" in done.output
        sign(folder)
        done = invoke(verify, folder)
        found = [line for line in done.output.splitlines() if ": printed " in line]
        assert done.exit_code == 1 and len(found) == 1, (whole[at - 30 : at + 30], done.output)
        assert found[0].startswith(f"{folder}/{name}: ") and ", recomputed " in found[0] and "column " in found[0]


def test_changed_sentences_are_found(folder):
    """A verdict's count, and a note on the data."""
    whole = (folder / "table.md").read_text()
    sentence = next(line for line in whole.splitlines() if line.startswith("- Steps: "))
    at = whole.index(sentence) + sentence.index(next(filter(str.isdigit, sentence)))
    (folder / "table.md").write_text(other_digit(whole, at))
    sign(folder)
    done = invoke(verify, folder)
    assert done.exit_code == 1 and f"recomputed '{sentence}'" in done.output


def test_a_changed_digit_of_the_page_is_found_and_renewed(folder):
    whole = (folder / "report.html").read_text()
    at = whole.index("<td", whole.index('<th scope="row"'))
    at = next(place for place in range(whole.index(" ± ", at) - 4, len(whole)) if whole[place].isdigit())
    (folder / "report.html").write_text(other_digit(whole, at))
    sign(folder)
    done = invoke(verify, folder)
    assert done.exit_code == 1 and "report.html: printed " in done.output
    before = (folder / MANIFEST).read_text()
    done = invoke(verify, "--renew", folder)
    assert done.exit_code == 0, done.output
    assert (folder / "report.html").read_text() == whole and (folder / MANIFEST).read_text() != before
    packed = next(folder.glob(f"{RECORDS}/itm/seed-1-*/{PACKED}"))
    packed.write_bytes(packed.read_bytes()[:-1])
    refused = invoke(verify, "--renew", folder)
    assert isinstance(refused.exception, RasaError) and PACKED in str(refused.exception)
    assert (folder / "report.html").read_text() == whole


def test_any_changed_prediction_is_found(folder):
    """One query's rank or average precision, in the record of a random run, with the digests made to fit."""
    draw = random.Random(1)
    chosen = draw.sample(sorted(folder.glob(f"{RECORDS}/*/*/{PACKED}")), 3)
    for packed, array in zip(chosen, ("first_rank", "average_precision", "stage1_first_rank"), strict=True):
        content = packed.read_bytes()
        arrays = predictions.unpack(content, "")
        query = draw.randrange(len(arrays[array]))
        value = arrays[array][query]
        # Over one of the ranks that figures count, or by two thousandths: less is within the rounding.
        arrays[array][query] = (1 if value > 10 else 11) if array != "average_precision" else abs(value - 0.002)
        packed.write_bytes(predictions.pack(arrays))
        where = packed.relative_to(folder)
        assert f"{folder}/{where}: changed since it was published" in invoke(verify, folder).output
        sign(folder)
        done = invoke(verify, folder)
        metric = f"{where.parent}/{RESULT}: test {'stage1_' * array.startswith('stage1')}"
        assert done.exit_code == 1 and f"{folder}/{metric}" in done.output, done.output
        packed.write_bytes(content)


def test_a_changed_rank_that_no_figure_counts_changes_the_comparison(folder):
    """Two queries of other people exchange their ranks, 1 and more: R@1 is as before, the paired tests are not."""
    packed = next(folder.glob(f"{RECORDS}/itm/seed-1-*/{PACKED}"))
    arrays = predictions.unpack(packed.read_bytes(), "")
    rank_T = arrays["first_rank"]
    first, other = int(np.argmax(rank_T == 1)), len(rank_T) - 1 - int(np.argmax(rank_T[::-1] > 1))
    assert arrays["identity"][first] != arrays["identity"][other]
    rank_T[[first, other]] = rank_T[[other, first]]
    packed.write_bytes(predictions.pack(arrays))
    sign(folder)
    done = invoke(verify, folder)
    assert done.exit_code == 1 and "table.csv: row s, column step_variance_over_queries: printed " in done.output


def test_missing_and_added_files_are_found(folder):
    result = next(folder.glob(f"{RECORDS}/s/seed-0-*/{METRICS}"))
    (folder / RECORDS / "more.json").write_text("{}")
    (folder / "README.md").write_text("A person's words.")
    assert invoke(verify, folder).output.splitlines()[0] == f"{folder}/records/more.json: {MANIFEST} does not list it"
    result.unlink()
    done = invoke(verify, folder)
    assert done.exit_code == 1 and "cannot be computed again" in done.output and f"{METRICS}: missing" in done.output
    assert isinstance(invoke(restore, folder, "--workspace", folder.parent / "ws").exception, RasaError)


def test_what_is_no_published_report_says_so_in_a_line(folder, tmp_path):
    for content, text in (
        (None, "no published report"),
        ("[]", "format None is not known"),
        ("{", "no manifest"),
        ('{"format": 1}', "version: Field required"),
        ('{"format": 2}', "format 2 is not known"),
    ):
        if content is None:
            (folder / MANIFEST).unlink()
        else:
            (folder / MANIFEST).write_text(content)
        for command in (verify, restore):
            fault = invoke(command, folder).exception
            assert isinstance(fault, ResourceError) and text in str(fault) and "\n" not in str(fault)


def test_publishing_again_keeps_what_a_person_wrote_and_spares_other_folders(place, tmp_path):
    folder = tmp_path / "out"
    (folder / "notes").mkdir(parents=True)
    (folder / "README.md").write_text("Mine.")
    (folder / "notes" / "table.md").write_text("Mine, too.")
    arguments = target(place, place / "ws", folder)
    for _ in range(2):
        assert invoke(publish, *arguments).exit_code == 0
        assert (folder / "README.md").read_text() == "Mine." and (folder / "notes" / "table.md").exists()
        assert invoke(verify, folder).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (folder / MANIFEST).unlink()
    fault = invoke(publish, *arguments).exception
    assert isinstance(fault, ResourceError) and "is there already, and is not of a published report" in str(fault)
    assert not (folder / MANIFEST).exists() and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_some_rows_are_published_and_verified_as_they_were_asked_for(place, tmp_path):
    """Rows that were not asked for are in no table; what a row is compared with comes along."""
    folder, tiny = tmp_path / "out", place / "tiny.yaml"
    options = ("-o", f"data.root={place / 'people'}", "--workspace", place / "ws")
    done = invoke(publish, f"{tiny}/itm", folder, *options)
    assert done.exit_code == 0 and "6 runs" in done.output
    assert {path.name for path in (folder / RECORDS).iterdir()} == {"cl", "itm", "start", "shared"}
    text = (folder / "table.md").read_text()
    assert "s-ITM" not in text and "2 of the 3 rows of tiny are shown" in text
    assert invoke(verify, folder).exit_code == 0
    assert invoke(verify, "--renew", folder).exit_code == 0 and (folder / "table.md").read_text() == text
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"asked": []}))  # whole: then it does not follow
    assert invoke(verify, folder).exit_code == 1
    table4 = invoke(publish, "table4/cl", f"{tiny}/itm", tmp_path / "two", *options)
    assert table4.exit_code == 2 and "of one suite, and these are 2" in table4.output


@pytest.mark.parametrize(
    ("why", "published"), [("cl is nan at epoch 1, step 3", True), ("no file /home/me/images/1.png", False)]
)
def test_a_failed_row_says_why_and_no_place_is_published(place, tmp_path, monkeypatch, why, published):
    """The reason comes from the run's directory, so that no `rasa sync` is needed for it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace, suite = tmp_path / "ws", load_suite(str(place / "tiny.yaml"))
    run(place, workspace, seeds=(0,), rows=("cl",))

    def fails(*given, **options):
        raise RunFailed(why)

    options = "synth", [f"data.root={place / 'people'}"]
    execute(plan(suite, [suite.row("itm")], *options, (0,), workspace), workspace, train=fails)
    sync(workspace, default_uri(workspace), print)
    command = target(place, workspace, tmp_path / "out")
    printed = invoke(report, command[0], *command[2:]).stdout
    (row,) = [line for line in printed.splitlines() if line.startswith("| CL + ITM") and "failed: " in line]
    assert f"failed: {why}" in row
    done = invoke(publish, *command)
    assert done.exit_code == 0, done.output
    table = (tmp_path / "out" / "table.md").read_text()
    assert (f"failed: {why}" in table) is published and "failed" in table
    assert invoke(verify, tmp_path / "out").exit_code == 0


def test_a_run_that_lacks_its_queries_is_not_published(place, tmp_path):
    workspace = Path(shutil.copytree(place / "ws", tmp_path / "ws"))
    for directory in find_runs(workspace):
        (directory / "tracking.json").unlink()
    sync(workspace, default_uri(tmp_path), print)
    uri = ["--tracking-uri", default_uri(tmp_path)]
    (directory,) = workspace.glob("runs/tiny/s/synth/seed-2-*")
    (directory / PREDICTIONS).rename(directory / "aside")
    fault = invoke(publish, *target(place, workspace, tmp_path / "out"), *uri).exception
    assert isinstance(fault, ResourceError) and f"{directory / PREDICTIONS}: missing or damaged" in str(fault)
    shutil.rmtree(directory)
    fault = invoke(publish, *target(place, workspace, tmp_path / "out"), *uri).exception
    assert isinstance(fault, ResourceError) and "s seed 2: its directory" in str(fault)
    assert not (tmp_path / "out").exists()


def test_restored_runs_are_finished_and_go_on(place, tmp_path, monkeypatch):
    """Nothing is trained again; a fourth seed is, and the report and its publication are those of all four."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace = tmp_path / "ws"
    done = invoke(restore, place / "out", "--workspace", workspace)
    assert done.exit_code == 0 and done.stdout.count("restored") == 10
    (directory,) = workspace.glob("runs/tiny/itm/synth/seed-1-*")
    (original,) = (place / "ws").glob("runs/tiny/itm/synth/seed-1-*")
    assert directory.name == original.name
    for name in (RESULT, ENVIRONMENT):
        old, new = read_json(original / name), read_json(directory / name)
        assert new == {key: value for key, value in old.items() if key not in ("machine", "workspace")}
    assert invoke(restore, place / "out", "--workspace", workspace).stdout.count("there already") == 10

    again = invoke(publish, *target(place, workspace, tmp_path / "none"))
    assert "no runs yet" in str(again.exception)  # of the tracker
    sync(workspace, default_uri(workspace), print)
    assert invoke(publish, *target(place, workspace, tmp_path / "same")).exit_code == 0
    for name in (
        "table.csv",
        "seeds.csv",
        *[path.relative_to(place / "out") for path in (place / "out").rglob(f"{RECORDS}/**/*.*")],
    ):
        assert (tmp_path / "same" / name).read_bytes() == (place / "out" / name).read_bytes(), name

    def never(**arguments):
        raise AssertionError("a finished run was trained again")

    suite, options = load_suite(str(place / "tiny.yaml")), ("synth", [f"data.root={place / 'people'}"])
    planned = plan(suite, suite.rows, *options, (0, 1, 2), workspace)
    assert {each.state for each in planned} == {"finished"}
    execute(planned, workspace, train=never)
    run(place, workspace, seeds=(3,))
    assert invoke(publish, *target(place, workspace, tmp_path / "more")).exit_code == 0
    assert invoke(verify, tmp_path / "more").output.endswith("12 runs; every digit as printed\n")


def test_a_restored_run_has_no_weights_and_says_so(place, tmp_path):
    invoke(restore, place / "out", "--workspace", tmp_path)
    (directory,) = tmp_path.glob("runs/tiny/itm/synth/seed-1-*")
    fault = invoke(evaluate, directory).exception
    assert isinstance(fault, ResourceError)
    assert str(fault).startswith(f"{directory}: restored from a published report, which holds no weights;")
    shown = [line.split() for line in invoke(status, "--workspace", tmp_path).stdout.splitlines()]
    of_run = next(words for words in shown if words[:1] == ["tiny/itm"] and "1" in words[2:4])
    assert "finished" in of_run and " ".join(of_run).endswith("restored, without weights")


def test_a_stale_run_stays_stale(place, folder, tmp_path):
    """The code's digests are published and restored, so a change of the code since is seen."""
    (shared,) = (folder / RECORDS / "shared").glob("environment-*")
    environment = json.loads(shared.read_text())
    environment["code"]["rasa/training/step.py"] = "0" * 64
    shared.write_text(json.dumps(environment))
    sign(folder)
    invoke(restore, folder, "--workspace", tmp_path / "ws")
    arguments = [place / "tiny.yaml/itm", "-o", f"data.root={place / 'people'}", "--workspace", tmp_path / "ws"]
    assert "stale: finished, but rasa/training/step.py changed since" in invoke(plan_command, *arguments).stdout


def test_a_record_is_read_as_it_was_written(place):
    (original,) = (place / "ws").glob("runs/tiny/s/synth/seed-2-*")
    record = read_run(original)
    back = read_record(place / "out" / RECORDS / record.folder, place / "out" / RECORDS / "shared")
    assert back.about == record.about and back.began == record.began and back.result == record.result
    assert back.points == record.points
    others = [(point.group, point.step) for point in back.points if point.group != "train"]
    assert others == [("val", 10), ("val", 20), ("test", 20)]
    assert back.spec == json.loads(json.dumps(record.spec))
    arrays = load_file(original / PREDICTIONS)
    assert np.array_equal(back.arrays["first_rank"], arrays["first_rank"])


def test_differing_cells_are_named():
    old = "### T\n\nFirst:\n\n| A | Row | R@1 |\n| - | --- | --: |\n| x | y | 1.0 |\n\n- one\n"
    new = old.replace("1.0", "12.0").replace("one", "two")
    assert list(differing_lines(old, old)) == []
    assert list(differing_lines(old, new)) == [
        "First: row x, y, column R@1: printed 1.0, recomputed 12.0",
        "printed '- one', recomputed '- two'",
    ]
    assert list(differing_lines(old, new + "\nmore"))[-1] == "printed nothing, recomputed 'more'"
    table = "row,seed,v\na,0,1.0;2.0\nb,NA,NA\n"
    assert list(differing_records(table, table.replace("2.0", "2.00000000000001"))) == []
    assert list(differing_records(table, table.replace("2.0", "2.0001").replace("NA\n", "0.0\n"))) == [
        "row a seed 0, column v: printed 1.0;2.0, recomputed 1.0;2.0001",
        "row b seed NA, column v: printed NA, recomputed 0.0",
    ]
    assert list(differing_records(table, table + "c,1,2\n")) == ["printed 2 records, recomputed 3"]
