"""Moving code changes no number and no run id: a kept record of what a step of each row computes, in both presets."""

import json

import pytest

from tests.freeze_numbers import FILE, PRESETS, ids, rows, steps
from tests.helpers.people import write_people

RENEW = "if that is meant, run `python -m tests.freeze_numbers` and commit the difference"


@pytest.fixture(scope="module")
def kept():
    return json.loads(FILE.read_text())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    write_people(folder / "people")
    return steps(folder)


def test_run_ids_are_those_that_were(kept):
    ours = ids()
    assert {name: id for name, id in ours.items() if kept["ids"].get(name) != id} == {}, RENEW
    assert ours.keys() == kept["ids"].keys(), RENEW


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("row", rows())
def test_two_steps_of_each_row_compute_what_they_did(kept, found, row, preset):
    """Losses, gradient norm, rates; and the squares of weights, gradients, momentum weights and queues."""
    ours, before = found[f"{row}/{preset}"], kept["steps"][f"{row}/{preset}"]
    assert ours["tensors"] == before["tensors"], RENEW
    assert ours["squares"] == pytest.approx(before["squares"], rel=1e-9), RENEW
    for figures, expected in zip(ours["logged"], before["logged"], strict=True):
        assert figures == pytest.approx(expected, rel=1e-8, abs=1e-10), RENEW


def test_the_record_tells_rows_and_presets_apart(kept):
    squares = [each["squares"] for each in kept["steps"].values()]
    assert len(squares) == len(rows()) * len(PRESETS) == len(set(squares))
