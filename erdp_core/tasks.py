"""The registry of tasks: where each one's data and environment are, and how its returns become scores.

Reference scores are D4RL's. A task's settings are those of its domain in `erdp_core.hyperparameters`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from erdp_core.errors import DataError, UserError, suggestion

if TYPE_CHECKING:  # numpy would make the import of the registry slow
    import numpy as np
    import numpy.typing as npt


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
    """Key of `erdp_core.hyperparameters.SCHEDULES`, and the table that the task belongs to."""
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
    minari_ids: tuple[str, ...] = ()
    """The data on Minari, newest first: the first that is there counts; with `minari_combine`, all of them together."""
    minari_combine: bool = False
    minari_environment: EnvironmentSpec | None = None
    """Where a policy trained on the Minari data is evaluated; None where there are none."""
    minari_note: str | None = None
    """How the Minari data differ from D4RL's file, where they are other data: such are never chosen silently."""
    file: str | None = None
    """A file in D4RL's layout that a task of the user's own names."""
    reward_scale: float = 1.0
    reward_shift: float = 0.0
    """Training sees (reward + reward_shift) * reward_scale ..."""
    standardise_rewards: bool = False
    """... or, where this is set, (reward - mean) / std of the data's own rewards."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What differs from the settings of the domain, such as {"agent": {"eta": 2.0}}."""

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries and lists, ready for JSON."""
        return asdict(self) | {"minari_ids": list(self.minari_ids)}

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> "Task":
        """The inverse of `to_dict`. Raises TypeError or KeyError for what is no such record."""
        specs = {
            name: None if record[name] is None else EnvironmentSpec(**record[name])
            for name in ("environment", "minari_environment")
        }
        return Task(**{**record, **specs, "minari_ids": tuple(record["minari_ids"])})

    def score(self, episode_return: float) -> float:
        """Normalised score of a return, D4RL's: 0 at `reference_min`, 100 at `reference_max`."""
        return 100.0 * (episode_return - self.reference_min) / (self.reference_max - self.reference_min)

    def training_rewards(self, rewards: "npt.NDArray[np.float32]") -> "npt.NDArray[np.float32]":
        """What training sees of the data's rewards [N].

        Standardised ones are divided by the sample's standard deviation (ddof 1), as the published code does. Raises
        DataError where that makes no sense, since all are equal.
        """
        if not self.standardise_rewards:
            return (rewards + self.reward_shift) * self.reward_scale
        if len(rewards) == 0 or rewards.min() == rewards.max():
            raise DataError(f"{self.name}: its rewards are to be standardised, but all those of the data are equal")
        mean, std = rewards.mean(dtype=float), rewards.std(dtype=float, ddof=1)
        standardised: npt.NDArray[np.float32] = ((rewards - mean) / std).astype(rewards.dtype)
        return standardised


# --- The table: what the tasks of a domain have in common, then what tells them apart ---


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


def _gym(robot: str, data: str, minari: tuple[str, ...]) -> Task:
    environment, reference_min, reference_max = {
        "halfcheetah": ("HalfCheetah", -280.178953, 12135.0),
        "hopper": ("Hopper", -20.272305, 3234.3),
        "walker2d": ("Walker2d", 1.629008, 4592.3),
    }[robot]
    minari_ids = tuple(f"mujoco/{robot}/{name}" for name in minari)
    return Task(
        name=f"{robot}-{data}-v2",
        domain="gym",
        d4rl_file=f"gym_mujoco_v2/{robot}_{data.replace('-', '_')}-v2.hdf5",
        local_id=None,
        environment=EnvironmentSpec(f"{environment}-v4", {}),
        reference_min=reference_min,
        reference_max=reference_max,
        step_limit=1000,
        minari_ids=minari_ids,
        minari_combine=len(minari_ids) > 1,
        minari_environment=EnvironmentSpec(f"{environment}-v5", {}) if minari_ids else None,
        minari_note=f"{' and '.join(minari_ids)}: other, much stronger data than D4RL's" if minari_ids else None,
    )


def _antmaze(size: str, data: str, file: str, minari: str) -> Task:
    name = f"{size}-{data}" if data else size
    # A policy does not see the goal: evaluation has one, as far from the start as D4RL's. In the umaze both are where
    # Minari's umaze-v1 has them: what those data name as their evaluation's maze is another one, mirrored.
    start, goal = {"umaze": ((3, 1), (1, 1)), "medium": ((1, 1), (6, 6)), "large": ((1, 1), (7, 9))}[size]
    return Task(
        name=f"antmaze-{name}-v0",
        domain="antmaze",
        d4rl_file=f"ant_maze_new/Ant_maze_{file}_sparse.hdf5",
        local_id=f"erdp/antmaze-{name}-v0",
        environment=EnvironmentSpec(f"d4rl-antmaze-{size}", {}),
        reference_min=0.0,
        reference_max=1.0,
        step_limit=700 if size == "umaze" else 1000,
        minari_ids=(f"D4RL/antmaze/{name}-v1",),
        minari_environment=EnvironmentSpec(
            f"AntMaze_{minari}-v4", {"reset_cell": list(start), "goal_cell": list(goal)}
        ),
        reward_scale=4.0,
        reward_shift=-0.5,
        settings={} if data else {"agent": {"max_q_backup": False}},  # Table 6: "true (false for antmaze-umaze-v0)"
    )


def _pen(data: str) -> Task:
    environment = EnvironmentSpec("d4rl-pen", {})
    return Task(
        name=f"pen-{data}-v1",
        domain="adroit",
        d4rl_file=f"hand_dapg_v1/pen-{data}-v1.hdf5",
        local_id=None,
        environment=environment,
        reference_min=96.262799,
        reference_max=3076.8331017826877,
        step_limit=100,
        minari_ids=(f"D4RL/pen/{data}-v2",),
        minari_environment=environment,  # scores are D4RL's under D4RL's rules alone
        standardise_rewards=True,
    )


def _kitchen(data: str, file: str, *elements: str) -> Task:
    environment = EnvironmentSpec("FrankaKitchen-v1", {"elements": list(elements)})
    return Task(
        name=f"kitchen-{data}-v0",
        domain="kitchen",
        d4rl_file=f"kitchen/{file}-v0.hdf5",
        local_id=None,
        environment=environment,
        reference_min=0.0,
        reference_max=4.0,
        step_limit=280,
        minari_ids=(f"D4RL/kitchen/{data}-v2",),
        minari_environment=environment,
    )


_ALL = (
    _pointmaze("umaze", 60),
    _pointmaze("medium", 120),
    _pointmaze("large", 160),
    *(
        _gym(robot, data, minari)
        for data, minari in {
            "medium": ("medium-v0",),
            "medium-replay": (),
            "medium-expert": ("medium-v0", "expert-v0"),
        }.items()
        for robot in ("halfcheetah", "hopper", "walker2d")
    ),
    _antmaze("umaze", "", "u-maze_noisy_multistart_False_multigoal_False", "UMaze"),
    _antmaze("umaze", "diverse", "u-maze_noisy_multistart_True_multigoal_True", "UMaze"),
    _antmaze("medium", "play", "big-maze_noisy_multistart_True_multigoal_False", "Medium"),
    _antmaze("medium", "diverse", "big-maze_noisy_multistart_True_multigoal_True", "Medium_Diverse_GR"),
    _antmaze("large", "play", "hardest-maze_noisy_multistart_True_multigoal_False", "Large"),
    _antmaze("large", "diverse", "hardest-maze_noisy_multistart_True_multigoal_True", "Large_Diverse_GR"),
    _pen("human"),
    _pen("cloned"),
    *(
        _kitchen(data, file, "microwave", "kettle", "light switch", "slide cabinet")
        for data, file in {
            "complete": "mini_kitchen_microwave_kettle_light_slider",
            "partial": "kitchen_microwave_kettle_light_slider",
        }.items()
    ),
    _kitchen(
        "mixed", "kitchen_microwave_kettle_bottomburner_light", "microwave", "kettle", "bottom burner", "light switch"
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}

# Tables a command line can name: each domain of the paper, ours, and the paper's together.
TABLES: dict[str, tuple[str, ...]] = {
    **{
        domain: tuple(task.name for task in _ALL if task.domain == domain)
        for domain in dict.fromkeys(task.domain for task in _ALL)
    },
    "all": tuple(task.name for task in _ALL if task.domain != "pointmaze"),
}


CUSTOM = "custom"
"""The table of the tasks that `add_task` added."""


def add_task(task: Task) -> None:
    """Make a task of the user's own known in this process, and put it into the table `custom`.

    Raises UserError for a name that is taken by another task.
    """
    if TASKS.setdefault(task.name, task) != task:
        raise UserError(f"there is a task {task.name!r} already: give yours another name")
    TABLES[CUSTOM] = tuple(dict.fromkeys((*TABLES.get(CUSTOM, ()), task.name)))


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
