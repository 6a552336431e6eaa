"""`rasa bench`: both sides run and agree, what they cost is what the model of the FLOPs says,
and records are complete."""

import json

import pytest
import torch

from benchmarks.flops import Sizes, fast_step, plain_step
from benchmarks.scene import SIZES, batch_of, config_of
from benchmarks.train import Side, Variant, variants
from experiments.workload import linear
from rasa.commands.cli import main
from rasa.training.flops import counter

ALBEF = Sizes(576, 768, 768, 12, 768, 3072, 6, 6, 256, 30522, 65536)


def test_the_model_of_the_released_step_is_the_published_count():
    """740 GFLOP a pair at 50 tokens, one fusion pass 13.7 of which the projection of the image is 60 %."""
    assert plain_step(ALBEF, 52, 50).total() / 1e9 == pytest.approx(740, rel=0.005)
    one_pass = ALBEF.project() + ALBEF.fuse(50, 50)
    assert one_pass / 1e9 == pytest.approx(13.7, rel=0.005)
    assert ALBEF.project() / one_pass == pytest.approx(0.6, abs=0.01)
    assert linear(2, 3, 5) == 60


@pytest.mark.parametrize("fidelity", ["released", "paper"])
def test_flops_of_a_step_at_full_size_are_the_models(fidelity):
    """m-RTD, batch 52, counted without computing anything (meta device), within 5 %.

    Chosen captions are padded there, as on a GPU: their lengths are the device's secret, so B of 5 B passes more.
    """
    device = torch.device("meta")
    config = config_of("paper", "table4/m-rtd", [f"fidelity={fidelity}", "model.dropout=0"])
    vocabulary, longest, batch = SIZES["paper"][1], SIZES["paper"][3], 52
    side = Side(Variant("fast", "float32"), config, vocabulary, device)
    pairs = batch_of("paper", config, 0, batch, device)
    with counter() as counted:
        side.losses(pairs, 0)
    real = pairs.annotated.mask.sum(1).double().mean().item()
    sizes, masked = Sizes.of(config, vocabulary), config.fidelity.mlm_mask_rate or config.objectives.p_mask
    expected = fast_step(sizes, batch, real, longest, masked, fidelity == "paper").total()
    assert counted.get_total_flops() / batch == pytest.approx(expected, rel=0.05)
    assert expected < 0.85 * plain_step(sizes, batch, longest).total()


def test_what_is_compared_depends_on_the_device():
    assert list(map(str, variants(torch.device("cpu"), None))) == ["plain float32", "fast float32"]
    assert list(map(str, variants(torch.device("cuda"), None))) == [
        "plain float32",
        "plain tf32",
        "fast tf32",
        "fast bf16",
        "fast bf16 compiled",
    ]
    assert list(map(str, variants(torch.device("cuda"), "bf16"))) == ["plain float32", "fast bf16"]


def test_a_step_is_timed_by_part_on_both_sides(tmp_path, capsys):
    assert (
        main(
            [
                "bench",
                "train",
                "--size",
                "tiny",
                "--batch",
                "6",
                "--steps",
                "1",
                "--device",
                "cpu",
                "--json",
                "--workspace",
                str(tmp_path),
            ]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["ratio"] == pytest.approx(found["fast_pairs_per_s"] / found["plain_pairs_per_s"])
    assert found["max_abs_difference"] < 1e-5 and found["max_gradient_difference"] < 1e-3  # float32 rounding
    plain, fast = found["variants"]
    assert plain["variant"] == "plain float32" and fast["gflop_per_pair"] < 0.7 * plain["gflop_per_pair"]
    for side in (plain, fast):
        assert all(milliseconds > 0 for milliseconds in side["parts_ms"].values())
        assert side["pairs_per_s"] == pytest.approx(6000 / side["ms_per_step"])
    assert found["model_gflop_per_pair"]["plain"] == pytest.approx(plain["gflop_per_pair"], rel=0.05)
    run = logged(tmp_path)
    assert run.data.metrics["bench/ratio"] == pytest.approx(found["ratio"])
    assert run.data.metrics["bench/variants.fast-float32.parts_ms.fusion"] > 0
    assert run.data.params["device"] == "cpu" and run.data.tags["rasa.kind"] == "benchmark"


def test_reranking_agrees_and_is_logged(tmp_path, capsys):
    assert (
        main(
            [
                "bench",
                "retrieval",
                "--size",
                "tiny",
                "--queries",
                "4",
                "--candidates",
                "6",
                "--device",
                "cpu",
                "--precision",
                "bf16",
                "--workspace",
                str(tmp_path),
                "--json",
            ]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["max_abs_difference"] < 1e-5 and found["same_order"]
    assert 0 < found["precision_moves_scores_by"] < found["score_spread"]
    assert {"plain_pairs_per_s", "fast_pairs_per_s", "ratio"} <= set(found)
    assert logged(tmp_path).data.metrics["bench/ratio"] == pytest.approx(found["ratio"])


def test_tables_are_for_people(tmp_path, capsys):
    assert (
        main(
            [
                "bench",
                "retrieval",
                "--size",
                "tiny",
                "--queries",
                "2",
                "--candidates",
                "3",
                "--no-track",
                "--device",
                "cpu",
                "--workspace",
                str(tmp_path),
            ]
        )
        == 0
    )
    shown = capsys.readouterr()
    assert "seconds a query" in shown.out and "the same order" in shown.out and "logged" not in shown.err
    assert not (tmp_path / "mlflow.db").exists()


def test_without_a_checkout_the_remedy_is_said(tmp_path, capsys, monkeypatch):
    import rasa

    monkeypatch.setattr(rasa, "__file__", str(tmp_path / "site-packages" / "rasa" / "__init__.py"))
    assert main(["bench", "train", "--size", "tiny"]) == 5
    assert "rasa bench needs the source checkout" in capsys.readouterr().err


def logged(workspace):
    from experiments.store import default_uri, open_store

    client = open_store(default_uri(workspace))
    (run,) = client.search_runs([client.get_experiment_by_name("benchmarks").experiment_id])
    return run
