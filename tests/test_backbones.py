"""ALBEF, TCL and RaSa files with all published keys: what loads, what is mapped, and what is refused."""

from argparse import Namespace

import pytest
import torch
from published import PRETRAINING, RASA, VOCABULARY, random_state, retrieval_state, small_config, wrapped

from rasa.errors import ResourceError
from rasa.model.checkpoints import REDUNDANT, load_released, names, read_state, resize_position_embedding, to_released
from rasa.model.layouts import recognise
from rasa.model.queue import NOBODY, FeatureQueue
from rasa.model.rasa import build_model, momentum_copy

ALL = {"cl": 0.5, "itm": 1.0, "prd": 0.5, "mlm": 1.0, "rtd": 0.5}
NEW_HEADS = {f"{head}_head.{part}" for head in ("prd", "mrtd") for part in ("weight", "bias")}
POSITIONS = {"visual_encoder.pos_embed", "visual_encoder_m.pos_embed"}


def load(state, weights=None, generator="momentum", image=384, momentum=True):
    """(model, momentum, queue, report) after loading into a model of another seed's random start."""
    model = build_model(small_config(weights or ALL, generator, image), VOCABULARY)
    copy = momentum_copy(model.encoders, True, True) if momentum else None
    queue = FeatureQueue(16, 8)
    return model, copy, queue, load_released(state, model, copy, queue, "file.pth")


@pytest.mark.parametrize(("name", "seed"), [("ALBEF.pth", 1), ("TCL_4M.pth", 2)])
def test_a_pretraining_file_of_844_keys_loads_with_the_documented_differences_alone(tmp_path, name, seed):
    """Those are: no PRD and RTD heads, no identities in the queue, both position embeddings of 256 px brought to 384."""
    given = random_state(PRETRAINING, seed)
    assert len(given) == 844 and given["visual_encoder.pos_embed"].shape[1] == 257
    torch.save({"model": given}, tmp_path / name)
    state = read_state(tmp_path / name)
    model, momentum, queue, report = load(state)
    assert set(report.fresh) == NEW_HEADS | {"idx_queue"} and not report.unused and set(report.resized) == POSITIONS
    assert not report.momentum_from_online
    assert set(report.loaded) == {key for key in given if not REDUNDANT.match(key)}

    ours = to_released(model, momentum, queue)
    for key in report.loaded:
        expected = resize_position_embedding(given[key], (24, 24)) if key in POSITIONS else given[key]
        assert torch.equal(ours[key], expected), key
    assert ours["visual_encoder.pos_embed"].shape[1] == 577
    assert (queue.identities == NOBODY).all() and queue.pointer.item() == 4
    # Both heads that the file lacks are at their random start, which is that of a model without a file.
    untouched = build_model(small_config(ALL, "momentum"), VOCABULARY)
    assert all(torch.equal(model.heads[h].weight, untouched.heads[h].weight) for h in ("prd", "rtd"))


def test_position_embeddings_stay_as_they_are_at_256_pixels():
    given = random_state(PRETRAINING)
    model, _, _, report = load(given, image=256)
    assert not report.resized and torch.equal(model.encoders.vision.pos_embed, given["visual_encoder.pos_embed"])


def test_a_released_file_of_849_keys_wrapped_with_its_optimizer_loads_for_training(tmp_path):
    """Online, momentum, heads and queues; nothing is left at its random start and nothing is left over."""
    given = random_state(RASA)
    assert len(given) == 849
    torch.save(wrapped(given) | {"args": Namespace(distributed=True)}, tmp_path / "rasa_cuhk.pth")
    model, momentum, queue, report = load(read_state(tmp_path / "rasa_cuhk.pth"))
    assert (report.fresh, report.unused, report.resized) == ([], [], [])
    parameters = names(model, momentum)
    assert all(torch.equal(parameters[key], given[key]) for key in parameters)
    assert torch.equal(queue.identities, given["idx_queue"][0]) and torch.equal(queue.images, given["image_queue"].T)
    assert not torch.equal(momentum.text_proj.weight, model.encoders.text_proj.weight)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda s: {f"module.{k}": v for k, v in s.items()}, "prefix `module.` removed"),
        (lambda s: {f"model.module.{k}": v for k, v in s.items()}, "prefix `module.` removed"),
        (
            lambda s: {k.replace("visual_encoder.", "visual_encoder._orig_mod."): v for k, v in s.items()},
            "`_orig_mod.` removed",
        ),
        (
            lambda s: {k.replace("LayerNorm.weight", "LayerNorm.gamma"): v for k, v in s.items()},
            "`LayerNorm.gamma` renamed",
        ),
    ],
)
def test_renamed_keys_are_recognised_and_mapped(change, note):
    given = random_state(RASA)
    reading = recognise(change(given), "file.pth")
    assert set(reading.state) == set(given) and any(note in text for text in reading.notes)
    assert all(torch.equal(reading.state[key], value) for key, value in given.items())


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "model_state_dict", "net"])
def test_weights_under_any_usual_wrapper_are_found(tmp_path, wrapper):
    given = random_state(PRETRAINING)
    torch.save({wrapper: given, "epoch": 3}, tmp_path / "file.pth")
    assert set(read_state(tmp_path / "file.pth")) == set(given)


def test_a_file_fine_tuned_for_retrieval_fills_the_text_encoder(tmp_path):
    """The case in which the released code, loading without strictness, leaves the text side random without a word."""
    given = retrieval_state()
    torch.save(wrapped(given), tmp_path / "flickr30k.pth")
    state = read_state(tmp_path / "flickr30k.pth")
    model, _, queue, report = load(state, {"cl": 0.5, "itm": 1.0, "prd": 0.5})
    assert torch.equal(
        model.encoders.text.layers[3].attention.query.weight,
        given["text_encoder.encoder.layer.3.attention.self.query.weight"],
    )
    # idx_queue numbered the images of another data set, so nobody is in the queue.
    assert set(report.fresh) == {"prd_head.weight", "prd_head.bias", "idx_queue"}
    assert (queue.identities == NOBODY).all()


def test_a_word_head_that_the_file_lacks_is_refused_by_name():
    state = recognise(retrieval_state(), "flickr30k.pth").state
    with pytest.raises(ResourceError) as refused:
        load(state)
    assert "text_encoder.cls.predictions.bias is missing" in str(refused.value)
    assert "leave weights.mlm and generator online or momentum out" in str(refused.value)


def test_two_layouts_in_one_file_are_refused():
    mixed = random_state(PRETRAINING) | retrieval_state()
    with pytest.raises(ResourceError, match="mixes two layouts"):
        recognise(mixed, "file.pth")
