"""The Q-ensemble of a pack of runs: M independent MLPs on [s, a] as batched products.

R runs, M critics, B batch, K actions a state, O observation size, A action size, H width. On a CPU a core takes a whole
critic (`whole`). Elsewhere, and in bfloat16, all go layer by layer; on a CPU a few members at a time, so that what lies
between two layers stays in the processor's cache. Gradients are written by hand: none is computed that nobody uses.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from erdp_core.fused import last_layer_, last_layer_back_
from erdp_core.networks import Activation, activate_, activate_with_slope_, hidden_names
from erdp_core.weights import Weights
from erdp_core.whole import WholeNetworks

Layers = list[tuple[Tensor, Tensor]]
Start = Literal["published", "linear"]
"""How critics begin: `CriticEnsemble.initialise`."""
PIECE_BYTES = 2**21
"""Of one layer's values in a piece, on a CPU; elsewhere a run goes through in one piece."""
BLOCK_ROWS = 512
"""Of actions that go through the network together where nothing comes back, on a CPU."""


class CriticEnsemble:
    """M critics of each of R runs; weights, gradients and Q are float32."""

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        M: int,
        width: int,
        layers: int,
        precision: torch.dtype = torch.float32,
        activation: Activation = "mish",
    ) -> None:
        """precision: of hidden values, the gradients at them and what they are multiplied with; sums are float32."""
        self.M = M
        self.width = width
        self.layers = layers
        self.observation_size = observation_size
        self.precision = precision
        self.activation = activation
        self.shapes: dict[str, tuple[int, ...]] = {
            "weight_1": (M, observation_size + action_size, width),
            "bias_1": (M, 1, width),
        }
        for index, (weight, bias) in enumerate(hidden_names(layers)):
            out = 1 if index == layers - 1 else width
            self.shapes |= {weight: (M, width, out), bias: (M, 1, out)}
        self._whole = WholeNetworks(
            [("weight_1", "bias_1"), *hidden_names(layers)], self.shapes, M, activation == "relu"
        )
        self._buffers: dict[str, Tensor] = {}
        self._slopes_of = 0
        """Which call of `q_of_actions` the kept slopes are of."""

    def initialise(self, weights: Mapping[str, Tensor], generator: torch.Generator, start: Start = "published") -> None:
        """One run's critics.

        `published`: as ERDP's, hidden weights uniform +-1/sqrt(width), biases 0.1, the last layer +-3e-3; `linear`: as
        torch's linear layers, weights and biases uniform +-1/sqrt(inputs).
        """
        last = f"_{self.layers + 1}"
        inputs = self.width
        for name, tensor in weights.items():
            if name.startswith("weight"):
                inputs = tensor.shape[1]
            if start == "linear":
                tensor.uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)
            elif name.endswith(last):
                tensor.uniform_(-3e-3, 3e-3, generator=generator)
            elif name.startswith("weight"):
                tensor.uniform_(-1 / math.sqrt(self.width), 1 / math.sqrt(self.width), generator=generator)
            else:
                tensor.fill_(0.1)

    @torch.no_grad()
    def q(self, weights: Weights, observations: Tensor, actions: Tensor) -> Tensor:
        """Q of every member, [R, M, B * K], for states [R, B, O] and K actions of each, [R, B * K, A]; no gradients."""
        if self._goes_whole(weights):
            q = self._whole.outputs(weights, observations, actions, 0, self.observation_size)
            return q.view(len(observations), self.M, -1)
        runs, states, _ = observations.shape
        candidates = actions.shape[1] // states
        observations, actions = observations.to(self.precision), actions.to(self.precision)
        q = torch.empty(runs, self.M, states * candidates, 1, device=actions.device)
        blocks = list(self._blocks(states, candidates, q.device))
        for run in range(runs):
            for members in self._pieces((blocks[0].stop - blocks[0].start) * candidates, q.device):
                layers = self._layers(weights, run, members)
                for block in blocks:
                    rows = slice(block.start * candidates, block.stop * candidates)
                    q[run, members, rows] = self._q(layers, observations[run, block], actions[run, rows])
        return q.squeeze(3)

    def _q(self, layers: Layers, observations: Tensor, actions: Tensor) -> Tensor:
        """Q [m, b * K, 1] of m members for a block of states [b, O] and their actions [b * K, A]."""
        weight, bias = layers[0]
        members, states, rows = len(weight), len(observations), len(actions)
        hidden, spare = self._buffer("hidden", actions, (2, members, rows, self.width))
        if states == rows:
            pairs = torch.cat([observations, actions], dim=1)
            torch.bmm(pairs.expand(members, -1, -1), weight, out=hidden)
            activate_(self.activation, hidden, bias)
        else:
            of_action, of_state = weight[:, self.observation_size :], weight[:, : self.observation_size]
            torch.bmm(actions.expand(members, -1, -1), of_action, out=hidden)
            # What a state's actions share is multiplied once.
            base = torch.bmm(observations.expand(members, -1, -1), of_state) + bias
            activate_(
                self.activation, hidden.view(members * states, rows // states, -1), base.view(members * states, 1, -1)
            )
        for weight, bias in layers[1:-1]:
            torch.bmm(hidden, weight, out=spare)
            activate_(self.activation, spare, bias)
            hidden, spare = spare, hidden
        return self._output(layers, hidden)

    def _output(self, layers: Layers, hidden: Tensor) -> Tensor:
        """Q [m, B, 1] of the last hidden layer's values [m, B, H]."""
        weight, bias = layers[-1]
        q = torch.empty(*hidden.shape[:2], 1, device=hidden.device)
        last_layer_(hidden, weight.transpose(1, 2), bias, q)
        return q

    @torch.no_grad()
    def regress(
        self,
        weights: Weights,
        observations: Tensor,
        actions: Tensor,
        targets: Tensor,
        gradient: Weights,
        factor: float = 1,
    ) -> tuple[Tensor, Tensor]:
        """The gradient of each run's mean (Q^m - y^m)^2 over batch and members (Eq. 16).

        Returns Q [R, M, B] and the gradient's norm [R].

        Args:
            observations: [R, B, O].
            actions: [R, B, A].
            targets: y, [R, M, B].
            gradient: where it goes.
            factor: on the loss.
        """
        pairs = torch.cat([observations, actions], dim=2)
        if self._goes_whole(weights):
            scale = factor * 2 / targets[0].numel()
            q, norm = self._whole.regress(weights, pairs, targets.flatten(0, 1), scale, gradient)
            return q.view_as(targets), norm
        pairs = pairs.to(self.precision)
        q = torch.empty_like(targets)
        for run in range(len(q)):
            for members in self._pieces(q.shape[2], q.device):
                layers = self._layers(weights, run, members)
                gradients = [
                    (of_weight[members], of_bias[members]) for of_weight, of_bias in self._tensors(gradient, run)
                ]
                shape = (self.layers, len(layers[0][0]), q.shape[2], self.width)
                slopes, values = (list(self._buffer(name, pairs, shape)) for name in ("slopes", "values"))
                inputs = [pairs[run].expand(shape[1], -1, -1), *values]
                found = self._forward(layers, inputs[0], slopes, values)
                q[run, members] = found.squeeze(2)
                of_output = (found - targets[run, members].unsqueeze(2)).mul_(factor * 2 / q[run].numel())
                for index, of_layer in self._backward(layers, slopes, of_output):
                    of_weight, of_bias = gradients[index]
                    if self.precision == of_weight.dtype:
                        torch.bmm(inputs[index].transpose(1, 2), of_layer, out=of_weight)
                    else:
                        of_weight.copy_(torch.bmm(inputs[index].transpose(1, 2), of_layer.to(self.precision)))
                    torch.sum(of_layer, dim=1, keepdim=True, dtype=of_bias.dtype, out=of_bias)
        return q, torch.linalg.vector_norm(gradient.flat, dim=1)

    def q_of_actions(self, weights: Weights, observations: Tensor, actions: Tensor) -> Tensor:
        """Q of every member, [R, M, B], for pairs [R, B, O] and [R, B, A]; gradients go to the actions alone.

        Gradients of a call can be asked for until the next one: what they need is kept in the same memory.
        """
        q: Tensor = _QOfActions.apply(self, weights, observations, actions)  # type: ignore[no-untyped-call]
        return q

    def q_with_gradients(self, weights: Weights, observations: Tensor, actions: Tensor) -> Tensor:
        """Q of every member, [R, M, B], for pairs [R, B, O] and [R, B, A]; gradients go to weights and actions.

        In float32, whatever the precision.
        """
        pairs = torch.cat([observations, actions], dim=2)
        if self._whole.suit(weights):
            return self._whole.differentiable(weights, pairs).view(len(pairs), self.M, -1)
        hidden = pairs.unsqueeze(1)
        *layers, (last, last_bias) = (("weight_1", "bias_1"), *hidden_names(self.layers))
        for weight, bias in layers:
            sums = hidden @ weights[weight] + weights[bias]
            hidden = torch.relu(sums) if self.activation == "relu" else torch.nn.functional.mish(sums)
        q: Tensor = (hidden @ weights[last] + weights[last_bias]).squeeze(3)
        return q

    def _forward(self, layers: Layers, inputs: Tensor, slopes: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
        """Q [m, B, 1] of m members; fills the values and slopes of the hidden layers, each [m, B, H]."""
        for (weight, bias), slope, value in zip(layers[:-1], slopes, values, strict=True):
            torch.bmm(inputs, weight, out=slope)
            activate_with_slope_(self.activation, slope, bias, value)
            inputs = value
        return self._output(layers, inputs)

    def _backward(self, layers: Layers, slopes: Sequence[Tensor], of_output: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Each layer's index and the gradient at its sums, the last layer first; valid until the next is asked for.

        of_output: the gradient at the outputs, [m, B, 1].
        """
        yield len(slopes), of_output
        of_layer, spare = self._buffer("gradients", slopes[0], (2, *slopes[0].shape))
        last_layer_back_(slopes[-1], of_output, layers[-1][0].transpose(1, 2), of_layer)
        yield len(slopes) - 1, of_layer
        for index in range(len(slopes) - 2, -1, -1):
            torch.bmm(of_layer, layers[index + 1][0].transpose(1, 2), out=spare)
            of_layer, spare = spare.mul_(slopes[index]), of_layer
            yield index, of_layer

    def _q_and_slopes(self, weights: Weights, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Q [R, M, B] of [s, a] [R, B, O + A], and the slopes of the hidden layers."""
        runs, rows, _ = pairs.shape
        pairs = pairs.to(self.precision)
        if self._goes_whole(weights):
            slopes = self._buffer("slopes of all", pairs, (runs, self.M, self.layers, rows, self.width))
            q, *_ = self._whole.forward(weights, pairs, keep_values=False, slopes=slopes)
            return q.view(runs, self.M, rows), slopes
        q = torch.empty(runs, self.M, rows, device=pairs.device)
        slopes = self._buffer("slopes of all", pairs, (runs, self.layers, self.M, rows, self.width))
        for run in range(runs):
            for members in self._pieces(rows, q.device):
                layers = self._layers(weights, run, members)
                values = self._buffer("values", pairs, (2, len(layers[0][0]), rows, self.width))
                inputs = pairs[run].expand(values.shape[1], -1, -1)
                alternating = [values[index % 2] for index in range(self.layers)]
                q[run, members] = self._forward(layers, inputs, list(slopes[run, :, members]), alternating).squeeze(2)
        return q, slopes

    def _gradient_at_actions(self, weights: Weights, slopes: Tensor, of_q: Tensor) -> Tensor:
        """[R, B, A], from the gradient at Q [R, M, B]."""
        runs, _, rows = of_q.shape
        if self._goes_whole(weights):
            of_outputs, columns = of_q.flatten(0, 1).unsqueeze(2), slice(self.observation_size, None)
            at_members, _ = self._whole.backward(weights, None, of_outputs, slopes, columns=columns)
            return torch.sum(at_members.view(runs, self.M, rows, -1), dim=1)
        found = []
        for run in range(runs):
            of_actions = of_q.new_zeros(rows, weights["weight_1"].shape[2] - self.observation_size)
            for members in self._pieces(rows, of_q.device):
                layers = self._layers(weights, run, members)
                *_, (_, of_layer) = self._backward(layers, list(slopes[run, :, members]), of_q[run, members, :, None])
                of_action = layers[0][0][:, self.observation_size :].transpose(1, 2)
                of_actions += torch.bmm(of_layer, of_action).sum(dim=0, dtype=of_q.dtype)
            found.append(of_actions)
        return torch.stack(found)

    def _goes_whole(self, weights: Weights) -> bool:
        return self.precision == torch.float32 and self._whole.suit(weights)

    def _tensors(self, weights: Weights, run: int) -> Layers:
        """Weight and bias of every layer of a run, [M, inputs, outputs] and [M, 1, outputs]."""
        tensors = weights.of_run[run]
        return [
            (tensors[weight], tensors[bias]) for weight, bias in (("weight_1", "bias_1"), *hidden_names(self.layers))
        ]

    def _layers(self, weights: Weights, run: int, members: slice) -> Layers:
        """Weight and bias of every layer of m members, [m, inputs, outputs] as factors and [m, 1, outputs]."""
        layers = [(weight[members], bias[members]) for weight, bias in self._tensors(weights, run)]
        return [(weight.to(self.precision), bias) for weight, bias in layers[:-1]] + layers[-1:]

    def _pieces(self, rows: int, device: torch.device) -> Iterator[slice]:
        """Members that go through the network together."""
        size = max(1, PIECE_BYTES // (4 * rows * self.width)) if device.type == "cpu" else self.M
        for start in range(0, self.M, size):
            yield slice(start, min(start + size, self.M))

    def _blocks(self, states: int, candidates: int, device: torch.device) -> Iterator[slice]:
        """States that go through the network together with all their actions."""
        size = max(1, BLOCK_ROWS // candidates) if device.type == "cpu" else states
        for start in range(0, states, size):
            yield slice(start, min(start + size, states))

    def _buffer(self, name: str, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Memory that is kept from call to call; on a GPU a graph keeps its own."""
        size = math.prod(shape)
        if like.is_cuda:
            return like.new_empty(shape)
        if name not in self._buffers or len(self._buffers[name]) < size:
            self._buffers[name] = like.new_empty(size)
        return self._buffers[name][:size].view(shape)


def lower_confidence_bound(q: Tensor, beta: Tensor) -> Tensor:
    """mean_m Q_m - beta std_m Q_m (Eq. 17), [R, B], of q [R, M, B] and beta [R]; one member has no spread."""
    if q.shape[1] == 1:
        return q[:, 0]
    mean = q.mean(dim=1, keepdim=True)
    # `var` along a dimension that is not the last takes ten times as long. The clamp keeps the root's gradient finite
    # where members agree exactly.
    std = ((q - mean).square().sum(dim=1) / (q.shape[1] - 1)).clamp_min(1e-12).sqrt()
    return mean.squeeze(1) - beta.unsqueeze(1) * std


class _QOfActions(torch.autograd.Function):
    """`CriticEnsemble.q_of_actions`."""

    @staticmethod
    def forward(ctx: Any, ensemble: CriticEnsemble, weights: Weights, observations: Tensor, actions: Tensor) -> Tensor:
        pairs = torch.cat([observations, actions], dim=2)
        ctx.ensemble, ctx.weights = ensemble, weights
        q, ctx.slopes = ensemble._q_and_slopes(weights, pairs)
        ensemble._slopes_of += 1
        ctx.call = ensemble._slopes_of
        return q

    @staticmethod
    def backward(ctx: Any, of_q: Tensor) -> tuple[None, None, None, Tensor]:
        if ctx.call != ctx.ensemble._slopes_of:
            raise RuntimeError("the gradient of a call of q_of_actions was asked for after the next call")
        return None, None, None, ctx.ensemble._gradient_at_actions(ctx.weights, ctx.slopes, of_q.contiguous())
