"""From an environment's name to the environment that a policy is evaluated in."""

import difflib
import functools
import json
import math
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium.wrappers import TimeLimit

from erdp_core.environments.ant_maze import AntMaze
from erdp_core.environments.farama_ant_maze import PLACES, FaramaAntMaze
from erdp_core.environments.gymnasium_environment import CheckedEnvironment, flat_environment, registered_environments
from erdp_core.environments.kitchen import ELEMENTS, Kitchen
from erdp_core.environments.mazes import MAZES, Cell, Maze
from erdp_core.environments.mujoco_environment import MujocoEnvironment
from erdp_core.environments.pen import Pen
from erdp_core.environments.point_maze import PointMaze
from erdp_core.errors import UserError, suggestion
from erdp_core.tasks import TASKS, EnvironmentSpec

GYM = tuple(f"{robot}-{version}" for robot in ("HalfCheetah", "Hopper", "Walker2d") for version in ("v4", "v5"))
POINT_MAZES = {f"pointmaze-{size}": size for size in MAZES}
ANT_MAZES = {f"d4rl-antmaze-{size}": size for size in MAZES}
FARAMA_ANT_MAZES = {f"AntMaze_{place}-{version}": place for place in PLACES for version in ("v4", "v5")}
PENS = ("d4rl-pen", "AdroitHandPen-v1")
KITCHENS = ("FrankaKitchen-v1",)
BENCHMARK = (*GYM, *POINT_MAZES, *ANT_MAZES, *FARAMA_ANT_MAZES, *PENS, *KITCHENS)

_OPTIONS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(ANT_MAZES, ("evaluation_goal",)),
    **dict.fromkeys(FARAMA_ANT_MAZES, ("reset_cell", "goal_cell")),
    **dict.fromkeys(KITCHENS, ("elements",)),
}
_STEP_LIMITS: Mapping[str, int] = {
    **dict.fromkeys(GYM, 1000),
    **{task.environment.name: task.step_limit for task in TASKS.values()},
    **{name: 700 if place == "UMaze" else 1000 for name, place in FARAMA_ANT_MAZES.items()},
    "AdroitHandPen-v1": 200,
}


def make_environment(spec: EnvironmentSpec, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    """The environment of that name, with its step limit: one of `BENCHMARK`, or of gymnasium's registry.

    Observations are flat, in the layout of the task's data; actions are a Box in [-1, 1]; the sum of an episode's
    rewards is what D4RL scores. `reset(seed=s)` makes the episode a function of s and the actions alone.
    `reset(options={"evaluation_seed": n})` is understood by all, and draws the goal anew where an evaluation's episodes
    share a noisy one (D4RL's AntMaze).

    Options: `d4rl-antmaze-*` take `evaluation_goal: [x, y]` (metres), which fixes the goal; `AntMaze_*` take
    `reset_cell` and `goal_cell: [row, column]`, near which starts or goals then are; `FrankaKitchen-v1` takes
    `elements: [name, ...]`, those to move (all seven without it); those of gymnasium's registry what `gymnasium.make`
    takes (see `flat_environment` for what is done to them).

    Raises UserError for an unknown name or option, an option's value that makes no sense, or episodes without end.
    """
    if spec.name not in BENCHMARK:
        return _registered(spec, render_mode)
    known = _OPTIONS.get(spec.name, ())
    for option in spec.options:
        if option not in known:
            raise UserError(f"environment {spec.name!r} has no option {option!r}: {_options(known)}")
    if spec.name in GYM:
        return _gym(spec.name, render_mode)
    return TimeLimit(_built_here(spec.name, spec.options, render_mode), _STEP_LIMITS[spec.name])


def step_limit(spec: EnvironmentSpec) -> int | None:
    """Steps after which `make_environment` ends an episode. None: the environment is not known, or does not end."""
    if spec.name in BENCHMARK:
        return _STEP_LIMITS[spec.name]
    registered = registered_environments().get(spec.name.rpartition(":")[2])
    limit: int | None = spec.options.get("max_episode_steps", registered and registered.max_episode_steps)
    return limit


@functools.cache
def _sizes(name: str, options: str) -> tuple[int, int]:
    environment = make_environment(EnvironmentSpec(name, json.loads(options)))
    sizes = [math.prod(space.shape or ()) for space in (environment.observation_space, environment.action_space)]
    environment.close()
    return sizes[0], sizes[1]


def environment_sizes(spec: EnvironmentSpec) -> tuple[int, int]:
    """Lengths of the environment's observations and actions."""
    return _sizes(spec.name, json.dumps(spec.options, sort_keys=True))


def _registered(spec: EnvironmentSpec, render_mode: str | None) -> gymnasium.Env[Any, Any]:
    if ":" not in spec.name and spec.name not in (registered := registered_environments()):
        near = difflib.get_close_matches(spec.name, {*BENCHMARK, *registered}, n=3, cutoff=0.0)
        raise UserError(f"unknown environment {spec.name!r}: the nearest are {', '.join(near)}")
    environment = flat_environment(spec.name, spec.options, render_mode)
    if step_limit(spec) is None:
        raise UserError(f"environment {spec.name!r} does not limit its episodes: give it a step limit")
    return CheckedEnvironment(environment)


def _built_here(name: str, options: Mapping[str, Any], render_mode: str | None) -> MujocoEnvironment:
    if name in ANT_MAZES:
        return AntMaze(ANT_MAZES[name], _evaluation_goal(name, options), render_mode)
    if name in FARAMA_ANT_MAZES:
        place = FARAMA_ANT_MAZES[name]
        start, goal = (_cell(name, MAZES[PLACES[place][0]], options, option) for option in _OPTIONS[name])
        if start is not None and start == goal:
            raise UserError(f"environment {name!r}: reset_cell and goal_cell are both {list(start)}")
        return FaramaAntMaze(place, start, goal, render_mode)
    if name in PENS:
        return Pen(name == "d4rl-pen", render_mode)
    if name in KITCHENS:
        return Kitchen(_elements(name, options), render_mode)
    return PointMaze(POINT_MAZES[name], render_mode)


def _gym(name: str, render_mode: str | None) -> gymnasium.Env[Any, Any]:
    with warnings.catch_warnings():
        # The v4 environments are old on purpose: their models are those of D4RL's time.
        warnings.simplefilter("ignore", DeprecationWarning)
        environment: gymnasium.Env[Any, Any] = gymnasium.make(
            name, render_mode=render_mode, camera_name="track", disable_env_checker=True
        )
    if render_mode is not None:
        _draw_floor_everywhere(environment.get_wrapper_attr("model"))
    return environment


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


def _cell(name: str, maze: Maze, options: Mapping[str, Any], option: str) -> Cell | None:
    if option not in options:
        return None
    for cell in maze.free:
        if options[option] in (cell, list(cell)):
            return cell
    raise UserError(f"environment {name!r}: {option}={options[option]!r} is not [row, column] of a free cell")


def _elements(name: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    elements = options.get("elements", list(ELEMENTS))
    if not isinstance(elements, (list, tuple)) or not elements:
        raise UserError(f"environment {name!r}: elements={elements!r} is not a list of elements to move")
    for element in elements:
        if not isinstance(element, str) or element not in ELEMENTS:
            raise UserError(f"environment {name!r} has no element {element!r}: {suggestion(str(element), ELEMENTS)}")
        if elements.count(element) > 1:
            raise UserError(f"environment {name!r}: elements has {element!r} twice")
    return tuple(elements)
