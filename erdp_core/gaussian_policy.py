"""Gaussian policies: with a mean in [-1, 1] (BC, TD3+BC, IQL), and squashed as in SAC (CQL, MSG).

R runs, B batch, K actions a state, O observation size, A action size.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.algorithms import numbers
from erdp_core.config import RunConfig
from erdp_core.mlp import MLP
from erdp_core.optimiser import Adam
from erdp_core.trained import Trained
from erdp_core.weights import Weights

LOG_STD_LIMITS = (-5.0, 2.0)
"""As in IQL's released code."""
SQUASHED_LOG_STD_LIMITS = (-20.0, 2.0)
"""As in SAC's."""
LARGEST_ACTION = 1 - 1e-6
"""Of the data, where a squashed density is taken: it is infinitely far out at 1."""


class GaussianPolicy(Trained):
    """The policies of a pack's R runs: tanh(MLP(s)), and exp(log_std) whatever the state."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        observation_size: int,
        action_size: int,
        device: torch.device,
        has_std: bool,
    ) -> None:
        config = configs[0].agent
        self.network = MLP(observation_size, action_size, config.width, config.layers)
        self.shapes = self.network.shapes | ({"log_std": (action_size,)} if has_std else {})
        super().__init__("actor", "actor_lr", self.shapes, self.network.initialise, configs, seeds, device)

    def mean(self, observations: Tensor, weights: Weights | None = None) -> Tensor:
        """Actions [R, B, A] for states [R, B, O]; of other weights than its own where they are given."""
        return torch.tanh(self.network(self.weights if weights is None else weights, observations))

    def log_probability(self, observations: Tensor, actions: Tensor) -> Tensor:
        """log N(a | mean(s), std), [R, B], of actions [R, B, A], the density not being cut at +-1."""
        log_std = self.weights["log_std"].clamp(*LOG_STD_LIMITS).unsqueeze(1)
        standard = (actions - self.mean(observations)) * torch.exp(-log_std)
        return (-0.5 * standard**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(dim=2)


class SquashedGaussianPolicy(Trained):
    """The policies of a pack's R runs: tanh of a normal variable whose mean and standard deviation are networks."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        observation_size: int,
        action_size: int,
        device: torch.device,
    ) -> None:
        config = configs[0].agent
        self.batch_size = config.batch_size
        self.action_size = action_size
        self.device = device
        self.network = MLP(observation_size, 2 * action_size, config.width, config.layers)
        super().__init__("actor", "actor_lr", self.network.shapes, self.network.initialise, configs, seeds, device)

    def draw(self, generator: torch.Generator, steps: int, actions: int = 1) -> Tensor:
        """The noise of so many actions for each state of a batch, [steps, B, K, A]."""
        shape = (steps, self.batch_size, actions, self.action_size)
        return torch.randn(shape, generator=generator, device=self.device)

    def sample(self, observations: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        """K actions for each state, [R, B * K, A], and their log density, [R, B * K].

        observations: [R, B, O]. eps: [R, B, K, A].
        """
        mean, log_std = (part.unsqueeze(2) for part in self._normal(observations))
        before = mean + torch.exp(log_std) * eps
        normal = (-0.5 * eps**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(dim=3)
        density = normal - _log_slope(before).sum(dim=3)
        return torch.tanh(before).flatten(1, 2), density.flatten(1, 2)

    def log_probability(self, observations: Tensor, actions: Tensor) -> Tensor:
        """log pi(a | s), [R, B], of given actions [R, B, A]."""
        mean, log_std = self._normal(observations)
        before = torch.atanh(actions.clamp(-LARGEST_ACTION, LARGEST_ACTION))
        standard = (before - mean) * torch.exp(-log_std)
        normal = -0.5 * standard**2 - log_std - 0.5 * math.log(2 * math.pi)
        return (normal - _log_slope(before)).sum(dim=2)

    def mode(self, observations: Tensor) -> Tensor:
        """tanh of the mean, [R, B, A]."""
        return torch.tanh(self._normal(observations)[0])

    def _normal(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.network(self.weights, observations).chunk(2, dim=2)
        return mean, log_std.clamp(*SQUASHED_LOG_STD_LIMITS)


def _log_slope(before: Tensor) -> Tensor:
    """log(1 - tanh(u)^2), without the difference."""
    return 2 * (math.log(2) - before - torch.nn.functional.softplus(-2 * before))


class Temperature:
    """The learned temperature of each run's entropy, alpha = exp(log_alpha); the entropy aims at -(action size)."""

    def __init__(self, configs: Sequence[RunConfig], action_size: int, device: torch.device) -> None:
        self.target = -float(action_size)
        self.log_alpha = torch.zeros(len(configs), 1, device=device)
        self.optimiser = Adam(
            self.log_alpha, numbers(configs, "temperature_lr", device), torch.zeros(len(configs), device=device)
        )

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, each [R, 1]."""
        return {
            "log_alpha": self.log_alpha,
            "log_alpha_first_moment": self.optimiser.first_moment,
            "log_alpha_second_moment": self.optimiser.second_moment,
        }

    @property
    def alpha(self) -> Tensor:
        """[R]"""
        return self.log_alpha.squeeze(1).exp()

    def step(self, log_probability: Tensor, count: Tensor) -> None:
        """One update of log_alpha by E[-log_alpha (log pi + target)], for log pi [R, B] of the policy's actions."""
        gradient = -(log_probability.detach() + self.target).mean(dim=1, keepdim=True)
        self.optimiser.step(gradient, count, torch.ones_like(count, dtype=torch.float64))
