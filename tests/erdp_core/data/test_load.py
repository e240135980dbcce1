"""From task and source to data: what is taken, what is said when nothing is there, and how fast it goes."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from erdp_core.data.collect import collect_pointmaze
from erdp_core.data.d4rl_files import verify
from erdp_core.data.load import evaluation_environment, load_dataset, recorded_in
from erdp_core.errors import DataError, MissingDataError
from erdp_core.tasks import EnvironmentSpec, get_task

REAL = {
    "antmaze-umaze-v0": "antmaze-umaze-regenerated",
    "antmaze-medium-play-v0": "antmaze-medium-play-regenerated",
    "hopper-medium-replay-v2": "hopper-medium-replay-regenerated",
    "halfcheetah-medium-v2": "halfcheetah-medium-regenerated",
}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("D4RL_DATASET_DIR", "MINARI_DATASETS_PATH", "ERDP_CACHE_DIR"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))


def write_hopper(path: Path, observation_size: int = 11, action_size: int = 3) -> Path:
    with h5py.File(path, "w") as file:
        file["observations"] = np.arange(20 * observation_size, dtype=np.float32).reshape(20, observation_size)
        file["actions"] = np.zeros((20, action_size), np.float32)
        file["rewards"] = np.ones((20, 1), np.float32)
        file["terminals"] = np.zeros((20, 1), np.uint8)
        file["timeouts"] = np.arange(20) == 9
    return path


def test_the_d4rl_file_is_found_in_d4rls_cache() -> None:
    task = get_task("hopper-medium-v2")
    path = write_hopper(Path(os.environ["D4RL_DATASET_DIR"]) / "hopper_medium-v2.hdf5")
    for source in ("auto", "d4rl"):
        dataset = load_dataset(task, source)
        assert (dataset.source, dataset.path, len(dataset.transitions)) == ("d4rl", str(path), 18)
        assert dataset.environment == task.environment
        assert dataset.fingerprint == dataset.transitions.fingerprint()
        assert dataset.notes == ()


def test_d4rls_cache_is_under_home_without_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("D4RL_DATASET_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".d4rl" / "datasets").mkdir(parents=True)
    path = write_hopper(tmp_path / ".d4rl" / "datasets" / "hopper_medium-v2.hdf5")
    assert load_dataset(get_task("hopper-medium-v2")).path == str(path)


def test_auto_falls_back_on_the_local_collection() -> None:
    task = get_task("pointmaze-umaze")
    folder = collect_pointmaze(task, rows=250)
    for source in ("auto", "local"):
        dataset = load_dataset(task, source)
        assert (dataset.source, dataset.path, len(dataset.transitions)) == ("local", str(folder), 250)
        assert dataset.environment == EnvironmentSpec("pointmaze-umaze", {})
        assert "250 rows of a noisy PD controller's walks (seed 0" in dataset.notes[-1]


def test_a_given_file_goes_before_every_source(tmp_path: Path) -> None:
    path = write_hopper(tmp_path / "mine.hdf5")
    dataset = load_dataset(get_task("hopper-medium-expert-v2"), "local", path)
    assert (dataset.source, dataset.path) == ("file", str(path))


@pytest.mark.parametrize(
    ("task", "source", "said"),
    [
        ("hopper-medium-v2", "auto", ["hopper_medium-v2.hdf5", "D4RL_DATASET_DIR", "--data hopper-medium-v2=FILE"]),
        ("hopper-medium-v2", "d4rl", ["put D4RL's file hopper_medium-v2.hdf5 into "]),
        ("hopper-medium-v2", "d4rl", ["run `python -m erdp_core.data download hopper-medium-v2`"]),
        ("hopper-medium-v2", "local", ["no local data", "--source d4rl"]),
        ("hopper-medium-v2", "minari", ["mujoco/hopper/medium-v0)", "run `minari download mujoco/hopper/medium-v0`"]),
        ("hopper-medium-replay-v2", "minari", ["no minari data", "--source d4rl"]),
        (
            "walker2d-medium-expert-v2",
            "minari",
            ["run `minari download mujoco/walker2d/medium-v0` and `minari download mujoco/walker2d/expert-v0`"],
        ),
        (
            "antmaze-large-play-v0",
            "auto",
            [
                "run `python -m erdp_core.data download antmaze-large-play-v0`",
                "or put D4RL's file Ant_maze_hardest-maze_noisy_multistart_True_multigoal_False_sparse.hdf5 into ",
                "or run `minari download D4RL/antmaze/large-play-v1`",
                "or run `python -m erdp_core.data collect antmaze-large-play-v0 --policy FILE`",
                "or give a file in D4RL's layout with --data antmaze-large-play-v0=FILE",
            ],
        ),
        ("pointmaze-large", "auto", ["`python -m erdp_core.data collect pointmaze-large`", "erdp/pointmaze-large-v0"]),
        ("pointmaze-large", "d4rl", ["no d4rl data", "--source local"]),
        ("pointmaze-large", "locl", ["did you mean 'local'?"]),
    ],
)
def test_missing_data_say_where_and_how(task: str, source: str, said: list[str]) -> None:
    with pytest.raises(DataError) as raised:
        load_dataset(get_task(task), source)
    message = str(raised.value)
    assert "\n" not in message
    assert all(part in message for part in said), message


def test_other_data_on_minari_are_not_named_where_they_are_not_chosen() -> None:
    with pytest.raises(MissingDataError) as raised:
        load_dataset(get_task("hopper-medium-v2"), "auto")
    assert "minari download" not in str(raised.value)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((17, 3), "observations of size 17, but those of Hopper-v4 are of size 11"),
        ((11, 6), "actions of size 6, but those of Hopper-v4 are of size 3"),
    ],
)
def test_sizes_that_differ_from_the_environments(tmp_path: Path, sizes: tuple[int, int], said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_dataset(get_task("hopper-medium-v2"), file=write_hopper(tmp_path / "other.hdf5", *sizes))


@pytest.mark.parametrize("task", REAL)
def test_real_files_load_soon_and_say_what_they_are(test_data: Path, task: str) -> None:
    path = test_data / f"{REAL[task]}.hdf5"
    began = time.process_time()
    dataset = load_dataset(get_task(task), file=path)
    assert time.process_time() - began < 6.0  # about 1 s; the machine may be busy
    assert dataset.source == "file"
    assert any("data say of themselves: " in note for note in dataset.notes)
    assert not any("jump" in note for note in dataset.notes)
    if task.startswith("antmaze"):
        assert len(dataset.environment.options["evaluation_goal"]) == 2
    else:
        assert dataset.environment.name.endswith("-v5")
        assert any("not in" in note for note in dataset.notes)


def test_misaligned_timeouts_are_noted(test_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "misaligned.hdf5"
    with h5py.File(test_data / "antmaze-umaze-regenerated.hdf5") as real, h5py.File(path, "w") as file:
        for key in ("observations", "actions", "rewards", "terminals"):
            file[key] = real[key][:20_000]
        file["timeouts"] = np.roll(real["timeouts"][:20_000], -1)
        episodes = int(real["timeouts"][:19_999].sum())
    notes = load_dataset(get_task("antmaze-umaze-v0"), file=path).notes
    assert episodes > 10
    assert any(note.endswith("rows jump by metres from s to s': misaligned timeouts") for note in notes)
    assert int(notes[-1].split()[0]) > episodes / 2


def test_a_hopper_file_is_no_antmaze_file(test_data: Path) -> None:
    with pytest.raises(DataError, match="'Hopper-v5', which does not fit antmaze-umaze-v0"):
        load_dataset(get_task("antmaze-umaze-v0"), file=test_data / "hopper-medium-replay-regenerated.hdf5")


@pytest.mark.parametrize(
    ("task", "attributes", "expected"),
    [
        ("hopper-medium-v2", {}, EnvironmentSpec("Hopper-v4", {})),
        ("hopper-medium-v2", {"environment": "Hopper-v5"}, EnvironmentSpec("Hopper-v5", {})),
        ("antmaze-umaze-v0", {}, EnvironmentSpec("d4rl-antmaze-umaze", {})),
        ("pen-human-v1", {"environment": "AdroitHandPen-v1, D4RL rules"}, EnvironmentSpec("d4rl-pen", {})),
        ("pen-human-v1", {"environment": "AdroitHandPen-v1"}, EnvironmentSpec("d4rl-pen", {})),
        ("kitchen-mixed-v0", {}, get_task("kitchen-mixed-v0").environment),
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
    found = get_task(task)
    assert evaluation_environment(Path("file"), attributes, found, found.environment) == expected


@pytest.mark.parametrize(
    ("task", "attributes"),
    [
        ("antmaze-umaze-v0", {"environment": "Hopper-v5"}),
        ("antmaze-umaze-v0", {"environment": "D4RL-compatible AntMaze, medium"}),
        ("hopper-medium-v2", {"environment": "AdroitHandPen-v1, D4RL rules"}),
        ("antmaze-umaze-v0", {"environment": "AntMaze_UMaze-v4"}),
        ("pen-human-v1", {"environment": "AdroitHandDoor-v1"}),
        ("hopper-medium-v2", {"environment": "HalfCheetah-v5"}),
        ("pointmaze-umaze", {"environment": "pointmaze-large"}),
    ],
)
def test_a_file_of_another_family_is_refused(task: str, attributes: dict[str, Any]) -> None:
    recorded = recorded_in(attributes, get_task(task).environment)
    with pytest.raises(
        DataError, match=f"recorded in {recorded!r}, which does not fit {task} .* --evaluate-in {task}="
    ):
        evaluation_environment(Path("file"), attributes, get_task(task), get_task(task).environment)


def test_mixing_is_done_where_it_is_asked_for(tmp_path: Path) -> None:
    task, path = get_task("hopper-medium-v2"), write_hopper(tmp_path / "data.hdf5")
    with h5py.File(path, "a") as file:
        file.attrs["environment"] = "HalfCheetah-v5"
    with pytest.raises(DataError, match=r"recorded in 'HalfCheetah-v5', which does not fit"):
        load_dataset(task, file=path)
    forced = load_dataset(task, file=path, environment=EnvironmentSpec("Hopper-v5", {}))
    assert forced.environment.name == "Hopper-v5"
    assert forced.notes == ("recorded in HalfCheetah-v5, evaluated in Hopper-v5",)
    # What is of another size fits nowhere.
    with pytest.raises(DataError, match=r"observations of size 11, but those of Walker2d-v4 are of size 17"):
        load_dataset(task, file=path, environment=EnvironmentSpec("Walker2d-v4", {}))


def test_the_datas_goal_stays_where_their_own_environment_is_asked_for(tmp_path: Path) -> None:
    task, path = get_task("antmaze-umaze-v0"), write_hopper(tmp_path / "data.hdf5", 29, 8)
    with h5py.File(path, "a") as file:
        file.attrs["evaluation_goal"] = [0.75, 8.75]
    own = load_dataset(task, file=path).environment
    assert own == EnvironmentSpec("d4rl-antmaze-umaze", {"evaluation_goal": [0.75, 8.75]})
    assert load_dataset(task, file=path, environment=task.environment).environment == own


def test_a_file_that_changed_since_it_was_recorded_is_refused() -> None:
    task = get_task("hopper-medium-v2")
    path = write_hopper(Path(os.environ["D4RL_DATASET_DIR"]) / "hopper_medium-v2.hdf5")
    verify(task, record=True)
    assert len(load_dataset(task).transitions) == 18
    with h5py.File(path, "a") as file:
        file["rewards"][3] = 7.0
    with pytest.raises(DataError, match=r"changed since its sha256 was recorded: delete it and get it anew"):
        load_dataset(task)


def test_the_file_that_a_task_of_ones_own_names(tmp_path: Path) -> None:
    path = tmp_path / "data.hdf5"
    task = replace(get_task("hopper-medium-v2"), name="mine-v0", d4rl_file=None, minari_ids=(), file=str(path))
    with pytest.raises(MissingDataError, match=f"no data for mine-v0: there is no {path}, which its task file names"):
        load_dataset(task)
    write_hopper(path)
    assert load_dataset(task).source == "file"


def test_data_of_an_environment_of_ones_own(tmp_path: Path) -> None:
    """They are evaluated where their task says, whichever version recorded them."""
    expected = EnvironmentSpec("my_robots:Walker-v2", {"legs": 3})
    task = replace(get_task("hopper-medium-v2"), name="mine-v0", environment=expected)
    recorded = {"env_spec": {"name": "Walker-v1", "options": {"legs": 3}}}
    assert evaluation_environment(tmp_path, recorded, task, expected) == expected
    with pytest.raises(DataError, match=r"recorded in 'Hopper-v5', which does not fit mine-v0"):
        evaluation_environment(tmp_path, {"environment": "Hopper-v5"}, task, expected)


@pytest.mark.parametrize("goal", [[1.0], [1.0, np.nan], "here", [[1.0, 2.0]]])
def test_a_goal_that_is_no_place_is_refused(goal: Any) -> None:
    task = get_task("antmaze-umaze-v0")
    with pytest.raises(DataError, match=r"is not \[x, y\]"):
        evaluation_environment(Path("file"), {"evaluation_goal": goal}, task, task.environment)
