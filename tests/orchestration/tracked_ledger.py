"""Ledgers to feed an MLflow store with, and what is then in the store."""

import functools
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from erdp_core.config import resolve
from erdp_core.tasks import get_task
from orchestration.ledger import Ledger, RunFolder
from orchestration.tracker import Tracker
from orchestration.tracking import default_uri

INTERVAL = 20
LOSSES = {"diffusion_loss": 0.5, "q_loss": -0.25, "critic_loss": 2.0}


@functools.cache
def _store_folder() -> "tempfile.TemporaryDirectory[str]":
    folder = tempfile.TemporaryDirectory()
    MlflowClient(tracking_uri=f"sqlite:///{folder.name}/mlflow.db").search_experiments()
    return folder


def copy_empty_store(path: Path) -> None:
    """An empty MLflow database; it is copied, as making one takes seconds."""
    shutil.copy(Path(_store_folder().name) / "mlflow.db", path)


def new_ledger(folder: Path) -> Ledger:
    """An empty ledger, and an empty tracker where it is looked for."""
    ledger = Ledger.open(folder / "runs", create=True)
    copy_empty_store(ledger.root / "mlflow.db")
    return ledger


def start(ledger: Ledger, seed: int, task: str = "pointmaze-umaze", settings: Sequence[str] = ()) -> RunFolder:
    config = resolve(get_task(task), "erdp", "smoke", settings).to_dict()
    run = ledger.run(f"{task}.erdp.seed{seed}.{config['agent']['alpha']}")
    run.create(
        {
            "run_id": run.run_id,
            "task": task,
            "rewards": {"shift": -0.5, "scale": 4.0, "standardise": False},
            "reference_scores": [0.0, 1.0],
            "step_limit": 60,
            "definition": get_task(task).to_dict(),
            "source": "local",
            "environment": {"name": task, "options": {"hold": 5}},
            "dataset": {"fingerprint": "f00d", "path": "/data", "rows": 10, "notes": ["collected here"]},
            "method": "erdp",
            "profile": "smoke",
            "config": config,
            "seed": seed,
            "precision": "float32",
            "algorithm_version": 1,
            "versions": {"torch": "2.13.0", "mujoco": "3.11.0"},
            "git_commit": "c0ffee",
        }
    )
    return run


def train(run: RunFolder, scores: Sequence[float]) -> None:
    """Go on by an interval for each score."""
    done = len(run.evaluations())
    for number, score in enumerate(scores, start=done + 1):
        losses = {name: value + number for name, value in LOSSES.items()}
        step = number * INTERVAL
        run.append_training({"step": step, "seconds": 2.0, "steps_per_second": 10.0, "losses": losses})
        single = {"score": score / 2, "returns": [score / 200]}
        run.append_evaluation(
            {"step": step, "score": score, "returns": [score / 100], "seconds": 1.0, "one_candidate": single}
        )


def plan(ledger: Ledger, name: str, runs: Sequence[RunFolder]) -> None:
    cells = [{"run_id": run.run_id, "gap": None} for run in runs]
    ledger.write_plan(name, {"table": "pointmaze", "cells": [*cells, {"run_id": None, "gap": "no data"}]})


def client_of(ledger: Ledger) -> MlflowClient:
    return MlflowClient(tracking_uri=default_uri(ledger))


def sync(ledger: Ledger) -> Tracker:
    """What a driver that knows nothing of earlier ones does."""
    tracker = Tracker(ledger, default_uri(ledger))
    tracker.sync([run.run_id for run in ledger.runs()])
    return tracker


def all_runs(ledger: Ledger, experiment: str = "pointmaze") -> list[Run]:
    client = client_of(ledger)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id], max_results=1000))


def one(ledger: Ledger, **tags: str) -> Run:
    found = [run for run in all_runs(ledger) if all(run.data.tags.get(key) == tags[key] for key in tags)]
    assert len(found) == 1
    return found[0]


def child(ledger: Ledger, run: RunFolder) -> Run:
    return one(ledger, **{"erdp.run_id": run.run_id})


def parent(ledger: Ledger, run: RunFolder) -> Run:
    wanted = child(ledger, run).data.tags["mlflow.parentRunId"]
    return next(found for found in all_runs(ledger) if found.info.run_id == wanted)


def history(ledger: Ledger, run: Run, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client_of(ledger).get_metric_history(run.info.run_id, key)]


def contents(ledger: Ledger) -> list[Any]:
    """Everything the tracker has, but for ids it chose itself, of which a parent's is given by the parent's name."""
    runs = all_runs(ledger)
    names = {run.info.run_id: run.info.run_name for run in runs}
    described = []
    for run in runs:
        tags = {key: names.get(value, value) for key, value in run.data.tags.items()}
        histories = {
            key: [
                (point.step, point.value, point.timestamp)
                for point in client_of(ledger).get_metric_history(run.info.run_id, key)
            ]
            for key in run.data.metrics
        }
        info = run.info
        times = [info.start_time, info.end_time]
        described.append([info.run_name, info.status, times, run.data.params, tags, histories])
    return sorted(described, key=json.dumps)
