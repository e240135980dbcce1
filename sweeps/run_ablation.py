"""Train what an ablation lacks and draw its table: settings, and methods, that differ from column to column."""

import sys
from collections.abc import Sequence

from erdp_core.command_line import Parser, run, user_path
from erdp_core.errors import UserError
from erdp_core.task_file import add_task_files
from erdp_core.tasks import TASKS
from orchestration.options import add_options, check_names, checked, chosen_tasks
from orchestration.run_table import plan_of, run_plan
from sweeps.ablations import ABLATIONS
from sweeps.sweep_file import read_sweep

EXAMPLES = """\
  python sweeps/run_ablation.py --ablation diffusion-ql-steps --dry-run
  python sweeps/run_ablation.py --ablation parts --tasks pointmaze-large --profile quick --seeds 3
  python sweeps/run_ablation.py --ablation my_sweep.toml --profile quick        see sweeps/sweep_file.py"""


def command(argv: Sequence[str] | None) -> int:
    """Run the command line; returns 0 when the table is complete, 1 when some of its runs are missing."""
    parser = Parser(str(__doc__), EXAMPLES)
    names = "; ".join(f"{name}: {ablation.about}" for name, ablation in ABLATIONS.items())
    parser.add_argument("--ablation", required=True, metavar="NAME", help=f"{names}; or a sweep of yours, a .toml file")
    add_options(parser)
    arguments = parser.parse_args(argv)
    if arguments.ablation.endswith(".toml"):
        name, ablation = read_sweep(user_path(arguments.ablation))
    else:
        check_names("ablation", [arguments.ablation], ABLATIONS)
        name, ablation = arguments.ablation, ABLATIONS[arguments.ablation]
    own = add_task_files(arguments.task_file)
    named = arguments.tasks or list(own or ablation.tasks)
    if not named:
        raise UserError(f"{arguments.ablation} names no tasks: give some with --tasks")
    tasks = chosen_tasks(named, tuple(TASKS), "the registry")
    methods = tuple(dict.fromkeys(column.method for column in ablation.columns))
    options = checked(arguments, f"ablation-{name}", tasks, methods)
    swept = {setting.partition("=")[0] for column in ablation.columns for setting in column.settings}
    for setting in options.settings:
        if setting.partition("=")[0] in swept:
            raise UserError(f"--set {setting} is what the columns of {name} differ in: leave it out")
    return run_plan(plan_of(options, ablation.columns), options)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return run(command, argv)


if __name__ == "__main__":
    sys.exit(main())
