"""The options that every command which trains a grid shares."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from erdp_core.command_line import Parser, user_path
from erdp_core.config import METHODS, PROFILES, PROTOCOLS, check_settings
from erdp_core.data.load import SOURCES
from erdp_core.errors import UserError, suggestion
from erdp_core.tasks import TABLES, get_task, table_tasks

MAX_SEEDS, MAX_SEED = 1000, 2**31 - 1


@dataclass(frozen=True)
class Options:
    """The command line, checked."""

    table: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    profile: str
    source: str
    protocol: str
    settings: tuple[str, ...]
    files: Mapping[str, Path]
    address: str
    ledger: str
    tracking_uri: str | None
    dry_run: bool
    probe: bool


def parse(parser: Parser, argv: Sequence[str] | None) -> Options:
    """Read and check the options. Raises UserError for unknown names, each with the nearest valid one."""
    parser.add_argument("--table", required=True, help=f"which table: {', '.join(TABLES)}")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="only these tasks of the table")
    parser.add_argument("--methods", default="erdp", help=f"comma-separated: {', '.join(METHODS)} (default: erdp)")
    parser.add_argument("--seeds", default="5", help="how many (5: seeds 0 to 4), or which (0,1,7; one seed: 7,)")
    parser.add_argument("--profile", default="paper", help=f"{', '.join(PROFILES)} (default: paper)")
    parser.add_argument("--source", default="auto", help=f"where data come from: {', '.join(SOURCES)} (default: auto)")
    parser.add_argument(
        "--data", nargs="+", action="extend", default=[], metavar="TASK=FILE", help="a file in D4RL's HDF5 layout"
    )
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="settings",
        help="change a setting, for example agent.alpha=0.05",
    )  # fmt: skip
    parser.add_argument("--protocol", default="paper", help=f"{', '.join(PROTOCOLS)} (default: paper)")
    parser.add_argument("--address", default="local", help="Ray: local, auto or HOST:PORT (default: local)")
    parser.add_argument(
        "--ledger", default=os.environ.get("ERDP_LEDGER") or "runs",
        help="folder of the runs (default: $ERDP_LEDGER, else runs under the current directory)",
    )  # fmt: skip
    parser.add_argument("--tracking-uri", help="MLflow (default: $MLFLOW_TRACKING_URI, else SQLite in the ledger)")
    parser.add_argument("--dry-run", action="store_true", help="show what would be trained, and stop")
    parser.add_argument("--probe", action="store_true", help="measure the steps' cost anew before estimating hours")
    arguments = parser.parse_args(argv)

    tasks = table_tasks(arguments.table)
    if arguments.tasks:
        chosen = [name for names in arguments.tasks for name in names.split(",") if name]
        for name in chosen:
            if name not in tasks:
                raise UserError(f"table {arguments.table!r} has no task {name!r}: {suggestion(name, tasks)}")
        tasks = tuple(dict.fromkeys(chosen))
        if not tasks:
            raise UserError(f"--tasks names no task of table {arguments.table!r}")
    methods = tuple(dict.fromkeys(name for name in arguments.methods.split(",") if name))
    for kind, names, valid in (
        ("method", methods, METHODS),
        ("profile", [arguments.profile], PROFILES),
        ("source", [arguments.source], SOURCES),
        ("protocol", [arguments.protocol], PROTOCOLS),
    ):
        for name in names:
            if name not in valid:
                raise UserError(f"unknown {kind} {name!r}: {suggestion(name, valid)}")
    if not methods:
        raise UserError(f"--methods names no method: {', '.join(METHODS)}")
    check_settings(arguments.settings, methods)
    return Options(
        arguments.table,
        tasks,
        methods,
        parse_seeds(arguments.seeds),
        arguments.profile,
        arguments.source,
        arguments.protocol,
        tuple(arguments.settings),
        parse_files(arguments.data, tasks),
        arguments.address,
        arguments.ledger,
        arguments.tracking_uri,
        arguments.dry_run,
        arguments.probe,
    )


def parse_seeds(text: str) -> tuple[int, ...]:
    """`5` as 0 to 4, `0,1,7` as they are. Raises UserError for anything else."""
    if not re.fullmatch(r"[0-9]+(,[0-9]+)*,?", text) or text == "0":
        raise UserError(f"--seeds takes a number of seeds (5) or a list of them (0,1,7), not {text!r}")
    numbers = [int(part) for part in text.split(",") if part]
    limit = MAX_SEED if "," in text else MAX_SEEDS
    if max(numbers) > limit:
        raise UserError(f"--seeds {text}: {max(numbers)} is more than {limit}")
    return tuple(dict.fromkeys(numbers)) if "," in text else tuple(range(numbers[0]))


def parse_files(pairs: Sequence[str], tasks: Sequence[str]) -> dict[str, Path]:
    """`TASK=FILE` pairs by task. Raises UserError for a task that is not in the table."""
    files: dict[str, Path] = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or not path:
            raise UserError(f"--data takes TASK=FILE, not {pair!r}")
        get_task(name)
        if name not in tasks:
            raise UserError(f"--data names {name!r}, which is not among the tasks to run: {', '.join(tasks)}")
        if name in files:
            raise UserError(f"--data names {name!r} twice")
        files[name] = user_path(path)
    return files
