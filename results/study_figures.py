"""How a search went: the value of its trials in turn, and against each setting that they vary."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from orchestration.ledger import Ledger, LedgerError, Record
from results.figure_style import FAINT, PALETTE, panels, save_figure, style

WIDE, HIGH, MARGIN = 2.4, 1.9, 0.55
BLUE, ORANGE = PALETTE[0], PALETTE[1]
READING = (
    "Filled: trials trained to the end; hollow: those given up, by the last value that they reported; line: the best "
    "so far; dashes: the default."
)


def write_study_figure(ledger: Ledger, name: str, folder: Path) -> list[Path]:
    """Write `<name>-search.png` and `.svg` into a folder.

    Raises UserError where it cannot be written, LedgerError where the ledger's record of the search is damaged.
    """
    record = ledger.study(name)
    try:
        with style():
            figure = draw_study(record)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise LedgerError(f"{ledger.root / 'studies' / name}.json is damaged: run the search again") from None
    return [save_figure(figure, folder / f"{name}-search.{ending}") for ending in ("png", "svg")]


def draw_study(record: Record) -> Figure:
    """The trials' values in turn, a panel for each setting, and where there are several, how much each matters."""
    space, importances = record["space"], record["importances"]
    figure, [axes] = panels(
        1, 1 + len(space) + bool(importances), WIDE, HIGH, [READING, *record["caption"]], margin=MARGIN
    )
    trials = [(trial, value) for trial in record["trials"] if (value := _value(trial)) is not None]
    history = axes[0]
    _dots(history, [(trial["number"], value, trial["state"]) for trial, value in trials])
    best = _best_so_far(trials)
    history.step([number for number, _ in best], [value for _, value in best], where="post", color=ORANGE, zorder=1)
    history.set(title="trials in turn", xlabel="trial", ylabel="score")
    history.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for panel, one in zip(axes[1:], space, strict=False):
        key = one["key"]
        _dots(panel, [(trial["params"][key], value, trial["state"]) for trial, value in trials])
        if one["is_log"]:
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.xaxis.set_minor_locator(NullLocator())
        panel.axvline(record["default"][key], color=FAINT, linestyle="--", linewidth=1)
        panel.set_title(key)
    if importances:
        _bars(axes[-1], importances)
    return figure


def _value(trial: Mapping[str, Any]) -> float | None:
    """Of a finished trial its value; of one given up what it reported last; None for the others."""
    if trial["state"] == "finished":
        return float(trial["value"])
    if trial["state"] == "pruned" and trial["reports"]:
        return float(trial["reports"][max(trial["reports"], key=int)])
    return None


def _best_so_far(trials: Sequence[tuple[Mapping[str, Any], float]]) -> list[tuple[int, float]]:
    """The largest value of the trials finished by each number."""
    found: list[tuple[int, float]] = []
    for trial, value in trials:
        if trial["state"] == "finished":
            found.append((trial["number"], max(value, found[-1][1]) if found else value))
    return found


def _dots(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    for state, colour in (("finished", BLUE), ("pruned", "none")):
        chosen = [(x, y) for x, y, of in points if of == state]
        x, y = [x for x, _ in chosen], [y for _, y in chosen]
        axes.scatter(x, y, s=22, facecolor=colour, edgecolor=BLUE, linewidth=1, zorder=2)
    axes.grid(axis="y")


def _bars(axes: Axes, importances: Mapping[str, float]) -> None:
    in_order = sorted(importances.items(), key=lambda item: item[1])
    bars = axes.barh([name.rpartition(".")[2] for name, _ in in_order], [share for _, share in in_order], color=BLUE)
    axes.bar_label(bars, [f" {share:.0%}" for _, share in in_order])
    axes.set(title="importance", xlabel="telling the best trials from the others", xlim=(0, 1.15))
