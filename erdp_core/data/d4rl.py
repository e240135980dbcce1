"""D4RL's HDF5 layout, read as D4RL reads it (https://arxiv.org/abs/2004.07219).

Rows follow one another in time: s' of row i is `observations[i + 1]` (`next_observations` is not used). Rows where
`timeouts` is set are dropped, since the next row belongs to another episode, and so is the last row. Terminal rows
stay: the value of their s' is never used. Files without `timeouts` (Kitchen) are cut at the task's step limit.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from erdp_core.data.transitions import Floats, Transitions
from erdp_core.data.validation import check_finite, clip_actions
from erdp_core.environments.make import ANT_MAZES, ENVIRONMENTS
from erdp_core.errors import DataError
from erdp_core.tasks import EnvironmentSpec, Task

JUMP = 1.0
"""Metres: no ant moves that far in the 0.1 s of a row."""


@dataclass(frozen=True)
class D4rlFile:
    """What a file holds: its transitions, its attributes, and remarks on what was repaired in reading."""

    transitions: Transitions
    attributes: Mapping[str, Any]
    notes: tuple[str, ...]


def read_d4rl(path: Path, step_limit: int) -> D4rlFile:
    """Read a file in D4RL's layout; `step_limit` cuts episodes where the file has no `timeouts`.

    Raises DataError, in one line, for a file that is missing, truncated or not HDF5, lacks a key, has keys of unequal
    length or wrong shape, values that are not finite, actions outside [-1, 1], or no transition at all.
    """
    with _opened(path) as file:
        arrays = {key: _read(path, file, key, 2) for key in ("observations", "actions")}
        arrays |= {key: _read(path, file, key, 1) for key in ("rewards", "terminals")}
        if "timeouts" in file:
            arrays["timeouts"] = _read(path, file, "timeouts", 1)
        attributes = dict(file.attrs)
    lengths = {key: len(array) for key, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise DataError(f"{path}: keys of unequal length: {told} rows")
    check_finite(path, arrays)
    actions, notes = clip_actions(path, arrays["actions"])

    terminals = arrays["terminals"] != 0
    ends = arrays["timeouts"] != 0 if "timeouts" in arrays else _step_limit_ends(terminals, step_limit)
    kept = np.flatnonzero(~ends[:-1])
    if len(kept) == 0:
        raise DataError(f"{path}: no transition in it ({len(ends)} rows)")
    observations = arrays["observations"]
    transitions = Transitions(
        observations=observations[kept],
        actions=actions[kept],
        next_observations=observations[kept + 1],
        rewards=arrays["rewards"][kept],
        terminals=terminals[kept].astype(np.float32),
    )
    return D4rlFile(transitions, attributes, notes)


def evaluation_environment(path: Path, attributes: Mapping[str, Any], task: Task) -> EnvironmentSpec:
    """Where a policy trained on a file is evaluated: where it was recorded, as its attributes say, else the task's.

    `environment` is a name that `make_environment` knows, or `D4RL-compatible AntMaze, SIZE`; `evaluation_goal` is the
    AntMaze's goal [x, y]. Raises DataError for a file from another family of environments than the task's.
    """
    recorded = attributes.get("environment", task.environment.name)
    if isinstance(recorded, bytes):
        recorded = recorded.decode(errors="replace")
    name = str(recorded)
    if name.startswith("D4RL-compatible AntMaze, "):
        name = "d4rl-antmaze-" + name.removeprefix("D4RL-compatible AntMaze, ")
    if name not in ENVIRONMENTS or _family(name) != _family(task.environment.name):
        raise DataError(
            f"{path} was recorded in {str(recorded)!r}, which does not fit {task.name} "
            f"(evaluated in {task.environment.name}): give it to a task of its own family"
        )
    if name not in ANT_MAZES or "evaluation_goal" not in attributes:
        return task.environment if name == task.environment.name else EnvironmentSpec(name, {})
    goal = np.asarray(attributes["evaluation_goal"])
    if goal.shape != (2,) or goal.dtype.kind not in "iuf" or not np.isfinite(goal).all():
        raise DataError(
            f"{path}: its attribute evaluation_goal of shape {goal.shape} is not [x, y], two finite numbers"
        )
    return EnvironmentSpec(name, {"evaluation_goal": [float(value) for value in goal]})


def misaligned_rows(transitions: Transitions) -> int:
    """Rows of AntMaze data whose s' lies more than `JUMP` from s in the plane although they are not terminal.

    D4RL's antmaze-v0 files have such rows: some of their `timeouts` miss the real end of the trajectory.
    """
    moved = np.linalg.norm(transitions.next_observations[:, :2] - transitions.observations[:, :2], axis=1)
    return int(((moved > JUMP) & (transitions.terminals == 0)).sum())


def _family(name: str) -> str:
    """An environment's name without its version."""
    stem, dash, version = name.rpartition("-v")
    return stem if dash and version.isdigit() else name


@contextmanager
def _opened(path: Path) -> "Iterator[h5py.File]":
    if not path.exists():
        raise DataError(f"no file {path}")
    if not path.is_file():
        raise DataError(f"{path} is {'a folder' if path.is_dir() else 'no regular file'}, not an HDF5 file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except PermissionError:
        raise DataError(f"{path} cannot be read: permission denied") from None
    except (OSError, RuntimeError, KeyError) as error:
        raise DataError(f"{path} is damaged, cut short or not an HDF5 file ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].strip()


def _read(path: Path, file: "h5py.File", key: str, dimensions: int) -> Floats:
    """One key as float32, [N] or [N, size]; (N, 1) counts as [N]."""
    if not isinstance(file.get(key), h5py.Dataset):
        present = ", ".join(sorted(name for name, item in file.items() if isinstance(item, h5py.Dataset)))
        raise DataError(f"{path}: key {key!r} is missing (it has: {present or 'none'})")
    if file[key].shape is None:
        raise DataError(f"{path}: key {key!r} is empty")
    if file[key].dtype.kind not in "biuf":
        raise DataError(f"{path}: key {key!r} is not numeric (it is {file[key].dtype})")
    try:
        raw: npt.NDArray[Any] = np.asarray(file[key][()])
    except MemoryError:
        raise DataError(f"{path}: key {key!r} of shape {file[key].shape} does not fit into memory") from None
    if dimensions == 1 and raw.ndim == 2 and raw.shape[1] == 1:
        raw = raw[:, 0]
    if raw.ndim != dimensions:
        raise DataError(f"{path}: key {key!r} has shape {raw.shape}, not {'[N]' if dimensions == 1 else '[N, size]'}")
    with np.errstate(over="ignore"):  # beyond float32: infinite, which is refused with the other infinite values
        return np.ascontiguousarray(raw, dtype=np.float32)


def _step_limit_ends(terminals: npt.NDArray[np.bool_], step_limit: int) -> npt.NDArray[np.bool_]:
    """Rows that D4RL drops where a file has no `timeouts`: its step counter has reached the limit.

    The counter restarts at 0 after a dropped row and at 1 after a terminal one.
    """
    ends = np.zeros(len(terminals), dtype=np.bool_)
    step = 0
    for row, terminal in enumerate(terminals.tolist()):
        if step == step_limit - 1:
            ends[row] = True
            step = 0
        else:
            step = 1 if terminal else step + 1
    return ends
