"""Trains one variant of a toy experiment and reads off what its figure shows."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from erdp_core.agent_configs import METHODS
from erdp_core.algorithms import Algorithm, make_algorithm, stream
from erdp_core.baselines.edp import EDP
from erdp_core.baselines.idql import IDQL
from erdp_core.baselines.iql import IQL
from erdp_core.config import EvaluationConfig, RunConfig, TrainerConfig
from erdp_core.critics import Critics
from erdp_core.step_loop import StepLoop
from sweeps.toy_problems import bandit, reward_on_the_line, two_steps

SAMPLES = 1_000
"""Of a bandit's policy."""
EPISODES = 500
"""Of each seed on the line."""
GRID = 201
"""First actions whose values are read off."""

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Variant:
    """One way to train on a toy problem; its seeds, or the values of a setting, train as one pack."""

    toy: str
    label: str
    method: str
    steps: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)

    @property
    def config(self) -> RunConfig:
        """The resolved settings. Raises ConfigError for one that the method does not have."""
        agent = METHODS[self.method](**self.settings)
        return RunConfig(self.method, agent, TrainerConfig(self.steps, self.steps), EvaluationConfig())


def trained(variant: Variant) -> tuple[Arrays, float]:
    """What a variant's figure shows, and the seconds that it took."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    data = two_steps() if variant.toy == "two-steps" else bandit(variant.toy)
    sizes = data.observations.shape[1], data.actions.shape[1]
    algorithm = make_algorithm([variant.config] * len(variant.seeds), variant.seeds, *sizes)
    algorithm.prepare(data)
    generators = [stream("cpu", seed, "training") for seed in variant.seeds]
    loop = StepLoop(algorithm, data, generators, variant.config.agent.batch_size)
    _, bad = loop.run(variant.steps)
    if any(step is not None for step in bad):
        raise FloatingPointError(f"{variant.label}: a loss stopped being finite")
    found = line_results(algorithm, variant) if variant.toy == "two-steps" else bandit_results(algorithm, variant)
    return found, time.perf_counter() - started


def bandit_results(algorithm: Algorithm, variant: Variant) -> Arrays:
    """actions [seeds, SAMPLES, 2], the policy's own samples."""
    return {"actions": act(algorithm, np.zeros((len(variant.seeds), SAMPLES, 1)), variant, "samples", 1)}


def line_results(algorithm: Algorithm, variant: Variant) -> Arrays:
    """first_actions and returns [seeds, EPISODES]; with critics also q [seeds, members, GRID] of actions from 0."""
    runs = len(variant.seeds)
    states = np.zeros((runs, EPISODES, 2))
    returns = np.zeros((runs, EPISODES))
    first: npt.NDArray[Any] = np.zeros(0)
    for step in range(2):
        actions = act(algorithm, states, variant, f"step {step}", algorithm.candidates)[..., 0]
        first = actions if step == 0 else first
        place = states[..., 0] + actions
        returns += reward_on_the_line(place)
        states = np.stack([place, np.full_like(place, step + 1)], axis=2)
    found = {"first_actions": first, "returns": returns}
    critics = critics_of(algorithm)
    if critics is not None:
        grid = torch.linspace(-1, 1, GRID).view(1, GRID, 1).expand(runs, -1, -1)
        start = torch.zeros(runs, GRID, 2)
        if hasattr(algorithm, "normalised"):
            start = algorithm.normalised(start)
        found["q"] = critics.ensemble.q(critics.weights, start, grid).numpy()
    return found


def act(
    algorithm: Algorithm, states: npt.NDArray[Any], variant: Variant, purpose: str, candidates: int
) -> npt.NDArray[np.float32]:
    """Actions [seeds, E, A] in states [seeds, E, O], each seed's by a stream of its own."""
    drawn = [
        algorithm.draw_acting_noise(stream("cpu", seed, purpose), states.shape[1], candidates) for seed in variant.seeds
    ]
    noise = {name: torch.stack([draw[name] for draw in drawn]) for name in drawn[0]}
    found: npt.NDArray[np.float32] = algorithm.act(torch.from_numpy(states).float(), noise).numpy()
    return found


def critics_of(algorithm: Algorithm) -> Critics | None:
    """A method's critics, if it has any."""
    if isinstance(algorithm, IQL | IDQL | EDP):
        return algorithm.values.critics
    return getattr(algorithm, "critics", None)
