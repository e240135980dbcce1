"""What the maze environments share: a MuJoCo model with walls, rendering, and success at a goal."""

import xml.etree.ElementTree as ET
from typing import Any, ClassVar

import mujoco
import numpy as np

from erdp_core.environments.mazes import Cell, Maze
from erdp_core.environments.mujoco_environment import HEIGHT, WIDTH, MujocoEnvironment


class MazeEnvironment(MujocoEnvironment):
    """A body in a maze; reaching the goal pays 1 and ends the episode, everything else pays 0."""

    cell_size: ClassVar[float]
    """Metres from one cell's centre to the next."""
    success_radius: ClassVar[float]
    """Metres between body and goal, in the plane, up to which the goal counts as reached."""

    def __init__(
        self,
        maze: Maze,
        model: "mujoco.MjModel",
        observation_size: int,
        goal: tuple[float, float],
        render_mode: str | None,
    ) -> None:
        super().__init__(model, observation_size, render_mode)
        self.maze = maze
        self.goal = goal

    @property
    def goal(self) -> tuple[float, float]:
        """The goal's x and y in metres."""
        return self._goal

    @goal.setter
    def goal(self, goal: tuple[float, float]) -> None:
        self._goal = (float(goal[0]), float(goal[1]))

    def at_goal(self) -> bool:
        """Whether the body is within `success_radius` of the goal."""
        x, y = self.data.qpos[:2].tolist()
        return within(x, y, self._goal, self.success_radius)

    def _camera(self) -> dict[str, Any]:
        """Straight from above, so that no wall hides the body; the whole maze is in view."""
        rows, columns = len(self.maze.rows), len(self.maze.rows[0])
        extent = max(rows, columns * HEIGHT / WIDTH) * self.cell_size
        walls_x, walls_y = zip(*(self.centre(cell) for cell in self.maze.walls), strict=True)
        middle = np.array([(min(walls_x) + max(walls_x)) / 2, (min(walls_y) + max(walls_y)) / 2, 0.0])
        return {"distance": 1.4 * extent, "lookat": middle, "azimuth": 90.0, "elevation": -90.0}

    def _mark(self) -> None:
        """The goal is a red disc; the start's blue one stays where it is."""
        for mark in ("goal", "goal_surroundings"):
            self.model.site(mark).pos[:2] = self._goal

    def centre(self, cell: Cell) -> tuple[float, float]:
        """x and y of a cell's centre, in metres."""
        raise NotImplementedError


def within(x: float, y: float, goal: tuple[float, float], radius: float) -> bool:
    """Whether (x, y) is at most `radius` from the goal."""
    return (x - goal[0]) ** 2 + (y - goal[1]) ** 2 <= radius * radius


def add_walls(
    worldbody: ET.Element,
    centres: list[tuple[float, float]],
    size: float,
    height: float,
    radius: float,
    start: tuple[float, float],
) -> None:
    """Add a box of size x size x height metres at each centre; mark goal and start; make the floor plain and endless.

    `radius`: that of the goal, metres; `start`: x and y of the start cell's centre.
    """
    for number, (x, y) in enumerate(centres):
        ET.SubElement(
            worldbody,
            "geom",
            name=f"wall_{number}",
            type="box",
            pos=f"{x} {y} {height / 2}",
            size=f"{size / 2} {size / 2} {height / 2}",
            contype="1",
            conaffinity="1",
            rgba="0.4 0.41 0.44 1",
        )
    for name, (x, y), width, colour in (
        ("start", start, 0.35 * size, "0.2 0.5 1 0.5"),
        ("goal_surroundings", (0.0, 0.0), 0.4 * size, "1 0.1 0.1 0.35"),
        ("goal", (0.0, 0.0), radius, "1 0.1 0.1 0.9"),
    ):
        ET.SubElement(
            worldbody, "site", name=name, type="cylinder", pos=f"{x} {y} 0.01", size=f"{width} 0.01", rgba=colour
        )
    floor = worldbody.find("geom[@type='plane']")
    assert floor is not None
    floor.attrib.pop("material")
    floor.attrib.update(size="0 0 1", rgba="0.17 0.2 0.25 1")
