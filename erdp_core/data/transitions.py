"""The one form in which data live in memory, whatever file they came from."""

import hashlib
from dataclasses import dataclass

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
        for array in (self.observations, self.actions, self.next_observations, self.rewards, self.terminals):
            digest.update(np.ascontiguousarray(array, dtype=np.float32).tobytes())
        return digest.hexdigest()[:16]


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
