"""Implicit Q-learning (https://arxiv.org/abs/2110.06169): a Gaussian policy by the advantages of the data's actions.

One algorithm, one file, read top to bottom; the values are `implicit_q`'s. Everything has shape [R, B, ...].
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.algorithms import Agent, Batch, Noise, numbers
from erdp_core.config import RunConfig
from erdp_core.gaussian_policy import GaussianPolicy
from erdp_core.implicit_q import ImplicitQ, advantage_weights

LARGEST_WEIGHT = 100.0
"""Of an action in the policy's regression."""


class IQL(Agent):
    """R runs of IQL."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        observation_size: int,
        action_size: int,
        device: torch.device,
    ) -> None:
        super().__init__(configs, device)
        self.inverse_temperature = numbers(configs, "inverse_temperature", device)
        self.policy = GaussianPolicy(configs, seeds, observation_size, action_size, device, has_std=True)
        self.values = ImplicitQ(configs, seeds, observation_size, action_size, device)

    def prepare(self, data: Batch) -> None:
        """Take what the values need of the data as a whole."""
        self.values.prepare(data)

    def draw_noise(self, generator: torch.Generator, steps: int) -> dict[str, Tensor]:
        """Nothing is random in an update."""
        return {}

    def actor_loss(self, batch: Batch, advantages: Tensor) -> Tensor:
        """E[-min(exp(inverse_temperature A), 100) log pi(a | s)], [R], for advantages A [R, B]."""
        weights = advantage_weights(advantages, self.inverse_temperature, LARGEST_WEIGHT)
        return -(weights * self.policy.log_probability(batch.observations, batch.actions)).mean(dim=1)

    def update(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """One step: values, critics, policy. Returns detached logs [R]."""
        self.count += 1
        advantages, info = self.values.update(batch, self.count)
        loss = self.actor_loss(batch, advantages)
        norm = self.policy.step(loss, self.count, self.learning_rate_scale())
        return info | {"actor_loss": loss.detach(), "actor_grad_norm": norm}

    @torch.no_grad()
    def act(self, observations: Tensor, noise: Noise) -> Tensor:
        """The policy's mean for each observation, [R, E, A]."""
        return self.policy.mean(observations)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, each [R, ...]."""
        return {**self.policy.tensors, **self.values.tensors}

    @property
    def acting_tensors(self) -> dict[str, Tensor]:
        """Those that acting needs."""
        return {"actor": self.policy.weights.flat}
