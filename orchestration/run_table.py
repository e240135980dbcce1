"""Train what a table lacks, on whatever machines Ray has, and draw it."""

import sys
from collections.abc import Sequence

from erdp_core.command_line import Parser, run
from orchestration.grid import print_costs, print_plan, print_settings, train_missing
from orchestration.ledger import Ledger
from orchestration.options import Options, parse
from orchestration.plan import Column, Plan, make_plan, missing_runs
from orchestration.tracking import BackgroundTracker, default_uri
from results.draw import draw_plan
from results.table_text import to_markdown

EXAMPLES = """\
  python orchestration/run_table.py --table pointmaze --profile quick --methods erdp,bc-diffusion --seeds 3
  python orchestration/run_table.py --table antmaze --dry-run
  python orchestration/run_table.py --table antmaze --source local --profile quick --seeds 1
  python orchestration/run_table.py --task-file my_task.toml --profile quick
  python orchestration/run_table.py --table gym --tasks hopper-medium-replay-v2 --seeds 0,1,7 \\
      --data hopper-medium-replay-v2=hopper.hdf5 --set agent.alpha=0.05 agent.M=16"""


def command(argv: Sequence[str] | None) -> int:
    """Run the command line; returns 0 when the table is complete, 1 when some of its runs are missing."""
    options = parse(Parser(__doc__ or "", EXAMPLES), argv)
    return run_plan(plan_of(options), options)


def plan_of(options: Options, columns: Sequence[Column] = ()) -> Plan:
    """The plan that options ask for; an ablation's has columns in place of methods."""
    return make_plan(
        options.table,
        profile=options.profile,
        source=options.source,
        protocol=options.protocol,
        tasks=options.tasks,
        methods=options.methods,
        seeds=options.seeds,
        columns=columns,
        settings=options.settings,
        files=options.files,
        environments=options.environments,
    )


def run_plan(plan: Plan, options: Options) -> int:
    """Train what a plan lacks and draw it, or with `--dry-run` show it; returns 0, or 1 when runs are missing."""
    ledger = Ledger(options.ledger)
    writes = options.probe or not options.dry_run
    if writes or ledger.exists:
        ledger = Ledger.open(options.ledger, create=writes)
    to_train = missing_runs(plan, ledger)
    print_plan(plan, ledger, to_train)
    if options.dry_run:
        print_settings(plan)
        print_costs(ledger, [*to_train, *plan.runs_without_data], options.probe)
        return 0

    ledger.write_plan(plan.name, plan.record())
    tracker = BackgroundTracker(ledger, options.tracking_uri or default_uri(ledger))
    problems = train_missing(plan, ledger, to_train, tracker, options.address) if to_train else {}
    tracker.sync([one.run_id for one in plan.runs])
    table, paths = draw_plan(ledger, plan.name, ledger.root / "tables" / plan.name)
    tracker.log_artifacts(plan.name, plan.table, paths)

    print(f"\n{to_markdown(table)}\n")
    print("\n".join(f"wrote {path}" for path in paths))
    warning = tracker.close()
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    else:
        print(f"compare the runs in a browser: {tracker.ui_command()}")
        link = tracker.compare_link([one.run_id for one in plan.runs])
        if link:
            print(f"  and open {link if link.startswith('http') else 'http://127.0.0.1:5000' + link}")
    failed = {one.run_id: ledger.run(one.run_id).failure() for one in plan.runs}
    problems |= {run_id: failure["reason"] for run_id, failure in failed.items() if failure}
    for run_id, reason in problems.items():
        print(f"failed: {run_id}: {reason}", file=sys.stderr)
    if any(one.run_id not in problems for one in missing_runs(plan, ledger)):
        raise KeyboardInterrupt  # Tune takes an interrupt for the wish to end, and returns
    return 1 if problems or plan.gaps else 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return run(command, argv)


if __name__ == "__main__":
    sys.exit(main())
