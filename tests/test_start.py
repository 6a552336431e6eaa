"""The start that ships with the package: whole, small, its gate passed, and ready for every row by its name."""

import json

import pytest
import torch

from experiments.plan import located
from experiments.spec import identity_of, load_suite, resolve
from rasa.data.tokenizer import tokenizer_from_vocabulary
from rasa.model.momentum import momentum_copy
from rasa.model.rasa import build_model
from rasa.training.pretrain import SHIPPED, Recipe
from rasa.weights import start
from rasa.weights.folder import load_checkpoint
from rasa.weights.released import load_released, read_state

OVERRIDES = [
    "model.weights=start",
    "data.tokenizer=start",
    *(
        f"model.{name}={value}"
        for name, value in SHIPPED.model.model_dump().items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ),
]


def test_it_is_what_its_record_says():
    """Hashes are checked on loading; the recipe is the shipped one;
    it has learned its coarse captions (chance: 0.5)."""
    tensors, record = load_checkpoint(start.WEIGHTS)
    assert sum(tensor.nbytes for tensor in tensors.values()) < 8 * 2**20
    assert (
        Recipe.model_validate_json(json.dumps(record["recipe"])) == SHIPPED
    )  # fields that are younger have their default
    assert min(record["val"]["r1"], record["val"]["stage1_r1"]) > 5 and record["val_identities"] == 200
    assert record["seconds"] > 0 and record["people_digest"]
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


@pytest.mark.parametrize("row", [row.name for row in load_suite("table4").rows])
def test_every_row_starts_from_it(row, tmp_path):
    """Only the heads that pre-training does not have are new; identities name it by content, not by place."""
    config = resolve(load_suite("table4"), row, "synth", OVERRIDES, 0)
    found = located(config, tmp_path)
    assert found.model.weights == start.WEIGHTS and found.data.tokenizer == str(start.VOCABULARY)
    assert str(start.VOCABULARY) not in json.dumps(identity_of(found))
    tokenizer = tokenizer_from_vocabulary(start.VOCABULARY)
    model = build_model(found, tokenizer.vocabulary_size, tokenizer.pad_id)
    report = load_released(read_state(start.WEIGHTS), model, momentum_copy(model.encoders, True, True))
    assert {key.split(".")[0] for key in report.fresh} <= {"prd_head", "mrtd_head"} and not report.resized
