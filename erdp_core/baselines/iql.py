"""Implicit Q-learning (https://arxiv.org/abs/2110.06169): values of the data's actions, a policy by their advantages.

One algorithm, one file, read top to bottom. Q has shape [R, 2, B], everything else [R, B, ...].
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.agent_configs import IqlConfig
from erdp_core.algorithms import Agent, Batch, Noise, numbers
from erdp_core.config import RunConfig
from erdp_core.critics import Critics
from erdp_core.gaussian_policy import GaussianPolicy
from erdp_core.state_value import StateValue

LARGEST_WEIGHT = 100.0
"""Of an action in the policy's regression."""
RETURN_RANGE = 1000.0
"""Of the data's episodes, once their returns are normalised."""


class IQL(Agent):
    """R runs of IQL."""

    candidates = 1

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
        assert isinstance(config, IqlConfig)
        self.config = config
        self.inverse_temperature, self.reward_scale, self.reward_shift = (
            numbers(configs, name, device) for name in ("inverse_temperature", "reward_scale", "reward_shift")
        )
        sizes = observation_size, action_size
        self.policy = GaussianPolicy(configs, seeds, *sizes, device, has_std=True)
        self.value = StateValue(configs, seeds, observation_size, device)
        self.critics = Critics(
            configs, seeds, *sizes, device, M=2, activation="relu", start="linear", sum_of_members=True
        )

    def prepare(self, data: Batch) -> None:
        """Take the range of the returns of the data's episodes."""
        if self.config.normalise_returns:
            returns = episode_returns(data)
            # Episodes that all return the same leave rewards as they are.
            spread = float(returns.max() - returns.min()) or RETURN_RANGE
            self.reward_scale.fill_(RETURN_RANGE / spread)

    def draw_noise(self, generator: torch.Generator, steps: int) -> dict[str, Tensor]:
        """Nothing is random in an update."""
        return {}

    def actor_loss(self, batch: Batch, advantages: Tensor) -> Tensor:
        """E[-min(exp(inverse_temperature A), 100) log pi(a | s)], [R], for advantages A [R, B]."""
        weights = torch.exp(self.inverse_temperature.unsqueeze(1) * advantages).clamp(max=LARGEST_WEIGHT)
        return -(weights * self.policy.log_probability(batch.observations, batch.actions)).mean(dim=1)

    def update(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """One step: value, policy, critics, and what follows them. Returns detached logs [R]."""
        self.count += 1
        no_decay = torch.ones_like(self.count, dtype=torch.float64)
        q = self.critics.target_q(batch.observations, batch.actions).amin(dim=1)
        value_loss = self.value.step(batch.observations, q, self.count, no_decay)
        with torch.no_grad():
            value, next_value = self.value(batch.observations), self.value(batch.next_observations)

        actor_loss = self.actor_loss(batch, q - value)
        gradient = self.policy.weights.gradient(actor_loss.sum())
        actor_norm = self.policy.optimiser.step(gradient, self.count, self.learning_rate_scale())

        rewards = batch.rewards * self.reward_scale.unsqueeze(1) + self.reward_shift.unsqueeze(1)
        targets = self.critics.backed_up(batch._replace(rewards=rewards), next_value.unsqueeze(1))
        _, info = self.critics.loss(batch, targets)
        self.critics.step(info["critic_grad_norm"], self.count, no_decay)
        del info["q_scale_of_data"]
        return info | {
            "value_loss": value_loss,
            "advantage": (q - value).mean(dim=1),
            "actor_loss": actor_loss.detach(),
            "actor_grad_norm": actor_norm,
        }

    def draw_acting_noise(self, generator: torch.Generator, episodes: int, candidates: int) -> dict[str, Tensor]:
        """Nothing is random in an action."""
        return {}

    @torch.no_grad()
    def act(self, observations: Tensor, noise: Noise) -> Tensor:
        """The policy's mean for each observation, [R, E, A]."""
        return self.policy.mean(observations)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, and what it took of the data, each [R, ...]."""
        return {
            **self.policy.tensors,
            **self.value.tensors,
            **self.critics.tensors,
            "reward_scale": self.reward_scale.unsqueeze(1),
        }

    @property
    def acting_tensors(self) -> dict[str, Tensor]:
        """Those that acting needs."""
        return {"actor": self.policy.weights.flat}


def episode_returns(data: Batch) -> Tensor:
    """The sum of rewards of each episode, in order, of transitions [N, ...] that lie one after the other.

    An episode ends where it is terminal, or where what follows does not begin where it ended.
    """
    broken = (data.next_observations[:-1] != data.observations[1:]).any(dim=1)
    ends = (data.terminals > 0) | torch.cat([broken, broken.new_ones(1)])
    episode = torch.cumsum(torch.cat([ends.new_zeros(1), ends[:-1]]).long(), 0)
    return torch.zeros(int(episode[-1]) + 1, dtype=torch.float64, device=data.rewards.device).index_add_(
        0, episode, data.rewards.double()
    )
