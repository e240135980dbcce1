"""Learning curves of what is in the ledger, as PNG and SVG."""

import sys
from collections.abc import Sequence

from erdp_core.command_line import run
from results.command_line import draw_plans
from results.figures import write_curves

EXAMPLES = """\
  python results/make_figures.py                      curves of every table of the ledger `runs`
  python results/make_figures.py --table antmaze --profile quick --out figures"""


def command(argv: Sequence[str] | None) -> int:
    """Draw what the options name; returns 0."""
    return draw_plans(argv, description=str(__doc__), examples=EXAMPLES, write=write_curves)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad usage."""
    return run(command, argv, "what was drawn before is there")


if __name__ == "__main__":
    sys.exit(main())
