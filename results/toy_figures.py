"""Figures of the toy experiments, from the arrays that the ledger keeps of them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from orchestration.ledger import Ledger, LedgerError, Record
from results.figure_style import FAINT, PALETTE, panels, save_figure, style

PANEL, SMALL_PANEL = 1.75, 1.15
WIDE, HIGH = 2.35, 1.75
ACROSS = 4
BLUE, ORANGE = PALETTE[0], PALETTE[1]
REACH = 3.0
"""Spreads of a mode's data within which an action counts as of that mode."""

Arrays = Mapping[str, npt.NDArray[Any]]


def write_toy_figure(ledger: Ledger, name: str, folder: Path, stem: str = "") -> list[Path]:
    """Write `<name>.png` and `.svg` into a folder, or files of another stem.

    Raises UserError where it cannot be written, LedgerError where the ledger's files are damaged.
    """
    record, arrays = ledger.toy(name)
    try:
        draw = DRAWN.get(record["toy"], draw_bandit)
        with style():
            figure = draw(record, arrays)
    except (KeyError, TypeError, ValueError, IndexError, StopIteration):
        damaged = ledger.root / "toys" / f"{name}.json"
        raise LedgerError(f"{damaged} or its .npz is damaged: delete both and run the toy again") from None
    return [save_figure(figure, folder / f"{stem or name}.{ending}") for ending in ("png", "svg")]


def draw_bandit(record: Record, arrays: Arrays) -> Figure:
    """The data and, for each number of diffusion steps, the samples of cloning (above) and of Q-learning (below)."""
    variants = _trained(record)
    steps = sorted({variant["settings"]["T"] for variant in variants})
    columns = 1 + len(steps)
    lines = [*record["caption"], "Below each panel: share of the actions within three of its spreads of each mode."]
    figure, axes = panels(2, columns, PANEL, PANEL + 0.2, lines)
    centres, spread = arrays["centres"], float(arrays["spread"])
    for row, learns in enumerate((False, True)):
        for column, T in enumerate(steps, start=1):
            index = next(
                index
                for index, variant in enumerate(variants)
                if variant["settings"]["T"] == T and (variant["settings"]["eta"] > 0) == learns
            )
            _scatter(axes[row][column], arrays[f"{index}/actions"][0], centres, spread, BLUE if learns else ORANGE)
            axes[row][column].set_title(f"{'Q-learning' if learns else 'cloning'}, N = {T}")
    _scatter(axes[0][0], arrays["data"], centres, spread, FAINT)
    axes[0][0].set_title("data")
    for (x, y), reward in zip(centres, arrays["rewards"], strict=True):
        axes[0][0].annotate(f"{reward:g}", (x, y), (0, -13 if y > 0 else 9), textcoords="offset points", ha="center")
    axes[1][0].set_visible(False)
    return figure


def _trained(record: Record) -> list[Record]:
    if not record["variants"]:
        raise ValueError("nothing to draw")
    found: list[Record] = record["variants"]
    return found


def _scatter(axes: Axes, actions: npt.NDArray[Any], centres: npt.NDArray[Any], spread: float, colour: str) -> None:
    axes.scatter(actions[:, 0], actions[:, 1], s=2, color=colour, alpha=0.35, linewidths=0)
    axes.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08), xticks=(-1, 0, 1), yticks=(-1, 0, 1), aspect="equal")
    axes.set_xlabel(", ".join(f"{share:.0%}" for share in in_modes(actions, centres, REACH * spread)), fontsize=8)


def in_modes(actions: npt.NDArray[Any], centres: npt.NDArray[Any], reach: float) -> npt.NDArray[Any]:
    """Share of actions [N, 2] within a distance of each of the centres [K, 2]."""
    distances = np.linalg.norm(actions[:, None] - centres[None], axis=2)
    found: npt.NDArray[Any] = (distances < reach).mean(axis=0)
    return found


def draw_line(record: Record, arrays: Arrays) -> Figure:
    """A panel a variant: its values of the first action from 0 beside the true ones, and what it does there."""
    variants = _trained(record)
    down = math.ceil(len(variants) / ACROSS)
    lines = [
        *record["caption"],
        "Grey dashes: the true value of a first action from 0, the second being the best. Blue: mean over seeds of the "
        "critics' mean; orange: of their lower confidence bound, where they are more than two. Grey: first actions of "
        "all seeds. In each title: the mean return of an episode, ± standard deviation over seeds; the best is "
        f"{arrays['true_values'].max():.2f}.",
    ]
    figure, axes = panels(down, ACROSS, WIDE, HIGH, lines)
    for index, variant in enumerate(variants):
        _values(axes[index // ACROSS][index % ACROSS], index, variant, arrays)
    for empty in range(len(variants), down * ACROSS):
        axes[empty // ACROSS][empty % ACROSS].set_visible(False)
    return figure


def _values(axes: Axes, index: int, variant: Record, arrays: Arrays) -> None:
    grid, truth = arrays["grid"], arrays["true_values"]
    low, high = float(truth.min()) - 0.8, float(truth.max()) + 0.4
    axes.plot(grid, truth, color=FAINT, linestyle="--", linewidth=1)
    q = arrays.get(f"{index}/q")
    if q is not None:
        mean = q.mean(axis=1)
        axes.plot(grid, mean.mean(axis=0), color=BLUE)
        if q.shape[1] > 2:
            bound = mean - variant["settings"].get("beta", 4.0) * q.std(axis=1, ddof=1)
            axes.plot(grid, bound.mean(axis=0), color=ORANGE)
    counts, edges = np.histogram(arrays[f"{index}/first_actions"], bins=50, range=(-1, 1))
    heights = low + 0.45 * (high - low) * counts / counts.max()
    axes.fill_between(edges, low, np.append(heights, heights[-1]), step="post", color=FAINT, alpha=0.35, linewidth=0)
    returns = arrays[f"{index}/returns"].mean(axis=1)
    spread = f" ± {returns.std(ddof=1):.2f}" if len(returns) > 1 else ""
    axes.set_title(f"{variant['label']}: {returns.mean():.2f}{spread}", fontsize=9)
    axes.set(xlim=(-1, 1), ylim=(low, high), xticks=(-1, -0.5, 0, 0.5, 1))


def draw_sampling(record: Record, arrays: Arrays) -> Figure:
    """For each number of steps the points that optimal sampling (above) and the reverse SDE (below) bring back."""
    figure, axes = _clouds(record, arrays, {"optimal": "optimal, T = ", "reverse": "reverse SDE, T = "}, "T = ", 1.3)
    for row, name in zip(axes, ("optimal", "reverse"), strict=True):
        for panel, distance in zip(row, arrays[f"distance_{name}"], strict=True):
            panel.set_xlabel(f"{distance:.2f}", fontsize=8)
    return figure


def draw_process(record: Record, arrays: Arrays) -> Figure:
    """Points at several times on their way to noise (above) and back (below)."""
    return _clouds(record, arrays, {"forward": "to noise, t = ", "back": "back, t = "}, "t = ", 3.0)[0]


def _clouds(
    record: Record, arrays: Arrays, rows: Mapping[str, str], title: str, reach: float
) -> tuple[Figure, list[list[Axes]]]:
    """A row of panels for each prefix of arrays, whose first title is its own; a column for each of `steps`."""
    steps = [int(step) for step in arrays["steps"]]
    figure, axes = panels(2, len(steps), SMALL_PANEL, SMALL_PANEL + 0.15, record["caption"])
    for row, (name, first), colour in zip(axes, rows.items(), (BLUE, ORANGE), strict=True):
        for column, (panel, step) in enumerate(zip(row, steps, strict=True)):
            points = arrays[f"{name}/{step}"]
            panel.scatter(points[:, 0], points[:, 1], s=1.5, color=colour, alpha=0.5, linewidths=0)
            panel.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=(), yticks=(), aspect="equal")
            panel.set_title(f"{title if column else first}{step}", fontsize=9)
    return figure, axes


def draw_states(record: Record, arrays: Arrays) -> Figure:
    """States of each task's data in the plane, coloured by the return of the episode that they are from."""
    tasks = record["tasks"]
    figure, axes = panels(math.ceil(len(tasks) / 3), min(3, len(tasks)), WIDE, WIDE, record["caption"], margin=0.4)
    flat = [panel for row in axes for panel in row]
    for panel, task in zip(flat, tasks, strict=False):
        places, returns = arrays[f"{task}/places"], arrays[f"{task}/returns"]
        drawn = panel.scatter(places[:, 0], places[:, 1], c=returns, s=4, cmap="viridis", linewidths=0)
        panel.set(title=task, xticks=(), yticks=())
        figure.colorbar(drawn, ax=panel, fraction=0.05, pad=0.02).ax.tick_params(labelsize=7)
    for panel in flat[len(tasks) :]:
        panel.set_axis_off()
    return figure


DRAWN = {"two-steps": draw_line, "sampling": draw_sampling, "process": draw_process, "states": draw_states}
"""The others are bandits."""
