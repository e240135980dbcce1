"""A plan's missing runs, trained: progress on the terminal, MLflow beside it, the outcome at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from erdp_core.command_line import counted
from erdp_core.config import RunConfig
from orchestration.ledger import Ledger
from orchestration.packing import Pack, make_packs
from orchestration.plan import Plan, Run
from orchestration.progress import Progress, duration_text
from orchestration.resources import local_resources
from orchestration.step_cost import StepCosts, device_name, step_work
from orchestration.tracking import BackgroundTracker


@dataclass
class Grid:
    """Hears what the packs do, and passes it on to the terminal and to MLflow (`orchestration.cluster.Listener`)."""

    ledger: Ledger
    progress: Progress
    tracker: BackgroundTracker
    until: int | None = None
    """Step at which packs stop, where it is not their last."""

    def __post_init__(self) -> None:
        self._failed: set[str] = set()

    def started(self, pack: Pack) -> None:
        """A pack begins, or begins again after its process died."""
        steps = pack.runs[0].config.trainer.steps if self.until is None else self.until
        known = [set(self.ledger.run(run.run_id).checkpoints.steps()) for run in pack.runs]
        step = max(set.intersection(*known), default=0)
        run_ids, work = [run.run_id for run in pack.runs], step_work(pack.runs[0])
        self.progress.started(pack.name, run_ids, steps=steps, step=step, work_per_step=work)

    def advanced(self, pack: Pack, result: Mapping[str, Any]) -> None:
        """A pack finished an interval; `result` is its `PackProgress` as a dictionary."""
        self.progress.advanced(pack.name, result["step"], result["steps_per_second"], result["scores"])
        for run_id, reason in result["failures"].items():
            self._fail(run_id, reason)
        self.tracker.sync([run.run_id for run in pack.runs])
        if result["done"]:
            self.progress.finished(pack.name)

    def measuring(self, shapes: int, device: str) -> None:
        """Steps are timed before any pack begins."""
        self.progress.message(f"timing steps of {counted(shapes, 'shape')} on {device}, to choose packs by")

    def halved(self, pack: Pack, runs: int, parts: Sequence[int]) -> None:
        """A pack did not fit in memory; it goes on in parts."""
        sizes = ", then ".join(str(part) for part in parts)
        self.progress.message(f"{pack.name}: out of memory with {counted(runs, 'run')} at once; goes on with {sizes}")

    def interrupted(self, pack: Pack, reason: str) -> None:
        """A pack's process or machine was lost; it is about to be taken up again."""
        self.progress.interrupted(pack.name, f"{reason}; it goes on from the ledger")

    def stopped(self, pack: Pack, problem: str) -> None:
        """A pack gave up before its end."""
        for run in pack.runs:
            self._fail(run.run_id, problem)

    def _fail(self, run_id: str, reason: str) -> None:
        if run_id not in self._failed:
            self._failed.add(run_id)
            self.progress.failed(run_id, reason)


def train_missing(
    plan: Plan, ledger: Ledger, runs: Sequence[Run], tracker: BackgroundTracker, address: str, until: int | None = None
) -> dict[str, str]:
    """Train a plan's missing runs on the Ray cluster at `address`. Returns problems by run id.

    until: a step at which to stop, where it is not the last; an interval ends there.

    Raises StorageError where the ledger could not be written: what was finished before stays.
    """
    from orchestration.cluster import train

    done = len({run.run_id for run in plan.runs}) - len(runs)
    total_work = sum((until or run.config.trainer.steps) * step_work(run) for run in runs)
    with Progress(done + len(runs), done, total_work) as progress:
        return train(runs, ledger, address, Grid(ledger, progress, tracker, until), until)


def print_plan(plan: Plan, ledger: Ledger, to_train: Sequence[Run]) -> None:
    """Print what a plan is made of, and what of it is done."""
    statuses = [ledger.run(run.run_id).status for run in plan.runs]
    print(f"ledger: {ledger.root}")
    print(
        f"table {plan.table}, profile {plan.profile}, source {plan.source}, protocol {plan.protocol}: "
        f"{counted(len(plan.cells), 'run')} ({counted(len(plan.tasks), 'task')} x "
        f"{counted(len(plan.methods), 'method')} x {counted(len(plan.seeds), 'seed')}): "
        f"{statuses.count('finished')} done, {len(to_train)} to train, {statuses.count('failed')} failed, "
        f"{len(plan.cells) - len(plan.runs)} without data",
        flush=True,
    )
    for gap in plan.gaps:
        print(f"  gap: {gap}", flush=True)


def print_settings(plan: Plan) -> None:
    """Print each method's settings: first what all tasks share, then what tells them apart."""
    for method in plan.methods:
        settings = {cell.task: _settings(cell.config) for cell in plan.cells if cell.method == method}
        shared = set.intersection(*(set(texts) for texts in settings.values()))
        print(f"  {method}: {', '.join(text for text in settings[plan.tasks[0]] if text in shared)}")
        tasks_of: dict[str, list[str]] = {}
        for task, texts in settings.items():
            tasks_of.setdefault(", ".join(text for text in texts if text not in shared), []).append(task)
        if len(tasks_of) > 1:
            for text, tasks in tasks_of.items():
                print(f"    {', '.join(tasks)}: {text}")


def _settings(config: RunConfig) -> list[str]:
    agent = [f"{name} {value}" for name, value in config.to_dict()["agent"].items()]
    steps, interval, episodes = config.trainer.steps, config.trainer.interval, config.evaluation.episodes
    return [*agent, f"{steps:,} steps", f"evaluated every {interval:,} steps", f"over {episodes} episodes"]


def print_costs(ledger: Ledger, to_train: Sequence[Run], probe: bool) -> None:
    """Print packs, resources and hours of what is to be trained on this machine."""
    resources = local_resources()
    device = "cuda" if resources.gpus else "cpu"
    name = device_name(device)
    packs = make_packs(
        to_train, ledger, resources.slots, StepCosts(ledger, device, name, resources.cores_per_pack(len(to_train)))
    )
    cores = resources.cores_per_pack(len(packs))
    costs = StepCosts(ledger, device, name, cores)
    if probe:
        from orchestration.probe import measure  # slow to import

        for group in costs.shapes(to_train):
            with ledger.writing():
                costs.learn(group[0], measure(group, device, cores))
    slots = [0.0] * resources.slots
    for pack in packs:
        hours = costs.hours(pack.runs)
        slots[slots.index(min(slots))] += hours
        how = "measured" if costs.is_measured(pack.runs) else "from arithmetic; --probe measures"
        data = "" if pack.runs[0].dataset["fingerprint"] else " (without data)"
        print(
            f"  pack: {pack.name}{data}: {pack.runs[0].config.trainer.steps} steps of "
            f"{costs.milliseconds(pack.runs):.1f} ms ({how}), {duration_text(3600 * hours)}"
        )
    print(
        f"resources: {resources.cpus} CPUs, {resources.gpus} GPUs; {resources.slots} packs at a time, {cores} CPUs each"
    )
    if packs:
        gpu_hours = sum(costs.hours(pack.runs) for pack in packs)
        print(
            f"training: {duration_text(3600 * max(slots))}"
            + (f", {gpu_hours:.2f} GPU-hours" if resources.gpus else "")
            + "; evaluation and start-up come on top"
        )
