"""Runs that were never planned, on data that are nowhere: to be told apart, packed, estimated."""

import dataclasses
from typing import Any

from erdp_core.config import RunConfig
from erdp_core.tasks import EnvironmentSpec, get_task
from orchestration.plan import Run
from tests.small import small_config

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
