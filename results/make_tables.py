"""Tables of what is in the ledger, and those of the paper beside what was measured, as Markdown, CSV, LaTeX and PNG."""

import sys
from collections.abc import Sequence
from pathlib import Path

from erdp_core.command_line import run
from results.command_line import Numbered, Request, draw_plans
from results.frames import PlanFrames
from results.paper_files import NUMBERS, write_paper_table
from results.table_files import write_table
from results.table_text import to_markdown
from results.tables import build_table

EXAMPLES = """\
  python results/make_tables.py                                       every table of the ledger `runs`
  python results/make_tables.py --table antmaze --protocol offline    one table, read by another protocol
  python results/make_tables.py --table 3                             Table 3 of the paper: printed, and measured"""


def _write(frames: PlanFrames, out: Path, protocol: str) -> list[Path]:
    table = build_table(frames, protocol)
    paths = write_table(table, out)
    print(to_markdown(table))
    return paths


def _write_numbered(number: int, request: Request) -> list[Path]:
    text, paths = write_paper_table(number, request)
    print(text)
    return paths


def command(argv: Sequence[str] | None) -> int:
    """Draw what the options name; returns 0."""
    numbered = Numbered("--table", NUMBERS, _write_numbered)
    return draw_plans(argv, description=str(__doc__), examples=EXAMPLES, write=_write, numbered=numbered)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad usage."""
    return run(command, argv, "what was drawn before is there")


if __name__ == "__main__":
    sys.exit(main())
