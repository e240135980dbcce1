"""Stand-ins for D4RL's 20 files: named, laid out and sized as those are, with a few thousand random rows.

What is written here about D4RL's files is written down once more, from D4RL, not taken from the registry of tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

ROWS = 3000


@dataclass(frozen=True)
class Layout:
    """What tells the files of a domain from others."""

    observation_size: int
    action_size: int
    episode_rows: int
    """Rows from one timeout to the next."""
    keys: frozenset[str]
    """Beside observations, actions, rewards and terminals."""
    goal: tuple[tuple[int, float], ...] = ()
    """Kitchen: index and value of what is not zero in the last 30 numbers of each observation."""
    columns: bool = False
    """Rewards and terminals are of shape (N, 1)."""


_LIGHT = ((17, -0.69), (18, -0.05))
_MICROWAVE_AND_KETTLE = ((22, -0.75), (23, -0.23), (24, 0.75), (25, 1.62), (26, 0.99), (29, -0.06))
_SLIDE, _BURNER = ((19, 0.37),), ((11, -0.88), (12, -0.01))
_GYM, _MAZE, _PEN = (
    frozenset({"timeouts", "next_observations"}),
    frozenset({"timeouts", "infos/goal"}),
    frozenset({"timeouts"}),
)


def _kitchen(*goal: tuple[int, float]) -> Layout:
    return Layout(60, 9, 280, frozenset(), (*_LIGHT, *_MICROWAVE_AND_KETTLE, *goal))


FILES: dict[str, tuple[str, Layout]] = {
    **{
        f"{robot}-{data}-v2": (f"{robot}_{data.replace('-', '_')}-v2.hdf5", Layout(*sizes, 1000, _GYM))
        for robot, sizes in {"halfcheetah": (17, 6), "hopper": (11, 3), "walker2d": (17, 6)}.items()
        for data in ("medium", "medium-replay", "medium-expert")
    },
    **{
        f"antmaze-{name}-v0": (f"Ant_maze_{maze}_noisy_{drawn}_sparse.hdf5", Layout(29, 8, 1001, _MAZE))
        for name, maze, drawn in (
            ("umaze", "u-maze", "multistart_False_multigoal_False"),
            ("umaze-diverse", "u-maze", "multistart_True_multigoal_True"),
            ("medium-play", "big-maze", "multistart_True_multigoal_False"),
            ("medium-diverse", "big-maze", "multistart_True_multigoal_True"),
            ("large-play", "hardest-maze", "multistart_True_multigoal_False"),
            ("large-diverse", "hardest-maze", "multistart_True_multigoal_True"),
        )
    },
    "pen-human-v1": ("pen-human-v1.hdf5", Layout(45, 24, 200, _PEN)),
    "pen-cloned-v1": ("pen-cloned-v1.hdf5", Layout(45, 24, 100, _PEN, columns=True)),
    "kitchen-complete-v0": ("mini_kitchen_microwave_kettle_light_slider-v0.hdf5", _kitchen(*_SLIDE)),
    "kitchen-partial-v0": ("kitchen_microwave_kettle_light_slider-v0.hdf5", _kitchen(*_SLIDE)),
    "kitchen-mixed-v0": ("kitchen_microwave_kettle_bottomburner_light-v0.hdf5", _kitchen(*_BURNER)),
}
"""By task: the file's name and layout."""


def write_stand_ins(folder: Path, tasks: Sequence[str] = tuple(FILES), seed: int = 0) -> dict[str, Path]:
    """Write the tasks' files into a folder, each a function of its task and the seed; their paths by task."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {task: folder / FILES[task][0] for task in tasks}
    for task, path in paths.items():
        stream = np.random.default_rng([seed, *task.encode()])
        with h5py.File(path, "w") as file:
            for key, values in _rows(task, FILES[task][1], stream).items():
                file[key] = values
    return paths


def _rows(task: str, layout: Layout, stream: np.random.Generator) -> dict[str, npt.NDArray[np.generic]]:
    observations = stream.normal(size=(ROWS, layout.observation_size)).astype(np.float32)
    next_observations = np.roll(observations, -1, axis=0)
    timeouts = np.arange(ROWS) % layout.episode_rows == layout.episode_rows - 1
    if task.startswith("antmaze"):
        # An ant that drifts slowly, and lingers at its goal: terminals come in clusters, with the rewards.
        observations[:, :2] = 4 + 4 * np.sin(np.arange(ROWS)[:, None] / [97, 131])
        terminals = np.linalg.norm(observations[:, :2] - observations[700, :2], axis=1) < 0.5
        rewards = terminals.astype(np.float32)
    elif task.startswith("kitchen"):
        observations[:, 30:] = 0
        for index, value in layout.goal:
            observations[:, 30 + index] = value
        rewards = stream.integers(0, 5, ROWS).astype(np.float32)
        terminals = rewards == 4
    else:
        rewards = stream.normal(3.0, 1.0, ROWS).astype(np.float32)
        terminals = (stream.random(ROWS) < 0.005) & ~timeouts & (not task.startswith("halfcheetah"))
    found = {
        "observations": observations,
        "actions": np.tanh(stream.normal(size=(ROWS, layout.action_size))).astype(np.float32),
        "rewards": rewards.reshape(-1, 1) if layout.columns else rewards,
        "terminals": terminals.reshape(-1, 1) if layout.columns else terminals,
    }
    others = {
        "timeouts": timeouts,
        "next_observations": next_observations,
        "infos/goal": np.tile(observations[700, :2], (ROWS, 1)),
    }
    return found | {key: others[key] for key in sorted(layout.keys)}
