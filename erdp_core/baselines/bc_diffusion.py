"""Behaviour cloning with ERDP's diffusion policy: the diffusion loss alone, one sample to act."""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.agent_configs import BcDiffusionConfig
from erdp_core.algorithms import Agent, Batch, Noise
from erdp_core.config import RunConfig
from erdp_core.diffusion_policy import DiffusionPolicy
from erdp_core.sde import MeanRevertingSDE


class BcDiffusion(Agent):
    """R runs of diffusion behaviour cloning."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        observation_size: int,
        action_size: int,
        device: torch.device,
    ) -> None:
        super().__init__(configs, device)
        config = configs[0].agent
        assert isinstance(config, BcDiffusionConfig)
        sizes, process = (observation_size, action_size), MeanRevertingSDE(config.T, device)
        self.policy = DiffusionPolicy(
            configs, seeds, *sizes, device, process, config.diffusion_loss, config.action_clip
        )

    def draw_noise(self, generator: torch.Generator, steps: int) -> dict[str, Tensor]:
        """Everything random in `steps` updates of one run, each tensor [steps, ...]."""
        return self.policy.draw_noise(generator, steps)

    def actor_loss(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """L_diff of each run, [R]."""
        loss, _, _ = self.policy.diffusion_loss(batch.observations, batch.actions, noise)
        return loss, {"diffusion_loss": loss.detach()}

    def update(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """One step of training. Returns detached logs [R]."""
        self.count += 1
        loss, info = self.actor_loss(batch, noise)
        info["actor_grad_norm"] = self.policy.step(loss, self.count, self.learning_rate_scale())
        return info

    def draw_acting_noise(self, generator: torch.Generator, episodes: int, candidates: int) -> dict[str, Tensor]:
        """Everything random in one action for each episode of one run."""
        return {"chain": self.policy.draw_chain(generator, episodes, candidates)}

    @torch.no_grad()
    def act(self, observations: Tensor, noise: Noise) -> Tensor:
        """One sample of the policy for each observation, [R, E, A]."""
        return self.policy.sample(self.policy.weights, observations, noise["chain"].flatten(1, 2))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, each [R, P]."""
        return self.policy.tensors

    @property
    def acting_tensors(self) -> dict[str, Tensor]:
        """Those that acting needs."""
        return {"actor": self.policy.weights.flat}
