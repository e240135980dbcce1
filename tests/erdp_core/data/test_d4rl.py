"""D4RL's layout: the rules of reading against a slow reading, real files against their known hashes, every mistake."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from erdp_core.data.d4rl import evaluation_environment, misaligned_rows, read_d4rl
from erdp_core.data.transitions import Transitions
from erdp_core.errors import DataError
from erdp_core.tasks import EnvironmentSpec, get_task

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
            read_d4rl(path, STEP_LIMIT)
        return
    found = read_d4rl(path, STEP_LIMIT).transitions
    columns = (found.observations, found.actions, found.next_observations, found.rewards, found.terminals)
    for ours, theirs in zip(columns, zip(*expected, strict=True), strict=True):
        assert ours.dtype == np.float32
        assert ours.flags.c_contiguous
        np.testing.assert_array_equal(ours, np.stack(theirs))


@pytest.mark.parametrize(("file", "count", "sha256", "reward_sum", "terminals", "sizes"), REAL_FILES)
def test_real_files_give_the_known_transitions(
    test_data: Path, file: str, count: int, sha256: str, reward_sum: float, terminals: int, sizes: tuple[int, int]
) -> None:
    found = read_d4rl(test_data / f"{file}.hdf5", 1000)
    transitions = found.transitions
    assert len(transitions) == count
    assert transitions.fingerprint() == sha256
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
        read_d4rl(write(tmp_path / "wrong.hdf5", arrays), STEP_LIMIT)
    assert "\n" not in str(raised.value)
    assert "wrong.hdf5" in str(raised.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*absent.hdf5"):
        read_d4rl(tmp_path / "absent.hdf5", STEP_LIMIT)
    with pytest.raises(DataError, match="is a folder"):
        read_d4rl(tmp_path, STEP_LIMIT)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 100])
def test_not_hdf5(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "page.hdf5"
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged, cut short or not an HDF5 file") as raised:
        read_d4rl(path, STEP_LIMIT)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_truncated_file(tmp_path: Path, kept: float) -> None:
    path = write(tmp_path / "cut.hdf5", rows(2000))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match="damaged, cut short or not an HDF5 file"):
        read_d4rl(path, STEP_LIMIT)


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
        read_d4rl(path, STEP_LIMIT)


def test_a_group_in_the_place_of_a_key_is_a_missing_key(tmp_path: Path) -> None:
    path = write(tmp_path / "group.hdf5", rows(rewards=None) | {"rewards/inner": np.zeros(6)})
    with pytest.raises(DataError, match="key 'rewards' is missing"):
        read_d4rl(path, STEP_LIMIT)


def test_rounded_actions_are_clipped_and_noted(tmp_path: Path) -> None:
    actions = np.array([[1.0000001, -1.0000001], [0.5, 1.0], [0, 0], [0, 0]], np.float32)
    found = read_d4rl(write(tmp_path / "rounded.hdf5", rows(4, actions=actions)), STEP_LIMIT)
    assert np.abs(found.transitions.actions).max() == 1.0
    assert found.transitions.actions[1, 0] == np.float32(0.5)
    assert len(found.notes) == 1
    assert "2 action values" in found.notes[0]


@pytest.mark.parametrize(
    ("task", "attributes", "expected"),
    [
        ("hopper-medium-v2", {}, EnvironmentSpec("Hopper-v4", {})),
        ("hopper-medium-v2", {"environment": "Hopper-v5"}, EnvironmentSpec("Hopper-v5", {})),
        ("hopper-medium-v2", {"environment": b"Hopper-v5"}, EnvironmentSpec("Hopper-v5", {})),
        ("antmaze-umaze-v0", {}, EnvironmentSpec("d4rl-antmaze-umaze", {})),
        (
            "antmaze-umaze-v0",
            {"evaluation_goal": np.array([0.5, 8.25])},
            EnvironmentSpec("d4rl-antmaze-umaze", {"evaluation_goal": [0.5, 8.25]}),
        ),
        (
            "antmaze-medium-play-v0",
            {"environment": "D4RL-compatible AntMaze, medium", "evaluation_goal": np.array([20.75, 20.75])},
            EnvironmentSpec("d4rl-antmaze-medium", {"evaluation_goal": [20.75, 20.75]}),
        ),
    ],
)
def test_a_file_is_evaluated_where_it_was_recorded(
    task: str, attributes: dict[str, Any], expected: EnvironmentSpec
) -> None:
    assert evaluation_environment(Path("file"), attributes, get_task(task)) == expected


@pytest.mark.parametrize(
    ("task", "attributes"),
    [
        ("antmaze-umaze-v0", {"environment": "Hopper-v5"}),
        ("antmaze-umaze-v0", {"environment": "D4RL-compatible AntMaze, medium"}),
        ("hopper-medium-v2", {"environment": "AdroitHandPen-v1, D4RL rules"}),
        ("hopper-medium-v2", {"environment": "HalfCheetah-v5"}),
        ("pointmaze-umaze", {"environment": "pointmaze-large"}),
    ],
)
def test_a_file_of_another_family_is_refused(task: str, attributes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=f"{attributes['environment']!r}, which does not fit {task} "):
        evaluation_environment(Path("file"), attributes, get_task(task))


@pytest.mark.parametrize("goal", [[1.0], [1.0, np.nan], "here", [[1.0, 2.0]]])
def test_a_goal_that_is_no_place_is_refused(goal: Any) -> None:
    with pytest.raises(DataError, match=r"is not \[x, y\]"):
        evaluation_environment(Path("file"), {"evaluation_goal": goal}, get_task("antmaze-umaze-v0"))


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
