"""AntMaze collected with D4RL's own policy: goals are reached, and the data are as D4RL's are."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from erdp_core.data.collect_ant_maze import EPISODE_ROWS, RECIPES, collect_ant_maze, draw_walk
from erdp_core.data.d4rl import misaligned_rows
from erdp_core.data.minari import read_minari
from erdp_core.data.transitions import Transitions
from erdp_core.tasks import get_task

WALKS = 12


def collected(name: str, walks: int, policies: Path) -> Transitions:
    task = replace(get_task(name), local_id=f"erdp/{name}")
    policy = policies / "d4rl_ant_goal_reaching.npz"
    return read_minari(collect_ant_maze(task, policy, rows=walks * EPISODE_ROWS)).whole()


def came(name: str, data: Transitions) -> npt.NDArray[np.int64]:
    """The first row of each walk at its own goal, EPISODE_ROWS where there is none."""
    places = data.next_observations[:, :2].reshape(-1, EPISODE_ROWS, 2).astype(np.float64)
    goals = np.array([draw_walk(RECIPES[name], 0, number, EPISODE_ROWS).goal for number in range(len(places))])
    there = np.linalg.norm(places - goals[:, None], axis=2) <= 0.5
    return np.where(there.any(axis=1), there.argmax(axis=1), EPISODE_ROWS)


@pytest.fixture(scope="module")
def umaze(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Transitions:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("umaze")))
        return collected("antmaze-umaze-v0", WALKS, test_data / "policies")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("umaze-diverse", 0.8),
        ("medium-play", 0.5),
        ("medium-diverse", 0.6),
        ("large-play", 0.5),
        ("large-diverse", 0.5),
    ],
)
def test_d4rls_policy_comes_to_its_goals_in_every_maze(
    test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, share: float
) -> None:
    """Measured with MuJoCo 3.11, of 40 walks: 37, 27, 31, 25 and 25."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    data = collected(f"antmaze-{name}-v0", 30, test_data / "policies")
    assert (came(f"antmaze-{name}-v0", data) < EPISODE_ROWS).mean() >= share
    assert misaligned_rows(data) == 0


def test_d4rls_policy_comes_to_its_goals(umaze: Transitions) -> None:
    """Measured with MuJoCo 3.11: 34 of 40."""
    assert (came("antmaze-umaze-v0", umaze) < EPISODE_ROWS).sum() >= 0.7 * WALKS


def test_walks_do_not_jump_and_terminals_stand_in_clusters(umaze: Transitions) -> None:
    assert misaligned_rows(umaze) == 0
    assert np.linalg.norm(umaze.next_observations[:, :2] - umaze.observations[:, :2], axis=1).max() < 1.0
    distance = np.linalg.norm(umaze.next_observations[:, :2].astype(np.float64) - (0.75, 8.75), axis=1)
    np.testing.assert_array_equal(umaze.rewards, distance <= 0.5)
    np.testing.assert_array_equal(umaze.terminals, umaze.rewards)
    follows = (umaze.next_observations[:-1] == umaze.observations[1:]).all(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(~follows) + 1, np.arange(EPISODE_ROWS, len(umaze), EPISODE_ROWS))
    # The ant lingers: a rewarded row mostly follows a rewarded row, and walks go on after the last one.
    rewarded = np.flatnonzero(umaze.rewards)
    assert len(rewarded) > 50 * WALKS
    assert umaze.rewards[rewarded[rewarded > 0] - 1].mean() > 0.9
    assert umaze.terminals.mean() < 0.6


def test_the_gait_is_that_of_the_regenerated_data(umaze: Transitions, test_data: Path) -> None:
    """The same policy and noise on MuJoCo 4.0, up to each goal that is reached.

    Those data's waypoints are the centres of cells that count from the nearest centre, without noise: their ants go
    straighter, and so a sixth faster, than by D4RL's recipe.
    """
    rows = np.concatenate(
        [
            np.arange(EPISODE_ROWS * number, EPISODE_ROWS * number + first)
            for number, first in enumerate(came("antmaze-umaze-v0", umaze))
            if first < EPISODE_ROWS
        ]
    )
    ours = tuple(getattr(umaze, name)[rows] for name in ("observations", "actions", "next_observations"))
    with h5py.File(test_data / "antmaze-umaze-regenerated.hdf5") as file:
        states, actions, goals = (file[key][()] for key in ("observations", "actions", "infos/goal"))
        ends = np.flatnonzero(file["timeouts"])
    kept = []
    for first, last in zip([0, *(ends[:-1] + 1)], ends, strict=True):
        there = np.linalg.norm(states[first:last, :2] - goals[first], axis=1) <= 0.5
        kept += [np.arange(first, first + there.argmax())] if there.any() else []
    steps = np.concatenate(kept)
    theirs = states[steps], actions[steps], states[steps + 1]
    statistics: dict[str, tuple[Callable[..., float], float]] = {
        "size of actions": (lambda s, a, n: float(np.abs(a).mean()), 0.03),
        "actions at their limits": (lambda s, a, n: float((np.abs(a) == 1).mean()), 0.05),
        "height": (lambda s, a, n: float(s[:, 2].mean()), 0.05),
        "joint angles": (lambda s, a, n: float(s[:, 7:15].std(axis=0).mean()), 0.1),
        "joint velocities": (lambda s, a, n: float(np.abs(s[:, 21:]).mean()), 0.15),
        "metres a row": (lambda s, a, n: float(np.linalg.norm(n[:, :2] - s[:, :2], axis=1).mean()), 0.2),
    }
    for name, (statistic, tolerance) in statistics.items():
        assert statistic(*ours) == pytest.approx(statistic(*theirs), rel=tolerance), name
