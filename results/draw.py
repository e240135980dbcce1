"""From a plan in the ledger to its table and its curves, all files at once."""

from pathlib import Path

from erdp_core.errors import UserError, suggestion
from orchestration.ledger import Ledger
from results.figures import write_curves
from results.frames import read_plan
from results.table_files import write_table
from results.tables import Table, build_table


def draw_plan(ledger: Ledger, plan_name: str, out: Path) -> tuple[Table, list[Path]]:
    """Write the table and the learning curves of a plan into a folder, under the plan's own protocol.

    Returns the table (`table_text` prints it) and the files written. Raises UserError where the ledger has no plan
    of that name (the nearest is named) or the folder cannot be written.
    """
    plans = ledger.plans()
    if plan_name not in plans:
        raise UserError(f"no plan {plan_name!r} in the ledger {ledger.root}: {suggestion(plan_name, plans)}")
    frames = read_plan(ledger, plan_name, plans[plan_name])
    table = build_table(frames)
    return table, [*write_table(table, out), *write_curves(frames, out)]
