"""ERDP: entropy-regularised diffusion policy with a Q-ensemble (https://arxiv.org/abs/2402.04080).

One algorithm, one file, read top to bottom: critic loss, actor loss, update, act. R runs train at once; a run's loss is
a mean over its batch, the pack's loss is the sum over runs. Q has shape [R, M, B], everything else [R, B, ...].
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core import entropy
from erdp_core.agent_configs import ErdpConfig
from erdp_core.algorithms import Agent, Batch, Noise, numbers
from erdp_core.candidates import act_by_candidates, draw_candidates
from erdp_core.config import RunConfig
from erdp_core.critics import Critics
from erdp_core.diffusion_policy import AveragedPolicy, DiffusionPolicy
from erdp_core.ensemble import lower_confidence_bound
from erdp_core.sde import MeanRevertingSDE
from erdp_core.state_alpha import StateAlpha


class ERDP(Agent):
    """R runs of ERDP."""

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
        assert isinstance(config, ErdpConfig)
        self.config = config
        self.alpha, self.beta, self.eta = (numbers(configs, name, device) for name in ("alpha", "beta", "eta"))
        # The entropy needs more steps than T = 1 or 2 has; the config then holds alpha = 0.
        self.has_entropy = config.T >= {"released": 3, "paper": 2}[config.entropy]
        sizes = observation_size, action_size
        self.sde = MeanRevertingSDE(config.T, device)
        self.policy = DiffusionPolicy(
            configs, seeds, *sizes, device, self.sde, config.diffusion_loss, config.action_clip
        )
        self.average = AveragedPolicy(configs, self.policy)
        self.critics = Critics(configs, seeds, *sizes, device, config.M)
        self.state_alpha = StateAlpha(configs, seeds, *sizes, device) if config.temperature == "automatic" else None

    @property
    def candidates(self) -> int:
        """Actions sampled to act, where the config says nothing else."""
        return self.config.candidates

    def draw_noise(self, generator: torch.Generator, steps: int) -> dict[str, Tensor]:
        """Everything random in `steps` updates of one run, each tensor [steps, ...].

        next_action [steps, B * K, T, A] (K = `max_q_actions`, or 1), t [steps, B], eps and a_T [steps, B, A].
        """
        batch = self.config.batch_size
        next_actions = batch * (self.config.max_q_actions if self.config.max_q_backup else 1)
        return {
            "next_action": self.policy.draw_chain(generator, steps, next_actions),
            **self.policy.draw_noise(generator, steps),
            "a_T": torch.randn(steps, batch, self.policy.action_size, generator=generator, device=self.device),
        }

    @torch.no_grad()
    def target(self, batch: Batch, noise: Noise) -> Tensor:
        """y^m = r + gamma (1 - done) Q_target^m(s', a'), one for each member, [R, M, B] (Eq. 16).

        a' is sampled from the averaged policy; with the max-Q backup each member takes its maximum over K of them. With
        shared targets all members have that of the pessimistic value, [R, 1, B].
        """
        next_actions = self.policy.sample(self.average.weights, batch.next_observations, noise["next_action"])
        q_next = self.critics.target_q(batch.next_observations, next_actions)
        if self.config.max_q_backup:
            q_next = q_next.unflatten(2, (-1, self.config.max_q_actions)).amax(dim=3)
        if self.config.targets == "shared":
            q_next = self.pessimistic(q_next).unsqueeze(1)
        return self.critics.backed_up(batch, q_next)

    def pessimistic(self, q: Tensor) -> Tensor:
        """What the policy improves of q [R, M, B]: the lower confidence bound (Eq. 17), or the least, [R, B]."""
        return lower_confidence_bound(q, self.beta) if self.config.pessimism == "lcb" else q.amin(dim=1)

    def critic_loss(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over batch and members of (Q^m - y^m)^2, [R] (Eq. 16); the critics keep its gradient."""
        return self.critics.loss(batch, self.target(batch, noise))

    def actor_loss(self, batch: Batch, noise: Noise, q_scale_of_data: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Diffusion loss, Q loss and entropy of each run, [R] (Eq. 15), at the one-step estimates of the actions.

        `released`: L_diff - eta E[LCB] / E|Q| - E[alpha H] / E|H|, Q being that of the estimates.
        `paper`:    L_diff - eta / E|Q| E[LCB + alpha H], Q being that of the data's pairs.
        No denominator passes gradients, and no automatic alpha. The critics see the estimates clipped to [-1, 1], the
        entropy sees them raw.

        Args:
            q_scale_of_data: E|Q| over the batch's pairs and all members, [R].
        """
        diffusion_loss, a_0, eps_phi = self.policy.diffusion_loss(batch.observations, batch.actions, noise)
        q = self.critics.q_of_actions(batch.observations, a_0.clamp(-1, 1))
        lcb = self.pessimistic(q).mean(dim=1)
        if not self.has_entropy:
            sample_entropy = torch.zeros_like(a_0[..., 0])
        elif self.config.entropy == "released":
            sample_entropy = entropy.released(self.sde, a_0, noise["a_T"])
        else:
            sample_entropy = entropy.paper(self.sde, a_0, eps_phi, noise["a_T"])
        bonus, info = self._entropy_bonus(batch.observations, sample_entropy)

        if self.config.objective == "released":
            q_loss = -lcb / q.detach().abs().mean(dim=(1, 2))
            scale = sample_entropy.detach().abs().mean(dim=1) if self.has_entropy else 1.0
            loss = diffusion_loss + self.eta * q_loss - bonus / scale
        else:
            q_loss = -lcb / q_scale_of_data
            loss = diffusion_loss + self.eta * (q_loss - bonus / q_scale_of_data)
        return loss, info | {
            "actor_loss": loss.detach(),
            "diffusion_loss": diffusion_loss.detach(),
            "q_loss": q_loss.detach(),
            "entropy": sample_entropy.detach().mean(dim=1),
        }

    def _entropy_bonus(self, observations: Tensor, sample_entropy: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """E[alpha H], [R]; of an automatic alpha also its mean and, with gradients, its loss."""
        if self.state_alpha is None:
            return self.alpha * sample_entropy.mean(dim=1), {}
        alpha = self.state_alpha(observations)
        info = {"alpha": alpha.detach().mean(dim=1), "alpha_loss": self.state_alpha.loss(alpha, sample_entropy)}
        return (alpha.detach() * sample_entropy).mean(dim=1), info

    def update(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """One step: critics, policy, and what follows them. Returns detached logs [R]."""
        self.count += 1
        scale = self.learning_rate_scale()
        _, critic_info = self.critic_loss(batch, noise)
        self.critics.step(critic_info["critic_grad_norm"], self.count, scale)
        actor_loss, actor_info = self.actor_loss(batch, noise, critic_info.pop("q_scale_of_data"))
        actor_info["actor_grad_norm"] = self.policy.step(
            actor_loss, self.count, scale, *self.average.following(self.count)
        )
        if self.state_alpha is not None:
            self.state_alpha.step(actor_info["alpha_loss"], self.count, torch.ones_like(scale))
            actor_info["alpha_loss"] = actor_info["alpha_loss"].detach()
        return critic_info | actor_info

    def draw_acting_noise(self, generator: torch.Generator, episodes: int, candidates: int) -> dict[str, Tensor]:
        """Everything random in one action for each episode of one run."""
        return draw_candidates(self.policy, generator, episodes, candidates)

    def act(self, observations: Tensor, noise: Noise) -> Tensor:
        """Actions [R, E, A]: K candidates of the raw policy, one chosen with softmax(LCB of the target critics)."""

        def value(states: Tensor, actions: Tensor) -> Tensor:
            return self.pessimistic(self.critics.target_q(states, actions))

        return act_by_candidates(self.policy, value, self.config.M, observations, noise)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, each [R, P]."""
        of_alpha = {} if self.state_alpha is None else self.state_alpha.tensors
        return {**self.policy.tensors, "average": self.average.weights.flat, **self.critics.tensors, **of_alpha}

    @property
    def acting_tensors(self) -> dict[str, Tensor]:
        """Those that acting needs."""
        return {"actor": self.policy.weights.flat, "target_critics": self.critics.targets.flat}
