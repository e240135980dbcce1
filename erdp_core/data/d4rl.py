"""D4RL's HDF5 layout, read as D4RL reads it (https://arxiv.org/abs/2004.07219).

Rows follow one another in time: s' of row i is `observations[i + 1]` (`next_observations` is not used). Rows where
`timeouts` is set are dropped, since the next row belongs to another episode, and so is the last row. Terminal rows
stay: the value of their s' is never used. Files without `timeouts` (Kitchen) are cut at the task's step limit.
"""

import os
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from erdp_core.data.transitions import Floats, Reading, Transitions
from erdp_core.data.validation import check_finite, clip_actions
from erdp_core.errors import DataError

JUMP = 1.0
"""Metres: no ant moves that far in the 0.1 s of a row."""
BLOCK_BYTES = 2**23
"""How much of a key is read at once, at least."""
LONGEST_TEXT = 500
"""Characters that are kept of what a file says of itself ..."""
LOOKED_AT = 20 * LONGEST_TEXT
"""... and that are looked at for them: shortening many megabytes would take seconds."""
ATTRIBUTES = ("environment", "evaluation_goal", "note")


def read_d4rl(path: Path, step_limit: int) -> Reading:
    """Read a file in D4RL's layout; `step_limit` cuts episodes where the file has no `timeouts`.

    Its parts raise DataError, in one line, for a file that is missing, truncated or not HDF5, lacks a key, has keys of
    unequal length or wrong shape, values that are not finite, actions outside [-1, 1], or no transition at all.
    """
    attributes: dict[str, Any] = {}
    notes: list[str] = []
    return Reading(_parts(path, step_limit, attributes, notes), attributes, notes)


def _parts(path: Path, step_limit: int, attributes: dict[str, Any], notes: list[str]) -> Iterator[Transitions]:
    with opened(path) as file:
        attributes.update(_attributes(path, file))
        keys = {key: numeric_key(path, file, key, 2) for key in ("observations", "actions")}
        keys |= {key: numeric_key(path, file, key, 1) for key in ("rewards", "terminals")}
        if file.get("timeouts", getlink=True) is not None:  # also where it leads nowhere, which is an error
            keys["timeouts"] = numeric_key(path, file, "timeouts", 1)
        _check_lengths(path, keys)

        values = {key: _whole(keys[key], np.dtype(np.float32)) for key in ("actions", "rewards")}
        # As they are, since any number but 0 sets a flag, however small it is.
        flags = {key: _whole(keys[key], keys[key].dtype) for key in keys if key in ("terminals", "timeouts")}
        check_finite(path, values | flags)
        rewards = values["rewards"].reshape(-1)
        terminals, *timeouts = (flag.reshape(-1) != 0 for flag in flags.values())
        ends = timeouts[0] if timeouts else _step_limit_ends(terminals, step_limit)
        actions, remarks = clip_actions(path, values["actions"])
        notes += remarks
        kept = np.flatnonzero(~ends[:-1])
        if len(kept) == 0:
            raise DataError(f"{path}: no transition in it ({len(ends)} rows)")

        for first, observations in _overlapping(path, keys["observations"]):
            # Rows whose next row is in this block too: all but the last, which begins the next block.
            rows = kept[slice(*np.searchsorted(kept, (first, first + len(observations) - 1)))]
            yield Transitions(
                observations=observations[rows - first],
                actions=actions[rows],
                next_observations=observations[rows - first + 1],
                rewards=rewards[rows],
                terminals=terminals[rows].astype(np.float32),
            )


def misaligned_rows(transitions: Transitions) -> int:
    """Rows of AntMaze data whose s' lies more than `JUMP` from s in the plane although they are not terminal.

    D4RL's antmaze-v0 files have such rows: some of their `timeouts` miss the real end of the trajectory.
    """
    moved = np.linalg.norm(transitions.next_observations[:, :2] - transitions.observations[:, :2], axis=1)
    return int(((moved > JUMP) & (transitions.terminals == 0)).sum())


@contextmanager
def opened(path: Path) -> "Iterator[h5py.File]":
    """An HDF5 file to read from; DataError where it is missing, or damaged, also where that shows later."""
    # Not Path's own methods, which raise where a folder above cannot be searched.
    if not os.path.exists(path):
        raise DataError(f"no file {path}")
    if not os.path.isfile(path):
        raise DataError(f"{path} is {'a folder' if os.path.isdir(path) else 'no regular file'}, not an HDF5 file")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except PermissionError:
        raise DataError(f"{path} cannot be read: permission denied") from None
    except MemoryError:
        raise DataError(f"{path} does not fit into this machine's memory") from None
    except (OSError, RuntimeError, KeyError, ValueError) as error:  # all of these are what h5py raises
        raise DataError(f"{path} is damaged, cut short or not an HDF5 file ({first_line(error)})") from None


def first_line(error: Exception) -> str:
    """What a library says of an error, in one line."""
    return str(plain((str(error).splitlines() or [type(error).__name__])[0]))


def _attributes(path: Path, file: "h5py.File") -> dict[str, Any]:
    """Those attributes that mean something here, as plain values."""
    found = {}
    for name in ATTRIBUTES:
        if name in file.attrs:
            try:
                found[name] = plain(file.attrs[name])
            except (OSError, TypeError, ValueError) as error:
                raise DataError(f"{path}: its attribute {name} cannot be read ({first_line(error)})") from None
    return found


def plain(value: Any) -> Any:
    """A few numbers as a number or lists of such, anything else as text of one line that JSON and terminals take."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if not isinstance(value, str):
        try:
            array = np.asarray(value)
        except ValueError:  # lists of unequal length
            array = np.asarray(None)
        if array.dtype.kind in "biuf" and array.size <= 16:
            return array.tolist()
    return textwrap.shorten(str(value)[:LOOKED_AT].encode(errors="replace").decode(), LONGEST_TEXT)


def told(group: "h5py.Group") -> str:
    """The names of a group's datasets, for an error."""
    # repr, as a name that is not UTF-8 is no str but bytes
    names = sorted(repr(name) for name, item in group.items() if isinstance(item, h5py.Dataset))
    return textwrap.shorten(", ".join(names), 200) or "none"


def numeric_key(where: Path, group: "h5py.Group", key: str, dimensions: int) -> "h5py.Dataset":
    """A group's dataset of numbers, [N] or [N, size]; (N, 1) counts as [N].

    Raises DataError, which begins with `where`, for a key that is missing, not numeric, not of that shape, not fully
    written, or in another file.
    """
    found = group.get(key)
    if not isinstance(found, h5py.Dataset):
        raise DataError(f"{where}: key {key!r} is missing (it has: {told(group)})")
    try:
        dtype = found.dtype
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: key {key!r} is not numeric ({first_line(error)})") from None
    if found.shape is None:
        raise DataError(f"{where}: key {key!r} is empty")
    if dtype.kind not in "biuf":
        raise DataError(f"{where}: key {key!r} is not numeric (it is {plain(dtype)})")
    if found.is_virtual or found.external or found.file.filename != group.file.filename:
        raise DataError(f"{where}: the values of key {key!r} lie in another file: copy them into this one")
    column = dimensions == 1 and found.shape[1:] == (1,)
    if (found.ndim != dimensions and not column) or 0 in found.shape[1:]:
        expected = "[N]" if dimensions == 1 else "[N, size]"
        raise DataError(f"{where}: key {key!r} has shape {found.shape}, not {expected}")
    if found.size and found.id.get_space_status() != h5py.h5d.SPACE_STATUS_ALLOCATED:
        raise DataError(f"{where}: key {key!r} has rows that were never written: what made the file was interrupted")
    return found


def _check_lengths(path: Path, keys: Mapping[str, "h5py.Dataset"]) -> None:
    lengths = {key: len(dataset) for key, dataset in keys.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise DataError(f"{path}: keys of unequal length: {found} rows")


def _whole(dataset: "h5py.Dataset", dtype: "np.dtype[Any]") -> npt.NDArray[Any]:
    """A key's rows in that type."""
    found = np.empty(dataset.shape, dtype)
    for first, block in _blocks(dataset):
        found[first : first + len(block)] = block if dtype == block.dtype else float32(block)
    return found


def float32(array: npt.NDArray[Any]) -> Floats:
    """Numbers as float32: those beyond its range become infinite, and are refused with other infinite values."""
    with np.errstate(over="ignore", invalid="ignore"):  # invalid: some NaN
        return array.astype(np.float32)


def _blocks(dataset: "h5py.Dataset") -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """A key's rows, block after block, each with the number of its first row; no chunk of the file is read twice."""
    chunk = dataset.chunks[0] if dataset.chunks else 1
    row_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
    rows = chunk * max(1, BLOCK_BYTES // (chunk * row_bytes))
    for first in range(0, len(dataset), rows):
        yield first, dataset[first : first + rows]


def _overlapping(path: Path, dataset: "h5py.Dataset") -> Iterator[tuple[int, Floats]]:
    """As `_blocks`, in float32, each block with the last row of the one before as its first."""
    last: Floats | None = None
    for first, block in _blocks(dataset):
        found = float32(block)
        if not np.isfinite(found).all():
            check_finite(path, {"observations": _whole(dataset, np.dtype(np.float32))})
        if last is None:
            yield first, found
        else:
            yield first - 1, np.concatenate((last, found))
        last = found[-1:]


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
