"""A run of the ledger as MLflow shows it: its name, group, parameters, tags and points. Imports no mlflow."""

import hashlib
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from erdp_core.agent_configs import METHODS
from erdp_core.config import PROFILES, resolve
from erdp_core.tasks import Task, get_task
from orchestration.ledger import Record, RunFolder

# What determines the result, but for the seed: runs that share it are the seeds of one cell.
_GROUP = (
    "task", "rewards", "reference_scores", "step_limit", "source", "environment", "method", "config", "precision",
    "algorithm_version",
)  # fmt: skip


class Point(NamedTuple):
    """One value of a metric; milliseconds since the epoch."""

    key: str
    value: float
    time: int
    step: int


def group_id(record: Record) -> str:
    """Hash of what the seeds of a cell share."""
    shared = {name: record.get(name) for name in _GROUP} | {"fingerprint": record["dataset"]["fingerprint"]}
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:16]


def _task(record: Record) -> Task:
    """The run's task; runs of earlier versions do not say what it was, and had none but the registry's."""
    return Task.from_dict(record["definition"]) if "definition" in record else get_task(record["task"])


def experiment_name(record: Record) -> str:
    """The domain of the run's task."""
    return _task(record).domain


def group_name(record: Record) -> str:
    """Task, method, and the settings that differ from the profile's, such as `pointmaze-umaze erdp alpha=0.1`."""
    task, method, profile = record["task"], record["method"], record["profile"]
    words = [task, method]
    if method in METHODS and profile in PROFILES:
        usual = _flat(resolve(_task(record), method, profile).to_dict())
        for name, value in _flat(record["config"]).items():
            if usual.get(name) != value:
                words.append(f"{name.rpartition('.')[2]}={value}")
    return " ".join(words)


def parameters(record: Record) -> dict[str, str]:
    """What a run is, but for its seed: the flattened config (`agent.alpha`, ...), data, environment, profile."""
    environment = record["environment"]
    options = [f"{name}={_text(value)}" for name, value in environment["options"].items()]
    return {
        "task": record["task"],
        "source": record["source"],
        "dataset": record["dataset"]["fingerprint"],
        "environment": " ".join([environment["name"], *options]),
        "profile": record["profile"],
        "precision": record["precision"],
        "algorithm_version": _text(record["algorithm_version"]),
        **{name: _text(value) for name, value in _flat(record["config"]).items()},
    }


def run_tags(run: RunFolder, record: Record, status: str) -> dict[str, str]:
    """How a run stands and what made it."""
    tags = {"status": status}
    if record["git_commit"]:
        tags["git_commit"] = tags["mlflow.source.git.commit"] = record["git_commit"]
    tags |= {f"version.{name}": str(version) for name, version in record["versions"].items()}
    failure = run.failure() if status == "failed" else None
    if failure is not None:
        tags["failure"] = str(failure.get("reason", failure))
    return tags


def table_tags(plans: Iterable[str]) -> dict[str, str]:
    """A tag for each plan that asks for a run."""
    return {f"table.{plan}": "true" for plan in plans}


def run_points(run: RunFolder) -> list[Point]:
    """Every point of a run by step, at the time that training took to get there.

    At each step `steps_per_second` follows the losses and `score` comes last: where a tracker has these two, it has
    all of the step's training or evaluation.
    """
    started = milliseconds(run.path / "run.json")
    points: list[Point] = []
    seconds, seconds_at = 0.0, dict[int, float]()
    for line in run.training():
        seconds += line["seconds"]
        seconds_at[line["step"]] = seconds
        values = {**line["losses"], "steps_per_second": line["steps_per_second"]}
        time = started + round(1000 * seconds)
        points += [Point(key, float(value), time, line["step"]) for key, value in values.items()]
    for line in run.evaluations():
        time = started + round(1000 * seconds_at.get(line["step"], seconds))
        if "one_candidate" in line:
            points.append(Point("score_one_candidate", float(line["one_candidate"]["score"]), time, line["step"]))
        points.append(Point("score", float(line["score"]), time, line["step"]))
    return sorted(points, key=lambda point: point.step)


def summary(finished: Sequence[RunFolder]) -> dict[str, float]:
    """`score_mean`, `score_std` (ddof 1, from two seeds on) and `seeds`, of each finished run's last evaluation."""
    scores = [float(lines[-1]["score"]) for run in finished if (lines := run.evaluations())]
    if not scores:
        return {}
    spread = {"score_std": statistics.stdev(scores)} if len(scores) > 1 else {}
    return {"score_mean": statistics.fmean(scores), **spread, "seeds": float(len(scores))}


def milliseconds(path: Path) -> int:
    """When a file was last written."""
    return round(1000 * path.stat().st_mtime)


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
