"""Local Minari datasets: what is written through Minari's own interface comes back as transitions."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import gymnasium
import h5py
import minari
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minari.data_collector import EpisodeBuffer

from erdp_core.data.minari import ANTMAZE, Layout, minari_folder, minari_root, read_minari
from erdp_core.data.transitions import COLUMNS
from erdp_core.errors import DataError

ANY = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)
ACTIONS = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def create(
    dataset_id: str,
    buffers: list[EpisodeBuffer],
    observation_space: gymnasium.Space[Any] = ANY,
    action_space: gymnasium.Space[Any] = ACTIONS,
    **settings: Any,
) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        minari.create_dataset_from_buffers(
            dataset_id, buffers, observation_space=observation_space, action_space=action_space, **settings
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
        reading = read_minari(folder)
        found = reading.whole()
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
    assert reading.notes == []
    assert reading.attributes == {}


def test_what_a_dataset_says_of_itself_is_a_note() -> None:
    folder = create("tests/told-v0", [episode(3, np.random.default_rng(0))], description="made for a test")
    reading = read_minari(folder)
    reading.whole()
    assert reading.notes == ["made for a test"]


def test_root_follows_minaris_variable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert minari_root() == root
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    monkeypatch.setenv("HOME", str(root / "home"))
    assert minari_root() == root / "home" / ".minari" / "datasets"
    assert not minari_root().exists()  # asking makes nothing


def change_metadata(**changes: Any) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        path = folder / "data" / "metadata.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return harm


def write_metadata(text: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / "data" / "metadata.json").write_text(text), None][1]


def lose_metadata(folder: Path) -> None:
    (folder / "data" / "metadata.json").unlink()


def lose_data(folder: Path) -> None:
    (folder / "data" / "main_data.hdf5").unlink()


def truncate(folder: Path) -> None:
    path = folder / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:3000])


def change_data(change: Callable[["h5py.File"], None]) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
            change(file)

    return harm


def lose_episode(file: "h5py.File") -> None:
    del file["episode_1"]


def rename_episode(file: "h5py.File") -> None:
    file.move("episode_1", "episode_3")


def add_episode(file: "h5py.File") -> None:
    file.copy("episode_1", "episode_3")


DAMAGE = {
    "metadata cut short": (write_metadata("{"), r"is damaged \(its metadata cannot be read: "),
    "metadata of another kind": (write_metadata("[]"), r"is damaged \(its metadata are no dictionary"),
    "metadata nested too deep": (write_metadata("[" * 100_000), r"is damaged \(its metadata cannot be read: "),
    "no metadata": (lose_metadata, r"is damaged \(its metadata cannot be read: .*No such file"),
    "no data": (lose_data, "no file .*main_data.hdf5"),
    "data cut short": (truncate, "is damaged, cut short or not an HDF5 file"),
    "too many episodes told": (
        change_metadata(total_episodes=9),
        "it should have 9 episodes, numbered from 0: 3 are there",
    ),
    "too few episodes told": (
        change_metadata(total_episodes=2),
        "it should have 2 episodes, numbered from 0: 3 are there",
    ),
    "number of episodes no number": (
        change_metadata(total_episodes="3"),
        "it should have 3 episodes, numbered from 0: 3 are there",
    ),
    "an episode lost": (change_data(lose_episode), "it should have 3 episodes, numbered from 0: 2 are there"),
    "an episode under another name": (
        change_data(rename_episode),
        "it should have 3 episodes, numbered from 0: 3 are there",
    ),
    "an episode too many": (change_data(add_episode), "it should have 3 episodes, numbered from 0: 4 are there"),
    "another format": (change_metadata(data_format="arrow"), "is stored as arrow: "),
    "environment cut short": (change_metadata(env_spec='{"id"'), "its env_spec cannot be read: "),
    "environment without name": (change_metadata(env_spec='{"kwargs": {}}'), "its env_spec cannot be read: 'id'"),
    "environment of another kind": (change_metadata(env_spec=[1]), "its env_spec cannot be read: "),
    "options of another kind": (change_metadata(env_spec='{"id": "a", "kwargs": 3}'), "its env_spec cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told_in_one_line(name: str) -> None:
    harm, said = DAMAGE[name]
    folder = create("tests/harmed-v0", [episode(4, np.random.default_rng(1)) for _ in range(3)])
    assert len(read_minari(folder).whole()) == 12
    harm(folder)
    with pytest.raises(DataError, match=said) as raised:
        read_minari(folder).whole()
    assert str(folder) in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_wrong_number_of_steps_is_noted() -> None:
    folder = create("tests/harmed-v0", [episode(4, np.random.default_rng(1)) for _ in range(3)])
    change_metadata(total_steps=13)(folder)
    reading = read_minari(folder)
    assert len(reading.whole()) == 12
    assert reading.notes == ["harmed-v0 says that it has 13 steps: it has 12"]


@pytest.mark.parametrize("dtype", ["?", "u1", ">i4", "f2", "f8"])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_any_type_of_numbers_will_do(dtype: str, shape: tuple[int, ...]) -> None:
    numbers = np.array([0, 1, 1, 0])
    folder = create("tests/typed-v0", [episode(4, np.random.default_rng(1))])
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        for key in ("rewards", "terminations", "truncations"):
            del file[f"episode_0/{key}"]
            file[f"episode_0/{key}"] = numbers.reshape(shape).astype(dtype)
        del file["episode_0/actions"]
        file["episode_0/actions"] = numbers[:, None].astype(dtype)
    found = read_minari(folder).whole()
    for column in (found.rewards, found.terminals, found.actions[:, 0]):
        assert (column.dtype, column.tolist()) == (np.float32, [0, 1, 1, 0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observations": np.zeros((4, 3))}, "episode_0: 4 rewards but 4 observations, not 5"),
        ({"actions": np.zeros((5, 2), np.float32)}, "episode_0: 4 rewards but 5 actions, not 4"),
        ({"truncations": np.zeros(3, np.bool_)}, "episode_0: 4 rewards but 3 truncations, not 4"),
        ({"rewards": np.array([0, np.inf, 0, np.nan])}, "2 in 'rewards'"),
        ({"terminations": np.array([0, 0, 0, np.nan])}, "1 in 'terminations'"),
        ({"observations": np.full((5, 3), 1e300)}, "episode_0: .*15 in 'observations'"),
        ({"observations": np.array([[0.0] * 3] * 4 + [[0, 0, np.nan]])}, "episode_0: .*1 in 'observations'"),
        ({"actions": np.full((4, 2), 3.0, np.float32)}, "8 of 8 action values lie outside"),
        ({"rewards": np.zeros((4, 2))}, r"key 'rewards' has shape \(4, 2\), not \[N\]"),
    ],
)
def test_wrong_content(changes: dict[str, Any], message: str) -> None:
    folder = create("tests/wrong-v0", [episode(4, np.random.default_rng(1), **changes)])
    with pytest.raises(DataError, match=message):
        read_minari(folder).whole()


@pytest.mark.parametrize("changes", [{"observations": np.zeros((5, 4))}, {"actions": np.zeros((4, 3), np.float32)}])
def test_episodes_of_different_sizes(changes: dict[str, Any]) -> None:
    random = np.random.default_rng(1)
    folder = create("tests/wrong-v0", [episode(4, random), episode(4, random, **changes)])
    with pytest.raises(DataError, match="are not of one size"):
        read_minari(folder).whole()


def test_missing_and_empty(root: Path) -> None:
    with pytest.raises(DataError, match="no Minari dataset in"):
        read_minari(root / "absent-v0").whole()
    with pytest.raises(DataError, match="no transition"):
        read_minari(create("tests/empty-v0", [])).whole()


def box(size: int) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)


def ant_maze(rewards: list[float], felt: int, random: np.random.Generator, **parts: Any) -> EpisodeBuffer:
    steps = len(rewards)
    observations = {
        "achieved_goal": random.normal(size=(steps + 1, 2)),
        "desired_goal": random.normal(size=(steps + 1, 2)),
        "observation": random.normal(size=(steps + 1, felt)),
        **parts,
    }
    nothing = np.zeros(steps, np.bool_)
    infos = {"success": np.array([0.0, *rewards]) == 1, "qpos": random.normal(size=(steps + 1, 15))}
    return episode(
        steps,
        random,
        observations={key: part for key, part in observations.items() if part is not None},
        rewards=np.array(rewards),
        terminations=nothing,
        truncations=nothing,
        infos=infos,
    )


def ant_maze_dataset(buffers: list[EpisodeBuffer], dataset_id: str = "tests/ant-v0", **settings: Any) -> Path:
    parts = {key: box(part.shape[1]) for key, part in cast(Any, buffers[0].observations).items()}
    return create(dataset_id, buffers, gymnasium.spaces.Dict(parts), **settings)


@pytest.mark.parametrize("felt", [27, 105])
def test_ant_mazes_are_flattened_and_cut_at_the_first_success(felt: int) -> None:
    random = np.random.default_rng(0)
    rewards = [[0, 0, 0], [0, 1, 1, 0, 1], [1], [0, 0, 1], [0.0]]
    kept = [3, 2, 1, 3, 1]
    buffers = [ant_maze(each, felt, random) for each in rewards]
    found = read_minari(ant_maze_dataset(buffers), layout=ANTMAZE).whole()
    assert found.rewards.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 1, 0]
    assert found.terminals.tolist() == found.rewards.tolist()
    parts: list[Any] = [cast(Any, buffer.observations) for buffer in buffers]
    flat = [np.hstack((part["achieved_goal"], part["observation"][:, :27])).astype(np.float32) for part in parts]
    np.testing.assert_array_equal(
        found.observations, np.concatenate([rows[:length] for rows, length in zip(flat, kept, strict=True)])
    )
    np.testing.assert_array_equal(
        found.next_observations, np.concatenate([rows[1 : length + 1] for rows, length in zip(flat, kept, strict=True)])
    )
    np.testing.assert_array_equal(
        found.actions, np.concatenate([buffer.actions[:n] for buffer, n in zip(buffers, kept, strict=True)])
    )


def test_what_comes_after_the_first_success_may_be_anything() -> None:
    random = np.random.default_rng(0)
    buffer = replace(ant_maze([0, 1, 0, np.nan], 27, random), terminations=np.array([0, 0, 0, np.nan]))
    cast(Any, buffer.observations)["observation"][3:] = np.nan
    found = read_minari(ant_maze_dataset([buffer]), layout=ANTMAZE).whole()
    assert found.terminals.tolist() == [0, 1]
    cast(Any, buffer.observations)["observation"][2, 0] = np.nan  # s' of the last row that is kept
    with pytest.raises(DataError, match="1 in 'observations'"):
        read_minari(ant_maze_dataset([buffer], "tests/other-v0"), layout=ANTMAZE).whole()


@pytest.mark.parametrize("rewards", [[-1, -1, 0], [0, 10, 10], [0.1, 0.4, 1], [-1, 0, 1], [0.5, 0, 0]])
def test_ant_mazes_with_rewards_of_another_scale_are_refused(rewards: list[float]) -> None:
    """Nobody can tell from such rewards where the task ends."""
    buffers = [ant_maze([0, 1, 7], 27, np.random.default_rng(0)), ant_maze(rewards, 27, np.random.default_rng(0))]
    other = sum(reward not in (0, 1) for reward in rewards)
    with pytest.raises(DataError, match=f"AntMaze's rewards are 0, and 1 for success: {other} of 5 are not"):
        read_minari(ant_maze_dataset(buffers), layout=ANTMAZE).whole()


def test_rewards_alone_tell_successes() -> None:
    buffer = ant_maze([0, 0, 1, 1], 27, np.random.default_rng(0))
    cast(Any, buffer.infos)["success"][:] = [True, True, False, False, False]
    found = read_minari(ant_maze_dataset([buffer]), layout=ANTMAZE).whole()
    assert found.rewards.tolist() == found.terminals.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"observation": np.zeros((4, 29))}, "observations of size 29, not 27 or 105"),
        ({"achieved_goal": np.zeros((4, 3))}, "achieved_goal of size 3, not 2"),
        ({"achieved_goal": None}, "key 'observations/achieved_goal' is missing"),
        ({"observation": np.zeros((3, 27))}, "3 rewards but 3 observations, not 4"),
        ({"achieved_goal": np.zeros((5, 2))}, "3 rewards but 5 observations, not 4"),
    ],
)
def test_ant_mazes_of_other_parts(parts: dict[str, Any], said: str) -> None:
    folder = ant_maze_dataset([ant_maze([0, 0, 0], 27, np.random.default_rng(0), **parts)])
    with pytest.raises(DataError, match=said):
        read_minari(folder, layout=ANTMAZE).whole()


def test_dictionaries_without_a_layout_are_refused() -> None:
    folder = ant_maze_dataset([ant_maze([0, 0, 0], 27, np.random.default_rng(0))])
    with pytest.raises(
        DataError, match="not flat vectors but of parts: 'achieved_goal', 'desired_goal', 'observation'"
    ):
        read_minari(folder).whole()


def test_kitchens_have_d4rls_sixty_numbers() -> None:
    random = np.random.default_rng(0)
    goal = tuple(random.normal(size=30).tolist())
    elements = {"microwave": box(1), "kettle": box(7)}
    space = gymnasium.spaces.Dict(
        {
            "observation": box(59),
            "achieved_goal": gymnasium.spaces.Dict(elements),
            "desired_goal": gymnasium.spaces.Dict(elements),
        }
    )
    seen = np.arange(5 * 59.0).reshape(5, 59)
    other = {"microwave": np.zeros((5, 1)), "kettle": np.zeros((5, 7))}
    observations = {"observation": seen, "achieved_goal": other, "desired_goal": other}
    folder = create("tests/kitchen-v0", [episode(4, random, observations=observations)], space)
    found = read_minari(folder, layout=Layout("kitchen", goal)).whole()
    assert found.observations.shape == (4, 60)
    for step in range(4):
        joints = [59 * step + index for index in (*range(9), *range(18, 39))]
        np.testing.assert_array_equal(found.observations[step], np.array([*joints, *goal], np.float32))
    assert found.terminals.tolist() == found.terminals.astype(bool).tolist()
    wrong = create("tests/other-v0", [episode(4, random, observations={"observation": np.zeros((5, 60))})],
                   gymnasium.spaces.Dict({"observation": box(60)}))  # fmt: skip
    with pytest.raises(DataError, match="observations of size 60, not 59"):
        read_minari(wrong, layout=Layout("kitchen", goal)).whole()


def test_several_datasets_are_read_as_one() -> None:
    random = np.random.default_rng(0)
    settings: dict[str, Any] = {"env": "Hopper-v5"}
    space = {"observation_space": box(11), "action_space": gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)}

    def hopper(name: str, lengths: list[int], **changes: Any) -> Path:
        buffers = [
            episode(
                length,
                random,
                observations=random.normal(size=(length + 1, 11)),
                actions=random.uniform(-1, 1, (length, 3)).astype(np.float32),
            )
            for length in lengths
        ]
        return create(f"tests/{name}-v0", buffers, **space, **{**settings, "description": name, **changes})

    folders = [hopper("medium", [3, 2]), hopper("expert", [4])]
    parts = [read_minari(folder).whole() for folder in folders]
    reading = read_minari(*folders)
    together = reading.whole()
    for name in COLUMNS:
        separate = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(getattr(together, name), separate)
    assert reading.notes == ["medium", "expert"]
    assert reading.attributes == {"env_spec": {"name": "Hopper-v5", "options": {}}}
    with pytest.raises(DataError, match=r"no Minari dataset in .*absent-v0"):
        read_minari(*folders, folders[0].with_name("absent-v0")).whole()
    with pytest.raises(DataError, match="were not recorded in the same environment"):
        read_minari(folders[0], hopper("old", [3], env="Hopper-v4")).whole()
    other = create("tests/small-v0", [episode(3, random)], env="Hopper-v5")
    with pytest.raises(DataError, match=r"are not of one size: \[\(3, 2\), \(11, 3\)\]"):
        read_minari(folders[0], other).whole()


def test_what_collectors_say_of_the_evaluation() -> None:
    folder = create("tests/ours-v0", [episode(3, np.random.default_rng(0))])
    told = {"environment": "d4rl-antmaze-umaze", "evaluation_goal": [0.75, 8.75]}
    change_metadata(**told)(folder)
    reading = read_minari(folder)
    reading.whole()
    assert reading.attributes == told
