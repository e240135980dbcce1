"""The figures of the ERDP paper (arXiv 2402.04080), drawn from the ledger, each with the caption that it needs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from erdp_core.config import PROFILES, PROTOCOLS
from erdp_core.errors import UserError
from orchestration.ledger import Ledger
from results.command_line import Request
from results.figure_style import FAINT, MARKERS, PALETTE, panels, save_figure, style
from results.figures import mean_curve, step_label
from results.matching import RunsByConfig
from results.paper_blocks import MeasuredPart, measured_parts
from results.paper_tables import PAPER_TABLES, PaperColumn
from results.toy_figures import write_toy_figure

ACROSS = 4
WIDE, HIGH, MARGIN = 2.3, 1.8, 0.52


@dataclass(frozen=True)
class OfToy:
    """A figure of a computation that the ledger keeps."""

    toy: str
    command: str


@dataclass(frozen=True)
class OfRuns:
    """A figure of the runs of a table of the paper."""

    table: int
    title: str
    is_curves: bool
    """Else bars, of the tables' scores."""
    protocol: str | None = None
    """Only columns of this one, where the table has several."""


FIGURES: Mapping[int, OfToy | OfRuns] = {
    1: OfToy("two-steps", "python sweeps/toys.py --toy two-steps"),
    2: OfToy("sampling", "python sweeps/toys.py --toy sampling"),
    3: OfRuns(8, "pessimism, beta", is_curves=False),
    4: OfRuns(11, "ERDP and Diffusion-QL", is_curves=True, protocol="paper"),
    5: OfToy("process", "python sweeps/toys.py --toy process"),
    6: OfToy("sampling", "python sweeps/toys.py --toy sampling"),
    7: OfToy("states", "python sweeps/embed_states.py --tasks hopper-medium-replay-v2"),
    8: OfRuns(7, "critics of the ensemble, M", is_curves=True),
}
NUMBERS = tuple(FIGURES)


def write_paper_figure(number: int, request: Request) -> list[Path]:
    """Write `figure-N.png` and `.svg`, or `figure-N-PROFILE...` for a figure of runs, into a folder.

    Raises UserError where the ledger has nothing to draw it from, or the folder cannot be written.
    """
    ledger = Ledger.open(request.ledger)
    figure = FIGURES[number]
    if isinstance(figure, OfToy):
        return _of_toy(number, figure, ledger, request.out)
    runs = RunsByConfig.of(ledger)
    paths = []
    for profile in [request.profile] if request.profile else PROFILES:
        [part] = measured_parts(PAPER_TABLES[figure.table], runs, profile, request.protocol or "paper")
        if part.has_runs:
            with style():
                drawn = draw_part(number, figure, part)
            paths += [
                save_figure(drawn, request.out / f"figure-{number}-{profile}.{ending}") for ending in ("png", "svg")
            ]
    if not paths:
        named = f" --profile {request.profile}" if request.profile else ""
        command = PAPER_TABLES[figure.table].parts[0].command
        raise UserError(f"the ledger {ledger.root} has no run of Figure {number}: python {command}{named}")
    return paths


def _of_toy(number: int, figure: OfToy, ledger: Ledger, out: Path) -> list[Path]:
    names = [name for name in ledger.toys() if name.startswith(f"{figure.toy}-")]
    if not names:
        raise UserError(f"the ledger {ledger.root} has nothing to draw Figure {number} from: {figure.command}")
    newest = max(names, key=lambda name: (ledger.root / "toys" / f"{name}.json").stat().st_mtime_ns)
    return write_toy_figure(ledger, newest, out, f"figure-{number}")


def draw_part(number: int, figure: OfRuns, part: MeasuredPart) -> Figure:
    """Curves or bars of a part, a panel for each task that has a run."""
    columns = [one for one in part.columns if figure.protocol in (None, part.protocol_of(one))]
    tasks = [task for task in part.tasks if any(part.cells[task, column].scores for column in columns)]
    across = min(ACROSS, len(tasks)) if len(tasks) > 1 else 2
    caption = [f"Figure {number}: {figure.title}.", *_caption(figure, part, columns, tasks)]
    drawn, axes = panels(math.ceil(len(tasks) / across), across, WIDE, HIGH, caption, margin=MARGIN)
    looks = {
        column: {"color": PALETTE[index % len(PALETTE)], "marker": MARKERS[index % len(MARKERS)]}
        for index, column in enumerate(columns)
    }
    flat = [panel for row in axes for panel in row]
    for panel, task in zip(flat, tasks, strict=False):
        panel.set_title(task)
        panel.grid(axis="y")
        if figure.is_curves:
            _curves(panel, task, part, looks)
        else:
            _bars(panel, task, part, looks)
    for panel in flat[len(tasks) :]:
        panel.set_axis_off()
    for row in axes:
        row[0].set_ylabel("score")
    if figure.is_curves:
        # Beside the last panel where there is room, else on the first.
        where = flat[len(tasks)] if len(flat) > len(tasks) else flat[0]
        where.legend(handles=_handles(looks), loc="center left" if len(flat) > len(tasks) else "best", fontsize=8)
    return drawn


def _caption(figure: OfRuns, part: MeasuredPart, columns: Sequence[PaperColumn], tasks: Sequence[str]) -> list[str]:
    seeds = sorted({run.record["seed"] for task in tasks for one in columns for run in part.cells[task, one].runs})
    origins = dict.fromkeys(
        f"{origin.source}, {origin.environment}" for task in tasks if (origin := part.origins[task]) is not None
    )
    reading = (
        "Lines: mean over seeds of each evaluation's score; bands: lowest to highest seed."
        if figure.is_curves
        else f"Bars: mean over seeds of {PROTOCOLS[part.protocol]}; whiskers: 95% interval of the mean, by Student's t."
    )
    lines = [
        f"Profile {part.profile}; data and environment: {'; '.join(origins)}; "
        f"seeds {', '.join(map(str, seeds))}. {reading}"
    ]
    lacking = [task for task in part.part.tasks if task not in tasks]
    if lacking:
        lines.append(f"No run: {', '.join(lacking)} (python {part.part.command} --profile {part.profile}).")
    return lines


def _curves(axes: Axes, task: str, part: MeasuredPart, looks: Mapping[PaperColumn, Mapping[str, Any]]) -> None:
    for column, look in looks.items():
        rows = [
            {"seed": run.record["seed"], "step": line["step"], "score": line["score"]}
            for run in part.cells[task, column].runs
            for line in run.evaluations
        ]
        if not rows:
            continue
        curve = mean_curve(pd.DataFrame(rows))
        axes.plot(curve.index, curve["mean"], markeredgewidth=0, markevery=max(1, len(curve) // 10), **look)
        axes.fill_between(curve.index, curve["min"], curve["max"], color=look["color"], alpha=0.12, linewidth=0)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: step_label(value)))


def _bars(axes: Axes, task: str, part: MeasuredPart, looks: Mapping[PaperColumn, Mapping[str, Any]]) -> None:
    for place, (column, look) in enumerate(looks.items()):
        found = part.cells[task, column].statistics
        if found is None:
            axes.text(place, 0, "no run", ha="center", va="bottom", fontsize=8, color=FAINT)
            continue
        axes.bar(place, found.mean, color=look["color"], width=0.65)
        if found.low is not None and found.high is not None:
            reach = np.array([[found.mean - found.low], [found.high - found.mean]])
            axes.errorbar(place, found.mean, reach, color="black", linewidth=1, capsize=3)
    axes.set_xticks(range(len(looks)), [column.head for column in looks])
    axes.axhline(0, color="black", linewidth=0.7)


def _handles(looks: Mapping[PaperColumn, Mapping[str, Any]]) -> list[Line2D]:
    return [Line2D([], [], label=column.head.removesuffix(" online"), **look) for column, look in looks.items()]
