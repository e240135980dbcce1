"""A table of a plan: tasks by methods, each cell mean ± spread (n) over seeds, every gap visible and explained.

`table_files` writes it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from erdp_core.hyperparameters import offline_choice
from erdp_core.tasks import TASKS
from results.captions import caption, column_label
from results.estimators import CellStatistics, cell_statistics, check_protocol, run_score
from results.frames import Acting, PlanFrames
from results.reported import Reported, reported

GAP = "—"


@dataclass(frozen=True)
class Column:
    """A method, and how it acts."""

    method: str
    acting: Acting

    @property
    def label(self) -> str:
        """What stands in the table's head."""
        return column_label(self.method, self.acting)


@dataclass(frozen=True)
class Cell:
    """The seeds of a task and a column that count, one score each."""

    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    run_ids: tuple[str, ...]
    sources: tuple[str, ...]
    """Of their data, each once."""
    environments: tuple[str, ...]
    """Where they were evaluated, each once."""
    gap: str
    """Which of the seeds asked for do not count, and why; empty where all do."""

    @cached_property
    def statistics(self) -> CellStatistics | None:
        """Over the seeds; None where no seed counts."""
        return cell_statistics(self.scores) if self.scores else None

    @property
    def parts(self) -> tuple[str, str, str]:
        """Mean, spread and n as printed, each empty where there is none; a dash for a cell without seeds."""
        if self.statistics is None:
            return GAP, "", ""
        spread = "" if self.statistics.std is None else f"± {number(self.statistics.std)}"
        return number(self.statistics.mean), spread, f"({self.statistics.n})"


@dataclass(frozen=True)
class Table:
    """What is printed, apart from how."""

    name: str
    """Stem of the table's files."""
    title: str
    profile: str
    protocol: str
    tasks: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[str, Column], Cell]
    caption: tuple[str, ...]
    reported: Reported | None = None
    """What papers print for these tasks."""

    @cached_property
    def common_tasks(self) -> tuple[str, ...]:
        """Tasks for which every column has at least one seed: what the averages are taken over."""
        return tuple(task for task in self.tasks if all(self.cells[task, column].scores for column in self.columns))

    def origin(self, task: str) -> str:
        """Where a task's data are from and where its policies were evaluated; a dash where no seed counts."""
        cells = [self.cells[task, column] for column in self.columns]
        sources = dict.fromkeys(source for cell in cells for source in cell.sources)
        environments = dict.fromkeys(environment for cell in cells for environment in cell.environments)
        return f"{' and '.join(sources)}, {' and '.join(environments)}" if sources else GAP

    @cached_property
    def averages(self) -> dict[Column, float]:
        """Mean over the common tasks of each column's cell means; empty where there is nothing to average."""
        if len(self.tasks) < 2 or not self.common_tasks:
            return {}
        return {
            column: math.fsum(math.fsum(cell.scores) / len(cell.scores) for cell in cells) / len(cells)
            for column in self.columns
            for cells in [[self.cells[task, column] for task in self.common_tasks]]
        }

    @property
    def average_label(self) -> str:
        """Head of the bottom row: over how many of the tasks."""
        have, asked = len(self.common_tasks), len(self.tasks)
        return f"Average of {have} tasks" if have == asked else f"Average of {have} of {asked} tasks"

    @cached_property
    def marks(self) -> dict[str, str]:
        """For each gap's text, the letter that refers to it: a, b, ..., z, aa, ab, ..."""
        gaps = dict.fromkeys(
            gap for task in self.tasks for column in self.columns if (gap := self.cells[task, column].gap)
        )
        return {gap: _letters(index) for index, gap in enumerate(gaps)}

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """Lines of the footer that carry no mark."""
        if not self.averages or len(self.common_tasks) == len(self.tasks):
            return self.caption
        return (*self.caption, f"Averages are over the tasks that every column has: {', '.join(self.common_tasks)}.")


def build_table(frames: PlanFrames, protocol: str | None = None) -> Table:
    """The table of a plan under a protocol (the plan's own by default). Raises UserError for an unknown protocol."""
    plan = frames.plan
    protocol = check_protocol(protocol or plan["protocol"])
    trained = frames.runs.dropna(subset=["algorithm"])
    algorithm = dict(zip(trained["method"], trained["algorithm"], strict=True))
    scores = {
        key: run_score(
            group["score"].tolist(),
            protocol,
            group["diffusion_loss"].tolist(),
            offline_choice(algorithm[key[1]], TASKS[str(key[0])]) if key[0] in TASKS else None,
        )
        for key, group in frames.evaluations.groupby(["task", "method", "acting", "seed"], sort=False)
    }
    columns = tuple(Column(method, acting) for method, actings in frames.actings.items() for acting in actings)
    rows: dict[tuple[str, str], list[Any]] = {}
    for run in frames.runs.itertuples(index=False):
        rows.setdefault((str(run.task), str(run.method)), []).append(run)
    return Table(
        name=f"{frames.name}-table-{protocol}",
        title=f"{plan['table']}: normalised score, mean ± sample standard deviation over seeds (number of seeds)",
        profile=plan["profile"],
        protocol=protocol,
        tasks=tuple(plan["tasks"]),
        columns=columns,
        cells={
            (task, column): _cell(task, column, rows.get((task, column.method), []), scores)
            for task in plan["tasks"]
            for column in columns
        },
        caption=caption(frames, protocol),
        reported=reported(frames),
    )


def _cell(task: str, column: Column, runs: Sequence[Any], scores: Mapping[Any, float]) -> Cell:
    seeds_of: dict[tuple[str, str], list[int]] = {}
    counted: list[tuple[int, float, str, str, str]] = []
    for run in runs:
        score = scores.get((task, column.method, column.acting, run.seed))
        if score is not None:
            counted.append((run.seed, score, run.run_id, run.source, run.environment))
        else:
            gap = run.gap or "was not evaluated with one candidate"
            seeds_of.setdefault((gap, ": " if run.status == "missing" else " "), []).append(run.seed)
    counted.sort()
    return Cell(
        seeds=tuple(seed for seed, *_ in counted),
        scores=tuple(score for _, score, *_ in counted),
        run_ids=tuple(run_id for _, _, run_id, *_ in counted),
        sources=tuple(dict.fromkeys(source for *_, source, _ in counted)),
        environments=tuple(dict.fromkeys(environment for *_, environment in counted)),
        gap=_gap_text(len(counted), len(runs), seeds_of),
    )


def _gap_text(have: int, asked: int, seeds_of: Mapping[tuple[str, str], Sequence[int]]) -> str:
    if not asked:
        return "not asked for"
    if not have and len(seeds_of) == 1:
        return next(iter(seeds_of))[0]
    parts = [
        f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, sorted(seeds)))}{joint}{gap}"
        for (gap, joint), seeds in seeds_of.items()
    ]
    return f"{have} of {asked} seeds: {'; '.join(parts)}" if parts else ""


def number(value: float) -> str:
    """A score as printed: one decimal, never "-0.0"."""
    return f"{round(value, 1) + 0.0:.1f}"


def _letters(index: int) -> str:
    letter = chr(ord("a") + index % 26)
    return letter if index < 26 else _letters(index // 26 - 1) + letter


def long_form(table: Table) -> pd.DataFrame:
    """A row a cell, cells without a seed included; what a cell has several of is joined by semicolons."""
    rows: list[dict[str, Any]] = []
    for task in table.tasks:
        for column in table.columns:
            cell = table.cells[task, column]
            statistics = cell.statistics
            rows.append(
                {
                    "task": task,
                    "method": column.method,
                    "acting": column.acting,
                    "profile": table.profile,
                    "source": ";".join(cell.sources),
                    "environment": ";".join(cell.environments),
                    "protocol": table.protocol,
                    "mean": statistics and statistics.mean,
                    "std": statistics and statistics.std,
                    "n": statistics.n if statistics else 0,
                    "low": statistics and statistics.low,
                    "high": statistics and statistics.high,
                    "seeds": ";".join(map(str, cell.seeds)),
                    "scores": ";".join(map(repr, cell.scores)),
                    "run_ids": ";".join(cell.run_ids),
                    "gap": cell.gap,
                }
            )
    return pd.DataFrame(rows)
