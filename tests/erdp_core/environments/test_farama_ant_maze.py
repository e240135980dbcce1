"""Farama's AntMaze, flattened, against gymnasium-robotics' own, step by step."""

import importlib
import itertools
import os
from typing import Any

import numpy as np
import pytest

from erdp_core.environments.farama_ant_maze import PLACES, FaramaAntMaze
from erdp_core.environments.make import make_environment
from erdp_core.environments.mazes import MAZES
from erdp_core.tasks import TASKS, EnvironmentSpec

MAPS = {
    "UMaze": "U_MAZE",
    "Medium": "MEDIUM_MAZE",
    "Medium_Diverse_GR": "MEDIUM_MAZE_DIVERSE_GR",
    "Large": "LARGE_MAZE",
    "Large_Diverse_GR": "LARGE_MAZE_DIVERSE_GR",
}


def theirs(place: str, version: str, cells: dict[str, list[int]]) -> Any:
    """gymnasium-robotics' own, with those cells as the only ones of starts and goals."""
    maps = pytest.importorskip("gymnasium_robotics.envs.maze.maps")
    maze_map = [list(row) for row in getattr(maps, MAPS[place])]
    if cells:
        maze_map = [[1 if mark == 1 else 0 for mark in row] for row in maze_map]
        for option, symbol in (("reset_cell", "r"), ("goal_cell", "g")):
            row, column = cells[option]
            maze_map[row][column] = symbol
    module = importlib.import_module(f"gymnasium_robotics.envs.maze.ant_maze_{version}")
    environment = module.AntMazeEnv(maze_map=maze_map, continuing_task=False, reset_target=False)
    os.unlink(environment.tmp_xml_file_path)  # which it leaves behind
    return environment


def flat(observation: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate((observation["achieved_goal"], observation["observation"][:27]))


RESET_AND_GOAL = {
    "UMaze": {"reset_cell": [3, 1], "goal_cell": [1, 1]},
    "Medium": {"reset_cell": [1, 1], "goal_cell": [6, 6]},
    "Large": {"reset_cell": [1, 1], "goal_cell": [7, 9]},
}


@pytest.mark.parametrize(
    ("place", "version", "cells"),
    [
        *((place, version, {}) for place, version in itertools.product(PLACES, ("v4", "v5"))),
        *((place, "v4", cells) for place, cells in RESET_AND_GOAL.items()),
    ],
)
def test_numbers_are_gymnasium_robotics(place: str, version: str, cells: dict[str, list[int]]) -> None:
    """Starts, goals and steps, bit for bit, walls and falls included."""
    other = theirs(place, version, cells)
    made = make_environment(EnvironmentSpec(f"AntMaze_{place}-{version}", cells))
    ours = made.unwrapped
    assert isinstance(ours, FaramaAntMaze)
    for seed in range(8):
        found, expected = made.reset(seed=seed)[0], other.reset(seed=seed)[0]
        np.testing.assert_array_equal(found, flat(expected))
        np.testing.assert_array_equal(ours.goal, expected["desired_goal"])
        stream = np.random.default_rng(seed)
        for _ in range(60 if seed == 0 else 2):
            action = stream.uniform(-1, 1, 8)
            step, expected_step = made.step(action), other.step(action)
            np.testing.assert_array_equal(step[0], flat(expected_step[0]))
            assert step[1:4] == expected_step[1:4]


@pytest.mark.parametrize("place", PLACES)
def test_reaching_the_goal_pays_one_and_ends_as_there(place: str) -> None:
    ours, other = FaramaAntMaze(place), theirs(place, "v4", {})
    for off, reached in ((0.4, True), (0.52, False)):
        ours.reset(seed=4)
        other.reset(seed=4)
        for environment in (ours, other):
            environment.data.qpos[:2] = ours.goal[0] - off, ours.goal[1]
        found, expected = ours.step(np.zeros(8)), other.step(np.zeros(8))
        assert found[1:4] == expected[1:4] == (float(reached), reached, False)
        assert found[4]["success"] == expected[4]["success"] == reached


@pytest.mark.parametrize(
    "task", [task for task in TASKS.values() if task.domain == "antmaze"], ids=lambda task: task.name
)
def test_tasks_on_minaris_data_have_one_start_and_one_goal(task: Any) -> None:
    """At the two ends of the maze's longest way: D4RL's, or in the umaze these exchanged."""
    environment = make_environment(task.minari_environment)
    ours = environment.unwrapped
    assert isinstance(ours, FaramaAntMaze)
    [start], [goal] = ours.reset_cells, ours.goal_cells
    maze = MAZES[task.environment.name.removeprefix("d4rl-antmaze-")]
    assert ours.maze == maze
    assert (start, goal) == ((3, 1), (1, 1)) if "umaze" in task.name else (maze.start, maze.goal)
    states, goals = zip(*((environment.reset(seed=seed)[0], ours.goal) for seed in range(100)), strict=True)
    for places, cell in ((np.array(states)[:, :2], start), (np.array(goals), goal)):
        centre = np.array(ours.centre(cell))
        assert np.abs(places - centre).max() <= 1.0
        assert places.mean(axis=0) == pytest.approx(centre, abs=0.25)
        assert (np.ptp(places, axis=0) > 1.8).all()
    assert environment.get_wrapper_attr("_max_episode_steps") == task.step_limit


def test_v5_data_of_105_numbers_begin_with_these_29() -> None:
    """What `test_numbers_are_gymnasium_robotics` compares is all but the contact forces."""
    other = theirs("UMaze", "v5", {})
    assert other.observation_space["observation"].shape == (105,)
    assert theirs("UMaze", "v4", {}).observation_space["observation"].shape == (27,)


def test_environments_share_a_model() -> None:
    first, second = FaramaAntMaze("Large"), FaramaAntMaze("Large_Diverse_GR")
    assert first.model is second.model
    first.reset(seed=0)
    assert first.goal != second.goal
