"""A video of one episode, drawn off screen by replaying its actions.

Drawing happens in a process of its own: MuJoCo takes its graphics library, once and for all, when it is imported, and
a library that does not work fails there in ways of its own, without harm to whoever asked for the video.
"""

import importlib.util
import json
import math
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from erdp_core.errors import UserError
from erdp_core.tasks import EnvironmentSpec

BACKENDS = ("egl", "osmesa")
"""Values of MUJOCO_GL that need no screen, in the order in which they are tried."""
MOST_FRAMES = 50
"""Frames a second: of an environment that decides more often, only every n-th step is drawn."""
CANNOT_DRAW = 3
"""Exit status of the drawing process where its graphics library does not work."""


class EpisodeRecorder(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Keeps what its latest episode can be replayed from: seed, options and actions."""

    def __init__(self, environment: gymnasium.Env[Any, Any]) -> None:
        super().__init__(environment)
        self.seed: int | None = None
        self.options: dict[str, Any] | None = None
        self.actions: list[npt.NDArray[np.float32]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.seed, self.options, self.actions = seed, options, []
        return super().reset(seed=seed, options=options)

    def step(self, action: npt.NDArray[np.float32]) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.actions.append(action.copy())
        return super().step(action)


def check_target(path: Path) -> None:
    """Raise UserError where a video cannot be written to `path`: its suffix, its folder, or a package missing here."""
    if path.suffix.lower() != ".mp4":
        raise UserError(f"videos are .mp4 files: give --video a name that ends in .mp4, not {path.name!r}")
    if not path.absolute().parent.is_dir():
        raise UserError(f"the folder of the video does not exist: make {path.absolute().parent} first")
    if path.is_dir():
        raise UserError(f"{path} is a folder: give --video the name of a file in it")
    for package in ("imageio", "imageio_ffmpeg"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"videos need the package {package}: pip install 'erdp-bench[video]'")


def record_video(spec: EnvironmentSpec, episode: EpisodeRecorder, path: Path) -> None:
    """Replay an episode of `spec`'s environment into a video at `path`, in real time; it appears whole or not at all.

    Draws with $MUJOCO_GL where that is set, else with the first of `BACKENDS` that works. Raises UserError where none
    does, or where the file cannot be written.
    """
    request = {
        "environment": spec.to_dict(),
        "seed": episode.seed,
        "options": episode.options,
        "actions": [action.tolist() for action in episode.actions],
    }
    wanted = os.environ.get("MUJOCO_GL")
    reasons = []
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.mp4")
    try:
        for backend in (wanted,) if wanted else BACKENDS:
            reason = _draw_elsewhere(backend, {**request, "path": str(beside.absolute())})
            if reason is None:
                os.replace(beside, path)
                return
            reasons.append(f"{backend}: {reason}")
    finally:
        beside.unlink(missing_ok=True)
    if wanted:
        raise UserError(f"no video: MUJOCO_GL={wanted} does not work here ({reasons[0]}): unset it to try others")
    raise UserError(
        "no video: no graphics library works here; on Debian, apt-get install libegl1 libgl1-mesa-dri, or libosmesa6 "
        f"({'; '.join(reasons)})"
    )


def _draw_elsewhere(backend: str, request: dict[str, Any]) -> str | None:
    """Run `_draw` in a process with MUJOCO_GL=backend; None, or why that cannot draw."""
    package = str(Path(__file__).parents[1])
    search = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.run(
        [sys.executable, "-m", "erdp_core.video"],
        input=json.dumps(request),
        env={**os.environ, "MUJOCO_GL": backend, "PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode == 0:
        return None
    if process.returncode == CANNOT_DRAW:
        return process.stdout.splitlines()[-1]
    if process.returncode < 0:
        return f"its process ended with signal {-process.returncode}"
    if process.returncode == 2:
        raise UserError(process.stdout.splitlines()[-1])
    raise RuntimeError(f"drawing failed:\n{process.stderr}")


def _draw(request: dict[str, Any]) -> int:
    """Draw the requested episode into the requested file; prints one line where that does not go, and returns why."""
    try:
        from erdp_core.environments.make import make_environment

        spec = EnvironmentSpec(request["environment"]["name"], request["environment"]["options"])
        environment = make_environment(spec, render_mode="rgb_array")
        environment.reset(seed=request["seed"], options=request["options"])
        frame: Any = environment.render()
    except Exception as error:  # each graphics library fails in its own way; which, and why, is told to the user
        print(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
        return CANNOT_DRAW
    import imageio.v2 as imageio

    rate = environment.metadata["render_fps"]
    stride = math.ceil(rate / MOST_FRAMES)
    try:
        writer: Any = imageio.get_writer(request["path"], format="FFMPEG", fps=rate / stride)
        with writer:
            writer.append_data(frame)
            for number, action in enumerate(request["actions"], start=1):
                environment.step(np.array(action, dtype=np.float32))
                if number % stride == 0 or number == len(request["actions"]):
                    writer.append_data(environment.render())
    except OSError as error:
        print(f"the video cannot be written ({(str(error).splitlines() or [''])[0]}): choose another place for it")
        return 2
    environment.close()
    return 0


if __name__ == "__main__":
    sys.exit(_draw(json.load(sys.stdin)))
