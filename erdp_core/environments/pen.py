"""Adroit's pen: a hand turns a pen into the direction of a target. D4RL's `pen-*-v1`, and what Minari's data are from.

Both are built from gymnasium-robotics' model. They have in common: the 45 observations and their order; the scaling of
actions, from [-1, 1] to each joint's range; the actuators' gains; 5 simulator steps of 0.002 s to a step; the start,
always the same pose with a target direction drawn uniformly on two Euler angles in [-1, 1]; the dense reward, with its
bonuses of 10 and 50 and its penalty of 5 for each step with a dropped pen. What differs:

* D4RL ends an episode when the pen drops (its height falls below 0.075 m), after paying that step, and else after 100
  steps; its reference scores go with these rules. gymnasium-robotics' `AdroitHandPen-v1` never ends an episode and cuts
  it after 200 steps.
* D4RL's physics are those of MuJoCo 2, which found one contact between two convex bodies and took the larger of their
  margins. MuJoCo since finds several, with another algorithm, and adds the margins, which makes pen and fingers slip
  differently. DAPG's expert, trained then, scores 119.5 +- 2.6 (standard error, 400 episodes) in MuJoCo 2.3.7, in 3.11
  97.8 +- 3.0 from the same starts, and with the settings made here the same 119.5: not one of the 400 returns differs
  by more than 0.0002 from MuJoCo 2.3.7's. (D4RL had 2.0, which today's Python cannot load.)

With the same seed and actions, `AdroitHandPen-v1` here gives the numbers that gymnasium-robotics gives (a test holds
that).
"""

import math
from functools import cache
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from erdp_core.environments.mujoco_environment import MujocoEnvironment, Vector, robotics_assets

FRAME_SKIP = 5
"""Simulator steps of 0.002 s to an action."""
DROPPED = 0.075
"""Metres above the table: a pen whose centre is lower has dropped."""
NEAR = 0.075
"""Metres between the pen and where it should be, within which its direction earns a bonus."""


class Pen(MujocoEnvironment):
    """Observation: hand joints [24] (rad), pen position [3] (m), its velocity [6], its direction [3] (a unit vector),
    the target direction [3], pen position less the desired one [3], pen direction less the target's [3]; action: the
    24 joints' desired angles.
    """

    metadata: dict[str, Any] = {**MujocoEnvironment.metadata, "render_fps": 100}  # noqa: RUF012

    def __init__(self, d4rl: bool, render_mode: str | None = None) -> None:
        """`d4rl`: with D4RL's rules and physics; else as gymnasium-robotics has it."""
        super().__init__(_model(d4rl), 45, render_mode)
        self.ends_when_dropped = d4rl
        limits = self.model.actuator_ctrlrange
        self._action_middle, self._action_range = limits.mean(axis=1), (limits[:, 1] - limits[:, 0]) / 2
        self._target = int(self.model.body("target").mocapid[0])
        # Views into the simulator's memory: reading them costs no call.
        self._position: Vector = self.data.body("Object").xpos
        self._desired_position: Vector = self.data.site("eps_ball").xpos
        self._ends = [
            (self.data.site(f"{name}_top").xpos, self.data.site(f"{name}_bottom").xpos) for name in ("object", "target")
        ]
        self._lengths = [1.0, 1.0]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """The pen lies in the hand, always the same; the target's direction is drawn. `options` are not needed."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        around_x, around_y = (self.np_random.uniform(-1.0, 1.0) for _ in range(2))
        self.data.mocap_quat[self._target] = _quaternion(around_x, around_y)
        mujoco.mj_forward(self.model, self.data)
        self._lengths = [float(np.linalg.norm(top - bottom)) for top, bottom in self._ends]
        return self._observation(), {"success": False}

    def step(self, action: npt.NDArray[Any]) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Move towards `action` for 0.01 s.

        Reward: cosine of the angle between pen and target, less the pen's distance (m) from its place; near its
        place 10 more from a cosine of 0.9 on, 50 more from 0.95 on; 5 less for a dropped pen.
        """
        self.data.ctrl[:] = self._action_middle + np.clip(action, -1.0, 1.0) * self._action_range
        mujoco.mj_step(self.model, self.data, nstep=FRAME_SKIP)
        distance = float(np.linalg.norm(self._position - self._desired_position))
        direction, target = self._directions()
        cosine = float(direction @ target)
        near, dropped = distance < NEAR, float(self._position[2]) < DROPPED
        reward = cosine - distance + 10.0 * (near and cosine > 0.9) + 50.0 * (near and cosine > 0.95) - 5.0 * dropped
        end = dropped and self.ends_when_dropped
        return self._observation(), reward, end, False, {"success": near and cosine > 0.95}

    def _directions(self) -> tuple[Vector, Vector]:
        """Directions of the pen and of the target, unit vectors."""
        pen, target = ((top - bottom) / length for (top, bottom), length in zip(self._ends, self._lengths, strict=True))
        return pen, target

    def _observation(self) -> Vector:
        direction, target = self._directions()
        return np.concatenate(
            (
                self.data.qpos[:-6],
                self._position,
                self.data.qvel[-6:],
                direction,
                target,
                self._position - self._desired_position,
                direction - target,
            )
        )

    def _camera(self) -> dict[str, Any]:
        return {"distance": 1.0, "azimuth": -45.0}


def _quaternion(around_x: float, around_y: float) -> tuple[float, float, float, float]:
    """The rotation by Euler angles (around_x, around_y, 0), radians, in the order w, x, y, z."""
    sin_x, cos_x = math.sin(around_x / 2), math.cos(around_x / 2)
    sin_y, cos_y = math.sin(around_y / 2), math.cos(around_y / 2)
    return cos_y * cos_x, cos_y * sin_x, sin_y * cos_x, sin_y * sin_x


@cache
def _model(d4rl: bool) -> "mujoco.MjModel":
    spec = mujoco.MjSpec.from_file(str(robotics_assets() / "adroit_hand" / "adroit_pen.xml"))
    # Each environment has a target direction of its own: as a mocap body the target's pose is data, not model.
    spec.body("target").mocap = True
    model = spec.compile()
    names = [model.actuator(number).name for number in range(model.nu)]
    for first, last, gain in (("A_WRJ1", "A_WRJ0", 10.0), ("A_FFJ3", "A_THJ0", 1.0)):
        actuators = slice(names.index(first), names.index(last) + 1)
        model.actuator_gainprm[actuators, :3] = gain, 0.0, 0.0
        model.actuator_biasprm[actuators, :3] = 0.0, -gain, 0.0
    if d4rl:
        flags = mujoco.mjtDisableBit
        model.opt.disableflags |= int(flags.mjDSBL_MULTICCD | flags.mjDSBL_NATIVECCD)
        model.geom_margin /= 2  # all are the same: the sum of two is what the larger was
    return model
