"""Pre-training by a second, slow way: losses, rates, masks, candidates, average and what is written, step by step."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from benchmarks.plain import feature, fuse, text_states, word_logits
from rasa.config.benchmark import BenchmarkParams
from rasa.config.run import Model
from rasa.data.tokenizer import Tokens
from rasa.draws import Draws
from rasa.evaluation.split import evaluate_split
from rasa.training.pretrain import Pretraining, Recipe
from rasa.weights.folder import load_checkpoint
from rasa.weights.released import to_released
from tests.helpers.recipe import PlainAdamW, clamp, doubled, views

RECIPE = Recipe(
    seed=4,
    people=BenchmarkParams(seed=5, train_identities=6, val_identities=5, test_identities=1, images_per_identity=2),
    model=Model(
        patch_size=24,
        vision_width=16,
        vision_depth=1,
        vision_heads=2,
        text_width=16,
        text_layers=1,
        fusion_layers=1,
        text_heads=2,
        text_mlp_width=32,
        max_positions=40,
        dropout=0.0,
        embed_dim=8,
        queue_size=8,
    ),
    batch_size=8,
    steps=5,
    warmup_steps=2,
    learning_rate=0.02,
    weight_decay=0.5,
    clip_norm=1.5,
    candidates=3,
    hard_share=0.9,
    hard_until=0.6,
    mask_rate=0.5,
    function_rate=0.1,
    position_std=0.2,
    averaging=0.3,
    evaluate_every=100,
)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """(a pre-training in double precision at its first step, its folder, its log)."""
    folder = tmp_path_factory.mktemp("pretraining")
    logged = []
    run = Pretraining(
        RECIPE, folder / "run", folder, lambda *row: logged.append(row), lambda line: None, torch.device("cpu")
    )
    doubled(run.model.encoders, run.average.encoders)
    run.model.double()
    run.average.double()
    return run, folder / "run", logged


def mask_rates(run):
    """How often each word is masked: one that more than 30 % of the captions hold is a function word."""
    ids = [set(run.tokenizer.encode([caption], 40).ids[0].tolist()) for caption in run.dataset.splits["train"].captions]
    shares = [sum(word in caption for caption in ids) / len(ids) for word in range(run.tokenizer.vocabulary_size)]
    return torch.tensor([0.1 if share > RECIPE.function_words else 0.5 for share in shares])


def plain_losses(model, batch, draws, rates, special, hard_share):
    """ITC, ITM over candidates and MLM by loops."""
    encoders, text, identity = model.encoders, batch.annotated, batch.identity.tolist()
    size = len(identity)
    image = encoders.vision.forward_features(views(batch)[0])
    states = text_states(encoders, text, 0.0)
    t, i = feature(encoders.text_proj, states), feature(encoders.vision_proj, image)
    similar = t @ i.T / model.temperature

    def towards_own(logits):
        terms = []
        for row, whom in zip(logits.log_softmax(1), identity, strict=True):
            terms.append(-torch.stack([p for p, other in zip(row, identity, strict=True) if other == whom]).mean())
        return torch.stack(terms).mean()

    weights = torch.zeros(size, size, dtype=torch.float64)
    for row in range(size):
        others = [column for column in range(size) if identity[column] != identity[row]]
        by_score = similar[row, others].detach().softmax(0)
        weights[row, others] = hard_share * by_score + (1 - hard_share) / len(others)
    chosen = [list(range(size))] + [draws.categorical(f"candidate {k}", weights).tolist() for k in (1, 2)]
    assert all(identity[c] != identity[row] for candidate in chosen[1:] for row, c in enumerate(candidate))
    logits = [
        F.linear(fuse(encoders, states, text.mask, image[c], 0.0)[:, 0], *model.heads["itm"].parameters())
        for c in chosen
    ]
    terms = []
    for row in range(size):
        pairs = [candidate[row] for candidate in logits]
        among = -torch.stack([pair[1] - pair[0] for pair in pairs]).log_softmax(0)[0]
        yes, no = -pairs[0].log_softmax(0)[1], torch.stack([-pair.log_softmax(0)[0] for pair in pairs[1:]]).mean()
        terms.append((among + (yes + no) / 2) / 2)

    chosen_words = draws.uniform("mask", text.ids.shape) < rates[text.ids]
    for exempt in (special.pad, special.cls, special.sep):
        chosen_words &= text.ids != exempt
    masked = Tokens(text.ids.masked_fill(chosen_words, special.mask), text.mask)
    words = word_logits(encoders, fuse(encoders, text_states(encoders, masked, 0.0), text.mask, image, 0.0))
    mlm = F.cross_entropy(words[chosen_words], text.ids[chosen_words])
    return {"itc": (towards_own(similar) + towards_own(similar.T)) / 2, "itm": torch.stack(terms).mean(), "mlm": mlm}


def test_five_steps_and_what_is_written(begun):
    run, folder, logged = begun
    model, average = copy.deepcopy((run.model, run.average))
    for own, mean in zip(model.parameters(), average.parameters(), strict=True):
        assert torch.equal(own, mean)
    assert model.encoders.vision.pos_embed.std().item() == pytest.approx(RECIPE.position_std, rel=1e-5)
    optimizer, rates = PlainAdamW(model, RECIPE.weight_decay, False), mask_rates(run)
    assert torch.equal(rates[1:], run.masking.rates[1:]) and len(rates.unique()) == 2  # of padding, 0, none is masked
    norms = []
    batches = [batch for epoch in (0, 1) for batch in run.loader.epoch(epoch)]
    for step, batch in zip(range(5), batches, strict=False):
        found = run._train_step(batch)
        hard = 0.9 * min(1, step / 3)  # 3 of 5 steps
        expected = plain_losses(model, batch, Draws(4, step), rates, run.special, hard)
        model.zero_grad(set_to_none=True)
        sum(expected.values()).backward()
        norms.append(optimizer.norm())
        rate = (
            0.02 * (step + 1) / 2 if step < 2 else 0.02 * (0.01 + 0.99 * (1 + math.cos(math.pi * (step - 2) / 3)) / 2)
        )
        optimizer.step(rate, rate, RECIPE.clip_norm)
        clamp(model.temperature, 0.01, 0.5)
        share = min(0.3, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, mean in average.named_parameters():
                mean.copy_(share * mean + (1 - share) * dict(model.named_parameters())[name])
        assert {name: float(value) for name, value in found.items()} == pytest.approx(
            {name: value.item() for name, value in expected.items()} | {"hard": hard}, abs=1e-9
        )
        for ours, theirs in ((run.model, model), (run.average, average)):
            for name, parameter in theirs.named_parameters():
                assert (dict(ours.named_parameters())[name] - parameter).abs().max() < 1e-8, (step, name)
    assert run.step == 5 and max(norms) > RECIPE.clip_norm  # so clipping was needed

    run._validate()
    val, seen = run.dataset.splits["val"], {}
    for name, weights in (("average", run.average), ("model", run.model)):
        seen[name] = evaluate_split(weights, val, run.gallery, run.tokenizer, run.config, run.device).figures()
    assert run.curve == [{"step": 5} | seen["average"]] and seen["average"] != seen["model"]
    assert logged[-1] == ("val", 5, seen["average"])
    result = run.finish()
    written, _ = load_checkpoint(folder / "start")
    kept, raw = to_released(run.average, redundant=False), to_released(run.model, redundant=False)
    assert written.keys() == kept.keys() and all(torch.equal(written[key], value) for key, value in kept.items())
    assert any(not torch.equal(written[key], value) for key, value in raw.items())
    assert result["val"] == run.curve[-1] and result["val_identities"] == 5


def test_a_high_temperature_is_brought_back(begun):
    run = begun[0]
    with torch.no_grad():
        run.model.temperature.fill_(0.9)
    run._train_step(next(run.loader.epoch(0)))
    assert run.model.temperature.item() == 0.5
