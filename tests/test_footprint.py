"""Memory of a step without its device: held against what a step on the CPU really takes, and against itself."""

import json
import subprocess
import sys

import pytest
import torch

from experiments.footprint import META, SPECIAL, Captions, LiveBytes, as_on_a_gpu, batch, footprint
from experiments.spec import load_suite, resolve
from rasa.draws import Draws
from rasa.training.accumulation import Parts, forward_backward
from rasa.training.step import StepLosses

CAPTIONS = Captions(22, 29)


def config(row, profile="synth", *options):
    suite = load_suite("table4")
    return resolve(suite, suite.row(row), profile, ["model.dropout=0", *options], 0)


def test_what_is_alive_by_hand():
    """Three blocks of 4,096 bytes, one of them freed before the last: at the most two, and one of 1 byte is 512."""
    with LiveBytes() as live:
        a = torch.empty(1024, device=META)
        b = a + 1
        del a
        c = b * 2
        assert (live.now, live.peak) == (8192, 8192)
        view = c[:10]
        assert live.now == 8192  # a view has no storage of its own
        del b, c
        assert live.now == 4096
        del view
        tiny = torch.empty(1, dtype=torch.int8, device=META)
        assert live.now == 512
        del tiny
    assert (live.now, live.peak) == (0, 8192)


def test_attention_keeps_its_output_and_no_scores():
    """8 heads x 512 x 512 scores would be 8 MiB; the output is 0.5 MiB and one sum per query 16 KiB; two seeds."""
    q, k, v = (torch.empty(1, 8, 512, 32, device=META, requires_grad=True) for _ in range(3))
    with as_on_a_gpu("float32"), LiveBytes() as live:
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        assert live.now == 2**19 + 8 * 512 * 4 + 2 * 512
        assert mixed.shape == q.shape


def test_bf16_casts_a_weight_once_and_keeps_norms_in_float32():
    layer, norm = torch.nn.Linear(64, 64, device=META), torch.nn.LayerNorm(64, device=META)
    x = torch.empty(32, 64, device=META)
    with as_on_a_gpu("bf16"), LiveBytes() as live:
        first, second = layer(x), layer(x)
        assert first.dtype == second.dtype == torch.bfloat16
        weights = 64 * 64 * 2 + 512  # and the bias, a block of its own
        assert live.now == weights + 2 * 2 * (32 * 64 * 2)  # each product keeps its cast input and gives its output
        assert norm(first).dtype == torch.float32


def real_step(row, count, bf16=False):
    """Bytes beyond the weights of a step on the CPU: alive at the most by the same account, and resident."""
    from benchmarks.scene import scene
    from rasa.cost import peak_mib, reset_peak

    torch.set_num_threads(1)
    cpu, run = torch.device("cpu"), config(row)
    model, teachers = scene(run, run.data.vocabulary_size, cpu)
    blank = batch(run, run.data.vocabulary_size, CAPTIONS, count)
    views = [torch.zeros(count, 3, *run.data.image_size) for _ in range(2)]
    identity, weak = torch.arange(count), torch.arange(count) % 10 == 9
    inputs = blank._replace(view1=views[0], view2=views[1], weak=weak, identity=identity)

    def step(given, number):
        parts = Parts(1, number, 1, smaller=False)
        precision = "bf16" if bf16 else "float32"
        forward_backward(StepLosses(model), teachers, given, run, parts, 0.4, Draws(0, 0), SPECIAL, precision)
        model.zero_grad(set_to_none=True)

    step(inputs.part(slice(0, 2)), 2)
    reset_peak(cpu)
    before = peak_mib(cpu)
    step(inputs, count)
    resident = peak_mib(cpu) - before
    live = LiveBytes(block=64)
    live.places = ("cpu",)
    with live:
        step(inputs, count)
    return {"resident": resident * 2**20, "alive": float(live.peak)}


@pytest.mark.parametrize("row", ["cl", "itm-prd", "m-rtd"])
def test_a_step_without_numbers_takes_what_a_step_on_the_cpu_takes(row):
    """Of 64 pairs at `synth`, no dropout (whose masks a CPU keeps otherwise): alive within 6 %, resident within 20 %.

    Resident memory is more: what the libraries and the allocator keep beside.
    """
    program = f"import json; from tests.test_footprint import real_step; print(json.dumps(real_step({row!r}, 64)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    real = json.loads(done.stdout.splitlines()[-1])
    run = config(row)
    found = footprint(run, run.data.vocabulary_size, CAPTIONS, 64, 1, 1, "float32")
    inputs = 64 * (2 * 3 * run.data.image_size[0] * run.data.image_size[1] * 4 + 9)
    estimated = found.peak - found.kept - inputs
    assert estimated == pytest.approx(real["alive"], rel=0.06)
    assert estimated == pytest.approx(real["resident"], rel=0.2)


def test_what_is_kept_by_hand():
    """Weights and two moments of the trained model, its momentum copy, and two queues with identities: float32."""
    from rasa.model.momentum import momentum_copy
    from rasa.model.rasa import blank_model

    run = config("cl")
    model = blank_model(run, 2000)
    count = lambda module: sum(p.numel() for p in module.parameters())
    momentum = momentum_copy(model.encoders, fusion=False, language=False)
    queues = run.model.queue_size * (2 * run.model.embed_dim * 4 + 8)
    found = footprint(run, 2000, CAPTIONS, 4, 1, 1, "float32")
    assert found.trained == count(model) and found.gathered == 4 * (2 * 64 * 4 + 8)
    assert found.kept == pytest.approx(4 * (3 * count(model) + count(momentum)) + queues, rel=0.02)  # blocks of 512


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_memory_is_linear_in_the_pairs_of_a_pass_and_parts_keep_gradients(precision):
    run = config("m-rtd", "smoke")
    peak = lambda pairs, passes: footprint(run, 2000, CAPTIONS, pairs, passes, 1, precision).peak
    small, middle, large = peak(16, 1), peak(32, 1), peak(64, 1)
    assert middle == pytest.approx(small + (large - small) / 3, rel=0.03)
    assert small < peak(64, 4) < middle  # gradients of the parts before, and the inputs of all


def test_bf16_takes_less_than_float32_and_more_than_half():
    run = config("m-rtd", "paper", "data.root=.", "fidelity.ranks=1", "model.vision_depth=2")
    peaks = [footprint(run, 30522, Captions(29, 50), 8, 1, 1, each) for each in ("float32", "bf16")]
    full, half = (found.peak - found.kept for found in peaks)
    assert peaks[0].flops == peaks[1].flops and full / 2 < half < 0.8 * full


@pytest.mark.parametrize(("precision", "mib"), [("float32", 31026), ("bf16", 20319)])
def test_a_step_takes_what_it_took_on_a_gpu(precision, mib):
    """m-RTD at full size, 52 pairs, captions of 28.6 tokens on average and 40 at most: the peak on one H200.

    Within 3 % (docs/performance.md; TF32 rounds inside the products, so its tensors are those of float32).
    """
    suite = load_suite("table4")
    run = resolve(suite, suite.row("m-rtd"), "paper", ["data.root=.", "fidelity.ranks=1"], 0)
    assert footprint(run, 30522, Captions(28.6, 40), 52, 1, 1, precision).peak / 2**20 == pytest.approx(mib, rel=0.03)
