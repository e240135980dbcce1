"""The noise network of a pack of runs: every weight has a leading run axis.

R runs, B batch, O observation size, A action size, H width. The first layer is one product a part of the input, so that
what repeats over sampling steps is multiplied once.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from erdp_core.fused import mish_and_slope_, mish_of_sum_

TIME_FEATURES = 16
TIME_HIDDEN = 32


class Weights:
    """Named tensors [R, *shape] that are views of one flat tensor [R, P], so that updates touch memory once."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], runs: int, device: torch.device | str) -> None:
        self.shapes = dict(shapes)
        self.flat = torch.zeros(runs, sum(math.prod(shape) for shape in shapes.values()), device=device)
        """[R, P]"""
        self._named = dict(self._views(self.flat))
        self.of_run = [{name: tensor[run] for name, tensor in self._named.items()} for run in range(runs)]
        """The tensors [*shape] of each run."""

    def _views(self, flat: Tensor) -> Iterator[tuple[str, Tensor]]:
        start = 0
        for name, shape in self.shapes.items():
            size = math.prod(shape)
            yield name, flat[:, start : start + size].view(flat.shape[0], *shape)
            start += size

    def __getitem__(self, name: str) -> Tensor:
        return self._named[name]

    def require_grad(self, required: bool) -> None:
        """Whether graphs are kept for these weights."""
        for tensor in self._named.values():
            tensor.requires_grad_(required)

    def gradient(self, loss: Tensor) -> Tensor:
        """d loss / d flat, [R, P]. The weights must require gradients."""
        gradients = torch.autograd.grad(loss, list(self._named.values()))
        return torch.cat([gradient.reshape(self.flat.shape[0], -1) for gradient in gradients], dim=1)


def hidden_names(layers: int) -> list[tuple[str, str]]:
    """Names of weight and bias of every layer after the first, the last being the output's."""
    return [(f"weight_{index}", f"bias_{index}") for index in range(2, layers + 2)]


class NoiseNetwork:
    """eps_phi(a_t, t, s): a Mish MLP on [a_t, embedding of t, s].

    The embedding is sinusoidal (16) -> Linear 32 -> Mish -> Linear 16, fed with t - 1 as in the published code.
    """

    def __init__(self, observation_size: int, action_size: int, T: int, width: int, layers: int) -> None:
        self.layers = layers
        self.action_size = action_size
        self.shapes: dict[str, tuple[int, ...]] = {
            "time_weight_1": (TIME_FEATURES, TIME_HIDDEN),
            "time_bias_1": (TIME_HIDDEN,),
            "time_weight_2": (TIME_HIDDEN, TIME_FEATURES),
            "time_bias_2": (TIME_FEATURES,),
            "weight_1": (action_size + TIME_FEATURES + observation_size, width),
            "bias_1": (width,),
        }
        for index, (weight, bias) in enumerate(hidden_names(layers)):
            out = action_size if index == layers - 1 else width
            self.shapes |= {weight: (width, out), bias: (out,)}
        frequencies = torch.exp(torch.arange(TIME_FEATURES // 2) * -(math.log(10000) / (TIME_FEATURES // 2 - 1)))
        angles = torch.arange(T).unsqueeze(1) * frequencies
        self.sinusoids = torch.cat([angles.sin(), angles.cos()], dim=1)
        """[T, 16], row t - 1"""

    def to(self, device: torch.device | str) -> "NoiseNetwork":
        """Move the constants."""
        self.sinusoids = self.sinusoids.to(device)
        return self

    def initialise(self, weights: Mapping[str, Tensor], generator: torch.Generator) -> None:
        """Weights and biases of one run uniform in +-1/sqrt(inputs), torch's default for linear layers."""
        inputs = 1
        for name, tensor in weights.items():
            if "weight" in name:
                inputs = tensor.shape[0]
            tensor.uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)

    def time_embedding(self, weights: Weights) -> Tensor:
        """The embeddings of all times, [R, T, 16]."""
        sinusoids = self.sinusoids.expand(weights.flat.shape[0], -1, -1)
        hidden = mish(torch.bmm(sinusoids, weights["time_weight_1"]), weights["time_bias_1"])
        return torch.baddbmm(weights["time_bias_2"].unsqueeze(1), hidden, weights["time_weight_2"])

    def context(self, weights: Weights, observations: Tensor) -> tuple[Tensor, Tensor]:
        """What does not change along a sampling chain: first-layer parts of times [R, T, H] and states [R, B, H]."""
        first = weights["weight_1"]
        start = self.action_size
        of_time = torch.bmm(self.time_embedding(weights), first[:, start : start + TIME_FEATURES])
        return of_time, torch.bmm(observations, first[:, start + TIME_FEATURES :])

    def eps_phi(self, weights: Weights, a_t: Tensor, of_time: Tensor, of_state: Tensor) -> Tensor:
        """The predicted noise [R, B, A] of a_t [R, B, A].

        of_time: [R, B, H], or [R, 1, H] where all of the batch is at one time. of_state: [R, B, H].
        """
        base, bias = of_state, weights["bias_1"]
        if of_time.shape[1] == 1:
            bias = bias + of_time.squeeze(1)
        else:
            base = of_state + of_time
        sums = torch.baddbmm(base, a_t, weights["weight_1"][:, : self.action_size])
        *hidden, (last, last_bias) = hidden_names(self.layers)
        for weight, next_bias in hidden:
            sums, bias = torch.bmm(mish(sums, bias), weights[weight]), weights[next_bias]
        # A product with so few columns is several times as fast where each of them lies together.
        columns = weights[last].transpose(1, 2).contiguous()
        return torch.bmm(mish(sums, bias), columns.transpose(1, 2)) + weights[last_bias].unsqueeze(1)


def mish(sums: Tensor, bias: Tensor) -> Tensor:
    """mish(sums + bias) of a layer's sums [R, B, H], which are overwritten, and its bias [R, H]."""
    if torch.is_grad_enabled():
        value: Tensor = _Mish.apply(sums, bias)  # type: ignore[no-untyped-call]
        return value
    # Biases of runs lie a run's weights apart.
    mish_of_sum_(sums, bias.contiguous().unsqueeze(1))
    return sums


class _Mish(torch.autograd.Function):
    """`mish` with gradients; the slopes take the place of the sums, which no other gradient needs."""

    @staticmethod
    def forward(ctx: Any, sums: Tensor, bias: Tensor) -> Tensor:
        value = torch.empty_like(sums)
        mish_and_slope_(sums, bias.contiguous().unsqueeze(1), value)
        ctx.slope = sums
        return value

    @staticmethod
    def backward(ctx: Any, of_value: Tensor) -> tuple[Tensor, Tensor]:
        of_sums = ctx.slope * of_value
        return of_sums, of_sums.sum(dim=1)
