"""IQL+EDP (https://arxiv.org/abs/2305.20081): a diffusion policy by the advantages of the data's actions.

One algorithm, one file, read top to bottom; the values are `implicit_q`'s. Of the paper's forms it is the weighted
diffusion loss; the released code adds a weighted distance of the one-step estimate to an unweighted one. The paper has
1,000 steps that a solver goes through in 15: here are the other methods' few steps and their sampler.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.agent_configs import EdpConfig
from erdp_core.algorithms import Agent, Batch, Noise, numbers
from erdp_core.candidates import act_by_candidates, draw_candidates
from erdp_core.config import RunConfig
from erdp_core.diffusion_policy import DiffusionPolicy
from erdp_core.implicit_q import ImplicitQ, advantage_weights
from erdp_core.sde import VariancePreserving

LARGEST_WEIGHT = 100.0
"""Of an action in the policy's regression, as in IQL."""


class EDP(Agent):
    """R runs of IQL+EDP."""

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
        assert isinstance(config, EdpConfig)
        self.config = config
        self.inverse_temperature = numbers(configs, "inverse_temperature", device)
        sizes = observation_size, action_size
        self.policy = DiffusionPolicy(configs, seeds, *sizes, device, VariancePreserving(config.T, device))
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

    def actor_loss(self, batch: Batch, noise: Noise, advantages: Tensor) -> tuple[Tensor, Tensor]:
        """E[min(exp(inverse_temperature A), 100) (eps_phi - eps)^2] for advantages A [R, B], and that unweighted."""
        losses, _, _ = self.policy.diffusion_losses(batch.observations, batch.actions, noise)
        weights = advantage_weights(advantages, self.inverse_temperature, LARGEST_WEIGHT)
        return (weights * losses).mean(dim=1), losses.detach().mean(dim=1)

    def update(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """One step: values, critics, policy. Returns detached logs [R]."""
        self.count += 1
        advantages, info = self.values.update(batch, self.count)
        loss, diffusion_loss = self.actor_loss(batch, noise, advantages)
        norm = self.policy.step(loss, self.count, self.learning_rate_scale())
        return info | {"actor_loss": loss.detach(), "diffusion_loss": diffusion_loss, "actor_grad_norm": norm}

    def draw_acting_noise(self, generator: torch.Generator, episodes: int, candidates: int) -> dict[str, Tensor]:
        """Everything random in one action for each episode of one run."""
        return draw_candidates(self.policy, generator, episodes, candidates)

    def act(self, observations: Tensor, noise: Noise) -> Tensor:
        """Actions [R, E, A]: K candidates of the policy, one chosen with softmax(min of the target critics)."""
        return act_by_candidates(self.policy, self.values.target_q, 2, observations, noise)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, each [R, ...]."""
        return {**self.policy.tensors, **self.values.tensors}

    @property
    def acting_tensors(self) -> dict[str, Tensor]:
        """Those that acting needs."""
        return {"actor": self.policy.weights.flat, "target_critics": self.values.critics.targets.flat}
