"""TD3+BC (https://arxiv.org/abs/2106.06860): TD3 with a step of behaviour cloning, on normalised states.

One algorithm, one file, read top to bottom. Q has shape [R, 2, B], everything else [R, B, ...].
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.agent_configs import Td3BcConfig
from erdp_core.algorithms import Agent, Batch, Noise, numbers
from erdp_core.config import RunConfig
from erdp_core.critics import Critics
from erdp_core.gaussian_policy import GaussianPolicy
from erdp_core.weights import Weights

SMALLEST_STD = 1e-3
"""Added to the standard deviation of each part of the states."""


class TD3BC(Agent):
    """R runs of TD3+BC."""

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
        assert isinstance(config, Td3BcConfig)
        self.config = config
        self.action_size = action_size
        self.q_weight, self.policy_noise, self.noise_clip = (
            numbers(configs, name, device) for name in ("q_weight", "policy_noise", "noise_clip")
        )
        sizes = observation_size, action_size
        self.policy = GaussianPolicy(configs, seeds, *sizes, device, has_std=False)
        self.target_policy = Weights(self.policy.shapes, len(configs), device)
        self.target_policy.flat.copy_(self.policy.weights.flat.detach())
        self.critics = Critics(
            configs, seeds, *sizes, device, M=2, activation="relu", start="linear", sum_of_members=True
        )
        self.state_mean = torch.zeros(len(configs), observation_size, device=device)
        self.state_std = torch.ones(len(configs), observation_size, device=device)

    def prepare(self, data: Batch) -> None:
        """Take mean and standard deviation of the data's states [N, O]."""
        if self.config.normalise_states:
            self.state_mean.copy_(data.observations.mean(dim=0))
            self.state_std.copy_(data.observations.std(dim=0, correction=0) + SMALLEST_STD)

    def normalised(self, observations: Tensor) -> Tensor:
        """States [R, B, O] as the networks see them."""
        return (observations - self.state_mean.unsqueeze(1)) / self.state_std.unsqueeze(1)

    def draw_noise(self, generator: torch.Generator, steps: int) -> dict[str, Tensor]:
        """Everything random in `steps` updates of one run: next_action [steps, B, A]."""
        shape = (steps, self.config.batch_size, self.action_size)
        return {"next_action": torch.randn(shape, generator=generator, device=self.device)}

    @torch.no_grad()
    def target(self, batch: Batch, noise: Noise) -> Tensor:
        """r + gamma (1 - done) min_j Q_target_j(s', pi_target(s') + clipped noise), [R, 1, B]."""
        limit = self.noise_clip[:, None, None]
        added = (noise["next_action"] * self.policy_noise[:, None, None]).clamp(-limit, limit)
        next_actions = (self.policy.mean(batch.next_observations, self.target_policy) + added).clamp(-1, 1)
        q_next = self.critics.target_q(batch.next_observations, next_actions)
        return self.critics.backed_up(batch, q_next.amin(dim=1, keepdim=True))

    def critic_loss(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum over both critics of mean (Q_i - y)^2, [R]; the critics keep its gradient."""
        return self.critics.loss(batch, self.target(batch, noise))

    def actor_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """-q_weight E[Q_1(s, pi(s))] / E|Q_1(s, pi(s))| + mean (pi(s) - a)^2, [R].

        The denominator passes no gradients.
        """
        actions = self.policy.mean(batch.observations)
        q = self.critics.q_of_actions(batch.observations, actions)[:, 0]
        q_loss = -q.mean(dim=1) / q.detach().abs().mean(dim=1)
        cloning_loss = ((actions - batch.actions) ** 2).mean(dim=(1, 2))
        loss = self.q_weight * q_loss + cloning_loss
        return loss, {
            "actor_loss": loss.detach(),
            "q_loss": q_loss.detach(),
            "cloning_loss": cloning_loss.detach(),
        }

    def update(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """One step: critics, and in its turn the policy with all targets. Returns detached logs [R]."""
        self.count += 1
        batch = batch._replace(
            observations=self.normalised(batch.observations),
            next_observations=self.normalised(batch.next_observations),
        )
        scale = self.learning_rate_scale()
        turn = self.count % self.config.policy_every == 0
        tau = torch.where(turn, self.critics.tau, 0.0)
        _, critic_info = self.critic_loss(batch, noise)
        self.critics.step(critic_info["critic_grad_norm"], self.count, scale, tau)
        del critic_info["q_scale_of_data"]
        # The losses of every step are logged; steps out of turn leave the policy as it is.
        actor_loss, actor_info = self.actor_loss(batch)
        turns = (self.count // self.config.policy_every).clamp(min=1)
        actor_info["actor_grad_norm"] = self.policy.step(
            actor_loss, turns, scale, self.target_policy.flat, tau, active=turn
        )
        return critic_info | actor_info

    @torch.no_grad()
    def act(self, observations: Tensor, noise: Noise) -> Tensor:
        """The policy's action for each observation, [R, E, A]."""
        return self.policy.mean(self.normalised(observations))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, and what it took of the data, each [R, ...]."""
        return {
            **self.policy.tensors,
            "target_policy": self.target_policy.flat,
            **self.critics.tensors,
            "state_mean": self.state_mean,
            "state_std": self.state_std,
        }

    @property
    def acting_tensors(self) -> dict[str, Tensor]:
        """Those that acting needs."""
        return {"actor": self.policy.weights.flat, "state_mean": self.state_mean, "state_std": self.state_std}
