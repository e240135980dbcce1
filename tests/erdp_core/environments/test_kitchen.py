"""The kitchen against gymnasium-robotics' own, step by step; its goals and its pay, with elements moved by hand."""

import importlib.util
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt
import pytest

from erdp_core.environments.kitchen import ELEMENTS, Kitchen, goal_of
from erdp_core.environments.make import make_environment
from erdp_core.tasks import EnvironmentSpec, get_task

LIGHT = {17: -0.69, 18: -0.05}
MICROWAVE_AND_KETTLE = {22: -0.75, 23: -0.23, 24: 0.75, 25: 1.62, 26: 0.99, 27: 0, 28: 0, 29: -0.06}
# D4RL's goals, written down once more.
GOALS: dict[str, dict[int, float]] = {
    "kitchen-complete-v0": {**LIGHT, **MICROWAVE_AND_KETTLE, 19: 0.37},
    "kitchen-partial-v0": {**LIGHT, **MICROWAVE_AND_KETTLE, 19: 0.37},
    "kitchen-mixed-v0": {**LIGHT, **MICROWAVE_AND_KETTLE, 11: -0.88, 12: -0.01},
}
COMPLETE = ("microwave", "kettle", "light switch", "slide cabinet")


def theirs(elements: tuple[str, ...]) -> Any:
    if importlib.util.find_spec("gymnasium_robotics") is None:
        pytest.skip("gymnasium-robotics is not installed")
    from gymnasium_robotics.envs.franka_kitchen import KitchenEnv

    return KitchenEnv(tasks_to_complete=list(elements))


@pytest.mark.parametrize("task", GOALS)
def test_goals_are_d4rls(task: str) -> None:
    """The last 30 numbers, from reset to the end."""
    expected = np.zeros(30)
    for index, position in GOALS[task].items():
        expected[index] = position
    environment = make_environment(get_task(task).environment)
    assert environment.observation_space.shape == (60,)
    np.testing.assert_array_equal(environment.reset(seed=0)[0][30:], expected)
    np.testing.assert_array_equal(environment.step(np.zeros(9))[0][30:], expected)


def test_numbers_are_gymnasium_robotics() -> None:
    """D4RL's 9 and 21 are theirs at 0-8 and 18-38; bit for bit, noise included."""
    ours, other = Kitchen(COMPLETE), theirs(COMPLETE)
    for seed in (0, 7):
        found, expected = ours.reset(seed=seed)[0], other.reset(seed=seed)[0]["observation"]
        stream = np.random.default_rng(seed)
        for _ in range(40):
            np.testing.assert_array_equal(found[:30], np.concatenate((expected[:9], expected[18:39])))
            action = stream.uniform(-1.3, 1.3, 9)
            found, reward, *ended = ours.step(action)[:4]
            observed, expected_reward, *expected_end = other.step(action)[:4]
            expected = observed["observation"]
            assert (reward, ended) == (expected_reward, expected_end)


def test_observation_is_position_under_noise() -> None:
    environment = Kitchen(COMPLETE)
    noise = []
    for seed in range(300):
        observation = environment.reset(seed=seed)[0]
        noise.append(observation[:30] - environment.data.qpos)
    assert np.abs(noise).max(axis=0)[:9] == pytest.approx(np.full(9, 0.001), rel=0.02)
    assert np.abs(noise).max(axis=0)[9:].max() < 6e-5
    assert np.mean(noise, axis=0) == pytest.approx(np.zeros(30), abs=2e-4)


def move(environment: Kitchen, element: str, share: float = 1.0) -> None:
    """Put an element at rest at its goal, or only `share` of the way from where it stands at the start."""
    there = list(ELEMENTS[element])
    goal = np.array([ELEMENTS[element][index] for index in there])
    environment.data.qpos[there] += share * (goal - environment.data.qpos[there])
    environment.data.qvel[:] = 0
    mujoco.mj_forward(environment.model, environment.data)


def distance(environment: Kitchen, element: str) -> float:
    there = list(ELEMENTS[element])
    goal = [ELEMENTS[element][index] for index in there]
    return float(np.linalg.norm(environment.data.qpos[there] - goal))


@pytest.mark.parametrize("task", GOALS)
def test_each_element_pays_once_and_the_last_one_ends_the_episode(task: str) -> None:
    made = make_environment(get_task(task).environment)
    environment = made.unwrapped
    assert isinstance(environment, Kitchen)
    start = made.reset(seed=0)[0]
    still = np.zeros(9)
    _, reward, terminated, _, info = made.step(still)
    assert (reward, terminated, info["episode_task_completions"]) == (0.0, False, [])
    returned, told = 0.0, [info["episode_task_completions"]]
    for number, element in enumerate(environment.elements, start=1):
        before = environment.data.qpos.copy()
        move(environment, element)
        observation, reward, terminated, _, info = made.step(still)
        returned += float(reward)
        assert (reward, terminated, info["success"]) == (1.0, number == 4, number == 4)
        told.append(info["episode_task_completions"])
        indices = list(ELEMENTS[element])
        assert np.linalg.norm(observation[indices] - observation[30:][indices]) < 0.3  # both halves count alike
        if number == 1:  # there again, or gone and back: nothing more
            assert made.step(still)[1] == 0.0
            environment.data.qpos[:] = before
            assert made.step(still)[1] == 0.0
            move(environment, element)
            assert made.step(still)[1] == 0.0
    assert returned == 4.0
    assert get_task(task).score(returned) == 100.0
    # Every info keeps what it said.
    assert told == [list(environment.elements[:number]) for number in range(5)]
    # A new episode starts from nothing.
    np.testing.assert_array_equal(made.reset(seed=0)[0], start)
    assert made.step(still)[4]["episode_task_completions"] == []


def test_two_elements_at_once_pay_two() -> None:
    environment = Kitchen(COMPLETE)
    environment.reset(seed=0)
    for element in ("slide cabinet", "light switch"):
        move(environment, element)
    _, reward, _, _, info = environment.step(np.zeros(9))
    assert reward == 2.0
    assert info["episode_task_completions"] == ["light switch", "slide cabinet"]


@pytest.mark.parametrize("element", ELEMENTS)
def test_an_element_is_done_within_a_norm_of_three_tenths(element: str) -> None:
    """Judged where the elements are after the step's 0.08 s: springs and weight move some."""
    sides = set()
    for share in (0.0, 0.1, 0.2, 0.45, 0.55, 0.65, 0.75, 0.8, 0.9, 1.0):
        environment = Kitchen(("bottom burner", element) if element != "bottom burner" else (element,))
        environment.reset(seed=0)
        move(environment, element, share)
        reward = environment.step(np.zeros(9))[1]
        assert reward == float(distance(environment, element) < 0.3), share
        sides.add(reward)
    assert sides == {0.0, 1.0}


def test_without_elements_all_seven_are_to_move() -> None:
    environment = make_environment(EnvironmentSpec("FrankaKitchen-v1", {})).unwrapped
    assert isinstance(environment, Kitchen)
    assert environment.elements == tuple(ELEMENTS)
    assert len(environment.elements) == 7
    np.testing.assert_array_equal(environment.goal, goal_of(list(ELEMENTS)))


def test_goals_of_the_elements_are_gymnasium_robotics() -> None:
    kitchen_env = pytest.importorskip("gymnasium_robotics.envs.franka_kitchen.kitchen_env")
    assert set(ELEMENTS) == set(kitchen_env.OBS_ELEMENT_GOALS)
    for element, goal in ELEMENTS.items():
        np.testing.assert_array_equal(list(goal), kitchen_env.OBS_ELEMENT_INDICES[element])
        np.testing.assert_array_equal(list(goal.values()), kitchen_env.OBS_ELEMENT_GOALS[element])


def test_an_action_is_a_velocity() -> None:
    """Of 2 rad/s at most: a joint that is free to move follows."""
    environment = Kitchen(COMPLETE)
    moved: list[npt.NDArray[np.float64]] = []
    for action in (1.0, 5.0, 0.5):
        environment.reset(seed=0)
        before = environment.data.qpos[0]
        environment.step(np.array([action] + [0.0] * 8))
        moved.append(environment.data.ctrl[0] - before)
    assert moved[0] == moved[1] == pytest.approx(0.16, abs=0.0011)
    assert moved[2] == pytest.approx(0.08, abs=0.0011)


def test_environments_share_a_model_and_none_disturbs_another() -> None:
    first, second = Kitchen(COMPLETE), Kitchen(("kettle",))
    assert first.model is second.model
    first.reset(seed=0)
    second.reset(seed=0)
    for _ in range(3):
        found = second.step(np.ones(9))[0]
    first.step(np.zeros(9))
    alone = Kitchen(("kettle",))
    alone.reset(seed=0)
    for _ in range(3):
        expected = alone.step(np.ones(9))[0]
    np.testing.assert_array_equal(found, expected)
