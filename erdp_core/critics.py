"""The critics of a pack's runs, with what follows them: gradient, optimiser, target copies.

R runs, M members, B batch, O observation size, A action size; Q is [R, M, B].
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.algorithms import Batch, numbers, stream
from erdp_core.config import RunConfig
from erdp_core.ensemble import CriticEnsemble, Start
from erdp_core.networks import Activation
from erdp_core.optimiser import Adam
from erdp_core.weights import Weights


class Critics:
    """M critics of each run and their target copies; settings `gamma`, `tau`, `critic_lr`, `grad_norm`."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        observation_size: int,
        action_size: int,
        device: torch.device,
        M: int,
        activation: Activation = "mish",
        start: Start = "published",
        sum_of_members: bool = False,
    ) -> None:
        """
        M: members.
        start: how weights begin, see `CriticEnsemble.initialise`.
        sum_of_members: the loss is the sum of the members' mean squared errors, not their mean: clipping tells.
        """
        config = configs[0].agent
        self.ensemble = CriticEnsemble(
            observation_size,
            action_size,
            M,
            config.width,
            config.layers,
            getattr(torch, configs[0].trainer.precision),
            activation,
        )
        self.factor = M if sum_of_members else 1
        self.gamma, self.tau = numbers(configs, "gamma", device), numbers(configs, "tau", device)
        self.weights, self.targets, self.gradient = (
            Weights(self.ensemble.shapes, len(configs), device) for _ in range(3)
        )
        for run, seed in enumerate(seeds):
            self.ensemble.initialise(self.weights.of_run[run], stream(device, seed, "critics"), start)
        self.targets.flat.copy_(self.weights.flat)
        self.optimiser = Adam(
            self.weights.flat, numbers(configs, "critic_lr", device), numbers(configs, "grad_norm", device)
        )

    @property
    def M(self) -> int:
        """Members."""
        return self.ensemble.M

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, each [R, P]."""
        return {
            "critics": self.weights.flat,
            "critics_first_moment": self.optimiser.first_moment,
            "critics_second_moment": self.optimiser.second_moment,
            "target_critics": self.targets.flat,
        }

    def target_q(self, observations: Tensor, actions: Tensor) -> Tensor:
        """The target copies' Q [R, M, B * K] of states [R, B, O] and K actions of each; no gradients."""
        return self.ensemble.q(self.targets, observations, actions)

    def q_of_actions(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Q [R, M, B]; gradients go to the actions [R, B, A] alone."""
        return self.ensemble.q_of_actions(self.weights, observations, actions)

    def q_with_gradients(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Q [R, M, B] of pairs [R, B, O] and [R, B, A], with gradients at the critics; they must require them."""
        return self.ensemble.q_with_gradients(self.weights, observations, actions)

    def backed_up(self, batch: Batch, next_values: Tensor) -> Tensor:
        """r + gamma (1 - done) of the next values [R, M, B], or [R, 1, B] where members share them."""
        discount = self.gamma.unsqueeze(1) * (1 - batch.terminals)
        return batch.rewards.unsqueeze(1) + discount.unsqueeze(1) * next_values

    def loss(self, batch: Batch, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over batch and members of (Q^m - y^m)^2, or the sum over members, [R]; its gradient is kept for `step`.

        targets: y, [R, M, B].
        """
        targets = targets.expand(-1, self.M, -1)
        q, norm = self.ensemble.regress(
            self.weights, batch.observations, batch.actions, targets, self.gradient, self.factor
        )
        loss = self.factor * ((q - targets) ** 2).mean(dim=(1, 2))
        return loss, {
            "critic_loss": loss,
            "critic_grad_norm": norm,
            "q_mean": q.mean(dim=(1, 2)),
            "q_scale_of_data": q.abs().mean(dim=(1, 2)),
        }

    def step(self, norm: Tensor, count: Tensor, scale: Tensor, tau: Tensor | None = None) -> None:
        """One update by the gradient that `loss` left, of that norm [R]; the targets follow.

        count: updates including this one. scale: factor on the learning rate. tau: [R], in place of the config's.
        """
        tau = self.tau if tau is None else tau
        self.optimiser.step(self.gradient.flat, count, scale, self.targets.flat, tau, norm)

    def step_along(self, loss: Tensor, count: Tensor, scale: Tensor) -> Tensor:
        """One update by the gradient of losses [R] at the critics; the targets follow. Returns the norms [R]."""
        gradient = self.weights.gradient(loss.sum())
        return self.optimiser.step(gradient, count, scale, self.targets.flat, self.tau)
