"""Tables of what is in the ledger, as Markdown, CSV, LaTeX and PNG."""

import sys
from collections.abc import Sequence
from pathlib import Path

from erdp_core.command_line import run
from results.command_line import draw_plans
from results.frames import PlanFrames
from results.table_files import write_table
from results.table_text import to_markdown
from results.tables import build_table

EXAMPLES = """\
  python results/make_tables.py                                       every table of the ledger `runs`
  python results/make_tables.py --table antmaze --protocol offline    one table, read by another protocol"""


def _write(frames: PlanFrames, out: Path, protocol: str) -> list[Path]:
    table = build_table(frames, protocol)
    paths = write_table(table, out)
    print(to_markdown(table))
    return paths


def command(argv: Sequence[str] | None) -> int:
    """Draw what the options name; returns 0."""
    return draw_plans(argv, description=str(__doc__), examples=EXAMPLES, write=_write)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad usage."""
    return run(command, argv, "what was drawn before is there")


if __name__ == "__main__":
    sys.exit(main())
