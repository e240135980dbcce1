"""Implicit Q-learning's values (https://arxiv.org/abs/2110.06169), which IQL, IDQL and EDP share.

V(s) is an expectile of Q over the data's actions, so no action outside the data is ever valued.
R runs, B batch, O observation size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.agent_configs import ImplicitQConfig
from erdp_core.algorithms import Batch, numbers
from erdp_core.config import RunConfig
from erdp_core.critics import Critics
from erdp_core.mlp import MLP
from erdp_core.trained import Trained

RETURN_RANGE = 1000.0
"""Of the data's episodes, once their returns are normalised."""


class ImplicitQ:
    """Critics and values of R runs, with their optimisers and what rewards are multiplied with."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        observation_size: int,
        action_size: int,
        device: torch.device,
    ) -> None:
        config = configs[0].agent
        assert isinstance(config, ImplicitQConfig)
        self.normalises_returns = config.normalise_returns
        self.expectile, self.reward_scale, self.reward_shift = (
            numbers(configs, name, device) for name in ("expectile", "reward_scale", "reward_shift")
        )
        self.critics = Critics(
            configs, seeds, observation_size, action_size, device, M=2, activation="relu", start="linear",
            sum_of_members=True,
        )  # fmt: skip
        self.network = MLP(observation_size, 1, config.width, config.layers)
        self.trained = Trained(
            "value", "critic_lr", self.network.shapes, self.network.initialise, configs, seeds, device
        )

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, and what it took of the data, each [R, ...]."""
        return {
            **self.trained.tensors,
            **self.critics.tensors,
            "reward_scale": self.reward_scale.unsqueeze(1),
        }

    def prepare(self, data: Batch) -> None:
        """Take the range of the returns of the data's episodes, columns [N, ...]."""
        if self.normalises_returns:
            returns = episode_returns(data)
            # Episodes that all return the same leave rewards as they are.
            spread = float(returns.max() - returns.min()) or RETURN_RANGE
            self.reward_scale.fill_(RETURN_RANGE / spread)

    def value(self, observations: Tensor) -> Tensor:
        """V [R, B] of states [R, B, O]."""
        return self.network(self.trained.weights, observations).squeeze(2)

    def target_q(self, observations: Tensor, actions: Tensor) -> Tensor:
        """The smaller of both target critics, [R, B * K], for K actions of each of the states [R, B, O]."""
        return self.critics.target_q(observations, actions).amin(dim=1)

    def update(self, batch: Batch, count: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """One step of values and critics; returns the advantages min Q_target(s, a) - V(s), [R, B], and logs [R].

        count: updates including this one. The learning rates stay as they are.
        """
        full_rate = torch.ones_like(count, dtype=torch.float64)
        q = self.target_q(batch.observations, batch.actions)
        value_loss = expectile_loss(q - self.value(batch.observations), self.expectile)
        self.trained.step(value_loss, count, full_rate)
        with torch.no_grad():
            advantages, next_value = q - self.value(batch.observations), self.value(batch.next_observations)
        rewards = batch.rewards * self.reward_scale.unsqueeze(1) + self.reward_shift.unsqueeze(1)
        targets = self.critics.backed_up(batch._replace(rewards=rewards), next_value.unsqueeze(1))
        _, info = self.critics.loss(batch, targets)
        self.critics.step(info["critic_grad_norm"], count, full_rate)
        del info["q_scale_of_data"]
        return advantages, info | {"value_loss": value_loss.detach(), "advantage": advantages.mean(dim=1)}


def expectile_loss(errors: Tensor, expectile: Tensor) -> Tensor:
    """mean |expectile - 1(u < 0)| u^2 of errors u [R, B], for expectiles [R]: least where V is the expectile of Q."""
    weight = torch.where(errors < 0, 1 - expectile.unsqueeze(1), expectile.unsqueeze(1))
    return (weight * errors**2).mean(dim=1)


def episode_returns(data: Batch) -> Tensor:
    """The sum of rewards of each episode, in order, of transitions [N, ...] that lie one after the other.

    An episode ends where it is terminal, or where what follows does not begin where it ended.
    """
    episode = episode_numbers(data)
    returns = torch.zeros(int(episode[-1]) + 1, dtype=torch.float64, device=data.rewards.device)
    return returns.index_add_(0, episode, data.rewards.double())


def episode_numbers(data: Batch) -> Tensor:
    """The episode [N] that each of transitions [N, ...] is of, counted from 0 as in `episode_returns`."""
    broken = (data.next_observations[:-1] != data.observations[1:]).any(dim=1)
    ends = (data.terminals > 0) | torch.cat([broken, broken.new_ones(1)])
    return torch.cumsum(torch.cat([ends.new_zeros(1), ends[:-1]]).long(), 0)


def advantage_weights(advantages: Tensor, inverse_temperature: Tensor, largest: float) -> Tensor:
    """min(exp(inverse_temperature A), largest) of advantages A [R, B], for inverse temperatures [R]."""
    return torch.exp(inverse_temperature.unsqueeze(1) * advantages).clamp(max=largest)
