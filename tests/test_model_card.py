"""The card of selected weights: made when a run ends, delivered with them, its figures and intervals, nothing but text.

CITATION.cff, which it names.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import rasa
from experiments import execution
from experiments.model_card import FILE, card, intervals
from experiments.rundir import PREDICTIONS, RESULT, SELECTED, read_about, read_config, read_json
from experiments.runner import execute
from experiments.store import default_uri
from experiments.uploader import sync
from experiments.yaml_io import load_mapping
from rasa.weights.folder import save_checkpoint
from tests.helpers.people import write_people
from tests.test_publish import draws
from tests.test_runner import planned

ROOT = Path(__file__).parent.parent


def trains(config, directory, **given):
    """As `draws`, with selected weights."""
    save_checkpoint(directory / SELECTED / "epoch-0002", {"a": torch.arange(3.0)}, {})
    return draws(config, directory, **given)


@pytest.fixture
def run(tmp_path):
    people = write_people(tmp_path / "people", train=4, val=2, test=24, images=1)
    (run,) = planned(people, tmp_path, "m-rtd")
    execute([run], tmp_path, train=trains)
    return run


def test_it_is_made_when_a_run_ends_and_goes_with_the_weights(run, tmp_path):
    made = (run.directory / SELECTED / FILE).read_text()
    sync(tmp_path, default_uri(tmp_path), print)
    (sent,) = tmp_path.glob(f"mlartifacts/*/artifacts/{SELECTED}/{FILE}")
    assert sent.read_text() == made and (sent.parent / "epoch-0002/tensors.safetensors").is_file()
    result = read_json(run.directory / RESULT)
    assert f"| R@1 | {result['test']['r1']:.2f} | " in made and " | 39.00 |\n" in made
    assert f"Run `{run.about.run_id}`" in made and "Epoch 2 of 2" in made and "rtd 0.5" in made
    assert "| test | 24 | 48 | 24 |" in made and "gallery of 24 images" in made
    assert f"rasa evaluate {run.about.run_id} --data" in made and "--in PICTURES --with" in made
    assert str(tmp_path) not in made and result["digests"]["selected"]
    headings = re.findall("^## (.*)$", made, re.MULTILINE)
    assert headings == ["What it is", "Data", "Figures", "Cost", "Limits", "Use", "Source"]
    front = load_mapping(made.split("---\n")[1], FILE)
    assert front["model_name"] == "table4/m-rtd seed 0"


def test_a_copied_run_has_a_card_of_its_own(run, tmp_path):
    other = run._replace(
        about=run.about.model_copy(update={"row": "copy"}),
        directory=tmp_path / "runs/table4/copy/smoke" / run.directory.name,
        state="new",
    )
    execute([other], tmp_path, train=None)
    made = (other.directory / SELECTED / FILE).read_text()
    assert "as `table4/copy` trains it" in made and "m-rtd` trains" not in made


def test_a_fault_of_the_card_is_told_and_the_run_is_finished(run, tmp_path, monkeypatch):
    def breaks(directory, result):
        raise ValueError("no such figure")

    monkeypatch.setattr(execution, "write_card", breaks)
    (again,) = planned(tmp_path / "people", tmp_path, "cl")
    told = []
    (outcome,) = execute([again], tmp_path, train=trains, callbacks=execution_callbacks(told))
    assert outcome.state == "finished" and (again.directory / RESULT).is_file()
    assert any("its model card could not be written (ValueError: no such figure)" in line for line in told)


def execution_callbacks(told):
    from experiments.outcome import NO_CALLBACKS

    return NO_CALLBACKS._replace(notify=told.append)


def test_weights_that_are_not_there_have_no_card(tmp_path):
    people = write_people(tmp_path / "people", train=4, val=2, test=24, images=1)
    (run,) = planned(people, tmp_path, "cl")
    execute([run], tmp_path, train=draws)
    assert not (run.directory / SELECTED).exists()


EVIL = '<img src=x onerror="alert(1)">'


def test_what_comes_from_outside_is_text(run):
    about = run.about.model_copy(
        update={
            "title": f"{EVIL}\n# Free",
            "labels": {"Setting": "[a](javascript:alert(1)) | `b`", EVIL: "c"},
            "variant": f"data.image_folder={EVIL}",
            "data_name": EVIL,
            "target_name": EVIL,
        }
    )
    result = read_json(run.directory / RESULT)
    result["sizes"] = {EVIL: {"images": 1}}
    result["numerics"] = {"precision": EVIL}
    made = card(about, read_config(run.directory), result, {"gpus": [EVIL], "cpu": "c"}, {})
    assert "<img" not in made and made.count("&lt;img") == 8
    assert "[a](" not in made and "\\[a\\]\\(javascript:alert\\(1\\)\\) \\| \\`b\\`" in made
    assert "\n# Free" not in made  # one line stays one


def test_a_name_cannot_leave_the_front_matter(run):
    about = run.about.model_copy(update={"row": 'x"\n---\n<script>'})
    made = card(about, read_config(run.directory), read_json(run.directory / RESULT), {}, {})
    assert load_mapping(made.split("\n---\n")[0][4:], FILE)["model_name"] == 'table4/x"\n---\n<script> seed 0'


def test_intervals_by_hand():
    """Four people with two queries each, of which 2, 1, 1, 0 are right: 50 %. Totals less twice the mean are 100, 0, 0
    and -100, so the variance is 4/3 / 64 * 20,000 = 416.67 and the interval 50 ± 1.96 * 20.41 = 9.99 to 90.01. R@5
    is 100 for all, without a width. Stage 1 finds one query at rank 1: of 12.5 ± 24.5 what lies below 0 is cut."""
    arrays = {
        "identity": np.repeat([3, 5, 8, 9], 2),
        "first_rank": np.array([1, 1, 1, 2, 3, 1, 4, 5]),
        "stage1_first_rank": np.array([1, 6, 6, 6, 6, 6, 6, 6]),
    }
    found = dict(intervals(arrays))
    assert found["r1"] == pytest.approx((9.992, 90.008), abs=1e-3)
    assert found["r5"] == found["r10"] == found["stage1_r10"] == (100.0, 100.0)
    assert found["stage1_r1"][0] == 0 and found["stage1_r1"][1] == pytest.approx(12.5 + 1.96 * 12.5, abs=1e-6)
    assert set(found) == {"r1", "r5", "r10", "stage1_r1", "stage1_r5", "stage1_r10"}
    assert dict(intervals({**arrays, "identity": np.zeros(8)})) == {} and dict(intervals({})) == {}
    open_map = arrays | {"average_precision": np.array([1.0] * 7 + [np.nan])}
    assert "map" not in dict(intervals(open_map))


def test_the_interval_in_the_card_is_of_the_run_s_own_queries(run):
    arrays = {"identity": np.repeat([3, 5, 8, 9], 2), "first_rank": np.array([1, 1, 1, 2, 3, 1, 4, 5])}
    save_file(arrays, run.directory / PREDICTIONS)
    result = read_json(run.directory / RESULT) | {"test": {"r1": 50.0}}
    made = card(read_about(run.directory), read_config(run.directory), result, {}, arrays)
    assert "| R@1 | 50.00 | 9.99 to 90.01 | 39.00 |" in made


def test_the_citation_names_this_version_and_the_paper():
    found = load_mapping((ROOT / "CITATION.cff").read_text(), "CITATION.cff")
    assert found["cff-version"] == "1.2.0" and found["version"] == rasa.__version__ and found["license"] == "MIT"
    assert {"message", "title", "authors", "type"} <= found.keys()
    (paper,) = found["references"]
    assert paper["title"].startswith("RaSa: Relation and Sensitivity Aware") and paper["year"] == 2023
    assert [each["family-names"] for each in paper["authors"]] == [
        "Bai",
        "Cao",
        "Gao",
        "Cao",
        "Chen",
        "Fan",
        "Nie",
        "Zhang",
    ]
