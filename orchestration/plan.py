"""From a table's name to the runs it needs, and from runs to packs that train together."""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erdp_core.config import ALGORITHM_VERSIONS, AgentConfig, ErdpConfig, RunConfig, resolve, structure
from erdp_core.data.load import load_dataset
from erdp_core.errors import ConfigError, DataError, MissingDataError
from erdp_core.tasks import EnvironmentSpec, Task, get_task
from orchestration.ledger import FORMAT, Ledger, LedgerError, Record

STEP_OVERHEAD = 0.2
"""GFLOP that a step's fixed cost is worth on a CPU core: calls, not arithmetic. It is why runs train in packs."""


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
            config = record["config"]
            trainer = {**config["trainer"], "precision": record["precision"]}
            run = Run(
                Task.from_dict(record["definition"]),
                record["source"],
                EnvironmentSpec(**record["environment"]),
                record["dataset"],
                record["method"],
                record["profile"],
                RunConfig.from_dict({**config, "trainer": trainer}),
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
class Cell:
    """One seed of one table cell: a run, or the reason why there can be none."""

    task: str
    method: str
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

    @property
    def name(self) -> str:
        """`table-profile`, with a hash of the request: another request never replaces this one's table."""
        request = [self.source, self.protocol, self.tasks, self.methods, self.seeds, self.settings]
        request.append([[cell.run.source, cell.run.environment.to_dict()] for cell in self.cells if cell.run])
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
                    Run(task, "none", task.environment, facts, cell.method, self.profile, cell.config, cell.seed)
                )
        return tuple(found)

    @property
    def gaps(self) -> tuple[str, ...]:
        """Why cells are missing, one line each."""
        return tuple(dict.fromkeys(cell.gap for cell in self.cells if cell.gap))

    def record(self) -> Record:
        """What the ledger keeps, for tables to be drawn from."""
        return {
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
    methods: Sequence[str],
    seeds: Sequence[int],
    settings: Sequence[str] = (),
    files: Mapping[str, Path] | None = None,
    environments: Mapping[str, EnvironmentSpec] | None = None,
) -> Plan:
    """The plan of a table, its data looked up; what cannot run for lack of data becomes a gap.

    files: data in D4RL's layout that take the place of a task's own. environments: where a task is evaluated, wherever
    its data were recorded.

    Raises ConfigError for bad settings and DataError for data that are there but bad, before anything is trained.
    """
    configs = {
        (task, method): resolve(get_task(task), method, profile, settings) for task in tasks for method in methods
    }
    cells: list[Cell] = []
    for task in tasks:
        try:
            dataset = load_dataset(get_task(task), source, (files or {}).get(task), (environments or {}).get(task))
        except MissingDataError as error:
            cells += [
                Cell(task, method, seed, configs[task, method], None, str(error))
                for method in methods
                for seed in seeds
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
        for method, seed in itertools.product(methods, seeds):
            config = configs[task, method]
            run = Run(get_task(task), dataset.source, dataset.environment, facts, method, profile, config, seed)
            cells.append(Cell(task, method, seed, config, run))
    return Plan(
        table, profile, source, protocol, tuple(tasks), tuple(methods), tuple(seeds), tuple(settings), tuple(cells)
    )


@dataclass(frozen=True)
class Pack:
    """Runs that one process trains together."""

    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """For people: task, method, seeds."""
        seeds = ",".join(str(run.seed) for run in self.runs)
        return f"{self.runs[0].task.name} {self.runs[0].method} seed{'s' if len(self.runs) > 1 else ''} {seeds}"

    @property
    def step_gflop(self) -> float:
        """Arithmetic of one step in GFLOP, with what a step takes however few its runs are."""
        return STEP_OVERHEAD + sum(_step_gflop(run) for run in self.runs)

    @property
    def cost(self) -> float:
        """The pack's training, in GFLOP."""
        return self.step_gflop * self.runs[0].config.trainer.steps


def step_work(run: Run) -> float:
    """What a step of one run costs beside that of others, as if it were alone in its pack."""
    return STEP_OVERHEAD + _step_gflop(run)


def _step_gflop(run: Run) -> float:
    return step_gflop(run.config.agent, run.dataset["observation_size"], run.dataset["action_size"])


def step_gflop(agent: AgentConfig, observation: int, action: int) -> float:
    """Arithmetic of one training step of one run in GFLOP: its matrix products, a backward pass counting double.

    observation, action: sizes of an observation and an action.
    """
    hidden = (agent.layers - 1) * agent.width**2
    actor = 2 * agent.batch_size * ((observation + action + 16) * agent.width + hidden + agent.width * action) / 1e9
    total: float = 3 * actor
    if isinstance(agent, ErdpConfig):
        products = (observation + action) * agent.width + hidden + agent.width
        critic = 2 * agent.batch_size * agent.M * products / 1e9
        next_actions = agent.max_q_actions if agent.max_q_backup else 1
        # Target: the chain and the target critics on each next action; critics: forward and backward; actor's step:
        # forward, and backward to the actions alone.
        total += next_actions * (agent.T * actor + critic) + 3 * critic + 2 * critic
    return total


def missing_runs(plan: Plan, ledger: Ledger) -> list[Run]:
    """The plan's runs that are neither finished nor failed for good."""
    runs = {run.run_id: run for run in plan.runs}
    return [run for run_id, run in runs.items() if ledger.run(run_id).status in ("planned", "started")]


def make_packs(runs: Sequence[Run], ledger: Ledger, slots: int) -> list[Pack]:
    """Packs of runs that share everything structural and a step to go on from, the most work first.

    Packs are split where that evens the slots' work out by more than it costs. A run ahead of its companions rolls back
    to a step of theirs only where it still has that step's checkpoint.
    """
    if not runs:
        return []
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.pack_key, []).append(run)
    together = [cluster for group in groups.values() for cluster in _at_common_step(group, ledger)]
    candidates = [_split(together, limit) for limit in range(max(len(cluster) for cluster in together), 0, -1)]
    # The largest packs whose longest slot is within a twentieth of the best.
    best = min(_longest_slot(packs, slots) for packs in candidates)
    return next(packs for packs in candidates if _longest_slot(packs, slots) <= 1.05 * best)


def _at_common_step(group: Sequence[Run], ledger: Ledger) -> list[list[Run]]:
    steps = {run.run_id: set(ledger.run(run.run_id).checkpoints.steps()) for run in group}
    by_newest: dict[int, list[Run]] = {}
    for run in group:
        by_newest.setdefault(max(steps[run.run_id], default=0), []).append(run)
    clusters: list[tuple[int, list[Run]]] = []
    for newest in sorted(by_newest, reverse=True):
        members = by_newest[newest]
        if newest > 0 and clusters and all(newest in steps[run.run_id] for run in clusters[-1][1]):
            members = clusters.pop()[1] + members
        clusters.append((newest, members))
    return [members for _, members in clusters]


def _split(clusters: Sequence[Sequence[Run]], limit: int) -> list[Pack]:
    packs = []
    for cluster in clusters:
        count = -(-len(cluster) // limit)
        size, extra = divmod(len(cluster), count)
        start = 0
        for index in range(count):
            end = start + size + (index < extra)
            packs.append(Pack(tuple(cluster[start:end])))
            start = end
    return sorted(packs, key=lambda pack: -pack.cost)


def _longest_slot(packs: Sequence[Pack], slots: int) -> float:
    """Work of the busiest slot when each pack goes to the first that is free."""
    loads = [0.0] * max(1, slots)
    for pack in packs:
        loads[loads.index(min(loads))] += pack.cost
    return max(loads)
