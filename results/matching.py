"""Runs of a ledger by what they are: those of a config, whoever asked for them."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from erdp_core.config import resolve
from erdp_core.errors import ConfigError
from erdp_core.hyperparameters import offline_choice
from erdp_core.tasks import TASKS
from orchestration.ledger import Ledger, Record, RunFolder, config_of
from results.estimators import run_score

SOURCES = ("d4rl", "minari", "local", "file")
"""Which data count where runs of several could be a cell: as many seeds as possible, then this order."""


@dataclass(frozen=True)
class Origin:
    """Which data a run was trained on, and where it was evaluated."""

    source: str
    environment: str
    fingerprint: str


@dataclass(frozen=True)
class FinishedRun:
    """A finished run and its record."""

    folder: RunFolder
    record: Record

    @property
    def origin(self) -> Origin:
        """Its data and environment."""
        record = self.record
        return Origin(record["source"], record["environment"]["name"], record["dataset"]["fingerprint"])

    @property
    def is_comparable(self) -> bool:
        """Whether the paper's numbers may stand beside its score: D4RL's data, its environment, the paper's setting."""
        task = self.record["task"]
        return (
            task in TASKS
            and self.origin.source == "d4rl"
            and self.origin.environment == TASKS[task].environment.name
            and self.record["profile"] == "paper"
        )

    @cached_property
    def evaluations(self) -> list[Record]:
        """One record an evaluation, by step."""
        return self.folder.evaluations()

    @cached_property
    def training(self) -> list[Record]:
        """One record an interval, by step."""
        return self.folder.training()

    def score(self, protocol: str) -> float | None:
        """Its score under a protocol; None where its evaluations cannot be read."""
        scores = [line["score"] for line in self.evaluations]
        if not scores or not all(math.isfinite(score) for score in scores):
            return None
        losses = {line["step"]: line["losses"].get("diffusion_loss") for line in self.training}
        of_evaluations = [losses.get(line["step"]) for line in self.evaluations]
        has_losses = any(loss is not None for loss in of_evaluations)
        task = TASKS.get(self.record["task"])
        return run_score(
            scores,
            protocol,
            [math.nan if loss is None else loss for loss in of_evaluations] if has_losses else None,
            offline_choice(self.record["method"], task) if task else None,
        )


@dataclass
class RunsByConfig:
    """Finished runs, by task, method and config."""

    _runs: dict[tuple[str, str, str], list[FinishedRun]] = field(default_factory=dict)
    tasks: dict[str, None] = field(default_factory=dict)
    """Every task that has a finished run, in order of the runs' ids."""

    @staticmethod
    def of(ledger: Ledger) -> "RunsByConfig":
        """What a ledger has finished. Raises LedgerError where a record is damaged."""
        found = RunsByConfig()
        for folder in ledger.runs():
            if folder.status == "finished":
                record = folder.record()
                key = record["task"], record["method"], _key(config_of(record))
                found._runs.setdefault(key, []).append(FinishedRun(folder, record))
                found.tasks[record["task"]] = None
        return found

    def cell(self, task: str, method: str, profile: str, settings: Sequence[str]) -> list[FinishedRun]:
        """The runs that a cell could be made of, of any data."""
        if task not in TASKS:
            return []
        try:
            config = resolve(TASKS[task], method, profile, settings)
        except ConfigError:
            return []
        return self._runs.get((task, method, _key(config.to_dict())), [])


def best_origin(runs: Iterable[FinishedRun]) -> Origin | None:
    """The data and environment that most of the runs share; None where there is no run."""
    counts: dict[Origin, int] = {}
    for run in runs:
        counts[run.origin] = counts.get(run.origin, 0) + 1
    if not counts:
        return None
    return max(counts, key=lambda origin: (counts[origin], -_rank(origin.source)))


def _rank(source: str) -> int:
    return SOURCES.index(source) if source in SOURCES else len(SOURCES)


def _key(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)
