"""The diffusion policy that ERDP and behaviour cloning share: noise network, SDE, loss and optimiser."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.algorithms import Noise, numbers, stream
from erdp_core.config import RunConfig
from erdp_core.networks import NoiseNetwork
from erdp_core.optimiser import Adam
from erdp_core.sde import MeanRevertingSDE
from erdp_core.weights import Weights


class DiffusionPolicy:
    """The policies of a pack's R runs."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        observation_size: int,
        action_size: int,
        device: torch.device,
    ) -> None:
        config = configs[0].agent
        self.config = config
        self.steps = configs[0].trainer.steps
        self.action_size = action_size
        self.device = device
        self.sde = MeanRevertingSDE(config.T, device)
        self.network = NoiseNetwork(observation_size, action_size, config.T, config.width, config.layers).to(device)
        self.weights = Weights(self.network.shapes, len(configs), device)
        for run, seed in enumerate(seeds):
            self.network.initialise(self.weights.of_run[run], stream(device, seed, "actor"))
        self.weights.require_grad(True)
        self.optimiser = Adam(
            self.weights.flat, numbers(configs, "actor_lr", device), numbers(configs, "grad_norm", device)
        )

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, each [R, P]."""
        return {
            "actor": self.weights.flat,
            "actor_first_moment": self.optimiser.first_moment,
            "actor_second_moment": self.optimiser.second_moment,
        }

    def draw_noise(self, generator: torch.Generator, steps: int) -> dict[str, Tensor]:
        """Times and noises of one run's diffusion loss: t [steps, B], eps [steps, B, A]."""
        batch = self.config.batch_size
        return {
            "t": torch.randint(1, self.config.T + 1, (steps, batch), generator=generator, device=self.device),
            "eps": torch.randn(steps, batch, self.action_size, generator=generator, device=self.device),
        }

    def diffusion_loss(self, observations: Tensor, actions: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """L_diff [R], with the estimates of a_0 (Eq. 8) and the predicted noise it rests on, both [R, B, A]."""
        t, eps = noise["t"], noise["eps"]
        a_t = self.sde.diffuse(actions, t, eps)
        eps_phi = self.network.eps_phi(self.weights, a_t, t, observations)
        loss = self.sde.diffusion_loss(self.config.diffusion_loss, actions, a_t, t, eps, eps_phi).mean(dim=(1, 2))
        return loss, self.sde.a_0_from_noise(a_t, t, eps_phi), eps_phi

    def learning_rate_scale(self, count: Tensor) -> Tensor:
        """Factor on the learning rates at the count-th update, in double precision."""
        if self.config.lr_decay == "off":
            return torch.ones_like(count, dtype=torch.float64)
        return 0.5 * (1 + torch.cos((count.double() - 1) * (math.pi / self.steps)))

    @torch.no_grad()
    def sample(self, weights: Weights, observations: Tensor, noise: Tensor) -> Tensor:
        """K actions for each state, [R, B * K, A], by the full chain of the given weights.

        Args:
            weights: the policy's own or an average of them.
            observations: [R, B, O].
            noise: [R, B * K, T, A], a state's actions one after the other.
        """
        predict_noise = self.network.sampler(weights, observations, noise.shape[1] // observations.shape[1])
        return self.sde.sample(predict_noise, noise.movedim(2, 0), self.config.action_clip)
