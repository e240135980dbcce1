"""Runs on disk: the source of truth. Plain Python: no ray, no torch.

A ledger is a folder of runs, one folder a run:

    run.json            what the run is; written first
    evaluations.jsonl   a line an evaluation: step, score, the return of every episode
    training.jsonl      a line an interval: step, mean losses, seconds
    checkpoints/        the two newest complete states, `step-NNNNNNNNN.<sha256>.pt`
    policies/           what evaluations need of the last and the best policy, `step-NNNNNNNNN.<sha256>.pt`
    failed.json         why a run stopped for good (its loss stopped being finite)
    finished.json       written last: its presence means done

Files are written beside their place and renamed; a file whose bytes do not match the checksum in its name does not
count. `plans/` holds, for each table that was asked for, the runs that its cells are made of; `toys/` what the toy
experiments came to; `studies/` the searches for settings.
"""

import errno
import hashlib
import io
import json
import os
import re
import shutil
import uuid
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from erdp_core.command_line import user_path
from erdp_core.errors import UserError

FORMAT = 1
_NUMBER = (int, float)
_RUN_KEYS = ("task", "source", "environment", "dataset", "method", "config")
_PLAN_KEYS = ("table", "cells")
_STATE_NAME = re.compile(r"step-(\d{9})\.[0-9a-f]{16}\.pt")
Status = Literal["planned", "started", "finished", "failed"]
Record = dict[str, Any]
Kinds = Mapping[str, type | tuple[type, ...]]


class LedgerError(UserError):
    """The ledger cannot be used as it is: another version's, damaged, not writable."""


class StorageError(LedgerError):
    """The ledger cannot be written: its disk is full, read-only, gone."""


def write_file(path: Path, content: bytes) -> None:
    """Write beside `path`, flush to disk, rename: readers see the old file or the whole new one."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as readable JSON, atomically."""
    write_file(path, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())


def read_json(path: Path, remedy: str = "delete it", keys: Collection[str] = ()) -> Record:
    """A record written by `write_json`, with these keys. Raises LedgerError, which ends in the remedy, if damaged."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        record = None
    if not isinstance(record, dict) or not record.keys() >= set(keys):
        raise LedgerError(f"{path} is damaged: {remedy}")
    return record


def config_of(record: Mapping[str, Any]) -> Record:
    """A run's config with its precision, which records keep beside it."""
    config = record["config"]
    return {**config, "trainer": {**config["trainer"], "precision": record["precision"]}}


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON line and flush it to disk; a torn line before it is closed off first."""
    line = json.dumps(record) + "\n"
    with open(path, "ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path, kinds: Kinds = MappingProxyType({"step": int})) -> list[Record]:
    """Records of a JSON-lines file in order of step: torn or damaged lines dropped, the last of each step kept.

    A line without one of the keys, or with another kind of value there, is damaged.
    """
    by_step: dict[int, Record] = {}
    if path.exists():
        for line in path.read_bytes().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and all(isinstance(record.get(key), kind) for key, kind in kinds.items()):
                by_step[record["step"]] = record
    return [by_step[step] for step in sorted(by_step)]


class States:
    """Numbered byte strings in a folder, each with its checksum in its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _files(self) -> dict[int, Path]:
        if not self.folder.is_dir():
            return {}
        named = ((_STATE_NAME.fullmatch(path.name), path) for path in sorted(self.folder.glob("step-*.pt")))
        return {int(match[1]): path for match, path in named if match}

    def steps(self) -> list[int]:
        """Steps that have a file, oldest first; whether it is intact shows on reading."""
        return sorted(self._files())

    def write(self, step: int, content: bytes) -> None:
        """Write the state of a step, replacing an earlier one of the same step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        old = self._files().get(step)
        new = self.folder / f"step-{step:09d}.{hashlib.sha256(content).hexdigest()[:16]}.pt"
        write_file(new, content)
        if old is not None and old != new:
            old.unlink(missing_ok=True)

    def read(self, step: int) -> bytes | None:
        """The state of a step, or None where it is missing or damaged."""
        path = self._files().get(step)
        if path is None:
            return None
        content = path.read_bytes()
        return content if hashlib.sha256(content).hexdigest()[:16] == path.name.split(".")[1] else None

    def keep(self, steps: set[int]) -> None:
        """Delete every other state, and what interrupted writes left."""
        for step, path in self._files().items():
            if step not in steps:
                path.unlink(missing_ok=True)
        if self.folder.is_dir():
            for leftover in self.folder.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)


class RunFolder:
    """One run in the ledger."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = path.name
        self.checkpoints = States(path / "checkpoints")
        self.policies = States(path / "policies")

    def create(self, record: Mapping[str, Any]) -> None:
        """Write what the run is, unless it is there already."""
        if not (self.path / "run.json").exists():
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.path / "run.json", record)

    def record(self) -> Record:
        """What the run is."""
        return read_json(self.path / "run.json", "delete the run's folder and run its table again", _RUN_KEYS)

    @property
    def status(self) -> Status:
        """planned: nothing there; started: work may be going on; failed: stopped for good; finished."""
        if not (self.path / "run.json").exists():
            return "planned"
        for status, name in (("finished", "finished.json"), ("failed", "failed.json")):
            if (self.path / name).exists():
                return status  # type: ignore[return-value]
        return "started"

    def evaluations(self) -> list[Record]:
        """One record an evaluation, by step."""
        return read_lines(self.path / "evaluations.jsonl", {"step": int, "score": _NUMBER, "returns": list})

    def training(self) -> list[Record]:
        """One record an interval, by step."""
        kinds: Kinds = {"step": int, "losses": dict, "seconds": _NUMBER, "steps_per_second": _NUMBER}
        return read_lines(self.path / "training.jsonl", kinds)

    def append_evaluation(self, record: Mapping[str, Any]) -> None:
        """Add the record of one evaluation."""
        append_line(self.path / "evaluations.jsonl", record)

    def append_training(self, record: Mapping[str, Any]) -> None:
        """Add the record of one interval."""
        append_line(self.path / "training.jsonl", record)

    def fail(self, record: Mapping[str, Any]) -> None:
        """Record that the run stopped for good."""
        write_json(self.path / "failed.json", record)

    def failure(self) -> Record | None:
        """Why the run stopped for good, if it did."""
        path = self.path / "failed.json"
        return read_json(path, "delete it, and the run is trained again", ["reason"]) if path.exists() else None

    def finish(self, record: Mapping[str, Any]) -> None:
        """Mark the run done; only then drop the states that resuming needed."""
        write_json(self.path / "finished.json", record)
        shutil.rmtree(self.path / "checkpoints", ignore_errors=True)

    def best_step(self, until: int | None = None) -> int | None:
        """Step of the best evaluation up to and including a step, the earliest of equals."""
        scored = [
            (line["score"], -line["step"]) for line in self.evaluations() if until is None or line["step"] <= until
        ]
        return -max(scored)[1] if scored else None


class Ledger:
    """A folder of runs, and of the plans that asked for them."""

    def __init__(self, root: str | Path) -> None:
        self.root = user_path(root).absolute()

    @staticmethod
    def open(root: str | Path, *, create: bool = False) -> "Ledger":
        """Open a ledger, or make one. Raises LedgerError where it is missing, another version's, or not writable."""
        ledger = Ledger(root)
        marker = ledger.root / "ledger.json"
        if not create:
            if not marker.exists():
                raise LedgerError(f"no ledger at {ledger.root}: train a table first, or name one with --ledger")
        else:
            with ledger.writing():
                ledger.root.mkdir(parents=True, exist_ok=True)
                if not marker.exists():
                    write_json(marker, {"format": FORMAT})
                write_file(ledger.root / ".probe", b"0" * 4096)
                (ledger.root / ".probe").unlink()
        found = read_json(marker, "use another folder with --ledger", ["format"])["format"]
        if found != FORMAT:
            raise LedgerError(
                f"the ledger at {ledger.root} has format {found!r}, this version reads format {FORMAT}: "
                "use the version that wrote it, or another folder with --ledger"
            )
        return ledger

    @property
    def exists(self) -> bool:
        """Whether a ledger was made there."""
        return (self.root / "ledger.json").exists()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """What fails on the way to disk within this is a StorageError."""
        try:
            yield
        except BrokenPipeError:  # of what is printed
            raise
        except OSError as error:
            raise StorageError(storage_message(self.root, error)) from error

    def run(self, run_id: str) -> RunFolder:
        """The run of that id, there or not."""
        return RunFolder(self.root / run_id)

    def runs(self) -> Iterator[RunFolder]:
        """Every run that has been started, in order of id."""
        for path in sorted(self.root.iterdir()):
            if (path / "run.json").exists():
                yield RunFolder(path)

    def write_toy(self, name: str, record: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        """Keep what a toy experiment came to: numpy arrays, and a record, whose presence means that they are there."""
        import numpy as np  # the ledger is read without it

        folder = self.root / "toys"
        folder.mkdir(exist_ok=True)
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        write_file(folder / f"{name}.npz", content.getvalue())
        write_json(folder / f"{name}.json", record)

    def toys(self) -> list[str]:
        """Names of the toy experiments that are done."""
        return sorted(path.stem for path in (self.root / "toys").glob("*.json"))

    def toy(self, name: str) -> tuple[Record, dict[str, Any]]:
        """Record and arrays of a toy experiment. Raises LedgerError where they are damaged."""
        import numpy as np

        path = self.root / "toys" / name
        record = read_json(path.with_suffix(".json"), "delete it and run the toy again", ["toy", "variants", "caption"])
        try:
            with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
                return record, dict(arrays)
        except (OSError, ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile):
            raise LedgerError(
                f"{path.with_suffix('.npz')} is damaged: delete it and its .json, and run the toy again"
            ) from None

    def write_study(self, name: str, record: Mapping[str, Any]) -> None:
        """Keep how far a search is, for its figure to be drawn from."""
        folder = self.root / "studies"
        folder.mkdir(exist_ok=True)
        write_json(folder / f"{name}.json", record)

    def studies(self) -> list[str]:
        """Names of the searches that were begun."""
        return sorted(path.stem for path in (self.root / "studies").glob("*.json"))

    def study(self, name: str) -> Record:
        """How far a search is. Raises LedgerError where the record is damaged."""
        keys = ["space", "trials", "caption"]
        return read_json(self.root / "studies" / f"{name}.json", "run the search again, which goes on", keys)

    def write_plan(self, name: str, record: Mapping[str, Any]) -> None:
        """Keep which runs a table's cells are made of."""
        folder = self.root / "plans"
        folder.mkdir(exist_ok=True)
        write_json(folder / f"{name}.json", record)

    def plans(self) -> dict[str, Record]:
        """Every table that was asked for, by name; damaged plans are left out: asking again writes them anew."""
        found = {}
        for path in sorted((self.root / "plans").glob("*.json")):
            try:
                found[path.stem] = read_json(path, "run its table again", _PLAN_KEYS)
            except LedgerError:
                continue
        return found


def storage_message(root: Path, error: OSError) -> str:
    """One line about a ledger that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of the ledger {root} is full: free some space or name another folder with --ledger"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"the ledger {root} cannot be written ({error.strerror}): name another folder with --ledger"
    return f"the ledger {root} cannot be used ({error.strerror}): name another folder with --ledger"
