"""Minari's data, recorded in gymnasium-robotics' own environments: which are taken, and where they are evaluated."""

import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from erdp_core.data.collect import collect_pointmaze
from erdp_core.data.load import evaluation_environment, load_dataset, minari_paths
from erdp_core.data.minari import minari_folder
from erdp_core.environments.make import make_environment
from erdp_core.errors import DataError, MissingDataError
from erdp_core.tasks import TASKS, EnvironmentSpec, get_task


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("D4RL_DATASET_DIR", "MINARI_DATASETS_PATH", "ERDP_CACHE_DIR"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))


def record(dataset_id: str, environment: str, rewards: list[list[float]], **options: Any) -> list[EpisodeBuffer]:
    """Store episodes of random actions in an environment as Minari does; their rewards are made up."""
    import gymnasium_robotics

    gymnasium.register_envs(gymnasium_robotics)
    random = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = gymnasium.make(environment, **options)
        buffers = []
        for number, paid in enumerate(rewards):
            observations = [made.reset(seed=number)[0]]
            actions = random.uniform(-1, 1, (len(paid), *(made.action_space.shape or ()))).astype(np.float32)
            for action in actions:
                observations.append(made.step(action)[0])
            nothing = np.zeros(len(paid), np.bool_)
            buffers.append(
                EpisodeBuffer(
                    observations=stacked(observations),
                    actions=actions,
                    rewards=np.array(paid),
                    terminations=nothing,
                    truncations=nothing,
                )
            )
        minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            env=made,
            action_space=gymnasium.spaces.Box(-1, 1, made.action_space.shape, np.float32),
            description=f"recorded in\n{environment}",
        )
        made.close()
    return buffers


def stacked(observations: list[Any]) -> Any:
    """A list of (dictionaries of) vectors as (dictionaries of) arrays."""
    if isinstance(observations[0], dict):
        return {key: stacked([each[key] for each in observations]) for key in observations[0]}
    return np.array(observations)


def raw(buffers: list[EpisodeBuffer]) -> Iterator[Any]:
    for buffer in buffers:
        yield buffer.observations


@pytest.mark.parametrize(
    ("task", "environment", "notes"),
    [
        ("antmaze-umaze-v0", "AntMaze_UMaze-v4", "AntMaze_UMaze-v4"),
        ("antmaze-umaze-diverse-v0", "AntMaze_UMaze-v5", "AntMaze_UMaze-v5"),
        ("antmaze-medium-diverse-v0", "AntMaze_Medium_Diverse_GR-v4", "AntMaze_Medium_Diverse_GR-v4"),
        ("antmaze-large-play-v0", "AntMaze_Large-v4", "AntMaze_Large-v4"),
    ],
)
def test_ant_mazes_of_minari_are_evaluated_where_they_were_recorded(task: str, environment: str, notes: str) -> None:
    found = get_task(task)
    buffers = record(found.minari_ids[0], environment, [[0, 0, 1, 1], [0, 0, 0]], reset_target=False)
    for source in ("auto", "minari"):
        dataset = load_dataset(found, source)
        assert (dataset.source, dataset.path) == ("minari", str(minari_folder(found.minari_ids[0])))
        assert found.minari_environment is not None
        assert dataset.environment == EnvironmentSpec(environment, found.minari_environment.options)
        told, moved = dataset.notes
        assert told == f"recorded in {environment}"
        assert moved == f"evaluated in {environment}, where the data were recorded, not in {found.environment.name}"
        expected = [
            np.hstack((parts["achieved_goal"], parts["observation"][:, :27]))[:3].astype(np.float32)
            for parts in raw(buffers)
        ]
        np.testing.assert_array_equal(dataset.transitions.observations, np.concatenate(expected))
        assert dataset.transitions.terminals.tolist() == [0, 0, 1, 0, 0, 0]
    policy_sees, _ = make_environment(dataset.environment).reset(seed=0)
    assert policy_sees.shape == (29,)


def test_a_dataset_of_any_name_by_its_folder(tmp_path: Path) -> None:
    """It is laid out, cut and evaluated as what it was recorded in asks for."""
    task = get_task("antmaze-umaze-v0")
    record("mine/other-v7", "AntMaze_UMaze-v4", [[0, 1, 1]])
    theirs = load_dataset(task, file=minari_folder("mine/other-v7"))
    assert (theirs.source, theirs.path) == ("file", str(minari_folder("mine/other-v7")))
    assert theirs.environment == task.minari_environment
    assert theirs.transitions.terminals.tolist() == [0, 1]  # cut at the first success
    points = get_task("pointmaze-umaze")
    folder = collect_pointmaze(points, rows=200)
    ours = load_dataset(points, file=folder)
    assert ours.environment == points.environment
    assert ours.fingerprint == load_dataset(points, "local").fingerprint
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no Minari dataset in .*empty"):
        load_dataset(task, file=tmp_path / "empty")
    with pytest.raises(DataError, match=r"recorded in 'AntMaze_UMaze-v4', which does not fit antmaze-large-play-v0"):
        load_dataset(get_task("antmaze-large-play-v0"), file=minari_folder("mine/other-v7"))


def test_pens_of_minari_are_scored_under_d4rls_rules() -> None:
    task = get_task("pen-human-v1")
    buffers = record("D4RL/pen/human-v2", "AdroitHandPen-v1", [[1, 2, 3], [4, 5]])
    dataset = load_dataset(task)
    assert dataset.source == "minari"
    assert dataset.environment == EnvironmentSpec("d4rl-pen", {})
    expected = np.concatenate([seen[:-1] for seen in raw(buffers)]).astype(np.float32)
    np.testing.assert_array_equal(dataset.transitions.observations, expected)
    assert dataset.notes == (
        "recorded in AdroitHandPen-v1",  # the description
        "recorded in AdroitHandPen-v1, evaluated in d4rl-pen",
    )


def test_kitchens_of_minari_are_what_evaluation_feeds() -> None:
    task = get_task("kitchen-mixed-v0")
    elements = ["microwave", "kettle", "bottom burner", "light switch"]
    options = {"tasks_to_complete": elements, "object_noise_ratio": 0.0, "robot_noise_ratio": 0.0}
    record("D4RL/kitchen/mixed-v2", "FrankaKitchen-v1", [[0, 1, 2]], **options)
    dataset = load_dataset(task)
    assert dataset.environment == task.environment
    ours, _ = make_environment(dataset.environment).reset(seed=0)
    start = dataset.transitions.observations[0]
    np.testing.assert_allclose(start, ours, atol=0.05)  # but for the noise of each
    np.testing.assert_array_equal(start[30:], ours[30:].astype(np.float32))
    assert dataset.transitions.rewards.tolist() == [0, 1, 2]
    assert dataset.transitions.terminals.tolist() == [0, 0, 0]
    partial = minari_folder("D4RL/kitchen/partial-v2")
    minari_folder("D4RL/kitchen/mixed-v2").rename(partial)
    with pytest.raises(DataError, match="which does not fit kitchen-partial-v0"):
        load_dataset(get_task("kitchen-partial-v0"))


def test_other_data_are_chosen_by_name_alone_and_labelled() -> None:
    task = get_task("hopper-medium-expert-v2")
    medium, expert = task.minari_ids
    record(medium, "Hopper-v5", [[1.0, 2.0]])
    assert minari_paths(task) == ()
    with pytest.raises(MissingDataError, match="`minari download mujoco/hopper/expert-v0`"):
        load_dataset(task, "minari")
    record(expert, "Hopper-v5", [[3.0], [4.0, 5.0]])
    dataset = load_dataset(task, "minari")
    assert dataset.transitions.rewards.tolist() == [1, 2, 3, 4, 5]
    assert dataset.environment == EnvironmentSpec("Hopper-v5", {})
    assert dataset.path == f"{minari_folder(medium)} + {minari_folder(expert)}"
    assert dataset.notes[0] == task.minari_note
    with pytest.raises(MissingDataError):
        load_dataset(task, "auto")


def test_the_newest_of_minaris_data_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:

    task = replace(get_task("pen-human-v1"), minari_ids=("D4RL/pen/human-v3", "D4RL/pen/human-v2"))
    record("D4RL/pen/human-v2", "AdroitHandPen-v1", [[1, 2, 3]])
    assert len(load_dataset(task).transitions) == 3
    record("D4RL/pen/human-v3", "AdroitHandPen-v1", [[1, 2]])
    assert len(load_dataset(task).transitions) == 2


def test_d4rls_file_goes_before_minaris_data() -> None:
    record("D4RL/antmaze/umaze-v1", "AntMaze_UMaze-v4", [[0.0, 0.0]])
    task = get_task("antmaze-umaze-v0")
    assert task.d4rl_file is not None
    path = Path(os.environ["D4RL_DATASET_DIR"]) / Path(task.d4rl_file).name
    with h5py.File(path, "w") as file:
        for key, shape in {"observations": (9, 29), "actions": (9, 8), "rewards": 9, "terminals": 9}.items():
            file[key] = np.zeros(shape)
    assert load_dataset(task).source == "d4rl"
    assert load_dataset(task, "minari").source == "minari"


@pytest.mark.parametrize(
    ("task", "env_spec"),
    [
        ("antmaze-umaze-v0", {"id": "AntMaze_Medium-v4", "kwargs": {}}),
        ("antmaze-umaze-v0", {"id": "AntMaze_Open-v4", "kwargs": {}}),
        ("antmaze-umaze-v0", {"id": "AntMaze_UMaze-v4", "kwargs": {"reward_type": "dense"}}),
        ("antmaze-umaze-v0", {"id": "AntMaze_UMaze-v4", "kwargs": {"maze_map": [[1, 1], [1, 0]]}}),
        ("antmaze-umaze-v0", {"id": "AntMaze_UMaze-v4", "kwargs": {"maze_map": 3}}),
        ("antmaze-umaze-v0", {"id": "d4rl-antmaze-umaze", "kwargs": {}}),
        ("pen-human-v1", {"id": "AdroitHandDoor-v1", "kwargs": {}}),
        ("kitchen-partial-v0", {"id": "FrankaKitchen-v1", "kwargs": {"tasks_to_complete": ["kettle"]}}),
        ("kitchen-partial-v0", {"id": "FrankaKitchen-v1", "kwargs": {"tasks_to_complete": [["kettle"], 1]}}),
        ("hopper-medium-v2", {"id": "Walker2d-v5", "kwargs": {}}),
    ],
)
def test_minari_data_of_another_environment_are_refused(task: str, env_spec: dict[str, Any]) -> None:
    found = get_task(task)
    assert found.minari_environment is not None
    attributes = {"env_spec": {"name": env_spec["id"], "options": env_spec["kwargs"]}}
    with pytest.raises(DataError, match=f"{env_spec['id']!r}, which does not fit {task} "):
        evaluation_environment(Path("folder"), attributes, found, found.minari_environment)


@pytest.mark.parametrize("task", [task for task in TASKS.values() if task.minari_ids], ids=lambda task: task.name)
def test_what_minaris_own_metadata_say_fits_the_registry(task: Any) -> None:
    """The metadata of the datasets as published (their documentation shows them)."""
    rows = {"umaze": UMAZE, "medium": MEDIUM, "large": LARGE}
    options: dict[str, Any] = {"reward_type": "sparse", "continuing_task": True, "reset_target": False}
    if task.domain == "antmaze":
        options["maze_map"] = rows[task.name.split("-")[1]]
    elif task.domain == "kitchen":
        options = {"tasks_to_complete": task.environment.options["elements"], "remove_task_when_completed": False}
    else:
        options = {}
    recorded = {"d4rl-pen": "AdroitHandPen-v1"}.get(task.minari_environment.name, task.minari_environment.name)
    attributes = json.loads(json.dumps({"env_spec": {"name": recorded, "options": options}}))
    assert evaluation_environment(Path("x"), attributes, task, task.minari_environment) == task.minari_environment


UMAZE = [[1, 1, 1, 1, 1], [1, "g", 0, 0, 1], [1, 1, 1, 0, 1], [1, "r", 0, 0, 1], [1, 1, 1, 1, 1]]
MEDIUM = [
    [1, 1, 1, 1, 1, 1, 1, 1],
    [1, 0, 0, 1, 1, 0, 0, 1],
    [1, 0, 0, 1, 0, 0, 0, 1],
    [1, 1, 0, 0, 0, 1, 1, 1],
    [1, 0, 0, 1, 0, 0, 0, 1],
    [1, 0, 1, 0, 0, 1, 0, 1],
    [1, 0, 0, 0, 1, 0, 0, 1],
    [1, 1, 1, 1, 1, 1, 1, 1],
]
LARGE = [
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    [1, "c", 0, 0, 0, 1, "c", 0, 0, 0, 0, 1],
    [1, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1],
    [1, 0, 0, 0, 0, "c", 0, 1, 0, 0, "c", 1],
    [1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 0, 1],
    [1, 0, "c", 1, 0, 1, 0, 0, 0, 0, 0, 1],
    [1, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 1],
    [1, 0, 0, 1, "c", 0, "c", 1, 0, "c", 0, 1],
    [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
]
