"""The Franka kitchen with D4RL's 60 numbers: the environment that the kitchen data go with.

Built from gymnasium-robotics' `FrankaKitchen-v1`: with the same seed and actions both give the same numbers (a test
holds that). What D4RL's `kitchen-*-v0` has in common with it, and what not:

* The same: the start; actions, joint velocities of up to 2 rad/s; 40 simulator steps of 0.002 s to a step; the
  elements' goals and the norm of 0.3 within which one counts as done; each element pays 1, once; an episode ends when
  all of the task's elements are done, or after 280 steps.
* Another: the 60 numbers are D4RL's, 9 joint positions of the robot, 21 of the objects, 30 of the goal;
  `FrankaKitchen-v1` observes 59, velocities among them and no goal. Its observation noise is smaller: up to 0.001 rad
  on the robot's joints, where D4RL has 0.01, and 200 times smaller than D4RL's on the objects. (The robot's noise
  matters beyond the observation: an action asks for a position relative to the one observed.) D4RL judges elements by
  their noisy observation, this one by their position.
"""

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from erdp_core.environments.mujoco_environment import MujocoEnvironment, Vector, robotics_assets

FRAME_SKIP = 40
"""Simulator steps of 0.002 s to an action."""
FASTEST = 2.0
"""rad/s that an action of 1 stands for."""
DONE_WITHIN = 0.3
"""Norm of an element's distance from its goal, below which it is done."""
ROBOT_JOINTS, GOAL_SIZE = 9, 30
ROBOT_NOISE, OBJECT_NOISE = 0.01, 0.0005
"""Shares of the noise that the robot's description gives for each joint."""

ELEMENTS: Mapping[str, Mapping[int, float]] = {
    "bottom burner": {11: -0.88, 12: -0.01},
    "top burner": {15: -0.92, 16: -0.01},
    "light switch": {17: -0.69, 18: -0.05},
    "slide cabinet": {19: 0.37},
    "hinge cabinet": {20: 0.0, 21: 1.45},
    "microwave": {22: -0.75},
    "kettle": {23: -0.23, 24: 0.75, 25: 1.62, 26: 0.99, 27: 0.0, 28: 0.0, 29: -0.06},
}
"""What can be moved: for each element the joint positions (indices of qpos, m or rad) that it is to reach."""

# The robot ready to reach out, every element as it is before it is moved.
_START = np.array(
    [1.48388023e-01, -1.76848573e00, 1.84390296e00, -2.47685760e00, 2.60252026e-01, 7.12533105e-01, 1.59515394e00,
     4.79267505e-02, 3.71350919e-02, -2.66279850e-04, -5.18043486e-05, 3.12877220e-05, -4.51199853e-05,
     -3.90842156e-06, -4.22629655e-05, 6.28065475e-05, 4.04984708e-05, 4.62730939e-04, -2.26906415e-04,
     -4.65501369e-04, -6.44129196e-03, -1.77048263e-03, 1.08009684e-03, -2.69397440e-01, 3.50383255e-01,
     1.61944683e00, 1.00618764e00, 4.06395120e-03, -6.62095997e-03, -2.68278933e-04]
)  # fmt: skip


def goal_of(elements: Sequence[str]) -> Vector:
    """D4RL's goal [30]: the goals of the elements at their indices, zeros elsewhere."""
    goal = np.zeros(GOAL_SIZE)
    for element in elements:
        for index, position in ELEMENTS[element].items():
            goal[index] = position
    return goal


class Kitchen(MujocoEnvironment):
    """Observation: robot joints [9] (rad; m for the two fingers), object positions [21], goal [30]; action: the
    velocities of the robot's joints.
    """

    metadata: dict[str, Any] = {**MujocoEnvironment.metadata, "render_fps": 12}  # noqa: RUF012

    def __init__(self, elements: Sequence[str], render_mode: str | None = None) -> None:
        """`elements`: the keys of `ELEMENTS` that a perfect episode moves to their goals."""
        super().__init__(_model(), ROBOT_JOINTS + 21 + GOAL_SIZE, render_mode)
        self.elements = tuple(elements)
        self.goal = goal_of(self.elements)
        self._done: list[str] = []
        self._noise, self._limits = _robot_description()
        self._seen_robot: Vector = self.data.qpos[:ROBOT_JOINTS].copy()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Always the same start, seen through noise; `options` are not needed."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = _START
        mujoco.mj_forward(self.model, self.data)
        self._done = []
        return self._observation(), self._info()

    def step(self, action: npt.NDArray[Any]) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Move the robot's joints at the velocities `action` for 0.08 s; each element done for the first time pays 1.

        `info["episode_task_completions"]`: the elements done so far, in the order in which they were.
        """
        duration = FRAME_SKIP * self.model.opt.timestep
        wanted = self._seen_robot + FASTEST * np.clip(action, -1.0, 1.0) * duration
        self.data.ctrl[:] = np.clip(wanted, self._limits[:, 0], self._limits[:, 1])
        mujoco.mj_step(self.model, self.data, nstep=FRAME_SKIP)
        observation = self._observation()
        newly = [element for element in self.elements if element not in self._done and self._at_goal(element)]
        self._done += newly
        return observation, float(len(newly)), len(self._done) == len(self.elements), False, self._info()

    def _at_goal(self, element: str) -> bool:
        indices = list(ELEMENTS[element])
        return bool(np.linalg.norm(self.data.qpos[indices] - self.goal[indices]) < DONE_WITHIN)

    def _info(self) -> dict[str, Any]:
        return {"success": len(self._done) == len(self.elements), "episode_task_completions": list(self._done)}

    def _observation(self) -> Vector:
        """Joint positions under noise, and the goal. Velocities take noise as well, as in `FrankaKitchen-v1`, but are
        not observed.
        """
        robot, objects = self.data.qpos[:ROBOT_JOINTS], self.data.qpos[ROBOT_JOINTS:]
        draw = self.np_random.uniform
        self._seen_robot = robot + ROBOT_NOISE * self._noise[:ROBOT_JOINTS] * draw(-1.0, 1.0, ROBOT_JOINTS)
        draw(-1.0, 1.0, ROBOT_JOINTS)
        seen_objects = objects + OBJECT_NOISE * self._noise[-objects.size :] * draw(-1.0, 1.0, objects.size)
        draw(-1.0, 1.0, self.model.nv - ROBOT_JOINTS)
        return np.concatenate((self._seen_robot, seen_objects, self.goal))

    def _camera(self) -> dict[str, Any]:
        return {"distance": 2.2, "azimuth": 70.0, "elevation": -35.0, "lookat": np.array([-0.2, 0.5, 2.0])}


@cache
def _model() -> "mujoco.MjModel":
    return mujoco.MjModel.from_xml_path(
        str(robotics_assets() / "kitchen_franka" / "kitchen_assets" / "kitchen_env_model.xml")
    )


@cache
def _robot_description() -> tuple[Vector, Vector]:
    """Amplitude of each degree of freedom's observation noise [29], and limits of the robot's joints [9, 2]."""
    root = ET.parse(robotics_assets() / "kitchen_franka" / "franka_assets" / "franka_config.xml").getroot()
    joints = [root.find(f"qpos{number}") for number in range(_model().nv)]
    noise = np.array([float(joint.attrib["pos_noise_amp"]) for joint in joints if joint is not None])
    bounds = [joint.attrib["pos_bound"].split() for joint in joints if joint is not None]
    return noise, np.array(bounds[:ROBOT_JOINTS], dtype=np.float64)
