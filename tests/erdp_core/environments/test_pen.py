"""Pen against gymnasium-robotics' own, step by step, and what D4RL's rules change; DAPG's policy on it."""

import importlib.util
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.wrappers import TimeLimit

from erdp_core.environments.make import make_environment
from erdp_core.environments.pen import Pen
from erdp_core.tasks import EnvironmentSpec, get_task

OBJECT_JOINTS = ["OBJTx", "OBJTy", "OBJTz", "OBJRx", "OBJRy", "OBJRz"]


def theirs() -> Any:
    """gymnasium-robotics' pen, with its dense reward."""
    if importlib.util.find_spec("gymnasium_robotics") is None:
        pytest.skip("gymnasium-robotics is not installed")
    from gymnasium_robotics.envs.adroit_hand.adroit_pen import AdroitHandPenEnv

    return AdroitHandPenEnv(reward_type="dense")


@pytest.mark.parametrize("seed", range(4))
def test_the_recorded_environment_is_gymnasium_robotics(seed: int) -> None:
    """Bit for bit, whether the hand is still, moves about, or has long lost the pen."""
    ours, other = Pen(d4rl=False), theirs()
    np.testing.assert_array_equal(ours.reset(seed=seed)[0], other.reset(seed=seed)[0])
    stream = np.random.default_rng(seed)
    for _ in range(200):
        action = stream.uniform(-1.2, 1.2, 24) * (seed % 2)
        found, expected = ours.step(action), other.step(action)
        np.testing.assert_array_equal(found[0], expected[0])
        assert found[1] == pytest.approx(expected[1], abs=1e-12)
        assert found[2:4] == expected[2:4] == (False, False)
        assert found[4]["success"] == expected[4]["success"]


# Position and rotation of the pen's joints after 20, 40, 60 steps in MuJoCo 2.3.7: gymnasium-robotics' model loaded
# there by itself, without this package, actuators' gains set as `AdroitHandPen-v1` sets them, the actions below.
MUJOCO_2 = [
    [0.0251014, -0.0057877, -0.0605814, 0.0050959, -0.9103276, -0.350529],
    [0.1444993, -0.0096546, -0.1756399, 0.5907791, -1.2528246, -0.7885693],
    [0.2022402, 0.0969318, -0.39299, 1.0815014, -0.3122311, -1.0764054],
]


def test_d4rls_physics_are_mujoco_2s() -> None:
    """Today's, without the settings made for D4RL, go elsewhere."""
    found = {}
    for d4rl in (True, False):
        environment = Pen(d4rl)
        environment.reset(seed=0)
        places = []
        for step in range(60):
            environment.step(0.5 * np.sin(0.3 * step + np.arange(24)))
            if step % 20 == 19:
                places.append(environment.data.qpos[-6:].copy())
        found[d4rl] = np.array(places)
    np.testing.assert_allclose(found[True], MUJOCO_2, atol=1e-6)
    assert (np.abs(found[False] - MUJOCO_2).max(axis=1) > 0.05).all()


# Returns of DAPG's policy from the starts of seeds 0 to 5, likewise in MuJoCo 2.3.7, likewise without this package.
MUJOCO_2_RETURNS = [3959.4476, 5160.9863, 3847.3642, 1386.8962, 4608.0890, 5079.6096]


def test_whole_episodes_are_mujoco_2s(test_data: Path) -> None:
    """Where the policy's own mistakes and the pen's slips feed back, for 100 steps."""
    policy = DapgPolicy(test_data / "policies" / "dapg_pen.npz")
    for d4rl in (True, False):
        environment = TimeLimit(Pen(d4rl), 100)
        found = np.array([episode_return(policy, environment, seed) for seed in range(6)])
        off = np.abs(found - MUJOCO_2_RETURNS)
        assert (off < 0.01).all() if d4rl else (off > 10).all()


def test_contacts_of_mujoco_2_are_single_and_take_the_larger_margin() -> None:
    """Of the pen with the hand; those among fingers are listed by the model, with margins of their own."""
    for d4rl, margin in ((True, 0.0005), (False, 0.001)):
        environment = Pen(d4rl)
        assert set(environment.model.geom_margin) == {margin / 2}
        environment.reset(seed=0)
        margins, repeated = set(), 0
        for step in range(60):
            environment.step(0.5 * np.sin(0.3 * step + np.arange(24)))
            contact = environment.data.contact
            pairs = [tuple(pair) for pair in contact.geom[contact.includemargin > 0].tolist()]
            margins |= set(contact.includemargin.tolist()) - {0.0}
            repeated += len(pairs) - len(set(pairs))
        assert margins == {margin}
        assert (repeated == 0) == d4rl


def test_observation_is_d4rls() -> None:
    environment = Pen(d4rl=True)
    environment.reset(seed=0)
    model, data = environment.model, environment.data
    observation = environment.step(np.linspace(-1, 1, 24))[0]
    joints = [model.joint(number).name for number in range(model.njnt)]
    assert joints[-6:] == OBJECT_JOINTS
    np.testing.assert_array_equal(observation[:24], data.qpos[:24])
    pen, place = data.body("Object").xpos, data.site("eps_ball").xpos
    np.testing.assert_array_equal(observation[24:27], pen)
    np.testing.assert_array_equal(observation[27:33], data.qvel[-6:])
    direction, target = (-data.body(body).xmat.reshape(3, 3)[:, 2] for body in ("Object", "target"))
    np.testing.assert_allclose(observation[33:36], -direction, atol=1e-12)
    np.testing.assert_allclose(observation[36:39], -target, atol=1e-12)
    np.testing.assert_array_equal(observation[39:42], pen - place)
    np.testing.assert_allclose(observation[42:], target - direction, atol=1e-12)


def test_starts_differ_in_the_targets_direction_alone() -> None:
    environment = make_environment(EnvironmentSpec("d4rl-pen", {}))
    starts = np.array([environment.reset(seed=seed)[0] for seed in range(400)])
    assert (np.ptp(starts[:, :36], axis=0) == 0).all()
    target = starts[:, 36:39]
    np.testing.assert_allclose(np.linalg.norm(target, axis=1), 1, atol=1e-12)
    # Turned first about y, then about x, each by up to 1 rad either way.
    around_y, around_x = np.arcsin(target[:, 0]), np.arctan2(-target[:, 1], target[:, 2])
    for angle in (around_x, around_y):
        assert 0.97 < np.abs(angle).max() <= 1 + 1e-12
        assert angle.mean() == pytest.approx(0, abs=0.1)
        assert angle.std() == pytest.approx(3**-0.5, abs=0.04)


def frame_of_joints(environment: Pen) -> npt.NDArray[np.float64]:
    """The axes of the pen's six joints, as columns."""
    frame = np.zeros(9)
    mujoco.mju_quat2Mat(frame, environment.model.body("Object").quat)
    return frame.reshape(3, 3)


def lift(environment: Pen, height: float) -> None:
    """Put the pen beside the hand, at rest, its centre at that height (m)."""
    environment.data.qpos[-6:] = [*(frame_of_joints(environment).T @ [-0.4, 0.4, height - 0.25]), 0, 0, 0]
    environment.data.qvel[-6:] = 0
    mujoco.mj_forward(environment.model, environment.data)


@pytest.mark.parametrize("d4rl", [True, False])
def test_a_dropped_pen_costs_5_and_ends_the_episode_under_d4rls_rules_only(d4rl: bool) -> None:
    rewards = []
    for height, dropped in ((0.078, False), (0.074, True)):
        environment = Pen(d4rl)
        environment.reset(seed=1)
        lift(environment, height)
        observation, reward, terminated, truncated, info = environment.step(np.zeros(24))
        assert (observation[26] < 0.075) == dropped
        assert (terminated, truncated, info["success"]) == (dropped and d4rl, False, False)
        distance = np.linalg.norm(observation[39:42])
        rewards.append(reward - (observation[33:36] @ observation[36:39] - distance))
    np.testing.assert_allclose(rewards, [0, -5], atol=1e-12)


@pytest.mark.parametrize(("angle", "bonus"), [(0.0, 60), (0.3, 60), (0.33, 10), (0.44, 10), (0.47, 0)])
def test_a_pen_that_points_where_it_should_earns_a_bonus(angle: float, bonus: int) -> None:
    """From a cosine of 0.9 on (0.451 rad) 10, from 0.95 on (0.318 rad) 50 more."""
    environment = Pen(d4rl=True)
    environment.reset(seed=3)
    model, data = environment.model, environment.data
    target = data.site("target_top").xpos - data.site("target_bottom").xpos
    pen = data.site("object_top").xpos - data.site("object_bottom").xpos
    axis = np.cross(pen, target)
    turn = np.arctan2(np.linalg.norm(axis), pen @ target) + angle
    quaternion, rotation, frame = np.zeros(4), np.zeros(9), frame_of_joints(environment)
    mujoco.mju_axisAngle2Quat(quaternion, axis / np.linalg.norm(axis), turn)
    mujoco.mju_quat2Mat(rotation, quaternion)
    # The joints turn by frame * Rx * Ry * Rz: that is to be rotation * frame.
    local = frame.T @ rotation.reshape(3, 3) @ frame
    y = np.arcsin(local[0, 2])
    x, z = np.arctan2(-local[1, 2], local[2, 2]), np.arctan2(-local[0, 1], local[0, 0])
    data.qpos[-6:] = [0, 0, 0, x, y, z]
    data.qvel[:] = 0
    mujoco.mj_forward(model, data)
    observation, reward, _, _, info = environment.step(np.zeros(24))
    cosine = observation[33:36] @ observation[36:39]
    assert cosine == pytest.approx(np.cos(angle), abs=0.012)
    assert reward == pytest.approx(bonus + cosine - np.linalg.norm(observation[39:42]))
    assert info["success"] == (bonus == 60)


def test_environments_share_a_model_and_none_disturbs_another() -> None:
    first, second = Pen(d4rl=True), Pen(d4rl=True)
    assert first.model is second.model
    start = first.reset(seed=0)[0]
    second.reset(seed=1)
    assert not np.array_equal(start[36:39], second.step(np.zeros(24))[0][36:39])
    np.testing.assert_array_equal(first.step(np.zeros(24))[0][36:39], start[36:39])


class DapgPolicy:
    """DAPG's pen policy: 45-64-64-24, tanh, the mean action."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as weights:
            self.weights = dict(weights)

    def act(self, observation: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        w = self.weights
        values = (observation - w["in_shift"]) / (w["in_scale"] + 1e-8)
        for layer in ("0", "1"):
            values = np.tanh(w[f"w{layer}"] @ values + w[f"b{layer}"])
        action: npt.NDArray[np.float64] = w["w2"] @ values + w["b2"]
        return np.clip(action * w["out_scale"] + w["out_shift"], -1.0, 1.0)


def episode_return(policy: DapgPolicy, environment: gymnasium.Env[Any, Any], seed: int) -> float:
    """Of the episode from a seed."""
    observation, _ = environment.reset(seed=seed)
    total, end = 0.0, False
    while not end:
        observation, reward, terminated, truncated, _ = environment.step(policy.act(observation))
        total, end = total + float(reward), terminated or truncated
    return total


def scores(policy: DapgPolicy, seeds: range) -> npt.NDArray[np.float64]:
    """Score of an episode from each seed."""
    task = get_task("pen-human-v1")
    environment = make_environment(task.environment)
    return np.array([task.score(episode_return(policy, environment, seed)) for seed in seeds])


def test_dapgs_policy_turns_most_pens(test_data: Path) -> None:
    """Measured: 120.5 on these."""
    assert scores(DapgPolicy(test_data / "policies" / "dapg_pen.npz"), range(15)).mean() >= 100


@pytest.mark.slow
def test_dapgs_policy_is_the_expert_that_it_was(test_data: Path) -> None:
    """Measured: 116.3 on these, 119.5 +- 2.6 (standard error) over 400 episodes; MuJoCo 2.3.7 gives the same two."""
    assert scores(DapgPolicy(test_data / "policies" / "dapg_pen.npz"), range(100)).mean() >= 110
