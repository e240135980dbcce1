"""The registry: the paper's tasks, their scores and their tables."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from erdp_core.environments.make import make_environment
from erdp_core.errors import DataError, UserError
from erdp_core.hyperparameters import SCHEDULES
from erdp_core.tasks import TABLES, TASKS, get_task, table_tasks


@pytest.mark.parametrize("name", TASKS)
def test_scores_are_0_and_100_at_the_references(name: str) -> None:
    task = get_task(name)
    assert task.score(task.reference_min) == 0
    assert task.score(task.reference_max) == pytest.approx(100)
    assert task.score(2 * task.reference_max - task.reference_min) == pytest.approx(200)


def test_scores_are_d4rls() -> None:
    assert get_task("halfcheetah-medium-v2").score(5000) == pytest.approx(100 * 5280.178953 / 12415.178953)
    assert get_task("hopper-medium-replay-v2").score(3234.3) == pytest.approx(100)
    assert get_task("antmaze-large-play-v0").score(0.37) == pytest.approx(37)
    assert get_task("pen-cloned-v1").score(3450) == pytest.approx(100 * 3353.737201 / 2980.5703027826877)
    assert get_task("kitchen-mixed-v0").score(2.5) == 62.5


# The paper's 20, written down once more: file, Minari, environments, references, steps.
PAPER = {
    "halfcheetah-medium-v2": (
        "gym_mujoco_v2/halfcheetah_medium-v2.hdf5", ("mujoco/halfcheetah/medium-v0",),
        "HalfCheetah-v4", "HalfCheetah-v5", -280.178953, 12135.0, 1000,
    ),
    "hopper-medium-v2": (
        "gym_mujoco_v2/hopper_medium-v2.hdf5", ("mujoco/hopper/medium-v0",),
        "Hopper-v4", "Hopper-v5", -20.272305, 3234.3, 1000,
    ),
    "walker2d-medium-v2": (
        "gym_mujoco_v2/walker2d_medium-v2.hdf5", ("mujoco/walker2d/medium-v0",),
        "Walker2d-v4", "Walker2d-v5", 1.629008, 4592.3, 1000,
    ),
    "halfcheetah-medium-replay-v2": (
        "gym_mujoco_v2/halfcheetah_medium_replay-v2.hdf5", (),
        "HalfCheetah-v4", None, -280.178953, 12135.0, 1000,
    ),
    "hopper-medium-replay-v2": (
        "gym_mujoco_v2/hopper_medium_replay-v2.hdf5", (), "Hopper-v4", None, -20.272305, 3234.3, 1000,
    ),
    "walker2d-medium-replay-v2": (
        "gym_mujoco_v2/walker2d_medium_replay-v2.hdf5", (), "Walker2d-v4", None, 1.629008, 4592.3, 1000,
    ),
    "halfcheetah-medium-expert-v2": (
        "gym_mujoco_v2/halfcheetah_medium_expert-v2.hdf5",
        ("mujoco/halfcheetah/medium-v0", "mujoco/halfcheetah/expert-v0"),
        "HalfCheetah-v4", "HalfCheetah-v5", -280.178953, 12135.0, 1000,
    ),
    "hopper-medium-expert-v2": (
        "gym_mujoco_v2/hopper_medium_expert-v2.hdf5", ("mujoco/hopper/medium-v0", "mujoco/hopper/expert-v0"),
        "Hopper-v4", "Hopper-v5", -20.272305, 3234.3, 1000,
    ),
    "walker2d-medium-expert-v2": (
        "gym_mujoco_v2/walker2d_medium_expert-v2.hdf5", ("mujoco/walker2d/medium-v0", "mujoco/walker2d/expert-v0"),
        "Walker2d-v4", "Walker2d-v5", 1.629008, 4592.3, 1000,
    ),
    "antmaze-umaze-v0": (
        "ant_maze_new/Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse.hdf5",
        ("D4RL/antmaze/umaze-v1",), "d4rl-antmaze-umaze", "AntMaze_UMaze-v4", 0, 1, 700,
    ),
    "antmaze-umaze-diverse-v0": (
        "ant_maze_new/Ant_maze_u-maze_noisy_multistart_True_multigoal_True_sparse.hdf5",
        ("D4RL/antmaze/umaze-diverse-v1",), "d4rl-antmaze-umaze", "AntMaze_UMaze-v4", 0, 1, 700,
    ),
    "antmaze-medium-play-v0": (
        "ant_maze_new/Ant_maze_big-maze_noisy_multistart_True_multigoal_False_sparse.hdf5",
        ("D4RL/antmaze/medium-play-v1",), "d4rl-antmaze-medium", "AntMaze_Medium-v4", 0, 1, 1000,
    ),
    "antmaze-medium-diverse-v0": (
        "ant_maze_new/Ant_maze_big-maze_noisy_multistart_True_multigoal_True_sparse.hdf5",
        ("D4RL/antmaze/medium-diverse-v1",), "d4rl-antmaze-medium", "AntMaze_Medium_Diverse_GR-v4", 0, 1, 1000,
    ),
    "antmaze-large-play-v0": (
        "ant_maze_new/Ant_maze_hardest-maze_noisy_multistart_True_multigoal_False_sparse.hdf5",
        ("D4RL/antmaze/large-play-v1",), "d4rl-antmaze-large", "AntMaze_Large-v4", 0, 1, 1000,
    ),
    "antmaze-large-diverse-v0": (
        "ant_maze_new/Ant_maze_hardest-maze_noisy_multistart_True_multigoal_True_sparse.hdf5",
        ("D4RL/antmaze/large-diverse-v1",), "d4rl-antmaze-large", "AntMaze_Large_Diverse_GR-v4", 0, 1, 1000,
    ),
    "pen-human-v1": (
        "hand_dapg_v1/pen-human-v1.hdf5", ("D4RL/pen/human-v2",),
        "d4rl-pen", "d4rl-pen", 96.262799, 3076.8331017826877, 100,
    ),
    "pen-cloned-v1": (
        "hand_dapg_v1/pen-cloned-v1.hdf5", ("D4RL/pen/cloned-v2",),
        "d4rl-pen", "d4rl-pen", 96.262799, 3076.8331017826877, 100,
    ),
    "kitchen-complete-v0": (
        "kitchen/mini_kitchen_microwave_kettle_light_slider-v0.hdf5", ("D4RL/kitchen/complete-v2",),
        "FrankaKitchen-v1", "FrankaKitchen-v1", 0, 4, 280,
    ),
    "kitchen-partial-v0": (
        "kitchen/kitchen_microwave_kettle_light_slider-v0.hdf5", ("D4RL/kitchen/partial-v2",),
        "FrankaKitchen-v1", "FrankaKitchen-v1", 0, 4, 280,
    ),
    "kitchen-mixed-v0": (
        "kitchen/kitchen_microwave_kettle_bottomburner_light-v0.hdf5", ("D4RL/kitchen/mixed-v2",),
        "FrankaKitchen-v1", "FrankaKitchen-v1", 0, 4, 280,
    ),
}  # fmt: skip


def test_the_papers_tasks_are_these_20() -> None:
    assert len(PAPER) == 20
    assert TABLES["all"] == tuple(PAPER)
    assert {name: len(tasks) for name, tasks in TABLES.items()} == {
        "pointmaze": 3, "gym": 9, "antmaze": 6, "adroit": 2, "kitchen": 3, "all": 20
    }  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_a_task_of_the_paper(name: str) -> None:
    task = get_task(name)
    minari = None if task.minari_environment is None else task.minari_environment.name
    assert PAPER[name] == (
        task.d4rl_file,
        task.minari_ids,
        task.environment.name,
        minari,
        task.reference_min,
        task.reference_max,
        task.step_limit,
    )


def test_minari_data_that_are_other_data_say_so() -> None:
    """mujoco/*/medium-v0 is much stronger than D4RL's; combinations are made of it."""
    noted = {name for name, task in TASKS.items() if task.minari_note is not None}
    assert noted == {name for name in TABLES["gym"] if "replay" not in name}
    for name in noted:
        note = get_task(name).minari_note
        assert note is not None
        assert all(dataset in note for dataset in get_task(name).minari_ids)
    assert {name for name, task in TASKS.items() if task.minari_combine} == {
        name for name in TABLES["gym"] if "expert" in name
    }


def test_rewards_that_training_sees() -> None:
    """The paper's: antmaze (r - 0.5) * 4, adroit standardised, others as they are."""
    rewards = np.array([0, 1, 0, 4], np.float32)
    for name in PAPER:
        found = get_task(name).training_rewards(rewards)
        assert found.dtype == np.float32
        match get_task(name).domain:
            case "antmaze":
                np.testing.assert_array_equal(found, [-2, 2, -2, 14])
            case "adroit":
                np.testing.assert_allclose(found, (rewards - 1.25) / (10.75 / 3) ** 0.5, rtol=1e-6)
            case _:
                np.testing.assert_array_equal(found, rewards)


@given(hnp.arrays(np.float32, st.integers(2, 40), elements=st.floats(-1e4, 1e4, width=32)))
def test_standardised_rewards_have_mean_0_and_deviation_1(rewards: np.ndarray) -> None:
    task = get_task("pen-cloned-v1")
    if np.ptp(rewards) == 0:
        with pytest.raises(DataError, match=r"pen-cloned-v1: its rewards are to be standardised, but all"):
            task.training_rewards(rewards)
    elif np.ptp(rewards) > 1e-4 * np.abs(rewards).max():  # else float32 leaves little of the differences
        found = task.training_rewards(rewards)
        assert found.mean(dtype=float) == pytest.approx(0, abs=1e-4)
        assert found.std(dtype=float, ddof=1) == pytest.approx(1, abs=1e-4)
        assert (np.diff(found[np.argsort(rewards)]) >= 0).all()


@pytest.mark.parametrize("rewards", [[], [3.0], [2.5] * 1000])
def test_rewards_that_cannot_be_standardised(rewards: list[float]) -> None:
    with pytest.raises(DataError, match="pen-human-v1: its rewards are to be standardised"):
        get_task("pen-human-v1").training_rewards(np.array(rewards, np.float32))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_settings_data_and_a_table(name: str) -> None:
    task = get_task(name)
    assert task.domain in SCHEDULES
    assert name in table_tasks(task.domain)
    assert task.d4rl_file is not None or task.local_id is not None
    assert (task.minari_ids == ()) == (task.minari_environment is None)


@pytest.mark.parametrize("name", TASKS)
def test_step_limits_are_the_environments(name: str) -> None:
    task = get_task(name)
    for spec in filter(None, (task.environment, task.minari_environment)):
        environment = make_environment(spec)
        assert environment.get_wrapper_attr("_max_episode_steps") == task.step_limit
        environment.close()


def test_the_registry_is_there_in_a_moment() -> None:
    program = "import sys, erdp_core.tasks, erdp_core.config\nassert not {'numpy', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_tables_partition_the_tasks() -> None:
    domains = [table for table in TABLES if table != "all"]
    assert sorted(task for table in domains for task in TABLES[table]) == sorted(TASKS)
    assert set(TABLES["all"]) == set(TASKS) - set(TABLES["pointmaze"])


def test_files_and_collections_are_all_different() -> None:
    files = [Path(task.d4rl_file).name for task in TASKS.values() if task.d4rl_file]
    assert len(set(files)) == len(files)
    collections = [task.local_id for task in TASKS.values() if task.local_id]
    assert len(set(collections)) == len(collections)


def test_the_papers_table_has_a_row_for_each_of_its_tasks() -> None:
    """Names as in the paper's own table of results."""
    names = set()
    for path in (Path(__file__).parents[2] / "results" / "paper").glob("*.csv"):
        with open(path, newline="") as file:
            names |= {cell.strip() for row in csv.reader(file) for cell in row}
    if not names:
        pytest.skip("the paper's tables are not there")
    assert set(TABLES["all"]) <= names


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: get_task("antmaze-umaze-v1"), r"unknown task 'antmaze-umaze-v1': did you mean 'antmaze-umaze-v0'\?"),
        (lambda: table_tasks("antmazes"), r"unknown table 'antmazes': did you mean 'antmaze'\?"),
        (lambda: table_tasks("xyz"), "valid names: adroit|valid names: all"),
    ],
)
def test_unknown_names_get_the_nearest(call: object, said: str) -> None:
    assert callable(call)
    with pytest.raises(UserError, match=said):
        call()
