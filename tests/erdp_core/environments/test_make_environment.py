"""Every environment by name: its interface, its seeding, its step limit, and what a wrong name is told."""

import subprocess
import sys
import time
import warnings

import gymnasium
import numpy as np
import pytest

from erdp_core.environments.make import BENCHMARK, GYM, make_environment
from erdp_core.errors import UserError
from erdp_core.tasks import TASKS, EnvironmentSpec

SIZES = {
    "HalfCheetah": (17, 6),
    "Hopper": (11, 3),
    "Walker2d": (17, 6),
    "pointmaze": (4, 2),
    "d4rl-antmaze": (29, 8),
    "AntMaze": (29, 8),
    "d4rl-pen": (45, 24),
    "AdroitHandPen": (45, 24),
    "FrankaKitchen": (60, 9),
}
"""By how names begin: the lengths of observations and actions."""


def episode(name: str, seed: int, steps: int = 20) -> np.ndarray:
    """Observations and rewards of an episode whose actions are fixed."""
    environment = make_environment(EnvironmentSpec(name, {}))
    observation, _ = environment.reset(seed=seed)
    stream = np.random.default_rng(0)
    record = [[*observation, 0.0]]
    for _ in range(steps):
        action = stream.uniform(-1, 1, environment.action_space.shape).astype(np.float32)
        observation, reward, terminated, _, _ = environment.step(action)
        record.append([*observation, float(reward)])
        if terminated:
            break
    return np.array(record)


@pytest.mark.parametrize("name", BENCHMARK)
def test_interface(name: str) -> None:
    environment = make_environment(EnvironmentSpec(name, {}))
    [(observation_size, action_size)] = [sizes for beginning, sizes in SIZES.items() if name.startswith(beginning)]
    assert environment.observation_space.shape == (observation_size,)
    assert environment.action_space == gymnasium.spaces.Box(-1.0, 1.0, (action_size,), np.float32)
    observation, _ = environment.reset(seed=0, options={"evaluation_seed": 3})
    assert environment.observation_space.contains(observation)
    stepped = environment.step(environment.action_space.sample())
    assert environment.observation_space.contains(stepped[0])
    assert [type(part) for part in stepped[2:4]] == [bool, bool]
    assert np.isfinite(float(stepped[1]))
    environment.close()


@pytest.mark.parametrize("name", BENCHMARK)
def test_an_episode_is_a_function_of_its_seed(name: str) -> None:
    first = episode(name, 5)
    np.testing.assert_array_equal(first, episode(name, 5))
    assert not np.array_equal(first[0], episode(name, 6)[0])
    # What the environment did before does not matter.
    environment = make_environment(EnvironmentSpec(name, {}))
    environment.reset(seed=9)
    for _ in range(7):
        environment.step(environment.action_space.sample())
    np.testing.assert_array_equal(environment.reset(seed=5)[0], first[0, :-1])


SPECS = {
    spec.name: (spec, task.step_limit)
    for task in TASKS.values()
    for spec in filter(None, (task.environment, task.minari_environment))
} | {"AdroitHandPen-v1": (EnvironmentSpec("AdroitHandPen-v1", {}), 200)}


@pytest.mark.parametrize("name", SPECS)
def test_an_episode_is_cut_at_the_tasks_step_limit(name: str) -> None:
    spec, limit = SPECS[name]
    if spec.name.startswith(("Hopper", "Walker2d")):  # they fall long before
        made = make_environment(spec).spec
        assert made is not None
        assert made.max_episode_steps == limit
        return
    environment = make_environment(spec)
    environment.reset(seed=0)
    action = np.zeros(environment.action_space.shape or (), np.float32)
    ends = [environment.step(action)[2:4] for _ in range(limit)]
    assert ends == [(False, False)] * (limit - 1) + [(False, True)]


def test_gym_environments_are_gymnasiums_own() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = make_environment(EnvironmentSpec("HalfCheetah-v4", {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = gymnasium.make("HalfCheetah-v4")
    np.testing.assert_array_equal(ours.reset(seed=1)[0], theirs.reset(seed=1)[0])
    action = np.full(6, 0.3, np.float32)
    for ours_is, theirs_is in zip(ours.step(action)[:2], theirs.step(action)[:2], strict=True):
        np.testing.assert_array_equal(ours_is, theirs_is)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("Hoper-v4", {}, "unknown environment 'Hoper-v4': the nearest are Hopper-v4, "),
        ("d4rl-antmaze-umase", {}, "the nearest are d4rl-antmaze-umaze, "),
        ("zzz", {}, "unknown environment 'zzz': the nearest are "),
        ("GymV21Environment-v0", {}, "cannot be made: "),
        ("no_such_module:Thing-v0", {}, "cannot be made: .*no_such_module"),
        ("CartPole-v1", {}, "its actions are no vector of real numbers"),
        ("Pusher-v5", {"no_such_option": 1}, "cannot be made: .*no_such_option"),
        ("Hopper-v4", {"evaluation_goal": [0, 0]}, "no option 'evaluation_goal': it takes none"),
        ("d4rl-antmaze-umaze", {"goal": [0, 0]}, "no option 'goal': its options: evaluation_goal"),
        ("d4rl-antmaze-umaze", {"evaluation_goal": [0]}, r"evaluation_goal=\[0\] is not \[x, y\]"),
        ("d4rl-antmaze-umaze", {"evaluation_goal": [0, float("nan")]}, r"is not \[x, y\]"),
        ("d4rl-antmaze-umaze", {"evaluation_goal": 3}, r"is not \[x, y\]"),
        ("AntMaze_UMase-v4", {}, "the nearest are AntMaze_UMaze-v"),
        (
            "AntMaze_Large-v4",
            {"evaluation_goal": [0, 0]},
            "no option 'evaluation_goal': its options: reset_cell, goal_c",
        ),
        ("AntMaze_UMaze-v4", {"goal_cell": [2, 1]}, r"goal_cell=\[2, 1\] is not \[row, column\] of a free cell"),
        ("AntMaze_UMaze-v4", {"reset_cell": "start"}, r"reset_cell='start' is not \[row, column\]"),
        (
            "AntMaze_UMaze-v4",
            {"reset_cell": [1, 1], "goal_cell": [1, 1]},
            r"reset_cell and goal_cell are both \[1, 1\]",
        ),
        ("d4rl-pen", {"elements": []}, "no option 'elements': it takes none"),
        ("FrankaKitchen-v1", {"elements": ["ketle"]}, "no element 'ketle': did you mean 'kettle'?"),
        ("FrankaKitchen-v1", {"elements": [["kettle"]]}, r"no element \['kettle'\]"),
        ("FrankaKitchen-v1", {"elements": ["kettle", "kettle"]}, "elements has 'kettle' twice"),
        ("FrankaKitchen-v1", {"elements": []}, r"elements=\[\] is not a list of elements to move"),
        ("FrankaKitchen-v1", {"elements": "kettle"}, "elements='kettle' is not a list of elements to move"),
    ],
)
def test_mistakes_are_told(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make_environment(EnvironmentSpec(name, options))


def test_hundreds_are_made_in_a_moment() -> None:
    names = [name for name in BENCHMARK if name not in GYM]
    for name in names:
        make_environment(EnvironmentSpec(name, {}))  # compiles its model, once
    began = time.process_time()
    made = [make_environment(EnvironmentSpec(name, {})) for name in names for _ in range(50)]
    assert time.process_time() - began < 8.0  # measured: 0.2 s on a quiet machine; compiling each takes a minute
    assert len({id(environment.unwrapped.data) for environment in made}) == len(made)  # type: ignore[attr-defined]


def test_importing_and_making_is_quiet_and_without_torch() -> None:
    program = (
        "import sys\n"
        "from erdp_core.environments.make import BENCHMARK, GYM, make_environment\n"
        "from erdp_core.tasks import EnvironmentSpec\n"
        "[make_environment(EnvironmentSpec(name, {})).reset(seed=0) for name in BENCHMARK]\n"
        "assert not {'torch', 'ray', 'mlflow', 'minari'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
