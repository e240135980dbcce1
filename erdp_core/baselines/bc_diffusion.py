"""Behaviour cloning with ERDP's diffusion policy: the diffusion loss alone, one sample to act."""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.algorithms import Batch, Noise, State, read_run, write_run
from erdp_core.config import RunConfig
from erdp_core.diffusion_policy import DiffusionPolicy


class BcDiffusion:
    """R runs of diffusion behaviour cloning."""

    candidates = 1

    def __init__(
        self,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        observation_size: int,
        action_size: int,
        device: torch.device,
    ) -> None:
        self.device = device
        self.policy = DiffusionPolicy(configs, seeds, observation_size, action_size, device)
        self.count = torch.zeros((), dtype=torch.int64, device=device)
        """Updates."""

    def draw_noise(self, generator: torch.Generator, steps: int) -> dict[str, Tensor]:
        """Everything random in `steps` updates of one run, each tensor [steps, ...]."""
        return self.policy.draw_noise(generator, steps)

    def actor_loss(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """L_diff of each run, [R]."""
        loss, _, _ = self.policy.diffusion_loss(batch.observations, batch.actions, noise)
        return loss, {"diffusion_loss": loss.detach()}

    def update(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """One step of training. Returns detached logs [R]."""
        self.count += 1
        loss, info = self.actor_loss(batch, noise)
        gradient = self.policy.weights.gradient(loss.sum())
        scale = self.policy.learning_rate_scale(self.count)
        info["actor_grad_norm"] = self.policy.optimiser.step(gradient, self.count, scale)
        return info

    def draw_acting_noise(self, generator: torch.Generator, episodes: int, candidates: int) -> dict[str, Tensor]:
        """Everything random in one action for each episode of one run."""
        shape = (episodes, candidates, self.policy.config.T, self.policy.action_size)
        return {"chain": torch.randn(shape, generator=generator, device=self.device)}

    @torch.no_grad()
    def act(self, observations: Tensor, noise: Noise) -> Tensor:
        """One sample of the policy for each observation, [R, E, A]."""
        return self.policy.sample(self.policy.weights, observations, noise["chain"].flatten(1, 2))

    def state(self, run: int) -> State:
        """Everything that training of a run goes on from, but its random streams."""
        return {"count": int(self.count), **read_run(self.policy.tensors, run)}

    def load_state(self, run: int, state: State) -> None:
        """The inverse of `state`."""
        self.count.fill_(state["count"])
        write_run(self.policy.tensors, run, state)

    def policy_state(self, run: int) -> State:
        """What acting needs of a run."""
        return read_run({"actor": self.policy.weights.flat}, run)

    def load_policy_state(self, run: int, state: State) -> None:
        """The inverse of `policy_state`."""
        write_run({"actor": self.policy.weights.flat}, run, state)
