"""What the scripts of this package share: their options, which plans they mean, how they end."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from erdp_core.command_line import Parser
from erdp_core.config import PROFILES, PROTOCOLS
from erdp_core.errors import UserError, suggestion
from orchestration.ledger import Ledger
from results.estimators import check_protocol
from results.frames import PlanFrames, read_plan

Write = Callable[[PlanFrames, Path, str], list[Path]]
"""Draws a plan into a folder under a protocol and returns the files written."""


def draw_plans(argv: Sequence[str] | None, *, description: str, examples: str, write: Write) -> int:
    """Run a script that draws every plan its options name, and say where the files went. Returns its exit status."""
    parser = Parser(description, examples)
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
    plans = ledger.plans()
    for name in matching_plans(ledger, arguments.table, arguments.profile):
        frames = read_plan(ledger, name, plans[name])
        for path in write(frames, arguments.out, arguments.protocol or frames.plan["protocol"]):
            print(path.absolute())
    return 0


def matching_plans(ledger: Ledger, table: str | None, profile: str | None) -> list[str]:
    """Names of the ledger's plans for a table (or of that name) and a profile.

    Raises UserError where there is none; a name that no plan has is answered with the nearest one.
    """
    if profile is not None and profile not in PROFILES:
        raise UserError(f"unknown profile {profile!r}: {suggestion(profile, PROFILES)}")
    plans = ledger.plans()
    if not plans:
        raise UserError(f"the ledger {ledger.root} has no table yet: train one with orchestration/run_table.py")
    if table is not None:
        names = {*plans, *(plan["table"] for plan in plans.values())}
        if table not in names:
            raise UserError(f"no table {table!r} in the ledger {ledger.root}: {suggestion(table, names)}")
        plans = {name: plan for name, plan in plans.items() if table in (name, plan["table"])}
    found = [name for name, plan in plans.items() if profile in (None, plan["profile"])]
    if not found:
        present = sorted({plan["profile"] for plan in plans.values()})
        raise UserError(f"no such table with profile {profile!r}: the ledger has it with {', '.join(present)}")
    return found
