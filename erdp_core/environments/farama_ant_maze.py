"""Farama's AntMaze (`AntMaze_*-v4` and `-v5` of gymnasium-robotics): where Minari's AntMaze data were recorded.

Not D4RL's: the ant's gear is 150, a step lasts 0.05 s, the maze's middle is the origin and y runs against the rows, the
goal has a radius of 0.45 m, goal and start are drawn anew each episode. With the same seed and actions the numbers are
those of gymnasium-robotics with `continuing_task=False, reset_target=False` (a test holds that): the goal ends the
episode. v4 and v5 differ in what they observe beyond D4RL's 29 numbers, not in these.
"""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import mujoco
import numpy as np
import numpy.typing as npt

from erdp_core.environments.maze_environment import MazeEnvironment, add_walls
from erdp_core.environments.mazes import MAZES, Cell, Maze
from erdp_core.environments.mujoco_environment import Vector

FRAME_SKIP = 5
"""Simulator steps of 0.01 s to an action."""
POSITION_NOISE = 1.0
"""Metres, per axis: goals and starts are uniform around their cells' centres."""

PLACES: Mapping[str, tuple[str, tuple[Cell, ...]]] = {
    "UMaze": ("umaze", MAZES["umaze"].free),
    "Medium": ("medium", MAZES["medium"].free),
    "Medium_Diverse_GR": ("medium", ((1, 1), (2, 6), (5, 1), (6, 5))),
    "Large": ("large", MAZES["large"].free),
    "Large_Diverse_GR": ("large", ((1, 1), (1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9))),
}
"""Middle part of the environment's name: its maze, and the cells of its goals and starts."""


class FaramaAntMaze(MazeEnvironment):
    """Observation: qpos [15] (x, y in metres first), qvel [14]; action: the eight joints' torques."""

    metadata: dict[str, Any] = {**MazeEnvironment.metadata, "render_fps": 20}  # noqa: RUF012
    cell_size: ClassVar[float] = 4.0
    success_radius: ClassVar[float] = 0.45

    def __init__(
        self,
        place: str,
        reset_cell: Cell | None = None,
        goal_cell: Cell | None = None,
        render_mode: str | None = None,
    ) -> None:
        """`place`: a key of `PLACES`; `reset_cell`, `goal_cell`: the only cell of the starts or goals."""
        size, cells = PLACES[place]
        self.reset_cells = cells if reset_cell is None else (reset_cell,)
        self.goal_cells = cells if goal_cell is None else (goal_cell,)
        maze = MAZES[size]
        super().__init__(maze, _model(size), 29, centre(maze, self.goal_cells[0]), render_mode)

    def centre(self, cell: Cell) -> tuple[float, float]:
        return centre(self.maze, cell)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Draw a goal, and a start that is not near it; the ant stands still. `options` are not needed."""
        super().reset(seed=seed)
        self.goal = self._disturbed(self.centre(self._draw(self.goal_cells)))
        start = self.goal
        while np.hypot(start[0] - self.goal[0], start[1] - self.goal[1]) <= self.cell_size / 2:
            start = self.centre(self._draw(self.reset_cells))
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:2] = self._disturbed(start)
        return self._observation(), {"success": self.at_goal()}

    def step(self, action: npt.NDArray[Any]) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Apply `action` for 0.05 s; at the goal: reward 1, and the end."""
        self.data.ctrl[:] = np.clip(action, -1.0, 1.0)
        mujoco.mj_step(self.model, self.data, nstep=FRAME_SKIP)
        success = self.at_goal()
        return self._observation(), float(success), success, False, {"success": success}

    def _draw(self, cells: tuple[Cell, ...]) -> Cell:
        return cells[int(self.np_random.integers(0, len(cells)))]

    def _disturbed(self, position: tuple[float, float]) -> tuple[float, float]:
        x, y = (value + self.np_random.uniform(-POSITION_NOISE, POSITION_NOISE) for value in position)
        return x, y

    def _observation(self) -> Vector:
        return np.concatenate((self.data.qpos, self.data.qvel))


def centre(maze: Maze, cell: Cell) -> tuple[float, float]:
    """x and y of a cell's centre in metres: the origin is the maze's middle, x grows with columns, y against rows."""
    row, column = cell
    size = FaramaAntMaze.cell_size
    return size * (column + 0.5 - len(maze.rows[0]) / 2), size * (len(maze.rows) / 2 - row - 0.5)


@cache
def _model(size: str) -> "mujoco.MjModel":
    root = ET.parse(Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "ant.xml").getroot()
    worldbody = root.find("worldbody")
    assert worldbody is not None
    maze = MAZES[size]
    centres = [centre(maze, cell) for cell in maze.walls]
    add_walls(worldbody, centres, FaramaAntMaze.cell_size, 2.0, FaramaAntMaze.success_radius, centre(maze, maze.start))
    return mujoco.MjModel.from_xml_string(ET.tostring(root, encoding="unicode"))
