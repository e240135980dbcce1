"""What the environments built here share: a MuJoCo model that many of them use at once, and drawing."""

import copy
import importlib.util
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import numpy.typing as npt

from erdp_core.errors import UserError

Vector = npt.NDArray[np.float64]
WIDTH, HEIGHT = 640, 480


class MujocoEnvironment(gymnasium.Env[Vector, npt.NDArray[Any]]):
    """Flat observations, actions in [-1, 1]; an evaluation makes hundreds, which share one compiled model."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "human"]}  # noqa: RUF012  (as gymnasium declares it)

    def __init__(self, model: "mujoco.MjModel", observation_size: int, render_mode: str | None) -> None:
        """`model` may be shared by many environments: none writes to it (one that renders takes a copy)."""
        self.model = model if render_mode is None else copy.copy(model)
        self.data = mujoco.MjData(self.model)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (observation_size,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (model.nu,), np.float32)
        self.render_mode = render_mode
        self._renderer: Any = None

    def render(self) -> Any:
        """The scene as an image ([480, 640, 3] uint8), or in a window.

        Drawing changes nothing that later steps depend on.

        Raises UserError for an environment that was made without a `render_mode`.
        """
        if self.render_mode is None:
            raise UserError("this environment was made without a render_mode: make it with render_mode='rgb_array'")
        if self._renderer is None:
            self.model.vis.global_.offwidth, self.model.vis.global_.offheight = WIDTH, HEIGHT
            from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

            self._renderer = MujocoRenderer(self.model, self.data, self._camera(), WIDTH, HEIGHT)
        self._mark()
        warmstart = self.data.qacc_warmstart.copy()  # the one result of a step from which the next one starts
        mujoco.mj_forward(self.model, self.data)
        self.data.qacc_warmstart[:] = warmstart
        return self._renderer.render(self.render_mode)

    def close(self) -> None:
        """Free what rendering took."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _camera(self) -> dict[str, Any]:
        """Where to look from: distance and lookat in metres, azimuth and elevation in degrees."""
        raise NotImplementedError

    def _mark(self) -> None:
        """Write what only the picture shows, such as a goal, into this environment's own copy of the model."""


def robotics_assets() -> Path:
    """The folder of gymnasium-robotics' models.

    Found without importing the package, which would register environments and print advice on others.
    """
    spec = importlib.util.find_spec("gymnasium_robotics")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "envs" / "assets"
