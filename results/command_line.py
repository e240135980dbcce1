"""What the scripts of this package share: their options, which plans they mean, how they end."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from erdp_core.command_line import Parser
from erdp_core.config import PROFILES, PROTOCOLS
from erdp_core.errors import UserError, suggestion
from orchestration.ledger import Ledger
from results.estimators import check_protocol
from results.frames import PlanFrames, read_plan

Write = Callable[[PlanFrames, Path, str], list[Path]]
"""Draws a plan into a folder under a protocol and returns the files written."""


@dataclass(frozen=True)
class Request:
    """What a script was asked for, beside which table or figure."""

    ledger: str
    profile: str | None
    protocol: str | None
    out: Path


@dataclass(frozen=True)
class Numbered:
    """What a script draws of the ERDP paper, by number."""

    option: str
    """`--table`, whose values may then be names too, or `--figure`."""
    numbers: Sequence[int]
    write: Callable[[int, Request], list[Path]]


def draw_plans(argv: Sequence[str] | None, *, description: str, examples: str, write: Write, numbered: Numbered) -> int:
    """Run a script that draws every plan its options name, and say where the files went. Returns its exit status.

    numbered: what it draws instead for a number of the paper's.
    """
    parser = Parser(description, examples)
    parser.add_argument(
        "--ledger", metavar="DIR", default=os.environ.get("ERDP_LEDGER") or "runs",
        help="the ledger (default: $ERDP_LEDGER, else runs under the current directory)",
    )  # fmt: skip
    parser.add_argument("--table", metavar="NAME", help="a table or plan of the ledger (default: all)")
    if numbered.option != "--table":
        parser.add_argument(numbered.option, metavar="N", help=f"of the paper: {_listed(numbered)}")
    parser.add_argument("--profile", metavar="NAME", help=f"only plans of this profile: {', '.join(PROFILES)}")
    parser.add_argument(
        "--protocol", metavar="NAME",
        help=f"how evaluations become scores: {', '.join(PROTOCOLS)} (default: the plan's)",
    )  # fmt: skip
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("results/out"), help="default: %(default)s")
    arguments = parser.parse_args(argv)
    if arguments.protocol is not None:
        check_protocol(arguments.protocol)
    number = getattr(arguments, numbered.option.removeprefix("--"))
    if number is not None and (numbered.option != "--table" or number.isdecimal()):
        if arguments.table not in (None, number):
            raise UserError(f"{numbered.option} and --table name different things: leave one out")
        if arguments.profile is not None:
            _check_profile(arguments.profile)
        request = Request(arguments.ledger, arguments.profile, arguments.protocol, arguments.out)
        print("\n".join(str(path.absolute()) for path in numbered.write(_checked(number, numbered), request)))
        return 0
    ledger = Ledger.open(arguments.ledger)
    plans = ledger.plans()
    for name in matching_plans(ledger, arguments.table, arguments.profile):
        frames = read_plan(ledger, name, plans[name])
        for path in write(frames, arguments.out, arguments.protocol or frames.plan["protocol"]):
            print(path.absolute())
    return 0


def _listed(numbered: Numbered) -> str:
    return ", ".join(map(str, numbered.numbers))


def _checked(number: str, numbered: Numbered) -> int:
    if not number.isdecimal() or int(number) not in numbered.numbers:
        raise UserError(f"{numbered.option} {number}: the numbers are {_listed(numbered)}")
    return int(number)


def _check_profile(profile: str) -> None:
    if profile not in PROFILES:
        raise UserError(f"unknown profile {profile!r}: {suggestion(profile, PROFILES)}")


def matching_plans(ledger: Ledger, table: str | None, profile: str | None) -> list[str]:
    """Names of the ledger's plans for a table (or of that name) and a profile.

    Raises UserError where there is none; a name that no plan has is answered with the nearest one.
    """
    if profile is not None:
        _check_profile(profile)
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
