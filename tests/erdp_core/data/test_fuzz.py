"""Files made to be wrong: each is refused in one line, or gives what a slow reading of its own makes of it.

`ERDP_FUZZ_EXAMPLES` sets how many; `pytest -s` prints what became of them.
"""

import json
import os
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
from tests.erdp_core.data.fuzzing import Change, Row, apply, cut_short, examine, outcome, wrong_keys

STEP_LIMIT = 4


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("ERDP_CACHE_DIR", "MINARI_DATASETS_PATH", "D4RL_DATASET_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no machine crashes here, and each takes its time
    return tmp_path


# D4RL's layout

KEYS = ("observations", "actions", "rewards", "terminals", "timeouts")


@st.composite
def base_arrays(draw: st.DrawFn) -> dict[str, Any]:
    """Arrays that are well-formed, of the sizes of PointMaze."""
    rows = draw(st.integers(2, 12))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    arrays: dict[str, Any] = {
        "observations": random.normal(size=(rows, 4)),
        "actions": random.uniform(-1, 1, (rows, 2)),
        "rewards": random.normal(size=rows),
        "terminals": random.random(rows) < 0.2,
    }
    if draw(st.booleans()):
        arrays["timeouts"] = random.random(rows) < 0.2
    return arrays


@st.composite
def remarked(draw: st.DrawFn) -> Change:
    """Attributes of every kind, among them those that mean something."""
    name = draw(st.sampled_from(["environment", "evaluation_goal", "note", "other", "a\nb"]))
    value = draw(
        st.one_of(
            st.sampled_from(
                ["pointmaze-umaze", "pointmaze-large", "Hopper-v5", b"pointmaze-umaze", "D4RL-compatible AntMaze, x"]
            ),
            st.text(max_size=20).filter(lambda text: "\0" not in text),
            st.binary(max_size=20).filter(lambda text: b"\0" not in text and text != b""),
            st.floats(),
            st.lists(st.floats(), max_size=4).map(lambda numbers: np.array(numbers, np.float64)),
            st.sampled_from(
                [
                    "x" * 60_000,
                    "line\nline\r\nline",
                    np.zeros(7000),
                    np.zeros((2, 2, 2), "c8"),
                    h5py.Empty("f4"),
                    h5py.Empty("S5"),
                    np.array([b"a", b"b"]),
                    np.zeros(2, "f4,i4"),
                    np.void(b"\x00\xff"),
                    np.bool_(True),
                ]
            ),
        )
    )

    def change(file: "h5py.File") -> None:
        file.attrs[name] = value

    return change


@st.composite
def referenced(draw: st.DrawFn) -> Change:
    """Attributes that h5py gives as objects of its own."""
    name = draw(st.sampled_from(["environment", "evaluation_goal", "note"]))
    kind = draw(st.sampled_from(["reference", "null reference", "vlen", "enum", "time"]))

    def change(file: "h5py.File") -> None:
        if kind == "time":
            space = h5py.h5s.create(h5py.h5s.SCALAR)
            h5py.h5a.create(file.id, name.encode() + b"-2", h5py.h5t.UNIX_D32LE, space)
            if name not in file.attrs:
                h5py.h5a.create(file.id, name.encode(), h5py.h5t.UNIX_D32LE, space)
        elif kind == "vlen":
            numbers = np.array([np.zeros(1), np.zeros(2)], object)
            file.attrs.create(name, numbers, (2,), h5py.vlen_dtype(np.float64))
        elif kind == "enum":
            file.attrs.create(name, 1, dtype=h5py.enum_dtype({"a": 1}, "i1"))
        else:
            file.attrs[name] = file.ref if kind == "reference" else h5py.Reference()

    return change


def extra_names(file: "h5py.Group") -> None:
    if "column-0" not in file:
        for name in ("new\nline", b"\xff no utf-8", *(f"column-{number}" for number in range(100))):
            file[name] = np.zeros(3)


changes = st.one_of(wrong_keys(KEYS), wrong_keys(KEYS), remarked(), referenced(), st.just(extra_names))
shares = st.sampled_from([1.0] * 9 + [0.0, 0.3, 0.99])
d4rl_examples = st.tuples(base_arrays(), st.lists(changes, max_size=3), shares)


def write_d4rl(path: Path, arrays: dict[str, Any], changes: list[Change], kept: float) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        for change in changes:
            apply(change, file)
    cut_short(path, kept)


def d4rl_reference(path: Path) -> list[Row] | None:
    """D4RL's loop over plain numbers; None for a file that nobody can read."""
    columns: dict[str, list[Any]] = {}
    try:
        with h5py.File(path, "r") as file:
            for name in KEYS:
                if name == "timeouts" and name not in file.keys():  # noqa: SIM118  (`in file` does not see dead links)
                    continue
                array = np.asarray(file[name][()])
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

    def examined(example: Any) -> str:
        path = folder / f"{uuid.uuid4().hex}.hdf5"
        write_d4rl(path, *example)
        return outcome(lambda: load_dataset(task, file=path), lambda: d4rl_reference(path))

    examine("D4RL's layout", d4rl_examples, examined)


# Minari's layout

STEP_KEYS = ("actions", "rewards", "terminations", "truncations")
PARTS = {
    "flat": ("observations",),
    "antmaze": ("observations/observation", "observations/achieved_goal", "observations/desired_goal"),
    "kitchen": ("observations/observation",),
}
TASKS = {
    "flat": get_task("pointmaze-umaze"),
    "antmaze": get_task("antmaze-umaze-v0"),
    "kitchen": get_task("kitchen-mixed-v0"),
}
GOAL = [0.0] * 11 + [-0.88, -0.01, 0, 0, 0, 0, -0.69, -0.05, 0, 0, 0, -0.75, -0.23, 0.75, 1.62, 0.99, 0, 0, -0.06]
"""Kitchen's bottom burner, light switch, microwave and kettle."""


@dataclass(frozen=True)
class MinariExample:
    layout: str
    lengths: list[int]
    seed: int
    felt: int
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
metadata_changes = st.one_of(
    st.just({}),
    st.dictionaries(st.sampled_from([*METADATA_KEYS, "env_spec"]), json_values, max_size=1),
    st.fixed_dictionaries({"env_spec": specs}),
    st.fixed_dictionaries({"environment": environments}),
    st.fixed_dictionaries({"description": st.sampled_from(["a\nb" * 9, "x" * 10**6, "\ud800"])}),
)


@st.composite
def minari_examples(draw: st.DrawFn) -> MinariExample:
    layout = draw(st.sampled_from(list(PARTS)))
    lengths = draw(st.lists(st.integers(0, 4), max_size=4))
    number = st.integers(0, max(0, len(lengths) - 1))
    keys = wrong_keys((*STEP_KEYS, *PARTS[layout], "observations"))
    return MinariExample(
        layout,
        lengths,
        draw(st.integers(0, 99)),
        draw(st.sampled_from([27, 27, 105])),
        draw(st.lists(st.tuples(number, keys), max_size=2)),
        draw(
            st.one_of(
                st.just([]),
                st.just([]),
                number.flatmap(lambda at: st.sampled_from(other_episodes(at)).map(lambda change: [change])),
            )
        ),
        draw(metadata_changes),
        draw(st.sampled_from([None] * 9 + ["", "{", "[]", "\0", "[" * 5000])),
        draw(shares),
    )


def write_minari(folder: Path, example: MinariExample) -> None:
    (folder / "data").mkdir(parents=True)
    random = np.random.default_rng(example.seed)
    sizes = {"flat": (4, 2), "antmaze": (example.felt, 8), "kitchen": (59, 9)}
    size, action_size = sizes[example.layout]
    path = folder / "data" / "main_data.hdf5"
    with h5py.File(path, "w") as file:
        for number, steps in enumerate(example.lengths):
            group = file.create_group(f"episode_{number}")
            group["actions"] = random.uniform(-1, 1, (steps, action_size))
            group["rewards"] = random.integers(0, 2, steps).astype(np.float64)
            group["terminations"], group["truncations"] = random.random((2, steps)) < 0.2
            for part in PARTS[example.layout]:
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
    if isinstance(group["observations"], h5py.Dataset):
        parts = [np.asarray(group["observations"][()])]
    else:
        felt = np.asarray(group["observations/observation"][()])
        parts = {
            "flat": list,
            "antmaze": lambda: [np.asarray(group["observations/achieved_goal"][()]), felt[:, :27]],
            "kitchen": lambda: [felt[:, :9], felt[:, 18:39], np.array([GOAL] * len(felt))],
        }[layout]()
    steps = len(columns["rewards"])
    if any(array.dtype.kind not in "biuf" for array in (*columns.values(), *parts)):
        return None
    if any(len(column) != steps for column in columns.values()) or any(len(part) != steps + 1 for part in parts):
        return None
    seen = np.hstack(parts).astype(np.float32)
    actions = columns["actions"].astype(np.float32)
    rewards, flags = columns["rewards"].reshape(steps).astype(np.float32), columns["terminations"].reshape(steps)
    columns["truncations"].reshape(steps)
    rows: list[Row] = []
    for step in range(steps):
        done = flags[step] != 0 or (layout == "antmaze" and rewards[step] == 1)
        numbers = np.concatenate((seen[step], seen[step + 1], actions[step], rewards[step : step + 1]))
        if not np.isfinite(numbers).all() or not np.isfinite(flags[step]) or (abs(actions[step]) > 1.00002).any():
            return None
        action = np.clip(actions[step], -1, 1).tolist()
        rows.append((seen[step].tolist(), action, seen[step + 1].tolist(), float(rewards[step]), float(done)))
        if layout == "antmaze" and rewards[step] == 1:
            break
    return rows


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_minari_datasets(folder: Path) -> None:
    def examined(example: MinariExample) -> str:
        task = TASKS[example.layout]
        dataset_id = f"made/{uuid.uuid4().hex}-v0"
        task = replace(task, local_id=dataset_id, minari_ids=(dataset_id,))
        place = minari_folder(dataset_id)
        write_minari(place, example)
        source = "local" if example.layout == "flat" else "minari"
        return outcome(lambda: load_dataset(task, source), lambda: minari_reference(place, example.layout))

    examine("Minari's layout", minari_examples(), examined)
