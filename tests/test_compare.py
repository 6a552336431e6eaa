"""`rasa compare`: what differs, the two by two of the queries by hand, pairs of seeds, and what cannot be compared."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from experiments.rundir import read_result, write_json
from rasa.commands.cli import main
from tests.helpers.many_rows import write_suite
from tests.helpers.people import write_people


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Two rows, seeds 0 and 1 of the first, 0, 1 and 2 of the second."""
    folder = tmp_path_factory.mktemp("compare")
    people = write_people(folder / "people", train=6, val=3, test=4)
    suite = write_suite(folder, 2)
    for row, seeds in (("row-0", "0,1"), ("row-1", "0,1,2")):
        assert run("run", f"{suite}/{row}", "-o", f"data.root={people}", "--seeds", seeds, "--workspace", folder) == 0
    return folder


@pytest.fixture
def here(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    return workspace


def directories(workspace, row):
    return sorted((workspace / "runs" / "own").glob(f"{row}/*/seed-*"))


def compared(capsys, *arguments):
    assert run("compare", *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def test_rows_are_paired_by_the_seeds_that_both_have(here, capsys):
    (found,) = compared(capsys, "own/row-0", "own/row-1")
    assert found["figures"].keys() == {"0", "1"} and found["other"] == {}
    assert found["spec"] == {"objectives.p_weak": [0.05, 0.1]}
    for seed, pair in found["figures"].items():
        for place, row in enumerate(("row-0", "row-1")):
            result = read_result(directories(here, row)[int(seed)] / "result.json")
            assert pair["r1"][place] == result["test"]["r1"] and pair["seconds"][place] == result["cost"]["seconds"]


def test_the_two_by_two_is_that_of_the_first_pairs_queries(here, capsys):
    first, second = (directories(here, row)[0] for row in ("row-0", "row-1"))
    one, other = (load_file(folder / "predictions.safetensors")["first_rank"] == 1 for folder in (first, second))
    (found,) = compared(capsys, first, second)
    expected = [
        sum(a == x and b == y for a, b in zip(one, other, strict=True))
        for x, y in ((True, True), (True, False), (False, True), (False, False))
    ]
    assert list(found["queries"].values()) == expected and sum(expected) == 24


def test_the_page_says_what_flips_and_that_one_run_is_one_training(here, capsys):
    first, second = (directories(here, row)[0] for row in ("row-0", "row-1"))
    assert run("compare", first, second) == 0
    text = capsys.readouterr().out
    assert "| objectives.p" in text and "| R@1 " in text and "One run of each: the interval is over queries" in text
    assert "R@1 has no verdict: at least three seeds of both make a verdict." in text and "queries flip:" in text


def test_three_seeds_of_both_have_a_verdict(here, tmp_path, capsys):
    """Ranks written by hand: the second row has nine queries of ten right, the first one, with every seed."""
    workspace = tmp_path / "made"
    for row, right in (("row-0", 0.1), ("row-1", 0.9)):
        source = directories(here, row)[0]
        for seed in range(3):
            folder = workspace / "runs" / "own" / row / "smoke" / f"seed-{seed}-{source.name[7:]}"
            shutil.copytree(source, folder)
            arrays = load_file(folder / "predictions.safetensors")
            arrays["first_rank"] = np.where(np.random.default_rng(seed).random(4000) < right, 1, 2)
            arrays |= {"identity": np.arange(4000) // 4, "average_precision": np.ones(4000)}
            save_file(arrays, folder / "predictions.safetensors")
            about = json.loads((folder / "run.json").read_text()) | {"seed": seed}
            write_json(folder / "run.json", about)
            result = json.loads((folder / "result.json").read_text())
            result["test"]["r1"] = 100 * float((arrays["first_rank"] == 1).mean())
            write_json(folder / "result.json", result)
    assert run("compare", "own/row-0", "own/row-1", "--workspace", workspace) == 0
    text = capsys.readouterr().out
    assert "R@1: higher, p " in text and "Paired by seed: seeds 0, 1, 2." in text
    assert run("compare", "own/row-1", "own/row-0", "--workspace", workspace) == 0
    assert "R@1: lower, p " in capsys.readouterr().out


def test_suites_are_compared_row_by_row_and_a_run_with_itself_differs_in_nothing(here, capsys):
    found = compared(capsys, "own", "own")
    assert len(found) == 2 and all(not each["spec"] and not each["other"] for each in found)
    assert all(each["queries"]["a_alone"] == each["queries"]["b_alone"] == 0 for each in found)
    assert run("compare", "own/row-0", "own/row-0") == 0
    assert "Nothing: same config, data, initial weights, code and versions." in capsys.readouterr().out


def test_other_code_and_other_versions_are_named(here, tmp_path, capsys):
    folder = tmp_path / "runs" / "own" / "row-0" / "smoke" / directories(here, "row-0")[0].name
    shutil.copytree(directories(here, "row-0")[0], folder)
    environment = json.loads((folder / "environment.json").read_text())
    environment["code"]["rasa/draws.py"], environment["packages"]["torch"] = "other", "1.0"
    write_json(folder / "environment.json", environment)
    (found,) = compared(capsys, directories(here, "row-0")[0], folder)
    assert found["other"].keys() == {"code", "packages.torch"} and found["other"]["packages.torch"][1] == "1.0"
    assert "(1 files differ)" in found["other"]["code"][1]


def test_the_flipped_queries_as_a_gallery(here, tmp_path):
    assert run("compare", "own/row-0", "own/row-1", "--gallery", tmp_path / "page", "--number", 24) == 0
    text = (tmp_path / "page" / "gallery.html").read_text()
    assert '<h2 id="fixed">' in text and '<h2 id="broken">' in text and '<h2 id="wrong">' not in text


@pytest.mark.parametrize(
    "a, b, code, text",
    [
        ("own/row-0", "own/row-7", 5, "own/row-7: has not been run in"),
        ("own", "nothing", 5, "nothing: no run's directory, id or name"),
        ("own/row-0", "SEED2", 5, "have no seed in common: seeds 0, 1 and seed 2"),
    ],
)
def test_what_cannot_be_compared_is_one_line(here, capsys, a, b, code, text):
    b = str(directories(here, "row-1")[2]) if b == "SEED2" else b
    assert run("compare", a, b) == code
    told = capsys.readouterr().err
    assert text in told and "Traceback" not in told
