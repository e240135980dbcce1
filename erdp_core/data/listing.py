"""The registry of tasks as a table, with the data that are present."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from erdp_core.data.cache import cache_root
from erdp_core.data.d4rl_files import d4rl_path
from erdp_core.data.load import load_dataset, local_path, minari_paths
from erdp_core.data.minari import minari_folder, minari_root
from erdp_core.errors import DataError
from erdp_core.tasks import TASKS, EnvironmentSpec, Task

_TASK_LINE = "{:<28}  {:>12}  {:>12}  {:>5}"
_SOURCE_LINE = "  {:<6}  {:<28}  {:>10}  {:>10}  {:>8}  {:<16}  {}"


@dataclass(frozen=True)
class _Source:
    """Data that a task can be trained on."""

    name: str
    what: str
    """What they are called where they are from."""
    environment: EnvironmentSpec
    """Where policies are evaluated, unless the data themselves tell another."""
    paths: tuple[Path, ...]
    """Where on this machine they are; empty: nowhere."""


def print_list(tasks: Iterable[Task]) -> int:
    """Print a line for each task and one for each of its sources, as soon as it is read; then where they are looked
    for. Returns 1 where some data cannot be used, else 0.
    """
    status = 0
    print(_TASK_LINE.format("task", "D4RL's min", "D4RL's max", "steps"))
    print(_SOURCE_LINE.format("source", "evaluated in", "rows", "rewarded", "MB", "fingerprint", "data"))
    for task in tasks:
        print(_TASK_LINE.format(task.name, f"{task.reference_min:.10g}", f"{task.reference_max:.10g}", task.step_limit))
        for source in _sources(task):
            status = 1 if _print_source(task, source) else status
    print("\nlooked for in")
    for what, folder, variable in _folders():
        state = "set by" if os.environ.get(variable) else "to be changed with"
        print(f"  {what:<13}  {folder} ({state} {variable})")
    return status


def _sources(task: Task) -> Iterator[_Source]:
    if task.file is not None:
        yield _Source("file", task.file, task.environment, _present(Path(task.file)))
    if (d4rl := d4rl_path(task)) is not None and task.d4rl_file is not None:
        yield _Source("d4rl", d4rl.name, task.environment, _present(d4rl))
    if task.minari_environment is not None:
        present = minari_paths(task)
        ids = [name for name in task.minari_ids if minari_folder(name) in present] or task.minari_ids
        what = (" + " if task.minari_combine else " or ").join(ids)
        others = "" if task.minari_note is None else " (other data than D4RL's)"
        yield _Source("minari", what + others, task.minari_environment, present)
    if (local := local_path(task)) is not None and task.local_id is not None:
        yield _Source("local", task.local_id, task.environment, _present(local))


def _present(path: Path) -> tuple[Path, ...]:
    return (path,) if os.path.exists(path) else ()


def _print_source(task: Task, source: _Source) -> bool:
    """Print a source's line; returns whether it cannot be used."""
    environment, rows, rewarded, state, problem = source.environment, "", "", "missing", None
    if source.paths:
        try:
            file = source.paths[0] if source.name == "file" else None
            dataset = load_dataset(task, "auto" if file else source.name, file)
            rewards = dataset.transitions.rewards
            environment, state = dataset.environment, dataset.fingerprint
            rows, rewarded = f"{len(rewards):,}", f"{int((rewards > 0).sum()):,}"
        except DataError as error:
            state, problem = "unusable", str(error)
    size = f"{_megabytes(source.paths):,.1f}" if source.paths else ""
    print(_SOURCE_LINE.format(source.name, environment.name, rows, rewarded, size, state, source.what), flush=True)
    if problem:
        print(f"          {problem}", flush=True)
    return problem is not None


def _megabytes(paths: Sequence[Path]) -> float:
    """Of files, and of all files in folders."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def _folders() -> Iterator[tuple[str, Path, str]]:
    """What lies in a folder, which one it is, and the variable that names another."""
    d4rl = next(path for task in TASKS.values() if (path := d4rl_path(task)) is not None)
    yield "d4rl", d4rl.parent, "D4RL_DATASET_DIR"
    yield "minari, local", minari_root(), "MINARI_DATASETS_PATH"
    yield "cache of all", cache_root(), "ERDP_CACHE_DIR"
