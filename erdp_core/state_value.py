"""V(s) as an expectile of Q over the data's actions, which IQL learns.

R runs, B batch, O observation size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.algorithms import numbers, stream
from erdp_core.config import RunConfig
from erdp_core.mlp import MLP
from erdp_core.optimiser import Adam
from erdp_core.weights import Weights


def expectile_loss(errors: Tensor, expectile: Tensor) -> Tensor:
    """mean |expectile - 1(u < 0)| u^2 of errors u [R, B], for expectiles [R]; its minimum is the expectile of what V is
    taken from.
    """
    weight = torch.where(errors < 0, 1 - expectile.unsqueeze(1), expectile.unsqueeze(1))
    return (weight * errors**2).mean(dim=1)


class StateValue:
    """The values of a pack's runs and their optimiser; settings `expectile` and `critic_lr`."""

    def __init__(
        self, configs: Sequence[RunConfig], seeds: Sequence[int], observation_size: int, device: torch.device
    ) -> None:
        config = configs[0].agent
        self.expectile = numbers(configs, "expectile", device)
        self.network = MLP(observation_size, 1, config.width, config.layers)
        self.weights = Weights(self.network.shapes, len(configs), device)
        for run, seed in enumerate(seeds):
            self.network.initialise(self.weights.of_run[run], stream(device, seed, "value"))
        self.weights.require_grad(True)
        self.optimiser = Adam(
            self.weights.flat, numbers(configs, "critic_lr", device), numbers(configs, "grad_norm", device)
        )

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, each [R, P]."""
        return {
            "value": self.weights.flat,
            "value_first_moment": self.optimiser.first_moment,
            "value_second_moment": self.optimiser.second_moment,
        }

    def __call__(self, observations: Tensor) -> Tensor:
        """V [R, B] of states [R, B, O]."""
        return self.network(self.weights, observations).squeeze(2)

    def step(self, observations: Tensor, q: Tensor, count: Tensor, scale: Tensor) -> Tensor:
        """One update towards the expectile of q [R, B]; returns the loss [R].

        count: updates including this one. scale: factor on the learning rate.
        """
        loss = expectile_loss(q - self(observations), self.expectile)
        self.optimiser.step(self.weights.gradient(loss.sum()), count, scale)
        return loss.detach()
