"""A ledger as one HTML file that can be read, and trusted, without the ledger."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from erdp_core.command_line import Parser, run
from erdp_core.config import PROFILES, PROTOCOLS
from orchestration.ledger import Ledger
from results.command_line import matching_plans
from results.estimators import check_protocol
from results.files import write_result
from results.report import report

EXAMPLES = """\
  python results/make_report.py                              every table of the ledger `runs`
  python results/make_report.py --table antmaze --out pages  one of them"""


def command(argv: Sequence[str] | None) -> int:
    """Write the report; returns 0."""
    parser = Parser(str(__doc__), EXAMPLES)
    parser.add_argument(
        "--ledger", metavar="DIR", default=os.environ.get("ERDP_LEDGER") or "runs",
        help="the ledger (default: $ERDP_LEDGER, else runs under the current directory)",
    )  # fmt: skip
    parser.add_argument("--table", metavar="NAME", help="a table or plan of the ledger (default: all)")
    parser.add_argument("--profile", metavar="NAME", help=f"only plans of this profile: {', '.join(PROFILES)}")
    parser.add_argument(
        "--protocol", metavar="NAME",
        help=f"how evaluations become scores: {', '.join(PROTOCOLS)} (default: the plan's)",
    )  # fmt: skip
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("results/out"), help="default: %(default)s")
    arguments = parser.parse_args(argv)
    if arguments.protocol is not None:
        check_protocol(arguments.protocol)
    ledger = Ledger.open(arguments.ledger)
    names = matching_plans(ledger, arguments.table, arguments.profile)
    page = report(ledger, names, arguments.protocol)
    print(write_result(arguments.out / "report.html", page.encode()).absolute())
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad usage."""
    return run(command, argv, "nothing was changed")


if __name__ == "__main__":
    sys.exit(main())
