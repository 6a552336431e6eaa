"""Runs read from the tables of a database are those that MLflow's own search finds, field by field."""

import math

import pytest

from experiments import found
from experiments.found import FoundRun, find
from experiments.store import open_store
from tests.helpers.processes import fresh_store

WANTED = {"rasa.kind": "seed", "rasa.profile": "smoke"}


@pytest.fixture
def client(tmp_path):
    """A store of three runs that are asked for, and of six that differ from them in one thing each."""
    client = open_store(fresh_store(tmp_path))
    own, other = client.create_experiment("own"), client.create_experiment("other")
    for number in range(3):
        _make(client, own, 1000 + number, **WANTED)
    _make(client, other, 1000, **WANTED)
    _make(client, own, 1000, **WANTED | {"rasa.kind": "row"})
    _make(client, own, 1000, **WANTED | {"rasa.profile": "smoke2"})
    _make(client, own, 1000, **{"rasa.kind": "smoke", "rasa.profile": "seed"})
    _make(client, own, 1000, **{"rasa.kind": "seed"})
    client.delete_run(_make(client, own, 1000, **WANTED))
    return client


def _make(client, experiment, started, **tags):
    from mlflow.entities import Dataset, DatasetInput

    run = client.create_run(experiment, start_time=started, tags=tags | {"a": "b'c"}).info.run_id
    client.log_param(run, "data.root", "x")
    client.log_param(run, "data_of.another", "y")  # `_` is any sign to SQL
    for step, value in enumerate((1.5, 2.5)):
        client.log_metric(run, "test/r1", value + started, step=step)
    client.log_metric(run, "test/odd", math.nan)
    if started != 1001:
        client.log_inputs(run, [DatasetInput(Dataset("people", "d", "local", "{}", profile='{"test": {"images": 3}}'))])
    return run


def _plain(run: FoundRun):
    """A value that equals itself, whatever is NaN."""
    return repr((run.run_id, run.started, *(sorted(part.items()) for part in (run.tags, run.params, run.metrics)))), (
        run.dataset,
        run.sizes,
    )


def test_the_tables_hold_what_the_search_finds(client):
    quick = [_plain(run) for run in find(client, "own", WANTED)]
    experiment = client.get_experiment_by_name("own").experiment_id
    assert quick == [_plain(run) for run in found._asked(client, experiment, WANTED)]
    assert len(quick) == 3


def test_of_each_run_all_that_is_asked_for_is_there(client):
    newest, second, oldest = find(client, "own", WANTED)
    assert [run.started for run in (newest, second, oldest)] == [1002, 1001, 1000]
    assert newest.params == {"data.root": "x"} and newest.tags["a"] == "b'c"
    assert newest.metrics["test/r1"] == 2.5 + 1002 and math.isnan(newest.metrics["test/odd"])
    assert (newest.dataset, newest.sizes) == ("people", '{"test": {"images": 3}}')
    assert (second.dataset, second.sizes) == ("", "")


def test_page_after_page_is_asked_of_a_server(client, monkeypatch):
    monkeypatch.setattr(found, "PAGE", 2)
    monkeypatch.setattr(found, "_sessions", lambda client: None)
    assert len(list(find(client, "own", WANTED))) == 3


@pytest.mark.parametrize("gone", [False, True])
def test_an_experiment_that_is_not_there_has_no_runs(client, gone):
    if gone:
        client.delete_experiment(client.get_experiment_by_name("own").experiment_id)
    assert list(find(client, "own" if gone else "none", WANTED)) == []
