"""Evaluation against one episode at a time; a run's returns are its own, whatever its companions."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from erdp_core.algorithms import Algorithm
from erdp_core.evaluation import episode_seed, evaluate
from erdp_core.tasks import EnvironmentSpec
from tests.small import PaysForPosition, algorithm, paying_environment, small_config, update

UMAZE = EnvironmentSpec("pointmaze-umaze", {})
EPISODES = 3


def environments(runs: int) -> list[list[gymnasium.Env[Any, Any]]]:
    return [[paying_environment(UMAZE) for _ in range(EPISODES)] for _ in range(runs)]


class Steering:
    """A policy without chance: run r accelerates along a direction of its own, and brakes."""

    device = torch.device("cpu")

    def draw_acting_noise(self, generator: torch.Generator, episodes: int, candidates: int) -> dict[str, Tensor]:
        return {"unused": torch.rand(episodes, generator=generator)}

    def act(self, observations: Tensor, noise: dict[str, Tensor]) -> Tensor:
        assert noise["unused"].shape == observations.shape[:2]
        directions = torch.tensor([[1.0, 0.0], [0.6, -0.4], [-0.2, 0.9]])[: len(observations), None]
        return torch.tanh(directions + 0.3 * observations[..., :2] - 0.5 * observations[..., 2:])


def naive(run: int, seed: int, step: int) -> list[float]:
    """One episode after another in one environment."""
    returns = []
    for episode in range(EPISODES):
        environment = paying_environment(UMAZE)
        observation, _ = environment.reset(
            seed=episode_seed(seed, step, "episode", episode),
            options={"evaluation_seed": episode_seed(seed, step, "goal")},
        )
        total, over = 0.0, False
        while not over:
            inputs = torch.zeros(3, 1, 4)
            inputs[run, 0] = torch.from_numpy(observation.astype(np.float32))
            action = Steering().act(inputs, {"unused": torch.zeros(3, 1)})[run, 0].numpy()
            observation, reward, terminated, truncated, _ = environment.step(action)
            total += float(reward)
            over = terminated or truncated
        returns.append(total)
    return returns


def test_returns_equal_one_episode_at_a_time() -> None:
    steering: Any = Steering()
    returns = evaluate(steering, environments(3), [4, 5, 6], 100, 1, [True] * 3)
    assert returns.shape == (3, EPISODES)
    assert len(np.unique(returns)) == 3 * EPISODES
    for run, seed in enumerate((4, 5, 6)):
        np.testing.assert_allclose(returns[run], naive(run, seed, 100), rtol=1e-9)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy's products stay as they are: only environments are shared out."""
    made = algorithm([small_config()] * 2, [0, 1])
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        found.append(evaluate(made, environments(2), [0, 1], 100, 3, [True, False]))
    assert len(np.unique(found[0][0])) == EPISODES
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_an_environments_error_comes_out_of_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaks(PaysForPosition):
        def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
            raise OverflowError("of mine")

    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    broken = environments(1)
    broken[0][1] = Breaks(broken[0][1])
    steering: Any = Steering()
    with pytest.raises(OverflowError, match="of mine"):
        evaluate(steering, broken, [0], 100, 1, [True])


class Countdown(gymnasium.Env[Any, Any]):
    """Ends after as many steps as the seed of its episode says; a reward of 1 each; a step too many is an error."""

    observation_space = gymnasium.spaces.Box(-1, 1, (4,))
    action_space = gymnasium.spaces.Box(-1, 1, (2,))

    def __init__(self, truncates: bool) -> None:
        self.truncates = truncates
        self.left = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        assert seed is not None
        self.left = 1 + seed % 7
        self.actions: list[Any] = []
        return np.zeros(4), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.left > 0, "stepped after its end"
        self.left -= 1
        self.actions.append(action)
        over = self.left == 0
        return np.zeros(4), 1.0, over and not self.truncates, over and self.truncates, {}


@pytest.mark.parametrize("truncates", [False, True])
def test_episodes_end_each_in_their_own_time(truncates: bool) -> None:
    grid = [[Countdown(truncates) for _ in range(6)] for _ in range(2)]
    steering: Any = Steering()
    returns = evaluate(steering, grid, [0, 1], 5, 1, [True, True])
    expected = [[1 + episode_seed(seed, 5, "episode", episode) % 7 for episode in range(6)] for seed in (0, 1)]
    np.testing.assert_array_equal(returns, expected)
    assert len(np.unique(returns)) > 3


class Chance:
    """Acts by its noise alone, and keeps all that was ever drawn for each run, [decisions, episodes]."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.drawn: dict[int, list[Tensor]] = {}

    def draw_acting_noise(self, generator: torch.Generator, episodes: int, candidates: int) -> dict[str, Tensor]:
        noise = torch.rand(episodes, 2, generator=generator)
        self.drawn.setdefault(id(generator), []).append(noise)
        return {"action": noise}

    def act(self, observations: Tensor, noise: dict[str, Tensor]) -> Tensor:
        return noise["action"]


def test_an_episodes_noise_is_its_own_even_where_others_have_ended() -> None:
    grid = [[Countdown(truncates=False) for _ in range(6)] for _ in range(3)]
    chance: Any = Chance()
    evaluate(chance, grid, [0, 1, 0], 5, 1, [True] * 3)
    for environments_of_run, drawn in zip(grid, chance.drawn.values(), strict=True):
        for episode, environment in enumerate(environments_of_run):
            for decision, action in enumerate(environment.actions):
                np.testing.assert_array_equal(action, drawn[decision][episode])
    first, second, third = (noises[0] for noises in chance.drawn.values())
    assert not torch.equal(first, second), "runs of different seeds share their noise"
    assert torch.equal(first, third)


def pack(seeds: Sequence[int]) -> Algorithm:
    made = algorithm([small_config()] * len(seeds), seeds)
    update(made, seeds, 3)
    return made


@pytest.mark.parametrize("candidates", [1, 3])
def test_returns_do_not_depend_on_companions(candidates: int) -> None:
    alone = evaluate(pack([3]), environments(1), [3], 40, candidates, [True])
    together = evaluate(pack([0, 3, 7]), environments(3), [0, 3, 7], 40, candidates, [True] * 3)
    np.testing.assert_allclose(together[1], alone[0], rtol=1e-3, atol=1e-3)
    assert not np.allclose(together[0], together[1])


def test_a_stochastic_policys_episodes_are_a_function_of_seed_and_step() -> None:
    made, grid = pack([0, 1]), environments(2)
    first = evaluate(made, grid, [0, 1], 40, 3, [True, True])
    other_step = evaluate(made, grid, [0, 1], 80, 3, [True, True])
    again = evaluate(made, grid, [0, 1], 40, 3, [True, True])
    fresh = evaluate(made, environments(2), [0, 1], 40, 3, [True, True])
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(fresh, first)
    assert (other_step != first).all()


def test_inactive_runs_are_nan_and_their_environments_untouched() -> None:
    grid = environments(2)

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("an inactive run's environment was used")

    for environment in grid[0]:
        environment.reset = environment.step = refuse  # type: ignore[method-assign]
    made = pack([0, 1])
    returns = evaluate(made, grid, [0, 1], 40, 3, [False, True])
    assert np.isnan(returns[0]).all()
    both = evaluate(made, environments(2), [0, 1], 40, 3, [True, True])
    np.testing.assert_array_equal(returns[1], both[1])


def test_episode_seeds_differ_in_every_argument() -> None:
    base = (1, 2, "episode", 3)
    others = [(0, 2, "episode", 3), (1, 1, "episode", 3), (1, 2, "goal", 3), (1, 2, "episode", 2)]
    seeds = [episode_seed(*arguments) for arguments in (base, *others)]
    assert len(set(seeds)) == 5
    assert episode_seed(*base) == seeds[0]
    assert all(0 <= seed < 2**31 for seed in seeds)
