"""Elementwise passes that read and write memory once, in place where their names end in an underscore.

The first process of a machine compiles each for its kind of device (seconds; kept in torch's own cache), for tensors of
any size. They are called some hundred times a step, so they go without the checks of `torch.compile`, which cost five
times as much as a small product. Without a C++ compiler they run as written, several passes each.
"""

import contextlib
import functools
import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SIZES = {"b": 9, "n": 96, "h": 80, "p": 2**20, "1": 1}
"""Sizes that passes are traced with, all different; inductor shares the first two of a shape out among threads."""
OPTIONS = {"cpp.dynamic_threads": True, "cpp.threads": 8}
"""As many threads as the process has, whichever process compiled; and for any number the same loops."""


@functools.cache
def can_compile() -> bool:
    """Whether inductor finds what it needs on a CPU: a C++ compiler and Python's headers."""
    has_compiler = any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))
    return has_compiler and Path(sysconfig.get_path("include"), "Python.h").exists()


_as_written = False


@contextlib.contextmanager
def as_written() -> Iterator[None]:
    """Within it passes run as they are written here, several times over memory: to compare with."""
    global _as_written
    before, _as_written = _as_written, True
    try:
        yield
    finally:
        _as_written = before


class Fused:
    """A function of contiguous tensors, compiled when first called on a kind of device with numbers of a kind.

    shapes: of its arguments, in letters that stand for sizes: `bnh`, `b1h`, `p`, `` (a number); a 1 is broadcast.
    """

    def __init__(self, function: Callable[..., Tensor], *shapes: str) -> None:
        self._function = function
        self._shapes = shapes
        self._compiled: dict[tuple[str, tuple[torch.dtype, ...]], Callable[..., object]] = {}

    def __call__(self, *arguments: Tensor) -> None:
        """Change the arguments that the function changes."""
        if _as_written:
            self._function(*arguments)
            return
        kind = (arguments[0].device.type, tuple(argument.dtype for argument in arguments))
        if kind not in self._compiled:
            self._compiled[kind] = self._compile(*kind)
        self._compiled[kind](*arguments)

    def _compile(self, device: str, dtypes: tuple[torch.dtype, ...]) -> Callable[..., object]:
        if device == "cpu" and not can_compile():
            return self._function
        from torch._inductor import standalone_compile
        from torch.fx.experimental.proxy_tensor import make_fx

        examples: list[Any] = [
            torch.rand([SIZES[letter] for letter in shape], device=device, dtype=dtype)
            for shape, dtype in zip(self._shapes, dtypes, strict=True)
        ]
        with torch.no_grad():
            graph = make_fx(self._function, tracing_mode="symbolic")(*examples)
            compiled: Callable[..., object] = standalone_compile(
                graph,
                examples,
                dynamic_shapes="from_graph",
                options={"config_patches": OPTIONS} if device == "cpu" else {},
            )
        return compiled


def mish_parts(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """tanh(softplus(x)) as a fraction, and e^{-|x|}, the one exponential that it takes and that cannot overflow.

    tanh(softplus(x)) = (e^{2x} + 2e^x) / (e^{2x} + 2e^x + 2), both scaled by e^{-2x} where x > 0.
    """
    small = torch.exp(-x.abs())
    square = small * small
    positive = x >= 0
    numerator = torch.where(positive, 1 + 2 * small, square + 2 * small)
    return numerator, numerator + torch.where(positive, 2 * square, 2.0), small


def _mish_of_sum_(x: Tensor, bias: Tensor) -> Tensor:
    y = x.float() + bias.float()
    numerator, denominator, _ = mish_parts(y)
    return x.copy_(y * (numerator / denominator))


def _mish_and_slope_(x: Tensor, bias: Tensor, value: Tensor) -> Tensor:
    y = x.float() + bias
    numerator, denominator, small = mish_parts(y)
    value.copy_(y * (numerator / denominator))
    # The slope of tanh(softplus(x)) is 4 e^x (1 + e^x) / (e^{2x} + 2e^x + 2)^2, here without a difference of near ones.
    rise = 4 * (small + small * small) * torch.where(y >= 0, small, 1.0)
    return x.copy_((numerator + y * (rise / denominator)) / denominator)


def _last_layer_(hidden: Tensor, weight: Tensor, bias: Tensor, output: Tensor) -> Tensor:
    return output.copy_((hidden.float() * weight).sum(dim=2, keepdim=True) + bias)


def _last_layer_back_(slope: Tensor, of_output: Tensor, weight: Tensor, of_layer: Tensor) -> Tensor:
    return of_layer.copy_(slope * (of_output * weight))


mish_of_sum_ = Fused(_mish_of_sum_, "bnh", "b1h")
"""x = mish(x + bias)."""
mish_and_slope_ = Fused(_mish_and_slope_, "bnh", "b1h", "bnh")
"""value = mish(x + bias), x = mish'(x + bias)."""
last_layer_ = Fused(_last_layer_, "bnh", "b1h", "b11", "bn1")
"""output = hidden . weight + bias, of a network with one output."""
last_layer_back_ = Fused(_last_layer_back_, "bnh", "bn1", "b1h", "bnh")
"""of_layer = slope * of_output * weight: from the gradient at a network's one output to that at its last sums."""
