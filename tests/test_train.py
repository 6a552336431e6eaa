"""The recipe on small files: all ten rows, repeatability, stopping and resuming, and faults."""

import json

import pytest
import torch
from safetensors.torch import load_file

from rasa.config.run import Config
from rasa.data.tokenizer import train_tokenizer
from rasa.errors import ResourceError, RunFailed, SpecError
from rasa.training.train import train
from rasa.weights.folder import load_checkpoint
from tests.helpers.people import write_people
from tests.helpers.short_runs import Recorder, go, row
from tests.helpers.tiny_step import ROWS, WEIGHTS


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return write_people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The fixed generator is trained once for all tests."""
    return tmp_path_factory.mktemp("cache")


def final_tensors(directory):
    newest = max((directory / "checkpoints").glob("step-*"))
    return load_checkpoint(newest)


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("name", ROWS)
def test_every_row_runs_and_logs_its_own_losses(people, cache, tmp_path, name, preset):
    result, log = go(
        row(people, name, fidelity={"preset": preset}, optimisation={"max_steps_per_epoch": 3}), tmp_path / "run", cache
    )
    losses = {n for n in log.of("train")[0][1] if n.startswith("loss_")}
    assert losses == {f"loss_{n}" for n in ROWS[name][0]}
    assert [step for step, _ in log.of("train")] == list(range(6)) and len(log.of("val")) == 2
    assert set(result["test"]) >= {"r1", "r5", "r10", "map", "stage1_r1"}
    if name in ("cl", "itc"):
        assert result["test"]["r1"] == result["test"]["stage1_r1"]
    assert load_file(tmp_path / "run" / "predictions.safetensors")["first_rank"].shape == (24,)
    assert len(list((tmp_path / "run" / "selected").iterdir())) == 1


def test_the_same_seed_repeats_to_the_bit_and_workers_change_nothing(people, tmp_path):
    runs = [
        go(row(people, "m-rtd", data={"workers": w}, **extra), tmp_path / n)
        for n, w, extra in (("a", 0, {}), ("b", 0, {}), ("c", 2, {}))
    ]
    go(row(people, "m-rtd") | {"seed": 1}, tmp_path / "d")
    first = runs[0][1]
    for result, log in runs[1:]:
        assert log.of("train") == first.of("train") and log.of("val") == first.of("val")
        assert result["test"] == runs[0][0]["test"]
    a, _ = final_tensors(tmp_path / "a")
    for name in "bc":
        tensors, _ = final_tensors(tmp_path / name)
        assert all(torch.equal(tensors[k], v) for k, v in a.items())
    d, _ = final_tensors(tmp_path / "d")
    assert not torch.equal(d["model.temperature"], a["model.temperature"])


@pytest.mark.parametrize("stop_after", [1, 9, 13])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(people, tmp_path, stop_after):
    """9 steps an epoch: stops in the middle of epoch 1, at its end (before validation), and in epoch 2."""
    straight, whole = go(row(people, "m-rtd"), tmp_path / "straight")
    asked = iter([False] * (stop_after - 1) + [True])
    log = Recorder()
    (tmp_path / "broken").mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(Config.model_validate(row(people, "m-rtd")), tmp_path / "broken", log, should_stop=lambda: next(asked))
    resumed, rest = go(row(people, "m-rtd"), tmp_path / "broken")
    assert rest.start == stop_after
    assert log.of("train") + rest.of("train") == whole.of("train")
    assert log.of("val") + rest.of("val") == whole.of("val")
    assert resumed["test"] == straight["test"] and resumed["selected"] == straight["selected"]
    ours, theirs = final_tensors(tmp_path / "broken"), final_tensors(tmp_path / "straight")
    assert set(ours[0]) == set(theirs[0]) and all(torch.equal(ours[0][k], v) for k, v in theirs[0].items())


def test_a_finished_run_asked_again_only_tests_again(people, tmp_path):
    first, _ = go(row(people, "itm"), tmp_path / "run")
    again, log = go(row(people, "itm"), tmp_path / "run")
    assert log.of("train") == [] and log.start == 18 and again["test"] == first["test"]


def test_a_damaged_newest_checkpoint_is_said_and_the_one_before_used(people, tmp_path):
    config = row(people, "itm")
    first, _ = go(config, tmp_path / "run")
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*")) / "tensors.safetensors"
    raw = bytearray(newest.read_bytes())
    raw[-1] ^= 1
    newest.write_bytes(bytes(raw))
    said = []
    again, log = go(config, tmp_path / "run", notify=said.append)
    assert log.start == 9 and any("damaged" in line for line in said)
    assert again["test"] == first["test"]


def test_a_checkpoint_of_another_config_is_refused(people, tmp_path):
    go(row(people, "itm"), tmp_path / "run")
    with pytest.raises(ResourceError, match="another config"):
        go(row(people, "itm", optimisation={"learning_rate": 2e-3}), tmp_path / "run")


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_last_checkpoint(people, tmp_path):
    config = row(people, "itm", optimisation={"learning_rate": 1e30, "checkpoint_steps": 1})
    with pytest.raises(RunFailed, match=r"at epoch 1, step \d+; the step was not applied"):
        go(config, tmp_path / "run")
    tensors, state = final_tensors(tmp_path / "run")
    assert state["epoch"] == 0 and all(torch.isfinite(v).all() for v in tensors.values())


def test_initial_weights_are_used_and_reported(people, tmp_path):
    go(row(people, "mlm"), tmp_path / "pretrain")
    weights = next((tmp_path / "pretrain" / "selected").iterdir()) / "tensors.safetensors"
    said = []
    config = row(
        people, "m-rtd", model={"weights": weights}, optimisation={"learning_rate": 1e-12, "min_learning_rate": 0.0}
    )
    go(config, tmp_path / "run", notify=said.append)
    tensors, _ = final_tensors(tmp_path / "run")
    assert torch.allclose(tensors["model.heads.itm.weight"], load_file(weights)["itm_head.weight"], atol=1e-8)
    assert any("momentum model copied" in line and "mrtd_head" in line for line in said)


def test_a_fixed_generator_of_another_vocabulary_is_refused(people, tmp_path):
    from transformers import DistilBertConfig, DistilBertForMaskedLM

    sizes = {"dim": 8, "n_heads": 2, "n_layers": 1, "hidden_dim": 8, "max_position_embeddings": 32}
    DistilBertForMaskedLM(DistilBertConfig(vocab_size=99, **sizes)).save_pretrained(tmp_path / "other")
    config = row(people, "f-rtd")
    config["objectives"]["masked_lm"] = str(tmp_path / "other")
    with pytest.raises(SpecError, match="another vocabulary .99 words") as refused:
        go(config, tmp_path / "run")
    assert "masked_lm: captions" in str(refused.value) and "\n" not in str(refused.value)
    config["objectives"]["masked_lm"] = str(tmp_path / "nothing here")
    with pytest.raises(ResourceError, match="could not be loaded"):
        go(config, tmp_path / "run2")


def test_the_fixed_generator_learns_the_captions_and_is_cached(people, tmp_path):
    from rasa.training.masked_lm import build_masked_lm

    captions = [f"a person in a {c} shirt and {c} shoes" for c in ("red", "blue", "green", "white")] * 4
    tokenizer = train_tokenizer(captions, 200)
    model = build_masked_lm("captions", tokenizer, captions, tmp_path)
    again = build_masked_lm("captions", tokenizer, captions, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not any(p.requires_grad for p in model.parameters()) and not model.training
    tokens = tokenizer.encode(["a person in a red shirt and red shoes"])
    ids = tokens.ids.clone()
    ids[0, 8] = tokenizer.mask_id  # the second red: the first one tells it
    guess = model(input_ids=ids, attention_mask=tokens.mask.long()).logits[0, 8].argmax()
    assert tokenizer.decode_tokens([guess.item()]) == ["red"]


def test_a_device_that_is_not_there_is_one_line(people, tmp_path):
    with pytest.raises(ResourceError, match="optimisation.device: cuda:7 is not available"):
        go(row(people, "cl", optimisation={"device": "cuda:7"}), tmp_path / "run")


def test_a_caption_longer_than_the_position_table_is_refused_before_training(people, tmp_path):
    config = row(people, "cl", model={"max_positions": 8}, data={"max_tokens": 8}, fidelity={"preset": "released"})
    with pytest.raises(SpecError, match="model.max_positions 8 is less than the longest training caption, 1. tokens"):
        go(config, tmp_path / "run")


def test_a_few_hundred_steps_beat_chance(tmp_path):
    """Contrast and matching learn: eight people, who are also validation and test under other identities.

    Chance is one in eight; measured: stage 1 100 %, re-ranked 88 %.
    """
    root = write_people(tmp_path / "people", train=8, val=0, test=0)
    records = json.loads((root / "reid_raw.json").read_text())
    splits = {"train": 0, "val": 100, "test": 200}
    copies = [record | {"split": s, "id": record["id"] + shift} for s, shift in splits.items() for record in records]
    (root / "reid_raw.json").write_text(json.dumps(copies))
    config = row(
        root,
        "s-itm",
        data={"flip_probability": 0.0},
        model={"momentum": 0.9, "dropout": 0.0, "vision_width": 32, "text_width": 32, "queue_size": 16},
        optimisation={"epochs": 30, "batch_size": 16, "learning_rate": 1e-2, "warmup_steps": 20},
    )
    result, _ = go(config, tmp_path / "run")
    assert result["test"]["stage1_r1"] > 75 and result["test"]["r1"] > 50


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize(
    ("kept", "dropped"),
    [(["cl"], "itm"), (["cl", "itm"], "prd"), (["cl", "prd"], "itm"), (["cl", "itm"], "mlm"), (["itm", "prd"], "cl")],
)
def test_dropping_a_loss_moves_nothing_else_of_the_first_step(people, cache, tmp_path, preset, kept, dropped):
    """Through the loader, so that shuffling, flips and the captions drawn for pairs are covered too."""
    config = row(people, "p-itm-prd", fidelity={"preset": preset}, optimisation={"max_steps_per_epoch": 1, "epochs": 1})
    found = []
    for losses in ([*kept, dropped], kept):
        config["objectives"]["weights"] = {name: WEIGHTS[name] for name in losses}
        _, log = go(config, tmp_path / "-".join(losses), cache)
        found.append(log.of("train")[0][1])
    assert f"loss_{dropped}" in found[0] and f"loss_{dropped}" not in found[1]
    assert all(found[0][f"loss_{name}"] == found[1][f"loss_{name}"] for name in kept)


def test_prd_without_a_weak_pair_is_refused(tmp_path):
    folder = write_people(tmp_path / "lonely", images=1)
    with pytest.raises(SpecError, match="prd needs weak pairs, but no identity of train has"):
        go(row(folder, "p-itm-prd"), tmp_path / "run")


def test_accumulated_parts_train_as_the_whole_batch_does(people, cache, tmp_path):
    """Two shares in one pass or in two: the same losses over two epochs, and the run says how its batch was cut."""
    results = {}
    for parts in (1, 2):
        config = row(
            people,
            "m-rtd",
            fidelity={"preset": "released", "ranks": 2},
            model={"dropout": 0.0},
            optimisation={"accumulation": parts, "max_steps_per_epoch": 3},
        )
        results[parts] = go(config, tmp_path / f"run-{parts}", cache)
    for (_, one), (_, two) in zip(*(results[p][1].of("train") for p in (1, 2)), strict=True):
        assert one == pytest.approx(two, rel=2e-4, abs=2e-5)  # float32 sums in another order, over six steps
    assert results[1][0]["numerics"]["batch"] == results[2][0]["numerics"]["batch"] == "2 x 4"


def test_parts_smaller_than_the_shares_are_told(people, cache, tmp_path):
    told = []
    config = row(people, "itm", optimisation={"accumulation": 4, "max_steps_per_epoch": 1, "epochs": 1})
    result, _ = go(config, tmp_path / "run", cache, notify=told.append)
    assert result["numerics"]["batch"] == "4 x 2"
    assert any("batch 4 x 2" in line and "in that part alone" in line for line in told)


def test_bf16_trains_and_stays_near_float32(people, cache, tmp_path):
    """Losses of the first step to bf16's three digits; weights, moments and figures are kept in float32."""
    logs = {}
    for precision in ("float32", "bf16"):
        config = row(people, "m-rtd", model={"dropout": 0.0}, optimisation={"precision": precision})
        result, logs[precision] = go(config, tmp_path / precision, cache)
        how = {"precision": precision, "compiled": False, "batch": "8", "processes": 1, "device": "cpu"}
        assert result["numerics"] == how
    first = [logs[p].of("train")[0][1] for p in logs]
    assert first[0] == pytest.approx(first[1], rel=0.05) and first[0] != first[1]
    tensors, _ = final_tensors(tmp_path / "bf16")
    assert {t.dtype for t in tensors.values() if t.is_floating_point()} == {torch.float32}


def test_a_checkpoint_of_another_precision_is_not_resumed(people, cache, tmp_path):
    stops = iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        go(row(people, "itm"), tmp_path / "run", cache, should_stop=lambda: next(stops))
    with pytest.raises(ResourceError, match="another config"):
        go(row(people, "itm", optimisation={"precision": "bf16"}), tmp_path / "run", cache)


def test_two_runs_share_one_cache_of_images_and_no_number_depends_on_it(people, tmp_path):
    cached, decoded = tmp_path / "cached", tmp_path / "decoded"
    (with_cache, one), (without, two) = (
        go(row(people, "cl"), cached, tmp_path / "cache"),
        go(row(people, "cl"), decoded),
    )
    assert one.of("train") == two.of("train") and with_cache["test"] == without["test"]
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache" / "image-cache").iterdir()}
    assert len([file for file in files if file.suffix != ".lock"]) >= 3  # train, val, test
    go(row(people, "itm"), tmp_path / "third", tmp_path / "cache")
    maps = [file for file in files if file.stat().st_size > 4096]
    assert maps and all(file.stat().st_mtime_ns == files[file] for file in maps)


def test_the_selection_gap_is_recorded_and_moves_nothing(people, cache, tmp_path):
    """Testing every epoch costs the run no figure and no second, and says what choosing by test would have given."""
    plain, one = go(row(people, "itm"), tmp_path / "plain", cache)
    asked, two = go(row(people, "itm", evaluation={"selection_gap": True}), tmp_path / "asked", cache)
    assert one.of("train") == two.of("train") and one.of("val") == two.of("val") and plain["test"] == asked["test"]
    assert "test" not in plain["last"] and "test_oracle" not in plain
    # Both have counted a step's FLOPs.
    assert 0 < plain["cost"]["looks_seconds"] < asked["cost"]["looks_seconds"]
    assert asked["test_oracle"]["test"]["r1"] >= max(asked["test"]["r1"], asked["last"]["test"]["r1"])
    if asked["selected"]["epoch"] == asked["last"]["epoch"]:
        assert asked["last"]["test"] == {name: asked["test"][name] for name in asked["last"]["test"]}
    kept = load_file(tmp_path / "asked" / "predictions.safetensors")
    assert kept["identity"].shape == kept["first_rank"].shape
