"""Small ledgers, made through the ledger's own interface."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from erdp_core.config import resolve
from erdp_core.tasks import EnvironmentSpec, get_task
from orchestration.ledger import Ledger, RunFolder

Evaluation = float | tuple[float, float]
"""A score, or one with 50 candidates and one with a single candidate."""


@dataclass
class LedgerMaker:
    """A ledger and a plan that grow run by run."""

    ledger: Ledger
    cells: list[dict[str, Any]] = field(default_factory=list)

    def run(
        self,
        task: str,
        method: str,
        seed: int,
        evaluations: Sequence[Evaluation] = (),
        *,
        status: str = "finished",
        losses: Sequence[float] = (),
        profile: str = "quick",
        source: str = "local",
        notes: Sequence[str] = (),
        failure: Mapping[str, Any] | None = None,
        settings: Sequence[str] = (),
        environment: EnvironmentSpec | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> RunFolder:
        """A run of the plan with the evaluations given, one an interval, and the status given.

        changes: of its record.
        """
        changed = [f"{name}={value}" for name, value in (changes or {}).items()]
        distinct = "".join(f".{setting.replace('=', '-')}" for setting in (*settings, *changed))
        run_id = f"{task}.{method}.seed{seed}.{profile}{distinct}"
        self.cells.append({"task": task, "method": method, "seed": seed, "run_id": run_id, "gap": None})
        run = self.ledger.run(run_id)
        if status == "planned":
            return run
        config = resolve(get_task(task), method, profile, settings).to_dict()
        run.create(
            {
                "run_id": run_id,
                "task": task,
                "source": source,
                "environment": (environment or get_task(task).environment).to_dict(),
                "dataset": {"fingerprint": "0" * 16, "path": "data.hdf5", "rows": 1, "notes": list(notes)},
                "method": method,
                "profile": profile,
                "config": config,
                "reference_scores": [get_task(task).reference_min, get_task(task).reference_max],
                "precision": "float32",
                "algorithm_version": 1,
                "git_commit": None,
                "paper_config": resolve(get_task(task), method, "paper").to_dict(),
                "seed": seed,
                "versions": {"mujoco": "3.11.0"},
                **(changes or {}),
            }
        )
        interval = config["trainer"]["interval"]
        for index, (evaluation, loss) in enumerate(itertools.zip_longest(evaluations, losses), start=1):
            step = index * interval
            if evaluation is not None:
                run.append_evaluation(evaluation_record(step, evaluation))
            if loss is not None:
                run.append_training(
                    {"step": step, "seconds": 1.0, "steps_per_second": 1.0, "losses": {"diffusion_loss": loss}}
                )
        if status == "finished":
            run.finish({"step": config["trainer"]["steps"]})
        elif status == "failed":
            run.fail(failure or {"step": 400, "reason": "loss not finite at step 400"})
        return run

    def gap(self, task: str, method: str, seed: int, reason: str) -> None:
        """A cell for which there can be no run."""
        self.cells.append({"task": task, "method": method, "seed": seed, "run_id": None, "gap": reason})

    def plan(self, name: str = "mazes", **changes: Any) -> dict[str, Any]:
        """Write the plan of all runs so far and return its record."""

        def distinct(key: str) -> list[Any]:
            return list(dict.fromkeys(cell[key] for cell in self.cells))

        record = {
            "name": name,
            "table": "pointmaze",
            "profile": "quick",
            "source": "auto",
            "protocol": "paper",
            "tasks": distinct("task"),
            "methods": distinct("method"),
            "seeds": sorted(distinct("seed")),
            "settings": [],
            "cells": list(self.cells),
            **changes,
        }
        self.ledger.write_plan(name, record)
        return record


def evaluation_record(step: int, evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation of two episodes as the ledger keeps it."""
    score, single = evaluation if isinstance(evaluation, tuple) else (evaluation, None)
    record: dict[str, Any] = {"step": step, "score": score, "returns": [score, score], "seconds": 0.5}
    if single is not None:
        record["one_candidate"] = {"score": single, "returns": [single, single]}
    return record


@pytest.fixture
def maker(tmp_path: Path) -> LedgerMaker:
    """An empty ledger to fill."""
    return LedgerMaker(Ledger.open(tmp_path / "runs", create=True))


@pytest.fixture
def mazes(maker: LedgerMaker) -> LedgerMaker:
    """Two mazes, two methods, three seeds: a failed, an unfinished and an unstarted run, and data that are missing."""
    for seed, best in enumerate((70.0, 80.0, 90.0)):
        maker.run("pointmaze-umaze", "erdp", seed, [(10.0, 5.0), (best, best / 2), (60.0, 50.0)])
        maker.run("pointmaze-umaze", "bc-diffusion", seed, [20.0, 30.0 + seed])
    maker.run("pointmaze-medium", "erdp", 0, [(40.0, 20.0), (50.0, 30.0)], notes=["rows 3 to 5 were repaired"])
    maker.run("pointmaze-medium", "erdp", 1, [(60.0, 20.0)], notes=["rows 3 to 5 were repaired"])
    maker.run("pointmaze-medium", "erdp", 2, [(99.0, 99.0)], status="failed")
    maker.run("pointmaze-medium", "bc-diffusion", 0, [35.0])
    maker.run("pointmaze-medium", "bc-diffusion", 1, [98.0], status="started")
    maker.run("pointmaze-medium", "bc-diffusion", 2, status="planned")
    for seed in range(3):
        maker.gap("pointmaze-large", "erdp", seed, "data missing: collect them first")
        maker.run("pointmaze-large", "bc-diffusion", seed, [25.0])
    maker.plan()
    return maker


@pytest.fixture
def make_ledger(tmp_path: Path) -> Callable[[str], LedgerMaker]:
    """Ledgers under names of their own."""
    return lambda name: LedgerMaker(Ledger.open(tmp_path / name, create=True))
