"""Collections from gymnasium environments: what was stored is what happened there, and the environment comes back."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.spaces import Box
from rich.console import Console

from erdp_core.data.collect_environment import collect_environment
from erdp_core.data.minari import read_minari
from erdp_core.environments.gymnasium_environment import flat_environment
from erdp_core.errors import DataError, UserError


class Line(gymnasium.Env[Any, npt.NDArray[Any]]):
    """A place on a line, moved by the action; the end is beyond 5, the reward minus the action's size."""

    def __init__(self, name: str) -> None:
        self.observation_space, self.action_space = SPACES[name]
        self.faulty = name == "Faulty-v0"
        self.place = np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place[:] = self.np_random.uniform(-1, 1, 2)
        return self._observation(), {}

    def step(self, action: npt.NDArray[Any]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place += action
        reward = -float(np.abs(action).sum())
        return self._observation(), np.inf if self.faulty else reward, bool(self.place[0] > 5), False, {}

    def _observation(self) -> Any:
        """Its own array, which it goes on changing."""
        if isinstance(self.observation_space, gymnasium.spaces.Dict):
            return {"b": self.place, "a": {"d": np.full((1, 2), 7.0), "c": self.place[:1]}}
        return self.place[None] if self.observation_space.shape == (1, 2) else self.place


def box(*shape: int, bound: float = np.inf, low: float | None = None) -> Box:
    return Box(-bound if low is None else low, bound, shape, np.float32)


NESTED = gymnasium.spaces.Dict({"b": box(2), "a": gymnasium.spaces.Dict({"c": box(1), "d": box(1, 2)})})
SPACES: dict[str, tuple[gymnasium.Space[Any], gymnasium.Space[Any]]] = {
    "Flat-v0": (box(2), box(2, bound=1.0)),
    "Wide-v0": (box(2), box(2, bound=3.0, low=-1.0)),
    "Nested-v0": (NESTED, box(2, bound=1.0)),
    "Square-v0": (box(1, 2), box(2, bound=1.0)),
    "Faulty-v0": (box(2), box(2, bound=1.0)),
    "Unbounded-v0": (box(2), box(2)),
    "Matrix-v0": (box(2), box(1, 2, bound=1.0)),
    "Choice-v0": (box(2), gymnasium.spaces.Discrete(2)),
    "Text-v0": (gymnasium.spaces.Dict({"a": box(2), "b": gymnasium.spaces.Text(4)}), box(2, bound=1.0)),
    "Class-v0": (box(2), box(2, bound=1.0)),
}


@pytest.fixture(autouse=True)
def environments() -> Iterator[None]:
    for name in SPACES:
        entry_point = Line if name == "Class-v0" else f"{__name__}:Line"
        gymnasium.register(f"tests/{name}", entry_point=entry_point, max_episode_steps=12, kwargs={"name": name})
    yield
    for name in SPACES:
        del gymnasium.registry[f"tests/{name}"]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def constant_policy(path: Path, observation_size: int, action: list[float]) -> Path:
    """Always the same action."""
    size = len(action)
    scales = {"in_shift": np.zeros(observation_size), "in_scale": np.ones(observation_size)}
    scales |= {"out_shift": np.array(action), "out_scale": np.ones(size)}
    np.savez(path, w0=np.zeros((size, observation_size)), b0=np.zeros(size), **scales)  # type: ignore[arg-type]
    return path


def test_what_is_stored_is_what_happened(tmp_path: Path, root: Path) -> None:
    policy, output = constant_policy(tmp_path / "policy.npz", 2, [0.75, -0.5]), io.StringIO()
    console = Console(file=output)
    folder = collect_environment("tests/Flat-v0", policy, "mine/line-v0", rows=20, seed=3, console=console)
    assert folder == root / "mine" / "line-v0"
    dataset = minari.load_dataset("mine/line-v0")
    assert dataset.total_steps == 20
    lengths = []
    for episode in dataset:
        steps = np.arange(len(episode.actions) + 1)[:, None]
        np.testing.assert_allclose(episode.observations, episode.observations[0] + steps * [0.75, -0.5], atol=1e-5)
        np.testing.assert_allclose(episode.actions, [[0.75, -0.5]] * (len(steps) - 1))
        np.testing.assert_allclose(episode.rewards, -1.25)
        beyond = episode.observations[1:, 0] > 5
        np.testing.assert_array_equal(episode.terminations, beyond)
        assert not beyond[:-1].any()
        assert list(episode.truncations) == [False] * (len(beyond) - 1) + [not beyond[-1]]
        lengths.append(len(beyond))
    assert lengths[:-1] == [length for length in lengths[:-1] if 6 <= length <= 9]
    assert sum(lengths) == 20
    assert len({float(episode.observations[0, 0]) for episode in dataset}) == len(lengths)
    reading = read_minari(folder)
    assert len(reading.whole()) == 20
    assert "20 rows of tests/Flat-v0 (policy policy.npz, sha256 " in reading.notes[-1]
    assert "mine/line-v0: 20 of 20 rows" in output.getvalue()


def test_the_environment_comes_back_and_gives_the_same(tmp_path: Path) -> None:
    """Pendulum's torques are within 2: rescaled; its 200 steps are cut at 120."""
    policy = constant_policy(tmp_path / "policy.npz", 3, [0.25])
    folder = collect_environment("Pendulum-v1", policy, "mine/pendulum-v0", rows=320, noise=0.4)
    dataset = minari.load_dataset("mine/pendulum-v0")
    assert [len(episode.actions) for episode in dataset] == [200, 120]
    recovered, plain = dataset.recover_environment(), gymnasium.make("Pendulum-v1")
    assert recovered.action_space == Box(-1.0, 1.0, (1,), np.float32)
    for number, episode in enumerate(dataset):
        (metadata,) = dataset.storage.get_episode_metadata([number])
        first, same = recovered.reset(seed=metadata["seed"])[0], plain.reset(seed=metadata["seed"])[0]
        np.testing.assert_array_equal(episode.observations[0], first)
        np.testing.assert_array_equal(first, same)
        for step, action in enumerate(episode.actions):
            observation, reward, terminated, truncated, _ = recovered.step(action)
            np.testing.assert_array_equal(episode.observations[step + 1], observation)
            np.testing.assert_allclose(plain.step(2 * action)[0], observation, atol=1e-4)  # 1 stands for a torque of 2
            assert episode.rewards[step] == np.float32(reward)
            assert (terminated, truncated) == (False, step == 199)
    data = read_minari(folder).whole()
    assert data.actions.mean() == pytest.approx(0.25, abs=0.08)
    assert 0.3 < data.actions.std() < 0.42  # clipped at 1
    assert data.actions.max() == 1.0


def test_uneven_bounds_are_rescaled(tmp_path: Path) -> None:
    environment = flat_environment("tests/Wide-v0")
    start = environment.reset(seed=0)[0].copy()
    np.testing.assert_allclose(environment.step(np.array([-1.0, 1.0]))[0] - start, [-1.0, 3.0], atol=1e-6)
    np.testing.assert_allclose(environment.step(np.array([0.0, 0.0]))[0] - start, [0.0, 4.0], atol=1e-6)


def test_dictionaries_and_matrices_are_flattened(tmp_path: Path) -> None:
    nested = flat_environment("tests/Nested-v0")
    assert nested.observation_space.shape == (5,)
    observation = nested.reset(seed=0)[0]
    x, y = nested.unwrapped.place  # type: ignore[attr-defined]
    np.testing.assert_array_equal(observation, [x, 7.0, 7.0, x, y])  # a.c, a.d, b
    assert flat_environment("tests/Square-v0").reset(seed=0)[0].shape == (2,)
    assert flat_environment("AntMaze_UMaze-v4").observation_space.shape == (31,)
    policy = constant_policy(tmp_path / "policy.npz", 5, [1.0, 0.0])
    data = read_minari(collect_environment("tests/Nested-v0", policy, "nested-v0", rows=9)).whole()
    assert data.observations.shape == (9, 5)
    assert (data.observations[:, 0] == data.observations[:, 3]).all()
    assert (np.diff(data.observations[:4, 0]) > 0.9).all()  # copies, although the environment changes its own array


def test_a_seed_determines_the_data(tmp_path: Path) -> None:
    policy = constant_policy(tmp_path / "policy.npz", 3, [0.0])

    def fingerprint(**settings: Any) -> str:
        folder = collect_environment("Pendulum-v1", policy, "same-v0", rows=250, overwrite=True, **settings)
        return read_minari(folder).whole().fingerprint()

    one = fingerprint(noise=0.1)
    assert fingerprint(noise=0.1) == one
    assert fingerprint(noise=0.1, seed=1) != one
    assert fingerprint(noise=0.2) != one
    assert fingerprint() == fingerprint()


def test_a_real_policy_acts_well(test_data: Path, root: Path) -> None:
    """DAPG's pen policy: about 3,450 in D4RL's 100 steps, here 200 without an end."""
    policy = test_data / "policies" / "dapg_pen.npz"
    folder = collect_environment("AdroitHandPen-v1", policy, "erdp/pen-dapg-v0", rows=1000)
    data = read_minari(folder).whole()
    assert np.median(data.rewards.reshape(5, 200)[:, :100].sum(axis=1)) > 2000
    metadata = json.loads((folder / "data" / "metadata.json").read_text())
    assert json.loads(metadata["env_spec"])["id"] == "AdroitHandPen-v1"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Hoper-v4", "unknown environment 'Hoper-v4': the nearest are Hopper-v4, "),
        ("HalfCheetah-v99", "unknown environment 'HalfCheetah-v99': the nearest are HalfCheetah-v"),
        ("AdroitHandPan-v1", "the nearest are .*AdroitHandPen-v1"),
        ("nowhere/Env-v0", "unknown environment 'nowhere/Env-v0': the nearest are "),
        (
            "nomodule:Env-v0",
            "environment 'nomodule:Env-v0' cannot be made: ModuleNotFoundError: No module named 'nomodule'",
        ),
        ("Hopper-v4-v5-", "environment 'Hopper-v4-v5-' cannot be made|unknown environment 'Hopper-v4-v5-'"),
        ("HalfCheetah-v2", "environment 'HalfCheetah-v2' cannot be made: .*mujoco_py"),
        ("tests/Unbounded-v0", "its actions have no bounds to scale"),
        ("tests/Matrix-v0", "its actions are no vector of real numbers"),
        ("tests/Choice-v0", r"tests/Choice-v0: its actions are no vector of real numbers.*Discrete\(2\)"),
        ("tests/Text-v0", "tests/Text-v0: its observations cannot be flattened"),
        (
            "tests/Class-v0",
            "tests/Class-v0 cannot be recorded with the data .*: register it with an entry point as text",
        ),
    ],
)
def test_environments_that_cannot_be_used(tmp_path: Path, root: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        collect_environment(name, tmp_path / "policy.npz", "mine-v0", rows=10)
    assert "\n" not in str(raised.value)
    assert list(root.iterdir()) == []


def test_mistakes(tmp_path: Path, root: Path) -> None:
    policy = constant_policy(tmp_path / "policy.npz", 2, [0.5, 0.5])
    for settings, message in (
        ({"rows": 0}, "mine-v0: rows 0 is too small"),
        ({"noise": -0.1}, "noise -0.1 is no standard deviation"),
        ({"noise": np.nan}, "noise nan is no standard deviation"),
        ({"dataset_id": "../mine-v0"}, "'../mine-v0' is no Minari dataset id"),
        ({"environment_id": "Pendulum-v1"}, "observations of size 2, but those of Pendulum-v1 are of size 3"),
        ({"environment_id": "tests/Faulty-v0"}, "Faulty-v0.*failed in step: .*(NaN or infinite|nan|inf)"),
    ):
        arguments: dict[str, Any] = {"environment_id": "tests/Flat-v0", "dataset_id": "mine-v0", "rows": 10}
        with pytest.raises(UserError, match=message):
            collect_environment(policy_file=policy, **(arguments | settings))
    assert not list(root.rglob("*.hdf5"))
    collect_environment("Pendulum-v1", constant_policy(policy, 3, [0.0]), "mine-v0", rows=10)
    with pytest.raises(DataError, match="mine-v0 is there already: use --overwrite to collect mine-v0 anew"):
        collect_environment("Pendulum-v1", policy, "mine-v0", rows=10**9)
