"""Tasks of one's own: what a file says is what the task is, and what is wrong with a file is told in one line."""

import re
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import pytest

from erdp_core import task_file, tasks
from erdp_core.agent_configs import ErdpConfig
from erdp_core.config import resolve
from erdp_core.data.load import load_dataset
from erdp_core.environments.make import make_environment
from erdp_core.errors import UserError
from erdp_core.task_file import add_task_files, read_task_file
from erdp_core.tasks import EnvironmentSpec, Task, get_task, table_tasks

SMALLEST = """
name = "my-hopper-v0"
like = "gym"
environment = "Hopper-v5"
reference_min = -20
reference_max = 3234.3
file = "hopper.hdf5"
"""
WHOLE = """
name = "my-pendulum"
like = "adroit"
environment = "Pendulum-v1"
reference_min = -1500.0
reference_max = 0
minari = ["mine/pendulum/second-v0", "mine/pendulum/first-v0"]
step_limit = 50

[environment_options]
g = 9.81

[rewards]
standardise = true

[settings.agent]
eta = 2
max_q_backup = true

[settings.trainer]
steps = 100_000

[settings.evaluation]
episodes = 7
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "task.toml"
    path.write_text(text)
    return path


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is added to the registry is gone after the test."""
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    monkeypatch.setattr(tasks, "TABLES", dict(tasks.TABLES))


def test_what_must_be_said(tmp_path: Path) -> None:
    task = read_task_file(written(tmp_path, SMALLEST))
    assert (task.name, task.domain, task.step_limit) == ("my-hopper-v0", "gym", 1000)
    assert task.environment == EnvironmentSpec("Hopper-v5", {})
    assert task.file == str(tmp_path / "hopper.hdf5")
    assert task.score(3234.3) == 100.0
    assert resolve(task, "erdp", "quick") == resolve(get_task("hopper-medium-v2"), "erdp", "quick")
    rewards = np.array([0.5, -3.0], np.float32)
    np.testing.assert_array_equal(task.training_rewards(rewards), rewards)


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    task = read_task_file(written(tmp_path, WHOLE))
    assert task.minari_ids == ("mine/pendulum/second-v0", "mine/pendulum/first-v0")
    assert task.environment == task.minari_environment
    assert task.step_limit == 50
    environment = make_environment(task.environment)
    assert environment.unwrapped.g == 9.81  # type: ignore[attr-defined]
    assert environment.action_space == gymnasium.spaces.Box(-1, 1, (1,))  # the torque is within +-2
    environment.reset(seed=0, options={"evaluation_seed": 1})
    ends = [environment.step(np.zeros(1, np.float32))[3] for _ in range(50)]
    assert ends == [False] * 49 + [True]
    config = resolve(task, "erdp", "paper")
    assert isinstance(config.agent, ErdpConfig)
    assert (config.agent.eta, config.agent.max_q_backup, config.agent.T) == (2.0, True, 10)
    assert (config.trainer.steps, config.trainer.interval, config.evaluation.episodes) == (100_000, 50_000, 7)
    np.testing.assert_allclose(task.training_rewards(np.array([1.0, 3.0], np.float32)), [-(0.5**0.5), 0.5**0.5])
    assert Task.from_dict(task.to_dict()) == task


def test_a_task_of_ones_own_is_known_by_name_and_loads(tmp_path: Path, registry: None) -> None:
    with h5py.File(tmp_path / "hopper.hdf5", "w") as file:
        file["observations"], file["actions"] = np.zeros((9, 11), np.float32), np.zeros((9, 3), np.float32)
        file["rewards"], file["terminals"] = np.ones(9, np.float32), np.zeros(9, np.bool_)
    path = written(tmp_path, SMALLEST)
    assert add_task_files([str(path)]) == add_task_files([str(path)]) == ("my-hopper-v0",)
    assert table_tasks("custom") == ("my-hopper-v0",)
    assert "my-hopper-v0" not in table_tasks("all")
    dataset = load_dataset(get_task("my-hopper-v0"))
    assert (dataset.source, len(dataset.transitions)) == ("file", 8)
    with pytest.raises(UserError, match=r"there is a task 'my-hopper-v0' already"):
        add_task_files([str(written(tmp_path, SMALLEST.replace("-20", "-21")))])
    with pytest.raises(UserError, match=r"there is a task 'hopper-medium-v2' already"):
        add_task_files([str(written(tmp_path, SMALLEST.replace("my-hopper-v0", "hopper-medium-v2")))])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "my-hopper-v0"', "", r"key 'name' is missing: a task needs name, like, "),
        ('name = "my-hopper-v0"', "name = 3", r"name=3 is no text"),
        ("my-hopper-v0", "../hopper", r"name='../hopper' is not of letters, digits"),
        ("my-hopper-v0", "a" * 65, r"64 at most"),
        ("my-hopper-v0", "custom", r"name='custom' is a table's"),
        ('like = "gym"', 'like = "gim"', r"like='gim' is no domain: did you mean 'gym'"),
        ("Hopper-v5", "Hoper-v5", r"unknown environment 'Hoper-v5': the nearest are Hopper-v5, "),
        ("Hopper-v5", "CartPole-v1", r"its actions are no vector of real numbers"),
        ("reference_min = -20", "reference_min = 4000", r"reference_min=4000 is not below reference_max=3234.3"),
        ("reference_min = -20", "reference_min = true", r"reference_min=True is no finite number"),
        ("reference_min = -20", "reference_min = nan", r"reference_min=nan is no finite number"),
        ("reference_min", "refrence_min", r"unknown key 'refrence_min': did you mean 'reference_min'"),
        ('file = "hopper.hdf5"', "", r"give file=... or minari=..., one of them"),
        ('file = "hopper.hdf5"', 'file = "a"\nminari = "b-v0"', r"give file=... or minari=..., one of them"),
        ('file = "hopper.hdf5"', "minari = []", r"minari=\[\] is no dataset's id"),
        ('file = "hopper.hdf5"', "minari = [3]", r"minari=\[3\] is no dataset's id"),
        ('file = "hopper.hdf5"', "file = ", r"is no TOML: "),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = written(tmp_path, SMALLEST.replace(old, new))
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}.*{said}") as told:
        read_task_file(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('step_limit = 0', r"step_limit=0 is not a whole number above 0"),
        ('step_limit = 500', r"step_limit=500, but environment 'Hopper-v5' ends .* 1000"),
        ('[rewards]\nscal = 2', r"unknown key 'rewards.scal': did you mean 'scale'"),
        ('[rewards]\nscale = "2"', r"scale='2' is no finite number"),
        ('[rewards]\nstandardise = 1', r"standardise=1 is neither true nor false"),
        ('[rewards]\nstandardise = true\nscale = 2', r"leave those out"),
        ('rewards = 3', r"rewards=3 is no table"),
        ('[settings.agent]\nalfa = 2', r"unknown setting agent.alfa: did you mean 'agent.alpha'"),
        ('[settings.agent]\nalpha = -2', r"agent.alpha=-2.0 is outside \[0.0, 100.0\]"),
        ('[settings.agnt]\nalpha = 2', r"unknown settings 'agnt': did you mean 'agent'"),
        ('[settings]\nalpha = 2', r"setting 'alpha' is in no group: put it into agent"),
        ('[settings]\nagent = 2', r"settings agent=2 are no names with values"),
        ('[settings.agent]\nT = 2', r"agent.entropy=released needs agent.T >= 3, but"),
        ('[environment_options]\ng = 2', r"'Hopper-v5' has no option 'g': it takes none"),
    ],
)  # fmt: skip
def test_mistakes_in_what_may_be_left_out(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(UserError, match=f"task.toml: .*{said}") as told:
        read_task_file(written(tmp_path, SMALLEST + more))
    assert "\n" not in str(told.value)


def test_the_example_of_the_documentation_is_a_task(tmp_path: Path) -> None:
    assert task_file.__doc__
    example = "".join(line[4:] + "\n" for line in task_file.__doc__.splitlines() if line.startswith("    "))
    task = read_task_file(written(tmp_path, example))
    assert (task.name, task.step_limit) == ("my-pusher-v0", 100)


def test_sources_that_it_does_not_have_are_told(tmp_path: Path) -> None:
    task = read_task_file(written(tmp_path, SMALLEST))
    with pytest.raises(UserError, match=r"my-hopper-v0 has no d4rl data: use --source auto"):
        load_dataset(task, "d4rl")


def test_environments_whose_code_fails_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing_on_import.py").write_text("1 / 0")
    (tmp_path / "leaving_on_import.py").write_text("import sys; sys.exit(3)")
    monkeypatch.syspath_prepend(str(tmp_path))
    for module, said in (("failing_on_import", "ZeroDivisionError"), ("leaving_on_import", "SystemExit")):
        path = written(tmp_path, SMALLEST.replace("Hopper-v5", f"{module}:Robot-v0"))
        with pytest.raises(UserError, match=f"environment '{module}:Robot-v0' cannot be made: {said}"):
            read_task_file(path)


def test_numbers_and_depths_beyond_reason(tmp_path: Path) -> None:
    for text in (SMALLEST.replace("3234.3", "1" + 400 * "0"), SMALLEST + "deep = " + 5000 * "["):
        with pytest.raises(UserError, match=r"task\.toml"):
            read_task_file(written(tmp_path, text))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no task file .*nowhere\.toml"):
        read_task_file(tmp_path / "nowhere.toml")
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\x89HDF\xff")
    with pytest.raises(UserError, match=r"binary\.toml is no TOML: it is not text"):
        read_task_file(path)


def test_an_environment_without_end_needs_a_step_limit(tmp_path: Path) -> None:
    gymnasium.register("tests/Endless-v0", entry_point="gymnasium.envs.classic_control:PendulumEnv")
    try:
        endless = SMALLEST.replace("Hopper-v5", "tests/Endless-v0")
        with pytest.raises(UserError, match=r"'tests/Endless-v0' does not limit its episodes: give it a step limit"):
            read_task_file(written(tmp_path, endless))
        assert read_task_file(written(tmp_path, endless + "step_limit = 30")).step_limit == 30
    finally:
        del gymnasium.registry["tests/Endless-v0"]
