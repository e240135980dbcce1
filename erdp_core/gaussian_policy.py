"""The policy that behaviour cloning, TD3+BC and IQL share: a mean in [-1, 1], and a standard deviation where asked for.

R runs, B batch, O observation size, A action size.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.algorithms import numbers, stream
from erdp_core.config import RunConfig
from erdp_core.mlp import MLP
from erdp_core.optimiser import Adam
from erdp_core.weights import Weights

LOG_STD_LIMITS = (-10.0, 2.0)
"""As in IQL's released code."""


class GaussianPolicy:
    """The policies of a pack's R runs: tanh(MLP(s)), and exp(log_std) whatever the state."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        observation_size: int,
        action_size: int,
        device: torch.device,
        has_std: bool,
    ) -> None:
        config = configs[0].agent
        self.network = MLP(observation_size, action_size, config.width, config.layers)
        self.shapes = self.network.shapes | ({"log_std": (action_size,)} if has_std else {})
        self.weights = Weights(self.shapes, len(configs), device)
        for run, seed in enumerate(seeds):
            self.network.initialise(self.weights.of_run[run], stream(device, seed, "actor"))
        self.weights.require_grad(True)
        self.optimiser = Adam(
            self.weights.flat, numbers(configs, "actor_lr", device), numbers(configs, "grad_norm", device)
        )

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, each [R, P]."""
        return {
            "actor": self.weights.flat,
            "actor_first_moment": self.optimiser.first_moment,
            "actor_second_moment": self.optimiser.second_moment,
        }

    def mean(self, observations: Tensor, weights: Weights | None = None) -> Tensor:
        """Actions [R, B, A] for states [R, B, O]; of other weights than its own where they are given."""
        return torch.tanh(self.network(self.weights if weights is None else weights, observations))

    def log_probability(self, observations: Tensor, actions: Tensor) -> Tensor:
        """log N(a | mean(s), std), [R, B], of actions [R, B, A], the density not being cut at +-1."""
        log_std = self.weights["log_std"].clamp(*LOG_STD_LIMITS).unsqueeze(1)
        standard = (actions - self.mean(observations)) * torch.exp(-log_std)
        return (-0.5 * standard**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(dim=2)
