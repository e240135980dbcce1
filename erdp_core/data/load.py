"""From a task and a source to its data, which are read once a machine."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from erdp_core.data.cache import Contents, cached
from erdp_core.data.d4rl import misaligned_rows, plain, read_d4rl
from erdp_core.data.d4rl_files import d4rl_path, recorded_sha256, verify
from erdp_core.data.minari import ANTMAZE, FLAT, Layout, minari_attributes, minari_files, minari_folder, read_minari
from erdp_core.data.transitions import Dataset, Reading, Transitions
from erdp_core.data.validation import ROUNDING, check_sizes
from erdp_core.environments.farama_ant_maze import PLACES
from erdp_core.environments.kitchen import ELEMENTS, goal_of
from erdp_core.environments.make import ANT_MAZES, BENCHMARK, FARAMA_ANT_MAZES, GYM, KITCHENS, PENS
from erdp_core.environments.mazes import MAZES
from erdp_core.errors import DataError, MissingDataError, suggestion
from erdp_core.tasks import EnvironmentSpec, Task

SOURCES = ("auto", "d4rl", "minari", "local")
KITCHEN_SIZE = 60
"""Numbers of Kitchen's observations; the last 30 are the goal."""


def minari_paths(task: Task) -> tuple[Path, ...]:
    """The folders of the task's Minari data that are present: the newest, or all that make them. Empty: not present."""
    folders = [minari_folder(dataset_id) for dataset_id in task.minari_ids]
    present = [folder for folder in folders if os.path.exists(folder)]
    if task.minari_combine:
        return tuple(folders) if len(present) == len(folders) else ()
    return tuple(present[:1])


def local_path(task: Task) -> Path | None:
    """Where the task's local collection is, or would be. None: the task has none."""
    return None if task.local_id is None else minari_folder(task.local_id)


def load_dataset(
    task: Task, source: str = "auto", file: Path | None = None, environment: EnvironmentSpec | None = None
) -> Dataset:
    """The task's data.

    file: in D4RL's layout, or the folder of a Minari dataset, whatever `source` says (the dataset's source is then
        `file`).
    source: `d4rl`, the task's file in D4RL's cache folder; `minari`, Minari's data, evaluated in the environment that
        they belong to; `local`, the collection that `python -m erdp_core.data collect` makes; `auto`, the first of
        these that is present, Minari's only where they are the same collection as D4RL's, or made in the same way, and
        no other data. A task of the user's own that names a file has that one.
    environment: where policies are evaluated, wherever the data were recorded: a note then says so. None: where the
        data belong (see `evaluation_environment`).

    Data that were loaded before on this machine are mapped from the cache (`erdp_core.data.cache`). Raises DataError,
    in one line that says what to do, for data that are missing, damaged, or do not fit the task.
    """
    if source not in SOURCES:
        raise DataError(f"unknown source {source!r}: {suggestion(source, SOURCES)}")
    if file is None and task.file is not None and source == "auto":
        file = Path(task.file)
        if not os.path.exists(file):
            raise MissingDataError(f"no data for {task.name}: there is no {file}, which its task file names")
    if file is not None and os.path.isdir(file):
        return _load_minari(task, "file", [file], environment)
    if file is not None:
        return _load_d4rl(task, "file", file, environment)
    d4rl, minari, local = d4rl_path(task), minari_paths(task), local_path(task)
    if d4rl is not None and source in ("auto", "d4rl") and os.path.exists(d4rl):
        return _load_d4rl(task, "d4rl", d4rl, environment)
    if minari and (source == "minari" or (source == "auto" and task.minari_note is None)):
        return _load_minari(task, "minari", minari, environment)
    if local is not None and source in ("auto", "local") and os.path.exists(local):
        return _load_minari(task, "local", [local], environment)
    raise MissingDataError(_missing(task, source, d4rl, local))


def _load_d4rl(task: Task, source: str, path: Path, forced: EnvironmentSpec | None) -> Dataset:
    in_maze, goal = task.environment.name in ANT_MAZES, _kitchen_goal(task.environment)
    rules = {"format": "d4rl", "step_limit": task.step_limit, "in_maze": in_maze, "goal": goal}

    def read() -> Reading:
        if source == "d4rl" and recorded_sha256(path) is not None:
            verify(task)
        return _noting_oddities(read_d4rl(path, task.step_limit), in_maze, goal)

    contents = cached([path], rules, read)
    remarks = list(contents.notes)
    if "note" in contents.attributes:
        remarks.append(f"the data say of themselves: {contents.attributes['note']}")
    return _dataset(task, source, [path], contents, task.environment, remarks, forced)


def _load_minari(task: Task, source: str, folders: Sequence[Path], forced: EnvironmentSpec | None) -> Dataset:
    own = [task.environment] if source == "local" else [task.minari_environment or task.environment, task.environment]
    recorded = recorded_in(minari_attributes(folders[0]), own[0])
    expected = next((spec for spec in own if _family(spec.name) == _family(recorded)), own[0])
    layout = ANTMAZE if expected.name in FARAMA_ANT_MAZES else FLAT
    if source != "local" and (goal := _kitchen_goal(expected)):
        layout = Layout("kitchen", tuple(goal))
    files = [file for folder in folders for file in minari_files(folder)]
    rules = {"format": "minari", "layout": layout.name, "goal": list(layout.goal)}
    contents = cached(files, rules, lambda: read_minari(*folders, layout=layout))
    remarks = list(contents.notes)
    if source == "minari" and task.minari_note is not None:
        remarks.insert(0, task.minari_note)
    options = contents.attributes.get("env_spec", {}).get("options")
    if options and expected.name in GYM:
        remarks.append(f"recorded with {plain(options)}, evaluated without")
    return _dataset(task, source, folders, contents, expected, remarks, forced)


def _dataset(
    task: Task,
    source: str,
    paths: Sequence[Path],
    contents: Contents,
    expected: EnvironmentSpec,
    remarks: Sequence[str],
    forced: EnvironmentSpec | None,
) -> Dataset:
    path = " + ".join(str(path.absolute()) for path in paths)
    environment = (
        evaluation_environment(paths[0], contents.attributes, task, expected)
        if forced is None
        else _with_goal_of(paths[0], contents.attributes, forced)
    )
    check_sizes(paths[0], contents.transitions, environment)
    recorded = recorded_in(contents.attributes, expected)
    if recorded != environment.name:
        remarks = (*remarks, f"recorded in {recorded}, evaluated in {environment.name}")
    elif environment.name != task.environment.name:
        moved = f"evaluated in {environment.name}, where the data were recorded, not in {task.environment.name}"
        remarks = (*remarks, moved)
    return Dataset(contents.transitions, source, path, contents.fingerprint, environment, tuple(remarks))


def recorded_in(attributes: Mapping[str, Any], expected: EnvironmentSpec) -> str:
    """The environment that data were recorded in, by its name here if it has one; `expected`, if they do not tell.

    Attributes: `environment`, a name that `make_environment` knows, `D4RL-compatible AntMaze, SIZE`, or
    `AdroitHandPen-v1, D4RL rules`; without it `env_spec`, gymnasium's {name, options}.
    """
    told = attributes.get("environment") or attributes.get("env_spec", {}).get("name", expected.name)
    name = str(told)
    if name.startswith("D4RL-compatible AntMaze, "):
        return "d4rl-antmaze-" + name.removeprefix("D4RL-compatible AntMaze, ")
    return "d4rl-pen" if name == "AdroitHandPen-v1, D4RL rules" else name


def evaluation_environment(
    path: Path, attributes: Mapping[str, Any], task: Task, expected: EnvironmentSpec
) -> EnvironmentSpec:
    """Where a policy trained on data is evaluated: where they were recorded, as `recorded_in` tells.

    The attribute `evaluation_goal`, [x, y], is the goal of D4RL's AntMaze. Pen's scores are D4RL's under D4RL's rules
    alone, so there it is `expected` in any case; so it is with an environment of the user's own.

    Raises DataError for data of another family of environments than `expected`: nothing that is learnt of one robot,
    maze or kitchen is of use in another, and D4RL's ant is not Farama's.
    """
    name = recorded_in(attributes, expected)
    options = {} if "environment" in attributes else attributes.get("env_spec", {}).get("options", {})
    known = name in BENCHMARK or expected.name not in BENCHMARK
    if not known or _family(name) != _family(expected.name) or not _fits(name, options, expected):
        raise DataError(
            f"{path} was recorded in {name!r}, which does not fit {task.name} (evaluated in {expected.name}): give it "
            "to a task of its own family (where sizes agree, "
            f"run_table.py --evaluate-in {task.name}={expected.name} takes it)"
        )
    if name in PENS or expected.name not in BENCHMARK:
        return expected
    return _with_goal_of(path, attributes, EnvironmentSpec(name, expected.options))


def _with_goal_of(path: Path, attributes: Mapping[str, Any], environment: EnvironmentSpec) -> EnvironmentSpec:
    """The environment with the goal that the data were rewarded for, where it has one and they tell."""
    if environment.name not in ANT_MAZES or "evaluation_goal" not in attributes or environment.options:
        return environment
    return EnvironmentSpec(environment.name, {"evaluation_goal": _evaluation_goal(path, attributes["evaluation_goal"])})


def _family(name: str) -> str:
    """What environments share that evaluate the same data: versions of one robot, places in one maze, both pens."""
    if name in FARAMA_ANT_MAZES:
        return f"AntMaze, {PLACES[FARAMA_ANT_MAZES[name]][0]}"
    stem, dash, version = name.rpartition(":")[2].rpartition("-v")
    return "pen" if name in PENS else stem if dash and version.isdigit() else name


def _fits(name: str, options: Mapping[str, Any], expected: EnvironmentSpec) -> bool:
    """Whether data that were recorded with these options of gymnasium-robotics' environments are for this one."""
    try:
        if name in FARAMA_ANT_MAZES:
            rows = [[mark == "#" for mark in row] for row in MAZES[PLACES[FARAMA_ANT_MAZES[name]][0]].rows]
            same = "maze_map" not in options or rows == [[cell == 1 for cell in row] for row in options["maze_map"]]
            return same and options.get("reward_type", "sparse") == "sparse"
        if name in KITCHENS and "tasks_to_complete" in options:
            return sorted(options["tasks_to_complete"]) == sorted(_elements(expected))
    except TypeError:  # not even lists
        return False
    return True


def _evaluation_goal(path: Path, value: Any) -> list[float]:
    goal = np.asarray(value)
    if goal.shape != (2,) or goal.dtype.kind not in "iuf" or not np.isfinite(goal).all():
        raise DataError(
            f"{path}: its attribute evaluation_goal of shape {goal.shape} is not [x, y], two finite numbers"
        )
    return [float(number) for number in goal]


def _kitchen_goal(environment: EnvironmentSpec) -> list[float]:
    """The 30 numbers of Kitchen's observations that say what is to be moved; empty for other environments."""
    return goal_of(_elements(environment)).tolist() if environment.name in KITCHENS else []


def _elements(kitchen: EnvironmentSpec) -> list[str]:
    return list(kitchen.options.get("elements", ELEMENTS))


def _noting_oddities(reading: Reading, in_maze: bool, goal: Sequence[float]) -> Reading:
    """The same reading of D4RL's layout, with notes of what is known to be wrong in some such files."""
    kitchen_goal = np.array(goal, np.float32)

    def parts() -> Iterator[Transitions]:
        rows = jumps = other_goals = 0
        for part in reading.parts:
            rows += len(part)
            if in_maze:
                jumps += misaligned_rows(part)
            if kitchen_goal.size and part.observations.shape[1] == KITCHEN_SIZE:
                apart = np.abs(part.observations[:, -kitchen_goal.size :] - kitchen_goal).max(axis=1)
                other_goals += int((apart > ROUNDING).sum())
            yield part
        if jumps:
            reading.notes.append(f"{jumps} of {rows} rows jump by metres from s to s': misaligned timeouts")
        if other_goals:
            reading.notes.append(f"the goal in {other_goals} of {rows} rows is not the evaluation's")

    return replace(reading, parts=parts())


def _missing(task: Task, source: str, d4rl: Path | None, local: Path | None) -> str:
    """What is missing, where it was looked for, and all the ways to get it."""
    where, remedies = [], []
    if d4rl is not None and source in ("auto", "d4rl"):
        where.append(str(d4rl))
        remedies.append(f"run `python -m erdp_core.data download {task.name}`")
        remedies.append(f"put D4RL's file {d4rl.name} into {d4rl.parent}")
    if task.minari_ids and (source == "minari" or (source == "auto" and task.minari_note is None)):
        where += [str(minari_folder(dataset_id)) for dataset_id in task.minari_ids]
        needed = task.minari_ids if task.minari_combine else task.minari_ids[:1]
        remedies.append("run " + " and ".join(f"`minari download {dataset_id}`" for dataset_id in needed))
    if local is not None and source in ("auto", "local"):
        where.append(str(local))
        policy = " --policy FILE" if task.environment.name in ANT_MAZES else ""
        remedies.append(f"run `python -m erdp_core.data collect {task.name}{policy}`")
    if not where:
        others = {"d4rl": d4rl, "minari": task.minari_ids, "local": local, "auto": True}
        other = next(name for name, present in others.items() if present)
        return f"{task.name} has no {source} data: use --source {other} or --data {task.name}=FILE"
    remedies.append(f"give a file in D4RL's layout with --data {task.name}=FILE")
    return f"no data for {task.name} (looked for {', '.join(where)}): {', or '.join(remedies)}"
