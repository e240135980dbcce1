"""A pack at work: from its runs' newest common states to finished runs in the ledger, one interval at a time."""

import gc
import itertools
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from erdp_core.data.load import load_dataset
from erdp_core.errors import DataError
from erdp_core.trainer import RunInterval, Trainer
from orchestration.ledger import Ledger, RunFolder
from orchestration.plan import Run

KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class PackProgress:
    """Where a pack stands after an interval."""

    step: int
    steps: int
    steps_per_second: float
    scores: dict[str, float]
    """Newest score of each run that is well, by run id."""
    failures: dict[str, str]
    """Reasons of the runs that failed for good, by run id."""
    done: bool


class PackWork:
    """The only writer of its runs' folders."""

    def __init__(self, ledger: Ledger, runs: Sequence[Run], device: str, until: int | None = None) -> None:
        """Load the data and go on from the newest step at which every run has an intact checkpoint.

        Runs that are finished or have failed stay as they are: a pack is tried again whole after a fault.

        until: an interval's end at which to stop, the runs unfinished; None for their last step.

        Raises DataError where the data are no longer those that the runs were planned with, StorageError where the
        ledger cannot be written.
        """
        self.ledger = ledger
        self.runs = list(runs)
        self.folders = [ledger.run(run.run_id) for run in runs]
        self.steps = runs[0].config.trainer.steps
        self.until = self.steps if until is None else min(until, self.steps)
        pairs = zip(self.runs, self.folders, strict=True)
        working = [(run, folder) for run, folder in pairs if folder.status in ("planned", "started")]
        self.working = [folder for _, folder in working]
        self.trainer = self._trainer([run for run, _ in working], device) if working else None
        # A GPU trains on while CPU cores step environments; a CPU has no other core for that.
        self._intervals = self.trainer.intervals(device == "cuda", self.until) if self.trainer else iter(())

    def _trainer(self, runs: Sequence[Run], device: str) -> Trainer:
        first = runs[0]
        # The environment was decided, by the data or against them, when the run was planned.
        file, source = (Path(first.dataset["path"]), "auto") if first.source == "file" else (None, first.source)
        dataset = load_dataset(first.task, source, file, first.environment)
        if dataset.fingerprint != first.dataset["fingerprint"]:
            raise DataError(
                f"the data of {first.task.name} changed while runs were under way ({first.dataset['path']}): "
                "put the old file back, or run the table again to plan with the new one"
            )
        made_by = {"versions": versions(), "git_commit": git_commit()}
        with self.ledger.writing():
            for run, folder in zip(runs, self.working, strict=True):
                folder.create({**run.record(), **made_by})
        trainer = Trainer(first.task, dataset, [run.config for run in runs], [run.seed for run in runs], device)
        states = newest_common_states(self.working)
        if states:
            trainer.load_states(states)
        return trainer

    def advance(self) -> PackProgress:
        """Train one interval and commit it: records first, then the state that says they are complete.

        Raises StorageError where the ledger cannot be written.
        """
        # Where every run has a checkpoint of the last step, only the closing was missing.
        step, rate = self.until, 0.0
        for intervals in itertools.islice(self._intervals, 1):
            with self.ledger.writing():
                for index, interval in enumerate(intervals):
                    self._commit(index, interval)
            step, rate = intervals[0].training["step"], intervals[0].training["steps_per_second"]
        if step >= self.steps:
            # Only when all are committed: a run that closes gives up the states that its companions would go on from.
            with self.ledger.writing():
                for folder in self.working:
                    if folder.status == "started":
                        self._close(folder)
        scores, failures = {}, {}
        for run, folder in zip(self.runs, self.folders, strict=True):
            failure = folder.failure()
            if failure:
                failures[run.run_id] = failure["reason"]
            else:
                scores[run.run_id] = folder.evaluations()[-1]["score"]
        done = step >= self.until or len(failures) == len(self.runs)
        return PackProgress(step, self.until, rate, scores, failures, done)

    def _commit(self, index: int, interval: RunInterval) -> None:
        folder, step = self.working[index], interval.training["step"]
        if folder.status == "failed":
            return
        if interval.failure or interval.evaluation is None:
            folder.fail(interval.failure or {"step": step, "reason": "not evaluated"})
            return
        folder.append_training(interval.training)
        folder.append_evaluation(interval.evaluation)
        if step >= self.steps or folder.best_step(until=step) == step:
            folder.policies.write(step, interval.policy)
        folder.checkpoints.write(step, interval.state)
        kept = set([known for known in folder.checkpoints.steps() if known <= step][-KEPT_CHECKPOINTS:])
        folder.checkpoints.keep(kept)
        # Whichever checkpoint a resume starts from, the best policy up to it is still there.
        needed = {best for until in kept if (best := folder.best_step(until)) is not None}
        folder.policies.keep(needed | ({step} if step >= self.steps else set()))

    def _close(self, folder: RunFolder) -> None:
        best = folder.best_step()
        folder.policies.keep({self.steps} | ({best} if best is not None else set()))
        folder.finish({"step": self.steps, "best_step": best})


def newest_common_states(folders: Sequence[RunFolder]) -> list[bytes]:
    """States of all runs at the newest step where all are intact; none where they must start anew."""
    common = set.intersection(*(set(folder.checkpoints.steps()) for folder in folders))
    for step in sorted(common, reverse=True):
        states = [folder.checkpoints.read(step) for folder in folders]
        intact = [state for state in states if state is not None]
        if len(intact) == len(folders):
            return intact
    return []


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had no memory left for what was asked of it."""
    # On a CPU torch raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def free_memory() -> None:
    """Give back what nobody refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def versions() -> dict[str, str]:
    """What the numbers may depend on."""
    packages = ("erdp-bench", "torch", "numpy", "mujoco", "gymnasium", "gymnasium-robotics", "minari")
    found = {package: version(package) for package in packages}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {**found, "python": platform.python_version(), "device": device}


def git_commit() -> str | None:
    """The commit that the package runs from, `-dirty` where files changed; None for an installed package."""

    root = Path(__file__).parents[1]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)

    commit = git("rev-parse", "HEAD")
    if commit.returncode != 0:
        return None
    dirty = git("status", "--porcelain", "--untracked-files=no").stdout.strip()
    return commit.stdout.strip() + ("-dirty" if dirty else "")
