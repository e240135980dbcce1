"""D4RL's files in their place: verified, recorded, put there whole or not at all."""

import fcntl
import hashlib
import resource
from pathlib import Path

import numpy as np
import pytest

from erdp_core.data.d4rl_files import import_file, locked, verify
from erdp_core.data.load import load_dataset
from erdp_core.errors import DataError, MissingDataError
from erdp_core.tasks import get_task
from tests.erdp_core.data.breaking_server import hopper

TASK = get_task("hopper-medium-v2")
FIRST, SECOND = hopper(0, rows=300), hopper(1, rows=300)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the task's file belongs; its folder is not there yet."""
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl" / "datasets"))
    return tmp_path / "d4rl" / "datasets" / "hopper_medium-v2.hdf5"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """One that a user has got elsewhere."""
    (tmp_path / "mine.hdf5").write_bytes(FIRST)
    return tmp_path / "mine.hdf5"


def record(place: Path) -> Path:
    return place.with_name(place.name + ".sha256")


def line(content: bytes) -> str:
    """What a record holds, as sha256sum writes it."""
    return f"{hashlib.sha256(content).hexdigest()}  hopper_medium-v2.hdf5\n"


def put(place: Path, content: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)


def test_verify_compares_with_the_record(place: Path) -> None:
    with pytest.raises(
        MissingDataError, match=r"no file .*: run `python -m erdp_core\.data download hopper-medium-v2`"
    ):
        verify(TASK)
    put(place, FIRST)
    record(place).write_text(line(FIRST).upper())
    assert verify(TASK) == (place, hashlib.sha256(FIRST).hexdigest(), "same")
    place.write_bytes(SECOND)
    with pytest.raises(DataError, match=r"changed since its sha256 was recorded: delete it and get it anew"):
        verify(TASK, record=True)
    assert record(place).read_text() == line(FIRST).upper()
    record(place).write_text("nonsense")
    with pytest.raises(DataError, match=r"\.sha256 is not as sha256sum writes it: delete it"):
        verify(TASK)


def test_verify_makes_a_record_when_asked(place: Path) -> None:
    put(place, FIRST)
    assert verify(TASK).record == "none"
    assert not record(place).exists()
    assert verify(TASK, record=True) == (place, hashlib.sha256(FIRST).hexdigest(), "new")
    assert record(place).read_text() == line(FIRST)
    assert verify(TASK, record=True).record == "same"
    record(place).unlink()
    place.write_bytes(FIRST[:-5000])
    with pytest.raises(DataError, match="is not in D4RL's layout, or cut short"):
        verify(TASK, record=True)
    assert not record(place).exists()


def test_a_file_is_put_into_its_place_and_recorded(place: Path, file: Path) -> None:
    found, dataset = import_file(TASK, file)
    assert found == place
    assert dataset.fingerprint == load_dataset(TASK, "d4rl").fingerprint
    assert place.read_bytes() == file.read_bytes() == FIRST
    assert record(place).read_text() == line(FIRST)
    assert set(place.parent.iterdir()) == {place, record(place)}
    import_file(TASK, file)  # the same again
    import_file(TASK, place)
    assert verify(TASK).record == "same"


def test_another_file_is_replaced_only_when_asked(place: Path, file: Path) -> None:
    import_file(TASK, file)
    file.write_bytes(SECOND)
    with pytest.raises(
        DataError, match=r"another file, of sha256 .* is on record: --overwrite puts .*mine\.hdf5 there"
    ):
        import_file(TASK, file)
    record(place).unlink()
    with pytest.raises(DataError, match="is there: --overwrite"):
        import_file(TASK, file)
    assert place.read_bytes() == FIRST
    import_file(TASK, file, overwrite=True)
    assert place.read_bytes() == SECOND
    assert verify(TASK).record == "same"
    place.unlink()
    file.write_bytes(FIRST)
    with pytest.raises(DataError, match="is on record"):
        import_file(TASK, file)
    assert not place.exists()


def test_what_is_not_the_tasks_data_does_not_get_there(place: Path, file: Path, tmp_path: Path) -> None:
    file.write_bytes(hopper(0, rows=300, observations=np.zeros((300, 5), np.float32)))
    with pytest.raises(DataError, match=r"mine\.hdf5.* 5"):
        import_file(TASK, file)
    with pytest.raises(DataError, match="no file"):
        import_file(TASK, tmp_path / "nowhere.hdf5")
    with pytest.raises(DataError, match=r"D4RL has no file for it: `.* collect pointmaze-umaze` makes its data"):
        import_file(get_task("pointmaze-umaze"), file)
    assert not place.parent.exists()


def test_a_file_is_one_tasks_alone(place: Path, file: Path) -> None:
    other = get_task("hopper-medium-replay-v2")
    of_other = file.with_name("hopper_medium_replay-v2.hdf5")
    of_other.write_bytes(FIRST)
    with pytest.raises(DataError, match=r"has the name of D4RL's file of hopper-medium-replay-v2: import it there"):
        import_file(TASK, of_other)
    import_file(other, of_other)
    with pytest.raises(DataError, match=r"mine\.hdf5 is the file of hopper-medium-replay-v2, byte for byte"):
        import_file(TASK, file, overwrite=True)
    assert {path.name for path in place.parent.iterdir()} == {of_other.name, f"{of_other.name}.sha256"}


def test_a_copy_that_breaks_off_leaves_what_was_there(place: Path, file: Path) -> None:
    import_file(TASK, file)
    file.write_bytes(hopper(1, rows=3000))
    load_dataset(TASK, file=file)  # so that nothing but the copy is left to do
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # a disk that takes so much and no more
    try:
        with pytest.raises(DataError, match="cannot be used: File too large"):
            import_file(TASK, file, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert set(place.parent.iterdir()) == {place, record(place)}
    assert verify(TASK) == (place, hashlib.sha256(FIRST).hexdigest(), "same")


def test_one_process_at_a_time(place: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = place.with_name(place.name + ".lock")
    with locked(place):
        assert lock.exists()
        with pytest.raises(DataError, match=r"another process is getting .*: wait until it is done"):
            import_file(TASK, file)
    assert list(place.parent.iterdir()) == []
    lock.touch()  # as a process leaves it that was killed
    import_file(TASK, file)
    assert not lock.exists()

    def deleted_in_between(opened: object, how: int) -> None:
        lock.unlink()

    monkeypatch.setattr(fcntl, "flock", deleted_in_between)
    with pytest.raises(DataError, match="another process is getting"), locked(place):
        raise AssertionError("two processes at once")


def test_a_folder_that_cannot_be_used_is_told(place: Path, file: Path) -> None:
    place.parent.parent.write_text("a file")
    with pytest.raises(DataError, match=f"{place.parent} cannot be used: Not a directory"):
        import_file(TASK, file)
    place.parent.parent.unlink()
    put(place, FIRST)
    record(place).mkdir()
    with pytest.raises(DataError, match=r"\.sha256 cannot be used: Is a directory"):
        verify(TASK)
    place.unlink()
    place.mkdir()
    with pytest.raises(DataError, match=r"\.hdf5 is a folder, not an HDF5 file: move it away"):
        verify(TASK)


def test_the_real_pen_file(place: Path, test_data: Path) -> None:
    path, dataset = import_file(get_task("pen-human-v1"), test_data / "pen-human-demonstrations.hdf5")
    assert path == place.parent / "pen-human-v1.hdf5"
    assert (len(dataset.transitions), dataset.fingerprint) == (4950, "38c1a6e6ebc00fb1")
