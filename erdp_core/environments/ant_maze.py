"""D4RL's AntMaze on today's MuJoCo: the environment that D4RL's AntMaze data go with.

gymnasium-robotics' AntMaze differs (gear, time step, origin of the maze, success radius, no end at the goal); see
https://arxiv.org/abs/2004.07219 for the original.

Contacts are today's: MuJoCo adds the margins of two geoms, where MuJoCo 2 took the larger, so that a foot feels the
floor 1 cm earlier. A step from the same state ends 0.01 (m or rad; the median of the largest difference) from where
MuJoCo 2.3.7 has it. D4RL's own policy comes to as many goals either way, in umaze 310 of 400 and in medium 315, with
the larger margin 158 and 158 of 200; so nothing is changed here, as it is for the pen, whose scores depend on it.
"""

import xml.etree.ElementTree as ET
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
"""Simulator steps of 0.02 s to an action."""
FORCE = 30.0
"""Control that an action of 1 stands for."""


class AntMaze(MazeEnvironment):
    """Observation: qpos [15] (x, y in metres first), qvel [14]; action: the eight joints' torques."""

    metadata: dict[str, Any] = {**MazeEnvironment.metadata, "render_fps": 10}  # noqa: RUF012
    cell_size: ClassVar[float] = 4.0
    success_radius: ClassVar[float] = 0.5

    def __init__(
        self, size: str, evaluation_goal: tuple[float, float] | None = None, render_mode: str | None = None
    ) -> None:
        """`size`: a key of `erdp_core.environments.mazes.MAZES`.

        `evaluation_goal`: x and y in metres. Without it the goal is drawn near the centre of the maze's goal cell, from
        seed 0 now, and anew where `reset` is given an `evaluation_seed`.
        """
        maze = MAZES[size]
        self._goal_is_given = evaluation_goal is not None
        goal = evaluation_goal if evaluation_goal is not None else draw_goal(maze, 0)
        super().__init__(maze, _model(size), 29, goal, render_mode)

    def centre(self, cell: Cell) -> tuple[float, float]:
        return centre(self.maze, cell)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Start at the centre of the maze's start cell, joints and velocities disturbed by noise of size 0.1.

        `options={"evaluation_seed": n}`: draw the goal from a stream of its own that starts from n, so that the
        episodes of an evaluation share one goal, whatever their seeds. An environment with a given goal keeps it.
        """
        super().reset(seed=seed)
        if options is not None and "evaluation_seed" in options and not self._goal_is_given:
            self.goal = draw_goal(self.maze, options["evaluation_seed"])
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] += self.np_random.uniform(-0.1, 0.1, self.model.nq)
        self.data.qvel[:] += 0.1 * self.np_random.standard_normal(self.model.nv)
        return self._observation(), {"success": self.at_goal()}

    def step(self, action: npt.NDArray[Any]) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Apply `action` for 0.1 s; at the goal: reward 1, and the end."""
        self.data.ctrl[:] = FORCE * np.clip(action, -1.0, 1.0)
        mujoco.mj_step(self.model, self.data, nstep=FRAME_SKIP)
        success = self.at_goal()
        return self._observation(), float(success), success, False, {"success": success}

    def _observation(self) -> Vector:
        return np.concatenate((self.data.qpos, self.data.qvel))


def centre(maze: Maze, cell: Cell) -> tuple[float, float]:
    """x and y of a cell's centre in metres: the origin is the start cell's, x grows with columns, y with rows."""
    return AntMaze.cell_size * (cell[1] - maze.start[1]), AntMaze.cell_size * (cell[0] - maze.start[0])


def draw_goal(maze: Maze, seed: int) -> tuple[float, float]:
    """D4RL's noisy goal: the goal cell's centre plus U(0, 1) and U(0, 0.5) on each axis, not below 0."""
    stream = np.random.default_rng(seed)
    noise = stream.uniform(0.0, 1.0, 2) + stream.uniform(0.0, 0.5, 2)
    x, y = np.maximum(np.array(centre(maze, maze.goal)) + noise, 0.0).tolist()
    return x, y


@cache
def _model(size: str) -> "mujoco.MjModel":
    path = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "ant.xml"
    root = ET.parse(path).getroot()
    option, geometry, worldbody = root.find("option"), root.find("default/geom"), root.find("worldbody")
    assert option is not None
    assert geometry is not None
    assert worldbody is not None
    option.attrib.update(timestep="0.02", integrator="RK4")
    geometry.attrib.update(solref=".02 1", solimp=".8 .8 .01")
    for motor in root.iter("motor"):
        motor.attrib.update(gear="1", ctrlrange=f"-{FORCE} {FORCE}")
    maze = MAZES[size]
    centres = [centre(maze, cell) for cell in maze.walls]
    add_walls(worldbody, centres, AntMaze.cell_size, 2.0, AntMaze.success_radius, centre(maze, maze.start))
    return mujoco.MjModel.from_xml_string(ET.tostring(root, encoding="unicode"))
