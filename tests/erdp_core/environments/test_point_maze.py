"""PointMaze against gymnasium-robotics' own, step by step, and what is ours: held actions, fixed start and goal."""

import time
from typing import Any

import mujoco
import numpy as np
import pytest

from erdp_core.environments.make import make_environment
from erdp_core.environments.point_maze import HOLD, PointMaze
from erdp_core.errors import UserError
from erdp_core.tasks import EnvironmentSpec, get_task

SIZES = ("umaze", "medium", "large")
# Start and goal: by hand, from the maps; x to the right, y up, the maze's middle at 0, cells of 1 m.
STARTS = {"umaze": (-1.0, 1.0), "medium": (-2.5, 2.5), "large": (-4.5, 3.0)}
GOALS = {"umaze": (-1.0, -1.0), "medium": (2.5, -2.5), "large": (3.5, -3.0)}


def theirs(size: str) -> Any:
    maps = pytest.importorskip("gymnasium_robotics.envs.maze.maps")
    from gymnasium_robotics.envs.maze.point_maze import PointMazeEnv

    maze_map = {"umaze": maps.U_MAZE, "medium": maps.MEDIUM_MAZE, "large": maps.LARGE_MAZE}[size]
    return PointMazeEnv(maze_map=maze_map, continuing_task=False)


@pytest.mark.parametrize("size", SIZES)
def test_dynamics_are_gymnasium_robotics(size: str) -> None:
    ours, other = PointMaze(size), theirs(size)
    other.reset(seed=0, options={"reset_cell": np.array(ours.maze.start), "goal_cell": np.array(ours.maze.goal)})
    stream = np.random.default_rng(0)
    state = ours.place(*STARTS[size])
    other.point_env.set_state(state[:2], state[2:])
    fastest = 0.0
    for held in range(200):  # 10 s of pushing about: the point hits walls and the velocity limit
        if held % 10 == 0:
            action = stream.uniform(-1, 1, 2)
        for _ in range(HOLD):
            expected = other.point_env.step(action)[0]
        found = ours.hold(action)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        other.point_env.set_state(found[:2].copy(), found[2:].copy())  # contacts amplify what rounding leaves
        fastest = max(fastest, float(np.abs(found[2:]).max()))
    assert fastest > 5.0


@pytest.mark.parametrize("size", SIZES)
def test_walls_are_those_of_gymnasium_robotics(size: str) -> None:
    heights = []
    for model, data in (_simulator(PointMaze(size)), _simulator(theirs(size).point_env)):
        mujoco.mj_forward(model, data)
        places = [(x, y) for x in np.arange(-6.9, 7, 0.31) for y in np.arange(-5.9, 6, 0.31)]
        heights.append([_height(model, data, x, y) for x, y in places])
    np.testing.assert_allclose(heights[0], heights[1], atol=1e-9)
    assert {0.0, 0.4} <= set(np.round(heights[0], 6))


def _simulator(environment: Any) -> tuple[Any, Any]:
    environment.data.qpos[:] = 100.0  # the point itself out of the way
    return environment.model, environment.data


def _height(model: Any, data: Any, x: float, y: float) -> float:
    down = np.array([0.0, 0.0, -1.0])
    distance = mujoco.mj_ray(model, data, np.array([x, y, 10.0]), down, None, 1, -1, np.zeros(1, np.int32))
    return max(0.0, 10.0 - float(distance))


@pytest.mark.parametrize("size", SIZES)
def test_it_starts_at_rest_near_its_start(size: str) -> None:
    environment = make_environment(EnvironmentSpec(f"pointmaze-{size}", {}))
    starts = np.array([environment.reset(seed=seed)[0] for seed in range(200)])
    noise = starts[:, :2] - STARTS[size]
    assert (starts[:, 2:] == 0).all()
    assert np.abs(noise).max() <= 0.25
    assert noise.min(axis=0) == pytest.approx([-0.25, -0.25], abs=0.02)
    assert noise.max(axis=0) == pytest.approx([0.25, 0.25], abs=0.02)
    assert environment.unwrapped.goal == GOALS[size]  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", SIZES)
def test_reaching_the_goal_pays_one_and_ends(size: str) -> None:
    environment = PointMaze(size)
    x, y = GOALS[size]
    side = 1.0 if size == "umaze" else -1.0  # where the corridor comes from
    environment.place(x + 0.47 * side, y)
    observation, reward, terminated, truncated, info = environment.step(np.array([-0.02 * side, 0.0]))
    assert (reward, terminated, truncated, info["success"]) == (0.0, False, False, False)
    while not terminated:
        before = observation
        observation, reward, terminated, truncated, info = environment.step(np.array([-side, 0.0]))
    assert (reward, truncated, info["success"]) == (1.0, False, True)
    assert np.hypot(*(before[:2] - GOALS[size])) > 0.45 >= np.hypot(*(observation[:2] - GOALS[size]))


def test_an_action_stops_at_the_goal_and_a_held_one_does_not() -> None:
    """At 3 m/s an action covers 15 cm: enough to cross the goal's edge in its first simulator step."""
    places = []
    for act in ("step", "hold"):
        environment = PointMaze("medium")
        x, y = GOALS["medium"]
        environment.place(x - 0.46, y)
        environment.data.qvel[:] = 3.0, 0.0
        getattr(environment, act)(np.zeros(2))
        places.append(float(environment.data.qpos[0]) - x)
    assert places[0] == pytest.approx(-0.43, abs=0.005)
    assert places[1] == pytest.approx(-0.31, abs=0.01)


def test_actions_beyond_the_box_are_clipped() -> None:
    found = []
    for action in ((1.0, -1.0), (7.0, -3.0)):
        environment = PointMaze("large")
        environment.place(*STARTS["large"])
        found.append(environment.step(np.array(action))[0])
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("size", SIZES)
def test_the_controller_reaches_the_goal_well_within_the_step_limit(size: str) -> None:
    """Waypoints of the shortest path, force towards the next one: about half of the limit, never more than 60 %."""
    limit = get_task(f"pointmaze-{size}").step_limit
    environment = make_environment(EnvironmentSpec(f"pointmaze-{size}", {}))
    maze = environment.unwrapped
    assert isinstance(maze, PointMaze)
    lengths = []
    for seed in range(25):
        stream = np.random.default_rng(seed)
        state, _ = environment.reset(seed=seed)
        ways = [np.array(maze.centre(cell)) for cell in maze.maze.shortest_path(maze.maze.start, maze.maze.goal)]
        end, steps = False, 0
        while not end:
            while len(ways) > 1 and np.hypot(*(ways[0] - state[:2])) < 0.3:
                ways.pop(0)
            action = 10 * (ways[0] - state[:2]) - state[2:] + stream.normal(0, 0.5, 2)
            state, reward, terminated, truncated, _ = environment.step(action)
            end, steps = terminated or truncated, steps + 1
        assert reward == 1.0
        lengths.append(steps)
    assert 0.35 * limit < np.mean(lengths) < 0.55 * limit
    assert max(lengths) < 0.6 * limit


def test_thousands_of_actions_a_second() -> None:
    environment = make_environment(EnvironmentSpec("pointmaze-large", {}))
    environment.reset(seed=0)
    action = np.array([0.3, 0.2], np.float32)
    began = time.process_time()
    for _ in range(3000):
        if any(environment.step(action)[2:4]):
            environment.reset(seed=0)
    assert 3000 / (time.process_time() - began) > 8_000  # measured: about 35,000


def test_rendering_needs_a_mode() -> None:
    with pytest.raises(UserError, match="made without a render_mode"):
        PointMaze("umaze").render()
