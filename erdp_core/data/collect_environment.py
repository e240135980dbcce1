"""A collection from any gymnasium environment, by a policy from a file."""

from pathlib import Path

import gymnasium
import mujoco
import numpy as np
from minari.data_collector import EpisodeBuffer
from rich.console import Console

from erdp_core.data.collection import check_collection, store_collection
from erdp_core.data.policy_file import Policy, load_policy
from erdp_core.data.row_meter import RowMeter
from erdp_core.environments.gymnasium_environment import CheckedEnvironment, flat_environment
from erdp_core.errors import UserError


def collect_environment(
    environment_id: str,
    policy_file: Path,
    dataset_id: str,
    *,
    rows: int,
    noise: float = 0.0,
    seed: int = 0,
    overwrite: bool = False,
    console: Console | None = None,
) -> Path:
    """Let a policy act in a gymnasium environment and store its episodes as a Minari dataset; returns its folder.

    environment_id: as `gymnasium.make` takes it; gymnasium-robotics' are known too. See `flat_environment` for what is
        done to observations and actions.
    policy_file: see `erdp_core.data.policy_file`. A Gaussian policy acts by its mean.
    noise: standard deviation of Gaussian noise on actions, which are then clipped to [-1, 1].
    console: where progress is told, standard error unless given.

    Episodes end where the environment terminates or truncates them; the last is cut after `rows` rows in all. The data
    are a function of the arguments and the policy. The dataset appears whole or not at all, the environment is recorded
    in it as Minari does (`recover_environment` gives it back, flat, with actions in [-1, 1]). Raises UserError for an
    environment that is unknown or cannot be used, DataError for a bad policy file, numbers that are not finite, and
    where the dataset is there already (unless `overwrite`) or cannot be written.
    """
    check_collection(dataset_id, dataset_id, rows=rows, seed=seed, overwrite=overwrite)
    if not 0.0 <= noise < np.inf:
        raise UserError(f"noise {noise} is no standard deviation: at least 0, and finite")
    environment = flat_environment(environment_id)
    try:
        sizes = environment.observation_space.shape[0], environment.action_space.shape[0]  # type: ignore[index]
        policy = load_policy(policy_file, *sizes, environment_id, seed)
        checked = CheckedEnvironment(environment)
        episodes: list[EpisodeBuffer] = []
        with RowMeter(dataset_id, rows, console) as meter:
            left = rows
            while left > 0:
                stream = np.random.default_rng([seed, len(episodes)])
                episodes.append(_episode(checked, policy, left, noise, stream, meter))
                left -= len(episodes[-1])
        returns = [float(np.sum(episode.rewards)) for episode in episodes]
        description = (
            f"{rows} rows of {environment_id} (policy {policy_file.name}, sha256 {policy.sha256[:16]}; "
            f"noise {noise:g}; seed {seed}; gymnasium {gymnasium.__version__}, MuJoCo {mujoco.__version__}): "
            f"{len(episodes)} episodes, mean return {np.mean(returns):.6g}"
        )
        return store_collection(
            dataset_id,
            episodes,
            observation_size=sizes[0],
            action_space=environment.action_space,
            algorithm=f"policy {policy_file.name}",
            description=description,
            environment=environment,
        )
    finally:
        environment.close()


def _episode(
    environment: CheckedEnvironment,
    policy: Policy,
    most: int,
    noise: float,
    stream: np.random.Generator,
    meter: RowMeter,
) -> EpisodeBuffer:
    """One episode, of at most so many rows."""
    seed = int(stream.integers(2**31))
    observation = environment.reset(seed=seed)[0]
    observations, actions, rewards = [observation.astype(np.float32)], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        action = policy.act(observations[-1][None])[0]
        if noise:
            disturbed = action + stream.normal(0.0, noise, policy.action_size)
            action = np.clip(disturbed, -1.0, 1.0).astype(np.float32)
        observation, reward, terminated, truncated, _ = environment.step(action)
        observations.append(observation.astype(np.float32))
        actions.append(action)
        rewards.append(np.float32(reward))
        truncated = truncated or (len(rewards) == most and not terminated)
        meter.collected(1)
    ends = np.arange(1, len(rewards) + 1) == len(rewards)
    return EpisodeBuffer(
        seed=seed,
        observations=np.array(observations),
        actions=np.array(actions),
        rewards=np.array(rewards),
        terminations=ends & terminated,
        truncations=ends & truncated,
    )
