"""Learning curves of what is in the ledger, and the figures of the paper, as PNG and SVG."""

import sys
from collections.abc import Sequence

from erdp_core.command_line import run
from results.command_line import Numbered, draw_plans
from results.figures import write_curves
from results.paper_figures import NUMBERS, write_paper_figure

EXAMPLES = """\
  python results/make_figures.py                      curves of every table of the ledger `runs`
  python results/make_figures.py --table antmaze --profile quick --out figures
  python results/make_figures.py --figure 8           Figure 8 of the paper: curves by the number of critics"""


def command(argv: Sequence[str] | None) -> int:
    """Draw what the options name; returns 0."""
    numbered = Numbered("--figure", NUMBERS, write_paper_figure)
    return draw_plans(argv, description=str(__doc__), examples=EXAMPLES, write=write_curves, numbered=numbered)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad usage."""
    return run(command, argv, "what was drawn before is there")


if __name__ == "__main__":
    sys.exit(main())
