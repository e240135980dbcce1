"""Learning curves of a plan: a panel a task, a line a method, the mean over seeds with the range of the seeds."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from results.captions import caption, column_label
from results.estimators import check_protocol
from results.figure_style import CAPTION_ROW, CAPTION_SIZE, DPI, FAINT, Ruler, method_styles, save_figure, style
from results.frames import Acting, PlanFrames

# Inches and points.
PANEL_WIDTH, PANEL_HEIGHT, LEAST_WIDTH = 2.9, 2.2, 6.4
LEFT, RIGHT, TOP, BOTTOM, STEPS_LABEL = 0.62, 0.15, 0.32, 0.3, 0.2
LEGEND_ROW = 0.26
MOST_MARKERS = 10
THIN_LINES = 5
"""Up to this many seeds, each is drawn as a thin line of its own."""

Looks = Mapping[str, Mapping[str, Any]]

MOST_BANDS = 6
"""More lines than this would hide one another's seeds."""


def draw_curves(frames: PlanFrames, protocol: str | None = None) -> Figure:
    """Learning curves of the plan's finished runs; the caption names the protocol that the table reads them by.

    Raises UserError for an unknown protocol.
    """
    protocol = check_protocol(protocol or frames.plan["protocol"])
    with style():
        return _draw(frames, [_reading(frames), *caption(frames, protocol, "the table's scores"), *_gaps(frames)])


def write_curves(frames: PlanFrames, folder: Path, protocol: str | None = None) -> list[Path]:
    """Write `<plan>-curves.png` and `.svg` into a folder. Raises UserError where it cannot be written."""
    figure = draw_curves(frames, protocol)
    return [save_figure(figure, folder / f"{frames.name}-curves.{ending}") for ending in ("png", "svg")]


def mean_curve(evaluations: pd.DataFrame) -> pd.DataFrame:
    """Mean, lowest and highest score over seeds by step, of the steps that every seed has.

    evaluations: rows of one task, method and way of acting. A step that some seed lacks is left out: the mean over
    other seeds there would look like a change in learning.
    """
    by_step = evaluations.groupby("step")["score"].agg(["mean", "min", "max", "count"])
    return by_step[by_step["count"] == evaluations["seed"].nunique()]


def _is_crowded(frames: PlanFrames) -> bool:
    return sum(len(actings) for actings in frames.actings.values()) > MOST_BANDS


def _reading(frames: PlanFrames) -> str:
    lines = "Lines: mean over seeds of each evaluation's score"
    if _is_crowded(frames):
        return f"{lines}; single seeds are not drawn where there are more than {MOST_BANDS} lines."
    return f"{lines}; bands: lowest to highest seed; thin lines: single seeds, where there are at most {THIN_LINES}."


def _gaps(frames: PlanFrames) -> list[str]:
    missing = int((frames.runs["gap"] != "").sum())
    asked = len(frames.runs)
    return [f"{missing} of {asked} runs asked for do not count and are not drawn: see the table."] if missing else []


def _draw(frames: PlanFrames, lines: Sequence[str]) -> Figure:
    tasks = list(frames.plan["tasks"])
    across = len(tasks) if len(tasks) <= 4 else 3 if len(tasks) <= 9 else 4
    down = math.ceil(len(tasks) / across)
    width = max(across * PANEL_WIDTH, LEAST_WIDTH)
    ruler = Ruler()
    text = [part for line in lines for part in ruler.wrap(line, width - 2 * RIGHT, CAPTION_SIZE)]
    looks = method_styles(frames.plan["methods"])
    handles = _legend(frames, looks)
    legend_columns = _legend_columns(ruler, handles, width - 2 * RIGHT)
    head = LEGEND_ROW * math.ceil(len(handles) / legend_columns) + 0.08
    caption_height = CAPTION_ROW * len(text) + 0.22
    foot = caption_height + STEPS_LABEL
    height = head + down * PANEL_HEIGHT + foot
    figure = Figure(figsize=(width, height), dpi=DPI)
    grouped = dict(iter(frames.evaluations.groupby(["task", "method", "acting"], sort=False)))
    score_limits = _score_limits(frames.evaluations)
    for index, task in enumerate(tasks):
        row, column = divmod(index, across)
        axes = figure.add_axes(
            (
                (column * width / across + LEFT) / width,
                (foot + (down - 1 - row) * PANEL_HEIGHT + BOTTOM) / height,
                (width / across - LEFT - RIGHT) / width,
                (PANEL_HEIGHT - TOP - BOTTOM) / height,
            )
        )
        axes.set_title(task)
        drawn = False
        for method, actings in frames.actings.items():
            for acting in actings:
                if (task, method, acting) in grouped:
                    _draw_line(axes, grouped[task, method, acting], acting, looks[method], not _is_crowded(frames))
                    drawn = True
        _axes(axes, score_limits, first_column=column == 0, last_row=index + across >= len(tasks), drawn=drawn)
    figure.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1 - 0.04 / height), ncols=legend_columns, borderpad=0
    )
    for number, line in enumerate(text):
        y = (caption_height - 0.12 - CAPTION_ROW * (number + 0.5)) / height
        figure.text(RIGHT / width, y, line, size=CAPTION_SIZE, color=FAINT, va="center")
    return figure


def _legend(frames: PlanFrames, looks: Looks) -> list[Line2D]:
    return [
        Line2D([], [], linestyle=_dash(acting), label=column_label(method, acting), **looks[method])
        for method, actings in frames.actings.items()
        for acting in actings
    ]


def _legend_columns(ruler: Ruler, handles: Sequence[Line2D], width: float) -> int:
    widest = max(ruler.width(str(handle.get_label()), 10.0) for handle in handles)
    return max(1, min(len(handles), int(width / (widest + 0.8))))


def _dash(acting: Acting) -> Literal["-", "--"]:
    return "-" if acting == "candidates" else "--"


def _draw_line(
    axes: Axes, evaluations: pd.DataFrame, acting: Acting, look: Mapping[str, Any], with_seeds: bool
) -> None:
    curve = mean_curve(evaluations)
    seeds = evaluations["seed"].nunique()
    every = math.ceil(len(curve) / MOST_MARKERS) or 1
    axes.plot(curve.index, curve["mean"], linestyle=_dash(acting), zorder=3, markeredgewidth=0, markevery=every, **look)
    if seeds == 1 or not with_seeds:
        return
    axes.fill_between(curve.index, curve["min"], curve["max"], color=look["color"], alpha=0.13, linewidth=0, zorder=1)
    if seeds <= THIN_LINES:
        for _, single in evaluations.groupby("seed"):
            axes.plot(
                single["step"], single["score"],
                color=look["color"], linestyle=_dash(acting), linewidth=0.6, alpha=0.55, zorder=2,
            )  # fmt: skip


def _score_limits(evaluations: pd.DataFrame) -> tuple[float, float]:
    """0 to 100, and further where a score is."""
    scores = np.append(evaluations["score"].to_numpy(dtype=float), [0.0, 100.0])
    return float(scores.min()) - 3.0, float(scores.max()) + 3.0


def _axes(axes: Axes, limits: tuple[float, float], *, first_column: bool, last_row: bool, drawn: bool) -> None:
    axes.set_ylim(*limits)
    axes.yaxis.set_major_locator(MultipleLocator(20) if limits[1] - limits[0] <= 200 else MaxNLocator(8))
    axes.grid(axis="y")
    if first_column:
        axes.set_ylabel("normalised score")
    if last_row:
        axes.set_xlabel("training steps")
    if not drawn:
        axes.set_xticks([])
        axes.text(0.5, 0.5, "no finished run", transform=axes.transAxes, ha="center", va="center", color=FAINT)
        return
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: step_label(value)))


def step_label(step: float) -> str:
    """A number of steps, short: 500, 7.5k, 20k, 1.25M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(step) >= size:
            return f"{step / size:g}{unit}"
    return f"{step:g}"
