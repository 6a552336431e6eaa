"""Time by part of a step, forward and backward, without a word of it in the code that is timed.

Functions are wrapped from outside. A mark at a wrapped function's tensors runs when the forward pass comes by and again
when the gradient does; between two marks the time belongs to one part. On a GPU each mark waits for the device, so
parts are timed in steps of their own, not in those that are quoted.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

OTHER = "other"


class Clock:
    """Seconds by part."""

    def __init__(self, device: torch.device):
        self.device, self.part, self.seconds = device, OTHER, defaultdict[str, float](float)
        self._since = time.perf_counter()

    def switch(self, part: str) -> None:
        """What follows belongs to `part`."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.seconds[self.part] += now - self._since
        self.part, self._since = part, now

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """What runs inside belongs to `part`."""
        before = self.part
        self.switch(part)
        yield
        self.switch(before)

    def wrap(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """The function, its time and that of its gradient counted as `part`."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self.part == "momentum":  # a part as a whole
                return function(*args, **kwargs)
            before = self.part
            args = self._marked(args, before)
            self.switch(part)
            out = self._marked(function(*args, **kwargs), part)
            self.switch(before)
            return out

        return timed

    def _marked(self, value: Any, part: str) -> Any:
        """The same with a mark at every tensor that carries a gradient: its backward pass goes on as `part`."""
        if isinstance(value, Tensor):
            return _Mark.apply(value, self, part) if value.requires_grad else value
        if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
            return type(value)(self._marked(item, part) for item in value)
        if is_dataclass(value) and not isinstance(value, type):
            marked = {f.name: self._marked(getattr(value, f.name), part) for f in fields(value)}
            return replace(value, **marked) if any(marked[n] is not getattr(value, n) for n in marked) else value
        return value


class _Mark(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, clock, part):  # type: ignore[no-untyped-def]
        ctx.clock, ctx.part = clock, part
        return value.view_as(value)

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        ctx.clock.switch(ctx.part)
        return gradient, None, None
