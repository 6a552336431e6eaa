"""The product's own training step: three recorded steps of the authors' code, and the recipe written a second time.

The run is made by `Training` itself, from a data folder and a file of weights: models, queues, groups, rates, alpha,
EMA, clamp and log are those of any run. In double precision, so that every step can be compared.
"""

import pytest
import torch

from rasa.draws import Draws
from rasa.weights.released import to_released
from tests.helpers import golden_set as golden
from tests.helpers.people import tiny_config, write_people
from tests.helpers.recipe import PlainTraining, in_double, training

FACTS, SIZES = golden.FACTS, golden.SIZES
AT = [(0, 3), (1, 0), (1, 1)]  # with four steps an epoch alpha is 3/4 of 0.4, then 0.4 and 0.4: the recorded ones


def vocabulary(folder):
    """A file with the set's special words at its ids; all else is never asked for."""
    words = [f"word{number}" for number in range(golden.TEXT["vocab_size"])]
    for name, place in golden.IDS.items():
        words[place] = f"[{name.upper()}]"
    file = folder / "vocab.txt"
    file.write_text("\n".join(words) + "\n")
    return file


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """(run, its log, queues after each step, momentum weights after the first) of three recorded steps."""
    folder = tmp_path_factory.mktemp("golden")
    # 24 captions in batches of 6
    config = golden.config(head_rate_from="start").model_dump()
    config["data"] |= {"root": write_people(folder / "people", train=4), "tokenizer": str(vocabulary(folder))}
    config["model"]["weights"] = golden.FOLDER / "state_before.safetensors"
    config["objectives"] |= {"alpha": SIZES["alpha_per_step"][-1]}
    config["optimisation"] |= {"batch_size": SIZES["batch_size"], "schedule": "constant", "threads": 1, "device": "cpu"}
    run, log = training(config, folder / "run")
    in_double(run)
    assert run.inputs.loader.steps_per_epoch == 4 and run.inputs.special == golden.SPECIAL
    queues, momentum = [], None
    for number, (run.progress.epoch, run.progress.step_in_epoch) in enumerate(AT, 1):
        run._update(golden.step_inputs(number), golden.RecordedDraws(number))
        queues.append({name: buffer.clone() for name, buffer in run.teachers.queue.named_buffers()})
        momentum = momentum or {key: value.clone() for key, value in state_of(run).items()}
    return run, log, queues, momentum


def state_of(run):
    return to_released(run.model, run.teachers.momentum)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_losses_of_three_steps(recorded, step):
    figures, stated = recorded[1].of("train")[step - 1], FACTS["steps"][step - 1]["float64"]
    expected = {f"loss_{ours}": stated[theirs] for ours, theirs in golden.LOSSES.items()} | {"loss": stated["total"]}
    assert figures["alpha"] == pytest.approx(SIZES["alpha_per_step"][step - 1], abs=1e-15)
    for name, value in expected.items():
        # 1e-7 after the first: Adam divides by gradients that are rounding alone (tests/test_parity.py)
        assert figures[name] == pytest.approx(value, abs=1e-9 if step == 1 else 1e-7, rel=0), name


def test_gradient_norm_and_rates_that_are_logged(recorded):
    first, optimizer = recorded[1].of("train")[0], SIZES["optimizer"]
    squares = (norm**2 for norm in FACTS["step1_grad_norm_per_parameter_float64"].values())
    assert first["gradient_norm"] == pytest.approx(sum(squares) ** 0.5, rel=1e-8)
    assert (first["learning_rate"], first["head_learning_rate"]) == (optimizer["lr"], optimizer["lr_custm"])


def test_momentum_model_after_the_first_step(recorded):
    for key, stated in FACTS["momentum_after_ema_step1"].items():
        assert golden.checksum(recorded[3][key])["l2"] == pytest.approx(stated["l2"], rel=1e-6), key
    for key, expected in golden.tensors("after").items():
        if key.startswith("step1.ema."):
            assert torch.allclose(recorded[3][key.removeprefix("step1.ema.")].float(), expected, atol=1e-7), key


@pytest.mark.parametrize("part", ["params_after_step3_float64", "momentum_after_ema_step3_float64"])
def test_weights_after_three_steps(recorded, part):
    state, noise = state_of(recorded[0]), set(FACTS["noise_dominated_params"]["names"])
    compared = 0
    for key, values in FACTS[part]["values"].items():
        if key.replace("_m.", ".", 1) in noise:
            continue
        ours = golden.checksum(state[key])
        for kind, value in zip(FACTS[part]["order"], values, strict=True):
            assert ours[kind] == pytest.approx(value, abs=1e-6, rel=1e-7), (key, kind)
        compared += 1
    assert compared > 100


@pytest.mark.parametrize("step", [1, 3])
def test_queues_after_the_first_and_third_step(recorded, step):
    after, ours, stated = golden.tensors("after"), recorded[2][step - 1], FACTS["steps"][step - 1]
    for key, name in (("image_queue", "images"), ("text_queue", "texts")):
        if f"step{step}.{key}" in after:
            assert torch.allclose(ours[name].T.float(), after[f"step{step}.{key}"], atol=2e-5), key
    assert ours["identities"].tolist() == after[f"step{step}.idx_queue"][0].tolist() == stated["idx_queue_after"]
    assert ours["pointer"].item() == stated["queue_ptr_after"]


# What a recorded set cannot hold: schedules, warm-ups, clamp, clipping, shares, and steps over the border of an epoch.
SCENARIOS = {
    "paper": {
        "seed": 7,
        "model": {"temperature_range": (0.0695, 0.0702), "momentum": 0.9},
        "objectives": {"p_weak": 0.4, "alpha": 0.6},
        "optimisation": {
            "warmup_steps": 2,
            "warmup_learning_rate": 1e-4,
            "head_learning_rate": 5e-3,
            "clip_norm": 1.0,
            "min_learning_rate": 1e-5,
            "weight_decay": 0.3,
        },
        "fidelity": {"preset": "paper", "mlm_soft_targets": True, "contrastive_soft_targets": True},
    },
    "released": {
        "seed": 1,
        "model": {"temperature_range": None},
        "objectives": {"p_weak": 0.4},
        "optimisation": {
            "schedule": "cosine-epoch",
            "warmup_learning_rate": 2e-3,
            "head_learning_rate": 5e-3,
            "weight_decay": 2.0,
            "accumulation": 2,
        },
        "fidelity": {"preset": "released", "ranks": 2, "ema_timing": "after"},
    },
    "constant": {
        "seed": 2,
        "objectives": {"generator": "online", "alpha_warmup_epochs": 0},
        "optimisation": {"schedule": "constant", "head_learning_rate": 2e-3, "accumulation": 2},
        "fidelity": {
            "preset": "released",
            "head_rate_from": "start",
            "decay_temperature_and_positions": False,
            "ranks": 4,
        },
    },
}


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"))


def scenario(people, name, **changes):
    given = SCENARIOS[name]
    sections = {section: dict(values) for section, values in given.items() if section != "seed"}
    sections["model"] = {"dropout": 0.0} | sections.get("model", {})
    sections["optimisation"] |= {"max_steps_per_epoch": 3}
    return tiny_config(people, **sections) | {"seed": given["seed"]} | changes


@pytest.mark.parametrize("name", SCENARIOS)
def test_six_steps_of_a_run_are_those_of_the_plain_recipe(people, tmp_path, name):
    """Weights, momentum weights, queues and all that is logged, after each step of two epochs."""
    run, log = training(scenario(people, name), tmp_path)
    plain = PlainTraining(in_double(run))
    for epoch in (0, 1):
        for i, batch in enumerate(run.inputs.loader.epoch(epoch)):
            run.progress.epoch, run.progress.step_in_epoch = epoch, i
            run._train_step(batch)
            expected = plain.step(batch, epoch, i)
            assert log.of("train")[-1] == pytest.approx(expected, abs=1e-9, rel=1e-9), (epoch, i)
            ours, theirs = tensors(run.model, run.teachers), tensors(plain.model, plain.teachers)
            wrong = {key: (ours[key] - value).abs().max().item() for key, value in theirs.items()}
            assert {key: error for key, error in wrong.items() if not error < 1e-8} == {}, (epoch, i)
    figures = log.of("train")
    assert len(figures) == 6 and len({f["alpha"] for f in figures}) == (
        4 if plain.config.objectives.alpha_warmup_epochs else 1
    )
    if name == "paper":
        assert {f["temperature"] for f in figures} & set(run.config.model.temperature_range)  # the clamp was needed
        assert max(f["gradient_norm"] for f in figures) > run.config.optimisation.clip_norm


def tensors(model, teachers):
    found = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
    found |= {f"momentum.{name}": p for name, p in teachers.momentum.named_parameters()}
    return found | {f"queue.{name}": buffer for name, buffer in teachers.queue.named_buffers()}


@pytest.mark.parametrize("momentum_dropout", [False, True])
def test_dropout_in_the_momentum_model_is_as_the_fidelity_says(people, tmp_path, momentum_dropout):
    """Its text features of the first step, which the queue holds, are those without dropout, or are not."""
    fields = {"preset": "paper", "momentum_dropout": momentum_dropout, "contrastive_text": "annotated"}
    run, _ = training(tiny_config(people, model={"dropout": 0.3}, fidelity=fields), tmp_path)
    run._train_step(batch := next(run.inputs.loader.epoch(0)))
    from benchmarks.plain import feature, text_states

    texts = feature(run.teachers.momentum.text_proj, text_states(run.teachers.momentum, batch.annotated, 0.0))
    held = run.teachers.queue.texts[: len(batch.identity)]
    assert (held - texts).abs().max() < 1e-5 if not momentum_dropout else (held - texts).abs().max() > 1e-3
    assert run.model.training


def test_a_part_of_a_batch_sees_its_rows_of_the_whole_batchs_draws():
    whole = Draws(3, 5)
    part = whole.of_part(slice(2, 4), 6)
    shape = torch.Size([2, 7])
    assert torch.equal(part.uniform("any", shape), whole.uniform("any", torch.Size([6, 7]))[2:4])
    assert torch.equal(part.integers("any", shape, 100), whole.integers("any", torch.Size([6, 7]), 100)[2:4])
