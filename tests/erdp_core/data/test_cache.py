"""The cache: read once, damaged entries read anew, processes that come at once or are killed, folders that are full."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from erdp_core.data import cache
from erdp_core.data.cache import CLOCK_TICK, Contents, cache_root, cached
from erdp_core.data.transitions import COLUMNS, Reading, Transitions
from erdp_core.errors import DataError


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ERDP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"7")
    return path


def steps(rows: int, seed: int = 0) -> Transitions:
    random = np.random.default_rng(seed)
    return Transitions(
        *(random.normal(size=(rows, size)).astype(np.float32) for size in (3, 2, 3)),
        *(random.normal(size=rows).astype(np.float32) for _ in range(2)),
    )


class Reader:
    """Reads a file whose only byte is a seed, and counts how often."""

    def __init__(self, path: Path, attributes: dict[str, object] | None = None) -> None:
        self.path, self.attributes, self.readings = path, attributes or {}, 0

    def __call__(self) -> Reading:
        self.readings += 1
        parts = [steps(rows, int(self.path.read_bytes()) + rows) for rows in (5, 0, 1, 9)]
        return Reading(iter(parts), dict(self.attributes), ["a remark"])

    def load(self) -> Contents:
        return cached([self.path], {"step_limit": 9}, self)


def assert_same(found: Transitions, expected: Transitions) -> None:
    for name in COLUMNS:
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert ours.dtype == np.float32
        assert ours.flags.c_contiguous
        np.testing.assert_array_equal(ours, theirs)


def test_a_second_loading_reads_nothing(source: Path, root: Path) -> None:
    reader = Reader(source, {"environment": "Hopper-v5", "evaluation_goal": [0.5, float("inf")]})
    expected = reader().whole()
    first, second = reader.load(), reader.load()
    assert reader.readings == 2  # one of them for what is expected
    for found in (first, second):
        assert_same(found.transitions, expected)
        assert found.fingerprint == expected.fingerprint()
        assert found.attributes == reader.attributes
        assert found.notes == ("a remark",)
    assert sorted(path.name for path in root.iterdir()) == sorted([first.fingerprint, "index"])


def test_arrays_are_mapped_and_what_is_written_to_them_stays_here(source: Path) -> None:
    reader = Reader(source)
    first = reader.load().transitions
    for name in COLUMNS:
        base = getattr(first, name).base
        assert isinstance(base, np.memmap)
        assert type(getattr(first, name)) is np.ndarray
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of arrays that cannot be written to
        tensor = torch.from_numpy(first.rewards)
    tensor += 1
    assert_same(reader.load().transitions, reader().whole())


def rewrite(path: Path) -> None:
    """Other content of the same size, with the old time put back."""
    before = path.stat()
    path.write_bytes(b"8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def touch(path: Path) -> None:
    os.utime(path)


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"9")
    other.replace(path)


@pytest.mark.parametrize("change", [rewrite, touch, replace])
def test_a_file_that_changed_is_read_anew(source: Path, change: Callable[[Path], None]) -> None:
    reader = Reader(source)
    reader.load()
    change(source)
    expected = Reader(source)().whole()
    assert_same(reader.load().transitions, expected)
    assert_same(reader.load().transitions, expected)
    assert reader.readings == 2


def test_a_file_that_changes_again_at_once_is_read_anew(source: Path) -> None:
    """Clocks of file systems tick slowly: a file may change twice at one time."""
    for seed in range(10):
        reader = Reader(source)
        source.write_bytes(b"%d" % (seed % 2))
        assert_same(reader.load().transitions, reader().whole())


def test_a_file_that_changes_while_it_is_read_is_refused(source: Path, root: Path) -> None:
    def read() -> Reading:
        def parts() -> object:
            yield steps(5)
            source.write_bytes(b"more")
            yield steps(5)

        return Reading(parts(), {}, [])  # type: ignore[arg-type]

    with pytest.raises(DataError, match="changed while it was read"):
        cached([source], {}, read)
    assert [path.name for path in root.iterdir()] == []


def test_other_rules_and_other_versions_read_anew(source: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(source)
    for rules in ({"step_limit": 9}, {"step_limit": 10}, {"step_limit": 10, "goal": [1.0]}):
        for _ in range(2):
            cached([source], rules, reader)
    assert reader.readings == 3
    monkeypatch.setattr(cache, "READER_VERSION", cache.READER_VERSION + 1)
    reader.load()
    assert reader.readings == 4
    assert len(list(root.iterdir())) == 2  # the same transitions, one entry


def test_files_with_the_same_transitions_keep_what_they_say_of_themselves(source: Path, root: Path) -> None:
    copy = source.with_name("copy")
    shutil.copy(source, copy)
    readers = [Reader(source, {"environment": "here"}), Reader(copy, {"environment": "there"})]
    for _ in range(2):
        assert [reader.load().attributes["environment"] for reader in readers] == ["here", "there"]
    assert [reader.readings for reader in readers] == [1, 1]
    assert len(list(root.iterdir())) == 2


def cut(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])


def index(entry: Path) -> Path:
    return next(entry.parent.glob("index/*.json"))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "array cut short": lambda entry: cut(entry / "observations.npy", -4),
    "array cut short within its head": lambda entry: cut(entry / "rewards.npy", 40),
    "array empty": lambda entry: cut(entry / "actions.npy", 0),
    "array grown": lambda entry: (entry / "actions.npy").open("ab").write(b"0"),
    "array lost": lambda entry: (entry / "terminals.npy").unlink(),
    "array of another shape": lambda entry: np.save(entry / "observations.npy", np.zeros((3, 15), np.float32)),
    "array of another type": lambda entry: np.save(entry / "rewards.npy", np.zeros(15, np.float64)),
    "array in another order": lambda entry: np.save(entry / "observations.npy", np.zeros((3, 15), np.float32).T),
    "array of objects": lambda entry: np.save(entry / "rewards.npy", np.full(15, None, object), allow_pickle=True),
    "shapes lost": lambda entry: (entry / "meta.json").unlink(),
    "shapes cut short": lambda entry: cut(entry / "meta.json", 20),
    "shapes of another kind": lambda entry: (entry / "meta.json").write_text('["shapes"]'),
    "shapes of other columns": lambda entry: (entry / "meta.json").write_text('{"shapes": {"rewards": [15]}}'),
    "entry lost": lambda entry: shutil.rmtree(entry),
    "record cut short": lambda entry: cut(index(entry), 20),
    "record of another kind": lambda entry: index(entry).write_text('["key"]'),
    "record of other files": lambda entry: index(entry).write_text(
        json.dumps(json.loads(index(entry).read_text()) | {"key": {}})
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_read_anew(source: Path, root: Path, damage: str) -> None:
    reader = Reader(source)
    first = reader.load()
    DAMAGE[damage](root / first.fingerprint)
    for _ in range(2):
        found = reader.load()
        assert_same(found.transitions, Reader(source)().whole())
        assert found.notes == ("a remark",)
    assert reader.readings == 2
    assert len(list(root.iterdir())) == 2


def test_a_cache_that_is_no_folder(source: Path, root: Path) -> None:
    root.write_text("in the way")
    found = Reader(source).load()
    assert_same(found.transitions, Reader(source)().whole())
    assert found.fingerprint == found.transitions.fingerprint()
    assert found.notes[0] == "a remark"
    assert found.notes[1] == f"the cache {root} cannot be written (File exists): the data were read into memory"


def test_a_user_without_home(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("ERDP_CACHE_DIR")
    monkeypatch.setattr(Path, "home", nowhere)
    assert "(this user has no home folder)" in Reader(source).load().notes[-1]


def test_the_cache_is_under_home_without_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ERDP_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "erdp-bench"


@pytest.mark.parametrize("call", ["rename", "replace", "fsync"])
def test_a_full_disk(source: Path, root: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    reader = Reader(source)
    with monkeypatch.context() as patch:
        patch.setattr(f"erdp_core.data.cache.os.{call}", full)
        found = reader.load()
    assert_same(found.transitions, Reader(source)().whole())
    assert "No space left on device" in found.notes[-1]
    assert not [path for path in root.rglob("*") if path.name.startswith(".")]
    assert reader.load().notes == ("a remark",)


LOAD = """
import sys, time
from pathlib import Path
from erdp_core.data.load import load_dataset
from erdp_core.tasks import get_task
{setup}
dataset = load_dataset(get_task("hopper-medium-v2"), file=Path(sys.argv[1]))
print(dataset.fingerprint, dataset.transitions.fingerprint(), dataset.notes)
"""


def hopper_file(path: Path, rows: int) -> Path:
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["observations"] = random.normal(size=(rows, 11)).astype(np.float32)
        file["actions"] = random.uniform(-1, 1, (rows, 3)).astype(np.float32)
        file["rewards"] = random.normal(size=rows)
        file["terminals"] = random.random(rows) < 0.01
        file["timeouts"] = np.arange(rows) % 1000 == 999
    return path


def start(setup: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LOAD.format(setup=setup), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_disk_quota_is_reached_while_an_array_is_written(tmp_path: Path, root: Path) -> None:
    path = hopper_file(tmp_path / "hopper.hdf5", 5000)
    setup = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    process = start(setup, path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "cannot be written (File too large): the data were read into memory" in out
    assert len(set(out.split()[:2])) == 1
    assert not list(root.glob(".*"))


def test_processes_that_load_at_once(tmp_path: Path, root: Path) -> None:
    path = hopper_file(tmp_path / "hopper.hdf5", 30_000)
    setup = "while time.time() < float(sys.argv[2]): pass"
    processes = [start(setup, path, time.time() + 4) for _ in range(4)]
    told = [process.communicate(timeout=60) for process in processes]
    assert [err for _, err in told] == [""] * 4
    assert len({out for out, _ in told}) == 1
    fingerprint, hashed, notes = told[0][0].split(maxsplit=2)
    assert fingerprint == hashed
    assert notes.strip() == "()"
    assert sorted(entry.name for entry in root.iterdir()) == sorted([fingerprint, "index"])


def test_another_process_is_faster(source: Path, root: Path) -> None:
    def read() -> Reading:
        Reader(source).load()  # whole, while this reading is under way
        return Reader(source)()

    found = cached([source], {"step_limit": 9}, read)
    assert_same(found.transitions, Reader(source)().whole())
    assert len(list(root.iterdir())) == 2


def test_another_process_leaves_a_damaged_entry_in_the_way(source: Path, root: Path) -> None:
    def read() -> Reading:
        cut(root / Reader(source).load().fingerprint / "rewards.npy", -1)
        return Reader(source)()

    found = cached([source], {"step_limit": 9}, read)
    reader = Reader(source)
    for contents in (found, reader.load()):
        assert_same(contents.transitions, Reader(source)().whole())
    assert reader.readings == 0
    assert len(list(root.iterdir())) == 2


def test_entries_that_are_mapped_may_be_deleted(source: Path, root: Path) -> None:
    reader = Reader(source)
    found = reader.load()
    shutil.rmtree(root)
    assert_same(found.transitions, reader().whole())


def test_a_killed_reading_leaves_a_folder_that_later_ones_remove(tmp_path: Path, root: Path, source: Path) -> None:
    path = hopper_file(tmp_path / "hopper.hdf5", 3000)
    process = start("from erdp_core.data import cache; cache._place = lambda *_: time.sleep(60)", path)
    try:
        deadline = time.monotonic() + 30
        while not list(root.glob(".reading-*/meta.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    (left,) = root.glob(".reading-*")
    Reader(source).load()
    assert left.is_dir()  # it might be another process's that is still at work
    long_ago = time.time() - 2 * 3600
    os.utime(left, (long_ago, long_ago))
    touch(source)
    Reader(source).load()
    assert not left.exists()
    out, err = start("", path).communicate(timeout=60)
    assert err == ""
    assert len(set(out.split()[:2])) == 1


def test_threads_that_load_at_once(source: Path, root: Path) -> None:
    found: list[Contents] = []
    threads = [threading.Thread(target=lambda: found.append(Reader(source).load())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {contents.transitions.fingerprint() for contents in found} == {Reader(source)().whole().fingerprint()}
    assert {contents.notes for contents in found} == {("a remark",)}
    assert len(list(root.iterdir())) == 2


def test_an_error_of_the_reading_goes_through_and_leaves_nothing(source: Path, root: Path) -> None:
    def read() -> Reading:
        def parts() -> object:
            yield steps(5)
            raise DataError("bad from here on")

        return Reading(parts(), {}, [])  # type: ignore[arg-type]

    with pytest.raises(DataError, match="bad from here on"):
        cached([source], {}, read)
    assert list(root.iterdir()) == []


def test_files_that_are_not_there_are_the_readers_to_tell(tmp_path: Path) -> None:
    def read() -> Reading:
        raise DataError("no such file")

    with pytest.raises(DataError, match="no such file"):
        cached([tmp_path / "absent"], {}, read)


MEASURE = r"""
import json, re, sys, time
from pathlib import Path
from erdp_core.data.load import load_dataset
from erdp_core.tasks import get_task
began, used = time.perf_counter(), time.process_time()
dataset = load_dataset(get_task("antmaze-large-play-v0"), file=Path(sys.argv[1]))
took, used = time.perf_counter() - began, time.process_time() - used
# Not getrusage, whose peak a process inherits from the one that started it.
memory = 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
print(json.dumps([took, used, memory, len(dataset.transitions)]))
"""


def million_rows(path: Path) -> int:
    """Write a file of AntMaze's sizes as D4RL's are: gzip, a column's rows in pieces. Returns the bytes it unpacks to.

    All pieces of a column are the same, so that only one need be packed.
    """
    rows, piece, random = 1_000_000, 15_625, np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for key, columns in (("observations", 29), ("actions", 8)):
            packed = file.create_dataset(key, (rows, columns), "f4", compression="gzip", chunks=(piece, 1))
            packed[:piece] = random.random((piece, columns), np.float32)
            for column in range(columns):
                mask, chunk = packed.id.read_direct_chunk((0, column))
                for first in range(piece, rows, piece):
                    packed.id.write_direct_chunk((first, column), chunk, mask)
        every = np.arange(rows)
        file.create_dataset("rewards", data=(every % 5000 == 0).astype(np.float32), compression="gzip")
        for key, set_at in (("terminals", every % 5000 == 0), ("timeouts", every % 1001 == 1000)):
            file.create_dataset(key, data=set_at, compression="gzip")
        return sum(int(values.nbytes) for values in file.values())


def test_a_million_rows(tmp_path: Path, root: Path) -> None:
    """Cold at most 15 s and twice the data's size in memory, warm at most 1 s: the machine may be busy, so in CPU."""
    path = tmp_path / "large.hdf5"
    size = million_rows(path)
    for limit in (15.0, 1.0):  # about 2 s and 0.02 s
        output = subprocess.run([sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True)
        took, used, memory, found = json.loads(output.stdout)
        assert found == 1_000_000 - 1_000_000 // 1001 - 1
        assert used < limit, (took, used)
        assert memory < 2 * size  # all of the process, Python and its libraries included
    shutil.rmtree(root)


def test_the_clock_tick_is_longer_than_the_file_systems(tmp_path: Path) -> None:
    """What the cache rests on: changes of a file that are a tick apart have different times."""
    path = tmp_path / "file"
    times = []
    for _ in range(10):
        path.write_bytes(b"x")
        times.append(path.stat().st_ctime_ns)
        time.sleep(CLOCK_TICK)
    assert len(set(times)) == 10
