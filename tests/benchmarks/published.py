"""The structure of the published implementation, in code of our own: what a step is measured against.

One run; eager torch modules; the ensemble as batched products on concatenated, repeated inputs; targets computed with
autograd on; critics not frozen in the actor's step; loops over parameters for the averages; torch's own Adam; rows
drawn on the host; five numbers fetched from the device each step; acting for one state at a time. The mathematics is
`erdp_core`'s (released forms): a test holds that both come to the same numbers.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erdp_core import entropy
from erdp_core.agent import ERDP
from erdp_core.algorithms import Batch
from erdp_core.sde import MeanRevertingSDE

TIME_FEATURES = 16


class _TimeFeatures(nn.Module):
    def forward(self, t: Tensor) -> Tensor:
        half = TIME_FEATURES // 2
        frequencies = torch.exp(torch.arange(half, device=t.device) * -(math.log(10000) / (half - 1)))
        angles = t[:, None] * frequencies[None, :]
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


class _Actor(nn.Module):
    """eps_phi(a_t [B, A], t [B], s [B, O])."""

    def __init__(self, observation_size: int, action_size: int, width: int, layers: int) -> None:
        super().__init__()
        self.time = nn.Sequential(
            _TimeFeatures(),
            nn.Linear(TIME_FEATURES, 2 * TIME_FEATURES),
            nn.Mish(),
            nn.Linear(2 * TIME_FEATURES, TIME_FEATURES),
        )
        hidden: list[nn.Module] = []
        inputs = action_size + TIME_FEATURES + observation_size
        for _ in range(layers):
            hidden += [nn.Linear(inputs, width), nn.Mish()]
            inputs = width
        self.hidden = nn.Sequential(*hidden)
        self.last = nn.Linear(width, action_size)

    def forward(self, a_t: Tensor, t: Tensor, state: Tensor) -> Tensor:
        out: Tensor = self.last(self.hidden(torch.cat([a_t, self.time(t - 1), state], dim=1)))
        return out


class _EnsembleLinear(nn.Module):
    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(x, self.weight) + self.bias


class _Critic(nn.Module):
    """Q [M, B] of s [B, O] and a [B, A]."""

    def __init__(self, inputs: int, members: int, width: int, layers: int) -> None:
        super().__init__()
        self.members = members
        modules: list[nn.Module] = []
        for _ in range(layers):
            modules += [_EnsembleLinear(members, inputs, width), nn.Mish()]
            inputs = width
        self.network = nn.Sequential(*modules, _EnsembleLinear(members, width, 1))

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        pairs = torch.cat([state, action], dim=-1)
        out: Tensor = self.network(pairs.unsqueeze(0).repeat(self.members, 1, 1))
        return out.squeeze(-1)


class PublishedERDP:
    """One run, from the weights of the first run of one of ours."""

    def __init__(self, ours: ERDP) -> None:
        config = ours.config
        if config.objective != "released" or config.entropy != "released":
            raise ValueError("the published implementation has the released forms only")
        self.config = config
        self.device = ours.device
        self.alpha, self.beta, self.eta, self.gamma, self.tau = (
            float(value[0]) for value in (ours.alpha, ours.beta, ours.eta, ours.critics.gamma, ours.critics.tau)
        )
        self.ema_decay = 1 - float(ours.average.step[0])
        observation_size, action_size = ours.critics.ensemble.observation_size, ours.policy.action_size
        self.action_size = action_size
        self.sde = MeanRevertingSDE(config.T, self.device)
        self.actor = _Actor(observation_size, action_size, config.width, config.layers).to(self.device)
        self.critic = _Critic(observation_size + action_size, config.M, config.width, config.layers).to(self.device)
        with torch.no_grad():
            weights = ours.policy.weights.of_run[0]
            for parameter, name in zip(self.actor.parameters(), weights, strict=True):
                parameter.copy_(weights[name].T if parameter.ndim == 2 else weights[name])
            for parameter, tensor in zip(
                self.critic.parameters(), ours.critics.weights.of_run[0].values(), strict=True
            ):
                parameter.copy_(tensor)
        self.ema_actor = copy.deepcopy(self.actor)
        self.target_critic = copy.deepcopy(self.critic)
        self.actor_optimiser = torch.optim.Adam(
            self.actor.parameters(), lr=float(ours.policy.optimiser.learning_rate[0])
        )
        self.critic_optimiser = torch.optim.Adam(
            self.critic.parameters(), lr=float(ours.critics.optimiser.learning_rate[0])
        )
        self.count = 0

    def draw_batch(self, data: Batch) -> Batch:
        """Rows drawn on the host. data: columns [N, ...]."""
        rows = torch.randint(0, len(data.rewards), (self.config.batch_size,))
        return Batch(*(column[rows.to(self.device)] for column in data))

    def draw_noise(self) -> dict[str, Tensor]:
        """What is random in a step, as `ERDP.draw_noise` has it but for the run and the steps."""
        config, batch = self.config, self.config.batch_size
        rows = batch * (config.max_q_actions if config.max_q_backup else 1)
        return {
            "next_action": torch.randn(rows, config.T, self.action_size, device=self.device),
            "t": torch.randint(1, config.T + 1, (batch,), device=self.device),
            "eps": torch.randn(batch, self.action_size, device=self.device),
            "a_T": torch.randn(batch, self.action_size, device=self.device),
        }

    def _sample(self, actor: nn.Module, state: Tensor, noise: Tensor) -> Tensor:
        """Actions [B, A] by the whole chain; noise [B, T, A]."""

        def predict_noise(a_t: Tensor, t: int) -> Tensor:
            out: Tensor = actor(a_t, torch.full((len(a_t),), t, device=self.device), state)
            return out

        return self.sde.sample(predict_noise, noise.movedim(1, 0), self.config.action_clip)

    def _lcb(self, q: Tensor) -> Tensor:
        # Published, the spread of one member is not a number.
        return q.mean(dim=0) - self.beta * q.std(dim=0) if len(q) > 1 else q[0]

    def update(self, batch: Batch, noise: Mapping[str, Tensor]) -> dict[str, float]:
        """One step; batch and noise without a run axis."""
        config = self.config
        self.count += 1
        state, action = batch.observations, batch.actions

        q = self.critic(state, action)
        if config.max_q_backup:
            repeated = batch.next_observations.repeat_interleave(config.max_q_actions, dim=0)
            next_action = self._sample(self.ema_actor, repeated, noise["next_action"])
            target = self.target_critic(repeated, next_action).view(config.M, -1, config.max_q_actions).max(dim=2)[0]
        else:
            next_action = self._sample(self.ema_actor, batch.next_observations, noise["next_action"])
            target = self.target_critic(batch.next_observations, next_action)
        target = (batch.rewards + self.gamma * (1 - batch.terminals) * target).detach()
        critic_loss = F.mse_loss(q, target)
        self.critic_optimiser.zero_grad()
        critic_loss.backward()
        if config.grad_norm > 0:
            nn.utils.clip_grad_norm_(self.critic.parameters(), config.grad_norm)
        self.critic_optimiser.step()

        t, eps = noise["t"], noise["eps"]
        a_t = self.sde.diffuse(action, t, eps)
        eps_phi = self.actor(a_t, t, state)
        if config.diffusion_loss == "likelihood":
            diffusion_loss = self.sde.likelihood_loss(action, a_t, t, eps_phi).mean()
        else:
            diffusion_loss = F.mse_loss(eps_phi, eps)
        a_0 = self.sde.a_0_from_noise(a_t, t, eps_phi)
        q = self.critic(state, a_0.clamp(-1, 1))
        lcb = self._lcb(q)
        q_loss = -lcb.mean() / q.abs().mean().detach()
        sample_entropy = entropy.released(self.sde, a_0, noise["a_T"])
        entropy_loss = -sample_entropy.mean() / sample_entropy.abs().mean().detach()
        actor_loss = diffusion_loss + self.eta * q_loss + self.alpha * entropy_loss
        self.actor_optimiser.zero_grad()
        actor_loss.backward()
        if config.grad_norm > 0:
            nn.utils.clip_grad_norm_(self.actor.parameters(), config.grad_norm)
        self.actor_optimiser.step()

        with torch.no_grad():
            if self.count > config.ema_from and (self.count - 1) % config.ema_every == 0:
                for average, parameter in zip(self.ema_actor.parameters(), self.actor.parameters(), strict=True):
                    average.copy_(self.ema_decay * average + (1 - self.ema_decay) * parameter)
            for target_one, parameter in zip(self.target_critic.parameters(), self.critic.parameters(), strict=True):
                target_one.copy_(self.tau * parameter + (1 - self.tau) * target_one)
        return {
            "actor_loss": actor_loss.item(),
            "diffusion_loss": diffusion_loss.item(),
            "q_loss": q_loss.item(),
            "critic_loss": critic_loss.item(),
            "entropy": sample_entropy.mean().item(),
        }

    @torch.no_grad()
    def act(self, observation: Any) -> Any:
        """One action [A] for one observation [O]: candidates sampled, one chosen with softmax(LCB of the targets)."""
        candidates = self.config.candidates
        state = torch.as_tensor(observation, dtype=torch.float32, device=self.device).reshape(1, -1)
        repeated = state.repeat_interleave(candidates, dim=0)
        noise = torch.randn(candidates, self.config.T, self.action_size, device=self.device)
        actions = self._sample(self.actor, repeated, noise)
        q = self.target_critic(repeated, actions)
        lcb = self._lcb(q)
        chosen = torch.multinomial(F.softmax(lcb, dim=0), 1)
        return actions[chosen].cpu().numpy().flatten()
