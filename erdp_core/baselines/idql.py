"""IDQL (https://arxiv.org/abs/2304.10573): behaviour cloning by diffusion, of whose samples the best is taken.

One algorithm, one file, read top to bottom; the values are `implicit_q`'s. Its network of residual blocks is the noise
network here that every diffusion policy has, and its critics have as many layers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.agent_configs import IdqlConfig
from erdp_core.algorithms import Agent, Batch, Noise, numbers
from erdp_core.candidates import act_by_candidates, draw_candidates
from erdp_core.config import RunConfig
from erdp_core.diffusion_policy import DiffusionPolicy
from erdp_core.implicit_q import ImplicitQ
from erdp_core.sde import VariancePreserving
from erdp_core.weights import Weights


class IDQL(Agent):
    """R runs of IDQL."""

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
        assert isinstance(config, IdqlConfig)
        self.config = config
        sizes = observation_size, action_size
        self.policy = DiffusionPolicy(configs, seeds, *sizes, device, VariancePreserving(config.T, device))
        self.average = Weights(self.policy.network.shapes, len(configs), device)
        self.average.flat.copy_(self.policy.weights.flat.detach())
        self.actor_tau = numbers(configs, "actor_tau", device)
        self.values = ImplicitQ(configs, seeds, *sizes, device)

    @property
    def candidates(self) -> int:
        """Actions sampled to act, where the config says nothing else."""
        return self.config.candidates

    def prepare(self, data: Batch) -> None:
        """Take what the values need of the data as a whole."""
        self.values.prepare(data)

    def draw_noise(self, generator: torch.Generator, steps: int) -> dict[str, Tensor]:
        """Everything random in `steps` updates of one run, each tensor [steps, ...]."""
        return self.policy.draw_noise(generator, steps)

    def update(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """One step: values, critics, policy. Returns detached logs [R]."""
        self.count += 1
        _, info = self.values.update(batch, self.count)
        loss, _, _ = self.policy.diffusion_loss(batch.observations, batch.actions, noise)
        norm = self.policy.step(loss, self.count, self.learning_rate_scale(), self.average.flat, self.actor_tau)
        return info | {"diffusion_loss": loss.detach(), "actor_grad_norm": norm}

    def draw_acting_noise(self, generator: torch.Generator, episodes: int, candidates: int) -> dict[str, Tensor]:
        """Everything random in one action for each episode of one run."""
        return draw_candidates(self.policy, generator, episodes, candidates)

    def act(self, observations: Tensor, noise: Noise) -> Tensor:
        """Actions [R, E, A]: of K candidates of the average the one with the largest min of the target critics."""
        value = self.values.target_q
        return act_by_candidates(self.policy, value, 2, observations, noise, greedy=True, weights=self.average)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, each [R, ...]."""
        return {**self.policy.tensors, "average": self.average.flat, **self.values.tensors}

    @property
    def acting_tensors(self) -> dict[str, Tensor]:
        """Those that acting needs."""
        return {"average": self.average.flat, "target_critics": self.values.critics.targets.flat}
