"""A GPU that is not there: every row's forward pass and retrieval, on tensors that have a place and no numbers.

CPU tensors stay real. What touches the device is fake (torch's FakeTensorMode), so tensors of two places that meet
raise, and so does whatever would make the CPU wait for a number of the GPU's. The backward pass cannot be run so:
autograd asks for a CUDA context; nor can bf16, which torch switches off where there is no GPU.
"""

from collections import Counter

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.scene import SIZES, SPECIAL, captions, config_of, scene
from rasa.data.loader import Batch
from rasa.data.tokenizer import Encoded, Tokens
from rasa.data.transforms import _statistics
from rasa.draws import Draws
from rasa.evaluation.rank import RankingSettings, evaluate
from rasa.model.momentum import ema_update
from rasa.numerics import FiniteGuard
from rasa.training.inputs import step_inputs
from rasa.training.optimizer import gradient_norm, parameter_groups
from rasa.training.step import step_losses
from tests.helpers.tiny_step import ROWS

DEVICE = torch.device("cuda:0")
BATCH = 6
TABLE4 = [row for row in ROWS if not row.startswith("itc")]
COPY, SCALAR, FIND = "copied to the CPU", "one number asked for", "positions asked for"


class FakeCuda(TorchDispatchMode):
    """CPU stays real; on the device is nothing but shapes. `waits` counts what would wait, which raises unless allowed.

    Numbers that are asked for are made up: of a table of indices each row is 0, 1, 2, ...; of other integers all are 1.
    """

    def __init__(self, may_wait=False):
        super().__init__()
        self.fake, self.may_wait, self.waits, self.operations = (
            FakeTensorMode(allow_non_fake_inputs=True),
            may_wait,
            Counter(),
            0,
        )

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        on_device = any(isinstance(leaf, FakeTensor) for leaf in leaves)
        if not on_device and not any(isinstance(leaf, torch.device) and leaf.type == "cuda" for leaf in leaves):
            with unset_fake_temporarily():
                return operation(*args, **kwargs)
        self.operations += 1
        to = kwargs.get("device")
        if on_device and isinstance(to, torch.device) and to.type == "cpu":
            return self._told(COPY, args[0])
        if not on_device and operation.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.to):
            with self.fake:  # in inference mode `to` comes as it is, and torch itself would ask for a driver
                return torch.empty(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype, device=DEVICE)
        if operation in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default):
            return self._told(SCALAR, args[0]).item()
        if operation is torch.ops.aten.nonzero.default and self.may_wait:
            self.waits[FIND] += 1
            with self.fake:
                return torch.empty(0, args[0].dim(), dtype=torch.int64, device=DEVICE)
        with self.fake:
            return operation(*args, **kwargs)

    def _told(self, what, tensor):
        if not self.may_wait:
            raise AssertionError(f"waits for the device: {what}, {tuple(tensor.shape)} {tensor.dtype}")
        self.waits[what] += 1
        with unset_fake_temporarily():
            if tensor.dim() > 1:
                return torch.arange(tensor.shape[-1]).expand(tensor.shape).to(tensor.dtype).contiguous()
            return torch.ones(tensor.shape, dtype=tensor.dtype)


@pytest.fixture(autouse=True)
def no_fake_statistics_are_kept():
    """What is kept by device would be a tensor of an earlier test's fake device."""
    _statistics.cache_clear()
    yield
    _statistics.cache_clear()


def move(*modules):
    """Their tensors replaced by fake ones on the device, since a parameter cannot change its place."""
    for module in (inner for outer in modules for inner in outer.modules()):
        for name, parameter in module._parameters.items():
            if parameter is not None:
                moved = torch.nn.Parameter(parameter.detach().to(DEVICE), requires_grad=parameter.requires_grad)
                module._parameters[name] = moved
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(DEVICE)


def masked_lm(vocabulary):
    """f-RTD's generator: a DistilBERT of random weights, as rasa/training/masked_lm.py loads one."""
    from transformers import DistilBertConfig, DistilBertForMaskedLM

    sizes = {"dim": 8, "n_heads": 2, "n_layers": 1, "hidden_dim": 8, "max_position_embeddings": 32}
    return DistilBertForMaskedLM(DistilBertConfig(vocab_size=vocabulary, **sizes)).eval().requires_grad_(False)


def loaded(config):
    """A batch as the loader makes it, on the CPU."""
    _, vocabulary, shortest, longest, _ = SIZES["tiny"]
    own, other = (captions(seed, BATCH, vocabulary, shortest, longest) for seed in (0, 1))
    weak = torch.arange(BATCH) % 3 == 0
    matched = Tokens(*(torch.where(weak[:, None], b, a) for a, b in zip(own, other, strict=True)))
    images = torch.zeros(BATCH, 3, *config.data.image_size, dtype=torch.uint8)
    needs = config.objectives.positives != "annotated" or "itm" in config.objectives.weights
    flip = torch.arange(2 * BATCH).view(2, BATCH) % 3 == 0
    return Batch(images, flip, own, matched if needs else None, weak, torch.arange(BATCH) // 2)


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize(("row", "ranks"), [*((row, 1) for row in TABLE4), ("m-rtd", 2)])
def test_no_rows_step_waits_for_the_device_or_mixes_places(row, preset, ranks):
    """What a training step does around its backward pass: inputs, EMA, losses, guard, clamp, queues."""
    config = config_of("tiny", f"table4/{row}", [f"fidelity.preset={preset}", f"fidelity.ranks={ranks}"])
    vocabulary = SIZES["tiny"][1]
    model, teachers = scene(config, vocabulary, torch.device("cpu"))
    if config.objectives.generator == "fixed":
        teachers = teachers._replace(masked_lm=masked_lm(vocabulary))
    cuda = FakeCuda()
    with cuda.fake, cuda:
        move(model, *(part for part in teachers if part is not None))
        guard = FiniteGuard(DEVICE)
        batch = step_inputs(loaded(config), DEVICE)
        cuda.operations = 0
        ema_update(teachers.momentum, model.encoders, 0.995)
        out = step_losses(model, teachers, batch, config.objectives, config.fidelity, 0.4, Draws(0, 0), SPECIAL)
        total = torch.stack([weight * out.losses[name] for name, weight in config.objectives.weights.items()]).sum()
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        flag = guard.note(0, 0, {**out.losses, "gradient norm": gradient_norm(model, 1.0)})
        with torch.no_grad():
            model.temperature.clamp_(0.01, 0.5)
        teachers.queue.push(out.image_feature_m, out.text_feature_m, batch.identity)
        groups = parameter_groups(model, 0.02, True)
    assert set(out.losses) == set(config.objectives.weights)
    assert {x.device for x in (total, flag, *out.losses.values())} == {DEVICE}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert not cuda.waits and cuda.operations > 100


def searched(row, images, texts, batch_size, topk=4, score="logit", beyond="stage1", gallery_mib=100):
    """What retrieval waits for: `images` of three identities, `texts` captions of 10 to 20 tokens."""
    config = config_of("tiny", f"table4/{row}")
    model, _ = scene(config, SIZES["tiny"][1], torch.device("cpu"))
    tokens = captions(0, texts, *SIZES["tiny"][1:4])
    lengths = tokens.mask.sum(1)
    encoded = Encoded(tokens.ids[tokens.mask], torch.nn.functional.pad(lengths.cumsum(0), (1, 0)), SPECIAL.pad)
    pixels = torch.zeros(images, 3, *config.data.image_size, dtype=torch.uint8)
    cuda = FakeCuda(may_wait=True)
    with cuda.fake, cuda:
        move(model)
        settings = RankingSettings(topk, score, beyond, batch_size, 64, gallery_mib, "float32", DEVICE)
        identities = torch.arange(images) % 3, torch.arange(texts) % 3
        found = evaluate(model, lambda: pixels.split(batch_size), encoded, *identities, settings)
    assert found.best_TJ.device == DEVICE and found.best_TJ.shape == (texts, min(10, images))
    return dict(cuda.waits)


# Eight figures, and per chunk of the gallery whether candidates tie.
STAGE_1 = {SCALAR: 8, FIND: 1}


@pytest.mark.parametrize(("score", "beyond"), [("logit", "tied"), ("probability", "stage1")])
def test_retrieval_waits_as_often_whatever_the_gallery(score, beyond):
    """Stage 2 waits for the candidates and for the texts' lengths, at its start, and for no image."""
    for images, texts, batch_size in ((8, 6, 3), (40, 6, 3), (8, 30, 5), (40, 30, 40)):
        waits = searched("m-rtd", images, texts, batch_size, score=score, beyond=beyond)
        assert waits == STAGE_1 | {COPY: 2}, (images, texts, batch_size)


def test_retrieval_by_stage_1_alone_copies_nothing():
    assert searched("cl", 12, 6, 4) == STAGE_1


def test_a_gallery_that_is_encoded_twice_waits_no_more():
    assert searched("itm", 600, 6, 100, gallery_mib=1) == STAGE_1 | {COPY: 2}


@pytest.mark.parametrize(
    "waiting",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: x + torch.ones(3),
        lambda x: torch.cat([x, torch.ones(3)]),
    ],
    ids=["item", "bool", "cpu", "mask", "mixed sum", "mixed cat"],
)
def test_the_fake_device_notices(waiting):
    cuda = FakeCuda()
    with (
        cuda.fake,
        cuda,
        pytest.raises(
            Exception,
            match="waits for|nonzero|found two different devices|on the same device|multiple devices|[Dd]evice",
        ),
    ):
        waiting(torch.zeros(3).to(DEVICE))
