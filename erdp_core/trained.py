"""Weights that gradients change, with their optimiser: policies, values of states."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from erdp_core.algorithms import numbers, stream
from erdp_core.config import RunConfig
from erdp_core.optimiser import Adam
from erdp_core.weights import Weights


class Trained:
    """The weights of R runs; setting `grad_norm`, and the learning rate's."""

    def __init__(
        self,
        name: str,
        rate: str,
        shapes: Mapping[str, tuple[int, ...]],
        initialise: Callable[[Mapping[str, Tensor], torch.Generator], None],
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        """
        name: in states, and of the random stream that weights begin from.
        rate: the setting that is their learning rate.
        shapes: of a run's tensors.
        initialise: gives one run's tensors their first values.
        """
        self.name = name
        self.weights = Weights(shapes, len(configs), device)
        for run, seed in enumerate(seeds):
            initialise(self.weights.of_run[run], stream(device, seed, name))
        self.weights.require_grad(True)
        self.optimiser = Adam(self.weights.flat, numbers(configs, rate, device), numbers(configs, "grad_norm", device))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, each [R, P]."""
        return {
            self.name: self.weights.flat,
            f"{self.name}_first_moment": self.optimiser.first_moment,
            f"{self.name}_second_moment": self.optimiser.second_moment,
        }

    def step(
        self,
        loss: Tensor,
        count: Tensor,
        scale: Tensor,
        follower: Tensor | None = None,
        tau: Tensor | None = None,
        active: Tensor | None = None,
    ) -> Tensor:
        """One update by the gradient of losses [R], see `Adam.step`; returns the gradient's norms [R]."""
        gradient = self.weights.gradient(loss.sum())
        return self.optimiser.step(gradient, count, scale, follower, tau, active=active)
