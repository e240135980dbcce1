"""Numbers that papers print for a table's tasks: shown apart from what was measured, under protocols of their own."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from erdp_core.tasks import TASKS
from results.frames import PlanFrames

PAPER = Path(__file__).with_name("paper")
TABLES = ("table1_gym", "table1_adroit", "table1_kitchen", "table2_antmaze")
"""Of the ERDP paper, arXiv 2402.04080."""
NAMES = {"Ours": "ERDP"}
ONLINE = "Diff-QL online"
CAPTION = (
    "Reported, not measured here, each under its authors' protocol and on D4RL's data: not to be ranked against the "
    "measured columns.",
    "As printed in Tables 1 and 2 of arXiv 2402.04080: ERDP's is the best evaluation in training, Diff-QL's was chosen "
    "offline; the others it took from their papers, under mixed protocols. Diff-QL online (the best in training): "
    "arXiv 2208.06193, Table 4. What has no measured column is reported only.",
)


@dataclass(frozen=True)
class Reported:
    """Printed scores by task and method; a method has no entry for a task that its paper leaves out."""

    methods: tuple[str, ...]
    scores: Mapping[str, Mapping[str, float]]
    caption: tuple[str, ...] = CAPTION

    def frame(self) -> pd.DataFrame:
        """A row each task and method."""
        rows = [
            {"task": task, "method": method, "reported": score}
            for task, of_task in self.scores.items()
            for method, score in of_task.items()
        ]
        return pd.DataFrame(rows, columns=["task", "method", "reported"])


@functools.cache
def printed_scores() -> Mapping[str, Mapping[str, float]]:
    """Every task's printed scores by method."""
    found: dict[str, dict[str, float]] = {}
    for name in TABLES:
        frame = pd.read_csv(PAPER / f"{name}.csv").set_index("task").drop(columns="domain").rename(columns=NAMES)
        for task, row in frame.iterrows():
            found[str(task)] = {str(method): float(score) for method, score in row.dropna().items()}
    online = pd.read_csv(PAPER / "diffusion_ql_table1_4.csv").set_index("task")["online mean"]
    for task, score in online.items():
        found[str(task)][ONLINE] = float(score)
    return found


def reported(frames: PlanFrames) -> Reported | None:
    """What papers print for a plan's tasks; None where nothing measured could be read beside it.

    Scores on other data than D4RL's, or in another environment, are never set beside the papers'.
    """
    counted = frames.runs[frames.runs["gap"] == ""]

    def is_comparable(task: str) -> bool:
        runs = counted[counted["task"] == task]
        return (
            task in printed_scores()
            and len(runs) > 0
            and set(runs["source"]) == {"d4rl"}
            and set(runs["environment"]) == {TASKS[task].environment.name}
        )

    return of_tasks([task for task in frames.plan["tasks"] if is_comparable(task)])


def of_tasks(tasks: Sequence[str]) -> Reported | None:
    """What papers print for some of their tasks; None for none."""
    if not tasks:
        return None
    printed = printed_scores()
    methods = tuple(dict.fromkeys(method for task in tasks for method in printed[task]))
    in_order = sorted(methods, key=lambda method: (method == "ERDP", method == ONLINE))
    return Reported(tuple(in_order), {task: printed[task] for task in tasks})
