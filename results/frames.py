"""A plan's runs and evaluations as pandas frames: the only reader of the ledger in this package."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from orchestration.ledger import Ledger, LedgerError, Record, RunFolder

Acting = Literal["candidates", "one candidate"]
"""`candidates`: as the method acts; `one candidate`: the policy's own sample, no choice among several."""
ACTINGS: tuple[Acting, ...] = get_args(Acting)

RUN_COLUMNS = (
    "task", "method", "seed", "run_id", "status", "gap", "algorithm", "source", "environment", "mujoco", "notes",
    "steps", "interval", "episodes", "candidates", "changes",
)  # fmt: skip
EVALUATION_COLUMNS = (
    "task", "method", "acting", "seed", "run_id", "step", "score", "standard_error", "episodes", "diffusion_loss",
)  # fmt: skip


@dataclass(frozen=True)
class PlanFrames:
    """What the ledger holds for a plan."""

    name: str
    plan: Record
    runs: pd.DataFrame
    """A row each task, method and seed of the plan, in the plan's order: RUN_COLUMNS.

    method is the column's label, which in an ablation is not the algorithm's name.

    status is the ledger's, or `missing` where the plan has no run; gap says why the run does not count and is empty
    where it does. The columns from source on describe a run that has been started; without one they are None.
    """
    evaluations: pd.DataFrame
    """A row each evaluation and way of acting of the runs that count, by step: EVALUATION_COLUMNS.

    standard_error is that of the score as an estimate of the policy's, from the spread of its episodes; NaN for a
    single one. diffusion_loss is the mean over the interval that ended at the evaluation, NaN where the method or the
    record has none.
    """

    @cached_property
    def actings(self) -> dict[str, list[Acting]]:
        """For each method of the plan, how its runs were evaluated."""
        found = {
            (str(method), str(acting))
            for method, acting in self.evaluations[["method", "acting"]].drop_duplicates().itertuples(index=False)
        }
        return {
            method: [acting for acting in ACTINGS if acting == "candidates" or (method, acting) in found]
            for method in self.plan["methods"]
        }


def read_plan(ledger: Ledger, name: str, plan: Record) -> PlanFrames:
    """Read the runs of a plan; only finished ones count and have their evaluations read into the frame."""
    runs: list[Record] = []
    evaluations: list[Record] = []
    pruned = frozenset(plan.get("pruned", ()))
    own = {column["label"]: _agent_names(column["settings"]) for column in plan.get("columns", ())}
    for cell in plan["cells"]:
        where = {"task": cell["task"], "method": cell["method"], "seed": cell["seed"], "run_id": cell["run_id"]}
        if cell["run_id"] is None:
            runs.append(where | {"status": "missing", "gap": cell["gap"] or "no run was planned"})
            continue
        run = ledger.run(cell["run_id"])
        status = run.status
        try:
            record = run.record() if status != "planned" else {}
            facts = _facts(record, own.get(cell["method"], set())) if record else {}
            lines = _evaluations(run, record["reference_scores"]) if status == "finished" else []
            gap = _gap(run, status, lines, facts, run.run_id in pruned)
        except (KeyError, TypeError, AttributeError):
            raise LedgerError(
                f"the records in {run.path} are damaged: delete the run's folder and run its table again"
            ) from None
        runs.append(where | {"status": status, "gap": gap} | facts)
        if not gap:
            evaluations.extend(where | line for line in lines)
    return PlanFrames(name, plan, _frame(runs, RUN_COLUMNS), _frame(evaluations, EVALUATION_COLUMNS))


def _frame(rows: Iterable[Record], columns: tuple[str, ...]) -> pd.DataFrame:
    frame = pd.DataFrame([[row.get(column) for column in columns] for row in rows], columns=list(columns), dtype=object)
    numbers = {
        "seed": "int64",
        "step": "int64",
        "score": "float64",
        "standard_error": "float64",
        "diffusion_loss": "float64",
    }
    if "step" in columns:
        numbers["episodes"] = "int64"
    return frame.astype({name: kind for name, kind in numbers.items() if name in columns})


def _agent_names(settings: Iterable[str]) -> set[str]:
    """Names of the agent's settings among `agent.T=2`."""
    return {setting.partition("=")[0].removeprefix("agent.") for setting in settings}


def _facts(record: Record, own: set[str]) -> dict[str, Any]:
    """What captions say about a run. own: settings that its column is about, which its label tells."""
    trainer, evaluation = record["config"]["trainer"], record["config"]["evaluation"]
    return {
        "algorithm": record["method"],
        "source": record["source"],
        "environment": record["environment"]["name"],
        "mujoco": record["versions"].get("mujoco"),
        "notes": tuple(record["dataset"]["notes"]),
        "steps": trainer["steps"],
        "interval": trainer["interval"],
        "episodes": evaluation["episodes"],
        # A method that has no such setting acts with one sample.
        "candidates": record["config"]["agent"].get("candidates", 1),
        "changes": _changes(record, own),
    }


def _changes(record: Record, own: set[str]) -> tuple[str, ...]:
    """How a run's agent differs from that of profile paper: `M 4 (64)` where it has 4 critics instead of 64."""
    paper, agent = record["paper_config"]["agent"], record["config"]["agent"]
    unused = own if agent.get("max_q_backup") else {*own, "max_q_actions"}
    return tuple(
        f"{name} {agent[name]} ({value})"
        for name, value in paper.items()
        if name in agent and agent[name] != value and name not in unused
    )


def _evaluations(run: RunFolder, reference_scores: Sequence[float]) -> list[Record]:
    """A record each evaluation of a run and each way of acting that it was evaluated with.

    reference_scores: returns of scores 0 and 100.
    """
    low, high = reference_scores
    losses = {line["step"]: line["losses"].get("diffusion_loss") for line in run.training()}
    lines: list[Record] = []
    for record in run.evaluations():
        variants: list[tuple[Acting, Record]] = [("candidates", record)]
        if "one_candidate" in record:
            variants.append(("one candidate", record["one_candidate"]))
        lines.extend(
            {
                "acting": acting,
                "step": record["step"],
                "score": variant["score"],
                "standard_error": 100 / (high - low) * _standard_error(variant["returns"]),
                "episodes": len(variant["returns"]),
                "diffusion_loss": losses.get(record["step"]),
            }
            for acting, variant in variants
        )
    return lines


def _standard_error(returns: Sequence[float]) -> float:
    """Of the mean of an evaluation's returns, NaN for a single episode."""
    if len(returns) < 2:
        return math.nan
    return float(np.std(np.asarray(returns, dtype=float), ddof=1)) / math.sqrt(len(returns))


def _gap(run: RunFolder, status: str, lines: list[Record], facts: Record, is_pruned: bool) -> str:
    """Why a run does not count, in words that follow its seed; empty where it does."""
    if status == "planned":
        return "not started"
    if status == "failed":
        failure = run.failure() or {}
        reason = " ".join(str(failure.get("reason", "no reason recorded")).split())
        step = failure.get("step")
        return f"failed: {reason}" if step is None or f"step {step}" in reason else f"failed: {reason} at step {step}"
    if status == "started":
        steps = [record["step"] for record in run.evaluations()]
        stopped = "given up" if is_pruned else "not finished:"
        return f"{stopped} at step {steps[-1] if steps else 0:,} of {facts['steps']:,}"
    if not lines:
        return "finished, but its evaluations cannot be read"
    if not all(line["score"] is not None and math.isfinite(line["score"]) for line in lines):
        return "has a score that is not finite"
    return ""
