"""AntMaze's local collections, by D4RL's recipe (https://arxiv.org/abs/2004.07219).

An ant walks from where the task's data start to a goal that is drawn anew for each walk: to the centre of the next cell
of the shortest path, disturbed at every step, and to the goal itself once it is in the goal's cell or next to it. The
policy that walks knows nothing of mazes: it sees the ant, less its place, and the direction. A walk takes
`EPISODE_ROWS` rows, at the goal or not. Rewards are given afterwards, to all rows, for the evaluation's goal, which the
walks do not know: reward = terminal = s' is within 0.5 m of it. Terminals thus stand in the middle of episodes, in
clusters, as in D4RL's files; each row is a transition of its own.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt
from rich.console import Console

from erdp_core.data.collection import check_collection, maze_episode, store_collection
from erdp_core.data.policy_file import Policy, load_policy
from erdp_core.data.row_meter import RowMeter
from erdp_core.data.transitions import Floats
from erdp_core.environments.ant_maze import AntMaze, centre
from erdp_core.environments.mazes import MAZES, Cell, Maze
from erdp_core.errors import DataError
from erdp_core.tasks import Task

Numbers = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ROWS = 200_000
EPISODE_ROWS = 1001
"""D4RL's 1000 steps, and the one that its counter adds."""
OBSERVATION_SIZE, ACTION_SIZE = 29, 8
ACTION_NOISE = 0.2
"""Standard deviation of the noise on the policy's actions."""
DIRECTION_LENGTH = 10.0
"""Length of the vector to the waypoint that the policy is given."""
EVALUATION_OFFSET = 0.75
"""Metres, per axis, from the goal cell's centre to the evaluation's goal: the mean of D4RL's goal noise."""
_TOGETHER = 200
"""Walks that are simulated side by side: few enough for memory, enough for one call of the policy to be cheap."""


@dataclass(frozen=True)
class Recipe:
    """Where a dataset's walks start and end."""

    size: str
    """Key of `erdp_core.environments.mazes.MAZES`."""
    starts: tuple[Cell, ...]
    """Empty: where evaluation starts."""
    goals: tuple[Cell, ...]


def _recipes() -> dict[str, Recipe]:
    goals: dict[str, tuple[Cell, ...]] = {
        "medium": ((2, 6), (5, 1), (6, 5)),
        "large": ((1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9)),
    }
    found = {"antmaze-umaze-v0": Recipe("umaze", (), ((3, 1),))}
    for size, cells in goals.items():
        starts = tuple(cell for cell in MAZES[size].free if cell not in cells)
        found[f"antmaze-{size}-play-v0"] = Recipe(size, starts, cells)
    for size, maze in MAZES.items():
        found[f"antmaze-{size}-diverse-v0"] = Recipe(size, maze.free, maze.free)
    return found


RECIPES = _recipes()
"""By the task's name."""


@dataclass(frozen=True)
class Walk:
    """What chance decides about a walk, drawn before it begins: a function of the collection's seed and its number."""

    rows: int
    reset_seed: int
    start: tuple[float, float] | None
    """x and y in metres; None: where evaluation starts."""
    goal_cell: Cell
    goal: tuple[float, float]
    waypoint_noise: Numbers
    """[rows, 2], metres"""
    policy_noise: Numbers
    """[rows, A], standard normal"""
    action_noise: Numbers
    """[rows, A]"""


def collect_ant_maze(
    task: Task,
    policy_file: Path,
    *,
    rows: int = ROWS,
    seed: int = 0,
    threads: int | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> Path:
    """Collect an AntMaze task's data and store them as the Minari dataset `task.local_id`; returns its folder.

    policy_file: see `erdp_core.data.policy_file`; it takes qpos without x and y, qvel, and the vector to the waypoint,
        of length 10 (29 numbers), and gives the eight joints' torques in [-1, 1]. D4RL's own is public.
    threads: how many simulate, all of the machine's cores unless given. They change nothing in the data, which are a
        function of `rows`, `seed` and the policy (and of MuJoCo's version).
    console: where progress is told, standard error unless given.

    The dataset's metadata name its `environment` and `evaluation_goal` [x, y], as the attributes of files do. The
    dataset appears whole or not at all. Raises DataError for a task that is no AntMaze, a bad policy file, where the
    dataset is there already (unless `overwrite`), and where it cannot be written.
    """
    if task.local_id is None or task.name not in RECIPES:
        raise DataError(f"{task.name} has no collector that takes a policy: {', '.join(RECIPES)} have")
    check_collection(task.local_id, task.name, rows=rows, seed=seed, overwrite=overwrite)
    recipe = RECIPES[task.name]
    policy = load_policy(policy_file, OBSERVATION_SIZE, ACTION_SIZE, "the ant with a direction", seed)
    goal_x, goal_y = goal = evaluation_goal(MAZES[recipe.size])
    episodes, reached = [], 0
    with RowMeter(task.name, rows, console) as meter:
        for first in range(0, rows, _TOGETHER * EPISODE_ROWS):
            numbers = range(first // EPISODE_ROWS, -(-min(rows, first + _TOGETHER * EPISODE_ROWS) // EPISODE_ROWS))
            walks = [
                draw_walk(recipe, seed, number, min(EPISODE_ROWS, rows - number * EPISODE_ROWS)) for number in numbers
            ]
            found = simulate(recipe.size, walks, policy, threads or _cores(), meter.collected)
            for walk, (observations, actions) in zip(walks, found, strict=True):
                reached += bool(maze_episode(observations, actions, walk.goal, AntMaze.success_radius).rewards.any())
                episodes.append(maze_episode(observations, actions, goal, AntMaze.success_radius))
    description = (
        f"{rows} rows by D4RL's recipe for {task.name} (policy {policy_file.name}, sha256 {policy.sha256[:16]}; seed "
        f"{seed}; MuJoCo {mujoco.__version__}): {reached} of {len(episodes)} walks came to their goals; reward and "
        f"termination within {AntMaze.success_radius} m of the evaluation's goal ({goal_x:g}, {goal_y:g})"
    )
    return store_collection(
        task.local_id,
        episodes,
        observation_size=OBSERVATION_SIZE,
        action_space=AntMaze(recipe.size).action_space,
        algorithm="D4RL's recipe: shortest paths, a policy that walks in a direction",
        description=description,
        metadata={"environment": f"d4rl-antmaze-{recipe.size}", "evaluation_goal": list(goal)},
    )


def evaluation_goal(maze: Maze) -> tuple[float, float]:
    """x and y in metres of the goal that rewards are for: the same for all collections in a maze."""
    x, y = centre(maze, maze.goal)
    return x + EVALUATION_OFFSET, y + EVALUATION_OFFSET


def draw_walk(recipe: Recipe, seed: int, number: int, rows: int) -> Walk:
    """The walk of that number in the collection of that seed; fewer rows change nothing in those there are."""
    maze = MAZES[recipe.size]
    stream = np.random.default_rng([seed, number])
    reset_seed = int(stream.integers(2**31))
    start = None
    if recipe.starts:
        x, y = centre(maze, recipe.starts[stream.integers(len(recipe.starts))])
        start = (x + stream.uniform(0.0, 1.0), y + stream.uniform(0.0, 1.0))
    goal_cell = recipe.goals[stream.integers(len(recipe.goals))]
    noise = stream.uniform(0.0, 1.0, 2) + stream.uniform(0.0, 0.5, 2)
    x, y = np.maximum(np.array(centre(maze, goal_cell)) + noise, 0.0).tolist()
    return Walk(
        rows,
        reset_seed,
        start,
        goal_cell,
        (x, y),
        stream.uniform(0.0, 1.0, (EPISODE_ROWS, 2))[:rows],
        stream.standard_normal((EPISODE_ROWS, ACTION_SIZE))[:rows],
        stream.normal(0.0, ACTION_NOISE, (EPISODE_ROWS, ACTION_SIZE))[:rows],
    )


def simulate(
    size: str, walks: Sequence[Walk], policy: Policy, threads: int, collected: Callable[[int], None]
) -> list[tuple[Floats, Floats]]:
    """Observations [rows + 1, 29] and actions [rows, 8] of each walk. `collected` is told of rows as they come."""
    environments = [AntMaze(size) for _ in walks]
    way = _Way(MAZES[size], walks)
    states = np.array([_start(environment, walk) for environment, walk in zip(environments, walks, strict=True)])
    found = [
        (np.empty((walk.rows + 1, OBSERVATION_SIZE), np.float32), np.empty((walk.rows, ACTION_SIZE), np.float32))
        for walk in walks
    ]
    for (observations, _), state in zip(found, states, strict=True):
        observations[0] = state

    def step(share: Integers, row: int) -> None:
        for number in share.tolist():
            observations, actions = found[number]
            states[number] = environments[number].step(actions[row])[0]
            observations[row + 1] = states[number]

    with ThreadPoolExecutor(threads) as pool:  # MuJoCo lets other threads run while it steps
        for row in range(max(walk.rows for walk in walks)):
            going = np.array([number for number, walk in enumerate(walks) if row < walk.rows])
            to_waypoint = way.waypoints(going, states[going, :2], row) - states[going, :2]
            length = np.linalg.norm(to_waypoint, axis=1, keepdims=True)
            inputs = np.hstack((states[going, 2:], DIRECTION_LENGTH * to_waypoint / np.maximum(length, 1e-6)))
            noise = np.array([walks[number].policy_noise[row] for number in going])
            acted = policy.act(inputs.astype(np.float32), noise.astype(np.float32))
            for number, action in zip(going.tolist(), acted, strict=True):
                found[number][1][row] = np.clip(action + walks[number].action_noise[row], -1.0, 1.0)
            list(pool.map(step, np.array_split(going, threads), [row] * threads))
            collected(len(going))
    return found


def _start(environment: AntMaze, walk: Walk) -> Numbers:
    """Reset the environment to the walk's start: [29]."""
    state: Numbers = environment.reset(seed=walk.reset_seed)[0]
    if walk.start is not None:
        state[:2] = environment.data.qpos[:2] = walk.start
    return state


class _Way:
    """Where walks go next."""

    def __init__(self, maze: Maze, walks: Sequence[Walk]) -> None:
        self._start = maze.start
        self._goal_cells = np.array([walk.goal_cell for walk in walks])
        self._goals = np.array([walk.goal for walk in walks])
        self._noise = [walk.waypoint_noise for walk in walks]
        ways = {cell: next_cells(maze, cell) for cell in {walk.goal_cell for walk in walks}}
        self._next = np.array([ways[walk.goal_cell] for walk in walks])

    def waypoints(self, walks: Integers, positions: Numbers, row: int) -> Numbers:
        """[W, 2] for the walks of these numbers, which are at `positions` [W, 2] and about to take the step `row`."""
        cells = cells_of(self._start, positions, self._next.shape[1:3])
        ahead = self._next[walks, cells[:, 0], cells[:, 1]]
        at_goal = (ahead == self._goal_cells[walks]).all(axis=1, keepdims=True)
        centres = AntMaze.cell_size * (ahead - self._start)[:, ::-1]
        noise = np.array([self._noise[number][row] for number in walks])
        waypoints: Numbers = np.where(at_goal, self._goals[walks], centres + noise)
        return waypoints


def cells_of(start: Cell, positions: Numbers, shape: Sequence[int]) -> Integers:
    """D4RL's cells [N, 2] (row, column) of points [N, 2] (x, y): counted from floor, a cell begins at its centre.

    `start`: the cell whose centre is the origin; `shape`: rows and columns of the maze, inside whose border the cells
    are.
    """
    cells = np.array(start) + (np.maximum(positions[:, ::-1], 1e-4) / AntMaze.cell_size).astype(np.int64)
    inside: Integers = np.clip(cells, 1, np.array(shape) - 2)
    return inside


def next_cells(maze: Maze, goal: Cell) -> Integers:
    """The next cell [rows, columns, 2] of the shortest path to `goal` from every cell; from the goal, itself.

    Also from walls: an ant before the centre of a free cell counts as in the cell before, wall or not.
    """
    lengths = {cell: len(maze.shortest_path(cell, goal)) for cell in maze.free}
    found = np.empty((len(maze.rows), len(maze.rows[0]), 2), np.int64)
    for row, column in np.ndindex(found.shape[:2]):
        # The neighbours of a free cell are at distance 1; a wall inside walls has none, and no ant in it.
        others = [cell for cell in maze.free if cell != (row, column)]
        found[row, column] = min(
            others,
            key=lambda cell: (abs(cell[0] - row) + abs(cell[1] - column), lengths[cell]),
        )
    found[goal] = goal
    return found


def _cores() -> int:
    affinity: Any = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
