"""Parity with the authors' code: recorded losses, intermediates, gradients, optimizer steps, queues, EMA, retrieval.

Nothing here is fitted: sizes, ids, rates and outcomes come from the set (tests/helpers/golden_set.py). Double precision
is compared at 1e-9, the precision to which the set states its losses; recorded float32 tensors at the rounding that the
set itself gives for float32.
"""

import json
from pathlib import Path

import pytest
import torch

from rasa.data.tokenizer import Tokens
from rasa.evaluation.metrics import evaluate_order, final_order, stage1_order
from rasa.evaluation.rerank import PackedTexts, rerank
from rasa.model.momentum import ema_update
from rasa.model.packing import Text
from rasa.objectives.language import MaskDraws, mask_tokens
from rasa.training.optimizer import alpha_at, learning_rates, parameter_groups
from rasa.training.step import step_losses
from rasa.weights.released import REDUNDANT, names, resize_position_embedding, to_released
from tests.helpers import golden_set as golden

FACTS, SIZES = golden.FACTS, golden.SIZES
FACT_FILES = Path(__file__).parent / "golden" / "facts"


def run_step(step, model, teachers, dtype=torch.float64, **fidelity):
    """One recorded step's forward pass after its EMA; (output, trace, total)."""
    config = golden.config(**fidelity)
    if config.fidelity.ema_timing == "before":
        ema_update(teachers.momentum, model.encoders, SIZES["momentum"])
    out = step_losses(
        model,
        teachers,
        golden.step_inputs(step, dtype),
        config.objectives,
        config.fidelity,
        SIZES["alpha_per_step"][step - 1],
        golden.RecordedDraws(step),
        golden.SPECIAL,
    )
    total = sum(weight * out.losses[name] for name, weight in config.objectives.weights.items())
    return out, out.trace, total


@pytest.fixture(scope="module")
def first_step():
    """Step 1 in double precision, with gradients."""
    model, teachers, _ = golden.models()
    out, trace, total = run_step(1, model, teachers)
    total.backward()
    return model, teachers, out, trace, total


@pytest.fixture(scope="module")
def three_steps():
    """Three whole training steps: (losses of each step, model, teachers, queue state after steps 1 and 3)."""
    model, teachers, _ = golden.models()
    optimizer = torch.optim.AdamW(parameter_groups(model, SIZES["optimizer"]["weight_decay"], True))
    for group in optimizer.param_groups:
        group["lr"] = SIZES["optimizer"]["lr_custm" if group["heads"] else "lr"]
    losses, queues = [], {}
    for step in (1, 2, 3):
        out, _, total = run_step(step, model, teachers)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        teachers.queue.push(out.image_feature_m, out.text_feature_m, golden.step_inputs(step).identity)
        losses.append({name: value.item() for name, value in out.losses.items()} | {"total": total.item()})
        queues[step] = {name: buffer.clone() for name, buffer in teachers.queue.named_buffers()}
    return losses, model, teachers, queues


def test_state_loads_with_nothing_left_over_or_missing_and_writes_back_equal():
    model, teachers, report = golden.models(torch.float32)
    given = golden.tensors("state_before")
    assert (report.unused, report.fresh, report.resized) == ([], [], [])
    assert set(report.loaded) == {key for key in given if not REDUNDANT.match(key)}
    written = to_released(model, teachers.momentum, teachers.queue)
    assert set(written) == set(given)
    for key, value in given.items():
        assert written[key].shape == value.shape and torch.equal(written[key].to(value.dtype), value), key


@pytest.mark.parametrize("name", list(golden.LOSSES))
def test_losses_of_step_1_in_double_precision(first_step, name):
    expected = FACTS["steps"][0]["float64"][golden.LOSSES[name]]
    assert first_step[2].losses[name].item() == pytest.approx(expected, abs=1e-9, rel=0)


def test_losses_of_step_1_in_single_precision():
    model, teachers, _ = golden.models(torch.float32)
    out, _, _ = run_step(1, model, teachers, torch.float32)
    for name, loss in out.losses.items():
        # 1e-5: float32 and float64 differ by 5e-7 in the set; twenty times that covers other kernels
        assert loss.item() == pytest.approx(FACTS["steps"][0]["float64"][golden.LOSSES[name]], abs=1e-5, rel=0)


def close_to(ours, expected):
    # 5e-5: logits over a temperature of 0.07 magnify the set's float32 rounding of 7e-6
    assert torch.allclose(ours.detach().float(), expected, atol=5e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "image_embeds",
        "image_embeds_m",
        "image_feat",
        "image_feat_m",
        "text_feat",
        "text_feat_m",
        "sim_targets",
        "itm_logits",
        "prd_logits",
    ]
    + [f"sim_{a}2{b}{suffix}" for a in "it" for b in "it" for suffix in ("", "_targets")],
)
def test_intermediates_of_step_1(first_step, name):
    ours = first_step[3][name].detach()
    close_to(ours, golden.tensors("expected_step1")[name])
    stated = FACTS["intermediates_float64_checksums"][name]
    for kind, value in golden.checksum(ours).items():
        assert value == pytest.approx(stated[kind], rel=1e-8, abs=1e-8), kind


def test_token_states_of_step_1(first_step):
    """Where there is a token; the recorded states of padding enter no loss but MLM's, which is compared."""
    trace, expected = first_step[3], golden.tensors("expected_step1")
    batch = golden.step_inputs(1)
    close_to(trace["text_embeds"], expected["text_embeds"][batch.matched.mask])
    close_to(trace["text_embeds_m"], expected["text_embeds_m"][:, 0])  # of the momentum model [CLS] alone is computed
    real = batch.annotated.mask
    close_to(trace["fusion_rtd"], expected["fusion_rtd"][real])
    close_to(trace["rtd_logits"], expected["rtd_logits"][real.flatten()])
    for name in ("fusion_pos", "fusion_neg"):  # [CLS] alone is computed
        close_to(trace[name], expected[name][:, 0])


def test_contrastive_terms_of_step_1(first_step):
    for name in ("i2t", "t2i", "i2i", "t2t"):
        assert first_step[3][f"loss_{name}"].item() == pytest.approx(
            FACTS["steps"][0]["float64"][f"loss_{name}"], abs=1e-9, rel=0
        )


def test_negative_weights_follow_the_recorded_ones(first_step):
    for ours, theirs in (("weights_i2t", "weights_i2t"), ("weights_t2i", "weights_t2i")):
        recorded = golden.tensors("expected_step1")[theirs].double()
        normalised = recorded / recorded.sum(1, keepdim=True)  # theirs is not renormalised after masking; the draw is
        assert torch.allclose(first_step[3][ours], normalised, atol=2e-5)


def test_language_and_generator_logits_at_the_selected_positions(first_step):
    trace, expected = first_step[3], golden.tensors("expected_step1")
    assert torch.allclose(trace["mlm_logits_selected"].float(), expected["mlm_logits_selected"], atol=5e-5)
    assert torch.allclose(trace["mlm_logits_m_selected"].float(), expected["mlm_logits_m_selected"], atol=5e-5)
    draws = golden.RecordedDraws(1)
    chosen = draws.drawn["rtd_bern_select"][draws.real]  # of the generator's positions, those the set recorded
    generated = trace["rtd_generator_logits"][chosen]
    assert torch.allclose(generated.float(), expected["rtd_generator_logits_m_selected"], atol=5e-5)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_masking_from_the_raw_draws(step):
    draws, text = golden.RecordedDraws(step), golden.step_inputs(step).annotated
    for objective, ids, labels in (("mlm", "mlm_input_ids", "mlm_labels"), ("rtd", "rtd_masked_input_ids", None)):
        raw = MaskDraws(
            *(
                draws.drawn[f"{objective}_{n}"]
                for n in ("bern_select", "bern_replace80", "bern_random50", "random_words")
            )
        )
        masked, our_labels = mask_tokens(text.ids, raw, golden.SPECIAL, separator=True, corruption="bert")
        assert torch.equal(masked, draws.drawn[ids])
        assert labels is None or torch.equal(our_labels, draws.drawn[labels])


@pytest.mark.parametrize("step", [1, 2, 3])
def test_replaced_text_from_the_raw_draws(step):
    model, teachers, _ = golden.models()
    _, trace, _ = run_step(step, model, teachers)
    drawn = golden.RecordedDraws(step).drawn
    assert torch.equal(trace["rtd_input_ids"], drawn["rtd_input_ids"])
    assert torch.equal(trace["rtd_labels"], drawn["rtd_labels"])


def test_recorded_gradients(first_step):
    parameters = names(first_step[0], None)
    recorded = golden.tensors("grads_step1")
    assert len(recorded) >= 10
    for key, expected in recorded.items():
        noise = FACTS["grad_max_abs_diff_float32_float64_step1"][key]
        error = (parameters[key].grad.float() - expected).abs().max().item()
        assert error <= 2 * noise + 1e-6 * expected.abs().max().item(), key


def test_gradient_norm_of_every_parameter(first_step):
    parameters = names(first_step[0], None)
    stated = FACTS["step1_grad_norm_per_parameter_float64"]
    noise_only = set(FACTS["noise_dominated_params"]["names"])
    assert set(stated) == set(parameters)
    for key, expected in stated.items():
        norm = parameters[key].grad.norm().item()
        # an attention key bias has no true gradient, so only its smallness can be checked
        tolerance = {"abs": 1e-6} if key in noise_only and "qkv" not in key else {"rel": 1e-8}
        assert norm == pytest.approx(expected, **tolerance), key


@pytest.mark.parametrize("name", list(golden.LOSSES))
def test_gradient_of_each_loss_alone(name):
    model, teachers, _ = golden.models()
    out, _, _ = run_step(1, model, teachers)
    out.losses[name].backward()
    stated = FACTS["step1_grad_norm_per_module_of_each_unweighted_loss_float64"][golden.LOSSES[name]]
    parameters = names(model, None)
    for module, expected in stated.items():
        members = [p for key, p in parameters.items() if key == module or key.startswith(module + ".")]
        norm = torch.stack([p.grad.norm() for p in members if p.grad is not None]).norm().item()
        assert norm == pytest.approx(expected, rel=1e-7), module


def test_optimizer_groups():
    model, _, _ = golden.models()
    key_of = {id(p): key for key, p in names(model, None).items()}
    ours = parameter_groups(model, SIZES["optimizer"]["weight_decay"], True)
    found = {(g["heads"], g["weight_decay"]): {key_of[id(p)] for p in g["params"]} for g in ours}
    for group in FACTS["param_groups"]:
        heads = group["lr"] == SIZES["optimizer"]["lr_custm"]
        assert found.pop((heads, group["weight_decay"])) == set(group["params"])
    assert not found


@pytest.mark.parametrize("step", [1, 2, 3])
def test_losses_after_optimizer_steps(three_steps, step):
    stated = FACTS["steps"][step - 1]["float64"]
    for name, value in three_steps[0][step - 1].items():
        key = "total" if name == "total" else golden.LOSSES[name]
        assert value == pytest.approx(stated[key], abs=1e-9 if step == 1 else 1e-7, rel=0), name


@pytest.mark.parametrize("step", [1, 3])
def test_queues(three_steps, step):
    recorded, ours = golden.tensors("after"), three_steps[3][step]
    for key, name in (("image_queue", "images"), ("text_queue", "texts")):
        if f"step{step}.{key}" in recorded:
            assert torch.allclose(ours[name].T.float(), recorded[f"step{step}.{key}"], atol=2e-5)
    if f"step{step}.idx_queue" in recorded:
        assert torch.equal(ours["identities"], recorded[f"step{step}.idx_queue"][0])
    assert ours["pointer"].item() == FACTS["steps"][step - 1]["queue_ptr_after"]
    assert ours["identities"].tolist() == FACTS["steps"][step - 1]["idx_queue_after"]


def test_ema_of_step_1():
    model, teachers, _ = golden.models()
    ema_update(teachers.momentum, model.encoders, SIZES["momentum"])
    state = to_released(model, teachers.momentum)
    for key, expected in golden.tensors("after").items():
        if key.startswith("step1.ema."):
            assert torch.allclose(state[key.removeprefix("step1.ema.")].float(), expected, atol=1e-7), key
    for key, stated in FACTS["momentum_after_ema_step1"].items():
        assert golden.checksum(state[key])["l2"] == pytest.approx(stated["l2"], rel=1e-6), key


def test_parameters_and_momentum_after_step_3(three_steps):
    _, model, teachers, _ = three_steps
    state = to_released(model, teachers.momentum)
    noise = set(FACTS["noise_dominated_params"]["names"])
    for part in ("params_after_step3_float64", "momentum_after_ema_step3_float64"):
        order = FACTS[part]["order"]
        for key, values in FACTS[part]["values"].items():
            if key.replace("_m.", ".", 1) in noise:
                continue
            ours = golden.checksum(state[key])
            for kind, value in zip(order, values, strict=True):
                assert ours[kind] == pytest.approx(value, abs=1e-6, rel=1e-7), (key, kind)


# The set's own list of what one wrong detail does to the losses, where our fidelity has that detail as a field.
CHANGED = {
    "mlm soft-label loss: log-softmax over the vocabulary axis instead of the sequence axis": {
        "mlm_soft_axis": "vocabulary"
    },
    "EMA update after (not before) the momentum forward": {"ema_timing": "after"},
    "alpha = 0 (no soft targets at all)": {"mlm_soft_targets": False, "contrastive_soft_targets": False},
    "contrastive targets with the paired sample as the only positive": {"contrastive_positives": "own"},
    "momentum encoder fed with view 1 instead of view 2": {"momentum_view": "same"},
    "RTD: sampled PAD/CLS tokens at real positions counted instead of ignored": {"rtd_ignore": "padding"},
    "RTD: only selected positions replaced (paper reading) instead of all positions": {"rtd_replace": "masked"},
}


@pytest.mark.parametrize("mistake", CHANGED)
def test_a_fidelity_field_moves_the_losses_as_recorded(mistake):
    model, teachers, _ = golden.models()
    out, _, _ = run_step(1, model, teachers, **CHANGED[mistake])
    recorded = FACTS["sensitivity_of_step1_losses_to_deliberate_mistakes"][mistake]
    for name, key in golden.LOSSES.items():
        change = out.losses[name].item() - FACTS["steps"][0]["float64"][key]
        assert change == pytest.approx(recorded[key], abs=2e-6), name  # the list is in float32


@pytest.fixture(scope="module")
def gallery():
    given = golden.tensors("eval")
    model, _, _ = golden.models()
    model.eval()
    facts = FACTS["evaluation"]
    text = Text.of(Tokens(given["input_ids"], given["attention_mask"].bool()), "cpu")
    with torch.no_grad():
        tokens = model.encoders.encode_image(given["images"].double())
        states = model.encoders.encode_text(text)
    return model, given, facts, tokens, states, text.packing


def test_stage_1_features_and_candidates(gallery):
    model, given, facts, tokens, states, packing = gallery
    image, text = model.encoders.image_feature(tokens), model.encoders.text_feature(states, packing)
    assert torch.allclose(image.float(), given["image_feat"], atol=2e-6)
    assert torch.allclose(text.float(), given["text_feat"], atol=2e-6)
    assert torch.allclose((text @ image.T).float(), given["similarity"], atol=2e-6)
    assert torch.equal(stage1_order(text @ image.T)[:, : facts["k_test"]], given["topk_idx"])


def test_stage_2_score_matrix(gallery):
    model, given, facts, tokens, states, packing = gallery
    texts = PackedTexts([(model.encoders.fusion.attend(states, packing), packing)])
    scores = rerank(model, [tokens], texts, given["topk_idx"], "logit", tokens_per_call=200)
    matrix = torch.full(given["score"].shape, facts["unselected_score"]).double()
    matrix.scatter_(1, given["topk_idx"], scores)
    assert torch.allclose(matrix.float(), given["score"], atol=1e-5)


@pytest.mark.parametrize(("beyond", "expected"), [("tied", "stable"), ("stage1", None)])
def test_retrieval_metrics(gallery, beyond, expected):
    _, given, facts, *_ = gallery
    identities = torch.tensor(facts["img2person"]), torch.tensor(facts["txt2person"])
    scores = given["score"].gather(1, given["topk_idx"])
    result = evaluate_order(final_order(stage1_order(given["similarity"]), scores, beyond), *identities).metrics
    for k in ("r1", "r5", "r10"):
        assert result[k] == pytest.approx(facts["metrics_official"][k], abs=1e-4)
    bounds = facts["mAP_by_tie_order"]
    assert bounds["worst"] <= result["map"] <= bounds["best"]
    if expected:
        assert result["map"] == pytest.approx(bounds[expected], abs=1e-6)


def test_learning_rate_schedule():
    facts = json.loads((FACT_FILES / "lr_schedule.json").read_text())
    given = facts["config"]
    config = golden.config().optimisation.model_copy(
        update={
            "epochs": given["epochs"],
            "learning_rate": given["lr"],
            "head_learning_rate": given["lr_custm"],
            "min_learning_rate": given["min_lr"],
            "warmup_learning_rate": given["warmup_lr"],
        }
    )
    for run in facts["runs"]:
        steps = run["iterations_per_epoch"]
        for entry in run["epoch0"]:
            expected = (entry["lr_base"], entry["lr_heads"])
            assert learning_rates(config, True, 0, entry["iteration"], steps) == pytest.approx(expected, rel=1e-12)
        for entry in run["per_epoch"]:
            for i, when in ((0, "first"), (steps - 1, "last")):
                expected = (entry[f"lr_base_{when}"], entry[f"lr_heads_{when}"])
                assert learning_rates(config, True, entry["epoch"], i, steps) == pytest.approx(expected, rel=1e-12)


def test_alpha_schedule():
    facts = json.loads((FACT_FILES / "alpha_schedule.json").read_text())
    for key in ("epoch0_len10", "epoch0_len7"):
        ours = [alpha_at(facts["alpha"], 1, 0, i, len(facts[key])) for i in range(len(facts[key]))]
        assert ours == pytest.approx(facts[key], rel=1e-12)
    assert alpha_at(facts["alpha"], 1, 1, 0, 10) == facts["epoch1"]


def test_position_embedding_resizing():
    from safetensors.torch import load_file

    given = load_file(FACT_FILES / "pos_embed.safetensors")
    for name, source in given.items():
        if not name.startswith("out_"):
            continue
        side = name.rsplit("x", 1)[1]
        start = "in_4x4" if "4x4" in name.replace("24x24", "") else "in_16x16"
        resized = resize_position_embedding(given[start], (int(side), int(side)))
        assert torch.allclose(resized, source, atol=1e-6), name
        assert torch.equal(resized[:, :1], given[start][:, :1])
    assert resize_position_embedding(given["in_16x16"], (16, 16)) is given["in_16x16"]


def test_recorded_metrics():
    facts = json.loads((FACT_FILES / "itm_eval.json").read_text())
    for case in facts["cases"]:
        order = stage1_order(torch.tensor(case["scores"]))
        ours = evaluate_order(order, torch.tensor(case["img2person"]), torch.tensor(case["txt2person"])).metrics
        for ours_key, theirs in (("r1", "r1"), ("r5", "r5"), ("r10", "r10"), ("map", "mAP")):
            assert ours[ours_key] == pytest.approx(case["expected"][theirs], abs=1e-4)
    lone = facts["text_without_relevant_image"]
    order = stage1_order(torch.tensor(lone["scores"]).float())
    ours = evaluate_order(order, torch.tensor(lone["img2person"]), torch.tensor(lone["txt2person"]))
    assert ours.metrics["r1"] == lone["result"]["r1"] and ours.metrics["map"] != ours.metrics["map"]
