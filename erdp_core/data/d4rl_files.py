"""D4RL's files on this machine: put into their place whole, by one process at a time, and verified ever after.

Beside a file NAME lies `NAME.sha256`, as sha256sum writes it; and `NAME.lock`, locked, while a process is about to put
the file there.
"""

import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import h5py

from erdp_core.command_line import user_path
from erdp_core.data.d4rl import first_line
from erdp_core.data.transitions import Dataset
from erdp_core.errors import DataError, MissingDataError
from erdp_core.tasks import TASKS, Task


class Verified(NamedTuple):
    """A file that is as it should be, as far as is known."""

    path: Path
    sha256: str
    record: Literal["same", "new", "none"]
    """What its record says: the same; none was there, and now there is one; there is none."""


def d4rl_path(task: Task) -> Path | None:
    """Where D4RL's own cache has the task's file: `$D4RL_DATASET_DIR` or `~/.d4rl/datasets`. None: D4RL has none."""
    if task.d4rl_file is None:
        return None
    folder = os.environ.get("D4RL_DATASET_DIR")
    root = Path(folder).absolute() if folder else user_path("~/.d4rl/datasets")
    return root / Path(task.d4rl_file).name


def verify(task: Task, *, record: bool = False) -> Verified:
    """Compare the task's file with its record; where there is none, `record` makes one.

    Raises MissingDataError where the file is not there, DataError where it differs, either is damaged or cannot be
    used, or D4RL has no file for the task.
    """
    path = file_path(task)
    with as_data_error(path):
        if path.is_dir():
            raise DataError(f"{path} is a folder, not an HDF5 file: move it away")
        if not path.is_file():
            raise MissingDataError(f"no file {path}: run `python -m erdp_core.data download {task.name}`")
        expected = recorded_sha256(path)
        if expected is None and (trouble := layout_trouble(path)):
            raise DataError(f"{path} is {trouble}: delete it and get it anew")
        found = sha256(path)
        if expected is None and record:
            record_sha256(path, found)
            return Verified(path, found, "new")
        if expected not in (None, found):
            raise DataError(f"{path} changed since its sha256 was recorded: delete it and get it anew")
        return Verified(path, found, "none" if expected is None else "same")


def import_file(task: Task, file: Path, *, overwrite: bool = False) -> tuple[Path, Dataset]:
    """Copy a file to where D4RL's cache has the task's, and record its sha256. Returns its place, and what is in it.

    Raises DataError where it cannot be read as the task's data, has D4RL's name of another task's file or is what
    another task has, something else is there already or on record (unless `overwrite`), another process is about to
    put a file there, or this one may not.
    """
    from erdp_core.data.load import load_dataset  # it makes environments, which are slow to import

    path = file_path(task)
    others = {place: owner for owner in TASKS.values() if owner != task and (place := d4rl_path(owner)) is not None}
    for place, owner in others.items():
        if file.name == place.name:
            raise DataError(f"{file} has the name of D4RL's file of {owner.name}: import it there, or rename it")
    dataset = load_dataset(task, file=file)
    with as_data_error(path), locked(path):
        copy = beside(path, f".import-{secrets.token_hex(4)}")
        try:
            shutil.copyfile(file, copy)
            found = sha256(copy)
            for place, owner in others.items():
                if recorded_sha256(place) == found:
                    raise DataError(f"{file} is the file of {owner.name}, byte for byte: each task has its own")
            known = {"on record": recorded_sha256(path), "there": sha256(path) if path.exists() else None}
            for where, other in known.items():
                if other is not None and other != found and not overwrite:
                    raise DataError(
                        f"{path}: another file, of sha256 {other[:16]}..., is {where}: --overwrite puts {file} there"
                    )
            put(copy, path, found)
        finally:
            copy.unlink(missing_ok=True)
    return path, dataset


def file_path(task: Task) -> Path:
    """Where D4RL's cache has the task's file, there or not. Raises DataError where D4RL has none."""
    path = d4rl_path(task)
    if path is None:
        remedy = "`python -m erdp_core.data list` shows what there is"
        if task.local_id is not None:
            remedy = f"`python -m erdp_core.data collect {task.name}` makes its data"
        raise DataError(f"D4RL has no file for it: {remedy}")
    return path


def beside(path: Path, suffix: str) -> Path:
    """A file that belongs to another one."""
    return path.with_name(path.name + suffix)


def sha256(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recorded_sha256(path: Path) -> str | None:
    """What a file's record says; None: it has none. Raises DataError for a record that is damaged."""
    record = beside(path, ".sha256")
    if not record.exists():
        return None
    found = re.match(r"[0-9a-fA-F]{64}(?=\s|$)", record.read_text(errors="replace"))
    if found is None:
        raise DataError(f"{record} is not as sha256sum writes it: delete it")
    return found[0].lower()


def record_sha256(path: Path, found: str) -> None:
    """Write a file's record."""
    fresh = beside(path, ".sha256.part")
    fresh.write_text(f"{found}  {path.name}\n")
    fresh.replace(beside(path, ".sha256"))


def layout_trouble(path: Path) -> str | None:
    """Why a file is not one of D4RL's: it does not open, or has not its keys, of one length. Reads last rows only."""
    try:
        with h5py.File(path, "r") as file:
            columns = [file[key] for key in ("observations", "actions", "rewards", "terminals")]
            rows = {len(column[-1:]) and len(column) for column in columns}
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        return f"not in D4RL's layout, or cut short ({first_line(error)})"
    return None if len(rows) == 1 else f"not in D4RL's layout (its keys have {sorted(rows)} rows)"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only process that is about to put a file there; DataError where another one is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = beside(path, ".lock")
    with name.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have deleted it since it was opened here: then the next process locks another file.
            mine = os.path.samestat(os.fstat(lock.fileno()), name.stat())
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not mine:
            raise DataError(f"another process is getting {path}: wait until it is done")
        try:
            yield
        finally:
            name.unlink()


@contextmanager
def as_data_error(path: Path) -> Iterator[None]:
    """What the system says of files, as DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be used: {error.strerror or error}") from None


def put(fresh: Path, path: Path, found: str) -> None:
    """Make a whole file, of that sha256 and beside its place, the one in its place, and record it."""
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    # The record first: whenever this process is killed, no file is there that nothing is known of.
    record_sha256(path, found)
    fresh.replace(path)
