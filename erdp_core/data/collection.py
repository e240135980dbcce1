"""What collectors share: what is checked first, and how their episodes become a Minari dataset, whole or not at all."""

import errno
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer

from erdp_core.data.minari import minari_folder, minari_root
from erdp_core.data.transitions import Floats
from erdp_core.environments.maze_environment import within
from erdp_core.errors import DataError

FREE_BYTES = 64 * 2**20
"""Room on the disk that a dataset needs beyond its numbers, so that nothing else runs out of it."""
_EPISODE_BYTES = 20 * 2**10
"""What Minari's format takes for an episode, however short."""


def check_collection(dataset_id: str, name: str, *, rows: int, seed: int, overwrite: bool) -> None:
    """Before minutes of simulation, not after: whether there can be such a dataset. `name`: what an error calls it.

    Raises DataError for a number of rows below 1, a negative seed, an id that is not Minari's, where something is in
    its folder already (a dataset: unless `overwrite`), and where none can be written.
    """
    for what, value, least in (("rows", rows, 1), ("seed", seed, 0)):
        if value < least:
            raise DataError(f"{name}: {what} {value} is too small, at least {least}")
    if not re.fullmatch(r"(\w[\w-]+/)*\w[\w-]*-v\d+", dataset_id, re.ASCII):
        raise DataError(f"{dataset_id!r} is no Minari dataset id such as my-data-v0 or mine/hopper/first-v0")
    if "data" in dataset_id.split("/"):
        raise DataError(f"{dataset_id!r} would lie where Minari keeps the data of another dataset: take another id")
    folder = minari_folder(dataset_id)
    if folder.exists() and not (folder / "data").is_dir():
        raise DataError(f"{folder} is there already and no dataset: take another id than {dataset_id}")
    if folder.exists() and not overwrite:
        raise DataError(f"{folder} is there already: use --overwrite to collect {name} anew")
    with _told(folder), tempfile.TemporaryDirectory(prefix=".collecting-", dir=_root_with_room(0)):
        pass


def maze_episode(
    observations: Floats, actions: Floats, goal: tuple[float, float], success_radius: float
) -> EpisodeBuffer:
    """Rows of a walk through a maze, rewarded afterwards: reward = terminal = s' is at the goal.

    observations: [rows + 1, O], the position in the plane first; actions: [rows, A]. A walk that does not end at the
    goal is truncated.
    """
    # Judged on the rounded positions that are stored, so that the stored data agree with themselves.
    success = np.array([within(x, y, goal, success_radius) for x, y in observations[1:, :2].tolist()])
    truncations = np.zeros(len(actions), np.bool_)
    truncations[-1] = not success[-1]
    return EpisodeBuffer(
        observations=observations,
        actions=actions,
        rewards=success.astype(np.float32),
        terminations=success,
        truncations=truncations,
    )


def store_collection(
    dataset_id: str,
    episodes: Sequence[EpisodeBuffer],
    *,
    observation_size: int,
    action_space: gymnasium.Space[Any],
    algorithm: str,
    description: str,
    metadata: Mapping[str, Any] | None = None,
    environment: gymnasium.Env[Any, Any] | None = None,
) -> Path:
    """Write episodes with flat observations as the dataset; returns its folder. What was there before is replaced.

    environment: where it was recorded, if gymnasium can make that. metadata: what is to stand beside Minari's own.
    Raises DataError where the dataset cannot be written.
    """
    folder = minari_folder(dataset_id)
    columns = ("observations", "actions", "rewards", "terminations", "truncations")
    size = sum(np.asarray(getattr(episode, column)).nbytes for episode in episodes for column in columns)
    with _told(folder):
        root = _root_with_room(size + _EPISODE_BYTES * len(episodes))
        with _in_place(dataset_id, root, folder), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Minari asks for an e-mail address and an environment's spec
            dataset = minari.create_dataset_from_buffers(
                dataset_id,
                episodes,
                env=environment,
                observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (observation_size,), np.float32),
                action_space=action_space,
                algorithm_name=algorithm,
                description=description,
            )
            dataset.storage.update_metadata(dict(metadata or {}))
    return folder


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror or error}): set MINARI_DATASETS_PATH") from None


def _root_with_room(size: int) -> Path:
    """Minari's root, made where it is not there; OSError where the disk has no room for `size` bytes and some."""
    root = minari_root()
    root.mkdir(parents=True, exist_ok=True)
    # HDF5 does not survive a disk that fills while it writes: a full one must be found before.
    if shutil.disk_usage(root).free < FREE_BYTES + size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(root))
    return root


@contextmanager
def _in_place(dataset_id: str, root: Path, folder: Path) -> Iterator[None]:
    """Let Minari make the dataset in a hidden folder beside the others; rename it into its place at the end."""
    beside = Path(tempfile.mkdtemp(prefix=".collecting-", dir=root))
    try:
        with _minari_root(beside):
            yield
        for made in beside.rglob("namespace_metadata.json"):
            place = root / made.relative_to(beside)
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                os.replace(made, place)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            os.replace(folder, beside / "replaced")
        os.replace(beside / dataset_id, folder)
    finally:
        if (beside / "replaced").exists() and not folder.exists():
            os.replace(beside / "replaced", folder)
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _minari_root(root: Path) -> Iterator[None]:
    """Let Minari, which takes its root from the environment alone, write under `root`."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(root)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before
