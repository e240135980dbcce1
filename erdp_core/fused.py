"""Elementwise passes that read and write memory once, in place where their names end in an underscore.

Each is written here in torch's operations, as several passes over memory: what it means, what runs where there is no
compiler, and what the fused ones are tested against. On a CPU the pass of the same name in passes.cpp takes its place;
on a GPU what torch's compiler makes of it (seconds for the first process of a machine; kept in torch's own cache).
"""

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from erdp_core import native

SIZES = {"b": 9, "n": 96, "h": 80, "p": 2**20, "1": 1}
"""Sizes that passes are traced with for a GPU, all different; they then take any."""

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


def runs_as_written() -> bool:
    """Whether passes run as they are written."""
    return _as_written


class Fused:
    """A function of contiguous tensors, compiled when first called on a kind of device with numbers of a kind.

    shapes: of its arguments, in letters that stand for sizes: `bnh`, `b1h`, `p`, `` (a number); a 1 is broadcast.
    hidden: which arguments are hidden values, of one precision; all others are float32.
    """

    def __init__(self, function: Callable[..., Tensor], *shapes: str, hidden: Sequence[int] = ()) -> None:
        self._function = function
        self.name = function.__name__.strip("_")
        self._shapes = shapes
        self._hidden = hidden
        self._compiled: dict[tuple[str, tuple[torch.dtype, ...]], Callable[..., object]] = {}

    def __call__(self, *arguments: Tensor) -> None:
        """Change the arguments that the function changes.

        On a CPU raises ValueError for tensors that are not of the shapes, or not contiguous.
        """
        if _as_written:
            self._function(*arguments)
            return
        kind = (arguments[0].device.type, tuple([argument.dtype for argument in arguments]))
        if kind not in self._compiled:
            self._compiled[kind] = self._compile(*kind)
        self._compiled[kind](*arguments)

    def _compile(self, device: str, dtypes: tuple[torch.dtype, ...]) -> Callable[..., object]:
        if device == "cpu":
            return self._of_library(dtypes) or self._function
        from torch._inductor import standalone_compile
        from torch.fx.experimental.proxy_tensor import make_fx

        examples: list[Any] = [
            torch.rand([SIZES[letter] for letter in shape], device=device, dtype=dtype)
            for shape, dtype in zip(self._shapes, dtypes, strict=True)
        ]
        with torch.no_grad():
            graph = make_fx(self._function, tracing_mode="symbolic")(*examples)
            compiled: Callable[..., object] = standalone_compile(graph, examples, dynamic_shapes="from_graph")
        return compiled

    def _of_library(self, dtypes: tuple[torch.dtype, ...]) -> Callable[..., object] | None:
        """The pass of passes.cpp, where there is the library and the pass takes such numbers."""
        library = native.library()
        expected = tuple(dtypes[0] if index in self._hidden else torch.float32 for index in range(len(dtypes)))
        if library is None or dtypes != expected or dtypes[0] not in (torch.float32, torch.bfloat16):
            return None
        name = f"{self.name}_{str(dtypes[0]).removeprefix('torch.')}"
        function = getattr(library, name)
        letters = sorted(set("".join(self._shapes)) - {"1"}, key="bnhp".index)
        function.argtypes = [ctypes.c_void_p] * len(self._shapes) + [ctypes.c_int64] * len(letters)
        function.restype = None
        # Where each size is to be read.
        places = [
            next((index, shape.index(letter)) for index, shape in enumerate(self._shapes) if letter in shape)
            for letter in letters
        ]
        counts = [[letters.index(letter) for letter in shape if letter != "1"] for shape in self._shapes]

        def call(*arguments: Tensor) -> None:
            sizes = [arguments[index].shape[axis] for index, axis in places]
            for argument, of_letters in zip(arguments, counts, strict=True):
                count = 1
                for at in of_letters:
                    count *= sizes[at]
                if argument.numel() != count or not argument.is_contiguous():
                    raise ValueError(
                        f"{name} takes contiguous tensors of the shapes {', '.join(self._shapes)}, not "
                        + ", ".join(f"{list(one.shape)} of stride {list(one.stride())}" for one in arguments)
                    )
            function(*[argument.data_ptr() for argument in arguments], *sizes)

        return call


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


mish_of_sum_ = Fused(_mish_of_sum_, "bnh", "b1h", hidden=[0])
"""x = mish(x + bias)."""
mish_and_slope_ = Fused(_mish_and_slope_, "bnh", "b1h", "bnh", hidden=[0, 2])
"""value = mish(x + bias), x = mish'(x + bias)."""
last_layer_ = Fused(_last_layer_, "bnh", "b1h", "b11", "bn1", hidden=[0])
"""output = hidden . weight + bias, of a network with one output."""
last_layer_back_ = Fused(_last_layer_back_, "bnh", "bn1", "b1h", "bnh", hidden=[0, 3])
"""of_layer = slope * of_output * weight: from the gradient at a network's one output to that at its last sums."""
