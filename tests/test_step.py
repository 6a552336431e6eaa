"""The step as an instrument: what is switched off moves nothing else, and odd batches are defined."""

import pytest
import torch

from rasa.config.fidelity import PRESETS, Fidelity
from rasa.config.run import Objectives
from rasa.draws import Draws, derive
from rasa.model.momentum import momentum_copy
from rasa.model.queue import FeatureQueue
from rasa.model.rasa import build_model
from rasa.training.step import Teachers, step_losses
from tests.helpers.tiny_model import ALL, tiny
from tests.helpers.tiny_step import ROWS, SPECIAL, VOCABULARY, WEIGHTS, Fixed, inputs


def run(
    losses,
    positives="probabilistic",
    generator=None,
    preset="paper",
    batch=None,
    seed=0,
    step=0,
    dropout=0.1,
    **fidelity,
):
    """(losses, trace, model) of the first step of a fresh model."""
    config = tiny({name: WEIGHTS[name] for name in losses}, generator, seed, dropout=dropout)
    objectives = Objectives(weights={n: WEIGHTS[n] for n in losses}, positives=positives, generator=generator)
    model = build_model(config, VOCABULARY)
    teachers = Teachers(momentum_copy(model.encoders, True, True), FeatureQueue(10, 12), Fixed())
    batch = batch or inputs(matched="itm" in losses or "prd" in losses)
    out = step_losses(
        model,
        teachers,
        batch,
        objectives,
        Fidelity.model_validate({"preset": preset} | fidelity),
        0.3,
        Draws(seed, step),
        SPECIAL,
    )
    return out.losses, out.trace, model


def test_draws_depend_on_seed_kind_and_step_only():
    one, two = Draws(0, 5), Draws(0, 5)
    one.bernoulli("something else", torch.Size([100]), 0.5)
    assert torch.equal(one.integers("a", torch.Size([20]), 1000), two.integers("a", torch.Size([20]), 1000))
    drawn = {
        tuple(Draws(*at).integers(kind, torch.Size([20]), 1000).tolist())
        for at in ((0, 5), (1, 5), (0, 6))
        for kind in "ab"
    }
    assert len(drawn) == 6 and derive(0, "a", 1) != derive(0, "a", 11)


def test_categorical_draws_follow_the_weights_and_never_a_zero():
    weights = torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0]).expand(20_000, 5)
    drawn = Draws(0, 0).categorical("x", weights)
    counts = torch.bincount(drawn, minlength=5)
    assert counts[[0, 2, 4]].sum() == 0
    # 3/4 of 20,000 with a standard deviation of 61: five of them
    assert abs(counts[3].item() - 15_000) < 306


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("dropped", list(ALL))
def test_dropping_one_objective_leaves_the_others_bit_identical(dropped, preset):
    """With dropout on: the other losses and every draw of the first step are the same to the last bit."""
    full, trace, _ = run(list(ALL), generator="momentum", preset=preset)
    rest = [name for name in ALL if name != dropped]
    some, other, _ = run(rest, generator="momentum" if "rtd" in rest else None, preset=preset)
    assert set(some) == set(rest)
    for name in rest:
        assert torch.equal(some[name], full[name]), name
    drawn = ("mlm_input_ids", "mlm_labels", "rtd_input_ids", "rtd_labels", "weights_i2t", "weights_t2i")
    shared = [name for name in drawn if name in other]
    assert shared and all(torch.equal(other[name], trace[name]) for name in shared)


@pytest.mark.parametrize("preset", ["released", "paper"])
def test_itc_is_the_half_of_cl_between_image_and_text(preset):
    """Eq. 8: the mean of i2t and t2i, and Eq. 10: with IMC, the mean of i2i and t2t, it makes cl."""
    cl, trace, _ = run(["cl", "itm"], preset=preset)
    itc, alone, _ = run(["itc", "itm"], preset=preset)
    assert torch.equal(itc["itc"], (trace["loss_i2t"] + trace["loss_t2i"]) / 2)
    imc = (trace["loss_i2i"] + trace["loss_t2t"]) / 2
    assert (cl["cl"] - (itc["itc"] + imc) / 2).abs() < 1e-6 and (imc - itc["itc"]).abs() > 1e-3
    assert torch.equal(itc["itm"], cl["itm"])
    assert "loss_i2i" not in alone and "loss_t2t" not in alone  # off means not computed


def test_cl_and_itc_are_not_both_learned():
    with pytest.raises(ValueError, match=r"weights names cl and itc, but cl is the mean of itc and imc \(Eq. 10\)"):
        Objectives(weights={"cl": 1.0, "itc": 1.0})


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("row", ROWS)
def test_every_row_computes_its_losses_and_trains_all_it_builds(row, preset):
    losses, positives, generator = ROWS[row]
    found, _, model = run(losses, positives, generator, preset)
    assert set(found) == set(losses) and all(torch.isfinite(v) for v in found.values())
    sum(found.values()).backward()
    # the class row of the patch grid always has a gradient; what has none was built in vain
    idle = [n for n, p in model.named_parameters() if p.grad is None]
    assert idle == []


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("row", ROWS)
def test_every_row_runs_where_texts_are_not(row, preset, ranks):
    """Texts and masks stay on the CPU, all else is on a device, here the one that computes nothing: nothing may mix."""
    losses, positives, generator = ROWS[row]
    config = tiny({name: WEIGHTS[name] for name in losses}, generator)
    objectives = Objectives(weights={n: WEIGHTS[n] for n in losses}, positives=positives, generator=generator)
    model = build_model(config, VOCABULARY, device="meta")
    queue = FeatureQueue(10, 12).to("meta")
    teachers = Teachers(momentum_copy(model.encoders, True, True), queue, Fixed())
    batch = inputs(matched="itm" in losses or "prd" in losses)
    on_device = {name: getattr(batch, name).to("meta") for name in ("view1", "view2", "weak", "identity")}
    fidelity = Fidelity.model_validate({"preset": preset, "ranks": ranks})
    out = step_losses(model, teachers, batch._replace(**on_device), objectives, fidelity, 0.3, Draws(0, 0), SPECIAL)
    torch.stack(list(out.losses.values())).sum().backward()
    assert {loss.device.type for loss in out.losses.values()} == {"meta"}
    assert all(p.grad is not None for p in model.parameters())
    queue.push(out.image_feature_m, out.text_feature_m, on_device["identity"])


def test_the_same_seed_is_the_same_step_and_another_is_not():
    first, again, other = (run(list(ALL), generator="momentum", seed=s)[0] for s in (0, 0, 1))
    assert all(torch.equal(first[n], again[n]) for n in ALL)
    assert all(not torch.equal(first[n], other[n]) for n in ALL)


@pytest.mark.parametrize("generator", ["fixed", "online", "momentum"])
def test_only_the_generator_differs_between_the_rtd_rows(generator):
    """Masked texts and every loss but RTD's are those of the mlm row."""
    with_rtd, trace, _ = run(list(ALL), generator=generator)
    without, plain, _ = run(["cl", "itm", "prd", "mlm"])
    assert all(torch.equal(with_rtd[n], without[n]) for n in without)
    assert torch.equal(trace["mlm_input_ids"], plain["mlm_input_ids"])


def test_shared_masking_replaces_only_masked_words():
    """Paper reading: the words that MLM masks are those that RTD replaces; all else is the original text."""
    _, trace, _ = run(list(ALL), generator="momentum", preset="paper")
    original = inputs().annotated.ids
    masked = trace["mlm_labels"] != -100
    assert masked.any() and torch.equal(trace["rtd_input_ids"][~masked], original[~masked])
    assert (trace["rtd_labels"][masked] >= 0).all()
    assert (trace["rtd_labels"][inputs().annotated.ids == SPECIAL.sep] == -100).all()


def test_a_strong_generator_choice_is_its_most_probable_word():
    _, trace, _ = run(list(ALL), generator="fixed", rtd_choice="argmax")
    assert (trace["rtd_input_ids"].view(-1)[trace["rtd_positions"]] == 17).all()


@pytest.mark.parametrize(
    ("size", "identities"),
    [(1, [4]), (2, [4, 4]), (12, [i // 2 for i in range(12)])],
    ids=["one", "one identity", "beyond the queue"],
)
def test_odd_batches_have_finite_losses_and_gradients(size, identities):
    found, _, model = run(list(ALL), generator="momentum", batch=inputs(size, identities))
    sum(found.values()).backward()
    assert all(torch.isfinite(v) for v in found.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_every_fidelity_field_changes_the_preset_in_one_place():
    released, paper = Fidelity.model_validate("released"), Fidelity.model_validate("paper")
    assert set(PRESETS) == set(Fidelity.model_fields) - {"preset"}
    for name, (code, text) in PRESETS.items():
        assert (getattr(released, name), getattr(paper, name)) == (code, text)
    one = Fidelity.model_validate({"preset": "paper", "rtd_replace": "all"})
    assert one.model_copy(update={"rtd_replace": "masked"}) == paper


@pytest.mark.parametrize(
    ("field", "value", "moves"),
    [
        ("mlm_mask_rate", 0.5, {"mlm"}),
        ("mask_corruption", "mask", {"mlm", "rtd"}),
        ("mlm_soft_targets", False, {"mlm"}),
        ("mlm_soft_axis", "vocabulary", {"mlm"}),
        ("rtd_replace", "masked", {"rtd"}),
        ("rtd_choice", "argmax", {"rtd"}),
        ("contrastive_soft_targets", False, {"cl"}),
        ("contrastive_positives", "own", {"cl"}),
        ("contrastive_keys", "queue", {"cl"}),
        ("contrastive_text", "annotated", {"cl"}),
        ("itm_negatives", "random", {"itm"}),
        ("momentum_view", "same", {"cl", "mlm"}),
    ],
)
def test_a_fidelity_field_moves_the_losses_it_is_about(field, value, moves):
    """From the released preset with dropout off; `at least` these move, and cl, prd never by a matter of words."""
    base, _, _ = run(list(ALL), generator="momentum", preset="released", dropout=0.0)
    changed, _, _ = run(list(ALL), generator="momentum", preset="released", dropout=0.0, **{field: value})
    moved = {name for name in ALL if not torch.equal(base[name], changed[name])}
    assert moves <= moved
    if field.startswith(("mlm", "rtd", "mask")):
        assert not moved & {"cl", "itm", "prd"}


@pytest.mark.parametrize("generator", ["online", "momentum"])
@pytest.mark.parametrize("preset", ["released", "paper"])
def test_the_generators_dropout_is_one_field_for_both(generator, preset):
    """Without it both propose what the model without any dropout would; with it they do not. MLM keeps its own pass."""
    found = {
        wanted: run(ALL, generator=generator, preset=preset, generator_dropout=wanted, dropout=0.5)
        for wanted in (True, False)
    }
    _, clean, _ = run(ALL, generator=generator, preset=preset, dropout=0.0)
    logits = {dropout: trace["rtd_generator_logits"] for dropout, (_, trace, _) in found.items()}
    assert torch.allclose(logits[False], clean["rtd_generator_logits"], atol=1e-5)
    assert (logits[True] - clean["rtd_generator_logits"]).abs().max() > 1e-2
    assert torch.equal(found[True][0]["mlm"], found[False][0]["mlm"])


def test_both_presets_treat_the_generators_alike():
    """The released code keeps dropout in both, the paper's reading in neither."""
    assert PRESETS["generator_dropout"] == (True, False) == PRESETS["momentum_dropout"]
