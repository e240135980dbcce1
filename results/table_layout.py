"""A table in words, the same for every form it is written in: which are its rows, and what stands around them.

Tasks are the rows, as in the papers, unless that makes the table wide and low: then methods are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from results.tables import Column, Table, number

ORIGIN = "data, environment"
WIDE = 6
"""Columns of numbers; of more, methods become rows if they are more than the tasks."""


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


def laid_out(table: Table) -> PrintedTable:
    """A table as it is printed."""
    turned = len(table.columns) > max(WIDE, len(table.tasks))
    return PrintedTable(
        title=table.title,
        **(_of_methods(table) if turned else _of_tasks(table)),
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
    def cells(column: Column) -> list[PrintedCell]:
        averages = [PrintedCell(number(table.averages[column]))] if table.averages else []
        return [_cell(table, task, column) for task in table.tasks] + averages

    origins: dict[str, list[str]] = {}
    for task in table.tasks:
        origins.setdefault(table.origin(task), []).append(task)
    return {
        "label_heads": ("method",),
        "head": [*table.tasks, *([table.average_label] if table.averages else [])],
        "rows": [((column.label,), cells(column)) for column in table.columns],
        "average": None,
        "remarks": (
            *(f"{ORIGIN.capitalize()} of {', '.join(tasks)}: {origin}." for origin, tasks in origins.items()),
            *table.remarks,
        ),
    }


def _cell(table: Table, task: str, column: Column) -> PrintedCell:
    cell = table.cells[task, column]
    return PrintedCell(*cell.parts, mark=table.marks.get(cell.gap, ""))
