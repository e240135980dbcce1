"""The threads that torch shares its work with."""

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch

_SOFT = 1
"""Of what is paused, only memory and threads are given back (OpenMP 5.0, omp_pause_soft)."""


def rest() -> None:
    """Let the threads that join this one in torch's work end; the next work that is shared begins with new ones.

    They stay awake for some 15 ms after their work, where they would take a core from threads that step environments.
    """
    pause = _pause()
    if pause is not None and torch.get_num_threads() > 1:
        pause(_SOFT)


@functools.cache
def _pause() -> Any:
    """OpenMP's omp_pause_resource_all, where torch has a runtime that knows it."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*")):
        try:
            return ctypes.CDLL(str(path)).omp_pause_resource_all
        except (OSError, AttributeError):
            continue
    return None
