"""The collector: the same data from the same seed, honest rewards, held actions, nothing half-made."""

from pathlib import Path

import minari
import numpy as np
import pytest

from erdp_core.data.collect import EPISODE_ROWS, collect_pointmaze, walks
from erdp_core.data.load import load_dataset
from erdp_core.data.minari import read_minari
from erdp_core.data.transitions import Transitions
from erdp_core.environments.mazes import MAZES
from erdp_core.environments.point_maze import PointMaze, centre
from erdp_core.errors import DataError
from erdp_core.tasks import get_task

ROWS = 6_050  # not a multiple of an episode's rows
SIZES = ("umaze", "medium", "large")


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Transitions]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("collected")))
        found = {}
        for size in SIZES:
            task = get_task(f"pointmaze-{size}")
            collect_pointmaze(task, rows=ROWS)
            found[size] = load_dataset(task).transitions
        return found


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


@pytest.mark.parametrize("size", SIZES)
def test_reward_and_terminal_are_being_at_the_evaluation_goal(collected: dict[str, Transitions], size: str) -> None:
    data = collected[size]
    assert len(data) == ROWS
    goal = np.array(centre(MAZES[size], MAZES[size].goal))
    distance = np.linalg.norm(data.next_observations[:, :2].astype(np.float64) - goal, axis=1)
    np.testing.assert_array_equal(data.rewards, distance <= 0.45)
    np.testing.assert_array_equal(data.terminals, data.rewards)
    assert data.rewards.sum() >= 30  # 300 of the whole 60,000
    assert data.rewards.mean() < 0.2


@pytest.mark.parametrize("size", SIZES)
def test_actions_are_in_range_and_varied(collected: dict[str, Transitions], size: str) -> None:
    actions = collected[size].actions
    assert np.abs(actions).max() == 1.0
    assert 0.05 < (np.abs(actions) < 0.9).mean() < 0.95


@pytest.mark.parametrize("size", SIZES)
def test_walks_know_every_corridor_and_cross_no_wall(collected: dict[str, Transitions], size: str) -> None:
    data, rows = collected[size], MAZES[size].rows
    ways = np.linspace(data.observations[:, :2], data.next_observations[:, :2], 11).reshape(-1, 2)
    columns = np.floor(ways[:, 0] + len(rows[0]) / 2).astype(int)
    lines = np.floor(len(rows) / 2 - ways[:, 1]).astype(int)
    marks = np.array([list(line) for line in rows])[lines, columns]
    # A chord of a curve round a corner may cut the corner by a hair.
    assert (marks == "#").mean() < 1e-3
    inside = np.array([list(line) for line in rows])[
        np.floor(len(rows) / 2 - data.observations[:, 1]).astype(int),
        np.floor(data.observations[:, 0] + len(rows[0]) / 2).astype(int),
    ]
    assert not (inside == "#").any()
    visited = set(zip(lines.tolist(), columns.tolist(), strict=True))
    assert visited >= set(MAZES[size].free)


@pytest.mark.parametrize("size", SIZES)
def test_each_action_was_held_for_five_simulator_steps(collected: dict[str, Transitions], size: str) -> None:
    gymnasium_robotics = pytest.importorskip("gymnasium_robotics.envs.maze.point")
    model = PointMaze(size).model
    point = gymnasium_robotics.PointEnv()
    data = collected[size]
    free = np.flatnonzero(_far_from_walls(data, size))[:300]
    assert len(free) == 300
    assert model.opt.timestep == point.model.opt.timestep == 0.01
    for row in free:
        state = data.observations[row].astype(np.float64)
        point.set_state(state[:2], state[2:])
        for _ in range(5):
            after = point.step(data.actions[row])[0]
        np.testing.assert_allclose(after, data.next_observations[row], atol=2e-6)


def _far_from_walls(data: Transitions, size: str) -> np.ndarray:
    """Rows whose way stays in its cell's middle, where no wall is touched."""
    rows = MAZES[size].rows
    middle = np.ones(len(data), np.bool_)
    for places in (data.observations, data.next_observations):
        x, y = places[:, 0] + len(rows[0]) / 2, len(rows) / 2 - places[:, 1]
        middle &= (np.abs(x % 1 - 0.5) < 0.35) & (np.abs(y % 1 - 0.5) < 0.35)
    return middle


def test_rows_follow_one_another(collected: dict[str, Transitions]) -> None:
    data = collected["medium"]
    same = (data.next_observations[:-1] == data.observations[1:]).all(axis=1)
    breaks = np.flatnonzero(~same) + 1
    np.testing.assert_array_equal(breaks, np.arange(EPISODE_ROWS, ROWS, EPISODE_ROWS))
    starts = np.concatenate(([0], breaks))
    assert (data.observations[starts, 2:] == 0).all()  # at rest
    assert len({tuple(np.floor(data.observations[start, :2])) for start in starts}) > 10  # in many cells


def test_a_seed_determines_the_data() -> None:
    def fingerprint(seed: int) -> bytes:
        environment = PointMaze("medium")
        return b"".join(
            np.asarray(part).tobytes()
            for buffer in walks(environment, 250, seed)
            for part in (buffer.observations, buffer.actions, buffer.rewards)
        )

    assert fingerprint(0) == fingerprint(0)
    assert fingerprint(0) != fingerprint(1)


def test_the_dataset_is_minaris_own(root: Path) -> None:
    folder = collect_pointmaze(get_task("pointmaze-umaze"), rows=250, seed=3)
    assert folder == root / "erdp" / "pointmaze-umaze-v0"
    assert list(minari.list_local_datasets()) == ["erdp/pointmaze-umaze-v0"]
    dataset = minari.load_dataset("erdp/pointmaze-umaze-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (3, 250)
    assert [len(episode.observations) for episode in dataset] == [101, 101, 51]
    assert "250 rows of a noisy PD controller's walks (seed 3" in dataset.storage.metadata["description"]


def test_what_is_there_is_replaced_only_when_asked(root: Path) -> None:
    task = get_task("pointmaze-umaze")
    folder = collect_pointmaze(task, rows=120)
    with pytest.raises(DataError, match="--overwrite"):
        collect_pointmaze(task, rows=150)
    assert len(read_minari(folder).whole()) == 120
    collect_pointmaze(task, rows=150, overwrite=True)
    assert len(read_minari(folder).whole()) == 150
    assert [path.name for path in root.iterdir()] == ["erdp"]


@pytest.mark.parametrize("moment", ["minari.create_dataset_from_buffers", "os.replace"])
def test_an_interrupted_collection_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"erdp_core.data.collection.{moment}", interrupt)
        with pytest.raises(KeyboardInterrupt):
            collect_pointmaze(get_task("pointmaze-umaze"), rows=120)
    assert list(root.rglob("*.hdf5")) == []
    assert not any(path.name.startswith(".") for path in root.iterdir())
    assert len(read_minari(collect_pointmaze(get_task("pointmaze-umaze"), rows=120)).whole()) == 120


def test_a_failed_replacement_keeps_the_old_data(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = get_task("pointmaze-umaze")
    folder = collect_pointmaze(task, rows=120)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("erdp_core.data.collection.minari.create_dataset_from_buffers", full)
        with pytest.raises(DataError, match=r"cannot be written \(No space left on device\)"):
            collect_pointmaze(task, rows=150, overwrite=True)
    assert len(read_minari(folder).whole()) == 120


def test_a_task_without_collector(root: Path) -> None:
    with pytest.raises(DataError, match="hopper-medium-v2 has no collector"):
        collect_pointmaze(get_task("hopper-medium-v2"))
