"""Environments of the user's own: what is wrong with them is told in one line, whenever it shows."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

from erdp_core.environments.make import make_environment
from erdp_core.errors import UserError
from erdp_core.tasks import EnvironmentSpec


class Odd(gymnasium.Env[Any, Any]):
    """Does as its name says, in the third step or in reset."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, name: str) -> None:
        if name == "unmade":
            raise RuntimeError("no robot here")
        self.name = name
        self.steps = 0
        self.memory = np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        assert options is None  # not all environments know options
        self.steps = 0
        if self.name == "unreset":
            raise KeyError("start")
        return self.memory, {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.memory += 1
        odd = self.steps == 3
        if odd and self.name == "raises":
            raise ZeroDivisionError("two lines\nof text")
        if odd and self.name == "four values":
            return self.memory, 0.0, False, {}
        observation = {"nan": np.full(2, np.nan), "other size": np.zeros(3)}.get(self.name) if odd else None
        reward = {"infinite reward": np.inf, "no reward": None}.get(self.name, 1.0) if odd else 1.0
        return self.memory if observation is None else observation, reward, False, False, {}


NAMES = ("even", "unmade", "unreset", "raises", "four values", "nan", "other size", "infinite reward", "no reward")


def id_of(name: str) -> str:
    return f"tests/{name.title().replace(' ', '')}-v0"


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    for name in NAMES:
        gymnasium.register(id_of(name), entry_point=f"{__name__}:Odd", kwargs={"name": name}, max_episode_steps=5)
    yield
    for name in NAMES:
        del gymnasium.registry[id_of(name)]


def test_one_that_is_well_goes_through() -> None:
    environment = make_environment(EnvironmentSpec(id_of("even"), {}))
    first, _ = environment.reset(seed=0, options={"evaluation_seed": 1})
    stepped = [environment.step(np.zeros(1, np.float32)) for _ in range(5)]
    np.testing.assert_array_equal(first, [0, 0])  # a copy: the environment went on changing its own
    assert [step[1:4] for step in stepped] == [(1.0, False, False)] * 4 + [(1.0, False, True)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unmade", "cannot be made: RuntimeError: no robot here"),
        ("unreset", "failed in reset: KeyError: 'start'"),
        ("raises", "failed in step: ZeroDivisionError: two lines of text"),
        ("four values", "failed in step: ValueError: not enough values"),
        ("nan", "failed in step: ValueError: its observation has values that are NaN or infinite"),
        ("other size", r"failed in step: ValueError: its observation has shape \(3,\), its space \(2,\)"),
        ("infinite reward", "failed in step: ValueError: its reward is inf"),
        ("no reward", "failed in step: TypeError"),
    ],
)
def test_faults_are_told_in_one_line(name: str, said: str) -> None:
    with pytest.raises(UserError, match=f"{id_of(name)}' {said}") as told:
        three_steps(name)
    assert "\n" not in str(told.value)


def three_steps(name: str) -> None:
    environment = make_environment(EnvironmentSpec(id_of(name), {}))
    environment.reset(seed=0)
    for _ in range(3):
        environment.step(np.zeros(1, np.float32))
