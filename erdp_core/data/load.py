"""From a task and a source to its data in memory."""

import os
from pathlib import Path

from erdp_core.data.d4rl import evaluation_environment, misaligned_rows, read_d4rl
from erdp_core.data.minari import minari_folder, read_minari
from erdp_core.data.transitions import Dataset, Transitions
from erdp_core.data.validation import check_sizes
from erdp_core.environments.make import ANT_MAZES
from erdp_core.errors import DataError, MissingDataError, suggestion
from erdp_core.tasks import EnvironmentSpec, Task

SOURCES = ("auto", "d4rl", "minari", "local")


def d4rl_path(task: Task) -> Path | None:
    """Where D4RL's own cache has the task's file: `$D4RL_DATASET_DIR` or `~/.d4rl/datasets`. None: D4RL has none."""
    if task.d4rl_file is None:
        return None
    folder = os.environ.get("D4RL_DATASET_DIR")
    root = Path(folder).absolute() if folder else Path.home() / ".d4rl" / "datasets"
    return root / Path(task.d4rl_file).name


def local_path(task: Task) -> Path | None:
    """Where the task's local collection is, or would be. None: the task has none."""
    return None if task.local_id is None else minari_folder(task.local_id)


def load_dataset(task: Task, source: str = "auto", file: Path | None = None) -> Dataset:
    """The task's data.

    `file`: a file in D4RL's layout, whatever `source` says (the dataset's source is then `file`). `source`: `d4rl`, the
    task's file in D4RL's cache folder; `local`, the collection that `python -m erdp_core.data collect` makes; `minari`,
    which no present task has; `auto`, D4RL's file where it is present, else the local collection.

    Raises DataError, in one line that says what to do, for data that are missing, damaged, or do not fit the task.
    """
    if file is not None:
        return _load_file(task, "file", file)
    if source not in SOURCES:
        raise DataError(f"unknown source {source!r}: {suggestion(source, SOURCES)}")
    if source == "minari":
        raise MissingDataError(f"{task.name} has no Minari data that are the same as the paper's: use --source auto")
    d4rl, local = d4rl_path(task), local_path(task)
    if d4rl is not None and source in ("auto", "d4rl") and d4rl.exists():
        return _load_file(task, "d4rl", d4rl)
    if local is not None and source in ("auto", "local") and local.exists():
        transitions, notes = read_minari(local)
        return _dataset(task, transitions, "local", local, task.environment, notes)
    raise MissingDataError(_missing(task, source, d4rl, local))


def _load_file(task: Task, source: str, path: Path) -> Dataset:
    found = read_d4rl(path, task.step_limit)
    environment = evaluation_environment(path, found.attributes, task)
    notes = list(found.notes)
    if environment.name != task.environment.name:
        notes.append(f"evaluated in {environment.name}, where the data were recorded, not in {task.environment.name}")
    if "note" in found.attributes:
        notes.append(f"the data say of themselves: {found.attributes['note']}")
    return _dataset(task, found.transitions, source, path, environment, tuple(notes))


def _dataset(
    task: Task,
    transitions: Transitions,
    source: str,
    path: Path,
    environment: EnvironmentSpec,
    notes: tuple[str, ...],
) -> Dataset:
    check_sizes(path, transitions, environment)
    if environment.name in ANT_MAZES and (jumps := misaligned_rows(transitions)):
        notes = (*notes, f"{jumps} of {len(transitions)} rows jump by metres from s to s': misaligned timeouts")
    return Dataset(transitions, source, str(path.absolute()), transitions.fingerprint(), environment, notes)


def _missing(task: Task, source: str, d4rl: Path | None, local: Path | None) -> str:
    """What is missing, where it was looked for, and how to get it."""
    where, remedies = [], []
    if d4rl is not None and source in ("auto", "d4rl"):
        where.append(str(d4rl))
        remedies.append(f"put D4RL's file {d4rl.name} into {d4rl.parent}")
    if local is not None and source in ("auto", "local"):
        where.append(str(local))
        remedies.append(f"run `python -m erdp_core.data collect {task.name}`")
    if not where:
        other = "local" if source == "d4rl" else "d4rl"
        return f"{task.name} has no {source} data: use --source {other} or --data {task.name}=FILE"
    remedies.append(f"give a file in D4RL's layout with --data {task.name}=FILE")
    return f"no data for {task.name} (looked for {', '.join(where)}): {', or '.join(remedies)}"
