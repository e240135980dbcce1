"""A table in words, the same for every form it is written in: which are its rows, and what stands around them.

Tasks are the rows, as in the papers, unless that makes the table wide and low: then methods are, and where there is
room each task has a column of confidence intervals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from results.estimators import CONFIDENCE
from results.tables import GAP, Column, Table, number

ORIGIN = "data, environment"
INTERVAL = f"{CONFIDENCE:.0%} interval"
WIDE = 6
"""Columns of numbers; of more, methods become rows if they are more than the tasks."""
TASKS_WITH_INTERVALS = 2
"""At most so many, of a table whose rows are methods."""


@dataclass(frozen=True)
class PrintedCell:
    """The pieces of a cell, each empty where there is none."""

    mean: str
    spread: str = ""
    n: str = ""
    mark: str = ""
    """Letter of the footnote."""

    @property
    def text(self) -> str:
        """What is printed before the footnote's letter."""
        return " ".join(filter(None, (self.mean, self.spread, self.n)))


@dataclass(frozen=True)
class PrintedTable:
    """A table in words: its first columns, those of numbers, and what stands around them."""

    title: str
    label_heads: Sequence[str]
    """Heads of the L columns of words."""
    head: Sequence[str]
    """Heads of the C columns of numbers."""
    rows: Sequence[tuple[Sequence[str], Sequence[PrintedCell]]]
    """Each L words and C cells."""
    average: tuple[Sequence[str], Sequence[PrintedCell]] | None
    """The bottom row, below a rule."""
    footnotes: Sequence[tuple[str, str]]
    """Letter and text."""
    remarks: Sequence[str]


def is_turned(table: Table) -> bool:
    """Whether its rows are methods, not tasks."""
    return len(table.columns) > max(WIDE, len(table.tasks))


def laid_out(table: Table) -> PrintedTable:
    """A table as it is printed."""
    return PrintedTable(
        title=table.title,
        **(_of_methods(table) if is_turned(table) else _of_tasks(table)),
        footnotes=[(mark, gap) for gap, mark in table.marks.items()],
    )


def _of_tasks(table: Table) -> dict[str, Any]:
    averages = [PrintedCell(number(table.averages[column])) for column in table.columns if table.averages]
    return {
        "label_heads": ("task", ORIGIN),
        "head": [column.label for column in table.columns],
        "rows": [
            ((task, table.origin(task)), [_cell(table, task, column) for column in table.columns])
            for task in table.tasks
        ],
        "average": ((table.average_label, ""), averages) if averages else None,
        "remarks": table.remarks,
    }


def _of_methods(table: Table) -> dict[str, Any]:
    has_intervals = len(table.tasks) <= TASKS_WITH_INTERVALS

    def cells(column: Column) -> list[PrintedCell]:
        found = []
        for task in table.tasks:
            found.append(_cell(table, task, column))
            if has_intervals:
                found.append(PrintedCell(_interval(table, task, column)))
        return found + ([PrintedCell(number(table.averages[column]))] if table.averages else [])

    origins: dict[str, list[str]] = {}
    for task in table.tasks:
        origins.setdefault(table.origin(task), []).append(task)
    heads = [head for task in table.tasks for head in (task, *([INTERVAL] if has_intervals else []))]
    remarks = [f"{ORIGIN.capitalize()} of {', '.join(tasks)}: {origin}." for origin, tasks in origins.items()]
    if has_intervals:
        remarks.append(f"{INTERVAL}: of the mean over seeds, by Student's t distribution.")
    return {
        "label_heads": ("method",),
        "head": [*heads, *([table.average_label] if table.averages else [])],
        "rows": [((column.label,), cells(column)) for column in table.columns],
        "average": None,
        "remarks": (*remarks, *table.remarks),
    }


def _interval(table: Table, task: str, column: Column) -> str:
    statistics = table.cells[task, column].statistics
    if statistics is None or statistics.low is None or statistics.high is None:
        return GAP
    return f"{number(statistics.low)} to {number(statistics.high)}"


def _cell(table: Table, task: str, column: Column) -> PrintedCell:
    cell = table.cells[task, column]
    return PrintedCell(*cell.parts, mark=table.marks.get(cell.gap, ""))
