"""The files of a numbered table of the paper."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from erdp_core.config import PROFILES
from orchestration.ledger import Ledger
from results.command_line import Request
from results.figure_style import save_figure
from results.files import write_result
from results.matching import RunsByConfig
from results.paper_blocks import blocks, long_form, measured_parts
from results.paper_settings import HYPERPARAMETERS, TIMES, hyperparameter_blocks, times_blocks
from results.paper_tables import PAPER_TABLES
from results.table_image import draw_table
from results.table_layout import PrintedTable
from results.table_text import latex_of, markdown_of

NUMBERS = tuple(sorted({*PAPER_TABLES, TIMES, HYPERPARAMETERS}))


def write_paper_table(number: int, request: Request) -> tuple[str, list[Path]]:
    """Write `table-N-PROFILE.md`, `.csv`, `.tex`, and a `.png` each block, into a folder.

    Of the profile that was asked for, or of each that the ledger has runs of. Returns the Markdown and the files.

    Raises UserError where the folder cannot be written, LedgerError where a run's record is damaged.
    """
    if number == HYPERPARAMETERS:
        return _written(f"table-{number}", *hyperparameter_blocks(), request.out)
    ledger = Ledger(request.ledger)
    # The paper's numbers can be had before anything is trained.
    runs = RunsByConfig.of(Ledger.open(request.ledger)) if ledger.exists else RunsByConfig()
    protocol = request.protocol or "paper"
    found = {profile: _drawn(number, runs, profile, protocol) for profile in _profiles(request.profile)}
    wanted = [profile for profile, one in found.items() if one.has_runs] or [request.profile or "paper"]
    written = [
        _written(f"table-{number}-{profile}", found[profile].blocks, found[profile].frame, request.out)
        for profile in wanted
    ]
    return "\n".join(text for text, _ in written), [path for _, paths in written for path in paths]


@dataclass(frozen=True)
class _Drawn:
    blocks: Mapping[str, PrintedTable]
    frame: pd.DataFrame
    has_runs: bool


def _profiles(asked: str | None) -> list[str]:
    return [asked] if asked else list(PROFILES)


def _drawn(number: int, runs: RunsByConfig, profile: str, protocol: str) -> _Drawn:
    if number == TIMES:
        found, frame = times_blocks(runs, profile)
        return _Drawn(found, frame, len(frame) > 0)
    parts = measured_parts(PAPER_TABLES[number], runs, profile, protocol)
    of_parts = {
        f"{part.part.label.lower()}-{name}".removeprefix("-"): block
        for part in parts
        for name, block in blocks(part).items()
    }
    return _Drawn(of_parts, long_form(parts), any(part.has_runs for part in parts))


def _written(stem: str, found: Mapping[str, PrintedTable], frame: pd.DataFrame, folder: Path) -> tuple[str, list[Path]]:
    """Markdown of all blocks, and the files that were written."""
    text = "\n".join(map(markdown_of, found.values()))
    latex = "\n".join(latex_of(block, f"{stem}-{name}") for name, block in found.items())
    paths = [
        write_result(folder / f"{stem}.md", text.encode()),
        write_result(folder / f"{stem}.csv", frame.to_csv(index=False).encode()),
        write_result(folder / f"{stem}.tex", latex.encode()),
    ]
    paths += [save_figure(draw_table(block), folder / f"{stem}-{name}.png") for name, block in found.items()]
    return text, paths
