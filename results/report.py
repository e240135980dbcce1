"""A ledger as one HTML page that needs nothing else: tables, figures, and what every number rests on."""

import base64
import html
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from erdp_core.command_line import counted
from erdp_core.config import PROTOCOLS
from orchestration.ledger import Ledger, Record, RunFolder
from results.aggregates import (
    Estimate,
    Scores,
    estimate,
    inflation,
    interquartile_mean,
    mean_over_tasks,
    probability_of_improvement,
)
from results.figure_style import save_figure
from results.figures import draw_curves
from results.frames import PlanFrames, read_plan
from results.matching import FinishedRun
from results.table_layout import is_turned
from results.tables import GAP, Cell, Column, Table, build_table, number

STYLE = """
body { font: 15px/1.45 Georgia, serif; color: #1a1a1a; max-width: 80em; margin: 2em auto; padding: 0 1.5em }
h1, h2, h3 { font-weight: 600; line-height: 1.2 }
h2 { margin-top: 2.4em; border-bottom: 1px solid #bbb }
table { border-collapse: collapse; margin: 1em 0; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { padding: .2em .7em; text-align: right; vertical-align: top }
th { border-top: 2px solid; border-bottom: 1px solid }
tbody tr:last-child td { border-bottom: 2px solid }
.word { text-align: left }
.faint, .note { color: #555; font-size: 12.5px }
.note { margin: .15em 0 }
:target { background: #fff3c4 }
a { color: #0b5394; text-decoration: none }
a:hover { text-decoration: underline }
img { max-width: 100% }
.scroll { overflow-x: auto }
"""


@dataclass(frozen=True)
class RunRow:
    """A run as the page lists it."""

    folder: RunFolder
    record: Record
    status: str
    finished: FinishedRun | None
    scores: dict[str, float | None]
    """By protocol; empty where it has not finished."""


def report(ledger: Ledger, names: Sequence[str], protocol: str | None) -> str:
    """The page of some plans, each read by a protocol (its own by default)."""
    plans = ledger.plans()
    rows = [_row(folder) for folder in ledger.runs()]
    sections = [_plan(read_plan(ledger, name, plans[name]), protocol, number) for number, name in enumerate(names, 1)]
    contents = "".join(f'<li><a href="#plan-{place}">{_text(name)}</a></li>' for place, name in enumerate(names, 1))
    parts = [
        "<h1>ERDP Bench: what a ledger holds</h1>",
        f"<p>{_overview(rows)}</p>",
        f'<ol>{contents}</ol><p>Then: <a href="#failures">failures</a>, <a href="#data">data</a>, '
        '<a href="#versions">versions</a>, <a href="#runs">every run</a>.</p>',
        *sections,
        _failures(rows),
        _data(rows),
        _versions(rows),
        _runs(rows),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>ERDP Bench</title>'
        f"<style>{STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _table(heads: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], words: int = 1) -> str:
    """Heads as text; rows as attributes of the row and HTML of its cells, of which the first are words."""

    def cells(tag: str, texts: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=word' if place < words else ''}>{text}</{tag}>" for place, text in enumerate(texts)
        )

    body = "\n".join(f"<tr{attributes}>{cells('td', texts)}</tr>" for attributes, texts in rows)
    head = cells("th", [_text(head) for head in heads])
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>"


def _row(folder: RunFolder) -> RunRow:
    record, status = folder.record(), folder.status
    if status != "finished":
        return RunRow(folder, record, status, None, {})
    finished = FinishedRun(folder, record)
    return RunRow(folder, record, status, finished, {name: finished.score(name) for name in PROTOCOLS})


def _overview(rows: Sequence[RunRow]) -> str:
    statuses = [row.status for row in rows]
    episodes = sum(_episodes(row.finished) for row in rows if row.finished)
    finished, failed, started = (statuses.count(status) for status in ("finished", "failed", "started"))
    return (
        f"{counted(len(rows), 'run')}: {finished:,} finished, {failed:,} failed, {started:,} begun and not finished; "
        f"evaluations of the finished took {counted(episodes, 'episode')}. "
        f"Made by erdp-bench {version('erdp-bench')}."
    )


def _episodes(run: FinishedRun) -> int:
    return sum(len(line["returns"]) + len(line.get("one_candidate", {}).get("returns", ())) for line in run.evaluations)


def _plan(frames: PlanFrames, protocol: str | None, place: int) -> str:
    table = build_table(frames, protocol)
    parts = [
        f'<h2 id="plan-{place}">{_text(frames.name)}</h2>',
        f"<p>{_text(table.title)}; 95% interval of the mean below. Each cell leads to its runs.</p>",
        _scores(table, place),
        *(f"<p class=note>[{mark}] {_text(gap)}</p>" for gap, mark in table.marks.items()),
        *(f"<p class=note>{_text(line)}</p>" for line in table.remarks),
        _reported(table),
        _aggregates(table),
        _readings(frames, table),
        _inflation(frames),
        _curves(frames, table.protocol),
        _cells(table, place),
    ]
    return "\n".join(parts)


def _scores(table: Table, place: int) -> str:
    def shown(task: str, column: Column) -> str:
        cell = table.cells[task, column]
        mark = f" [{table.marks[cell.gap]}]" if cell.gap else ""
        if cell.statistics is None:
            return f"{GAP}{mark}"
        text = " ".join(filter(None, cell.parts))
        low, high = cell.statistics.low, cell.statistics.high
        interval = (
            "" if low is None or high is None else f"<br><span class=faint>{number(low)} to {number(high)}</span>"
        )
        return f'<a href="#{_anchor(table, place, task, column)}">{_text(text)}</a>{mark}{interval}'

    if is_turned(table):
        rows = [(column.label, [shown(task, column) for task in table.tasks]) for column in table.columns]
        return _table(["method", *table.tasks], [("", [_text(label), *cells]) for label, cells in rows])
    of_tasks = [
        ("", [_text(task), _text(table.origin(task)), *(shown(task, column) for column in table.columns)])
        for task in table.tasks
    ]
    if table.averages:
        averages = [number(table.averages[column]) for column in table.columns]
        of_tasks.append(("", [_text(table.average_label), "", *averages]))
    return _table(["task", "data, environment", *(column.label for column in table.columns)], of_tasks, words=2)


def _anchor(table: Table, place: int, task: str, column: Column) -> str:
    return f"cell-{place}-{table.tasks.index(task)}-{table.columns.index(column)}"


def _cells(table: Table, place: int) -> str:
    lines = []
    for task in table.tasks:
        for column in table.columns:
            cell: Cell = table.cells[task, column]
            if cell.scores:
                runs = ", ".join(
                    f'<a href="#{_text(run_id)}">seed {seed}</a> {number(score)}'
                    for seed, score, run_id in zip(cell.seeds, cell.scores, cell.run_ids, strict=True)
                )
                anchor = _anchor(table, place, task, column)
                lines.append(f'<p class=note id="{anchor}">{_text(task)}, {_text(column.label)}: {runs}</p>')
    return "<h3>Runs of each cell</h3>\n" + "\n".join(lines) if lines else ""


def _reported(table: Table) -> str:
    if table.reported is None:
        return ""
    rows = [
        ("", [_text(task), *(number(found[method]) if method in found else GAP for method in table.reported.methods)])
        for task, found in table.reported.scores.items()
    ]
    notes = "".join(f"<p class=note>{_text(line)}</p>" for line in table.reported.caption)
    return f"<h3>Reported in papers</h3>{_table(['task', *table.reported.methods], rows)}{notes}"


def _aggregates(table: Table) -> str:
    """Over the tasks that every column has with two seeds at least."""
    tasks = [task for task in table.tasks if all(len(table.cells[task, one].scores) > 1 for one in table.columns)]
    if not tasks or len(table.columns) < 2:
        return ""
    scores: dict[Column, Scores] = {
        column: [np.array(table.cells[task, column].scores) for task in tasks] for column in table.columns
    }
    first = table.columns[0]
    rows = []
    for column, found in scores.items():
        better = _estimate_text(estimate(probability_of_improvement, found, scores[first]), 2)
        means = [_estimate_text(estimate(statistic, found)) for statistic in (interquartile_mean, mean_over_tasks)]
        rows.append(("", [_text(column.label), *means, GAP if column == first else better]))
    note = (
        f"Over {', '.join(tasks)}. Intervals: 95%, by a bootstrap over the seeds of each task: other seeds, not other "
        "tasks."
    )
    heads = ["method", "interquartile mean", "mean", f"P(a run scores more than {first.label})"]
    return f"<h3>Over all tasks</h3>{_table(heads, rows)}<p class=note>{_text(note)}</p>"


def _estimate_text(found: Estimate, digits: int = 1) -> str:
    low, high = (f"{value:.{digits}f}" for value in (found.low, found.high))
    return f"{found.value:.{digits}f}<br><span class=faint>{low} to {high}</span>"


def _readings(frames: PlanFrames, table: Table) -> str:
    """The same runs under every protocol."""
    tables = {name: build_table(frames, name) for name in PROTOCOLS}
    if not any(one.averages for one in tables.values()) and len(table.tasks) > 1:
        return ""

    def mean(one: Table, column: Column) -> str:
        if len(one.tasks) > 1:
            return number(one.averages[column]) if one.averages else GAP
        return one.cells[one.tasks[0], column].parts[0]

    rows = [("", [_text(column.label), *(mean(one, column) for one in tables.values())]) for column in table.columns]
    notes = "".join(f"<p class=note>{_text(name)}: {_text(about)}</p>" for name, about in PROTOCOLS.items())
    what = "averages over the tasks that all have" if len(table.tasks) > 1 else "means over seeds"
    return f"<h3>The same runs by every protocol: {what}</h3>{_table(['method', *PROTOCOLS], rows)}{notes}"


def _inflation(frames: PlanFrames) -> str:
    curves, spreads = [], []
    # Columns of equal settings share runs.
    evaluations = frames.evaluations[frames.evaluations["acting"] == "candidates"].drop_duplicates(["run_id", "step"])
    for _, group in evaluations.groupby("run_id", sort=False):
        curves.append(group["score"].to_numpy(dtype=float))
        spreads.append(float(np.sqrt(np.mean(np.square(group["standard_error"].to_numpy(dtype=float))))))
    if not curves or not np.isfinite(spreads).all():
        return ""
    found = inflation(curves, spreads)
    return (
        f"<p>The best evaluation of a run is on average {found.total:.1f} above its last ({number(found.best)} and "
        f"{number(found.last)}, {counted(found.runs, 'run')}). Equally good policies, told apart by nothing but the "
        f"episodes drawn, would differ by {found.by_noise:.1f}.</p>"
    )


def _curves(frames: PlanFrames, protocol: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        picture = save_figure(draw_curves(frames, protocol), Path(folder) / "curves.svg")
        content = base64.b64encode(picture.read_bytes()).decode()
    # As an image: parts of one drawing could otherwise bear the names of another's.
    return f'<img alt="learning curves of {_text(frames.name)}" src="data:image/svg+xml;base64,{content}">'


def _failures(rows: Sequence[RunRow]) -> str:
    failed = [(row, row.folder.failure() or {}) for row in rows if row.status == "failed"]
    if not failed:
        return '<h2 id="failures">Failures</h2><p>None.</p>'
    body = [("", [_run_link(row), _text(failure.get("reason", "no reason recorded"))]) for row, failure in failed]
    return f'<h2 id="failures">Failures</h2>{_table(["run", "reason"], body, words=2)}'


def _run_link(row: RunRow) -> str:
    return f'<a href="#{_text(row.folder.run_id)}">{_text(row.folder.run_id)}</a>'


def _data(rows: Sequence[RunRow]) -> str:
    found: dict[tuple[str, str, str], tuple[Record, int]] = {}
    for row in rows:
        key = row.record["task"], row.record["source"], row.record["dataset"]["fingerprint"]
        found[key] = row.record["dataset"], found.get(key, (None, 0))[1] + 1
    body = [
        ("", [_text(task), _text(source), f"<code>{_text(fingerprint)}</code>", _text("; ".join(data["notes"])),
              f"{data['rows']:,}", str(count)])
        for (task, source, fingerprint), (data, count) in sorted(found.items())
    ]  # fmt: skip
    heads = ["task", "source", "fingerprint", "notes", "rows", "runs"]
    return f'<h2 id="data">Data</h2>{_table(heads, body, words=4)}'


def _versions(rows: Sequence[RunRow]) -> str:
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        for name, value in {**row.record["versions"], "commit": row.record["git_commit"]}.items():
            counts[name, str(value)] = counts.get((name, str(value)), 0) + 1
    body = [("", [_text(name), _text(value), str(count)]) for (name, value), count in sorted(counts.items())]
    return f'<h2 id="versions">Versions</h2>{_table(["what", "version", "runs"], body, words=2)}'


def _runs(rows: Sequence[RunRow]) -> str:
    heads = ["run", "status", "profile", "changes from profile paper", "steps", "training, s", *PROTOCOLS]
    body = [
        (
            f' id="{_text(row.folder.run_id)}"',
            [
                f'<a href="{_text(row.folder.path.as_uri())}">{_text(row.folder.run_id)}</a>',
                row.status,
                _text(row.record["profile"]),
                f"<span class=faint>{_text(', '.join(_changes(row.record)))}</span>",
                f"{row.record['config']['trainer']['steps']:,}",
                f"{sum(line['seconds'] for line in row.finished.training):,.0f}" if row.finished else GAP,
                *(GAP if (score := row.scores.get(name)) is None else number(score) for name in PROTOCOLS),
            ],
        )
        for row in rows
    ]
    note = "Seconds are of the pack that a run was trained in; a score's protocol is in its column's head."
    return f'<h2 id="runs">Every run</h2><p class=note>{note}</p>{_table(heads, body, words=4)}'


def _changes(record: Record) -> list[str]:
    paper: dict[str, Any] = record["paper_config"]
    return [
        f"{group}.{name}={value}"
        for group in ("agent", "trainer", "evaluation")
        for name, value in record["config"][group].items()
        if name in paper[group] and paper[group][name] != value
    ]
