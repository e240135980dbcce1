"""AntMaze's collector: D4RL's recipe, the same data from the same seed, honest rewards."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import minari
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from erdp_core.data import collect_ant_maze as module
from erdp_core.data.collect_ant_maze import (
    EPISODE_ROWS,
    RECIPES,
    Recipe,
    cells_of,
    collect_ant_maze,
    draw_walk,
    evaluation_goal,
    next_cells,
    simulate,
)
from erdp_core.data.collection import maze_episode
from erdp_core.data.load import load_dataset
from erdp_core.data.minari import read_minari
from erdp_core.data.policy_file import Policy
from erdp_core.data.transitions import Floats, Transitions
from erdp_core.environments.ant_maze import AntMaze
from erdp_core.environments.make import make_environment
from erdp_core.environments.mazes import MAZES, Cell
from erdp_core.errors import DataError
from erdp_core.tasks import EnvironmentSpec, Task, get_task

TASKS = [
    f"antmaze-{name}-v0"
    for name in ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")
]
# Written down once more: `#` wall, space free; cell (1, 1) of each has the world's origin at its centre.
WALLS = {
    "umaze": ["#####", "#   #", "### #", "#   #", "#####"],
    "medium": ["########", "#  ##  #", "#  #   #", "##   ###", "#  #   #", "# #  # #", "#   #  #", "########"],
    "large": [
        "############",
        "#    #     #",
        "# ## # # # #",
        "#      #   #",
        "# #### ### #",
        "#  # #     #",
        "## # # # ###",
        "#  #   #   #",
        "############",
    ],
}
FREE = {
    size: {(row, column) for row, line in enumerate(rows) for column, mark in enumerate(line) if mark == " "}
    for size, rows in WALLS.items()
}
GOALS = {
    "antmaze-umaze-v0": {(3, 1)},
    "antmaze-medium-play-v0": {(2, 6), (5, 1), (6, 5)},
    "antmaze-large-play-v0": {(1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9)},
}
GOALS |= {name: FREE[name.split("-")[1]] for name in TASKS if "diverse" in name}


def local(name: str) -> Task:
    return replace(get_task(name), local_id=f"erdp/{name}")


def centre(cell: Cell) -> npt.NDArray[np.float64]:
    return np.array([4.0 * (cell[1] - 1), 4.0 * (cell[0] - 1)])


def distances(size: str, goal: Cell) -> dict[Cell, int]:
    """Steps from every free cell to the goal."""
    found, edge = {goal: 0}, [goal]
    while edge:
        row, column = edge.pop(0)
        for cell in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if cell in FREE[size] and cell not in found:
                found[cell] = found[row, column] + 1
                edge.append(cell)
    return found


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


@pytest.fixture(scope="module")
def trembling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that moves the ant but does not know how to walk."""
    stream = np.random.default_rng(0)
    weights = {
        f"{name}.{part}": stream.normal(0, 0.3, shape)
        for name, (out, into) in {"fc0": (16, 29), "last_fc": (8, 16), "last_fc_log_std": (8, 16)}.items()
        for part, shape in (("weight", (out, into)), ("bias", (out,)))
    }
    path = tmp_path_factory.mktemp("policy") / "trembling.npz"
    np.savez(path, **weights)  # type: ignore[arg-type]
    return path


class Recording(Policy):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.observation_size, self.action_size = 29, 8
        self.path = Path("no file")
        self.inputs: list[Floats] = []
        self.noise: list[Floats] = []

    def _actions(self, observations: Floats, noise: Floats | None) -> Floats:
        assert noise is not None
        self.inputs.append(observations)
        self.noise.append(noise)
        return np.tanh(observations[:, :8])


def test_every_antmaze_has_a_recipe() -> None:
    assert set(RECIPES) == set(TASKS)
    for name, recipe in RECIPES.items():
        assert recipe.size == name.split("-")[1] == get_task(name).environment.name.split("-")[-1]


@pytest.mark.parametrize("name", TASKS)
def test_starts_and_goals_are_d4rls(name: str) -> None:
    recipe = RECIPES[name]
    size = recipe.size
    walks = [draw_walk(recipe, 3, number, 5) for number in range(600)]
    assert {walk.goal_cell for walk in walks} == GOALS[name]
    noise = np.array([walk.goal - centre(walk.goal_cell) for walk in walks])
    assert noise.min() >= 0
    assert noise.max() <= 1.5
    assert noise.mean(axis=0) == pytest.approx([0.75, 0.75], abs=0.06)
    assert noise.std(axis=0) == pytest.approx(np.full(2, (1 / 12 + 0.25 / 12) ** 0.5), rel=0.1)
    if name == "antmaze-umaze-v0":
        assert all(walk.start is None for walk in walks)
        return
    starts = np.array([walk.start for walk in walks])
    cells = [(int(y // 4) + 1, int(x // 4) + 1) for x, y in starts]
    assert set(cells) == (FREE[size] if "diverse" in name else FREE[size] - GOALS[name])
    inside = starts - [centre(cell) for cell in cells]
    assert inside.min() >= 0
    assert inside.max() <= 1
    assert inside.mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.06)


def test_noise_is_d4rls() -> None:
    walk = draw_walk(RECIPES["antmaze-umaze-v0"], 0, 0, EPISODE_ROWS)
    assert walk.waypoint_noise.shape == (1001, 2)
    assert walk.waypoint_noise.min() >= 0
    assert walk.waypoint_noise.max() <= 1
    assert walk.waypoint_noise.mean() == pytest.approx(0.5, abs=0.03)
    assert walk.policy_noise.shape == walk.action_noise.shape == (1001, 8)
    assert walk.policy_noise.std() == pytest.approx(1.0, rel=0.05)
    assert walk.action_noise.std() == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("size", MAZES)
def test_the_next_cell_is_one_step_nearer_from_wherever_an_ant_can_be(size: str) -> None:
    for goal in FREE[size]:
        steps, found = distances(size, goal), next_cells(MAZES[size], goal)
        for row, column in FREE[size]:
            # A point of a free cell counts as in it, or as in the one before, per axis, wall or not.
            for cell in {(max(1, row - i), max(1, column - j)) for i in (0, 1) for j in (0, 1)}:
                ahead = tuple(found[cell].tolist())
                if cell == goal:
                    assert ahead == goal
                    continue
                beside = [
                    steps[other]
                    for other in FREE[size]
                    if abs(other[0] - cell[0]) + abs(other[1] - cell[1]) == 1  # none other
                ]
                assert abs(ahead[0] - cell[0]) + abs(ahead[1] - cell[1]) == 1
                assert steps[ahead] == min(beside)
                assert cell not in steps or steps[ahead] == steps[cell] - 1


@given(x=st.floats(-2, 46), y=st.floats(-2, 34))
def test_cells_count_from_floor(x: float, y: float) -> None:
    (cell,) = cells_of((1, 1), np.array([[x, y]]), (9, 12)).tolist()
    assert cell == [min(1 + int(max(y, 1e-4) / 4), 7), min(1 + int(max(x, 1e-4) / 4), 10)]


@pytest.mark.parametrize("size", MAZES)
def test_the_policy_sees_the_ant_and_the_way(size: str) -> None:
    """From any place: qpos without x and y, qvel, and a vector of length 10 to the waypoint, drawn anew each step."""
    stream = np.random.default_rng(1)
    recipe = Recipe(size, tuple(sorted(FREE[size])), tuple(sorted(FREE[size])))
    walks = []
    for number in range(60):
        walk = draw_walk(recipe, 0, number, 3)
        assert walk.start is not None
        x, y = walk.start
        # Also before a cell's centre, where walls are as far as an ant is wide.
        walks.append(replace(walk, start=(x - stream.uniform(0, 1.5), y - stream.uniform(0, 1.5))))
    policy = Recording()
    for row, (observations, actions) in enumerate(simulate(size, walks, policy, 2, lambda _: None)):
        walk = walks[row]
        np.testing.assert_allclose(observations[0, :2], walk.start, rtol=1e-6)
        reset = AntMaze(size).reset(seed=walk.reset_seed)[0]
        np.testing.assert_allclose(observations[0, 2:], reset[2:], rtol=1e-6)
        steps = distances(size, walk.goal_cell)
        for step in range(3):
            seen, place = policy.inputs[step][row], observations[step, :2].astype(np.float64)
            np.testing.assert_array_equal(seen[:27], observations[step, 2:])
            np.testing.assert_array_equal(policy.noise[step][row], walk.policy_noise[step].astype(np.float32))
            cell = (1 + int(max(place[1], 1e-4) / 4), 1 + int(max(place[0], 1e-4) / 4))
            beside = {
                other: steps[other] for other in FREE[size] if abs(other[0] - cell[0]) + abs(other[1] - cell[1]) == 1
            }
            if cell == walk.goal_cell or walk.goal_cell in beside:
                ways = [np.array(walk.goal)]
            else:
                ahead = [other for other in beside if beside[other] == min(beside.values())]
                ways = [centre(other) + walk.waypoint_noise[step] for other in ahead]
            directions = [10 * (way - place) / np.linalg.norm(way - place) for way in ways]
            assert min(np.abs(seen[27:] - direction).max() for direction in directions) < 1e-4
            expected = np.clip(np.tanh(seen[:8]) + walk.action_noise[step], -1, 1)
            np.testing.assert_allclose(actions[step], expected, atol=1e-6)


def test_actions_are_those_that_were_simulated(trembling: Path, root: Path) -> None:
    """From the stored start and actions the stored places come out."""
    folder = collect_ant_maze(local("antmaze-large-diverse-v0"), trembling, rows=40)
    data = read_minari(folder).whole()
    environment, walk = AntMaze("large"), draw_walk(RECIPES["antmaze-large-diverse-v0"], 0, 0, 40)
    environment.reset(seed=walk.reset_seed)
    assert walk.start is not None
    environment.data.qpos[:2] = walk.start
    for row in range(40):
        state = environment.step(data.actions[row])[0]
        np.testing.assert_array_equal(data.next_observations[row], state.astype(np.float32))
    assert np.abs(data.actions).max() == 1.0


def columns(folder: Path) -> Transitions:
    return read_minari(folder).whole()


def test_the_dataset_is_minaris_own(trembling: Path, root: Path) -> None:
    output = io.StringIO()
    task = local("antmaze-umaze-v0")
    folder = collect_ant_maze(task, trembling, rows=1300, seed=4, console=Console(file=output))
    assert folder == root / "erdp" / "antmaze-umaze-v0"
    dataset = minari.load_dataset("erdp/antmaze-umaze-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (2, 1300)
    assert [len(episode.actions) for episode in dataset] == [1001, 299]
    assert [episode.truncations.sum() for episode in dataset] == [1, 1]
    assert dataset.observation_space.shape == (29,)
    data = load_dataset(task, "local")
    assert data.transitions.observations.shape == (1300, 29)
    assert "1300 rows by D4RL's recipe for antmaze-umaze-v0 (policy trembling.npz, sha256 " in data.notes[-1]
    assert "0 of 2 walks came to their goals" in data.notes[-1]
    assert data.environment == EnvironmentSpec("d4rl-antmaze-umaze", {"evaluation_goal": [0.75, 8.75]})
    assert make_environment(data.environment).unwrapped.goal == (0.75, 8.75)  # type: ignore[attr-defined]
    assert "antmaze-umaze-v0: 1,300 of 1,300 rows, " in output.getvalue()


def test_the_evaluations_goal_is_the_middle_of_d4rls() -> None:
    goals = {"umaze": (0.75, 8.75), "medium": (20.75, 20.75), "large": (32.75, 24.75)}
    assert {size: evaluation_goal(maze) for size, maze in MAZES.items()} == goals


def test_a_seed_determines_the_data_however_they_are_simulated(
    trembling: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = local("antmaze-medium-diverse-v0")

    def fingerprint(rows: int = 1060, seed: int = 0, threads: int | None = None) -> str:
        folder = collect_ant_maze(task, trembling, rows=rows, seed=seed, threads=threads, overwrite=True)
        return columns(folder).fingerprint()

    one = fingerprint(threads=1)
    assert fingerprint(threads=3) == one
    assert fingerprint(seed=1) != one
    whole = columns(root / "erdp" / task.name)
    fingerprint(rows=1020, seed=1)
    fewer = columns(root / "erdp" / task.name)
    np.testing.assert_array_equal(fewer.next_observations, whole.next_observations[:1020])
    monkeypatch.setattr(module, "_TOGETHER", 1)
    assert fingerprint() == one


@given(
    places=st.lists(st.tuples(st.floats(-1, 2), st.floats(7, 10)), min_size=2, max_size=20),
    goal=st.tuples(st.floats(0, 1), st.floats(8, 9)),
)
def test_reward_and_terminal_are_being_at_the_goal(
    places: list[tuple[float, float]], goal: tuple[float, float]
) -> None:
    observations = np.zeros((len(places), 29), np.float32)
    observations[:, :2] = places
    episode = maze_episode(observations, np.zeros((len(places) - 1, 8), np.float32), goal, 0.5)
    distance = np.linalg.norm(observations[1:, :2].astype(np.float64) - goal, axis=1)
    clear = np.abs(distance - 0.5) > 1e-9
    np.testing.assert_array_equal(np.array(episode.rewards)[clear], (distance <= 0.5)[clear])
    np.testing.assert_array_equal(episode.terminations, episode.rewards)
    assert list(np.flatnonzero(episode.truncations)) == [] if episode.terminations[-1] else [len(places) - 2]


def test_an_interrupted_collection_leaves_nothing(trembling: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, steps = local("antmaze-umaze-v0"), []
    step = AntMaze.step

    def interrupted(environment: AntMaze, action: npt.NDArray[Any]) -> Any:
        steps.append(action)
        if len(steps) == 50:
            raise KeyboardInterrupt
        return step(environment, action)

    with monkeypatch.context() as patch:
        patch.setattr(AntMaze, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            collect_ant_maze(task, trembling, rows=200)
    assert list(root.iterdir()) == []
    folder = collect_ant_maze(task, trembling, rows=100)
    with monkeypatch.context() as patch:
        patch.setattr("erdp_core.data.collection.os.replace", interrupted)
        steps[:] = steps[:49]
        with pytest.raises(KeyboardInterrupt):
            collect_ant_maze(task, trembling, rows=150, overwrite=True)
    assert len(columns(folder)) == 100
    assert [path.name for path in root.iterdir()] == ["erdp"]


def test_progress_on_a_terminal_is_a_bar(trembling: Path, root: Path) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100, _environ={"TERM": "xterm"})
    collect_ant_maze(local("antmaze-umaze-v0"), trembling, rows=30, console=console)
    assert "━" in output.getvalue()
    assert "30/30" in output.getvalue()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ({"rows": 0}, "antmaze-umaze-v0: rows 0 is too small, at least 1"),
        ({"seed": -1}, "antmaze-umaze-v0: seed -1 is too small, at least 0"),
        ({"policy_file": Path("nowhere.npz")}, "no policy file nowhere.npz"),
        ({"task": get_task("pointmaze-umaze")}, "pointmaze-umaze has no collector that takes a policy: antmaze-umaze"),
    ],
)
def test_mistakes_are_told_before_anything_is_simulated(
    trembling: Path, root: Path, harm: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {"task": local("antmaze-umaze-v0"), "policy_file": trembling, "rows": 10**9}
    with pytest.raises(DataError, match=message):
        collect_ant_maze(**(arguments | harm))
    assert not list(root.rglob("*.hdf5"))


def test_what_is_there_and_what_cannot_be_written(trembling: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = local("antmaze-umaze-v0")
    collect_ant_maze(task, trembling, rows=20)
    with pytest.raises(DataError, match="is there already: use --overwrite to collect antmaze-umaze-v0 anew"):
        collect_ant_maze(task, trembling, rows=10**9)
    (root / "erdp" / "antmaze-v0" / "mine-v0").mkdir(parents=True)
    with pytest.raises(DataError, match="is there already and no dataset: take another id than erdp/antmaze-v0"):
        collect_ant_maze(replace(task, local_id="erdp/antmaze-v0"), trembling, rows=10**9, overwrite=True)
    with pytest.raises(DataError, match="'erdp' is no Minari dataset id such as"):
        collect_ant_maze(replace(task, local_id="erdp"), trembling, rows=10**9, overwrite=True)
    (root / "file").write_text("")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root / "file"))
    with pytest.raises(DataError, match=r"cannot be written \(.*\): set MINARI_DATASETS_PATH"):
        collect_ant_maze(task, trembling, rows=10**9)
