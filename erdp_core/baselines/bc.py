"""Behaviour cloning with a Gaussian policy: the likelihood of the data's actions; acts by the mean."""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.algorithms import Agent, Batch, Noise
from erdp_core.config import RunConfig
from erdp_core.gaussian_policy import GaussianPolicy


class BC(Agent):
    """R runs of behaviour cloning."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        observation_size: int,
        action_size: int,
        device: torch.device,
    ) -> None:
        super().__init__(configs, device)
        self.policy = GaussianPolicy(configs, seeds, observation_size, action_size, device, has_std=True)

    def draw_noise(self, generator: torch.Generator, steps: int) -> dict[str, Tensor]:
        """Nothing is random in an update."""
        return {}

    def actor_loss(self, batch: Batch) -> Tensor:
        """E[-log pi(a | s)] of each run, [R]."""
        return -self.policy.log_probability(batch.observations, batch.actions).mean(dim=1)

    def update(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """One step of training. Returns detached logs [R]."""
        self.count += 1
        loss = self.actor_loss(batch)
        norm = self.policy.step(loss, self.count, self.learning_rate_scale())
        return {"actor_loss": loss.detach(), "actor_grad_norm": norm}

    @torch.no_grad()
    def act(self, observations: Tensor, noise: Noise) -> Tensor:
        """The policy's mean for each observation, [R, E, A]."""
        return self.policy.mean(observations)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, each [R, P]."""
        return self.policy.tensors

    @property
    def acting_tensors(self) -> dict[str, Tensor]:
        """Those that acting needs."""
        return {"actor": self.policy.weights.flat}
