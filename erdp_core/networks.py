"""The noise network of a pack of runs: every weight has a leading run axis.

R runs, B batch, O observation size, A action size, H width, K actions a state. Layer by layer, the first one is a
product for each part of the input, so that what repeats over sampling steps is multiplied once.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from erdp_core.fused import mish_and_slope_, mish_of_sum_
from erdp_core.weights import Weights
from erdp_core.whole import WholeNetworks

Activation = Literal["mish", "relu"]
TIME_FEATURES = 16
TIME_HIDDEN = 32


def hidden_names(layers: int) -> list[tuple[str, str]]:
    """Names of weight and bias of every layer after the first, the last being the output's."""
    return [(f"weight_{index}", f"bias_{index}") for index in range(2, layers + 2)]


class NoiseNetwork:
    """eps_phi(a_t, t, s): a Mish MLP on [a_t, embedding of t, s].

    The embedding is sinusoidal (16) -> Linear 32 -> Mish -> Linear 16, fed with t - 1 as in the published code.
    """

    def __init__(self, observation_size: int, action_size: int, T: int, width: int, layers: int) -> None:
        self.layers = layers
        self.width = width
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
        self._whole = WholeNetworks([("weight_1", "bias_1"), *hidden_names(layers)], self.shapes, members=1)

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

    def eps_phi(self, weights: Weights, a_t: Tensor, t: Tensor, observations: Tensor) -> Tensor:
        """The predicted noise [R, B, A] of a_t [R, B, A] at times t [R, B] in states [R, B, O]; with gradients."""
        rows = (t - 1).unsqueeze(-1)
        if self._whole.suit(weights):
            embedding = self.time_embedding(weights).gather(1, rows.expand(-1, -1, TIME_FEATURES))
            return self._whole.differentiable(weights, torch.cat([a_t, embedding, observations], dim=2))
        of_time = self._of_time(weights)
        base = self._of_state(weights, observations) + of_time.gather(1, rows.expand(-1, -1, of_time.shape[-1]))
        return self._layer_by_layer(weights, a_t, base)

    def sampler(self, weights: Weights, observations: Tensor, candidates: int) -> Callable[[Tensor, int], Tensor]:
        """eps_phi [R, B * K, A] of (a_t [R, B * K, A], t), K actions in each of the states [R, B, O]; no gradients."""
        of_time = self._of_time(weights) + weights["bias_1"].unsqueeze(1)
        if self._whole.suit(weights):
            state_row = self.action_size + TIME_FEATURES

            def predict_noise(a_t: Tensor, t: int) -> Tensor:
                return self._whole.outputs(weights, observations, a_t, state_row, 0, of_time[:, t - 1])
        else:
            of_state = self._of_state(weights, observations).repeat_interleave(candidates, dim=1)

            def predict_noise(a_t: Tensor, t: int) -> Tensor:
                return self._layer_by_layer(weights, a_t, of_state, of_time[:, t - 1])

        return predict_noise

    def _of_time(self, weights: Weights) -> Tensor:
        """The first layer's part of all times, [R, T, H]."""
        first = weights["weight_1"][:, self.action_size : self.action_size + TIME_FEATURES]
        return torch.bmm(self.time_embedding(weights), first)

    def _of_state(self, weights: Weights, observations: Tensor) -> Tensor:
        """The first layer's part of the states [R, B, O], [R, B, H]."""
        return torch.bmm(observations, weights["weight_1"][:, self.action_size + TIME_FEATURES :])

    def _layer_by_layer(self, weights: Weights, a_t: Tensor, base: Tensor, bias: Tensor | None = None) -> Tensor:
        """eps_phi of a_t, base [R, B, H] being the first layer's part of times and states, bias [R, H] its own."""
        bias = weights["bias_1"] if bias is None else bias
        sums = torch.baddbmm(base, a_t, weights["weight_1"][:, : self.action_size])
        *hidden, (last, last_bias) = hidden_names(self.layers)
        for weight, next_bias in hidden:
            sums, bias = torch.bmm(mish(sums, bias), weights[weight]), weights[next_bias]
        # A product with so few columns is several times as fast where each of them lies together.
        columns = weights[last].transpose(1, 2).contiguous()
        return torch.bmm(mish(sums, bias), columns.transpose(1, 2)) + weights[last_bias].unsqueeze(1)


def activate_(activation: Activation, x: Tensor, bias: Tensor) -> None:
    """x = activation(x + bias), for x [b, n, h] and bias [b, 1, h]."""
    if activation == "mish":
        mish_of_sum_(x, bias)
    else:
        x.copy_((x.float() + bias).relu_())


def activate_with_slope_(activation: Activation, x: Tensor, bias: Tensor, value: Tensor) -> None:
    """value = activation(x + bias), x = its slope there."""
    if activation == "mish":
        mish_and_slope_(x, bias, value)
    else:
        value.copy_((x.float() + bias).relu_())
        x.copy_(value > 0)


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
