"""The diffusion policy that several methods share: noise network, process, loss and optimiser."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from erdp_core.agent_configs import DiffusionQlConfig, ErdpConfig
from erdp_core.algorithms import Noise, numbers
from erdp_core.config import RunConfig
from erdp_core.networks import NoiseNetwork
from erdp_core.sde import Diffusion, MeanRevertingSDE
from erdp_core.trained import Trained
from erdp_core.weights import Weights


class DiffusionPolicy(Trained):
    """The policies of a pack's R runs."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        observation_size: int,
        action_size: int,
        device: torch.device,
        process: Diffusion,
        loss: Literal["noise", "likelihood"] = "noise",
        action_clip: bool = True,
    ) -> None:
        """
        process: what turns actions into noise and back.
        loss: `noise`: (eps_phi - eps)^2; `likelihood`: `MeanRevertingSDE.likelihood_loss`.
        action_clip: clamp the estimates of a_0 to [-1, 1] at every sampling step.
        """
        config = configs[0].agent
        self.batch_size = config.batch_size
        self.action_size = action_size
        self.device = device
        self.process = process
        self.loss = loss
        self.action_clip = action_clip
        self.network = NoiseNetwork(observation_size, action_size, process.T, config.width, config.layers).to(device)
        super().__init__("actor", "actor_lr", self.network.shapes, self.network.initialise, configs, seeds, device)

    def draw_noise(self, generator: torch.Generator, steps: int) -> dict[str, Tensor]:
        """Times and noises of one run's diffusion loss: t [steps, B], eps [steps, B, A]."""
        size = (steps, self.batch_size)
        return {
            "t": torch.randint(1, self.process.T + 1, size, generator=generator, device=self.device),
            "eps": torch.randn(*size, self.action_size, generator=generator, device=self.device),
        }

    def diffusion_loss(self, observations: Tensor, actions: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """L_diff [R], with the estimates of a_0 (Eq. 8) and the predicted noise it rests on, both [R, B, A]."""
        loss, a_0, eps_phi = self.diffusion_losses(observations, actions, noise)
        return loss.mean(dim=1), a_0, eps_phi

    def diffusion_losses(self, observations: Tensor, actions: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """`diffusion_loss` with the loss of each row, [R, B]."""
        t, eps = noise["t"], noise["eps"]
        a_t = self.process.diffuse(actions, t, eps)
        eps_phi = self.network.eps_phi(self.weights, a_t, t, observations)
        if self.loss == "likelihood":
            assert isinstance(self.process, MeanRevertingSDE)
            loss = self.process.likelihood_loss(actions, a_t, t, eps_phi)
        else:
            loss = (eps_phi - eps) ** 2
        return loss.mean(dim=2), self.process.a_0_from_noise(a_t, t, eps_phi), eps_phi

    @torch.no_grad()
    def sample(self, weights: Weights, observations: Tensor, noise: Tensor) -> Tensor:
        """K actions for each state, [R, B * K, A], by the full chain of the given weights.

        Args:
            weights: the policy's own or an average of them.
            observations: [R, B, O].
            noise: [R, B * K, T, A], a state's actions one after the other.
        """
        predict_noise = self.network.sampler(weights, observations, noise.shape[1] // observations.shape[1])
        return self.process.sample(predict_noise, noise.movedim(2, 0), self.action_clip)

    def differentiable_sample(self, observations: Tensor, noise: Tensor) -> Tensor:
        """An action for each state, [R, B, A], with gradients at the policy's own weights through the whole chain.

        observations: [R, B, O]. noise: [R, B, T, A].
        """

        def predict_noise(a_t: Tensor, t: int) -> Tensor:
            times = torch.full(a_t.shape[:2], t, device=self.device)
            return self.network.eps_phi(self.weights, a_t, times, observations)

        return self.process.sample(predict_noise, noise.movedim(2, 0), self.action_clip)

    def draw_chain(self, generator: torch.Generator, *shape: int) -> Tensor:
        """The noise of sampling so many actions, [*shape, T, A]."""
        return torch.randn(*shape, self.process.T, self.action_size, generator=generator, device=self.device)


class AveragedPolicy:
    """The average of a policy's weights that samples the actions of the critics' targets.

    Settings `ema_decay`, `ema_every`, `ema_from`: before that step it stays the initial copy.
    """

    def __init__(self, configs: Sequence[RunConfig], policy: DiffusionPolicy) -> None:
        config = configs[0].agent
        assert isinstance(config, ErdpConfig | DiffusionQlConfig)
        self.every, self.start = config.ema_every, config.ema_from
        self.step = 1 - numbers(configs, "ema_decay", policy.device)
        self.weights = Weights(policy.network.shapes, len(configs), policy.device)
        self.weights.flat.copy_(policy.weights.flat.detach())

    def following(self, count: Tensor) -> tuple[Tensor, Tensor]:
        """What follows the policy at the count-th update, [R, P], and by which fraction [R]: for `Adam.step`."""
        before = count - 1
        follows = (before >= self.start) & (before % self.every == 0)
        return self.weights.flat, torch.where(follows, self.step, 0.0)
