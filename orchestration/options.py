"""The options that every command which trains a grid shares."""

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from erdp_core.agent_configs import METHODS
from erdp_core.command_line import Parser, user_path
from erdp_core.config import PROFILES, PROTOCOLS, check_settings
from erdp_core.data.load import SOURCES
from erdp_core.errors import UserError, suggestion
from erdp_core.task_file import add_task_files
from erdp_core.tasks import CUSTOM, TABLES, EnvironmentSpec, get_task, table_tasks

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
    environments: Mapping[str, EnvironmentSpec]
    address: str
    ledger: str
    tracking_uri: str | None
    dry_run: bool
    probe: bool


def parse(parser: Parser, argv: Sequence[str] | None) -> Options:
    """Read and check run_table's options. Raises UserError for unknown names, each with the nearest valid one."""
    parser.add_argument("--table", help=f"which table: {', '.join(TABLES)} (with --task-file: {CUSTOM})")
    parser.add_argument("--methods", default="erdp", help=f"comma-separated: {', '.join(METHODS)} (default: erdp)")
    add_options(parser)
    arguments = parser.parse_args(argv)

    own = add_task_files(arguments.task_file)
    table = arguments.table or (CUSTOM if own else "")
    if own and table != CUSTOM:
        raise UserError(f"the tasks of --task-file make up the table {CUSTOM}, not {table}: leave --table out")
    if not table:
        raise UserError(f"name a table with --table: {', '.join(TABLES)}")
    tasks = chosen_tasks(arguments.tasks, table_tasks(table), f"table {table!r}")
    methods = tuple(dict.fromkeys(name for name in arguments.methods.split(",") if name))
    check_names("method", methods, METHODS)
    if not methods:
        raise UserError(f"--methods names no method: {', '.join(METHODS)}")
    return checked(arguments, table, tasks, methods)


def add_options(parser: Parser, protocol: str = "paper") -> None:
    """What every command that trains a grid can be told beside which tasks and methods it is made of.

    protocol: the one unless another is named.
    """
    parser.add_argument(
        "--task-file", nargs="+", action="extend", default=[], metavar="FILE.toml",
        help=f"tasks of your own (see erdp_core/task_file.py), which make up the table {CUSTOM}",
    )  # fmt: skip
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="only these tasks")
    parser.add_argument("--seeds", default="5", help="how many (5: seeds 0 to 4), or which (0,1,7; one seed: 7,)")
    parser.add_argument("--profile", default="paper", help=f"{', '.join(PROFILES)} (default: paper)")
    parser.add_argument("--source", default="auto", help=f"where data come from: {', '.join(SOURCES)} (default: auto)")
    parser.add_argument(
        "--data",
        nargs="+",
        action="extend",
        default=[],
        metavar="TASK=FILE",
        help="a file in D4RL's HDF5 layout, or the folder of a Minari dataset",
    )
    parser.add_argument(
        "--evaluate-in", nargs="+", action="extend", default=[], metavar="TASK=ENVIRONMENT",
        help="evaluate there, wherever the data were recorded, for example antmaze-umaze-v0=AntMaze_UMaze-v4",
    )  # fmt: skip
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="settings",
        help="change a setting, for example agent.alpha=0.05",
    )  # fmt: skip
    parser.add_argument("--protocol", default=protocol, help=f"{', '.join(PROTOCOLS)} (default: {protocol})")
    parser.add_argument("--address", default="local", help="Ray: local, auto or HOST:PORT (default: local)")
    parser.add_argument(
        "--ledger", default=os.environ.get("ERDP_LEDGER") or "runs",
        help="folder of the runs (default: $ERDP_LEDGER, else runs under the current directory)",
    )  # fmt: skip
    parser.add_argument("--tracking-uri", help="MLflow (default: $MLFLOW_TRACKING_URI, else SQLite in the ledger)")
    parser.add_argument("--dry-run", action="store_true", help="show what would be trained, and stop")
    parser.add_argument("--probe", action="store_true", help="measure the steps' cost anew before estimating hours")


def chosen_tasks(asked: Sequence[str] | None, tasks: Sequence[str], whose: str) -> tuple[str, ...]:
    """The tasks asked for, or all. Raises UserError for one that is not among them; `whose` names them."""
    if not asked:
        return tuple(tasks)
    chosen = [name for names in asked for name in names.split(",") if name]
    for name in chosen:
        if name not in tasks:
            raise UserError(f"{whose} has no task {name!r}: {suggestion(name, tasks)}")
    if not chosen:
        raise UserError(f"--tasks names no task of {whose}")
    return tuple(dict.fromkeys(chosen))


def check_names(kind: str, names: Sequence[str], valid: Mapping[str, object] | Sequence[str]) -> None:
    """Raise UserError for a name that is not valid, with the nearest one that is."""
    for name in names:
        if name not in valid:
            raise UserError(f"unknown {kind} {name!r}: {suggestion(name, valid)}")


def checked(arguments: argparse.Namespace, table: str, tasks: tuple[str, ...], methods: tuple[str, ...]) -> Options:
    """The options, once tasks and methods are known. Raises UserError for what clashes or does not exist."""
    check_names("profile", [arguments.profile], PROFILES)
    check_names("source", [arguments.source], SOURCES)
    check_names("protocol", [arguments.protocol], PROTOCOLS)
    check_settings(arguments.settings, methods)
    return Options(
        table,
        tasks,
        methods,
        parse_seeds(arguments.seeds),
        arguments.profile,
        arguments.source,
        arguments.protocol,
        tuple(arguments.settings),
        parse_files(arguments.data, tasks),
        parse_environments(arguments.evaluate_in, tasks),
        arguments.address,
        arguments.ledger,
        arguments.tracking_uri,
        arguments.dry_run,
        arguments.probe,
    )


def parse_seeds(text: str, option: str = "--seeds") -> tuple[int, ...]:
    """`5` as 0 to 4, `0,1,7` as they are. Raises UserError for anything else."""
    if not re.fullmatch(r"[0-9]+(,[0-9]+)*,?", text) or text == "0":
        raise UserError(f"{option} takes a number of seeds (5) or a list of them (0,1,7), not {text!r}")
    numbers = [int(part) for part in text.split(",") if part]
    limit = MAX_SEED if "," in text else MAX_SEEDS
    if max(numbers) > limit:
        raise UserError(f"{option} {text}: {max(numbers)} is more than {limit}")
    return tuple(dict.fromkeys(numbers)) if "," in text else tuple(range(numbers[0]))


def parse_files(pairs: Sequence[str], tasks: Sequence[str]) -> dict[str, Path]:
    """`TASK=FILE` pairs by task. Raises UserError for a task that is not in the table."""
    return {name: user_path(path) for name, path in _pairs("--data", "FILE", pairs, tasks).items()}


def parse_environments(pairs: Sequence[str], tasks: Sequence[str]) -> dict[str, EnvironmentSpec]:
    """`TASK=ENVIRONMENT` pairs by task. Raises UserError for a task that is not in the table, or no environment."""
    found = {}
    for name, environment in _pairs("--evaluate-in", "ENVIRONMENT", pairs, tasks).items():
        from erdp_core.environments.make import make_environment  # slow to import

        # With the options that the task has for it: the elements of a kitchen, the cells of a maze.
        own = (get_task(name).environment, get_task(name).minari_environment)
        found[name] = next(
            (spec for spec in own if spec and spec.name == environment), EnvironmentSpec(environment, {})
        )
        make_environment(found[name]).close()
    return found


def _pairs(option: str, what: str, pairs: Sequence[str], tasks: Sequence[str]) -> dict[str, str]:
    """`TASK=VALUE` pairs by task."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not value:
            raise UserError(f"{option} takes TASK={what}, not {pair!r}")
        get_task(name)
        if name not in tasks:
            raise UserError(f"{option} names {name!r}, which is not among the tasks to run: {', '.join(tasks)}")
        if name in found:
            raise UserError(f"{option} names {name!r} twice")
        found[name] = value
    return found
