"""Local collections: data that anyone can make in seconds, stored as Minari datasets.

PointMaze's recipe: from a random cell, walk to one random cell after another. A PD controller with noise follows the
waypoints of the shortest path; its actions are held as in evaluation. The behaviour thus knows every corridor but not
the evaluation's goal; rewards are given afterwards, to all rows: reward = terminal = s' is at the evaluation's goal.
Walks go on after such a row, so terminals stand in the middle of episodes, in runs, as in D4RL's antmaze-v0: each row
is a transition of its own, and a Minari episode is here no more than rows that follow one another in the simulator.
"""

from collections.abc import Iterator
from pathlib import Path

import mujoco
import numpy as np
from minari.data_collector import EpisodeBuffer

from erdp_core.data.collection import check_collection, maze_episode, store_collection
from erdp_core.environments.make import POINT_MAZES
from erdp_core.environments.maze_environment import within
from erdp_core.environments.mazes import Cell
from erdp_core.environments.point_maze import START_NOISE, PointMaze
from erdp_core.errors import DataError
from erdp_core.tasks import Task

ROWS = 60_000
EPISODE_ROWS = 100
"""Rows after which a walk starts anew, at rest, in a random cell."""
POSITION_GAIN, VELOCITY_GAIN = 10.0, 1.0
ACTION_NOISE = 0.5
"""Standard deviation of the noise on the controller's action."""
WAYPOINT_RADIUS = 0.25
"""Metres from a waypoint, or from the end of a path, at which it counts as reached."""


def collect_pointmaze(task: Task, *, rows: int = ROWS, seed: int = 0, overwrite: bool = False) -> Path:
    """Collect a PointMaze task's data and store them as the Minari dataset `task.local_id`; returns its folder.

    The data are a function of `rows` and `seed` alone. The dataset appears whole or not at all. Raises DataError for a
    task without collector, where the dataset is there already (unless `overwrite`), and where it cannot be written.
    """
    if task.local_id is None or task.environment.name not in POINT_MAZES:
        raise DataError(f"{task.name} has no collector: its data are D4RL's")
    check_collection(task.local_id, task.name, rows=rows, seed=seed, overwrite=overwrite)
    environment = PointMaze(POINT_MAZES[task.environment.name])
    episodes = list(walks(environment, rows, seed))
    goal_x, goal_y = environment.goal
    description = (
        f"{rows} rows of a noisy PD controller's walks (seed {seed}, MuJoCo {mujoco.__version__}), "
        f"reward and termination within {environment.success_radius} m of ({goal_x:g}, {goal_y:g})"
    )
    return store_collection(
        task.local_id,
        episodes,
        observation_size=4,
        action_space=environment.action_space,
        algorithm="shortest paths, PD controller",
        description=description,
    )


def walks(environment: PointMaze, rows: int, seed: int) -> Iterator[EpisodeBuffer]:
    """Episodes of `EPISODE_ROWS` held actions, `rows` in all; each starts at rest in a random free cell."""
    stream = np.random.default_rng(seed)
    for first in range(0, rows, EPISODE_ROWS):
        yield _walk(environment, min(EPISODE_ROWS, rows - first), stream)


def _walk(environment: PointMaze, rows: int, stream: np.random.Generator) -> EpisodeBuffer:
    maze = environment.maze
    cell = maze.free[stream.integers(len(maze.free))]
    x, y = (np.array(environment.centre(cell)) + stream.uniform(-START_NOISE, START_NOISE, 2)).tolist()
    observation = environment.place(x, y)
    observations = np.empty((rows + 1, 4), np.float32)
    actions = np.empty((rows, 2), np.float32)
    observations[0] = observation
    waypoints: list[Cell] = []
    for row in range(rows):
        while not waypoints or within(x, y, environment.centre(waypoints[0]), WAYPOINT_RADIUS):
            if waypoints:
                cell = waypoints.pop(0)
            else:
                goal = maze.free[stream.integers(len(maze.free))]
                waypoints = maze.shortest_path(cell, goal)[1:]
        target = np.array(environment.centre(waypoints[0]))
        force = POSITION_GAIN * (target - observation[:2]) - VELOCITY_GAIN * observation[2:]
        actions[row] = np.clip(force + stream.normal(0.0, ACTION_NOISE, 2), -1.0, 1.0)
        observation = environment.hold(actions[row])
        x, y = observation[:2].tolist()
        observations[row + 1] = observation
    return maze_episode(observations, actions, environment.goal, environment.success_radius)
