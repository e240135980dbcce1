"""Files made to be wrong: each is refused in one line, or gives what a slow reading of its own makes of it.

A file that a slow reading can make sense of is not refused, but for the reasons that `fuzzing.STRICT_REFUSALS` lists.
`ERDP_FUZZ_EXAMPLES` sets how many files of each layout are made; `pytest -s` prints what became of them.
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import strategies as st

from erdp_core.data.load import load_dataset
from erdp_core.data.minari import minari_folder
from erdp_core.tasks import get_task
from tests.erdp_core.data.fuzzing import (
    Change,
    Row,
    apply,
    cut_short,
    examine,
    extra_names,
    other_keys,
    outcome,
    referenced,
    remarked,
    rescaled,
    written,
    wrong_keys,
)

STEP_LIMIT = 4


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("ERDP_CACHE_DIR", "MINARI_DATASETS_PATH", "D4RL_DATASET_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no machine crashes here, and each takes its time
    monkeypatch.setattr("erdp_core.data.cache.CLOCK_TICK", 0.0)  # no file here changes after it was read
    return tmp_path


def clear(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


# D4RL's layout

KEYS = ("observations", "actions", "rewards", "terminals", "timeouts")
SIZES = {"flat": (4, 2), "antmaze": (29, 8), "kitchen": (60, 9)}
"""Of observations and actions; flat are PointMaze's."""


@dataclass(frozen=True)
class D4RLExample:
    rows: int
    seed: int
    timeouts: bool
    columns: bool
    """Rewards and flags of shape (N, 1)."""
    newest: bool
    """Written in the newest of HDF5's formats."""
    changes: list[Change]
    kept: float


harmless_d4rl = st.one_of(other_keys(KEYS[:-1]), remarked(("note", "other", "a\nb")), st.just(extra_names))
wrong_d4rl = st.one_of(
    wrong_keys(KEYS),
    wrong_keys(KEYS),
    harmless_d4rl,
    remarked(("environment", "evaluation_goal", "note", "other", "a\nb")),
    referenced(),
)
shares = st.sampled_from([1.0, 0.0, 0.3, 0.99])


@st.composite
def d4rl_examples(draw: st.DrawFn) -> D4RLExample:
    """Files of which about half can be read, so that readings are compared as often as files are refused."""
    wrong = draw(st.sampled_from([True, True, False]))
    return D4RLExample(
        draw(st.integers(2, 12)),
        draw(st.integers(0, 99)),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.lists(wrong_d4rl if wrong else harmless_d4rl, min_size=wrong, max_size=3)),
        draw(shares) if wrong and draw(st.integers(0, 3)) == 0 else 1.0,
    )


def write_d4rl(path: Path, example: D4RLExample) -> None:
    random, rows = np.random.default_rng(example.seed), example.rows
    shape = (rows, 1) if example.columns else rows
    with h5py.File(path, "w", libver="latest" if example.newest else None) as file:
        file["observations"] = random.normal(size=(rows, SIZES["flat"][0]))
        file["actions"] = random.uniform(-1, 1, (rows, SIZES["flat"][1]))
        file["rewards"] = random.normal(size=shape)
        file["terminals"] = random.random(shape) < 0.2
        if example.timeouts:
            file["timeouts"] = random.random(rows) < 0.2
        for change in example.changes:
            apply(change, file)
    cut_short(path, example.kept)


def d4rl_reference(path: Path) -> list[Row] | None:
    """D4RL's loop over plain numbers; None for a file that nobody can read."""
    columns: dict[str, list[Any]] = {}
    try:
        with h5py.File(path, "r") as file:
            for name in KEYS:
                if name == "timeouts" and name not in file.keys():  # noqa: SIM118  (`in file` does not see dead links)
                    continue
                array = np.asarray(file[name][()])
                if not written(file[name]):
                    return None
                deep = array.ndim - (name in ("observations", "actions"))
                if array.dtype.kind not in "biuf" or deep not in (1, 2) or (deep == 2 and array.shape[1] != 1):
                    return None
                columns[name] = array.reshape(len(array), *array.shape[1:2][: 2 - deep]).tolist()
    except Exception:
        return None
    return d4rl_loop(columns)


def d4rl_loop(columns: dict[str, list[Any]]) -> list[Row] | None:
    if len({len(column) for column in columns.values()}) != 1:
        return None
    numbers = {
        name: np.array(column, np.float64).astype(np.float32)
        for name, column in columns.items()
        if name in ("observations", "actions", "rewards")
    }
    flags = [value for name in ("terminals", "timeouts") for value in columns.get(name, [])]
    if not all(np.isfinite(array).all() for array in numbers.values()) or not np.isfinite(flags).all():
        return None
    if (abs(numbers["actions"]) > 1.00002).any():
        return None
    if (numbers["observations"].shape[1:], numbers["actions"].shape[1:]) != tuple((size,) for size in SIZES["flat"]):
        return None
    found: list[Row] = []
    step = 0
    for row in range(len(columns["rewards"]) - 1):
        done = columns["terminals"][row] != 0
        if columns["timeouts"][row] != 0 if "timeouts" in columns else step == STEP_LIMIT - 1:
            step = 0
            continue
        step = 1 if done else step + 1
        found.append(
            (
                numbers["observations"][row].tolist(),
                np.clip(numbers["actions"][row], -1, 1).tolist(),
                numbers["observations"][row + 1].tolist(),
                float(numbers["rewards"][row]),
                float(done),
            )
        )
    return found or None


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_files_in_d4rls_layout(folder: Path) -> None:
    task = replace(get_task("pointmaze-umaze"), step_limit=STEP_LIMIT)

    def examined(example: D4RLExample) -> str:
        path = folder / f"{uuid.uuid4().hex}.hdf5"
        write_d4rl(path, example)
        became = outcome(lambda: load_dataset(task, file=path), lambda: d4rl_reference(path))
        clear(folder)
        return became

    # Half are made to be wrong: readings are compared as often as files are refused.
    assert 0.05 < examine("D4RL's layout", d4rl_examples(), examined) < 0.95


# Minari's layout

STEP_KEYS = ("actions", "rewards", "terminations", "truncations")
PARTS = {
    "flat": ("observations",),
    "antmaze": ("observations/observation", "observations/achieved_goal", "observations/desired_goal"),
    "kitchen": ("observations/observation",),
}
TASKS = {
    "flat": replace(get_task("pointmaze-umaze"), minari_environment=get_task("pointmaze-umaze").environment),
    "antmaze": get_task("antmaze-umaze-v0"),
    "kitchen": get_task("kitchen-mixed-v0"),
}
GOAL = [0.0] * 11 + [-0.88, -0.01, 0, 0, 0, 0, -0.69, -0.05, 0, 0, 0, -0.75, -0.23, 0.75, 1.62, 0.99, 0, 0, -0.06]
"""Kitchen's bottom burner, light switch, microwave and kettle."""


@dataclass(frozen=True)
class MinariExample:
    lengths: list[int]
    seed: int
    felt: int
    columns: bool
    """Rewards and flags of shape (T, 1)."""
    in_episodes: list[tuple[int, Change]]
    in_file: list[Callable[["h5py.File"], None]]
    metadata: dict[str, Any]
    """Replaced, or dropped where None."""
    text: str | None
    """In place of all metadata."""
    kept: float


def other_episodes(number: int) -> list[Callable[["h5py.File"], None]]:
    """An episode lost, doubled, renamed, or replaced by something else."""
    name = f"episode_{number}"

    def replace_by_numbers(file: "h5py.File") -> None:
        file.pop(name, None)
        file[name] = np.zeros(3)

    def name_away(file: "h5py.File") -> None:
        if name in file:
            file.move(name, "episode_x")

    def double(file: "h5py.File") -> None:
        if name in file:
            file[f"episode_{len(file)}"] = file[name]

    return [lambda file: file.pop(name, None), replace_by_numbers, name_away, double]


json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.floats(), st.text(max_size=9)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
environments = st.sampled_from(["AntMaze_UMaze-v4", "AntMaze_UMaze-v5", "FrankaKitchen-v1", "pointmaze-umaze", "x"])
specs = st.builds(
    lambda name, options: json.dumps({"id": name, "kwargs": options}),
    environments,
    st.one_of(
        st.just({}),
        st.fixed_dictionaries({"maze_map": json_values, "tasks_to_complete": json_values}),
        json_values,
    ),
)
METADATA_KEYS = ("total_episodes", "total_steps", "data_format", "description", "evaluation_goal", "environment")
harmless_metadata: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"description": st.sampled_from(["a\nb" * 9, "x" * 10**6, "word " * 10**5, "\ud800"])}),
    st.fixed_dictionaries({"total_steps": json_values}),
)
wrong_metadata: st.SearchStrategy[dict[str, Any]] = st.one_of(
    harmless_metadata,
    st.dictionaries(st.sampled_from([*METADATA_KEYS, "env_spec"]), json_values, max_size=1),
    st.fixed_dictionaries({"env_spec": specs}),
    st.fixed_dictionaries({"environment": environments}),
)


@st.composite
def minari_datasets(draw: st.DrawFn, layout: str) -> MinariExample:
    """Datasets of which about half can be read."""
    flaws = st.sampled_from(["keys"] * 3 + ["rewards", "episodes", "metadata", "no metadata", "cut short", "no steps"])
    wrong = draw(st.sets(flaws, min_size=1, max_size=2)) if draw(st.sampled_from([True] * 3 + [False] * 2)) else set()
    lengths = draw(st.lists(st.integers(0, 4), max_size=3))
    if "no steps" not in wrong:
        lengths.append(draw(st.integers(1, 4)))
    number = st.integers(0, max(0, len(lengths) - 1))
    parts = PARTS[layout]
    keys = wrong_keys((*STEP_KEYS, *parts, "observations")) if "keys" in wrong else other_keys((*STEP_KEYS, *parts))
    in_episodes = draw(st.lists(st.tuples(number, keys), min_size="keys" in wrong, max_size=2))
    if "rewards" in wrong:
        in_episodes.append((draw(number), rescaled(*draw(st.sampled_from([(10, 0), (1, -1), (0.5, 0.1), (-1, 0)])))))
    return MinariExample(
        lengths,
        draw(st.integers(0, 99)),
        draw(st.sampled_from([27, 27, 105])),
        draw(st.booleans()),
        in_episodes,
        [draw(st.sampled_from(other_episodes(draw(number))))] if "episodes" in wrong else [],
        draw(wrong_metadata if "metadata" in wrong else harmless_metadata),
        draw(st.sampled_from(["", "{", "[]", "\0", "[" * 5000])) if "no metadata" in wrong else None,
        draw(shares) if "cut short" in wrong else 1.0,
    )


@st.composite
def minari_examples(draw: st.DrawFn) -> tuple[str, list[MinariExample]]:
    """A layout, and one dataset or two to be combined."""
    layout = draw(st.sampled_from(list(PARTS)))
    count = draw(st.sampled_from([1, 1, 1, 2]))
    return layout, [draw(minari_datasets(layout)) for _ in range(count)]


def write_minari(folder: Path, layout: str, example: MinariExample) -> None:
    (folder / "data").mkdir(parents=True)
    random = np.random.default_rng(example.seed)
    sizes = {"flat": (4, 2), "antmaze": (example.felt, 8), "kitchen": (59, 9)}
    size, action_size = sizes[layout]
    path = folder / "data" / "main_data.hdf5"
    with h5py.File(path, "w") as file:
        for number, steps in enumerate(example.lengths):
            group = file.create_group(f"episode_{number}")
            shape = (steps, 1) if example.columns else steps
            group["actions"] = random.uniform(-1, 1, (steps, action_size))
            group["rewards"] = (random.random(shape) < 0.4).astype(np.float64)
            for key in ("terminations", "truncations"):
                group[key] = random.random(shape) < 0.2
            for part in PARTS[layout]:
                group[part] = random.normal(size=(steps + 1, 2 if part.endswith("goal") else size))
            group["infos/success"] = np.zeros(steps + 1)
        for number, change in example.in_episodes:
            if f"episode_{number}" in file:
                apply(change, file[f"episode_{number}"])
        for change_file in example.in_file:
            change_file(file)
    cut_short(path, example.kept)
    metadata = {
        "total_episodes": len(example.lengths),
        "total_steps": sum(example.lengths),
        "data_format": "hdf5",
        "description": "made to be wrong",
        **example.metadata,
    }
    text = json.dumps({key: value for key, value in metadata.items() if value is not None})
    (folder / "data" / "metadata.json").write_text(text if example.text is None else example.text)


def minari_reference(folder: Path, layout: str) -> list[Row] | None:
    """Episode after episode, step after step; None for a dataset that nobody can read."""
    found: list[Row] = []
    try:
        metadata = json.loads((folder / "data" / "metadata.json").read_text())
        with h5py.File(folder / "data" / "main_data.hdf5", "r") as file:
            episodes = sum(name.startswith("episode_") for name in file)
            if metadata["total_episodes"] != episodes:
                return None
            for number in range(episodes):
                rows = minari_episode(file[f"episode_{number}"], layout)
                if rows is None:
                    return None
                found += rows
    except Exception:
        return None
    return found or None


def minari_episode(group: "h5py.Group", layout: str) -> list[Row] | None:
    columns = {key: np.asarray(group[key][()]) for key in STEP_KEYS}
    names = ["observations"] if isinstance(group["observations"], h5py.Dataset) else PARTS[layout][:2]
    if not all(written(group[name]) for name in (*STEP_KEYS, *names)):
        return None
    if isinstance(group["observations"], h5py.Dataset):
        parts = [np.asarray(group["observations"][()])]
    else:
        felt = np.asarray(group["observations/observation"][()])
        if felt.shape[1] not in {"flat": (), "antmaze": (27, 105), "kitchen": (59,)}[layout]:
            return None
        parts = {
            "antmaze": lambda: [np.asarray(group["observations/achieved_goal"][()]), felt[:, :27]],
            "kitchen": lambda: [felt[:, :9], felt[:, 18:39], np.array([GOAL] * len(felt))],
        }[layout]()
    steps = len(columns["rewards"])
    if any(array.dtype.kind not in "biuf" for array in (*columns.values(), *parts)):
        return None
    if any(len(column) != steps for column in columns.values()) or any(len(part) != steps + 1 for part in parts):
        return None
    if any(columns[key].shape not in ((steps,), (steps, 1)) for key in STEP_KEYS[1:]) or columns["actions"].ndim != 2:
        return None
    seen = np.hstack(parts).astype(np.float32)
    actions = columns["actions"].astype(np.float32)
    if (seen.shape[1], actions.shape[1]) != SIZES[layout] or not np.isfinite(seen[0]).all():
        return None
    rewards, flags = columns["rewards"].reshape(steps).astype(np.float32), columns["terminations"].reshape(steps)
    rows: list[Row] = []
    for step in range(steps):
        done = flags[step] != 0 or (layout == "antmaze" and rewards[step] == 1)
        numbers = np.concatenate((seen[step], seen[step + 1], actions[step], rewards[step : step + 1]))
        if not np.isfinite(numbers).all() or not np.isfinite(flags[step]) or (abs(actions[step]) > 1.00002).any():
            return None
        if layout == "antmaze" and rewards[step] not in (0, 1):
            return None
        action = np.clip(actions[step], -1, 1).tolist()
        rows.append((seen[step].tolist(), action, seen[step + 1].tolist(), float(rewards[step]), float(done)))
        if layout == "antmaze" and rewards[step] == 1:
            break
    return rows


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_minari_datasets(folder: Path) -> None:
    def examined(example: tuple[str, list[MinariExample]]) -> str:
        layout, datasets = example
        ids = tuple(f"made/{uuid.uuid4().hex}-v0" for _ in datasets)
        task = replace(TASKS[layout], minari_ids=ids, minari_combine=len(ids) > 1)
        for dataset_id, dataset in zip(ids, datasets, strict=True):
            write_minari(minari_folder(dataset_id), layout, dataset)

        def reference() -> list[Row] | None:
            parts = [minari_reference(minari_folder(dataset_id), layout) for dataset_id in ids]
            return None if None in parts else [row for part in parts for row in part or []]

        became = outcome(lambda: load_dataset(task, "minari"), reference)
        clear(folder)
        return became

    assert 0.05 < examine("Minari's layout", minari_examples(), examined) < 0.95
