"""Diffusion-QL (https://arxiv.org/abs/2208.06193): a diffusion policy that two critics improve through its whole chain.

One algorithm, one file, read top to bottom. Q has shape [R, 2, B], everything else [R, B, ...].
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.agent_configs import DiffusionQlConfig
from erdp_core.algorithms import Agent, Batch, Noise, numbers
from erdp_core.candidates import act_by_candidates, draw_candidates
from erdp_core.config import RunConfig
from erdp_core.critics import Critics
from erdp_core.diffusion_policy import AveragedPolicy, DiffusionPolicy
from erdp_core.sde import VariancePreserving


class DiffusionQL(Agent):
    """R runs of Diffusion-QL."""

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
        assert isinstance(config, DiffusionQlConfig)
        self.config = config
        self.eta = numbers(configs, "eta", device)
        # Where all runs clone there is no use for samples with gradients.
        self.improves = any(run.agent.eta > 0 for run in configs if isinstance(run.agent, DiffusionQlConfig))
        sizes = observation_size, action_size
        self.policy = DiffusionPolicy(configs, seeds, *sizes, device, VariancePreserving(config.T, device))
        self.average = AveragedPolicy(configs, self.policy)
        self.critics = Critics(configs, seeds, *sizes, device, M=2, start="linear", sum_of_members=True)

    @property
    def candidates(self) -> int:
        """Actions sampled to act, where the config says nothing else."""
        return self.config.candidates

    def draw_noise(self, generator: torch.Generator, steps: int) -> dict[str, Tensor]:
        """Everything random in `steps` updates of one run, each tensor [steps, ...].

        next_action [steps, B * K, T, A] (K = `max_q_actions`, or 1), t [steps, B], eps [steps, B, A], new_action
        [steps, B, T, A], coin [steps].
        """
        batch = self.config.batch_size
        next_actions = batch * (self.config.max_q_actions if self.config.max_q_backup else 1)
        return {
            "next_action": self.policy.draw_chain(generator, steps, next_actions),
            **self.policy.draw_noise(generator, steps),
            "new_action": self.policy.draw_chain(generator, steps, batch),
            "coin": torch.rand(steps, generator=generator, device=self.device),
        }

    @torch.no_grad()
    def target(self, batch: Batch, noise: Noise) -> Tensor:
        """r + gamma (1 - done) min_j Q_target_j(s', a'), [R, 1, B], a' sampled from the averaged policy.

        With the max-Q backup each critic takes its maximum over K actions first.
        """
        next_actions = self.policy.sample(self.average.weights, batch.next_observations, noise["next_action"])
        q_next = self.critics.target_q(batch.next_observations, next_actions)
        if self.config.max_q_backup:
            q_next = q_next.unflatten(2, (-1, self.config.max_q_actions)).amax(dim=3)
        return self.critics.backed_up(batch, q_next.amin(dim=1, keepdim=True))

    def critic_loss(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum over both critics of mean (Q_i - y)^2, [R]; the critics keep its gradient."""
        return self.critics.loss(batch, self.target(batch, noise))

    def actor_loss(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """L_diff - eta E[Q_i(s, a)] / E|Q_j(s, a)|, [R], a being a new sample; a fair coin says which critic is i.

        The denominator passes no gradients.
        """
        diffusion_loss, _, _ = self.policy.diffusion_loss(batch.observations, batch.actions, noise)
        q_loss = torch.zeros_like(diffusion_loss)
        if self.improves:
            actions = self.policy.differentiable_sample(batch.observations, noise["new_action"])
            q = self.critics.q_of_actions(batch.observations, actions)
            values, scales = q.mean(dim=2), q.detach().abs().mean(dim=2)
            first = noise["coin"] > 0.5
            value = torch.where(first, values[:, 0], values[:, 1])
            scale = torch.where(first, scales[:, 1], scales[:, 0])
            # A run that clones is as if it were alone, whatever its companions.
            clones = self.eta == 0
            q_loss = -torch.where(clones, 0.0, value) / torch.where(clones, 1.0, scale)
        loss = diffusion_loss + self.eta * q_loss
        return loss, {
            "actor_loss": loss.detach(),
            "diffusion_loss": diffusion_loss.detach(),
            "q_loss": q_loss.detach(),
        }

    def update(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """One step: critics, policy, and what follows them. Returns detached logs [R]."""
        self.count += 1
        scale = self.learning_rate_scale()
        _, critic_info = self.critic_loss(batch, noise)
        self.critics.step(critic_info["critic_grad_norm"], self.count, scale)
        del critic_info["q_scale_of_data"]
        actor_loss, actor_info = self.actor_loss(batch, noise)
        actor_info["actor_grad_norm"] = self.policy.step(
            actor_loss, self.count, scale, *self.average.following(self.count)
        )
        return critic_info | actor_info

    def draw_acting_noise(self, generator: torch.Generator, episodes: int, candidates: int) -> dict[str, Tensor]:
        """Everything random in one action for each episode of one run."""
        return draw_candidates(self.policy, generator, episodes, candidates)

    def act(self, observations: Tensor, noise: Noise) -> Tensor:
        """Actions [R, E, A]: K candidates of the raw policy, one chosen with softmax(min of the target critics)."""

        def value(states: Tensor, actions: Tensor) -> Tensor:
            return self.critics.target_q(states, actions).amin(dim=1)

        return act_by_candidates(self.policy, value, 2, observations, noise)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, each [R, P]."""
        return {**self.policy.tensors, "average": self.average.weights.flat, **self.critics.tensors}

    @property
    def acting_tensors(self) -> dict[str, Tensor]:
        """Those that acting needs."""
        return {"actor": self.policy.weights.flat, "target_critics": self.critics.targets.flat}
