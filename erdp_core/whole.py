"""Networks that a CPU goes through as a whole: a core takes some rows of one through all layers, and back.

What lies between two layers stays in the core's cache, where layer by layer it would go to memory and come back. The
work is whole_networks.cpp's, its products those of the library that torch multiplies with; float32 only.

N networks, R runs of M members each; B rows, I inputs, H width, U outputs.
"""

import ctypes
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from erdp_core import native
from erdp_core.fused import runs_as_written
from erdp_core.weights import Weights

ROWS = 128
"""Rows that go through together (whole_networks.cpp)."""
MOST_PARTS = 8
"""Of a network's rows whose gradients are kept apart and then added: a core takes a part."""


class WholeNetworks:
    """The networks of a pack whose tensors are named in `layers`, weight and bias of each product, first to last."""

    def __init__(
        self, layers: Sequence[tuple[str, str]], shapes: Mapping[str, tuple[int, ...]], members: int, relu: bool = False
    ) -> None:
        """
        shapes: of all tensors of a run, in their order in memory; those of M members lie one after the other.
        relu: in place of Mish.
        """
        starts, start = {}, 0
        for name, shape in shapes.items():
            starts[name] = start
            start += math.prod(shape)
        tensors = [name for layer in layers for name in layer]
        first = np.array([starts[name] for name in tensors])
        apart = np.array([math.prod(shapes[name]) // members for name in tensors])
        self._places = first + np.arange(members)[:, None] * apart
        """[M, 2 products]: where in a run's weights each tensor of a member begins."""
        self._sizes = np.array(
            [shapes[layers[0][0]][-2], *(shapes[weight][-1] for weight, _ in layers)], dtype=np.int32
        )
        self.members = members
        self.relu = relu
        self.hidden = len(layers) - 1
        self.width = int(self._sizes[1])
        self.outputs_size = int(self._sizes[-1])
        self.inputs_size = int(self._sizes[0])

    def suit(self, weights: Weights) -> bool:
        """Whether these weights can be gone through so, here and now."""
        flat = weights.flat
        if flat.device.type != "cpu" or not flat.is_contiguous() or runs_as_written():
            return False
        library = _library()
        return library is not None and self.hidden <= library.whole_most_hidden()

    def outputs(
        self,
        weights: Weights,
        states: Tensor,
        actions: Tensor,
        state_row: int,
        action_row: int,
        first_bias: Tensor | None = None,
    ) -> Tensor:
        """Outputs [N, B * K, U] for states [R, B, O] and K actions of each, [R, B * K, A]; no gradients.

        Args:
            weights: the networks'.
            states: [R, B, O].
            actions: [R, B * K, A], a state's one after the other.
            state_row: of the first weight, where the states' rows begin.
            action_row: likewise the actions'.
            first_bias: [R, H], in place of the first layer's.
        """
        runs, count, of_state = states.shape
        rows, of_action = actions.shape[1:]
        fits = runs == len(actions) == len(weights.flat) and rows % count == 0
        if not fits or max(state_row + of_state, action_row + of_action) > self.inputs_size:
            raise ValueError(self._mismatch(weights, states, actions))
        found = torch.empty(runs * self.members, actions.shape[1], self.outputs_size)
        self._call(
            "whole_outputs",
            weights,
            _contiguous(states),
            _contiguous(actions),
            None if first_bias is None else _contiguous(first_bias),
            *(count, actions.shape[1] // count, of_state, actions.shape[2], state_row, action_row),
            found,
        )
        return found

    def regress(
        self, weights: Weights, inputs: Tensor, targets: Tensor, scale: float, gradient: Weights
    ) -> tuple[Tensor, Tensor]:
        """Outputs [N, B] of networks with one output; the gradient of the loss, and its norm [R].

        The loss is scale / 2 * sum (output - target)^2, for each run its own.

        Args:
            weights: the networks'.
            inputs: [R, B, I].
            targets: [N, B].
            scale: factor on the loss.
            gradient: where it goes.
        """
        runs = len(weights.flat)
        self._check(weights, inputs)
        if targets.shape != (runs * self.members, inputs.shape[1]) or gradient.flat.shape != weights.flat.shape:
            raise ValueError(self._mismatch(weights, inputs, targets, gradient.flat))
        if len(targets) < torch.get_num_threads():
            # Cores beyond the networks take rows of them.
            found, slopes, values = self.forward(weights, inputs, keep_values=True)
            of_outputs = (found - targets.unsqueeze(2)).mul_(scale)
            gradient.flat.copy_(self.backward(weights, inputs, of_outputs, slopes, values)[1])
            return found.squeeze(2), torch.linalg.vector_norm(gradient.flat, dim=1)
        found, squares = torch.empty(targets.shape), torch.empty(len(targets))
        operands = _contiguous(inputs), _contiguous(targets), ctypes.c_float(scale), inputs.shape[1], found
        self._call("whole_regress", weights, *operands, self._addresses(gradient), squares)
        return found, squares.view(runs, -1).sum(dim=1).sqrt()

    def forward(
        self, weights: Weights, inputs: Tensor, keep_values: bool, slopes: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Outputs [N, B, U] of inputs [R, B, I], the slopes of the hidden layers [N, layers, B, H], and their values.

        slopes: memory for them.
        """
        self._check(weights, inputs)
        shape = (len(inputs) * self.members, self.hidden, inputs.shape[1], self.width)
        found = torch.empty(shape[0], shape[2], self.outputs_size)
        slopes = torch.empty(shape) if slopes is None else slopes.view(shape)
        values = torch.empty(shape) if keep_values else None
        self._call("whole_forward", weights, _contiguous(inputs), shape[2], found, slopes, values)
        return found, slopes, values

    def backward(
        self,
        weights: Weights,
        inputs: Tensor | None,
        of_outputs: Tensor,
        slopes: Tensor,
        values: Tensor | None = None,
        columns: slice | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What goes back from the gradient at the outputs [N, B, U]: at the inputs [N, B, I], at the weights [R, P].

        Args:
            weights: the networks'.
            inputs: [R, B, I]; needed with values.
            of_outputs: [N, B, U].
            slopes: as `forward` found them.
            values: likewise; where there are none there is no gradient at the weights, [R, 0].
            columns: inputs that are asked for; all of them if None.
        """
        networks, rows, outputs_size = of_outputs.shape
        if inputs is not None:
            self._check(weights, inputs)
        kept = networks * rows * self.hidden * self.width
        if (networks, outputs_size) != (len(weights.flat) * self.members, self.outputs_size) or slopes.numel() != kept:
            raise ValueError(self._mismatch(weights, of_outputs, slopes))
        wanted = range(self.inputs_size)[columns or slice(None)]
        of_inputs = torch.empty(networks, rows, len(wanted))
        parts, addresses = None, None
        runs, size = weights.flat.shape
        rows_per_part = -(-rows // (ROWS * MOST_PARTS)) * ROWS
        if values is not None:
            count = -(-rows // rows_per_part)
            parts = torch.zeros(runs, count, size)
            starts = parts.data_ptr() + 4 * size * np.arange(runs * count).reshape(runs, 1, count, 1)
            addresses = starts + 4 * self._places[None, :, None, :]
        of_rows = None if inputs is None else _contiguous(inputs)
        operands = of_rows, _contiguous(of_outputs), rows, rows_per_part, slopes, values, wanted.start, len(wanted)
        self._call("whole_backward", weights, *operands, of_inputs, addresses)
        return of_inputs, weights.flat.new_empty(runs, 0) if parts is None else parts.sum(dim=1)

    def differentiable(self, weights: Weights, inputs: Tensor) -> Tensor:
        """Outputs [N, B, U] of inputs [R, B, I] with gradients at both."""
        found: Tensor = _Outputs.apply(self, weights, inputs, *weights.named.values())  # type: ignore[no-untyped-call]
        return found

    def _check(self, weights: Weights, inputs: Tensor) -> None:
        if inputs.ndim != 3 or len(inputs) != len(weights.flat) or inputs.shape[2] != self.inputs_size:
            raise ValueError(self._mismatch(weights, inputs))

    def _mismatch(self, weights: Weights, *given: Tensor) -> str:
        shapes = ", ".join(str(list(one.shape)) for one in given)
        return (
            f"{len(weights.flat)} runs of {self.members} networks from {self.inputs_size} inputs to "
            f"{self.outputs_size} outputs do not go with {shapes}"
        )

    def _addresses(self, weights: Weights) -> Any:
        """[R, M, 2 products], of the tensors of each network."""
        flat = weights.flat
        return flat.data_ptr() + 4 * (flat.shape[1] * np.arange(len(flat))[:, None, None] + self._places)

    def _call(self, name: str, weights: Weights, *operands: Any) -> None:
        library = _library()
        assert library is not None
        runs = len(weights.flat)
        whole = (self._addresses(weights), self._sizes, self.hidden + 1, int(self.relu), runs * self.members, runs)
        # What an address is taken of lives until the call is over.
        arguments = [
            ctypes.c_void_p(one.data_ptr())
            if isinstance(one, Tensor)
            else ctypes.c_void_p(one.ctypes.data)
            if isinstance(one, np.ndarray)
            else ctypes.c_int64(one)
            if isinstance(one, int)
            else one
            for one in (*whole, *operands, torch.get_num_threads())
        ]
        getattr(library, name)(*arguments)


class _Outputs(torch.autograd.Function):
    """`WholeNetworks.differentiable`."""

    @staticmethod
    def forward(ctx: Any, networks: WholeNetworks, weights: Weights, inputs: Tensor, *_: Tensor) -> Tensor:
        found, *kept = networks.forward(weights, inputs, keep_values=True)
        ctx.networks, ctx.weights, ctx.inputs, ctx.kept = networks, weights, inputs, kept
        return found

    @staticmethod
    def backward(ctx: Any, of_outputs: Tensor) -> tuple[Tensor | None, ...]:
        of_inputs, of_weights = ctx.networks.backward(ctx.weights, ctx.inputs, of_outputs, *ctx.kept)
        of_inputs = of_inputs.unflatten(0, (len(ctx.inputs), -1)).sum(dim=1)
        return None, None, of_inputs, *dict(ctx.weights.views(of_weights)).values()


def _contiguous(tensor: Tensor) -> Tensor:
    return tensor.detach().float().contiguous()


@functools.cache
def _library() -> ctypes.CDLL | None:
    """whole_networks.cpp with torch's products; None where one of them is missing."""
    library = native.library()
    found = sorted((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"))
    if library is None or not found:
        return None
    of_torch = ctypes.CDLL(str(found[0]))
    try:
        # A core multiplies for itself: how many others join is a thread's own setting.
        multiply, set_threads = of_torch.sgemm_, of_torch.MKL_Set_Num_Threads_Local
    except AttributeError:
        return None
    library.whole_use(ctypes.cast(multiply, ctypes.c_void_p), ctypes.cast(set_threads, ctypes.c_void_p))
    return library
