"""What `python -m erdp_core.data collect` does: all that is asked for is checked, then collected and reported."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from erdp_core.data.collect import collect_pointmaze
from erdp_core.data.collect_ant_maze import ACTION_SIZE, OBSERVATION_SIZE, RECIPES, collect_ant_maze
from erdp_core.data.collect_environment import collect_environment
from erdp_core.data.load import load_dataset
from erdp_core.data.minari import minari_folder, minari_steps, read_minari
from erdp_core.data.transitions import Transitions
from erdp_core.environments.make import POINT_MAZES
from erdp_core.errors import UserError
from erdp_core.tasks import TASKS, Task


def collect_tasks(tasks: Sequence[Task], policy: Path | None, *, rows: int | None, seed: int, overwrite: bool) -> None:
    """Collect the tasks' data and print a line for each; those that are there are left, unless `overwrite`.

    `rows`: as many as the task's collector makes unless given. Raises UserError before anything is collected for a
    task without collector, one that lacks a policy and one that has no use for it, and one of which another number of
    rows is there; later as the collectors do.
    """
    collectors = [_collector(task, policy, rows, seed, overwrite) for task in tasks]
    left = [_rows_left(task.name, folder, rows, overwrite) for task, (folder, _) in zip(tasks, collectors, strict=True)]
    for task, (folder, collect), stays in zip(tasks, collectors, left, strict=True):
        if stays is not None:
            _report_left(task.name, stays, folder)
            continue
        began = time.monotonic()
        collect()
        seconds = time.monotonic() - began
        _report(task.name, load_dataset(task, "local").transitions, folder, None if policy is None else seconds)


def _collector(
    task: Task, policy: Path | None, rows: int | None, seed: int, overwrite: bool
) -> tuple[Path, Callable[[], Path]]:
    """Where a task's data go, and what collects them. Raises UserError where nothing does, or not with that policy."""
    walker, ant = task.environment.name in POINT_MAZES, task.name in RECIPES
    if task.local_id is None or not (walker or ant):
        with_collector = [name for name, other in TASKS.items() if other.local_id is not None]
        raise UserError(f"{task.name} has no collector: {', '.join(with_collector)} have")
    folder = minari_folder(task.local_id)
    options: dict[str, Any] = {"seed": seed, "overwrite": overwrite} | ({} if rows is None else {"rows": rows})
    if walker:
        if policy is not None:
            raise UserError(f"--policy {policy}: {task.name} is collected by a controller: leave --policy out")
        return folder, partial(collect_pointmaze, task, **options)
    if policy is None:
        raise UserError(
            f"{task.name} is collected by a policy: give --policy FILE, a .npz of weights or a .pt of TorchScript that "
            f"makes the ant walk in a direction ({OBSERVATION_SIZE} numbers in, {ACTION_SIZE} out), such as D4RL's own"
        )
    return folder, partial(collect_ant_maze, task, policy, **options)


def collect_by_policy(
    environment_id: str, policy: Path, dataset_id: str, *, rows: int, noise: float, seed: int, overwrite: bool
) -> None:
    """Collect a dataset from any gymnasium environment and print a line, unless it is there (or `overwrite`).

    Raises UserError as `collect_environment` does.
    """
    for task in TASKS.values():
        if task.local_id == dataset_id:
            raise UserError(f"--dataset {dataset_id} is the place of {task.name}: collect that, or take another id")
    folder = minari_folder(dataset_id)
    stays = _rows_left(dataset_id, folder, rows, overwrite)
    if stays is not None:
        _report_left(dataset_id, stays, folder)
    else:
        began = time.monotonic()
        collect_environment(environment_id, policy, dataset_id, rows=rows, noise=noise, seed=seed, overwrite=overwrite)
        seconds = time.monotonic() - began
        _report(dataset_id, read_minari(folder).whole(), folder, seconds)


def _rows_left(name: str, folder: Path, rows: int | None, overwrite: bool) -> int | None:
    """Rows of data that are there and stay; None: there are none. Raises UserError where others were asked for."""
    if overwrite or not (folder / "data").is_dir():
        return None
    there = minari_steps(folder)
    if rows is not None and there != rows:
        raise UserError(
            f"{name}: {there:,} rows are there already ({folder}), not {rows:,}: --overwrite collects it anew"
        )
    return there


def _report_left(name: str, rows: int, folder: Path) -> None:
    print(f"{name}: there already, {rows:,} rows ({folder}); --overwrite collects it anew")


def _report(name: str, transitions: Transitions, folder: Path, seconds: float | None) -> None:
    """`seconds`: that it took, where that is worth a word."""
    rows, rewarded = len(transitions), int((transitions.rewards > 0).sum())
    speed = "" if seconds is None else f", {seconds:.1f} s ({rows / seconds:,.0f} rows a second)"
    print(f"{name}: {rows} rows, {rewarded} rewarded, {transitions.fingerprint()}, in {folder}{speed}", flush=True)
