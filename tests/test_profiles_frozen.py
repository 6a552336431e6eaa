"""What the profiles say: Appendix A.2 value by value, a kept record of each, and the points of Figure 4."""

import json

import pytest

from experiments.spec import load_suite, resolve
from tests.freeze_profiles import FILE, PROFILES, flat, given, resolved

RENEW = "if that is meant, run `python -m tests.freeze_profiles` and commit the difference"

# Each with the words of A.2, or where it is silent the line of the released code.
APPENDIX_A2 = {
    "optimisation.epochs": 30,  # "with 30 epochs"
    "optimisation.batch_size": 52,  # "and a batch size of 52"
    "fidelity.ranks": 4,  # "on 4 NVIDIA 3090 GPUs"
    "optimisation.weight_decay": 0.02,  # "AdamW ... with a weight decay of 0.02"
    "optimisation.head_learning_rate": 1e-4,  # "1e-4 for the parameters of the classifiers in PRD and m-RTD"
    "optimisation.learning_rate": 1e-5,  # "and 1e-5 for the rest parameters"
    "data.image_size": [384, 384],  # "All images are resized to 384 x 384"
    "data.flip_probability": 0.5,  # "random horizontal flipping"
    "data.max_words": 50,  # "a maximum length of 50 for all datasets"
    "data.max_tokens": 50,
    "model.momentum": 0.995,  # "m = 0.995"
    "model.queue_size": 65536,  # "The queue size R is set as 65,536"
    "model.temperature": 0.07,  # "the temperature tau is set as 0.07 in CL"
    "objectives.p_weak": 0.1,  # "p^w = 0.1 in RA"
    "objectives.p_mask": 0.3,  # "p^m = 0.3 in SA"
    "objectives.weights.prd": 0.5,  # "lambda_1 = 0.5"
    "objectives.weights.rtd": 0.5,  # "lambda_2 = 0.5"
    "objectives.weights.cl": 0.5,  # "lambda_3 = 0.5"
    "objectives.weights.itm": 1.0,  # Eq. 3: no factor
    "objectives.weights.mlm": 1.0,  # Eq. 6: no factor
    "objectives.positives": "probabilistic",
    "objectives.generator": "momentum",
    "objectives.masked_lm": "distilbert-base-uncased",  # 4.4: f-RTD's DistilBERT
    # From here on the released code (configs/PS_*.yaml, RET, CL).
    "objectives.alpha": 0.4,
    "objectives.alpha_warmup_epochs": 1,
    "optimisation.schedule": "cosine-epoch",
    "optimisation.min_learning_rate": 1e-6,
    "optimisation.warmup_learning_rate": 1e-5,
    "optimisation.warmup_steps": 0,
    "optimisation.clip_norm": None,
    "optimisation.max_steps_per_epoch": None,
    "optimisation.accumulation": 1,
    "evaluation.topk": 128,
    "data.tokenizer": "bert-base-uncased",
    "model.temperature_range": None,
    "model.dropout": 0.1,
    "model.backbone": "albef",
    "model.patch_size": 16,
    "model.vision_width": 768,
    "model.vision_depth": 12,
    "model.vision_heads": 12,
    "model.text_width": 768,
    "model.text_layers": 6,
    "model.fusion_layers": 6,
    "model.text_heads": 12,
    "model.text_mlp_width": 3072,
    "model.max_positions": 512,
    "model.embed_dim": 256,
    "fidelity.preset": "released",
    "fidelity.mlm_mask_rate": 0.15,
    "fidelity.head_rate_from": "iteration-101",
}


def test_the_paper_profile_is_appendix_a2_value_by_value():
    found = flat(resolved()["paper"])
    assert {name: found[name] for name in APPENDIX_A2} == APPENDIX_A2
    assert all(type(found[name]) is type(value) for name, value in APPENDIX_A2.items())


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_what_was_frozen(profile):
    kept, now = flat(json.loads(FILE.read_text())[profile]), flat(resolved()[profile])
    moved = {name: (kept.get(name), now.get(name)) for name in kept | now if kept.get(name, ...) != now.get(name, ...)}
    assert moved == {}, RENEW


PARAMETERS = {
    "p-weak": ("objectives.p_weak", [0.0, 0.1, 0.2, 0.3, 0.5]),
    "p-mask": ("objectives.p_mask", [0.1, 0.2, 0.3, 0.4, 0.5]),
    "lambda1": ("objectives.weights.prd", [0.1, 0.3, 0.5, 0.7, 1.0]),
    "lambda2": ("objectives.weights.rtd", [0.1, 0.3, 0.5, 0.7, 1.0]),
    "lambda3": ("objectives.weights.cl", [0.1, 0.3, 0.5, 0.7, 1.0]),
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_point_of_figure_4_differs_from_m_rtd_in_its_parameter_alone(name, profile):
    """But for p^w = 0: without weak pairs there is no PRD, and all other losses weigh as before."""
    suite, (parameter, values) = load_suite("figure4"), PARAMETERS[name]
    assert [key for s in suite.sweeps if s.name == name for key in s.keys] == values
    base = flat(resolved_row("table4", "m-rtd", profile))
    for value in values:
        point = flat(resolved_row("figure4", f"{name}-{value}", profile))
        changed = {key: point.get(key) for key in base | point if base.get(key, ...) != point.get(key, ...)}
        expected = {parameter: value} if base[parameter] != value else {}
        if (name, value) == ("p-weak", 0.0):
            expected |= {"objectives.positives": "annotated", "objectives.weights.prd": None}
        assert changed == expected, value


def resolved_row(suite, row, profile):
    return resolve(load_suite(suite), row, profile, given(profile), seed=0).model_dump(mode="json")


def test_the_seed_and_overrides_come_last():
    config = resolve(
        load_suite("table4"), "m-rtd", "smoke", ["optimisation.epochs=7", "objectives.weights.prd=0.2"], seed=3
    )
    base = flat(resolved()["smoke"])
    found = flat(config.model_dump(mode="json"))
    changed = {name: value for name, value in found.items() if base[name] != value}
    assert changed == {"seed": 3, "optimisation.epochs": 7, "objectives.weights.prd": 0.2}
