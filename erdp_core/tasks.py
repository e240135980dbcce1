"""The registry of tasks: where each one's data and environment are, and how its returns become scores.

Reference scores are D4RL's. A task's settings are those of its domain in `erdp_core.config`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from erdp_core.errors import UserError, suggestion


@dataclass(frozen=True)
class EnvironmentSpec:
    """What `erdp_core.environments.make.make_environment` builds: a name and, where it takes any, its options."""

    name: str
    options: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, ready for JSON."""
        return {"name": self.name, "options": dict(self.options)}


@dataclass(frozen=True)
class Task:
    """One column of a benchmark table."""

    name: str
    domain: str
    """Key of `erdp_core.config.DOMAINS`, and the table that the task belongs to."""
    d4rl_file: str | None
    """Path of the data on D4RL's host; the last part is the file's name in D4RL's cache folder."""
    local_id: str | None
    """Minari id of the collection that `python -m erdp_core.data collect` makes."""
    environment: EnvironmentSpec
    """Where a policy trained on D4RL's or the local data is evaluated."""
    reference_min: float
    reference_max: float
    step_limit: int
    """Decisions after which an episode is cut."""
    reward_scale: float = 1.0
    reward_shift: float = 0.0
    """Training sees (reward + reward_shift) * reward_scale."""

    def score(self, episode_return: float) -> float:
        """Normalised score of a return, D4RL's: 0 at `reference_min`, 100 at `reference_max`."""
        return 100.0 * (episode_return - self.reference_min) / (self.reference_max - self.reference_min)


def _pointmaze(size: str, step_limit: int) -> Task:
    return Task(
        name=f"pointmaze-{size}",
        domain="pointmaze",
        d4rl_file=None,
        local_id=f"erdp/pointmaze-{size}-v0",
        environment=EnvironmentSpec(f"pointmaze-{size}", {}),
        reference_min=0.0,
        reference_max=1.0,
        step_limit=step_limit,
        reward_scale=4.0,
        reward_shift=-0.5,
    )


def _gym(robot: str, data: str, reference_min: float, reference_max: float) -> Task:
    environment = {"halfcheetah": "HalfCheetah-v4", "hopper": "Hopper-v4", "walker2d": "Walker2d-v4"}[robot]
    return Task(
        name=f"{robot}-{data}-v2",
        domain="gym",
        d4rl_file=f"gym_mujoco_v2/{robot}_{data.replace('-', '_')}-v2.hdf5",
        local_id=None,
        environment=EnvironmentSpec(environment, {}),
        reference_min=reference_min,
        reference_max=reference_max,
        step_limit=1000,
    )


def _antmaze(size: str, data: str, file: str) -> Task:
    return Task(
        name=f"antmaze-{size}{data and '-' + data}-v0",
        domain="antmaze",
        d4rl_file=f"ant_maze_new/Ant_maze_{file}_sparse.hdf5",
        local_id=None,
        environment=EnvironmentSpec(f"d4rl-antmaze-{size}", {}),
        reference_min=0.0,
        reference_max=1.0,
        step_limit=700 if size == "umaze" else 1000,
        reward_scale=4.0,
        reward_shift=-0.5,
    )


_ALL = (
    _pointmaze("umaze", 60),
    _pointmaze("medium", 120),
    _pointmaze("large", 160),
    *(
        _gym(robot, data, *references)
        for data in ("medium", "medium-replay", "medium-expert")
        for robot, references in {
            "halfcheetah": (-280.178953, 12135.0),
            "hopper": (-20.272305, 3234.3),
            "walker2d": (1.629008, 4592.3),
        }.items()
    ),
    _antmaze("umaze", "", "u-maze_noisy_multistart_False_multigoal_False"),
    _antmaze("umaze", "diverse", "u-maze_noisy_multistart_True_multigoal_True"),
    _antmaze("medium", "play", "big-maze_noisy_multistart_True_multigoal_False"),
    _antmaze("medium", "diverse", "big-maze_noisy_multistart_True_multigoal_True"),
    _antmaze("large", "play", "hardest-maze_noisy_multistart_True_multigoal_False"),
    _antmaze("large", "diverse", "hardest-maze_noisy_multistart_True_multigoal_True"),
)

TASKS: Mapping[str, Task] = {task.name: task for task in _ALL}

# Tables a command line can name: each domain of the paper, ours, and the paper's together.
TABLES: Mapping[str, tuple[str, ...]] = {
    **{
        domain: tuple(task.name for task in _ALL if task.domain == domain)
        for domain in dict.fromkeys(task.domain for task in _ALL)
    },
    "all": tuple(task.name for task in _ALL if task.domain != "pointmaze"),
}


def get_task(name: str) -> Task:
    """The task of that name. Raises UserError that names the nearest one."""
    if name not in TASKS:
        raise UserError(f"unknown task {name!r}: {suggestion(name, TASKS)}")
    return TASKS[name]


def table_tasks(table: str) -> tuple[str, ...]:
    """Names of a table's tasks. Raises UserError that names the nearest table."""
    if table not in TABLES:
        raise UserError(f"unknown table {table!r}: {suggestion(table, TABLES)}")
    return TABLES[table]
