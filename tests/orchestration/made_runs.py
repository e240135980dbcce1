"""Runs that were never planned, on data that are nowhere; and planned ones that train in moments."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py

from erdp_core.config import RunConfig
from erdp_core.data.transitions import Transitions
from erdp_core.tasks import EnvironmentSpec, get_task
from orchestration.plan import Run, make_plan
from tests.small import SMALL, small_config, transitions

DATASET = {
    "fingerprint": "0" * 16,
    "path": "/data.hdf5",
    "rows": 80,
    "notes": [],
    "observation_size": 4,
    "action_size": 2,
}


def made_run(seed: int = 0, config: RunConfig | None = None, **changes: Any) -> Run:
    config = config or small_config()
    run = Run(
        get_task("pointmaze-umaze"),
        "local",
        EnvironmentSpec("pointmaze-umaze", {}),
        DATASET,
        config.method,
        "smoke",
        config,
        seed,
    )
    return dataclasses.replace(run, **changes)


def write_data(path: Path, data: Transitions) -> None:
    """In D4RL's layout."""
    with h5py.File(path, "w") as file:
        for name in ("observations", "actions", "rewards", "terminals"):
            file[name] = getattr(data, name)


def planned_runs(folder: Path, seeds: Iterable[int], settings: Sequence[str], method: str = "erdp") -> list[Run]:
    """Small runs on `transitions()`, which are written into a folder."""
    write_data(folder / "data.hdf5", transitions())
    plan = make_plan(
        "pointmaze",
        profile="smoke",
        source="auto",
        protocol="paper",
        tasks=["pointmaze-umaze"],
        methods=[method],
        seeds=list(seeds),
        settings=(*SMALL, *settings),
        files={"pointmaze-umaze": folder / "data.hdf5"},
    )
    return list(plan.runs)
