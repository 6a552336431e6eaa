"""CLIP as a backbone: transformers' own features, its tokenizer, all ten rows, and its weights in and out."""

import json
from pathlib import Path

import pytest
import torch

from rasa.commands.cli import main
from rasa.config.fidelity import Fidelity
from rasa.config.run import Config, Objectives
from rasa.data.tokenizer import Encoded, Tokens, build_tokenizer, tokenizer_from_vocabulary, vocabulary_file
from rasa.draws import Draws
from rasa.errors import ResourceError
from rasa.evaluation.rank import encode_queries
from rasa.evaluation.rerank import rerank
from rasa.model.clip import reading_order
from rasa.model.momentum import momentum_copy
from rasa.model.packing import Packing, Text, Wanted
from rasa.model.queue import FeatureQueue
from rasa.model.rasa import build_model
from rasa.training.step import Teachers, step_losses
from rasa.weights.inspect import inspect
from rasa.weights.released import initial_state, load_released, read_state, to_released
from tests.helpers.clip_folder import SIZES, vocabulary, write_clip, write_tokenizer
from tests.helpers.people import tiny_config, write_people
from tests.helpers.tiny_model import ALL, tiny
from tests.helpers.tiny_step import ROWS, SPECIAL, VOCABULARY, WEIGHTS, Fixed, inputs, text

CAPTIONS = [
    "a man in a red shirt and jeans",
    "red",
    "she wears 2 shoes, o'clock blue-ish",
    "Ünïcode & <|endoftext|> 12",
]


def on_clip(weights=None, generator="momentum", seed=0, image_size=(48, 48), **model) -> Config:
    weights = ALL if weights is None else weights
    return Config.model_validate(
        {
            "seed": seed,
            "data": {"root": ".", "image_size": image_size, "max_tokens": 30},
            "model": SIZES | model,
            "objectives": {
                "weights": weights,
                "positives": "probabilistic",
                "generator": generator if "rtd" in weights else None,
            },
        }
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """(folder, transformers' model, transformers' tokenizer)"""
    folder = tmp_path_factory.mktemp("clip")
    return folder, write_clip(folder), write_tokenizer(folder)


def loaded(folder, **config):
    tokenizer = build_tokenizer(str(folder), [], 0)
    model = build_model(on_clip(**config), tokenizer.vocabulary_size, tokenizer.pad_id).eval()
    return model, tokenizer, load_released(read_state(folder), model, source="clip")


def test_token_ids_are_transformers_own_with_the_two_ends_exchanged(clip):
    folder, _, theirs = clip
    ours, words = build_tokenizer(str(folder), [], 0), vocabulary()
    start, end = words["<|startoftext|>"], words["<|endoftext|>"]
    # A special token typed in a caption is theirs to obey and ours to spell.
    for caption in CAPTIONS[:3] + ["ünïcode & 12"]:
        expected = theirs(caption)["input_ids"]
        assert (expected[0], expected[-1]) == (start, end)
        assert ours.encode([caption]).ids[0].tolist() == [end, *expected[1:-1], start]
    spelled = ours.encode([CAPTIONS[3]]).ids[0].tolist()
    assert spelled.count(end) == spelled.count(start) == 1
    assert (ours.cls_id, ours.sep_id, ours.pad_id) == (end, start, 0)
    assert ours.mask_id == len(words) == ours.vocabulary_size - 1 and ours.decode_tokens([ours.mask_id]) == ["[MASK]"]
    cut = ours.encode(CAPTIONS[:1], 5).ids[0].tolist()
    assert cut == [end, *theirs(CAPTIONS[0])["input_ids"][1:4], start]


def test_a_clip_tokenizer_survives_its_file(clip, tmp_path):
    ours = build_tokenizer(str(clip[0]), [], 0)
    assert ours.file == "tokenizer.json"
    ours.save(tmp_path / ours.file)
    again = tokenizer_from_vocabulary(vocabulary_file(tmp_path))
    assert again.digest == ours.digest and torch.equal(again.encode(CAPTIONS).ids, ours.encode(CAPTIONS).ids)
    clip[2].save_pretrained(tmp_path / "theirs")  # transformers' own tokenizer.json, with its own post-processing
    other = build_tokenizer(str(tmp_path / "theirs"), [], 0)
    assert other.digest == ours.digest and torch.equal(other.encode(CAPTIONS).ids, ours.encode(CAPTIONS).ids)


@pytest.mark.parametrize("image_size", [(48, 48), (96, 48)], ids=["own size", "interpolated"])
def test_features_equal_transformers_clip(clip, image_size):
    """Projected features and every token's state, of texts of several lengths, to 1e-5; images at another size, too."""
    folder, theirs, their_tokenizer = clip
    model, tokenizer, report = loaded(folder, image_size=image_size)
    assert bool(report.resized) == (image_size != (48, 48))
    encoders = model.encoders
    captions = CAPTIONS[:3]
    given = their_tokenizer(captions, padding=True, return_tensors="pt")
    with torch.no_grad():
        texts = theirs.text_model(**given)
        expected = theirs.text_projection(texts.pooler_output)
        ours = Text.of(tokenizer.encode(captions), "cpu")
        states = encoders.encode_text(ours)
        assert torch.allclose(
            encoders.text_feature(states, ours.packing), torch.nn.functional.normalize(expected, dim=-1), atol=1e-5
        )
        order = reading_order(ours.packing.mask)
        reordered = texts.last_hidden_state.gather(1, order[..., None].expand(-1, -1, 24))
        assert torch.allclose(states, reordered[ours.packing.mask], atol=1e-5)

        pixels = torch.randn(2, 3, *image_size, generator=torch.Generator().manual_seed(5))
        images = theirs.vision_model(pixels, interpolate_pos_encoding=image_size != (48, 48))
        tokens = encoders.encode_image(pixels)
        assert torch.allclose(tokens, theirs.vision_model.post_layernorm(images.last_hidden_state), atol=1e-5)
        expected = torch.nn.functional.normalize(theirs.visual_projection(images.pooler_output), dim=-1)
        assert torch.allclose(encoders.image_feature(tokens), expected, atol=1e-5)
    # exp(-logit_scale), so similarities are scaled as CLIP scales them
    assert model.temperature.item() == pytest.approx(torch.exp(-theirs.logit_scale).item(), rel=1e-6)


def test_what_clip_has_not_starts_random_and_is_named(clip):
    model, tokenizer, report = loaded(clip[0])
    untouched = build_model(on_clip(), tokenizer.vocabulary_size, tokenizer.pad_id)
    parts = ("encoders.fusion.", "encoders.language_head.", "heads.")
    own = {name for name, _ in model.named_parameters() if name.startswith(parts)}
    assert set(report.fresh) == own | {"[MASK] of the word embeddings"} and not report.unused
    assert all(torch.equal(model.get_parameter(name), untouched.get_parameter(name)) for name in own)
    assert len(report.loaded) + len(own) == len(list(model.parameters()))
    words = clip[1].text_model.embeddings.token_embedding.weight
    ours = model.encoders.text.embeddings.word_embeddings.weight
    assert torch.equal(ours[:-1], words) and torch.allclose(ours[-1], words.mean(0), atol=1e-6)


def test_a_text_is_read_in_clips_order():
    """Four cells <end> a b <start> are read at 3 1 2 0; the first cell sees all,
    a word those before it and the start."""
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    assert reading_order(mask).tolist() == [[3, 1, 2, 0], [1, 0, 2, 3]]
    encoder = build_model(on_clip(), 50).double().encoders.text
    ids = torch.tensor([[1, 7, 8, 2]])
    states = encoder(ids, Packing.of(ids > 0, "cpu"))
    for changed, unmoved in ((2, [1, 3]), (1, [3]), (3, [])):  # the second word; the first word; the start
        other = ids.clone()
        other[0, changed] = 30
        moved = (encoder(other, Packing.of(ids > 0, "cpu")) - states).abs().amax(1) > 1e-9
        assert [i for i in range(4) if not moved[i]] == unmoved


def test_wanted_tokens_and_padding_change_no_number():
    encoders = build_model(on_clip(), VOCABULARY).double().eval().encoders
    tokens = text(1, 4)
    packed, padded = (Text.of(tokens, "cpu", padding) for padding in (False, True))
    states = encoders.encode_text(packed)
    assert torch.allclose(encoders.encode_text(padded)[tokens.mask.flatten()], states, atol=1e-12)
    first = encoders.encode_text(packed, Wanted.first(packed.packing))
    assert torch.allclose(first, states[packed.packing.first()], atol=1e-12)
    cells = tokens.mask.flatten().nonzero().squeeze(1)[[1, 2, 9, 14]]
    some = encoders.encode_text(packed, Wanted.at(packed.packing, cells))
    assert torch.allclose(some, states[packed.packing.rows[cells]], atol=1e-12)


def test_reranking_scores_equal_the_pairwise_pass():
    model = build_model(on_clip(), VOCABULARY).double().eval()
    tokens = text(1, 4)
    images = model.encoders.encode_image(torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(2)).double())
    candidates = torch.tensor([[0, 2], [1, 0], [2, 1], [0, 1]])
    lengths = tokens.mask.sum(1)
    encoded = Encoded(tokens.ids[tokens.mask], torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]), 0)
    with torch.inference_mode():
        queries = encode_queries(model, encoded, 3, "float32", torch.device("cpu"))
        scores = rerank(model, [images], queries.packed, candidates, "logit", 20)
        for t, chosen in enumerate(candidates.tolist()):
            for k, image in enumerate(chosen):
                own = Text.of(Tokens(tokens.ids[t : t + 1], tokens.mask[t : t + 1]), "cpu")
                fused = model.encoders.fuse(
                    model.encoders.encode_text(own),
                    own.packing,
                    model.encoders.project_image(images[image : image + 1]),
                )
                assert torch.allclose(scores[t, k], model.heads["itm"](fused[:1])[0, 1], atol=1e-10)


def step(losses, positives="probabilistic", generator=None, preset="paper", dropout=0.1):
    """(losses, trace, model) of a first step on CLIP, as `test_step.run` on ALBEF."""
    weights = {name: WEIGHTS[name] for name in losses}
    config = tiny(weights, generator, dropout=dropout, backbone="clip", fusion_layers=1)
    model = build_model(config, VOCABULARY)
    teachers = Teachers(momentum_copy(model.encoders, True, True), FeatureQueue(10, 12), Fixed())
    objectives = Objectives(weights=weights, positives=positives, generator=generator)
    batch = inputs(matched="itm" in losses or "prd" in losses)
    fidelity = Fidelity.model_validate({"preset": preset})
    out = step_losses(model, teachers, batch, objectives, fidelity, 0.3, Draws(0, 0), SPECIAL)
    return out.losses, out.trace, model


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("row", ROWS)
def test_every_row_computes_its_losses_and_trains_all_it_builds(row, preset):
    losses, positives, generator = ROWS[row]
    found, _, model = step(losses, positives, generator, preset)
    assert set(found) == set(losses) and all(torch.isfinite(loss) for loss in found.values())
    sum(found.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    for part in (model.encoders.vision.cls_token, model.encoders.text.embeddings.word_embeddings.weight):
        assert part.grad.abs().sum() > 0


@pytest.mark.parametrize("row", ROWS)
def test_every_row_runs_where_texts_are_not(row):
    """Texts and masks on the CPU, all else on another device, here the one that computes nothing: nothing may mix."""
    losses, positives, generator = ROWS[row]
    weights = {name: WEIGHTS[name] for name in losses}
    model = build_model(tiny(weights, generator, backbone="clip"), VOCABULARY, device="meta")
    teachers = Teachers(momentum_copy(model.encoders, True, True), FeatureQueue(10, 12).to("meta"), Fixed())
    batch = inputs(matched="itm" in losses or "prd" in losses)
    moved = {name: getattr(batch, name).to("meta") for name in ("view1", "view2", "weak", "identity")}
    objectives = Objectives(weights=weights, positives=positives, generator=generator)
    fidelity = Fidelity.model_validate({"preset": "released", "ranks": 2})
    out = step_losses(model, teachers, batch._replace(**moved), objectives, fidelity, 0.3, Draws(0, 0), SPECIAL)
    torch.stack(list(out.losses.values())).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("preset", ["released", "paper"])
@pytest.mark.parametrize("dropped", list(ALL))
def test_dropping_one_objective_leaves_the_others_bit_identical(dropped, preset):
    full, trace, _ = step(list(ALL), generator="momentum", preset=preset)
    rest = [name for name in ALL if name != dropped]
    some, other, _ = step(rest, generator="momentum" if "rtd" in rest else None, preset=preset)
    assert all(torch.equal(some[name], full[name]) for name in rest)
    drawn = ("mlm_input_ids", "mlm_labels", "rtd_input_ids", "rtd_labels", "weights_i2t", "weights_t2i")
    shared = [name for name in drawn if name in other]
    assert shared and all(torch.equal(other[name], trace[name]) for name in shared)


def test_the_masked_word_learns_from_both_sides_through_the_fusion_block():
    """The tower is causal, the block is not: a word's prediction moves with the word after it."""
    encoders = build_model(on_clip(), VOCABULARY).double().eval().encoders
    image = encoders.project_image(torch.randn(1, 10, 32, generator=torch.Generator().manual_seed(2)).double())
    logits = []
    for after in (8, 9):
        ids = torch.tensor([[1, 4, after, 2]])
        caption = Text.of(Tokens(ids, ids > 0), "cpu")
        fused = encoders.fuse(encoders.encode_text(caption), caption.packing, image)
        logits.append(encoders.words(fused)[1])
    assert (logits[0] - logits[1]).abs().max() > 1e-6


def test_weights_on_clip_round_trip_under_their_own_names():
    model, other = (build_model(on_clip(seed=seed), VOCABULARY) for seed in (0, 1))
    report = load_released({name: value.clone() for name, value in to_released(model).items()}, other)
    assert not report.fresh and not report.unused
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))
    assert inspect(to_released(model)).layout == "online RaSa weights on CLIP"
    damaged = {
        name: value
        for name, value in to_released(model).items()
        if name != "encoders.fusion.layers.0.attention.key.bias"
    }
    with pytest.raises(ResourceError, match=r"encoders.fusion.layers.0.attention.key.bias is missing"):
        load_released(damaged, other)


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def own_suite(tmp_path, root, losses, generator=None):
    """A user's suite of one row on CLIP."""
    model = SIZES | {"temperature_range": (0.01, 0.5)}
    config = tiny_config(
        root,
        losses,
        generator,
        model=model,
        data={"image_size": (32, 16), "max_tokens": 40},
        optimisation={"epochs": 1, "max_steps_per_epoch": 3},
    )
    config["data"].pop("root")
    spec = {
        "suite": "own",
        "title": "A test",
        "labels": ["Setting"],
        "base": config,
        "rows": [{"name": "row", "labels": ["one"], "changes": {"objectives": config.pop("objectives")}}],
    }
    (tmp_path / "own.yaml").write_text(json.dumps(spec))
    return tmp_path / "own.yaml"


@pytest.mark.parametrize("generator", ["momentum", "fixed"])
def test_a_row_trains_from_a_clip_folder_and_is_evaluated(clip, tmp_path, monkeypatch, capsys, generator):
    """The run's vocabulary, weights and spec suffice afterwards; f-RTD's generator is trained in CLIP's own words."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = write_people(tmp_path / "people")
    suite = own_suite(tmp_path, root, ALL, generator)
    given = ["-o", f"data.root={root}", "-o", f"model.weights={clip[0]}", "-o", f"data.tokenizer={clip[0]}"]
    assert run("run", suite, *given, "--workspace", tmp_path) == 0
    assert "[MASK]" in capsys.readouterr().err
    (directory,) = (tmp_path / "runs").glob("own/row/*/seed-0-*")
    assert (directory / "tokenizer.json").is_file() and not (directory / "vocab.txt").exists()
    assert run("evaluate", directory, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metrics"] == json.loads((directory / "result.json").read_text())["test"]


def test_a_clip_folder_is_inspected_converted_and_ranks_as_it_is(clip, tmp_path, capsys):
    """Without a fusion block ranking is by stage 1 alone, from the folder and from the converted one alike."""
    root = write_people(tmp_path / "people")
    assert run("checkpoint", "inspect", clip[0]) == 0
    out = capsys.readouterr().out
    assert "CLIP's two towers" in out and "text_layers  2" in out
    assert run("checkpoint", "convert", clip[0], tmp_path / "ours") == 0
    given = [
        "--data",
        root,
        "-o",
        f"data.tokenizer={clip[0]}",
        "-o",
        "model.vision_heads=4",
        "-o",
        "model.text_heads=4",
        "-o",
        "data.max_tokens=40",
    ]
    told = []
    for weights in (clip[0], tmp_path / "ours"):
        capsys.readouterr()
        assert run("evaluate", weights, *given, "--json") == 0
        told.append(json.loads(capsys.readouterr().out)["metrics"])
    assert told[0] == told[1] and told[0]["r1"] == told[0]["stage1_r1"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c, f: c["text_config"].update(hidden_act="gelu"), "text_config.hidden_act is gelu"),
        (lambda c, f: c["vision_config"].update(num_attention_heads=2), "set -o model.vision_heads=2"),
        (lambda c, f: (f / "model.safetensors").write_bytes(b"x"), "model.safetensors: not a readable checkpoint"),
    ],
    ids=["activation", "heads", "damaged"],
)
def test_another_clip_is_refused_by_name(tmp_path, spoil, message):
    write_clip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    spoil(config, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ResourceError) as refused:
        initial_state(on_clip().model.model_copy(update={"weights": tmp_path}))
    assert message in str(refused.value) and len(str(refused.value).splitlines()) == 1


def test_a_name_that_cannot_be_fetched_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = on_clip().model.model_copy(update={"weights": Path("nobody/clip")})
    with pytest.raises(
        ResourceError, match=r"^model.weights: nobody/clip cannot be loaded \(.*\); give a local folder$"
    ):
        initial_state(model)


def test_weights_of_the_other_backbone_or_vocabulary_are_refused(clip):
    state = read_state(clip[0])
    with pytest.raises(ResourceError, match="holds CLIP weights; set model.backbone"):
        load_released(state, build_model(tiny(), VOCABULARY), source="clip")
    with pytest.raises(ResourceError, match="holds ALBEF or TCL weights; set model.backbone"):
        load_released(to_released(build_model(tiny(), VOCABULARY)), build_model(on_clip(), VOCABULARY), source="albef")
    with pytest.raises(ResourceError, match="set data.tokenizer to the vocabulary of these weights"):
        load_released(state, build_model(on_clip(), VOCABULARY), source="clip")


def test_clip_sizes_are_vit_b_16s_unless_given_and_a_name_is_no_path(tmp_path):
    config = Config.model_validate(
        {"data": {"root": "."}, "model": {"backbone": "clip"}, "objectives": {"weights": {"cl": 1.0}}}
    )
    model = config.model
    assert (model.text_width, model.text_layers, model.text_heads, model.text_mlp_width) == (512, 12, 8, 2048)
    assert (model.max_positions, model.embed_dim, model.fusion_layers, model.vision_width) == (77, 512, 1, 768)
    named = lambda weights, backbone="clip": on_clip(weights=None).model.model_copy(
        update={"weights": weights, "backbone": backbone}
    )
    assert named(Path("openai/clip-vit-base-patch16")).weights_name == "openai/clip-vit-base-patch16"
    assert named(Path("openai/clip-vit-base-patch16"), "albef").weights_name is None
    assert named(tmp_path).weights_name is None
    assert named(Path("CLIP.pth")).weights_name is None
