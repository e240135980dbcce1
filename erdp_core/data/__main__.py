"""`python -m erdp_core.data`: which data are there, and collecting those that anyone can make."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from erdp_core.command_line import Parser, run
from erdp_core.data.collect import collect_pointmaze
from erdp_core.data.load import d4rl_path, load_dataset, local_path
from erdp_core.errors import DataError
from erdp_core.tasks import TASKS, Task, get_task

EXAMPLES = """\
  python -m erdp_core.data list
  python -m erdp_core.data collect pointmaze-umaze
  python -m erdp_core.data collect pointmaze-umaze pointmaze-medium pointmaze-large --overwrite

Local collections are Minari datasets, under $MINARI_DATASETS_PATH or ~/.minari/datasets; D4RL's files are looked for in
$D4RL_DATASET_DIR or ~/.d4rl/datasets."""


class _CommandParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (--help shows the options)\n")


def command(argv: Sequence[str] | None) -> int:
    """Run the command line; returns 0, or 1 where some data are damaged."""
    parser = Parser("The data that tasks are trained on.", EXAMPLES)
    parser.prog = "python -m erdp_core.data"
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_CommandParser)
    commands.add_parser("list", help="every task, and which data are present for it")
    collect = commands.add_parser("collect", help="make a task's local collection (seconds)")
    collect.add_argument("tasks", nargs="+", metavar="TASK", help="for example pointmaze-umaze")
    collect.add_argument("--overwrite", action="store_true", help="collect anew what is there already")
    arguments = parser.parse_args(argv)
    if arguments.command == "list":
        return _list()
    return _collect([get_task(name) for name in arguments.tasks], arguments.overwrite)


def _collect(tasks: Sequence[Task], overwrite: bool) -> int:
    for task in tasks:
        folder = local_path(task)
        if folder is not None and folder.is_dir() and not overwrite:
            print(f"{task.name}: there already ({folder}); --overwrite collects it anew")
            continue
        folder = collect_pointmaze(task, overwrite=overwrite)
        transitions = load_dataset(task, "local").transitions
        rewarded = int((transitions.rewards > 0).sum())
        print(f"{task.name}: {len(transitions)} rows, {rewarded} rewarded, {transitions.fingerprint()}, in {folder}")
    return 0


def _list() -> int:
    """Print a line a task and source; damaged data are named in theirs."""
    status = 0
    header = ("task", "source", "rows", "rewarded", "MB", "fingerprint", "path")
    lines = [header]
    for task in TASKS.values():
        present = {"d4rl": d4rl_path(task), "local": local_path(task)}
        found = {source: path for source, path in present.items() if path is not None and path.exists()}
        for source, path in found.items():
            try:
                dataset = load_dataset(task, source)
            except DataError as error:
                lines.append((task.name, source, "-", "-", f"{_megabytes(path):.1f}", "damaged", str(error)))
                status = 1
                continue
            rows, rewarded = len(dataset.transitions), int((dataset.transitions.rewards > 0).sum())
            size = f"{_megabytes(path):.1f}"
            lines.append((task.name, source, f"{rows:,}", f"{rewarded:,}", size, dataset.fingerprint, dataset.path))
        if not found:
            lines.append((task.name, "none", "-", "-", "-", "-", "-"))
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = [
            text.rjust(width) if title in ("rows", "rewarded", "MB") else text.ljust(width)
            for title, text, width in zip(header, line, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())
    return status


def _megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 some data are damaged, 2 bad usage."""
    return run(command, argv)


if __name__ == "__main__":
    sys.exit(main())
