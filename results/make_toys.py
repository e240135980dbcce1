"""The figures of the toy experiments in the ledger, drawn again."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from erdp_core.command_line import Parser, run
from erdp_core.errors import UserError
from orchestration.ledger import Ledger, LedgerError
from results.toy_figures import write_toy_figure

EXAMPLES = "  python results/make_toys.py        every toy of the ledger `runs`"


def command(argv: Sequence[str] | None) -> int:
    """Draw every toy of a ledger; returns 0, or 1 where the files of some are damaged."""
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
    damaged = 0
    for name in toys:
        try:
            paths = write_toy_figure(ledger, name, arguments.out)
        except LedgerError as error:
            print(f"error: {error}", file=sys.stderr)
            damaged += 1
            continue
        print("\n".join(str(path.absolute()) for path in paths))
    return 1 if damaged else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 some are damaged, 2 bad usage."""
    return run(command, argv, "what was drawn before is there")


if __name__ == "__main__":
    sys.exit(main())
