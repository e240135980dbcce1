"""From an environment's name to the environment that a policy is evaluated in."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium.wrappers import TimeLimit

from erdp_core.environments.ant_maze import AntMaze
from erdp_core.environments.mazes import MAZES
from erdp_core.environments.point_maze import PointMaze
from erdp_core.errors import UserError, suggestion
from erdp_core.tasks import TASKS, EnvironmentSpec

GYM = tuple(f"{robot}-{version}" for robot in ("HalfCheetah", "Hopper", "Walker2d") for version in ("v4", "v5"))
POINT_MAZES = {f"pointmaze-{size}": size for size in MAZES}
ANT_MAZES = {f"d4rl-antmaze-{size}": size for size in MAZES}
ENVIRONMENTS = (*GYM, *POINT_MAZES, *ANT_MAZES)

_STEP_LIMITS = {task.environment.name: task.step_limit for task in TASKS.values()}


def make_environment(spec: EnvironmentSpec, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    """The environment of that name, with its step limit.

    Observations are flat, in the layout of the task's data; actions are a Box in [-1, 1]; the sum of an episode's
    rewards is what D4RL scores. `reset(seed=s)` makes the episode a function of s and the actions alone.
    `reset(options={"evaluation_seed": n})` is understood by all, and draws the goal anew where it is noisy (AntMaze).
    `d4rl-antmaze-*` take the option `evaluation_goal: [x, y]` (metres), which fixes the goal.

    Raises UserError for an unknown name or option.
    """
    if spec.name not in ENVIRONMENTS:
        raise UserError(f"unknown environment {spec.name!r}: {suggestion(spec.name, ENVIRONMENTS)}")
    known = ("evaluation_goal",) if spec.name in ANT_MAZES else ()
    for option in spec.options:
        if option not in known:
            raise UserError(f"environment {spec.name!r} has no option {option!r}: {_options(known)}")
    if spec.name in GYM:
        with warnings.catch_warnings():
            # The v4 environments are old on purpose: their models are those of D4RL's time.
            warnings.simplefilter("ignore", DeprecationWarning)
            environment: gymnasium.Env[Any, Any] = gymnasium.make(
                spec.name, render_mode=render_mode, camera_name="track", disable_env_checker=True
            )
        if render_mode is not None:
            _draw_floor_everywhere(environment.get_wrapper_attr("model"))
        return environment
    if spec.name in ANT_MAZES:
        goal = _evaluation_goal(spec.name, spec.options)
        maze: AntMaze | PointMaze = AntMaze(ANT_MAZES[spec.name], goal, render_mode)
    else:
        maze = PointMaze(POINT_MAZES[spec.name], render_mode)
    return TimeLimit(maze, _STEP_LIMITS[spec.name])


def _draw_floor_everywhere(model: Any) -> None:
    """Let a MuJoCo model's floor, which bodies feel everywhere, also be seen everywhere, its pattern as before."""
    floor = model.geom("floor")
    model.mat_texrepeat[floor.matid] /= 2 * floor.size[:2]
    floor.size[:2] = 0  # MuJoCo draws such a plane without end


def _options(known: tuple[str, ...]) -> str:
    return f"its options: {', '.join(known)}" if known else "it takes none"


def _evaluation_goal(name: str, options: Mapping[str, Any]) -> tuple[float, float] | None:
    if "evaluation_goal" not in options:
        return None
    try:
        x, y = (float(value) for value in options["evaluation_goal"])
    except (TypeError, ValueError):
        x = y = math.nan
    if not (math.isfinite(x) and math.isfinite(y)):
        raise UserError(f"environment {name!r}: evaluation_goal={options['evaluation_goal']!r} is not [x, y] in metres")
    return x, y
