"""Local Minari datasets with flat observations (https://minari.farama.org). Nothing here touches the network."""

import os
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np

from erdp_core.data.transitions import Floats, Transitions
from erdp_core.data.validation import check_finite, clip_actions
from erdp_core.errors import DataError


def minari_root() -> Path:
    """Where Minari keeps datasets: `$MINARI_DATASETS_PATH`, or `~/.minari/datasets`."""
    root = os.environ.get("MINARI_DATASETS_PATH")
    return Path(root).absolute() if root else Path.home() / ".minari" / "datasets"


def minari_folder(dataset_id: str) -> Path:
    """The folder of a local dataset, there or not."""
    return minari_root() / dataset_id


def read_minari(folder: Path) -> tuple[Transitions, tuple[str, ...]]:
    """The transitions of a local dataset, episode after episode, and notes: what it says of itself, what was repaired.

    An episode of T actions has T + 1 observations, so no step is lost; s' is terminal where `terminations` is set, in
    whatever row of the episode. Raises DataError for a dataset that is missing, damaged, empty, or not flat.
    """
    if not (folder / "data").is_dir():
        raise DataError(f"no Minari dataset in {folder}")
    columns: dict[str, list[Any]] = {name: [] for name in Transitions.__dataclass_fields__}
    try:
        dataset = minari.MinariDataset(folder / "data")
        spaces = {"observations": dataset.observation_space, "actions": dataset.action_space}
        for what, space in spaces.items():
            if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
                raise DataError(f"{folder}: its {what} are not flat vectors but {space}")
        description = dataset.storage.metadata.get("description")
        for episode in dataset.storage.get_episodes(range(dataset.total_episodes)):
            length = len(episode["rewards"])
            lengths = {"observations": length + 1, "actions": length, "terminations": length}
            for key, expected in lengths.items():
                if len(episode[key]) != expected:
                    raise DataError(
                        f"{folder}: episode {episode['id']} has {length} rewards but {len(episode[key])} {key}, "
                        f"not {expected}"
                    )
            columns["observations"].append(episode["observations"][:-1])
            columns["actions"].append(episode["actions"])
            columns["next_observations"].append(episode["observations"][1:])
            columns["rewards"].append(episode["rewards"])
            columns["terminals"].append(episode["terminations"])
        if not any(len(rewards) for rewards in columns["rewards"]):
            raise DataError(f"{folder}: no transition in it")
        arrays = {name: _column(folder, name, parts) for name, parts in columns.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}".removesuffix(": ")
        raise DataError(
            f"the Minari dataset in {folder} is damaged ({reason}): delete it, or collect it anew with --overwrite"
        ) from None
    check_finite(folder, arrays)
    arrays["actions"], notes = clip_actions(folder, arrays["actions"])
    if description:
        notes = (*notes, description)
    return Transitions(**arrays), notes


def _column(folder: Path, name: str, parts: list[Any]) -> Floats:
    """Episodes' arrays as one, float32: [N] for rewards and terminals, else [N, size]."""
    column = np.concatenate(parts)
    if column.dtype.kind not in "biuf":
        raise DataError(f"{folder}: its {name} are not numeric (they are {column.dtype})")
    dimensions = 1 if name in ("rewards", "terminals") else 2
    if column.ndim != dimensions:
        raise DataError(
            f"{folder}: its {name} have shape {column.shape}, not {'[N]' if dimensions == 1 else '[N, size]'}"
        )
    return column.astype(np.float32)
