"""MSG (https://arxiv.org/abs/2205.13703): critics that each back up their own targets, a policy by their lower bound.

One algorithm, one file, read top to bottom. Q has shape [R, M, B], everything else [R, B, ...].
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.agent_configs import MsgConfig
from erdp_core.algorithms import Batch, Noise, numbers
from erdp_core.config import RunConfig
from erdp_core.ensemble import lower_confidence_bound
from erdp_core.soft_actor_critic import SoftActorCritic


class MSG(SoftActorCritic):
    """R runs of MSG."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        observation_size: int,
        action_size: int,
        device: torch.device,
    ) -> None:
        config = configs[0].agent
        assert isinstance(config, MsgConfig)
        super().__init__(configs, seeds, observation_size, action_size, device, config.M)
        self.beta, self.conservative_weight = (
            numbers(configs, name, device) for name in ("beta", "conservative_weight")
        )

    def draw_noise(self, generator: torch.Generator, steps: int) -> dict[str, Tensor]:
        """Everything random in `steps` updates of one run, each tensor [steps, B, 1, A]."""
        return {name: self.policy.draw(generator, steps) for name in ("action", "next_action", "conservative_action")}

    @torch.no_grad()
    def target(self, batch: Batch, noise: Noise) -> Tensor:
        """y^m = r + gamma (1 - done) Q_target^m(s', a'), one for each member, [R, M, B], a' from the policy."""
        next_actions, _ = self.policy.sample(batch.next_observations, noise["next_action"])
        return self.critics.backed_up(batch, self.critics.target_q(batch.next_observations, next_actions))

    def critic_loss(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over batch and members of (Q^m - y^m)^2, and the conservative term, [R]; gradients at the critics."""
        targets = self.target(batch, noise)
        with torch.no_grad():
            actions, _ = self.policy.sample(batch.observations, noise["conservative_action"])
        states = torch.cat([batch.observations, batch.observations], dim=1)
        q_of_data, q = self.critics.q_with_gradients(states, torch.cat([batch.actions, actions], dim=1)).chunk(2, dim=2)
        squared = ((q_of_data - targets) ** 2).mean(dim=(1, 2))
        conservative = (q - q_of_data).mean(dim=(1, 2))
        return squared + self.conservative_weight * conservative, {
            "critic_loss": squared.detach(),
            "conservative_loss": conservative.detach(),
            "q_mean": q_of_data.detach().mean(dim=(1, 2)),
        }

    def actor_loss(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """E[alpha log pi(a | s) - (mean_m Q_m - beta std_m Q_m)], [R], and log pi [R, B]."""
        actions, log_probability = self.policy.sample(batch.observations, noise["action"])
        lcb = lower_confidence_bound(self.critics.q_of_actions(batch.observations, actions), self.beta)
        return (self.temperature.alpha.unsqueeze(1) * log_probability - lcb).mean(dim=1), log_probability
