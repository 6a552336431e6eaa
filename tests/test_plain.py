"""The fast step and re-ranking against the plain ones (benchmarks/plain.py), and the plain ones against the recordings.

In double precision, without dropout, with the same draws: losses and gradients of the weighted total are equal to
1e-10, some ten thousand roundings of values near 1.
"""

import random
import typing
from types import SimpleNamespace

import pytest
import torch

from benchmarks.plain import PUSHED, plain_ema, plain_push, plain_rerank, plain_step
from rasa.config.fidelity import PRESETS, Fidelity
from rasa.config.run import Objectives
from rasa.data.tokenizer import Tokens
from rasa.draws import Draws
from rasa.evaluation.rerank import PackedTexts, rerank
from rasa.model.momentum import ema_update, momentum_copy
from rasa.model.packing import Text
from rasa.model.queue import NOBODY, FeatureQueue
from rasa.model.rasa import build_model
from rasa.training.optimizer import parameter_groups
from rasa.training.step import Teachers, step_losses
from rasa.weights.released import names
from tests.helpers import golden_set as golden
from tests.helpers.tiny_model import ALL, tiny
from tests.helpers.tiny_step import ROWS, SPECIAL, VOCABULARY, WEIGHTS, inputs

FACTS, SIZES = golden.FACTS, golden.SIZES
TOLERANCE = 1e-10


def seeded(number):
    return torch.Generator().manual_seed(number)


class Proposer(torch.nn.Module):
    """A fixed generator: the word that it sees decides what it proposes."""

    def __init__(self):
        super().__init__()
        self.table = torch.randn(VOCABULARY, VOCABULARY, generator=seeded(5)).double()

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(logits=self.table[input_ids])


@torch.no_grad()
def shaken(module, seed):
    """In double precision, with all weights moved, so that none is 0 or 1 and the two models differ."""
    module.double()
    for i, parameter in enumerate(module.parameters()):
        noise = torch.randn(parameter.shape, generator=seeded(1000 * seed + i), dtype=torch.float64)
        parameter.add_(0.05 * noise * (0.1 if parameter.dim() == 0 else 1))
    return module


def captioned(size, positives, identities=None):
    """A batch in which, unless all captions are the annotated ones, every third one is another's."""
    batch = inputs(size, identities, matched=True)
    exchanged = batch.weak & (positives != "annotated")
    ids = torch.where(exchanged[:, None], batch.matched.ids, batch.annotated.ids)
    mask = torch.where(exchanged[:, None], batch.matched.mask, batch.annotated.mask)
    return batch._replace(
        view1=batch.view1.double(), view2=batch.view2.double(), matched=Tokens(ids, mask), weak=exchanged
    )


def scene(row, fidelity, size=6, identities=None, seed=0):
    """What both steps are given."""
    losses, positives, generator = ROWS[row]
    weights = {name: WEIGHTS[name] for name in losses}
    model = shaken(build_model(tiny(weights, generator, seed), VOCABULARY), 1)
    momentum = shaken(momentum_copy(model.encoders, True, True), 2)
    queue = FeatureQueue(10, 12, seed).double()
    queue.identities.copy_(torch.tensor([0, 1, 1, 2, 9, NOBODY, 0, 3, NOBODY, 2]))
    queue.pointer.fill_(7)  # so that a batch wraps around
    batch = captioned(size, positives, identities)
    if "itm" not in losses:
        batch = batch._replace(matched=None)
    objectives = Objectives(weights=weights, positives=positives, generator=generator)
    given = (Teachers(momentum, queue, Proposer()), batch, objectives, fidelity, 0.3, Draws(seed, 4), SPECIAL)
    return model, given


def gradients(model, weights, losses):
    """Of the weighted total, by parameter name; the losses' values."""
    model.zero_grad(set_to_none=True)
    sum(weight * losses[name] for name, weight in weights.items()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal(row, fidelity, **scene_options):
    """Losses, gradients of all parameters, and pushed features of the fast and the plain step."""
    model, given = scene(row, fidelity, **scene_options)
    weights = given[2].weights
    fast = step_losses(model, *given)
    fast_gradients = gradients(model, weights, fast.losses)
    plain = plain_step(model, *given)
    plain_gradients = gradients(model, weights, plain)

    assert set(fast.losses) == set(plain) - set(PUSHED) == set(weights)
    for name, loss in fast.losses.items():
        assert abs(loss.item() - plain[name].item()) < TOLERANCE, (name, loss.item(), plain[name].item())
    assert set(fast_gradients) == set(plain_gradients) == {name for name, _ in model.named_parameters()}
    wrong = {n: (g - plain_gradients[n]).abs().max().item() for n, g in fast_gradients.items()}
    assert {n: e for n, e in wrong.items() if not e < TOLERANCE} == {}
    for name in PUSHED:
        pushed = getattr(fast, name)
        assert (pushed is None) == (name not in plain)
        assert pushed is None or (pushed - plain[name]).abs().max() < TOLERANCE


# The fast step


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("row", ROWS)
def test_fast_step_is_the_plain_one(row, preset):
    assert_equal(row, Fidelity.model_validate(preset))


def other_values(field, value):
    """The values that a field may have beside `value`."""
    if field == "ranks":
        return [2]
    if field == "mlm_mask_rate":
        return [0.5, None if value else 0.15]
    annotation = Fidelity.model_fields[field].annotation
    return [v for v in ((False, True) if annotation is bool else typing.get_args(annotation)) if v != value]


CHANGES = [
    (preset, field, value)
    for column, preset in enumerate(["released", "paper"])
    for field, values in PRESETS.items()
    for value in other_values(field, values[column])
]


@pytest.mark.parametrize("row", ["o-rtd", "m-rtd"])
@pytest.mark.parametrize(("preset", "field", "value"), CHANGES)
def test_with_any_one_field_changed(preset, field, value, row):
    assert_equal(row, Fidelity.model_validate({"preset": preset, field: value}))


@pytest.mark.parametrize("replace", ["all", "masked"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_one_masked_text_for_a_softmax_over_the_sequence_and_the_online_generator(replace, ranks):
    """MLM's pass computes padding then, and the generator reads the same pass."""
    fields = {"preset": "released", "shared_masking": True, "rtd_replace": replace, "ranks": ranks}
    assert_equal("o-rtd", Fidelity.model_validate(fields))


@pytest.mark.parametrize("seed", range(30))
def test_with_any_fields_changed(seed):
    """Thirty readings drawn at random, each with a row that uses everything and with its own draws."""
    chosen = random.Random(seed)
    fields = {field: chosen.choice([values[0], *other_values(field, values[0])]) for field, values in PRESETS.items()}
    fields["ranks"] = chosen.choice([1, 1, 2, 3])
    assert_equal(chosen.choice(["f-rtd", "o-rtd", "m-rtd"]), Fidelity.model_validate(fields), seed=seed)


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("row", ["itm-prd", "f-rtd", "o-rtd", "m-rtd"])
@pytest.mark.parametrize(("ranks", "size"), [(2, 6), (3, 6), (2, 12), (3, 12)])
def test_ranks_are_processes_one_after_the_other(row, preset, ranks, size):
    assert_equal(row, Fidelity.model_validate({"preset": preset, "ranks": ranks}), size=size)


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_pairs_without_a_negative(ranks, preset):
    """All pairs of the last two or three are one person's, so with ranks their process has no negative at all."""
    fidelity = Fidelity.model_validate({"preset": preset, "ranks": ranks})
    assert_equal("m-rtd", fidelity, identities=[0, 1, 1, 2, 2, 2])


def test_plain_ranks_differ_from_one_process_and_are_its_mean_over_shares():
    """By hand, of losses that need no draw: two processes are the mean of two steps with half the batch each."""
    one, two = (Fidelity.model_validate({"preset": "released", "ranks": ranks}) for ranks in (1, 2))
    model, (teachers, batch, objectives, _, *rest) = scene("cl", two)
    found = plain_step(model, teachers, batch, objectives, two, *rest)["cl"]
    halves = [
        plain_step(model, teachers, batch._replace(matched=None).part(rows), objectives, one, *rest)["cl"]
        for rows in (slice(0, 3), slice(3, 6))
    ]
    assert found.item() == pytest.approx(sum(halves).item() / 2, abs=1e-12)
    assert abs(found - plain_step(model, teachers, batch, objectives, one, *rest)["cl"]) > 1e-3


# The plain step


def test_plain_dropout_is_in_both_models_or_in_the_online_one():
    for momentum_dropout in (True, False):
        fidelity = Fidelity.model_validate({"preset": "released", "momentum_dropout": momentum_dropout})
        model, given = scene("m-rtd", fidelity)
        without, with_it = plain_step(model, *given), plain_step(model, *given, dropout=0.1)
        assert all(not torch.equal(with_it[name], without[name]) for name in ALL)
        assert torch.equal(with_it["image_feature_m"], without["image_feature_m"])  # the image encoder has none
        assert torch.equal(with_it["text_feature_m"], without["text_feature_m"]) == (not momentum_dropout)


def recorded_step(step, model, teachers):
    """One recorded step by plain means up to the gradients: its losses and momentum features."""
    config = golden.config()
    plain_ema(teachers.momentum, model.encoders, SIZES["momentum"])
    out = plain_step(
        model,
        teachers,
        golden.step_inputs(step),
        config.objectives,
        config.fidelity,
        SIZES["alpha_per_step"][step - 1],
        golden.RecordedDraws(step),
        golden.SPECIAL,
    )
    model.zero_grad(set_to_none=True)
    sum(weight * out[name] for name, weight in config.objectives.weights.items()).backward()
    return out


def test_plain_steps_are_the_recorded_ones():
    """Three steps of the authors' code: losses, gradient norms, queues."""
    model, teachers, _ = golden.models()
    optimizer = torch.optim.AdamW(
        parameter_groups(model, SIZES["optimizer"]["weight_decay"], True), foreach=False, fused=False
    )
    for group in optimizer.param_groups:
        group["lr"] = SIZES["optimizer"]["lr_custm" if group["heads"] else "lr"]
    for step, stated in enumerate(FACTS["steps"], 1):
        out = recorded_step(step, model, teachers)
        for name, key in golden.LOSSES.items():
            # 1e-7 after the first: Adam divides by gradients that are rounding alone (tests/test_parity.py)
            expected = pytest.approx(stated["float64"][key], abs=1e-9 if step == 1 else 1e-7, rel=0)
            assert out[name].item() == expected, (step, name)
        if step == 1:
            parameters, noise = names(model, None), set(FACTS["noise_dominated_params"]["names"])
            for key, norm in FACTS["step1_grad_norm_per_parameter_float64"].items():
                tolerance = {"abs": 1e-6} if key in noise and "qkv" not in key else {"rel": 1e-8}
                assert parameters[key].grad.norm().item() == pytest.approx(norm, **tolerance), key
        optimizer.step()
        plain_push(teachers.queue, *(out[name] for name in PUSHED), golden.step_inputs(step).identity)
        assert teachers.queue.pointer.item() == stated["queue_ptr_after"]
        assert teachers.queue.identities.tolist() == stated["idx_queue_after"]


def test_plain_ema_and_push_are_the_fast_ones():
    model, (teachers, *_) = scene("m-rtd", Fidelity.model_validate("released"))
    one, two = (momentum_copy(teachers.momentum, True, True) for _ in range(2))
    ema_update(one, model.encoders, 0.9)
    plain_ema(two, model.encoders, 0.9)
    for name, parameter in one.named_parameters():
        assert torch.allclose(parameter, dict(two.named_parameters())[name], atol=1e-15, rtol=1e-14), name
    for batch in (1, 3, 10, 4, 23):
        ring, plain_ring = (FeatureQueue(10, 12) for _ in range(2))
        for queue, push in ((ring, FeatureQueue.push), (plain_ring, plain_push)):
            for seed in range(3):
                images, texts = torch.randn(2, batch, 12, generator=seeded(seed))
                push(queue, images, texts, torch.arange(batch) + 100 * seed)
        assert all(torch.equal(b, dict(plain_ring.named_buffers())[n]) for n, b in ring.named_buffers()), batch


# Re-ranking


def test_plain_rerank_gives_the_recorded_scores():
    given = golden.tensors("eval")
    model, _, _ = golden.models()
    tokens = model.encoders.vision.forward_features(given["images"].double()).detach()
    scores = plain_rerank(model, tokens, given["input_ids"], given["attention_mask"].bool(), given["topk_idx"])
    expected = given["score"].gather(1, given["topk_idx"])
    assert torch.allclose(scores.float(), expected, atol=1e-5)  # recorded in float32


@pytest.mark.parametrize("ranking_score", ["logit", "probability"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_fast_rerank_is_the_plain_one(layers, ranking_score):
    model = shaken(build_model(tiny(fusion_layers=layers), VOCABULARY), 1).eval()
    tokens = captioned(9, "annotated").annotated
    image_tokens = torch.randn(7, 5, 32, generator=seeded(8), dtype=torch.float64)
    candidates = torch.rand(9, 7, generator=seeded(9)).topk(4).indices
    text = Text.of(tokens, "cpu")
    with torch.no_grad():
        states = model.encoders.encode_text(text)
        texts = PackedTexts([(model.encoders.fusion.attend(states, text.packing), text.packing)])
    fast = rerank(model, image_tokens.split(3), texts, candidates, ranking_score, tokens_per_call=50)
    plain = plain_rerank(model, image_tokens, *tokens, candidates, ranking_score)
    assert (fast - plain).abs().max() < TOLERANCE
