"""The one form in which data live in memory, whatever file they came from."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from erdp_core.tasks import EnvironmentSpec

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Transitions:
    """N steps (s, a, s', r, done), float32, contiguous; rewards as recorded, before a task's transform."""

    observations: Floats
    """[N, O]"""
    actions: Floats
    """[N, A], within [-1, 1]"""
    next_observations: Floats
    """[N, O]"""
    rewards: Floats
    """[N]"""
    terminals: Floats
    """[N]: 1 where s' is terminal (its value is not backed up), else 0"""

    def __len__(self) -> int:
        return len(self.rewards)

    def fingerprint(self) -> str:
        """First 16 hex digits of the sha256 over the bytes of s, a, s', r, done, one after the other."""
        digest = hashlib.sha256()
        for name in COLUMNS:
            digest.update(np.ascontiguousarray(getattr(self, name), dtype=np.float32).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()[:16]


COLUMNS = tuple(field.name for field in fields(Transitions))
"""s, a, s', r, done: the order in which they are hashed."""


@dataclass(frozen=True)
class Reading:
    """Data on their way from a file: transitions part after part, so that they need not be in memory at once."""

    parts: Iterator[Transitions]
    """Can be gone through once. Raises DataError, in one line, where the data turn out to be bad."""
    attributes: dict[str, Any]
    """What the file says of itself, as plain values; complete once the first part is there."""
    notes: list[str]
    """What was repaired, one sentence each; complete once the last part is there."""

    def whole(self) -> Transitions:
        """All parts as one, in memory."""
        columns: dict[str, list[Floats]] = {name: [] for name in COLUMNS}
        for part in self.parts:
            for name, arrays in columns.items():
                arrays.append(getattr(part, name))
        # Column by column, so that never all data are there twice.
        return Transitions(**{name: np.concatenate(columns.pop(name)) for name in COLUMNS})


@dataclass(frozen=True)
class Dataset:
    """Transitions with what a run's record says about them."""

    transitions: Transitions
    source: str
    """d4rl | minari | local | file"""
    path: str
    fingerprint: str
    environment: EnvironmentSpec
    """Where a policy trained on these data is evaluated."""
    notes: tuple[str, ...] = ()
    """What a reader of the results should know: repairs, oddities, one sentence each."""
