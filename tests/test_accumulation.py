"""A batch in shares and in parts: what the released four processes compute, and small cards with the same numbers."""

import pytest
import torch

from rasa.draws import Draws
from rasa.errors import SpecError
from rasa.model.momentum import momentum_copy
from rasa.model.queue import FeatureQueue
from rasa.model.rasa import build_model
from rasa.objectives.ranks import rank_of, rank_weights
from rasa.training.accumulation import batch_parts, forward_backward, out_of_memory
from rasa.training.step import StepLosses, Teachers
from tests.helpers.tiny_model import ALL, tiny
from tests.helpers.tiny_step import SPECIAL, VOCABULARY, Fixed, inputs


def one_step(ranks, accumulation, preset="released", losses=ALL, generator="momentum", identities=None):
    """(losses, gradients, pushed features) of the first step on 12 pairs in double precision, without dropout."""
    config = tiny(losses, generator if "rtd" in losses else None)
    fidelity = type(config.fidelity).model_validate({"preset": preset, "ranks": ranks})
    config = config.model_copy(update={"fidelity": fidelity})
    model = build_model(config, VOCABULARY).double()
    momentum = momentum_copy(model.encoders, "mlm" in losses, "mlm" in losses)
    teachers = Teachers(momentum, FeatureQueue(10, 12).double(), Fixed())
    batch = inputs(12, identities)
    batch = batch._replace(view1=batch.view1.double(), view2=batch.view2.double())
    out = forward_backward(
        StepLosses(model),
        teachers,
        batch,
        config,
        batch_parts(12, ranks, accumulation),
        0.3,
        Draws(config.seed, 0),
        SPECIAL,
        "float32",
    )
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return out.losses, gradients, (out.image_feature_m, out.text_feature_m)


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("generator", ["momentum", "online", "fixed"])
@pytest.mark.parametrize(("ranks", "parts"), [(4, 4), (4, 2), (2, 2)])
def test_parts_that_hold_whole_shares_change_no_number(preset, generator, ranks, parts):
    whole, split = one_step(ranks, 1, preset, generator=generator), one_step(ranks, parts, preset, generator=generator)
    for name, loss in whole[0].items():
        assert torch.allclose(split[0][name], loss, rtol=0, atol=1e-12), name
    assert whole[1].keys() == split[1].keys()
    assert all(torch.allclose(split[1][n], g, rtol=1e-9, atol=1e-12) for n, g in whole[1].items())
    assert all(torch.allclose(a, b, atol=1e-14) for a, b in zip(split[2], whole[2], strict=True))


def test_parts_without_shares_see_fewer_negatives_and_say_so():
    whole, split = one_step(1, 1), one_step(1, 3)
    assert not torch.allclose(split[0]["cl"], whole[0]["cl"], rtol=1e-4)
    assert split[0]["prd"].item() == pytest.approx(
        whole[0]["prd"].item(), abs=1e-12
    )  # a mean over pairs, whoever else is there
    assert "in that part alone" in batch_parts(12, 1, 3).note and str(batch_parts(12, 1, 3)) == "3 x 4"
    assert batch_parts(12, 4, 4).note is None and str(batch_parts(12, 4, 2)) == "4 x 3"
    assert batch_parts(12, 1, 1).note is None and str(batch_parts(12, 1, 1)) == "12"


def test_shares_change_what_the_batch_is_contrasted_with():
    one, four = one_step(1, 1), one_step(4, 1)
    assert all(not torch.allclose(one[0][name], four[0][name], rtol=1e-6) for name in ("cl", "itm"))
    assert four[0]["prd"].item() == pytest.approx(one[0]["prd"].item(), abs=1e-12)


def test_a_share_without_negatives_is_left_out_of_matching():
    """Identities 0 0 0 | 1 2 3 | 4 4 4 | 5 6 7: the first and the third share of three have no negative."""
    found = one_step(4, 1, identities=[0, 0, 0, 1, 2, 3, 4, 4, 4, 5, 6, 7])
    assert all(torch.isfinite(v) for v in found[0].values())
    assert all(torch.isfinite(g).all() for g in found[1].values())


def test_weights_give_the_mean_of_the_shares_means():
    """Shares (1, 2, -) and (3): means 1.5 and 3, so 2.25, where the plain mean of 1, 2, 3 is 2."""
    values, counted = torch.tensor([1.0, 2.0, 9.0, 3.0]), torch.tensor([True, True, False, True])
    share = torch.tensor([0, 0, 0, 1])
    assert (rank_weights(counted, share, 2, torch.float32) @ values).item() == pytest.approx(2.25)
    assert (rank_weights(counted, share, 3, torch.float32) @ values).item() == pytest.approx(1.5)  # an empty third
    assert rank_of(torch.zeros(6), 3).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_batch_that_cannot_be_cut_is_refused_with_the_field():
    with pytest.raises(SpecError, match="fidelity.ranks 4 does not divide the batch of 6"):
        batch_parts(6, 4, 1)
    with pytest.raises(ValueError, match="batch_size 52 is not a multiple of optimisation.accumulation 5"):
        type(tiny()).model_validate(tiny().model_dump() | {"optimisation": {"accumulation": 5}})


@pytest.mark.parametrize(
    ("ranks", "parts", "remedy"),
    [
        (1, 1, "accumulation=2"),
        (1, 13, "accumulation=26"),
        (4, 1, "accumulation=2"),
        (4, 4, "accumulation=52"),
        (4, 52, "a smaller optimisation.batch_size or data.image_size"),
    ],
)
def test_the_remedy_for_too_little_memory_is_one_that_the_config_takes(ranks, parts, remedy):
    """13 and 26 parts of 52 pairs would cut the four shares, so after 4 comes 52."""
    said = out_of_memory(52, ranks, parts, (384, 384))
    assert remedy in said and f"in {parts} parts at 384 x 384 pixels" in said
