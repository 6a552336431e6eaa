"""What one training step of a run costs, found without its data, its weights or its device.

The step itself runs, forward and backward, on torch's meta device, where a tensor has a shape and no numbers. On the
way FLOPs are counted, and which storages are alive at the same time. What a GPU would do otherwise is done here as it
does it: attention keeps its output and the logarithm of its sums (the fused kernels), and bf16 is autocast, which meta
tensors do not have.
"""

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from rasa.config.run import Config
from rasa.data.tokenizer import Tokens
from rasa.draws import Draws, generator
from rasa.model.momentum import momentum_copy
from rasa.model.queue import FeatureQueue
from rasa.model.rasa import blank_model
from rasa.objectives.language import SpecialIds
from rasa.training.accumulation import Parts, forward_backward
from rasa.training.flops import counter
from rasa.training.step import StepInputs, StepLosses, Teachers

META = torch.device("meta")
BLOCK = 512  # bytes to which torch's allocator rounds on a GPU
MOMENTS = 2  # of AdamW, per weight
SPECIAL = SpecialIds(pad=0, cls=1, sep=2, mask=3)
# What autocast computes in bf16, and what in float32 (https://docs.pytorch.org/docs/stable/amp.html).
IN_BF16 = {"linear", "conv2d", "matmul", "__matmul__", "mm", "bmm", "addmm", "baddbmm", "scaled_dot_product_attention"}
IN_FLOAT32 = {"layer_norm", "softmax", "log_softmax", "cross_entropy", "nll_loss", "norm", "normalize", "cumsum", "exp"}


class Captions(NamedTuple):
    """Lengths in tokens, [CLS] and [SEP] included: of a caption on average, and of a batch's longest."""

    mean: float
    longest: int


class Footprint(NamedTuple):
    """One step of one device: FLOPs (1 multiply-add = 2), and bytes that are alive at the most."""

    flops: float
    peak: int  # of which `kept`
    kept: int  # between steps: weights, momentum copy, queues, moments
    trained: int  # parameters that get a gradient
    gathered: int  # bytes of momentum features and identities that a device sends


def footprint(
    config: Config, vocabulary: int, captions: Captions, pairs: int, passes: int, ranks: int, precision: str
) -> Footprint:
    """Of a device that takes `pairs` pairs of a batch, in `passes` parts, each contrasted in `ranks` shares."""
    model = blank_model(config, vocabulary, SPECIAL.pad)
    asked = config.objectives.generator == "momentum"
    asked = asked or ("mlm" in config.objectives.weights and config.fidelity.mlm_soft_targets)
    momentum = momentum_copy(model.encoders, fusion=asked, language=asked)
    with torch.device("meta"):
        queue = _blank_queue(config)
        masked_lm = _DistilBert(vocabulary) if config.objectives.generator == "fixed" else None
    model.train()
    momentum.train(config.fidelity.momentum_dropout)
    teachers = Teachers(momentum, queue, masked_lm)
    parts = Parts(passes, pairs // passes, ranks, smaller=False)
    inputs = batch(config, vocabulary, captions, pairs)
    live = LiveBytes()
    live.hold(model, *(part for part in teachers if isinstance(part, nn.Module)))
    trained = sum(p.numel() for p in model.parameters())
    live.add(MOMENTS * sum(p.numel() * p.element_size() for p in model.parameters()))
    kept = live.now
    live.hold_tensors(inputs.view1, inputs.view2, inputs.weak, inputs.identity)
    draws, alpha = Draws(0, 0), config.objectives.alpha
    with ExitStack() as stack:
        stack.enter_context(as_on_a_gpu(precision))
        counted = stack.enter_context(counter())
        stack.enter_context(live)
        forward_backward(StepLosses(model), teachers, inputs, config, parts, alpha, draws, SPECIAL, "float32")
    gathered = pairs * (2 * config.model.embed_dim * 4 + 8)
    return Footprint(float(counted.get_total_flops()), live.peak, kept, trained, gathered)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that are alive, and how many there were at the most."""

    def __init__(self, block: int = BLOCK) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._block, self._alive = block, dict[int, weakref.ref[Any]]()

    def hold(self, *modules: nn.Module) -> None:
        """Count the weights and buffers of modules."""
        for module in modules:
            self.hold_tensors(*module.parameters(), *module.buffers())

    def hold_tensors(self, *tensors: Tensor) -> None:
        """Count these, each storage once."""
        for tensor in tensors:
            self._see(tensor)

    def add(self, size: int) -> None:
        """Count bytes that no tensor here stands for."""
        self.now += size
        self.peak = max(self.peak, self.now)

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self._alive.get(key)
        if known is not None and known() is not None:
            return
        size = -(-storage.nbytes() // self._block) * self._block

        def gone(_: object, key: int = key, size: int = size) -> None:
            self.now -= size
            self._alive.pop(key, None)

        self._alive[key] = weakref.ref(storage, gone)
        self.add(size)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        found = operation(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor) and leaf.device.type in self.places:
                self._see(leaf)
        return found

    places = ("meta",)  # whose storages count: what is drawn on the CPU is not on the device


@contextmanager
def as_on_a_gpu(precision: str) -> "Iterator[None]":
    """Inside, operations on meta tensors keep what the kernels of a GPU keep, with autocast if `precision` is bf16."""
    with _Gpu(precision == "bf16"):
        yield


class _Gpu(TorchFunctionMode):
    def __init__(self, bf16: bool) -> None:
        super().__init__()
        self._bf16, self._cast = bf16, dict[int, tuple[Tensor, Tensor]]()

    def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name == "scaled_dot_product_attention":
            if self._bf16:
                args, kwargs = self._told((args, kwargs), torch.bfloat16)
            return _fused(*args, **kwargs)
        if self._bf16 and name in IN_BF16:
            args, kwargs = self._told((args, kwargs), torch.bfloat16)
        elif self._bf16 and name in IN_FLOAT32:
            args, kwargs = self._told((args, kwargs), torch.float32)
        return function(*args, **kwargs)

    def _told(self, given: Any, dtype: torch.dtype) -> Any:
        return tree_map(lambda x: self._as(x, dtype) if isinstance(x, Tensor) and x.is_meta else x, given)

    def _as(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        if not x.is_floating_point() or x.dtype == dtype:
            return x
        if not (x.is_leaf and x.requires_grad and torch.is_grad_enabled()):
            return x.to(dtype)
        # As autocast does: a weight is cast once.
        if id(x) not in self._cast:
            self._cast[id(x)] = (x, x.to(dtype))
        return self._cast[id(x)][1]


def _fused(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, **rest: Any
) -> Tensor:
    """Attention by torch's memory-efficient kernel: [B, H, *, E]."""
    bias = None
    if attn_mask is not None:
        bias = torch.zeros_like(attn_mask, dtype=query.dtype).expand(*query.shape[:3], key.shape[2])
    trained = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    found = torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, bias, trained, dropout_p)
    return found[0]


def batch(config: Config, vocabulary: int, captions: Captions, count: int) -> StepInputs:
    """Pairs without pixels, a tenth with another caption, as p-ITM draws them. Token ids are real, on the CPU."""
    view1, view2 = (torch.empty(count, 3, *config.data.image_size, device=META) for _ in range(2))
    own, other = (_captions(seed, count, vocabulary, captions) for seed in (0, 1))
    weak = torch.arange(count) % 10 == 9
    matched = Tokens(*(torch.where(weak[:, None], b, a) for a, b in zip(own, other, strict=True)))
    needed = config.objectives.positives != "annotated" or "itm" in config.objectives.weights
    identity = torch.empty(count, dtype=torch.int64, device=META)
    return StepInputs(view1, view2, own, matched if needed else None, weak.to(META), identity)


def _captions(seed: int, count: int, vocabulary: int, captions: Captions) -> Tokens:
    """Lengths spread evenly around the mean, one the longest."""
    draw = generator(seed, "footprint captions")
    longest, mean = captions.longest, min(captions.mean, captions.longest)
    spread = min(mean - 3, longest - mean)
    lengths = (mean - spread + 2 * spread * torch.rand(count, generator=draw)).round().long()
    lengths[0] = longest
    ids = torch.randint(10, vocabulary, (count, longest), generator=draw)
    mask = torch.arange(longest)[None] < lengths[:, None]
    ids[:, 0] = SPECIAL.cls
    ids[torch.arange(count), lengths - 1] = SPECIAL.sep
    return Tokens(ids.masked_fill(~mask, SPECIAL.pad), mask)


def _blank_queue(config: Config) -> FeatureQueue:
    queue = FeatureQueue(0, config.model.embed_dim)
    size, width = config.model.queue_size, config.model.embed_dim
    queue.images, queue.texts = (torch.empty(size, width, device=META) for _ in range(2))
    queue.identities = torch.empty(size, dtype=torch.int64, device=META)
    return queue


class _DistilBert(nn.Module):
    """f-RTD's generator at the size of distilbert-base-uncased. Its mask is looked at, so here it has none."""

    def __init__(self, vocabulary: int) -> None:
        from transformers import DistilBertConfig, DistilBertForMaskedLM

        super().__init__()
        self.inner = DistilBertForMaskedLM(DistilBertConfig(vocab_size=vocabulary)).eval().requires_grad_(False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return self.inner(input_ids=input_ids)
