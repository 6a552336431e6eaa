"""ALBEF, TCL and RaSa files with all published keys: what loads, what is mapped, and what is refused."""

from argparse import Namespace

import pytest
import torch

from rasa.commands.cli import main
from rasa.config.run import Config
from rasa.data.tokenizer import SPECIALS
from rasa.errors import ResourceError
from rasa.model.queue import NOBODY
from rasa.model.rasa import build_model
from rasa.training.train import train
from rasa.weights.layouts import recognise
from rasa.weights.released import REDUNDANT, names, read_state, resize_position_embedding, to_released
from tests.helpers.people import tiny_config, write_people
from tests.helpers.published import (
    PRETRAINING,
    RASA,
    SMALL,
    VOCABULARY,
    load,
    random_state,
    retrieval_state,
    small_config,
    wrapped,
)
from tests.helpers.tiny_model import ALL
from tests.helpers.tiny_step import ROWS, WEIGHTS

NEW_HEADS = {f"{head}_head.{part}" for head in ("prd", "mrtd") for part in ("weight", "bias")}
POSITIONS = {"visual_encoder.pos_embed", "visual_encoder_m.pos_embed"}


@pytest.mark.parametrize(("name", "seed"), [("ALBEF.pth", 1), ("TCL_4M.pth", 2)])
def test_a_pretraining_file_of_844_keys_loads_with_the_documented_differences_alone(tmp_path, name, seed):
    """Those are: no PRD and RTD heads, no identities in the queue,
    both position embeddings of 256 px brought to 384."""
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


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """People, a vocabulary of the files' size, and a file of each kind, sound but for its random values."""
    folder = tmp_path_factory.mktemp("outside")
    write_people(folder / "people", train=4, val=2, test=2, images=2)
    words = ["a", "person", "in", "shirt", "and", "trousers", "bag", "the", "wears", "top", "is", "walking", "with"]
    words += ["red", "green", "blue", "white", "black", "yellow", "purple", "grey"]
    spare = [f"[unused{i}]" for i in range(VOCABULARY - len(SPECIALS) - len(words))]
    (folder / "vocab.txt").write_text("\n".join([*SPECIALS, *words, *spare]) + "\n")
    for name, shapes, seed in (("albef", PRETRAINING, 1), ("tcl", PRETRAINING, 2), ("rasa", RASA, 3)):
        state = random_state(shapes, seed) | {"temp": torch.tensor(0.07)}
        torch.save({"model": state} if name != "rasa" else wrapped(state), folder / f"{name}.pth")
    return folder


def one_step(folder, weights, row, directory, **model):
    """(result, lines said) of a run of one step, which starts from the file `weights`."""
    losses, positives, generator = ROWS[row]
    values = tiny_config(folder / "people", optimisation={"epochs": 1, "batch_size": 4, "max_steps_per_epoch": 1})
    values["data"] |= {"image_size": (32, 16), "tokenizer": str(folder / "vocab.txt"), "max_tokens": 16}
    values["model"] = SMALL | {"weights": str(weights), "temperature_range": (0.01, 0.5)} | model
    values["objectives"] = {
        "weights": {name: WEIGHTS[name] for name in losses},
        "positives": positives,
        "generator": generator,
    }
    values["fidelity"] = {"preset": "released"}
    said = []
    result = train(
        Config.model_validate(values), directory, lambda *_: None, cache=folder / "cache", notify=said.append
    )
    return result, said


def evaluate(folder, weights) -> int:
    """Exit code of `rasa evaluate` on the folder's people."""
    options = [
        "-o",
        f"data.tokenizer={folder / 'vocab.txt'}",
        "-o",
        "data.image_size=[32, 16]",
        "-o",
        "model.vision_heads=1",
        "-o",
        "model.text_heads=1",
    ]
    return main(["evaluate", str(weights), "--data", str(folder / "people"), *options])


@pytest.mark.parametrize("backbone", ["albef", "tcl"])
@pytest.mark.parametrize("row", ROWS)
def test_every_row_trains_from_a_file_of_844_keys(outside, tmp_path, backbone, row):
    """What starts at random is the row's own new heads and the queue's identities, each named;
    all else is the file's."""
    result, said = one_step(outside, outside / f"{backbone}.pth", row, tmp_path, backbone=backbone)
    (line,) = (line for line in said if "tensors loaded" in line)
    heads = [name for name, loss in (("prd_head", "prd"), ("mrtd_head", "rtd")) if loss in ROWS[row][0]]
    assert line.endswith(f"{2 * len(heads) + 1} at their random start ({', '.join([*heads, 'idx_queue'])})")
    assert result["cost"]["steps"] == 1 and 0 <= result["test"]["r1"] <= 100
    trained, given = read_state(next(tmp_path.glob("selected/epoch-*"))), read_state(outside / f"{backbone}.pth")
    moved = (trained["text_proj.weight"] - given["text_proj.weight"]).abs()
    assert 0 < moved.max() < 0.01, "one step from the file, and not from a random start"


def test_a_released_rasa_file_is_trained_further_and_evaluated(outside, tmp_path, capsys):
    """Nothing is left at its random start; that its queue numbers its own data's people is said."""
    weights = outside / "rasa.pth"
    result, said = one_step(outside, weights, "m-rtd", tmp_path)
    assert any(line.endswith("0 at their random start") for line in said) and result["cost"]["steps"] == 1
    assert any("give -o fidelity.queue_from_weights=false" in line for line in said)
    assert evaluate(outside, weights) == 0
    printed = capsys.readouterr()
    assert "0 at their random start" in printed.err and "4 images, 8 captions" in printed.out


def test_numbers_that_are_none_are_refused_wherever_weights_are_loaded(outside, tmp_path, capsys):
    """A model full of NaN would rank, in the gallery's order, and exit 0."""
    state = random_state(RASA, 3)
    state["itm_head.weight"][0, 0] = float("nan")
    torch.save({"model": state}, tmp_path / "nan.pth")
    with pytest.raises(ResourceError, match=r"1 keys: itm_head\.weight holds values that are no finite numbers"):
        load(read_state(tmp_path / "nan.pth"))
    assert evaluate(outside, tmp_path / "nan.pth") == 5
    assert "itm_head.weight holds values that are no finite numbers" in capsys.readouterr().err


def test_position_embeddings_of_no_square_are_refused_with_a_remedy():
    state = random_state(RASA)
    state["visual_encoder.pos_embed"] = state["visual_encoder.pos_embed"][:, :33]
    with pytest.raises(ResourceError) as refused:
        load(state)
    assert (
        "visual_encoder.pos_embed is of 32 patches, no square, so it cannot be brought to 24 x 24; set "
        "data.image_size and model.patch_size to those of these weights"
    ) in str(refused.value)


def test_weights_without_an_itm_head_say_that_similarity_ranks(outside, tmp_path, capsys):
    state = {key: value for key, value in random_state(RASA, 3).items() if not key.startswith(("itm", "prd", "mrtd"))}
    torch.save({"model": state}, tmp_path / "two.pth")
    assert evaluate(outside, tmp_path / "two.pth") == 0
    printed = capsys.readouterr()
    assert "ranked by similarity alone (stage 1), without an ITM head" in printed.err
    assert "re-ranked" not in printed.out


@pytest.mark.parametrize("lost", ["text_encoder.bert.encoder.layer.7.output.dense.weight", "visual_encoder.norm.bias"])
def test_inspect_and_convert_agree_on_what_is_no_layout(tmp_path, capsys, lost):
    torch.save({"model": {k: v for k, v in random_state(RASA).items() if k != lost}}, tmp_path / "file.pth")
    assert main(["checkpoint", "inspect", str(tmp_path / "file.pth")]) == 5
    assert f"missing      1: {lost}" in capsys.readouterr().out
    assert main(["checkpoint", "convert", str(tmp_path / "file.pth"), str(tmp_path / "out")]) == 5
    assert f"{lost} is missing" in capsys.readouterr().err and not (tmp_path / "out").exists()
