"""The model against timm and transformers, the queues, the EMA, and checkpoints under the released names."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rasa.config.run import Config
from rasa.data.tokenizer import Tokens
from rasa.errors import ResourceError
from rasa.evaluation.rerank import match
from rasa.model.momentum import ema_update, momentum_copy
from rasa.model.packing import Packing, Text, Wanted
from rasa.model.queue import NOBODY, FeatureQueue
from rasa.model.rasa import build_model
from rasa.weights.inspect import inspect
from rasa.weights.released import load_released, names, read_state, to_released
from tests.helpers.tiny_model import ALL, tiny

FACTS = Path(__file__).parent / "golden" / "facts"


def test_text_encoder_equals_transformers_bert():
    from transformers import BertConfig, BertModel

    ours = build_model(tiny(), 50).encoders.text
    theirs = BertModel(
        BertConfig(
            vocab_size=50,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=20,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        add_pooling_layer=False,
    ).eval()
    model = build_model(tiny(), 50)
    state = {k.removeprefix("text_encoder.bert."): v for k, v in to_released(model).items() if "bert." in k}
    missing, _ = theirs.load_state_dict(state, strict=False)
    assert not missing
    ids = torch.randint(1, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(9)[None] < torch.tensor([[9], [5], [2]])
    expected = theirs(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    assert torch.allclose(ours(ids, Packing.of(mask, "cpu")), expected[mask], atol=1e-6)  # float32 rounding


def test_text_states_do_not_depend_on_padding():
    encoders = build_model(tiny(), 50).eval().encoders
    ids = torch.tensor([[1, 7, 8, 2, 0, 0]])
    image = encoders.project_image(torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(2)))
    packed, padded, short = (
        Text.of(Tokens(x, x > 0), "cpu", padding) for x, padding in ((ids, False), (ids, True), (ids[:, :4], False))
    )
    packed, padded, short = (encoders.fuse(encoders.encode_text(t), t.packing, image) for t in (packed, padded, short))
    assert padded.shape == (6, 24) and packed.shape == short.shape == (4, 24)
    assert torch.allclose(padded[:4], short, atol=1e-6) and torch.allclose(packed, short, atol=1e-6)


def test_the_first_token_alone_is_the_first_of_all():
    """Training mode without dropout; the gradients are those of the full pass too."""
    encoders = build_model(tiny(), 50).double().encoders
    ids = torch.tensor([[1, 7, 8, 2], [1, 9, 2, 0]])
    text = Text.of(Tokens(ids, ids > 0), "cpu")
    pixels = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(2)).double()
    results = []
    for first_only in (False, True):
        encoders.zero_grad()
        out = encoders.fuse(
            encoders.encode_text(text),
            text.packing,
            encoders.project_image(pixels),
            Wanted.first(text.packing) if first_only else None,
        )
        out = out if first_only else out[text.packing.first()]
        out.pow(3).sum().backward()
        results.append([out] + [p.grad.clone() for p in encoders.fusion.parameters()])
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_many_texts_with_few_images_match_as_pairs_do(layers):
    """Image-major matching equals the pairwise pass: texts 0, 1, 0 with image 0 and text 1 with image 1."""
    model = build_model(tiny(fusion_layers=layers), 50).double().eval()
    fusion = model.encoders.fusion
    ids = torch.tensor([[1, 7, 8, 2], [1, 9, 2, 0]])[[0, 1, 0, 1]]
    text = Text.of(Tokens(ids, ids > 0), "cpu")
    states = model.encoders.encode_text(text)
    image = fusion.project_image(torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(2)).double())
    pairwise = fusion(states, text.packing, image.take(torch.tensor([0, 0, 0, 1])), Wanted.first(text.packing))
    matched = match(fusion, fusion.attend(states, text.packing), text.packing, image, [3, 1], [11, 3])
    assert torch.allclose(pairwise, matched, atol=1e-12)


def test_weights_depend_on_seed_and_name_only():
    full, small = build_model(tiny(), 50), build_model(tiny({"cl": 0.5}), 50)
    shared = dict(small.named_parameters())
    assert shared and all(torch.equal(dict(full.named_parameters())[n], p) for n, p in shared.items())
    other = build_model(tiny(seed=1), 50)
    assert not torch.equal(full.encoders.vision.pos_embed, other.encoders.vision.pos_embed)


@pytest.mark.parametrize(
    ("weights", "generator", "heads", "fusion", "language"),
    [
        ({"cl": 0.5}, None, set(), False, False),
        ({"cl": 0.5, "itm": 1.0}, None, {"itm"}, True, False),
        ({"cl": 0.5, "itm": 1.0, "prd": 0.5}, None, {"itm", "prd"}, True, False),
        ({"cl": 0.5, "itm": 1.0, "mlm": 1.0}, None, {"itm"}, True, True),
        ({"cl": 0.5, "itm": 1.0, "rtd": 1.0}, "fixed", {"itm", "rtd"}, True, False),
        ({"cl": 0.5, "itm": 1.0, "rtd": 1.0}, "momentum", {"itm", "rtd"}, True, True),
    ],
)
def test_what_is_off_is_not_built(weights, generator, heads, fusion, language):
    model = build_model(tiny(weights, generator), 50)
    assert set(model.heads) == heads
    assert (model.encoders.fusion is not None, model.encoders.language_head is not None) == (fusion, language)


def test_momentum_copy_follows_by_the_ema():
    model = build_model(tiny(), 50)
    momentum = momentum_copy(model.encoders, True, True)
    assert all(not p.requires_grad for p in momentum.parameters())
    before = momentum.text_proj.weight.clone()
    with torch.no_grad():
        model.encoders.text_proj.weight.add_(1.0)
    ema_update(momentum, model.encoders, 1.0)
    assert torch.equal(momentum.text_proj.weight, before)
    ema_update(momentum, model.encoders, 0.75)  # a quarter of the way to + 1
    assert torch.allclose(momentum.text_proj.weight, before + 0.25)
    assert momentum_copy(model.encoders, False, False).fusion is None and model.encoders.fusion is not None


@pytest.mark.parametrize("sizes", [[3, 3, 3, 3], [4, 4, 4], [1] * 13, [10], [25], [7, 25, 2]])
def test_queue_holds_the_last_features_across_the_wrap(sizes):
    queue, pushed = FeatureQueue(10, 4), torch.zeros(0, 4)
    for i, size in enumerate(sizes):
        batch = torch.full((size, 4), float(i)) + torch.arange(size)[:, None] / 100
        queue.push(batch, -batch, torch.full((size,), i))
        pushed = torch.cat([pushed, batch])
    last = pushed[-10:]
    held = queue.images[queue.identities != NOBODY]
    assert torch.equal(held.sort(0).values, last.sort(0).values)
    assert torch.equal(queue.images[queue.identities != NOBODY], -queue.texts[queue.identities != NOBODY])
    oldest_first = queue.images[queue.without_oldest(0)]
    if len(pushed) >= 10:
        assert torch.equal(oldest_first, last)
    assert queue.pointer.item() == len(pushed) % 10


def test_an_unfilled_queue_belongs_to_nobody():
    queue = FeatureQueue(10, 4)
    assert (queue.identities == NOBODY).all() and torch.allclose(queue.images.norm(dim=1), torch.ones(10))


@pytest.mark.parametrize("weights", [ALL, {"cl": 0.5}, {"cl": 0.5, "itm": 1.0}])
def test_released_names_round_trip(weights):
    config = tiny(weights)
    model, other = build_model(config, 50), build_model(config.model_copy(update={"seed": 1}), 50)
    report = load_released(to_released(model), other)
    assert not report.fresh and not report.unused
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_a_pretraining_file_leaves_only_the_new_heads_at_random():
    model = build_model(tiny(), 50)
    momentum, queue = momentum_copy(model.encoders, True, True), FeatureQueue(10, 12)
    state = to_released(model, momentum, queue)
    for key in ("prd_head.weight", "prd_head.bias", "mrtd_head.weight", "mrtd_head.bias", "idx_queue"):
        del state[key]
    report = load_released({k: v.clone() for k, v in state.items()}, model, momentum, queue)
    assert set(report.fresh) == {"prd_head.weight", "prd_head.bias", "mrtd_head.weight", "mrtd_head.bias", "idx_queue"}
    assert "5 at their random start" in str(report)


def test_a_row_without_fusion_takes_what_it_needs_of_a_full_file():
    full, small = build_model(tiny(), 50), build_model(tiny({"cl": 0.5}, seed=1), 50)
    report = load_released(to_released(full), small)
    assert torch.equal(small.encoders.text_proj.weight, full.encoders.text_proj.weight)
    assert any("crossattention" in key for key in report.unused) and not report.fresh


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("text_proj.weight"), "text_proj.weight is missing"),
        (lambda s: s.update({"bert.pooler.weight": torch.zeros(1)}), "bert.pooler.weight is unknown"),
        (lambda s: s.update({"temp": torch.zeros(3)}), "temp is [3], this model has []"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_changes_nothing(change, message):
    model = build_model(tiny(), 50)
    state = {k: v.clone() + 1 for k, v in to_released(model).items()}
    change(state)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(ResourceError) as refused:
        load_released(state, model, source="some.pth")
    assert message in str(refused.value) and str(refused.value).startswith("some.pth")
    assert all(torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("payload-ran"),))


def test_a_pickle_payload_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"temp": torch.zeros(())}, "config": Payload()}, "evil.pth")
    with pytest.raises(ResourceError, match="evil.pth: not a readable checkpoint"):
        read_state(Path("evil.pth"))
    assert not Path("payload-ran").exists()


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04 half a file"])
@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_damaged_file_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ResourceError, match=name):
        read_state(tmp_path / name)


def test_full_size_model_takes_every_key_of_the_released_file():
    facts = json.loads((FACTS / "full_size_model.json").read_text())
    config = Config.model_validate(
        {
            "data": {"root": "."},
            "objectives": {"weights": ALL, "positives": "probabilistic", "generator": "momentum"},
        }
    )
    model = build_model(config, 30522)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == facts["trainable_parameters"] == 210_186_561
    momentum = momentum_copy(model.encoders, True, True)
    queue = FeatureQueue(config.model.queue_size, config.model.embed_dim)
    # One stored zero per tensor: every key and shape without 2 GB of file.
    state = {
        key: torch.zeros(
            (), dtype=torch.int64 if key.startswith(("idx", "queue")) or "position_ids" in key else torch.float32
        ).expand(shape)
        for key, shape in facts["state_dict_keys"].items()
    }
    report = load_released(state, model, momentum, queue)
    assert (report.unused, report.fresh, report.resized) == ([], [], [])
    assert all(not p.any() for p in names(model, momentum).values()) and not queue.images.any()
    assert sum(p.numel() for p in names(model, momentum).values()) == facts["all_parameters"]
    written = {key: list(value.shape) for key, value in to_released(model, momentum, queue).items()}
    assert written == facts["state_dict_keys"]
    found = inspect(state)
    assert found.complete and found.keys == 849 and found.trainable == 210_186_561
    assert found.layout.startswith("RaSa training checkpoint") and found.sizes["vocabulary"] == 30522


def test_a_pretraining_file_is_recognised():
    keys = json.loads((FACTS / "checkpoint_keys.json").read_text())["pretraining_keys"]
    found = inspect({key: torch.zeros(()).expand(shape) for key, shape in keys.items()})
    assert found.layout == "ALBEF or TCL pre-training checkpoint" and found.keys == 844
    assert len(found.missing) == 5 and not found.unexpected and found.sizes["image_side"] == 256


def test_a_file_fine_tuned_for_retrieval_is_named():
    with pytest.raises(ResourceError, match="fine-tuned for retrieval"):
        inspect({"text_encoder.embeddings.word_embeddings.weight": torch.zeros(5, 4)})


@pytest.mark.parametrize("weights", [ALL, {"cl": 0.5}])
def test_weights_of_any_row_and_image_shape_are_described(tmp_path, weights):
    """48 x 32 pixels are six patches, which are no square; row CL has no fusion layers."""
    model = build_model(tiny(weights), 50)
    (tmp_path / "epoch").mkdir()
    save_file(
        {k: v.clone() for k, v in to_released(model, redundant=False).items()},
        tmp_path / "epoch" / "tensors.safetensors",
    )
    found = inspect(read_state(tmp_path / "epoch"))
    assert found.layout == "online RaSa weights" and not found.unexpected and not found.other_shape
    assert found.sizes["fusion_layers"] == (2 if "itm" in weights else 0)
    assert found.trainable == sum(p.numel() for p in model.parameters())


def test_an_exact_training_checkpoint_is_named():
    with pytest.raises(ResourceError, match="exact training checkpoints"):
        inspect({"model.encoders.text_proj.weight": torch.zeros(2, 2)})
