"""Plain networks of a pack of runs, with gradients: policies' means, values of states.

R runs, B batch, I inputs, U outputs, H width.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from erdp_core.networks import Activation, hidden_names
from erdp_core.networks import mish as mish_of_sum
from erdp_core.weights import Weights
from erdp_core.whole import WholeNetworks


class MLP:
    """A network of each of R runs, with `layers` hidden layers."""

    def __init__(self, inputs: int, outputs: int, width: int, layers: int, activation: Activation = "relu") -> None:
        self.activation = activation
        self.names = [("weight_1", "bias_1"), *hidden_names(layers)]
        self.shapes: dict[str, tuple[int, ...]] = {}
        for index, (weight, bias) in enumerate(self.names):
            size = outputs if index == layers else width
            self.shapes |= {weight: (inputs, size), bias: (size,)}
            inputs = size
        self._whole = WholeNetworks(self.names, self.shapes, members=1, relu=activation == "relu")

    def initialise(self, weights: Mapping[str, Tensor], generator: torch.Generator) -> None:
        """Weights and biases of one run uniform in +-1/sqrt(inputs), torch's default for linear layers."""
        for weight, bias in self.names:
            reach = 1 / math.sqrt(weights[weight].shape[0])
            for name in (weight, bias):
                weights[name].uniform_(-reach, reach, generator=generator)

    def __call__(self, weights: Weights, inputs: Tensor) -> Tensor:
        """Outputs [R, B, U] of inputs [R, B, I], with gradients at both where they are kept."""
        if self._whole.suit(weights):
            return self._whole.differentiable(weights, inputs)
        hidden = inputs
        for weight, bias in self.names[:-1]:
            sums = torch.bmm(hidden, weights[weight])
            if self.activation == "mish":
                hidden = mish_of_sum(sums, weights[bias])
            else:
                hidden = torch.relu(sums + weights[bias].unsqueeze(1))
        weight, bias = self.names[-1]
        return torch.bmm(hidden, weights[weight]) + weights[bias].unsqueeze(1)
