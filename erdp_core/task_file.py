"""A task of the user's own, from a TOML file.

    name = "my-pusher-v0"
    like = "gym"                       # the domain whose settings it starts from
    environment = "Pusher-v5"          # one of the benchmark's, or any of gymnasium's (also module:Name-v0)
    reference_min = -150               # the return that scores 0 ...
    reference_max = -20.5              # ... and the one that scores 100
    file = "pusher.hdf5"               # data in D4RL's layout, beside this file or anywhere; or, in its place,
    # minari = "mine/pusher/first-v0"  # a local Minari dataset (a list: the first that is there)
    step_limit = 100                   # unless given, the environment's own

    [environment_options]              # what gymnasium.make takes beside the id (the benchmark's take none of these)
    frame_skip = 5

    [rewards]                          # training sees (reward + shift) * scale,
    shift = 0.0
    scale = 1.0
    standardise = false                # or, where this is set, (reward - mean) / std

    [settings.agent]                   # what differs from the domain's settings (`--set` names them);
    eta = 2.0                          # likewise settings.trainer, settings.evaluation

From `environment_options` on, everything may be left out.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from erdp_core.agent_configs import METHODS
from erdp_core.command_line import user_path
from erdp_core.config import check_layer, resolve
from erdp_core.errors import UserError, suggestion
from erdp_core.hyperparameters import SCHEDULES
from erdp_core.tasks import CUSTOM, TABLES, EnvironmentSpec, Task, add_task
from erdp_core.toml_file import check_keys, read_toml, text

REQUIRED = ("name", "like", "environment", "reference_min", "reference_max")
OPTIONAL = ("file", "minari", "step_limit", "environment_options", "rewards", "settings")
REWARDS = ("shift", "scale", "standardise")


def add_task_files(paths: Iterable[str]) -> tuple[str, ...]:
    """Make the tasks of these files known in this process; returns their names. Raises UserError as `read_task_file`,
    and for a name that is taken.
    """
    tasks = [read_task_file(user_path(path)) for path in paths]
    for task in tasks:
        add_task(task)
    return tuple(task.name for task in tasks)


def read_task_file(path: Path) -> Task:
    """The task that a file describes.

    Raises UserError, in one line that begins with the file's name, for a file that is missing or no TOML, lacks a key
    or has an unknown one (the nearest is named), has values that make no sense, or names an environment that cannot be
    made.
    """
    return read_toml(path, "task file", lambda content: _task(path, content))


def _task(path: Path, content: Mapping[str, Any]) -> Task:
    check_keys(content, (*REQUIRED, *OPTIONAL))
    for key in REQUIRED:
        if key not in content:
            raise UserError(f"key {key!r} is missing: a task needs {', '.join(REQUIRED)}, and file or minari")
    name, domain, environment = (text(content, key) for key in ("name", "like", "environment"))
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise UserError(f"name={name!r} is not of letters, digits, - and _ (64 at most), as folders are named by it")
    if name in {*TABLES, CUSTOM}:
        raise UserError(f"name={name!r} is a table's: take another one")
    if domain not in SCHEDULES:
        raise UserError(f"like={domain!r} is no domain: {suggestion(domain, SCHEDULES)}")
    low, high = (_number(content, key) for key in ("reference_min", "reference_max"))
    if not 0 < high - low < math.inf:
        raise UserError(f"reference_min={low:g} is not below reference_max={high:g}, or too far")
    if ("file" in content) == ("minari" in content):
        raise UserError("a task's data are a file or a Minari dataset: give file=... or minari=..., one of them")
    rewards = _table(content, "rewards")
    check_keys(rewards, REWARDS, "rewards.")
    scale = _number(rewards, "scale", 1.0)
    if scale == 0:
        raise UserError("rewards.scale=0 would leave nothing to learn from")
    standardise = rewards.get("standardise", False)
    if not isinstance(standardise, bool):
        raise UserError(f"rewards.standardise={standardise!r} is neither true nor false")
    if standardise and len(rewards) > 1:
        raise UserError("rewards.standardise=true leaves nothing to shift or scale: leave those out")
    settings = _table(content, "settings")
    check_layer(settings)
    spec, step_limit = _environment(environment, _table(content, "environment_options"), content.get("step_limit"))
    task = Task(
        name=name,
        domain=domain,
        d4rl_file=None,
        local_id=None,
        environment=spec,
        reference_min=low,
        reference_max=high,
        step_limit=step_limit,
        minari_ids=_minari_ids(content),
        minari_environment=spec if "minari" in content else None,
        file=str((path.parent / user_path(text(content, "file"))).absolute()) if "file" in content else None,
        reward_scale=scale,
        reward_shift=_number(rewards, "shift", 0.0),
        standardise_rewards=standardise,
        settings=settings,
    )
    for method in METHODS:
        resolve(task, method, "paper")
    return task


def _environment(name: str, options: Mapping[str, Any], limit: Any) -> tuple[EnvironmentSpec, int]:
    """The environment, which is made once to see that it can be, and its step limit."""
    from erdp_core.environments.make import BENCHMARK, make_environment, step_limit  # slow to import

    if "max_episode_steps" in options:
        raise UserError("environment_options.max_episode_steps has a key of its own: step_limit")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise UserError(f"step_limit={limit!r} is not a whole number above 0")
    spec = EnvironmentSpec(name, options)
    if limit is not None and name not in BENCHMARK:
        spec = replace(spec, options={**options, "max_episode_steps": limit})
    make_environment(spec).close()
    found = step_limit(spec)
    assert found is not None  # or it could not have been made
    if limit not in (None, found):
        raise UserError(f"step_limit={limit}, but environment {name!r} ends its episodes after {found} steps")
    return spec, found


def _minari_ids(content: Mapping[str, Any]) -> tuple[str, ...]:
    ids = content.get("minari", [])
    ids = [ids] if isinstance(ids, str) else ids
    if "minari" in content and not (isinstance(ids, list) and ids and all(isinstance(one, str) for one in ids)):
        raise UserError(f"minari={content['minari']!r} is no dataset's id, nor a list of such")
    return tuple(ids)


def _number(content: Mapping[str, Any], key: str, default: float = math.nan) -> float:
    value = content.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise UserError(f"{key}={value!r} is no finite number")
    return float(value)


def _table(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key, {})
    if not isinstance(value, dict):
        raise UserError(f"{key}={value!r} is no table: write [{key}] and its keys below it")
    return value
