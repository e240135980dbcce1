"""From a table's name to the runs it needs."""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erdp_core.agent_configs import ALGORITHM_VERSIONS
from erdp_core.config import RunConfig, resolve, structure
from erdp_core.data.load import load_dataset
from erdp_core.errors import ConfigError, DataError, MissingDataError
from erdp_core.tasks import EnvironmentSpec, Task, get_task
from orchestration.ledger import FORMAT, Ledger, LedgerError, Record, config_of


@dataclass(frozen=True)
class Run:
    """One training: task, data, method, config, seed."""

    task: Task
    source: str
    environment: EnvironmentSpec
    dataset: Mapping[str, Any]
    """fingerprint, path, rows, notes, observation_size, action_size"""
    method: str
    profile: str
    config: RunConfig
    seed: int
    column: str = ""
    """Of the ablation that asked for it, where it has a name of its own: for people, no part of what the run is."""

    @property
    def identity(self) -> Record:
        """What determines the result, and nothing else."""
        task, config = self.task, self.config.to_dict()
        precision = config["trainer"].pop("precision")
        return {
            "task": task.name,
            "rewards": {
                "shift": task.reward_shift,
                "scale": task.reward_scale,
                "standardise": task.standardise_rewards,
            },
            "reference_scores": [task.reference_min, task.reference_max],
            "step_limit": task.step_limit,
            "source": self.source,
            "environment": self.environment.to_dict(),
            "fingerprint": self.dataset["fingerprint"],
            "method": self.method,
            "config": config,
            "seed": self.seed,
            "precision": precision,
            "algorithm_version": ALGORITHM_VERSIONS[self.method],
        }

    @property
    def run_id(self) -> str:
        """Readable, and unique by a hash of the identity."""
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:12]
        return f"{self.task.name}.{self.method}.seed{self.seed}.{digest}"

    def record(self) -> Record:
        """What the ledger keeps of the run, less what only the worker knows (versions)."""
        paper = resolve(self.task, self.method, "paper")
        return {
            "format": FORMAT,
            "run_id": self.run_id,
            **self.identity,
            "definition": self.task.to_dict(),
            "dataset": dict(self.dataset),
            "profile": self.profile,
            "paper_config": paper.to_dict(),
        }

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> "Run":
        """The inverse of `record`. Raises LedgerError where this version would give the run another id."""
        try:
            run = Run(
                Task.from_dict(record["definition"]),
                record["source"],
                EnvironmentSpec(**record["environment"]),
                record["dataset"],
                record["method"],
                record["profile"],
                RunConfig.from_dict(config_of(record)),
                record["seed"],
            )
            known = run.run_id == record["run_id"]
        except (KeyError, TypeError, ConfigError):
            known = False
        if not known:
            raise LedgerError(f"run {record.get('run_id')} was made by another version: train it anew")
        return run

    @property
    def pack_key(self) -> str:
        """What the runs of a pack share."""
        shared = {**self.identity, "config": structure(self.config)}
        del shared["seed"]
        return json.dumps(shared, sort_keys=True)


@dataclass(frozen=True)
class Column:
    """One column of a table: a method, with settings of its own beside the plan's."""

    label: str
    method: str
    settings: tuple[str, ...] = ()
    """`agent.T=2`"""


@dataclass(frozen=True)
class Cell:
    """One seed of one table cell: a run, or the reason why there can be none."""

    task: str
    method: str
    """The column's label: the method itself, but in an ablation."""
    seed: int
    config: RunConfig
    run: Run | None
    gap: str | None = None


@dataclass(frozen=True)
class Plan:
    """The runs that a table needs."""

    table: str
    profile: str
    source: str
    protocol: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: tuple[str, ...]
    cells: tuple[Cell, ...]
    columns: tuple[Column, ...] = ()
    """Of an ablation; none where each column is a method."""

    @property
    def name(self) -> str:
        """`table-profile`, with a hash of the request: another request never replaces this one's table."""
        request = [self.source, self.protocol, self.tasks, self.methods, self.seeds, self.settings]
        request.append([[cell.run.source, cell.run.environment.to_dict()] for cell in self.cells if cell.run])
        if self.columns:
            request.append([[one.label, one.method, one.settings] for one in self.columns])
        digest = hashlib.sha256(json.dumps(request).encode()).hexdigest()[:6]
        return f"{self.table}-{self.profile}-{digest}"

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every run, in the table's order."""
        return tuple(cell.run for cell in self.cells if cell.run)

    @property
    def runs_without_data(self) -> tuple[Run, ...]:
        """What the gaps would be, for their cost to be estimated: sizes are the environments', the data unknown."""
        from erdp_core.environments.make import environment_sizes  # slow to import

        found = []
        for cell in self.cells:
            if cell.run is None:
                task = get_task(cell.task)
                observation_size, action_size = environment_sizes(task.environment)
                facts = {"fingerprint": "", "observation_size": observation_size, "action_size": action_size}
                found.append(
                    Run(task, "none", task.environment, facts, cell.config.method, self.profile, cell.config, cell.seed)
                )
        return tuple(found)

    @property
    def gaps(self) -> tuple[str, ...]:
        """Why cells are missing, one line each."""
        return tuple(dict.fromkeys(cell.gap for cell in self.cells if cell.gap))

    def record(self) -> Record:
        """What the ledger keeps, for tables to be drawn from."""
        columns = [{"label": one.label, "method": one.method, "settings": list(one.settings)} for one in self.columns]
        return {
            **({"columns": columns} if columns else {}),
            "name": self.name,
            "table": self.table,
            "profile": self.profile,
            "source": self.source,
            "protocol": self.protocol,
            "tasks": list(self.tasks),
            "methods": list(self.methods),
            "seeds": list(self.seeds),
            "settings": list(self.settings),
            "cells": [
                {
                    "task": cell.task,
                    "method": cell.method,
                    "seed": cell.seed,
                    "run_id": cell.run.run_id if cell.run else None,
                    "gap": cell.gap,
                }
                for cell in self.cells
            ],
        }


def make_plan(
    table: str,
    *,
    profile: str,
    source: str,
    protocol: str,
    tasks: Sequence[str],
    methods: Sequence[str] = (),
    seeds: Sequence[int],
    columns: Sequence[Column] = (),
    settings: Sequence[str] = (),
    files: Mapping[str, Path] | None = None,
    environments: Mapping[str, EnvironmentSpec] | None = None,
) -> Plan:
    """The plan of a table, its data looked up; what cannot run for lack of data becomes a gap.

    columns: in place of methods, for an ablation. files: data in D4RL's layout that take the place of a task's own.
    environments: where a task is evaluated, wherever its data were recorded.

    Raises ConfigError for bad settings and DataError for data that are there but bad, before anything is trained.
    """
    chosen = columns or [Column(method, method) for method in methods]
    labels = tuple(column.label for column in chosen)
    configs = {(task, column.label): _resolved(task, column, profile, settings) for task in tasks for column in chosen}
    cells: list[Cell] = []
    for task in tasks:
        try:
            dataset = load_dataset(get_task(task), source, (files or {}).get(task), (environments or {}).get(task))
        except MissingDataError as error:
            cells += [
                Cell(task, label, seed, configs[task, label], None, str(error)) for label in labels for seed in seeds
            ]
            continue
        except DataError as error:
            raise DataError(f"{task}: {error}") from None
        facts = {
            "fingerprint": dataset.fingerprint,
            "path": dataset.path,
            "rows": len(dataset.transitions),
            "notes": list(dataset.notes),
            "observation_size": dataset.transitions.observations.shape[1],
            "action_size": dataset.transitions.actions.shape[1],
        }
        for label, seed in itertools.product(labels, seeds):
            config = configs[task, label]
            where = get_task(task), dataset.source, dataset.environment, facts
            run = Run(*where, config.method, profile, config, seed, label if columns else "")
            cells.append(Cell(task, label, seed, config, run))
    return Plan(
        table, profile, source, protocol, tuple(tasks), labels, tuple(seeds), tuple(settings), tuple(cells),
        tuple(columns),
    )  # fmt: skip


def _resolved(task: str, column: Column, profile: str, settings: Sequence[str]) -> RunConfig:
    try:
        return resolve(get_task(task), column.method, profile, (*settings, *column.settings))
    except ConfigError as error:
        if column.label == column.method:
            raise
        raise ConfigError(f"column {column.label!r}: {error}") from None


def missing_runs(plan: Plan, ledger: Ledger) -> list[Run]:
    """The plan's runs that are neither finished nor failed for good."""
    runs = {run.run_id: run for run in plan.runs}
    return [run for run_id, run in runs.items() if ledger.run(run_id).status in ("planned", "started")]
