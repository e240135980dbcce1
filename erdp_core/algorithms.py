"""What every method offers the trainer, and the way from a config to a method."""

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from erdp_core.config import RunConfig, structure

State = dict[str, Any]
"""One run's slice of a method: tensors and whole numbers, safe to load with `weights_only=True`."""
Noise = Mapping[str, Tensor]


class Batch(NamedTuple):
    """Transitions of a pack; rewards as the method sees them."""

    observations: Tensor
    """[R, B, O]"""
    actions: Tensor
    """[R, B, A]"""
    next_observations: Tensor
    """[R, B, O]"""
    rewards: Tensor
    """[R, B]"""
    terminals: Tensor
    """[R, B]"""


class Algorithm(Protocol):
    """R runs of one method, trained together; no run influences another."""

    device: torch.device

    def prepare(self, data: Batch) -> None:
        """Take what the method needs of the data as a whole, columns [N, ...]; before the first step."""

    def draw_noise(self, generator: torch.Generator, steps: int) -> dict[str, Tensor]:
        """Everything random in `steps` updates of ONE run, each tensor [steps, ...]."""

    def update(self, batch: Batch, noise: Noise) -> dict[str, Tensor]:
        """One step of training; `noise` as drawn, the run axis where the steps were. Returns detached logs [R]."""

    def draw_acting_noise(self, generator: torch.Generator, episodes: int, candidates: int) -> dict[str, Tensor]:
        """Everything random in choosing one action for each episode of ONE run, each tensor [episodes, ...]."""

    def act(self, observations: Tensor, noise: Noise) -> Tensor:
        """Actions [R, E, A] for observations [R, E, O]; `noise` [R, E, ...] as drawn."""

    @property
    def candidates(self) -> int:
        """Actions sampled to act, where the config says nothing else."""

    def state(self, run: int) -> State:
        """Everything that training of a run goes on from, but its random streams."""

    def load_state(self, run: int, state: State) -> None:
        """The inverse of `state`."""

    def policy_state(self, run: int) -> State:
        """What acting needs of a run."""

    def load_policy_state(self, run: int, state: State) -> None:
        """The inverse of `policy_state`."""


class Agent:
    """What the methods have in common: updates counted, rates that fall, states as slices of tensors [R, ...].

    Unless a method says otherwise it needs nothing of the data as a whole, and acts without chance or choice.
    """

    def __init__(self, configs: Sequence[RunConfig], device: torch.device) -> None:
        self.device = device
        self.count = torch.zeros((), dtype=torch.int64, device=device)
        """Updates."""
        self.steps = configs[0].trainer.steps
        self.lr_decay = configs[0].agent.lr_decay

    @property
    def candidates(self) -> int:
        """Actions sampled to act, where the config says nothing else."""
        return 1

    def draw_acting_noise(self, generator: torch.Generator, episodes: int, candidates: int) -> dict[str, Tensor]:
        """Nothing is random in an action."""
        return {}

    def prepare(self, data: Batch) -> None:
        """Nothing is needed of the data as a whole."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, each [R, ...]."""
        raise NotImplementedError

    @property
    def acting_tensors(self) -> dict[str, Tensor]:
        """Those that acting needs."""
        raise NotImplementedError

    def learning_rate_scale(self) -> Tensor:
        """Factor on the learning rates at this update, in double precision."""
        if self.lr_decay == "off":
            return torch.ones_like(self.count, dtype=torch.float64)
        return 0.5 * (1 + torch.cos((self.count.double() - 1) * (math.pi / self.steps)))

    def state(self, run: int) -> State:
        """Everything that training of a run goes on from, but its random streams."""
        return {"count": int(self.count), **read_run(self.tensors, run)}

    def load_state(self, run: int, state: State) -> None:
        """The inverse of `state`."""
        self.count.fill_(state["count"])
        write_run(self.tensors, run, state)

    def policy_state(self, run: int) -> State:
        """What acting needs of a run."""
        return read_run(self.acting_tensors, run)

    def load_policy_state(self, run: int, state: State) -> None:
        """The inverse of `policy_state`."""
        write_run(self.acting_tensors, run, state)


def make_algorithm(
    configs: Sequence[RunConfig],
    seeds: Sequence[int],
    observation_size: int,
    action_size: int,
    device: torch.device | str = "cpu",
) -> Algorithm:
    """The method of a pack's configs, one run for each config and seed.

    Raises ValueError where the configs differ in more than packed numbers.
    """
    if len(configs) != len(seeds) or not configs:
        raise ValueError(f"{len(configs)} configs do not go with {len(seeds)} seeds")
    for config in configs[1:]:
        if structure(config) != structure(configs[0]):
            raise ValueError("the runs of a pack must share method and structure")
    module, name = IMPLEMENTATIONS[configs[0].method]
    made: Algorithm = getattr(importlib.import_module(module), name)(
        configs, seeds, observation_size, action_size, torch.device(device)
    )
    return made


IMPLEMENTATIONS = {
    "erdp": ("erdp_core.agent", "ERDP"),
    "bc-diffusion": ("erdp_core.baselines.bc_diffusion", "BcDiffusion"),
    "diffusion-ql": ("erdp_core.baselines.diffusion_ql", "DiffusionQL"),
    "bc": ("erdp_core.baselines.bc", "BC"),
    "td3-bc": ("erdp_core.baselines.td3_bc", "TD3BC"),
    "iql": ("erdp_core.baselines.iql", "IQL"),
    "cql": ("erdp_core.baselines.cql", "CQL"),
    "msg": ("erdp_core.baselines.msg", "MSG"),
    "idql": ("erdp_core.baselines.idql", "IDQL"),
    "edp": ("erdp_core.baselines.edp", "EDP"),
    "gaussian-ensemble": ("erdp_core.baselines.gaussian_ensemble", "GaussianEnsemble"),
}
"""Module and class of each method; a method is imported when it is first made."""


def stream(device: torch.device | str, seed: int, purpose: str, *indices: int) -> torch.Generator:
    """A random stream of a run's own, the same for the same arguments, independent of all others."""
    entropy = np.random.SeedSequence([seed, *purpose.encode(), 2**32, *indices])
    generator = torch.Generator(device)
    generator.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1)))
    return generator


def numbers(configs: Sequence[RunConfig], name: str, device: torch.device | str) -> Tensor:
    """A packed number of every run's agent config, [R]."""
    return torch.tensor([getattr(config.agent, name) for config in configs], dtype=torch.float32, device=device)


def read_run(tensors: Mapping[str, Tensor], run: int) -> State:
    """One run's slices of tensors [R, ...], copied to the host."""
    return {name: tensor[run].detach().cpu().clone() for name, tensor in tensors.items()}


@torch.no_grad()
def write_run(tensors: Mapping[str, Tensor], run: int, state: State) -> None:
    """The inverse of `read_run`."""
    for name, tensor in tensors.items():
        tensor[run].copy_(state[name])
