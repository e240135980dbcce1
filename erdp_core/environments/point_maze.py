"""PointMaze: gymnasium-robotics' point mass in a maze, with held actions, a fixed start and a fixed goal.

Dynamics are those of `PointMaze_{UMaze,Medium,Large}-v3`: its point, its walls, its velocity limit, its 0.01 s step.
An action is held for 5 of those steps, which makes the task one of tens of decisions instead of hundreds.
"""

import xml.etree.ElementTree as ET
from functools import cache
from typing import Any, ClassVar

import mujoco
import numpy as np
import numpy.typing as npt

from erdp_core.environments.maze_environment import MazeEnvironment, add_walls, within
from erdp_core.environments.mazes import MAZES, Cell, Maze
from erdp_core.environments.mujoco_environment import Vector, robotics_assets

HOLD = 5
"""Simulator steps for which an action is held."""
START_NOISE = 0.25
"""Metres, per axis: a start is uniform around its cell's centre."""
_SPEED_LIMIT = 5.0


class PointMaze(MazeEnvironment):
    """Observation: x, y (m), vx, vy (m/s); action: force on x and y, 1 being 100 N."""

    metadata: dict[str, Any] = {**MazeEnvironment.metadata, "render_fps": 20}  # noqa: RUF012
    cell_size: ClassVar[float] = 1.0
    success_radius: ClassVar[float] = 0.45

    def __init__(self, size: str, render_mode: str | None = None) -> None:
        """`size`: a key of `erdp_core.environments.mazes.MAZES`."""
        maze = MAZES[size]
        super().__init__(maze, _model(size), 4, centre(maze, maze.goal), render_mode)
        # Views into the simulator's memory: reading them costs no call.
        self._position: Vector = self.data.qpos
        self._velocity: Vector = self.data.qvel

    def centre(self, cell: Cell) -> tuple[float, float]:
        return centre(self.maze, cell)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Start at rest in the maze's start cell, within `START_NOISE` of its centre; `options` are not needed."""
        super().reset(seed=seed)
        x, y = self.centre(self.maze.start)
        noise = self.np_random.uniform(-START_NOISE, START_NOISE, 2)
        return self.place(x + noise[0], y + noise[1]), {"success": self.at_goal()}

    def place(self, x: float, y: float) -> Vector:
        """Put the point at rest at (x, y); the observation there."""
        mujoco.mj_resetData(self.model, self.data)
        self._position[:] = x, y
        return self._observation()

    def step(self, action: npt.NDArray[Any]) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Hold `action` for `HOLD` simulator steps, or until the goal is reached: reward 1, and the end."""
        success = self._simulate(action, stop_at_goal=True)
        return self._observation(), float(success), success, False, {"success": success}

    def hold(self, action: npt.NDArray[Any]) -> Vector:
        """Hold `action` for all of its `HOLD` simulator steps, goal or not; the observation after them."""
        self._simulate(action, stop_at_goal=False)
        return self._observation()

    def _simulate(self, action: npt.NDArray[Any], stop_at_goal: bool) -> bool:
        data, velocity, position = self.data, self._velocity, self._position
        data.ctrl[:] = np.clip(action, -1.0, 1.0)
        for _ in range(HOLD):
            vx, vy = velocity.tolist()
            if abs(vx) > _SPEED_LIMIT or abs(vy) > _SPEED_LIMIT:
                velocity[:] = np.clip(velocity, -_SPEED_LIMIT, _SPEED_LIMIT)
            mujoco.mj_step(self.model, data)
            if stop_at_goal:
                x, y = position.tolist()
                if within(x, y, self._goal, self.success_radius):
                    return True
        return False

    def _observation(self) -> Vector:
        return np.concatenate((self._position, self._velocity))


def centre(maze: Maze, cell: Cell) -> tuple[float, float]:
    """x and y of a cell's centre in metres: the origin is the maze's middle, x grows with columns, y against rows."""
    row, column = cell
    return column + 0.5 - len(maze.rows[0]) / 2, len(maze.rows) / 2 - row - 0.5


@cache
def _model(size: str) -> "mujoco.MjModel":
    root = ET.parse(robotics_assets() / "point" / "point.xml").getroot()
    worldbody = root.find("worldbody")
    assert worldbody is not None
    maze = MAZES[size]
    centres = [centre(maze, cell) for cell in maze.walls]
    add_walls(worldbody, centres, PointMaze.cell_size, 0.4, PointMaze.success_radius, centre(maze, maze.start))
    return mujoco.MjModel.from_xml_string(ET.tostring(root, encoding="unicode"))
