"""Noise network and Q-ensemble of a pack of runs: every weight has a leading run axis.

R runs, M critics, B batch, K actions a state, O observation size, A action size. First layers are kept as one product
a part of the input, so that what repeats over sampling steps or over a state's actions is multiplied once.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from erdp_core.activation import mish

TIME_FEATURES = 16
TIME_HIDDEN = 32


class Weights:
    """Named tensors [R, *shape] that are views of one flat tensor [R, P], so that updates touch memory once."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], runs: int, device: torch.device | str) -> None:
        self.shapes = dict(shapes)
        self.flat = torch.zeros(runs, sum(math.prod(shape) for shape in shapes.values()), device=device)
        """[R, P]"""
        self._named = dict(self._views(self.flat))

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

    def run_views(self, run: int) -> dict[str, Tensor]:
        """The tensors [*shape] of one run, for its initialisation."""
        return {name: tensor.detach()[run] for name, tensor in self._named.items()}


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
        hidden = mish(torch.baddbmm(weights["time_bias_1"].unsqueeze(1), sinusoids, weights["time_weight_1"]))
        return torch.baddbmm(weights["time_bias_2"].unsqueeze(1), hidden, weights["time_weight_2"])

    def context(self, weights: Weights, observations: Tensor) -> tuple[Tensor, Tensor]:
        """What does not change along a sampling chain: first-layer parts of times [R, T, H] and states [R, B, H]."""
        first = weights["weight_1"]
        start = self.action_size
        of_time = torch.bmm(self.time_embedding(weights), first[:, start : start + TIME_FEATURES])
        of_state = torch.baddbmm(weights["bias_1"].unsqueeze(1), observations, first[:, start + TIME_FEATURES :])
        return of_time, of_state

    def eps_phi(self, weights: Weights, a_t: Tensor, of_time: Tensor, of_state: Tensor) -> Tensor:
        """The predicted noise [R, B, A] of a_t [R, B, A]; `of_time` [R, B or 1, H] and `of_state` [R, B, H]."""
        hidden = mish(torch.baddbmm(of_state, a_t, weights["weight_1"][:, : self.action_size]) + of_time)
        for index, (weight, bias) in enumerate(hidden_names(self.layers)):
            hidden = torch.baddbmm(weights[bias].unsqueeze(1), hidden, weights[weight])
            if index < self.layers - 1:
                hidden = mish(hidden)
        return hidden


class CriticEnsemble:
    """M independent Mish MLPs on [s, a] as batched products."""

    def __init__(self, observation_size: int, action_size: int, M: int, width: int, layers: int) -> None:
        self.M = M
        self.width = width
        self.layers = layers
        self.observation_size = observation_size
        self.shapes: dict[str, tuple[int, ...]] = {
            "weight_1": (M, observation_size + action_size, width),
            "bias_1": (M, 1, width),
        }
        for index, (weight, bias) in enumerate(hidden_names(layers)):
            out = 1 if index == layers - 1 else width
            self.shapes |= {weight: (M, width, out), bias: (M, 1, out)}

    def initialise(self, weights: Mapping[str, Tensor], generator: torch.Generator) -> None:
        """One run's critics as published: hidden weights uniform +-1/sqrt(width), biases 0.1, the last layer +-3e-3."""
        last = f"_{self.layers + 1}"
        for name, tensor in weights.items():
            if name.endswith(last):
                tensor.uniform_(-3e-3, 3e-3, generator=generator)
            elif name.startswith("weight"):
                tensor.uniform_(-1 / math.sqrt(self.width), 1 / math.sqrt(self.width), generator=generator)
            else:
                tensor.fill_(0.1)

    def q(self, weights: Weights, observations: Tensor, actions: Tensor) -> Tensor:
        """Q of every member, [R, M, B * K], for states [R, B, O] and K actions of each, [R, B * K, A]."""
        runs, states, _ = observations.shape
        candidates = actions.shape[1] // states
        first = weights["weight_1"]
        of_state = observations.unsqueeze(1) @ first[:, :, : self.observation_size] + weights["bias_1"]
        of_action = actions.unsqueeze(1) @ first[:, :, self.observation_size :]
        hidden = of_action.view(runs, self.M, states, candidates, self.width) + of_state.unsqueeze(3)
        hidden = mish(hidden).view(runs * self.M, states * candidates, self.width)
        for index, (weight, bias) in enumerate(hidden_names(self.layers)):
            hidden = torch.baddbmm(weights[bias].flatten(0, 1), hidden, weights[weight].flatten(0, 1))
            if index < self.layers - 1:
                hidden = mish(hidden)
        return hidden.view(runs, self.M, states * candidates)


def lower_confidence_bound(q: Tensor, beta: Tensor) -> Tensor:
    """mean_m Q_m - beta std_m Q_m (Eq. 17), [R, B], of q [R, M, B] and beta [R]; one member has no spread."""
    if q.shape[1] == 1:
        return q[:, 0]
    # The clamp keeps the root's gradient finite where members agree exactly.
    std = q.var(dim=1).clamp_min(1e-12).sqrt()
    return q.mean(dim=1) - beta.unsqueeze(1) * std
