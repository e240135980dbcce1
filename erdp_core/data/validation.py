"""What any data must satisfy, whatever file they come from."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from erdp_core.data.transitions import Floats, Transitions
from erdp_core.environments.make import environment_sizes
from erdp_core.errors import DataError
from erdp_core.tasks import EnvironmentSpec

ROUNDING = 1e-5
"""How far an action may lie beyond [-1, 1] and still count as rounded float32."""


def check_finite(path: Path, arrays: Mapping[str, Floats]) -> None:
    """Raise DataError that names each key with NaN or infinite values, and how many."""
    bad = {key: int((~np.isfinite(array)).sum()) for key, array in arrays.items()}
    told = ", ".join(f"{count} in {key!r}" for key, count in bad.items() if count)
    if told:
        raise DataError(f"{path}: values that are NaN or infinite: {told}")


def clip_actions(path: Path, actions: Floats) -> tuple[Floats, tuple[str, ...]]:
    """Actions within [-1, 1], and a note where rounding had put some beyond; DataError where they lie further out."""
    excess = np.abs(actions) - 1.0
    outside = int((excess > ROUNDING).sum())
    if outside:
        raise DataError(
            f"{path}: {outside} of {actions.size} action values lie outside [-1, 1] (up to {np.abs(actions).max():.4g})"
        )
    rounded = int((excess > 0).sum())
    if not rounded:
        return actions, ()
    note = f"{rounded} action values beyond [-1, 1] by less than {ROUNDING:g} were clipped"
    return np.clip(actions, -1.0, 1.0), (note,)


def check_sizes(path: Path, transitions: Transitions, environment: EnvironmentSpec) -> None:
    """Raise DataError that names both sizes where observations or actions are not the environment's."""
    found = (transitions.observations.shape[1], transitions.actions.shape[1])
    expected = environment_sizes(environment)
    for what, ours, theirs in zip(("observations", "actions"), found, expected, strict=True):
        if ours != theirs:
            raise DataError(f"{path}: {what} of size {ours}, but those of {environment.name} are of size {theirs}")
