"""What CQL and MSG share of SAC: a squashed Gaussian of learned temperature, critics with gradients of their own.

R runs, B batch; one step is critics, policy, temperature.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.algorithms import Agent, Batch, Noise
from erdp_core.config import RunConfig
from erdp_core.critics import Critics
from erdp_core.gaussian_policy import SquashedGaussianPolicy, Temperature


class SoftActorCritic(Agent):
    """R runs; a method says what its losses are."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        observation_size: int,
        action_size: int,
        device: torch.device,
        M: int,
        sum_of_members: bool = False,
    ) -> None:
        """M, sum_of_members: of the critics."""
        super().__init__(configs, device)
        sizes = observation_size, action_size
        self.policy = SquashedGaussianPolicy(configs, seeds, *sizes, device)
        self.temperature = Temperature(configs, action_size, device)
        self.critics = Critics(
            configs, seeds, *sizes, device, M, activation="relu", start="linear", sum_of_members=sum_of_members
        )
        self.critics.weights.require_grad(True)

    def critic_loss(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """[R], with gradients at the critics, and logs."""
        raise NotImplementedError

    def actor_loss(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """[R], and log pi [R, B] of the policy's actions."""
        raise NotImplementedError

    def update(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """One step: critics, policy, temperature, and what follows them. Returns detached logs [R]."""
        self.count += 1
        scale = self.learning_rate_scale()
        critic_loss, info = self.critic_loss(batch, noise)
        info["critic_grad_norm"] = self.critics.step_along(critic_loss, self.count, scale)
        actor_loss, log_probability = self.actor_loss(batch, noise)
        norm = self.policy.step(actor_loss, self.count, scale)
        self.temperature.step(log_probability, self.count)
        return info | {
            "actor_loss": actor_loss.detach(),
            "entropy": -log_probability.detach().mean(dim=1),
            "actor_grad_norm": norm,
        }

    @torch.no_grad()
    def act(self, observations: Tensor, noise: Noise) -> Tensor:
        """The policy's mode for each observation, [R, E, A]."""
        return self.policy.mode(observations)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, each [R, P]."""
        return {**self.policy.tensors, **self.temperature.tensors, **self.critics.tensors}

    @property
    def acting_tensors(self) -> dict[str, Tensor]:
        """Those that acting needs."""
        return {"actor": self.policy.weights.flat}
