"""ERDP: entropy-regularised diffusion policy with a Q-ensemble (https://arxiv.org/abs/2402.04080).

One algorithm, one file, read top to bottom: critic loss, actor loss, update, act. R runs train at once; a run's loss is
a mean over its batch, the pack's loss is the sum over runs. Q has shape [R, M, B], everything else [R, B, ...].
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core import entropy
from erdp_core.algorithms import Batch, Noise, State, numbers, read_run, stream, write_run
from erdp_core.config import ErdpConfig, RunConfig
from erdp_core.diffusion_policy import DiffusionPolicy
from erdp_core.ensemble import CriticEnsemble, lower_confidence_bound
from erdp_core.optimiser import Adam
from erdp_core.weights import Weights

ACTING_BYTES = 256 * 2**20
"""Bound on the memory that one chunk of acting may take."""


class ERDP:
    """R runs of ERDP."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        observation_size: int,
        action_size: int,
        device: torch.device,
    ) -> None:
        config = configs[0].agent
        assert isinstance(config, ErdpConfig)
        self.config = config
        self.device = device
        self.count = torch.zeros((), dtype=torch.int64, device=device)
        """Updates."""
        self.alpha, self.beta, self.eta, self.gamma, self.tau, self.ema_decay = (
            numbers(configs, name, device) for name in ("alpha", "beta", "eta", "gamma", "tau", "ema_decay")
        )
        # The entropy needs more steps than T = 1 or 2 has; the config then holds alpha = 0.
        self.has_entropy = config.T >= {"released": 3, "paper": 2}[config.entropy]

        self.policy = DiffusionPolicy(configs, seeds, observation_size, action_size, device)
        self.average = Weights(self.policy.network.shapes, len(configs), device)
        self.average.flat.copy_(self.policy.weights.flat.detach())

        precision = getattr(torch, configs[0].trainer.precision)
        self.ensemble = CriticEnsemble(observation_size, action_size, config.M, config.width, config.layers, precision)
        self.critics = Weights(self.ensemble.shapes, len(configs), device)
        self.target_critics = Weights(self.ensemble.shapes, len(configs), device)
        for run, seed in enumerate(seeds):
            self.ensemble.initialise(self.critics.of_run[run], stream(device, seed, "critics"))
        self.target_critics.flat.copy_(self.critics.flat)
        self.critics_gradient = Weights(self.ensemble.shapes, len(configs), device)
        self.critics_optimiser = Adam(
            self.critics.flat, numbers(configs, "critic_lr", device), numbers(configs, "grad_norm", device)
        )

    @property
    def candidates(self) -> int:
        """Actions sampled to act, where the config says nothing else."""
        return self.config.candidates

    def draw_noise(self, generator: torch.Generator, steps: int) -> dict[str, Tensor]:
        """Everything random in `steps` updates of one run, each tensor [steps, ...].

        next_action [steps, B * K, T, A] (K = `max_q_actions`, or 1), t [steps, B], eps and a_T [steps, B, A].
        """
        batch, action_size = self.config.batch_size, self.policy.action_size
        next_actions = batch * (self.config.max_q_actions if self.config.max_q_backup else 1)

        def normal(*shape: int) -> Tensor:
            return torch.randn(steps, *shape, generator=generator, device=self.device)

        return {
            "next_action": normal(next_actions, self.config.T, action_size),
            **self.policy.draw_noise(generator, steps),
            "a_T": normal(batch, action_size),
        }

    @torch.no_grad()
    def target(self, batch: Batch, noise: Noise) -> Tensor:
        """y^m = r + gamma (1 - done) Q_target^m(s', a'), one for each member, [R, M, B] (Eq. 16).

        a' is sampled from the averaged policy; with the max-Q backup each member takes its maximum over K of them.
        """
        next_actions = self.policy.sample(self.average, batch.next_observations, noise["next_action"])
        q_next = self.ensemble.q(self.target_critics, batch.next_observations, next_actions)
        if self.config.max_q_backup:
            q_next = q_next.unflatten(2, (-1, self.config.max_q_actions)).amax(dim=3)
        discount = self.gamma.unsqueeze(1) * (1 - batch.terminals)
        return batch.rewards.unsqueeze(1) + discount.unsqueeze(1) * q_next

    def critic_loss(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over batch and members of (Q^m - y^m)^2, [R] (Eq. 16); its gradient is in `critics_gradient`."""
        targets = self.target(batch, noise)
        q, norm = self.ensemble.regress(self.critics, batch.observations, batch.actions, targets, self.critics_gradient)
        loss = ((q - targets) ** 2).mean(dim=(1, 2))
        return loss, {
            "critic_loss": loss,
            "critic_grad_norm": norm,
            "q_mean": q.mean(dim=(1, 2)),
            "q_scale_of_data": q.abs().mean(dim=(1, 2)),
        }

    def actor_loss(self, batch: Batch, noise: Noise, q_scale_of_data: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Diffusion loss, Q loss and entropy of each run, [R] (Eq. 15), at the one-step estimates of the actions.

        `released`: L_diff - eta E[LCB] / E|Q| - alpha E[H] / E|H|, Q being that of the estimates.
        `paper`:    L_diff - eta / E|Q| (E[LCB] + alpha E[H]), Q being that of the data's pairs.
        No denominator passes gradients. The critics see the estimates clipped to [-1, 1], the entropy sees them raw.

        Args:
            q_scale_of_data: E|Q| over the batch's pairs and all members, [R].
        """
        diffusion_loss, a_0, eps_phi = self.policy.diffusion_loss(batch.observations, batch.actions, noise)
        q = self.ensemble.q_of_actions(self.critics, batch.observations, a_0.clamp(-1, 1))
        lcb = lower_confidence_bound(q, self.beta).mean(dim=1)
        if not self.has_entropy:
            sample_entropy = torch.zeros_like(a_0[..., 0])
        elif self.config.entropy == "released":
            sample_entropy = entropy.released(self.policy.sde, a_0, noise["a_T"])
        else:
            sample_entropy = entropy.paper(self.policy.sde, a_0, eps_phi, noise["a_T"])
        mean_entropy = sample_entropy.mean(dim=1)

        if self.config.objective == "released":
            q_loss = -lcb / q.detach().abs().mean(dim=(1, 2))
            scale = sample_entropy.detach().abs().mean(dim=1) if self.has_entropy else 1.0
            loss = diffusion_loss + self.eta * q_loss - self.alpha * mean_entropy / scale
        else:
            q_loss = -lcb / q_scale_of_data
            loss = diffusion_loss + self.eta * (q_loss - self.alpha * mean_entropy / q_scale_of_data)
        return loss, {
            "actor_loss": loss.detach(),
            "diffusion_loss": diffusion_loss.detach(),
            "q_loss": q_loss.detach(),
            "entropy": mean_entropy.detach(),
        }

    def update(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """One step: critics, policy, and what follows them. Returns detached logs [R]."""
        self.count += 1
        scale = self.policy.learning_rate_scale(self.count)

        _, critic_info = self.critic_loss(batch, noise)
        followed = self.target_critics.flat, self.tau
        norm = critic_info["critic_grad_norm"]
        self.critics_optimiser.step(self.critics_gradient.flat, self.count, scale, *followed, norm)

        q_scale_of_data = critic_info.pop("q_scale_of_data")
        actor_loss, actor_info = self.actor_loss(batch, noise, q_scale_of_data)
        gradient = self.policy.weights.gradient(actor_loss.sum())
        updates_before = self.count - 1
        follows = (updates_before >= self.config.ema_from) & (updates_before % self.config.ema_every == 0)
        actor_info["actor_grad_norm"] = self.policy.optimiser.step(
            gradient, self.count, scale, self.average.flat, torch.where(follows, 1 - self.ema_decay, 0.0)
        )
        return critic_info | actor_info

    def draw_acting_noise(self, generator: torch.Generator, episodes: int, candidates: int) -> dict[str, Tensor]:
        """Everything random in one action for each episode of one run: chain [E, K, T, A], gumbel [E, K]."""
        chain = (episodes, candidates, self.config.T, self.policy.action_size)
        uniform = torch.rand(episodes, candidates, generator=generator, device=self.device)
        return {
            "chain": torch.randn(chain, generator=generator, device=self.device),
            "gumbel": -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7))),
        }

    @torch.no_grad()
    def act(self, observations: Tensor, noise: Noise) -> Tensor:
        """Actions [R, E, A]: K candidates of the raw policy, one chosen with softmax(LCB of the target critics).

        Adding Gumbel noise and taking the maximum is a draw from the softmax. Goes in chunks of bounded memory.
        """
        runs, episodes, candidates = noise["gumbel"].shape
        members = self.config.M if candidates > 1 else 1
        bytes_per_episode = runs * candidates * members * self.config.width * 4 * 3
        chunk = max(1, ACTING_BYTES // bytes_per_episode)
        return torch.cat(
            [
                self._act(
                    observations[:, start : start + chunk],
                    noise["chain"][:, start : start + chunk],
                    noise["gumbel"][:, start : start + chunk],
                )
                for start in range(0, episodes, chunk)
            ],
            dim=1,
        )

    def _act(self, observations: Tensor, chain: Tensor, gumbel: Tensor) -> Tensor:
        actions = self.policy.sample(self.policy.weights, observations, chain.flatten(1, 2))
        if gumbel.shape[2] == 1:
            return actions
        lcb = lower_confidence_bound(self.ensemble.q(self.target_critics, observations, actions), self.beta)
        chosen = (lcb.unflatten(1, gumbel.shape[1:]) + gumbel).argmax(dim=2)
        rows = chosen[..., None, None].expand(-1, -1, 1, actions.shape[-1])
        best: Tensor = actions.unflatten(1, gumbel.shape[1:]).gather(2, rows).squeeze(2)
        return best

    @property
    def _tensors(self) -> dict[str, Tensor]:
        return {
            **self.policy.tensors,
            "average": self.average.flat,
            "critics": self.critics.flat,
            "critics_first_moment": self.critics_optimiser.first_moment,
            "critics_second_moment": self.critics_optimiser.second_moment,
            "target_critics": self.target_critics.flat,
        }

    def state(self, run: int) -> State:
        """Everything that training of a run goes on from, but its random streams."""
        return {"count": int(self.count), **read_run(self._tensors, run)}

    def load_state(self, run: int, state: State) -> None:
        """The inverse of `state`."""
        self.count.fill_(state["count"])
        write_run(self._tensors, run, state)

    @property
    def _acting_tensors(self) -> dict[str, Tensor]:
        return {"actor": self.policy.weights.flat, "target_critics": self.target_critics.flat}

    def policy_state(self, run: int) -> State:
        """What acting needs of a run."""
        return read_run(self._acting_tensors, run)

    def load_policy_state(self, run: int, state: State) -> None:
        """The inverse of `policy_state`."""
        write_run(self._acting_tensors, run, state)
