"""The ledger: what is read is what was wholly written, and what cannot be used says so in one line."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erdp_core.errors import UserError
from orchestration.ledger import (
    Ledger,
    LedgerError,
    RunFolder,
    States,
    append_line,
    read_json,
    read_lines,
    storage_message,
    write_file,
    write_json,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "runs", create=True)


# --- Files ---


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")

    def fail(*arguments: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="Input/output"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_is_flushed_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace

    def seen_fsync(descriptor: int) -> None:
        calls.append(("fsync", os.fstat(descriptor).st_size))
        fsync(descriptor)

    def seen_replace(source: Path, target: Path) -> None:
        calls.append(("replace", source.stat().st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "replace", seen_replace)
    write_file(tmp_path / "file", b"12345")
    assert calls == [("fsync", 5), ("replace", 5)]


def test_json_round_trip(tmp_path: Path) -> None:
    record = {"b": [1, 2.5, None], "a": {"c": "é"}}
    write_json(tmp_path / "x.json", record)
    assert read_json(tmp_path / "x.json") == record


RECORDS = st.lists(
    st.fixed_dictionaries({"step": st.integers(0, 20), "text": st.text(max_size=8), "value": st.floats(-1e9, 1e9)}),
    min_size=1,
    max_size=12,
)


@given(records=RECORDS, cuts=st.lists(st.integers(0, 200), max_size=3))
def test_torn_lines_lose_no_other_line(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]], cuts: list[int]
) -> None:
    """Whatever part of a last line reached the disk, the lines before and after it are read."""
    path = tmp_path_factory.mktemp("lines") / "lines.jsonl"
    whole: dict[int, dict[str, Any]] = {}
    for number, record in enumerate(records):
        append_line(path, record)
        whole[record["step"]] = record
        if number < len(cuts):
            torn = json.dumps({"step": 99, "text": "x" * 100, "value": 1.0}).encode()
            with open(path, "ab") as file:
                file.write(torn[: min(cuts[number], len(torn) - 1)])
    assert read_lines(path) == [whole[step] for step in sorted(whole)]


def test_a_torn_character_loses_only_its_line(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    append_line(path, {"step": 1})
    with open(path, "ab") as file:
        file.write('{"step": 2, "text": "é'.encode()[:-1])
    append_line(path, {"step": 3})
    assert read_lines(path) == [{"step": 1}, {"step": 3}]


@pytest.mark.parametrize("torn", ["1", "12", "null", "[1]", '"a"', "{}", '{"stp": 1}'])
def test_a_torn_line_that_is_json_by_chance_does_not_count(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "lines.jsonl"
    append_line(path, {"step": 1})
    with open(path, "a") as file:
        file.write(torn)
    append_line(path, {"step": 3})
    assert read_lines(path) == [{"step": 1}, {"step": 3}]


def test_the_last_record_of_a_step_counts(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    for step, value in ((20, "a"), (10, "b"), (20, "c")):
        append_line(path, {"step": step, "value": value})
    assert read_lines(path) == [{"step": 10, "value": "b"}, {"step": 20, "value": "c"}]
    assert read_lines(tmp_path / "nothing.jsonl") == []


# --- States ---


def test_states_round_trip_and_are_named_by_their_bytes(tmp_path: Path) -> None:
    states = States(tmp_path / "checkpoints")
    assert states.steps() == []
    assert states.read(1) is None
    states.write(20, b"twenty")
    states.write(100, b"hundred")
    assert states.steps() == [20, 100]
    assert states.read(20) == b"twenty"
    name = f"step-000000020.{hashlib.sha256(b'twenty').hexdigest()[:16]}.pt"
    assert (tmp_path / "checkpoints" / name).read_bytes() == b"twenty"


def test_a_step_has_one_state(tmp_path: Path) -> None:
    states = States(tmp_path)
    for content in (b"first", b"second", b"second"):
        states.write(20, content)
    assert states.read(20) == b"second"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "grow"])
def test_a_damaged_state_does_not_count(tmp_path: Path, damage: str) -> None:
    states = States(tmp_path)
    states.write(20, b"twenty bytes of state")
    path = next(tmp_path.iterdir())
    content = path.read_bytes()
    path.write_bytes(
        {
            "truncate": content[:-1],
            "flip": bytes([content[0] ^ 1]) + content[1:],
            "empty": b"",
            "grow": content + b"\0",
        }[damage]
    )
    assert states.read(20) is None
    states.write(20, b"twenty bytes of state")
    assert states.read(20) == b"twenty bytes of state"


def test_keep_deletes_other_states_and_leftovers(tmp_path: Path) -> None:
    states = States(tmp_path)
    for step in (10, 20, 30):
        states.write(step, str(step).encode())
    (tmp_path / ".step-000000040.0123456789abcdef.pt.deadbeef.tmp").write_bytes(b"half")
    states.keep({20, 30, 50})
    assert states.steps() == [20, 30]
    assert len(list(tmp_path.iterdir())) == 2
    States(tmp_path / "not there").keep({1})


# --- Runs ---

WHAT = {"task": "x", "source": "x", "environment": {}, "dataset": {}, "method": "x", "config": {}}


def test_status_follows_the_files(ledger: Ledger) -> None:
    run = ledger.run("a")
    statuses: list[str] = [run.status]
    assert list(ledger.runs()) == []
    run.create({**WHAT, "seed": 3})
    run.create({**WHAT, "seed": 4})
    statuses.append(run.status)
    assert run.record()["seed"] == 3
    assert [found.run_id for found in ledger.runs()] == ["a"]
    assert run.failure() is None
    run.fail({"step": 7, "reason": "because"})
    statuses.append(run.status)
    assert statuses == ["planned", "started", "failed"]
    assert run.failure() == {"step": 7, "reason": "because"}


def test_finishing_drops_checkpoints_only_after_the_mark(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ledger.run("a")
    run.create({})
    run.checkpoints.write(10, b"state")
    removed = []

    def remove(path: Path, **options: Any) -> None:
        removed.append((path.name, run.status))

    monkeypatch.setattr("orchestration.ledger.shutil.rmtree", remove)
    run.finish({"step": 10})
    assert removed == [("checkpoints", "finished")]


def test_best_step_is_the_earliest_of_equals(ledger: Ledger) -> None:
    run = ledger.run("a")
    run.create({})
    assert run.best_step() is None
    for step, score in ((10, 1.0), (20, 5.0), (30, 5.0), (40, 9.0)):
        run.append_evaluation({"step": step, "score": score, "returns": [score]})
    assert run.best_step() == 40
    assert run.best_step(until=30) == 20
    assert run.best_step(until=10) == 10
    assert run.best_step(until=5) is None


def test_plans(ledger: Ledger) -> None:
    assert ledger.plans() == {}
    ledger.write_plan("b", {"table": "x", "cells": [1]})
    ledger.write_plan("a", {"table": "x", "cells": [2]})
    ledger.write_plan("b", {"table": "x", "cells": [3]})
    assert {name: plan["cells"] for name, plan in ledger.plans().items()} == {"a": [2], "b": [3]}
    assert list(ledger.runs()) == []


# --- Ledgers that cannot be used ---


def one_line(error: pytest.ExceptionInfo[LedgerError]) -> str:
    message = str(error.value)
    assert isinstance(error.value, UserError)
    assert "\n" not in message
    assert "--ledger" in message
    return message


def test_open_makes_and_finds(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger at") as error:
        Ledger.open(tmp_path / "a" / "b")
    one_line(error)
    assert not (tmp_path / "a").exists()
    made = Ledger.open(tmp_path / "a" / "b", create=True)
    assert Ledger.open(tmp_path / "a" / "b").root == made.root
    assert [path.name for path in made.root.iterdir()] == ["ledger.json"]


def test_relative_and_home_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Ledger("runs").root == tmp_path / "runs"
    assert Ledger("~/runs").root == tmp_path / "home" / "runs"


@pytest.mark.parametrize("create", [True, False])
def test_another_format_is_refused(ledger: Ledger, create: bool) -> None:
    write_json(ledger.root / "ledger.json", {"format": 99})
    with pytest.raises(LedgerError, match="has format 99, this version reads format 1") as error:
        Ledger.open(ledger.root, create=create)
    one_line(error)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_damaged_marker_is_refused(ledger: Ledger, content: bytes) -> None:
    (ledger.root / "ledger.json").write_bytes(content)
    with pytest.raises(LedgerError, match="damaged") as error:
        Ledger.open(ledger.root)
    one_line(error)


def test_a_file_in_the_ledgers_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(LedgerError) as error:
        Ledger.open(tmp_path / "runs", create=True)
    one_line(error)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_told(small_disk: Path) -> None:
    Ledger.open(small_disk / "runs", create=True)
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "filler").write_bytes(b"0" * 128 * 1024)
    with pytest.raises(LedgerError, match="is full") as error:
        Ledger.open(small_disk / "runs", create=True)
    assert str(small_disk / "runs") in one_line(error)
    assert not list((small_disk / "runs").glob(".*"))


def test_a_full_disk_keeps_the_old_state(small_disk: Path) -> None:
    run = RunFolder(small_disk / "run")
    run.create({})
    run.checkpoints.write(10, b"old")
    with pytest.raises(OSError, match="No space left") as error:
        run.checkpoints.write(20, b"0" * 128 * 1024)
    assert "is full" in storage_message(small_disk, error.value)
    assert run.checkpoints.steps() == [10]
    assert run.checkpoints.read(10) == b"old"


def test_a_read_only_disk_is_told_and_can_be_read(small_disk: Path) -> None:
    run = Ledger.open(small_disk / "runs", create=True).run("a")
    run.create({**WHAT, "seed": 1})
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(LedgerError, match="cannot be written \\(Read-only file system\\)") as error:
        Ledger.open(small_disk / "runs", create=True)
    one_line(error)
    assert [found.record() for found in Ledger.open(small_disk / "runs").runs()] == [{**WHAT, "seed": 1}]


def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "runs").mkdir(mode=0o500)
    with pytest.raises(LedgerError, match="cannot be written") as error:
        Ledger.open(tmp_path / "runs", create=True)
    one_line(error)
