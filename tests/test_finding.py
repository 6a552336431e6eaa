"""A run is found by its directory, id, beginning of an id or name; what is ambiguous or unknown gets candidates."""

import json
import os

import pytest

from experiments.finding import finished_run, run_named, runs_named
from rasa.errors import ResourceError, SpecError

FINISHED = {"test": {"r1": 50.0}, "cost": {"seconds": 1.0}}


def put(workspace, row, name, profile="synth", result=None, suite="table4"):
    """The folder of a run with that much in it."""
    folder = workspace / "runs" / suite / row / profile / name
    (folder / "selected" / "epoch-2").mkdir(parents=True)
    (folder / "spec.yaml").write_text("{}")
    (folder / "run.json").write_text("{}")
    if result:
        (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def runs(tmp_path):
    """Seeds 0 and 1 of m-rtd, of which seed 0 has two configs and seed 1 has finished; one run of cl."""
    return {
        "first": put(tmp_path, "m-rtd", "seed-0-aaaa11112222"),
        "other": put(tmp_path, "m-rtd", "seed-0-aaaa99992222"),
        "done": put(tmp_path, "m-rtd", "seed-1-beef11112222", result=FINISHED),
        "cl": put(tmp_path, "cl", "seed-0-0123456789ab", result=FINISHED),
        "old": put(tmp_path, "cl", "seed-0-0123456789ab.stale-1", result=FINISHED),
    }


@pytest.mark.parametrize(
    "name",
    [
        "0123456789ab",
        "0123",
        "seed-0-0123456789ab",
        "seed-0-0123",
        "table4/cl seed 0",
        "table4/cl/synth/seed-0-0123456789ab",
        "table4/cl/synth/seed-0-0123456789ab/",
    ],
)
def test_one_run_by_id_beginning_name_and_place(runs, tmp_path, name):
    assert run_named(name, tmp_path) == runs["cl"] == finished_run(name, tmp_path)
    assert runs_named(name, tmp_path) == [runs["cl"]]


def test_a_path_means_the_run_in_which_it_lies_whatever_the_workspace(runs, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for inside in ("", "spec.yaml", "selected", "selected/epoch-2"):
        assert run_named(runs["done"] / inside, elsewhere) == runs["done"]
    monkeypatch.chdir(runs["done"])
    assert os.path.samefile(run_named(".", elsewhere), runs["done"])


def test_rows_and_suites_are_no_single_run(runs, tmp_path):
    for name in ("table4", "table4/cl", "table4/cl/synth", "tabel4", "12", "", "/"):
        assert run_named(name, tmp_path) is None
    put(tmp_path, "row", "seed-0-123456789abc", suite="beef")  # a suite that is called as an id begins
    assert run_named("beef", tmp_path) is None and len(runs_named("beef", tmp_path)) == 1


def test_what_fits_several_runs_names_them_all(runs, tmp_path):
    both = "seed-0-aaaa11112222 of table4/m-rtd/synth, seed-0-aaaa99992222 of table4/m-rtd/synth; give one id"
    for name in ("aaaa", "seed-0-aaaa", "table4/m-rtd seed 0"):
        with pytest.raises(ResourceError, match=f"^{name} may be any of 2 runs: {both}$"):
            run_named(name, tmp_path)
    assert run_named("aaaa9", tmp_path) == runs["other"]
    for number in range(10):
        put(tmp_path, "mlm", f"seed-{number}-cccc0000000{number}")
    with pytest.raises(ResourceError, match=r"any of 10 runs: .*seed-5-\w+ of table4/mlm/synth and 4 more; give"):
        run_named("cccc", tmp_path)


def test_the_same_computation_under_another_row_is_not_ambiguous(runs, tmp_path):
    put(tmp_path, "base", "seed-0-0123456789ab", suite="figure4")
    assert run_named("0123", tmp_path).name == "seed-0-0123456789ab"


def test_what_is_unknown_gets_the_nearest_names(runs, tmp_path):
    with pytest.raises(ResourceError, match="^table4/mrtd: has not been run in .*; did you mean table4/m-rtd"):
        finished_run("table4/mrtd", tmp_path)
    with pytest.raises(ResourceError, match="^tabel: no run's directory, id or name; did you mean table4"):
        finished_run("tabel", tmp_path)
    # An id is random: the nearest one would mean nothing.
    with pytest.raises(ResourceError, match="^ffff00: no run's directory, id or name; `rasa status` lists them$"):
        finished_run("ffff00", tmp_path)
    with pytest.raises(ResourceError, match="^table4/cl seed 7: no run's directory"):
        runs_named("table4/cl seed 7", tmp_path)
    with pytest.raises(SpecError, match="^no suite 'tabel4'; did you mean table4"):
        runs_named("tabel4", tmp_path)
    with pytest.raises(SpecError, match="no row 'm-rdt'; did you mean m-rtd"):
        runs_named("table4/m-rdt", tmp_path)


def test_all_runs_of_a_row_a_sweep_a_suite_or_a_file_without_superseded_ones(runs, tmp_path):
    assert runs_named("table4/cl", tmp_path) == [runs["cl"]]
    assert runs_named("table4", tmp_path) == [runs["cl"], runs["first"], runs["other"], runs["done"]]
    assert runs_named("table4/itm", tmp_path) == runs_named("table3", tmp_path) == []  # never run, but there is such
    swept = put(tmp_path, "p-weak-0.1", "seed-0-dddd0000dddd", suite="figure4")
    put(tmp_path, "p-mask-0.3", "seed-0-dddd0000dddd", suite="figure4")
    assert runs_named("figure4/p-weak", tmp_path) == [swept]
    own = put(tmp_path, "a-row", "seed-0-eeee0000eeee", suite="own")  # of a file that is gone
    assert runs_named("own", tmp_path) == runs_named("own/a-*", tmp_path) == runs_named("own/a-row", tmp_path) == [own]
    with pytest.raises(SpecError, match="own/b: no row 'b' was run; there is a-row"):
        runs_named("own/b", tmp_path)
