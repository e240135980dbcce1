"""A table of the paper in up to three blocks: as printed, measured here, and where both may be set beside, by how much.

What was measured on other data, in another environment or by another profile is shown, and never set beside.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from erdp_core.config import PROTOCOLS
from results.estimators import CellStatistics, cell_statistics
from results.matching import FinishedRun, Origin, RunsByConfig, best_origin
from results.paper_tables import PaperColumn, PaperPart, PaperTable
from results.table_layout import ORIGIN, PrintedCell, PrintedTable
from results.tables import GAP, number

SOURCE = "arXiv 2402.04080"


@dataclass(frozen=True)
class MeasuredCell:
    """The seeds that a cell has in the ledger, one score each."""

    runs: tuple[FinishedRun, ...] = ()
    scores: tuple[float, ...] = ()
    was_trained: bool = False
    """Whether the ledger has finished runs of its settings, on whatever data."""

    @property
    def statistics(self) -> CellStatistics | None:
        """Over seeds; None where there is none."""
        return cell_statistics(self.scores) if self.scores else None

    @property
    def is_comparable(self) -> bool:
        """Whether the printed number may be set beside."""
        return bool(self.runs) and all(run.is_comparable for run in self.runs)


@dataclass(frozen=True)
class MeasuredPart:
    """A part of a table with what the ledger has for it."""

    table: PaperTable
    part: PaperPart
    profile: str
    protocol: str
    tasks: tuple[str, ...]
    """The paper's, then those of ours that an ablation was run on."""
    origins: Mapping[str, Origin | None]
    cells: Mapping[tuple[str, PaperColumn], MeasuredCell]

    @property
    def columns(self) -> tuple[PaperColumn, ...]:
        """Those that are a method of ours."""
        return tuple(column for column in self.part.columns if column.method)

    @property
    def has_runs(self) -> bool:
        """Whether the ledger has any run for it."""
        return any(cell.scores for cell in self.cells.values())

    def protocol_of(self, column: PaperColumn) -> str:
        """The table's, where the column has none of its own."""
        return column.protocol or self.protocol

    def difference(self, task: str, column: PaperColumn) -> float | None:
        """Measured less printed; None where they may not be set beside one another."""
        cell, printed = self.cells[task, column], self.part.printed(task, column)[0]
        if cell.statistics is None or printed is None or not cell.is_comparable:
            return None
        if column.printed_protocol != self.protocol_of(column):
            return None
        return cell.statistics.mean - printed


def measured_parts(table: PaperTable, runs: RunsByConfig, profile: str, protocol: str) -> list[MeasuredPart]:
    """Every part of a table with the ledger's runs of a profile, read by a protocol."""
    return [_measured(table, part, runs, profile, protocol) for part in table.parts]


def _measured(table: PaperTable, part: PaperPart, runs: RunsByConfig, profile: str, protocol: str) -> MeasuredPart:
    columns = [column for column in part.columns if column.method]

    def found(task: str, column: PaperColumn) -> list[FinishedRun]:
        return runs.cell(task, str(column.method), profile, column.settings)

    # A main table is of its tasks; an ablation may be run on any, and is one where it has two of its columns.
    is_ablation = any(column.settings for column in columns)
    own = [
        task
        for task in runs.tasks
        if is_ablation and task not in part.tasks and sum(bool(found(task, column)) for column in columns) > 1
    ]
    tasks = (*part.tasks, *own)
    origins = {task: best_origin(run for column in columns for run in found(task, column)) for task in tasks}
    cells = {
        (task, column): _cell(found(task, column), origins[task], column.protocol or protocol)
        for task in tasks
        for column in columns
    }
    return MeasuredPart(table, part, profile, protocol, tasks, origins, cells)


def _cell(runs: Sequence[FinishedRun], origin: Origin | None, protocol: str) -> MeasuredCell:
    of_origin = [run for run in runs if run.origin == origin]
    newest = max((run.record["algorithm_version"] for run in of_origin), default=0)
    by_seed: dict[int, tuple[FinishedRun, float]] = {}
    for run in of_origin:
        score = run.score(protocol) if run.record["algorithm_version"] == newest else None
        if score is not None:
            by_seed[run.record["seed"]] = run, score
    in_order = [by_seed[seed] for seed in sorted(by_seed)]
    return MeasuredCell(tuple(run for run, _ in in_order), tuple(score for _, score in in_order), bool(runs))


def blocks(measured: MeasuredPart) -> dict[str, PrintedTable]:
    """A part in words: `printed`, `measured`, and `difference` where there is any."""
    found = {"printed": _printed(measured), "measured": _measured_block(measured)}
    differences = _differences(measured)
    return found | ({"difference": differences} if differences else {})


def _title(measured: MeasuredPart, what: str) -> str:
    label = f", {measured.part.label}" if measured.part.label else ""
    return f"Table {measured.table.number} of the paper{label}: {measured.table.title}; {what}"


def _printed(measured: MeasuredPart) -> PrintedTable:
    part = measured.part
    values = {(task, column): part.printed(task, column) for task in part.tasks for column in part.columns}
    averages = [_mean([values[task, column][0] for task in part.tasks]) for column in part.columns]
    return PrintedTable(
        title=_title(measured, f"as printed in {SOURCE}"),
        label_heads=("task",),
        head=[column.head for column in part.columns],
        rows=[((task,), [_printed_cell(*values[task, column]) for column in part.columns]) for task in part.tasks],
        average=(
            (f"Average of {len(part.tasks)} tasks",),
            [PrintedCell(GAP if mean is None else number(mean)) for mean in averages],
        ),
        footnotes=[],
        remarks=[*measured.table.notes, "Averages are computed here."],
    )


def _printed_cell(mean: float | None, std: float | None) -> PrintedCell:
    if mean is None:
        return PrintedCell(GAP)
    return PrintedCell(number(mean), "" if std is None else f"± {number(std)}")


def _measured_block(measured: MeasuredPart) -> PrintedTable:
    columns = measured.columns
    common = [task for task in measured.tasks if all(measured.cells[task, column].scores for column in columns)]
    rows = [
        ((task, _origin_text(measured.origins[task])), [_measured_cell(measured.cells[task, one]) for one in columns])
        for task in measured.tasks
    ]
    averages = [
        PrintedCell(number(math.fsum(math.fsum(cell.scores) / len(cell.scores) for cell in cells) / len(cells)))
        for column in columns
        if len(common) > 1
        for cells in [[measured.cells[task, column] for task in common]]
    ]
    return PrintedTable(
        title=_title(measured, "measured here, mean ± sample standard deviation over seeds (number of seeds)"),
        label_heads=("task", ORIGIN),
        head=[column.head for column in columns],
        rows=rows,
        average=((f"Average of {len(common)} of {len(measured.tasks)} tasks", ""), averages) if averages else None,
        footnotes=_why_gaps(measured),
        remarks=list(_remarks(measured)),
    )


def _why_gaps(measured: MeasuredPart) -> list[tuple[str, str]]:
    gaps = {key: cell.was_trained for key, cell in measured.cells.items() if not cell.scores}
    untrained = {task for (task, _), was_trained in gaps.items() if not was_trained}
    found = []
    if untrained:
        own = [task for task in measured.tasks if task in untrained and task not in measured.part.tasks]
        tasks = f" --tasks {' '.join(own)}" if own and untrained <= {*own} else ""
        found.append(("a", f"not trained: python {measured.part.command}{tasks} --profile {measured.profile}"))
    if any(gaps.values()):
        found.append(("b", "trained on other data than most of its row, or its scores are not finite"))
    return found


def _remarks(measured: MeasuredPart) -> Iterator[str]:
    protocols = dict.fromkeys(map(measured.protocol_of, measured.columns))
    for protocol in protocols:
        heads = [column.head for column in measured.columns if measured.protocol_of(column) == protocol]
        whose = f" ({', '.join(heads)})" if len(protocols) > 1 else ""
        yield f"Profile {measured.profile}, protocol {protocol}{whose}: scores are {PROTOCOLS[protocol]}."
    lacking = [column.head for column in measured.part.columns if not column.method]
    if lacking:
        yield f"Reported only: {', '.join(lacking)}."
    if measured.has_runs and not any(
        measured.difference(task, column) is not None for task in measured.tasks for column in measured.columns
    ):
        yield (
            "Nothing here may be set beside the printed numbers, which are of profile paper, D4RL's data, its "
            "environments and protocols of their own."
        )


def _origin_text(origin: Origin | None) -> str:
    return GAP if origin is None else f"{origin.source}, {origin.environment}"


def _measured_cell(cell: MeasuredCell) -> PrintedCell:
    found = cell.statistics
    if found is None:
        return PrintedCell(GAP, mark="b" if cell.was_trained else "a")
    return PrintedCell(number(found.mean), "" if found.std is None else f"± {number(found.std)}", f"({found.n})")


def _differences(measured: MeasuredPart) -> PrintedTable | None:
    values = {task: [measured.difference(task, column) for column in measured.columns] for task in measured.part.tasks}
    if all(value is None for row in values.values() for value in row):
        return None
    averages = [_mean(column) for column in zip(*values.values(), strict=True)]
    return PrintedTable(
        title=_title(measured, "measured less printed"),
        label_heads=("task",),
        head=[column.head for column in measured.columns],
        rows=[((task,), [_signed(value) for value in row]) for task, row in values.items()],
        average=((f"Average of {len(values)} tasks",), [_signed(mean) for mean in averages]),
        footnotes=[],
        remarks=[
            "Of runs of profile paper on D4RL's data in its environments, by the protocol of the printed number alone: "
            "the best in training for ERDP, chosen offline for Diffusion-QL; the others' are mixed.",
        ],
    )


def _signed(value: float | None) -> PrintedCell:
    return PrintedCell(GAP if value is None else f"{round(value, 1) + 0.0:+.1f}")


def _mean(values: Sequence[float | None]) -> float | None:
    """Of all of them; None where one is missing."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def long_form(parts: Sequence[MeasuredPart]) -> pd.DataFrame:
    """A row each task and column of every part, those without a run included."""
    rows: list[dict[str, Any]] = []
    for measured in parts:
        for task in measured.tasks:
            for column in measured.part.columns:
                cell = measured.cells.get((task, column), MeasuredCell())
                printed, printed_std = measured.part.printed(task, column)
                found, origin = cell.statistics, measured.origins[task] if cell.scores else None
                rows.append(
                    {
                        "part": measured.part.label,
                        "task": task,
                        "column": column.head,
                        "method": column.method,
                        "settings": ";".join(column.settings),
                        "printed": printed,
                        "printed_std": printed_std,
                        "profile": measured.profile,
                        "protocol": measured.protocol_of(column),
                        "mean": found and found.mean,
                        "std": found and found.std,
                        "n": found.n if found else 0,
                        "low": found and found.low,
                        "high": found and found.high,
                        "difference": measured.difference(task, column) if column.method else None,
                        "source": origin and origin.source,
                        "environment": origin and origin.environment,
                        "seeds": ";".join(str(run.record["seed"]) for run in cell.runs),
                        "scores": ";".join(map(repr, cell.scores)),
                        "run_ids": ";".join(run.folder.run_id for run in cell.runs),
                    }
                )
    return pd.DataFrame(rows)
