"""Whether a setting that changes speed changes scores: the same runs with it and without, compared seed by seed.

    python -m tests.benchmarks.paired --set trainer.precision=bfloat16 --table pointmaze --seeds 10 --ledger runs
    python -m tests.benchmarks.paired --set trainer.precision=bfloat16 --table gym --tasks hopper-medium-replay-v2 \\
        --data hopper-medium-replay-v2=hopper.hdf5 --seeds 10 --ledger runs

Trains what the ledger lacks, by run_table.py with profile quick. For each task: the mean over seeds of a run's score
with the setting less its score without, and that mean's 90% interval (Student t); `equal` where the interval lies
within 3 points. A run's score is its best evaluation, and beside it the mean of its last five.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from orchestration import run_table
from orchestration.ledger import Ledger
from results.estimators import run_score
from results.frames import PlanFrames, read_plan

MARGIN, LEVEL = 3.0, 0.9


@dataclass(frozen=True)
class Difference:
    """Of scores with a setting and without."""

    mean: float
    half_width: float
    """Of the 90% interval."""

    @property
    def is_equal(self) -> bool:
        return abs(self.mean) + self.half_width <= MARGIN


def paired(with_it: Sequence[float], without: Sequence[float]) -> Difference:
    """Mean difference of scores of the same seeds, in the same order, and its interval. Needs two seeds."""
    differences = np.subtract(with_it, without)
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    return Difference(float(differences.mean()), float(stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1) * error))


def run_scores(frames: PlanFrames, task: str, protocol: str) -> list[float]:
    """One a seed."""
    of_task = frames.evaluations[(frames.evaluations["task"] == task) & (frames.evaluations["acting"] == "candidates")]
    return [run_score(one["score"].tolist(), protocol) for _, one in of_task.groupby("seed", sort=True)]


def trained(arguments: Sequence[str], ledger: Path, settings: Sequence[str]) -> PlanFrames:
    """What the ledger holds of a table with some settings, after training what it lacked."""
    chosen = ["--set", *settings] if settings else []
    code = run_table.main([*arguments, "--profile", "quick", "--ledger", str(ledger), *chosen])
    if code:
        sys.exit(code)
    # The command wrote its plan anew.
    name = max((ledger / "plans").glob("*.json"), key=lambda path: path.stat().st_mtime_ns).stem
    opened = Ledger.open(ledger)
    return read_plan(opened, name, opened.plans()[name])


def main(argv: Sequence[str] | None = None) -> int:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs="+", required=True, dest="settings", help="what is compared")
    parser.add_argument("--ledger", type=Path, default=Path("runs"))
    options, table = parser.parse_known_args(argv)
    without, with_it = (trained(table, options.ledger, settings) for settings in ([], options.settings))
    print(f"\n{', '.join(options.settings)}, less without:")
    for task in with_it.plan["tasks"]:
        for protocol in ("paper", "last-k"):
            scores = [run_scores(frames, task, protocol) for frames in (with_it, without)]
            found = paired(*scores)
            print(
                f"{task:28} {protocol:7} {np.mean(scores[0]):6.1f} - {np.mean(scores[1]):6.1f} = {found.mean:+6.2f} "
                f"+- {found.half_width:5.2f} ({len(scores[0])} seeds){'  equal' if found.is_equal else ''}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
