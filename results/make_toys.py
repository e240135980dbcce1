"""The figures of the toy experiments in the ledger, drawn again."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from erdp_core.command_line import Parser, run
from erdp_core.errors import UserError
from orchestration.ledger import Ledger
from results.toy_figures import write_toy_figure

EXAMPLES = "  python results/make_toys.py        every toy of the ledger `runs`"


def command(argv: Sequence[str] | None) -> int:
    """Draw every toy of a ledger; returns 0."""
    parser = Parser(str(__doc__), EXAMPLES)
    parser.add_argument(
        "--ledger", metavar="DIR", default=os.environ.get("ERDP_LEDGER") or "runs",
        help="the ledger (default: $ERDP_LEDGER, else runs under the current directory)",
    )  # fmt: skip
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("results/out"), help="default: %(default)s")
    arguments = parser.parse_args(argv)
    ledger = Ledger.open(arguments.ledger)
    toys = ledger.toys()
    if not toys:
        raise UserError(f"the ledger {ledger.root} has no toy yet: train one with sweeps/toys.py")
    for name in toys:
        for path in write_toy_figure(ledger, name, arguments.out):
            print(path.absolute())
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad usage."""
    return run(command, argv, "what was drawn before is there")


if __name__ == "__main__":
    sys.exit(main())
