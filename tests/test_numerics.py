"""How training computes: what `auto` means, which products are rounded, and the guard against what is no number."""

import pytest
import torch

from rasa.errors import RunFailed
from rasa.model.rasa import build_model, compile_layers
from rasa.numerics import FiniteGuard, autocast, float32_products, resolve_compile, resolve_precision
from tests.helpers.tiny_model import tiny

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_auto_is_bf16_and_compiled_on_a_gpu_only():
    assert [resolve_precision("auto", device) for device in (CPU, GPU)] == ["float32", "bf16"]
    assert [resolve_precision(name, GPU) for name in ("float32", "tf32", "bf16")] == ["float32", "tf32", "bf16"]
    assert [resolve_compile("auto", device) for device in (CPU, GPU)] == [False, True]
    assert resolve_compile(True, CPU) and not resolve_compile(False, GPU)


def test_products_are_rounded_inside_only():
    a = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    with autocast("bf16", CPU):
        assert (a @ a).dtype == torch.bfloat16
        with autocast("float32", CPU):
            assert (a @ a).dtype == torch.float32
    before = torch.get_float32_matmul_precision()
    with float32_products("tf32"):
        assert torch.get_float32_matmul_precision() == "high"
    with float32_products("bf16"):
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == before


def test_the_guard_stops_updates_from_the_first_bad_step_on_and_names_it_later():
    """As on a GPU: three steps are noted and applied without a word, the second is bad; then one question."""
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0, fused=True)
    guard, seen = FiniteGuard(CPU), []
    for step, gradient in enumerate(([1.0, 1.0], [float("nan"), 1.0], [1.0, 1.0])):
        weight.grad = torch.tensor(gradient)
        optimizer.found_inf = guard.note(0, step, {"loss": torch.tensor(0.5), "gradient norm": weight.grad.norm()})
        optimizer.step()
        seen.append(weight.detach().clone())
    assert torch.allclose(seen[0], torch.tensor([0.9, 1.9]), atol=1e-5)  # Adam's first step is the learning rate
    assert torch.equal(seen[1], seen[0]) and torch.equal(seen[2], seen[0])
    with pytest.raises(RunFailed, match="gradient norm is nan at epoch 1, step 2"):
        guard.check()
    guard.check()  # nothing new


def test_a_guard_that_saw_numbers_only_says_nothing():
    guard = FiniteGuard(CPU)
    assert guard.note(0, 0, {"loss": torch.tensor(3.0)}).item() == 0
    guard.check()


def test_compiled_layers_keep_names_and_numbers(monkeypatch):
    """With a compiler that runs what it is given: which parts are compiled, and that state dicts do not notice."""
    compiled = []

    def keep(self, *args, **kwargs):
        compiled.append(self)

    encoders = build_model(tiny(), 50).encoders
    names = list(encoders.state_dict())
    monkeypatch.setattr(torch.nn.Module, "compile", keep)
    compile_layers(encoders)
    assert compiled == list(encoders.vision.blocks) and list(encoders.state_dict()) == names
