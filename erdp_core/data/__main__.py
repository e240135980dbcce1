"""`python -m erdp_core.data`: which data are there, getting D4RL's files, and making data of one's own."""

import argparse
import sys
from collections.abc import Callable, Sequence

from erdp_core.command_line import Parser, run, user_path
from erdp_core.errors import DataError, UserError, suggestion
from erdp_core.tasks import TABLES, TASKS, Task, get_task

# Imports that take a second stand in the functions that need them, so that mistakes and help are told at once.

COMMAND = "python -m erdp_core.data"
EXAMPLES = f"""\
  {COMMAND} list
  {COMMAND} download antmaze
  {COMMAND} collect pointmaze

Each command has a --help of its own. D4RL's files are in $D4RL_DATASET_DIR or ~/.d4rl/datasets, Minari's datasets and
collections in $MINARI_DATASETS_PATH or ~/.minari/datasets."""
LIST_EXAMPLES = f"""\
  {COMMAND} list
  {COMMAND} list --task-file my_task.toml

A task's line has D4RL's reference scores and the steps of an episode; those below it have where a policy trained on a
source's data is evaluated, rows, rows with a positive reward, size on disk, fingerprint (or missing, or damaged), and
what the data are called where they are from. The first time data are seen they are read whole. Exit status 1: some
data are damaged."""
DOWNLOAD_EXAMPLES = f"""\
  {COMMAND} download hopper-medium-v2
  {COMMAND} download all
  {COMMAND} download antmaze --mirror https://data.example.org/d4rl/

What came before a break is kept, and the same command goes on from there. Mirrors are asked in this order: those of
--mirror, those of $ERDP_D4RL_MIRRORS (between spaces), D4RL's host, its copy at Hugging Face. Exit status 1: some file
could not be had."""
VERIFY_EXAMPLES = f"""\
  {COMMAND} verify
  {COMMAND} verify hopper-medium-v2 antmaze

The sha256 of a file is in FILE.sha256 beside it, as sha256sum writes it. Exit status 1: some file differs from its
record, is damaged or missing."""
IMPORT_EXAMPLES = f"""\
  {COMMAND} import-d4rl hopper-medium-v2 ~/Downloads/hopper_medium-v2.hdf5"""
COLLECT_EXAMPLES = f"""\
  {COMMAND} collect pointmaze-umaze
  {COMMAND} collect antmaze --policy ant.npz --rows 200000
  {COMMAND} collect --environment Hopper-v5 --dataset mine/hopper/first-v0 --policy hopper.npz --rows 100000

erdp_core/data/policy_file.py says what a policy's file holds. The same options give the same data."""


class _CommandParser(Parser):
    """The parser of one of the commands."""

    def __init__(self, prog: str, description: str, examples: str) -> None:
        super().__init__(description, examples)
        self.prog = prog


def _parser() -> tuple[argparse.ArgumentParser, Sequence[str]]:
    """The parser, and the names of its commands."""
    parser = Parser("The data that tasks are trained on.", EXAMPLES)
    parser.prog = COMMAND
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_CommandParser)

    def add(name: str, act: Callable[[argparse.Namespace], int], told: str, examples: str) -> argparse.ArgumentParser:
        # The sentence is the command's help and the beginning of its own.
        command = commands.add_parser(name, help=told, description=f"{told[0].upper()}{told[1:]}.", examples=examples)
        command.set_defaults(act=act)
        return command

    listed = add("list", _list, "every task, and which data are present for it", LIST_EXAMPLES)
    listed.add_argument(
        "--task-file", nargs="+", action="extend", default=[], metavar="FILE.toml", help="and tasks of your own"
    )

    download = add("download", _download, "get D4RL's files that are missing", DOWNLOAD_EXAMPLES)
    download.add_argument("tasks", nargs="+", metavar="TASK", help="a task, or a table of tasks such as antmaze or all")
    download.add_argument(
        "--mirror", action="append", default=[], metavar="URL", help="ask this one first (may be given again)"
    )

    verify = add("verify", _verify, "compare D4RL's files with their sha256 on record", VERIFY_EXAMPLES)
    verify.add_argument("tasks", nargs="*", metavar="TASK", help="a task or table; every file that is present if none")

    imported = add("import-d4rl", _import, "put a file got elsewhere where D4RL's cache has it", IMPORT_EXAMPLES)
    imported.add_argument("task", metavar="TASK", help="for example hopper-medium-v2")
    imported.add_argument("file", metavar="FILE", help="in D4RL's layout; it is copied")
    imported.add_argument("--overwrite", action="store_true", help="put it in the place of another one")

    collect = add("collect", _collect, "make a dataset, with Minari, on this machine", COLLECT_EXAMPLES)
    collect.add_argument("tasks", nargs="*", metavar="TASK", help="a PointMaze or AntMaze task, or a table of such")
    collect.add_argument("--policy", metavar="FILE", help="what acts (PointMaze has a controller of its own)")
    collect.add_argument("--rows", type=int, metavar="N", help="how many (PointMaze: 60000, AntMaze: 200000)")
    collect.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    collect.add_argument("--overwrite", action="store_true", help="collect anew data that are there already")
    collect.add_argument("--environment", metavar="ID", help="any gymnasium environment, in place of a TASK")
    collect.add_argument("--dataset", metavar="ID", help="with --environment: the dataset's id in Minari")
    collect.add_argument(
        "--noise", type=float, metavar="STD", help="with --environment: noise added to actions (default: 0)"
    )
    return parser, list(commands.choices)


def command(argv: Sequence[str] | None) -> int:
    """Run the command line; returns 0, or 1 where some data are damaged or could not be had."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser, commands = _parser()
    if words and not words[0].startswith("-") and words[0] not in commands:
        raise UserError(f"unknown command {words[0]!r}: {suggestion(words[0], commands)}")
    arguments = parser.parse_args(words)
    status: int = arguments.act(arguments)
    return status


def _tasks(names: Sequence[str]) -> list[Task]:
    """The tasks of these names, or of tables of these names, each once."""
    for name in names:
        if name not in TASKS and name not in TABLES:
            raise UserError(f"unknown task or table {name!r}: {suggestion(name, (*TASKS, *TABLES))}")
    return [get_task(task) for task in dict.fromkeys(task for name in names for task in TABLES.get(name, (name,)))]


def _list(arguments: argparse.Namespace) -> int:
    from erdp_core.data.listing import print_list
    from erdp_core.task_file import add_task_files

    add_task_files(arguments.task_file)
    return print_list(TASKS.values())


def _download(arguments: argparse.Namespace) -> int:
    tasks = _tasks(arguments.tasks)
    from erdp_core.data.download import Downloader, find_mirrors

    downloader = Downloader(find_mirrors(arguments.mirror))

    def download(task: Task) -> str:
        path, sha256, url = downloader.download(task)
        return f"{'there already' if url is None else f'from {url}'}, sha256 {sha256}, {path}"

    return _each(tasks, download)


def _verify(arguments: argparse.Namespace) -> int:
    tasks = _tasks(arguments.tasks)
    from erdp_core.data.d4rl_files import d4rl_path, verify

    if not tasks:
        tasks = [task for task in TASKS.values() if (path := d4rl_path(task)) is not None and path.exists()]
        if not tasks:
            print("none of D4RL's files is present")

    def compare(task: Task) -> str:
        path, sha256, record = verify(task, record=True)
        told = {"same": "as recorded", "new": "recorded now, as there was no record"}[record]
        return f"{told}, sha256 {sha256}, {path}"

    return _each(tasks, compare)


def _each(tasks: Sequence[Task], act: Callable[[Task], str]) -> int:
    """Print what each gives, or its failure on stderr; returns 1 if any failed."""
    status = 0
    for task in tasks:
        try:
            print(f"{task.name}: {act(task)}", flush=True)
        except DataError as error:
            print(f"error: {task.name}: {error}", file=sys.stderr)
            status = 1
    return status


def _import(arguments: argparse.Namespace) -> int:
    task, file = get_task(arguments.task), user_path(arguments.file)
    from erdp_core.data.d4rl_files import import_file

    path, dataset = import_file(task, file, overwrite=arguments.overwrite)
    print(f"{task.name}: {len(dataset.transitions)} rows, {dataset.fingerprint}, in {path}")
    return 0


def _collect(arguments: argparse.Namespace) -> int:
    tasks = _tasks(arguments.tasks)
    _check_collect(arguments)
    policy = None if arguments.policy is None else user_path(arguments.policy)
    common = {"rows": arguments.rows, "seed": arguments.seed, "overwrite": arguments.overwrite}
    from erdp_core.data.collect_command import collect_by_policy, collect_tasks

    if policy is not None and arguments.environment is not None:
        noise = arguments.noise or 0.0
        collect_by_policy(arguments.environment, policy, arguments.dataset, noise=noise, **common)
    else:
        collect_tasks(tasks, policy, **common)
    return 0


def _check_collect(arguments: argparse.Namespace) -> None:
    """Raises UserError for options that do not go together, and names both."""
    given = {
        option: getattr(arguments, option.strip("-"))
        for option in ("--environment", "--dataset", "--noise", "--policy", "--rows")
    }
    for option in ("--environment", "--dataset", "--noise"):
        if arguments.tasks and given[option] is not None:
            task = arguments.tasks[0]
            raise UserError(f"TASK ({task}) and {option} ({given[option]}) do not go together: give one of them")
    if not arguments.tasks and arguments.environment is None:
        raise UserError("give a TASK, such as pointmaze-umaze, or --environment (--help shows both)")
    missing = [option for option in ("--dataset", "--policy", "--rows") if given[option] is None]
    if arguments.environment is not None and missing:
        raise UserError(f"--environment ({arguments.environment}) needs {' and '.join(missing)} as well")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 some data are damaged or could not be had, 2 bad usage."""
    return run(command, argv, "what was complete is kept; a download goes on from where it was, a collection anew")


if __name__ == "__main__":
    sys.exit(main())
