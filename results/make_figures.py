"""Learning curves of what is in the ledger, as PNG and SVG."""

import sys
from collections.abc import Sequence

from results.command_line import draw_plans
from results.figures import write_curves

EXAMPLES = """examples:
  python results/make_figures.py                      curves of every table of the ledger `runs`
  python results/make_figures.py --table antmaze --profile quick --out figures
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad usage."""
    return draw_plans(argv, description=str(__doc__), examples=EXAMPLES, write=write_curves)


if __name__ == "__main__":
    sys.exit(main())
