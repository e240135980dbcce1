"""Data read once a machine: later readings of the same file map the arrays that the first one wrote.

Under `$ERDP_CACHE_DIR`, or `~/.cache/erdp-bench`:

    <fingerprint>/      a set of transitions: one .npy file a column, and meta.json, their shapes
    index/<key>.json    what a reading of files gave: the fingerprint, the files' attributes, remarks on the reading

A key is made of the files' paths, sizes and times and of how they were read; so a file that changed is read anew, and
files that hold the same transitions share one entry. Entries are written beside their place and renamed into it: a
reader never sees half of one. Deleting the folder, or anything in it, is safe at any time.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from erdp_core.data.transitions import COLUMNS, Reading, Transitions
from erdp_core.errors import DataError

READER_VERSION = 2
"""To be raised with every change of what a file is read as: what was cached before is then read anew."""
CLOCK_TICK = 0.02
"""Seconds within which a file can change twice without a new time of change."""
UNFINISHED = ".reading-"
"""How the names of folders begin that are still being written."""
ABANDONED = 3600.0
"""Seconds after which such a folder is that of a process that was killed."""
BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class Contents:
    """What files hold."""

    transitions: Transitions
    """Mapped copy-on-write: trials on a machine share the pages, and what one writes to its arrays is its own."""
    fingerprint: str
    attributes: Mapping[str, Any]
    notes: tuple[str, ...]


def cache_root() -> Path:
    """Where readings are kept: `$ERDP_CACHE_DIR`, or `~/.cache/erdp-bench`. Raises OSError where there is no home."""
    folder = os.environ.get("ERDP_CACHE_DIR")
    if folder:
        return Path(folder).absolute()
    try:
        return Path.home() / ".cache" / "erdp-bench"
    except RuntimeError:
        raise OSError(errno.ENOENT, "this user has no home folder") from None


def cached(files: Sequence[Path], rules: Mapping[str, Any], read: Callable[[], Reading]) -> Contents:
    """What `read` gives, from the cache where it was read before.

    `files`: all that the result depends on, with `rules`, plain values that say how they are read. Where the cache
    cannot be written the data are read into memory, and a note says why. Raises DataError as `read` does, or where a
    file changes under it.
    """
    try:
        key = {"reader": READER_VERSION, "rules": rules, "files": _identities(files)}
    except OSError:
        return _in_memory(read())  # which says what is wrong with them
    try:
        root = cache_root()
        return _find(root, key) or _store(root, key, files, read)
    except OSError as error:
        folder = os.environ.get("ERDP_CACHE_DIR") or "~/.cache/erdp-bench"
        remark = f"the cache {folder} cannot be written ({error.strerror or error}): the data were read into memory"
        return _in_memory(read(), remark)


def _in_memory(reading: Reading, *remarks: str) -> Contents:
    transitions = reading.whole()
    return Contents(transitions, transitions.fingerprint(), reading.attributes, (*reading.notes, *remarks))


def _identities(files: Sequence[Path]) -> list[list[Any]]:
    """Path, size, time of the content, time of any change. The last also moves when a tool puts an old time back."""
    found = [(path, path.stat()) for path in files]
    return [[str(path.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for path, stat in found]


def _record(root: Path, key: Mapping[str, Any]) -> Path:
    return root / "index" / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]}.json"


def _find(root: Path, key: Mapping[str, Any]) -> Contents | None:
    """What the cache has under a key. None where that is nothing, or damaged."""
    try:
        record = json.loads(_record(root, key).read_text())
        if record["key"] != key:
            return None
        transitions = _open(root / record["fingerprint"])
        if transitions is None:
            return None
        return Contents(transitions, record["fingerprint"], record["attributes"], tuple(record["notes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _open(entry: Path) -> Transitions | None:
    """Map an entry's arrays. None where it is not there, or is damaged as far as names, sizes and shapes tell."""
    try:
        meta = json.loads((entry / "meta.json").read_text())
        columns = {}
        for name, shape in meta["shapes"].items():
            path = entry / f"{name}.npy"
            # Copy-on-write and not read-only, as torch warns of arrays that it could not write to.
            array = np.lib.format.open_memmap(path, mode="c")
            whole = path.stat().st_size == array.offset + array.nbytes
            if array.dtype != np.float32 or list(array.shape) != shape or not array.flags.c_contiguous or not whole:
                return None
            columns[name] = np.asarray(array)
        return Transitions(**columns)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError):
        return None


def _store(root: Path, key: Mapping[str, Any], files: Sequence[Path], read: Callable[[], Reading]) -> Contents:
    """Read the files into an entry. Raises OSError where the cache cannot be written."""
    root.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(root)
    beside = _beside(root)
    beside.mkdir()
    try:
        # Whatever changes the files from now on gives them another time, and thus another key.
        if abs(time.time_ns() - max(identity[3] for identity in key["files"])) < CLOCK_TICK * 1e9:
            time.sleep(CLOCK_TICK)
        reading = read()
        fingerprint = _write(beside, reading)
        if key["files"] != _identities(files):
            raise DataError(f"{files[0]} changed while it was read: try again when it is complete")
        transitions = _place(beside, root / fingerprint)
        contents = Contents(transitions, fingerprint, reading.attributes, tuple(reading.notes))
        _remember(root, key, contents)
        return contents
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _remember(root: Path, key: Mapping[str, Any], contents: Contents) -> None:
    record = {
        "key": key,
        "fingerprint": contents.fingerprint,
        "attributes": contents.attributes,
        "notes": contents.notes,
    }
    place = _record(root, key)
    place.parent.mkdir(exist_ok=True)
    beside = _beside(place.parent)
    try:
        beside.write_text(json.dumps(record))
        os.replace(beside, place)
    finally:
        beside.unlink(missing_ok=True)


def _write(folder: Path, reading: Reading) -> str:
    """Write the parts one behind the other, a file a column; returns the fingerprint of all."""
    shapes: dict[str, list[int]] = {}
    files = {name: (folder / f"{name}.npy").open("wb+") for name in COLUMNS}
    try:
        for part in reading.parts:
            for name, file in files.items():
                array = np.ascontiguousarray(getattr(part, name), dtype=np.float32)
                if name not in shapes:
                    shapes[name] = [0, *array.shape[1:]]
                    _write_header(file, shapes[name])
                shapes[name][0] += len(array)
                file.write(array.data)
        digest = hashlib.sha256()
        for name, file in files.items():
            file.seek(0)
            _write_header(file, shapes[name])
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
            file.flush()
            os.fsync(file.fileno())
    finally:
        for file in files.values():
            file.close()
    (folder / "meta.json").write_text(json.dumps({"shapes": shapes}))
    return digest.hexdigest()[:16]


def _write_header(file: Any, shape: list[int]) -> None:
    """The head of a .npy file, which numpy makes as long for any number of rows."""
    header = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(file, header)


def _place(beside: Path, entry: Path) -> Transitions:
    """Rename a written folder into its place, where no other process was faster, and map it."""
    ours = _open(beside)
    if ours is None:
        raise OSError(errno.EIO, "what was written cannot be read back")
    while True:
        try:
            os.rename(beside, entry)
            return ours
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        theirs = _open(entry)
        if theirs is not None:
            return theirs
        damaged = _beside(entry.parent)
        try:
            os.rename(entry, damaged)
        except FileNotFoundError:
            continue  # another process took it away
        shutil.rmtree(damaged, ignore_errors=True)


def _beside(folder: Path) -> Path:
    """A name that no other process takes, for what is to be renamed once it is complete."""
    return folder / f"{UNFINISHED}{os.getpid()}-{secrets.token_hex(4)}"


def _remove_abandoned(root: Path) -> None:
    """Delete what killed processes have left; what cannot be deleted, as another user's, does no harm."""
    for path in root.glob(f"{UNFINISHED}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED:
                shutil.rmtree(path)
