"""Small packs that train in moments: configs, data, updates."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from erdp_core.algorithms import Algorithm, Batch, make_algorithm
from erdp_core.config import RunConfig, resolve
from erdp_core.data.transitions import Dataset, Transitions
from erdp_core.environments.make import make_environment
from erdp_core.tasks import EnvironmentSpec, get_task

SMALL = ("agent.width=16", "agent.layers=2", "agent.batch_size=8", "agent.M=3", "agent.candidates=3")
"""Sizes."""
FIXED = (
    "agent.eta=2",
    "agent.actor_lr=0.0003",
    "agent.grad_norm=4",
    "agent.diffusion_loss=noise",
    "agent.action_clip=true",
)
"""Numbers on which what a test expects may rest, whatever a domain's defaults become."""


def small_config(*settings: str, method: str = "erdp", task: str = "pointmaze-umaze") -> RunConfig:
    """The smoke profile of a task, smaller still, then `settings`."""
    return resolve(get_task(task), method, "smoke", (*SMALL, *FIXED, *settings))


def transitions(rows: int = 80, observation_size: int = 4, action_size: int = 2, seed: int = 0) -> Transitions:
    """Random steps, every fifth terminal."""
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    return Transitions(
        normal(rows, observation_size),
        np.clip(0.7 * normal(rows, action_size), -1, 1),
        normal(rows, observation_size),
        normal(rows),
        (np.arange(rows) % 5 == 4).astype(np.float32),
    )


def maze_dataset(rows: int = 80, seed: int = 0) -> Dataset:
    """Random steps that say they come from PointMaze's smallest maze."""
    data = transitions(rows, seed=seed)
    return Dataset(data, "local", "in memory", data.fingerprint(), EnvironmentSpec("pointmaze-umaze", {}))


def algorithm(configs: Sequence[RunConfig], seeds: Sequence[int]) -> Algorithm:
    """A pack for `transitions()`."""
    return make_algorithm(configs, seeds, 4, 2)


def inputs(made: Algorithm, seeds: Sequence[int], steps: int, batch: int = 8) -> list[tuple[Batch, dict[str, Tensor]]]:
    """Batches and noise of a pack's next steps; a run's are a function of its seed, whatever its companions."""
    data = transitions()
    columns = [data.observations, data.actions, data.next_observations, data.rewards, data.terminals]
    rows, draws = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(1000 + seed)
        rows.append(torch.randint(len(data), (steps, batch), generator=generator))
        draws.append(made.draw_noise(generator, steps))
    return [
        (
            Batch(*(torch.stack([torch.from_numpy(column)[run[step]] for run in rows]) for column in columns)),
            {name: torch.stack([draw[name][step] for draw in draws]) for name in draws[0]},
        )
        for step in range(steps)
    ]


def update(made: Algorithm, seeds: Sequence[int], steps: int, batch: int = 8) -> list[dict[str, Tensor]]:
    """Train a pack; the logs of each step."""
    return [made.update(*each) for each in inputs(made, seeds, steps, batch)]


def assert_states_close(actual: Algorithm, run: int, expected: Algorithm, other: int, tolerance: float) -> None:
    """All tensors of a run of one pack are those of a run of another; 0: bit for bit."""
    ours, theirs = actual.state(run), expected.state(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        close = torch.allclose(torch.as_tensor(value), torch.as_tensor(theirs[name]), rtol=tolerance, atol=tolerance)
        assert close, f"{name}: {value} is not {theirs[name]}"


class PaysForPosition(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Adds x + y to every reward: returns that tell one action from another, where a maze pays a beginner nothing."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(reward) + float(observation[:2].sum()), terminated, truncated, info


def paying_environment(spec: EnvironmentSpec) -> PaysForPosition:
    """In place of `make_environment`."""
    return PaysForPosition(make_environment(spec))
