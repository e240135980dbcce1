"""Local Minari datasets: what is written through Minari's own interface comes back as transitions."""

import json
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minari.data_collector import EpisodeBuffer

from erdp_core.data.minari import minari_folder, minari_root, read_minari
from erdp_core.errors import DataError

ANY = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)
ACTIONS = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def create(
    dataset_id: str, buffers: list[EpisodeBuffer], observation_space: gymnasium.Space[Any] = ANY, **settings: Any
) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        minari.create_dataset_from_buffers(
            dataset_id, buffers, observation_space=observation_space, action_space=ACTIONS, **settings
        )
    return minari_folder(dataset_id)


def episode(length: int, stream: np.random.Generator, **changes: Any) -> EpisodeBuffer:
    fields: dict[str, Any] = {
        "observations": stream.normal(size=(length + 1, 3)),
        "actions": stream.uniform(-1, 1, (length, 2)).astype(np.float32),
        "rewards": stream.normal(size=length),
        "terminations": stream.random(length) < 0.3,
        "truncations": np.arange(length) == length - 1,
        **changes,
    }
    return EpisodeBuffer(**fields)


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, lengths: list[int], seed: int) -> None:
    stream = np.random.default_rng(seed)
    buffers = [episode(length, stream) for length in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("datasets")))
        folder = create("tests/round-trip-v0", buffers)
        found, notes = read_minari(folder)
    expected: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in found.__dataclass_fields__}
    for buffer, length in zip(buffers, lengths, strict=True):
        observations: Any = buffer.observations
        for step in range(length):  # T actions, T + 1 observations: no step is lost
            expected["observations"].append(observations[step])
            expected["next_observations"].append(observations[step + 1])
            expected["actions"].append(buffer.actions[step])
            expected["rewards"].append(buffer.rewards[step])
            expected["terminals"].append(buffer.terminations[step])
    for name, values in expected.items():
        array = getattr(found, name)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, np.array(values).astype(np.float32))
    assert notes == ()


def test_what_a_dataset_says_of_itself_is_a_note() -> None:
    folder = create("tests/told-v0", [episode(3, np.random.default_rng(0))], description="made for a test")
    assert read_minari(folder)[1] == ("made for a test",)


def test_root_follows_minaris_variable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert minari_root() == root
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    monkeypatch.setenv("HOME", str(root / "home"))
    assert minari_root() == root / "home" / ".minari" / "datasets"
    assert not minari_root().exists()  # asking makes nothing


def damage_metadata(folder: Path) -> None:
    (folder / "data" / "metadata.json").write_text("{")


def lose_metadata(folder: Path) -> None:
    (folder / "data" / "metadata.json").unlink()


def truncate(folder: Path) -> None:
    path = folder / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:3000])


def overstate(folder: Path) -> None:
    path = folder / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"total_episodes": 9}))


@pytest.mark.parametrize("harm", [damage_metadata, lose_metadata, truncate, overstate])
def test_damage_is_told_in_one_line(harm: Any) -> None:
    folder = create("tests/harmed-v0", [episode(4, np.random.default_rng(1)) for _ in range(3)])
    read_minari(folder)
    harm(folder)
    with pytest.raises(DataError, match=r"the Minari dataset in .*harmed-v0 is damaged") as raised:
        read_minari(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": np.zeros((4, 3))}, "episode 0 has 4 rewards but 4 observations, not 5"),
        ({"actions": np.zeros((5, 2), np.float32)}, "4 rewards but 5 actions, not 4"),
        ({"rewards": np.array([0, np.inf, 0, np.nan])}, "2 in 'rewards'"),
        ({"actions": np.full((4, 2), 3.0, np.float32)}, "8 of 8 action values lie outside"),
    ],
)
def test_wrong_content(changes: dict[str, Any], message: str) -> None:
    folder = create("tests/wrong-v0", [episode(4, np.random.default_rng(1), **changes)])
    with pytest.raises(DataError, match=message):
        read_minari(folder)


def test_observations_that_are_not_flat() -> None:
    space = gymnasium.spaces.Dict({"observation": ANY, "goal": ANY})
    observations = {"observation": np.zeros((5, 3)), "goal": np.zeros((5, 3))}
    folder = create("tests/nested-v0", [episode(4, np.random.default_rng(1), observations=observations)], space)
    with pytest.raises(DataError, match="observations are not flat vectors"):
        read_minari(folder)


def test_missing_and_empty(root: Path) -> None:
    with pytest.raises(DataError, match="no Minari dataset in"):
        read_minari(root / "absent-v0")
    with pytest.raises(DataError, match="no transition"):
        read_minari(create("tests/empty-v0", []))
