"""D4RL's layout: the rules of reading against a slow reading, real files against their known hashes, every mistake."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from erdp_core.data.cache import cached
from erdp_core.data.d4rl import BLOCK_BYTES, misaligned_rows, read_d4rl
from erdp_core.data.transitions import Transitions
from erdp_core.errors import DataError

STEP_LIMIT = 4

# file, transitions, hash of s, a, s', r, done, sum of rewards, terminals, sizes: from an independent reading.
REAL_FILES = [
    ("antmaze-umaze-regenerated", 199176, "3780d6ad673a8245", 4306.0, 4306, (29, 8)),
    ("antmaze-medium-play-regenerated", 298899, "ae0a95bb845cf854", 2083.0, 2083, (29, 8)),
    ("hopper-medium-replay-regenerated", 199844, "449ad5f8b3e55556", 579110.4, 203, (11, 3)),
    ("halfcheetah-medium-regenerated", 149850, "7966c7e6fbfa1828", 483977.5, 0, (17, 6)),
    ("pen-human-demonstrations", 4950, "38c1a6e6ebc00fb1", 253043.1, 0, (45, 24)),
]


def write(path: Path, arrays: Mapping[str, Any], attributes: Mapping[str, Any] | None = None) -> Path:
    """An HDF5 file with these keys."""
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array
        file.attrs.update(attributes or {})
    return path


def rows(count: int = 6, **changes: Any) -> dict[str, Any]:
    """Well-formed arrays of that many rows, with some replaced or (None) left out."""
    stream = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "observations": stream.normal(size=(count, 3)).astype(np.float32),
        "actions": stream.uniform(-1, 1, (count, 2)).astype(np.float32),
        "rewards": stream.normal(size=count).astype(np.float32),
        "terminals": np.zeros(count, np.bool_),
        "timeouts": np.zeros(count, np.bool_),
        **changes,
    }
    return {key: array for key, array in arrays.items() if array is not None}


def slow_reading(arrays: Mapping[str, Any], step_limit: int) -> list[tuple[Any, ...]]:
    """D4RL's loop, row by row."""
    found, step = [], 0
    for i in range(len(arrays["observations"]) - 1):
        done = bool(np.reshape(arrays["terminals"][i], ()))
        last = bool(arrays["timeouts"][i]) if "timeouts" in arrays else step == step_limit - 1
        if last:
            step = 0
            continue
        if done:
            step = 0
        found.append(
            (
                arrays["observations"][i].astype(np.float32),
                arrays["actions"][i].astype(np.float32),
                arrays["observations"][i + 1].astype(np.float32),
                np.float32(np.reshape(arrays["rewards"][i], ())),
                np.float32(done),
            )
        )
        step += 1
    return found


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(2, 25))
    observation_size, action_size = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    real = draw(st.sampled_from([np.float32, np.float64]))
    width: Literal[32, 64] = 32 if real is np.float32 else 64
    column = draw(st.sampled_from([(count,), (count, 1)]))
    values = st.floats(-1e6, 1e6, width=width)
    flags = hnp.arrays(draw(st.sampled_from([np.bool_, np.uint8])), column, elements=st.integers(0, 1))
    arrays = {
        "observations": draw(hnp.arrays(real, (count, observation_size), elements=values)),
        "actions": draw(hnp.arrays(real, (count, action_size), elements=st.floats(-1, 1, width=width))),
        "rewards": draw(hnp.arrays(real, column, elements=values)),
        "terminals": draw(flags),
        # What D4RL's reading leaves aside, whatever it holds.
        "next_observations": np.full((count, observation_size), np.nan),
    }
    if draw(st.booleans()):
        arrays["timeouts"] = draw(hnp.arrays(np.bool_, (count,)))
    return arrays


@given(files())
def test_reading_equals_d4rls_loop(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, Any]) -> None:
    path = write(tmp_path_factory.getbasetemp() / "generated.hdf5", arrays)
    expected = slow_reading(arrays, STEP_LIMIT)
    if not expected:
        with pytest.raises(DataError, match="no transition"):
            read_d4rl(path, STEP_LIMIT).whole()
        return
    found = read_d4rl(path, STEP_LIMIT).whole()
    columns = (found.observations, found.actions, found.next_observations, found.rewards, found.terminals)
    for ours, theirs in zip(columns, zip(*expected, strict=True), strict=True):
        assert ours.dtype == np.float32
        assert ours.flags.c_contiguous
        np.testing.assert_array_equal(ours, np.stack(theirs))


def test_files_without_timeouts_are_cut_by_the_step_counter(tmp_path: Path) -> None:
    """By hand, for a limit of 4: the counter is 0 in rows 0, 4 and 9, and 1 in row 6, after the terminal row."""
    arrays = rows(12, terminals=np.arange(12) == 5, timeouts=None)
    found = read_d4rl(write(tmp_path / "kitchen.hdf5", arrays), step_limit=4).whole()
    kept = [0, 1, 2, 4, 5, 6, 7, 9, 10]  # the counter is 3 in rows 3 and 8, and row 11 is the last
    np.testing.assert_array_equal(found.rewards, arrays["rewards"][kept])
    np.testing.assert_array_equal(found.next_observations, arrays["observations"][np.array(kept) + 1])
    assert found.terminals.tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_a_row_that_is_terminal_and_cut_is_dropped(tmp_path: Path) -> None:
    arrays = rows(6, terminals=np.arange(6) == 2, timeouts=np.arange(6) == 2)
    found = read_d4rl(write(tmp_path / "both.hdf5", arrays), STEP_LIMIT).whole()
    np.testing.assert_array_equal(found.rewards, arrays["rewards"][[0, 1, 3, 4]])
    assert found.terminals.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", ">i4", "i8", "f2", ">f8", "g"])
@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_any_type_of_numbers_will_do(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    numbers = np.array([0, 1, 1, 0, 1, 0])
    arrays = rows(
        observations=numbers[:, None].astype(dtype),
        actions=numbers[:, None].astype(dtype),
        rewards=numbers.reshape(shape).astype(dtype),
        terminals=numbers.reshape(shape).astype(dtype),
        timeouts=np.array([0, 0, 1, 0, 0, 0]).reshape(shape).astype(dtype),
    )
    found = read_d4rl(write(tmp_path / "typed.hdf5", arrays), STEP_LIMIT).whole()
    for column in (found.observations[:, 0], found.actions[:, 0], found.rewards, found.terminals):
        assert (column.dtype, column.tolist()) == (np.float32, [0, 1, 0, 1])
    assert found.next_observations[:, 0].tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize(("file", "count", "sha256", "reward_sum", "terminals", "sizes"), REAL_FILES)
def test_real_files_give_the_known_transitions(
    test_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    count: int,
    sha256: str,
    reward_sum: float,
    terminals: int,
    sizes: tuple[int, int],
) -> None:
    monkeypatch.setenv("ERDP_CACHE_DIR", str(tmp_path))
    path = test_data / f"{file}.hdf5"
    found = cached([path], {}, lambda: read_d4rl(path, 1000))
    transitions = found.transitions
    assert len(transitions) == count
    assert found.fingerprint == transitions.fingerprint() == sha256
    assert transitions.rewards.sum(dtype=np.float64) == pytest.approx(reward_sum, abs=0.06)
    assert transitions.terminals.sum() == terminals
    assert (transitions.observations.shape[1], transitions.actions.shape[1]) == sizes
    assert found.notes == ()


WRONG_CONTENT = {
    "no rewards": (rows(rewards=None), "key 'rewards' is missing"),
    "no terminals": (rows(terminals=None), "key 'terminals' is missing"),
    "ragged": (rows(actions=np.zeros((5, 2))), "unequal length: observations 6, actions 5"),
    "ragged timeouts": (rows(timeouts=np.zeros(7)), "timeouts 7"),
    "one NaN": (rows(rewards=np.array([0, 1, np.nan, 3, 4, 5])), "NaN or infinite: 1 in 'rewards'"),
    "infinite": (rows(observations=np.full((6, 3), np.inf)), "18 in 'observations'"),
    "beyond float32": (rows(observations=np.full((6, 3), 1e300)), "18 in 'observations'"),
    "wild actions": (
        rows(actions=np.full((6, 2), -1.5)),
        r"12 of 12 action values lie outside \[-1, 1\] \(up to 1.5\)",
    ),
    "flat observations": (rows(observations=np.zeros(6)), r"'observations' has shape \(6,\), not \[N, size\]"),
    "deep rewards": (rows(rewards=np.zeros((6, 2))), r"'rewards' has shape \(6, 2\), not \[N\]"),
    "text": (rows(rewards=np.array([b"a"] * 6)), "'rewards' is not numeric"),
    "no rows": (rows(0), "no transition"),
    "one row": (rows(1), "no transition"),
    "all rows cut": (rows(timeouts=np.ones(6)), "no transition"),
}


@pytest.mark.parametrize("name", WRONG_CONTENT)
def test_wrong_content_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    arrays, message = WRONG_CONTENT[name]
    with pytest.raises(DataError, match=message) as raised:
        read_d4rl(write(tmp_path / "wrong.hdf5", arrays), STEP_LIMIT).whole()
    assert "\n" not in str(raised.value)
    assert "wrong.hdf5" in str(raised.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*absent.hdf5"):
        read_d4rl(tmp_path / "absent.hdf5", STEP_LIMIT).whole()
    with pytest.raises(DataError, match="is a folder"):
        read_d4rl(tmp_path, STEP_LIMIT).whole()


@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 100])
def test_not_hdf5(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "page.hdf5"
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged, cut short or not an HDF5 file") as raised:
        read_d4rl(path, STEP_LIMIT).whole()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_truncated_file(tmp_path: Path, kept: float) -> None:
    path = write(tmp_path / "cut.hdf5", rows(2000))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match="damaged, cut short or not an HDF5 file"):
        read_d4rl(path, STEP_LIMIT).whole()


def test_bytes_damaged_within_a_compressed_file(tmp_path: Path) -> None:
    path = tmp_path / "damaged.hdf5"
    arrays = rows(5000)
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array, compression="gzip")
    content = bytearray(path.read_bytes())
    content[20_000:40_000] = bytes(20_000)
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read_d4rl(path, STEP_LIMIT).whole()


def test_a_group_in_the_place_of_a_key_is_a_missing_key(tmp_path: Path) -> None:
    path = write(tmp_path / "group.hdf5", rows(rewards=None) | {"rewards/inner": np.zeros(6)})
    with pytest.raises(DataError, match="key 'rewards' is missing"):
        read_d4rl(path, STEP_LIMIT).whole()


def test_numbers_that_no_type_of_numpys_holds(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.hdf5", rows(rewards=None))
    with h5py.File(path, "a") as file:
        odd = h5py.h5t.IEEE_F64LE.copy()
        odd.set_ebias(100_000)
        h5py.h5d.create(file.id, b"rewards", odd, h5py.h5s.create_simple((6,)))
    with pytest.raises(DataError, match="key 'rewards' is not numeric"):
        read_d4rl(path, STEP_LIMIT).whole()


def test_rounded_actions_are_clipped_and_noted(tmp_path: Path) -> None:
    rounded = np.array([[1.0000001, -1.0000001], [0.5, 1.0], [0, 0], [0, 0]], np.float32)
    found = read_d4rl(write(tmp_path / "rounded.hdf5", rows(4, actions=rounded)), STEP_LIMIT)
    actions = found.whole().actions
    assert np.abs(actions).max() == 1.0
    assert actions[1, 0] == np.float32(0.5)
    assert len(found.notes) == 1
    assert "2 action values" in found.notes[0]


CHUNKS: dict[str, dict[str, Any]] = {
    "in one piece": {},
    "few rows of a column": {"chunks": (1000, 1)},
    "more rows than a block": {"chunks": (200_000, 5)},
    "compressed": {"chunks": (7777, 3), "compression": "lzf"},
    "open-ended": {"chunks": (999, 5), "maxshape": (None, 5)},
}


@pytest.mark.parametrize("chunks", CHUNKS)
def test_files_that_are_read_in_blocks(tmp_path: Path, chunks: str) -> None:
    count, size = 300_000, 5
    assert count * size * 8 > BLOCK_BYTES  # of float64
    random = np.random.default_rng(1)
    observations = random.normal(size=(count, size))
    arrays = rows(count, observations=None, timeouts=random.random(count) < 0.3)
    path = write(tmp_path / "large.hdf5", arrays)
    with h5py.File(path, "a") as file:
        file.create_dataset("observations", data=observations, **CHUNKS[chunks])
    found = read_d4rl(path, STEP_LIMIT).whole()
    kept = [row for row in range(count - 1) if not arrays["timeouts"][row]]
    np.testing.assert_array_equal(found.observations, observations[kept].astype(np.float32))
    np.testing.assert_array_equal(found.next_observations, observations[np.array(kept) + 1].astype(np.float32))
    np.testing.assert_array_equal(found.actions, arrays["actions"][kept])


def test_values_that_are_not_finite_are_counted_in_all_blocks(tmp_path: Path) -> None:
    observations = np.zeros((600_000, 3))
    observations[[5, 300_000, 599_999], 1] = np.nan
    path = write(tmp_path / "large.hdf5", rows(600_000, observations=observations))
    with pytest.raises(DataError, match="NaN or infinite: 3 in 'observations'"):
        read_d4rl(path, STEP_LIMIT).whole()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Hopper-v5", "Hopper-v5"),
        (b"Hopper-v5", "Hopper-v5"),
        (np.array([0.5, 8.25]), [0.5, 8.25]),
        (np.float32(0.5), 0.5),
        ("one\nline " + 99 * "word ", ("one line " + 98 * "word ")[:494] + "[...]"),
        (np.zeros(17), str(np.zeros(17))),
        (b"\xff", "?"),
    ],
)
def test_attributes_become_plain_values(tmp_path: Path, value: Any, expected: Any) -> None:
    path = write(tmp_path / "told.hdf5", rows(), {"environment": value, "other": "left aside"})
    reading = read_d4rl(path, STEP_LIMIT)
    reading.whole()
    assert reading.attributes == {"environment": expected}


def test_huge_attributes_are_shortened_at_once(tmp_path: Path) -> None:
    path = tmp_path / "told.hdf5"
    with h5py.File(path, "w", libver="latest") as file:  # the older formats hold 64 kB
        file.attrs["note"] = "word " * 2_000_000
        file.attrs["evaluation_goal"] = np.zeros((100_000, 2))
        for key, array in rows().items():
            file[key] = array
    began = time.process_time()
    reading = read_d4rl(path, STEP_LIMIT)
    reading.whole()
    assert time.process_time() - began < 1.0
    assert reading.attributes["note"].startswith("word word ")
    assert all(len(text) <= 500 for text in reading.attributes.values())


def test_a_flag_however_small_is_set(tmp_path: Path) -> None:
    terminals = np.array([0, 1e-300, 0, 0.5, -1, 0])
    found = read_d4rl(write(tmp_path / "flags.hdf5", rows(terminals=terminals)), STEP_LIMIT).whole()
    assert found.terminals.tolist() == [0, 1, 0, 1, 1]


@pytest.mark.parametrize(("chunks", "rows_written"), [(None, 0), ((2,), 0), ((2,), 4)])
def test_rows_that_were_never_written(tmp_path: Path, chunks: tuple[int, ...] | None, rows_written: int) -> None:
    """HDF5 reads them as zeros."""
    path = write(tmp_path / "interrupted.hdf5", rows(rewards=None))
    with h5py.File(path, "a") as file:
        rewards = file.create_dataset("rewards", 6, "f4", chunks=chunks)
        if rows_written:
            rewards[:rows_written] = 1.0
    with pytest.raises(DataError, match="'rewards' has rows that were never written"):
        read_d4rl(path, STEP_LIMIT).whole()


def test_misaligned_rows_are_jumps_of_rows_that_are_not_terminal() -> None:
    places = np.zeros((5, 29), np.float32)
    after = places.copy()
    after[1, 0] = 6.0  # a jump
    after[2, 1] = -6.0  # a jump, but the value there is not used
    after[3, 5] = 6.0  # not a place
    after[4, :2] = 0.6  # a fast ant
    terminals = np.array([0, 0, 1, 0, 0], np.float32)
    transitions = Transitions(places, np.zeros((5, 8), np.float32), after, np.zeros(5, np.float32), terminals)
    assert misaligned_rows(transitions) == 1
