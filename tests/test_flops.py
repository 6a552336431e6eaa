"""FLOPs in a run's record: the attention that is used is seen, a resumed run keeps its count, no number is moved."""

import pytest
import torch
import torch.nn.functional as F

import rasa.training.train as recipe
from rasa.training.flops import counter
from tests.freeze_numbers import tensors
from tests.helpers.people import write_people
from tests.helpers.recipe import training
from tests.helpers.short_runs import go, row

ATTENTION = 4 * 2 * 3 * 10 * 7 * 16  # scores and mixing: 2 products of 2 texts, 3 heads, 10 queries, 7 keys, 16 wide


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_fused_attention_is_counted_on_the_cpu(trained, masked):
    """torch's own counter gives 0 for the CPU's kernel. Backward: 5 products, of which one is the scores again."""
    query, key = torch.randn(2, 3, 10, 16, requires_grad=trained), torch.randn(2, 3, 7, 16, requires_grad=trained)
    mask = torch.ones(2, 1, 1, 7, dtype=torch.bool) if masked else None
    with counter() as counted:
        mixed = F.scaled_dot_product_attention(query, key, key, attn_mask=mask)
        if trained:
            mixed.sum().backward()
    assert counted.get_total_flops() == ATTENTION * (3.5 if trained else 1)


def test_what_is_off_costs_nothing_and_the_record_has_step_and_run(people, cache, tmp_path):
    found = {name: go(row(people, name), tmp_path / name, cache) for name in ("cl", "itm", "mlm", "m-rtd")}
    per_step = [result["cost"]["flops_per_step"] for result, _ in found.values()]
    assert 0 < per_step[0] and per_step == sorted(per_step) and len(set(per_step)) == len(per_step)
    for result, log in found.values():
        cost = result["cost"]
        assert cost["flops"] == cost["flops_per_step"] * cost["steps"] and cost["steps"] > 1
        assert log.of("cost")[0][1]["flops"] == cost["flops"]


@pytest.mark.parametrize("name", ["cl", "f-rtd", "m-rtd"])
def test_counting_moves_no_number(people, cache, tmp_path, monkeypatch, name):
    """Weights, momentum, queues and figures of a run that counts and of one that does not, to the last bit."""
    runs = {}
    for counts in (True, False):
        if not counts:
            monkeypatch.setattr(recipe, "step_flops", lambda *given: 1.0)
        run, log = training(row(people, name), tmp_path / str(counts), cache)
        run.train_epoch(lambda: False)
        runs[counts] = (tensors(run), log.of("train"), run.progress.flops_per_step)
    assert runs[True][1] == runs[False][1] and runs[True][2] > runs[False][2] == 1.0
    assert all(torch.equal(value, runs[False][0][key]) for key, value in runs[True][0].items())


def test_it_is_the_first_step_s_also_of_a_run_that_was_stopped(people, cache, tmp_path):
    config, whole = row(people, "m-rtd"), None
    whole, _ = go(config, tmp_path / "whole", cache)
    stops = iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        go(config, tmp_path / "broken", cache, should_stop=lambda: next(stops))
    resumed, log = go(config, tmp_path / "broken", cache)
    assert log.start == 2 and resumed["cost"]["flops_per_step"] == whole["cost"]["flops_per_step"]
