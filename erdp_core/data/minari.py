"""Local Minari datasets (https://minari.farama.org), read episode by episode. Nothing here touches the network.

Observations that are dictionaries become D4RL's vectors. AntMaze's 29 numbers are the place and what the ant feels of
itself; the goal is left out, and so are contact forces. Its episodes go on after success, and go on to be rewarded:
they are cut at the first success, where D4RL's task ends. A success is a reward of 1, whatever else a dataset says of
successes, since learning sees nothing but rewards; all others must be 0. Kitchen's 60 numbers are the robot's joints,
the objects, and D4RL's goal, which Minari's data do not have in this form.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from erdp_core.command_line import user_path
from erdp_core.data.d4rl import first_line, float32, numeric_key, opened, plain, told
from erdp_core.data.transitions import Floats, Reading, Transitions
from erdp_core.data.validation import check_finite, clip_actions
from erdp_core.errors import DataError


@dataclass(frozen=True)
class Layout:
    """How a dataset's observations become vectors. Those that are vectors already stay as they are."""

    name: str
    """`flat`; `antmaze`: [place 2, observation[:27]]; `kitchen`: [observation[0:9], observation[18:39], goal 30]"""
    goal: tuple[float, ...] = ()
    """Kitchen's 30 numbers."""


FLAT, ANTMAZE = Layout("flat"), Layout("antmaze")
ANT_SIZES = (27, 105)
"""Numbers that the ant feels of itself: without contact forces, and with their 78."""
KITCHEN_SIZES = (59,)
"""Robot's joints 9, their speeds 9, objects 21, their speeds 20."""


def minari_root() -> Path:
    """Where Minari keeps datasets: `$MINARI_DATASETS_PATH`, or `~/.minari/datasets`."""
    root = os.environ.get("MINARI_DATASETS_PATH")
    return Path(root).absolute() if root else user_path("~/.minari/datasets")


def minari_folder(dataset_id: str) -> Path:
    """The folder of a local dataset, there or not."""
    return minari_root() / dataset_id


def minari_files(folder: Path) -> tuple[Path, Path]:
    """What a dataset consists of: its data, and what it says of itself."""
    return folder / "data" / "main_data.hdf5", folder / "data" / "metadata.json"


def minari_attributes(folder: Path) -> dict[str, Any]:
    """What a dataset's metadata say of where it was recorded: see `read_minari`, which raises the same errors."""
    return _attributes(folder, _metadata(folder))


def minari_steps(folder: Path) -> int:
    """How many steps a dataset says it has. Raises DataError where it does not say."""
    steps = _metadata(folder).get("total_steps")
    if not isinstance(steps, int):
        raise DataError(f"{folder}: its metadata do not say how many steps it has")
    return steps


def read_minari(*folders: Path, layout: Layout = FLAT) -> Reading:
    """Read local datasets as one, episode after episode.

    An episode of T actions has T + 1 observations, so no step is lost; s' is terminal where `terminations` is set, in
    whatever row of the episode. The reading's attributes are what the datasets' metadata have of `environment`,
    `evaluation_goal` (as in D4RL's files) and `env_spec` (Minari's own, here {name, options}); its notes are what was
    repaired and what the datasets say of themselves.

    The parts raise DataError, in one line, for a dataset that is missing, damaged, incomplete or empty, has values that
    are not finite, actions outside [-1, 1] or AntMaze rewards other than 0 and 1, or whose observations are not in the
    layout; and for datasets of different environments or sizes.
    """
    attributes: dict[str, Any] = {}
    notes: list[str] = []
    return Reading(_parts(folders, layout, attributes, notes), attributes, notes)


def _parts(
    folders: Sequence[Path], layout: Layout, attributes: dict[str, Any], notes: list[str]
) -> Iterator[Transitions]:
    sizes: set[tuple[int, int]] = set()
    for folder in folders:
        metadata = _metadata(folder)
        recorded = _attributes(folder, metadata)
        if folder == folders[0]:
            attributes.update(recorded)
        elif recorded != attributes:
            raise DataError(f"{folder} and {folders[0]} were not recorded in the same environment: do not combine them")
        with opened(minari_files(folder)[0]) as file:
            for part in _dataset_parts(folder, file, metadata, layout, notes):
                sizes.add((part.observations.shape[1], part.actions.shape[1]))
                if len(sizes) > 1:
                    raise DataError(f"{folder}: observations and actions are not of one size: {sorted(sizes)}")
                yield part
        if metadata.get("description"):
            notes.append(str(plain(metadata["description"])))


@dataclass(frozen=True)
class _Episode:
    """One episode but for its observations: the L steps that are kept, and how many were recorded."""

    group: "h5py.Group"
    where: Path
    """The group, as errors call it."""
    recorded: int
    rewards: Floats
    """[L]"""
    terminations: npt.NDArray[np.bool_]
    """[L]"""
    actions: Floats
    """[L, A]"""


def _dataset_parts(
    folder: Path, file: "h5py.File", metadata: Mapping[str, Any], layout: Layout, notes: list[str]
) -> Iterator[Transitions]:
    """A dataset's transitions, an episode at a time.

    All but the observations is read first, so that what is wrong with it is told of the dataset as a whole.
    """
    episodes = [_episode(folder, group, layout) for group in _groups(folder, file, metadata)]
    steps = sum(episode.recorded for episode in episodes)
    if metadata.get("total_steps") != steps:
        notes.append(f"{folder.name} says that it has {plain(metadata.get('total_steps'))} steps: it has {steps}")
    if not steps:
        raise DataError(f"{folder}: no transition in it")
    if len({episode.actions.shape[1] for episode in episodes}) > 1:
        raise DataError(f"{folder}: actions are not of one size")
    rewards = np.concatenate([episode.rewards for episode in episodes])
    actions = np.concatenate([episode.actions for episode in episodes])
    check_finite(folder, {"actions": actions, "rewards": rewards})
    other = int((~np.isin(rewards, (0, 1))).sum()) if layout == ANTMAZE else 0
    if other:  # on another scale, or dense: where the task ends cannot be told from them
        raise DataError(f"{folder}: AntMaze's rewards are 0, and 1 for success: {other} of {len(rewards)} are not")
    actions, remarks = clip_actions(folder, actions)
    notes += remarks
    start = 0
    for episode in episodes:
        rows = slice(start, start + len(episode.rewards))
        start = rows.stop
        observations = _observations(episode, layout)[: len(episode.rewards) + 1]
        check_finite(episode.where, {"observations": observations})
        yield Transitions(
            observations=observations[:-1],
            actions=actions[rows],
            next_observations=observations[1:],
            rewards=rewards[rows],
            terminals=episode.terminations.astype(np.float32),
        )


def _groups(folder: Path, file: "h5py.File", metadata: Mapping[str, Any]) -> "list[h5py.Group]":
    """A dataset's episodes, in order; DataError where they are not those that its metadata tell of."""
    there = sum(str(name).startswith("episode_") for name in file)
    groups = [file.get(f"episode_{number}") for number in range(there)]
    whole = all(isinstance(group, h5py.Group) and group.file.filename == file.filename for group in groups)
    expected = metadata.get("total_episodes")
    if expected != there or not whole:
        raise _damaged(folder, f"it should have {plain(expected)} episodes, numbered from 0: {there} are there")
    return groups


def _episode(folder: Path, group: "h5py.Group", layout: Layout) -> _Episode:
    where = minari_files(folder)[0] / group.name.strip("/")
    keys = {key: numeric_key(where, group, key, 1) for key in ("rewards", "terminations", "truncations")}
    keys["actions"] = numeric_key(where, group, "actions", 2)
    steps = len(keys["rewards"])
    for key, dataset in keys.items():
        _check_length(where, key, len(dataset), steps, steps)
    rewards, actions = _float32(keys["rewards"]).reshape(-1), _float32(keys["actions"])
    successes = np.flatnonzero(rewards == 1)
    ended = layout == ANTMAZE and len(successes) > 0
    kept = int(successes[0]) + 1 if ended else steps
    flags = keys["terminations"][()].reshape(-1)[:kept]
    check_finite(where, {"terminations": flags})
    terminations = flags != 0
    if ended:
        terminations[-1] = True
    return _Episode(group, where, steps, rewards[:kept], terminations, actions[:kept])


def _observations(episode: _Episode, layout: Layout) -> Floats:
    """An episode's observations as vectors, [T + 1, O]."""
    found, where = episode.group.get("observations"), episode.where
    columns: list[Floats] = []
    if not isinstance(found, h5py.Group):
        columns.append(_float32(numeric_key(where, episode.group, "observations", 2)))
    elif layout.name == "flat":
        raise DataError(f"{where}: its observations are not flat vectors but of parts: {told(found)}")
    else:
        felt = _float32(numeric_key(where, episode.group, "observations/observation", 2))
        expected = ANT_SIZES if layout == ANTMAZE else KITCHEN_SIZES
        if felt.shape[1] not in expected:
            raise DataError(f"{where}: observations of size {felt.shape[1]}, not {' or '.join(map(str, expected))}")
        if layout == ANTMAZE:
            place = _float32(numeric_key(where, episode.group, "observations/achieved_goal", 2))
            if place.shape[1] != 2:
                raise DataError(f"{where}: achieved_goal of size {place.shape[1]}, not 2")
            columns += [place, felt[:, : ANT_SIZES[0]]]
        else:
            columns += [felt[:, 0:9], felt[:, 18:39], np.tile(np.array(layout.goal, np.float32), (len(felt), 1))]
    for column in columns:
        _check_length(where, "observations", len(column), episode.recorded + 1, episode.recorded)
    return np.concatenate(columns, axis=1)


def _check_length(where: Path, key: str, length: int, expected: int, steps: int) -> None:
    if length != expected:
        raise DataError(f"{where}: {steps} rewards but {length} {key}, not {expected}")


def _float32(dataset: "h5py.Dataset") -> Floats:
    return float32(dataset[()])


def _metadata(folder: Path) -> dict[str, Any]:
    if not os.path.isdir(folder / "data"):
        raise DataError(f"no Minari dataset in {folder}")
    try:
        metadata = json.loads(minari_files(folder)[1].read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(folder, f"its metadata cannot be read: {first_line(error)}") from None
    if not isinstance(metadata, dict):
        raise _damaged(folder, "its metadata are no dictionary")
    if metadata.get("data_format", "hdf5") != "hdf5":
        raise DataError(f"{folder} is stored as {plain(metadata['data_format'])}: make it with data_format='hdf5'")
    return metadata


def _attributes(folder: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    named = {name: value for name, value in metadata.items() if value is not None}
    found: dict[str, Any] = {name: plain(named[name]) for name in ("environment", "evaluation_goal") if name in named}
    if "env_spec" in named:
        found["env_spec"] = _recorded_environment(folder, named["env_spec"])
    return found


def _recorded_environment(folder: Path, text: Any) -> dict[str, Any]:
    """Name and options from a gymnasium EnvSpec as JSON."""
    try:
        spec = json.loads(text)
        options = spec["kwargs"]
        if isinstance(spec["id"], str) and isinstance(options, dict):
            return {"name": spec["id"], "options": options}
        reason = "no id and kwargs"
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = first_line(error)
    raise _damaged(folder, f"its env_spec cannot be read: {reason}")


def _damaged(folder: Path, reason: str) -> DataError:
    return DataError(f"the Minari dataset in {folder} is damaged ({reason}): delete it and get it anew")
