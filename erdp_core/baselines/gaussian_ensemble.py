"""ERDP's ensemble and objective with a squashed Gaussian in place of the diffusion (arXiv 2402.04080, Table 5).

One algorithm, one file, read top to bottom. Q has shape [R, M, B], everything else [R, B, ...]. The paper names this
policy and gives no formula: the likelihood of the data's actions takes the diffusion loss's place, log pi that of the
chain's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.agent_configs import GaussianEnsembleConfig
from erdp_core.algorithms import Agent, Batch, Noise, numbers
from erdp_core.config import RunConfig
from erdp_core.critics import Critics
from erdp_core.ensemble import lower_confidence_bound
from erdp_core.gaussian_policy import SquashedGaussianPolicy


class GaussianEnsemble(Agent):
    """R runs of it."""

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
        assert isinstance(config, GaussianEnsembleConfig)
        self.alpha, self.beta, self.eta = (numbers(configs, name, device) for name in ("alpha", "beta", "eta"))
        sizes = observation_size, action_size
        self.policy = SquashedGaussianPolicy(configs, seeds, *sizes, device)
        self.critics = Critics(configs, seeds, *sizes, device, config.M)

    def draw_noise(self, generator: torch.Generator, steps: int) -> dict[str, Tensor]:
        """Everything random in `steps` updates of one run, each tensor [steps, B, 1, A]."""
        return {name: self.policy.draw(generator, steps) for name in ("action", "next_action")}

    @torch.no_grad()
    def target(self, batch: Batch, noise: Noise) -> Tensor:
        """y^m = r + gamma (1 - done) Q_target^m(s', a'), one for each member, [R, M, B], a' from the policy."""
        next_actions, _ = self.policy.sample(batch.next_observations, noise["next_action"])
        return self.critics.backed_up(batch, self.critics.target_q(batch.next_observations, next_actions))

    def critic_loss(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over batch and members of (Q^m - y^m)^2, [R]; the critics keep its gradient."""
        return self.critics.loss(batch, self.target(batch, noise))

    def actor_loss(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """E[-log pi(a of the data | s)] - eta E[LCB] / E|Q| - alpha E[H] / E|H|, [R], H = -log pi(a | s).

        No denominator passes gradients.
        """
        actions, log_probability = self.policy.sample(batch.observations, noise["action"])
        q = self.critics.q_of_actions(batch.observations, actions)
        q_loss = -lower_confidence_bound(q, self.beta).mean(dim=1) / q.detach().abs().mean(dim=(1, 2))
        cloning_loss = -self.policy.log_probability(batch.observations, batch.actions).mean(dim=1)
        entropy, scale = -log_probability.mean(dim=1), log_probability.detach().abs().mean(dim=1)
        loss = cloning_loss + self.eta * q_loss - self.alpha * entropy / scale
        return loss, {
            "actor_loss": loss.detach(),
            "cloning_loss": cloning_loss.detach(),
            "q_loss": q_loss.detach(),
            "entropy": entropy.detach(),
        }

    def update(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """One step: critics, policy, and what follows them. Returns detached logs [R]."""
        self.count += 1
        scale = self.learning_rate_scale()
        _, critic_info = self.critic_loss(batch, noise)
        self.critics.step(critic_info["critic_grad_norm"], self.count, scale)
        del critic_info["q_scale_of_data"]
        actor_loss, actor_info = self.actor_loss(batch, noise)
        actor_info["actor_grad_norm"] = self.policy.step(actor_loss, self.count, scale)
        return critic_info | actor_info

    @torch.no_grad()
    def act(self, observations: Tensor, noise: Noise) -> Tensor:
        """The policy's mode for each observation, [R, E, A]."""
        return self.policy.mode(observations)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, each [R, P]."""
        return {**self.policy.tensors, **self.critics.tensors}

    @property
    def acting_tensors(self) -> dict[str, Tensor]:
        """Those that acting needs."""
        return {"actor": self.policy.weights.flat}
